//! What a hostile peer may try, from a process of its own. Whatever it does, it gets a named fault, the channel is dead, and
//! the receiver has not one descriptor more than before.

mod raw;

use imc::{BlockFile, CREDIT, CallError, Channel, DATAGRAM_MAX, Fault, Frozen, Region, SendError, WAITING_MAX, Wake};
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::SignalFd;
use nix::sys::stat::Mode;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use raw::{CALL, CLOSE, ERROR, EVENT, Peer, REPLY, assemble, datagram, descriptors, mortal_pair, pair, txid};
use schema::host::{Empty, Grant, Grants, Hello, Log, Purpose, Severity};
use schema::vmm::{GuestRegion, Memory};
use schema::{Body, Handle, Kind, Rights};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(5);
const HELLO: Hello = Hello { protocol: 1 };

/// Descriptors are counted for the whole process, so these tests run one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Lets the peer send, takes what came as a `B`, and returns the fault.
#[track_caller]
fn refused<B: Body>(send: impl FnOnce(&Peer)) -> Fault {
    let (mut channel, peer) = pair();
    let before = descriptors();
    send(&peer);
    let fault = match channel.receive(Some(SOON)) {
        Ok(Some(packet)) => packet.decode::<B>().err().expect("accepted"),
        Ok(None) => panic!("nothing came"),
        Err(fault) => fault,
    };
    assert_eq!(channel.receive(Some(Duration::ZERO)).unwrap_err(), fault, "the channel stays closed");
    assert_eq!(descriptors(), before, "no descriptor is left behind");
    assert!(peer.try_send(&datagram(EVENT, 0, 0, &HELLO), &[]).is_err(), "the peer is shut out");
    fault
}

fn grants(handles: &[Handle]) -> Grants {
    let grant = |handle: &Handle| Grant { device: 0, purpose: Purpose::State, number: 0, base: 0, handle: *handle };
    Grants { grants: handles.iter().map(grant).collect() }
}

/// What becomes of one descriptor that is claimed to be this.
#[track_caller]
fn claimed(descriptor: impl AsFd, kind: Kind, rights: Rights, size: u64) -> Result<(), Fault> {
    let (mut channel, peer) = pair();
    let before = descriptors();
    peer.send(&datagram(EVENT, 0, 1, &grants(&[Handle { slot: 0, kind, rights, size }])), &[descriptor.as_fd()]);
    let result = channel.receive(Some(SOON)).unwrap().unwrap().decode::<Grants>().map(drop);
    assert_eq!(descriptors(), before);
    result
}

const READ_WRITE: Rights = Rights::READ.and(Rights::WRITE);
const MAP: Rights = READ_WRITE.and(Rights::MAP);
const MAP_READ_ONLY: Rights = Rights::READ.and(Rights::MAP);
const MAP_FROZEN: Rights = MAP_READ_ONLY.and(Rights::FROZEN);
const BELL: Rights = Rights::SIGNAL.and(Rights::WAIT);

fn is_object(result: Result<(), Fault>) -> bool {
    matches!(result, Err(Fault::HandleObject(_)))
}

#[test]
fn short_datagrams_are_refused() {
    let _alone = alone();
    let whole = datagram(EVENT, 0, 0, &HELLO);
    for length in 1..whole.len() {
        let fault = refused::<Hello>(|peer| peer.send(&whole[..length], &[]));
        assert_eq!(fault, Fault::Truncated, "{length} bytes");
    }
}

#[test]
fn oversize_datagram_is_refused_with_its_descriptors() {
    let _alone = alone();
    let wake = Wake::create().unwrap();
    for excess in [1, 8, 9, 100_000] {
        let long = vec![0; DATAGRAM_MAX + excess];
        assert_eq!(refused::<Hello>(|peer| peer.send(&long, &[wake.as_fd()])), Fault::Oversize);
    }
}

#[test]
fn as_many_descriptors_as_the_kernel_passes_are_owned_and_closed() {
    let _alone = alone();
    let wake = Wake::create().unwrap();
    let many = vec![wake.as_fd(); 253];
    for handles in [0, 8] {
        let fault = refused::<Hello>(|peer| peer.send(&datagram(EVENT, 0, handles, &HELLO), &many));
        assert_eq!(fault, Fault::HandleCount);
    }
    assert_eq!(refused::<Hello>(|peer| peer.send(&datagram(EVENT, 0, 253, &HELLO), &many)), Fault::HandleCount);
}

#[test]
fn empty_datagram_with_descriptors_is_no_end() {
    let _alone = alone();
    let wake = Wake::create().unwrap();
    assert_eq!(refused::<Hello>(|peer| peer.send(&[], &[wake.as_fd()])), Fault::HandleCount);
    assert_eq!(refused::<Hello>(|peer| peer.send(&[], &[])), Fault::PeerGone);
}

#[test]
fn descriptors_that_header_or_body_do_not_name_are_refused() {
    let _alone = alone();
    let wake = Wake::create().unwrap();
    let two = [wake.as_fd(), wake.as_fd()];
    let bell = |slot| Handle { slot, kind: Kind::Wake, rights: BELL, size: 0 };
    for (handles, sent, named) in [
        (0, 1, vec![]),
        (1, 0, vec![]),
        (1, 1, vec![]),
        (1, 2, vec![bell(0)]),
        (1, 1, vec![bell(0), bell(1)]),
        (1, 1, vec![bell(1)]),
        (2, 2, vec![bell(0), bell(0)]),
        (2, 2, vec![bell(1)]),
        (0, 0, vec![bell(0)]),
    ] {
        let message = datagram(EVENT, 0, handles, &grants(&named));
        let fault = refused::<Grants>(|peer| peer.send(&message, &two[..sent]));
        assert_eq!(fault, Fault::HandleCount, "{handles} in the header, {sent} sent, {named:?} named");
    }
}

#[test]
fn descriptor_of_another_kind_than_claimed_is_refused() {
    let _alone = alone();
    let region = Region::create("test", 4096).unwrap();
    let wake = Wake::create().unwrap();
    let (pipe, _other) = nix::unistd::pipe().unwrap();
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::empty()).unwrap();
    let epoll = nix::sys::epoll::Epoll::new(nix::sys::epoll::EpollCreateFlags::empty()).unwrap();
    let null = open("/dev/null", OFlag::O_RDWR);
    let folder = open("/", OFlag::O_RDONLY);
    let (channel, _peer) = Channel::pair().unwrap();

    assert_eq!(claimed(&wake, Kind::Wake, BELL, 0), Ok(()));
    let expired = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::empty()).unwrap();
    expired.set(Expiration::OneShot(TimeSpec::new(0, 1)), TimerSetTimeFlags::empty()).unwrap();
    std::thread::sleep(Duration::from_millis(1));
    let signals = SignalFd::new(&SigSet::empty()).unwrap();
    let no_wakes: [(&str, BorrowedFd<'_>); 9] = [
        ("timer that has expired", expired.as_fd()),
        ("signalfd", signals.as_fd()),
        ("region", region.as_fd()),
        ("pipe", pipe.as_fd()),
        ("timer", timer.as_fd()),
        ("epoll", epoll.0.as_fd()),
        ("null", null.as_fd()),
        ("folder", folder.as_fd()),
        ("channel", channel.as_fd()),
    ];
    for (name, descriptor) in no_wakes {
        assert!(is_object(claimed(descriptor, Kind::Wake, BELL, 0)), "a {name} is no wake");
    }
    for (name, descriptor) in [("wake", wake.as_fd()), ("pipe", pipe.as_fd()), ("null", null.as_fd())] {
        assert!(is_object(claimed(descriptor, Kind::Region, MAP, 4096)), "a {name} is no region");
        assert!(is_object(claimed(descriptor, Kind::File, READ_WRITE, 0)), "a {name} is no file");
        assert!(is_object(claimed(descriptor, Kind::Kvm, READ_WRITE, 0)), "a {name} is not /dev/kvm");
    }
    assert!(is_object(claimed(&folder, Kind::File, Rights::READ, 0)));
    assert_eq!(claimed(&channel, Kind::Channel, READ_WRITE, 0), Err(Fault::HandleKind), "a channel is never sent");
    assert!(is_object(claimed(&channel, Kind::Connect, Rights::WRITE, 0)), "nor as something else");
    for descriptor in [wake.as_fd(), pipe.as_fd(), null.as_fd(), region.as_fd()] {
        assert!(is_object(claimed(descriptor, Kind::Connect, Rights::WRITE, 0)));
        assert!(is_object(claimed(descriptor, Kind::Tap, READ_WRITE, 0)));
    }
}

#[test]
fn wake_keeps_its_count_while_it_is_looked_at() {
    let _alone = alone();
    let wake = Wake::create().unwrap();
    wake.signal(5).unwrap();
    assert_eq!(claimed(&wake, Kind::Wake, BELL, 0), Ok(()));
    assert_eq!(wake.drain(), Some(5));
    assert_eq!(claimed(&wake, Kind::Wake, Rights::SIGNAL, 0), Err(Fault::HandleRights));
}

#[test]
fn region_that_could_shrink_is_refused() {
    let _alone = alone();
    let flags = MFdFlags::MFD_ALLOW_SEALING;
    let unsealed = memfd_create(c"test", flags).unwrap();
    nix::unistd::ftruncate(&unsealed, 4096).unwrap();
    assert!(is_object(claimed(&unsealed, Kind::Region, MAP, 4096)));
    for some in [SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL, SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW] {
        let half = memfd_create(c"test", flags).unwrap();
        nix::unistd::ftruncate(&half, 4096).unwrap();
        fcntl(&half, FcntlArg::F_ADD_SEALS(some)).unwrap();
        assert!(is_object(claimed(&half, Kind::Region, MAP, 4096)), "{some:?} is not enough");
    }
}

#[test]
fn region_of_another_size_or_other_rights_is_refused() {
    let _alone = alone();
    let region = Region::create("test", 8192).unwrap();
    assert_eq!(claimed(&region, Kind::Region, MAP, 8192), Ok(()));
    for size in [0, 4096, 12288, u64::MAX] {
        assert!(is_object(claimed(&region, Kind::Region, MAP, size)));
    }
    assert_eq!(claimed(&region, Kind::Region, MAP_READ_ONLY, 8192), Err(Fault::HandleRights), "it is more than that");
    assert_eq!(claimed(&region, Kind::Region, MAP_FROZEN, 8192), Err(Fault::HandleRights));
    assert_eq!(claimed(&region, Kind::Region, Rights::WRITE, 8192), Err(Fault::HandleRights), "no such region exists");

    let weak = region.read_only().unwrap();
    assert_eq!(claimed(&weak, Kind::Region, MAP_READ_ONLY, 8192), Ok(()));
    assert_eq!(claimed(&weak, Kind::Region, MAP, 8192), Err(Fault::HandleRights));
    assert_eq!(claimed(&weak, Kind::Region, MAP_FROZEN, 8192), Err(Fault::HandleRights));

    let frozen = Region::<Frozen>::freeze("test", b"never again").unwrap();
    assert_eq!(claimed(&frozen, Kind::Region, MAP_FROZEN, 4096), Ok(()));
    assert_eq!(claimed(&frozen, Kind::Region, MAP, 4096), Err(Fault::HandleRights));
}

#[test]
fn region_that_was_taken_is_not_shrunk_by_its_sender() {
    let _alone = alone();
    let region = Region::create("test", 4096).unwrap();
    let (mut channel, peer) = pair();
    let handle = Handle { slot: 0, kind: Kind::Region, rights: MAP, size: 4096 };
    peer.send(&datagram(EVENT, 0, 1, &grants(&[handle])), &[region.as_fd()]);
    let (taken, mut descriptors) = channel.receive(Some(SOON)).unwrap().unwrap().decode::<Grants>().unwrap();
    let taken: Region<imc::ReadWrite> = descriptors.take_as(&taken.grants[0].handle).unwrap();
    let mapping = taken.map().unwrap();
    for size in [0, 1, 4095, 8192] {
        assert_eq!(peer.resize(region.as_fd(), size), Err(nix::errno::Errno::EPERM));
    }
    mapping.write(4095, b"x");
}

/// What was weakened stays weak, in a process of another user that has everything else it could wish for.
#[test]
fn there_is_no_way_back_from_a_weaker_capability() {
    let _alone = alone();
    let (_channel, peer) = mortal_pair();
    if !peer.become_nobody() {
        println!("SKIPPED: another user's process is made by root alone");
        return;
    }
    let region = Region::create("test", 4096).unwrap();
    let frozen = Region::<Frozen>::freeze("test", b"never again").unwrap();
    let file = BlockFile::new(tempfile::tempfile().unwrap()).unwrap();
    let weak = [region.read_only().unwrap().into(), OwnedFd::from(frozen), file.read_only().unwrap().file.into()];
    for weak in &weak {
        for (number, tried) in peer.try_to_write(weak.as_fd()).into_iter().enumerate() {
            assert!(tried.is_err(), "try {number}");
        }
    }
    // The same tries succeed where they may.
    let tried = peer.try_to_write(region.as_fd());
    assert_eq!((tried[0], tried[3], tried[4]), (Ok(()), Ok(()), Ok(())));
}

#[test]
fn one_memory_where_two_are_due_is_refused() {
    let _alone = alone();
    let (region, other) = (Region::create("test", 4096).unwrap(), Region::create("test", 4096).unwrap());
    let (weak, twice) = (region.read_only().unwrap(), region.try_clone().unwrap());
    let handle = |slot, rights| Handle { slot, kind: Kind::Region, rights, size: 4096 };
    let two = |first: Rights, second: Rights| {
        let regions = [handle(0, first), handle(1, second)].map(|handle| GuestRegion { base: 0, handle });
        datagram(EVENT, 0, 2, &Memory { regions: regions.into() })
    };
    for (message, sent) in [
        (two(MAP, MAP), [region.as_fd(), region.as_fd()]),
        (two(MAP, MAP), [region.as_fd(), twice.as_fd()]),
        (two(MAP, MAP_READ_ONLY), [region.as_fd(), weak.as_fd()]),
        (two(MAP_READ_ONLY, MAP), [weak.as_fd(), region.as_fd()]),
    ] {
        let fault = refused::<Memory>(|peer| peer.send(&message, &sent));
        assert_eq!(fault, Fault::HandleObject("it is the memory of another descriptor of the message"));
    }
    let (mut channel, peer) = pair();
    peer.send(&two(MAP, MAP), &[region.as_fd(), other.as_fd()]);
    assert!(channel.receive(Some(SOON)).unwrap().unwrap().decode::<Memory>().is_ok());
}

#[test]
fn file_is_taken_only_as_it_was_opened() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    std::fs::write(&path, [0; 512]).unwrap();
    let path = path.to_str().unwrap();
    let readable = open(path, OFlag::O_RDONLY);
    let both = open(path, OFlag::O_RDWR);
    assert_eq!(claimed(&readable, Kind::File, Rights::READ, 0), Ok(()));
    assert_eq!(claimed(&readable, Kind::File, READ_WRITE, 0), Err(Fault::HandleRights));
    assert_eq!(claimed(&both, Kind::File, READ_WRITE, 0), Ok(()));
    assert_eq!(claimed(&both, Kind::File, Rights::READ, 0), Err(Fault::HandleRights), "it is more than that");
    assert!(is_object(claimed(open(path, OFlag::O_WRONLY), Kind::File, READ_WRITE, 0)));
    assert!(is_object(claimed(open(path, OFlag::O_RDWR | OFlag::O_APPEND), Kind::File, READ_WRITE, 0)));
    assert!(is_object(claimed(open(path, OFlag::O_PATH), Kind::File, Rights::READ, 0)));
}

fn open(path: &str, flags: OFlag) -> OwnedFd {
    nix::fcntl::open(path, flags | OFlag::O_CLOEXEC, Mode::empty()).unwrap()
}

#[test]
fn numbers_that_nobody_gave_out_are_refused() {
    let _alone = alone();
    for kind in [REPLY, ERROR] {
        for forged in [0, 1, 1 << 32, u64::MAX] {
            assert_eq!(refused::<Empty>(|peer| peer.send(&datagram(kind, forged, 0, &Empty), &[])), Fault::BadTxid);
        }
    }
    assert_eq!(refused::<Hello>(|peer| peer.send(&datagram(CALL, 0, 0, &HELLO), &[])), Fault::BadTxid);
    assert_eq!(refused::<Hello>(|peer| peer.send(&datagram(EVENT, 1, 0, &HELLO), &[])), Fault::BadTxid);
    assert_eq!(refused::<Hello>(|peer| peer.send(&datagram(CLOSE, 0, 0, &HELLO), &[])), Fault::PeerGone);
}

#[test]
fn reply_with_a_forged_number_does_not_answer_the_call() {
    let _alone = alone();
    for forge in [|number| number + 1, |number| number ^ 1 << 32, |_| 0] {
        let (mut channel, peer) = pair();
        let peer = std::thread::spawn(move || {
            let call = peer.receive();
            peer.send(&datagram(REPLY, forge(txid(&call)), 0, &Empty), &[]);
            peer
        });
        let result = channel.call::<_, Empty>(&HELLO, &[], SOON);
        assert_eq!(result.unwrap_err(), CallError::Violation(Fault::BadTxid));
        peer.join().unwrap();
    }
}

#[test]
fn second_reply_to_one_call_is_a_violation() {
    let _alone = alone();
    let (mut channel, peer) = pair();
    let peer = std::thread::spawn(move || {
        let answer = datagram(REPLY, txid(&peer.receive()), 0, &Empty);
        peer.send(&answer, &[]);
        peer.send(&answer, &[]);
        peer
    });
    channel.call::<_, Empty>(&HELLO, &[], SOON).unwrap();
    assert_eq!(channel.receive(Some(SOON)).unwrap_err(), Fault::BadTxid);
    peer.join().unwrap();
}

#[test]
fn reply_of_another_type_or_with_a_bad_descriptor_is_a_violation() {
    let _alone = alone();
    let unsealed = memfd_create(c"test", MFdFlags::MFD_ALLOW_SEALING).unwrap();
    let region = Handle { slot: 0, kind: Kind::Region, rights: MAP, size: 4096 };
    let call = |answer: &(dyn Fn(u64) -> Vec<u8> + Sync), descriptors: &[BorrowedFd<'_>]| {
        let (mut channel, peer) = pair();
        std::thread::scope(|scope| {
            scope.spawn(|| peer.send(&answer(txid(&peer.receive())), descriptors));
            channel.call::<_, Grants>(&HELLO, &[], SOON).unwrap_err()
        })
    };
    let other = call(&|number| datagram(REPLY, number, 0, &Empty), &[]);
    assert_eq!(other, CallError::Violation(Fault::UnknownOrdinal(Empty::ORDINAL)));
    let mismatch = call(&|number| assemble(REPLY, Grants::ORDINAL, number, 0, Hello::SCHEMA_ID, &[0; 8]), &[]);
    assert_eq!(mismatch, CallError::Violation(Fault::SchemaMismatch));
    let bad = call(&|number| datagram(REPLY, number, 1, &grants(&[region])), &[unsealed.as_fd()]);
    assert!(matches!(bad, CallError::Violation(Fault::HandleObject(_))), "{bad:?}");
}

#[test]
fn peer_that_calls_without_end_runs_out_of_credit() {
    let _alone = alone();
    let (mut channel, peer) = pair();
    for number in 0..=CREDIT as u64 {
        peer.send(&datagram(CALL, number + 1, 0, &HELLO), &[]);
    }
    for _ in 0..CREDIT {
        channel.receive(Some(SOON)).unwrap().unwrap();
    }
    assert_eq!(channel.receive(Some(SOON)).unwrap_err(), Fault::NoCredit);
}

#[test]
fn call_under_a_number_in_use_is_refused() {
    let _alone = alone();
    let (mut channel, peer) = pair();
    peer.send(&datagram(CALL, 9, 0, &HELLO), &[]);
    peer.send(&datagram(CALL, 9, 0, &HELLO), &[]);
    assert!(channel.receive(Some(SOON)).unwrap().is_some());
    assert_eq!(channel.receive(Some(SOON)).unwrap_err(), Fault::BadTxid);
}

#[test]
fn flood_of_events_in_place_of_a_reply_is_a_violation() {
    let _alone = alone();
    let (mut channel, peer) = pair();
    let flood = std::thread::spawn(move || {
        peer.receive();
        let event = datagram(EVENT, 0, 0, &Log { severity: Severity::Error, text: "again".into() });
        assert_eq!(peer.flood(&event, &[]), nix::errno::Errno::EPIPE, "it is shut out");
    });
    let result = channel.call::<_, Empty>(&HELLO, &[], SOON);
    assert_eq!(result.unwrap_err(), CallError::Violation(Fault::NoCredit));
    flood.join().unwrap();
    for _ in 0..WAITING_MAX {
        assert!(channel.receive(Some(Duration::ZERO)).unwrap().unwrap().is::<Log>(), "what came before it is kept");
    }
    assert_eq!(channel.receive(Some(Duration::ZERO)).unwrap_err(), Fault::NoCredit);
}

/// Each of its messages comes in time, and none is the answer.
#[test]
fn peer_that_keeps_talking_does_not_put_off_the_deadline() {
    let _alone = alone();
    let (mut channel, peer) = pair();
    let event = datagram(EVENT, 0, 0, &Log { severity: Severity::Info, text: "soon".into() });
    let talking = std::thread::spawn(move || {
        for _ in 0..40 {
            peer.send(&event, &[]);
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let begun = Instant::now();
    let deadline = Duration::from_millis(50);
    assert_eq!(channel.call::<_, Empty>(&HELLO, &[], deadline).unwrap_err(), CallError::Late);
    let took = begun.elapsed();
    assert!(took >= deadline && took < 3 * deadline, "{took:?}");
    talking.join().unwrap();
}

#[test]
fn peer_that_reads_nothing_makes_nobody_wait_longer_than_he_likes() {
    let _alone = alone();
    let (mut channel, _peer) = pair();
    let full = (0..100_000).map(|_| channel.tell(&HELLO, &[])).find(Result::is_err);
    assert_eq!(full, Some(Err(SendError::Full)));
    let begun = Instant::now();
    assert_eq!(channel.call::<_, Empty>(&HELLO, &[], Duration::from_millis(20)).unwrap_err(), CallError::Late);
    assert!(begun.elapsed() < SOON);
}

#[test]
fn answers_of_a_peer_that_was_killed_are_still_heard() {
    let _alone = alone();
    let (mut channel, peer) = mortal_pair();
    let before = descriptors();
    // It gives up on the call at once; the answer is queued when the process dies, and so is a call that it never read.
    assert_eq!(channel.call::<_, Empty>(&HELLO, &[], Duration::ZERO).unwrap_err(), CallError::Late);
    let answered = txid(&peer.receive());
    channel.tell(&HELLO, &[]).unwrap();
    peer.send(&datagram(REPLY, answered, 0, &Empty), &[]);
    peer.send(&datagram(EVENT, 0, 0, &Log { severity: Severity::Error, text: "last".into() }), &[]);
    peer.kill();
    assert!(channel.receive(Some(SOON)).unwrap().unwrap().is::<Log>(), "ECONNRESET came first, and was no end");
    assert_eq!(channel.receive(Some(SOON)).unwrap_err(), Fault::PeerGone);
    assert_eq!(channel.call::<_, Empty>(&HELLO, &[], SOON).unwrap_err(), CallError::Gone);
    assert_eq!(descriptors(), before);
}

#[test]
fn call_to_a_peer_that_is_killed_meanwhile_is_gone() {
    let _alone = alone();
    let (mut channel, peer) = mortal_pair();
    let killer = std::thread::spawn(move || {
        peer.receive();
        peer.kill();
    });
    assert_eq!(channel.call::<_, Empty>(&HELLO, &[], SOON).unwrap_err(), CallError::Gone);
    killer.join().unwrap();
}

#[test]
fn refused_descriptors_do_not_arrive() {
    let _alone = alone();
    let (mut channel, peer) = pair();
    channel.refuse_descriptors();
    let wake = Wake::create().unwrap();
    let before = descriptors();
    let bell = Handle { slot: 0, kind: Kind::Wake, rights: BELL, size: 0 };
    match peer.try_send(&datagram(EVENT, 0, 1, &grants(&[bell])), &[wake.as_fd()]) {
        Err(error) => assert_eq!(error, nix::errno::Errno::EPERM, "where the kernel refuses for us"),
        Ok(_) => assert_eq!(channel.receive(Some(SOON)).unwrap_err(), Fault::HandleCount),
    }
    assert_eq!(descriptors(), before);
}

#[test]
fn damaged_datagrams_are_refused_or_understood_and_nothing_else() {
    let _alone = alone();
    let region = Region::create("test", 4096).unwrap();
    let handle = Handle { slot: 0, kind: Kind::Region, rights: MAP, size: 4096 };
    let good = datagram(CALL, 77, 1, &grants(&[handle]));
    let before = descriptors();
    for at in 0..good.len() {
        for flip in [1, 0x80, 0xff] {
            let mut damaged = good.clone();
            damaged[at] ^= flip;
            let (mut channel, peer) = pair();
            peer.send(&damaged, &[region.as_fd()]);
            if let Ok(Some(packet)) = channel.receive(Some(SOON)) {
                let _ = packet.decode::<Grants>();
            }
        }
    }
    assert_eq!(descriptors(), before);
}
