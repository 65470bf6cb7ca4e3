"""All of a virtio device that a guest could observe."""

from __future__ import annotations

from .. import state as plain
from ..powers import GuestMemory
from ..state import array, u8, u16, u32, u64
from . import describe
from .ring import NO_VECTOR, Ring

QUEUES_MAX = 4
"""Most queues of a device, so that its state has a fixed size: a network device has three."""

EVENT_INDEX = 1 << 29
VERSION_1 = 1 << 32
TRANSPORT_FEATURES = VERSION_1 | EVENT_INDEX | 1 << 28
"""Features that every device has from its transport; bit 28 is indirect descriptors."""

ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, FAILED = 1, 2, 4, 8, 64, 128
_DRIVER_STATUS = ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK | FAILED
_ISR_QUEUE, _ISR_CONFIG = 1, 2


class State(plain.State):
    """The state of the transport. Its fields are named by the registers of the common configuration (4.1.4.3)."""

    driver_features: u64
    queues: array(Ring, QUEUES_MAX)  # type: ignore[valid-type]
    device_feature_select: u32
    driver_feature_select: u32
    config_signals: u32
    """Configuration notifications due since power on, modulo 2^32."""
    config_vector: u16
    queue_select: u16
    status: u8
    isr: u8
    pin: u8
    """0 or 1: a source without a vector has raised the interrupt status."""

    def power_on(self, queues: tuple[int, ...]) -> None:
        """After power on, for queues of at most these sizes."""
        self.config_vector = NO_VECTOR
        for index, ring in enumerate(self.queues):
            ring.renew(queues[index] if index < len(queues) else 0, 0)

    def reset(self) -> None:
        """The driver's reset. Counts of notifications go on: they are compared with what was sent."""
        config_signals = self.config_signals
        rings = [(ring.size_max, ring.signals) for ring in self.queues]
        self.memory[:] = bytes(len(self.memory))
        self.config_vector, self.config_signals = NO_VECTOR, config_signals
        for ring, (size_max, signals) in zip(self.queues, rings, strict=True):
            ring.renew(size_max, signals)

    def is_sound(self, queues: tuple[int, ...], offered: int, memory: GuestMemory) -> bool:
        """Whether a device with these queues and features could have left this."""
        vectors = describe.vectors(len(queues))
        return bool(
            (not self.status & FEATURES_OK or _are_acceptable(self.driver_features, offered))
            and (not self.status & DRIVER_OK or self.status & FEATURES_OK)
            and not self.status & ~(_DRIVER_STATUS | NEEDS_RESET)
            and not self.isr & ~(_ISR_QUEUE | _ISR_CONFIG)
            and self.pin <= (self.isr != 0)
            and is_vector(self.config_vector, vectors)
            and all(
                is_vector(ring.vector, vectors)
                and ring.is_sound(queues[index] if index < len(queues) else 0, bool(self.status & DRIVER_OK), memory)
                for index, ring in enumerate(self.queues)
            )
        )

    def set_status(self, written: int, offered: int) -> None:
        """Takes what the driver writes to the status register, other than 0."""
        # A driver sets bits and clears none (2.1.1).
        status = self.status | written & _DRIVER_STATUS
        if not self.status & FEATURES_OK and not _are_acceptable(self.driver_features, offered):
            status &= ~FEATURES_OK
        if not status & FEATURES_OK:
            status &= ~DRIVER_OK
        self.status = status

    def is_negotiating(self) -> bool:
        """Whether features can still be chosen."""
        return not self.status & FEATURES_OK

    def is_running(self) -> bool:
        """Whether queues are served."""
        return self.status & (DRIVER_OK | NEEDS_RESET) == DRIVER_OK

    def has_event_index(self) -> bool:
        """Whether the event index was negotiated."""
        return bool(self.status & FEATURES_OK and self.driver_features & EVENT_INDEX)

    def need_reset(self) -> None:
        """Sets the status bit, and notifies a driver that is there (2.1.2)."""
        self.status |= NEEDS_RESET
        if self.status & DRIVER_OK:
            self.isr |= _ISR_CONFIG
            if self.config_vector == NO_VECTOR:
                self.pin = 1
            else:
                self.config_signals += 1

    def notify_queue(self, ring: Ring) -> None:
        """A queue's used buffers are to be notified of (4.1.5.3)."""
        if ring.vector == NO_VECTOR:
            self.isr |= _ISR_QUEUE
            self.pin = 1
        else:
            ring.signals += 1

    def take_isr(self) -> int:
        """Reading the interrupt status clears it, and the pin with it."""
        taken = self.isr
        self.pin = self.isr = 0
        return taken


def is_vector(vector: int, vectors: int) -> bool:
    """Whether it names one of so many vectors, or none."""
    return vector < vectors or vector == NO_VECTOR


def _are_acceptable(features: int, offered: int) -> bool:
    """A driver must want version 1, and nothing that was not offered (2.2, 6.1)."""
    return not features & ~offered and bool(features & VERSION_1)
