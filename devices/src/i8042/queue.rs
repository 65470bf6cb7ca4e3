//! Bytes that a device on the cable keeps until they are taken.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// As many as a keyboard keeps.
pub(super) const QUEUE: usize = 16;

/// The bytes, the first to be sent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Queue {
    bytes: [u8; QUEUE],
    length: u8,
}

impl Queue {
    pub(super) fn check(&self) -> bool {
        usize::from(self.length) <= QUEUE
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// How many more it keeps.
    pub(super) fn room(&self) -> usize {
        QUEUE - usize::from(self.length)
    }

    pub(super) fn clear(&mut self) {
        self.length = 0;
    }

    pub(super) fn take(&mut self) -> Option<u8> {
        self.length = self.length.checked_sub(1)?;
        let first = self.bytes[0];
        self.bytes.copy_within(1.., 0);
        Some(first)
    }

    /// What finds no place is lost: the system did not read what it had asked for.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(free) = self.bytes.get_mut(usize::from(self.length)) {
                *free = *byte;
                self.length += 1;
            }
        }
    }
}
