//! Descriptors of the C+ mode, which lie in the guest's memory, and what is given back of them.
//!
//! A descriptor goes back to the driver by one word in memory, which a process that dies must not have written before its
//! commit: the next one would look for it in vain. So a frame that has used some is first noted in the state, as a [`Return`];
//! they are given back when that is committed, and the note is taken away by the next commit.

use device::GuestMemory;
use vm_memory::{Bytes, GuestAddress};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Most descriptors of a ring (data sheet, "C+ mode").
pub(super) const RING_MAX: u32 = 64;

/// In a descriptor's first word (data sheet, "C+ mode").
pub(super) const OWN: u32 = 1 << 31;
pub(super) const END_OF_RING: u32 = 1 << 30;
pub(super) const FIRST: u32 = 1 << 29;
pub(super) const LAST: u32 = 1 << 28;
/// Bytes of its buffer, in a receive descriptor.
const RECEIVE_SIZE: u32 = 0x1fff;
/// Bytes of its buffer, in a transmit descriptor.
const TRANSMIT_SIZE: u32 = 0xffff;

const DESCRIPTOR_BYTES: u64 = 16;

/// A descriptor: a copy of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Descriptor {
    /// Its place in the ring.
    pub(super) index: u32,
    /// Its first word.
    pub(super) flags: u32,
    /// Its second word, about VLANs.
    pub(super) vlan: u32,
    /// Where its buffer is.
    pub(super) address: u64,
}

impl Descriptor {
    /// Copies one out of memory, if it lies there.
    pub(super) fn read(memory: &GuestMemory, ring: u64, index: u32) -> Option<Descriptor> {
        let mut bytes = [0; DESCRIPTOR_BYTES as usize];
        memory.read_slice(&mut bytes, place(ring, index)?).ok()?;
        let words = u128::from_le_bytes(bytes);
        Some(Descriptor { index, flags: words as u32, vlan: (words >> 32) as u32, address: (words >> 64) as u64 })
    }

    /// Whether it is the card's.
    pub(super) fn is_owned(&self) -> bool {
        self.flags & OWN != 0
    }

    /// The place of the next one.
    pub(super) fn next(&self) -> u32 {
        if self.flags & END_OF_RING != 0 || self.index + 1 >= RING_MAX { 0 } else { self.index + 1 }
    }

    /// Bytes of a receive descriptor's buffer.
    pub(super) fn room(&self) -> usize {
        (self.flags & RECEIVE_SIZE) as usize
    }

    /// Bytes of a transmit descriptor's buffer.
    pub(super) fn length(&self) -> usize {
        (self.flags & TRANSMIT_SIZE) as usize
    }
}

/// Descriptors that one frame has used, in their order.
pub(super) struct Used {
    all: [Descriptor; RING_MAX as usize],
    count: usize,
}

impl Used {
    /// None yet.
    pub(super) fn new() -> Used {
        Used { all: [Descriptor::default(); RING_MAX as usize], count: 0 }
    }

    /// Adds one; false where there are as many as a ring has.
    pub(super) fn add(&mut self, descriptor: Descriptor) -> bool {
        let place = self.all.get_mut(self.count);
        self.count += usize::from(place.is_some());
        place.map(|place| *place = descriptor).is_some()
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Descriptor] {
        &self.all[..self.count]
    }
}

/// What is to be given back once it is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Return {
    ring: u64,
    /// Of the first descriptor, by which a process that died already and one that did not can be told apart.
    address: u64,
    flags: u32,
    /// What the frame's last descriptor says beside its place.
    status: u32,
    index: u32,
    /// How many; 0: nothing is to be given back.
    count: u32,
}

impl Return {
    /// Nothing.
    pub(super) fn nothing() -> Return {
        Return::new_zeroed()
    }

    /// These descriptors of this ring, the last with `status`.
    pub(super) fn of(ring: u64, used: &Used, status: u32) -> Return {
        let Some(first) = used.all().first() else { return Return::nothing() };
        let Descriptor { index, flags, address, .. } = *first;
        Return { ring, address, flags, status, index, count: used.all().len() as u32 }
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.count == 0
    }

    pub(super) fn is_sound(&self) -> bool {
        self.count <= RING_MAX && self.index < RING_MAX
    }

    /// Gives them back, the first one last: who sees that one sees all. Those of which the first is no more what it was have
    /// been given back already, by a process that died before it could note that.
    pub(super) fn give(&self, memory: &GuestMemory) {
        let mut used = Used::new();
        let mut index = self.index;
        for _ in 0..self.count {
            let Some(descriptor) = Descriptor::read(memory, self.ring, index) else { return };
            used.add(descriptor);
            index = descriptor.next();
        }
        let [first, ..] = used.all() else { return };
        if (first.flags, first.address) != (self.flags, self.address) {
            return;
        }
        for (number, descriptor) in used.all().iter().enumerate().rev() {
            let position = |at: usize, flag| if number == at { flag } else { 0 };
            let last = number + 1 == used.count;
            let status = if last { self.status } else { 0 };
            let flags = descriptor.flags & END_OF_RING | position(0, FIRST) | position(used.count - 1, LAST) | status;
            if let Some(place) = place(self.ring, descriptor.index) {
                // It was read there a moment ago, and memory does not go away.
                let _ = memory.write_obj(flags.to_le(), place);
            }
        }
    }
}

fn place(ring: u64, index: u32) -> Option<GuestAddress> {
    ring.checked_add(u64::from(index) * DESCRIPTOR_BYTES).map(GuestAddress)
}
