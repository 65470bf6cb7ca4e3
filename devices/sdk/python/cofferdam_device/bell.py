"""What a device rings: switches and MSI-X vectors."""

from __future__ import annotations

import os
from typing import Protocol


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
