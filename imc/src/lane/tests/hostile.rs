//! Hosts and VMMs that break the rules, on the carriers that send messages; most of them in a process of their own.

use super::super::descriptors::{Descriptors, Pipes};
use super::super::host_message::HostTransport;
use super::super::message::{BURST, Transport};
use super::super::virtio::VirtioDevice;
use super::super::wire::{ACCESS_BYTES, ANSWER_BYTES, with_bytes};
use super::wakes::Random;
use super::*;
use crate::{Packets, PipeReader, PipeWriter, pipe};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd;
use schema::lane::{Answer, STRING_MAX};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd};

/// Long enough to be told from at once, short enough to wait for.
const DEADLINE: Duration = Duration::from_millis(60);

/// Both ends of a lane whose host may say anything.
trait Lying: Sized {
    type Transport: HostTransport;
    type Driver: Transport + 'static;

    fn new() -> Self;
    fn carrier(&self, wake: &Wake) -> MessageCarrier<Self::Driver>;
    fn host(&self) -> Self::Transport;
    /// Sends bytes as a message.
    fn send(&self, bytes: &[u8]);
}

struct OverPackets(Packets, Packets);

impl Lying for OverPackets {
    type Transport = Descriptors<Packets>;
    type Driver = Descriptors<Packets>;

    fn new() -> Self {
        let (vmm, host) = Packets::pair().unwrap();
        OverPackets(vmm, host)
    }
    fn carrier(&self, wake: &Wake) -> SocketCarrier {
        let (own, wake) = (Wake::create().unwrap(), wake.try_clone().unwrap());
        SocketCarrier::new(self.0.try_clone().unwrap(), own, wake, SpinBudget::NONE).unwrap()
    }
    fn host(&self) -> Self::Transport {
        Descriptors::new(self.1.try_clone().unwrap())
    }
    fn send(&self, bytes: &[u8]) {
        assert_eq!(unistd::write(&self.1, bytes), Ok(bytes.len()));
    }
}

struct OverPipes {
    asked: (PipeReader, PipeWriter),
    answers: (PipeReader, PipeWriter),
}

impl Lying for OverPipes {
    type Transport = Descriptors<Pipes>;
    type Driver = Descriptors<Pipes>;

    fn new() -> Self {
        OverPipes { asked: pipe().unwrap(), answers: pipe().unwrap() }
    }
    fn carrier(&self, wake: &Wake) -> PipeCarrier {
        let (own, wake) = (Wake::create().unwrap(), wake.try_clone().unwrap());
        let (asked, answers) = (self.asked.1.try_clone().unwrap(), self.answers.0.try_clone().unwrap());
        PipeCarrier::new(asked, answers, own, wake, SpinBudget::NONE).unwrap()
    }
    fn host(&self) -> Self::Transport {
        Descriptors::of_host(self.asked.0.try_clone().unwrap(), self.answers.1.try_clone().unwrap())
    }
    fn send(&self, bytes: &[u8]) {
        assert_eq!(unistd::write(&self.answers.1, bytes), Ok(bytes.len()));
    }
}

struct OverQueues {
    request: Region<ReadWrite>,
    answers: Region<ReadWrite>,
    reply: Wake,
}

/// Places in the answer region: index and entries of the used ring of answers, and the first buffer. As the table of the
/// carrier's module has them.
const USED_INDEX: usize = 322;
const USED_ENTRIES: usize = 324;
const BUFFERS: usize = 640;

impl OverQueues {
    fn store<T>(&self, offset: usize, value: T) {
        let mapping = self.answers.map().unwrap();
        assert!(offset + size_of::<T>() <= mapping.len() && offset.is_multiple_of(align_of::<T>()));
        // SAFETY: inside the mapping and aligned, as was just asserted.
        unsafe { mapping.as_ptr().add(offset).cast::<T>().write_volatile(value) }
    }

    /// Claims to have used buffer `id` of answers as the first, with `bytes`, and `count` in all.
    fn claim(&self, id: u32, bytes: u32, count: u16) {
        self.store(USED_ENTRIES, id);
        self.store(USED_ENTRIES + 4, bytes);
        self.store(USED_INDEX, count);
    }
}

impl Lying for OverQueues {
    type Transport = VirtioDevice;
    type Driver = VirtioDriver;

    fn new() -> Self {
        let request = Region::create("cofferdam:request", REQUEST_BYTES).unwrap();
        prepare_virtqueues(&request).unwrap();
        let answers = Region::create("cofferdam:answers", ANSWER_REGION_BYTES).unwrap();
        OverQueues { request, answers, reply: Wake::create().unwrap() }
    }
    fn carrier(&self, wake: &Wake) -> VirtioCarrier {
        let (reply, wake) = (self.reply.try_clone().unwrap(), wake.try_clone().unwrap());
        let answers = self.answers.read_only().unwrap().map().unwrap();
        VirtioCarrier::new(self.request.map().unwrap(), answers, reply, wake, SpinBudget::NONE).unwrap()
    }
    fn host(&self) -> Self::Transport {
        let request = self.request.read_only().unwrap().map().unwrap();
        VirtioDevice::new(request, self.answers.map().unwrap(), self.reply.try_clone().unwrap()).unwrap()
    }
    fn send(&self, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            self.store(BUFFERS + index, *byte);
        }
        self.claim(0, bytes.len() as u32, 1);
    }
}

macro_rules! on_each {
    ($($rule:ident)*) => {
        on_each!(@over socket OverPackets; $($rule)*);
        on_each!(@over pipe OverPipes; $($rule)*);
        on_each!(@over virtio OverQueues; $($rule)*);
    };
    (@over $module:ident $lying:ident; $($rule:ident)*) => {
        mod $module {
            $(#[test]
            fn $rule() {
                super::$rule::<super::$lying>();
            })*
        }
    };
}

on_each! {
    answer_to_what_was_never_asked_is_a_violation
    answer_that_goes_back_is_a_violation
    answer_of_noise_is_a_violation
    flood_of_answers_leaves_its_caller_late
    flood_of_answers_keeps_no_access_that_need_not_wait
    string_that_is_not_as_long_as_it_says_is_a_violation
    endless_starts_are_a_violation
    stuffed_wake_is_a_violation_and_makes_nobody_wait
    host_that_reads_nothing_makes_nobody_wait
    entry_of_noise_is_refused_by_a_host
    sequences_and_indices_wrap
}

fn answer(sequence: u32) -> Answer {
    Answer { sequence, ..Answer::default() }
}

fn is_violation<T: std::fmt::Debug>(result: Result<T, LaneError>) -> bool {
    matches!(result, Err(LaneError::Violation(_)))
}

/// A process that does something for ever, until this is dropped.
struct Process(Pid);

impl Process {
    fn that(mut act: impl FnMut()) -> Process {
        // SAFETY: the child touches only what it was given, and never returns.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => Process(child),
            ForkResult::Child => loop {
                act();
            },
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGKILL).unwrap();
        waitpid(self.0, None).unwrap();
    }
}

fn answer_to_what_was_never_asked_is_a_violation<L: Lying>() {
    for (issued, told) in [(0, 1), (3, 4), (3, u32::MAX)] {
        let (ends, wake) = (L::new(), Wake::create().unwrap());
        let mut carrier = ends.carrier(&wake);
        for value in 0..issued {
            carrier.post(&post(value)).unwrap();
        }
        assert!(ends.host().tell(&answer(told), &[]).unwrap());
        assert!(is_violation(carrier.refresh()), "{issued} {told}");
        assert_eq!(carrier.call(&read(), LONG), Err(LaneError::Gone), "the lane is retired");
    }
}

fn answer_that_goes_back_is_a_violation<L: Lying>() {
    let (ends, wake) = (L::new(), Wake::create().unwrap());
    let mut carrier = ends.carrier(&wake);
    let mut host = ends.host();
    for value in 0..4 {
        carrier.post(&post(value)).unwrap();
    }
    assert!(host.tell(&answer(2), &[]).unwrap() && host.tell(&answer(2), &[]).unwrap());
    assert_eq!((carrier.refresh(), carrier.outstanding()), (Ok(true), Ok(2)));
    assert!(host.tell(&answer(1), &[]).unwrap());
    assert!(is_violation(carrier.refresh()));
}

fn answer_of_noise_is_a_violation<L: Lying>() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for _ in 0..50 {
        let (ends, wake) = (L::new(), Wake::create().unwrap());
        let mut carrier = ends.carrier(&wake);
        ends.send(&std::array::from_fn::<u8, ANSWER_BYTES, _>(|_| random.next() as u8));
        assert!(is_violation(carrier.refresh()));
    }
}

fn flood_of_answers_leaves_its_caller_late<L: Lying>() {
    let (ends, wake) = (L::new(), Wake::create().unwrap());
    let mut carrier = ends.carrier(&wake);
    let mut host = ends.host();
    let _flood = Process::that(|| {
        let _ = host.tell(&answer(0), &[]);
        let _ = host.told(true);
    });
    let start = Instant::now();
    assert_eq!(carrier.call(&read(), DEADLINE), Err(LaneError::Late));
    let took = start.elapsed();
    assert!(took >= DEADLINE && took < LONG / 4, "{took:?}");
}

fn flood_of_answers_keeps_no_access_that_need_not_wait<L: Lying>() {
    let (ends, wake) = (L::new(), Wake::create().unwrap());
    let carrier = ends.carrier(&wake);
    let view = carrier.view();
    let lane = Lane::new(Box::new(carrier), view, &manifest(), DEADLINE);
    let mut host = ends.host();
    let told = Answer { postable: u32::MAX, shadow: [Some(7); 8], ..answer(0) };
    assert!(host.tell(&told, &[]).unwrap());
    assert_eq!(lane.refresh(), Ok(true));
    assert_eq!(lane.read(0, 2, 1, 0), Ok(7));
    // As much as there is room for: a look takes a burst of it, and what is not known to be new is not served.
    let mut told_in_all = 0;
    while host.tell(&told, &[]).unwrap() {
        told_in_all += 1;
    }
    assert!(told_in_all > BURST);
    assert_eq!(lane.refresh(), Ok(false), "there is more");
    assert_eq!(lane.read(0, 2, 1, 0), Err(LaneError::Late), "asked, since what is known may be old");
    for _ in 0..told_in_all / BURST {
        lane.refresh().unwrap();
    }
    assert_eq!(lane.refresh(), Ok(true));
}

fn string_that_is_not_as_long_as_it_says_is_a_violation<L: Lying>() {
    // What it says that it gave of 512 bytes, and how much follows.
    for (value, bytes) in [(0, 0), (0, 2), (3, 3), (514, 512), (u64::MAX, 2), (4, 2), (2, 4), (4, 0)] {
        let (ends, wake) = (L::new(), Wake::create().unwrap());
        let carrier = ends.carrier(&wake);
        let view = carrier.view();
        let lane = Lane::new(Box::new(carrier), view, &manifest(), LONG);
        let told = Answer { value, bytes, ..answer(1) };
        assert!(ends.host().tell(&told, &[7; STRING_MAX][..bytes.into()]).unwrap());
        assert!(is_violation(lane.read_string(2, 0, 2, &mut [0; STRING_MAX], 0)), "{value} {bytes}");
        assert!(lane.is_retired());
    }
}

/// Of what follows a message there is less or more than it says.
fn string_that_is_cut_is_a_violation<L: Lying>() {
    for (says, follow) in [(100, 50), (100, 0), (50, 100), (0, 2)] {
        let (ends, wake) = (L::new(), Wake::create().unwrap());
        let mut carrier = ends.carrier(&wake);
        with_bytes(&Answer { bytes: says, ..answer(0) }, |bytes| ends.send(&[bytes, &[7; 100][..follow]].concat()));
        // Behind a record of a pipe begins the next one, which is noise then.
        let heard = carrier.refresh();
        assert!(is_violation(heard.and_then(|_| carrier.refresh())), "{says} {follow}");
    }
}

#[test]
fn string_that_is_cut_is_a_violation_over_packets_and_pipes() {
    string_that_is_cut_is_a_violation::<OverPackets>();
    string_that_is_cut_is_a_violation::<OverPipes>();
}

fn endless_starts_are_a_violation<L: Lying>() {
    let (ends, wake) = (L::new(), Wake::create().unwrap());
    let mut carrier = ends.carrier(&wake);
    let mut host = ends.host();
    // While there is nothing to send again, a start costs nothing.
    for _ in 0..100 {
        assert!(host.tell(&Answer { started: true, ..answer(0) }, &[]).unwrap());
        assert_eq!(carrier.refresh(), Ok(true));
    }
    let _starts = Process::that(|| {
        let _ = host.tell(&Answer { started: true, ..answer(0) }, &[]);
        let _ = host.told(true);
    });
    assert!(is_violation(carrier.call(&read(), LONG)));
}

fn stuffed_wake_is_a_violation_and_makes_nobody_wait<L: Lying>() {
    let (ends, wake) = (L::new(), Wake::create().unwrap());
    let mut carrier = ends.carrier(&wake);
    wake.signal(u64::MAX - 1).unwrap();
    let start = Instant::now();
    assert!(is_violation(carrier.call(&read(), LONG)));
    assert!(start.elapsed() < LONG / 4);
}

/// However often it starts and leaves what it is asked unread: what is sent again finds no room at last.
fn host_that_reads_nothing_makes_nobody_wait<L: Lying>() {
    let (ends, wake) = (L::new(), Wake::create().unwrap());
    let mut carrier = ends.carrier(&wake);
    let mut host = ends.host();
    for value in 0..u64::from(ENTRIES) {
        carrier.post(&post(value)).unwrap();
    }
    let start = Instant::now();
    let mut starts = 0;
    let ended = loop {
        assert!(host.tell(&Answer { started: true, ..answer(0) }, &[]).unwrap());
        starts += 1;
        match carrier.refresh() {
            Ok(_) => assert_eq!(carrier.post(&post(0)), Err(PostError::Full)),
            ended => break ended,
        }
    };
    assert!(is_violation(ended) && starts > 10, "{starts}");
    assert!(start.elapsed() < LONG / 4);
}

fn entry_of_noise_is_refused_by_a_host<L: Lying>() {
    let (ends, wake) = (L::new(), Wake::create().unwrap());
    let mut carrier = ends.carrier(&wake);
    // The schema knows no such width.
    carrier.post(&Request { width: 3, ..post(0) }).unwrap();
    let refused = ends.host().take().unwrap_err();
    assert!(refused.contains("`width` is out of range"), "{refused}");
}

fn sequences_and_indices_wrap<L: Lying>() {
    let (ends, wake) = (L::new(), Wake::create().unwrap());
    let mut carrier = ends.carrier(&wake);
    let mut host = ends.host();
    let first = u32::MAX - 40_000;
    carrier.begin_at(first);
    // More than the index of a ring counts.
    for step in 1..=80_000 {
        let sequence = first.wrapping_add(step);
        carrier.post(&post(u64::from(step))).unwrap();
        let access = host.take().unwrap().expect("it was asked");
        assert_eq!((access.sequence, access.value), (sequence, u64::from(step)));
        assert!(host.tell(&answer(sequence), &[]).unwrap());
        host.told(false).unwrap();
        assert_eq!((carrier.refresh(), carrier.outstanding()), (Ok(true), Ok(0)));
        wake.drain();
    }
}

#[test]
fn packet_of_another_length_is_a_violation() {
    for length in [0, 1, ACCESS_BYTES, ANSWER_BYTES - 8, ANSWER_BYTES + 1, 4096] {
        let (ends, wake) = (OverPackets::new(), Wake::create().unwrap());
        let mut carrier = ends.carrier(&wake);
        // An answer, as far as it goes.
        let mut bytes = vec![0; length];
        with_bytes(&answer(0), |answer| {
            let part = length.min(answer.len());
            bytes[..part].copy_from_slice(&answer[..part]);
        });
        ends.send(&bytes);
        assert!(is_violation(carrier.refresh()), "{length}");
    }
}

#[test]
fn torn_record_of_a_pipe_is_a_violation() {
    for length in [1, ACCESS_BYTES, ANSWER_BYTES - 1, ANSWER_BYTES + 1] {
        let (ends, wake) = (OverPipes::new(), Wake::create().unwrap());
        let mut carrier = ends.carrier(&wake);
        ends.send(&vec![0; length]);
        assert!(is_violation(carrier.refresh().and_then(|_| carrier.refresh())), "{length}");
    }
}

#[test]
fn end_that_is_closed_is_a_violation() {
    let wake = Wake::create().unwrap();
    let OverPackets(vmm, host) = OverPackets::new();
    let mut carrier =
        SocketCarrier::new(vmm, Wake::create().unwrap(), wake.try_clone().unwrap(), SpinBudget::NONE).unwrap();
    drop(host);
    assert!(is_violation(carrier.call(&read(), LONG)));
    let OverPipes { asked, answers } = OverPipes::new();
    let mut carrier = PipeCarrier::new(asked.1, answers.0, Wake::create().unwrap(), wake, SpinBudget::NONE).unwrap();
    drop((asked.0, answers.1));
    assert!(is_violation(carrier.call(&read(), LONG)));
}

/// The kernel refuses the sender where it can; elsewhere the reader's plain read drops them.
#[test]
fn descriptors_never_arrive_with_a_packet() {
    let (ends, wake) = (OverPackets::new(), Wake::create().unwrap());
    let mut carrier = ends.carrier(&wake);
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = count();
    for _ in 0..10 {
        with_bytes(&answer(0), |bytes| {
            let descriptors = [wake.as_fd().as_raw_fd(); 4];
            let control = [ControlMessage::ScmRights(&descriptors)];
            let sent =
                sendmsg::<()>(ends.1.as_fd().as_raw_fd(), &[IoSlice::new(bytes)], &control, MsgFlags::empty(), None);
            assert!(matches!(sent, Ok(ANSWER_BYTES) | Err(nix::errno::Errno::EPERM)), "{sent:?}");
        });
        assert_eq!(carrier.refresh(), Ok(true));
    }
    // Other tests of this process open and close some as well, but not forty.
    assert!(count() < before + 40);
}

#[test]
fn used_ring_that_lies_is_a_violation() {
    let answer_bytes = ANSWER_BYTES as u32;
    for (id, bytes, count) in [
        (1, answer_bytes, 1),
        (32, answer_bytes, 1),
        (u32::MAX, answer_bytes, 1),
        (0, 0, 1),
        (0, answer_bytes - 8, 1),
        (0, u32::MAX, 1),
        (0, answer_bytes, 33),
        (0, answer_bytes, u16::MAX),
    ] {
        let (ends, wake) = (OverQueues::new(), Wake::create().unwrap());
        let mut carrier = ends.carrier(&wake);
        ends.claim(id, bytes, count);
        assert!(is_violation(carrier.refresh()), "{id} {bytes} {count}");
    }
}

#[test]
fn used_ring_of_what_is_asked_that_lies_is_a_violation() {
    for (id, count) in [(1, 1), (0, 2), (0, u16::MAX)] {
        let (ends, wake) = (OverQueues::new(), Wake::create().unwrap());
        let mut carrier = ends.carrier(&wake);
        carrier.post(&post(0)).unwrap();
        ends.store(4, id);
        ends.store(2, count);
        assert!(matches!(carrier.post(&post(0)), Err(PostError::Failed(LaneError::Violation(_)))), "{id} {count}");
    }
}

/// Who sleeps on an eventfd that a host may ring, and rings for nothing, does not thereby get to spin.
#[test]
fn reply_that_is_rung_for_nothing_costs_its_waiter_little() {
    let (ends, wake) = (OverQueues::new(), Wake::create().unwrap());
    let mut carrier = ends.carrier(&wake);
    let _rings = Process::that(|| {
        if ends.reply.has_room() {
            ends.reply.signal(1).unwrap();
        }
    });
    let before = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    assert_eq!(carrier.call(&read(), 4 * DEADLINE), Err(LaneError::Late));
    let after = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    assert!(Duration::from(after - before) < DEADLINE, "{:?}", after - before);
}

/// A device that believed such a buffer would write where it may only read, and die of it.
#[test]
fn buffer_for_an_answer_outside_of_the_answer_region_is_refused() {
    for (address, bytes, flags) in [
        (0x1_0000u64, ANSWER_BYTES as u64, 2u64),
        (0x10_0000 + ANSWER_REGION_BYTES - 8, ANSWER_BYTES as u64, 2),
        (u64::MAX - 7, ANSWER_BYTES as u64, 2),
        (0x10_0280, 8, 2),
        (0x10_0280, ANSWER_BYTES as u64, 0),
    ] {
        let ends = OverQueues::new();
        let request = ends.request.map().unwrap();
        // The first descriptor of answers.
        word(&request, 832).store(address, Ordering::Relaxed);
        word(&request, 840).store(bytes | flags << 32, Ordering::Relaxed);
        assert!(ends.host().tell(&answer(0), &[]).is_err(), "{address:#x}");
    }
}
