//! A channel between peers that keep to the rules, and die when they like.

mod raw;

use imc::{BlockFile, CallError, Capability, Channel, Fault, Frozen, ReadOnly, ReadWrite, Region, SendError, Wake};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use raw::{EVENT, REPLY, datagram, mortal_pair, pair, txid};
use schema::host::{Empty, Grant, Grants, Hello, Log, Purpose, Severity};
use schema::vmm::{Button, Start};
use schema::{BadBody, Body, Handle};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(5);
const LOOK: Option<Duration> = Some(Duration::ZERO);
const HELLO: Hello = Hello { protocol: 1 };

fn log(text: &str) -> Log {
    Log { severity: Severity::Info, text: text.into() }
}

#[test]
fn call_gets_the_reply_that_was_given() {
    let (mut supervisor, mut host) = Channel::pair().unwrap();
    let host = std::thread::spawn(move || {
        for protocol in 10..13 {
            let packet = host.receive(None).unwrap().unwrap();
            assert!(packet.is::<Start>() && !packet.is::<Hello>());
            let call = packet.call.unwrap();
            packet.decode::<Start>().unwrap();
            host.reply(call, &Hello { protocol }, &[]).unwrap();
            assert_eq!(host.reply(call, &HELLO, &[]), Err(SendError::NotOwed), "one call has one reply");
        }
    });
    for protocol in 10..13 {
        let (reply, _) = supervisor.call::<_, Hello>(&Start, &[], SOON).unwrap();
        assert_eq!(reply, Hello { protocol });
    }
    host.join().unwrap();
}

#[test]
fn refusal_reaches_the_caller_as_a_sentence() {
    let (mut supervisor, mut host) = Channel::pair().unwrap();
    let host = std::thread::spawn(move || {
        let packet = host.receive(None).unwrap().unwrap();
        host.refuse(packet.call.unwrap(), "no such device").unwrap();
        let unknown = host.receive(None).unwrap().unwrap();
        host.decline_unknown(unknown).unwrap();
        host
    });
    let refused = supervisor.call::<_, Empty>(&Start, &[], SOON).unwrap_err();
    assert_eq!(refused, CallError::Refused("no such device".into()));
    let unknown = supervisor.call::<_, Empty>(&Start, &[], SOON).unwrap_err();
    assert_eq!(unknown, CallError::Refused("message 0x23 is not known here".into()));
    host.join().unwrap();
}

#[test]
fn capabilities_arrive_as_what_they_are() {
    let (mut supervisor, mut host) = Channel::pair().unwrap();
    let memory = Region::create("test", 4096).unwrap();
    let weak = Region::create("test", 4096).unwrap().read_only().unwrap();
    let frozen = Region::<Frozen>::freeze("test", b"fixed").unwrap();
    let wake = Wake::create().unwrap();
    let file = BlockFile::new(tempfile::tempfile().unwrap()).unwrap();
    let handles = [memory.handle(3), weak.handle(1), frozen.handle(0), wake.handle(4), file.handle(2)];
    let in_slot_order = [frozen.as_fd(), weak.as_fd(), file.as_fd(), memory.as_fd(), wake.as_fd()];
    let grant = |handle| Grant { device: 0, purpose: Purpose::State, number: 0, base: 0, handle };
    supervisor.tell(&Grants { grants: handles.map(grant).into() }, &in_slot_order).unwrap();

    let (grants, mut descriptors) = host.receive(Some(SOON)).unwrap().unwrap().decode::<Grants>().unwrap();
    let got: Vec<Handle> = grants.grants.iter().map(|grant| grant.handle).collect();
    assert_eq!(got, handles);
    assert_eq!(descriptors.len(), 5);
    let mut take = |at: usize| {
        let descriptor = descriptors.take(got[at].slot).unwrap();
        assert_eq!(fcntl(&descriptor, FcntlArg::F_GETFD), Ok(FdFlag::FD_CLOEXEC.bits()), "no child inherits it");
        descriptor
    };
    let theirs = Region::<ReadWrite>::receive(take(0), &got[0]).unwrap();
    let weak = Region::<ReadOnly>::receive(take(1), &got[1]).unwrap();
    let frozen = Region::<Frozen>::receive(take(2), &got[2]).unwrap();
    Wake::receive(take(3), &got[3]).unwrap().signal(7).unwrap();
    let file = BlockFile::receive(take(4), &got[4]).unwrap();
    assert!(descriptors.take(0).is_none() && descriptors.is_empty(), "each is taken once");

    assert_eq!(wake.drain(), Some(7));
    assert_eq!((file.readonly, file.bytes), (false, 0));
    assert_eq!((theirs.bytes(), weak.bytes(), frozen.bytes()), (4096, 4096, 4096));
    let wrong = Region::<ReadWrite>::receive(weak.as_fd().try_clone_to_owned().unwrap(), &got[1]);
    assert_eq!(wrong.err(), Some(Fault::HandleRights), "the claim is true, but not what this holder needs");
}

#[test]
fn sender_cannot_send_other_descriptors_than_the_body_names() {
    let (mut supervisor, _host) = Channel::pair().unwrap();
    let wake = Wake::create().unwrap();
    assert_eq!(supervisor.tell(&Button, &[wake.as_fd()]), Err(SendError::Handles));
    let grant = Grant { device: 0, purpose: Purpose::Wake, number: 0, base: 0, handle: wake.handle(1) };
    assert_eq!(supervisor.tell(&Grants { grants: vec![grant] }, &[wake.as_fd()]), Err(SendError::Handles));
}

#[test]
fn message_over_a_bound_does_not_leave() {
    let (mut supervisor, _host) = Channel::pair().unwrap();
    let grant =
        Grant { device: 0, purpose: Purpose::Wake, number: 0, base: 0, handle: Wake::create().unwrap().handle(0) };
    let failed = supervisor.call::<_, Empty>(&Grants { grants: vec![grant; 9] }, &[], SOON).unwrap_err();
    assert_eq!(failed, CallError::Failed(SendError::Handles));
    let name = "x".repeat(65);
    let manifest = schema::host::Setting { name, value: String::new() };
    let assign = schema::host::Assign {
        level: schema::host::Level::Off,
        devices: vec![schema::host::Assignment {
            device: "d".into(),
            options: vec![manifest],
            carrier: Default::default(),
            poisoned: false,
            exchanged: None,
        }],
        threaded: false,
    };
    let failed = supervisor.call::<_, Empty>(&assign, &[], SOON).unwrap_err();
    let too_long = BadBody::TooLong { field: "name", length: 65, bound: 64 };
    assert_eq!(failed, CallError::Failed(SendError::Body(too_long)));
}

#[test]
fn events_that_arrive_during_a_call_are_kept_in_order() {
    let (mut supervisor, mut host) = Channel::pair().unwrap();
    let host = std::thread::spawn(move || {
        let call = host.receive(None).unwrap().unwrap().call.unwrap();
        for text in ["one", "two"] {
            host.tell(&log(text), &[]).unwrap();
        }
        host.reply(call, &Empty, &[]).unwrap();
        host.tell(&log("three"), &[]).unwrap();
    });
    supervisor.call::<_, Empty>(&Start, &[], SOON).unwrap();
    host.join().unwrap();
    for text in ["one", "two", "three"] {
        let (read, _) = supervisor.receive(LOOK).unwrap().unwrap().decode::<Log>().unwrap();
        assert_eq!(read, log(text));
    }
    assert_eq!(supervisor.receive(LOOK).unwrap_err(), Fault::PeerGone);
}

#[test]
fn answer_after_the_deadline_is_dropped_and_the_channel_lives() {
    let (mut supervisor, peer) = pair();
    let begun = Instant::now();
    let deadline = Duration::from_millis(30);
    assert_eq!(supervisor.call::<_, Empty>(&Start, &[], deadline).unwrap_err(), CallError::Late);
    assert!(begun.elapsed() >= deadline);
    let late = txid(&peer.receive());
    let peer = std::thread::spawn(move || {
        let next = txid(&peer.receive());
        assert_ne!(next, late);
        peer.send(&datagram(REPLY, late, 0, &HELLO), &[]);
        peer.send(&datagram(REPLY, next, 0, &Empty), &[]);
        peer
    });
    supervisor.call::<_, Empty>(&Start, &[], SOON).unwrap();
    let peer = peer.join().unwrap();
    peer.send(&datagram(EVENT, 0, 0, &HELLO), &[]);
    assert!(supervisor.receive(Some(SOON)).unwrap().unwrap().is::<Hello>());
}

#[test]
fn reply_that_nobody_waits_for_is_found_once_it_is_there() {
    let (mut supervisor, peer) = pair();
    let asked = supervisor.ask(&Start, &[]).unwrap();
    assert!(supervisor.replied::<Empty>(&asked).unwrap().is_none());
    let number = txid(&peer.receive());
    peer.send(&datagram(EVENT, 0, 0, &log("on its way")), &[]);
    assert!(supervisor.replied::<Empty>(&asked).unwrap().is_none(), "that is not it");
    peer.send(&datagram(REPLY, number, 0, &Empty), &[]);
    assert!(supervisor.replied::<Empty>(&asked).unwrap().is_some());
    let (kept, _) = supervisor.receive(LOOK).unwrap().unwrap().decode::<Log>().unwrap();
    assert_eq!(kept, log("on its way"));
    drop(peer);
    let asked = supervisor.ask(&Start, &[]);
    assert!(matches!(asked, Err(CallError::Gone)));
}

#[test]
fn peer_that_answers_nothing_is_soon_given_up() {
    let (mut supervisor, peer) = pair();
    for _ in 0..imc::CREDIT {
        assert_eq!(supervisor.call::<_, Empty>(&Start, &[], Duration::ZERO).unwrap_err(), CallError::Late);
        peer.receive();
    }
    let begun = Instant::now();
    assert_eq!(supervisor.call::<_, Empty>(&Start, &[], SOON).unwrap_err(), CallError::Late);
    assert!(begun.elapsed() < SOON, "not even sent");
}

#[test]
fn dead_peer_is_gone_and_not_late() {
    let (mut supervisor, mut host) = Channel::pair().unwrap();
    let host = std::thread::spawn(move || drop(host.receive(None)));
    assert_eq!(supervisor.call::<_, Empty>(&Start, &[], SOON).unwrap_err(), CallError::Gone);
    host.join().unwrap();
    assert_eq!(supervisor.tell(&Button, &[]), Err(SendError::Gone));
    assert_eq!(supervisor.call::<_, Empty>(&Start, &[], SOON).unwrap_err(), CallError::Gone);
}

/// The kernel reports ECONNRESET before what the peer still had to say.
#[test]
fn last_words_of_a_peer_that_did_not_listen_are_heard() {
    let (mut supervisor, peer) = mortal_pair();
    supervisor.tell(&Button, &[]).unwrap();
    peer.send(&datagram(EVENT, 0, 0, &log("out of memory")), &[]);
    peer.kill();
    let (last, _) = supervisor.receive(Some(SOON)).unwrap().unwrap().decode::<Log>().unwrap();
    assert_eq!(last, log("out of memory"));
    assert_eq!(supervisor.receive(Some(SOON)).unwrap_err(), Fault::PeerGone);
}

#[test]
fn telling_a_peer_that_does_not_read_never_waits() {
    let (mut supervisor, _peer) = pair();
    let full = (0..100_000).map(|_| supervisor.tell(&Button, &[])).find(Result::is_err);
    assert_eq!(full, Some(Err(SendError::Full)));
    let begun = Instant::now();
    let late = supervisor.call::<_, Empty>(&Start, &[], Duration::from_millis(20)).unwrap_err();
    assert_eq!(late, CallError::Late);
    assert!(begun.elapsed() < SOON);
}

#[test]
fn plain_write_of_a_sealed_process_sends_the_same_message() {
    let (host, peer) = pair();
    host.tell_by_write(&log("sealed")).unwrap();
    assert_eq!(peer.receive(), datagram(EVENT, 0, 0, &log("sealed")));
    let large = schema::control::ConsoleOutput { output: vec![0; 2048] };
    assert!(matches!(host.tell_by_write(&large), Err(SendError::Body(BadBody::TooLong { .. }))));
}

#[test]
fn longest_sentence_can_be_told_by_a_plain_write() {
    let (host, peer) = pair();
    let longest = log(&"x".repeat(schema::host::SENTENCE_MAX));
    host.tell_by_write(&longest).unwrap();
    assert_eq!(peer.receive(), datagram(EVENT, 0, 0, &longest));
}

#[test]
fn looking_returns_at_once() {
    let (mut supervisor, _host) = Channel::pair().unwrap();
    assert!(supervisor.receive(LOOK).unwrap().is_none());
    let begun = Instant::now();
    assert!(supervisor.receive(Some(Duration::from_millis(20))).unwrap().is_none());
    assert!(begun.elapsed() >= Duration::from_millis(20));
}

/// A copy at this number or the next free one, as a parent leaves it. Numbers of their own, for each is taken only once.
fn left_at(descriptor: impl AsFd, number: RawFd) -> RawFd {
    fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(number)).unwrap()
}

#[test]
fn inherited_channel_is_taken_once_and_does_not_wait() {
    let (supervisor, host) = Channel::pair().unwrap();
    let number = left_at(host.as_fd(), 30);
    drop(host);
    let host = Channel::inherit(number).unwrap();
    assert_eq!(host.as_fd().as_raw_fd(), number);
    assert!(Channel::inherit(number).is_err(), "two owners would close it twice");
    host.never_wait_to_write().unwrap();
    let full = (0..100_000).map(|_| host.tell_by_write(&log("anybody there?"))).find(Result::is_err);
    assert_eq!(full, Some(Err(SendError::Full)));
    drop(supervisor);
    assert_eq!(host.tell_by_write(&log("anybody?")), Err(SendError::Gone));
}

#[test]
fn only_a_connected_socket_of_the_right_type_is_a_channel() {
    let is_object = |fault: Option<Fault>| matches!(fault, Some(Fault::HandleObject(_)));
    let stream = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC).unwrap().0;
    assert!(is_object(Channel::from_fd(stream).err()));
    let (pipe, _) = nix::unistd::pipe().unwrap();
    assert!(is_object(Channel::from_fd(pipe).err()));
    let flags = SockFlag::SOCK_CLOEXEC;
    let alone = nix::sys::socket::socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    assert!(is_object(Channel::from_fd(alone).err()));
    assert!(Channel::inherit(-1).is_err());
    assert!(Channel::inherit(63).is_err(), "nothing is open there");
}

#[test]
#[allow(unsafe_code)] // accept4 of nix returns a bare number.
fn named_socket_is_an_operators_and_never_inherited() {
    use nix::sys::socket::{Backlog, UnixAddr, accept4, bind, connect, listen, socket};
    let folder = tempfile::tempdir().unwrap();
    let address = UnixAddr::new(&folder.path().join("socket")).unwrap();
    let make = || socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let (listener, client) = (make(), make());
    bind(listener.as_raw_fd(), &address).unwrap();
    listen(&listener, Backlog::new(1).unwrap()).unwrap();
    connect(client.as_raw_fd(), &address).unwrap();
    let server = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC).unwrap();
    // SAFETY: accept4 has just made it, for us.
    let server = unsafe { OwnedFd::from_raw_fd(server) };
    assert!(matches!(Channel::inherit(left_at(&listener, 20)), Err(Fault::HandleObject(_))), "it has no peer");
    assert!(matches!(Channel::inherit(left_at(&server, 40)), Err(Fault::HandleObject(_))), "it has a name");
    assert!(matches!(Channel::inherit(left_at(&client, 50)), Err(Fault::HandleObject(_))), "its peer has a name");
    let mut client = Channel::from_fd(client).unwrap();
    client.call::<_, Empty>(&Start, &[], Duration::ZERO).unwrap_err();
    assert!(matches!(Channel::from_fd(listener), Err(Fault::HandleObject(_))));
}

#[test]
fn ordinals_are_what_a_packet_is_known_by() {
    let (mut supervisor, peer) = pair();
    peer.send(&datagram(EVENT, 0, 0, &HELLO), &[]);
    let packet = supervisor.receive(Some(SOON)).unwrap().unwrap();
    assert_eq!((packet.ordinal, packet.call), (Hello::ORDINAL, None));
    assert_eq!(packet.decode::<Log>().unwrap_err(), Fault::UnknownOrdinal(Hello::ORDINAL));
}
