"""What a device was granted. What it does not take in ``attach`` it will never have."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from .bell import Ringable
from .declare import Refusal
from .scanout import Scanout
from .stream import Stream

T = TypeVar("T")


class OutsideGrant(Exception):
    """An address that is not in the guest memory that was granted."""


class GuestMemory:
    """The part of guest memory that was granted. The guest may change it at any time: read once, then check."""

    def __init__(self, windows: list[tuple[int, memoryview]]) -> None:
        self._windows = [(base, window, window.cast("H")) for base, window in sorted(windows, key=lambda each: each[0])]

    def read(self, address: int, length: int) -> bytes:
        """A copy of these bytes."""
        return b"".join(self.pieces(address, length))

    def write(self, address: int, data: bytes) -> None:
        """Stores these bytes."""
        done = 0
        for piece in self.pieces(address, len(data)):
            piece[:] = data[done : done + len(piece)]
            done += len(piece)

    def pieces(self, address: int, length: int) -> list[memoryview]:
        """These bytes where they lie: more than one piece where windows meet."""
        found = []
        for base, window, _ in self._windows:
            if length > 0 and base <= address < base + len(window):
                piece = window[address - base : address - base + length]
                found.append(piece)
                address, length = address + len(piece), length - len(piece)
        if length > 0:
            raise OutsideGrant(f"{length} bytes at {address:#x} are not in the memory that was granted")
        return found

    def contains(self, address: int, length: int) -> bool:
        """Whether all of these bytes were granted."""
        for base, window, _ in self._windows:
            if length > 0 and base <= address < base + len(window):
                part = min(length, base + len(window) - address)
                address, length = address + part, length - part
        return length == 0

    def load(self, address: int) -> int:
        """A 16-bit word at an even address, read whole: what the guest stores at the same time is seen or not."""
        words, at = self._word(address)
        return int(words[at])

    def store(self, address: int, value: int) -> None:
        """Stores a 16-bit word at an even address, whole."""
        words, at = self._word(address)
        words[at] = value & 0xFFFF

    def _word(self, address: int) -> tuple[memoryview, int]:
        for base, window, words in self._windows:
            if address % 2 == 0 and base <= address and address + 2 <= base + len(window):
                return words, (address - base) // 2
        raise OutsideGrant(f"there is no word at {address:#x} in the memory that was granted")


class File:
    """A file that was granted, read and written at offsets."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        """Bytes at an offset; fewer at its end."""
        return os.pread(self._descriptor, length, offset)

    def write(self, offset: int, data: bytes) -> None:
        """Stores bytes at an offset, never beyond its end."""
        if offset + len(data) > self.size:
            raise OutsideGrant("beyond the end of the file")
        while data:
            done = os.pwrite(self._descriptor, data, offset)
            offset, data = offset + done, data[done:]

    def flush(self) -> None:
        """What was written is on the disk when this returns."""
        os.fdatasync(self._descriptor)


class Random:
    """The kernel's random numbers."""

    def draw(self, count: int) -> bytes:
        """So many random bytes."""
        return os.urandom(count)


class Powers:
    """Everything that was granted to a device, by the names of its wishes. A test grants what it likes."""

    def __init__(self) -> None:
        self.random: Random | None = None
        self.doorbell: Callable[[], None] = lambda: None
        """Counts a doorbell that was answered: only the device sees them."""
        self.switches: dict[str, Ringable] = {}
        self.vectors: list[Ringable] = []
        self.files: dict[str, File] = {}
        self.streams: dict[str, Stream] = {}
        self.directs: dict[str, GuestMemory] = {}
        """Memory of its own behind direct ranges: it begins at address 0, and the guest may change it at any time."""
        self.scanouts: dict[str, Scanout] = {}
        self.memory: GuestMemory | None = None

    def switch(self, name: str) -> Ringable:
        """Takes the switch of this name."""
        return _taken(self.switches, name)

    def file(self, name: str) -> File:
        """Takes the file of this name."""
        return _taken(self.files, name)

    def stream(self, name: str) -> Stream:
        """Takes the stream of this name."""
        return _taken(self.streams, name)

    def direct(self, name: str) -> GuestMemory:
        """Takes the memory behind the direct range of this name."""
        return _taken(self.directs, name)

    def scanout(self, name: str) -> Scanout:
        """Takes the scanout of this name."""
        return _taken(self.scanouts, name)


def _taken(granted: dict[str, T], name: str) -> T:
    if name not in granted:
        raise Refusal(f"the power `{name}` was not granted")
    return granted.pop(name)
