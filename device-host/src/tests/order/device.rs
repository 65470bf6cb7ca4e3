//! A device that has one of everything that a guest's order could show: it is the one behind the lane, and, operation by
//! operation, the synchronous one that it is compared with.

use device::manifest::{Class, Line, Manifest, Range, Register, RegisterKind, Space, Tolerance};
use device::{Access, Ahead, Model, NoRegister, Outputs, Scan};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Write, posted as kind 0 while `CONTROL` is zero: one more byte for the queue, and for the fold. Read: takes a byte that
/// was received.
pub const DATA: u64 = 0;
/// Read, a shadow: whether the queue has room, and all else that is not the fold.
pub const STATUS: u64 = 1;
/// Write: whether line 0 tells of room in the queue.
pub const CONTROL: u64 = 2;
/// Read: the fold of all bytes, which their order changes, and one that found no room.
pub const FOLD: u64 = 3;
/// Write: the alarm is due [`DELAY`] later.
pub const ARM: u64 = 4;
/// Write, posted as kind 1, always: a bit of `STATUS`.
pub const SCRATCH: u64 = 5;

/// Bytes that the queue holds.
const CAPACITY: u64 = 3;
/// Posted bytes that leave `STATUS` true, where it is valid.
pub const TOLERATED: u16 = 1;
/// Line 0 is high while there are fewer in the queue.
const LOW_WATER: u64 = 2;
pub const DELAY: u64 = 50;
const NEVER: u64 = u64::MAX;

/// All that a guest could observe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub fold: u64,
    pub queued: u64,
    pub control: u64,
    pub scratch: u64,
    /// Bytes that came from outside, and those of them that the guest took.
    pub received: u64,
    pub taken: u64,
    /// Doorbells that were answered.
    pub answered: u64,
    pub deadline: u64,
    /// Alarms so far.
    pub fired: u64,
}

const CELLS: usize = 9;
pub const STATE_BYTES: u32 = 8 * CELLS as u32;

impl State {
    /// One byte lies in the queue.
    pub fn power_on() -> State {
        let (deadline, queued) = (NEVER, 1);
        State { fold: 0, queued, control: 0, scratch: 0, received: 0, taken: 0, answered: 0, deadline, fired: 0 }
    }

    fn load(bytes: &[u8]) -> State {
        let cell = |index: usize| u64::from_ne_bytes(bytes[8 * index..][..8].try_into().expect("eight bytes"));
        let [fold, queued, control, scratch, received, taken, answered, deadline, fired] = std::array::from_fn(cell);
        State { fold, queued, control, scratch, received, taken, answered, deadline, fired }
    }

    fn store(self, bytes: &mut [u8]) {
        let State { fold, queued, control, scratch, received, taken, answered, deadline, fired } = self;
        let cells = [fold, queued, control, scratch, received, taken, answered, deadline, fired];
        for (cell, bytes) in cells.into_iter().zip(bytes.chunks_exact_mut(8)) {
            bytes.copy_from_slice(&cell.to_ne_bytes());
        }
    }

    pub fn read(&mut self, offset: u64) -> u64 {
        match offset {
            DATA if self.taken < self.received => {
                self.taken += 1;
                self.taken
            }
            STATUS => self.status(),
            FOLD => self.fold & 0xff,
            _ => 0,
        }
    }

    pub fn write(&mut self, offset: u64, value: u64, now: u64) {
        match offset {
            DATA if self.queued < CAPACITY => {
                self.queued += 1;
                self.fold = self.fold * 3 + value;
            }
            DATA => self.fold = self.fold * 3 + 7,
            CONTROL => self.control = value,
            ARM => self.deadline = now + DELAY,
            SCRATCH => self.scratch = value,
            _ => {}
        }
    }

    /// Answers a doorbell: what it found in memory goes into the fold too.
    pub fn answer(&mut self) {
        self.answered += 1;
        self.fold = self.fold * 3 + 5;
    }

    pub fn fire(&mut self) {
        self.fired += 1;
        self.deadline = NEVER;
    }

    pub fn levels(&self) -> u32 {
        let room = self.control != 0 && self.queued < LOW_WATER;
        let byte = self.taken < self.received;
        u32::from(room) | u32::from(byte) << 1
    }

    fn status(&self) -> u64 {
        let ready = u64::from(self.queued < CAPACITY);
        ready | self.scratch << 1 | self.answered << 2 | (self.received - self.taken) << 4 | self.fired << 6
    }
}

/// What happens to the device from outside, without its host.
#[derive(Debug, Default)]
pub struct Outside {
    /// Doorbells that were rung.
    pub rung: AtomicU64,
    /// Bytes that came.
    pub came: AtomicU64,
    /// Answers of which the guest was told by an interrupt that needs no lane, as MSI.
    pub told: AtomicU64,
    /// Bit `n`: line `n` is high.
    pub high: AtomicU64,
    /// Bit `n`: an edge of line `n` has been given since it was low last.
    pub given: AtomicU64,
}

/// How the device may be broken.
#[derive(Debug, Clone, Copy, Default)]
pub struct Broken {
    /// Says that all may be posted.
    pub always_postable: bool,
    /// Says that its status is always known.
    pub always_valid: bool,
}

pub struct Device {
    pub outside: Arc<Outside>,
    pub broken: Broken,
}

impl Model for Device {
    fn power_on(&mut self, state: &mut [u8]) {
        State::power_on().store(state);
    }

    fn check(&self, _: &[u8]) -> bool {
        true
    }

    fn holds(&self, _: &[u8], _: u8) -> bool {
        false
    }

    fn exchanged(&mut self, _: &mut [u8], _: u8) {}

    fn read(&mut self, state: &mut [u8], at: Access) -> Result<u64, NoRegister> {
        let mut now = State::load(state);
        let value = now.read(at.offset);
        now.store(state);
        Ok(value)
    }

    fn read_string(&mut self, _: &mut [u8], _: Access, _: &mut [u8]) -> Result<usize, NoRegister> {
        unreachable!("no register of it joins loads")
    }

    fn ahead(&self, _: &[u8], _: Access) -> Option<Ahead> {
        None
    }

    fn write(&mut self, state: &mut [u8], at: Access, value: u64) -> Result<(), NoRegister> {
        let mut now = State::load(state);
        now.write(at.offset, value, at.now);
        now.store(state);
        Ok(())
    }

    fn alarm(&mut self, state: &mut [u8], _: u64) {
        let mut now = State::load(state);
        now.fire();
        now.store(state);
    }

    fn button(&mut self, _: &mut [u8], _: u64) {}

    fn refresh(&mut self, _: &mut [u8], _: u64) {}

    fn scan(&mut self, state: &mut [u8], _: u64) -> Scan {
        if !self.pending(state) {
            return Scan::Idle;
        }
        let mut now = State::load(state);
        while now.answered < self.outside.rung.load(Ordering::Relaxed) {
            now.answer();
        }
        now.received = self.outside.came.load(Ordering::Relaxed);
        now.store(state);
        Scan::Changed
    }

    fn pending(&self, state: &[u8]) -> bool {
        let now = State::load(state);
        now.answered < self.outside.rung.load(Ordering::Relaxed)
            || now.received < self.outside.came.load(Ordering::Relaxed)
    }

    fn outputs(&self, state: &[u8]) -> Outputs {
        let now = State::load(state);
        let known = now.queued + u64::from(TOLERATED) < CAPACITY || self.broken.always_valid;
        let mut shadow = [None; _];
        shadow[0] = known.then(|| now.status());
        Outputs {
            levels: now.levels(),
            deadline: Some(now.deadline).filter(|deadline| *deadline != NEVER),
            postable: if now.control == 0 || self.broken.always_postable { 0b11 } else { 0b10 },
            shadow,
        }
    }

    fn settle(&mut self, state: &[u8]) {
        let now = State::load(state);
        self.outside.told.store(now.answered, Ordering::Relaxed);
        self.outside.high.store(now.levels().into(), Ordering::Relaxed);
        self.outside.given.fetch_and(now.levels().into(), Ordering::Relaxed);
    }
}

/// What it declares, with a status that tolerates so many posted bytes, and with nothing posted if it is to have a doorbell.
pub fn manifest(tolerated: u16, posts: bool) -> Manifest {
    let register = |offset, kind| Register { range: 0, offset, width: 1, kind };
    let status = RegisterKind::Shadow { slot: 0, tolerates: vec![Tolerance { posted: 0, count: tolerated }] };
    let mut registers = vec![register(STATUS, status)];
    if posts {
        registers.extend([register(DATA, RegisterKind::Posted(0)), register(SCRATCH, RegisterKind::Posted(1))]);
    }
    Manifest {
        name: "order".into(),
        summary: "a device whose order shows".into(),
        class: Class::System,
        ranges: vec![Range { name: "registers".into(), length: 8, space: Space::Port(0) }],
        registers,
        lines: vec![Line::Isa(3), Line::Isa(4)],
        vectors: 0,
        doorbells: vec![],
        wishes: vec![],
        state_bytes: STATE_BYTES,
        bulk_bytes: 0,
        pci: None,
        acpi: None,
        with: vec![],
        options: vec![],
        remembered: 0,
    }
}
