//! A device's end of a pair of byte rings to the outside: a serial line, for example.

use crate::Bell;
use crate::kernel::Shared;
use std::sync::atomic::Ordering;

/// Bytes of each ring.
const RING_BYTES: usize = 64 << 10;
/// Four indices, each in a cache line of its own, come before the rings.
const INDEX_BYTES: usize = 4096;
const LINE_BYTES: usize = 64;
const OUT_HEAD: usize = 0;
const OUT_TAIL: usize = LINE_BYTES;
const IN_HEAD: usize = 2 * LINE_BYTES;
const IN_TAIL: usize = 3 * LINE_BYTES;
/// Bytes of the region.
pub(crate) const STREAM_BYTES: usize = INDEX_BYTES + 2 * RING_BYTES;

/// A pair of byte rings.
///
/// The device's two indices are part of its *state* and published only once committed, in `settle`; so a byte is handed on
/// exactly once however often the process dies. Indices count bytes, modulo 2^32.
pub struct Stream {
    rings: Shared,
    bell: Bell,
}

impl Stream {
    pub(crate) fn new(rings: Shared, bell: Bell) -> Option<Stream> {
        (rings.len() >= STREAM_BYTES).then_some(Stream { rings, bell })
    }

    /// A stream for tests, whose other side does nothing. Its memory is never given back.
    #[must_use]
    pub fn private(bell: Bell) -> Stream {
        Stream { rings: Shared::private(STREAM_BYTES), bell }
    }

    /// Free bytes of the out ring when `head` bytes have been put in all.
    #[must_use]
    pub fn room(&self, head: u32) -> usize {
        RING_BYTES.saturating_sub(head.wrapping_sub(self.index(OUT_TAIL)) as usize)
    }

    /// Puts a byte at `head` of the out ring, which has room. It means nothing until [`Stream::publish`].
    pub fn put(&self, head: u32, byte: u8) {
        self.rings.byte(INDEX_BYTES + head as usize % RING_BYTES).store(byte, Ordering::Relaxed);
    }

    /// The byte at `tail` of the in ring, if there is one.
    #[must_use]
    pub fn get(&self, tail: u32) -> Option<u8> {
        let there = self.index(IN_HEAD).wrapping_sub(tail) as usize;
        let byte = self.rings.byte(INDEX_BYTES + RING_BYTES + tail as usize % RING_BYTES);
        // More than a ring has is a lie.
        (1..=RING_BYTES).contains(&there).then(|| byte.load(Ordering::Relaxed))
    }

    /// Publishes the committed indices, and wakes the other side if they changed.
    pub fn publish(&self, out_head: u32, in_tail: u32) {
        if self.published() != (out_head, in_tail) {
            self.rings.index(IN_TAIL).store(in_tail, Ordering::Release);
            self.rings.index(OUT_HEAD).store(out_head, Ordering::Release);
            self.bell.ring(1);
        }
    }

    /// The indices published last, out and in: where a device goes on whose state is gone.
    #[must_use]
    pub fn published(&self) -> (u32, u32) {
        (self.index(OUT_HEAD), self.index(IN_TAIL))
    }

    fn index(&self, at: usize) -> u32 {
        self.rings.index(at).load(Ordering::Acquire)
    }
}
