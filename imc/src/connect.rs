//! The right to reach a server, which goes one way.

use crate::capability::descriptor_capabilities;
use crate::{Fault, socket};
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// Bytes of kernel memory that connections may take which wait to be accepted.
///
/// It is what bounds their number, to some ten: each is a small datagram and a socket. A holder who is hostile can raise the
/// bound as far as the kernel lets every process (`net.core.wmem_max`); what waits is charged to the sender all the same.
const PENDING_BYTES: usize = 8 << 10;

/// The right to connect to one [`Acceptor`](crate::Acceptor): who has it reaches the server, nobody else does.
///
/// It may be cloned and sent ([`Capability`](crate::Capability)). The kernel knows it from a channel, for it goes one way:
/// nothing can be received by it.
///
/// All its clones are one socket, so any holder can spoil it for the others by filling it, or by shutting it down. A server
/// that wants to keep its clients apart makes an acceptor for each.
#[derive(Debug)]
pub struct Connect(OwnedFd);

impl Connect {
    /// A new one, and the socket that all that is sent by it arrives at.
    pub(crate) fn create() -> io::Result<(OwnedFd, Connect)> {
        let (ours, theirs) = socket::pair()?;
        shutdown(theirs.as_raw_fd(), Shutdown::Read)?;
        setsockopt(&theirs, sockopt::SndBuf, &PENDING_BYTES)?;
        Ok((ours, Connect(theirs)))
    }

    /// A second descriptor of the same capability.
    pub fn try_clone(&self) -> io::Result<Connect> {
        Ok(Connect(self.0.try_clone()?))
    }
}

descriptor_capabilities! {
    Connect: Connect, schema::Rights::WRITE, check;
}

/// Whether a descriptor is a connect capability: a connected, unnamed socket of a channel's type by which nothing can be
/// received, unlike a channel. Of one whose acceptor is gone nothing more is to be learnt, nor feared.
fn check(descriptor: BorrowedFd<'_>) -> Result<(), Fault> {
    socket::check(descriptor, true)?;
    if socket::only_sends(descriptor)? {
        Ok(())
    } else {
        Err(Fault::HandleObject("it is a channel, which is never sent"))
    }
}
