//! What is sent over a socket: one datagram for each message.

use crate::SendError;
use crate::datagram;
use crate::header::{DATAGRAM_MAX, HEADER_BYTES, Header, Type};
use crate::packet::one_to_one;
use capnp::Word;
use nix::errno::Errno;
use schema::{Body, Scratch};
use std::os::fd::BorrowedFd;

/// Largest body of [`Channel::tell_by_write`](crate::Channel::tell_by_write): a log line, with room to spare; it is built on the stack.
pub const SMALL_BODY_BYTES: usize = 1024;

/// Where datagrams are put together. Its memory is used again for each.
pub(crate) struct Outgoing {
    scratch: Scratch,
    datagram: Vec<u8>,
}

impl Default for Outgoing {
    fn default() -> Self {
        Outgoing { scratch: Scratch::default(), datagram: Vec::with_capacity(DATAGRAM_MAX) }
    }
}

impl Outgoing {
    /// Sends one datagram, or says at once why not.
    pub(crate) fn send<B: Body>(
        &mut self,
        socket: BorrowedFd<'_>,
        kind: Type,
        txid: u64,
        body: &B,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), SendError> {
        if !one_to_one(&body.handles(), descriptors.len()) {
            return Err(SendError::Handles);
        }
        self.datagram.clear();
        self.scratch.lend(body, |segment| {
            let header = header::<B>(kind, txid, descriptors.len() as u8, segment.len());
            self.datagram.extend_from_slice(&header.to_bytes());
            self.datagram.extend_from_slice(segment);
        })?;
        datagram::send(socket, &self.datagram, descriptors).map_err(send_error)
    }
}

/// Sends a small message by one `write(2)`, without allocating.
pub(crate) fn write<B: Body>(socket: BorrowedFd<'_>, kind: Type, txid: u64, body: &B) -> Result<(), SendError> {
    const WORDS: usize = SMALL_BODY_BYTES / size_of::<Word>();
    let mut datagram = [0; HEADER_BYTES + SMALL_BODY_BYTES];
    let mut words = [capnp::word(0, 0, 0, 0, 0, 0, 0, 0); WORDS];
    let length = schema::encode_in(&mut words, body, |segment| {
        datagram[HEADER_BYTES..][..segment.len()].copy_from_slice(segment);
        segment.len()
    })?;
    let header = header::<B>(kind, txid, 0, length);
    datagram[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    nix::unistd::write(socket, &datagram[..HEADER_BYTES + length]).map(drop).map_err(send_error)
}

fn header<B: Body>(kind: Type, txid: u64, handles: u8, body_bytes: usize) -> Header {
    Header { ordinal: B::ORDINAL, txid, kind, handles, body_bytes: body_bytes as u32, schema_id: B::SCHEMA_ID }
}

fn send_error(error: Errno) -> SendError {
    match error {
        // ENOBUFS: no memory for a datagram of this size at the moment.
        Errno::EAGAIN | Errno::ENOBUFS => SendError::Full,
        Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN => SendError::Gone,
        other => SendError::Io(other),
    }
}
