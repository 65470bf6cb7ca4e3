//! One operation on a device's access path.

/// What an entry asks of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Operation {
    /// A guest load.
    Read = 1,
    /// A guest store whose vcpu waits.
    Write = 2,
    /// A guest store whose vcpu has gone on.
    Post = 3,
    /// The device's committed deadline has passed.
    Alarm = 4,
    /// Back to the state after power on.
    Reset = 5,
    /// Finish what is under way, start nothing.
    Quiesce = 6,
    /// Leave.
    Shutdown = 7,
    /// The operator pressed the power button.
    Button = 8,
}

impl Operation {
    /// The operation with this number.
    #[must_use]
    pub const fn from_raw(raw: u16) -> Option<Operation> {
        Some(match raw {
            1 => Operation::Read,
            2 => Operation::Write,
            3 => Operation::Post,
            4 => Operation::Alarm,
            5 => Operation::Reset,
            6 => Operation::Quiesce,
            7 => Operation::Shutdown,
            8 => Operation::Button,
            _ => return None,
        })
    }
}

/// One operation, as the plain type of the schema's `Access`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Number of the operation on its lane, modulo 2^32.
    pub sequence: u32,
    /// What is asked.
    pub operation: Operation,
    /// Index into the manifest's ranges.
    pub range: u8,
    /// Bytes: 1, 2, 4 or 8.
    pub width: u8,
    /// Bytes from the start of the range.
    pub offset: u64,
    /// What is written; zero for reads.
    pub value: u64,
    /// Guest clock: nanoseconds since power on.
    pub now: u64,
}

/// The reply, on carriers that send messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Number of the operation that it answers.
    pub sequence: u32,
    /// False: no register there; a read is all ones.
    pub known: bool,
    /// What was read.
    pub value: u64,
}
