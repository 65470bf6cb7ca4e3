"""The buffers of one request."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ..powers import GuestMemory, OutsideGrant

SEGMENTS_MAX = 256
"""Most buffers in a chain: a driver may not use more descriptors than the largest queue has (2.7.5.3.1)."""

_TABLE_MAX = 0xFFFF
_CHAIN_BYTES_MAX = 0xFFFF_FFFF
"""No chain may describe more than 2^32 bytes (2.7.5)."""
_NEXT, _WRITE, _INDIRECT = 1, 2, 4
_DESCRIPTOR = struct.Struct("<QIHH")


class Broken(Exception):
    """How a driver broke the rules of a queue, as one of the sentences below. The device then needs a reset."""

    QUEUE = "a queue was enabled that does not lie in memory as it must"
    INDEX = "the available index is further ahead than the queue is long"
    ENDLESS = "a chain of descriptors does not come to an end"
    LONG = "a chain has too many buffers"
    ORDER = "a chain has a readable buffer after a writable one"
    OUTSIDE = "a buffer lies outside memory"
    SHORT = "a chain is too short to be a request"
    FAILED = "the device failed"


class Buffers:
    """Bytes of guest memory, scattered over buffers. Where one ends and the next begins means nothing (2.7.4.1). All of them
    were in guest memory when they were checked; their content may change at any time."""

    def __init__(self, memory: GuestMemory, segments: list[tuple[int, int]]) -> None:
        self._memory = memory
        self._segments = segments
        self.bytes = sum(length for _, length in segments)
        """How many."""

    def split_at(self, at: int) -> tuple[Buffers, Buffers]:
        """The first ``at`` bytes, or all if there are fewer, and the rest."""
        first, rest, left = [], [], at
        for address, length in self._segments:
            part = min(length, left)
            left -= part
            if part > 0:
                first.append((address, part))
            if part < length:
                rest.append((address + part, length - part))
        return Buffers(self._memory, first), Buffers(self._memory, rest)

    def read(self) -> bytes:
        """A copy of all of them."""
        return b"".join(self.pieces())

    def write(self, data: bytes) -> int:
        """Copies ``data`` over the first bytes, as many as there are; gives how many."""
        done = 0
        for piece in self.split_at(len(data))[0].pieces():
            piece[:] = data[done : done + len(piece)]
            done += len(piece)
        return done

    def pieces(self) -> list[memoryview]:
        """The bytes in order, where they lie."""
        return [piece for address, length in self._segments for piece in self._memory.pieces(address, length)]


@dataclass(slots=True)
class Chain:
    """A request: what the device may read, then what it may write."""

    readable: Buffers
    writable: Buffers


def collect(memory: GuestMemory, table: int, size: int, head: int) -> Chain:
    """Follows the descriptors of a chain, reads each once, and checks them."""
    readable: list[tuple[int, int]] = []
    writable: list[tuple[int, int]] = []
    index, left, total, indirect = head, size, 0, False
    while True:
        if left == 0 or index >= size:
            raise Broken(Broken.ENDLESS)
        try:
            address, length, flags, following = _DESCRIPTOR.unpack(memory.read(table + 16 * index, 16))
        except OutsideGrant:
            raise Broken(Broken.ENDLESS) from None
        if flags & _INDIRECT:
            # A table in a table, or one that is not made of descriptors, is followed nowhere.
            if indirect or length % 16 != 0 or length // 16 > _TABLE_MAX:
                raise Broken(Broken.ENDLESS)
            table, size, index, left, indirect = address, length // 16, 0, length // 16, True
            continue
        total += length
        if total > _CHAIN_BYTES_MAX:
            raise Broken(Broken.ENDLESS)
        if len(readable) + len(writable) == SEGMENTS_MAX:
            raise Broken(Broken.LONG)
        if not flags & _WRITE and writable:
            raise Broken(Broken.ORDER)
        if not memory.contains(address, length):
            raise Broken(Broken.OUTSIDE)
        (writable if flags & _WRITE else readable).append((address, length))
        if not flags & _NEXT:
            return Chain(Buffers(memory, readable), Buffers(memory, writable))
        index, left = following, left - 1
