//! Commands without data.

use super::*;

#[test]
fn what_is_no_command_is_invalid_at_its_first_byte() {
    let mut bench = Bench::pc();
    // PART ID is one of a later chip; MT, MFM and SK have no meaning in SPECIFY.
    for first in [0x00, 0x01, 0x0b, 0x15, 0x17, 0x18, 0x1a, 0x1c, 0x1e, 0x1f, 0x33, 0x34, 0x43, 0x4f, 0x2f, 0x88, 0xff]
    {
        assert_eq!(bench.ask(&[first]), [0x80], "{first:#x}");
        assert!(!bench.int());
    }
}

#[test]
fn it_is_an_enhanced_controller() {
    assert_eq!(Bench::pc().ask(&[0x10]), [0x90]);
}

#[test]
fn registers_are_dumped_as_they_were_set() {
    let mut bench = Bench::pc();
    assert_eq!(bench.ask(&[0x0e]), [0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0], "the FIFO is off after reset");
    bench.send(&[0x03, 0xaf, 0x02]);
    bench.send(&[0x13, 0, 0x57, 0x09]);
    bench.send(&[0x12, 0x80 | 0b0001_0111]);
    bench.seek(7);
    assert_eq!(bench.ask(&[0x94]), [0x10]);
    assert_eq!(bench.ask(&[0x0e]), [7, 0, 0, 0, 0xaf, 0x02, 0, 0x97, 0x57, 0x09]);
    bench.send(&[0x12, 0b0010_1000]);
    assert_eq!(bench.ask(&[0x0e])[7], 0x94, "without OW only the low bits change");
}

#[test]
fn a_reset_keeps_of_the_configuration_what_is_locked() {
    let mut bench = Bench::pc();
    bench.send(&[0x13, 0, 0x57, 0x09]);
    bench.ask(&[0x94]);
    bench.outb(0x3f4, 0x80);
    assert_eq!(bench.ask(&[0x0e])[7..], [0x80, 0x07, 0x09], "not the implied seek, nor that there is no polling");
    assert_eq!(bench.ask(&[0x14]), [0x00]);
    bench.outb(0x3f4, 0x80);
    assert_eq!(bench.ask(&[0x0e])[7..], [0x00, 0x20, 0x00]);
}

#[test]
fn drives_show_their_state() {
    let mut bench = Bench::pc();
    assert_eq!(bench.ask(&[0x04, 0x00]), [0x38], "over track 0");
    bench.seek(3);
    assert_eq!(bench.ask(&[0x04, 0x04]), [0x2c], "head 1 and not over it");
    assert_eq!(bench.ask(&[0x04, 0x01]), [0x79], "without a diskette nothing stops the light");
    assert_eq!(bench.ask(&[0x04, 0x02]), [0x2a], "no such drive");
    let mut protected = Pc::new();
    protected.setting = "readonly";
    assert_eq!(Bench::started(protected).ask(&[0x04, 0x00]), [0x78]);
    let mut image = Image::new(1440 << 10);
    image.readonly = true;
    assert_eq!(Bench::started(Pc::with(Some(image))).ask(&[0x04, 0x00]), [0x78], "nor can its file be written");
}

#[test]
fn a_seek_ends_with_an_interrupt_that_sensing_ends() {
    let mut bench = Bench::pc();
    bench.send(&[0x0f, 0]);
    assert!(!bench.int());
    bench.send(&[10]);
    assert!(bench.int());
    bench.send(&[0x08]);
    assert!(!bench.int());
    assert_eq!(bench.result(), [0x20, 10]);
    assert_eq!(bench.ask(&[0x08]), [0x80]);
}

#[test]
fn seeks_of_two_drives_are_two_interrupts() {
    let mut bench = Bench::pc();
    bench.send(&[0x0f, 0, 4]);
    bench.send(&[0x0f, 1, 9]);
    assert_eq!(bench.ask(&[0x08]), [0x20, 4]);
    assert!(bench.int(), "the other is told when the first has been taken");
    assert_eq!(bench.ask(&[0x08]), [0x21, 9]);
    assert!(!bench.int());
}

#[test]
fn a_relative_seek_counts_from_where_the_arm_is() {
    let mut bench = Bench::pc();
    bench.send(&[0xcf, 0, 20]);
    assert_eq!(bench.ask(&[0x08]), [0x20, 20]);
    bench.send(&[0x8f, 0, 5]);
    assert_eq!(bench.ask(&[0x08]), [0x20, 15]);
    assert_eq!(bench.ask(&[0x4a, 0])[3], 15);
}

#[test]
fn recalibration_finds_track_0() {
    let mut bench = Bench::pc();
    bench.seek(42);
    bench.send(&[0x07, 0]);
    assert!(bench.int());
    assert_eq!(bench.ask(&[0x08]), [0x20, 0]);
    assert_eq!(bench.ask(&[0x04, 0])[0] & 0x10, 0x10);
}

#[test]
fn recalibration_gives_up_after_79_pulses() {
    let mut bench = Bench::pc();
    bench.seek(82);
    bench.send(&[0x07, 0]);
    assert_eq!(bench.ask(&[0x08]), [0x70, 0]);
    bench.send(&[0x07, 0]);
    assert_eq!(bench.ask(&[0x08]), [0x20, 0], "a second one gets there");
    bench.send(&[0x07, 2]);
    assert_eq!(bench.ask(&[0x08]), [0x72, 0], "a drive that is not there has no track 0");
}

#[test]
fn id_fields_pass_one_after_the_other() {
    let mut bench = Bench::pc();
    bench.seek(5);
    for number in (1..=18).chain(1..=2) {
        bench.send(&[0x4a, 4]);
        assert_eq!(bench.await_result(), [0x04, 0, 0, 5, 1, number, 2]);
    }
}

#[test]
fn without_a_readable_track_there_is_no_id_field() {
    const NO_MARK: [u8; 3] = [0x40, 0x01, 0x00];
    let mut bench = Bench::pc();
    assert_eq!(bench.ask(&[0x0a, 0])[..3], NO_MARK, "single density");
    bench.seek(81);
    assert_eq!(bench.ask(&[0x4a, 0])[..3], NO_MARK, "behind the last track");
    bench.seek(0);
    bench.outb(0x3f2, 0x0c);
    assert_eq!(bench.ask(&[0x4a, 0])[..3], NO_MARK, "the motor is off");
    bench.outb(0x3f2, 0x2c);
    assert_eq!(bench.ask(&[0x4a, 1])[..3], [0x41, 0x01, 0x00], "no diskette");
    assert_eq!(bench.ask(&[0x4a, 3])[..3], [0x43, 0x01, 0x00], "no drive");
}

#[test]
fn a_track_is_read_at_the_rate_of_its_diskette_alone() {
    let rates = [(360, [false, true, true, false]), (720, [false, true, true, false])];
    let more = [(1200, [true, false, false, false]), (1440, [true, false, false, false])];
    for (kib, readable) in rates.into_iter().chain(more).chain([(2880, [false, false, false, true])]) {
        let mut bench = Bench::started(Pc::with(Some(Image::new(kib << 10))));
        for (rate, readable) in (0..).zip(readable) {
            bench.outb(0x3f7, rate);
            assert_eq!(bench.ask(&[0x4a, 0])[1] == 0, readable, "{kib} KiB at rate {rate}");
            bench.outb(0x3f7, rate ^ 1);
            bench.outb(0x3f4, rate);
            assert_eq!(bench.ask(&[0x4a, 0])[1] == 0, readable, "{kib} KiB at rate {rate} of the other register");
        }
    }
}
