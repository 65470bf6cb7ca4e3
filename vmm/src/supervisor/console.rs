//! The outside of a guest's console: a terminal, a pseudo-terminal, a file, or memory.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// Bytes kept for operators who attach later.
const BACKLOG_BYTES: usize = 64 * 1024;
/// A pipe that polls writable takes this many without blocking (PIPE_BUF).
const WRITE_BYTES: usize = 4096;
/// Begins a command to us when typed at a terminal: Ctrl-A, as other monitors use. Then `x` ends the VM, Ctrl-A sends one.
const ESCAPE: u8 = 1;

/// Where the console goes.
#[derive(Debug, Clone)]
pub enum ConsolePlan {
    /// Our own standard input and output.
    Stdio,
    /// A new pseudo-terminal, whose name is said.
    Pty,
    /// A file, output only.
    File(PathBuf),
    /// Memory only.
    Quiet,
}

/// What a person at the terminal asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typed {
    /// Nothing for us.
    Nothing,
    /// To end the VM.
    Quit,
}

/// An open console.
pub struct Console {
    input: Option<OwnedFd>,
    output: Option<File>,
    /// The terminal as it was; put back when dropped.
    saved: Option<(OwnedFd, Termios)>,
    escaped: bool,
    pending: Vec<u8>,
    backlog: VecDeque<u8>,
    produced: u64,
    /// Keeps the other side of a pseudo-terminal open, so that it outlives whoever attaches.
    _slave: Option<OwnedFd>,
}

impl Console {
    /// Opens it. The terminal is not changed before [`Console::raw`].
    pub fn open(plan: &ConsolePlan) -> Result<Console> {
        let mut console = Console {
            input: None,
            output: None,
            saved: None,
            escaped: false,
            pending: Vec::new(),
            backlog: VecDeque::new(),
            produced: 0,
            _slave: None,
        };
        match plan {
            ConsolePlan::Quiet => {}
            ConsolePlan::Stdio => {
                console.input = std::io::stdin().as_fd().try_clone_to_owned().ok();
                console.output = std::io::stdout().as_fd().try_clone_to_owned().ok().map(File::from);
            }
            ConsolePlan::File(path) => {
                let file = OpenOptions::new().create(true).truncate(true).write(true).open(path);
                let file = file.with_context(|| format!("--console: cannot write to {}", path.display()))?;
                console.output = Some(file);
            }
            ConsolePlan::Pty => {
                let master = nix::pty::posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
                    .context("--console pty: no pseudo-terminal can be had")?;
                nix::pty::grantpt(&master)?;
                nix::pty::unlockpt(&master)?;
                let name = nix::pty::ptsname_r(&master)?;
                let slave = OpenOptions::new().read(true).write(true).open(&name)?;
                eprintln!("cofferdam: the console is {name}");
                let master: OwnedFd = master.as_fd().try_clone_to_owned()?;
                let mut raw = tcgetattr(&slave)?;
                cfmakeraw(&mut raw);
                tcsetattr(&slave, SetArg::TCSANOW, &raw)?;
                console.output = Some(File::from(master.try_clone()?));
                console.input = Some(master);
                console._slave = Some(slave.into());
            }
        }
        Ok(console)
    }

    /// Passes keys to the guest unprocessed, where standard input is a terminal.
    pub fn raw(&mut self) {
        let Some(input) = self.input.as_ref().filter(|_| self._slave.is_none() && self.saved.is_none()) else { return };
        let (Ok(was), Ok(keep)) = (tcgetattr(input), input.try_clone()) else { return };
        let mut raw = was.clone();
        cfmakeraw(&mut raw);
        if tcsetattr(input, SetArg::TCSANOW, &raw).is_ok() {
            self.saved = Some((keep, was));
        }
    }

    /// What to poll for input.
    #[must_use]
    pub fn input(&self) -> Option<BorrowedFd<'_>> {
        self.input.as_ref().map(AsFd::as_fd)
    }

    /// What to poll for room, while output waits.
    #[must_use]
    pub fn blocked_output(&self) -> Option<BorrowedFd<'_>> {
        self.output.as_ref().filter(|_| !self.pending.is_empty()).map(AsFd::as_fd)
    }

    /// Whether there is room for more output.
    #[must_use]
    pub fn hungry(&self) -> bool {
        self.pending.len() < WRITE_BYTES
    }

    /// Reads what was typed, at most `bound` bytes. At its end, input is no longer polled.
    pub fn read(&mut self, bound: usize, into: &mut Vec<u8>) -> Typed {
        let Some(input) = &self.input else { return Typed::Nothing };
        let mut buffer = [0u8; 1024];
        let bound = bound.min(buffer.len());
        match nix::unistd::read(input, &mut buffer[..bound]) {
            Ok(count) if count > 0 => {
                let terminal = self.saved.is_some();
                for byte in &buffer[..count] {
                    if terminal && self.escaped {
                        self.escaped = false;
                        match byte {
                            b'x' | b'X' => return Typed::Quit,
                            &ESCAPE => into.push(ESCAPE),
                            other => into.extend([ESCAPE, *other]),
                        }
                    } else if terminal && *byte == ESCAPE {
                        self.escaped = true;
                    } else {
                        into.push(*byte);
                    }
                }
            }
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            // A pseudo-terminal without a reader answers EIO until one comes; it keeps its own slave open, so it does not.
            _ => self.input = None,
        }
        Typed::Nothing
    }

    /// Takes what the guest printed.
    pub fn write(&mut self, bytes: &[u8]) {
        self.produced += bytes.len() as u64;
        self.backlog.extend(bytes);
        let excess = self.backlog.len().saturating_sub(BACKLOG_BYTES);
        self.backlog.drain(..excess);
        if self.output.is_some() {
            self.pending.extend_from_slice(bytes);
            self.flush();
        }
    }

    /// Writes what the output takes without blocking.
    pub fn flush(&mut self) {
        let Some(output) = &mut self.output else { return };
        while !self.pending.is_empty() {
            let mut ready = [PollFd::new(output.as_fd(), PollFlags::POLLOUT)];
            if !matches!(poll(&mut ready, PollTimeout::ZERO), Ok(1)) {
                return;
            }
            let chunk = self.pending.len().min(WRITE_BYTES);
            match output.write(&self.pending[..chunk]) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    // Nobody reads any more: the guest goes on without.
                    self.pending.clear();
                    self.output = None;
                    return;
                }
            }
        }
    }

    /// What was produced from byte number `from` on, as far as it is kept, and the number to ask for next.
    #[must_use]
    pub fn since(&self, from: u64, bound: usize) -> (Vec<u8>, u64) {
        let oldest = self.produced - self.backlog.len() as u64;
        let from = from.clamp(oldest, self.produced);
        let skip = (from - oldest) as usize;
        let bytes: Vec<u8> = self.backlog.iter().skip(skip).take(bound).copied().collect();
        let next = from + bytes.len() as u64;
        (bytes, next)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.flush();
        if let Some((terminal, was)) = &self.saved {
            let _ = tcsetattr(terminal, SetArg::TCSANOW, was);
        }
    }
}
