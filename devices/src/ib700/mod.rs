//! The watchdog of the iBASE IB700 single-board computer: a timer that ends the machine unless the guest winds it in time.
//!
//! Source: iBASE, *IB700 Pentium III CPU card, User's Manual*, "Watchdog Timer Configuration": ports 0x441 and 0x443, and the
//! table of times.

use crate::declare;
use crate::latch::Latch;
use device::manifest::{Class, Manifest, OptionKind, OptionSpec, Switch};
use device::{Access, AttachError, Device, NoRegister, OptionError, Options, Outputs, Powers, Scan};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

pub(crate) const NAME: &str = "ib700";

/// Ranges, of one port each; the port between them is nobody's.
const STOP: u8 = 0;
const START: u8 = 1;
const STOP_PORT: u16 = 0x441;
const START_PORT: u16 = 0x443;

/// The table of times: value 0 is the longest, each further one two seconds less, and value 15 none at all.
const VALUES: u64 = 16;
const LONGEST_NS: u64 = 30 * 1_000_000_000;
const STEP_NS: u64 = 2 * 1_000_000_000;

/// The card, wired to what is to happen.
pub(crate) struct Ib700 {
    expired: Latch,
}

/// The timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct State {
    /// When it expires, if it runs.
    expires_ns: u64,
    /// How often it has expired since reset.
    expiries: u32,
    /// 0 or 1.
    runs: u8,
    unused: [u8; 3],
}

fn specs() -> Vec<OptionSpec> {
    vec![OptionSpec {
        name: "action".into(),
        kind: OptionKind::Text,
        default: "reset".into(),
        summary: "what an expired timer does: reset, poweroff or panic".into(),
    }]
}

/// The switch that the option `action` names.
fn action(options: &Options) -> Result<Switch, OptionError> {
    options.check(&specs())?;
    match options.text("action").unwrap_or("reset") {
        "reset" => Ok(Switch::Reset),
        "poweroff" => Ok(Switch::PowerOff),
        "panic" => Ok(Switch::Panicked),
        other => {
            Err(OptionError::Value { name: "action".into(), value: other.into(), wanted: "reset, poweroff or panic" })
        }
    }
}

impl Device for Ib700 {
    type State = State;

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        let switch = action(options)?;
        Ok(Manifest {
            ranges: vec![declare::ports("stop", STOP_PORT, 1), declare::ports("start", START_PORT, 1)],
            wishes: vec![declare::switch(switch, "expired", "a guest that stands still is to be ended")],
            options: specs(),
            ..declare::nothing::<State>(NAME, "iBASE IB700 watchdog timer", Class::System)
        })
    }

    fn attach(options: &Options, powers: &mut Powers) -> Result<Ib700, AttachError> {
        action(options)?;
        Ok(Ib700 { expired: Latch::new(powers.switch(0)?) })
    }

    fn power_on(&mut self) -> State {
        State::new_zeroed()
    }

    fn check(&self, state: &State) -> bool {
        state.runs <= 1 && (state.runs != 0 || state.expires_ns == 0) && state.unused == [0; 3]
    }

    fn read(&mut self, _: &mut State, _: Access) -> Result<u64, NoRegister> {
        // Both ports can only be written.
        Err(NoRegister)
    }

    fn write(&mut self, state: &mut State, at: Access, value: u64) -> Result<(), NoRegister> {
        match at.range {
            STOP => *state = State { runs: 0, expires_ns: 0, ..*state },
            START => {
                let left = LONGEST_NS - value % VALUES * STEP_NS;
                *state = State { runs: 1, expires_ns: at.now.saturating_add(left), ..*state };
            }
            _ => return Err(NoRegister),
        }
        Ok(())
    }

    fn alarm(&mut self, state: &mut State, now: u64) {
        if state.runs != 0 && state.expires_ns <= now {
            *state = State { runs: 0, expires_ns: 0, expiries: state.expiries.saturating_add(1), ..*state };
        }
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
        Outputs { deadline: (state.runs != 0).then_some(state.expires_ns), ..Outputs::default() }
    }

    fn settle(&mut self, state: &State) {
        self.expired.settle((state.expiries != 0).then_some(state.expiries.into()));
    }
}

#[cfg(test)]
mod tests;
