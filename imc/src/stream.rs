//! A pair of byte rings in a region: how a console's bytes leave a device host that has no descriptor to write them to.
//!
//! The first page holds four indices, each in a cache line of its own and each written by one side; then comes the ring of
//! what the device prints, then that of what it reads. Indices count bytes modulo 2^32, so a ring is never ambiguous
//! between full and empty. Neither side believes the other's index further than to find fewer bytes or less room.
#![allow(unsafe_code)] // Memory that another process stores to has no references, only pointers.

use crate::{Mapping, Wake};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// Bytes of each ring; a power of two. A guest's boot log fits, so a slow reader rarely holds it up.
pub const RING_BYTES: usize = 64 << 10;
/// Bytes of the region: a page of indices and two rings.
pub const STREAM_BYTES: u64 = (INDEX_BYTES + 2 * RING_BYTES) as u64;

const INDEX_BYTES: usize = 4096;
const CACHE_LINE: usize = 64;

/// The device's end.
///
/// It holds no index of its own: the device keeps its two in its committed state, so that a byte goes on exactly once
/// however often the process dies. These methods are those of the SDK's `Stream`.
pub struct DeviceEnd {
    rings: Rings,
    bell: Wake,
}

/// The other end, outside the device host. Its own indices are private; those in the region are for the device.
pub struct RelayEnd {
    rings: Rings,
    out_tail: u32,
    in_head: u32,
}

impl DeviceEnd {
    /// Takes the region's mapping and the relay's bell.
    ///
    /// # Panics
    /// When the mapping is smaller than [`STREAM_BYTES`] or may not be stored to: whoever granted it is broken.
    pub fn new(mapping: Mapping, bell: Wake) -> Self {
        DeviceEnd { rings: Rings::new(mapping), bell }
    }

    /// Free bytes of the out ring when `head` bytes have been put in all.
    pub fn room(&self, head: u32) -> usize {
        free(head.wrapping_sub(self.rings.out_tail().load(Ordering::Acquire)))
    }

    /// Puts a byte at `head` of the out ring, which must have [room](DeviceEnd::room). It means nothing until
    /// [`DeviceEnd::publish`].
    pub fn put(&self, head: u32, byte: u8) {
        self.rings.out_byte(head).store(byte, Ordering::Relaxed);
    }

    /// The byte at `tail` of the in ring, if there is one.
    pub fn get(&self, tail: u32) -> Option<u8> {
        let there = self.rings.in_head().load(Ordering::Acquire).wrapping_sub(tail);
        (used(there) > 0).then(|| self.rings.in_byte(tail).load(Ordering::Relaxed))
    }

    /// Publishes the committed indices, and rings the relay if they changed.
    pub fn publish(&self, out_head: u32, in_tail: u32) {
        if self.published() != (out_head, in_tail) {
            self.rings.in_tail().store(in_tail, Ordering::Release);
            self.rings.out_head().store(out_head, Ordering::Release);
            // The relay looks at the indices whenever it wakes, and nobody could be told that it cannot be woken.
            let _ = self.bell.signal(1);
        }
    }

    /// The indices published last, `(out_head, in_tail)`: where a device goes on whose state is gone.
    pub fn published(&self) -> (u32, u32) {
        (self.rings.out_head().load(Ordering::Relaxed), self.rings.in_tail().load(Ordering::Relaxed))
    }
}

impl RelayEnd {
    /// Takes the mapping of a new region.
    ///
    /// # Panics
    /// When the mapping is smaller than [`STREAM_BYTES`] or may not be stored to.
    pub fn new(mapping: Mapping) -> Self {
        RelayEnd { rings: Rings::new(mapping), out_tail: 0, in_head: 0 }
    }

    /// Appends to `into` what the device has printed, at most `bound` bytes.
    ///
    /// True: the ring was more than half full, so the device may be waiting for room, and its host is to be woken. Half,
    /// because bytes that the device has put and not yet published take room as well.
    pub fn take(&mut self, into: &mut Vec<u8>, bound: usize) -> bool {
        let there = used(self.rings.out_head().load(Ordering::Acquire).wrapping_sub(self.out_tail));
        let count = there.min(bound);
        into.reserve(count);
        for _ in 0..count {
            into.push(self.rings.out_byte(self.out_tail).load(Ordering::Relaxed));
            self.out_tail = self.out_tail.wrapping_add(1);
        }
        // The device may put new bytes over these only once they are read.
        self.rings.out_tail().store(self.out_tail, Ordering::Release);
        there > RING_BYTES / 2
    }

    /// Gives the device as many of these bytes as there is room for, and says how many. Its host is to be woken then.
    pub fn offer(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        for byte in &bytes[..count] {
            self.rings.in_byte(self.in_head).store(*byte, Ordering::Relaxed);
            self.in_head = self.in_head.wrapping_add(1);
        }
        self.rings.in_head().store(self.in_head, Ordering::Release);
        count
    }

    /// How many bytes may be offered.
    pub fn room(&self) -> usize {
        free(self.in_head.wrapping_sub(self.rings.in_tail().load(Ordering::Acquire)))
    }
}

/// Free bytes of a ring with this claimed fill; none when the claim is impossible.
fn free(claimed: u32) -> usize {
    RING_BYTES.saturating_sub(claimed as usize)
}

/// Bytes in a ring with this claimed fill; none when the claim is impossible.
fn used(claimed: u32) -> usize {
    if claimed as usize <= RING_BYTES { claimed as usize } else { 0 }
}

struct Rings(Mapping);

impl Rings {
    fn new(mapping: Mapping) -> Rings {
        assert!(mapping.len() as u64 >= STREAM_BYTES && mapping.writable(), "a stream's region has its fixed size");
        Rings(mapping)
    }

    fn out_head(&self) -> &AtomicU32 {
        self.index(0)
    }
    fn out_tail(&self) -> &AtomicU32 {
        self.index(1)
    }
    fn in_head(&self) -> &AtomicU32 {
        self.index(2)
    }
    fn in_tail(&self) -> &AtomicU32 {
        self.index(3)
    }
    fn out_byte(&self, index: u32) -> &AtomicU8 {
        self.byte(INDEX_BYTES, index)
    }
    fn in_byte(&self, index: u32) -> &AtomicU8 {
        self.byte(INDEX_BYTES + RING_BYTES, index)
    }

    fn index(&self, line: usize) -> &AtomicU32 {
        debug_assert!(line < INDEX_BYTES / CACHE_LINE);
        // SAFETY: within the first page of the mapping, which lives as long as `self`; aligned to a cache line; and only
        // ever touched as an atomic of this size.
        unsafe { AtomicU32::from_ptr(self.0.as_ptr().add(line * CACHE_LINE).cast()) }
    }

    fn byte(&self, ring: usize, index: u32) -> &AtomicU8 {
        // SAFETY: the offset is less than `ring + RING_BYTES`, which `new` found to lie within the mapping; it lives as
        // long as `self`; and rings are only ever touched as atomic bytes.
        unsafe { AtomicU8::from_ptr(self.0.as_ptr().add(ring + index as usize % RING_BYTES)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Region;

    fn stream() -> (DeviceEnd, RelayEnd, Wake) {
        let region = Region::create("stream", STREAM_BYTES).unwrap();
        let bell = Wake::create().unwrap();
        let device = DeviceEnd::new(region.map().unwrap(), bell.try_clone().unwrap());
        (device, RelayEnd::new(region.map().unwrap()), bell)
    }

    #[test]
    fn bytes_appear_once_they_are_published() {
        let (device, mut relay, bell) = stream();
        let mut seen = Vec::new();
        device.put(0, b'h');
        device.put(1, b'i');
        assert!(!relay.take(&mut seen, 100));
        assert_eq!((seen.as_slice(), bell.drain()), (&b""[..], None));
        device.publish(2, 0);
        assert!(!relay.take(&mut seen, 100));
        assert_eq!((seen.as_slice(), bell.drain()), (&b"hi"[..], Some(1)));
        device.publish(2, 0);
        assert_eq!(bell.drain(), None, "nothing changed, so nobody is rung");
    }

    #[test]
    fn reader_that_falls_behind_leaves_no_room_and_then_asks_for_a_wake() {
        let (device, mut relay, _bell) = stream();
        assert_eq!(device.room(0), RING_BYTES);
        let full = RING_BYTES as u32;
        for head in 0..full {
            device.put(head, head as u8);
        }
        assert_eq!(device.room(full), 0);
        device.publish(full, 0);
        let mut seen = Vec::new();
        assert!(relay.take(&mut seen, 10));
        assert_eq!(seen, (0..10).collect::<Vec<u8>>());
        assert_eq!(device.room(full), 10);
    }

    #[test]
    fn indices_wrap_without_losing_a_byte() {
        let (device, mut relay, _bell) = stream();
        let start = u32::MAX - 2;
        relay.out_tail = start;
        relay.take(&mut Vec::new(), 0);
        for (step, byte) in (0..).zip(b"across") {
            device.put(start.wrapping_add(step), *byte);
        }
        device.publish(start.wrapping_add(6), 0);
        let mut seen = Vec::new();
        relay.take(&mut seen, 100);
        assert_eq!(seen, b"across");
    }

    #[test]
    fn input_is_read_in_order_and_only_as_far_as_it_goes() {
        let (device, mut relay, _bell) = stream();
        assert_eq!(device.get(0), None);
        assert_eq!(relay.offer(b"ok"), 2);
        assert_eq!([device.get(0), device.get(1), device.get(2)], [Some(b'o'), Some(b'k'), None]);
        let much = vec![0; 2 * RING_BYTES];
        assert_eq!(relay.offer(&much), RING_BYTES - 2);
        assert_eq!(relay.offer(b"x"), 0);
        device.publish(0, 2);
        assert_eq!(relay.room(), 2);
    }

    #[test]
    fn lying_indices_give_neither_bytes_nor_room() {
        let (device, mut relay, _bell) = stream();
        device.publish(RING_BYTES as u32 + 1, u32::MAX - RING_BYTES as u32);
        let mut seen = Vec::new();
        assert!(!relay.take(&mut seen, usize::MAX));
        assert!(seen.is_empty());
        assert_eq!(relay.offer(b"x"), 0);
        device.rings.out_tail().store(77, Ordering::Relaxed);
        assert_eq!(device.room(5), 0);
        device.rings.in_head().store(5, Ordering::Relaxed);
        assert_eq!(device.get(6), None);
    }
}
