//! The lives of a process that is started anew when it ends: a device host, or a net relay. How it is, how often it may die before
//! it is retired, and how long it is left dead.

use std::time::{Duration, Instant};

/// An incarnation after the first does each step of its set-up within this, or a device host within twice what its first start took
/// if that is longer: its vcpus wait meanwhile. Should a loaded machine take longer, the next one has its turn.
pub const SETUP_AGAIN: Duration = Duration::from_secs(5);
/// Restarts that a host is given where nobody says otherwise. Half of them come at once, which is enough for what an
/// operator or a short lack of memory does; the others last some seconds.
pub const RESTARTS: u32 = 10;
/// A host that has lived so long did not die of what its predecessors died of.
const OLD: Duration = Duration::from_secs(10);
/// The first pause before a restart; each next one is twice as long.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest. A vcpu that waits for the device meanwhile must not miss many deadlines.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// What a host that had to be killed is charged, in restarts: one that hangs keeps a vcpu waiting for a whole deadline each
/// time, and one that breaks the rules is broken or hostile.
const CHARGE: u32 = 3;

/// Who ended a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// Itself, or somebody outside.
    Others,
    /// The supervisor, because it missed a deadline or broke the rules.
    Us,
}

/// What comes after a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another incarnation, after a pause.
    Restart(Duration),
    /// None.
    Retire,
}

impl Next {
    /// What is told of it; `loss` says what is gone for good with the last incarnation.
    pub fn told(&self, loss: &str) -> String {
        match self {
            Next::Restart(pause) if pause.is_zero() => "it is started anew".to_owned(),
            Next::Restart(pause) => format!("it is started anew in {} ms", pause.as_millis()),
            Next::Retire => format!("it is retired, {loss}"),
        }
    }
}

/// How a process is.
enum State {
    /// It runs, since then.
    Runs(Instant),
    /// It ended, and is started anew then.
    BacksOff(Instant, String),
    /// It ended, and the next one is being made.
    Starts(String),
    /// It ended for good.
    Retired(String),
}

/// The lives of one process.
pub struct Lives {
    allowed: u32,
    /// Charged since the last incarnation that grew old.
    charged: u32,
    restarts: u32,
    state: State,
}

impl Lives {
    /// A process that runs, and may be started anew so many times, as long as its incarnations die young.
    pub fn new(allowed: u32) -> Lives {
        Lives { allowed, charged: 0, restarts: 0, state: State::Runs(Instant::now()) }
    }

    /// The next incarnation is being made.
    pub fn start(&mut self) {
        if let State::BacksOff(_, why) = &self.state {
            self.state = State::Starts(why.clone());
        }
    }

    /// Whether an incarnation is being made.
    pub fn starts(&self) -> bool {
        matches!(self.state, State::Starts(_))
    }

    /// Whether there is none any more.
    pub fn is_retired(&self) -> bool {
        matches!(self.state, State::Retired(_))
    }

    /// An incarnation begins to serve.
    pub fn begin(&mut self) {
        self.state = State::Runs(Instant::now());
    }

    /// Whether there is an incarnation.
    pub fn runs(&self) -> bool {
        self.age().is_some()
    }

    /// How long it has run, if there is one.
    pub fn age(&self) -> Option<Duration> {
        match self.state {
            State::Runs(since) => Some(since.elapsed()),
            _ => None,
        }
    }

    /// When the next incarnation is due, if one is.
    pub fn due(&self) -> Option<Instant> {
        match self.state {
            State::BacksOff(due, _) => Some(due),
            _ => None,
        }
    }

    /// How it is, in words.
    pub fn state(&self) -> String {
        match &self.state {
            State::Runs(_) => "running".to_owned(),
            State::BacksOff(_, why) => format!("backing off: {why}"),
            State::Starts(why) => format!("starting anew: {why}"),
            State::Retired(why) => format!("retired: {why}"),
        }
    }

    /// If it waits for its next incarnation, it waits no more.
    pub fn give_up(&mut self) {
        if let State::BacksOff(_, why) = &self.state {
            self.state = State::Retired(why.clone());
        }
    }

    /// An incarnation is gone, or could not be made, after it `lived` for so long; of one that is `given_up` it was the last. Says
    /// why, and what follows.
    pub fn mourn(&mut self, why: String, lived: Duration, ended_by: EndedBy, given_up: bool) -> (String, Next) {
        let next = if given_up { Next::Retire } else { self.died(lived, ended_by) };
        self.state = match next {
            Next::Restart(pause) => State::BacksOff(Instant::now() + pause, why.clone()),
            Next::Retire => State::Retired(why.clone()),
        };
        (why, next)
    }

    /// Restarts so far.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// An incarnation has ended after it `lived` for so long.
    fn died(&mut self, lived: Duration, ended_by: EndedBy) -> Next {
        if lived >= OLD {
            self.charged = 0;
        }
        self.charged = self.charged.saturating_add(if ended_by == EndedBy::Us { CHARGE } else { 1 });
        if self.charged > self.allowed {
            return Next::Retire;
        }
        self.restarts = self.restarts.saturating_add(1);
        let beyond = self.charged.saturating_sub(self.allowed.div_ceil(2));
        Next::Restart(match beyond.checked_sub(1) {
            None => Duration::ZERO,
            Some(doubled) => PAUSE.saturating_mul(2u32.saturating_pow(doubled)).min(PAUSE_MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YOUNG: Duration = Duration::from_millis(3);

    fn pauses(lives: &mut Lives, ended_by: EndedBy) -> Vec<u128> {
        let mut pauses = Vec::new();
        while let Next::Restart(pause) = lives.died(YOUNG, ended_by) {
            pauses.push(pause.as_millis());
        }
        pauses
    }

    #[test]
    fn host_without_restarts_is_retired_at_its_first_death() {
        assert_eq!(Lives::new(0).died(OLD, EndedBy::Others), Next::Retire);
    }

    #[test]
    fn host_that_dies_young_again_and_again_backs_off_and_is_retired() {
        let mut lives = Lives::new(RESTARTS);
        assert_eq!(pauses(&mut lives, EndedBy::Others), [0, 0, 0, 0, 0, 100, 200, 400, 800, 1600]);
        assert_eq!(lives.restarts(), RESTARTS);
    }

    #[test]
    fn pauses_have_an_end() {
        assert_eq!(pauses(&mut Lives::new(1000), EndedBy::Others)[999], PAUSE_MAX.as_millis());
    }

    #[test]
    fn host_that_had_to_be_killed_is_retired_sooner() {
        assert_eq!(pauses(&mut Lives::new(RESTARTS), EndedBy::Us), [0, 100, 800]);
    }

    #[test]
    fn host_that_grew_old_begins_with_all_its_restarts() {
        let mut lives = Lives::new(2);
        lives.died(YOUNG, EndedBy::Others);
        lives.died(YOUNG, EndedBy::Others);
        assert_eq!(lives.died(OLD, EndedBy::Others), Next::Restart(Duration::ZERO));
        assert_eq!(lives.restarts(), 3);
    }
}
