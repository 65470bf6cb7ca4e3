//! A socket that is reached by a capability and by nothing else: no name, no path, no number.

use crate::channel::{Channel, Holders};
use crate::connect::Connect;
use crate::datagram::{self, DESCRIPTORS_MAX, Wait};
use crate::header::{HEADER_BYTES, Header, Type};
use crate::outgoing::Outgoing;
use crate::patience::Patience;
use crate::{DATAGRAM_MAX, Fault, SendError, socket};
use nix::poll::PollFlags;
use schema::{Body, Connection, Handle, Kind};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// What an end of a channel is claimed to allow.
const END_RIGHTS: schema::Rights = schema::Rights::READ.and(schema::Rights::WRITE);
/// Where connections are accepted: the other end of the connect capabilities that were made with it.
///
/// It is the one place where an end of a channel arrives in a message: one [`Connection`], with exactly one descriptor, which
/// the kernel says is a connected, unnamed `AF_UNIX` `SOCK_SEQPACKET` socket. Elsewhere channels are refused
/// ([`Fault::HandleKind`]): a socket that carries capabilities is not itself sent, so no peer can tie sockets into knots that
/// only the kernel's collector undoes.
///
/// It cannot be sent at all.
pub struct Acceptor {
    socket: OwnedFd,
    received: Vec<OwnedFd>,
}

impl Acceptor {
    /// A new one, and the capability to connect to it.
    pub fn create() -> io::Result<(Acceptor, Connect)> {
        let (socket, connect) = Connect::create()?;
        Ok((Acceptor { socket, received: Vec::with_capacity(DESCRIPTORS_MAX) }, connect))
    }

    /// Takes the next connection. `wait`: at most how long to wait for one; zero only looks, `None` waits for ever.
    ///
    /// The client made the pair and may have kept a copy of the end that is ours now. So nothing is relied on that it could
    /// change by that, and waiting on this channel costs one system call more than on others.
    ///
    /// `Ok(None)`: there was none in time.
    ///
    /// # Errors
    /// [`Fault::PeerGone`]: the last connect capability is closed, so nobody can ever connect again. Every other
    /// fault concerns this one attempt, of a holder who broke the rules; the next is another's.
    pub fn accept(&mut self, wait: Option<Duration>) -> Result<Option<Channel>, Fault> {
        let patience = Patience::of(wait);
        loop {
            let mut datagram = Aligned([0; ATTEMPT_MAX]);
            self.received.clear();
            match datagram::receive(self.socket.as_fd(), &mut datagram.0, &mut self.received, Wait::Never) {
                Ok(delivery) => {
                    // An empty datagram looks like the end; but only the end is one.
                    if delivery.bytes == 0 && self.received.is_empty() && socket::hung_up(self.socket.as_fd())? {
                        return Err(Fault::PeerGone);
                    }
                    let taken = take(&datagram.0, delivery, &mut self.received);
                    self.received.clear();
                    return taken.map(Some);
                }
                Err(nix::errno::Errno::ECONNRESET | nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => {
                    if patience.is_none() || !patience.until_ready(self.socket.as_fd(), PollFlags::POLLIN)? {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Acceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Connect {
    /// Makes a channel and sends its other end to the acceptor. `deadline`: how long to wait while too many connections
    /// are pending.
    ///
    /// It does not wait to be accepted: calls may be made at once, and have their own deadlines. Should the acceptor be
    /// dropped first, the channel is gone.
    ///
    /// # Errors
    /// [`SendError::Full`] when others still wait to be accepted; [`SendError::Gone`] when nobody accepts any more.
    pub fn connect(&self, deadline: Duration) -> Result<Channel, SendError> {
        let (ours, theirs) = socket::pair()?;
        let end = Handle { slot: 0, kind: Kind::Channel, rights: END_RIGHTS, size: 0 };
        let patience = Patience::of(Some(deadline));
        let mut outgoing = Outgoing::default();
        loop {
            let connection = Connection { end };
            match outgoing.send(self.as_fd(), Type::Event, 0, &connection, &[theirs.as_fd()]) {
                Err(SendError::Full) if !patience.is_none() => {
                    if !patience.until_ready(self.as_fd(), PollFlags::POLLOUT)? {
                        return Err(SendError::Full);
                    }
                }
                result => return result.map(|()| Channel::of(ours)),
            }
        }
    }
}

/// Bytes of the longest datagram that is looked at here: a header and a [`Connection`] of a future with more fields.
const ATTEMPT_MAX: usize = HEADER_BYTES + 256;
const _: () = assert!(ATTEMPT_MAX <= DATAGRAM_MAX);

/// Cap'n Proto reads words.
#[repr(align(8))]
struct Aligned([u8; ATTEMPT_MAX]);

/// The channel of an attempt to connect, if it is one.
fn take(datagram: &[u8], delivery: datagram::Delivery, received: &mut Vec<OwnedFd>) -> Result<Channel, Fault> {
    if delivery.cut {
        return Err(Fault::Oversize);
    }
    if delivery.descriptors_cut {
        return Err(Fault::Truncated);
    }
    let datagram = &datagram[..delivery.bytes];
    let header = Header::parse(datagram)?;
    if header.kind != Type::Event {
        return Err(Fault::BadState);
    }
    if header.txid != 0 {
        return Err(Fault::BadTxid);
    }
    if header.ordinal != Connection::ORDINAL {
        return Err(Fault::UnknownOrdinal(header.ordinal));
    }
    if header.schema_id != Connection::SCHEMA_ID {
        return Err(Fault::SchemaMismatch);
    }
    let Connection { end } = schema::decode(&datagram[HEADER_BYTES..])?;
    if header.handles != 1 || received.len() != 1 || end.slot != 0 {
        return Err(Fault::HandleCount);
    }
    if end.kind != Kind::Channel {
        return Err(Fault::HandleKind);
    }
    if end.rights != END_RIGHTS {
        return Err(Fault::HandleRights);
    }
    let socket = received.pop().ok_or(Fault::HandleCount)?;
    socket::check(socket.as_fd(), true)?;
    Ok(Channel::new(socket, Holders::Shared))
}
