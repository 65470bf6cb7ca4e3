use crate::testing::{ALARM_MS, EXIT, LATER, LEVELS, Rig, SCRATCH, toy};
use schema::manifest::{Space, Switch};
use schema::play::{BLOCK_MAX, CHANGES_MAX, Change, Changes, Clock, OUTSIDE, Played, Step, Turned};
use schema::vmm::{Boot, Drive, Machine};

const PORT: u64 = 0x500;
const MS: u64 = 1_000_000;

fn driven(clock: Clock) -> Rig {
    let machine = Machine { boot: Boot::Driven(clock, None), ..Rig::without_kvm() };
    Rig::started(machine, &[], &[toy("first", Space::Port(PORT as u16))])
}

fn access(write: bool, offset: u64, value: u64) -> Step {
    Step::Access(Drive { write, port: true, address: PORT + offset, width: 4, value })
}

fn store(offset: u64, value: u64) -> Step {
    access(true, offset, value)
}

fn load(offset: u64) -> Step {
    access(false, offset, 0)
}

fn line(level: bool) -> Change {
    Change { input: 5, level, device: 0, hidden: false }
}

#[test]
fn time_stands_still_until_it_is_told_to_pass() {
    let mut rig = driven(Clock::Virtual);
    let first = rig.play(vec![store(ALARM_MS, 5)]);
    std::thread::sleep(std::time::Duration::from_millis(20));
    let second = rig.play(vec![load(ALARM_MS)]);
    assert_eq!((first.now, first.deadline), (0, Some(5 * MS)));
    assert_eq!((second.steps[0].value, second.now), (0, 0));
}

#[test]
fn an_alarm_comes_at_its_own_time_and_its_change_with_the_step_that_reached_it() {
    let mut rig = driven(Clock::Virtual);
    let played = rig.play(vec![store(ALARM_MS, 5), Step::Pass(5 * MS - 1), Step::Pass(9 * MS), load(ALARM_MS)]);
    let changes: Vec<_> = played.steps.iter().map(|step| step.changes.clone()).collect();
    assert_eq!(changes, [vec![], vec![], vec![line(true)], vec![]]);
    assert_eq!((played.steps[3].value, played.now, played.deadline), (1, 9 * MS, None));
}

#[test]
fn time_that_has_passed_does_not_pass_again() {
    let mut rig = driven(Clock::Virtual);
    rig.play(vec![Step::Pass(7)]);
    assert_eq!(rig.play(vec![Step::Pass(3)]).now, 7);
}

#[test]
fn real_time_passes_by_itself_and_by_no_step() {
    let mut rig = driven(Clock::Real);
    let played = rig.play(vec![Step::Pass(u64::MAX)]);
    assert!(played.now < u64::MAX / 2);
    rig.play(vec![store(ALARM_MS, 1)]);
    assert_eq!(rig.told::<Changes>().changes, [line(true)]);
}

#[test]
fn changes_come_with_their_step_and_those_of_a_hosts_own_accord_by_themselves() {
    let mut rig = driven(Clock::Virtual);
    let played = rig.play(vec![store(LEVELS, 1), store(SCRATCH, 6), load(SCRATCH), store(LEVELS, 0), store(LATER, 0)]);
    let changes: Vec<_> = played.steps.iter().map(|step| step.changes.clone()).collect();
    assert_eq!(changes, [vec![line(true)], vec![], vec![], vec![line(false)], vec![]]);
    assert_eq!(played.steps[2].value, 7);
    assert_eq!(rig.told::<Changes>().changes, [line(true)]);
}

#[test]
fn an_input_driven_from_outside_hides_a_device_behind_it() {
    let mut rig = driven(Clock::Virtual);
    let wire = |level| Step::Wire { input: 5, level };
    let played =
        rig.play(vec![wire(true), wire(true), store(LEVELS, 1), wire(false), Step::Wire { input: 200, level: true }]);
    let changes: Vec<_> = played.steps.iter().map(|step| step.changes.clone()).collect();
    let outside = |level, hidden| Change { input: 5, level, device: OUTSIDE, hidden };
    let device = Change { hidden: true, ..line(true) };
    assert_eq!(changes, [vec![outside(true, false)], vec![], vec![device], vec![outside(false, true)], vec![]]);
}

#[test]
fn memory_is_read_written_and_filled_in_blocks_and_what_is_none_is_ones() {
    let mut rig = driven(Clock::Virtual);
    let bytes: Vec<u8> = (0..BLOCK_MAX).map(|at| at as u8).collect();
    rig.play(vec![
        Step::Write { address: 0x1003, bytes: bytes.clone() },
        Step::Fill { address: 0x1004, count: 2, byte: 0xa5 },
        Step::Write { address: 0xa_0001, bytes: vec![1; 9] },
    ]);
    let read = |address, count| Step::Read { address, count };
    let played = rig.play(vec![read(0x1002, 5), read(0xa_0001, 9), read((2 << 20) - 2, 4)]);
    assert_eq!(played.steps[0].bytes, [0, 0, 0xa5, 0xa5, 3]);
    assert_eq!(played.steps[1].bytes, [0xff; 9], "nothing is on the bus there");
    assert_eq!(played.steps[2].bytes, [0, 0, 0xff, 0xff]);
}

#[test]
fn an_answer_that_is_full_leaves_the_other_steps_for_later() {
    let mut rig = driven(Clock::Virtual);
    let played = rig.play(vec![Step::Read { address: 0, count: BLOCK_MAX as u16 }; 8]);
    assert_eq!(played.steps.len(), 2);
}

#[test]
fn a_device_that_asks_for_alarms_without_end_stops_nobody_from_looking_at_other_things() {
    let mut rig = driven(Clock::Virtual);
    // Each alarm comes a millisecond after the store before it: one that stores again from outside.
    let mut now = 0;
    for _ in 0..3 {
        let played = rig.play(vec![store(ALARM_MS, 0), Step::Pass(now + MS)]);
        now = played.now;
        assert!(played.steps.len() == 2 && played.steps[1].changes.len() <= CHANGES_MAX);
    }
    assert_eq!(now, 3 * MS);
}

#[test]
fn a_switch_is_told_and_the_machine_goes_on() {
    let mut rig = driven(Clock::Virtual);
    rig.play(vec![store(EXIT, 7)]);
    assert_eq!(rig.told::<Turned>(), Turned { device: 0, switch: Switch::Exit, value: 8 });
    assert_eq!(rig.play(vec![store(SCRATCH, 1), load(SCRATCH)]).steps[1].value, 2);
}

#[test]
fn the_same_steps_have_the_same_outcomes() {
    let run = || -> Vec<Played> {
        let mut rig = driven(Clock::Virtual);
        let steps =
            |at: u64| vec![store(ALARM_MS, at % 3 + 1), Step::Pass(at * 2 * MS), store(LEVELS, at & 1), load(ALARM_MS)];
        (0..20).map(|at| rig.play(steps(at))).collect()
    };
    assert_eq!(run(), run());
}
