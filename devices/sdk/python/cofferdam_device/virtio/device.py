"""What a virtio device implements, and the device that it makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .. import declare
from ..model import Access, Device, NoRegister, Outputs
from ..powers import OutsideGrant, Powers
from . import describe, registers
from . import state as states
from .chain import SEGMENTS_MAX, Broken, Chain, collect
from .describe import COMMON, COMMON_BYTES, CONFIG, ISR, NOTIFY, NOTIFY_STEP, Function
from .ring import Ring
from .state import QUEUES_MAX, TRANSPORT_FEATURES

QUEUE_SIZE_MAX = SEGMENTS_MAX
"""Largest queue. Linux asks for no more by default, and a chain is never longer than the largest queue (2.7.5.3.1)."""
CHAINS_PER_SCAN = 64
"""Chains of one queue served in one scan: between scans, accesses that vcpus wait for are answered."""
WORK_PER_SCAN = 1 << 20
"""Work on one queue in one scan, in bytes moved. A chain is served whole, so the last may exceed it."""


@dataclass(slots=True)
class Request:
    """A chain to be served."""

    queue: int
    """Number of its queue."""
    features: int
    """What the driver accepted."""
    chain: Chain
    """Its buffers."""


@dataclass(slots=True)
class Served:
    """What became of a chain."""

    written: int
    """Bytes written, from the first writable one on and without a gap (2.7.8.2)."""
    work: int
    """What it cost, in bytes moved, or ``WORK_PER_SCAN`` for something that should be the last of its scan."""


class Backend:
    """What makes one kind of virtio device: its offer, and how it serves a chain.

    Order of calls: ``attach``, then any of the others. Whatever ``serve`` does is done again when the process dies before the
    commit, so doing it twice must be the same as doing it once. What it keeps in the object is lost with the process.
    """

    function: ClassVar[Function]
    queues: ClassVar[tuple[int, ...]] = ()
    """The largest size of each queue: a power of 2."""
    config_bytes: ClassVar[int] = 0
    """Bytes of device configuration; 0: there is none."""
    wishes: ClassVar[list[declare.Wish]] = []
    """What it needs beside guest memory."""
    options: ClassVar[list[declare.Option]] = []

    def attach(self, options: declare.Options, powers: Powers) -> None:
        """Takes its powers, other than guest memory and the vectors."""

    def features(self) -> int:
        """Feature bits of the device type. The transport adds its own."""
        return 0

    def config(self) -> bytes:
        """The device configuration; its length is the one that is declared."""
        return b""

    def serve(self, request: Request) -> Served:
        """Serves one chain of a queue; raises ``Broken`` for one that cannot be a request."""
        raise NotImplementedError


@dataclass(slots=True)
class _Done:
    """What this incarnation has done outside its state: nothing that may not be done again."""

    published: int | None = None
    """The used index that was published."""
    armed: int | None = None
    """The available index at which a doorbell was asked for."""
    seen: int | None = None
    """The available index that was last seen to be new."""
    signals: int | None = None
    """Notifications already sent."""


class Virtio(Device):
    """A virtio device on PCI."""

    backend_type: ClassVar[type[Backend]]
    State = states.State

    def attach(self, options: declare.Options, powers: Powers) -> None:
        if powers.memory is None or len(powers.vectors) != self.vectors:
            raise ValueError("guest memory and the vectors were not granted")
        self.memory = powers.memory
        self.backend = self.backend_type()
        self.backend.attach(options, powers)
        self.broken: str | None = None
        """Why the device last came to need a reset, if this incarnation saw it."""
        self._bells = powers.vectors
        self._doorbell = powers.doorbell
        self._done = [_Done() for _ in range(QUEUES_MAX)]
        self._config_signals: int | None = None

    def power_on(self, state: states.State) -> None:
        state.power_on(self.backend.queues)
        self._begin_anew(state)

    def check(self, state: states.State) -> bool:
        return state.is_sound(self.backend.queues, self.features(), self.memory)

    def read(self, state: states.State, at: Access) -> int:
        end = at.offset + at.width
        if end <= COMMON + COMMON_BYTES:
            return registers.read(self._view(), state, at)
        if at.offset == ISR:
            return state.take_isr()
        config = self.backend.config()
        if CONFIG <= at.offset and end <= CONFIG + len(config):
            return int.from_bytes(config[at.offset - CONFIG : end - CONFIG], "little")
        raise NoRegister

    def write(self, state: states.State, at: Access, value: int) -> None:
        if at.offset + at.width <= COMMON + COMMON_BYTES:
            effect = registers.write(self._view(), state, at, value)
            if effect.was_reset:
                self._begin_anew(state)
            if effect.broken is not None:
                self.broken = str(effect.broken)
            return
        queue, beside = divmod(at.offset - NOTIFY, NOTIFY_STEP)
        if beside or not 0 <= queue < len(self.backend.queues):
            raise NoRegister
        # A doorbell that came as an access. More work than one look does is found by the next.
        self._look(state)

    def scan(self, state: states.State, now: int) -> bool:
        return self._look(state)

    def outputs(self, state: states.State) -> Outputs:
        return Outputs(levels=int(state.pin))

    def settle(self, state: states.State) -> None:
        sources = [(state.config_vector, state.config_signals, self._config_signals)]
        for ring, done in zip(state.queues, self._done, strict=True):
            if ring.has_undecided() and done.published != ring.next_used:
                ring.publish(self.memory)
                done.published = ring.next_used
            sources.append((ring.vector, ring.signals, done.signals))
            done.signals = ring.signals
        self._config_signals = state.config_signals
        for vector, signals, sent in sources:
            if signals != sent and vector < len(self._bells):
                self._bells[vector].ring()

    def features(self) -> int:
        """Features offered."""
        return self.backend.features() | TRANSPORT_FEATURES

    def _view(self) -> registers.View:
        return registers.View(len(self.backend.queues), self.features(), self.memory)

    def _begin_anew(self, state: states.State) -> None:
        """After a reset into ``state`` nothing is published, and there is nothing to notify of."""
        self._done = [_Done(signals=ring.signals) for ring in state.queues]
        self._config_signals = state.config_signals
        self.broken = None

    def _look(self, state: states.State) -> bool:
        """Looks at every queue. Says whether something was done, or is left to do."""
        changed = False
        for index, ring in enumerate(state.queues):
            # A queue can break the whole device.
            if ring.enabled and state.is_running():
                try:
                    changed |= self._look_at(state, index, ring)
                except Broken as why:
                    # The driver, or the device, cannot go on without a reset (2.1.2).
                    self.broken = str(why)
                    state.need_reset()
                    changed = True
        return changed

    def _look_at(self, state: states.State, index: int, ring: Ring) -> bool:
        """Decides about the notification of what is published, then serves chains."""
        event_index, done = state.has_event_index(), self._done[index]
        changed = ring.has_undecided()
        # Only `settle` publishes, and it comes after a commit.
        if changed and done.published == ring.next_used and ring.decide(self.memory, event_index):
            state.notify_queue(ring)
        chains = work = 0
        while chains < CHAINS_PER_SCAN and work < WORK_PER_SCAN:
            available = ring.available(self.memory)
            if available == ring.next_avail:
                if done.armed == available:
                    return changed or chains > 0
                ring.ask_for_doorbell(self.memory, event_index)
                done.armed = available
                # Now that a doorbell is asked for, one more look: an entry may have come just before.
                continue
            if done.seen != available:
                done.seen = available
                self._doorbell()
            head = ring.next_head(self.memory, available)
            chain = collect(self.memory, ring.desc, ring.size, head)
            try:
                served = self.backend.serve(Request(index, state.driver_features, chain))
            except OutsideGrant:
                raise Broken(Broken.OUTSIDE) from None
            ring.complete(self.memory, head, served.written)
            chains += 1
            work += served.work
        return True


def device(backend: type[Backend]) -> type[Virtio]:
    """The device that a backend makes."""
    function, queues = backend.function, len(backend.queues)
    if queues > QUEUES_MAX or any(size.bit_count() != 1 or size > QUEUE_SIZE_MAX for size in backend.queues):
        raise ValueError(f"at most {QUEUES_MAX} queues, each of a power of 2 up to {QUEUE_SIZE_MAX} entries")
    members: dict[str, Any] = {
        "backend_type": backend,
        "ranges": describe.ranges(),
        "lines": describe.lines(),
        "vectors": describe.vectors(queues),
        "doorbells": describe.doorbells(queues),
        "wishes": [describe.memory_wish(function), *backend.wishes],
        "options": backend.options,
        "pci": describe.identity(function, queues, backend.config_bytes),
    }
    return declare.device(function.name, function.summary, function.kind)(type(backend.__name__, (Virtio,), members))
