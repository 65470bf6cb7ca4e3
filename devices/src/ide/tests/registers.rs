//! The command and control blocks: who answers, resets, interrupts.

use super::*;

#[test]
fn a_register_has_one_width_and_no_other() {
    let mut pc = Pc::new();
    for (range, offset, width) in [(0, 0, 1), (0, 1, 2), (0, 6, 2), (0, 7, 1 << 1), (1, 0, 2)] {
        assert_eq!(pc.bench.read(range, offset, width), Err(NoRegister), "{width} bytes at {offset} of range {range}");
        assert_eq!(pc.bench.write(range, offset, width, 0), Err(NoRegister));
    }
}

#[test]
fn a_channel_without_drives_floats() {
    struct Nothing(Media);
    impl World for Nothing {
        const NAME: &'static str = super::super::NAME;
        fn new() -> Nothing {
            Nothing(Media::new())
        }
        fn powers(&self) -> Powers {
            Powers { stores: Vec::new(), ..self.0.powers() }
        }
    }
    let mut bench = Bench::<Nothing>::new();
    for register in 1..8 {
        bench.write(0, register, 1, 0x55).unwrap();
        assert_eq!(bench.read(0, register, 1), Ok(0x7f), "register {register}");
    }
    assert_eq!(bench.read(1, 0, 1), Ok(0x7f));
    assert_eq!(bench.read(0, 0, 2), Ok(0xff7f));
    assert_eq!(bench.outputs().levels, 0);
}

/// One device on the first cable: a disk, or a drive for CDs without one.
struct Alone<const DISK: bool>(Media);

impl<const DISK: bool> World for Alone<DISK> {
    const NAME: &'static str = super::super::NAME;
    fn new() -> Self {
        Alone(Media::new())
    }
    fn options(&self) -> Options {
        Options::new([("primary", if DISK { "disk" } else { "empty" })])
    }
    fn powers(&self) -> Powers {
        let mut powers = self.0.powers();
        powers.stores.truncate(DISK.into());
        powers
    }
}

#[test]
fn device_0_answers_for_an_absent_device_1_and_says_that_it_is_not_there() {
    let mut bench = Bench::<Alone<true>>::new();
    bench.write(0, 6, 1, 0xb0).unwrap();
    bench.write(0, 3, 1, 0xaa).unwrap();
    assert_eq!(bench.read(0, STATUS, 1), Ok(0));
    assert_eq!(bench.read(0, 3, 1), Ok(0xaa));
    bench.write(0, STATUS, 1, 0xec).unwrap();
    assert_eq!((bench.read(0, STATUS, 1), bench.outputs().levels), (Ok(0), 0), "it takes no command");
    bench.write(0, STATUS, 1, 0x90).unwrap();
    assert_eq!((bench.read(0, STATUS, 1), bench.read(0, 1, 1)), (Ok(0x50), Ok(1)), "but device 0 diagnoses itself");
}

#[test]
fn a_packet_device_says_nothing_for_an_absent_device_1() {
    let mut bench = Bench::<Alone<false>>::new();
    bench.write(0, 6, 1, 0xb0).unwrap();
    bench.write(0, 3, 1, 0xaa).unwrap();
    for register in 1..8 {
        assert_eq!(bench.read(0, register, 1), Ok(0), "register {register}");
    }
    bench.write(0, 6, 1, 0xa0).unwrap();
    assert_eq!((bench.read(0, 3, 1), bench.read(0, 6, 1)), (Ok(0xaa), Ok(0xa0)), "device 0 took what was written");
}

#[test]
fn power_on_and_both_resets_show_what_a_drive_is() {
    let mut pc = Pc::new();
    let look = |pc: &mut Pc, device: u64| {
        pc.select(device);
        [1, 2, 3, 4, 5, 7].map(|register| pc.get(register))
    };
    let (disk, cd) = ([1, 1, 1, 0, 0, 0x50], [1, 1, 1, 0x14, 0xeb, 0]);
    assert_eq!((look(&mut pc, 0), look(&mut pc, 0x10)), (disk, cd));
    for reset in [
        |pc: &mut Pc| {
            pc.control(4);
            pc.control(0)
        },
        |pc: &mut Pc| pc.command(0x90),
    ] {
        for device in [0, 0x10] {
            pc.select(device);
            pc.command(0xe5);
            pc.put(4, 0x33);
        }
        reset(&mut pc);
        assert_eq!(pc.get(6), 0xa0, "device 0 is selected");
        assert_eq!((look(&mut pc, 0), look(&mut pc, 0x10)), (disk, cd));
    }
}

#[test]
fn a_reset_takes_until_it_is_ended_and_ends_what_was_under_way() {
    let mut pc = Pc::new();
    pc.address(0, 0, 8);
    pc.command(0x20);
    pc.control(4);
    assert_eq!((pc.alternate(), pc.get(STATUS), pc.line()), (0x80, 0x80, false));
    pc.command(0xec);
    pc.put(3, 9);
    assert_eq!(pc.load(2), [0, 0]);
    pc.control(0);
    assert_eq!((pc.get(STATUS), pc.get(3), pc.line()), (0x50, 1, false));
}

#[test]
fn the_alternate_status_leaves_the_interrupt_and_the_status_takes_it() {
    let mut pc = Pc::new();
    pc.command(0x10);
    assert_eq!((pc.alternate(), pc.line()), (0x50, true));
    assert_eq!((pc.get(STATUS), pc.line()), (0x50, false));
}

#[test]
fn an_interrupt_that_is_not_wanted_waits() {
    let mut pc = Pc::new();
    pc.control(2);
    pc.command(0x10);
    assert!(!pc.line());
    pc.control(0);
    assert!(pc.line());
    pc.select(0x10);
    assert!(!pc.line(), "the other drive has none");
    pc.select(0);
    pc.command(0x10);
    assert_eq!(pc.interrupt(), 0x50);
}

#[test]
fn a_register_has_a_byte_behind_it_until_the_next_store() {
    let mut pc = Pc::new();
    for value in [0x11, 0x22, 0x33] {
        pc.put(3, value);
    }
    pc.control(0x80);
    assert_eq!(pc.get(3), 0x22);
    pc.put(4, 0);
    assert_eq!(pc.get(3), 0x33);
}

#[test]
fn a_drive_that_moves_data_takes_neither_registers_nor_commands() {
    let mut pc = Pc::new();
    pc.address(0, 3, 1);
    pc.command(0x20);
    pc.put(3, 0x77);
    pc.select(0xf0);
    pc.command(0xec);
    assert_eq!((pc.get(3), pc.get(6)), (3, 0xe0));
    assert_eq!(pc.load(512), pc.bench.world.disk.contents()[3 * 512..4 * 512]);
}
