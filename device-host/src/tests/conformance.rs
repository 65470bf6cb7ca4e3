//! Every rule of a lane, over every carrier, with a real engine behind it.

use super::toy::{fold, register};
use super::*;
use imc::lane::ones;

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
    value_is_as_wide_as_its_access
    alarm_that_is_due_runs_before_the_operation
    alarm_operation_runs_the_alarm_only_when_it_is_due_and_tells_the_next_deadline
    time_never_runs_backwards_for_a_device
    level_that_changes_of_its_own_accord_is_told_and_one_that_a_vcpu_waits_for_is_not
    bytes_go_in_and_out_and_are_looked_for_before_an_operation
    reset_is_power_on
    device_at_rest_does_nothing_until_it_is_asked_something
    retired_lane_answers_at_once
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
    for (range, offset, width) in [(1, 0, 8), (0, 69, 4), (0, 72, 1), (0, u64::MAX, 8)] {
        assert_eq!(lane.read(range, offset, width, 0), Ok(ones(width)));
    }
    assert_eq!((lane.counters().unknown, objects.view().unknown()), (6, 6));
}

fn value_is_as_wide_as_its_access(_: &Objects, lane: &Lane) {
    lane.write(0, register::LEVEL, 1, 0xffff_ff01, 0).unwrap();
    assert_eq!(lane.levels(), 1);
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
    assert_eq!(lane.levels(), 1);
    lane.write(0, register::LEVEL, 8, 0, 0).unwrap();
    assert_eq!((lane.levels(), objects.irq.drain()), (0, None));
    assert!(lane.notify(Operation::Button, 0));
    wait_until("the level is told", || heard(objects, lane));
    assert_eq!(lane.levels(), 1);
    wait_until("the switch is turned", || objects.switch.drain().is_some());
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
    assert_eq!((read(lane, register::FOLD), lane.levels()), (0, 0));
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
