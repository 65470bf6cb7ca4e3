"""State: all that a guest could observe of a device, as plain fields of fixed size in memory that outlives the process."""

from __future__ import annotations

import struct
from typing import Annotated, Any, ClassVar, get_args, get_origin, get_type_hints

BYTES_MAX = 64 << 10
"""No state is larger: ``schema/manifest.capnp``."""

u8 = Annotated[int, "B"]
u16 = Annotated[int, "H"]
u32 = Annotated[int, "I"]
u64 = Annotated[int, "Q"]


def array(kind: type[State], count: int) -> Any:
    """The annotation of a field that is ``count`` states of this kind, one behind the other."""
    return Annotated[tuple, kind, count]


class _Field:
    """One field: reads and writes the memory that the state is a view of. What does not fit is cut, as in hardware."""

    def __init__(self, name: str, offset: int, code: str, initial: Any) -> None:
        self.initial = initial
        self._name = name
        self._struct = struct.Struct("<" + code)
        self._offset = offset
        self._mask = (1 << 8 * self._struct.size) - 1

    def __get__(self, state: State | None, owner: type) -> Any:
        return self if state is None else self._struct.unpack_from(state.memory, self._offset)[0]

    def __set__(self, state: State, value: object) -> None:
        if not isinstance(value, int):
            raise TypeError(f"field `{self._name}` of the state is a number, and not {value!r}")
        self._struct.pack_into(state.memory, self._offset, value & self._mask)


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
    """Subclass it and annotate fields with ``u8``, ``u16``, ``u32``, ``u64`` and ``array(KIND, COUNT)``. After power on a number
    is what is said behind it, or zero."""

    FIELDS: ClassVar[tuple[str, ...]] = ()
    BYTES: ClassVar[int] = 8
    INITIAL: ClassVar[bytes] = bytes(8)
    """Its bytes after power on."""

    def __init__(self, memory: memoryview | bytearray | None = None) -> None:
        self.memory = memoryview(bytearray(self.INITIAL) if memory is None else memory)

    def __init_subclass__(cls) -> None:
        offset = 0
        initial: dict[str, Any] = {}
        for name, hint in get_type_hints(cls, include_extras=True).items():
            what = get_args(hint)[1:]
            if len(what) == 1 and what[0] in ("B", "H", "I", "Q"):
                size = struct.calcsize("<" + what[0])
                offset = -(-offset // size) * size
                said = getattr(cls, name, 0)
                # One that is inherited was a field there.
                initial[name] = said.initial if isinstance(said, _Field) else said
                if not isinstance(initial[name], int) or not 0 <= initial[name] < 1 << 8 * size:
                    raise ValueError(f"field `{name}` of the state cannot be {initial[name]!r} after power on")
                setattr(cls, name, _Field(name, offset, what[0], initial[name]))
                offset += size
            elif len(what) == 2 and isinstance(what[0], type) and issubclass(what[0], State):
                kind, count = what
                offset = -(-offset // 8) * 8
                initial[name] = None
                setattr(cls, name, _Items(offset, kind, count))
                offset += count * kind.BYTES
            elif get_origin(hint) is not ClassVar:
                raise TypeError(f"field `{name}` of the state is none of u8, u16, u32, u64 and array(KIND, COUNT)")
            if offset > BYTES_MAX:
                raise ValueError(f"the state is larger than {BYTES_MAX} bytes with its field `{name}`")
        cls.FIELDS = tuple(initial)
        # Whole words, and never none: the region that keeps it is made for its size.
        cls.BYTES = max(8, -(-offset // 8) * 8)
        state = cls(bytearray(cls.BYTES))
        for name, value in initial.items():
            if value is not None:
                setattr(state, name, value)
                continue
            for item in getattr(state, name):
                item.memory[:] = item.INITIAL
        cls.INITIAL = bytes(state.memory)

    def __setattr__(self, name: str, value: object) -> None:
        # A name that is misspelt would be kept in an object that is gone a moment later.
        if name != "memory" and name not in self.FIELDS:
            raise AttributeError(f"the state has no field `{name}`; there are {', '.join(self.FIELDS)}")
        super().__setattr__(name, value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and bytes(self.memory) == bytes(other.memory)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)}" for name in self.FIELDS)
        return f"{type(self).__name__}({fields})"
