//! The program that children run, and a child.

#![allow(unsafe_code)] // waitid on a process descriptor, which nix wraps without the details needed here.

use crate::gate::Gate;
use crate::group::Group;
use crate::recipe::{LayerName, Recipe, Resource, Stage, Value};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fmt::{Display, Formatter};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// A program as a descriptor: what is executed later is what was looked up once, whatever happens to its name.
#[derive(Debug)]
pub struct Program(OwnedFd);

impl Program {
    /// The program that is running.
    pub fn current() -> io::Result<Program> {
        Program::open(Path::new("/proc/self/exe"))
    }

    /// Another one. It must be linked statically: an empty root has no loader.
    pub fn open(path: &Path) -> io::Result<Program> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
        Ok(Program(file.into()))
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A layer that a process does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// Which.
    pub layer: LayerName,
    /// The reason, as the middle of a sentence.
    pub why: String,
    /// What would help, as the middle of a sentence.
    pub remedy: String,
}

/// A process that was spawned. It does not outlive this value: dropped, it is killed and reaped.
#[derive(Debug)]
pub struct Child {
    /// Its number, as the supervisor sees it. Stays its own until it is reaped.
    pub pid: i32,
    /// The number of its helper, if that is a process. It is gone when this one is.
    pub helper: Option<i32>,
    /// Becomes readable when it ends.
    pub pidfd: OwnedFd,
    /// What lets it load, if it is a plugin that is not sealed yet.
    pub(crate) gate: Option<Gate>,
    end: Option<End>,
    lacks: Vec<Lack>,
    /// Last: it can be removed once the process is gone.
    group: Option<Group>,
}

impl Child {
    pub(crate) fn new(pid: i32, pidfd: OwnedFd) -> Child {
        Child { pid, helper: None, pidfd, gate: None, end: None, lacks: Vec::new(), group: None }
    }

    /// Keeps what was done for it before it started its program.
    pub(crate) fn settled(&mut self, group: Option<Group>, lacks: Vec<Lack>) {
        self.group = group;
        self.lacks = lacks;
    }

    /// Layers of its recipe that could not be had as it was started, and why.
    #[must_use]
    pub fn lacks(&self) -> &[Lack] {
        &self.lacks
    }

    /// Seals a plugin from outside: closes its gate, and lowers its limits to those that `recipe` has once it is sealed. Any
    /// other process does that to itself.
    pub fn seal(&mut self, recipe: &Recipe) -> io::Result<()> {
        if recipe.loading.is_none() {
            return Ok(());
        }
        if let Some(gate) = self.gate.take() {
            gate.close();
        }
        for limit in recipe.limits_at(Stage::Sealed) {
            let most = match limit.value {
                Value::Exactly(most) => most,
                Value::LargestFile => crate::audit::largest_writable(self.pid)?,
            };
            lower(self.pid, limit.resource, most)?;
        }
        Ok(())
    }

    /// Kills it with SIGKILL; [`Child::reap`] tells when it is gone. One that is gone already is no error.
    pub fn kill(&self) -> io::Result<()> {
        // SAFETY: the descriptor is open, and no siginfo is passed.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                libc::SIGKILL,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match io::Error::last_os_error() {
            error if result < 0 && error.raw_os_error() != Some(libc::ESRCH) => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits for its end for at most `wait` and frees its number. `None`: it is still running.
    pub fn reap(&mut self, wait: Duration) -> Option<End> {
        if self.end.is_some() {
            return self.end;
        }
        let deadline = Instant::now() + wait;
        loop {
            // Rounded up, so that the last poll does not return a moment too early.
            let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut watched = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
            match poll(&mut watched, timeout) {
                Ok(1..) => break,
                Err(nix::errno::Errno::EINTR) => {}
                _ if Instant::now() < deadline => {}
                _ => return None,
            }
        }
        // SAFETY: all zeroes is a valid siginfo_t, which waitid fills in.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: the descriptor is open and `info` is writable for the length of the call.
        let result = unsafe { libc::waitid(libc::P_PIDFD, self.pidfd.as_raw_fd() as u32, &mut info, libc::WEXITED) };
        self.end = Some(if result < 0 {
            End::Unknown
        } else {
            // SAFETY: waitid succeeded, so the fields of SIGCHLD are the ones that are filled in.
            let status = unsafe { info.si_status() };
            if info.si_code == libc::CLD_EXITED { End::Exited(status) } else { End::Killed(status) }
        });
        self.end
    }
}

/// Sets a limit of another process, or leaves the one that is already lower.
fn lower(pid: i32, resource: Resource, most: u64) -> io::Result<()> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let change = |new: *const libc::rlimit64, old: *mut libc::rlimit64| {
        // SAFETY: each is null or a structure that lives until the call returns.
        match unsafe { libc::prlimit64(pid, resource.number(), new, old) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    change(std::ptr::null(), &mut limit)?;
    let most = most.min(limit.rlim_max);
    change(&libc::rlimit64 { rlim_cur: most, rlim_max: most }, std::ptr::null_mut())
}

impl Drop for Child {
    fn drop(&mut self) {
        /// A killed process is gone within this, unless it is stuck in a driver; then it stays a zombie of ours.
        const REAP: Duration = Duration::from_secs(5);
        if self.end.is_none() {
            let _ = self.kill();
            self.reap(REAP);
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// Somebody else reaped it.
    Unknown,
}

impl Display for End {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Exited(0) => f.write_str("it ended by itself"),
            End::Exited(code) => write!(f, "it ended by itself with code {code}"),
            End::Killed(libc::SIGSYS) => {
                f.write_str("killed by the kernel for a system call that its recipe does not permit")
            }
            End::Killed(libc::SIGKILL) => f.write_str("killed (signal 9)"),
            End::Killed(libc::SIGSEGV) => {
                f.write_str("killed for an access to memory that it does not have (signal 11)")
            }
            End::Killed(libc::SIGBUS) => f.write_str("killed for an access to memory that is not there (signal 7)"),
            End::Killed(libc::SIGABRT) => f.write_str("it aborted (signal 6)"),
            End::Killed(libc::SIGXFSZ) => f.write_str("killed for making a file larger than it may (signal 25)"),
            End::Killed(signal) => write!(f, "killed by signal {signal}"),
            End::Unknown => f.write_str("it ended, and somebody else took the news"),
        }
    }
}
