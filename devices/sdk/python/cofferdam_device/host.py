"""A plugin from its first message to its last: confined, hello, assign, grants, attach, seal, serve.

It was confined before its first instruction, and is sealed from outside. What is left to do here is to close what is not
needed, and to load nothing later: once sealed, no file can be opened.
"""

from __future__ import annotations

import ctypes
import io
import mmap
import os
import socket
import stat
import struct
import sys
from typing import Any, NoReturn

from . import declare
from .bell import Bell
from .engine import Engine
from .lane import MemoryLane, SocketLane, StateRegion
from .declare import Refusal
from .manifest import check, manifest
from .model import Device
from .powers import File, GuestMemory, Powers, Random
from .scanout import Scanout
from .stream import Stream
from .wire import IMC, SCHEMA
from .words import CHANNEL, EVENT, HEADER, SENTENCE_MAX, last_words, log

PROTOCOL = 1
HOST_WIDE = 255
DATAGRAM_MAX = 32 + (16 << 10)
DESCRIPTORS_MAX = 1024
_CALL, _REPLY, _ERROR = 1, 2, 3
_ORDINALS = {
    "Refusal": 0x01,
    "Empty": 0x02,
    "Hello": 0x10,
    "Assign": 0x11,
    "Manifests": 0x12,
    "Grants": 0x13,
    "Attach": 0x14,
    "Seal": 0x15,
    "Log": 0x16,
}
_PR_SET_DUMPABLE = 4


class _Lines(io.TextIOBase):
    """Standard output: there is none, so what is printed becomes log lines."""

    def __init__(self, severity: str) -> None:
        self._severity = severity
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in filter(None, lines):
            log(line, self._severity)
        return len(text)


def run(cls: type[Device]) -> NoReturn:
    """Serves the device until it is told to leave."""
    if not _has_channel():
        # A person has started it.
        sys.exit(
            "this program is a device of a virtual machine: `cofferdam device check` tries it, `cofferdam run --device` has it in a "
            "machine"
        )
    sys.stdout, sys.stderr = _Lines("info"), _Lines("warning")
    try:
        _serve(cls)
    except BaseException as error:  # noqa: BLE001 - the last words of this process, whatever it died of
        last_words(error)
        os._exit(1)
    os._exit(0)


def _has_channel() -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(CHANNEL).st_mode)
    except OSError:
        return False


def _datagram(kind: int, call: int, name: str, fields: dict[str, Any]) -> bytes:
    struct_type = getattr(SCHEMA, name, None) or getattr(IMC, name)
    segments = struct_type.new_message(**fields).to_segments()
    if len(segments) != 1:
        raise ValueError(f"a {name} of this size is not one segment")
    body: bytes = segments[0]
    identity = struct_type.schema.node.id
    return HEADER.pack(b"IMC1", 1, _ORDINALS[name], call, kind, 0, 0, len(body), identity) + body


class _Channel:
    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, CHANNEL)
        self._socket.setblocking(True)

    def tell(self, name: str, **fields: Any) -> None:
        os.write(CHANNEL, _datagram(EVENT, 0, name, fields))

    def reply(self, call: int, name: str, **fields: Any) -> None:
        os.write(CHANNEL, _datagram(_REPLY, call, name, fields))

    def refuse(self, call: int, reason: str) -> None:
        os.write(CHANNEL, _datagram(_ERROR, call, "Refusal", {"reason": reason[:SENTENCE_MAX]}))

    def receive(self) -> tuple[str, int, Any, list[int]]:
        """The next call: its name, its number, its body, and the descriptors that came with it."""
        space = socket.CMSG_SPACE(8 * 4)
        data, control, flags, _ = self._socket.recvmsg(DATAGRAM_MAX + 8, space, socket.MSG_CMSG_CLOEXEC)
        descriptors: list[int] = []
        for level, kind, numbers in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors += struct.unpack(f"{len(numbers) // 4}i", numbers[: len(numbers) // 4 * 4])
        if not data:
            os._exit(0)
        magic, version, ordinal, call, kind, _, _, length, identity = HEADER.unpack_from(data)
        names = {number: name for name, number in _ORDINALS.items()}
        body = data[HEADER.size :]
        if (magic, version, kind) != (b"IMC1", 1, _CALL) or length != len(body) or ordinal not in names:
            raise RuntimeError("the supervisor sent a message that is no call")
        struct_type = getattr(SCHEMA, names[ordinal])
        if struct_type.schema.node.id != identity:
            raise RuntimeError("the supervisor speaks another schema")
        return names[ordinal], call, struct_type.from_segments([body]), descriptors


class _Grants:
    """What was granted, by purpose and number."""

    def __init__(self) -> None:
        self._granted: dict[tuple[str, int], tuple[int, int, int]] = {}
        self.held: list[int] = [CHANNEL]

    def add(self, grants: Any, descriptors: list[int]) -> None:
        for grant in grants:
            descriptor = descriptors[grant.handle.slot]
            key = (str(grant.purpose), grant.base if str(grant.purpose) == "memory" else grant.number)
            if key in self._granted:
                raise Refusal(f"`{key[0]}` was granted twice")
            self._granted[key] = (descriptor, grant.base, grant.handle.size)

    def take(self, purpose: str, number: int = 0) -> int:
        try:
            descriptor = self._granted.pop((purpose, number))[0]
        except KeyError:
            raise Refusal(f"`{purpose}` was not granted") from None
        self.held.append(descriptor)
        return descriptor

    def map(self, purpose: str, writable: bool, key: int = 0) -> memoryview:
        descriptor = self.take(purpose, key)
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        mapped = mmap.mmap(descriptor, os.fstat(descriptor).st_size, mmap.MAP_SHARED, protection)
        # A mapping of Python's has a copy of the descriptor; both are closed with all else that is not held.
        self.held.remove(descriptor)
        return memoryview(mapped)

    def all_of(self, purpose: str) -> list[int]:
        return sorted(number for kind, number in self._granted if kind == purpose)


def _serve(cls: type[Device]) -> None:
    # Nobody of the same user is to look at this process.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    _close_all_but([0, 1, 2, CHANNEL])
    channel = _Channel()
    channel.tell("Hello", protocol=PROTOCOL)
    name, call, assign, _ = channel.receive()
    if name != "Assign":
        raise RuntimeError(f"{name} came where Assign should")
    try:
        check(cls)
        options, assignment = _assigned(cls, assign)
        declared = manifest(cls, options)
    except ValueError as error:
        channel.refuse(call, str(error))
        os._exit(1)
    channel.reply(call, "Manifests", manifests=[declared])
    grants = _Grants()
    while True:
        name, call, body, descriptors = channel.receive()
        if name == "Attach":
            break
        try:
            if name != "Grants":
                raise Refusal(f"{name} came where a grant should")
            grants.add(body.grants, descriptors)
        except Refusal as error:
            channel.refuse(call, str(error))
            os._exit(1)
        channel.reply(call, "Empty")
    try:
        engine, wake = _attach(cls, options, assignment, declared, grants)
    except ValueError as error:
        channel.refuse(call, str(error))
        os._exit(1)
    channel.reply(call, "Empty")
    name, call, _, _ = channel.receive()
    if name != "Seal":
        raise RuntimeError(f"{name} came where Seal should")
    _close_all_but(grants.held)
    engine.start()
    channel.reply(call, "Empty")
    _until_told_to_leave(engine, wake)


def _close_all_but(held: list[int]) -> None:
    first = 0
    for number in sorted(held):
        if first < number:
            os.closerange(first, number)
        first = number + 1
    os.closerange(first, DESCRIPTORS_MAX)


def _assigned(cls: type[Device], assign: Any) -> tuple[declare.Options, Any]:
    if len(assign.devices) != 1:
        raise Refusal("a plugin is one device")
    assignment = assign.devices[0]
    if assignment._has("exchanged"):
        raise Refusal("a medium was exchanged, and a plugin has no drives")
    settings = [(setting.name, setting.value) for setting in assignment.options]
    options = declare.parse(cls.options, settings)
    return options, assignment


def _attach(
    cls: type[Device], options: declare.Options, assignment: Any, declared: dict[str, Any], grants: _Grants
) -> tuple[Engine, int]:
    wake, irq = grants.take("wake"), grants.take("irq")
    state = StateRegion(grants.map("state", True), declared["stateBytes"])

    def ring() -> None:
        os.write(irq, b"\x01\0\0\0\0\0\0\0")

    def make_room() -> None:
        # Whoever takes answers makes room, and rings.
        ring()
        os.read(wake, 8)

    match str(assignment.carrier):
        case "memory":
            lane: MemoryLane | SocketLane = MemoryLane(grants.map("request", False), grants.take("reply"), state.sequence)
        case "socket":
            lane = SocketLane(grants.take("packets"), state.sequence, make_room)
        case other:
            raise Refusal(f"a device in Python is reached over `memory` or `socket`, not over `{other}`")
    powers = Powers()
    powers.doorbell = state.count_doorbell
    for number, wished in enumerate(cls.wishes):
        if wished.power == "switch":
            powers.switches[wished.name] = Bell(grants.take("switch", number))
        elif wished.power in ("fileRead", "fileWrite"):
            descriptor = grants.take("file", number)
            powers.files[wished.name] = File(descriptor, os.fstat(descriptor).st_size)
        elif wished.power == "entropy":
            powers.random = Random()
        elif wished.power == "stream":
            rings = grants.map("stream", True, number)
            powers.streams[wished.name] = Stream(rings, Bell(grants.take("bell", number)))
        elif wished.power == "direct":
            powers.directs[wished.name] = GuestMemory([(0, grants.map("direct", True, number))])
        elif wished.power == "scanout":
            powers.scanouts[wished.name] = Scanout(grants.map("scanout", True, number))
    powers.vectors = [Bell(grants.take("vector", number)) for number in grants.all_of("vector")]
    windows = [(base, grants.map("memory", True, base)) for base in grants.all_of("memory")]
    powers.memory = GuestMemory(windows) if windows else None
    device = cls()
    device.attach(options, powers)
    ranges = [(r.name, r.length) for r in cls.ranges]
    return Engine(device, ranges, state, lane, ring, assignment.poisoned), wake


def _until_told_to_leave(engine: Engine, wake: int) -> None:
    while True:
        while engine.work():
            pass
        if engine.left:
            return
        engine.state.fall_asleep()
        # From here on who publishes rings. What was published before is seen by this look.
        while not engine.work():
            os.read(wake, 8)
        engine.state.wake_up()
