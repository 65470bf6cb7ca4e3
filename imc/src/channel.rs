//! One end of a channel to exactly one peer process.

use crate::capability;
use crate::header::{DATAGRAM_MAX, HEADER_BYTES, Header, Type};
use crate::receive::{self, DESCRIPTORS_MAX};
use crate::wake::poll_timeout;
use crate::{CallError, Fault, SendError};
use capnp::Word;
use nix::errno::Errno;
use nix::poll::{self, PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{
    self, AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, UnixAddr, sockopt,
};
use schema::host::Refusal;
use schema::{Body, HANDLES_MAX, Scratch};
use slab::Slab;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Most calls under way in each direction. A peer that leaves so many unanswered has stopped working.
pub const CREDIT: usize = 64;
/// Most messages kept that arrived while a reply was awaited: as many as a socket's own queue holds. A peer that sends
/// more meanwhile floods.
pub const WAITING_MAX: usize = 256;

/// One end of a channel: a `SOCK_SEQPACKET` socket, each of whose datagrams is one message.
///
/// After a [`Fault`] the channel is shut down: what a peer says after it broke the protocol means nothing.
pub struct Channel {
    socket: OwnedFd,
    /// Set once, by the first fault; packets that are not decoded yet share it.
    fault: Arc<OnceLock<Fault>>,
    descriptors_refused: AtomicBool,
    /// Our calls: each awaited, or abandoned at its deadline until its reply comes.
    calls: Slab<u32>,
    generation: u32,
    /// The peer's calls that we have not answered.
    owed: Vec<u64>,
    waiting: VecDeque<Packet>,
    scratch: Scratch,
    outgoing: Vec<u8>,
    incoming: Box<[Word]>,
    received: Vec<OwnedFd>,
}

/// A call of the peer's, to be answered once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallId(u64);

/// A message that was received: a call or an event, not decoded yet.
#[derive(Debug)]
pub struct Packet {
    /// Which message it claims to be.
    pub ordinal: u16,
    /// For a call: where the answer goes.
    pub call: Option<CallId>,
    schema_id: u64,
    body: Box<[Word]>,
    descriptors: Descriptors,
    fault: Arc<OnceLock<Fault>>,
}

/// The descriptors of one message, by slot. What is not taken is closed.
#[derive(Debug, Default)]
pub struct Descriptors([Option<OwnedFd>; HANDLES_MAX]);

impl Channel {
    /// A new channel; one end is meant for a process about to be started.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let (one, other) = socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Channel::new(one), Channel::new(other)))
    }

    /// Adopts the end that was left at this descriptor number when the process was started; once for each number.
    ///
    /// Our end is made non-blocking, so that a plain `write(2)` of a sealed process can never wait for its peer. The flag
    /// is the end's own: the peer has another open file.
    ///
    /// # Errors
    /// [`Fault::HandleObject`] when it is not an unnamed `AF_UNIX` `SOCK_SEQPACKET` socket.
    pub fn inherit(number: RawFd) -> Result<Channel, Fault> {
        let socket = inherited::adopt(number)?;
        check_socket(socket.as_fd(), true)?;
        use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
        fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        let flags = OFlag::from_bits_retain(fcntl(&socket, FcntlArg::F_GETFL)?);
        fcntl(&socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Channel::new(socket))
    }

    /// Takes a connected socket, which may have a name: an operator's.
    ///
    /// # Errors
    /// [`Fault::HandleObject`] when it is not a connected `AF_UNIX` `SOCK_SEQPACKET` socket.
    pub fn from_fd(socket: OwnedFd) -> Result<Channel, Fault> {
        check_socket(socket.as_fd(), false)?;
        Ok(Channel::new(socket))
    }

    fn new(socket: OwnedFd) -> Channel {
        Channel {
            socket,
            fault: Arc::default(),
            descriptors_refused: AtomicBool::new(false),
            calls: Slab::with_capacity(CREDIT),
            generation: 0,
            owed: Vec::with_capacity(CREDIT),
            waiting: VecDeque::new(),
            scratch: Scratch::default(),
            outgoing: Vec::with_capacity(DATAGRAM_MAX),
            // One word more than the largest message, so that a longer one is seen to be.
            incoming: vec![capnp::word(0, 0, 0, 0, 0, 0, 0, 0); DATAGRAM_MAX / size_of::<Word>() + 1].into(),
            received: Vec::with_capacity(DESCRIPTORS_MAX),
        }
    }

    /// Takes no descriptors from now on: where the kernel can (Linux 6.16), the sender fails; elsewhere a datagram with
    /// descriptors is a violation.
    ///
    /// For every peer that is trusted less than oneself: the last close of a descriptor can stall whoever does it.
    pub fn refuse_descriptors(&self) {
        self.descriptors_refused.store(true, Ordering::Relaxed);
        // An older kernel does not know the option; the check on receipt is there for it.
        let _ = passrights::deny(self.socket.as_fd());
    }

    /// Asks, and waits for the answer until `deadline` has passed. Messages that arrive meanwhile are kept for
    /// [`Channel::receive`].
    ///
    /// # Errors
    /// See [`CallError`]. After [`CallError::Late`] the channel stays usable: the answer, should it come, is known by its
    /// number and dropped.
    pub fn call<C: Body, R: Body>(
        &mut self,
        body: &C,
        descriptors: &[BorrowedFd<'_>],
        deadline: Duration,
    ) -> Result<(R, Descriptors), CallError> {
        let end = Instant::now().checked_add(deadline);
        if self.calls.len() >= CREDIT {
            return Err(CallError::Late);
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        let key = self.calls.insert(self.generation);
        let txid = number(key, self.generation);
        if let Err(error) = self.send_until(Type::Call, txid, body, descriptors, end) {
            self.calls.remove(key);
            return Err(match error {
                SendError::Full => CallError::Late,
                SendError::Gone => self.gone(),
                other => CallError::Failed(other),
            });
        }
        loop {
            let header = match self.admit(end) {
                Ok(Some(header)) => header,
                Ok(None) => return Err(CallError::Late),
                Err(_) => return Err(self.gone()),
            };
            match header.kind {
                Type::Reply if header.txid == txid => {
                    return self.open_reply(&header).map_err(|fault| CallError::Violation(self.fail(fault)));
                }
                Type::Error if header.txid == txid => {
                    let refused = self.open_reply::<Refusal>(&header);
                    return Err(match refused {
                        Ok((refusal, _)) => CallError::Refused(refusal.reason),
                        Err(fault) => CallError::Violation(self.fail(fault)),
                    });
                }
                Type::Reply | Type::Error => self.received.clear(),
                _ if self.waiting.len() >= WAITING_MAX => return Err(CallError::Violation(self.fail(Fault::NoCredit))),
                _ => {
                    let packet = self.packet(&header);
                    self.waiting.push_back(packet);
                }
            }
        }
    }

    /// Tells, without an answer. Never waits: a full queue is an answer.
    pub fn tell<M: Body>(&mut self, body: &M, descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        self.send(Type::Event, 0, body, descriptors)
    }

    /// Tells by one `write(2)`, without allocating: for a sealed process, which has no other call. The encoded body must
    /// take no more than [`SMALL_BODY_BYTES`].
    ///
    /// Never waits on an [inherited](Channel::inherit) channel.
    pub fn tell_by_write<M: Body>(&self, body: &M) -> Result<(), SendError> {
        if self.fault.get().is_some() {
            return Err(SendError::Gone);
        }
        write(self.socket.as_fd(), Type::Event, 0, body)
    }

    /// As [`Channel::tell_by_write`], where only the socket is at hand: for last words.
    pub fn tell_over<M: Body>(socket: BorrowedFd<'_>, body: &M) -> Result<(), SendError> {
        write(socket, Type::Event, 0, body)
    }

    /// As [`Channel::reply`], by one `write(2)` and without allocating: the first words of a sealed process.
    pub fn reply_by_write<R: Body>(&mut self, to: CallId, body: &R) -> Result<(), SendError> {
        if self.fault.get().is_some() {
            return Err(SendError::Gone);
        }
        let at = self.owed.iter().position(|owed| *owed == to.0).ok_or(SendError::NotOwed)?;
        write(self.socket.as_fd(), Type::Reply, to.0, body)?;
        self.owed.swap_remove(at);
        Ok(())
    }

    /// Takes the next call or event. `wait`: at most how long to wait for one; zero only looks, `None` waits for ever.
    ///
    /// `Ok(None)`: there was none in time. What arrived before a fault is still handed out before the fault is. Who polls
    /// the descriptor looks here first, until there is none: what came during a call is no longer in the socket.
    pub fn receive(&mut self, wait: Option<Duration>) -> Result<Option<Packet>, Fault> {
        if let Some(packet) = self.waiting.pop_front() {
            return Ok(Some(packet));
        }
        let end = wait.and_then(|wait| Instant::now().checked_add(wait));
        loop {
            let Some(header) = self.admit(end)? else { return Ok(None) };
            match header.kind {
                // The reply to a call that was given up.
                Type::Reply | Type::Error => self.received.clear(),
                _ => return Ok(Some(self.packet(&header))),
            }
        }
    }

    /// Answers a call.
    pub fn reply<R: Body>(&mut self, to: CallId, body: &R, descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        self.answer(Type::Reply, to, body, descriptors)
    }

    /// Declines a call, with a sentence for people.
    pub fn refuse(&mut self, to: CallId, reason: &str) -> Result<(), SendError> {
        self.answer(Type::Error, to, &Refusal { reason: reason.to_owned() }, &[])
    }

    /// Deals with a message that nobody here knows: a call is declined, an event is let go. Messages are only ever added,
    /// so a peer of another version may send one in good faith.
    pub fn decline_unknown(&mut self, packet: Packet) -> Result<(), SendError> {
        match packet.call {
            Some(call) => self.refuse(call, &Fault::UnknownOrdinal(packet.ordinal).to_string()),
            None => Ok(()),
        }
    }

    fn answer<R: Body>(
        &mut self,
        kind: Type,
        to: CallId,
        body: &R,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), SendError> {
        let at = self.owed.iter().position(|owed| *owed == to.0).ok_or(SendError::NotOwed)?;
        self.send(kind, to.0, body, descriptors)?;
        self.owed.swap_remove(at);
        Ok(())
    }

    /// Sends one datagram, or says at once why not.
    fn send<B: Body>(
        &mut self,
        kind: Type,
        txid: u64,
        body: &B,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), SendError> {
        if self.fault.get().is_some() {
            return Err(SendError::Gone);
        }
        if !one_to_one(&body.handles(), descriptors.len()) {
            return Err(SendError::Handles);
        }
        self.outgoing.clear();
        self.outgoing.resize(HEADER_BYTES, 0);
        self.scratch.encode(body, &mut self.outgoing)?;
        let header = header::<B>(kind, txid, descriptors.len() as u8, self.outgoing.len() - HEADER_BYTES);
        self.outgoing[..HEADER_BYTES].copy_from_slice(&header.to_bytes());

        let mut numbers = [-1; HANDLES_MAX];
        for (number, descriptor) in numbers.iter_mut().zip(descriptors) {
            *number = descriptor.as_raw_fd();
        }
        let rights = [ControlMessage::ScmRights(&numbers[..descriptors.len()])];
        let control = if descriptors.is_empty() { &[] } else { &rights[..] };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let sent =
            socket::sendmsg::<()>(self.socket.as_raw_fd(), &[IoSlice::new(&self.outgoing)], control, flags, None);
        sent.map(drop).map_err(send_error)
    }

    fn send_until<B: Body>(
        &mut self,
        kind: Type,
        txid: u64,
        body: &B,
        descriptors: &[BorrowedFd<'_>],
        end: Option<Instant>,
    ) -> Result<(), SendError> {
        loop {
            match self.send(kind, txid, body, descriptors) {
                Err(SendError::Full) if self.ready(PollFlags::POLLOUT, end).unwrap_or(false) => {}
                result => return result,
            }
        }
    }

    /// Takes the next datagram into `incoming` and `received`, and checks all that needs no knowledge of its body.
    /// `None`: nothing came before `end`.
    fn admit(&mut self, end: Option<Instant>) -> Result<Option<Header>, Fault> {
        if let Some(fault) = self.fault.get() {
            let fault = fault.clone();
            return Err(self.fail(fault));
        }
        match self.next_datagram(end).and_then(|bytes| bytes.map(|bytes| self.check(bytes)).transpose()) {
            Err(fault) => Err(self.fail(fault)),
            admitted => Ok(admitted?),
        }
    }

    /// Waits for a datagram and owns its descriptors.
    fn next_datagram(&mut self, end: Option<Instant>) -> Result<Option<usize>, Fault> {
        loop {
            self.received.clear();
            let into = Word::words_to_bytes_mut(&mut self.incoming);
            let delivery = match receive::receive(self.socket.as_fd(), into, &mut self.received) {
                Ok(delivery) => delivery,
                // The peer died without reading all that we sent. What it sent before is still to come, then the end. The
                // kernel says so once: the error is cleared by telling it.
                Err(Errno::ECONNRESET | Errno::EINTR) => continue,
                Err(Errno::EAGAIN) if self.ready(PollFlags::POLLIN, end)? => continue,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            return match delivery {
                // The end looks like an empty datagram; but only an empty datagram can carry descriptors.
                _ if delivery.bytes == 0 && !delivery.cut && !delivery.descriptors_cut => {
                    Err(if self.received.is_empty() { Fault::PeerGone } else { Fault::HandleCount })
                }
                _ if delivery.cut || delivery.bytes > DATAGRAM_MAX => Err(Fault::Oversize),
                _ if delivery.descriptors_cut => Err(Fault::Truncated),
                _ => Ok(Some(delivery.bytes)),
            };
        }
    }

    fn check(&mut self, bytes: usize) -> Result<Header, Fault> {
        let header = Header::parse(&Word::words_to_bytes(&self.incoming)[..bytes])?;
        match header.kind {
            Type::Call => {
                if header.txid == 0 || self.owed.contains(&header.txid) {
                    return Err(Fault::BadTxid);
                }
                if self.owed.len() >= CREDIT {
                    return Err(Fault::NoCredit);
                }
            }
            Type::Reply | Type::Error => {
                let (key, generation) = (header.txid as u32 as usize, (header.txid >> 32) as u32);
                if self.calls.get(key) != Some(&generation) {
                    return Err(Fault::BadTxid);
                }
            }
            Type::Event if header.txid != 0 => return Err(Fault::BadTxid),
            Type::Event => {}
            Type::Close => return Err(Fault::PeerGone),
        }
        if self.received.len() != usize::from(header.handles) {
            return Err(Fault::HandleCount);
        }
        if self.descriptors_refused.load(Ordering::Relaxed) && !self.received.is_empty() {
            return Err(Fault::HandleCount);
        }
        match header.kind {
            Type::Call => self.owed.push(header.txid),
            Type::Reply | Type::Error => drop(self.calls.remove(header.txid as u32 as usize)),
            _ => {}
        }
        Ok(header)
    }

    /// Decodes the reply in `incoming` where it lies.
    fn open_reply<R: Body>(&mut self, header: &Header) -> Result<(R, Descriptors), Fault> {
        let mut descriptors = Descriptors::default();
        self.move_descriptors(&mut descriptors);
        let body = &Word::words_to_bytes(&self.incoming)[HEADER_BYTES..][..header.body_bytes as usize];
        Ok((open(header.ordinal, header.schema_id, body, &descriptors)?, descriptors))
    }

    fn packet(&mut self, header: &Header) -> Packet {
        let mut descriptors = Descriptors::default();
        self.move_descriptors(&mut descriptors);
        let first = HEADER_BYTES / size_of::<Word>();
        let words = header.body_bytes as usize / size_of::<Word>();
        Packet {
            ordinal: header.ordinal,
            call: (header.kind == Type::Call).then_some(CallId(header.txid)),
            schema_id: header.schema_id,
            body: self.incoming[first..first + words].into(),
            descriptors,
            fault: Arc::clone(&self.fault),
        }
    }

    fn move_descriptors(&mut self, to: &mut Descriptors) {
        for (slot, descriptor) in to.0.iter_mut().zip(self.received.drain(..)) {
            *slot = Some(descriptor);
        }
    }

    /// Waits until the socket is ready, at most until `end`. An error or a hang-up is ready, too: the next call says which.
    fn ready(&self, events: PollFlags, end: Option<Instant>) -> Result<bool, Errno> {
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let mut polled = [PollFd::new(self.socket.as_fd(), events)];
            match poll::poll(&mut polled, left.map_or(PollTimeout::NONE, poll_timeout)) {
                Ok(0) if left.is_none_or(|left| !left.is_zero()) => {}
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Closes the channel over the first fault; returns that one.
    fn fail(&mut self, fault: Fault) -> Fault {
        self.received.clear();
        let first = self.fault.get_or_init(|| fault).clone();
        // The peer may be gone; then there is nobody to tell.
        let _ = socket::shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        first
    }

    /// Why a call on a failed channel has no reply.
    fn gone(&self) -> CallError {
        match self.fault.get() {
            None | Some(Fault::PeerGone) => CallError::Gone,
            Some(Fault::Io(error)) => CallError::Failed(SendError::Io(*error)),
            Some(fault) => CallError::Violation(fault.clone()),
        }
    }
}

/// Largest body of [`Channel::tell_by_write`]: a log line, with room to spare; it is built on the stack.
pub const SMALL_BODY_BYTES: usize = 1024;

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> OwnedFd {
        channel.socket
    }
}

impl Packet {
    /// Whether it claims to be this message.
    pub fn is<B: Body>(&self) -> bool {
        self.ordinal == B::ORDINAL
    }

    /// Decodes the body and checks its descriptors against the kernel. A fault closes the channel that it came by.
    pub fn decode<B: Body>(self) -> Result<(B, Descriptors), Fault> {
        match open(self.ordinal, self.schema_id, Word::words_to_bytes(&self.body), &self.descriptors) {
            Ok(body) => Ok((body, self.descriptors)),
            Err(fault) => {
                // Not an error: an earlier fault has closed the channel already.
                let _ = self.fault.set(fault.clone());
                Err(fault)
            }
        }
    }
}

impl Descriptors {
    /// Takes the descriptor of this slot, once.
    pub fn take(&mut self, slot: u8) -> Option<OwnedFd> {
        self.0.get_mut(usize::from(slot))?.take()
    }

    /// How many are left.
    pub fn len(&self) -> usize {
        self.0.iter().flatten().count()
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The part of receiving that knows the message: type, body, descriptors, in this order.
fn open<B: Body>(ordinal: u16, schema_id: u64, body: &[u8], descriptors: &Descriptors) -> Result<B, Fault> {
    if ordinal != B::ORDINAL {
        return Err(Fault::UnknownOrdinal(ordinal));
    }
    if schema_id != B::SCHEMA_ID {
        return Err(Fault::SchemaMismatch);
    }
    let body: B = schema::decode(body)?;
    let handles = body.handles();
    if !one_to_one(&handles, descriptors.len()) {
        return Err(Fault::HandleCount);
    }
    for handle in &handles {
        let descriptor = descriptors.0.get(usize::from(handle.slot)).and_then(Option::as_ref);
        capability::verify(descriptor.ok_or(Fault::HandleCount)?.as_fd(), handle)?;
    }
    Ok(body)
}

/// Whether each of the first `count` slots is named by exactly one handle, and no other is.
fn one_to_one(handles: &[schema::Handle], count: usize) -> bool {
    let named = handles.iter().fold(0u32, |seen, handle| seen | 1u32.checked_shl(u32::from(handle.slot)).unwrap_or(0));
    count <= HANDLES_MAX && handles.len() == count && named == (1 << count) - 1
}

/// Sends a small message by one `write(2)`, without allocating.
fn write<B: Body>(socket: BorrowedFd<'_>, kind: Type, txid: u64, body: &B) -> Result<(), SendError> {
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

/// A call's number: its place, which is used again, and a generation, which is not.
fn number(key: usize, generation: u32) -> u64 {
    u64::from(generation) << 32 | key as u64
}

fn send_error(error: Errno) -> SendError {
    match error {
        // ENOBUFS: no memory for a datagram of this size at the moment.
        Errno::EAGAIN | Errno::ENOBUFS => SendError::Full,
        Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN => SendError::Gone,
        other => SendError::Io(other),
    }
}

fn check_socket(socket: BorrowedFd<'_>, unnamed: bool) -> Result<(), Fault> {
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

mod inherited {
    //! The one place where a number becomes a descriptor.
    #![allow(unsafe_code)] // A number says nothing about its owner.

    use crate::Fault;
    use nix::errno::Errno;
    use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// The numbers that were adopted, as bits.
    static ADOPTED: AtomicU64 = AtomicU64::new(0);

    pub(super) fn adopt(number: RawFd) -> Result<OwnedFd, Fault> {
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

mod passrights {
    //! `SO_PASSRIGHTS`, which nix and libc do not know yet.
    #![allow(unsafe_code)] // setsockopt by number.

    use nix::errno::Errno;
    use std::os::fd::{AsRawFd, BorrowedFd};

    /// `SO_PASSRIGHTS` of `asm-generic/socket.h`, Linux 6.16.
    const SO_PASSRIGHTS: libc::c_int = 83;

    /// Denies the peer the sending of descriptors.
    pub(super) fn deny(socket: BorrowedFd<'_>) -> Result<(), Errno> {
        let off: libc::c_int = 0;
        let bytes = size_of_val(&off) as libc::socklen_t;
        // SAFETY: the value is an int that outlives the call, and `bytes` is its size.
        let set = unsafe {
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_PASSRIGHTS, (&raw const off).cast(), bytes)
        };
        Errno::result(set).map(drop)
    }
}
