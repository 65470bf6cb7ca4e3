use super::*;
use crate::conformance::{Bench, Random, Strike, World, conforms};

/// Thursday 29 February 2024, 23:59:58.25.
const EPOCH_NS: u64 = 1_709_251_198_250_000_000;
const MS: u64 = 1_000_000;

struct Board;

impl World for Board {
    const NAME: &'static str = NAME;

    fn new() -> Board {
        Board
    }

    fn options(&self) -> Options {
        Options::new([("epoch_ns", EPOCH_NS.to_string())])
    }

    fn powers(&self) -> Powers {
        Powers::default()
    }

    /// Mostly the registers, since memory beyond them is only memory; mostly settings under which time passes.
    fn strike(&mut self, random: &mut Random, _: &Manifest) -> Strike {
        let at = |offset, value, write| Strike { range: 0, offset, width: 1, value, write };
        match random.below(8) {
            0..3 => at(INDEX, if random.one_in(8) { random.next() } else { random.below(14) }, true),
            3 => at(DATA, random.below(0x60), true),
            4 => at(DATA, 0x20 | random.below(16), true),
            5 => at(random.below(2), random.next(), random.one_in(2)),
            _ => at(DATA, 0, false),
        }
    }
}

conforms!(Board);

impl Bench<Board> {
    fn get(&mut self, register: usize) -> u8 {
        self.write(0, INDEX, 1, register as u64).unwrap();
        self.read(0, DATA, 1).unwrap() as u8
    }

    fn put(&mut self, register: usize, value: u8) {
        self.write(0, INDEX, 1, register as u64).unwrap();
        self.write(0, DATA, 1, value.into()).unwrap();
    }

    /// Century, year, month, day, weekday, hours, minutes, seconds.
    fn time(&mut self) -> [u8; 8] {
        [CENTURY, YEAR, MONTH, DAY, WEEKDAY, HOURS, MINUTES, SECONDS].map(|register| self.get(register))
    }

    fn level(&self) -> bool {
        self.outputs().levels == 1
    }

    /// Half past seven in the morning of 5 May 2025, with the divider in reset and the updates stopped, as a driver does.
    fn set(&mut self) {
        self.put(B, B_SET | B_24_HOURS);
        self.put(A, 0x76);
        let time = [0x20, 0x25, 0x05, 0x05, 0x02, 0x07, 0x30, 0x00];
        for (register, value) in [CENTURY, YEAR, MONTH, DAY, WEEKDAY, HOURS, MINUTES, SECONDS].into_iter().zip(time) {
            self.put(register, value);
        }
        self.put(B, B_24_HOURS);
        self.put(A, 0x26);
    }
}

#[test]
fn the_time_at_power_on_is_that_of_the_option() {
    assert_eq!(Bench::<Board>::new().time(), [0x20, 0x24, 0x02, 0x29, 5, 0x23, 0x59, 0x58]);
}

#[test]
fn seconds_begin_where_they_begin_outside() {
    let mut bench = Bench::<Board>::new();
    bench.now = 749 * MS;
    assert_eq!(bench.get(SECONDS), 0x58);
    bench.now = 750 * MS;
    assert_eq!(bench.get(SECONDS), 0x59);
}

#[test]
fn a_leap_day_ends_in_march() {
    let mut bench = Bench::<Board>::new();
    bench.now = 1750 * MS;
    assert_eq!(bench.time(), [0x20, 0x24, 0x03, 0x01, 6, 0x00, 0x00, 0x00]);
}

#[test]
fn a_year_that_nobody_looked_passes_at_once() {
    let mut bench = Bench::<Board>::new();
    bench.now = 366 * 86_400 * SECOND_NS;
    assert_eq!(bench.time(), [0x20, 0x25, 0x03, 0x01, 7, 0x23, 0x59, 0x58]);
}

#[test]
fn time_that_was_set_goes_on_half_a_second_after_the_divider_is_released() {
    let mut bench = Bench::<Board>::new();
    bench.now = 12_345 * MS;
    bench.set();
    bench.now += 499 * MS;
    assert_eq!(bench.time(), [0x20, 0x25, 0x05, 0x05, 2, 0x07, 0x30, 0x00]);
    bench.now += MS;
    assert_eq!(bench.get(SECONDS), 0x01);
    bench.now += 86_400 * SECOND_NS;
    assert_eq!(bench.time(), [0x20, 0x25, 0x05, 0x06, 3, 0x07, 0x30, 0x01]);
}

#[test]
fn while_it_is_being_set_time_stands_still() {
    let mut bench = Bench::<Board>::new();
    bench.put(B, B_SET | B_24_HOURS);
    bench.now = 100 * SECOND_NS;
    assert_eq!(bench.time(), [0x20, 0x24, 0x02, 0x29, 5, 0x23, 0x59, 0x58]);
    assert_eq!(bench.get(A) & A_UPDATING, 0);
    bench.put(B, B_24_HOURS);
    assert_eq!(bench.get(SECONDS), 0x58, "the seconds that passed meanwhile are lost");
}

#[test]
fn each_encoding_is_what_the_registers_hold() {
    for (b, hours, minutes) in
        [(B_24_HOURS, 0x23, 0x59), (B_24_HOURS | B_BINARY, 23, 59), (0, 0x91, 0x59), (B_BINARY, 0x80 | 11, 59)]
    {
        let mut bench = Bench::<Board>::new();
        bench.put(B, B_SET | b);
        for (register, value) in [(HOURS, hours), (MINUTES, minutes), (SECONDS, minutes)] {
            bench.put(register, value);
        }
        for (register, value) in [(CENTURY, 20), (YEAR, 24), (MONTH, 2), (DAY, 28), (WEEKDAY, 7)] {
            bench.put(register, if b & B_BINARY != 0 { value } else { ((value / 10) << 4) | (value % 10) });
        }
        bench.put(B, b);
        bench.now = SECOND_NS;
        let midnight = if b & B_24_HOURS != 0 {
            0
        } else if b & B_BINARY != 0 {
            12
        } else {
            0x12
        };
        let day = if b & B_BINARY != 0 { 29 } else { 0x29 };
        let expected = [DAY, WEEKDAY, HOURS, MINUTES, SECONDS].map(|register| bench.get(register));
        assert_eq!(expected, [day, 1, midnight, 0, 0], "{b:#x}");
    }
}

#[test]
fn a_date_that_does_not_exist_stands_still() {
    let mut bench = Bench::<Board>::new();
    bench.put(MONTH, 0x13);
    bench.now = 10 * SECOND_NS;
    assert_eq!(bench.get(SECONDS), 0x58);
    bench.put(MONTH, 0x02);
    bench.now += SECOND_NS;
    assert_eq!(bench.get(SECONDS), 0x59);
}

#[test]
fn an_update_is_told_before_it_happens() {
    let mut bench = Bench::<Board>::new();
    bench.now = 750 * MS - UPDATING_NS - 1;
    assert_eq!(bench.get(A), 0x26);
    bench.now += 1;
    assert_eq!(bench.get(A), 0x26 | A_UPDATING);
    bench.now = 750 * MS - 1;
    assert_eq!(bench.get(A), 0x26 | A_UPDATING);
    bench.now += 1;
    assert_eq!(bench.get(A), 0x26);
}

#[test]
fn the_update_interrupt_comes_each_second_until_it_is_read() {
    let mut bench = Bench::<Board>::new();
    bench.put(B, B_24_HOURS | B_UPDATED);
    for second in 0..3 {
        assert_eq!(bench.outputs().deadline, Some(second * SECOND_NS + 750 * MS));
        bench.pass_until(second * SECOND_NS + 750 * MS);
        assert!(bench.level());
        assert_eq!(bench.outputs().deadline, None, "nothing more can happen before it is read");
        assert_eq!(bench.get(C) & (C_REQUESTED | B_UPDATED), C_REQUESTED | B_UPDATED);
        assert!(!bench.level());
    }
}

#[test]
fn flags_are_set_without_their_interrupts_and_cleared_by_reading() {
    let mut bench = Bench::<Board>::new();
    bench.now = SECOND_NS;
    assert_eq!(bench.get(C), B_UPDATED | B_PERIODIC);
    assert_eq!(bench.get(C), 0);
    assert!(!bench.level());
}

#[test]
fn an_interrupt_enabled_after_its_event_is_requested_at_once() {
    let mut bench = Bench::<Board>::new();
    bench.now = SECOND_NS;
    bench.put(B, B_24_HOURS | B_UPDATED);
    assert!(bench.level());
}

#[test]
fn periodic_interrupts_come_at_the_rate_that_is_set() {
    for (rate, hertz) in [(1, 256), (2, 128), (3, 8192), (6, 1024), (15, 2)] {
        let mut bench = Bench::<Board>::new();
        bench.put(A, A_DIVIDER_RUNS | rate);
        bench.put(B, B_24_HOURS | B_PERIODIC);
        let mut interrupts = 0;
        while let Some(deadline) = bench.outputs().deadline.filter(|deadline| *deadline <= 2 * SECOND_NS) {
            bench.pass_until(deadline);
            assert_eq!(bench.get(C) & B_PERIODIC, B_PERIODIC);
            interrupts += 1;
        }
        assert_eq!(interrupts, 2 * hertz, "rate {rate}");
    }
}

#[test]
fn rate_zero_is_no_rate() {
    let mut bench = Bench::<Board>::new();
    bench.put(A, A_DIVIDER_RUNS);
    bench.put(B, B_24_HOURS | B_PERIODIC);
    assert_eq!(bench.outputs().deadline, None);
    bench.now = SECOND_NS / 2;
    assert_eq!(bench.get(C), 0);
}

#[test]
fn the_alarm_goes_off_at_its_time_and_once_a_day() {
    let mut bench = Bench::<Board>::new();
    bench.set();
    for (register, value) in [(HOURS_ALARM, 0x07), (MINUTES_ALARM, 0x45), (SECONDS_ALARM, 0x10)] {
        bench.put(register, value);
    }
    bench.get(C);
    bench.put(B, B_24_HOURS | B_ALARM);
    // The clock is at 7:30:00, and the next second begins in half a second.
    let due = 500 * MS + (15 * 60 + 9) * SECOND_NS;
    assert_eq!(bench.outputs().deadline, Some(due));
    bench.pass_until(due);
    assert!(bench.level());
    assert_eq!(bench.get(C) & B_ALARM, B_ALARM);
    assert_eq!(bench.outputs().deadline, Some(due + 86_400 * SECOND_NS));
}

#[test]
fn alarm_bytes_from_c0_on_match_everything() {
    let mut bench = Bench::<Board>::new();
    bench.set();
    for (register, value) in [(HOURS_ALARM, 0xff), (MINUTES_ALARM, 0xc0), (SECONDS_ALARM, 0x05)] {
        bench.put(register, value);
    }
    bench.put(B, B_24_HOURS | B_ALARM);
    assert_eq!(bench.outputs().deadline, Some(4500 * MS));
    bench.put(SECONDS_ALARM, 0x60);
    assert_eq!(bench.outputs().deadline, None, "such a second never comes");
}

#[test]
fn setting_the_time_ends_the_update_interrupt() {
    let mut bench = Bench::<Board>::new();
    bench.put(B, B_24_HOURS | B_UPDATED);
    bench.put(B, B_SET | B_24_HOURS | B_UPDATED);
    assert_eq!(bench.get(B), B_SET | B_24_HOURS);
}

#[test]
fn memory_beyond_the_registers_keeps_what_is_written() {
    let mut bench = Bench::<Board>::new();
    for register in (D + 1..BYTES).filter(|register| *register != CENTURY) {
        bench.put(register, register as u8 ^ 0x5a);
    }
    bench.now = 1000 * SECOND_NS;
    for register in (D + 1..BYTES).filter(|register| *register != CENTURY) {
        assert_eq!(bench.get(register), register as u8 ^ 0x5a);
    }
}

#[test]
fn the_nmi_bit_of_the_index_is_not_the_chips() {
    let mut bench = Bench::<Board>::new();
    bench.put(0x40, 7);
    assert_eq!(bench.get(0x40 | 0x80), 7);
}

#[test]
fn register_d_says_that_the_battery_is_good_whatever_is_written() {
    let mut bench = Bench::<Board>::new();
    bench.put(D, 0x3f);
    assert_eq!(bench.get(D), D_VALID);
}

#[test]
fn the_index_cannot_be_read_and_wide_accesses_meet_no_register() {
    let mut bench = Bench::<Board>::new();
    assert_eq!(bench.read(0, INDEX, 1), Err(NoRegister));
    assert_eq!(bench.read(0, INDEX, 2), Err(NoRegister));
    assert_eq!(bench.write(0, INDEX, 2, 0x1234), Err(NoRegister));
}

#[test]
fn a_reset_brings_back_the_time_outside() {
    let mut bench = Bench::<Board>::new();
    bench.set();
    bench.now = 2750 * MS;
    bench.reset();
    assert_eq!(bench.time(), [0x20, 0x24, 0x03, 0x01, 6, 0x00, 0x00, 0x01]);
}
