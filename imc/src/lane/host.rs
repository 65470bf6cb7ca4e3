//! The device host's end of a lane.
#![allow(unsafe_code)] // The hot state is handed to the device as a slice of memory that only this process writes.

use super::Levels;
use super::layout::{
    ATTEMPTED, COMMIT, CommitWord, DEADLINE, DOORBELLS, FALLS, FORMAT, GENERATION, MASKS, NO_DEADLINE, NOW,
    REPLY_AND_LEVELS, REPLY_VALUE, SHADOW, SPIN, UNKNOWN, WAITER, bulk_offset, decode, entry_offset, falls_shift,
    header_word, hot_offset, load_acquire, state_region_bytes, string_offsets, word,
};
use super::steps::{Fault, Step, is_broken, reach};
use super::waiting::{generation, waiter};
use crate::{Mapping, ReadWrite, Region, Wake};
use schema::lane::{Access, STRING_MAX};
use schema::manifest::SHADOW_MAX;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// Marks a region whose current copy holds a state of the size in its low half.
const FORMAT_MAGIC: u64 = 0xcffd_0001 << 32;

/// What a device is asked, from its request region. The host reads it; the VMM writes it.
pub(super) struct MemoryHost {
    request: Mapping,
    reply: Wake,
    next: u32,
    /// Of what the VMM's waiter was told last. Of nothing yet: an earlier incarnation may not have lived to tell.
    told: Option<u32>,
}

/// The VMM asked for something that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEntry {
    /// An entry in shared memory asks for an operation that does not exist.
    #[error("entry {sequence} of the lane asks for operation {operation}, which does not exist")]
    Operation {
        /// Its sequence.
        sequence: u32,
        /// The operation's number.
        operation: u16,
    },
    /// A message is none.
    #[error("a message of the lane is none: {0}")]
    Message(String),
}

impl MemoryHost {
    /// The lane of a device that has committed operation `committed` last. `reply` wakes the VMM's waiter.
    pub fn new(request: Mapping, reply: Wake, committed: u32) -> MemoryHost {
        MemoryHost { request, reply, next: committed.wrapping_add(1), told: None }
    }

    /// Whether there is an entry to take.
    #[must_use]
    pub fn has_next(&self) -> bool {
        load_acquire(word(&self.request, entry_offset(self.next))) as u32 == self.next
    }

    /// Takes the next entry, if there is one: a copy, so what the VMM writes later changes nothing.
    pub fn take(&mut self) -> Result<Option<Access>, BadEntry> {
        let at = entry_offset(self.next);
        let first = load_acquire(word(&self.request, at));
        if first as u32 != self.next {
            return Ok(None);
        }
        let rest = |index: usize| word(&self.request, at + 8 * index).load(Ordering::Relaxed);
        let access = decode([first, rest(1), rest(2), rest(3)])
            .map_err(|operation| BadEntry::Operation { sequence: self.next, operation })?;
        self.next = self.next.wrapping_add(1);
        Ok(Some(access))
    }

    /// Wakes the VMM's waiter, if it sleeps until `committed` or earlier. Call it after the commit.
    pub fn notify(&self, committed: u32) -> io::Result<()> {
        if waiter::must_ring(word(&self.request, WAITER), committed) {
            self.reply.signal(1)?;
        }
        Ok(())
    }

    /// Tells the VMM's waiter what was committed, unless it knows.
    pub(super) fn tell(&mut self, state: &StateWriter) -> io::Result<()> {
        let committed = state.committed().sequence();
        if self.told.replace(committed) == Some(committed) { Ok(()) } else { self.notify(committed) }
    }

    /// How many times the VMM wants an idle host to look again before it sleeps.
    #[must_use]
    pub fn spin(&self) -> u32 {
        word(&self.request, SPIN).load(Ordering::Relaxed) as u32
    }
}

/// What the VMM sees of a state: goes into the header beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Bit `n`: the level of line `n`.
    pub levels: u32,
    /// When the device's alarm is due, in nanoseconds of the guest clock.
    pub deadline: Option<u64>,
    /// Bit `n`: writes of posted kind `n` may be posted.
    pub postable: u32,
    /// Shadow values, where valid.
    pub shadow: [Option<u64>; SHADOW_MAX],
    /// Guest clock at the commit.
    pub now: u64,
}

/// A device's state region, to write: two copies of its state, of which one is current.
///
/// The order is [`StateWriter::begin`], changes to [`StateWriter::working`], [`StateWriter::commit`]. A process that ends
/// in between has changed nothing.
pub struct StateWriter {
    mapping: Arc<Mapping>,
    state_bytes: u32,
    bulk_bytes: u32,
    /// The commit word, and the reply and clock of the current header. Nobody else writes them.
    committed: CommitWord,
    reply: (u32, u64),
    header: Header,
    /// Commits in which a line went low, over all incarnations, as each copy has them. Nobody else writes them either; to load
    /// them would be to fetch the commit word's line from whoever waits for it.
    falls: [u32; 2],
}

/// A state region is too small for its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a state region of {bytes} bytes is too small for the device, which needs {needed}")]
pub struct RegionTooSmall {
    /// What there is.
    pub bytes: u64,
    /// What it takes.
    pub needed: u64,
}

impl StateWriter {
    /// Takes over the region as it is: fresh, or as an earlier incarnation left it.
    ///
    /// # Panics
    ///
    /// If `mapping` cannot be written: that is the VMM's side of it.
    pub fn new(
        mapping: impl Into<Arc<Mapping>>,
        state_bytes: u32,
        bulk_bytes: u32,
    ) -> Result<StateWriter, RegionTooSmall> {
        let mapping = mapping.into();
        assert!(mapping.writable(), "the host writes the state region");
        let (bytes, needed) = (mapping.len() as u64, state_region_bytes(state_bytes, bulk_bytes));
        if bytes < needed {
            return Err(RegionTooSmall { bytes, needed });
        }
        let committed = CommitWord(load_acquire(word(&mapping, COMMIT)));
        let found = |field| word(&mapping, header_word(committed.copy(), field)).load(Ordering::Relaxed);
        let reply = (found(REPLY_AND_LEVELS) as u32, found(REPLY_VALUE));
        let levels = (found(REPLY_AND_LEVELS) >> 32) as u32;
        let header = Header { levels, now: found(NOW), ..Header::default() };
        let both = word(&mapping, FALLS).load(Ordering::Relaxed);
        let falls = [0, 1].map(|copy| (both >> falls_shift(copy)) as u32);
        let mut writer = StateWriter { mapping, state_bytes, bulk_bytes, committed, reply, header, falls };
        writer.wake_up();
        Ok(writer)
    }

    /// The region, and where in it the bulk state is.
    #[must_use]
    pub fn bulk(&self) -> (&Arc<Mapping>, Range<usize>) {
        let first = bulk_offset(self.state_bytes);
        (&self.mapping, first..first + self.bulk_bytes as usize)
    }

    /// Whether an earlier incarnation committed a state of this size. What it holds may still be anything.
    #[must_use]
    pub fn has_state(&self) -> bool {
        word(&self.mapping, FORMAT).load(Ordering::Relaxed) == FORMAT_MAGIC | u64::from(self.state_bytes)
    }

    /// What was committed last.
    #[must_use]
    pub fn committed(&self) -> CommitWord {
        self.committed
    }

    /// The header that was committed last by this incarnation; of an earlier one, only the clock and the levels.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The levels that were committed last.
    #[must_use]
    pub fn levels(&self) -> Levels {
        Levels { high: self.header.levels, falls: self.falls[self.committed.copy()] }
    }

    /// The reply to the last operation.
    #[must_use]
    pub fn reply(&self) -> u64 {
        self.reply.1
    }

    /// The current state.
    #[must_use]
    pub fn current(&self) -> &[u8] {
        // SAFETY: `new` checked that both copies lie inside the mapping, which lives as long as the borrow. Only this
        // process writes them, through `working`, which borrows `self` mutably and is the other copy anyway.
        unsafe { std::slice::from_raw_parts(self.hot(self.committed.copy()), self.state_bytes as usize) }
    }

    /// Copies the current state, to be changed.
    pub fn begin(&mut self) -> &mut [u8] {
        let (from, to) = (self.hot(self.committed.copy()), self.hot(self.committed.copy() ^ 1));
        if from != to {
            // SAFETY: as in `current`; the copies do not overlap.
            unsafe { std::ptr::copy_nonoverlapping(from, to, self.state_bytes as usize) };
        }
        reach(Step::Copied);
        self.working()
    }

    /// The copy that the next commit makes current, as changed so far.
    pub fn working(&mut self) -> &mut [u8] {
        // SAFETY: as in `current`; the borrow is the only one.
        unsafe { std::slice::from_raw_parts_mut(self.hot(self.committed.copy() ^ 1), self.state_bytes as usize) }
    }

    /// Makes the working copy current together with what the VMM sees of it. With a reply, operation `reply.0` and all
    /// before it have then taken effect; without, it is an event.
    ///
    /// On return the commit is ordered before any change to the copy that was current.
    pub fn commit(&mut self, header: Header, reply: Option<(u32, u64)>) {
        let next = match reply {
            Some((sequence, _)) => self.committed.after(sequence),
            None => self.committed.after_event(),
        };
        let earlier = self.reply;
        self.reply = reply.unwrap_or(earlier);
        let fell = self.header.levels & !header.levels != 0;
        self.falls[next.copy()] = self.falls[self.committed.copy()].wrapping_add(fell.into());
        self.header = header;
        if is_broken(Fault::ReplyAfterCommit) {
            self.write_header(next.copy(), earlier);
        } else {
            self.write_header(next.copy(), self.reply);
        }
        reach(Step::HeaderWritten);
        word(&self.mapping, COMMIT).store(next.0, Ordering::Release);
        fence(Ordering::Release);
        reach(Step::Committed);
        if is_broken(Fault::ReplyAfterCommit) {
            self.write_header(next.copy(), self.reply);
        }
        if !self.has_state() {
            word(&self.mapping, FORMAT).store(FORMAT_MAGIC | u64::from(self.state_bytes), Ordering::Release);
        }
        self.committed = next;
    }

    /// Puts down the bytes that string load `sequence` gives, at most [`STRING_MAX`]. Its commit is still to come; who waited
    /// for the one before has taken its bytes.
    pub fn set_string(&mut self, sequence: u32, bytes: &[u8]) {
        let (which, place) = string_offsets(&self.mapping);
        let bytes = &bytes[..bytes.len().min(STRING_MAX)];
        self.mapping.write(place, bytes);
        word(&self.mapping, which).store(u64::from(sequence) | (bytes.len() as u64) << 32, Ordering::Relaxed);
    }

    /// Copies the bytes of the last operation, if it was a string load. Says how many there are.
    pub fn string(&self, into: &mut [u8; STRING_MAX]) -> usize {
        let (which, place) = string_offsets(&self.mapping);
        let which = word(&self.mapping, which).load(Ordering::Relaxed);
        let bytes = (which >> 32) as usize;
        if which as u32 != self.committed.sequence() || bytes > STRING_MAX {
            return 0;
        }
        self.mapping.read(place, &mut into[..bytes]);
        bytes
    }

    /// Says that the host is about to sleep. On return that is ordered before its last look for work.
    pub fn fall_asleep(&mut self) {
        generation::fall_asleep(word(&self.mapping, GENERATION));
    }

    /// Says that it is awake.
    pub fn wake_up(&mut self) {
        generation::wake_up(word(&self.mapping, GENERATION));
    }

    /// Doorbells that the device answered, over all incarnations.
    #[must_use]
    pub fn doorbells(&self) -> u64 {
        word(&self.mapping, DOORBELLS).load(Ordering::Relaxed)
    }

    /// Publishes how many doorbells the device answered.
    pub fn set_doorbells(&mut self, count: u64) {
        word(&self.mapping, DOORBELLS).store(count, Ordering::Relaxed);
    }

    /// Accesses that hit no register, over all incarnations.
    #[must_use]
    pub fn unknown(&self) -> u64 {
        word(&self.mapping, UNKNOWN).load(Ordering::Relaxed)
    }

    /// Says that the device is about to be given operation `sequence`. Should that end the process, it shows which one did.
    pub fn attempt(&mut self, sequence: u32) {
        word(&self.mapping, ATTEMPTED).store(u64::from(sequence), Ordering::Relaxed);
    }

    /// Publishes how many accesses hit no register.
    pub(super) fn set_unknown(&mut self, count: u64) {
        word(&self.mapping, UNKNOWN).store(count, Ordering::Relaxed);
    }

    /// Counts an access that hit no register.
    pub fn count_unknown(&mut self) {
        let counter = word(&self.mapping, UNKNOWN);
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// The answer is stored last, just before the commit word: a waiter that looks at their line meanwhile takes it away.
    fn write_header(&self, copy: usize, reply: (u32, u64)) {
        let store = |field, value| word(&self.mapping, header_word(copy, field)).store(value, Ordering::Relaxed);
        let Header { levels, deadline, postable, shadow, now } = self.header;
        let mut valid = 0;
        for (slot, value) in shadow.into_iter().enumerate() {
            if let Some(value) = value {
                valid |= 1 << slot;
                store(SHADOW + 8 * slot, value);
            }
        }
        store(MASKS, u64::from(postable) | valid << 32);
        store(NOW, now);
        reach(Step::HeaderBegun);
        store(REPLY_VALUE, reply.1);
        store(REPLY_AND_LEVELS, u64::from(reply.0) | u64::from(levels) << 32);
        store(DEADLINE, deadline.unwrap_or(NO_DEADLINE));
        let falls = |copy: usize| u64::from(self.falls[copy]) << falls_shift(copy);
        word(&self.mapping, FALLS).store(falls(0) | falls(1), Ordering::Relaxed);
    }

    fn hot(&self, copy: usize) -> *mut u8 {
        let copy = if is_broken(Fault::OneCopy) { 0 } else { copy };
        // SAFETY: `new` checked that the region holds both copies.
        unsafe { self.mapping.as_ptr().add(hot_offset(self.state_bytes, copy)) }
    }
}

/// What a host that is gone left in a state region, as it claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remains {
    /// Sequence of the last operation that took effect.
    pub committed: u32,
    /// The next one, if that is what it was at.
    pub attempted: Option<u32>,
}

/// Looks at what a host that is gone left behind, and takes away what would be taken for its successor's.
pub fn look_at_remains(state: &Region<ReadWrite>) -> io::Result<Remains> {
    let mapping = state.map()?;
    let committed = CommitWord(load_acquire(word(&mapping, COMMIT))).sequence();
    let next = committed.wrapping_add(1);
    let attempted = word(&mapping, ATTEMPTED).swap(u64::from(committed), Ordering::Relaxed) as u32;
    Ok(Remains { committed, attempted: Some(attempted).filter(|attempted| *attempted == next) })
}

/// Makes a state region a new one, whose device has done nothing since operation `committed`. Whoever wrote it is gone.
pub fn wipe(state: &Region<ReadWrite>, committed: u32) -> io::Result<()> {
    state.clear()?;
    let mapping = state.map()?;
    word(&mapping, COMMIT).store(CommitWord::default().after(committed).0, Ordering::Release);
    Ok(())
}
