//! A range that is memory: the guest sees it directly, the bus only where no kernel maps it.
#![allow(unsafe_code)] // Loads and stores memory that other processes change at any time.

use crate::kvm::{Slot, Slots};
use crate::lock;
use imc::Mapping;
use std::sync::{Arc, Mutex};

/// A device's range that is backed by memory which the device owns.
pub struct Direct {
    /// Index of the range.
    pub range: u8,
    memory: Arc<Mapping>,
    bytes: u64,
    /// How the guest sees it, where there is a kernel that shows it.
    slots: Option<Slots>,
    shown: Mutex<Option<Slot>>,
}

impl Direct {
    /// The first `bytes` of `memory`, as range number `range`; the guest does not see it yet.
    pub fn new(range: u8, memory: Arc<Mapping>, bytes: u64, slots: Option<Slots>) -> Direct {
        assert!(memory.writable() && bytes <= memory.len() as u64);
        Direct { range, memory, bytes, slots, shown: Mutex::default() }
    }

    /// The guest sees it from `base` on. Put it on the bus first: an access that comes meanwhile reaches the same memory that
    /// way, and so does each one where the kernel does not show it.
    pub fn show(&self, base: u64) -> Result<(), String> {
        let Some(slots) = &self.slots else { return Ok(()) };
        let slot = slots.show_mapping(base, self.bytes, &self.memory).map_err(|error| error.to_string())?;
        *lock(&self.shown) = Some(slot);
        Ok(())
    }

    /// The guest sees it no more. Take it off the bus afterwards: an access that was on its way finds it there.
    pub fn hide(&self) -> Result<(), String> {
        match (&self.slots, lock(&self.shown).take()) {
            (Some(slots), Some(slot)) => slots.hide(slot).map_err(|error| error.to_string()),
            _ => Ok(()),
        }
    }

    /// Loads 1 to 8 bytes; `None` beyond the end.
    pub fn load(&self, offset: u64, width: u8) -> Option<u64> {
        let at = self.place(offset, width)?;
        let mut bytes = [0; 8];
        for (index, byte) in bytes[..usize::from(width)].iter_mut().enumerate() {
            // SAFETY: `place` keeps the whole access within the mapping, which lives as long as `self`.
            *byte = unsafe { at.add(index).read_volatile() };
        }
        Some(u64::from_le_bytes(bytes))
    }

    /// Stores 1 to 8 bytes; beyond the end they vanish.
    pub fn store(&self, offset: u64, width: u8, value: u64) {
        let Some(at) = self.place(offset, width) else { return };
        for (index, byte) in value.to_le_bytes()[..usize::from(width)].iter().enumerate() {
            // SAFETY: as above; the mapping is writable.
            unsafe { at.add(index).write_volatile(*byte) };
        }
    }

    fn place(&self, offset: u64, width: u8) -> Option<*mut u8> {
        let end = offset.checked_add(u64::from(width))?;
        // SAFETY: `offset` lies within the mapping.
        (width <= 8 && end <= self.bytes).then(|| unsafe { self.memory.as_ptr().add(offset as usize) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imc::Region;

    #[test]
    fn accesses_within_the_range_only() {
        let memory = Arc::new(Region::create("cofferdam:direct", 4096).unwrap().map().unwrap());
        let direct = Direct::new(0, memory, 16, None);
        direct.store(12, 4, 0x0102_0304);
        direct.store(13, 4, u64::MAX);
        assert_eq!(direct.load(12, 4), Some(0x0102_0304));
        assert_eq!(direct.load(8, 8), Some(0x0102_0304_0000_0000));
        assert_eq!(direct.load(9, 8), None);
        assert_eq!(direct.load(u64::MAX, 1), None);
    }
}
