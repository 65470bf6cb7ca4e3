use super::*;
use crate::conformance::{Bells, Bench, Random, Strike, World, conforms};

const SECOND_NS: u64 = 1_000_000_000;

struct Board(Bells);

impl World for Board {
    const NAME: &'static str = NAME;

    fn new() -> Board {
        Board(Bells::new(1))
    }

    fn powers(&self) -> Powers {
        self.0.powers()
    }

    /// Mostly the timer is started, since a stopped one does nothing.
    fn strike(&mut self, random: &mut Random, _: &Manifest) -> Strike {
        let range = if random.one_in(4) { STOP } else { START };
        Strike { range, offset: 0, width: 1, value: random.next(), write: !random.one_in(8) }
    }
}

conforms!(Board);

impl Bench<Board> {
    fn start(&mut self, value: u64) {
        self.write(START, 0, 1, value).unwrap();
    }

    fn has_expired(&self) -> bool {
        self.world.0.rung(0) != 0
    }
}

#[test]
fn a_guest_that_stands_still_is_ended_when_its_time_is_over() {
    let mut bench = Bench::<Board>::new();
    bench.start(13);
    bench.pass_until(4 * SECOND_NS - 1);
    assert!(!bench.has_expired());
    bench.pass_until(4 * SECOND_NS);
    assert!(bench.has_expired());
    assert_eq!(bench.outputs().deadline, None, "it runs once");
}

#[test]
fn each_value_is_two_seconds_less_than_the_one_before() {
    for (value, seconds) in [(0, 30), (1, 28), (10, 10), (14, 2), (15, 0)] {
        let mut bench = Bench::<Board>::new();
        bench.now = SECOND_NS;
        bench.start(value);
        assert_eq!(bench.outputs().deadline, Some((1 + seconds) * SECOND_NS), "value {value}");
    }
}

#[test]
fn only_the_low_four_bits_are_a_time() {
    let mut bench = Bench::<Board>::new();
    bench.start(0xfe);
    assert_eq!(bench.outputs().deadline, Some(2 * SECOND_NS));
}

#[test]
fn a_timer_that_is_wound_in_time_never_expires() {
    let mut bench = Bench::<Board>::new();
    for second in 0..100 {
        bench.pass_until(second * SECOND_NS);
        bench.start(14);
    }
    assert!(!bench.has_expired());
}

#[test]
fn a_stopped_timer_never_expires() {
    let mut bench = Bench::<Board>::new();
    bench.start(14);
    bench.write(STOP, 0, 1, 1).unwrap();
    bench.pass_until(100 * SECOND_NS);
    assert!(!bench.has_expired());
}

#[test]
fn it_can_expire_again() {
    let mut bench = Bench::<Board>::new();
    bench.start(15);
    bench.pass_until(1);
    bench.start(15);
    bench.pass_until(2);
    assert_eq!(bench.world.0.rung(0), 1 + 2, "told as the number of times");
}

#[test]
fn neither_port_can_be_read() {
    let mut bench = Bench::<Board>::new();
    assert_eq!(bench.read(STOP, 0, 1), Err(NoRegister));
    assert_eq!(bench.read(START, 0, 1), Err(NoRegister));
}

#[test]
fn the_action_is_one_of_three() {
    for (action, switch) in [("reset", Switch::Reset), ("poweroff", Switch::PowerOff), ("panic", Switch::Panicked)] {
        let manifest = Ib700::manifest(&Options::new([("action", action)])).unwrap();
        assert_eq!(manifest.wishes[0].switch, Some(switch));
    }
    let sentence = Ib700::manifest(&Options::new([("action", "explode")])).unwrap_err().to_string();
    assert_eq!(sentence, "option `action`: `explode` is not reset, poweroff or panic");
}
