"""A guest and a device host in miniature, in one process, that drive a virtio device: for tests.

``Guest`` makes accesses, builds rings in memory and commits as a host does. It can let the device's process die between any two
steps, so a test that passes with ``Deaths.NEVER`` can be run again with the others, and must pass the same.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import Enum
from typing import TypeVar

from ..declare import parse
from ..model import Access, NoRegister
from ..powers import GuestMemory, Powers
from .describe import NOTIFY, NOTIFY_STEP
from .device import Backend, Virtio, device
from .state import VERSION_1, State

T = TypeVar("T")

MEMORY_BYTES = 0x20_0000
"""Memory of the guest: two windows that meet, and nothing behind them."""
SEAM = 0x10_0000
"""Where the two windows meet."""
DESC, AVAIL, USED = 0x1_0000, 0x1_4000, 0x1_8000
"""Where the driver puts the three parts of queue ``n``: at ``n`` times ``QUEUE_STEP`` behind these."""
QUEUE_STEP = 0x1_0000

_SCANS_MAX = 10_000
_NEXT, _WRITE, _INDIRECT = 1, 2, 4


class Deaths(Enum):
    """When the device's process dies."""

    NEVER = "it lives"
    BEFORE_COMMIT = "after each step, before its commit; its successor does the step"
    BEFORE_SETTLE = "after each commit, before its effects happen"
    AFTER_SETTLE = "after each step and its effects"


class Vector:
    """An MSI-X vector that counts."""

    def __init__(self) -> None:
        self.rung = 0

    def ring(self, value: int = 1) -> None:
        """Rings it."""
        self.rung += value


class Guest:
    """A guest, its device, and the host between them. ``grant`` is called for each incarnation, to put what the device needs
    beside memory and vectors into its powers."""

    def __init__(self, backend: type[Backend], grant: Callable[[Powers], None] = lambda powers: None) -> None:
        low, high = bytearray(SEAM), bytearray(MEMORY_BYTES - SEAM)
        self.memory = GuestMemory([(0, memoryview(low)), (SEAM, memoryview(high))])
        self.vectors = [Vector() for _ in range(len(backend.queues) + 1)]
        self.doorbells = 0
        self.deaths = Deaths.NEVER
        self._type = device(backend)
        self._grant = grant
        self._size = 0
        self.device = self._attach()
        self.state = State()
        self.device.power_on(self.state)
        self.device.settle(self.state)

    def kill(self) -> None:
        """The device's process dies; a new one takes up what is committed."""
        self.device = self._attach()
        assert self.device.check(self.state), "a device refuses the state that its predecessor committed"
        self.device.settle(self.state)

    def scan(self) -> bool:
        """One scan. Gives what it says of itself."""
        before = bytes(self.state.memory)
        changed = self._step(lambda device, state: device.scan(state, 0))
        assert changed or before == bytes(self.state.memory), "an idle scan changes nothing"
        return changed

    def ring(self) -> None:
        """A doorbell: scans until there is nothing more to do."""
        for _ in range(_SCANS_MAX):
            if not self.scan():
                return
        raise AssertionError("the device finds no end")

    def load(self, offset: int, width: int) -> int:
        """A load from the BAR."""
        self.ring()
        try:
            return self._step(lambda device, state: device.read(state, Access("virtio", offset, width, 0)))
        except NoRegister:
            return (1 << 8 * width) - 1

    def store(self, offset: int, width: int, value: int) -> None:
        """A store to the BAR."""
        self.ring()
        try:
            self._step(lambda device, state: device.write(state, Access("virtio", offset, width, 0), value))
        except NoRegister:
            pass
        self.ring()

    def notify(self, queue: int = 0) -> None:
        """A doorbell that comes as a store."""
        self.store(NOTIFY + queue * NOTIFY_STEP, 2, queue)

    def start(self, features: int = 0, size: int = 8, vectors: bool = True) -> None:
        """Resets the device, accepts ``features`` and version 1, sets up all queues with ``size`` entries, with the vector of
        the same number plus one, or none; and starts."""
        for status in (0, 1, 3):
            self.store(0x14, 1, status)
        features |= VERSION_1
        for half in (0, 1):
            self.store(0x08, 4, half)
            self.store(0x0C, 4, features >> 32 * half & 0xFFFF_FFFF)
        self.store(0x14, 1, 0xB)
        assert self.status() == 0xB, f"the device refuses features {features:#x}"
        if vectors:
            self.store(0x10, 2, 0)
        self._size = size
        for queue in range(len(self.device.backend.queues)):
            at = queue * QUEUE_STEP
            for part in (DESC, AVAIL, USED):
                self.memory.write(part + at, bytes(0x4000))
            self.store(0x16, 2, queue)
            self.store(0x18, 2, size)
            if vectors:
                self.store(0x1A, 2, queue + 1)
            for register, part in ((0x20, DESC), (0x28, AVAIL), (0x30, USED)):
                self.store(register, 4, part + at)
                self.store(register + 4, 4, 0)
            self.store(0x1C, 2, 1)
        self.store(0x14, 1, 0xF)
        assert self.status() == 0xF

    def status(self) -> int:
        """The device status."""
        return self.load(0x14, 1)

    def level(self) -> bool:
        """The level of the pin."""
        return self.device.outputs(self.state).levels & 1 != 0

    def describe(self, at: int, address: int, length: int, flags: int, following: int) -> None:
        """Writes a descriptor anywhere."""
        self.memory.write(at, struct.pack("<QIHH", address, length, flags, following))

    def submit(self, head: int, chain: list[tuple[int, int, bool]], queue: int = 0) -> None:
        """Puts a chain of (address, bytes, whether the device may write) into a queue's table from descriptor ``head`` on and
        makes it available. Rings nothing."""
        self._link(DESC + queue * QUEUE_STEP, head, chain)
        self.offer(head, queue)

    def submit_indirect(self, head: int, table: int, chain: list[tuple[int, int, bool]]) -> None:
        """As ``submit``, by way of an indirect table at ``table``."""
        self._link(table, 0, chain)
        self.describe(DESC + 16 * head, table, 16 * len(chain), _INDIRECT, 0)
        self.offer(head)

    def offer(self, head: int, queue: int = 0) -> None:
        """Makes a chain available."""
        ring = AVAIL + queue * QUEUE_STEP
        index = self.memory.load(ring + 2)
        self.memory.store(ring + 4 + index % self._size * 2, head)
        self.memory.store(ring + 2, index + 1)

    def used(self, queue: int = 0) -> list[tuple[int, int]]:
        """All that a queue's device has used so far and has not overwritten: heads and lengths."""
        ring = USED + queue * QUEUE_STEP
        index = self.memory.load(ring + 2)
        entries = range(max(0, index - self._size), index)
        return [struct.unpack("<II", self.memory.read(ring + 4 + entry % self._size * 8, 8)) for entry in entries]

    def _link(self, table: int, first: int, chain: list[tuple[int, int, bool]]) -> None:
        for index, (address, length, writable) in enumerate(chain):
            flags = (_WRITE if writable else 0) | (_NEXT if index + 1 < len(chain) else 0)
            self.describe(table + 16 * (first + index), address, length, flags, first + index + 1)

    def _step(self, step: Callable[[Virtio, State], T]) -> T:
        """Does ``step`` on a copy of the state and commits it, with the deaths that are due."""
        working = State(bytearray(self.state.memory))
        outcome = step(self.device, working)
        if self.deaths is Deaths.BEFORE_COMMIT:
            self.kill()
            working = State(bytearray(self.state.memory))
            outcome = step(self.device, working)
        self.state = working
        if self.deaths is Deaths.BEFORE_SETTLE:
            self.kill()
        else:
            self.device.settle(self.state)
        if self.deaths is Deaths.AFTER_SETTLE:
            self.kill()
        return outcome

    def _attach(self) -> Virtio:
        powers = Powers()
        powers.memory, powers.vectors, powers.doorbell = self.memory, list(self.vectors), self._count
        self._grant(powers)
        made = self._type()
        made.attach(parse(made.options, []), powers)
        return made

    def _count(self) -> None:
        self.doorbells += 1
