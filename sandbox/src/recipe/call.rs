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
    ACCEPT4 = SYS_accept4 "accept4";
    ACCESS = SYS_access "access";
    ARCH_PRCTL = SYS_arch_prctl "arch_prctl";
    BRK = SYS_brk "brk";
    CLOCK_GETRES = SYS_clock_getres "clock_getres";
    CLOCK_GETTIME = SYS_clock_gettime "clock_gettime";
    CLOCK_NANOSLEEP = SYS_clock_nanosleep "clock_nanosleep";
    CLOSE = SYS_close "close";
    CLOSE_RANGE = SYS_close_range "close_range";
    DUP = SYS_dup "dup";
    EPOLL_CREATE1 = SYS_epoll_create1 "epoll_create1";
    EVENTFD2 = SYS_eventfd2 "eventfd2";
    EXECVEAT = SYS_execveat "execveat";
    EXIT = SYS_exit "exit";
    EXIT_GROUP = SYS_exit_group "exit_group";
    FACCESSAT2 = SYS_faccessat2 "faccessat2";
    FCNTL = SYS_fcntl "fcntl";
    FDATASYNC = SYS_fdatasync "fdatasync";
    FSTAT = SYS_fstat "fstat";
    FUTEX = SYS_futex "futex";
    GETCWD = SYS_getcwd "getcwd";
    GETDENTS64 = SYS_getdents64 "getdents64";
    GETEGID = SYS_getegid "getegid";
    GETEUID = SYS_geteuid "geteuid";
    GETGID = SYS_getgid "getgid";
    GETPEERNAME = SYS_getpeername "getpeername";
    GETPID = SYS_getpid "getpid";
    GETRANDOM = SYS_getrandom "getrandom";
    GETRLIMIT = SYS_getrlimit "getrlimit";
    GETSOCKNAME = SYS_getsockname "getsockname";
    GETSOCKOPT = SYS_getsockopt "getsockopt";
    GETTID = SYS_gettid "gettid";
    GETUID = SYS_getuid "getuid";
    IOCTL = SYS_ioctl "ioctl";
    LSEEK = SYS_lseek "lseek";
    LSTAT = SYS_lstat "lstat";
    MADVISE = SYS_madvise "madvise";
    MMAP = SYS_mmap "mmap";
    MPROTECT = SYS_mprotect "mprotect";
    MREMAP = SYS_mremap "mremap";
    MUNMAP = SYS_munmap "munmap";
    NEWFSTATAT = SYS_newfstatat "newfstatat";
    OPEN = SYS_open "open";
    OPENAT = SYS_openat "openat";
    POLL = SYS_poll "poll";
    PPOLL = SYS_ppoll "ppoll";
    PRCTL = SYS_prctl "prctl";
    PREAD64 = SYS_pread64 "pread64";
    PREADV = SYS_preadv "preadv";
    PREADV2 = SYS_preadv2 "preadv2";
    PRLIMIT64 = SYS_prlimit64 "prlimit64";
    PWRITE64 = SYS_pwrite64 "pwrite64";
    PWRITEV = SYS_pwritev "pwritev";
    READ = SYS_read "read";
    READLINK = SYS_readlink "readlink";
    READV = SYS_readv "readv";
    RECVFROM = SYS_recvfrom "recvfrom";
    RECVMSG = SYS_recvmsg "recvmsg";
    RESTART_SYSCALL = SYS_restart_syscall "restart_syscall";
    RSEQ = SYS_rseq "rseq";
    RT_SIGACTION = SYS_rt_sigaction "rt_sigaction";
    RT_SIGPROCMASK = SYS_rt_sigprocmask "rt_sigprocmask";
    RT_SIGRETURN = SYS_rt_sigreturn "rt_sigreturn";
    SCHED_GETAFFINITY = SYS_sched_getaffinity "sched_getaffinity";
    SCHED_YIELD = SYS_sched_yield "sched_yield";
    SENDTO = SYS_sendto "sendto";
    SET_ROBUST_LIST = SYS_set_robust_list "set_robust_list";
    SET_TID_ADDRESS = SYS_set_tid_address "set_tid_address";
    SHUTDOWN = SYS_shutdown "shutdown";
    SIGALTSTACK = SYS_sigaltstack "sigaltstack";
    SOCKET = SYS_socket "socket";
    STAT = SYS_stat "stat";
    STATX = SYS_statx "statx";
    SYSINFO = SYS_sysinfo "sysinfo";
    TGKILL = SYS_tgkill "tgkill";
    UNAME = SYS_uname "uname";
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
