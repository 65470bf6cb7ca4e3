//! The controller's registers and its phases.

use super::super::fifo::FIFO_BYTES;
use super::*;

#[test]
fn after_power_on_it_is_as_firmware_leaves_it() {
    let mut bench = Bench::with(Pc::new());
    assert_eq!(bench.msr(), 0x80);
    assert_eq!(bench.inb(0x3f2), 0x0c);
    assert_eq!(bench.inb(0x3f3), 0x00);
    assert!(!bench.int());
    assert_eq!(bench.ask(&[0x08]), [0x80], "and nothing happened that it would tell");
}

#[test]
fn ports_that_this_mode_does_not_drive_and_wide_accesses_find_no_register() {
    let mut bench = Bench::pc();
    assert_eq!(bench.read(REGISTERS, 0, 1), Err(NoRegister));
    assert_eq!(bench.read(REGISTERS, 1, 1), Err(NoRegister));
    assert_eq!(bench.write(REGISTERS, 0, 1, 0), Err(NoRegister));
    assert_eq!(bench.read(REGISTERS, STATUS, 2), Err(NoRegister));
    assert_eq!(bench.write(REGISTERS, OUTPUT, 4, 0x1c), Err(NoRegister));
}

#[test]
fn no_command_of_any_length_writes_behind_the_fifo() {
    for first in 0..=255_u8 {
        let mut bench = Bench::pc();
        // More than a sector of bytes, whatever the controller says.
        for byte in 0..600_u32 {
            bench.outb(0x3f5, if byte == 0 { first } else { byte as u8 });
        }
        // And as many are taken that are not there.
        for _ in 0..600 {
            bench.inb(0x3f5);
        }
        bench.outb(0x3f2, 0x18);
        bench.outb(0x3f2, 0x1c);
        assert_eq!(bench.msr(), 0x80, "{first:#x}");
        assert_eq!(bench.ask(&[0x10]), [0x90], "{first:#x}");
    }
}

#[test]
fn a_result_that_is_not_taken_is_kept_and_the_next_command_is_not_heard() {
    let mut bench = Bench::pc();
    bench.send(&[0x10]);
    bench.send(&[0x0e; 2 * FIFO_BYTES]);
    assert_eq!(bench.result(), [0x90]);
    assert_eq!(bench.msr(), 0x80);
}

#[test]
fn the_main_status_follows_the_phases() {
    let mut bench = Bench::pc();
    assert_eq!(bench.msr(), 0x80);
    bench.send(&[0x0f]);
    assert_eq!(bench.msr(), 0x90, "busy, and the next byte is awaited");
    bench.send(&[0, 3]);
    assert_eq!(bench.msr(), 0x80, "a seek has no result phase");
    bench.send(&[0x08]);
    assert_eq!(bench.msr(), 0xd0);
    bench.result();
    bench.dma(TO_MEMORY, 0x1000, 512);
    bench.send(&[0x46, 0, 3, 0, 1, 2, 1, 0x1b, 0xff]);
    assert_eq!(bench.outputs().deadline, Some(bench.now + STEP_NS), "it goes on by itself");
    assert_eq!(bench.msr(), 0xd0, "or when it is looked at");
}

#[test]
fn a_reset_is_told_once_and_sensed_for_each_drive() {
    for by_rate_select in [false, true] {
        let mut bench = Bench::pc();
        if by_rate_select {
            bench.outb(0x3f4, 0x80);
        } else {
            bench.outb(0x3f2, 0x18);
            assert_eq!((bench.msr(), bench.int()), (0, false), "held in reset it says nothing");
            bench.outb(0x3f2, 0x1c);
        }
        assert!(bench.int());
        for drive in 0..4 {
            assert_eq!(bench.ask(&[0x08]), [0xc0 | drive, 0]);
            assert!(!bench.int());
        }
        assert_eq!(bench.ask(&[0x08]), [0x80]);
    }
}

#[test]
fn in_reset_no_command_is_heard() {
    let mut bench = Bench::pc();
    bench.outb(0x3f2, 0x18);
    bench.send(&[0x10]);
    assert_eq!(bench.inb(0x3f5), 0);
    bench.outb(0x3f2, 0x1c);
    assert_eq!(bench.msr(), 0x80);
}

#[test]
fn a_reset_ends_a_command_at_each_of_its_bytes() {
    let read = [0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff];
    for sent in 0..=read.len() {
        let mut bench = Bench::pc();
        bench.dma(TO_MEMORY, 0x1000, 512);
        bench.send(&read[..sent]);
        bench.outb(0x3f4, 0x80);
        assert_eq!(bench.msr(), 0x80);
        assert_eq!(bench.outputs().deadline, None);
        assert_eq!(bench.ask(&[0x08]), [0xc0, 0]);
    }
}

#[test]
fn without_its_gate_no_interrupt_reaches_the_machine() {
    let mut bench = Bench::pc();
    bench.outb(0x3f2, 0x14);
    bench.send(&[0x0f, 0, 5]);
    assert!(!bench.int());
    bench.outb(0x3f2, 0x1c);
    assert!(bench.int());
}

#[test]
fn the_change_line_is_up_until_the_arm_steps() {
    let mut bench = Bench::pc();
    assert_eq!(bench.inb(0x3f7), 0x80);
    bench.seek(0);
    assert_eq!(bench.inb(0x3f7), 0x80, "no step, no change");
    bench.seek(1);
    assert_eq!(bench.inb(0x3f7), 0x00);
    bench.outb(0x3f2, 0x2d);
    assert_eq!(bench.inb(0x3f7), 0x80, "drive B has no diskette");
    bench.send(&[0x0f, 1, 1]);
    assert_eq!(bench.inb(0x3f7), 0x80, "and so it stays");
}

#[test]
fn the_tape_register_keeps_its_select() {
    let mut bench = Bench::pc();
    bench.outb(0x3f3, 0xff);
    assert_eq!(bench.inb(0x3f3), 0x03);
}
