"""What a device declares of itself: the VMM knows it by nothing else. Names are those of ``schema/manifest.capnp``."""

from __future__ import annotations

from typing import Any

from .declare import Options, Range, Refusal, Register, Wish, given
from .model import Device


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
