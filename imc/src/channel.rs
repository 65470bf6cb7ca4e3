//! One end of a channel to exactly one peer process.

use crate::datagram::{self, DESCRIPTORS_MAX, Wait};
use crate::header::{DATAGRAM_MAX, Header, Type};
use crate::outgoing::{Outgoing, write};
use crate::packet::{CallId, Datagram, Descriptors, Home, Packet, body_of, open, slots};
use crate::patience::Patience;
use crate::socket;
use crate::table::{Key, Table};
use crate::{CallError, Fault, SendError};
use capnp::Word;
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::Shutdown;
use schema::Body;
use schema::host::Refusal;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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
    /// Who else may hold our end.
    holders: Holders,
    home: Arc<Home>,
    descriptors_refused: AtomicBool,
    /// And the kernel sees to it.
    descriptors_denied: AtomicBool,
    /// Our calls: each awaited, or abandoned at its deadline until its reply comes.
    calls: Table<()>,
    /// The peer's calls that we have not answered, by the numbers that it gave them.
    owed: Table<u64>,
    waiting: VecDeque<Packet>,
    outgoing: Outgoing,
    incoming: Box<[Word]>,
    received: Vec<OwnedFd>,
}

/// Who holds the open file of a channel's end, and with it the options and flags of the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holders {
    /// We alone, so a wait is left to the socket's own receive timeout, which is set to this now; `None`: for ever.
    Alone { timeout: Option<Duration> },
    /// Perhaps the peer as well: it made the pair. Nothing that it could change is relied on.
    Shared,
}

/// A call of ours that is under way.
#[derive(Debug)]
pub struct Asked(Key<()>);

impl Channel {
    /// A new channel; one end is meant for a process about to be started.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let (one, other) = socket::pair()?;
        Ok((Channel::of(one), Channel::of(other)))
    }

    /// Adopts the end that was left at this descriptor number when the process was started; once for each number.
    ///
    /// Whoever started the process keeps no copy of it.
    ///
    /// # Errors
    /// [`Fault::HandleObject`] when it is not an unnamed `AF_UNIX` `SOCK_SEQPACKET` socket.
    pub fn inherit(number: RawFd) -> Result<Channel, Fault> {
        let socket = socket::adopt(number)?;
        socket::check(socket.as_fd(), true)?;
        use nix::fcntl::{FcntlArg, FdFlag, fcntl};
        fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        Ok(Channel::of(socket))
    }

    /// From now on not even a plain `write(2)` waits for the peer: for a process that will be sealed
    /// ([`Channel::tell_by_write`]). The flag is our end's own: the peer has another open file.
    pub fn never_wait_to_write(&self) -> Result<(), Fault> {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        let flags = OFlag::from_bits_retain(fcntl(&self.socket, FcntlArg::F_GETFL)?);
        fcntl(&self.socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(())
    }

    /// Takes a connected socket, which may have a name: an operator's, or one left as the standard input.
    ///
    /// Nobody whom we do not trust may hold the same end: its flags and its timeout are relied on. An end that came out of
    /// a message comes by an [`Acceptor`](crate::Acceptor), which knows that.
    ///
    /// # Errors
    /// [`Fault::HandleObject`] when it is not a connected `AF_UNIX` `SOCK_SEQPACKET` socket.
    pub fn from_fd(socket: OwnedFd) -> Result<Channel, Fault> {
        socket::check(socket.as_fd(), false)?;
        Ok(Channel::of(socket))
    }

    /// A channel over an end that nobody else holds.
    pub(crate) fn of(socket: OwnedFd) -> Channel {
        Channel::new(socket, Holders::Alone { timeout: None })
    }

    pub(crate) fn new(socket: OwnedFd, holders: Holders) -> Channel {
        let home = Arc::<Home>::default();
        Channel {
            socket,
            holders,
            descriptors_refused: AtomicBool::new(false),
            descriptors_denied: AtomicBool::new(false),
            calls: Table::with_bound(CREDIT),
            owed: Table::with_bound(CREDIT),
            waiting: VecDeque::new(),
            outgoing: Outgoing::default(),
            incoming: home.memory(),
            received: Vec::with_capacity(DESCRIPTORS_MAX),
            home,
        }
    }

    /// Takes no descriptors from now on: where the kernel can (Linux 6.16), the sender fails; elsewhere a datagram with
    /// descriptors is a violation.
    ///
    /// For every peer that is trusted less than oneself: the last close of a descriptor can stall whoever does it.
    pub fn refuse_descriptors(&self) {
        self.descriptors_refused.store(true, Ordering::Relaxed);
        // An older kernel does not know the option; the check on receipt is there for it.
        let denied = socket::deny_rights(self.socket.as_fd()).is_ok();
        self.descriptors_denied.store(denied, Ordering::Relaxed);
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
        let mut patience = Patience::of(Some(deadline));
        let asked = self.ask_in_time(body, descriptors, &patience)?;
        self.replied_in_time(&asked, &mut patience)?.ok_or(CallError::Late)
    }

    /// Asks, and waits for nothing: [`Channel::replied`] looks for the reply. A full queue is [`CallError::Late`].
    pub fn ask<C: Body>(&mut self, body: &C, descriptors: &[BorrowedFd<'_>]) -> Result<Asked, CallError> {
        self.ask_in_time(body, descriptors, &Patience::of(Some(Duration::ZERO)))
    }

    /// The reply to what was asked, if it is there. Messages that came before it are kept for [`Channel::receive`], which in
    /// turn lets go of a reply: who waits for one looks here alone.
    pub fn replied<R: Body>(&mut self, asked: &Asked) -> Result<Option<(R, Descriptors)>, CallError> {
        self.replied_in_time(asked, &mut Patience::of(Some(Duration::ZERO)))
    }

    fn ask_in_time<C: Body>(
        &mut self,
        body: &C,
        descriptors: &[BorrowedFd<'_>],
        patience: &Patience,
    ) -> Result<Asked, CallError> {
        let Ok(key) = self.calls.insert(()) else { return Err(CallError::Late) };
        match self.send_in_time(Type::Call, key.to_bits(), body, descriptors, patience) {
            Ok(()) => Ok(Asked(key)),
            Err(error) => {
                self.calls.remove(key);
                Err(match error {
                    SendError::Full => CallError::Late,
                    SendError::Gone => self.gone(),
                    other => CallError::Failed(other),
                })
            }
        }
    }

    fn replied_in_time<R: Body>(
        &mut self,
        asked: &Asked,
        patience: &mut Patience,
    ) -> Result<Option<(R, Descriptors)>, CallError> {
        let txid = asked.0.to_bits();
        loop {
            let Admitted { header, call } = match self.admit(patience) {
                Ok(Some(admitted)) => admitted,
                Ok(None) => return Ok(None),
                Err(_) => return Err(self.gone()),
            };
            match header.kind {
                Type::Reply if header.txid == txid => {
                    let opened = self.open_reply(&header);
                    return opened.map(Some).map_err(|fault| CallError::Violation(self.fail(fault)));
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
                    // A copy of its own size: many may be kept.
                    let body = Datagram::copy(&self.incoming, &header, &self.home);
                    self.waiting.push_back(Packet::new(&header, call, body, &mut self.received));
                }
            }
        }
    }

    /// Tells, without an answer. Never waits: a full queue is an answer.
    pub fn tell<M: Body>(&mut self, body: &M, descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        self.send(Type::Event, 0, body, descriptors)
    }

    /// Tells by one `write(2)`, without allocating: for a sealed process, which has no other call. The encoded body must
    /// take no more than [`SMALL_BODY_BYTES`](crate::SMALL_BODY_BYTES).
    ///
    /// Never waits on an [inherited](Channel::inherit) channel.
    pub fn tell_by_write<M: Body>(&self, body: &M) -> Result<(), SendError> {
        if self.home.fault.get().is_some() {
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
        if self.home.fault.get().is_some() {
            return Err(SendError::Gone);
        }
        let txid = *self.owed.get(to.0).ok_or(SendError::NotOwed)?;
        write(self.socket.as_fd(), Type::Reply, txid, body)?;
        self.owed.remove(to.0);
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
        let mut patience = Patience::of(wait);
        loop {
            let Some(Admitted { header, call }) = self.admit(&mut patience)? else { return Ok(None) };
            match header.kind {
                // The reply to a call that was given up.
                Type::Reply | Type::Error => self.received.clear(),
                _ => {
                    let words = std::mem::replace(&mut self.incoming, self.home.memory());
                    let body = Datagram::whole(words, &header, &self.home);
                    return Ok(Some(Packet::new(&header, call, body, &mut self.received)));
                }
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

    /// Whether this call of the peer's still waits for its answer.
    pub fn owes(&self, call: CallId) -> bool {
        self.owed.get(call.0).is_some()
    }

    fn answer<R: Body>(
        &mut self,
        kind: Type,
        to: CallId,
        body: &R,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), SendError> {
        let txid = *self.owed.get(to.0).ok_or(SendError::NotOwed)?;
        self.send(kind, txid, body, descriptors)?;
        self.owed.remove(to.0);
        Ok(())
    }

    fn send<B: Body>(
        &mut self,
        kind: Type,
        txid: u64,
        body: &B,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), SendError> {
        if self.home.fault.get().is_some() {
            return Err(SendError::Gone);
        }
        self.outgoing.send(self.socket.as_fd(), kind, txid, body, descriptors)
    }

    fn send_in_time<B: Body>(
        &mut self,
        kind: Type,
        txid: u64,
        body: &B,
        descriptors: &[BorrowedFd<'_>],
        patience: &Patience,
    ) -> Result<(), SendError> {
        loop {
            match self.send(kind, txid, body, descriptors) {
                Err(SendError::Full) if self.ready(PollFlags::POLLOUT, patience).unwrap_or(false) => {}
                result => return result,
            }
        }
    }

    /// Takes the next datagram into `incoming` and `received`, and checks all that needs no knowledge of its body.
    /// `None`: nothing came in time.
    fn admit(&mut self, patience: &mut Patience) -> Result<Option<Admitted>, Fault> {
        if let Some(fault) = self.home.fault.get() {
            let fault = fault.clone();
            return Err(self.fail(fault));
        }
        match self.next_datagram(patience).and_then(|bytes| bytes.map(|bytes| self.check(bytes)).transpose()) {
            Err(fault) => Err(self.fail(fault)),
            admitted => admitted,
        }
    }

    /// Waits for a datagram and owns its descriptors.
    ///
    /// In the ordinary case one `recvmsg(2)`, which waits by itself. Whatever comes between, a signal or a message that
    /// was not the awaited one, the rest is waited for with `poll(2)`, which can be told how long.
    fn next_datagram(&mut self, patience: &mut Patience) -> Result<Option<usize>, Fault> {
        let mut wait = Wait::Never;
        if patience.begin() {
            wait = self.leave_the_wait_to_the_socket(patience.wait);
            if wait == Wait::Never && !self.ready(PollFlags::POLLIN, patience)? {
                return Ok(None);
            }
        }
        loop {
            self.received.clear();
            let into = Word::words_to_bytes_mut(&mut self.incoming);
            let delivered = if self.descriptors_denied.load(Ordering::Relaxed) {
                datagram::receive_bytes(self.socket.as_fd(), into, wait)
            } else {
                datagram::receive(self.socket.as_fd(), into, &mut self.received, wait)
            };
            let delivery = match delivered {
                Ok(delivery) => delivery,
                // The peer died without reading all that we sent. What it sent before is still to come, then the end. The
                // kernel says so once: the error is cleared by telling it.
                Err(Errno::ECONNRESET) => continue,
                Err(Errno::EAGAIN | Errno::EINTR) => {
                    wait = Wait::Never;
                    if !patience.is_none() && self.ready(PollFlags::POLLIN, patience)? {
                        continue;
                    }
                    return Ok(None);
                }
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

    /// Sets the socket's receive timeout, where it is ours alone and is not set so already.
    fn leave_the_wait_to_the_socket(&mut self, wait: Option<Duration>) -> Wait {
        let Holders::Alone { timeout } = &mut self.holders else { return Wait::Never };
        if *timeout != wait {
            if socket::set_receive_timeout(self.socket.as_fd(), wait).is_err() {
                return Wait::Never;
            }
            *timeout = wait;
        }
        Wait::AsLongAsTheSocketDoes
    }

    fn check(&mut self, bytes: usize) -> Result<Admitted, Fault> {
        let header = Header::parse(&Word::words_to_bytes(&self.incoming)[..bytes])?;
        match header.kind {
            Type::Call => {
                if header.txid == 0 || self.owed.iter().any(|owed| *owed == header.txid) {
                    return Err(Fault::BadTxid);
                }
                if self.owed.len() >= CREDIT {
                    return Err(Fault::NoCredit);
                }
            }
            Type::Reply | Type::Error => {
                self.calls.get(Key::from_bits(header.txid)).ok_or(Fault::BadTxid)?;
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
        let mut call = None;
        match header.kind {
            Type::Call => call = Some(CallId(self.owed.insert(header.txid).map_err(|_| Fault::NoCredit)?)),
            Type::Reply | Type::Error => drop(self.calls.remove(Key::from_bits(header.txid))),
            _ => {}
        }
        Ok(Admitted { header, call })
    }

    /// Decodes the reply in `incoming` where it lies.
    fn open_reply<R: Body>(&mut self, header: &Header) -> Result<(R, Descriptors), Fault> {
        let body = body_of(&self.incoming, header.body_bytes as usize);
        open(header.ordinal, header.schema_id, body, slots(&mut self.received))
    }

    fn ready(&self, events: PollFlags, patience: &Patience) -> Result<bool, Errno> {
        patience.until_ready(self.socket.as_fd(), events)
    }

    /// Closes the channel over the first fault; returns that one.
    fn fail(&mut self, fault: Fault) -> Fault {
        self.received.clear();
        let first = self.home.fault.get_or_init(|| fault).clone();
        // The peer may be gone; then there is nobody to tell.
        let _ = nix::sys::socket::shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        first
    }

    /// Why a call on a failed channel has no reply.
    fn gone(&self) -> CallError {
        match self.home.fault.get() {
            None | Some(Fault::PeerGone) => CallError::Gone,
            Some(Fault::Io(error)) => CallError::Failed(SendError::Io(*error)),
            Some(fault) => CallError::Violation(fault.clone()),
        }
    }
}

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

/// A datagram that may come now; it lies in `incoming` and `received`.
struct Admitted {
    header: Header,
    /// For a call: that it is owed an answer.
    call: Option<CallId>,
}
