//! Ends over which messages go that carry data alone, never descriptors: a pair of packet sockets, a pipe.
//!
//! After Native Client's transferable data socket: what can carry capabilities is not itself sent, what can be sent carries
//! no capabilities. Each end has an open file of its own, so its `O_NONBLOCK` is nobody else's, and a plain `read(2)` or
//! `write(2)` of it never waits.

use crate::Fault;
use crate::capability::{READ_WRITE, access_mode, descriptor_capabilities, flags, kind};
use crate::socket::deny_rights;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, sockopt};
use nix::sys::stat::{self, SFlag};
use nix::unistd;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes that each end of a socket pair holds for the other at least, as the kernel counts them: some 760 for a message of a
/// lane. A lane depends on it that its queue holds more than is taken from it at once.
const QUEUE_BYTES: usize = 128 << 10;

/// One of two ends of a pair of sockets: whole packets, in order, both ways.
#[derive(Debug)]
pub struct Packets(OwnedFd);

impl Packets {
    /// A new pair. Where the kernel can, neither end takes descriptors; elsewhere a reader's plain `read(2)` drops them.
    pub fn pair() -> io::Result<(Packets, Packets)> {
        let how = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (one, other) = socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, how)?;
        for end in [&one, &other] {
            // Linux before 6.16 does not know it.
            let _ = deny_rights(end.as_fd());
            // The kernel doubles what is asked, up to a limit of the system's.
            socket::setsockopt(end, sockopt::SndBuf, &(QUEUE_BYTES / 2))?;
            if socket::getsockopt(end, sockopt::SndBuf)? < QUEUE_BYTES {
                return Err(io::Error::other(
                    "net.core.wmem_max is less than 64 KiB: a lane over a socket needs that much",
                ));
            }
        }
        Ok((Packets(one), Packets(other)))
    }

    /// A second descriptor of the same end.
    pub fn try_clone(&self) -> io::Result<Packets> {
        Ok(Packets(self.0.try_clone()?))
    }
}

/// The end of a pipe that is read.
#[derive(Debug)]
pub struct PipeReader(OwnedFd);

/// The end of a pipe that is written.
#[derive(Debug)]
pub struct PipeWriter(OwnedFd);

/// A new pipe. What is written at once, up to [`PIPE_BUF`](libc::PIPE_BUF) bytes, is never torn (`pipe(7)`).
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    Ok((PipeReader(reader), PipeWriter(writer)))
}

impl PipeReader {
    /// A second descriptor of the same end.
    pub fn try_clone(&self) -> io::Result<PipeReader> {
        Ok(PipeReader(self.0.try_clone()?))
    }
}

impl PipeWriter {
    /// A second descriptor of the same end.
    pub fn try_clone(&self) -> io::Result<PipeWriter> {
        Ok(PipeWriter(self.0.try_clone()?))
    }
}

descriptor_capabilities! {
    Packets: Packets, READ_WRITE, check_packets;
    PipeReader: Stream, schema::Rights::READ, check_reader;
    PipeWriter: Stream, schema::Rights::WRITE, check_writer;
}

/// A connected, unnamed packet socket that never makes its holder wait.
fn check_packets(descriptor: BorrowedFd<'_>) -> Result<(), Fault> {
    crate::socket::check(descriptor, true)?;
    check_nonblocking(descriptor)
}

fn check_reader(descriptor: BorrowedFd<'_>) -> Result<(), Fault> {
    check_pipe(descriptor, OFlag::O_RDONLY)
}

fn check_writer(descriptor: BorrowedFd<'_>) -> Result<(), Fault> {
    check_pipe(descriptor, OFlag::O_WRONLY)
}

/// A pipe, open in exactly this way, that never makes its holder wait.
fn check_pipe(descriptor: BorrowedFd<'_>, mode: OFlag) -> Result<(), Fault> {
    if kind(&stat::fstat(descriptor)?) != SFlag::S_IFIFO {
        return Err(Fault::HandleObject("it is not a pipe"));
    }
    if access_mode(descriptor)? != mode {
        return Err(Fault::HandleRights);
    }
    check_nonblocking(descriptor)
}

fn check_nonblocking(descriptor: BorrowedFd<'_>) -> Result<(), Fault> {
    if flags(descriptor)?.contains(OFlag::O_NONBLOCK) {
        Ok(())
    } else {
        Err(Fault::HandleObject("it could make its holder wait"))
    }
}

/// Reads without waiting. `None`: there is nothing now.
pub(crate) fn read(end: BorrowedFd<'_>, into: &mut [u8]) -> nix::Result<Option<usize>> {
    loop {
        match unistd::read(end, into) {
            Ok(length) => return Ok(Some(length)),
            Err(Errno::EAGAIN) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes all of a message without waiting. False: there is no room now.
pub(crate) fn write(end: BorrowedFd<'_>, message: &[u8]) -> nix::Result<bool> {
    loop {
        match unistd::write(end, message) {
            // The kernel takes a packet, or so small a record of a pipe, whole.
            Ok(length) if length == message.len() => return Ok(true),
            Ok(_) => return Err(Errno::EIO),
            Err(Errno::EAGAIN) => return Ok(false),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Capability, Wake};
    use schema::Handle;

    /// Whether `descriptor` is taken for what `claimed` says.
    fn taken<C: Capability>(descriptor: &impl AsFd, claimed: &Handle) -> Result<(), Fault> {
        C::receive(descriptor.as_fd().try_clone_to_owned().unwrap(), claimed).map(drop)
    }

    #[test]
    fn end_is_taken_only_for_what_it_is() {
        let (one, _other) = Packets::pair().unwrap();
        let (reader, writer) = pipe().unwrap();
        taken::<Packets>(&one, &one.handle(0)).unwrap();
        taken::<PipeReader>(&reader, &reader.handle(0)).unwrap();
        taken::<PipeWriter>(&writer, &writer.handle(0)).unwrap();
        assert_eq!(taken::<PipeReader>(&writer, &reader.handle(0)), Err(Fault::HandleRights));
        assert_eq!(taken::<PipeWriter>(&reader, &writer.handle(0)), Err(Fault::HandleRights));
        assert!(matches!(taken::<Packets>(&reader, &one.handle(0)), Err(Fault::HandleObject(_))));
        assert!(matches!(taken::<PipeReader>(&one, &reader.handle(0)), Err(Fault::HandleObject(_))));
        assert!(matches!(taken::<Packets>(&Wake::create().unwrap(), &one.handle(0)), Err(Fault::HandleObject(_))));
    }

    #[test]
    fn end_that_could_make_its_holder_wait_is_refused() {
        let (one, _other) = Packets::pair().unwrap();
        let (reader, _writer) = pipe().unwrap();
        for end in [one.as_fd(), reader.as_fd()] {
            nix::fcntl::fcntl(end, nix::fcntl::FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        }
        assert!(matches!(taken::<Packets>(&one, &one.handle(0)), Err(Fault::HandleObject(_))));
        assert!(matches!(taken::<PipeReader>(&reader, &reader.handle(0)), Err(Fault::HandleObject(_))));
    }

    #[test]
    fn socket_of_another_type_is_not_packets() {
        let (one, _other) = Packets::pair().unwrap();
        let (stream, _peer) =
            socket::socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_NONBLOCK).unwrap();
        assert!(matches!(taken::<Packets>(&stream, &one.handle(0)), Err(Fault::HandleObject(_))));
    }
}
