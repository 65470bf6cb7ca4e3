//! Signals that end a run.

use anyhow::{Result, bail};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};

/// Signals that end us, kept from the moment the program starts, so that none is lost and none ends us half way.
pub struct Signals {
    queue: SignalFd,
    /// The last one that was taken.
    last: Cell<Option<&'static str>>,
}

impl Signals {
    /// Blocks them; from now on they are read here. Call before any thread is started.
    pub fn hold() -> Result<Signals> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
            set.add(signal);
        }
        set.thread_block()?;
        let queue = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Signals { queue, last: Cell::new(None) })
    }

    /// The name of one that has come.
    pub fn taken(&self) -> Option<&'static str> {
        let info = self.queue.read_signal().ok()??;
        let name = Signal::try_from(info.ssi_signo as i32).map_or("a signal", Signal::as_str);
        self.last.set(Some(name));
        Some(name)
    }

    /// The name of one that has come, now or before: for who runs several machines, and may have lost one to it.
    pub fn came(&self) -> Option<&'static str> {
        self.taken().or(self.last.get())
    }

    /// Ends the start if one has come.
    pub(super) fn check(&self) -> Result<()> {
        match self.taken() {
            Some(name) => bail!("ended by {name} while starting"),
            None => Ok(()),
        }
    }

    /// Readable when one has come.
    pub(super) fn as_source(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}
