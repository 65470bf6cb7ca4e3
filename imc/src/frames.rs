//! A pair of rings of network frames in a region: how frames leave a device host that has no descriptor to write them to.
//!
//! The first page holds four indices, each in a cache line of its own; then comes the ring of what the device sends, then that
//! of what it receives. Both have slots of fixed size: a length, then the frame. Indices count frames modulo 2^32, so a ring is
//! never ambiguous between full and empty. Neither side believes the other's index further than to find fewer frames or less
//! room, nor a length further than to find a frame that is none.
//!
//! The device keeps its indices in its committed state, as with a stream. The relay keeps its own in the region alone, and so
//! does a new incarnation of it go on where the last one published: a frame may be lost or doubled then, as on a wire.
#![allow(unsafe_code)] // Memory that another process stores to has no references, only pointers.

use crate::{Mapping, Wake};
use schema::host::{FRAME_MAX, FRAME_SLOT_BYTES, FRAME_SLOTS, FRAMES_REGION_BYTES};
use std::sync::atomic::{AtomicU32, Ordering};

const INDEX_BYTES: usize = 4096;
const CACHE_LINE: usize = 64;
const RING_BYTES: usize = FRAME_SLOTS as usize * FRAME_SLOT_BYTES;
const LENGTH_BYTES: usize = size_of::<u32>();
const _: () = assert!(FRAME_SLOTS.is_power_of_two() && LENGTH_BYTES + FRAME_MAX <= FRAME_SLOT_BYTES);
const _: () = assert!(FRAMES_REGION_BYTES == (INDEX_BYTES + 2 * RING_BYTES) as u64);

/// The device's end. Its methods are those of the SDK's `Frames`.
pub struct FramesDevice {
    rings: Rings,
    bell: Wake,
}

/// The other end, outside the device host.
pub struct FramesRelay {
    rings: Rings,
    /// Frames taken from the out ring.
    out_tail: u32,
    /// Frames put into the in ring.
    in_head: u32,
}

impl FramesDevice {
    /// Takes the region's mapping and the relay's bell.
    ///
    /// # Panics
    /// When the mapping is smaller than [`FRAMES_REGION_BYTES`] or may not be stored to: whoever granted it is broken.
    pub fn new(mapping: Mapping, bell: Wake) -> Self {
        FramesDevice { rings: Rings::new(mapping), bell }
    }

    /// Whether there is a frame at `received` of the in ring.
    pub fn has(&self, received: u32) -> bool {
        used(self.rings.in_head().load(Ordering::Acquire).wrapping_sub(received)) > 0
    }

    /// Copies the frame at `received` of the in ring, if there is one, and says how long it is.
    pub fn receive(&self, received: u32, into: &mut [u8; FRAME_MAX]) -> Option<usize> {
        self.has(received).then(|| self.rings.load(Ring::In, received, into))
    }

    /// Whether the out ring has room for one more frame when `sent` have been put in all.
    pub fn has_room(&self, sent: u32) -> bool {
        free(sent.wrapping_sub(self.rings.out_tail().load(Ordering::Acquire))) > 0
    }

    /// Puts a frame at `sent` of the out ring, which must have [room](FramesDevice::has_room). It means nothing until
    /// [`FramesDevice::publish`].
    pub fn send(&self, sent: u32, frame: &[u8]) {
        self.rings.store(Ring::Out, sent, frame);
    }

    /// Publishes the committed indices, and rings the relay if they changed.
    pub fn publish(&self, sent: u32, received: u32) {
        if self.published() != (sent, received) {
            self.rings.in_tail().store(received, Ordering::Release);
            self.rings.out_head().store(sent, Ordering::Release);
            // The relay looks at the indices whenever it wakes, and nobody could be told that it cannot be woken.
            let _ = self.bell.signal(1);
        }
    }

    /// The indices published last, sent and received.
    pub fn published(&self) -> (u32, u32) {
        (self.rings.out_head().load(Ordering::Relaxed), self.rings.in_tail().load(Ordering::Relaxed))
    }
}

impl FramesRelay {
    /// Takes the mapping of a region, which an earlier relay may have used.
    ///
    /// # Panics
    /// When the mapping is smaller than [`FRAMES_REGION_BYTES`] or may not be stored to.
    pub fn new(mapping: Mapping) -> Self {
        let rings = Rings::new(mapping);
        let (out_tail, in_head) = (rings.out_tail().load(Ordering::Relaxed), rings.in_head().load(Ordering::Relaxed));
        let mut relay = FramesRelay { rings, out_tail, in_head };
        relay.recover();
        relay
    }

    /// Goes on from the device's own indices where they and ours cannot both be true: frames are lost, and no more than that.
    fn recover(&mut self) {
        let sent = self.rings.out_head().load(Ordering::Acquire);
        if sent.wrapping_sub(self.out_tail) > FRAME_SLOTS {
            self.out_tail = sent;
            self.rings.out_tail().store(sent, Ordering::Release);
        }
        let received = self.rings.in_tail().load(Ordering::Acquire);
        if self.in_head.wrapping_sub(received) > FRAME_SLOTS {
            self.in_head = received;
            self.rings.in_head().store(received, Ordering::Release);
        }
    }

    /// Hands over the next frame that the device has sent, if there is one. It is taken once `act` says so.
    ///
    /// `Some(true)`: the ring was more than half full, so the device may be waiting for room, and its host is to be woken. Half,
    /// because frames that the device has put and not yet published take room as well.
    pub fn take(&mut self, into: &mut [u8; FRAME_MAX], act: impl FnOnce(&[u8]) -> bool) -> Option<bool> {
        let there = used(self.rings.out_head().load(Ordering::Acquire).wrapping_sub(self.out_tail));
        if there == 0 {
            return None;
        }
        let length = self.rings.load(Ring::Out, self.out_tail, into);
        if !act(&into[..length]) {
            return None;
        }
        self.out_tail = self.out_tail.wrapping_add(1);
        // The device may put a new frame over this one only once it is read.
        self.rings.out_tail().store(self.out_tail, Ordering::Release);
        Some(there > FRAME_SLOTS / 2)
    }

    /// Whether a frame may be offered.
    pub fn has_room(&self) -> bool {
        free(self.in_head.wrapping_sub(self.rings.in_tail().load(Ordering::Acquire))) > 0
    }

    /// Gives the device a frame, if there is room. Its host is to be woken then.
    pub fn offer(&mut self, frame: &[u8]) -> bool {
        let room = self.has_room();
        if room {
            self.rings.store(Ring::In, self.in_head, frame);
            self.in_head = self.in_head.wrapping_add(1);
            self.rings.in_head().store(self.in_head, Ordering::Release);
        }
        room
    }
}

/// Free slots of a ring with this claimed fill; none when the claim is impossible.
fn free(claimed: u32) -> u32 {
    FRAME_SLOTS.saturating_sub(claimed)
}

/// Frames in a ring with this claimed fill; none when the claim is impossible.
fn used(claimed: u32) -> u32 {
    if claimed <= FRAME_SLOTS { claimed } else { 0 }
}

/// One of the two rings, by where it begins.
#[derive(Clone, Copy)]
enum Ring {
    Out = INDEX_BYTES as isize,
    In = (INDEX_BYTES + RING_BYTES) as isize,
}

struct Rings(Mapping);

impl Rings {
    fn new(mapping: Mapping) -> Rings {
        assert!(
            mapping.len() as u64 >= FRAMES_REGION_BYTES && mapping.writable(),
            "a region of frames has its fixed size"
        );
        Rings(mapping)
    }

    fn out_head(&self) -> &AtomicU32 {
        self.word(0)
    }
    fn out_tail(&self) -> &AtomicU32 {
        self.word(CACHE_LINE)
    }
    fn in_head(&self) -> &AtomicU32 {
        self.word(2 * CACHE_LINE)
    }
    fn in_tail(&self) -> &AtomicU32 {
        self.word(3 * CACHE_LINE)
    }

    fn slot(ring: Ring, index: u32) -> usize {
        ring as usize + (index % FRAME_SLOTS) as usize * FRAME_SLOT_BYTES
    }

    /// Copies a frame out and says how long it is: as long as it says, or nothing where that is too long.
    fn load(&self, ring: Ring, index: u32, into: &mut [u8; FRAME_MAX]) -> usize {
        let at = Self::slot(ring, index);
        let claimed = self.word(at).load(Ordering::Relaxed) as usize;
        let length = if claimed <= FRAME_MAX { claimed } else { 0 };
        self.0.read(at + LENGTH_BYTES, &mut into[..length]);
        length
    }

    /// Copies a frame in, as far as there is room for it.
    fn store(&self, ring: Ring, index: u32, frame: &[u8]) {
        let at = Self::slot(ring, index);
        let frame = &frame[..frame.len().min(FRAME_MAX)];
        self.0.write(at + LENGTH_BYTES, frame);
        self.word(at).store(frame.len() as u32, Ordering::Relaxed);
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(align_of::<AtomicU32>()) && at + size_of::<u32>() <= FRAMES_REGION_BYTES as usize);
        // SAFETY: inside the mapping, as was asserted here and by `new`, which lives as long as `self`; aligned; and only ever
        // touched as an atomic of this size.
        unsafe { AtomicU32::from_ptr(self.0.as_ptr().add(at).cast()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ReadWrite, Region};

    fn region() -> Region<ReadWrite> {
        Region::create("frames", FRAMES_REGION_BYTES).unwrap()
    }

    fn frames() -> (FramesDevice, FramesRelay, Wake) {
        let region = region();
        let bell = Wake::create().unwrap();
        let device = FramesDevice::new(region.map().unwrap(), bell.try_clone().unwrap());
        (device, FramesRelay::new(region.map().unwrap()), bell)
    }

    /// What the relay takes next.
    fn taken(relay: &mut FramesRelay) -> Option<Vec<u8>> {
        let mut frame = None;
        relay.take(&mut [0; FRAME_MAX], |bytes| {
            frame = Some(bytes.to_vec());
            true
        })?;
        frame
    }

    #[test]
    fn lying_indices_give_neither_frames_nor_room() {
        let (device, mut relay, _bell) = frames();
        device.publish(FRAME_SLOTS + 1, 0u32.wrapping_sub(FRAME_SLOTS + 1));
        assert_eq!((taken(&mut relay), relay.offer(b"x")), (None, false));
        device.rings.out_tail().store(77, Ordering::Relaxed);
        assert!(!device.has_room(5));
        device.rings.in_head().store(5, Ordering::Relaxed);
        assert!(!device.has(6) && device.receive(6, &mut [0; FRAME_MAX]).is_none());
    }

    #[test]
    fn frame_that_claims_more_than_there_is_room_for_is_empty() {
        let (device, mut relay, _bell) = frames();
        device.send(0, b"frame");
        device.rings.word(Rings::slot(Ring::Out, 0)).store(FRAME_MAX as u32 + 1, Ordering::Relaxed);
        device.publish(1, 0);
        assert_eq!(taken(&mut relay), Some(vec![]));
    }

    #[test]
    fn frames_appear_once_they_are_published() {
        let (device, mut relay, bell) = frames();
        device.send(0, b"one");
        device.send(1, b"two");
        assert_eq!((taken(&mut relay), bell.drain()), (None, None));
        device.publish(2, 0);
        assert_eq!((taken(&mut relay), bell.drain()), (Some(b"one".to_vec()), Some(1)));
        device.publish(2, 0);
        assert_eq!((taken(&mut relay), bell.drain()), (Some(b"two".to_vec()), None), "nothing changed: nobody is rung");
        assert_eq!(taken(&mut relay), None);
    }

    #[test]
    fn frame_that_cannot_be_handed_on_is_there_the_next_time() {
        let (device, mut relay, _bell) = frames();
        device.send(0, b"frame");
        device.publish(1, 0);
        assert_eq!(relay.take(&mut [0; FRAME_MAX], |_| false), None);
        assert_eq!(taken(&mut relay), Some(b"frame".to_vec()));
    }

    #[test]
    fn relay_that_falls_behind_leaves_no_room_and_then_asks_for_a_wake() {
        let (device, mut relay, _bell) = frames();
        for index in 0..FRAME_SLOTS {
            assert!(device.has_room(index));
            device.send(index, &index.to_le_bytes());
        }
        assert!(!device.has_room(FRAME_SLOTS));
        device.publish(FRAME_SLOTS, 0);
        assert_eq!(relay.take(&mut [0; FRAME_MAX], |_| true), Some(true));
        assert!(device.has_room(FRAME_SLOTS) && !device.has_room(FRAME_SLOTS + 1));
    }

    #[test]
    fn frames_are_received_in_order_and_only_as_far_as_they_go() {
        let (device, mut relay, _bell) = frames();
        let mut frame = [0; FRAME_MAX];
        assert_eq!(device.receive(0, &mut frame), None);
        assert!(relay.offer(b"one") && relay.offer(&[7; FRAME_MAX + 1]));
        assert_eq!((device.receive(0, &mut frame), &frame[..3]), (Some(3), &b"one"[..]));
        assert_eq!((device.receive(1, &mut frame), frame[FRAME_MAX - 1]), (Some(FRAME_MAX), 7));
        assert_eq!(device.receive(2, &mut frame), None);
        while relay.offer(b"more") {}
        device.publish(0, 2);
        assert!(relay.offer(b"a") && relay.offer(b"b") && !relay.offer(b"c"));
    }

    #[test]
    fn new_relay_goes_on_where_the_last_one_was() {
        let region = region();
        let bell = Wake::create().unwrap();
        let device = FramesDevice::new(region.map().unwrap(), bell);
        let relay = || FramesRelay::new(region.map().unwrap());
        device.send(0, b"one");
        device.send(1, b"two");
        device.publish(2, 0);
        assert_eq!(taken(&mut relay()), Some(b"one".to_vec()));
        assert!(relay().offer(b"in"));
        assert_eq!(taken(&mut relay()), Some(b"two".to_vec()));
        assert!(device.has(0) && !device.has(1));
    }

    #[test]
    fn new_relay_that_finds_impossible_indices_loses_frames_and_goes_on() {
        let region = region();
        let device = FramesDevice::new(region.map().unwrap(), Wake::create().unwrap());
        device.publish(5000, 9000);
        let mut relay = FramesRelay::new(region.map().unwrap());
        assert_eq!(taken(&mut relay), None);
        device.send(5000, b"frame");
        device.publish(5001, 9000);
        assert_eq!(taken(&mut relay), Some(b"frame".to_vec()));
        assert!(relay.offer(b"in") && device.has(9000));
    }
}
