"""A split queue (2.7): its registers and positions as plain data, and the steps a device makes along it."""

from __future__ import annotations

from .. import state as plain
from ..lane import fence
from ..powers import GuestMemory
from ..state import u16, u32, u64
from .chain import Broken

NO_VECTOR = 0xFFFF
"""No MSI-X vector (4.1.4.3)."""

_RING_HEADER, _RING_INDEX = 4, 2
_DESCRIPTOR, _AVAIL_ENTRY, _USED_ENTRY = 16, 2, 8
_NO_INTERRUPT = 1
_WORD = 0xFFFF


class Ring(plain.State):
    """A queue. From the moment it is enabled its first five fields do not change until a reset."""

    desc: u64
    driver: u64
    device: u64
    """Guest addresses of descriptor table, available ring and used ring."""
    size: u16
    """Entries: a power of 2."""
    enabled: u16
    """0 or 1."""
    size_max: u16
    """What the device offers; 0: there is no such queue."""
    vector: u16
    next_avail: u16
    """Entries of the available ring that were served, modulo 2^16."""
    next_used: u16
    """Entries of the used ring that were written, modulo 2^16."""
    decided: u16
    """Entries of the used ring for which it is decided whether to notify, modulo 2^16."""
    signals: u32
    """Notifications due since power on, modulo 2^32."""

    def renew(self, size_max: int, signals: int) -> None:
        """As after a reset."""
        self.memory[:] = bytes(len(self.memory))
        self.size = self.size_max = size_max
        self.vector, self.signals = NO_VECTOR, signals

    def is_sound(self, size_max: int, started: bool, memory: GuestMemory) -> bool:
        """Whether this could have been left by a device with a queue of at most ``size_max`` entries."""
        if self.size_max != size_max or self.enabled > 1:
            return False
        if not self.enabled:
            unused = (self.next_avail, self.next_used, self.decided) == (0, 0, 0)
            return unused and (self.size == size_max or self.can_have_size(self.size))
        if not (self.can_have_size(self.size) and self.lies_in(memory) and self.next_avail == self.next_used):
            return False
        undecided = self.next_used - self.decided & _WORD
        # The driver wrote the published index first; from then on only the device changes it.
        return not started or memory.load(self.device + _RING_INDEX) - self.decided & _WORD <= undecided

    def can_have_size(self, size: int) -> bool:
        """Whether a driver may choose ``size`` entries (4.1.4.3.2)."""
        return size.bit_count() == 1 and size <= self.size_max

    def lies_in(self, memory: GuestMemory) -> bool:
        """Whether all three parts are aligned and lie in memory (2.7), each ring with the word of the event index."""
        parts = (
            (self.desc, 16, _DESCRIPTOR * self.size),
            (self.driver, 2, _RING_HEADER + _AVAIL_ENTRY * self.size + 2),
            (self.device, 4, _RING_HEADER + _USED_ENTRY * self.size + 2),
        )
        aligned = all(address % alignment == 0 for address, alignment, _ in parts)
        # An available ring at address 0 is one that was not configured.
        return aligned and self.driver != 0 and all(memory.contains(address, length) for address, _, length in parts)

    def enable(self, memory: GuestMemory) -> None:
        """Fixes the configuration, if it is one to work with."""
        if not self.lies_in(memory):
            raise Broken(Broken.QUEUE)
        self.enabled = 1

    def available(self, memory: GuestMemory) -> int:
        """The available index."""
        return memory.load(self.driver + _RING_INDEX)

    def next_head(self, memory: GuestMemory, available: int) -> int:
        """The head of the next chain, of which there is one."""
        if available - self.next_avail & _WORD > self.size:
            raise Broken(Broken.INDEX)
        return memory.load(self.driver + _RING_HEADER + self.next_avail % self.size * _AVAIL_ENTRY)

    def ask_for_doorbell(self, memory: GuestMemory, event_index: bool) -> None:
        """Asks for a doorbell at the next entry. Entries must be looked for once more afterwards."""
        if event_index:
            memory.store(self.device + _RING_HEADER + self.size * _USED_ENTRY, self.next_avail)
        else:
            memory.store(self.device, 0)
        fence()

    def complete(self, memory: GuestMemory, head: int, written: int) -> None:
        """Writes the next entry of the used ring, behind the published index, and steps on in both rings."""
        entry = self.device + _RING_HEADER + self.next_used % self.size * _USED_ENTRY
        memory.write(entry, (written << 32 | head).to_bytes(8, "little"))
        self.next_avail += 1
        self.next_used += 1

    def publish(self, memory: GuestMemory) -> None:
        """Shows the driver all entries written so far."""
        memory.store(self.device + _RING_INDEX, self.next_used)

    def has_undecided(self) -> bool:
        """Whether there are used entries whose notification is not decided."""
        return bool(self.decided != self.next_used)

    def decide(self, memory: GuestMemory, event_index: bool) -> bool:
        """Decides, for all that is published, whether the driver wants a notification (2.7.7.2)."""
        # What was published must be visible before what the driver wants is read.
        fence()
        before, now = self.decided, self.next_used
        self.decided = now
        if not event_index:
            return memory.load(self.driver) & _NO_INTERRUPT == 0
        used_event = memory.load(self.driver + _RING_HEADER + self.size * _AVAIL_ENTRY)
        return now - used_event - 1 & _WORD < now - before & _WORD
