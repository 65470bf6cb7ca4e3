//! The access plane: what is asked of a device, what it answers, and over what.

use crate::manifest::SHADOW_MAX;

/// Most bytes that loads of one string instruction are asked for at once. A disk's sector, which is what drivers load by one
/// instruction; a kernel hands out at most twice as much.
pub const STRING_MAX: usize = 512;

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
    /// Somebody wants to see what a display shows.
    Refresh = 9,
    /// Loads that one string instruction makes of a register. The reply is a [`Loaded`].
    ReadString = 10,
}

/// The reply to [`Operation::ReadString`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loaded {
    /// Bytes that were loaded.
    pub bytes: u16,
    /// Bytes that the next such loads would give and do nothing else: not the last of a block, say. They may be taken from the
    /// device's state region, if the device is told by the same operation, posted.
    pub ahead: u16,
    /// Where in the state region those begin.
    pub place: u32,
}

impl Loaded {
    /// What a reply says.
    #[must_use]
    pub const fn of(reply: u64) -> Loaded {
        Loaded { bytes: reply as u16, ahead: (reply >> 16) as u16, place: (reply >> 32) as u32 }
    }

    /// The reply that says so.
    #[must_use]
    pub const fn reply(self) -> u64 {
        self.bytes as u64 | (self.ahead as u64) << 16 | (self.place as u64) << 32
    }
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
            9 => Operation::Refresh,
            10 => Operation::ReadString,
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
    /// What is written; the bytes wanted by a string load; zero for reads.
    pub value: u64,
    /// Guest clock: nanoseconds since power on.
    pub now: u64,
}

/// What a host tells after a commit, on carriers that send messages: the plain type of the schema's `Answer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answer {
    /// Reply to operation `sequence`.
    pub value: u64,
    /// The last operation that has taken effect.
    pub sequence: u32,
    /// Bit `n`: the level of line `n`.
    pub levels: u32,
    /// When the device's alarm is due, in nanoseconds of the guest clock.
    pub deadline: Option<u64>,
    /// Bit `n`: writes of posted kind `n` may be posted.
    pub postable: u32,
    /// Shadow values, where valid.
    pub shadow: [Option<u64>; SHADOW_MAX],
    /// Guest clock at the commit.
    pub now: u64,
    /// Doorbells answered, over all incarnations.
    pub doorbells: u64,
    /// Accesses that hit no register.
    pub unknown: u64,
    /// Bytes of a string load, which operation `sequence` was. They follow the message.
    pub bytes: u16,
    /// This is the first word of a new incarnation: what lies beyond `sequence` is to be sent again.
    pub started: bool,
}

/// What a lane runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u16)]
pub enum Carrier {
    /// Entries and commits in shared memory.
    #[default]
    Memory = 1,
    /// One SEQPACKET packet for each message.
    Socket = 2,
    /// A pipe each way, one record for each message.
    Pipe = 3,
    /// A split virtqueue each way, in shared memory.
    Virtio = 4,
    /// A function call.
    InProcess = 5,
}

impl Carrier {
    /// All of them.
    pub const ALL: [Carrier; 5] =
        [Carrier::Memory, Carrier::Socket, Carrier::Pipe, Carrier::Virtio, Carrier::InProcess];

    /// The word by which a person asks for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Carrier::Memory => "memory",
            Carrier::Socket => "socket",
            Carrier::Pipe => "pipe",
            Carrier::Virtio => "virtio",
            Carrier::InProcess => "in-process",
        }
    }
}
