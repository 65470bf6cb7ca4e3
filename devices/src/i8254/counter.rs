//! One of the three counters: what it counts, and what comes of it at its output.
//!
//! Nothing is counted down. A counter knows when its counting element was loaded and with what, and the rest follows from the
//! time at which somebody looks. Times are cycles of the chip's clock.
//!
//! Source: Intel 231164, *8254 Programmable Interval Timer*.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bits of a control word ("Control Word Format"), without those that select the counter.
pub(super) const CONTROL: u8 = 0x3f;
const ACCESS: u8 = 0x30;
const ACCESS_LOW: u8 = 0x10;
const ACCESS_HIGH: u8 = 0x20;
const MODE: u8 = 0x0e;
const BCD: u8 = 0x01;
/// What power on leaves is not defined ("Operational Description", "General"). Here it is mode 0 with no count: no line is high, nothing comes.
const AFTER_POWER_ON: u8 = 0x30;

/// Bits of a status byte (figure 11) beside those of the control word.
const STATUS_OUT: u8 = 1 << 7;
const STATUS_NULL: u8 = 1 << 6;

/// What a count of zero stands for: the most ("Counter": 2^16 in binary, 10^4 in BCD).
const BINARY: u32 = 0x1_0000;
const DECIMAL: u32 = 10_000;
/// No count waits to be loaded.
const NEVER: u64 = u64::MAX;

/// What a counter does ("Mode Definitions"). Of a mode's three bits the first does not matter where the second is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// 0: the output rises when the count is over.
    Interrupt,
    /// 1: the output is low for so long after the gate rose.
    OneShot,
    /// 2: the output is low in the last cycle of each period.
    Rate,
    /// 3: the output is low in the second half of each period.
    Square,
    /// 4: the output is low in the cycle when the count is over.
    SoftwareStrobe,
    /// 5: the same, from the moment when the gate rose.
    HardwareStrobe,
}

/// A counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Counter {
    /// The cycle from which on it counts, and how many it had counted before.
    since: u64,
    held: u64,
    /// At which of its cycles the count that waits is loaded.
    reload_at: u64,
    /// What the counting element was loaded with last: 1 to 2^16. Zero: nothing yet.
    start: u32,
    /// What waits to be loaded, or zero.
    next: u32,
    /// What the counting element reads as while it is not in operation.
    rest: u16,
    /// A count that was latched, and how many of its bytes are still to be read.
    latch: u16,
    latched: u8,
    /// A status that was latched, and whether it is still to be read.
    status: u8,
    status_latched: u8,
    /// The control word without its counter.
    control: u8,
    /// The lower byte of a count, whose upper one is to come.
    low: u8,
    high_due: u8,
    /// The next byte read is the upper one.
    reads_high: u8,
    /// The counting element has been loaded and is in operation.
    runs: u8,
    gate: u8,
    /// What was written last is not in the counting element yet.
    null: u8,
    unused: [u8; 2],
}

impl Counter {
    /// After power on.
    pub(super) fn new(gate: bool) -> Counter {
        Counter {
            since: 0,
            held: 0,
            reload_at: NEVER,
            start: 0,
            next: 0,
            rest: 0,
            latch: 0,
            latched: 0,
            status: 0,
            status_latched: 0,
            control: AFTER_POWER_ON,
            low: 0,
            high_due: 0,
            reads_high: 0,
            runs: 0,
            gate: gate.into(),
            null: 1,
            unused: [0; 2],
        }
    }

    /// Whether it is one that these functions leave.
    pub(super) fn is_possible(&self) -> bool {
        let flags = [self.status_latched, self.high_due, self.reads_high, self.runs, self.gate, self.null];
        flags.iter().all(|flag| *flag <= 1)
            && self.latched <= 2
            && self.control & !CONTROL == 0
            && self.control & ACCESS != 0
            && self.start <= BINARY
            && self.next <= BINARY
            && (self.runs == 0 || self.start > 0)
            && self.unused == [0; 2]
    }

    /// Whether its gate has this level.
    pub(super) fn has_gate(&self, level: bool) -> bool {
        (self.gate == 1) == level
    }

    /// Takes over what reading has changed of another look at it: the bytes that are left.
    pub(super) fn read_as(&mut self, read: &Counter) {
        (self.latched, self.status_latched, self.reads_high) = (read.latched, read.status_latched, read.reads_high);
    }

    fn mode(&self) -> Mode {
        match (self.control & MODE) >> 1 {
            0 => Mode::Interrupt,
            1 => Mode::OneShot,
            2 | 6 => Mode::Rate,
            3 | 7 => Mode::Square,
            4 => Mode::SoftwareStrobe,
            _ => Mode::HardwareStrobe,
        }
    }

    /// A mode in which the gate's rise begins, and its level says nothing.
    fn is_triggered(&self) -> bool {
        matches!(self.mode(), Mode::OneShot | Mode::HardwareStrobe)
    }

    fn is_periodic(&self) -> bool {
        matches!(self.mode(), Mode::Rate | Mode::Square)
    }

    fn counts(&self) -> bool {
        self.runs == 1 && (self.gate == 1 || self.is_triggered())
    }

    /// Cycles counted since it was loaded.
    fn elapsed(&self, cycle: u64) -> u64 {
        let more = if self.counts() { cycle.saturating_sub(self.since) } else { 0 };
        self.held.saturating_add(more)
    }

    /// A cycle of a period's second half, in mode 3: one count more is in the first ("Mode 3", odd counts).
    fn half(start: u32) -> u64 {
        u64::from(start).div_ceil(2)
    }

    /// Itself at this cycle: what waited is loaded, if its time has come.
    pub(super) fn at(mut self, cycle: u64) -> Counter {
        let elapsed = self.elapsed(cycle);
        if elapsed < self.reload_at || self.next == 0 || self.start == 0 {
            return self;
        }
        // A square wave's halves are loaded each by itself ("Mode 3").
        let in_second = self.mode() == Mode::Square && !self.reload_at.is_multiple_of(self.start.into());
        let before = if in_second { Counter::half(self.next) } else { 0 };
        (self.held, self.since) = (before.saturating_add(elapsed - self.reload_at), cycle);
        (self.start, self.next, self.reload_at, self.null) = (self.next, 0, NEVER, 0);
        self
    }

    /// The output.
    pub(super) fn out(&self, cycle: u64) -> bool {
        if self.runs == 0 {
            return self.mode() != Mode::Interrupt;
        }
        let (elapsed, start) = (self.elapsed(cycle), u64::from(self.start.max(1)));
        match self.mode() {
            Mode::Interrupt | Mode::OneShot => elapsed >= start,
            // A gate that is low holds a periodic output high; a period of one cycle is not allowed, and does nothing.
            Mode::Rate => self.gate == 0 || start == 1 || elapsed % start != start - 1,
            Mode::Square => self.gate == 0 || elapsed % start < Counter::half(self.start),
            Mode::SoftwareStrobe | Mode::HardwareStrobe => elapsed != start,
        }
    }

    /// When the output changes next, after this cycle.
    pub(super) fn next_change(&self, cycle: u64) -> Option<u64> {
        if !self.counts() {
            return None;
        }
        let (elapsed, start) = (self.elapsed(cycle), u64::from(self.start.max(1)));
        let at = match self.mode() {
            Mode::Interrupt | Mode::OneShot => Some(start).filter(|end| elapsed < *end),
            Mode::SoftwareStrobe | Mode::HardwareStrobe => [start, start + 1].into_iter().find(|edge| elapsed < *edge),
            Mode::Rate | Mode::Square if start == 1 => None,
            Mode::Rate | Mode::Square => {
                let first = if self.mode() == Mode::Rate { start - 1 } else { Counter::half(self.start) };
                let within = elapsed % start;
                Some(elapsed.saturating_add(if within < first { first - within } else { start - within }))
            }
        }?;
        Some(self.since.saturating_add(at.saturating_sub(self.held)).max(cycle.saturating_add(1)))
    }

    /// What the counting element reads as.
    fn count(&self, cycle: u64) -> u16 {
        if self.runs == 0 {
            return self.rest;
        }
        let most = if self.control & BCD == 0 { BINARY } else { DECIMAL };
        let (elapsed, start) = (self.elapsed(cycle), u64::from(self.start.max(1)));
        let left = match self.mode() {
            Mode::Rate => start - elapsed % start,
            // Two at a time, from an even number ("Mode 3").
            Mode::Square => {
                let (within, half) = (elapsed % start, Counter::half(self.start));
                let done = if within < half { within } else { within - half };
                (start & !1).saturating_sub(2 * done)
            }
            _ => start + u64::from(most) - elapsed % u64::from(most),
        };
        let left = (left % u64::from(most)) as u32;
        if self.control & BCD == 0 { left as u16 } else { decimal(left) }
    }

    /// A control word is written to it.
    pub(super) fn program(&mut self, control: u8, cycle: u64) {
        let rest = self.count(cycle);
        *self = Counter { control: control & CONTROL, rest, ..Counter::new(self.gate == 1) };
    }

    /// The command to latch its count ("Counter Latch Command"). What was latched before is kept until it is read.
    pub(super) fn latch_count(&mut self, cycle: u64) {
        if self.latched == 0 {
            self.latch = self.count(cycle);
            self.latched = if self.control & ACCESS == ACCESS { 2 } else { 1 };
        }
    }

    /// The read-back command's other half: its status.
    pub(super) fn latch_status(&mut self, cycle: u64) {
        if self.status_latched == 0 {
            let out = if self.out(cycle) { STATUS_OUT } else { 0 };
            let null = if self.null == 1 { STATUS_NULL } else { 0 };
            (self.status, self.status_latched) = (out | null | self.control, 1);
        }
    }

    /// A byte is read: a status, then a count, that were latched, or else the count as it is.
    pub(super) fn read(&mut self, cycle: u64) -> u8 {
        if self.status_latched == 1 {
            self.status_latched = 0;
            return self.status;
        }
        let value = match self.latched {
            0 => self.count(cycle),
            left => {
                self.latched = left - 1;
                self.latch
            }
        };
        let [low, high] = value.to_le_bytes();
        match self.control & ACCESS {
            ACCESS_LOW => low,
            ACCESS_HIGH => high,
            _ => {
                self.reads_high ^= 1;
                if self.reads_high == 1 { low } else { high }
            }
        }
    }

    /// A byte of a count is written.
    pub(super) fn write(&mut self, byte: u8, cycle: u64) {
        let value = match self.control & ACCESS {
            ACCESS_LOW => u16::from(byte),
            ACCESS_HIGH => u16::from(byte) << 8,
            _ if self.high_due == 0 => {
                (self.low, self.high_due) = (byte, 1);
                if self.mode() == Mode::Interrupt {
                    // The first byte stops it ("Mode 0").
                    (self.rest, self.runs) = (self.count(cycle), 0);
                }
                return;
            }
            _ => {
                self.high_due = 0;
                u16::from_le_bytes([self.low, byte])
            }
        };
        (self.next, self.null) = (if self.control & BCD == 0 { binary(value) } else { of_decimal(value) }, 1);
        if self.is_triggered() {
            return;
        }
        if self.is_periodic() && self.runs == 1 {
            if self.reload_at == NEVER && self.gate == 1 {
                self.reload_at = self.boundary(cycle);
            }
            return;
        }
        self.load(cycle);
    }

    /// Where a count that is written now is loaded in a periodic mode: the end of the period, or of its half.
    fn boundary(&self, cycle: u64) -> u64 {
        let (elapsed, start) = (self.elapsed(cycle), u64::from(self.start.max(1)));
        let within = elapsed % start;
        let first = Counter::half(self.start);
        let left = if self.mode() == Mode::Square && within < first { first - within } else { start - within };
        elapsed.saturating_add(left)
    }

    /// The count goes into the counting element, which begins with the next cycle.
    fn load(&mut self, cycle: u64) {
        if self.next != 0 {
            (self.start, self.next) = (self.next, 0);
        }
        if self.start == 0 {
            return;
        }
        (self.held, self.since, self.reload_at) = (0, cycle.saturating_add(1), NEVER);
        (self.runs, self.null) = (1, 0);
    }

    /// The gate has this level from now on (figure 21).
    pub(super) fn set_gate(&mut self, level: bool, cycle: u64) {
        if level == (self.gate == 1) {
            return;
        }
        if level {
            self.gate = 1;
            match self.mode() {
                // The gate's rise begins anew, where there is a count.
                Mode::OneShot | Mode::HardwareStrobe => self.load(cycle),
                Mode::Rate | Mode::Square if self.runs == 1 => self.load(cycle),
                _ => self.since = cycle.saturating_add(1),
            }
        } else {
            self.held = self.elapsed(cycle);
            self.since = cycle;
            self.gate = 0;
            // What waits is loaded when the gate rises.
            self.reload_at = NEVER;
        }
    }
}

fn binary(value: u16) -> u32 {
    if value == 0 { BINARY } else { value.into() }
}

/// Four digits. One above nine counts as it would in any other place.
fn of_decimal(value: u16) -> u32 {
    let digit = |place: u32| u32::from(value >> (4 * place) & 0xf) * 10_u32.pow(place);
    match (0..4).map(digit).sum() {
        0 => DECIMAL,
        number => number,
    }
}

fn decimal(number: u32) -> u16 {
    (0..4).map(|place| ((number / 10_u32.pow(place) % 10) << (4 * place)) as u16).sum()
}
