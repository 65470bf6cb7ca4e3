//! Limits: of a process, and of a control group.

use super::{Because, Stage};

/// A resource limit of the kernel (`setrlimit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Resource {
    CoreBytes,
    FileBytes,
    OpenFiles,
    LockedBytes,
    DataBytes,
    StackBytes,
    Processes,
    QueueBytes,
    RealtimePriority,
}

/// The value of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// This.
    Exactly(u64),
    /// The size of the largest file that it may write: it cannot make one grow.
    LargestFile,
}

/// One resource limit of a recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Which.
    pub resource: Resource,
    /// At most this.
    pub value: Value,
    /// From when on.
    pub from: Stage,
    /// What it stops.
    pub because: Because,
}

/// Limits of a control group. They hold for all that the process starts or has others do, whatever user it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupLimits {
    /// Memory of all kinds: private, the kernel's for it, files' contents that it reads, and shared memory that it is the
    /// first to touch.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub processes: u32,
    /// Processor time; 100 is one processor.
    pub cpu_percent: u32,
    /// What it stops.
    pub because: Because,
}

impl Resource {
    /// Its number for `setrlimit`.
    pub(crate) const fn number(self) -> u32 {
        match self {
            Resource::CoreBytes => libc::RLIMIT_CORE,
            Resource::FileBytes => libc::RLIMIT_FSIZE,
            Resource::OpenFiles => libc::RLIMIT_NOFILE,
            Resource::LockedBytes => libc::RLIMIT_MEMLOCK,
            Resource::DataBytes => libc::RLIMIT_DATA,
            Resource::StackBytes => libc::RLIMIT_STACK,
            Resource::Processes => libc::RLIMIT_NPROC,
            Resource::QueueBytes => libc::RLIMIT_MSGQUEUE,
            Resource::RealtimePriority => libc::RLIMIT_RTPRIO,
        }
    }

    /// How a line of `/proc/PID/limits` begins.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Resource::CoreBytes => "Max core file size",
            Resource::FileBytes => "Max file size",
            Resource::OpenFiles => "Max open files",
            Resource::LockedBytes => "Max locked memory",
            Resource::DataBytes => "Max data size",
            Resource::StackBytes => "Max stack size",
            Resource::Processes => "Max processes",
            Resource::QueueBytes => "Max msgqueue size",
            Resource::RealtimePriority => "Max realtime priority",
        }
    }
}
