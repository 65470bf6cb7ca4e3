//! The watchdog of the iBASE IB700 single-board computer: a timer that ends the machine unless the guest winds it in time.
//!
//! Source: iBASE, *IB700 Pentium III CPU card, User's Manual*, "Watchdog Timer Configuration".

use cofferdam_plugin::{
    Access, Device, Latch, Manifest, NoRegister, OptionSpec, Options, Outputs, Powers, Range, Refusal, Switch, Wish,
    run, state,
};

const SECOND: u64 = 1_000_000_000;
const ACTIONS: [(&str, Switch); 3] =
    [("reset", Switch::Reset), ("poweroff", Switch::PowerOff), ("panic", Switch::Panicked)];

state! { struct State { expires_ns: u64, expiries: u32, runs: u8 } }

struct Ib700 {
    expired: Latch,
}

impl Device for Ib700 {
    type State = State;
    const OPTIONS: &'static [OptionSpec] =
        &[OptionSpec::text("action", "reset", "what an expired timer does: reset, poweroff or panic")];

    fn manifest(options: &Options) -> Result<Manifest, Refusal> {
        let action = options.choice("action", &ACTIONS)?;
        Ok(Manifest::new("ib700", "iBASE IB700 watchdog timer")
            .range(Range::ports("stop", 0x441, 1))
            .range(Range::ports("start", 0x443, 1))
            .wish(Wish::switch(action, "expired", "a guest that stands still is to be ended")))
    }
    fn attach(_: &Options, powers: &mut Powers) -> Result<Ib700, Refusal> {
        Ok(Ib700 { expired: Latch::new(powers.switch("expired")?) })
    }
    fn check(&self, state: &State) -> bool {
        state.runs <= 1 && (state.runs == 1 || state.expires_ns == 0)
    }
    fn write(&mut self, state: &mut State, at: Access, value: u64) -> Result<(), NoRegister> {
        // Value 0 is the longest time, each further one two seconds less, and value 15 none at all.
        let starts = at.range == 1;
        state.runs = starts.into();
        state.expires_ns = if starts { at.now + (30 - value % 16 * 2) * SECOND } else { 0 };
        Ok(())
    }
    fn alarm(&mut self, state: &mut State, now: u64) {
        if state.runs == 1 && state.expires_ns <= now {
            *state = State { expiries: state.expiries.wrapping_add(1), ..State::default() };
        }
    }
    fn outputs(&self, state: &State) -> Outputs {
        Outputs { deadline: (state.runs == 1).then_some(state.expires_ns), ..Outputs::default() }
    }
    fn settle(&mut self, state: &State) {
        self.expired.settle((state.expiries > 0).then_some(state.expiries.into()));
    }
}

run!(Ib700);
