"""State: all that a guest could observe of a device, as plain fields of fixed size in memory that outlives the process."""

from __future__ import annotations

import struct
from typing import Annotated, Any, get_args, get_type_hints

u8 = Annotated[int, "B"]
u16 = Annotated[int, "H"]
u32 = Annotated[int, "I"]
u64 = Annotated[int, "Q"]


def array(kind: type[State], count: int) -> Any:
    """The annotation of a field that is ``count`` states of this kind, one behind the other."""
    return Annotated[tuple, kind, count]


class _Field:
    """One field: reads and writes the memory that the state is a view of. What does not fit is cut, as in hardware."""

    def __init__(self, offset: int, code: str) -> None:
        self._struct = struct.Struct("<" + code)
        self._offset = offset
        self._mask = (1 << 8 * self._struct.size) - 1

    def __get__(self, state: State | None, owner: type) -> Any:
        return self if state is None else self._struct.unpack_from(state.memory, self._offset)[0]

    def __set__(self, state: State, value: int) -> None:
        self._struct.pack_into(state.memory, self._offset, int(value) & self._mask)


class _Items:
    """A field of several states: reads give views of the memory that the outer state is a view of."""

    def __init__(self, offset: int, kind: type[State], count: int) -> None:
        self._kind = kind
        self._offsets = range(offset, offset + count * kind.BYTES, kind.BYTES)

    def __get__(self, state: State | None, owner: type) -> Any:
        if state is None:
            return self
        return tuple(self._kind(state.memory[at : at + self._kind.BYTES]) for at in self._offsets)

    def __set__(self, state: State, value: object) -> None:
        raise AttributeError("the items of an array are changed, not replaced")


class State:
    """Subclass it and annotate fields with ``u8``, ``u16``, ``u32``, ``u64`` and ``array(KIND, COUNT)``. After power on all of
    them are zero."""

    FIELDS: tuple[str, ...] = ()
    BYTES = 8

    def __init__(self, memory: memoryview | bytearray | None = None) -> None:
        self.memory = memoryview(bytearray(self.BYTES) if memory is None else memory)

    def __init_subclass__(cls) -> None:
        offset = 0
        names = []
        for name, hint in get_type_hints(cls, include_extras=True).items():
            what = get_args(hint)[1:]
            if len(what) == 1 and what[0] in ("B", "H", "I", "Q"):
                size = struct.calcsize("<" + what[0])
                offset = -(-offset // size) * size
                setattr(cls, name, _Field(offset, what[0]))
                offset += size
            elif len(what) == 2 and isinstance(what[0], type) and issubclass(what[0], State):
                kind, count = what
                offset = -(-offset // 8) * 8
                setattr(cls, name, _Items(offset, kind, count))
                offset += count * kind.BYTES
            else:
                continue
            names.append(name)
        cls.FIELDS = tuple(names)
        # Whole words, and never none: the region that keeps it is made for its size.
        cls.BYTES = max(8, -(-offset // 8) * 8)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and bytes(self.memory) == bytes(other.memory)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)}" for name in self.FIELDS)
        return f"{type(self).__name__}({fields})"
