//! Something to sleep on and to ring.
#![allow(unsafe_code)] // preadv2 with flags, which nix does not offer.

use crate::Fault;
use crate::capability::descriptor_capabilities;
use nix::errno::Errno;
use nix::poll::{self, PollFd, PollFlags, PollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::{stat, uio};
use nix::unistd;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// An eventfd: a counter that one side adds to and the other sleeps on.
///
/// A ring is a hint. What there is to do stands in shared memory, and whoever wakes looks there.
pub struct Wake(OwnedFd);

impl Wake {
    /// A new one; its count is zero.
    ///
    /// It blocks by default. Flags of an open file are shared by all its holders, so nobody relies on `O_NONBLOCK`:
    /// who must not wait asks for that call by call ([`Wake::has_room`], [`Wake::drain`]).
    pub fn create() -> io::Result<Wake> {
        Ok(Wake(EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC)?.into()))
    }

    /// Adds `value`, by a plain `write(2)`.
    ///
    /// Blocks while the counter is full, which only a hostile holder brings about: who serves vcpus asks
    /// [`Wake::has_room`] first.
    pub fn signal(&self, value: u64) -> io::Result<()> {
        loop {
            match unistd::write(&self.0, &value.to_ne_bytes()) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether [`Wake::signal`] with 1 would not wait.
    pub fn has_room(&self) -> bool {
        self.poll(PollFlags::POLLOUT, PollTimeout::ZERO).unwrap_or(false)
    }

    /// Takes the count, if it is not zero. Never waits, whatever the flags of the open file are.
    pub fn drain(&self) -> Option<u64> {
        let mut count = [0; 8];
        match read_nowait(self.0.as_fd(), &mut count) {
            Ok(8) => Some(u64::from_ne_bytes(count)),
            _ => None,
        }
    }

    /// Sleeps until the count is not zero and takes it: one blocking `read(2)` of eight bytes, the only wait of a sealed
    /// device host.
    pub fn sleep(&self) -> io::Result<u64> {
        let mut count = [0; 8];
        loop {
            match unistd::read(&self.0, &mut count) {
                Ok(8) => return Ok(u64::from_ne_bytes(count)),
                Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until the count is not zero, without taking it. False: `timeout` passed first.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let end = Instant::now().checked_add(timeout);
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            match self.poll(PollFlags::POLLIN, left.map_or(PollTimeout::NONE, poll_timeout)) {
                Err(Errno::EINTR) => {}
                Ok(false) if left.is_none_or(|left| !left.is_zero()) => {}
                result => return Ok(result?),
            }
        }
    }

    /// A second descriptor of the same eventfd.
    pub fn try_clone(&self) -> io::Result<Wake> {
        Ok(Wake(self.0.try_clone()?))
    }

    fn poll(&self, events: PollFlags, timeout: PollTimeout) -> nix::Result<bool> {
        let mut polled = [PollFd::new(self.0.as_fd(), events)];
        poll::poll(&mut polled, timeout)?;
        Ok(polled[0].revents().is_some_and(|ready| ready.intersects(events)))
    }
}

descriptor_capabilities! {
    Wake: Wake, schema::Rights::SIGNAL.and(schema::Rights::WAIT), check;
}

/// An eventfd, as far as can be told where there is no `/proc` to ask: three questions, none of which changes its count.
///
/// 1. It is an anonymous inode of the kernel, like one that we made ourselves.
/// 2. It can be read without waiting, but not by less than eight bytes. Besides an eventfd, a timer and a signalfd are so.
/// 3. Nothing can be written to it. A timer and a signalfd refuse even that: they have no such operation.
fn check(descriptor: BorrowedFd<'_>) -> Result<(), Fault> {
    const NO_EVENTFD: Fault = Fault::HandleObject("it is not an eventfd");
    let status = stat::fstat(descriptor)?;
    if (status.st_dev, status.st_ino, status.st_mode) != anonymous_inode()? {
        return Err(NO_EVENTFD);
    }
    let readable = read_nowait(descriptor, &mut [0; 4]) == Err(Errno::EINVAL);
    let writable = uio::writev(descriptor, &[]) == Ok(0);
    if readable && writable { Ok(()) } else { Err(NO_EVENTFD) }
}

/// Device, number and mode of the one inode that all eventfds of the running kernel share.
fn anonymous_inode() -> Result<(u64, u64, u32), Fault> {
    static FOUND: OnceLock<(u64, u64, u32)> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(*found);
    }
    let own = Wake::create().map_err(|error| Fault::Io(Errno::try_from(error).unwrap_or(Errno::EIO)))?;
    let status = stat::fstat(&own)?;
    Ok(*FOUND.get_or_init(|| (status.st_dev, status.st_ino, status.st_mode)))
}

/// The time as `poll(2)` takes it, rounded up: rounded down, a wait of half a millisecond would be a busy loop.
pub(crate) fn poll_timeout(left: Duration) -> PollTimeout {
    let milliseconds = left.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
}

/// Reads without waiting, by a flag of this call and not of the file, which others hold as well.
pub(crate) fn read_nowait(descriptor: BorrowedFd<'_>, into: &mut [u8]) -> nix::Result<usize> {
    let vector = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: the one vector describes `into`, which outlives the call; -1 means the file's own position.
    let read = unsafe { libc::preadv2(descriptor.as_raw_fd(), &vector, 1, -1, libc::RWF_NOWAIT) };
    Errno::result(read).map(|read| read as usize)
}
