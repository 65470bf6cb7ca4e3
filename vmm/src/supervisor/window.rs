//! Guest memory as seen by a script that stands in for a guest.

// Guest memory is shared with device hosts: it is accessed byte by byte, never through references.
#![allow(unsafe_code)]

use imc::Mapping;

/// The first 16 MiB of guest memory, for a script that drives devices without a processor.
pub struct GuestWindow(Mapping);

impl GuestWindow {
    pub(super) fn new(mapping: Mapping) -> GuestWindow {
        GuestWindow(mapping)
    }

    /// Copies `bytes` to guest address `at`.
    ///
    /// # Panics
    /// Beyond the window: a script's addresses are its own constants.
    pub fn write(&self, at: u64, bytes: &[u8]) {
        let at = self.check(at, bytes.len());
        for (index, byte) in bytes.iter().enumerate() {
            // SAFETY: `check` has found the whole range inside the mapping.
            unsafe { self.0.as_ptr().add(at + index).write_volatile(*byte) }
        }
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }

    /// Copies `N` bytes from guest address `at`.
    ///
    /// # Panics
    /// As for [`GuestWindow::write`].
    #[must_use]
    pub fn read<const N: usize>(&self, at: u64) -> [u8; N] {
        let at = self.check(at, N);
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        // SAFETY: `check` has found the whole range inside the mapping.
        std::array::from_fn(|index| unsafe { self.0.as_ptr().add(at + index).read_volatile() })
    }

    fn check(&self, at: u64, count: usize) -> usize {
        let at = usize::try_from(at).expect("a script's address is small");
        assert!(at.checked_add(count).is_some_and(|end| end <= self.0.len()), "{at:#x} is outside the window");
        at
    }
}
