//! A device's lane: what it is asked, and how the VMM is told what it committed.
//!
//! Layouts are those of `schema/lane.capnp` and of the regions of the `memory` carrier. Words in shared memory are read and
//! written whole and atomically; what the VMM may still write is copied once.

use crate::kernel::{self, Shared};
use crate::{Outputs, SHADOW_MAX};
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{Ordering, fence};

const ENTRIES: u32 = 32;
/// No alarm is due, ever.
pub(crate) const NEVER: u64 = u64::MAX;

/// One operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub sequence: u32,
    pub operation: u16,
    pub range: u8,
    pub width: u8,
    pub offset: u64,
    pub value: u64,
    pub now: u64,
}

/// Operations, by the schema's numbers.
pub(crate) mod operation {
    pub const READ: u16 = 1;
    pub const WRITE: u16 = 2;
    pub const POST: u16 = 3;
    pub const ALARM: u16 = 4;
    pub const RESET: u16 = 5;
    pub const QUIESCE: u16 = 6;
    pub const SHUTDOWN: u16 = 7;
    pub const BUTTON: u16 = 8;
    pub const REFRESH: u16 = 9;
}

impl Entry {
    fn of(first: u64, [offset, value, now]: [u64; 3]) -> Entry {
        let [.., range, width] = first.to_le_bytes();
        Entry { sequence: first as u32, operation: (first >> 32) as u16, range, width, offset, value, now }
    }
}

/// The bits that an access of this width has.
pub(crate) fn mask(width: u8) -> u64 {
    if width >= 8 { u64::MAX } else { (1 << (8 * u32::from(width))) - 1 }
}

/// What the VMM sees of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Header {
    pub outputs: Outputs,
    pub now: u64,
}

impl Header {
    pub(crate) fn deadline(&self) -> u64 {
        self.outputs.deadline.unwrap_or(NEVER)
    }

    /// Which shadow values there are, and the mask of what may be posted.
    fn masks(&self) -> u64 {
        let valid = |bits, (slot, value): (usize, &Option<u64>)| bits | u64::from(value.is_some()) << slot;
        u64::from(self.outputs.postable) | self.outputs.shadow.iter().enumerate().fold(0, valid) << 32
    }
}

/// A device's state region: two copies of its state, of which one is current.
pub(crate) struct StateRegion {
    memory: Shared,
    bytes: usize,
    committed: u64,
    reply: u64,
    header: Header,
    /// As each copy has them: to load them would be to fetch the commit word's line from whoever waits for it.
    falls: [u32; 2],
}

const COMMIT: usize = 0;
const ANSWERS: usize = 8;
const ANSWER_BYTES: usize = 24;
const FALLS: usize = ANSWERS + 2 * ANSWER_BYTES;
const GENERATION: usize = 64;
const FORMAT: usize = 72;
const DOORBELLS: usize = 128;
const UNKNOWN: usize = 136;
const ATTEMPTED: usize = 144;
const HEADERS: usize = 256;
const HEADER_BYTES: usize = 128;
const HOT: usize = HEADERS + 2 * HEADER_BYTES;
const LINE_BYTES: usize = 64;

const REPLY_VALUE: usize = 0;
const REPLY_AND_LEVELS: usize = 8;
const DEADLINE: usize = 16;
const MASKS: usize = 24;
const SHADOW: usize = 32;
const NOW: usize = 96;

const MAGIC: u64 = 0xcffd_0001 << 32;

impl StateRegion {
    pub(crate) fn new(memory: Shared, bytes: usize) -> Option<StateRegion> {
        if memory.len() < HOT + 2 * bytes.next_multiple_of(LINE_BYTES) {
            return None;
        }
        let mut region =
            StateRegion { memory, bytes, committed: 0, reply: 0, header: Header::default(), falls: [0; 2] };
        region.committed = region.load(COMMIT);
        let copy = region.copy();
        region.reply = region.load(at(copy, REPLY_VALUE));
        region.header.outputs.levels = (region.load(at(copy, REPLY_AND_LEVELS)) >> 32) as u32;
        region.header.now = region.load(at(copy, NOW));
        let both = region.load(FALLS);
        region.falls = [both as u32, (both >> 32) as u32];
        region.wake_up();
        Some(region)
    }

    pub(crate) fn sequence(&self) -> u32 {
        (self.committed >> 32) as u32
    }
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }
    pub(crate) fn falls(&self) -> u32 {
        self.falls[self.copy()]
    }
    pub(crate) fn has_state(&self) -> bool {
        self.load(FORMAT) == self.format()
    }

    /// The current copy of the state.
    pub(crate) fn current(&self, into: &mut [u8]) {
        self.memory.copy_out(self.hot(self.copy()), &mut into[..self.bytes]);
    }

    /// Makes this state current together with what the VMM sees of it. With a reply, that operation and all before it have
    /// then taken effect; without, it is an event.
    pub(crate) fn commit(&mut self, state: &[u8], header: Header, reply: Option<(u32, u64)>) {
        let copy = self.copy() ^ 1;
        let next = match reply {
            Some((sequence, value)) => {
                self.reply = value;
                u64::from(sequence) << 32 | ((self.committed & u64::from(u32::MAX)) ^ 1)
            }
            None => {
                let events = ((self.committed >> 1) + 1) & 0x7fff_ffff;
                self.committed >> 32 << 32 | events << 1 | copy as u64
            }
        };
        let fell = self.header.outputs.levels & !header.outputs.levels != 0;
        self.falls[copy] = self.falls[self.copy()].wrapping_add(fell.into());
        self.header = header;
        self.memory.copy_in(self.hot(copy), &state[..self.bytes]);
        for (slot, value) in header.outputs.shadow.iter().enumerate() {
            if let Some(value) = value {
                self.store(at(copy, SHADOW + 8 * slot), *value);
            }
        }
        self.store(at(copy, MASKS), header.masks());
        self.store(at(copy, NOW), header.now);
        self.store(at(copy, REPLY_VALUE), self.reply);
        self.store(at(copy, REPLY_AND_LEVELS), next >> 32 | u64::from(header.outputs.levels) << 32);
        self.store(at(copy, DEADLINE), header.deadline());
        self.store(FALLS, u64::from(self.falls[0]) | u64::from(self.falls[1]) << 32);
        self.store(COMMIT, next);
        self.committed = next;
        if !self.has_state() {
            self.store(FORMAT, self.format());
        }
    }

    pub(crate) fn attempt(&self, sequence: u32) {
        self.store(ATTEMPTED, sequence.into());
    }
    pub(crate) fn count_unknown(&self) {
        self.store(UNKNOWN, self.load(UNKNOWN).wrapping_add(1));
    }

    /// What counts doorbells that were answered.
    pub(crate) fn doorbell(&self) -> Box<dyn Fn()> {
        let memory = self.memory;
        Box::new(move || {
            let count = memory.word(DOORBELLS);
            count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        })
    }

    /// Says that the host is about to sleep. On return that is ordered before its last look for work.
    pub(crate) fn fall_asleep(&self) {
        self.store(GENERATION, self.load(GENERATION) | 1);
        fence(Ordering::SeqCst);
    }
    /// Says that it is awake.
    pub(crate) fn wake_up(&self) {
        self.store(GENERATION, (self.load(GENERATION) | 1).wrapping_add(1));
    }

    /// Which copy is current.
    fn copy(&self) -> usize {
        (self.committed & 1) as usize
    }
    fn format(&self) -> u64 {
        MAGIC | self.bytes as u64
    }
    fn hot(&self, copy: usize) -> usize {
        HOT + copy * self.bytes.next_multiple_of(LINE_BYTES)
    }
    fn load(&self, at: usize) -> u64 {
        self.memory.word(at).load(Ordering::Acquire)
    }
    fn store(&self, at: usize, value: u64) {
        self.memory.word(at).store(value, Ordering::Release);
    }
}

/// Where a word of the header of a copy is.
const fn at(copy: usize, field: usize) -> usize {
    if field < ANSWER_BYTES {
        ANSWERS + copy * ANSWER_BYTES + field
    } else {
        HEADERS + copy * HEADER_BYTES + field - ANSWER_BYTES
    }
}

/// The way to a device.
pub(crate) enum Lane {
    Memory(MemoryLane),
    Socket(SocketLane),
}

impl Lane {
    /// Takes the next operation, if there is one.
    pub(crate) fn take(&mut self) -> io::Result<Option<Entry>> {
        match self {
            Lane::Memory(lane) => Ok(lane.take()),
            Lane::Socket(lane) => lane.take(),
        }
    }

    /// Tells the VMM what was committed, unless it knows.
    pub(crate) fn tell(&mut self, state: &StateRegion) -> io::Result<()> {
        match self {
            Lane::Memory(lane) => lane.tell(state),
            Lane::Socket(lane) => lane.tell(state)?,
        }
        Ok(())
    }

    /// Whether there may be something to take: a cheap look.
    pub(crate) fn has_next(&self) -> bool {
        match self {
            Lane::Memory(lane) => lane.first() as u32 == lane.next,
            Lane::Socket(_) => true,
        }
    }

    /// How many times the VMM wants an idle host to look again before it sleeps.
    pub(crate) fn spin(&self) -> u32 {
        match self {
            Lane::Memory(lane) => lane.load(0) as u32,
            Lane::Socket(_) => 0,
        }
    }
}

/// Entries in shared memory; what is committed is read where it lies.
pub(crate) struct MemoryLane {
    memory: Shared,
    reply: RawFd,
    next: u32,
    told: Option<u32>,
}

const WAITER: usize = 8;
const RING: usize = 2048;
const ENTRY_BYTES: usize = 64;
const REQUEST_BYTES: usize = RING + ENTRIES as usize * ENTRY_BYTES;

impl MemoryLane {
    pub(crate) fn new(memory: Shared, reply: RawFd, committed: u32) -> Option<MemoryLane> {
        (memory.len() >= REQUEST_BYTES).then(|| MemoryLane {
            memory,
            reply,
            next: committed.wrapping_add(1),
            told: None,
        })
    }

    fn take(&mut self) -> Option<Entry> {
        let (at, first) = (self.entry(), self.first());
        if first as u32 != self.next {
            return None;
        }
        self.next = self.next.wrapping_add(1);
        Some(Entry::of(first, [self.load(at + 8), self.load(at + 16), self.load(at + 24)]))
    }

    fn tell(&mut self, state: &StateRegion) {
        let committed = state.sequence();
        if self.told == Some(committed) {
            return;
        }
        self.told = Some(committed);
        fence(Ordering::SeqCst);
        let waiter = self.load(WAITER);
        if waiter >> 32 == 1 && committed.wrapping_sub(waiter as u32) < 1 << 31 {
            kernel::ring(self.reply, 1);
        }
    }

    fn entry(&self) -> usize {
        RING + (self.next % ENTRIES) as usize * ENTRY_BYTES
    }
    fn first(&self) -> u64 {
        self.load(self.entry())
    }
    fn load(&self, at: usize) -> u64 {
        self.memory.word(at).load(Ordering::Acquire)
    }
}

/// A packet for each message. Both are of fixed size, without pointers, behind the pointer to their root.
pub(crate) struct SocketLane {
    packets: RawFd,
    /// Whoever takes answers makes room, and rings the wake: what to ring so that it does, and what to sleep on.
    room: (RawFd, RawFd),
    next: u32,
    told: Option<[u64; NEWS]>,
}

const ACCESS_WORDS: usize = 9;
const ANSWER_WORDS: usize = 21;
/// Words of an answer that a guest could see something of, beside the reply.
const NEWS: usize = 3 + SHADOW_MAX;
/// A pointer to a struct of twenty words that begins behind it.
const ROOT: u64 = 20 << 32;

impl SocketLane {
    pub(crate) fn new(packets: RawFd, irq: RawFd, wake: RawFd, committed: u32) -> SocketLane {
        SocketLane { packets, room: (irq, wake), next: committed.wrapping_add(1), told: None }
    }

    fn take(&mut self) -> io::Result<Option<Entry>> {
        loop {
            let mut packet = [0; 8 * ACCESS_WORDS + 1];
            match kernel::read_once(self.packets, &mut packet) {
                Ok(length) if length == 8 * ACCESS_WORDS => {}
                Ok(length) => return Err(io::Error::other(format!("the VMM sent a message of {length} bytes"))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let word = |at: usize| <u64 as crate::Plain>::load(&packet[8 * at..]);
            let entry = Entry::of(word(1), [word(2), word(3), word(4)]);
            // What is not the next comes from before a restart: it was done, or is sent again in its turn.
            if entry.sequence == self.next {
                self.next = self.next.wrapping_add(1);
                return Ok(Some(entry));
            }
        }
    }

    fn tell(&mut self, state: &StateRegion) -> io::Result<()> {
        let header = state.header();
        let mut words = [0; ANSWER_WORDS];
        words[0] = ROOT;
        words[1] = state.reply;
        words[2] = u64::from(state.sequence()) | u64::from(header.outputs.levels) << 32;
        words[3] = header.deadline();
        words[4] = header.masks();
        for (word, value) in words[5..].iter_mut().zip(&header.outputs.shadow) {
            *word = value.unwrap_or(0);
        }
        let mut news = [0; NEWS];
        news.copy_from_slice(&words[2..2 + NEWS]);
        if self.told == Some(news) {
            return Ok(());
        }
        words[13] = header.now;
        words[14] = state.load(DOORBELLS);
        words[15] = state.load(UNKNOWN);
        words[16] = u64::from(self.told.is_none());
        let answer: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        while let Err(error) = kernel::write_once(self.packets, &answer) {
            if error.kind() != io::ErrorKind::WouldBlock {
                return Err(error);
            }
            kernel::ring(self.room.0, 1);
            kernel::sleep(self.room.1);
        }
        self.told = Some(news);
        Ok(())
    }
}

/// Whether to look for a while before one sleeps, learnt from how long it took before.
#[derive(Default)]
pub(crate) struct Patience {
    expected: u64,
    waits: u32,
}

/// Waits after which it is tried again whether looking is worth while.
const TRY_EVERY: u32 = 16;
/// A wait counts for this part of what is expected.
const WEIGHT: u64 = 8;

impl Patience {
    pub(crate) fn looks(&mut self, most: u32) -> u32 {
        self.waits += 1;
        if self.expected <= u64::from(most / 2) || self.waits >= TRY_EVERY {
            self.waits = 0;
            return most;
        }
        0
    }
    pub(crate) fn came(&mut self, looks: u32, most: u32) {
        self.expected = self.expected.min(u64::from(most / 2));
        self.learn(looks.into());
    }
    pub(crate) fn missed(&mut self, looks: u32) {
        if looks > 0 {
            self.learn(2 * u64::from(looks));
        }
    }
    fn learn(&mut self, looks: u64) {
        self.expected = (self.expected * (WEIGHT - 1) + looks) / WEIGHT;
    }
}
