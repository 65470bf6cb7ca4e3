//! The 8254 interval timer of a PC, with port 0x61: the third counter's gate, the speaker, and what a program reads beside them.
//!
//! Sources: Intel 231164, *8254 Programmable Interval Timer*; IBM, *PC/AT Technical Reference*, "System timer" and "System
//! board: speaker", and *PS/2 Hardware Interface Technical Reference*, "System Control Port B".
//!
//! It is for machines whose kernel has no interval timer: where there is one, the ports are its.

mod counter;

use crate::declare;
use counter::{CONTROL, Counter};
use device::manifest::{Class, Line, Manifest};
use device::{Access, AttachError, Device, NoRegister, OptionError, Options, Outputs, Powers, Scan};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub(crate) const NAME: &str = "i8254";

/// Ranges: the counters with their control word, and port 0x61.
const COUNTERS: u8 = 0;
const PORT: u16 = 0x40;
const CONTROL_WORD: u64 = 3;
const BOARD_PORT: u16 = 0x61;
/// The first counter's output.
const INTERRUPT: u8 = 0;

/// The counter whose gate is a bit of port 0x61. Those of the others are high.
const SPEAKER: usize = 2;

/// Cycles in a second: the third of a colour carrier (IBM PC/AT, "System timer": 1.19318 MHz).
const CYCLES: u128 = 1_193_182;
const SECOND_NS: u128 = 1_000_000_000;

/// A control word's selection ("Control Word Format"): a counter, or the read-back command.
const SELECTION: u32 = 6;
const READ_BACK: u8 = 3;
/// Neither byte: the command to latch the count.
const ACCESS: u8 = 0x30;
/// The read-back command's bits, the first two inverted ("Read-Back Command").
const BACK_NO_COUNT: u8 = 1 << 5;
const BACK_NO_STATUS: u8 = 1 << 4;
const BACK_COUNTERS: u32 = 1;

/// Bits that are kept: the gate of the timer's third counter, the speaker's data, and the two that mask checks of memory.
const LATCHED: u8 = 0x0f;
const GATE: u8 = 1 << 0;
/// Changes with each refresh of the memory.
const REFRESH: u8 = 1 << 4;
/// The output of the timer's third counter.
const OUTPUT: u8 = 1 << 5;

/// Time between two refreshes of the memory: 18 cycles of the timer.
const REFRESH_NS: u64 = 15_085;

/// The timer.
pub(crate) struct I8254;

/// Its counters, and what was written to port 0x61.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct State {
    counters: [Counter; 3],
    /// The cycle up to which the interrupt line is what the first counter's output was.
    shown: u64,
    /// The line is low until then, because the output was: for a look that comes late.
    low_until: u64,
    latched: u8,
    unused: [u8; 7],
}

impl State {
    /// The cycle of a time; never an earlier one than was shown.
    fn cycle(&self, now: u64) -> u64 {
        // It fits: a cycle is longer than a nanosecond.
        ((u128::from(now) * CYCLES / SECOND_NS) as u64).max(self.shown)
    }

    /// The line follows the output up to now.
    fn show(&mut self, cycle: u64) {
        let counter = self.counters[0].at(self.shown);
        // High then and high now; in between it may have been low, and an interrupt is in its rise.
        let fell = Some(self.shown).filter(|from| counter.out(*from)).and_then(|from| counter.next_change(from));
        let rose = fell.and_then(|fell| self.counters[0].at(fell).next_change(fell));
        self.counters[0] = self.counters[0].at(cycle);
        if rose.is_some_and(|rose| rose <= cycle) && self.counters[0].out(cycle) {
            self.low_until = cycle.saturating_add(1);
        }
        self.shown = cycle;
    }

    fn counter(&mut self, index: usize, cycle: u64) -> &mut Counter {
        self.counters[index] = self.counters[index].at(cycle);
        &mut self.counters[index]
    }

    fn control(&mut self, word: u8, cycle: u64) {
        let selected = word >> SELECTION;
        if selected == READ_BACK {
            for index in (0..self.counters.len()).filter(|index| word >> (BACK_COUNTERS + *index as u32) & 1 != 0) {
                let counter = self.counter(index, cycle);
                if word & BACK_NO_COUNT == 0 {
                    counter.latch_count(cycle);
                }
                if word & BACK_NO_STATUS == 0 {
                    counter.latch_status(cycle);
                }
            }
            return;
        }
        let counter = self.counter(selected.into(), cycle);
        match word & ACCESS {
            0 => counter.latch_count(cycle),
            _ => counter.program(word & CONTROL, cycle),
        }
    }

    fn board(&self, now: u64) -> u8 {
        let cycle = self.cycle(now);
        let refresh = if now / REFRESH_NS % 2 == 1 { REFRESH } else { 0 };
        let output = if self.counters[SPEAKER].at(cycle).out(cycle) { OUTPUT } else { 0 };
        self.latched | refresh | output
    }

    fn set_board(&mut self, value: u8, cycle: u64) {
        self.latched = value & LATCHED;
        self.counter(SPEAKER, cycle).set_gate(value & GATE != 0, cycle);
    }
}

impl Device for I8254 {
    type State = State;

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        options.check(&[])?;
        let ranges = vec![declare::ports("counters", PORT, 4), declare::ports("board", BOARD_PORT, 1)];
        Ok(Manifest {
            ranges,
            lines: vec![Line::Isa(INTERRUPT)],
            ..declare::nothing::<State>(NAME, "interval timer with port 0x61, where the kernel has none", Class::Timer)
        })
    }

    fn attach(_: &Options, _: &mut Powers) -> Result<I8254, AttachError> {
        Ok(I8254)
    }

    fn power_on(&mut self) -> State {
        let counters = [Counter::new(true), Counter::new(true), Counter::new(false)];
        State { counters, shown: 0, low_until: 0, latched: 0, unused: [0; 7] }
    }

    fn check(&self, state: &State) -> bool {
        let gates = [true, true, state.latched & GATE != 0];
        state.counters.iter().all(Counter::is_possible)
            && state.counters.iter().zip(gates).all(|(counter, gate)| counter.has_gate(gate))
            && state.latched & !LATCHED == 0
            && state.low_until <= state.shown.saturating_add(1)
            && state.unused == [0; 7]
    }

    fn read(&mut self, state: &mut State, at: Access) -> Result<u64, NoRegister> {
        let Access { range, offset, width: 1, now } = at else { return Err(NoRegister) };
        match (range, offset) {
            // The control word cannot be read (figure 14: no operation, three-state).
            (COUNTERS, CONTROL_WORD) => Err(NoRegister),
            (COUNTERS, index) => {
                let cycle = state.cycle(now);
                let mut counter = state.counters[index as usize].at(cycle);
                let byte = counter.read(cycle);
                state.counters[index as usize].read_as(&counter);
                Ok(byte.into())
            }
            _ => Ok(state.board(now).into()),
        }
    }

    fn write(&mut self, state: &mut State, at: Access, value: u64) -> Result<(), NoRegister> {
        let Access { range, offset, width: 1, now } = at else { return Err(NoRegister) };
        let (value, cycle) = (value as u8, state.cycle(now));
        state.show(cycle);
        match (range, offset) {
            (COUNTERS, CONTROL_WORD) => state.control(value, cycle),
            (COUNTERS, index) => state.counter(index as usize, cycle).write(value, cycle),
            _ => state.set_board(value, cycle),
        }
        Ok(())
    }

    fn alarm(&mut self, state: &mut State, now: u64) {
        state.show(state.cycle(now));
    }

    fn button(&mut self, _: &mut State, _: u64) {}

    fn refresh(&mut self, _: &mut State, _: u64) {}

    fn scan(&mut self, _: &mut State, _: u64) -> Scan {
        Scan::Idle
    }

    fn pending(&self, _: &State) -> bool {
        false
    }

    fn outputs(&self, state: &State) -> Outputs {
        let counter = state.counters[0].at(state.shown);
        let is_low = state.shown < state.low_until;
        let change = counter.next_change(state.shown);
        let next =
            if is_low { Some(change.map_or(state.low_until, |change| change.min(state.low_until))) } else { change };
        let at = |cycle: u64| u64::try_from((u128::from(cycle) * SECOND_NS).div_ceil(CYCLES)).ok();
        Outputs {
            levels: u32::from(!is_low && counter.out(state.shown)),
            deadline: next.and_then(at),
            ..Outputs::default()
        }
    }

    fn settle(&mut self, _: &State) {}
}

#[cfg(test)]
mod tests;
