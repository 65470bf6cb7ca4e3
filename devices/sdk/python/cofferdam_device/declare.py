"""What a device may declare of itself, and the options that it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T", bound=type)
V = TypeVar("V")

CLASSES = ("block", "net", "char", "timer", "display", "entropy", "system")
POWERS = ("stream", "memory", "lowMemory", "fileRead", "fileWrite", "switch", "direct", "entropy", "scanout")
SWITCHES = ("reset", "powerOff", "panicked", "exit", "crashLoaded")


@dataclass(frozen=True)
class Range:
    """Addresses that a device answers. ``first`` is a port, an address or the number of a BAR, or a function of the options."""

    name: str
    space: str
    first: int | Callable[[Options], int]
    length: int


@dataclass(frozen=True)
class Register:
    """A register, as data: where it is, at which width, and which field or methods are behind it."""

    range: str
    offset: int = 0
    width: int | None = None
    """The one width at which it is there; ``None``: any."""
    field: str | None = None
    """A field of the state that reads give."""
    writable: bool = False
    """Writes store to the field."""
    on_read: str | None = None
    """The method that answers reads: ``(self, state, at) -> int``."""
    on_write: str | None = None
    """The method that takes writes: ``(self, state, at, value)``."""
    posted: int | None = None
    """Bit in the outputs' ``postable`` mask; takes a ``width``."""
    shadow: int | None = None
    """Index of the outputs' shadow value; takes a ``width``."""


@dataclass(frozen=True)
class Line:
    """A pin interrupt; line ``n`` is bit ``n`` of the outputs' levels."""

    kind: str
    number: int | Callable[[Options], int]


@dataclass(frozen=True)
class Wish:
    """A power that a device needs, with the reason."""

    power: str
    name: str
    because: str
    switch: str | Callable[[Options], str] | None = None
    """For power ``switch``: what it does."""
    range: str | None = None
    """For power ``direct``: the range that it backs, all of it."""


@dataclass(frozen=True)
class Option:
    """An option that a person may set."""

    name: str
    kind: str
    default: Any
    summary: str


@dataclass(frozen=True)
class Doorbell:
    """A write that means only "look at memory"."""

    range: str
    offset: int
    width: int


@dataclass(frozen=True)
class Pci:
    """A PCI identity."""

    vendor: int
    device: int
    subsystem_vendor: int = 0
    subsystem: int = 0
    class_code: int = 0
    revision: int = 0
    capabilities: tuple[bytes, ...] = ()
    vector_bar: int = 0


class Options(dict[str, Any]):
    """Values of a device's options, parsed."""

    def choice(self, name: str, choices: Mapping[str, V]) -> V:
        """What the word stands for that an option has: one of these."""
        if self[name] not in choices:
            *words, last = choices
            raise Refusal(f"option `{name}`: `{self[name]}` is not {', '.join(words)} or {last}")
        return choices[self[name]]


class Refusal(ValueError):
    """Why not: one sentence for the person who asked."""


def ports(name: str, first: int | Callable[[Options], int], length: int = 1) -> Range:
    """I/O ports from ``first`` on."""
    return Range(name, "port", first, length)


def memory(name: str, first: int | Callable[[Options], int], length: int) -> Range:
    """Guest addresses from ``first`` on."""
    return Range(name, "memory", first, length)


def memory_bar(name: str, bar: int, length: int) -> Range:
    """Memory wherever this BAR points."""
    return Range(name, "bar", bar, length)


def port_bar(name: str, bar: int, length: int) -> Range:
    """Ports wherever this BAR points."""
    return Range(name, "portBar", bar, length)


def isa(number: int | Callable[[Options], int]) -> Line:
    """An ISA interrupt."""
    return Line("isa", number)


def pin(number: int = 1) -> Line:
    """A PCI pin: 1 is INTA."""
    return Line("pin", number)


def pci(vendor: int, device: int, class_code: int, **rest: Any) -> Pci:
    """A PCI identity."""
    return Pci(vendor, device, class_code=class_code, **rest)


def doorbell(range: str, offset: int, width: int = 0) -> Doorbell:
    """A write that means only "look at memory"; width 0 is any."""
    return Doorbell(range, offset, width)


def wish(
    power: str,
    name: str,
    because: str,
    switch: str | Callable[[Options], str] | None = None,
    range: str | None = None,
) -> Wish:
    """A power that the device needs; a switch says what it does, and memory of its own (``direct``) which range it backs."""
    if power not in POWERS:
        raise ValueError(f"`{power}` is no power; there are {', '.join(POWERS)}")
    return Wish(power, name, because, switch, range)


def number(name: str, default: int, summary: str) -> Option:
    """An option whose value is a number, decimal or ``0x`` hexadecimal."""
    return Option(name, "number", _of(name, int, default), summary)


def text(name: str, default: str, summary: str) -> Option:
    """An option whose value is text."""
    return Option(name, "text", _of(name, str, default), summary)


def flag(name: str, default: bool, summary: str) -> Option:
    """An option that is on or off."""
    return Option(name, "flag", _of(name, bool, default), summary)


def _of(name: str, kind: type[V], default: V) -> V:
    # A `bool` is an `int`, and no number.
    if type(default) is not kind:
        raise TypeError(f"option `{name}`: its default is {default!r}, which is no {kind.__name__}")
    return default


def device(name: str, summary: str, kind: str = "system") -> Callable[[T], T]:
    """Names a device class; ``kind`` is its class: block, net, char, timer, display, entropy or system."""
    if kind not in CLASSES:
        raise ValueError(f"`{kind}` is no class of devices; there are {', '.join(CLASSES)}")

    def named(cls: T) -> T:
        cls.name, cls.summary, cls.kind = name, summary, kind  # type: ignore[attr-defined]
        return cls

    return named


def parse(specs: list[Option], settings: list[tuple[str, str]]) -> Options:
    """The options' values: what was set, or the default."""
    options = Options({spec.name: spec.default for spec in specs})
    known = {spec.name: spec for spec in specs}
    seen: set[str] = set()
    for name, value in settings:
        if name not in known:
            raise Refusal(f"there is no option `{name}`; there are: {', '.join(known)}")
        if name in seen:
            raise Refusal(f"option `{name}` is given twice")
        seen.add(name)
        options[name] = _value(known[name], value)
    return options


def _value(spec: Option, value: str) -> Any:
    if spec.kind == "text":
        return value
    if spec.kind == "flag":
        if value in ("", "on", "true"):
            return True
        if value in ("off", "false"):
            return False
        raise Refusal(f"option `{spec.name}`: `{value}` is not `on` or `off`")
    digits, base = (value[2:], 16) if value.startswith("0x") else (value, 10)
    # Signs, spaces and underscores are none.
    if set(digits) <= set("0123456789abcdefABCDEF"):
        try:
            parsed = int(digits, base)
        except ValueError:
            parsed = -1
        if 0 <= parsed < 1 << 64:
            return parsed
    raise Refusal(f"option `{spec.name}`: `{value}` is not a number")


def given(value: Any, options: Options) -> Any:
    """A value that may be a function of the options."""
    return value(options) if callable(value) else value
