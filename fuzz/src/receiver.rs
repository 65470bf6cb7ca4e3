//! The receive pipeline of a channel, over a real pair of sockets, with any datagrams and descriptors.
//!
//! Input: how the receiver behaves, a byte; then for each datagram: what it is made of, a byte; which descriptors, a byte each;
//! and its bytes, after their count. A datagram is either these bytes, or a well-formed one with this message as its body,
//! so that the later steps of the pipeline are reached as well.

use crate::input::Input;
use crate::messages::comes_back;
use imc::{Channel, Fault, Packet, Region, SendError, Wake};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};
use schema::host::{Empty, Hello};
use schema::{Body, Handle, Kind, Rights};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::time::Duration;

/// What the peer has to send.
struct Stock {
    descriptor: OwnedFd,
    /// What it may truly be claimed to be.
    honest: Vec<(Kind, Rights, u64)>,
}

/// More than a message may have, so that too many are sent as well.
const DESCRIPTORS_MAX: usize = 12;
/// Fewer than a socket's queue holds.
const DATAGRAMS_MAX: usize = 8;
/// A bit of a datagram's first byte: it is to be well formed.
const WELL_FORMED: u8 = 0x80;
/// The number of the first call of a channel: place 0, generation 1.
const FIRST_CALL: u64 = 1 << 16;

pub fn run(data: &[u8]) {
    let stock = stock();
    let before = crate::descriptors();
    play(data, stock);
    assert_eq!(crate::descriptors(), before, "a descriptor leaked, or one was closed that was not the receiver's");
}

fn play(data: &[u8], stock: &[Stock]) {
    let mut input = Input(data);
    let manner = input.u8();
    let (mut channel, peer) = Channel::pair().expect("a pair");
    let peer: OwnedFd = peer.into();
    let mut model = Model { refuses: manner & 1 != 0, ..Model::default() };
    if model.refuses {
        channel.refuse_descriptors();
    }
    // A call that nobody answers in time: its answer may still come.
    if manner & 2 != 0 {
        let late = channel.call::<Hello, Empty>(&Hello { protocol: 1 }, &[], Duration::ZERO);
        assert!(late.is_err());
        model.called = true;
    }
    let mut sent = Vec::new();
    while !input.is_empty() && sent.len() < DATAGRAMS_MAX {
        let datagram = Sent::read(&mut input, stock.len());
        if datagram.send(&peer, stock) {
            sent.push(datagram);
        }
    }
    if manner & 4 != 0 {
        drop(peer);
        receive(&mut channel, &sent, &mut model, stock, true);
    } else {
        receive(&mut channel, &sent, &mut model, stock, false);
    }
}

/// Receives all that was sent, and compares what becomes of each datagram with what should.
fn receive(channel: &mut Channel, sent: &[Sent], model: &mut Model, stock: &[Stock], gone: bool) {
    for datagram in sent {
        match (model.judge(datagram), channel.receive(Some(Duration::ZERO))) {
            (Verdict::Deliver, Ok(Some(packet))) => {
                assert_eq!(packet.ordinal, datagram.number(6, 2) as u16);
                assert_eq!(packet.call.is_some(), datagram.bytes[16] == CALL);
                if !open(channel, packet, datagram, stock, model) {
                    return is_closed(channel);
                }
            }
            (Verdict::Drop, Ok(None)) => {}
            // One that is dropped is not the one that is waited for: the next comes at once.
            (Verdict::Drop, Ok(Some(_)) | Err(_)) => return,
            (Verdict::Fault, Err(_)) => return is_closed(channel),
            (verdict, received) => {
                let ordinal = received.map(|packet| packet.map(|packet| packet.ordinal));
                panic!("{verdict:?}, but received {ordinal:x?}, for {datagram:?}");
            }
        }
    }
    match channel.receive(Some(Duration::ZERO)) {
        Ok(None) => assert!(!gone, "the peer's death was not told"),
        Err(Fault::PeerGone) => assert!(gone, "the peer is not gone"),
        other => panic!("nothing more was sent, but received {:?}", other.map(|packet| packet.is_some())),
    }
}

/// Opens a packet as the message that it says it is. False: it broke the protocol.
fn open(channel: &mut Channel, packet: Packet, datagram: &Sent, stock: &[Stock], model: &mut Model) -> bool {
    let call = packet.call;
    let mut opening = Opening { packet: Some(packet), datagram, stock, lawful: None };
    schema::for_each_message(&mut opening);
    match opening.lawful {
        Some(false) => return false,
        Some(true) => {}
        // Nobody knows the message. Another version may, so this is no violation.
        None => {
            let packet = opening.packet.take().expect("it is no message's");
            match channel.decline_unknown(packet) {
                Ok(()) => model.answer(datagram),
                Err(error) => assert_ne!(error, SendError::NotOwed),
            }
            return true;
        }
    }
    if let Some(call) = call {
        assert!(channel.owes(call));
        if channel.reply(call, &Empty, &[]).is_ok() {
            assert_eq!(channel.reply(call, &Empty, &[]), Err(SendError::NotOwed));
            model.answer(datagram);
        }
    }
    true
}

struct Opening<'a> {
    packet: Option<Packet>,
    datagram: &'a Sent,
    stock: &'a [Stock],
    lawful: Option<bool>,
}

impl schema::ForEach for Opening<'_> {
    fn message<B: Body + PartialEq + Debug>(&mut self, _: &'static str) {
        let Some(packet) = self.packet.take_if(|packet| packet.is::<B>()) else { return };
        let Ok((body, mut descriptors)) = packet.decode::<B>() else {
            self.lawful = Some(false);
            return;
        };
        self.lawful = Some(true);
        comes_back(&body);
        assert_eq!(self.datagram.number(24, 8), B::SCHEMA_ID);
        assert_eq!(body.handles().len(), self.datagram.descriptors.len());
        for Handle { slot, kind, rights, size } in body.handles().iter().copied() {
            let honest = &self.stock[self.datagram.descriptors[usize::from(slot)]].honest;
            let true_size = |real: u64| kind != Kind::Region || real == size;
            let fits = honest.iter().any(|real| (real.0, real.1) == (kind, rights) && true_size(real.2));
            assert!(fits, "slot {slot} was taken for a {kind:?} with {rights:?} of {size}; it is {honest:?}");
            assert!(descriptors.take(slot).is_some() && descriptors.take(slot).is_none());
        }
    }
}

/// After a fault nothing comes and nothing goes.
fn is_closed(channel: &mut Channel) {
    let first = channel.receive(Some(Duration::ZERO)).expect_err("the channel is closed");
    assert_eq!(channel.receive(Some(Duration::ZERO)).expect_err("it stays closed"), first);
    assert_eq!(channel.tell(&Empty, &[]), Err(SendError::Gone));
}

const CALL: u8 = 1;
const REPLY: u8 = 2;
const ERROR: u8 = 3;
const EVENT: u8 = 4;
const HEADER: usize = 32;

/// A datagram on its way.
#[derive(Debug)]
struct Sent {
    bytes: Vec<u8>,
    /// Indices into the stock.
    descriptors: Vec<usize>,
}

impl Sent {
    fn read(input: &mut Input<'_>, stock: usize) -> Sent {
        let form = input.u8();
        let count = usize::from(form & 0x0f).min(DESCRIPTORS_MAX);
        let descriptors: Vec<usize> = (0..count).map(|_| input.below(stock)).collect();
        let length = usize::from(input.u16());
        let bytes = if form & WELL_FORMED == 0 {
            input.take(length).to_vec()
        } else {
            let (kind, txid, ordinal) = (input.u8() % 6, input.u8(), input.u16());
            let mut body = input.take(length.min(schema::BODY_MAX)).to_vec();
            body.resize(body.len().next_multiple_of(8), 0);
            let txid = if kind == EVENT { 0 } else { FIRST_CALL * u64::from(txid) };
            datagram(kind, txid, ordinal, count as u8, &body)
        };
        Sent { bytes, descriptors }
    }

    fn send(&self, to: &OwnedFd, stock: &[Stock]) -> bool {
        let numbers: Vec<RawFd> = self.descriptors.iter().map(|index| stock[*index].descriptor.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let control = if numbers.is_empty() { &[] } else { &rights[..] };
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        match sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(&self.bytes)], control, flags, None) {
            Ok(_) => true,
            // The queue is full; or the receiver takes no descriptors, and its kernel says so.
            Err(Errno::EAGAIN | Errno::EPERM | Errno::ETOOMANYREFS) => false,
            Err(error) => panic!("a datagram cannot be sent: {error}"),
        }
    }

    fn number(&self, at: usize, bytes: usize) -> u64 {
        self.bytes[at..at + bytes].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

fn datagram(kind: u8, txid: u64, ordinal: u16, handles: u8, body: &[u8]) -> Vec<u8> {
    struct Identity(u16, u64);
    impl schema::ForEach for Identity {
        fn message<B: Body>(&mut self, _: &'static str) {
            if B::ORDINAL == self.0 {
                self.1 = B::SCHEMA_ID;
            }
        }
    }
    let mut identity = Identity(ordinal, 0);
    schema::for_each_message(&mut identity);
    let mut bytes = b"IMC1\x01\x00".to_vec();
    bytes.extend(ordinal.to_le_bytes());
    bytes.extend(txid.to_le_bytes());
    bytes.extend([kind, handles, 0, 0]);
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(identity.1.to_le_bytes());
    bytes.extend(body);
    bytes
}

/// The protocol's rules, as the documentation has them, for datagrams that were not decoded yet.
#[derive(Default)]
struct Model {
    refuses: bool,
    called: bool,
    owed: BTreeSet<u64>,
}

#[derive(Debug)]
enum Verdict {
    Deliver,
    /// An answer that comes too late is nobody's.
    Drop,
    Fault,
}

impl Model {
    fn judge(&mut self, datagram: &Sent) -> Verdict {
        let length = datagram.bytes.len();
        if !(HEADER..=imc::DATAGRAM_MAX).contains(&length) || datagram.bytes[..6] != *b"IMC1\x01\x00" {
            return Verdict::Fault;
        }
        let (ordinal, txid, kind) = (datagram.number(6, 2), datagram.number(8, 8), datagram.bytes[16]);
        let (handles, flags, body) = (datagram.bytes[17], datagram.number(18, 2), datagram.number(20, 4) as usize);
        let descriptors = datagram.descriptors.len();
        let whole = body == length - HEADER && body % 8 == 0 && flags == 0;
        let counted = usize::from(handles) == descriptors && descriptors <= schema::HANDLES_MAX;
        if !whole || !counted || ordinal == 0 || self.refuses && descriptors != 0 {
            return Verdict::Fault;
        }
        match kind {
            CALL if txid != 0 && self.owed.insert(txid) => Verdict::Deliver,
            EVENT if txid == 0 => Verdict::Deliver,
            REPLY | ERROR if self.called && txid == FIRST_CALL => {
                self.called = false;
                Verdict::Drop
            }
            _ => Verdict::Fault,
        }
    }
}

impl Model {
    /// A call that was answered; its number may be used again.
    fn answer(&mut self, call: &Sent) {
        self.owed.remove(&call.number(8, 8));
    }
}

/// One of each kind of thing that a descriptor can be.
fn stock() -> &'static [Stock] {
    static STOCK: OnceLock<Vec<Stock>> = OnceLock::new();
    STOCK.get_or_init(|| {
        const SIZE: u64 = imc::PAGE_BYTES;
        let (read, write) = (Rights::READ, Rights::READ.and(Rights::WRITE));
        let region = Region::create("fuzz", SIZE).expect("a region");
        let weaker = region.read_only().expect("a read-only region");
        let frozen = Region::freeze("fuzz", b"frozen").expect("a frozen region");
        let wake = Wake::create().expect("a wake");
        let memory = nix::sys::memfd::memfd_create(c"fuzz", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).expect("a memfd");
        let file = File::open("/proc/self/exe").expect("a file");
        let null = File::options().read(true).write(true).open("/dev/null").expect("a device");
        let folder = File::open("/").expect("a folder");
        let (pipe, _) = nix::unistd::pipe().expect("a pipe");
        let kind = (AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
        let (socket, _) = socketpair(kind.0, kind.1, kind.2, kind.3).expect("a socket");
        // Every region is a regular file, too, and may be taken for one.
        vec![
            Stock {
                descriptor: region.into(),
                honest: vec![(Kind::Region, write.and(Rights::MAP), SIZE), (Kind::File, write, 0)],
            },
            Stock {
                descriptor: weaker.into(),
                honest: vec![(Kind::Region, read.and(Rights::MAP), SIZE), (Kind::File, read, 0)],
            },
            Stock {
                descriptor: frozen.into(),
                honest: vec![
                    (Kind::Region, read.and(Rights::MAP).and(Rights::FROZEN), SIZE),
                    (Kind::Region, read.and(Rights::MAP), SIZE),
                    (Kind::File, read, 0),
                ],
            },
            Stock { descriptor: wake.into(), honest: vec![(Kind::Wake, Rights::SIGNAL.and(Rights::WAIT), 0)] },
            Stock { descriptor: memory, honest: vec![(Kind::File, write, 0)] },
            Stock { descriptor: file.into(), honest: vec![(Kind::File, read, 0)] },
            Stock { descriptor: null.into(), honest: vec![] },
            Stock { descriptor: folder.into(), honest: vec![] },
            Stock { descriptor: pipe, honest: vec![] },
            // Its peer is gone, so nothing can be received by it: no more is known of a connect capability without a server.
            Stock { descriptor: socket, honest: vec![(Kind::Connect, Rights::WRITE, 0)] },
        ]
    })
}
