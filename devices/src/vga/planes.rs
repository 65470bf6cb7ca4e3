//! Display memory: four planes side by side, a byte of each in every word, and all of it in a row.

use super::graphics::Planes;
use device::DirectMemory;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

/// Bytes of display memory.
pub(super) const MEMORY_BYTES: u64 = 16 << 20;
/// Bytes of a plane.
pub(super) const PLANE_BYTES: u64 = 64 << 10;

/// The memory. The guest stores to it past us, so what is read may be anything.
pub(super) struct Memory(DirectMemory);

impl Memory {
    /// The display's, of the right size.
    pub(super) fn new(memory: DirectMemory) -> Option<Memory> {
        memory.check_range(GuestAddress(0), MEMORY_BYTES as usize).then_some(Memory(memory))
    }

    /// A byte of each plane.
    pub(super) fn planes(&self, at: usize) -> Planes {
        self.0.read_obj(GuestAddress(4 * (at as u64 % PLANE_BYTES))).unwrap_or_default()
    }

    /// Puts a byte into each plane of `mask`.
    pub(super) fn set_planes(&self, at: usize, bytes: Planes, mask: u8) {
        let word = 4 * (at as u64 % PLANE_BYTES);
        for (plane, byte) in (0..).zip(bytes).filter(|(plane, _)| mask >> plane & 1 != 0) {
            self.set_byte(word + plane, byte);
        }
    }

    /// A byte of the row.
    pub(super) fn byte(&self, at: u64) -> u8 {
        self.0.read_obj(GuestAddress(at % MEMORY_BYTES)).unwrap_or(0)
    }

    pub(super) fn set_byte(&self, at: u64, byte: u8) {
        let stored = self.0.write_obj(byte, GuestAddress(at % MEMORY_BYTES));
        debug_assert!(stored.is_ok(), "the memory has its size");
    }

    /// Copies out from `at` on; zeros beyond the end.
    pub(super) fn copy(&self, at: u64, into: &mut [u8]) {
        let there = MEMORY_BYTES.saturating_sub(at).min(into.len() as u64) as usize;
        let (inside, beyond) = into.split_at_mut(there);
        beyond.fill(0);
        if self.0.read_slice(inside, GuestAddress(at)).is_err() {
            inside.fill(0);
        }
    }

    /// Fills the first `bytes` with zeros.
    pub(super) fn clear(&self, bytes: u64) {
        const ZEROS: [u8; 4096] = [0; 4096];
        for at in (0..bytes.min(MEMORY_BYTES)).step_by(ZEROS.len()) {
            let cleared = self.0.write_slice(&ZEROS, GuestAddress(at));
            debug_assert!(cleared.is_ok(), "the memory has its size, which is whole pages");
        }
    }
}
