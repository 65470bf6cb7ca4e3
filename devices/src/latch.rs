//! A switch whose turning is part of a device's state.

use device::Bell;

/// Turns a switch once for each time that the state asks for it, and once more after a restart.
///
/// That the switch is to be turned must be committed before it is turned: a process that dies in between leaves the
/// request in the state, and the next incarnation, which does not know whether it was heard, turns the switch again. What
/// hangs on these switches ends the machine, so the second turn finds nobody, or is told to people, who bear to hear it twice.
pub(crate) struct Latch {
    bell: Box<dyn Bell>,
    /// What this incarnation has rung for.
    rung: Option<u64>,
}

impl Latch {
    pub(crate) fn new(bell: Box<dyn Bell>) -> Latch {
        Latch { bell, rung: None }
    }

    /// The committed state asks for `wanted`.
    pub(crate) fn settle(&mut self, wanted: Option<u64>) {
        if self.rung != wanted {
            self.rung = wanted;
            if let Some(value) = wanted {
                self.bell.ring(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn settling_the_same_state_again_turns_the_switch_once() {
        let bell = Arc::new(AtomicU64::new(0));
        let mut latch = Latch::new(Box::new(bell.clone()));
        latch.settle(None);
        latch.settle(Some(7));
        latch.settle(Some(7));
        assert_eq!(bell.load(Ordering::SeqCst), 7);
    }

    #[test]
    fn a_reset_arms_the_switch_again() {
        let bell = Arc::new(AtomicU64::new(0));
        let mut latch = Latch::new(Box::new(bell.clone()));
        latch.settle(Some(1));
        latch.settle(None);
        latch.settle(Some(1));
        assert_eq!(bell.load(Ordering::SeqCst), 2);
    }
}
