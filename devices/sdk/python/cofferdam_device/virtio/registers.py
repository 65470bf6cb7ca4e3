"""The common configuration, as accesses of any width see it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..model import Access
from ..powers import GuestMemory
from .chain import Broken
from .describe import COMMON, vectors
from .ring import NO_VECTOR, Ring
from .state import QUEUES_MAX, State, is_vector

_FIELDS = (
    (0x00, 4, "device_feature_select"),
    (0x04, 4, "device_feature"),
    (0x08, 4, "driver_feature_select"),
    (0x0C, 4, "driver_feature"),
    (0x10, 2, "config_vector"),
    (0x12, 2, "queue_count"),
    (0x14, 1, "status"),
    (0x15, 1, "config_generation"),
    (0x16, 2, "queue_select"),
    (0x18, 2, "queue_size"),
    (0x1A, 2, "queue_vector"),
    (0x1C, 2, "queue_enable"),
    (0x1E, 2, "queue_notify_offset"),
    (0x20, 8, "queue_desc"),
    (0x28, 8, "queue_driver"),
    (0x30, 8, "queue_device"),
    (0x38, 4, "unoffered"),
)
"""Offset, width and name of each field of the common configuration (4.1.4.3). They leave no gap. The last is
``queue_notify_data`` and ``queue_reset``, whose features are not offered."""


@dataclass(slots=True)
class View:
    """What the registers depend on beside the state."""

    queues: int
    features: int
    """Features offered."""
    memory: GuestMemory


@dataclass(slots=True)
class Effect:
    """What a store did that the state alone does not tell."""

    was_reset: bool = False
    broken: Broken | None = None


def read(view: View, state: State, at: Access) -> int:
    """A load that lies in the common configuration."""
    return sum(part.of(_read_field(view, state, part.field)) for part in _overlaps(at))


def write(view: View, state: State, at: Access, value: int) -> Effect:
    """A store that lies in the common configuration."""
    effect = Effect()
    for part in _overlaps(at):
        whole = part.into(_read_field(view, state, part.field), value)
        _write_field(view, state, part.field, whole, effect)
    return effect


@dataclass(slots=True)
class _Part:
    """The part of a field that an access touches."""

    field: str
    field_shift: int
    access_shift: int
    mask: int

    def of(self, whole: int) -> int:
        """What the access sees of a field's ``whole``."""
        return (whole >> self.field_shift & self.mask) << self.access_shift

    def into(self, whole: int, value: int) -> int:
        """A field's ``whole`` after the access wrote ``value``."""
        return whole & ~(self.mask << self.field_shift) | (value >> self.access_shift & self.mask) << self.field_shift


def _overlaps(at: Access) -> Iterator[_Part]:
    """Drivers use the width of the field (4.1.3.1), or halves of a field of 8 bytes; but all widths have a meaning."""
    start, end = at.offset - COMMON, at.offset - COMMON + at.width
    for offset, width, field in _FIELDS:
        first, last = max(start, offset), min(end, offset + width)
        if first < last:
            yield _Part(field, 8 * (first - offset), 8 * (first - start), (1 << 8 * (last - first)) - 1)


def _selected(state: State) -> Ring | None:
    """The queue that the driver has selected, if there is one."""
    ring = state.queues[state.queue_select] if state.queue_select < QUEUES_MAX else None
    return ring if ring is not None and ring.size_max else None


def _read_field(view: View, state: State, field: str) -> int:
    queue = _selected(state)
    match field:
        case "device_feature":
            return _half(view.features, state.device_feature_select)
        case "driver_feature":
            return _half(state.driver_features, state.driver_feature_select)
        case "queue_count":
            return view.queues
        case "device_feature_select" | "driver_feature_select" | "config_vector" | "status" | "queue_select":
            return int(getattr(state, field))
        case "queue_vector" if queue is None:
            return NO_VECTOR
        # The configuration of a device never changes.
        case "config_generation" | "unoffered":
            return 0
        case _ if queue is None:
            return 0
        case "queue_enable":
            return int(queue.enabled)
        case "queue_notify_offset":
            return int(state.queue_select)
        case _:
            return int(getattr(queue, field.removeprefix("queue_")))


def _write_field(view: View, state: State, field: str, value: int, effect: Effect) -> None:
    queue = _selected(state)
    # An event mapped to a vector that does not exist is mapped to none, which the driver reads back (4.1.5.1.2.1).
    vector = value if is_vector(value, vectors(view.queues)) else NO_VECTOR
    # What a queue is made of was fixed when it was enabled.
    free = queue if queue is not None and not queue.enabled else None
    match field:
        case "device_feature_select" | "driver_feature_select" | "queue_select":
            setattr(state, field, value)
        case "driver_feature" if state.is_negotiating() and state.driver_feature_select in (0, 1):
            shift = 32 * state.driver_feature_select
            state.driver_features = state.driver_features & ~(0xFFFF_FFFF << shift) | value << shift
        case "config_vector":
            state.config_vector = vector
        case "status" if value == 0:
            state.reset()
            effect.was_reset, effect.broken = True, None
        case "status":
            state.set_status(value, view.features)
        case "queue_vector" if queue is not None:
            queue.vector = vector
        case "queue_size" if free is not None and free.can_have_size(value):
            free.size = value
        case "queue_desc" | "queue_driver" | "queue_device" if free is not None:
            setattr(free, field.removeprefix("queue_"), value)
        case "queue_enable" if free is not None and value == 1:
            try:
                free.enable(view.memory)
            except Broken as why:
                effect.broken = why
                state.need_reset()
        case _:
            # Read-only fields, fields of no queue, and changes that come too late.
            pass


def _half(features: int, select: int) -> int:
    """One of the two halves of 64 feature bits; further ones are empty."""
    return features >> 32 * select & 0xFFFF_FFFF if select < 2 else 0
