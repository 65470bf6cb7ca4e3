"""What a device was granted. What it does not take in ``attach`` it will never have."""

from __future__ import annotations

import os
from typing import Protocol


class OutsideGrant(Exception):
    """An address that is not in the guest memory that was granted."""


class Bell:
    """An eventfd: a switch, or an MSI-X vector."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def ring(self, value: int = 1) -> None:
        """Rings it."""
        os.write(self._descriptor, value.to_bytes(8, "little"))


class Ringable(Protocol):
    """What a latch turns."""

    def ring(self, value: int = 1) -> None: ...


class Latch:
    """Turns a switch once for each time that the state asks for it, and once more after a restart."""

    def __init__(self, bell: Ringable) -> None:
        self._bell = bell
        self._rung: int | None = None

    def settle(self, wanted: int | None) -> None:
        """The committed state asks for this value, or for nothing."""
        if self._rung != wanted:
            self._rung = wanted
            if wanted is not None:
                self._bell.ring(wanted)


class GuestMemory:
    """The part of guest memory that was granted. The guest may change it at any time: read once, then check."""

    def __init__(self, windows: list[tuple[int, memoryview]]) -> None:
        self._windows = sorted(windows, key=lambda window: window[0])

    def read(self, address: int, length: int) -> bytes:
        """A copy of these bytes."""
        at, window = self._window(address, length)
        return bytes(window[at : at + length])

    def write(self, address: int, data: bytes) -> None:
        """Stores these bytes."""
        at, window = self._window(address, len(data))
        window[at : at + len(data)] = data

    def _window(self, address: int, length: int) -> tuple[int, memoryview]:
        for base, window in self._windows:
            if base <= address and address + length <= base + len(window):
                return address - base, window
        raise OutsideGrant(f"{length} bytes at {address:#x} are not in the memory that was granted")


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


class Powers:
    """Everything that was granted to a device."""

    def __init__(self) -> None:
        self.switches: dict[str, Ringable] = {}
        self.vectors: list[Ringable] = []
        self.files: dict[str, File] = {}
        self.memory: GuestMemory | None = None

    def switch(self, name: str) -> Ringable:
        """The switch of this name."""
        return self.switches.pop(name)

    def file(self, name: str) -> File:
        """The file of this name."""
        return self.files.pop(name)
