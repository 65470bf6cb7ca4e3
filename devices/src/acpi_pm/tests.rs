use super::*;
use crate::conformance::{Bells, Bench, World, conforms};

const STATUS: u64 = EVENT;
const ENABLE: u64 = EVENT + 2;

struct Board(Bells);

impl World for Board {
    const NAME: &'static str = NAME;

    fn new() -> Board {
        Board(Bells::new(1))
    }

    fn powers(&self) -> Powers {
        self.0.powers()
    }
}

conforms!(Board);

impl Bench<Board> {
    fn get(&mut self, offset: u64) -> u16 {
        self.read(0, offset, 2).unwrap() as u16
    }

    fn put(&mut self, offset: u64, value: u16) {
        self.write(0, offset, 2, value.into()).unwrap();
    }

    fn level(&self) -> bool {
        self.outputs().levels == 1
    }
}

#[test]
fn the_machine_is_always_in_acpi_mode() {
    let mut bench = Bench::<Board>::new();
    assert_eq!(bench.get(CONTROL), CONTROL_SCI);
    bench.put(CONTROL, 0);
    assert_eq!(bench.get(CONTROL), CONTROL_SCI);
}

#[test]
fn the_timer_runs_at_its_rate_and_wraps_at_24_bits() {
    let mut bench = Bench::<Board>::new();
    assert_eq!(bench.read(0, TIMER, 4), Ok(0));
    bench.now = 1_000_000_000;
    assert_eq!(bench.read(0, TIMER, 4), Ok(3_579_545));
    bench.now = 1_000_000_000 * 3600;
    assert_eq!(bench.read(0, TIMER, 4), Ok((3_579_545 * 3600) % (1 << 24)));
}

#[test]
fn the_timers_event_comes_when_its_highest_bit_changes() {
    let mut bench = Bench::<Board>::new();
    assert_eq!(bench.outputs().deadline, None, "nobody asked for it");
    bench.put(ENABLE, EVENT_TIMER);
    let due = bench.outputs().deadline.unwrap();
    bench.now = due - 1;
    assert_eq!(bench.get(STATUS), 0);
    assert_eq!(bench.read(0, TIMER, 4), Ok(0x7f_ffff));
    bench.pass_until(due);
    assert!(bench.level());
    assert_eq!(bench.read(0, TIMER, 4), Ok(0x80_0000));
    assert_eq!(bench.get(STATUS), EVENT_TIMER);
    bench.put(STATUS, EVENT_TIMER);
    assert!(!bench.level());
    let again = bench.outputs().deadline.unwrap();
    assert!(again.abs_diff(2 * due) <= 1, "the next change is as far away");
}

#[test]
fn the_power_button_interrupts_until_it_is_acknowledged() {
    let mut bench = Bench::<Board>::new();
    bench.button();
    assert_eq!(bench.get(STATUS), EVENT_POWER_BUTTON);
    assert!(!bench.level());
    bench.put(ENABLE, EVENT_POWER_BUTTON);
    assert!(bench.level());
    bench.put(STATUS, !EVENT_POWER_BUTTON);
    assert!(bench.level(), "only a one clears");
    bench.put(STATUS, EVENT_POWER_BUTTON);
    assert!(!bench.level());
    assert_eq!(bench.get(STATUS), 0);
}

#[test]
fn enables_are_read_as_they_were_written() {
    let mut bench = Bench::<Board>::new();
    bench.put(ENABLE, 0xffff);
    assert_eq!(bench.get(ENABLE), EVENTS);
    bench.put(ENABLE, EVENT_GLOBAL);
    assert_eq!(bench.get(ENABLE), EVENT_GLOBAL);
}

#[test]
fn the_blocks_can_be_accessed_by_the_byte_and_whole() {
    let mut bench = Bench::<Board>::new();
    bench.button();
    assert_eq!(bench.read(0, STATUS + 1, 1).map(|byte| byte & 0xff), Ok(0x01));
    bench.write(0, ENABLE + 1, 1, 0x01).unwrap();
    assert!(bench.level());
    assert_eq!(bench.read(0, EVENT, 4), Ok(0x0100_0100));
    bench.write(0, EVENT, 4, 0x0000_0100).unwrap();
    assert_eq!(bench.read(0, EVENT, 4), Ok(0));
}

#[test]
fn only_sleep_type_five_with_sleep_enable_switches_off() {
    for sleep_type in 0..8 {
        let mut bench = Bench::<Board>::new();
        bench.put(CONTROL, sleep_type << 10);
        assert_eq!(bench.world.0.rung(0), 0);
        bench.put(CONTROL, sleep_type << 10 | CONTROL_SLEEP);
        assert_eq!(bench.world.0.rung(0), u64::from(sleep_type == 5), "{sleep_type}");
        assert_eq!(bench.get(CONTROL), sleep_type << 10 | CONTROL_SCI, "sleep enable always reads zero");
    }
}

#[test]
fn sleep_enable_may_come_in_a_byte_of_its_own() {
    let mut bench = Bench::<Board>::new();
    bench.write(0, CONTROL + 1, 1, u64::from((5 << 10 | CONTROL_SLEEP) >> 8)).unwrap();
    assert_eq!(bench.world.0.rung(0), 1);
}

#[test]
fn accesses_across_blocks_meet_no_register() {
    let mut bench = Bench::<Board>::new();
    for (offset, width) in [(1, 2), (3, 2), (2, 4), (4, 4), (0, 8), (6, 2), (8, 1), (8, 2), (9, 1)] {
        assert_eq!(bench.read(0, offset, width), Err(NoRegister), "{offset} {width}");
        assert_eq!(bench.write(0, offset, width, u64::MAX), Err(NoRegister), "{offset} {width}");
    }
    assert_eq!(bench.write(0, TIMER, 4, 1), Err(NoRegister), "the timer cannot be set");
}
