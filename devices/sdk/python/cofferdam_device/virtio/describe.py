"""The manifest of a virtio device, and where its structures lie in the BAR."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ..declare import Doorbell, Line, Pci, Range, Wish, doorbell, memory_bar, pci, pin, wish

BAR_BYTES = 0x4000
"""Four structures, each in a page of its own so that each has its own way through the VMM."""
COMMON, COMMON_BYTES = 0x0000, 0x3C
"""Common configuration (4.1.4.3), to and including ``queue_reset``."""
ISR = 0x1000
"""Interrupt status (4.1.4.5)."""
CONFIG = 0x2000
"""Device configuration (4.1.4.6)."""
NOTIFY, NOTIFY_STEP = 0x3000, 4
"""Notifications (4.1.4.4): queue ``n`` at ``n * NOTIFY_STEP``."""

_BAR, _VECTOR_BAR = 0, 1
_COMMON_CFG, _NOTIFY_CFG, _ISR_CFG, _DEVICE_CFG = 1, 2, 3, 4
_VENDOR_CAPABILITY = 0x09


@dataclass(frozen=True)
class Function:
    """What the manifest of a virtio device says beyond what all of them say."""

    name: str
    summary: str
    kind: str
    """Its class: what kind of work it does."""
    number: int
    """Virtio device ID (section 5)."""
    pci_class: int
    """PCI class, sub-class, interface."""
    memory_because: str
    """Why it needs guest memory."""


def vectors(queues: int) -> int:
    """MSI-X vectors: one for each queue and one for the configuration."""
    return queues + 1


def ranges() -> list[Range]:
    """The BAR."""
    return [memory_bar("virtio", _BAR, BAR_BYTES)]


def lines() -> list[Line]:
    """The pin."""
    return [pin(1)]


def doorbells(queues: int) -> list[Doorbell]:
    """One for each queue, at any width: the value names a queue that the address names already."""
    return [doorbell("virtio", NOTIFY + queue * NOTIFY_STEP) for queue in range(queues)]


def memory_wish(function: Function) -> Wish:
    """Guest memory is the transport's wish, and comes first."""
    return wish("memory", "memory", function.memory_because)


def identity(function: Function, queues: int, config_bytes: int) -> Pci:
    """A modern device (4.1.2.1): 0x1040 and the virtio ID, a revision of at least 1, a subsystem of at least 0x40."""
    return pci(
        0x1AF4,
        0x1040 + function.number,
        function.pci_class,
        subsystem_vendor=0x1AF4,
        subsystem=0x40,
        revision=1,
        capabilities=_capabilities(queues, config_bytes),
        vector_bar=_VECTOR_BAR,
    )


def _capabilities(queues: int, config_bytes: int) -> tuple[bytes, ...]:
    """Where the driver finds the structures (4.1.4)."""
    capabilities = [
        _capability(_COMMON_CFG, COMMON, COMMON_BYTES),
        _capability(_NOTIFY_CFG, NOTIFY, queues * NOTIFY_STEP, struct.pack("<I", NOTIFY_STEP)),
        _capability(_ISR_CFG, ISR, 1),
    ]
    if config_bytes > 0:
        capabilities.append(_capability(_DEVICE_CFG, CONFIG, config_bytes))
    return tuple(capabilities)


def _capability(kind: int, offset: int, length: int, more: bytes = b"") -> bytes:
    """A vendor capability of ``kind`` that points at a part of the BAR, with ``more`` behind it."""
    return struct.pack("<BBBBB3xII", _VENDOR_CAPABILITY, 0, 16 + len(more), kind, _BAR, offset, length) + more
