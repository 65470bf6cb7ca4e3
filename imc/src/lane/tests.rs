//! Both ends of a lane, played by threads, by processes, and step by step.
#![allow(unsafe_code)] // A child process is made by fork, and leaves without destructors.

mod hostile;
mod registers;
pub(super) mod wakes;

use super::host::MemoryHost;
use super::layout::{
    COMMIT, DEADLINE, ENTRIES, GENERATION, REPLY_AND_LEVELS, SHADOW, WAITER, entry_offset, header_word, load_acquire,
    word,
};
use super::*;
use crate::{Mapping, ReadWrite, Region};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use schema::lane::{Access, Loaded, STRING_MAX};
use schema::manifest::{Class, Manifest, Register, RegisterKind, Tolerance};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

const STATE_BYTES: u32 = 24;
const SOON: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(10);

/// What both ends of a lane hold.
struct Objects {
    request: Region<ReadWrite>,
    state: Region<ReadWrite>,
    reply: Wake,
    wake: Wake,
}

impl Objects {
    fn new() -> Objects {
        Objects {
            request: Region::create("cofferdam:request", REQUEST_BYTES).unwrap(),
            state: Region::create("cofferdam:state", state_region_bytes(STATE_BYTES, 0)).unwrap(),
            reply: Wake::create().unwrap(),
            wake: Wake::create().unwrap(),
        }
    }

    fn view(&self) -> StateView {
        StateView::new(self.state.read_only().unwrap().map().unwrap())
    }

    fn carrier(&self, spin: SpinBudget) -> MemoryCarrier {
        let (reply, wake) = (self.reply.try_clone().unwrap(), self.wake.try_clone().unwrap());
        MemoryCarrier::new(self.request.map().unwrap(), self.view(), reply, wake, spin)
    }

    fn lane(&self, deadline: Duration) -> Lane {
        Lane::new(Box::new(self.carrier(SpinBudget::NONE)), self.view(), &manifest(), deadline)
    }

    fn host(&self) -> Host {
        let state = StateWriter::new(self.state.map().unwrap(), STATE_BYTES, 0).unwrap();
        let request = self.request.read_only().unwrap().map().unwrap();
        let lane = MemoryHost::new(request, self.reply.try_clone().unwrap(), state.committed().sequence());
        Host { lane, state, wake: self.wake.try_clone().unwrap(), header: PLAIN }
    }

    /// The state region as an attacker in the host has it.
    fn wild(&self) -> Mapping {
        self.state.map().unwrap()
    }
}

/// Everything may be posted, and slot 0 is served.
const PLAIN: Header = Header {
    levels: 0,
    deadline: None,
    postable: u32::MAX,
    shadow: [Some(7), None, None, None, None, None, None, None],
    now: 0,
};

/// A posted register of kind 0 at 0 and of kind 1 at 1; a shadow register at 2 that tolerates two writes of kind 0; in other
/// ranges, an area of kind 2, and a port whose loads are joined. At 3 some values may be posted, as kind 3.
fn manifest() -> Manifest {
    let register = |offset, kind| Register { range: 0, offset, width: 1, kind };
    Manifest {
        name: "toy".into(),
        summary: "a device for tests".into(),
        class: Class::System,
        ranges: vec![],
        registers: vec![
            register(0, RegisterKind::Posted(0)),
            register(1, RegisterKind::Posted(1)),
            register(2, RegisterKind::Shadow { slot: 0, tolerates: vec![Tolerance { posted: 0, count: 2 }] }),
            Register { range: 1, offset: 0x100, width: 4, kind: RegisterKind::Area { posted: 2, length: 0x10 } },
            Register { range: 2, offset: 0, width: 2, kind: RegisterKind::Strings },
            register(3, RegisterKind::PostedValue { posted: 3, mask: 0x11, value: 0x10 }),
        ],
        lines: vec![],
        vectors: 0,
        doorbells: vec![],
        wishes: vec![],
        state_bytes: STATE_BYTES,
        bulk_bytes: 0,
        pci: None,
        acpi: None,
        with: vec![],
        options: vec![],
        remembered: 0,
    }
}

/// A device that folds what is written into a number: order matters, and nothing may be lost or doubled.
struct Host {
    lane: MemoryHost,
    state: StateWriter,
    wake: Wake,
    header: Header,
}

fn fold(number: u64, value: u64) -> u64 {
    number.wrapping_mul(31).wrapping_add(value).wrapping_add(1)
}

fn number(state: &[u8]) -> u64 {
    u64::from_le_bytes(state[..8].try_into().unwrap())
}

impl Host {
    /// Does the next operation, if there is one, which is a string load, with this reply.
    fn string(&mut self, reply: u64) -> Option<()> {
        let access = self.lane.take().unwrap()?;
        self.state.begin();
        self.state.set_string(access.sequence, &[0xaa, 0xbb]);
        self.state.commit(Header { now: access.now, ..self.header }, Some((access.sequence, reply)));
        self.lane.notify(access.sequence).unwrap();
        Some(())
    }

    /// Does the next operation, if there is one, up to its commit.
    fn commit_next(&mut self) -> Option<Access> {
        let access = self.lane.take().unwrap()?;
        let state = self.state.begin();
        let reply = match access.operation {
            Operation::Read => number(state),
            _ => fold(number(state), access.value),
        };
        state[..8].copy_from_slice(&reply.to_le_bytes());
        self.state.commit(Header { now: access.now, ..self.header }, Some((access.sequence, reply)));
        Some(access)
    }

    fn step(&mut self) -> Option<Operation> {
        let access = self.commit_next()?;
        self.lane.notify(access.sequence).unwrap();
        Some(access.operation)
    }

    fn event(&mut self, header: Header) {
        self.state.begin();
        self.header = header;
        self.state.commit(header, None);
    }

    /// Serves until it is told to shut down, and sleeps whenever there is nothing to do. Before that it looks again as often
    /// as `looks` says.
    fn serve(mut self, mut looks: impl FnMut() -> u64) {
        loop {
            while let Some(operation) = self.step() {
                if operation == Operation::Shutdown {
                    return;
                }
            }
            if (0..looks()).any(|_| self.lane.has_next()) {
                continue;
            }
            sleep(&mut self);
        }
    }
}

impl Sleeper for Host {
    type Reason = ();

    fn fall_asleep(&mut self) {
        self.state.fall_asleep();
    }

    fn look(&mut self) -> Option<()> {
        self.lane.has_next().then_some(())
    }

    fn rest(&mut self) -> Option<()> {
        // A wake that comes soon is taken without the kernel's putting the thread to sleep, which takes a hundred times as
        // long as what is tested.
        if !(0..20).any(|_| self.wake.drain().is_some()) {
            self.wake.sleep().unwrap();
        }
        Some(())
    }

    fn wake_up(&mut self) {
        self.state.wake_up();
    }
}

fn request(operation: Operation, value: u64) -> Request {
    Request { operation, range: 0, width: 8, offset: 0, value, now: 0 }
}

fn read() -> Request {
    request(Operation::Read, 0)
}

fn post(value: u64) -> Request {
    request(Operation::Post, value)
}

#[test]
fn ones_are_as_wide_as_the_access() {
    assert_eq!([1, 2, 4, 8].map(ones), [0xff, 0xffff, 0xffff_ffff, u64::MAX]);
}

#[test]
fn posted_writes_take_effect_in_their_order_and_before_a_later_call() {
    let objects = Objects::new();
    let mut carrier = objects.carrier(SpinBudget::NONE);
    let host = objects.host();
    let served = std::thread::spawn(move || host.serve(|| 0));
    let mut expected = 0;
    for round in 0..2000 {
        for value in 0..round % 40 {
            match carrier.post(&post(value)) {
                Ok(()) => {}
                Err(PostError::Full) => drop(carrier.call(&request(Operation::Write, value), LONG).unwrap()),
                Err(PostError::Failed(error)) => panic!("{error}"),
            }
            expected = fold(expected, value);
        }
        assert_eq!(carrier.call(&read(), LONG), Ok(expected), "round {round}");
        assert_eq!(carrier.outstanding(), Ok(0));
    }
    carrier.call(&request(Operation::Shutdown, 0), LONG).unwrap();
    served.join().unwrap();
}

#[test]
fn full_lane_takes_no_post_until_the_host_has_committed() {
    let objects = Objects::new();
    let (mut carrier, mut host) = (objects.carrier(SpinBudget::NONE), objects.host());
    for value in 0..u64::from(ENTRIES) {
        assert_eq!(carrier.post(&post(value)), Ok(()));
    }
    assert_eq!(carrier.post(&post(0)), Err(PostError::Full));
    assert_eq!(carrier.call(&read(), SOON), Err(LaneError::Late), "it waits for room, but not for ever");
    assert_eq!(carrier.outstanding(), Ok(ENTRIES as usize));
    host.step();
    assert_eq!(carrier.post(&post(1)), Ok(()));
    assert_eq!(carrier.post(&post(1)), Err(PostError::Full));
}

#[test]
fn sequences_wrap() {
    let objects = Objects::new();
    word(&objects.wild(), COMMIT).store((u64::from(u32::MAX) - 40) << 32, Ordering::Relaxed);
    let (mut carrier, mut host) = (objects.carrier(SpinBudget::NONE), objects.host());
    let mut expected = 0;
    for value in 0..100 {
        carrier.post(&post(value)).unwrap();
        assert_eq!(host.step(), Some(Operation::Post));
        assert_eq!(host.step(), None, "an old entry in the next slot is none");
        assert_eq!(carrier.outstanding(), Ok(0));
        expected = fold(expected, value);
    }
    assert_eq!(number(host.state.current()), expected);
    assert_eq!(host.state.committed().sequence(), 59);
}

#[test]
fn sleeping_host_is_rung_once_however_much_is_posted() {
    let objects = Objects::new();
    let (mut carrier, mut host) = (objects.carrier(SpinBudget::NONE), objects.host());
    carrier.post(&post(1)).unwrap();
    assert_eq!(objects.wake.drain(), None, "it is awake");
    for _ in 0..2 {
        host.state.fall_asleep();
        for value in 0..5 {
            carrier.post(&post(value)).unwrap();
        }
        assert_eq!(objects.wake.drain(), Some(1));
        host.state.wake_up();
    }
}

#[test]
fn host_sleeps_through_what_is_only_remembered_until_something_waits_for_it() {
    let objects = Objects::new();
    let (mut carrier, mut host) = (objects.carrier(SpinBudget::NONE), objects.host());
    host.state.fall_asleep();
    for value in 0..5 {
        assert_eq!(carrier.post_remembered(&post(value)), Ok(()));
    }
    assert_eq!(objects.wake.drain(), None);
    assert_eq!(carrier.call(&read(), SOON), Err(LaneError::Late), "nobody serves");
    assert_eq!(objects.wake.drain(), Some(1));
}

#[test]
fn host_is_woken_for_what_is_remembered_when_the_lane_is_full_of_it() {
    for waits in [false, true] {
        let objects = Objects::new();
        let (mut carrier, mut host) = (objects.carrier(SpinBudget::NONE), objects.host());
        host.state.fall_asleep();
        for value in 0..u64::from(ENTRIES) {
            assert_eq!(carrier.post_remembered(&post(value)), Ok(()));
        }
        assert_eq!(objects.wake.drain(), None);
        if waits {
            assert_eq!(carrier.make_room(SOON), Err(LaneError::Late));
        } else {
            assert_eq!(carrier.post_remembered(&post(0)), Err(PostError::Full));
        }
        assert_eq!(objects.wake.drain(), Some(1), "waits: {waits}");
    }
}

#[test]
fn host_with_a_processor_to_itself_is_woken_for_what_is_remembered_too() {
    let objects = Objects::new();
    let (mut carrier, mut host) = (objects.carrier(SpinBudget::SPARE_CORES), objects.host());
    host.state.fall_asleep();
    carrier.post_remembered(&post(1)).unwrap();
    assert_eq!(objects.wake.drain(), Some(1));
}

#[test]
fn next_incarnation_of_a_host_that_died_asleep_is_rung_again() {
    let objects = Objects::new();
    let (mut carrier, mut host) = (objects.carrier(SpinBudget::NONE), objects.host());
    host.state.fall_asleep();
    carrier.post(&post(1)).unwrap();
    assert_eq!(objects.wake.drain(), Some(1));
    drop(host);
    let mut host = objects.host();
    assert_eq!(host.step(), Some(Operation::Post), "what was posted is found without a ring");
    host.state.fall_asleep();
    carrier.post(&post(2)).unwrap();
    assert_eq!(objects.wake.drain(), Some(1));
}

#[test]
fn host_that_is_absent_makes_its_caller_late_and_a_retired_lane_answers_at_once() {
    let objects = Objects::new();
    let lane = objects.lane(Duration::from_millis(20));
    let start = Instant::now();
    assert_eq!(lane.read(0, 9, 1, 0), Err(LaneError::Late));
    assert!(start.elapsed() >= Duration::from_millis(20));
    lane.retire();
    let start = Instant::now();
    for _ in 0..1000 {
        assert_eq!(lane.read(0, 9, 1, 0), Err(LaneError::Gone));
        assert_eq!(lane.write(0, 0, 1, 1, 0), Err(LaneError::Gone));
    }
    assert!(start.elapsed() < Duration::from_millis(20), "a dead device costs its guest nothing");
    assert_eq!(lane.counters().ones, 2001);
    assert!(lane.notify(Operation::Alarm, 0), "there is nobody left to tell");
}

#[test]
fn string_that_its_host_did_not_leave_is_a_violation() {
    let load = Request { width: 2, ..request(Operation::ReadString, 100) };
    // Which operation's bytes the host leaves, how many, and how many it tells of.
    for (sequence, left, told, taken) in
        [(1, 100, 100, true), (1, 98, 100, false), (1, 100, 98, false), (2, 100, 100, false)]
    {
        let objects = Objects::new();
        let (mut carrier, mut host) = (objects.carrier(SpinBudget::NONE), objects.host());
        assert_eq!(carrier.call(&load, Duration::ZERO), Err(LaneError::Late));
        let access = host.lane.take().unwrap().unwrap();
        host.state.begin();
        host.state.set_string(sequence, &[7; 100][..left]);
        host.state.commit(PLAIN, Some((access.sequence, told)));
        assert_eq!(carrier.resume(LONG), Ok(told));
        let mut into = vec![0; told as usize];
        assert_eq!(carrier.take_string(&mut into).is_ok(), taken, "{sequence} {left} {told}");
        assert_eq!((into.iter().all(|byte| *byte == 7), carrier.retirement().is_retired()), (taken, !taken));
    }
}

#[test]
fn string_longer_than_was_asked_for_is_a_violation() {
    for told in [0, 3, 514, u64::MAX] {
        let objects = Objects::new();
        let (lane, mut host) = (objects.lane(LONG), objects.host());
        std::thread::scope(|scope| {
            let answer = scope.spawn(|| lane.read_string(2, 0, 2, &mut [0; 2 * STRING_MAX], 0));
            let access = loop {
                if let Some(access) = host.lane.take().unwrap() {
                    break access;
                }
            };
            assert_eq!((access.operation, access.value), (Operation::ReadString, STRING_MAX as u64));
            host.state.begin();
            host.state.set_string(access.sequence, &[7; STRING_MAX]);
            host.state.commit(PLAIN, Some((access.sequence, told)));
            host.lane.notify(access.sequence).unwrap();
            assert!(matches!(answer.join().unwrap(), Err(LaneError::Violation(_))), "{told}");
        });
        assert!(lane.is_retired());
    }
}

#[test]
fn retirement_wakes_who_waits() {
    let objects = Objects::new();
    let lane = Arc::new(objects.lane(LONG));
    let waiter = std::thread::spawn({
        let lane = lane.clone();
        move || (lane.read(0, 9, 1, 0), Instant::now())
    });
    let request = objects.request.map().unwrap();
    while load_acquire(word(&request, WAITER)) == 0 {
        std::thread::yield_now();
    }
    let retired = Instant::now();
    lane.retire();
    let (answer, woken) = waiter.join().unwrap();
    assert_eq!(answer, Err(LaneError::Gone));
    assert!(woken.duration_since(retired) < Duration::from_secs(1));
}

#[test]
fn commit_of_what_was_never_asked_is_a_violation() {
    let objects = Objects::new();
    let lane = objects.lane(LONG);
    word(&objects.wild(), COMMIT).store(2 << 32, Ordering::Release);
    assert!(matches!(lane.read(0, 9, 1, 0), Err(LaneError::Violation(_))));
    assert_eq!(lane.read(0, 9, 1, 0), Err(LaneError::Gone), "and the lane is retired");
}

#[test]
fn commit_that_goes_back_is_a_violation() {
    let objects = Objects::new();
    let (mut carrier, mut host) = (objects.carrier(SpinBudget::NONE), objects.host());
    for value in 0..3 {
        carrier.post(&post(value)).unwrap();
        host.step();
    }
    assert_eq!(carrier.outstanding(), Ok(0));
    word(&objects.wild(), COMMIT).store(2 << 32, Ordering::Release);
    assert!(matches!(carrier.outstanding(), Err(LaneError::Violation(_))));
    assert!(matches!(carrier.post(&post(0)), Err(PostError::Failed(LaneError::Gone))));
}

#[test]
fn reply_to_another_operation_is_a_violation() {
    let objects = Objects::new();
    let mut carrier = objects.carrier(SpinBudget::NONE);
    word(&objects.wild(), header_word(0, REPLY_AND_LEVELS)).store(5, Ordering::Release);
    let wild = objects.wild();
    let host = std::thread::spawn(move || {
        std::thread::sleep(SOON);
        word(&wild, COMMIT).store(1 << 32, Ordering::Release);
    });
    // Nobody rings, so the waiter finds it at its deadline.
    assert!(matches!(carrier.call(&read(), Duration::from_millis(50)), Err(LaneError::Violation(_))));
    host.join().unwrap();
}

#[test]
fn wake_that_is_stuffed_full_is_a_violation_and_blocks_nobody() {
    let objects = Objects::new();
    let mut carrier = objects.carrier(SpinBudget::NONE);
    objects.wake.signal(u64::MAX - 1).unwrap();
    word(&objects.wild(), GENERATION).store(1, Ordering::Release);
    assert!(matches!(carrier.post(&post(0)), Err(PostError::Failed(LaneError::Violation(_)))));
}

#[test]
fn waiter_that_is_rung_for_nothing_all_the_time_still_gets_its_answer_or_is_late() {
    let objects = Objects::new();
    let mut carrier = objects.carrier(SpinBudget::NONE);
    let stop = Arc::new(AtomicBool::new(false));
    let stuffer = std::thread::spawn({
        let (reply, stop) = (objects.reply.try_clone().unwrap(), stop.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                reply.signal(1).unwrap();
            }
        }
    });
    let start = Instant::now();
    assert_eq!(carrier.call(&read(), Duration::from_millis(50)), Err(LaneError::Late));
    assert!(start.elapsed() >= Duration::from_millis(50));
    objects.host().step();
    assert_eq!(carrier.resume(LONG), Ok(0));
    stop.store(true, Ordering::Relaxed);
    stuffer.join().unwrap();
}

#[test]
fn host_that_never_stops_committing_keeps_nobody_reading() {
    let objects = Objects::new();
    let (view, mut carrier) = (objects.view(), objects.carrier(SpinBudget::NONE));
    let stop = Arc::new(AtomicBool::new(false));
    let flipper = std::thread::spawn({
        let (wild, stop) = (objects.wild(), stop.clone());
        move || {
            let mut events = 0u64;
            while !stop.load(Ordering::Relaxed) {
                events = events.wrapping_add(1) & 0xffff_ffff;
                word(&wild, COMMIT).store(events, Ordering::Relaxed);
            }
        }
    });
    for _ in 0..10_000 {
        std::hint::black_box((view.levels(), view.deadline(), view.postable(0), view.shadow(0, 0)));
    }
    assert_eq!(carrier.call(&read(), SOON), Err(LaneError::Late));
    stop.store(true, Ordering::Relaxed);
    flipper.join().unwrap();
}

#[test]
fn line_that_fell_and_rose_is_told_from_one_that_stayed_high() {
    let objects = Objects::new();
    let (view, mut host) = (objects.view(), objects.host());
    let with = |levels| Header { levels, ..PLAIN };
    host.event(with(0b01));
    let earlier = view.levels();
    host.event(with(0b11));
    assert_eq!(view.levels().rose_since(earlier), 0b10);
    let earlier = view.levels();
    host.event(with(0b10));
    host.event(with(0b11));
    assert_eq!(view.levels().rose_since(earlier), 0b11, "line 1 may have been it");
    let earlier = view.levels();
    host.event(with(0));
    assert_eq!(view.levels().rose_since(earlier), 0);
    // The next incarnation goes on counting, and knows what the last one left high.
    host.event(with(0b01));
    let earlier = view.levels();
    drop(host);
    let mut host = objects.host();
    host.event(with(0));
    host.event(with(0b01));
    assert_eq!((earlier.falls, view.levels().falls), (2, 3));
    assert_eq!(view.levels().rose_since(earlier), 0b01);
}

#[test]
fn reader_never_sees_half_a_commit() {
    const COMMITS: u64 = 200_000;
    let objects = Objects::new();
    let (view, mut host) = (objects.view(), objects.host());
    let committer = std::thread::spawn(move || {
        for round in 0..COMMITS {
            let shadow = [Some(round); 8];
            host.event(Header { levels: round as u32, deadline: Some(round + 1), shadow, ..PLAIN });
        }
    });
    let mut seen = 0;
    while seen + 1 < COMMITS {
        let (together, consistent) = view.read(|header| {
            let deadline = header.word(DEADLINE).wrapping_sub(1);
            [header.word(REPLY_AND_LEVELS) >> 32, deadline, header.word(SHADOW), header.word(SHADOW + 56)]
        });
        if consistent && together[1] != u64::MAX {
            let [levels, deadline, first, last] = together;
            assert_eq!((levels, first, last), (deadline & 0xffff_ffff, deadline, deadline));
            assert!(deadline >= seen, "a commit was seen, then an older one");
            seen = deadline;
        }
    }
    committer.join().unwrap();
}

/// Whether a reader that so many events overtake between two loads takes what it read for one state.
fn is_fooled(events: usize, are_counted: bool) -> bool {
    let objects = Objects::new();
    let (view, wild) = (objects.view(), objects.wild());
    let host = std::cell::RefCell::new(objects.host());
    let ((first, second), consistent) = view.read(|header| {
        let first = header.word(SHADOW);
        for _ in 0..events {
            let mut host = host.borrow_mut();
            let next = host.header.shadow[0].unwrap_or(0) + 1;
            host.event(Header { shadow: [Some(next); 8], ..PLAIN });
            if !are_counted {
                word(&wild, COMMIT).store(host.state.committed().copy() as u64, Ordering::Release);
            }
        }
        (first, header.word(SHADOW + 8))
    });
    consistent && first != second
}

#[test]
fn reader_is_not_fooled_by_events_that_bring_the_same_copy_back_because_they_are_counted() {
    for events in 0..5 {
        assert!(!is_fooled(events, true), "{events} events");
    }
    assert!(is_fooled(2, false), "uncounted, two events bring the same word back");
}

#[test]
fn notice_does_not_wait_for_who_has_the_lane() {
    let objects = Objects::new();
    let lane = Arc::new(objects.lane(LONG));
    let waiter = std::thread::spawn({
        let lane = lane.clone();
        move || lane.read(0, 9, 1, 0)
    });
    let request = objects.request.map().unwrap();
    while load_acquire(word(&request, WAITER)) == 0 {
        std::thread::yield_now();
    }
    assert!(!lane.notify(Operation::Alarm, 0));
    objects.host().step();
    assert_eq!(waiter.join().unwrap(), Ok(0));
    assert!(lane.notify(Operation::Alarm, 0));
}

#[test]
fn stored_reply_is_given_again_and_not_the_operation_done_again() {
    let objects = Objects::new();
    let (mut carrier, mut host) = (objects.carrier(SpinBudget::NONE), objects.host());
    let waiter = std::thread::spawn(move || carrier.call(&request(Operation::Write, 5), LONG));
    while host.commit_next().is_none() {}
    // It dies before it tells. Its successor tells without being asked.
    drop(host);
    let mut host = objects.host();
    assert!(host.state.has_state());
    host.lane.notify(host.state.committed().sequence()).unwrap();
    assert_eq!(waiter.join().unwrap(), Ok(fold(0, 5)));
    assert_eq!(host.step(), None);
    assert_eq!(number(host.state.current()), fold(0, 5));
}

#[test]
fn what_was_not_committed_is_done_anew_from_the_state_before() {
    let objects = Objects::new();
    let (mut carrier, mut host) = (objects.carrier(SpinBudget::NONE), objects.host());
    carrier.post(&post(1)).unwrap();
    host.step();
    carrier.post(&post(2)).unwrap();
    host.lane.take().unwrap();
    host.state.begin().fill(0xee);
    drop(host);
    let mut host = objects.host();
    assert_eq!(number(host.state.current()), fold(0, 1));
    assert_eq!(host.step(), Some(Operation::Post));
    assert_eq!(number(host.state.current()), fold(fold(0, 1), 2));
}

#[test]
fn state_of_another_size_is_not_taken_for_ones_own() {
    let objects = Objects::new();
    let mut host = objects.host();
    assert!(!host.state.has_state());
    host.event(PLAIN);
    assert!(host.state.has_state());
    let other = StateWriter::new(objects.wild(), STATE_BYTES - 8, 0).unwrap();
    assert!(!other.has_state());
    assert_eq!(other.committed(), host.state.committed(), "but sequences go on");
    assert!(StateWriter::new(objects.wild(), 70_000, 0).is_err());
}

#[test]
fn entry_of_no_operation_is_refused() {
    let objects = Objects::new();
    let mut host = objects.host();
    let request = objects.request.map().unwrap();
    word(&request, entry_offset(1)).store(99 << 32 | 1, Ordering::Release);
    assert_eq!(host.lane.take(), Err(BadEntry::Operation { sequence: 1, operation: 99 }));
}

#[test]
fn function_call_is_a_carrier_too() {
    struct Folding(u64);
    impl Serve for Folding {
        fn serve(&mut self, access: &Access) -> u64 {
            if access.operation != Operation::Read {
                self.0 = fold(self.0, access.value);
            }
            self.0
        }

        fn string(&self, _: &mut [u8; STRING_MAX]) {}
    }
    let objects = Objects::new();
    objects.host().event(PLAIN);
    let carrier = InProcess::new(Arc::new(Mutex::new(Folding(0))));
    let lane = Lane::new(Box::new(carrier), objects.view(), &manifest(), LONG);
    lane.write(0, 0, 1, 0x101, 0).unwrap();
    lane.write(0, 9, 1, 2, 0).unwrap();
    assert_eq!(lane.read(0, 9, 1, 0), Ok(fold(fold(0, 1), 2) & 0xff));
    assert_eq!(lane.read(0, 2, 1, 0), Ok(7));
    lane.retire();
    assert_eq!(lane.read(0, 9, 1, 0), Err(LaneError::Gone));
}

/// A child process that serves `objects` until it is killed or told to leave.
fn fork_host(objects: &Objects, looks: impl FnMut() -> u64) -> Pid {
    let host = objects.host();
    // SAFETY: the child touches only what was made above, allocates nothing, and leaves without destructors.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            host.serve(looks);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(0) }
        }
    }
}

#[test]
fn host_in_another_process_answers() {
    let objects = Objects::new();
    let mut carrier = objects.carrier(SpinBudget { vmm: 200, host: 0 });
    let child = fork_host(&objects, || 0);
    let mut expected = 0;
    for value in 0..5000 {
        expected = fold(expected, value);
        match value % 3 {
            0 => assert_eq!(carrier.call(&request(Operation::Write, value), LONG), Ok(expected)),
            _ => while carrier.post(&post(value)) == Err(PostError::Full) {},
        }
    }
    assert_eq!(carrier.call(&read(), LONG), Ok(expected));
    carrier.call(&request(Operation::Shutdown, 0), LONG).unwrap();
    waitpid(child, None).unwrap();
}

#[test]
fn host_that_is_killed_is_late_until_the_next_one_answers_what_it_was_asked() {
    let objects = Objects::new();
    let mut carrier = objects.carrier(SpinBudget::NONE);
    let child = fork_host(&objects, || 0);
    assert_eq!(carrier.call(&request(Operation::Write, 1), LONG), Ok(fold(0, 1)));
    kill(child, Signal::SIGKILL).unwrap();
    waitpid(child, None).unwrap();
    assert_eq!(carrier.call(&request(Operation::Write, 2), SOON), Err(LaneError::Late));
    assert_eq!(carrier.resume(SOON), Err(LaneError::Late));
    let child = fork_host(&objects, || 0);
    assert_eq!(carrier.resume(LONG), Ok(fold(fold(0, 1), 2)));
    carrier.call(&request(Operation::Shutdown, 0), LONG).unwrap();
    waitpid(child, None).unwrap();
}
