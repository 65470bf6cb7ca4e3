//! What a process may hold: descriptors, and shared memory.

use super::{Because, Stage};

/// The kind of kernel object behind a descriptor, as far as the kernel tells an onlooker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DescriptorKind {
    /// A socket.
    Channel,
    /// An eventfd.
    Eventfd,
    /// A regular file or block device.
    File,
    /// A memfd.
    Memory,
    /// An end of a pipe.
    Pipe,
    /// A tap network interface.
    Tap,
    /// A TCP socket that listens.
    Listener,
    /// A TCP connection that a listener gave.
    Connection,
    /// `/dev/kvm`.
    Kvm,
    /// A virtual machine of KVM.
    KvmMachine,
    /// A processor of KVM.
    KvmProcessor,
}

/// Which way bytes may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// Out of the object.
    Read,
    /// Into it.
    Write,
    /// Both.
    Both,
}

impl Mode {
    /// Whether bytes may go the way of `other`.
    #[must_use]
    pub fn covers(self, other: Mode) -> bool {
        self == Mode::Both || self == other
    }
}

/// How many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// This many.
    Exactly(u32),
    /// No more than this many.
    UpTo(u32),
}

impl Count {
    /// The largest that is allowed.
    #[must_use]
    pub const fn most(self) -> u32 {
        match self {
            Count::Exactly(count) | Count::UpTo(count) => count,
        }
    }
    /// The smallest that is allowed.
    #[must_use]
    pub const fn least(self) -> u32 {
        match self {
            Count::Exactly(count) => count,
            Count::UpTo(_) => 0,
        }
    }
}

/// Descriptors that a process may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// What is behind them.
    pub kind: DescriptorKind,
    /// Which way it uses them.
    pub mode: Mode,
    /// How many.
    pub count: Count,
    /// At which stages.
    pub at: &'static [Stage],
    /// A word for what they are: `wake`, `channel`.
    pub purpose: &'static str,
    /// What they are for.
    pub because: Because,
}

/// Shared memory that a process may have mapped once it is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The memfd's name, or the start of it.
    pub name: &'static str,
    /// [`Mode::Read`] or [`Mode::Both`].
    pub mode: Mode,
    /// At most this many bytes in all; `None` where the size is the operator's choice.
    pub bytes: Option<u64>,
    /// It is guest memory.
    pub guest: bool,
    /// What it is for.
    pub because: Because,
}
