//! The FIFO, through which every byte of a command, of data and of a result passes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes that it holds (82077AA, 4.2).
pub(super) const FIFO_BYTES: usize = 16;

/// Bytes in order. No position in it comes from outside, and none outlives a call: what does not fit is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Fifo {
    bytes: [u8; FIFO_BYTES],
    length: u8,
}

impl Fifo {
    pub(super) const EMPTY: Fifo = Fifo { bytes: [0; FIFO_BYTES], length: 0 };

    pub(super) fn check(&self) -> bool {
        self.bytes().is_some()
    }

    /// What is in it.
    fn bytes(&self) -> Option<&[u8]> {
        self.bytes.get(..self.len())
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.length)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Puts a byte behind the others. `false`: there is no room, and nothing is changed.
    pub(super) fn put(&mut self, byte: u8) -> bool {
        let Some(free) = self.bytes.get_mut(usize::from(self.length)) else { return false };
        *free = byte;
        self.length += 1;
        true
    }

    /// Takes the first byte.
    pub(super) fn take(&mut self) -> Option<u8> {
        self.length = self.length.checked_sub(1)?;
        let first = self.bytes[0];
        self.bytes.copy_within(1.., 0);
        Some(first)
    }

    pub(super) fn clear(&mut self) {
        *self = Fifo::EMPTY;
    }

    /// Takes all, as a command of at most `N` bytes; what is not there is zero.
    pub(super) fn take_all<const N: usize>(&mut self) -> [u8; N] {
        const { assert!(N <= FIFO_BYTES, "longer than the FIFO") };
        let mut all = [0; N];
        for (to, from) in all.iter_mut().zip(self.bytes().unwrap_or_default()) {
            *to = *from;
        }
        self.clear();
        all
    }

    /// Holds these bytes and no others.
    pub(super) fn fill<const N: usize>(&mut self, with: [u8; N]) {
        const { assert!(N <= FIFO_BYTES, "longer than the FIFO") };
        self.clear();
        for byte in with {
            self.put(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_not_taken_and_spoils_nothing() {
        let mut fifo = Fifo::EMPTY;
        for byte in 0..=255_u8 {
            assert_eq!(fifo.put(byte), usize::from(byte) < FIFO_BYTES);
            assert!(fifo.check());
        }
        let taken: Vec<u8> = std::iter::from_fn(|| fifo.take()).collect();
        assert_eq!(taken, (0..FIFO_BYTES as u8).collect::<Vec<u8>>());
    }

    #[test]
    fn an_empty_one_gives_nothing() {
        let mut fifo = Fifo::EMPTY;
        assert_eq!(fifo.take(), None);
        assert_eq!(fifo, Fifo::EMPTY);
    }

    #[test]
    fn a_length_beyond_its_bytes_fails_the_check_and_takes_no_byte_from_outside() {
        for length in FIFO_BYTES as u8 + 1..=255 {
            let mut fifo = Fifo { length, ..Fifo::EMPTY };
            assert!(!fifo.check());
            assert!(!fifo.put(1));
            assert_eq!(fifo.take(), Some(0));
        }
    }
}
