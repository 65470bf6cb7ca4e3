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
        match random.below(4) {
            0 => self.0.set_full(true),
            1 => self.0.set_full(false),
            _ => self.0.input(&random.next().to_le_bytes()[..random.below(8) as usize]),
        }
    }

    fn seen(&self) -> Vec<u8> {
        self.0.output()
    }
}

conforms!(Cable);

impl Bench<Cable> {
    fn get(&mut self, offset: u64) -> u8 {
        self.read(0, offset, 1).unwrap() as u8
    }

    fn put(&mut self, offset: u64, value: u8) {
        self.write(0, offset, 1, value.into()).unwrap();
    }

    fn type_in(&mut self, bytes: &[u8]) {
        self.world.0.input(bytes);
        self.scan();
    }

    fn level(&self) -> bool {
        self.outputs().levels == 1
    }

    /// FIFOs on, OUT2 on.
    fn ready() -> Bench<Cable> {
        let mut bench = Bench::new();
        bench.put(IIR_FCR, FCR_ENABLE);
        bench.put(MCR, MCR_OUT2);
        bench
    }
}

#[test]
fn bytes_written_come_out_in_order() {
    let mut bench = Bench::ready();
    for byte in b"hello" {
        bench.put(DATA, *byte);
        assert_eq!(bench.get(LSR), LSR_TRANSMITTER_EMPTY);
    }
    assert_eq!(bench.world.0.output(), b"hello");
}

#[test]
fn a_full_ring_is_seen_as_a_transmitter_that_is_not_empty() {
    let mut bench = Bench::ready();
    bench.world.0.set_full(true);
    for byte in b"0123456789abcdef" {
        bench.put(DATA, *byte);
        assert_eq!(bench.get(LSR), 0);
    }
    let outputs = bench.outputs();
    assert_eq!((outputs.postable, outputs.shadow[0]), (0, None));
    bench.world.0.set_full(false);
    bench.scan();
    assert_eq!(bench.world.0.output(), b"0123456789abcdef");
    assert_eq!(bench.outputs().shadow[0], Some(LSR_TRANSMITTER_EMPTY.into()));
    assert_eq!(bench.outputs().postable, 1);
}

#[test]
fn a_ring_that_is_nearly_full_ends_the_shortcuts_before_they_are_untrue() {
    let mut bench = Bench::ready();
    bench.world.0.set_full(true);
    bench.scan();
    let outputs = bench.outputs();
    assert_eq!((outputs.postable, outputs.shadow[0]), (0, None), "nothing waits, yet the next byte will");
}

#[test]
fn a_seventeenth_byte_is_lost_when_nobody_waited_for_room() {
    let mut bench = Bench::ready();
    bench.world.0.set_full(true);
    for byte in b"0123456789abcdefX" {
        bench.put(DATA, *byte);
    }
    bench.world.0.set_full(false);
    bench.scan();
    assert_eq!(bench.world.0.output(), b"0123456789abcdef");
}

#[test]
fn the_transmitters_interrupt_comes_when_the_ring_has_room_again() {
    let mut bench = Bench::ready();
    bench.put(IER, IER_TRANSMITTER);
    assert_eq!(bench.get(IIR_FCR), IIR_FIFO | 0x02, "enabling it while empty requests it");
    assert!(!bench.level());
    bench.world.0.set_full(true);
    bench.put(DATA, b'x');
    assert!(!bench.level());
    bench.world.0.set_full(false);
    bench.scan();
    assert!(bench.level());
    assert_eq!(bench.get(IIR_FCR), IIR_FIFO | 0x02);
    assert_eq!(bench.get(IIR_FCR), IIR_FIFO | IIR_NONE);
}

#[test]
fn data_may_be_posted_only_while_it_cannot_move_the_interrupt_line() {
    let mut bench = Bench::ready();
    assert_eq!(bench.outputs().postable, 1);
    bench.put(IER, IER_TRANSMITTER);
    assert_eq!(bench.outputs().postable, 1, "pending already: it stays pending");
    bench.get(IIR_FCR);
    assert_eq!(bench.outputs().postable, 0, "the next byte would raise the line");
    bench.put(IER, 0);
    assert_eq!(bench.outputs().postable, 1);
    bench.put(LCR, LCR_DIVISOR);
    assert_eq!(bench.outputs().postable, 0, "the divisor is no data");
    bench.put(LCR, 3);
    bench.put(MCR, MCR_LOOP);
    assert_eq!(bench.outputs().postable, 0, "a looped byte is received");
}

#[test]
fn received_bytes_are_read_in_order() {
    let mut bench = Bench::ready();
    bench.type_in(b"ab");
    assert_eq!(bench.get(LSR) & LSR_RECEIVED, LSR_RECEIVED);
    assert_eq!((bench.get(DATA), bench.get(DATA)), (b'a', b'b'));
    assert_eq!(bench.get(LSR) & LSR_RECEIVED, 0);
    assert_eq!(bench.get(DATA), 0);
}

#[test]
fn more_than_a_fifo_of_bytes_waits_outside_and_is_not_lost() {
    let mut bench = Bench::ready();
    let typed: Vec<u8> = (0..100).collect();
    bench.type_in(&typed);
    let read: Vec<u8> = (0..100).map(|_| bench.get(DATA)).collect();
    assert_eq!(read, typed);
    assert_eq!(bench.get(LSR) & LSR_OVERRUN, 0);
}

#[test]
fn without_fifos_one_byte_is_held() {
    let mut bench = Bench::<Cable>::new();
    bench.put(MCR, MCR_OUT2);
    bench.put(IER, IER_RECEIVED);
    bench.type_in(b"xy");
    assert_eq!(bench.get(IIR_FCR), 0x04);
    assert_eq!((bench.get(DATA), bench.get(DATA)), (b'x', b'y'));
    assert_eq!(bench.get(IIR_FCR), IIR_NONE);
}

#[test]
fn the_trigger_level_tells_a_full_batch_from_a_timeout() {
    for (trigger, level) in [(0x00, 1), (0x40, 4), (0x80, 8), (0xc0, 14)] {
        let mut bench = Bench::ready();
        bench.put(IIR_FCR, FCR_ENABLE | trigger);
        bench.put(IER, IER_RECEIVED);
        for _ in 1..level {
            bench.type_in(b"x");
            assert!(bench.level(), "a byte is never left unannounced");
            assert_eq!(bench.get(IIR_FCR), IIR_FIFO | 0x0c, "below {level}");
        }
        bench.type_in(b"x");
        assert_eq!(bench.get(IIR_FCR), IIR_FIFO | 0x04, "at {level}");
    }
}

#[test]
fn without_fifos_an_overrun_loses_the_byte_that_was_there() {
    let mut bench = Bench::<Cable>::new();
    bench.put(MCR, MCR_LOOP);
    bench.put(DATA, 1);
    bench.put(DATA, 2);
    assert_eq!(bench.get(LSR), LSR_RECEIVED | LSR_OVERRUN | LSR_TRANSMITTER_EMPTY);
    assert_eq!((bench.get(DATA), bench.get(LSR)), (2, LSR_TRANSMITTER_EMPTY));
}

#[test]
fn causes_are_told_in_order_of_urgency() {
    let mut bench = Bench::ready();
    bench.put(IER, IER_ALL);
    bench.put(MCR, MCR_OUT2 | MCR_LOOP);
    for byte in 0..17 {
        bench.put(DATA, byte);
    }
    assert_eq!(bench.get(IIR_FCR) & 0xf, 0x06, "overrun");
    assert_eq!(bench.outputs().shadow[0], None, "reading LSR now has a side effect");
    assert_eq!(bench.get(LSR), LSR_RECEIVED | LSR_OVERRUN | LSR_TRANSMITTER_EMPTY);
    assert_eq!(bench.get(LSR), LSR_RECEIVED | LSR_TRANSMITTER_EMPTY);
    assert_eq!(bench.get(IIR_FCR) & 0xf, 0x04, "received");
    for byte in 0..16 {
        assert_eq!(bench.get(DATA), byte);
    }
    assert_eq!(bench.get(IIR_FCR) & 0xf, 0x02, "transmitter empty");
    assert_eq!(bench.get(IIR_FCR) & 0xf, 0x00, "modem");
    assert_eq!(bench.get(MSR) & 0xf, MSR_DELTA_DSR_CTS, "the cable's lines were cut");
    assert_eq!(bench.get(IIR_FCR) & 0xf, 0x01, "nothing");
}

/// In loopback without DTR and RTS, DSR and CTS fall; DCD follows OUT2 and stays.
const MSR_DELTA_DSR_CTS: u8 = (MSR_DSR | MSR_CTS) >> 4;

#[test]
fn loopback_connects_the_modems_outputs_to_its_inputs() {
    let mut bench = Bench::<Cable>::new();
    for (output, input) in [(MCR_DTR, MSR_DSR), (MCR_RTS, MSR_CTS), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD)] {
        bench.put(MCR, MCR_LOOP | output);
        assert_eq!(bench.get(MSR) & 0xf0, input);
    }
    bench.put(MCR, 0);
    assert_eq!(bench.get(MSR) & 0xf0, CABLE);
}

#[test]
fn the_ring_indicators_end_is_told_and_its_beginning_is_not() {
    let mut bench = Bench::<Cable>::new();
    bench.put(MCR, MCR_LOOP);
    bench.get(MSR);
    bench.put(MCR, MCR_LOOP | MCR_OUT1);
    assert_eq!(bench.get(MSR) & 0xf, 0);
    bench.put(MCR, MCR_LOOP);
    assert_eq!(bench.get(MSR) & 0xf, MSR_RI >> 4);
}

#[test]
fn in_loopback_the_cable_is_cut() {
    let mut bench = Bench::ready();
    bench.put(MCR, MCR_LOOP);
    bench.type_in(b"outside");
    bench.put(DATA, b'i');
    assert_eq!(bench.get(DATA), b'i');
    assert_eq!(bench.get(LSR) & LSR_RECEIVED, 0);
    assert_eq!(bench.world.0.output(), b"");
    bench.put(MCR, 0);
    assert_eq!(bench.get(DATA), b'o');
}

#[test]
fn out2_gates_the_interrupt() {
    let mut bench = Bench::ready();
    bench.put(IER, IER_RECEIVED);
    bench.type_in(b"x");
    assert!(bench.level());
    bench.put(MCR, 0);
    assert!(!bench.level());
    assert_eq!(bench.get(IIR_FCR), IIR_FIFO | 0x04, "the chip still requests it");
}

#[test]
fn the_divisor_lies_over_data_and_interrupt_enable() {
    let mut bench = Bench::<Cable>::new();
    bench.put(IER, IER_LINE);
    bench.put(LCR, LCR_DIVISOR | 3);
    bench.put(DATA, 0x0c);
    bench.put(IER, 0x01);
    assert_eq!((bench.get(DATA), bench.get(IER)), (0x0c, 0x01));
    bench.put(LCR, 3);
    assert_eq!(bench.get(IER), IER_LINE);
    assert_eq!(bench.world.0.output(), b"");
}

#[test]
fn registers_keep_only_the_bits_they_have() {
    let mut bench = Bench::<Cable>::new();
    for (offset, kept) in [(IER, 0x0f), (LCR, 0x7f), (MCR, 0x1f), (SCR, 0xff)] {
        bench.put(offset, 0x7f | kept);
        assert_eq!(bench.get(offset), kept, "offset {offset}");
    }
}

#[test]
fn fifos_are_emptied_by_command_and_by_being_switched() {
    for fcr in [FCR_ENABLE | FCR_CLEAR_RECEIVED, 0] {
        let mut bench = Bench::ready();
        bench.type_in(b"abc");
        bench.put(IIR_FCR, fcr);
        assert_eq!(bench.get(LSR) & LSR_RECEIVED, 0, "{fcr:#x}");
    }
    let mut bench = Bench::ready();
    bench.world.0.set_full(true);
    bench.put(DATA, b'x');
    bench.put(IIR_FCR, FCR_ENABLE | FCR_CLEAR_TRANSMITTED);
    assert_eq!(bench.get(LSR), LSR_TRANSMITTER_EMPTY);
}

#[test]
fn wider_accesses_meet_no_register() {
    let mut bench = Bench::<Cable>::new();
    assert_eq!(bench.read(0, 0, 2), Err(NoRegister));
    assert_eq!(bench.write(0, 0, 4, 0x4141_4141), Err(NoRegister));
    assert_eq!(bench.world.0.output(), b"");
}

#[test]
fn state_with_more_in_a_fifo_than_it_holds_is_refused() {
    let mut device = Uart16550::attach(&Options::default(), &mut Cable::new().powers()).unwrap();
    let mut state = device.power_on();
    state.received.push(b'x');
    assert!(device.check(&state));
    state.received.push(b'y');
    assert!(!device.check(&state), "without FIFOs there is one register");
    state.fifos_enabled = 1;
    assert!(device.check(&state));
    assert!(!device.check(&State { fifos_enabled: 2, ..state }));
}

#[test]
fn a_reset_keeps_the_place_in_the_stream() {
    let mut bench = Bench::ready();
    bench.type_in(b"ab");
    bench.get(DATA);
    bench.put(DATA, b'x');
    bench.reset();
    bench.put(DATA, b'y');
    bench.type_in(b"c");
    assert_eq!(bench.world.0.output(), b"xy");
    assert_eq!(bench.get(DATA), b'c', "what the chip held is gone, what is outside is not");
}

#[test]
fn the_usual_ports_have_their_names() {
    for (port, name, uid) in [("0x3f8", "COM1", 1), ("0x2f8", "COM2", 2), ("0x2e8", "COM4", 4)] {
        let acpi = Uart16550::manifest(&Options::new([("port", port)])).unwrap().acpi.unwrap();
        assert_eq!((acpi.name.as_str(), acpi.uid), (name, uid));
    }
    assert_eq!(Uart16550::manifest(&Options::new([("port", "0x1000")])).unwrap().acpi, None);
}

#[test]
fn an_interrupt_beyond_15_is_refused() {
    assert!(Uart16550::manifest(&Options::new([("irq", "16")])).is_err());
}
