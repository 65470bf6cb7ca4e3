//! A memory word and a wake: what mutexes, semaphores and condition variables between processes are made of.
#![allow(unsafe_code)] // The word is memory that another process stores to.

use crate::{Mapping, Wake};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Counts what has happened, for others to wait until more has: a word in shared memory, which is the truth, and a
/// [`Wake`], which is a hint that somebody should look at it.
///
/// One side [advances](EventCount::advance) it, over a mapping that may be stored to; any number of others look. Nobody
/// can hold it, so nobody can die or refuse while holding it: that is what a mutex between distrustful processes comes to.
/// Each who waits has a wake of his own, for a ring is taken by the first who looks.
pub struct EventCount {
    mapping: Mapping,
    offset: usize,
    wake: Wake,
}

impl EventCount {
    /// The count whose word is at `offset` of this mapping.
    ///
    /// # Errors
    /// When the word is not a whole, aligned part of the mapping.
    pub fn new(mapping: Mapping, offset: usize, wake: Wake) -> io::Result<EventCount> {
        let end = offset.checked_add(size_of::<AtomicU32>());
        if !offset.is_multiple_of(size_of::<AtomicU32>()) || end.is_none_or(|end| end > mapping.len()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no such word in the mapping"));
        }
        Ok(EventCount { mapping, offset, wake })
    }

    /// How many events there have been, modulo 2³². What was stored before the last of them is visible.
    pub fn read(&self) -> u32 {
        self.word().load(Ordering::Acquire)
    }

    /// One more. False: the other side has stuffed its wake, so it was not rung, which is its own loss.
    ///
    /// # Panics
    /// When the mapping may not be stored to.
    pub fn advance(&self) -> io::Result<bool> {
        assert!(self.mapping.writable(), "who only looks cannot advance a count");
        self.word().fetch_add(1, Ordering::Release);
        let room = self.wake.has_room();
        if room {
            self.wake.signal(1)?;
        }
        Ok(room)
    }

    /// Waits until the count is another than `seen`, and returns it. `None`: `timeout` passed first.
    ///
    /// A ring without an event is nothing: it is taken, and the word is looked at again.
    pub fn wait_past(&self, seen: u32, timeout: Duration) -> io::Result<Option<u32>> {
        let end = Instant::now().checked_add(timeout);
        loop {
            let now = self.read();
            if now != seen {
                return Ok(Some(now));
            }
            let left = end.map_or(timeout, |end| end.saturating_duration_since(Instant::now()));
            if !self.wake.wait(left)? {
                // It may have advanced without a ring.
                let now = self.read();
                return Ok((now != seen).then_some(now));
            }
            self.wake.drain();
        }
    }

    /// The mapping that the word is in.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: `new` found the word to be aligned and within the mapping, which lives as long as `self`; everybody
        // touches it as an atomic of this size.
        unsafe { AtomicU32::from_ptr(self.mapping.as_ptr().add(self.offset).cast()) }
    }
}
