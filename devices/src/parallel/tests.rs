use super::*;
use crate::conformance::{Bench, Random, World, conforms};
use device::TestStream;

struct Cable(TestStream);

impl World for Cable {
    const NAME: &'static str = NAME;

    fn new() -> Cable {
        Cable(TestStream::default())
    }

    fn powers(&self) -> Powers {
        Powers { streams: vec![(0, Box::new(self.0.clone()))], ..Powers::default() }
    }

    fn stir(&mut self, random: &mut Random) {
        self.0.set_full(random.one_in(2));
    }

    fn seen(&self) -> Vec<u8> {
        self.0.output()
    }
}

conforms!(Cable);

const IDLE: u8 = STATUS_RESERVED
    | STATUS_NOT_INTERRUPT
    | STATUS_NOT_ERROR
    | STATUS_SELECTED
    | STATUS_NOT_ACKNOWLEDGE
    | STATUS_NOT_BUSY;

impl Bench<Cable> {
    fn get(&mut self, offset: u64) -> u8 {
        self.read(0, offset, 1).unwrap() as u8
    }

    fn put(&mut self, offset: u64, value: u8) {
        self.write(0, offset, 1, value.into()).unwrap();
    }

    /// As drivers print: data, strobe, no strobe.
    fn print(&mut self, byte: u8) {
        self.put(DATA, byte);
        self.put(CONTROL, CONTROL_NOT_RESET | CONTROL_STROBE | CONTROL_INTERRUPT);
        self.put(CONTROL, CONTROL_NOT_RESET | CONTROL_INTERRUPT);
    }
}

#[test]
fn bytes_printed_come_out_in_order_each_with_its_interrupt() {
    let mut bench = Bench::<Cable>::new();
    for byte in b"hello" {
        bench.print(*byte);
        assert_eq!(bench.outputs().levels, 1);
        assert_eq!(bench.get(STATUS), IDLE & !STATUS_NOT_INTERRUPT);
        assert_eq!((bench.outputs().levels, bench.get(STATUS)), (0, IDLE));
    }
    assert_eq!(bench.world.0.output(), b"hello");
}

#[test]
fn an_interrupt_that_is_not_enabled_is_only_seen() {
    let mut bench = Bench::<Cable>::new();
    bench.put(CONTROL, CONTROL_NOT_RESET | CONTROL_STROBE);
    assert_eq!(bench.outputs().levels, 0);
    bench.put(CONTROL, CONTROL_NOT_RESET | CONTROL_STROBE | CONTROL_INTERRUPT);
    assert_eq!(bench.outputs().levels, 1);
    assert_eq!(bench.world.0.output(), [0], "a strobe that stays is one byte");
}

#[test]
fn a_full_ring_is_seen_as_a_busy_printer() {
    let mut bench = Bench::<Cable>::new();
    bench.world.0.set_full(true);
    bench.print(b'x');
    assert_eq!(bench.get(STATUS), IDLE & !STATUS_NOT_BUSY);
    bench.print(b'y');
    bench.world.0.set_full(false);
    bench.scan();
    assert_eq!(bench.outputs().levels, 1);
    assert_eq!(bench.get(STATUS), IDLE & !STATUS_NOT_INTERRUPT);
    assert_eq!(bench.world.0.output(), b"x", "a byte strobed at a busy printer is lost");
}

#[test]
fn a_printer_that_is_reset_forgets_its_byte() {
    let mut bench = Bench::<Cable>::new();
    bench.world.0.set_full(true);
    bench.print(b'x');
    bench.put(CONTROL, CONTROL_STROBE);
    assert_eq!(bench.get(STATUS), IDLE);
    bench.world.0.set_full(false);
    bench.scan();
    bench.put(CONTROL, 0);
    bench.put(CONTROL, CONTROL_STROBE);
    assert_eq!(bench.world.0.output(), b"", "held in reset, it takes none");
}

#[test]
fn data_is_read_back_unless_the_pins_are_inputs() {
    let mut bench = Bench::<Cable>::new();
    bench.put(DATA, 0x5a);
    assert_eq!(bench.get(DATA), 0x5a);
    bench.put(CONTROL, CONTROL_NOT_RESET | CONTROL_INPUT);
    assert_eq!(bench.get(DATA), 0xff);
}

#[test]
fn the_status_register_cannot_be_written_and_the_control_register_has_six_bits() {
    let mut bench = Bench::<Cable>::new();
    bench.put(STATUS, 0);
    assert_eq!(bench.get(STATUS), IDLE);
    assert_eq!(bench.get(CONTROL), CONTROL_RESERVED | CONTROL_NOT_RESET);
    bench.put(CONTROL, 0x3e);
    assert_eq!(bench.get(CONTROL), 0xfe);
}

#[test]
fn wider_accesses_meet_no_register() {
    let mut bench = Bench::<Cable>::new();
    assert_eq!(bench.read(0, 0, 2), Err(NoRegister));
    assert_eq!(bench.write(0, 1, 2, 0x0d41), Err(NoRegister));
}

#[test]
fn a_reset_keeps_the_place_in_the_stream() {
    let mut bench = Bench::<Cable>::new();
    bench.print(b'x');
    bench.reset();
    bench.print(b'y');
    assert_eq!(bench.world.0.output(), b"xy");
}

#[test]
fn the_usual_ports_have_their_names() {
    for (port, name) in [("0x378", "LPT1"), ("0x278", "LPT2"), ("0x3bc", "LPT3")] {
        let acpi = Parallel::manifest(&Options::new([("port", port)])).unwrap().acpi.unwrap();
        assert_eq!((acpi.name.as_str(), acpi.hid.as_str()), (name, "PNP0400"));
    }
    assert_eq!(Parallel::manifest(&Options::new([("port", "0x1000")])).unwrap().acpi, None);
    assert!(Parallel::manifest(&Options::new([("port", "0xfffe")])).is_err());
}
