//! The VMM's read-only look at what a host has committed.

use super::layout::{
    COMMIT, CommitWord, DEADLINE, DOORBELLS, FALLS, GENERATION, MASKS, NO_DEADLINE, REPLY_AND_LEVELS, REPLY_VALUE,
    SHADOW, UNKNOWN, falls_shift, header_word, load_acquire, string_offsets, word,
};
use crate::Mapping;
use schema::manifest::SHADOW_MAX;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// How often a read is tried again when the host commits meanwhile. A commit takes longer than a read, so an honest host is
/// overtaken at once; a hostile one must not keep a vcpu here.
const RETRIES: u32 = 64;

/// The levels of a device's lines.
///
/// Who looks at levels now and then misses a line that went low and high again, and with it the edge that an ISA interrupt
/// is. So the host counts what fell, and the count is committed with the levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Levels {
    /// Bit `n`: line `n` is high.
    pub high: u32,
    /// Commits in which a line went low, modulo 2^32.
    pub falls: u32,
}

impl Levels {
    /// Bit `n`: line `n` is high, and was low at some time since `earlier`, or may have been: which line it was that fell is
    /// not counted.
    #[must_use]
    pub const fn rose_since(self, earlier: Levels) -> u32 {
        if self.falls == earlier.falls { self.high & !earlier.high } else { self.high }
    }
}

/// A device's state region, to read.
///
/// Everything here is a host's claim: any value may come, the one that is a place is checked, and no read waits or loops without
/// bound.
#[derive(Clone)]
pub struct StateView(Arc<Mapping>);

impl StateView {
    /// The region of this mapping.
    pub fn new(mapping: impl Into<Arc<Mapping>>) -> StateView {
        StateView(mapping.into())
    }

    /// The commit word.
    #[must_use]
    pub fn committed(&self) -> CommitWord {
        CommitWord(load_acquire(word(&self.0, COMMIT)))
    }

    /// The committed levels of the lines.
    #[must_use]
    pub fn levels(&self) -> Levels {
        let (read, _) =
            self.read(|header| Levels { high: (header.word(REPLY_AND_LEVELS) >> 32) as u32, falls: header.falls() });
        read
    }

    /// When the device's alarm is due, in nanoseconds of the guest clock.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let (read, _) = self.read(|header| header.word(DEADLINE));
        Some(read).filter(|deadline| *deadline != NO_DEADLINE)
    }

    /// Doorbells that the device answered.
    #[must_use]
    pub fn doorbells(&self) -> u64 {
        word(&self.0, DOORBELLS).load(Ordering::Relaxed)
    }

    /// Accesses that hit no register.
    #[must_use]
    pub fn unknown(&self) -> u64 {
        word(&self.0, UNKNOWN).load(Ordering::Relaxed)
    }

    /// The shadow value in `slot`, if it is valid and no alarm is due at `now`, which would have to happen first.
    pub(super) fn shadow(&self, slot: u8, now: u64) -> Option<u64> {
        let slot = usize::from(slot);
        if slot >= SHADOW_MAX {
            return None;
        }
        let (value, consistent) = self.read(|header| {
            let valid = header.word(MASKS) >> 32 & 1 << slot != 0 && now < header.word(DEADLINE);
            valid.then(|| header.word(SHADOW + 8 * slot))
        });
        value.filter(|_| consistent)
    }

    /// Which kinds of writes may be posted; none while an alarm is due at `now`, which would have to happen first.
    pub(super) fn postable(&self, now: u64) -> u32 {
        let (mask, consistent) =
            self.read(|header| if now < header.word(DEADLINE) { header.word(MASKS) as u32 } else { 0 });
        if consistent { mask } else { 0 }
    }

    /// The stored reply and the sequence that it answers. `None`: the host never stopped committing.
    pub(super) fn reply(&self) -> Option<(u32, u64)> {
        let (reply, consistent) = self.read(|header| (header.word(REPLY_AND_LEVELS) as u32, header.word(REPLY_VALUE)));
        consistent.then_some(reply)
    }

    /// Copies the bytes of string load `sequence`, which is committed. False: there are not as many, or they are another's.
    pub(super) fn string(&self, sequence: u32, into: &mut [u8]) -> bool {
        let (which, place) = string_offsets(&self.0);
        if load_acquire(word(&self.0, which)) != u64::from(sequence) | (into.len() as u64) << 32 {
            return false;
        }
        self.0.read(place, into);
        true
    }

    /// Copies bytes of the region. False: it has no such place.
    pub(super) fn bytes(&self, place: u32, into: &mut [u8]) -> bool {
        let place = place as usize;
        let is_inside = place.checked_add(into.len()).is_some_and(|end| end <= self.0.len());
        if is_inside {
            self.0.read(place, into);
        }
        is_inside
    }

    /// The sleep generation.
    pub(super) fn generation(&self) -> &AtomicU64 {
        word(&self.0, GENERATION)
    }

    /// Reads words of the current header, and whether they belong together.
    pub(super) fn read<T>(&self, read: impl Fn(Words<'_>) -> T) -> (T, bool) {
        let mut tries = 0;
        loop {
            let before = self.committed();
            let value = read(Words { mapping: &self.0, copy: before.copy() });
            fence(Ordering::Acquire);
            let after = word(&self.0, COMMIT).load(Ordering::Relaxed);
            tries += 1;
            if after == before.0 || tries == RETRIES {
                return (value, after == before.0);
            }
        }
    }
}

/// The words of one copy's header.
#[derive(Clone, Copy)]
pub(super) struct Words<'a> {
    mapping: &'a Mapping,
    copy: usize,
}

impl Words<'_> {
    pub(super) fn word(self, field: usize) -> u64 {
        word(self.mapping, header_word(self.copy, field)).load(Ordering::Relaxed)
    }

    fn falls(self) -> u32 {
        (word(self.mapping, FALLS).load(Ordering::Relaxed) >> falls_shift(self.copy)) as u32
    }
}
