//! How two sides of shared memory sleep and wake each other without losing a wake-up.
//!
//! Who is about to sleep says so, fences, and looks once more. Who has published fences, and looks whether somebody sleeps.
//! Of the two at least one sees the other. It is so in both directions: a host says by its *sleep generation* that it
//! sleeps, the VMM's waiter by its *waiter word* for what.
//!
//! All of it is here, over any [`Word`]: what runs in production is what the models in `waiting/models.rs` check.

#[cfg(test)]
mod models;

use super::layout::has_happened;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// A word that both sides see.
///
/// Loads and stores order nothing: what is published before a fence, and looked for after one, is all that matters.
pub(super) trait Word {
    /// What is in it.
    fn load(&self) -> u64;
    /// Puts a value into it.
    fn store(&self, value: u64);
    /// A sequentially consistent fence of this side.
    fn fence(_: Side);
}

/// Whose fence it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Between what is published and the look whether somebody sleeps.
    Publisher,
    /// Between the word that somebody sleeps and the last look for what is published.
    Sleeper,
}

impl Word for AtomicU64 {
    fn load(&self) -> u64 {
        AtomicU64::load(self, Ordering::Relaxed)
    }

    fn store(&self, value: u64) {
        AtomicU64::store(self, value, Ordering::Relaxed);
    }

    fn fence(_side: Side) {
        #[cfg(test)]
        if super::tests::wakes::is_removed(_side) {
            return;
        }
        fence(Ordering::SeqCst);
    }
}

/// Who can sleep until something is published.
pub trait Sleeper {
    /// What ends its sleep.
    type Reason;

    /// Says that it is about to sleep. On return that is ordered before the look that follows.
    fn fall_asleep(&mut self);

    /// Looks whether there is a reason not to sleep.
    fn look(&mut self) -> Option<Self::Reason>;

    /// Sleeps until it is rung. Without a reason of its own it looks again.
    fn rest(&mut self) -> Option<Self::Reason>;

    /// Says that it is awake.
    fn wake_up(&mut self);
}

/// Sleeps, unless there is a reason not to.
pub fn sleep<S: Sleeper>(sleeper: &mut S) -> S::Reason {
    sleeper.fall_asleep();
    let reason = loop {
        // From here on who publishes rings. What was published before is seen by this look.
        if let Some(reason) = sleeper.look().or_else(|| sleeper.rest()) {
            break reason;
        }
    };
    sleeper.wake_up();
    reason
}

/// Ends for good what a waiter waits for. `ring` rings it, unless its eventfd has no room: then it is readable anyway.
pub(super) fn retire<W: Word>(retired: &W, ring: impl FnOnce()) {
    retired.store(1);
    // Before the look whether there is room: else a waiter that makes room, looks, and sleeps again could be missed.
    W::fence(Side::Publisher);
    ring();
}

/// The host's side of its sleep generation, which is odd while it sleeps or is about to.
pub(super) mod generation {
    use super::{Side, Word};

    /// Says that the host is about to sleep. On return that is ordered before its last look.
    pub(in super::super) fn fall_asleep<W: Word>(generation: &W) {
        generation.store(generation.load() | 1);
        W::fence(Side::Sleeper);
    }

    /// Says that it is awake. A new incarnation begins with that: the one before may have ended asleep, with its ring taken,
    /// and only a new generation is rung again.
    pub(in super::super) fn wake_up<W: Word>(generation: &W) {
        generation.store((generation.load() | 1).wrapping_add(1));
    }
}

/// The VMM's side of a host's sleep generation.
#[derive(Default)]
pub(super) struct Rung {
    /// Which one was rung last.
    generation: u64,
    found_asleep: bool,
}

impl Rung {
    /// Whether the host sleeps and was not rung yet, which the caller then does. It has published what the host is to find.
    ///
    /// One ring for each time that the host goes to sleep is enough: it lies in the eventfd until the host has taken it, and
    /// the host looks after that.
    pub(super) fn must_ring<W: Word>(&mut self, generation: &W) -> bool {
        W::fence(Side::Publisher);
        let generation = generation.load();
        self.found_asleep = generation & 1 == 1;
        let must_ring = self.found_asleep && generation != self.generation;
        if must_ring {
            self.generation = generation;
        }
        must_ring
    }

    /// Whether the host slept, rung or not, when it was looked at last.
    pub(super) fn found_asleep(&self) -> bool {
        self.found_asleep
    }
}

/// The waiter word: whether the VMM's waiter sleeps, and for which sequence.
pub(super) mod waiter {
    use super::{Side, Word, has_happened};

    const NOBODY: u64 = 0;

    const fn waits_for(sequence: u32) -> u64 {
        1 << 32 | sequence as u64
    }

    /// Says that the VMM is about to sleep until `sequence` is committed. On return that is ordered before its last look.
    pub(in super::super) fn fall_asleep<W: Word>(waiter: &W, sequence: u32) {
        waiter.store(waits_for(sequence));
        W::fence(Side::Sleeper);
    }

    /// Says that it is awake.
    pub(in super::super) fn wake_up<W: Word>(waiter: &W) {
        waiter.store(NOBODY);
    }

    /// Whether somebody sleeps until `committed` or earlier, whom the caller then rings. It has committed that.
    pub(in super::super) fn must_ring<W: Word>(waiter: &W, committed: u32) -> bool {
        W::fence(Side::Publisher);
        is_satisfied(waiter.load(), committed)
    }

    /// Whether this word says that somebody waits for what `committed` brought.
    const fn is_satisfied(word: u64, committed: u32) -> bool {
        word >> 32 == 1 && has_happened(word as u32, committed)
    }

    #[cfg(test)]
    #[test]
    fn waiter_is_satisfied_by_its_sequence_and_later_ones_across_the_wrap() {
        let waits = waits_for(u32::MAX);
        assert!(!is_satisfied(waits, u32::MAX - 1));
        assert!(is_satisfied(waits, u32::MAX));
        assert!(is_satisfied(waits, 3));
        assert!(!is_satisfied(NOBODY, 3));
        assert!(is_satisfied(waits_for(0), 0), "waiting for sequence 0 is waiting");
    }
}
