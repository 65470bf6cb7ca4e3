"""A device's lane: what it is asked, and how the VMM is told what it committed. Layouts are those of ``schema/lane.capnp`` and
``imc/src/lane/layout.rs``.

Words in shared memory are read and written whole, one aligned 64-bit move each. x86-64 keeps their order, but for a store
that is followed by a load: there :func:`fence` stands.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

ENTRIES = 32
ENTRY_BYTES = 64
RING = 2048
WAITER = 8

COMMIT = 0
ANSWERS = 8
ANSWER_BYTES = 24
FALLS = ANSWERS + 2 * ANSWER_BYTES
GENERATION = 64
FORMAT = 72
DOORBELLS = 128
UNKNOWN = 136
ATTEMPTED = 144
HEADERS = 256
HEADER_BYTES = 128
HOT = HEADERS + 2 * HEADER_BYTES
FORMAT_MAGIC = 0xCFFD_0001 << 32

REPLY_VALUE, REPLY_AND_LEVELS, DEADLINE, MASKS, SHADOW, NOW = 0, 8, 16, 24, 32, 96
SHADOWS = 8
NEVER = (1 << 64) - 1
WORD32 = (1 << 32) - 1

READ, WRITE, POST, ALARM, RESET, QUIESCE, SHUTDOWN, BUTTON, REFRESH = range(1, 10)

_lock = threading.Lock()


def fence() -> None:
    """Orders all stores before it ahead of all loads after it: an uncontended lock is a locked instruction of x86-64."""
    with _lock:
        pass


def mask(width: int) -> int:
    """The bits that an access of this width has."""
    return (1 << 8 * width) - 1


@dataclass(slots=True)
class Entry:
    """One operation."""

    sequence: int
    operation: int
    range: int
    width: int
    offset: int
    value: int
    now: int


def _entry(first: int, offset: int, value: int, now: int) -> Entry:
    return Entry(
        first & WORD32, first >> 32 & 0xFFFF, first >> 48 & 0xFF, first >> 56 & 0xFF, offset, value, now
    )


@dataclass(slots=True)
class Header:
    """What the VMM sees of a state."""

    levels: int = 0
    deadline: int = NEVER
    postable: int = 0
    shadow: tuple[int | None, ...] = (None,) * SHADOWS
    now: int = 0

    def valid(self) -> int:
        """Bit ``n``: shadow value ``n`` is valid."""
        return sum(1 << slot for slot, value in enumerate(self.shadow) if value is not None)


class StateRegion:
    """A device's state region: two copies of its state, of which one is current."""

    def __init__(self, memory: memoryview, state_bytes: int) -> None:
        self._bytes = memory
        self._words = memory.cast("Q")
        self.state_bytes = state_bytes
        self.committed = self._words[COMMIT // 8]
        copy = self.committed & 1
        both = self._word(copy, REPLY_AND_LEVELS)
        self.reply = self._word(copy, REPLY_VALUE)
        self.header = Header(levels=both >> 32, now=self._word(copy, NOW))
        self.falls = self._words[FALLS // 8] >> 32 * copy & WORD32
        self._copies = [self._hot(0), self._hot(1)]
        self.wake_up()

    @property
    def sequence(self) -> int:
        """Of the last operation that took effect."""
        return self.committed >> 32

    def has_state(self) -> bool:
        """Whether an earlier incarnation committed a state of this size."""
        return self._words[FORMAT // 8] == FORMAT_MAGIC | self.state_bytes

    def current(self) -> memoryview:
        """The current copy."""
        return self._copies[self.committed & 1]

    def working(self) -> memoryview:
        """The copy that the next commit makes current."""
        return self._copies[self.committed & 1 ^ 1]

    def begin(self) -> memoryview:
        """Copies the current state, to be changed."""
        self.working()[:] = self.current()
        return self.working()

    def commit(self, header: Header, reply: tuple[int, int] | None) -> None:
        """Makes the working copy current together with what the VMM sees of it."""
        if reply is None:
            events = (self.committed >> 1) + 1 & 0x7FFF_FFFF
            following = self.sequence << 32 | events << 1 | self.committed & 1 ^ 1
        else:
            following = reply[0] << 32 | (self.committed & WORD32) ^ 1
            self.reply = reply[1]
        if self.header.levels & ~header.levels:
            self.falls = self.falls + 1 & WORD32
        self.header = header
        copy = following & 1
        for slot, value in enumerate(header.shadow):
            if value is not None:
                self._store(copy, SHADOW + 8 * slot, value)
        self._store(copy, MASKS, header.postable | header.valid() << 32)
        self._store(copy, NOW, header.now)
        self._store(copy, REPLY_VALUE, self.reply)
        self._store(copy, REPLY_AND_LEVELS, following >> 32 | header.levels << 32)
        self._store(copy, DEADLINE, header.deadline)
        other = self._words[FALLS // 8] & WORD32 << 32 * (copy ^ 1)
        self._words[FALLS // 8] = other | self.falls << 32 * copy
        self._words[COMMIT // 8] = following
        if not self.has_state():
            self._words[FORMAT // 8] = FORMAT_MAGIC | self.state_bytes
        self.committed = following

    def attempt(self, sequence: int) -> None:
        """Says which operation the device is about to be given."""
        self._words[ATTEMPTED // 8] = sequence

    def count_unknown(self) -> None:
        """Counts an access that hit no register."""
        self._words[UNKNOWN // 8] = self.unknown + 1

    @property
    def unknown(self) -> int:
        """Accesses that hit no register."""
        return self._words[UNKNOWN // 8]

    @property
    def doorbells(self) -> int:
        """Doorbells that were answered."""
        return self._words[DOORBELLS // 8]

    def count_doorbell(self) -> None:
        """Counts a doorbell that was answered."""
        self._words[DOORBELLS // 8] = self.doorbells + 1

    def fall_asleep(self) -> None:
        """Says that the host is about to sleep, before it looks once more."""
        self._words[GENERATION // 8] |= 1
        fence()

    def wake_up(self) -> None:
        """Says that it is awake."""
        self._words[GENERATION // 8] = (self._words[GENERATION // 8] | 1) + 1

    def _hot(self, copy: int) -> memoryview:
        start = HOT + copy * (-(-self.state_bytes // 64) * 64)
        return self._bytes[start : start + self.state_bytes]

    def _at(self, copy: int, field: int) -> int:
        if field < ANSWER_BYTES:
            return (ANSWERS + copy * ANSWER_BYTES + field) // 8
        return (HEADERS + copy * HEADER_BYTES + field - ANSWER_BYTES) // 8

    def _word(self, copy: int, field: int) -> int:
        return self._words[self._at(copy, field)]

    def _store(self, copy: int, field: int, value: int) -> None:
        self._words[self._at(copy, field)] = value & NEVER


class MemoryLane:
    """Entries in shared memory; what is committed is read where it lies."""

    def __init__(self, request: memoryview, reply: int, committed: int) -> None:
        self._words = request.cast("Q")
        self._reply = reply
        self._next = committed + 1 & WORD32
        self._told: int | None = None

    def take(self) -> Entry | None:
        """The next operation, if there is one."""
        at = (RING + self._next % ENTRIES * ENTRY_BYTES) // 8
        first = self._words[at]
        if first & WORD32 != self._next:
            return None
        self._next = self._next + 1 & WORD32
        return _entry(first, self._words[at + 1], self._words[at + 2], self._words[at + 3])

    def tell(self, state: StateRegion) -> None:
        """Wakes the VMM's waiter, if it waits for what was committed."""
        committed = state.sequence
        if committed == self._told:
            return
        self._told = committed
        fence()
        waiter = self._words[WAITER // 8]
        if waiter >> 32 == 1 and committed - (waiter & WORD32) & WORD32 < 1 << 31:
            os.write(self._reply, b"\x01\0\0\0\0\0\0\0")


class SocketLane:
    """A packet for each message. Both are of fixed size, without pointers, behind the pointer to their root."""

    ACCESS = struct.Struct("<8xIHBBQQQ32x")
    ANSWER = struct.Struct("<8sQIIQII8QQQQQ32x")
    ROOT = (20 << 32).to_bytes(8, "little")

    def __init__(self, packets: int, committed: int, make_room: Callable[[], None]) -> None:
        self._packets = packets
        self._next = committed + 1 & WORD32
        self._make_room = make_room
        self._told: tuple[object, ...] | None = None

    def take(self) -> Entry | None:
        """The next operation, if there is one."""
        while True:
            try:
                packet = os.read(self._packets, self.ACCESS.size + 1)
            except BlockingIOError:
                return None
            if len(packet) != self.ACCESS.size:
                raise RuntimeError(f"the VMM sent a message of {len(packet)} bytes")
            entry = Entry(*self.ACCESS.unpack(packet))
            # What is not the next comes from before a restart: it was done, or is sent again in its turn.
            if entry.sequence == self._next:
                self._next = self._next + 1 & WORD32
                return entry

    def tell(self, state: StateRegion) -> None:
        """Tells what was committed, if the guest could see a difference."""
        header = state.header
        news = (state.sequence, header.levels, header.deadline, header.postable, header.shadow)
        started = self._told is None
        if news == self._told:
            return
        answer = self.ANSWER.pack(
            self.ROOT,
            state.reply,
            state.sequence,
            header.levels,
            header.deadline,
            header.postable,
            header.valid(),
            *(value or 0 for value in header.shadow),
            header.now,
            state.doorbells,
            state.unknown,
            int(started),
        )
        while True:
            try:
                os.write(self._packets, answer)
                break
            except BlockingIOError:
                self._make_room()
        self._told = news
