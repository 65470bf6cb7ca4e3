//! How long to wait for a socket.

use crate::wake::poll_timeout;
use nix::errno::Errno;
use nix::poll::{self, PollFd, PollFlags, PollTimeout};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// How long to wait for a datagram.
pub(crate) struct Patience {
    pub(crate) wait: Option<Duration>,
    end: Option<Instant>,
    /// Nothing has been waited for yet.
    fresh: bool,
}

impl Patience {
    /// Begins now; `None`: for ever.
    pub(crate) fn of(wait: Option<Duration>) -> Patience {
        let end = wait.filter(|wait| !wait.is_zero()).and_then(|wait| Instant::now().checked_add(wait));
        Patience { wait, end, fresh: true }
    }

    /// Whether nothing may be waited for at all.
    pub(crate) fn is_none(&self) -> bool {
        self.wait.is_some_and(|wait| wait.is_zero())
    }

    /// Whether the whole time is to be waited now, for the first time.
    pub(crate) fn begin(&mut self) -> bool {
        std::mem::take(&mut self.fresh) && !self.is_none()
    }

    fn left(&self) -> Option<Duration> {
        if self.is_none() { self.wait } else { self.end.map(|end| end.saturating_duration_since(Instant::now())) }
    }

    /// Waits until the socket is ready, as long as it lasts. An error or a hang-up is ready, too: the next call says
    /// which.
    pub(crate) fn until_ready(&self, socket: BorrowedFd<'_>, events: PollFlags) -> Result<bool, Errno> {
        loop {
            let left = self.left();
            let mut polled = [PollFd::new(socket, events)];
            match poll::poll(&mut polled, left.map_or(PollTimeout::NONE, poll_timeout)) {
                Ok(0) if left.is_none_or(|left| !left.is_zero()) => {}
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
