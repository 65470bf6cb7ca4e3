//! What a guest saw, and whether a synchronous device could have shown it.

use super::device::{ARM, CONTROL, DATA, FOLD, State};
use std::collections::HashSet;

/// What a vcpu does in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    Read(u64),
    Write(u64, u64),
    /// Puts something into a queue in memory and rings its doorbell.
    Ring,
    /// Looks how many answers an interrupt has told it of.
    Hear,
}

/// A step that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seen {
    pub step: Step,
    /// What it read, and the levels of the lines when it was over.
    pub value: u64,
    pub levels: u32,
    /// Bit `n`: the `n`th step of this history was over before this one began.
    pub after: u32,
    /// The guest clock when it began, and when it was over.
    pub began: u64,
    pub ended: u64,
    /// Doorbells that had been rung when it began.
    pub rings_before: u64,
    /// Bytes that had come from outside when it began, and when it was over.
    pub came_before: u64,
    pub came: u64,
}

/// Whether the steps can be put into an order in which a device that does each at once, whole, would have shown the same: an
/// order that keeps what was over before what began later.
///
/// Free in it is what is free in hardware: when, after it came from outside, a byte is received; when, after its ring, a
/// doorbell is answered, and an interrupt tells of it; when an alarm that is due fires. But a step that is asked of the device itself, for which its manifest
/// has no shortcut, finds all of that done; an alarm that was due when any step began has fired; and the lines are, when a step
/// is over, as the device has them.
pub fn is_synchronous(steps: &[Seen]) -> bool {
    let start = Order { state: State::power_on(), placed: 0, over: 0, rung: 0 };
    let all = (1 << steps.len()) - 1;
    let (mut reached, mut open) = (HashSet::from([start]), vec![start]);
    while let Some(order) = open.pop() {
        if order.over == all {
            return true;
        }
        for (index, step) in steps.iter().enumerate() {
            order.followed_by(1 << index, step, |next| {
                if reached.insert(next) {
                    open.push(next);
                }
            });
        }
    }
    false
}

/// The first part of an order.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Order {
    state: State,
    /// Steps that have their place.
    placed: u32,
    /// Those of them that are over.
    over: u32,
    /// Doorbells among them.
    rung: u64,
}

impl Order {
    /// All ways in which `step`, of this bit, can come next, or be over next.
    fn followed_by(self, bit: u32, step: &Seen, mut found: impl FnMut(Order)) {
        if self.over & bit != 0 || step.after & !self.over != 0 {
            return;
        }
        if step.step == Step::Ring {
            return found(Order { placed: self.placed | bit, over: self.over | bit, rung: self.rung + 1, ..self });
        }
        if step.step == Step::Hear {
            // It may tell later than the device answered, but not sooner.
            let mut state = self.state;
            while state.answered < step.value && state.answered < self.rung {
                state.answer();
            }
            if state.answered >= step.value {
                found(Order { state, placed: self.placed | bit, over: self.over | bit, ..self });
            }
            return;
        }
        for received in self.state.received..=step.came {
            if self.placed & bit != 0 {
                let state = State { received, ..self.state };
                if state.levels() == step.levels {
                    found(Order { state, over: self.over | bit, ..self });
                }
                continue;
            }
            let mut state = State { received, ..self.state };
            self.placing(bit, step, state, &mut found);
            while state.answered < self.rung {
                state.answer();
                self.placing(bit, step, state, &mut found);
            }
        }
    }

    /// `step` comes next, in this state.
    fn placing(self, bit: u32, step: &Seen, state: State, found: &mut impl FnMut(Order)) {
        let direct = matches!(step.step, Step::Read(DATA | FOLD) | Step::Write(CONTROL | ARM, _));
        if direct && (state.received < step.came_before || state.answered < step.rings_before) {
            return;
        }
        for fires in [false, true] {
            let (may_fire, must_fire) = (state.deadline <= step.ended, state.deadline <= step.began);
            if fires && !may_fire || !fires && must_fire {
                continue;
            }
            for now in [step.began, step.ended] {
                let mut state = state;
                if fires {
                    state.fire();
                }
                let value = match step.step {
                    Step::Read(offset) => state.read(offset),
                    Step::Write(offset, value) => {
                        state.write(offset, value, now);
                        0
                    }
                    Step::Ring | Step::Hear => 0,
                };
                if value == step.value {
                    found(Order { state, placed: self.placed | bit, ..self });
                }
            }
        }
    }
}
