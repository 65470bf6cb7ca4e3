"""What a device implements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from . import declare
from .powers import Powers
from .state import State

SHADOWS = 8


class NoRegister(Exception):
    """No such register, or not at this width. Reads return all ones, writes vanish, both are counted."""


@dataclass(slots=True)
class Access:
    """Where an access landed: inside the range, at a width of 1, 2, 4 or 8 bytes."""

    range: str
    offset: int
    width: int
    now: int
    """Guest clock: nanoseconds since power on. The only clock a device has."""


@dataclass(slots=True)
class Outputs:
    """What the guest sees of a state without asking the device."""

    levels: int = 0
    """Bit ``n``: the level of line ``n``."""
    deadline: int | None = None
    """When ``alarm`` is due, in nanoseconds of the guest clock."""
    postable: int = 0
    """Bit ``n``: writes of posted kind ``n`` could now change no level and start no DMA."""
    shadow: tuple[int | None, ...] = (None,) * SHADOWS
    """Values of the shadow registers; ``None`` while the next read would have a side effect or is not known."""

    def check(self) -> None:
        """Raises where this is nothing that a guest could see."""
        if len(self.shadow) != SHADOWS:
            raise ValueError(f"there are {SHADOWS} shadow values, and not {len(self.shadow)}")
        numbers = [("levels", self.levels, 32), ("postable", self.postable, 32), ("deadline", self.deadline or 0, 64)]
        numbers += [("a shadow value", value or 0, 64) for value in self.shadow]
        for name, value, bits in numbers:
            if not isinstance(value, int):
                raise TypeError(f"`outputs`: {name} is {value!r}, which is no number")
            if value < 0 or value >> bits and name != "deadline":
                raise ValueError(f"`outputs`: {name} is {value}, which does not fit in {bits} bits")


class Device:
    """Emulated hardware with registers.

    Calls never overlap. Order: ``attach``; then ``power_on``, or ``check`` of state found from an earlier incarnation; then
    any of ``read``, ``write``, ``alarm``, ``button``, ``refresh`` and ``scan``, each followed by ``outputs`` and, once committed,
    by ``settle``. ``power_on`` may come again at any time: it is the reset.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    kind: ClassVar[str] = "system"
    ranges: ClassVar[list[declare.Range]] = []
    registers: ClassVar[list[declare.Register]] = []
    lines: ClassVar[list[declare.Line]] = []
    vectors: ClassVar[int] = 0
    doorbells: ClassVar[list[declare.Doorbell]] = []
    wishes: ClassVar[list[declare.Wish]] = []
    options: ClassVar[list[declare.Option]] = []
    pci: ClassVar[declare.Pci | None] = None

    State: ClassVar[type[State]] = State

    def attach(self, options: declare.Options, powers: Powers) -> None:
        """Takes its powers, and checks its options: ``raise Refusal`` with a sentence for what cannot be."""

    def power_on(self, state: Any) -> None:
        """The state after power on or reset; before, it is what the state says of itself, or zero."""

    def check(self, state: Any) -> bool:
        """Whether state found in memory is one that this device could have left. It comes from a process that may have been
        under an attacker's control; ``False`` means a reset."""
        return True

    def read(self, state: Any, at: Access) -> int:
        """Answers a guest load, from the registers that are declared."""
        register = self._register(at)
        if register.on_read is not None:
            answer: int = getattr(self, register.on_read)(state, at)
            return answer
        if register.field is not None:
            value: int = getattr(state, register.field)
            return value
        raise NoRegister

    def write(self, state: Any, at: Access, value: int) -> None:
        """Takes a guest store, by the registers that are declared."""
        register = self._register(at)
        if register.on_write is not None:
            getattr(self, register.on_write)(state, at, value)
        elif register.field is not None and register.writable:
            setattr(state, register.field, value)
        else:
            raise NoRegister

    def alarm(self, state: Any, now: int) -> None:
        """The deadline in the committed outputs has passed."""

    def button(self, state: Any, now: int) -> None:
        """The operator pressed the power button."""

    def refresh(self, state: Any, now: int) -> None:
        """Somebody wants to see what a display shows: it is drawn into the ``Scanout``. A bounded amount of work."""

    def scan(self, state: Any, now: int) -> bool:
        """Looks at queues, after each wake and before each synchronous operation; a bounded amount of work. Says whether
        something was done."""
        return False

    def outputs(self, state: Any) -> Outputs:
        """What the guest sees of this state."""
        return Outputs()

    def settle(self, state: Any) -> None:
        """The state is committed: make its effects happen outside. Must bear being called again for the same state."""

    def _register(self, at: Access) -> declare.Register:
        for register in self.registers:
            if (register.range, register.offset) == (at.range, at.offset) and register.width in (None, at.width):
                return register
        raise NoRegister
