//! The steps that a device host goes through, for a test that ends it after each of them, or has it break a rule.
//!
//! Without the feature `steps` nothing of this is left; only the tests' own host has it.

/// What a host has just done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// Found a state, and is about to go on with it.
    Found,
    /// Committed it anew, and told of it.
    Started,
    /// Taken an operation, and not yet begun with it.
    Taken,
    /// Copied the state.
    Copied,
    /// Changed the copy, by the operation or by what lay in a queue.
    Changed,
    /// Written one half of a header.
    HeaderBegun,
    /// Written the header.
    HeaderWritten,
    /// Stored the commit word.
    Committed,
    /// Told the VMM of the commit.
    Told,
    /// Made the commit's effects outside happen: interrupts, used rings, bytes.
    Settled,
    /// Said that it is about to sleep.
    Asleep,
    /// Been rung, and not yet said that it is awake.
    Rung,
}

impl Step {
    /// All of them.
    pub const ALL: [Step; 12] = [
        Step::Found,
        Step::Started,
        Step::Taken,
        Step::Copied,
        Step::Changed,
        Step::HeaderBegun,
        Step::HeaderWritten,
        Step::Committed,
        Step::Told,
        Step::Settled,
        Step::Asleep,
        Step::Rung,
    ];
}

/// A rule of the lane that a test has its host break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// The reply is written after the commit word.
    ReplyAfterCommit,
    /// The state is changed in place.
    OneCopy,
    /// Effects outside happen before the commit.
    EffectsBeforeCommit,
    /// A new incarnation tells nobody of what it found committed, and looks at nothing before it is rung.
    SilentStart,
    /// An incarnation goes on beside its successor. The host itself does nothing about this one.
    Overlap,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 5] =
        [Fault::ReplyAfterCommit, Fault::OneCopy, Fault::EffectsBeforeCommit, Fault::SilentStart, Fault::Overlap];
}

#[cfg(feature = "steps")]
mod armed {
    use super::{Fault, Step};
    use std::sync::OnceLock;

    static HOOK: OnceLock<fn(Step)> = OnceLock::new();
    static BROKEN: OnceLock<Fault> = OnceLock::new();

    /// From now on `hook` is called after each step, and this rule is broken.
    pub fn arm(hook: fn(Step), fault: Option<Fault>) {
        let _ = HOOK.set(hook);
        if let Some(fault) = fault {
            let _ = BROKEN.set(fault);
        }
    }

    /// The host has done this.
    pub fn reach(step: Step) {
        if let Some(hook) = HOOK.get() {
            hook(step);
        }
    }

    /// Whether this rule is to be broken.
    pub fn is_broken(fault: Fault) -> bool {
        BROKEN.get() == Some(&fault)
    }
}

#[cfg(not(feature = "steps"))]
mod armed {
    use super::{Fault, Step};

    /// The host has done this.
    #[inline(always)]
    pub fn reach(_: Step) {}

    /// Whether this rule is to be broken.
    #[inline(always)]
    pub fn is_broken(_: Fault) -> bool {
        false
    }
}

pub use armed::*;
