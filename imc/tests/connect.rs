//! A server that is reached by a capability alone.

mod raw;

use imc::{Acceptor, CallError, Capability, Channel, Connect, Fault, SendError, Wake};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, bind, connect, listen, recv, socket, socketpair,
};
use raw::{CALL, EVENT, datagram, descriptors, hand};
use schema::host::{Empty, Hello};
use schema::sample::Door;
use schema::{Connection, Handle, Kind, Rights};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(5);
const LOOK: Option<Duration> = Some(Duration::ZERO);
const READ_WRITE: Rights = Rights::READ.and(Rights::WRITE);

/// Descriptors are counted for the whole process, so these tests run one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn end(kind: Kind, rights: Rights) -> Connection {
    Connection { end: Handle { slot: 0, kind, rights, size: 0 } }
}

/// Has another process that holds the connect capability send this.
fn send(connect: &Connect, datagram: &[u8], descriptors: &[BorrowedFd<'_>]) {
    hand(connect.as_fd()).send(datagram, descriptors);
}

/// What becomes of a descriptor that is sent as the end of a channel; the acceptor goes on, and nothing is left behind.
fn offered(descriptor: impl AsFd) -> Fault {
    let (mut acceptor, connect) = Acceptor::create().unwrap();
    drop(hand(connect.as_fd()));
    let before = descriptors();
    send(&connect, &datagram(EVENT, 0, 1, &end(Kind::Channel, READ_WRITE)), &[descriptor.as_fd()]);
    let fault = acceptor.accept(Some(SOON)).err().expect("refused");
    assert_eq!(descriptors(), before);
    let _client = connect.connect(SOON).unwrap();
    assert!(acceptor.accept(Some(SOON)).unwrap().is_some(), "the next is another's");
    fault
}

#[test]
fn nothing_but_an_unnamed_connected_packet_socket_is_accepted() {
    let _alone = alone();
    let is_object = |fault| matches!(fault, Fault::HandleObject(_));
    let flags = SockFlag::SOCK_CLOEXEC;
    assert!(is_object(offered(Wake::create().unwrap())));
    assert!(is_object(offered(nix::unistd::pipe().unwrap().0)));
    let (stream, _peer) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags).unwrap();
    assert!(is_object(offered(stream)));
    let (datagrams, _peer) = socketpair(AddressFamily::Unix, SockType::Datagram, None, flags).unwrap();
    assert!(is_object(offered(datagrams)));
    let make = || socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    assert!(is_object(offered(make())), "nobody is at its other end");
    let folder = tempfile::tempdir().unwrap();
    let address = UnixAddr::new(&folder.path().join("socket")).unwrap();
    let (listener, client) = (make(), make());
    bind(listener.as_raw_fd(), &address).unwrap();
    listen(&listener, Backlog::new(1).unwrap()).unwrap();
    connect(client.as_raw_fd(), &address).unwrap();
    assert!(is_object(offered(&listener)));
    assert!(is_object(offered(&client)), "its peer has a name");
}

#[test]
fn attempt_of_another_form_is_refused_and_only_that() {
    let _alone = alone();
    let (mut acceptor, connect) = Acceptor::create().unwrap();
    let (one, _peer) = Channel::pair().unwrap();
    let good = datagram(EVENT, 0, 1, &end(Kind::Channel, READ_WRITE));
    let end_as = |kind, rights| datagram(EVENT, 0, 1, &end(kind, rights));
    let one = || vec![one.as_fd()];
    drop(hand(connect.as_fd()));
    let before = descriptors();
    for (message, sent, fault) in [
        (good.clone(), vec![], Fault::HandleCount),
        (good.clone(), [one(), one()].concat(), Fault::HandleCount),
        (vec![], one(), Fault::Truncated),
        (vec![], vec![], Fault::Truncated),
        (good[..40].to_vec(), one(), Fault::Truncated),
        ([&good[..], &[0; 512]].concat(), one(), Fault::Oversize),
        (datagram(CALL, 7, 1, &end(Kind::Channel, READ_WRITE)), one(), Fault::BadState),
        (datagram(EVENT, 0, 0, &Hello { protocol: 1 }), vec![], Fault::UnknownOrdinal(0x10)),
        (end_as(Kind::Wake, READ_WRITE), one(), Fault::HandleKind),
        (end_as(Kind::Connect, READ_WRITE), one(), Fault::HandleKind),
        (end_as(Kind::Channel, Rights::READ), one(), Fault::HandleRights),
    ] {
        send(&connect, &message, &sent);
        assert_eq!(acceptor.accept(Some(SOON)).err(), Some(fault));
        assert_eq!(descriptors(), before);
    }
    let _client = connect.connect(SOON).unwrap();
    assert!(acceptor.accept(Some(SOON)).unwrap().is_some());
}

/// What Native Client's accept end could not see.
#[test]
fn acceptor_learns_that_the_last_capability_is_gone() {
    let _alone = alone();
    let (mut acceptor, connect) = Acceptor::create().unwrap();
    let other = connect.try_clone().unwrap();
    drop(connect);
    assert!(acceptor.accept(LOOK).unwrap().is_none(), "somebody can still connect");
    let client = other.connect(SOON).unwrap();
    drop(other);
    assert!(acceptor.accept(Some(SOON)).unwrap().is_some(), "who came before is still served");
    assert_eq!(acceptor.accept(None).err(), Some(Fault::PeerGone));
    drop(client);
}

#[test]
fn capability_in_a_message_that_nobody_reads_still_counts() {
    let _alone = alone();
    let (mut acceptor, connect) = Acceptor::create().unwrap();
    let (mut server, client) = Channel::pair().unwrap();
    server.tell(&Door { connect: connect.handle(0) }, &[connect.as_fd()]).unwrap();
    drop(connect);
    assert!(acceptor.accept(LOOK).unwrap().is_none());
    drop(client);
    assert_eq!(acceptor.accept(Some(SOON)).err(), Some(Fault::PeerGone));
}

#[test]
fn accepting_has_a_deadline() {
    let _alone = alone();
    let (mut acceptor, _connect) = Acceptor::create().unwrap();
    let begun = Instant::now();
    assert!(acceptor.accept(Some(Duration::from_millis(20))).unwrap().is_none());
    assert!(begun.elapsed() >= Duration::from_millis(20));
}

#[test]
fn pending_connections_are_bounded_and_connecting_has_a_deadline() {
    let _alone = alone();
    let (mut acceptor, connect) = Acceptor::create().unwrap();
    let mut pending = Vec::new();
    let full = loop {
        match connect.connect(Duration::ZERO) {
            Ok(client) => pending.push(client),
            Err(error) => break error,
        }
        assert!(pending.len() < 100);
    };
    assert_eq!(full, SendError::Full);
    let begun = Instant::now();
    assert_eq!(connect.connect(Duration::from_millis(20)).err(), Some(SendError::Full));
    assert!(begun.elapsed() >= Duration::from_millis(20));
    for _ in 0..pending.len() {
        assert!(acceptor.accept(LOOK).unwrap().is_some());
    }
    assert!(connect.connect(SOON).is_ok(), "there is room again");
}

#[test]
fn client_of_an_acceptor_that_is_gone_is_not_left_waiting() {
    let _alone = alone();
    let (acceptor, connect) = Acceptor::create().unwrap();
    let mut pending = connect.connect(SOON).unwrap();
    drop(acceptor);
    assert_eq!(pending.call::<_, Empty>(&Hello { protocol: 1 }, &[], SOON).err(), Some(CallError::Gone));
    assert_eq!(connect.connect(SOON).err(), Some(SendError::Gone));
}

#[test]
fn connect_capability_travels_and_channels_do_not() {
    let _alone = alone();
    let (mut acceptor, connect) = Acceptor::create().unwrap();
    let (mut server, mut client) = Channel::pair().unwrap();
    server.tell(&Door { connect: connect.handle(0) }, &[connect.as_fd()]).unwrap();
    let (door, mut with) = client.receive(Some(SOON)).unwrap().unwrap().decode::<Door>().unwrap();
    let theirs: Connect = with.take_as(&door.connect).unwrap();
    let mut called = theirs.connect(SOON).unwrap();
    let mut accepted = acceptor.accept(Some(SOON)).unwrap().unwrap();
    called.tell(&Hello { protocol: 7 }, &[]).unwrap();
    let (hello, _) = accepted.receive(Some(SOON)).unwrap().unwrap().decode::<Hello>().unwrap();
    assert_eq!(hello.protocol, 7);

    let (channel, _peer) = Channel::pair().unwrap();
    for (kind, rights) in [(Kind::Connect, Rights::WRITE), (Kind::Channel, READ_WRITE)] {
        let (mut sender, mut receiver) = Channel::pair().unwrap();
        let claim = Handle { slot: 0, kind, rights, size: 0 };
        sender.tell(&Door { connect: claim }, &[channel.as_fd()]).unwrap();
        let fault = receiver.receive(Some(SOON)).unwrap().unwrap().decode::<Door>().unwrap_err();
        let expected = matches!(fault, Fault::HandleKind | Fault::HandleObject("it is a channel, which is never sent"));
        assert!(expected, "{fault}");
    }
}

#[test]
fn connect_capability_goes_one_way() {
    let _alone = alone();
    let (acceptor, connect) = Acceptor::create().unwrap();
    assert_eq!(recv(connect.as_fd().as_raw_fd(), &mut [0; 64], MsgFlags::MSG_DONTWAIT), Ok(0), "nothing, for ever");
    let sent = nix::sys::socket::send(acceptor.as_fd().as_raw_fd(), b"x", MsgFlags::MSG_NOSIGNAL);
    assert_eq!(sent, Err(Errno::EPIPE), "even the acceptor cannot send there");
}

/// The client made the pair, so it may hold the server's end as well: its flags and options are not the server's alone.
#[test]
fn client_that_kept_the_servers_end_cannot_make_it_wait() {
    let _alone = alone();
    let (mut acceptor, connect) = Acceptor::create().unwrap();
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    send(&connect, &datagram(EVENT, 0, 1, &end(Kind::Channel, READ_WRITE)), &[theirs.as_fd()]);
    let mut accepted = acceptor.accept(Some(SOON)).unwrap().unwrap();
    let spoil = std::thread::spawn(move || {
        let for_ever = nix::sys::time::TimeVal::new(0, 0);
        for _ in 0..200 {
            nix::sys::socket::setsockopt(&theirs, nix::sys::socket::sockopt::ReceiveTimeout, &for_ever).unwrap();
            std::thread::sleep(Duration::from_micros(100));
        }
        theirs
    });
    let begun = Instant::now();
    assert_eq!(
        accepted.call::<_, Empty>(&Hello { protocol: 1 }, &[], Duration::from_millis(30)).err(),
        Some(CallError::Late)
    );
    assert!(begun.elapsed() < SOON);
    spoil.join().unwrap();
    drop(ours);
}
