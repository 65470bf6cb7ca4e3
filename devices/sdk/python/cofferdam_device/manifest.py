"""What a device declares of itself: the VMM knows it by nothing else. Names are those of ``schema/manifest.capnp``."""

from __future__ import annotations

from typing import Any

from .declare import Options, Range, Refusal, Register, Wish, given
from .model import Device


def check(cls: type[Device]) -> None:
    """Refuses what is no device, or one whose parts do not fit: whatever can be known before a guest asks."""
    if not (isinstance(cls, type) and issubclass(cls, Device)):
        name = cls.__name__ if isinstance(cls, type) else f"{type(cls).__name__}(…)"
        raise Refusal(f"`run` takes a class that is derived from `Device`, and `{name}` is none")
    if not cls.name:
        raise Refusal(f'class `{cls.__name__}` has no name: say `@device("NAME", "what it is")` before it')
    ranges = [range.name for range in cls.ranges]
    for at, register in enumerate(cls.registers):
        where = f"the register at {register.offset:#x} of `{register.range}`"
        _known(where, "range", register.range, ranges)
        if register.field is not None:
            _known(where, "field", register.field, list(cls.State.FIELDS))
        for method in (register.on_read, register.on_write):
            if method is not None and not callable(getattr(cls, method, None)):
                raise Refusal(f"{where}: `{cls.__name__}` has no method `{method}`")
        for other in cls.registers[:at]:
            if _collide(register, other):
                raise Refusal(f"{where} overlaps that at {other.offset:#x}")
    for bell in cls.doorbells:
        _known(f"the doorbell at {bell.offset:#x}", "range", bell.range, ranges)


def _known(where: str, what: str, name: str, names: list[str]) -> None:
    if name not in names:
        raise Refusal(f"{where}: there is no {what} `{name}`; there are: {', '.join(names)}")


def _collide(one: Register, other: Register) -> bool:
    """Whether both are met by one access, or each by a part of the other's. One that lies in another is a part of it."""
    if one.range != other.range:
        return False
    if one.width is None or other.width is None or one.width == other.width and one.offset == other.offset:
        return one.offset == other.offset
    first, second = sorted((one, other), key=lambda each: each.offset)
    return first.offset < second.offset < first.offset + (first.width or 0) < second.offset + (second.width or 0)


def manifest(cls: type[Device], options: Options) -> dict[str, Any]:
    """The manifest of a device class with these options, as fields of the schema's ``Manifest``."""
    ranges = {range.name: index for index, range in enumerate(cls.ranges)}
    firsts = [_first(range, options) for range in cls.ranges]
    declared: dict[str, Any] = {
        "name": cls.name,
        "summary": cls.summary,
        "class": cls.kind,
        "ranges": [
            {"name": r.name, "length": r.length, "space": {r.space: first}}
            for r, first in zip(cls.ranges, firsts, strict=True)
        ],
        "registers": [entry for register in cls.registers for entry in _kinds(register, ranges)],
        "lines": [{line.kind: given(line.number, options)} for line in cls.lines],
        "vectors": cls.vectors,
        "doorbells": [
            {"range": ranges[bell.range], "offset": bell.offset, "width": bell.width} for bell in cls.doorbells
        ],
        "wishes": [_wish(each, options, cls.ranges) for each in cls.wishes],
        "stateBytes": cls.State.BYTES,
        "bulkBytes": 0,
        "options": [
            {"name": o.name, "kind": o.kind, "default": _shown(o.default), "summary": o.summary} for o in cls.options
        ],
    }
    if cls.pci is not None:
        identity = cls.pci
        declared["pci"] = {
            "vendor": identity.vendor,
            "device": identity.device,
            "subsystemVendor": identity.subsystem_vendor,
            "subsystem": identity.subsystem,
            "class": identity.class_code,
            "revision": identity.revision,
            "capabilities": list(identity.capabilities),
            "vectorBar": identity.vector_bar,
        }
    return declared


def _first(range: Range, options: Options) -> int:
    first = given(range.first, options)
    if range.space == "port" and first > 0xFFFF:
        raise Refusal(f"range `{range.name}`: there is no port {first:#x}")
    return int(first)


def _wish(each: Wish, options: Options, ranges: list[Range]) -> dict[str, Any]:
    fields: dict[str, Any] = {"power": each.power, "name": each.name, "because": each.because}
    for index, range in enumerate(ranges):
        if each.range == range.name:
            fields["range"], fields["bytes"] = index, range.length
    if each.switch is not None:
        fields["switch"] = given(each.switch, options)
    return fields


def _kinds(register: Register, ranges: dict[str, int]) -> list[dict[str, Any]]:
    at = {"range": ranges[register.range], "offset": register.offset, "width": register.width}
    kinds: list[dict[str, Any]] = []
    if register.posted is not None:
        kinds.append({**at, "kind": {"posted": register.posted}})
    if register.shadow is not None:
        kinds.append({**at, "kind": {"shadow": {"slot": register.shadow, "tolerates": []}}})
    return kinds


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    return hex(default) if isinstance(default, int) and default > 255 else str(default)
