//! Where everything lies in the two regions of a lane on the `memory` carrier.
//!
//! | request region (VMM writes) | | state region (host writes) | |
//! | --- | --- | --- | --- |
//! | 0 | spin count, waiter word | 0 | commit word, the answer of each copy, falls: what a waiter needs |
//! | 2048 | 32 entries of 64 bytes | 64 | sleep generation, format |
//! | | | 128 | counters, the operation under way |
//! | | | 256, 384 | the rest of the header of each copy |
//! | | | 512 | hot state, copy 0; copy 1 from the next line on; bulk state after it |
//! | | | last 576 | the bytes of a string load, and which |
//!
//! An answer lies in the commit word's own line, so that the line which brings a waiter its commit brings all that it reads
//! next: where processors are far apart, each line more is a fifth of a round trip.
//!
//! Both regions are touched only by whole, aligned, atomic words of 64 bits: no size is ever mixed at one address, and no
//! reference to bytes that a peer may write exists. The exceptions are the hot state, which the host alone writes and reads,
//! and the bytes of a string load: they are there before its commit, and stay until the VMM, which has taken them, issues the
//! next one. So there is one place for them, and no copy.
#![allow(unsafe_code)] // A word in memory that another process writes is reached through a raw pointer.

use crate::{Mapping, PAGE_BYTES};
use schema::lane::{Access, Operation, STRING_MAX};
use schema::manifest::SHADOW_MAX;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Bytes of the request region of a lane: one page.
pub const REQUEST_BYTES: u64 = PAGE_BYTES;

/// Bytes of the state region of a device with `state_bytes` of hot state and `bulk_bytes` of bulk state: whole pages.
#[must_use]
pub fn state_region_bytes(state_bytes: u32, bulk_bytes: u32) -> u64 {
    (bulk_offset(state_bytes) as u64 + u64::from(bulk_bytes) + STRING_BYTES as u64).next_multiple_of(PAGE_BYTES)
}

/// What one core hands to another at once.
const LINE_BYTES: usize = 64;

/// Entries of the ring. A power of two, so that a slot is a sequence modulo it also where the sequence wraps; enough for
/// what a guest posts while a host wakes up (a UART's FIFO holds 16), and small enough for header and ring in one page.
pub(super) const ENTRIES: u32 = 32;
const ENTRY_BYTES: usize = 64;
const RING: usize = 2048;
const _: () = assert!(RING + ENTRIES as usize * ENTRY_BYTES == REQUEST_BYTES as usize && ENTRIES.is_power_of_two());

/// How many times a host that found nothing to do looks again before it sleeps.
pub(super) const SPIN: usize = 0;
/// Whether the VMM's waiter sleeps, and for which sequence.
pub(super) const WAITER: usize = 8;

/// [`CommitWord`].
pub(super) const COMMIT: usize = 0;
/// Odd while the host sleeps, or is about to.
pub(super) const GENERATION: usize = LINE_BYTES;
/// Which layout the copies have: set once a first state is committed.
pub(super) const FORMAT: usize = LINE_BYTES + 8;
/// Doorbells that the device answered.
pub(super) const DOORBELLS: usize = 2 * LINE_BYTES;
/// Accesses that hit no register.
pub(super) const UNKNOWN: usize = 2 * LINE_BYTES + 8;
/// Sequence of the operation that the device was given last, done or not: for who asks what a host died of.
pub(super) const ATTEMPTED: usize = 2 * LINE_BYTES + 16;

/// At the end of a state region: sequence of a string load (low half) and its bytes (high half), then these from the next line
/// on.
const STRING_BYTES: usize = LINE_BYTES + STRING_MAX;
const _: () = assert!(HOT + STRING_BYTES <= PAGE_BYTES as usize, "a region has room for both, whatever its size");

/// An answer: the first words of a header.
const ANSWER_BYTES: usize = 24;
const ANSWERS: usize = COMMIT + 8;
/// How often a level had fallen, modulo 2^32: for copy 0 in the low half, for copy 1 in the high one.
pub(super) const FALLS: usize = ANSWERS + 2 * ANSWER_BYTES;
const _: () = assert!(FALLS + 8 <= LINE_BYTES, "the answers lie in the commit word's line");

/// The other words.
const HEADERS: usize = 256;
const HEADER_BYTES: usize = 128;
const HOT: usize = HEADERS + 2 * HEADER_BYTES;
const _: () = assert!(HOT as u64 <= PAGE_BYTES, "a region is at least a page, so its fixed part is always there");

/// The words of a header, for [`header_word`]. The first three are its answer.
pub(super) const REPLY_VALUE: usize = 0;
/// Low half: sequence of the operation that the reply answers. High half: irq levels.
pub(super) const REPLY_AND_LEVELS: usize = 8;
/// Guest clock; [`NO_DEADLINE`].
pub(super) const DEADLINE: usize = 16;
/// Low half: postable mask. High half: which shadow values are valid.
pub(super) const MASKS: usize = 24;
pub(super) const SHADOW: usize = 32;
/// Guest clock at the commit.
pub(super) const NOW: usize = SHADOW + 8 * SHADOW_MAX;
const _: () = assert!(DEADLINE + 8 == ANSWER_BYTES && NOW + 8 - ANSWER_BYTES <= HEADER_BYTES);

/// No alarm is due, ever: the guest clock takes 584 years to get there.
pub(super) const NO_DEADLINE: u64 = u64::MAX;

/// Where a word of the header of `copy`, 0 or 1, is.
pub(super) const fn header_word(copy: usize, field: usize) -> usize {
    if field < ANSWER_BYTES {
        ANSWERS + copy * ANSWER_BYTES + field
    } else {
        HEADERS + copy * HEADER_BYTES + field - ANSWER_BYTES
    }
}

/// Where the count of `copy`, 0 or 1, begins in the word of [`FALLS`].
pub(super) const fn falls_shift(copy: usize) -> u32 {
    copy as u32 * u32::BITS
}

/// Start of the hot state of `copy`, 0 or 1. Aligned to a line.
pub(super) const fn hot_offset(state_bytes: u32, copy: usize) -> usize {
    HOT + copy * (state_bytes as usize).next_multiple_of(LINE_BYTES)
}

/// Start of the bulk state.
pub(super) const fn bulk_offset(state_bytes: u32) -> usize {
    hot_offset(state_bytes, 2)
}

/// Where the word before the bytes of a string load is, and where these are.
pub(super) fn string_offsets(mapping: &Mapping) -> (usize, usize) {
    let first = mapping.len() - STRING_BYTES;
    (first, first + LINE_BYTES)
}

/// The word at `offset`.
pub(super) fn word(mapping: &Mapping, offset: usize) -> &AtomicU64 {
    debug_assert!(offset.is_multiple_of(8) && offset + 8 <= mapping.len());
    // SAFETY: callers pass offsets of this module, which lie in the first page or in the last, and every region has one; mappings are
    // page aligned and live as long as the borrow. These words are only ever accessed atomically. A peer may store
    // anything: each value is one that a `u64` can have.
    unsafe { AtomicU64::from_ptr(mapping.as_ptr().add(offset).cast()) }
}

/// Loads with acquire order, also from memory that is mapped read-only, where Rust promises relaxed loads alone.
pub(super) fn load_acquire(word: &AtomicU64) -> u64 {
    let value = word.load(Ordering::Relaxed);
    fence(Ordering::Acquire);
    value
}

/// The word that makes a new state, its header and its reply take effect at once.
///
/// Sequence of the last operation (32 bits, high), events committed (31), current copy (1). Without the event count, two
/// events would bring the same word back, and a reader that was interrupted between them would be fooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CommitWord(pub(super) u64);

impl CommitWord {
    const EVENTS: u64 = 0x7fff_ffff;

    /// Sequence of the last operation that took effect, modulo 2^32.
    #[must_use]
    pub const fn sequence(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// How many events took effect, modulo 2^31.
    #[must_use]
    pub const fn events(self) -> u32 {
        ((self.0 >> 1) & Self::EVENTS) as u32
    }

    /// Index of the current copy.
    #[must_use]
    pub const fn copy(self) -> usize {
        (self.0 & 1) as usize
    }

    /// The word after operation `sequence` took effect.
    pub(super) const fn after(self, sequence: u32) -> CommitWord {
        CommitWord((sequence as u64) << 32 | (self.0 & 0xffff_ffff) ^ 1)
    }

    /// The word after an event took effect.
    pub(super) const fn after_event(self) -> CommitWord {
        let events = (self.0 >> 1).wrapping_add(1) & Self::EVENTS;
        CommitWord((self.0 >> 32) << 32 | events << 1 | (self.0 & 1) ^ 1)
    }
}

/// Whether `sequence` has happened when `committed` was the last one, modulo wrap.
pub(super) const fn has_happened(sequence: u32, committed: u32) -> bool {
    committed.wrapping_sub(sequence) < 1 << 31
}

/// The words of an entry, in the layout of the data section of the schema's `Access`. The first one is stored last: it
/// holds the sequence.
pub(super) const fn encode(access: &Access) -> [u64; 4] {
    let first = access.sequence as u64
        | (access.operation as u64) << 32
        | (access.range as u64) << 48
        | (access.width as u64) << 56;
    [first, access.offset, access.value, access.now]
}

/// The entry of these words; `Err` has the number of an operation that is none.
pub(super) fn decode(words: [u64; 4]) -> Result<Access, u16> {
    let [first, offset, value, now] = words;
    let operation = (first >> 32) as u16;
    let operation = Operation::from_raw(operation).ok_or(operation)?;
    Ok(Access {
        sequence: first as u32,
        operation,
        range: (first >> 48) as u8,
        width: (first >> 56) as u8,
        offset,
        value,
        now,
    })
}

/// Start of the entry of `sequence`.
pub(super) const fn entry_offset(sequence: u32) -> usize {
    RING + (sequence % ENTRIES) as usize * ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Region;

    const ACCESS: Access = Access {
        sequence: 0x8765_4321,
        operation: Operation::Post,
        range: 3,
        width: 8,
        offset: 0x1122_3344_5566_7788,
        value: u64::MAX - 1,
        now: 1 << 62 | 5,
    };

    /// The data section of `Access` as Cap'n Proto lays it out: what follows the root pointer of a one-segment message.
    fn data_section(access: &Access) -> Vec<u8> {
        let mut memory = [0; 256];
        let mut message = capnp::message::Builder::new(capnp::message::SingleSegmentAllocator::new(&mut memory));
        schema::Body::encode(access, &mut message);
        message.get_segments_for_output()[0][8..].to_vec()
    }

    #[test]
    fn entry_is_the_data_section_of_the_schemas_access() {
        let section = data_section(&ACCESS);
        assert_eq!(section.len(), ENTRY_BYTES);
        let words = encode(&ACCESS);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(section[..32], bytes);
        assert!(section[32..].iter().all(|byte| *byte == 0), "the reserved words");
    }

    #[test]
    fn entry_comes_back_as_it_was() {
        assert_eq!(decode(encode(&ACCESS)), Ok(ACCESS));
        assert_eq!(decode([11 << 32, 0, 0, 0]), Err(11));
    }

    #[test]
    fn each_commit_changes_the_word_and_the_copy() {
        let start = CommitWord::default();
        let served = start.after(1);
        assert_eq!((served.sequence(), served.events(), served.copy()), (1, 0, 1));
        let event = served.after_event();
        assert_eq!((event.sequence(), event.events(), event.copy()), (1, 1, 0));
        let last_event = CommitWord(7 << 32 | CommitWord::EVENTS << 1 | 1);
        let wrapped = last_event.after_event();
        assert_eq!((wrapped.sequence(), wrapped.events(), wrapped.copy()), (7, 0, 0));
        let last_operation = CommitWord(u64::from(u32::MAX) << 32 | 4);
        assert_eq!((last_operation.after(0).sequence(), last_operation.after(0).events()), (0, 2));
    }

    #[test]
    fn parts_of_a_region_do_not_overlap() {
        for state_bytes in [1, 8, 64, 65, 1024, 70_000] {
            let (first, second, bulk) =
                (hot_offset(state_bytes, 0), hot_offset(state_bytes, 1), bulk_offset(state_bytes));
            assert!(header_word(1, NOW) + 8 <= first && header_word(0, NOW) + 8 <= header_word(1, MASKS));
            assert!(first + state_bytes as usize <= second && second + state_bytes as usize <= bulk);
            assert!([first, second, bulk].iter().all(|offset| offset.is_multiple_of(LINE_BYTES)));
            let region = state_region_bytes(state_bytes, 5000);
            assert!(bulk as u64 + 5000 + STRING_BYTES as u64 <= region && region - STRING_BYTES as u64 >= HOT as u64);
        }
    }

    #[test]
    fn word_is_seen_through_every_mapping_of_the_region() {
        let region = Region::create("cofferdam:test", REQUEST_BYTES).unwrap();
        let (writer, reader) = (region.map().unwrap(), region.read_only().unwrap().map().unwrap());
        word(&writer, WAITER).store(77, Ordering::Relaxed);
        assert_eq!(load_acquire(word(&reader, WAITER)), 77);
    }
}
