"""A device between its lane and its state: what is asked is done on a copy, and takes effect by one commit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import lane as lanes
from .model import Access, Device, NoRegister, Outputs
from .lane import Entry, Header, MemoryLane, SocketLane, StateRegion

QUIESCE_LOOKS = 1024


class Engine:
    """A device with its state region and its lane."""

    def __init__(
        self,
        device: Device,
        ranges: list[tuple[str, int]],
        state: StateRegion,
        lane: MemoryLane | SocketLane,
        ring: Callable[[], None],
        poisoned: bool = False,
    ) -> None:
        self._device = device
        self._ranges = ranges
        self.state = state
        self._lane = lane
        self._ring = ring
        self._poisoned = poisoned
        self._now: int | None = None
        self._told: tuple[int, int, int] = (0, 0, lanes.NEVER)
        self._resting = False
        self.left = False

    def start(self) -> None:
        """Powers the device on, or goes on with the state that an earlier incarnation committed."""
        now = self.state.header.now
        found = self.state.has_state() and not self._poisoned
        if found and self._device.check(self._view(self.state.current())):
            self.state.begin()
        else:
            self._power_on()
        self._commit(now, None)
        self._told = (0, 0, lanes.NEVER)
        self._ring()

    def work(self) -> bool:
        """Does what stands in the lane, and lets the device look at its queues. Says whether there was anything."""
        any_done = False
        while (entry := self._lane.take()) is not None:
            self.serve(entry)
            any_done = True
        if not self._resting:
            self.state.begin()
            any_done |= self._scan(self._now if self._now is not None else self.state.header.now)
            self._tell()
        return any_done

    def serve(self, entry: Entry) -> int:
        """Does one operation. Returns the reply."""
        now = entry.now if self._now is None else max(self._now, entry.now)
        self._now = now
        self._resting = False
        if entry.operation != lanes.ALARM and self._is_due(now):
            self._device.alarm(self._view(self.state.begin()), now)
            self._commit(now, None)
            self._told = (*self._told[:2], lanes.NEVER)
        self.state.begin()
        if entry.operation in (lanes.READ, lanes.WRITE) and self._scan(now):
            self.state.begin()
        reply = self._perform(entry, now)
        self._commit(now, (entry.sequence, reply))
        if entry.operation == lanes.ALARM:
            # The VMM has used the deadline up: it is to hear of the next one, or that there is none.
            self._ring()
            self._note()
        elif entry.operation in (lanes.POST, lanes.BUTTON, lanes.REFRESH):
            self._tell()
        else:
            # Its vcpu looks at levels and deadline before it goes on.
            self._note()
        self.left |= entry.operation == lanes.SHUTDOWN
        return reply

    def _perform(self, entry: Entry, now: int) -> int:
        if self._poisoned:
            self._poisoned = False
            return lanes.mask(entry.width)
        self.state.attempt(entry.sequence)
        working = self._view(self.state.working())
        match entry.operation:
            case lanes.READ | lanes.WRITE | lanes.POST:
                try:
                    return self._register(working, entry, now) & lanes.mask(entry.width)
                except NoRegister:
                    self.state.count_unknown()
                    return lanes.mask(entry.width)
            case lanes.ALARM:
                # Another operation may have run it first.
                if self._is_due(now):
                    self._device.alarm(working, now)
            case lanes.BUTTON:
                self._device.button(working, now)
            case lanes.REFRESH:
                self._device.refresh(working, now)
            case lanes.RESET:
                self._power_on()
            case lanes.QUIESCE | lanes.SHUTDOWN:
                for _ in range(QUIESCE_LOOKS):
                    if not self._scan(now):
                        break
                    self.state.begin()
                self._resting = True
            case other:
                raise RuntimeError(f"operation {other} of the lane does not exist")
        return 0

    def _register(self, state: Any, entry: Entry, now: int) -> int:
        if entry.range >= len(self._ranges) or entry.width not in (1, 2, 4, 8):
            raise NoRegister
        name, length = self._ranges[entry.range]
        if entry.offset + entry.width > length:
            raise NoRegister
        at = Access(name, entry.offset, entry.width, now)
        if entry.operation == lanes.READ:
            value: object = self._device.read(state, at)
            if not isinstance(value, int):
                raise TypeError(f"reading `{name}` at {at.offset:#x} gave {value!r}, which is no number")
            return value
        self._device.write(state, at, entry.value & lanes.mask(entry.width))
        return 0

    def _scan(self, now: int) -> bool:
        done: object = self._device.scan(self._view(self.state.working()), now)
        if not isinstance(done, bool):
            raise TypeError(f"`scan` gave {done!r}, and does not say whether something was done")
        if not done:
            return False
        self._commit(now, None)
        return True

    def _commit(self, now: int, reply: tuple[int, int] | None) -> None:
        outputs: object = self._device.outputs(self._view(self.state.working()))
        if not isinstance(outputs, Outputs):
            raise TypeError(f"`outputs` gave {outputs!r}, which are no Outputs")
        outputs.check()
        deadline = lanes.NEVER if outputs.deadline is None else min(outputs.deadline, lanes.NEVER)
        header = Header(outputs.levels, deadline, outputs.postable, outputs.shadow, now)
        self.state.commit(header, reply)
        self._lane.tell(self.state)
        self._device.settle(self._view(self.state.current()))

    def _power_on(self) -> None:
        working = self.state.working()
        working[:] = self._device.State.INITIAL
        self._device.power_on(self._view(working))

    def _is_due(self, now: int) -> bool:
        return self.state.header.deadline <= now

    def _view(self, memory: memoryview) -> Any:
        return self._device.State(memory)

    def _tell(self) -> None:
        levels, falls, deadline = self._told
        header = self.state.header
        if (header.levels, self.state.falls) != (levels, falls) or header.deadline < deadline:
            self._ring()
        self._note()

    def _note(self) -> None:
        self._told = (self.state.header.levels, self.state.falls, self.state.header.deadline)
