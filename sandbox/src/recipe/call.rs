//! What a process may ask of the kernel.

use super::{Because, DescriptorKind, Mode};

/// A system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    /// Its number on this architecture.
    pub number: i64,
    /// Its name in the manual.
    pub name: &'static str,
}

macro_rules! calls {
    ($($constant:ident = $number:ident $name:literal;)*) => {
        #[allow(missing_docs)]
        impl Call {
            $(pub const $constant: Call = Call { number: libc::$number, name: $name };)*
        }
    };
}
calls! {
    BRK = SYS_brk "brk";
    CLOCK_GETTIME = SYS_clock_gettime "clock_gettime";
    CLOCK_NANOSLEEP = SYS_clock_nanosleep "clock_nanosleep";
    CLOSE = SYS_close "close";
    EXIT = SYS_exit "exit";
    EXIT_GROUP = SYS_exit_group "exit_group";
    FDATASYNC = SYS_fdatasync "fdatasync";
    FUTEX = SYS_futex "futex";
    GETPID = SYS_getpid "getpid";
    GETRANDOM = SYS_getrandom "getrandom";
    GETTID = SYS_gettid "gettid";
    IOCTL = SYS_ioctl "ioctl";
    MADVISE = SYS_madvise "madvise";
    MMAP = SYS_mmap "mmap";
    MPROTECT = SYS_mprotect "mprotect";
    MREMAP = SYS_mremap "mremap";
    MUNMAP = SYS_munmap "munmap";
    POLL = SYS_poll "poll";
    PPOLL = SYS_ppoll "ppoll";
    PREAD64 = SYS_pread64 "pread64";
    PREADV = SYS_preadv "preadv";
    PREADV2 = SYS_preadv2 "preadv2";
    PWRITE64 = SYS_pwrite64 "pwrite64";
    PWRITEV = SYS_pwritev "pwritev";
    READ = SYS_read "read";
    READV = SYS_readv "readv";
    RECVMSG = SYS_recvmsg "recvmsg";
    RESTART_SYSCALL = SYS_restart_syscall "restart_syscall";
    RT_SIGPROCMASK = SYS_rt_sigprocmask "rt_sigprocmask";
    RT_SIGRETURN = SYS_rt_sigreturn "rt_sigreturn";
    SENDTO = SYS_sendto "sendto";
    SHUTDOWN = SYS_shutdown "shutdown";
    SIGALTSTACK = SYS_sigaltstack "sigaltstack";
    TGKILL = SYS_tgkill "tgkill";
    WRITE = SYS_write "write";
    WRITEV = SYS_writev "writev";
}

/// A value with a name, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// The value.
    pub value: u64,
    /// What the manual calls it.
    pub name: &'static str,
}

/// What must hold of a system call's arguments. The kernel sees the registers only, never memory that they point at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Argument 0 is a descriptor of one of these kinds that is held for this direction.
    On(&'static [DescriptorKind], Mode),
    /// The low 32 bits of the argument are one of these.
    OneOf(u8, Vec<Named>),
    /// None of these bits of the argument is set.
    Without(u8, Named),
}

/// A system call that is left to a sealed process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// Which.
    pub call: Call,
    /// All of these must hold.
    pub when: Vec<Condition>,
    /// What it is needed for.
    pub because: Because,
}
