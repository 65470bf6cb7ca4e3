//! What a channel asks of its socket beside datagrams.

use crate::Fault;
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, sockopt};
use nix::sys::time::TimeVal;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

pub(crate) use inherited::adopt;
pub(crate) use passrights::deny as deny_rights;
pub(crate) use shut::{hung_up, only_sends};

/// A new connected pair.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// Whether it is a connected `AF_UNIX` `SOCK_SEQPACKET` socket, and whether it has no name.
pub(crate) fn check(socket: BorrowedFd<'_>, unnamed: bool) -> Result<(), Fault> {
    const OTHER: Fault = Fault::HandleObject("it is not a SEQPACKET socket of the Unix family");
    if socket::getsockopt(&socket, sockopt::SockType).map_err(|_| OTHER)? != SockType::SeqPacket {
        return Err(OTHER);
    }
    // The address says the family, and `getpeername` that the socket is connected.
    let own = socket::getsockname::<UnixAddr>(socket.as_raw_fd()).map_err(|_| OTHER)?;
    let peer = socket::getpeername::<UnixAddr>(socket.as_raw_fd())
        .map_err(|_| Fault::HandleObject("it is a socket without a peer"))?;
    if unnamed && !(own.is_unnamed() && peer.is_unnamed()) {
        return Err(Fault::HandleObject("it is a socket with a name"));
    }
    Ok(())
}

/// How long a receive waits in the kernel; `None`: for ever.
pub(crate) fn set_receive_timeout(socket: BorrowedFd<'_>, timeout: Option<Duration>) -> Result<(), Errno> {
    // Zero means for ever to the kernel, so the shortest time is a microsecond.
    let time = timeout.map_or(TimeVal::new(0, 0), |timeout| {
        let micros = timeout.as_micros().max(1);
        let seconds = i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX);
        TimeVal::new(seconds, (micros % 1_000_000) as _)
    });
    socket::setsockopt(&socket, sockopt::ReceiveTimeout, &time)
}

mod inherited {
    //! The one place where a number becomes a descriptor.
    #![allow(unsafe_code)] // A number says nothing about its owner.

    use crate::Fault;
    use nix::errno::Errno;
    use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// The numbers that were adopted, as bits.
    static ADOPTED: AtomicU64 = AtomicU64::new(0);

    pub(crate) fn adopt(number: RawFd) -> Result<OwnedFd, Fault> {
        let bit = u32::try_from(number).ok().and_then(|number| 1u64.checked_shl(number));
        let bit = bit.filter(|_| number > 2).ok_or(Fault::Io(Errno::EBADF))?;
        // SAFETY: borrowed for one call that fails when nothing is open at this number.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        nix::fcntl::fcntl(borrowed, nix::fcntl::FcntlArg::F_GETFD)?;
        if ADOPTED.fetch_or(bit, Ordering::SeqCst) & bit != 0 {
            return Err(Fault::Io(Errno::EBUSY));
        }
        // SAFETY: it is open, it was left there for us by whoever started the process, and nobody adopts it twice.
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    }
}

mod shut {
    //! What is shut of a socket: `POLLRDHUP`, which nix does not know.
    #![allow(unsafe_code)] // poll by libc.

    use nix::errno::Errno;
    use std::os::fd::{AsRawFd, BorrowedFd};

    /// Whether nothing can be received by this socket, now or ever.
    pub(crate) fn only_sends(socket: BorrowedFd<'_>) -> Result<bool, Errno> {
        seen(socket, libc::POLLRDHUP)
    }

    /// Whether nothing can go either way any more.
    pub(crate) fn hung_up(socket: BorrowedFd<'_>) -> Result<bool, Errno> {
        seen(socket, libc::POLLHUP)
    }

    fn seen(socket: BorrowedFd<'_>, event: libc::c_short) -> Result<bool, Errno> {
        let mut polled = libc::pollfd { fd: socket.as_raw_fd(), events: event, revents: 0 };
        // SAFETY: one structure, which outlives the call.
        Errno::result(unsafe { libc::poll(&raw mut polled, 1, 0) })?;
        Ok(polled.revents & event != 0)
    }
}

mod passrights {
    //! `SO_PASSRIGHTS`, which nix and libc do not know yet.
    #![allow(unsafe_code)] // setsockopt by number.

    use nix::errno::Errno;
    use std::os::fd::{AsRawFd, BorrowedFd};

    /// `SO_PASSRIGHTS` of `asm-generic/socket.h`, Linux 6.16.
    const SO_PASSRIGHTS: libc::c_int = 83;

    /// Denies the peer the sending of descriptors.
    pub(crate) fn deny(socket: BorrowedFd<'_>) -> Result<(), Errno> {
        let off: libc::c_int = 0;
        let bytes = size_of_val(&off) as libc::socklen_t;
        // SAFETY: the value is an int that outlives the call, and `bytes` is its size.
        let set = unsafe {
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_PASSRIGHTS, (&raw const off).cast(), bytes)
        };
        Errno::result(set).map(drop)
    }
}
