//! A split queue (2.7): its registers and positions as plain data, and the steps a device makes along it.

use super::Broken;
use super::chain::DESCRIPTOR_BYTES;
use crate::{GuestMemory, OutsideGrant};
use std::sync::atomic::{Ordering, fence};

/// No MSI-X vector (4.1.4.3).
pub(super) const NO_VECTOR: u16 = 0xffff;

/// Bytes before the entries of either ring: flags and index.
const RING_HEADER: u64 = 4;
/// Offset of either ring's index.
const RING_INDEX: u64 = 2;
const AVAIL_ENTRY: u64 = 2;
const USED_ENTRY: u64 = 8;
/// The word of the event index, behind the entries of either ring.
const EVENT: u64 = 2;
/// The driver wants no notifications.
const NO_INTERRUPT: u16 = 1;

crate::state! {
    /// A queue. From the moment it is enabled its first five fields do not change until a reset.
    pub(super) struct Ring {
        /// Guest addresses of descriptor table, available ring and used ring.
        pub(super) desc: u64,
        pub(super) driver: u64,
        pub(super) device: u64,
        /// Entries: a power of 2.
        pub(super) size: u16,
        /// 0 or 1.
        pub(super) enabled: u16,
        /// What the device offers; 0: there is no such queue.
        pub(super) size_max: u16,
        pub(super) vector: u16 = NO_VECTOR,
        /// Entries of the available ring that were served, modulo 2^16.
        pub(super) next_avail: u16,
        /// Entries of the used ring that were written, modulo 2^16.
        pub(super) next_used: u16,
        /// Entries of the used ring for which it is decided whether to notify, modulo 2^16.
        pub(super) decided: u16,
        /// Notifications due since power on, modulo 2^32.
        pub(super) signals: u32,
    }
}

/// A word that was in memory when the queue was enabled. Granted memory does not go away.
impl From<OutsideGrant> for Broken {
    fn from(_: OutsideGrant) -> Broken {
        Broken::Outside
    }
}

impl Ring {
    pub(super) fn new(size_max: u16, signals: u32) -> Ring {
        Ring { size: size_max, size_max, signals, ..Ring::default() }
    }

    /// Whether this could have been left by a device with a queue of at most `size_max` entries.
    pub(super) fn is_sound(&self, size_max: u16, started: bool, memory: &GuestMemory) -> bool {
        if self.size_max != size_max || self.enabled > 1 {
            return false;
        }
        if self.enabled == 0 {
            let unused = (self.next_avail, self.next_used, self.decided) == (0, 0, 0);
            return unused && (self.size == size_max || self.can_have_size(self.size));
        }
        let undecided = self.next_used.wrapping_sub(self.decided);
        // The driver wrote the published index first; from then on only the device changes it.
        let published = memory.load(self.device.wrapping_add(RING_INDEX));
        self.can_have_size(self.size)
            && self.lies_in(memory)
            && self.next_avail == self.next_used
            && (!started || published.is_ok_and(|index| index.wrapping_sub(self.decided) <= undecided))
    }

    /// Whether a driver may choose `size` entries (4.1.4.3.2).
    pub(super) fn can_have_size(&self, size: u16) -> bool {
        size.is_power_of_two() && size <= self.size_max
    }

    /// Whether all three parts are aligned and lie in memory (2.7), each ring with the word of the event index.
    fn lies_in(&self, memory: &GuestMemory) -> bool {
        let size = u64::from(self.size);
        let parts = [
            (self.desc, 16, size * u64::from(DESCRIPTOR_BYTES)),
            (self.driver, 2, RING_HEADER + size * AVAIL_ENTRY + EVENT),
            (self.device, 4, RING_HEADER + size * USED_ENTRY + EVENT),
        ];
        let lies = |(address, alignment, bytes): (u64, u64, u64)| {
            address.is_multiple_of(alignment) && memory.contains(address, bytes)
        };
        // An available ring at address 0 is one that was not configured.
        self.driver != 0 && parts.into_iter().all(lies)
    }

    /// Fixes the configuration, if it is one to work with.
    pub(super) fn enable(&mut self, memory: &GuestMemory) -> Result<(), Broken> {
        if !self.lies_in(memory) {
            return Err(Broken::Queue);
        }
        self.enabled = 1;
        Ok(())
    }

    /// The available index.
    pub(super) fn available(&self, memory: &GuestMemory) -> Result<u16, Broken> {
        Ok(memory.load(self.driver + RING_INDEX)?)
    }

    /// The head of the next chain, of which there is one.
    pub(super) fn next_head(&self, memory: &GuestMemory, available: u16) -> Result<u16, Broken> {
        if available.wrapping_sub(self.next_avail) > self.size {
            return Err(Broken::Index);
        }
        let entry = u64::from(self.next_avail % self.size) * AVAIL_ENTRY;
        Ok(memory.load(self.driver + RING_HEADER + entry)?)
    }

    /// Asks for a doorbell at the next entry. Entries must be looked for once more afterwards.
    pub(super) fn ask_for_doorbell(&self, memory: &GuestMemory, event_index: bool) -> Result<(), Broken> {
        if event_index {
            memory.store(self.device + RING_HEADER + u64::from(self.size) * USED_ENTRY, self.next_avail)?;
        } else {
            memory.store(self.device, 0)?;
        }
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// Writes the next entry of the used ring, behind the published index, and steps on in both rings.
    pub(super) fn complete(&mut self, memory: &GuestMemory, head: u16, written: u32) -> Result<(), Broken> {
        let entry = u64::from(self.next_used % self.size) * USED_ENTRY;
        let element = u64::from(written) << 32 | u64::from(head);
        memory.write(self.device + RING_HEADER + entry, &element.to_le_bytes())?;
        self.next_avail = self.next_avail.wrapping_add(1);
        self.next_used = self.next_used.wrapping_add(1);
        Ok(())
    }

    /// Shows the driver all entries written so far.
    pub(super) fn publish(&self, memory: &GuestMemory) {
        // The ring was in memory when the queue was enabled: there is no error to handle.
        let _ = memory.store(self.device + RING_INDEX, self.next_used);
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
        if !event_index {
            return Ok(memory.load(self.driver)? & NO_INTERRUPT == 0);
        }
        let used_event = memory.load(self.driver + RING_HEADER + u64::from(self.size) * AVAIL_ENTRY)?;
        Ok(now.wrapping_sub(used_event).wrapping_sub(1) < now.wrapping_sub(before))
    }
}
