//! The `virtio` carrier: two split virtqueues in shared memory (Virtual I/O Device 1.2, 2.7), one for what is asked and one
//! for answers.
//!
//! | request region (VMM writes) | | answer region (host writes) | |
//! | --- | --- | --- | --- |
//! | 0 | spin count | 0 | used ring of what is asked |
//! | 64 | available ring of what is asked | 320 | used ring of answers |
//! | 192 | available ring of answers | 640 | 32 buffers for an `Answer` |
//! | 320, 832 | descriptors of both | | |
//! | 1344 | 32 buffers for an `Access` | 6016 | the bytes of a string load |
//!
//! Each side writes one region and maps the other to read, which virtio's own layout allows: a used ring and the buffers
//! that it returns are the device's, all else is the driver's. Descriptor `n` describes buffer `n` for ever, buffers are
//! used in their order, and notices are suppressed by event indices (2.7.10).
//!
//! The device's side is the `virtio-queue` crate's. The driver's, here, keeps what it wrote in memory of its own and
//! believes nothing that it reads.
#![allow(unsafe_code)] // Words in memory that another process writes are reached through raw pointers.

mod device;

pub(super) use device::VirtioDevice;

use super::layout::{ENTRIES, REQUEST_BYTES};
use super::memory::{DOUBTFUL_WAIT, USELESS_WAKES};
use super::message::{MessageCarrier, Transport};
use super::wire::{ACCESS_BYTES, ANSWER_BYTES, Buffer, with_bytes};
use super::{Retirement, SpinBudget};
use crate::{Mapping, PAGE_BYTES, ReadWrite, Region, Wake};
use schema::lane::{Access, Answer, Carrier, STRING_MAX};
use std::io;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

/// Entries of each queue: as many operations as a lane holds, and as many answers.
const SIZE: u16 = ENTRIES as u16;

/// Where the device is told that each region lies. Any two places that do not touch would do.
const REQUEST_BASE: u64 = 0x1_0000;
const ANSWER_BASE: u64 = 0x10_0000;

/// Bytes of the answer region.
pub const ANSWER_REGION_BYTES: u64 = 2 * PAGE_BYTES;

/// In the request region.
const SPIN: usize = 0;
const ASKED_AVAILABLE: usize = 64;
const ANSWERS_AVAILABLE: usize = 192;
const ASKED_DESCRIPTORS: usize = 320;
const ANSWERS_DESCRIPTORS: usize = ASKED_DESCRIPTORS + SIZE as usize * DESCRIPTOR_BYTES;
const ACCESSES: usize = ANSWERS_DESCRIPTORS + SIZE as usize * DESCRIPTOR_BYTES;
const _: () = assert!(ACCESSES + SIZE as usize * ACCESS_BYTES <= REQUEST_BYTES as usize);

/// In the answer region.
const ASKED_USED: usize = 0;
const ANSWERS_USED: usize = 320;
const ANSWERS: usize = 640;
const _: () = assert!(ASKED_USED + RING_HEAD + SIZE as usize * USED_BYTES + 2 <= ANSWERS_USED);
const _: () = assert!(ANSWERS_USED + RING_HEAD + SIZE as usize * USED_BYTES + 2 <= ANSWERS);
/// At most one operation is a string load that is not answered yet, so there is one place for its bytes.
const STRING: usize = ANSWERS + SIZE as usize * ANSWER_BYTES;
const _: () = assert!(STRING + STRING_MAX <= ANSWER_REGION_BYTES as usize);

/// Of a descriptor (2.7.5): address, length, flags, next.
const DESCRIPTOR_BYTES: usize = 16;
/// `VIRTQ_DESC_F_WRITE`: the device writes there.
const DEVICE_WRITES: u64 = 2;
/// Flags and index, before the entries of either ring (2.7.6, 2.7.8).
const RING_HEAD: usize = 4;
const INDEX: usize = 2;
/// Of an entry of a used ring: which descriptor, and how many bytes were written.
const USED_BYTES: usize = 8;

/// The VMM's end of a lane over virtqueues.
pub type VirtioCarrier = MessageCarrier<VirtioDriver>;

impl VirtioCarrier {
    /// The carrier over a [prepared](prepare_virtqueues) request region, which it writes, and an answer region, which it
    /// reads. `reply` wakes this side,
    /// `wake` the host.
    pub fn new(
        request: Mapping,
        answers: Mapping,
        reply: Wake,
        wake: Wake,
        spin: SpinBudget,
    ) -> io::Result<VirtioCarrier> {
        MessageCarrier::over(VirtioDriver::new(request, answers, spin.host)?, wake, reply, spin.vmm)
    }
}

/// Lays out both queues in a new request region and offers all buffers for answers. Whoever makes the region does it, so
/// that a host may tell what it has committed before there is a driver.
pub fn prepare_virtqueues(region: &Region<ReadWrite>) -> io::Result<()> {
    let request = region.map()?;
    for index in 0..SIZE {
        let at = usize::from(index);
        let descriptor = |table, address: u64, bytes: usize, flags: u64| {
            let start = table + at * DESCRIPTOR_BYTES;
            word(&request, start).store(address, Ordering::Relaxed);
            word(&request, start + 8).store(bytes as u64 | flags << 32, Ordering::Relaxed);
        };
        let access = REQUEST_BASE + (ACCESSES + at * ACCESS_BYTES) as u64;
        descriptor(ASKED_DESCRIPTORS, access, ACCESS_BYTES, 0);
        let answer = ANSWER_BASE + (ANSWERS + at * ANSWER_BYTES) as u64;
        descriptor(ANSWERS_DESCRIPTORS, answer, ANSWER_BYTES, DEVICE_WRITES);
        for ring in [ASKED_AVAILABLE, ANSWERS_AVAILABLE] {
            half(&request, ring + RING_HEAD + 2 * at).store(index, Ordering::Relaxed);
        }
    }
    half(&request, ANSWERS_AVAILABLE + INDEX).store(SIZE, Ordering::Release);
    Ok(())
}

/// The driver's side of both queues.
pub struct VirtioDriver {
    request: Mapping,
    answers: Mapping,
    /// How many buffers were made available and seen used, of what is asked.
    asked: Progress,
    /// And of answers.
    told: Progress,
    /// `asked.available` when it was last decided whether to ring.
    decided: u16,
    /// How often this side was woken for nothing, since an answer came.
    useless: u32,
    buffer: Buffer,
}

#[derive(Clone, Copy, Default)]
struct Progress {
    available: u16,
    used: u16,
}

/// Of answers in the beginning: all buffers are available.
const ALL_OFFERED: Progress = Progress { available: SIZE, used: 0 };

impl VirtioDriver {
    fn new(request: Mapping, answers: Mapping, spin: u32) -> io::Result<VirtioDriver> {
        if !request.writable() || (request.len() as u64) < REQUEST_BYTES || (answers.len() as u64) < ANSWER_REGION_BYTES
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the regions of a lane are not fit for virtqueues",
            ));
        }
        word(&request, SPIN).store(u64::from(spin), Ordering::Relaxed);
        let mut driver = VirtioDriver {
            request,
            answers,
            asked: Progress::default(),
            told: ALL_OFFERED,
            decided: 0,
            useless: 0,
            buffer: Buffer::new(),
        };
        driver.want_notice(false);
        Ok(driver)
    }

    /// Says whether the next answer is to be noticed: by the used event index, which is where the ring's entries end.
    fn want_notice(&mut self, wanted: bool) {
        let event = if wanted { self.told.used } else { self.told.used.wrapping_sub(1) };
        let at = ANSWERS_AVAILABLE + RING_HEAD + 2 * usize::from(SIZE);
        half(&self.request, at).store(event, Ordering::Relaxed);
    }

    /// How many buffers of the queue the device claims to have used beyond those that were seen.
    fn used(&self, ring: usize, progress: Progress) -> Result<u16, String> {
        let index = load_acquire(half(&self.answers, ring + INDEX));
        let fresh = index.wrapping_sub(progress.used);
        if fresh > progress.available.wrapping_sub(progress.used) {
            return Err(format!("its used ring goes from {} to {index}, beyond what it was given", progress.used));
        }
        Ok(fresh)
    }

    /// Checks the entry of a used ring that is next.
    fn check_used(&self, ring: usize, progress: Progress, bytes: usize) -> Result<(), String> {
        let next = progress.used % SIZE;
        let entry = ring + RING_HEAD + usize::from(next) * USED_BYTES;
        let id = double(&self.answers, entry).load(Ordering::Relaxed);
        let length = double(&self.answers, entry + 4).load(Ordering::Relaxed);
        if id != u32::from(next) || length as usize != bytes {
            return Err(format!(
                "its used ring returns buffer {id} with {length} bytes, not buffer {next} with {bytes}"
            ));
        }
        Ok(())
    }
}

impl Transport for VirtioDriver {
    const KIND: Carrier = Carrier::Virtio;

    fn send(&mut self, access: &Access) -> Result<bool, String> {
        for _ in 0..self.used(ASKED_USED, self.asked)? {
            self.check_used(ASKED_USED, self.asked, 0)?;
            self.asked.used = self.asked.used.wrapping_add(1);
        }
        if self.asked.available.wrapping_sub(self.asked.used) == SIZE {
            return Ok(false);
        }
        let start = ACCESSES + usize::from(self.asked.available % SIZE) * ACCESS_BYTES;
        with_bytes(access, |bytes| {
            for (index, bytes) in bytes.chunks_exact(8).enumerate() {
                let value = u64::from_le_bytes(bytes.try_into().expect("a chunk is of eight"));
                word(&self.request, start + 8 * index).store(value, Ordering::Relaxed);
            }
        });
        self.asked.available = self.asked.available.wrapping_add(1);
        half(&self.request, ASKED_AVAILABLE + INDEX).store(self.asked.available, Ordering::Release);
        Ok(true)
    }

    fn must_ring(&mut self) -> bool {
        let before = std::mem::replace(&mut self.decided, self.asked.available);
        // Between what is available and the look whether the host sleeps: else both could miss each other.
        fence(Ordering::SeqCst);
        let event =
            half(&self.answers, ASKED_USED + RING_HEAD + usize::from(SIZE) * USED_BYTES).load(Ordering::Relaxed);
        // `vring_need_event` of 2.7.10: whether `event` lies among what came since.
        self.decided.wrapping_sub(event).wrapping_sub(1) < self.decided.wrapping_sub(before)
    }

    fn receive(&mut self, string: &mut [u8; STRING_MAX]) -> Result<Option<Answer>, String> {
        if self.used(ANSWERS_USED, self.told)? == 0 {
            return Ok(None);
        }
        self.check_used(ANSWERS_USED, self.told, ANSWER_BYTES)?;
        let start = ANSWERS + usize::from(self.told.used % SIZE) * ANSWER_BYTES;
        for (index, bytes) in self.buffer.bytes()[..ANSWER_BYTES].chunks_exact_mut(8).enumerate() {
            bytes.copy_from_slice(&word(&self.answers, start + 8 * index).load(Ordering::Relaxed).to_le_bytes());
        }
        let answer: Answer = self.buffer.read(ANSWER_BYTES)?;
        self.answers.read(STRING, &mut string[..usize::from(answer.bytes)]);
        self.told.used = self.told.used.wrapping_add(1);
        self.told.available = self.told.available.wrapping_add(1);
        half(&self.request, ANSWERS_AVAILABLE + INDEX).store(self.told.available, Ordering::Release);
        self.useless = 0;
        Ok(Some(answer))
    }

    fn renew(&mut self) -> Result<(), String> {
        // The answer region was wiped, so its indices begin at zero; and so do those of this side.
        (self.asked, self.told, self.decided, self.useless) = (Progress::default(), ALL_OFFERED, 0, 0);
        half(&self.request, ASKED_AVAILABLE + INDEX).store(self.asked.available, Ordering::Relaxed);
        half(&self.request, ANSWERS_AVAILABLE + INDEX).store(self.told.available, Ordering::Release);
        self.want_notice(false);
        Ok(())
    }

    fn wait(&mut self, retirement: &Retirement, room: bool, most: Duration) {
        self.want_notice(true);
        // Before the last look: else the host could tell, see nobody waiting, and never ring.
        fence(Ordering::SeqCst);
        if self.used(ANSWERS_USED, self.told) == Ok(0) {
            match retirement.waiter() {
                // That there is room again is not noticed: it is rare, and looked for.
                Some(reply) if !room && self.useless < USELESS_WAKES => {
                    if !matches!(reply.wait(most), Ok(false)) {
                        reply.drain();
                        self.useless += 1;
                    }
                }
                _ => std::thread::sleep(most.min(DOUBTFUL_WAIT)),
            }
        }
        self.want_notice(false);
    }
}

/// A half word that either side writes and never mixes with other sizes.
fn half(mapping: &Mapping, offset: usize) -> &AtomicU16 {
    check::<AtomicU16>(mapping, offset);
    // SAFETY: `check` found it aligned and inside the mapping, which lives as long as the borrow. A peer may store anything:
    // each value is one that a `u16` can have.
    unsafe { AtomicU16::from_ptr(mapping.as_ptr().add(offset).cast()) }
}

/// As [`half`], of 32 bits.
fn double(mapping: &Mapping, offset: usize) -> &AtomicU32 {
    check::<AtomicU32>(mapping, offset);
    // SAFETY: as in `half`.
    unsafe { AtomicU32::from_ptr(mapping.as_ptr().add(offset).cast()) }
}

/// As [`half`], of 64 bits.
fn word(mapping: &Mapping, offset: usize) -> &AtomicU64 {
    check::<AtomicU64>(mapping, offset);
    // SAFETY: as in `half`.
    unsafe { AtomicU64::from_ptr(mapping.as_ptr().add(offset).cast()) }
}

fn check<T>(mapping: &Mapping, offset: usize) {
    assert!(
        offset.is_multiple_of(align_of::<T>()) && offset + size_of::<T>() <= mapping.len(),
        "offsets are constants"
    );
}

/// Loads with acquire order, also from memory that is mapped read-only, where Rust promises relaxed loads alone.
fn load_acquire(half: &AtomicU16) -> u16 {
    let value = half.load(Ordering::Relaxed);
    fence(Ordering::Acquire);
    value
}
