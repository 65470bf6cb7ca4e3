//! Between the supervisor and the VMM of a machine that is driven from outside: steps, and what came of them.

use crate::manifest::Switch;
use crate::vmm::Drive;

/// Most steps of one call: few enough for a message of 16 KiB.
pub const STEPS_MAX: usize = 256;
/// Most bytes of memory that one step reads or writes.
pub const BLOCK_MAX: usize = 4 * 1024;
/// Most changes of interrupt inputs in one message, and of one step.
pub const CHANGES_MAX: usize = 512;
/// Words of an answer's outcomes beyond which no further step is taken. A message has 2048; the last step may need as many as a
/// block and its changes do, and each has a few of its own.
pub const OUTCOME_WORDS: usize = 768;
/// The number of the outside, among those who drive interrupt inputs.
pub const OUTSIDE: u8 = u8::MAX;

/// Whose time a machine's is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u16)]
pub enum Clock {
    /// The outside's.
    #[default]
    Real = 1,
    /// Nobody's: it passes by [`Step::Pass`] alone.
    Virtual = 2,
}

/// Event: steps made one after the other, as a vcpu, the wires and time would make them. [`Played`] answers it, and the next
/// one comes after that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Play {
    /// At most [`STEPS_MAX`].
    pub steps: Vec<Step>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// An access, as a vcpu would make it.
    Access(Drive),
    /// Memory is read.
    Read {
        /// From where on.
        address: u64,
        /// Bytes, at most [`BLOCK_MAX`].
        count: u16,
    },
    /// Memory is written.
    Write {
        /// From where on.
        address: u64,
        /// What, at most [`BLOCK_MAX`] bytes.
        bytes: Vec<u8>,
    },
    /// Memory is filled.
    Fill {
        /// From where on.
        address: u64,
        /// Bytes, at most [`BLOCK_MAX`].
        count: u16,
        /// With what.
        byte: u8,
    },
    /// Time passes until then, in nanoseconds of the guest clock, with each alarm on the way at its own.
    Pass(u64),
    /// An interrupt input is driven from outside.
    Wire {
        /// Which.
        input: u8,
        /// High.
        level: bool,
    },
}

/// VMM to supervisor: what came of [`Play`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Played {
    /// Of the first steps. When no more fit they are fewer, and the last may be [`Step::Pass`] that fell short.
    pub steps: Vec<Outcome>,
    /// Guest clock after the last.
    pub now: u64,
    /// When the next alarm is due.
    pub deadline: Option<u64>,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// What was loaded.
    pub value: u64,
    /// What was read.
    pub bytes: Vec<u8>,
    /// Changes of interrupt inputs, in their order.
    pub changes: Vec<Change>,
}

/// Somebody drives an interrupt input with another level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Which input.
    pub input: u8,
    /// High.
    pub level: bool,
    /// The device's number, or [`OUTSIDE`].
    pub device: u8,
    /// Another one holds the input high, so that nothing is seen of it there.
    pub hidden: bool,
}

/// VMM to supervisor: interrupt inputs changed of a host's own accord.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// In their order.
    pub changes: Vec<Change>,
}

/// VMM to supervisor: a device turned a switch, and the machine goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turned {
    /// The device's number.
    pub device: u8,
    /// What it turned.
    pub switch: Switch,
    /// With which number.
    pub value: u64,
}
