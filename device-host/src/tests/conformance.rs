//! Every rule of a lane, over every carrier, with a real engine behind it.

use super::toy::{STRING_WIDTH, fold, register};
use super::*;
use imc::lane::{PostError, Request, Sleeper, ones};
use schema::lane::{Access, STRING_MAX};
use std::thread::JoinHandle;

/// One test for each rule and each carrier, so that their names show.
macro_rules! conformance {
    ($($rule:ident)*) => {
        conformance!(@over memory Memory; $($rule)*);
        conformance!(@over socket Socket; $($rule)*);
        conformance!(@over pipe Pipe; $($rule)*);
        conformance!(@over virtio Virtio; $($rule)*);
        conformance!(@over in_process InProcess; $($rule)*);
    };
    (@over $module:ident $carrier:ident; $($rule:ident)*) => {
        mod $module {
            $(#[test]
            fn $rule() {
                super::Lanes::over(super::Carrier::$carrier).test(super::$rule);
            })*
        }
    };
}

conformance! {
    registers_answer_as_the_device_does
    operations_take_effect_in_their_order
    posted_write_takes_effect_before_a_later_call
    shadow_read_after_a_posted_write_is_what_a_call_would_read
    shadow_is_never_older_than_an_interrupt
    access_outside_of_the_ranges_reads_ones_and_is_counted
    string_load_gives_what_as_many_loads_would
    string_load_of_no_register_gives_ones
    value_is_as_wide_as_its_access
    alarm_that_is_due_runs_before_the_operation
    alarm_operation_runs_the_alarm_only_when_it_is_due_and_tells_the_next_deadline
    time_never_runs_backwards_for_a_device
    level_that_changes_of_its_own_accord_is_told_and_one_that_a_vcpu_waits_for_is_not
    bytes_go_in_and_out_and_are_looked_for_before_an_operation
    picture_is_drawn_of_what_the_guest_put_into_the_devices_own_memory
    reset_is_power_on
    device_at_rest_does_nothing_until_it_is_asked_something
    retired_lane_answers_at_once
}

/// As above, for rules about a host that is another process.
macro_rules! conformance_of_hosts {
    ($($rule:ident)*) => {
        conformance_of_hosts!(@over memory_host Memory; $($rule)*);
        conformance_of_hosts!(@over socket_host Socket; $($rule)*);
        conformance_of_hosts!(@over pipe_host Pipe; $($rule)*);
        conformance_of_hosts!(@over virtio_host Virtio; $($rule)*);
    };
    (@over $module:ident $carrier:ident; $($rule:ident)*) => {
        mod $module {
            $(#[test]
            fn $rule() {
                super::$rule(super::Objects::over(super::Carrier::$carrier));
            })*
        }
    };
}

conformance_of_hosts! {
    death_at_any_step_has_a_call_done_once_and_answered
    death_at_any_step_has_a_string_load_done_once_and_answered
    death_at_any_step_has_each_posted_write_done_once
    what_was_committed_before_a_death_interrupts_again
    absent_host_makes_its_caller_late_and_the_next_one_answers
    full_lane_takes_no_post_until_there_is_room
    host_that_finds_no_room_to_tell_goes_on_once_somebody_looks
    lane_is_retired_while_somebody_waits
    nothing_is_lost_or_doubled_when_the_host_is_killed
}

/// Both ends of a lane, with an engine at the far one.
struct Lanes {
    objects: Arc<Objects>,
}

impl Lanes {
    fn over(carrier: Carrier) -> Lanes {
        Lanes { objects: Arc::new(Objects::over(carrier)) }
    }

    fn test(self, rule: fn(&Objects, &Lane)) {
        if self.objects.carrier == Carrier::InProcess {
            let (lane, mut pump) = self.objects.link();
            // It ends with the process.
            std::thread::spawn(move || {
                loop {
                    pump()
                }
            });
            return rule(&self.objects, &lane);
        }
        let host = spawn(&self.objects);
        let lane = self.objects.lane(SpinBudget { vmm: 100, host: 100 }, LONG);
        rule(&self.objects, &lane);
        if !lane.is_retired() {
            lane.operate(Operation::Shutdown, 0).unwrap();
            host.join().unwrap();
        }
    }
}

/// What the VMM's hub does when it is rung. False: it was not.
fn heard(objects: &Objects, lane: &Lane) -> bool {
    if objects.irq.drain().is_none() {
        return false;
    }
    while !lane.refresh().unwrap() {}
    true
}

fn read(lane: &Lane, offset: u64) -> u64 {
    lane.read(0, offset, 8, 0).unwrap()
}

fn registers_answer_as_the_device_does(_: &Objects, lane: &Lane) {
    let mut expected = 0;
    for value in 0..100 {
        let offset = if value % 3 == 0 { register::FOLD } else { register::POSTED };
        lane.write(0, offset, 8, value, 0).unwrap();
        expected = fold(expected, value);
        assert_eq!(read(lane, register::COUNT), value + 1);
        assert_eq!(read(lane, register::FOLD), expected);
        assert_eq!(lane.read(0, register::FOLD, 2, 0), Ok(expected & 0xffff));
    }
    let counters = lane.counters();
    assert_eq!((counters.posted, counters.shadow), (66, 100), "after a synchronous read nothing is outstanding");
}

fn operations_take_effect_in_their_order(_: &Objects, lane: &Lane) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut expected = 0;
    for _ in 0..3000 {
        let value = random.next();
        match value % 5 {
            0 => assert_eq!(read(lane, register::FOLD), expected),
            1 => {
                lane.write(0, register::FOLD, 8, value, 0).unwrap();
                expected = fold(expected, value);
            }
            _ => {
                lane.write(0, register::POSTED, 8, value, 0).unwrap();
                expected = fold(expected, value);
            }
        }
    }
    assert!(lane.counters().posted > 1000 && lane.counters().shadow > 0);
}

fn posted_write_takes_effect_before_a_later_call(_: &Objects, lane: &Lane) {
    let mut expected = 0;
    for round in 0..200 {
        // More than a lane holds, too.
        for value in 0..round % 48 {
            lane.write(0, register::POSTED, 8, value, 0).unwrap();
            expected = fold(expected, value);
        }
        // Posted as a register that has no shadow: a call.
        assert_eq!(read(lane, register::POSTED), expected, "round {round}");
    }
}

fn shadow_read_after_a_posted_write_is_what_a_call_would_read(_: &Objects, lane: &Lane) {
    let mut expected = 0;
    for value in 0..500 {
        lane.write(0, register::POSTED, 8, value, 0).unwrap();
        expected = fold(expected, value);
        // A shadow that tolerates no posted write.
        assert_eq!(read(lane, register::FOLD), expected);
        assert_eq!(read(lane, register::FOLD), expected);
    }
    assert!(lane.counters().shadow >= 500);
}

/// A guest that was interrupted reads what the device had committed before it interrupted.
fn shadow_is_never_older_than_an_interrupt(objects: &Objects, lane: &Lane) {
    let mut relay = objects.relay();
    for round in 1..300 {
        // Typed bytes are read of the device's own accord; each changes the shadow, then rings the relay.
        relay.offer(&[1]);
        objects.wake.signal(1).unwrap();
        wait_until("the device interrupts", || objects.bell.drain().is_some());
        assert_eq!(read(lane, register::TYPED), round);
    }
    assert!(lane.counters().shadow > 250, "{:?}", lane.counters());
}

fn access_outside_of_the_ranges_reads_ones_and_is_counted(objects: &Objects, lane: &Lane) {
    assert_eq!(lane.read(0, register::NONE, 1, 0), Ok(0xff));
    lane.write(0, register::NONE, 8, 5, 0).unwrap();
    for (range, offset, width) in [(2, 0, 8), (0, 69, 4), (0, 72, 1), (0, u64::MAX, 8)] {
        assert_eq!(lane.read(range, offset, width, 0), Ok(ones(width)));
    }
    assert_eq!((lane.counters().unknown, objects.view().unknown()), (6, 6));
}

/// Loads of one string instruction from the register of this offset, until there are so many.
fn read_string(lane: &Lane, offset: u64, count: usize) -> Vec<u64> {
    let mut string = vec![0x55; count * usize::from(STRING_WIDTH)];
    let mut left = &mut string[..];
    while !left.is_empty() {
        let bytes = lane.read_string(0, offset, STRING_WIDTH, left, 0).unwrap();
        left = &mut left[bytes..];
    }
    let elements = string.as_chunks::<{ STRING_WIDTH as usize }>().0.iter();
    elements.map(|element| u64::from(u32::from_le_bytes(*element))).collect()
}

fn string_load_gives_what_as_many_loads_would(objects: &Objects, lane: &Lane) {
    assert!(lane.joins(0, register::COUNT, STRING_WIDTH) && !lane.joins(0, register::COUNT, 8));
    let most = STRING_MAX / usize::from(STRING_WIDTH);
    let mut relay = objects.relay();
    let mut count = 0;
    for elements in [1, 2, most - 1, most, 3, most + 1, 2 * most] {
        // What the device does of its own accord meanwhile is told without a string.
        relay.offer(&[1]);
        objects.wake.signal(1).unwrap();
        let before = lane.counters().lane;
        let expected = (count + 1..=count + elements as u64).collect::<Vec<_>>();
        assert_eq!(read_string(lane, register::COUNT, elements), expected);
        assert_eq!(
            lane.counters().lane - before,
            elements.div_ceil(most) as u64,
            "{elements} in the fewest operations"
        );
        count += elements as u64 + 1;
        assert_eq!(read(lane, register::COUNT), count);
    }
}

fn string_load_of_no_register_gives_ones(_: &Objects, lane: &Lane) {
    assert_eq!(read_string(lane, register::NONE, 5), [u64::from(u32::MAX); 5]);
    assert_eq!(lane.counters().unknown, 5, "each is counted");
}

fn value_is_as_wide_as_its_access(_: &Objects, lane: &Lane) {
    lane.write(0, register::LEVEL, 1, 0xffff_ff01, 0).unwrap();
    assert_eq!(lane.levels().high, 1);
    lane.write(0, register::FOLD, 2, 0x1_0007, 0).unwrap();
    assert_eq!(read(lane, register::FOLD), fold(0, 7));
    for width in [1, 2, 4] {
        assert_eq!(lane.read(0, register::NONE, width, 0), Ok(ones(width)));
    }
}

fn alarm_that_is_due_runs_before_the_operation(_: &Objects, lane: &Lane) {
    lane.write(0, register::DEADLINE, 8, 100, 10).unwrap();
    assert_eq!(lane.deadline(), Some(100));
    assert_eq!(lane.read(0, register::DEADLINE, 8, 99), Ok(0));
    assert_eq!(lane.read(0, register::DEADLINE, 8, 150), Ok(1));
    assert_eq!(lane.read(0, register::LEVEL, 8, 160), Ok(150), "when the operation came");
    assert_eq!(lane.deadline(), None);
}

fn alarm_operation_runs_the_alarm_only_when_it_is_due_and_tells_the_next_deadline(objects: &Objects, lane: &Lane) {
    lane.write(0, register::DEADLINE, 8, 100, 0).unwrap();
    objects.irq.drain();
    assert!(lane.notify(Operation::Alarm, 50));
    wait_until("the hub is told to look again", || heard(objects, lane));
    assert_eq!(lane.deadline(), Some(100));
    assert!(lane.notify(Operation::Alarm, 120));
    wait_until("the hub is told to look again", || heard(objects, lane));
    assert_eq!(lane.deadline(), None);
    assert_eq!(lane.read(0, register::DEADLINE, 8, 120), Ok(1));
    assert_eq!(lane.read(0, register::LEVEL, 8, 120), Ok(120));
}

fn time_never_runs_backwards_for_a_device(_: &Objects, lane: &Lane) {
    lane.write(0, register::DEADLINE, 8, 90, 100).unwrap();
    assert_eq!(lane.read(0, register::LEVEL, 8, 50), Ok(100));
}

fn level_that_changes_of_its_own_accord_is_told_and_one_that_a_vcpu_waits_for_is_not(objects: &Objects, lane: &Lane) {
    objects.irq.drain();
    lane.write(0, register::LEVEL, 8, 1, 0).unwrap();
    assert_eq!(lane.levels().high, 1);
    lane.write(0, register::LEVEL, 8, 0, 0).unwrap();
    assert_eq!((lane.levels().high, objects.irq.drain()), (0, None));
    assert!(lane.notify(Operation::Button, 0));
    wait_until("the level is told", || heard(objects, lane));
    assert_eq!(lane.levels().high, 1);
    wait_until("the switch is turned", || objects.switch.drain().is_some());
}

fn picture_is_drawn_of_what_the_guest_put_into_the_devices_own_memory(objects: &Objects, lane: &Lane) {
    assert_eq!(objects.picture(), None);
    for (pixel, generation) in [(0x0011_2233u32, 2), (0x0044_5566, 4)] {
        objects.direct.map().unwrap().write(0, &pixel.to_le_bytes());
        assert!(lane.notify(Operation::Refresh, 0));
        read(lane, register::COUNT);
        let (header, drawn) = objects.picture().unwrap();
        assert_eq!((header.generation, header.width, header.height, drawn), (generation, 1, 1, pixel));
    }
}

fn bytes_go_in_and_out_and_are_looked_for_before_an_operation(objects: &Objects, lane: &Lane) {
    let mut relay = objects.relay();
    for byte in b"out" {
        lane.write(0, register::STREAM, 8, u64::from(*byte), 0).unwrap();
    }
    let mut printed = Vec::new();
    wait_until("it is printed", || {
        relay.take(&mut printed, 10);
        printed == b"out"
    });
    relay.offer(b"i");
    assert_eq!(read(lane, register::STREAM), fold(0, u64::from(b'i')));
    relay.offer(b"n");
    objects.wake.signal(1).unwrap();
    wait_until("its host is woken", || objects.view().doorbells() == 2);
    assert_eq!(read(lane, register::STREAM), fold(fold(0, u64::from(b'i')), u64::from(b'n')));
    assert_eq!(lane.doorbells(), 2);
}

fn reset_is_power_on(_: &Objects, lane: &Lane) {
    lane.write(0, register::FOLD, 8, 1, 0).unwrap();
    lane.write(0, register::LEVEL, 8, 1, 0).unwrap();
    lane.operate(Operation::Reset, 0).unwrap();
    assert_eq!((read(lane, register::FOLD), lane.levels().high), (0, 0));
}

fn device_at_rest_does_nothing_until_it_is_asked_something(objects: &Objects, lane: &Lane) {
    let mut relay = objects.relay();
    relay.offer(b"ab");
    lane.operate(Operation::Quiesce, 0).unwrap();
    assert_eq!(lane.doorbells(), 2, "what was under way is finished");
    let resting = objects.view().committed();
    relay.offer(b"c");
    objects.wake.signal(1).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(objects.view().committed(), resting);
    read(lane, register::COUNT);
    assert_eq!(lane.doorbells(), 3);
}

fn retired_lane_answers_at_once(_: &Objects, lane: &Lane) {
    assert_eq!(read(lane, register::COUNT), 1);
    lane.retire();
    assert_eq!(lane.read(0, register::COUNT, 8, 0), Err(LaneError::Gone));
    assert_eq!(lane.write(0, register::POSTED, 8, 0, 0), Err(LaneError::Gone));
    assert_eq!(lane.operate(Operation::Reset, 0), Err(LaneError::Gone));
    assert!(lane.notify(Operation::Alarm, 0), "there is nobody left to tell");
    assert_eq!(lane.counters().ones, 2);
}

/// What a host dies before or after.
#[derive(Debug, Clone, Copy)]
enum Step {
    Untaken,
    Taken,
    Committed,
    Told,
    Settled,
}

impl Step {
    const ALL: [Step; 5] = [Step::Untaken, Step::Taken, Step::Committed, Step::Told, Step::Settled];

    /// A host that does the next operation, as far as this step, and dies.
    fn dies(self, objects: &Objects) {
        let mut host = objects.host();
        host.start().unwrap();
        if matches!(self, Step::Untaken) {
            return;
        }
        let access = asked(&mut host);
        let engine = host.device(0);
        match self {
            Step::Untaken | Step::Taken => {}
            Step::Committed => engine.commit_untold(&access),
            Step::Told => {
                engine.commit_untold(&access);
                engine.tell_unsettled();
            }
            Step::Settled => drop(engine.serve(&access).unwrap()),
        }
    }
}

/// The next operation of a host's one device, which sleeps until there is one.
fn asked(host: &mut Host) -> Access {
    loop {
        host.device(0).fall_asleep();
        let mut access = host.device(0).take().unwrap();
        if access.is_none() {
            host.rest();
            access = host.device(0).take().unwrap();
        }
        host.device(0).wake_up();
        if let Some(access) = access {
            return access;
        }
    }
}

/// What a lane does while a thread of its own asks it.
fn ask<T: Send + 'static>(lane: &Arc<Lane>, ask: impl FnOnce(&Lane) -> T + Send + 'static) -> JoinHandle<T> {
    let lane = lane.clone();
    std::thread::spawn(move || ask(&lane))
}

fn leave(lane: &Lane, host: JoinHandle<()>) {
    lane.operate(Operation::Shutdown, 0).unwrap();
    host.join().unwrap();
}

fn death_at_any_step_has_a_call_done_once_and_answered(objects: Objects) {
    let lane = Arc::new(objects.lane(SpinBudget::NONE, LONG));
    let mut count = 0;
    for step in Step::ALL {
        for more_deaths in 0..3 {
            let waiter = ask(&lane, |lane| lane.read(0, register::COUNT, 8, 0));
            step.dies(&objects);
            for _ in 0..more_deaths {
                Step::Untaken.dies(&objects);
            }
            let host = spawn(&objects);
            count += 1;
            assert_eq!(waiter.join().unwrap(), Ok(count), "{step:?}, then {more_deaths} more");
            leave(&lane, host);
        }
    }
    assert_eq!(lane.counters().ones, 0);
}

fn death_at_any_step_has_a_string_load_done_once_and_answered(objects: Objects) {
    let lane = Arc::new(objects.lane(SpinBudget::NONE, LONG));
    let mut count = 0;
    for step in Step::ALL {
        for more_deaths in 0..3 {
            let elements = 100 + more_deaths;
            let waiter = ask(&lane, move |lane| read_string(lane, register::COUNT, elements));
            step.dies(&objects);
            for _ in 0..more_deaths {
                Step::Untaken.dies(&objects);
            }
            let host = spawn(&objects);
            let expected = (count + 1..=count + elements as u64).collect::<Vec<_>>();
            assert_eq!(waiter.join().unwrap(), expected, "{step:?}, then {more_deaths} more");
            count += elements as u64;
            leave(&lane, host);
        }
    }
    assert_eq!(lane.counters().ones, 0);
}

fn death_at_any_step_has_each_posted_write_done_once(objects: Objects) {
    let lane = Arc::new(objects.lane(SpinBudget::NONE, LONG));
    let mut expected = 0;
    for step in Step::ALL {
        let host = spawn(&objects);
        // Until there is something to know of what may be posted, nothing is.
        lane.read(0, register::COUNT, 8, 0).unwrap();
        leave(&lane, host);
        for value in 0..20 {
            lane.write(0, register::POSTED, 8, value, 0).unwrap();
            expected = fold(expected, value);
        }
        // The first of them, and what is then the first. Meanwhile nobody waits for the device: the hub hears of it.
        let is_over = Arc::new(AtomicBool::new(false));
        let (irq, over) = (objects.irq.try_clone().unwrap(), is_over.clone());
        let hub = ask(&lane, move |lane| {
            while !over.load(Ordering::Relaxed) {
                if irq.wait(SOON).unwrap() {
                    irq.drain();
                    // Without a host there is no room for all of it.
                    while !lane.refresh().unwrap() && !over.load(Ordering::Relaxed) {}
                }
            }
        });
        step.dies(&objects);
        step.dies(&objects);
        is_over.store(true, Ordering::Relaxed);
        hub.join().unwrap();
        let host = spawn(&objects);
        assert_eq!(lane.read(0, register::FOLD, 8, 0), Ok(expected), "{step:?}");
        leave(&lane, host);
    }
    assert_eq!(lane.counters().posted, 20 * Step::ALL.len() as u64);
}

fn what_was_committed_before_a_death_interrupts_again(objects: Objects) {
    let lane = objects.lane(SpinBudget::NONE, LONG);
    leave(&lane, spawn(&objects));
    assert!(lane.notify(Operation::Button, 8));
    Step::Told.dies(&objects);
    while objects.irq.drain().is_some() || objects.switch.drain().is_some() {}
    let host = spawn(&objects);
    assert!(heard(&objects, &lane), "levels are told again");
    assert!(objects.switch.drain().is_some(), "what was committed may not have happened");
    assert_eq!(lane.levels().high, 1);
    leave(&lane, host);
}

fn absent_host_makes_its_caller_late_and_the_next_one_answers(objects: Objects) {
    let (mut carrier, _) = objects.carrier(SpinBudget::NONE);
    let count = Request { operation: Operation::Read, range: 0, width: 8, offset: register::COUNT, value: 0, now: 0 };
    let start = Instant::now();
    assert_eq!(carrier.call(&count, 4 * SOON), Err(LaneError::Late));
    assert!(start.elapsed() >= 4 * SOON);
    assert_eq!(carrier.resume(SOON), Err(LaneError::Late));
    let host = spawn(&objects);
    assert_eq!(carrier.resume(LONG), Ok(1));
    assert_eq!(carrier.call(&count, LONG), Ok(2));
    carrier.call(&Request { operation: Operation::Shutdown, ..count }, LONG).unwrap();
    host.join().unwrap();
}

fn full_lane_takes_no_post_until_there_is_room(objects: Objects) {
    const ENTRIES: usize = 32;
    let (mut carrier, _) = objects.carrier(SpinBudget::NONE);
    let post = Request { operation: Operation::Post, range: 0, width: 8, offset: register::POSTED, value: 1, now: 0 };
    for posted in 0..ENTRIES {
        assert_eq!(carrier.outstanding(), Ok(posted));
        assert_eq!(carrier.post(&post), Ok(()));
    }
    assert_eq!(carrier.post(&post), Err(PostError::Full));
    let call = Request { operation: Operation::Write, ..post };
    assert_eq!(carrier.call(&call, SOON), Err(LaneError::Late), "it waits for room, but not for ever");
    assert_eq!(carrier.outstanding(), Ok(ENTRIES));
    let mut host = objects.host();
    host.start().unwrap();
    assert!(host.work().unwrap());
    assert_eq!(carrier.post(&post), Ok(()));
    assert_eq!(carrier.call(&call, SOON), Err(LaneError::Late), "the host does nothing now");
    let next = asked(&mut host);
    host.device(0).serve(&next).unwrap();
    while host.work().unwrap() {}
    assert_eq!(carrier.resume(LONG), Ok(0));
    assert_eq!(objects.view().committed().sequence() as usize, ENTRIES + 2);
}

/// Nobody looks while the device goes on telling of what it does, so no way to tell has room for all of it.
fn host_that_finds_no_room_to_tell_goes_on_once_somebody_looks(objects: Objects) {
    const TYPED: u64 = 20_000;
    let lane = objects.lane(SpinBudget::NONE, LONG);
    let host = spawn(&objects);
    let mut relay = objects.relay();
    assert_eq!(relay.offer(&[0; TYPED as usize]), TYPED as usize);
    objects.wake.signal(1).unwrap();
    // Twice the same state: it does all it can.
    let mut before = objects.view().committed();
    wait_until("it can do no more", || {
        std::thread::sleep(SOON);
        let now = objects.view().committed();
        std::mem::replace(&mut before, now) == now
    });
    if objects.carrier == Carrier::Memory {
        assert_eq!(objects.view().doorbells(), TYPED, "it needs no room");
    } else {
        assert!(objects.view().doorbells() < TYPED, "it waits for room");
        assert!(objects.irq.drain().is_some(), "and has said so");
        // What the hub does, until it is told to look no more.
        wait_until("all is told", || {
            let all = lane.refresh().unwrap();
            all && objects.view().doorbells() == TYPED
        });
    }
    assert_eq!(lane.read(0, register::TYPED, 8, 0), Ok(TYPED));
    // The same, with a vcpu for who looks.
    relay.offer(&[0; TYPED as usize]);
    objects.wake.signal(1).unwrap();
    std::thread::sleep(SOON);
    lane.read(0, register::COUNT, 8, 0).unwrap();
    while lane.read(0, register::TYPED, 8, 0) != Ok(2 * TYPED) {}
    leave(&lane, host);
}

fn lane_is_retired_while_somebody_waits(objects: Objects) {
    let lane = Arc::new(objects.lane(SpinBudget::NONE, LONG));
    let waiter = ask(&lane, |lane| (lane.read(0, register::COUNT, 8, 0), Instant::now()));
    // Long enough for the waiter to fall asleep.
    std::thread::sleep(4 * SOON);
    let retired = Instant::now();
    lane.retire();
    let (answer, woken) = waiter.join().unwrap();
    assert_eq!(answer, Err(LaneError::Gone));
    assert!(woken.duration_since(retired) < LONG / 4);
}

/// A host in a process of its own is killed again and again: at a point between two steps of what it does, or at any moment.
/// What it is asked meanwhile, and what goes through its stream, comes out as if nothing had happened.
fn nothing_is_lost_or_doubled_when_the_host_is_killed(objects: Objects) {
    const KILLS: u64 = 400;
    let objects = Arc::new(objects);
    let mut killing = Killing::start(objects.clone(), KILLS);
    let lane = objects.lane(SpinBudget { vmm: 200, host: 200 }, LONG);
    let mut relay = objects.relay();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut folded, mut count, mut typed) = (0, 0, 0);
    let (mut written, mut printed) = (Vec::new(), Vec::new());
    let mut operations = 0u64;
    while !killing.is_done() {
        let value = random.next() >> 8;
        match random.next() % 9 {
            8 => {
                // Few enough that some incarnation lives to the end of them: each element is a step at which one may die.
                let elements = 1 + value % 16;
                let expected = (count + 1..=count + elements).collect::<Vec<_>>();
                assert_eq!(read_string(&lane, register::COUNT, elements as usize), expected);
                count += elements;
            }
            0 => {
                count += 1;
                assert_eq!(lane.read(0, register::COUNT, 8, 0), Ok(count));
            }
            1 => {
                lane.write(0, register::FOLD, 8, value, 0).unwrap();
                folded = fold(folded, value);
            }
            2 | 3 => {
                lane.write(0, register::POSTED, 8, value, 0).unwrap();
                folded = fold(folded, value);
            }
            4 => assert_eq!(lane.read(0, register::FOLD, 8, 0), Ok(folded)),
            5 => {
                lane.write(0, register::STREAM, 8, value & 0xff, 0).unwrap();
                written.push(value as u8);
            }
            6 => {
                if relay.offer(&[value as u8]) == 1 {
                    typed = fold(typed, value & 0xff);
                    objects.wake.signal(1).unwrap();
                }
            }
            _ => {
                let level = value & 1;
                lane.write(0, register::LEVEL, 8, level, 0).unwrap();
                assert_eq!(u64::from(lane.levels().high), level);
            }
        }
        relay.take(&mut printed, usize::MAX);
        operations += 1;
    }
    let by_fuse = killing.join();
    assert!(by_fuse > KILLS / 4, "only {by_fuse} kills were at a point between two steps");
    assert!(operations > KILLS, "only {operations} operations");
    assert_eq!(lane.read(0, register::FOLD, 8, 0), Ok(folded));
    assert_eq!(lane.read(0, register::COUNT, 8, 0), Ok(count + 1));
    wait_until("all input is read", || lane.read(0, register::STREAM, 8, 0) == Ok(typed));
    wait_until("all output is there", || {
        relay.take(&mut printed, usize::MAX);
        printed.len() >= written.len()
    });
    assert!(printed == written);
    lane.operate(Operation::Shutdown, 0).unwrap();
}
