use super::*;
use crate::conformance::{Bench, World, conforms};

struct Board;

impl World for Board {
    const NAME: &'static str = NAME;
    fn new() -> Board {
        Board
    }
    fn powers(&self) -> Powers {
        Powers::default()
    }
}

conforms!(Board);

/// The first moment of a cycle.
fn at(cycle: u64) -> u64 {
    (u128::from(cycle) * SECOND_NS).div_ceil(CYCLES) as u64
}

struct Timer(Bench<Board>);

impl Timer {
    fn new() -> Timer {
        Timer(Bench::new())
    }

    /// Goes on to this cycle, with each alarm at its time.
    fn pass(&mut self, cycle: u64) {
        self.0.pass_until(at(cycle));
    }

    fn write(&mut self, port: u64, value: u8) {
        self.0.write(0, port, 1, value.into()).unwrap();
    }

    fn read(&mut self, port: u64) -> u8 {
        self.0.read(0, port, 1).unwrap() as u8
    }

    /// Programs a counter: its control word, and both bytes of a count.
    fn program(&mut self, counter: u8, control: u8, count: u16) {
        self.write(3, counter << 6 | control);
        count.to_le_bytes().into_iter().for_each(|byte| self.write(counter.into(), byte));
    }

    fn count(&mut self, counter: u8) -> u16 {
        u16::from_le_bytes([self.read(counter.into()), self.read(counter.into())])
    }

    fn status(&mut self, counter: u8) -> u8 {
        self.write(3, 0xe0 | 2 << counter);
        self.read(counter.into())
    }

    fn line(&self) -> bool {
        self.0.outputs().levels & 1 != 0
    }

    fn board(&mut self) -> u8 {
        self.0.read(1, 0, 1).unwrap() as u8
    }

    fn set_board(&mut self, value: u8) {
        self.0.write(1, 0, 1, value.into()).unwrap();
    }

    /// Cycles at which the line changes, up to this one.
    fn changes(&mut self, until: u64) -> Vec<u64> {
        let mut changes = Vec::new();
        let mut before = self.line();
        while let Some(due) = self.0.outputs().deadline.filter(|due| *due <= at(until)) {
            self.0.pass_until(due);
            if self.line() != before {
                before = self.line();
                changes.push((u128::from(due) * CYCLES / SECOND_NS) as u64);
            }
        }
        changes
    }
}

#[test]
fn the_control_word_is_not_read_and_no_register_is_wider_than_a_byte() {
    let mut timer = Timer::new();
    assert_eq!(timer.0.read(0, 3, 1), Err(NoRegister));
    assert_eq!(timer.0.read(0, 0, 2), Err(NoRegister));
    assert_eq!(timer.0.write(0, 0, 4, 1), Err(NoRegister));
}

#[test]
fn nothing_counts_before_there_is_a_count() {
    let mut timer = Timer::new();
    assert_eq!(timer.0.outputs().deadline, None);
    timer.write(3, 0x34);
    timer.write(0, 5);
    assert_eq!(timer.0.outputs().deadline, None, "its other byte is missing");
    assert_eq!(timer.status(0) & 0x40, 0x40, "null count");
    timer.write(0, 0);
    assert!(timer.0.outputs().deadline.is_some());
    assert_eq!(timer.status(0), 0xb4);
}

#[test]
fn state_that_no_access_leaves_is_refused() {
    let mut device = I8254;
    let state = device.power_on();
    assert!(device.check(&state));
    assert!(!device.check(&State { latched: GATE, ..state }), "the gate is not that of the port");
    assert!(!device.check(&State { low_until: 2, ..state }));
}

/// Mode 0: N + 1 cycles after the count is written the output rises, and the count goes on below zero.
#[test]
fn interrupt_on_terminal_count() {
    let mut timer = Timer::new();
    timer.write(3, 0x34);
    assert!(timer.line());
    timer.program(0, 0x30, 5);
    assert!(!timer.line());
    assert_eq!(timer.changes(100), [6]);
    timer.pass(8);
    assert_eq!(timer.count(0), 0xfffe);
    // The first byte of another count stops it, and its output is low.
    timer.write(0, 9);
    assert!(!timer.line());
    timer.pass(50);
    assert_eq!(timer.0.outputs().deadline, None);
    timer.write(0, 0);
    assert_eq!(timer.changes(100), [60]);
}

/// Mode 2: low in the last cycle of each period; another count is that of the next period.
#[test]
fn rate_generator() {
    let mut timer = Timer::new();
    timer.program(0, 0x34, 10);
    assert_eq!(timer.changes(31), [10, 11, 20, 21, 30, 31]);
    timer.pass(34);
    assert_eq!(timer.count(0), 7);
    timer.write(0, 4);
    timer.write(0, 0);
    assert_eq!(timer.status(0) & 0x40, 0x40, "it waits");
    assert_eq!(timer.changes(49), [40, 41, 44, 45, 48, 49]);
    assert_eq!(timer.status(0) & 0x40, 0);
}

/// Mode 3: high for the first half of each period, by one cycle more if it is odd; two at a time are counted.
#[test]
fn square_wave() {
    let mut timer = Timer::new();
    timer.program(0, 0x36, 4);
    assert_eq!(timer.changes(9), [3, 5, 7, 9]);
    timer.pass(10);
    assert_eq!(timer.count(0), 2);
    timer.program(0, 0x36, 5);
    let counts: Vec<u16> = (11..16)
        .map(|cycle| {
            timer.pass(cycle);
            timer.count(0)
        })
        .collect();
    assert_eq!(counts, [4, 2, 0, 4, 2]);
    let mut timer = Timer::new();
    timer.program(0, 0x36, 5);
    assert_eq!(timer.changes(11), [4, 6, 9, 11]);
    // A count that comes in the first half is that of the second one.
    timer.pass(12);
    timer.write(0, 8);
    timer.write(0, 0);
    assert_eq!(timer.changes(26), [14, 18, 22, 26]);
}

/// Modes 1 and 5 begin with the gate's rise, and again with the next one.
#[test]
fn one_shot_and_hardware_strobe() {
    let mut timer = Timer::new();
    let out = |timer: &mut Timer| timer.board() & OUTPUT != 0;
    timer.program(2, 0x32, 5);
    timer.pass(20);
    assert!(out(&mut timer), "the gate has not risen");
    assert_eq!(timer.status(2) & 0x40, 0x40);
    timer.set_board(GATE);
    timer.pass(21);
    assert!(!out(&mut timer));
    timer.pass(24);
    timer.set_board(0);
    assert!(!out(&mut timer), "the gate's fall is nothing to it");
    timer.set_board(GATE);
    timer.pass(29);
    assert!(!out(&mut timer), "it began anew");
    timer.pass(30);
    assert!(out(&mut timer));

    timer.program(2, 0x3a, 3);
    timer.set_board(0);
    timer.pass(40);
    timer.set_board(GATE);
    let seen: Vec<bool> = (41..46)
        .map(|cycle| {
            timer.pass(cycle);
            out(&mut timer)
        })
        .collect();
    assert_eq!(seen, [true, true, true, false, true]);
}

/// Mode 4: low for one cycle, once.
#[test]
fn software_strobe() {
    let mut timer = Timer::new();
    timer.program(0, 0x38, 3);
    assert_eq!(timer.changes(100), [4, 5]);
}

#[test]
fn a_gate_that_is_low_stops_it_and_holds_a_period_s_output_high() {
    let mut timer = Timer::new();
    timer.set_board(GATE);
    timer.program(2, 0x30, 100);
    timer.pass(11);
    timer.set_board(0);
    timer.pass(500);
    assert_eq!(timer.count(2), 90);
    timer.set_board(GATE);
    timer.pass(511);
    assert_eq!(timer.count(2), 80);

    timer.program(2, 0x36, 10);
    timer.pass(518);
    assert_eq!(timer.board() & OUTPUT, 0);
    timer.set_board(0);
    assert_eq!(timer.board() & OUTPUT, OUTPUT);
    timer.set_board(GATE);
    timer.pass(521);
    assert_eq!(timer.count(2), 6, "the rise begins a period");
}

#[test]
fn what_is_latched_stays_until_it_is_read() {
    let mut timer = Timer::new();
    timer.program(0, 0x34, 1000);
    timer.pass(101);
    timer.write(3, 0x00);
    timer.pass(201);
    timer.write(3, 0x00);
    assert_eq!((timer.count(0), timer.count(0)), (900, 800));
    // Status and count of two counters at once; the status is read first.
    timer.write(3, 0x54);
    timer.write(1, 0x50);
    timer.write(3, 0xc6);
    timer.pass(301);
    assert_eq!(timer.read(0), 0xb4);
    assert_eq!(timer.count(0), 800);
    assert_eq!((timer.read(1), timer.read(1)), (0x94, 0x50));
    assert_eq!(timer.read(1), 0x3d, "63 cycles after the next began, 0x50 less them");
}

#[test]
fn one_byte_of_a_count_is_enough_where_the_control_word_says_so() {
    let mut timer = Timer::new();
    timer.write(3, 0x10);
    timer.write(0, 7);
    assert_eq!(timer.changes(100), [8]);
    timer.write(3, 0x20);
    timer.write(0, 2);
    timer.pass(100);
    assert_eq!(timer.read(0), 0x01);
}

#[test]
fn decimal_counts_have_decimal_digits() {
    let mut timer = Timer::new();
    timer.program(0, 0x35, 0x0100);
    timer.pass(2);
    assert_eq!(timer.count(0), 0x0099);
    timer.program(0, 0x31, 0);
    timer.pass(4);
    assert_eq!(timer.count(0), 0x9999, "zero is the most");
}

#[test]
fn a_look_that_comes_late_still_gives_an_edge() {
    let mut timer = Timer::new();
    timer.program(0, 0x34, 10);
    timer.0.now = at(25);
    timer.0.pass_until(at(25));
    assert!(!timer.line(), "it fell and rose meanwhile");
    timer.pass(26);
    assert!(timer.line());
}

#[test]
fn four_bits_of_the_board_s_port_are_kept_and_the_others_are_the_board_s() {
    let mut timer = Timer::new();
    timer.set_board(0xff);
    assert_eq!(timer.board(), 0x0f);
    timer.set_board(0x02);
    assert_eq!(timer.board(), 0x02);
    let seen = [0, 1, 2, 3].map(|count| {
        timer.0.now = count * REFRESH_NS;
        timer.board() & REFRESH
    });
    assert_eq!(seen, [0, REFRESH, 0, REFRESH]);
}
