//! A split queue (2.7): its registers and positions as plain data, and the steps a device makes along it.

use super::chain::Segments;
use super::{Broken, QUEUE_SIZE_MAX};
use crate::GuestMemory;
use std::sync::atomic::{Ordering, fence};
use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Queue, QueueOwnedT, QueueState, QueueT};
use vm_memory::{Bytes, GuestAddress};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// No MSI-X vector (4.1.4.3).
pub(super) const NO_VECTOR: u16 = 0xffff;

/// Bytes before the entries of either ring: flags and index.
const RING_HEADER: u64 = 4;
/// Offset of either ring's index.
const RING_INDEX: u64 = 2;
const AVAIL_ENTRY: u64 = 2;
const USED_ENTRY: u64 = 8;

/// A queue. From the moment it is enabled its first five fields do not change until a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Ring {
    /// Guest addresses of descriptor table, available ring and used ring.
    pub(super) desc: u64,
    pub(super) driver: u64,
    pub(super) device: u64,
    /// Entries: a power of 2.
    pub(super) size: u16,
    /// 0 or 1.
    enabled: u16,
    /// What the device offers; 0: there is no such queue.
    pub(super) size_max: u16,
    pub(super) vector: u16,
    /// Entries of the available ring that were served, modulo 2^16.
    pub(super) next_avail: u16,
    /// Entries of the used ring that were written, modulo 2^16.
    pub(super) next_used: u16,
    /// Entries of the used ring for which it is decided whether to notify, modulo 2^16.
    decided: u16,
    unused: u16,
    /// Notifications due since power on, modulo 2^32.
    pub(super) signals: u32,
    unused_too: u32,
}

impl Ring {
    pub(super) fn new(size_max: u16, signals: u32) -> Ring {
        Ring { size: size_max, size_max, vector: NO_VECTOR, signals, ..Ring::new_zeroed() }
    }

    /// Whether this could have been left by a device with a queue of at most `size_max` entries.
    pub(super) fn is_sound(&self, size_max: u16, event_index: bool, started: bool, memory: &GuestMemory) -> bool {
        if self.size_max != size_max || self.enabled > 1 || (self.unused, self.unused_too) != (0, 0) {
            return false;
        }
        if !self.is_enabled() {
            let unused = (self.next_avail, self.next_used, self.decided) == (0, 0, 0);
            return unused && (self.size == size_max || self.can_have_size(self.size));
        }
        let undecided = self.next_used.wrapping_sub(self.decided);
        self.can_have_size(self.size)
            && self.lies_in(memory, event_index)
            && self.next_avail == self.next_used
            && (!started || self.published(memory).is_some_and(|index| index.wrapping_sub(self.decided) <= undecided))
    }

    /// The index that the driver sees. It wrote the first itself; from then on only the device changes it.
    fn published(&self, memory: &GuestMemory) -> Option<u16> {
        memory.load(GuestAddress(self.device + RING_INDEX), Ordering::Relaxed).ok().map(u16::from_le)
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.enabled != 0
    }

    /// Whether a driver may choose `size` entries (4.1.4.3.2).
    pub(super) fn can_have_size(&self, size: u16) -> bool {
        size.is_power_of_two() && size <= self.size_max
    }

    /// Fixes the configuration, if it is one to work with.
    pub(super) fn enable(&mut self, memory: &GuestMemory) -> Result<(), Broken> {
        let enabled = Ring { enabled: 1, ..*self };
        if !enabled.lies_in(memory, false) {
            return Err(Broken::Queue);
        }
        *self = enabled;
        Ok(())
    }

    /// Whether all three parts are aligned and lie in memory.
    fn lies_in(&self, memory: &GuestMemory, event_index: bool) -> bool {
        // At address 0 the library's queue counts as not configured.
        self.driver != 0 && self.queue(event_index).is_ok_and(|queue| queue.is_valid(memory))
    }

    /// The queue as the library walks it.
    pub(super) fn queue(&self, event_index: bool) -> Result<Queue, Broken> {
        Queue::try_from(QueueState {
            max_size: QUEUE_SIZE_MAX,
            next_avail: self.next_avail,
            next_used: self.next_used,
            event_idx_enabled: event_index,
            size: self.size,
            ready: self.is_enabled(),
            desc_table: self.desc,
            avail_ring: self.driver,
            used_ring: self.device,
        })
        .map_err(|_| Broken::Queue)
    }

    /// A cheap look for entries that are not served: the available index, if there are any.
    pub(super) fn available(&self, memory: &GuestMemory) -> Option<u16> {
        let index = memory.load::<u16>(GuestAddress(self.driver + RING_INDEX), Ordering::Relaxed);
        index.ok().map(u16::from_le).filter(|index| *index != self.next_avail)
    }

    /// Writes the next entry of the used ring, behind the published index, and steps on in both rings.
    pub(super) fn complete(&mut self, memory: &GuestMemory, head: u16, written: u32) -> Result<(), Broken> {
        let entry = u64::from(self.next_used % self.size) * USED_ENTRY;
        let element = u64::from(written) << 32 | u64::from(head);
        memory
            .write_obj(element.to_le(), GuestAddress(self.device + RING_HEADER + entry))
            .map_err(|_| Broken::Outside)?;
        self.next_avail = self.next_avail.wrapping_add(1);
        self.next_used = self.next_used.wrapping_add(1);
        Ok(())
    }

    /// Shows the driver all entries written so far.
    pub(super) fn publish(&self, memory: &GuestMemory) {
        // The range was checked when the queue was enabled, and memory does not go away: there is no error to handle.
        let _ = memory.store(self.next_used.to_le(), GuestAddress(self.device + RING_INDEX), Ordering::Release);
    }

    /// Whether there are used entries whose notification is not decided.
    pub(super) fn has_undecided(&self) -> bool {
        self.decided != self.next_used
    }

    /// Decides, for all that is published, whether the driver wants a notification (2.7.7.2).
    pub(super) fn decide(&mut self, memory: &GuestMemory, event_index: bool) -> Result<bool, Broken> {
        // What was published must be visible before what the driver wants is read.
        fence(Ordering::SeqCst);
        let (before, now) = (std::mem::replace(&mut self.decided, self.next_used), self.next_used);
        let load = |offset| {
            let word = memory.load::<u16>(GuestAddress(self.driver + offset), Ordering::Relaxed);
            word.map(u16::from_le).map_err(|_| Broken::Outside)
        };
        if event_index {
            let used_event = load(RING_HEADER + u64::from(self.size) * AVAIL_ENTRY)?;
            Ok(now.wrapping_sub(used_event).wrapping_sub(1) < now.wrapping_sub(before))
        } else {
            Ok(u32::from(load(0)?) & VRING_AVAIL_F_NO_INTERRUPT == 0)
        }
    }
}

/// The available index.
pub(super) fn available(queue: &Queue, memory: &GuestMemory) -> Result<u16, Broken> {
    queue.avail_idx(memory, Ordering::Acquire).map(|index| index.0).map_err(|_| Broken::Outside)
}

/// Asks for a doorbell at the next entry. Entries must be looked for once more afterwards.
pub(super) fn ask_for_doorbell(queue: &mut Queue, memory: &GuestMemory) -> Result<(), Broken> {
    // The fence between asking and looking is inside.
    queue.enable_notification(memory).map(drop).map_err(|_| Broken::Outside)
}

/// Takes the next chain, of which there is one, into `segments`; gives its head.
pub(super) fn take(queue: &mut Queue, memory: &GuestMemory, segments: &mut Segments) -> Result<u16, Broken> {
    let mut entries = queue.iter(memory).map_err(|_| Broken::Index)?;
    let chain = entries.next().ok_or(Broken::Index)?;
    let head = chain.head_index();
    segments.collect(chain)?;
    Ok(head)
}
