//! The chip's two 16-byte queues, as plain data.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes that either FIFO of a 16550 holds.
pub(super) const DEPTH: usize = 16;

/// Bytes in order of arrival, the oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Fifo {
    bytes: [u8; DEPTH],
    held: u8,
}

impl Fifo {
    pub(super) const EMPTY: Fifo = Fifo { bytes: [0; DEPTH], held: 0 };

    pub(super) fn len(&self) -> usize {
        self.held.into()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Whether a FIFO limited to `depth` could be in this state.
    pub(super) fn is_sound(&self, depth: usize) -> bool {
        self.len() <= depth
    }

    /// The caller has seen that fewer than [`DEPTH`] bytes are held.
    pub(super) fn push(&mut self, byte: u8) {
        self.bytes[self.len()] = byte;
        self.held += 1;
    }

    pub(super) fn first(&self) -> Option<u8> {
        (!self.is_empty()).then_some(self.bytes[0])
    }

    pub(super) fn pop(&mut self) -> Option<u8> {
        let first = self.first()?;
        self.bytes.copy_within(1.., 0);
        self.held -= 1;
        Some(first)
    }
}
