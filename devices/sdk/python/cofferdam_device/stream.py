"""A device's end of a pair of byte rings to the outside: a serial line, for example."""

from __future__ import annotations

from .bell import Ringable

RING_BYTES = 64 << 10
_INDEX_BYTES = 4096
# Four indices, each in a cache line of its own, come before the rings.
_OUT_HEAD, _OUT_TAIL, _IN_HEAD, _IN_TAIL = 0, 16, 32, 48
_WORD = 0xFFFF_FFFF
STREAM_BYTES = _INDEX_BYTES + 2 * RING_BYTES


class Stream:
    """A pair of byte rings.

    The device's two indices are part of its *state* and published only once committed, in ``settle``; so a byte is handed on
    exactly once however often the process dies. Indices count bytes, modulo 2^32.
    """

    def __init__(self, rings: memoryview, bell: Ringable) -> None:
        if len(rings) < STREAM_BYTES:
            raise ValueError("the region of a stream is too small")
        self._bytes = rings.cast("B")
        self._indices = rings[:_INDEX_BYTES].cast("B").cast("I")
        self._bell = bell

    def room(self, head: int) -> int:
        """Free bytes of the out ring when ``head`` bytes have been put in all."""
        return max(0, RING_BYTES - (head - self._indices[_OUT_TAIL] & _WORD))

    def put(self, head: int, byte: int) -> None:
        """Puts a byte at ``head`` of the out ring, which has room. It means nothing until ``publish``."""
        self._bytes[_INDEX_BYTES + head % RING_BYTES] = byte & 0xFF

    def get(self, tail: int) -> int | None:
        """The byte at ``tail`` of the in ring, if there is one."""
        there = self._indices[_IN_HEAD] - tail & _WORD
        # More than a ring has is a lie.
        if not 0 < there <= RING_BYTES:
            return None
        return self._bytes[_INDEX_BYTES + RING_BYTES + tail % RING_BYTES]

    def publish(self, out_head: int, in_tail: int) -> None:
        """Publishes the committed indices, and wakes the other side if they changed."""
        if self.published() != (out_head, in_tail):
            self._indices[_IN_TAIL], self._indices[_OUT_HEAD] = in_tail, out_head
            self._bell.ring()

    def published(self) -> tuple[int, int]:
        """The indices published last, out and in: where a device goes on whose state is gone."""
        return self._indices[_OUT_HEAD], self._indices[_IN_TAIL]
