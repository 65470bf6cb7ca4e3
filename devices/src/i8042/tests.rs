use super::*;
use crate::conformance::{Bells, Bench, Random, Strike, World, conforms};

struct Board(Bells);

impl World for Board {
    const NAME: &'static str = NAME;

    fn new() -> Board {
        Board(Bells::new(1))
    }

    fn powers(&self) -> Powers {
        self.0.powers()
    }

    /// Mostly bytes that mean something.
    fn strike(&mut self, random: &mut Random, _: &Manifest) -> Strike {
        let value = match random.below(4) {
            0 => 0xed + random.below(19),
            1 => 0x20 * random.below(8),
            2 => 0xa0 + random.below(16),
            _ => random.next(),
        };
        Strike { range: random.below(2) as u8, offset: 0, width: 1, value, write: random.one_in(2) }
    }
}

conforms!(Board);

impl Bench<Board> {
    fn status(&mut self) -> u8 {
        self.read(COMMAND, 0, 1).unwrap() as u8
    }

    fn command(&mut self, command: u8) {
        self.write(COMMAND, 0, 1, command.into()).unwrap();
    }

    fn send(&mut self, byte: u8) {
        self.write(DATA, 0, 1, byte.into()).unwrap();
    }

    /// The byte in the output buffer, if the status says that there is one.
    fn receive(&mut self) -> Option<u8> {
        (self.status() & STATUS_FULL != 0).then(|| self.read(DATA, 0, 1).unwrap() as u8)
    }

    fn receive_all(&mut self) -> Vec<u8> {
        std::iter::from_fn(|| self.receive()).collect()
    }

    fn ask(&mut self, command: u8) -> Vec<u8> {
        self.command(command);
        self.receive_all()
    }

    fn ask_keyboard(&mut self, bytes: &[u8]) -> Vec<u8> {
        bytes.iter().for_each(|byte| self.send(*byte));
        self.receive_all()
    }

    fn configure(&mut self, config: u8) {
        self.command(0x60);
        self.send(config);
    }

    fn level(&self) -> bool {
        self.outputs().levels == 1
    }

    /// A keyboard whose bytes come as they are.
    fn plain() -> Bench<Board> {
        let mut bench = Bench::new();
        bench.configure(CONFIG_INTERRUPT | CONFIG_SYSTEM);
        bench
    }
}

#[test]
fn after_power_on_it_is_as_firmware_leaves_it() {
    let mut bench = Bench::<Board>::new();
    assert_eq!(bench.status(), STATUS_SYSTEM | STATUS_UNLOCKED);
    assert_eq!(bench.ask(0x20), [0x65]);
}

#[test]
fn its_own_tests_pass() {
    let mut bench = Bench::<Board>::new();
    assert_eq!(bench.ask(0xaa), [SELF_TEST_PASSED]);
    assert_eq!(bench.ask(0xab), [INTERFACE_GOOD]);
    assert_eq!(bench.ask(0xa4), [NO_PASSWORD]);
}

#[test]
fn the_configuration_is_read_as_it_was_written() {
    let mut bench = Bench::<Board>::new();
    for config in [0x00, 0x47, 0x74, 0xff] {
        bench.configure(config);
        assert_eq!(bench.ask(0x20), [config & 0x7f | CONFIG_SECOND_OFF]);
    }
}

#[test]
fn memory_beyond_the_configuration_keeps_what_is_written() {
    let mut bench = Bench::<Board>::new();
    for address in 1..32 {
        bench.command(0x60 + address);
        bench.send(0xa5 ^ address);
    }
    for address in 1..32 {
        assert_eq!(bench.ask(0x20 + address), [0xa5 ^ address]);
    }
}

#[test]
fn the_second_port_is_absent_however_it_is_asked() {
    let mut bench = Bench::plain();
    assert_eq!(bench.ask(0xa9), [INTERFACE_CLOCK_STUCK_LOW]);
    bench.command(0xa8);
    assert_eq!(bench.ask(0x20)[0] & CONFIG_SECOND_OFF, CONFIG_SECOND_OFF);
    bench.command(0xd4);
    assert_eq!(bench.ask_keyboard(&[0xf2]), [], "nobody answers, the keyboard neither");
    bench.command(0xd3);
    bench.send(0x5a);
    assert_eq!(bench.status() & 0x20, 0, "a looped byte does not come from the second port");
    assert_eq!(bench.receive(), Some(0x5a));
    assert_eq!(bench.ask_keyboard(&[0xee]), [0xee], "and the keyboard is there as before");
}

#[test]
fn the_keyboard_tests_itself_and_tells_who_it_is() {
    let mut bench = Bench::plain();
    assert_eq!(bench.ask_keyboard(&[0xff]), [0xfa, 0xaa]);
    assert_eq!(bench.ask_keyboard(&[0xf2]), [0xfa, 0xab, 0x83]);
    assert_eq!(bench.ask_keyboard(&[0xee]), [0xee]);
}

#[test]
fn with_translation_answers_pass_and_the_identity_is_that_of_set_one() {
    let mut bench = Bench::<Board>::new();
    assert_eq!(bench.ask_keyboard(&[0xff]), [0xfa, 0xaa]);
    assert_eq!(bench.ask_keyboard(&[0xf2]), [0xfa, 0xab, 0x41]);
    assert_eq!(bench.ask_keyboard(&[0xf0, 0]), [0xfa, 0xfa, 0x41]);
}

#[test]
fn commands_with_a_parameter_acknowledge_both() {
    let mut bench = Bench::plain();
    assert_eq!(bench.ask_keyboard(&[0xed]), [0xfa]);
    assert_eq!(bench.ask_keyboard(&[0x07]), [0xfa]);
    assert_eq!(bench.ask_keyboard(&[0xf3, 0x20]), [0xfa, 0xfa]);
    assert_eq!(bench.ask_keyboard(&[0xf0, 3]), [0xfa, 0xfa]);
    assert_eq!(bench.ask_keyboard(&[0xf0, 0]), [0xfa, 0xfa, 3]);
    assert_eq!(bench.ask_keyboard(&[0xf6]), [0xfa]);
    assert_eq!(bench.ask_keyboard(&[0xf0, 0]), [0xfa, 0xfa, 2], "defaults bring back the second set");
}

#[test]
fn enabling_and_disabling_are_acknowledged() {
    let mut bench = Bench::plain();
    for command in [0xf4, 0xf5, 0xf6, 0xf8, 0xfa] {
        assert_eq!(bench.ask_keyboard(&[command]), [0xfa], "{command:#x}");
    }
}

#[test]
fn what_it_does_not_understand_is_to_be_sent_again() {
    let mut bench = Bench::plain();
    assert_eq!(bench.ask_keyboard(&[0x12]), [0xfe]);
    assert_eq!(bench.ask_keyboard(&[0xf1]), [0xfe]);
    assert_eq!(bench.ask_keyboard(&[0xf0, 4]), [0xfa, 0xfe]);
}

#[test]
fn a_command_in_the_place_of_a_parameter_is_a_command() {
    let mut bench = Bench::plain();
    assert_eq!(bench.ask_keyboard(&[0xed, 0xf2]), [0xfa, 0xfa, 0xab, 0x83]);
    assert_eq!(bench.ask_keyboard(&[0x02]), [0xfe], "no parameter is awaited any more");
}

#[test]
fn the_last_byte_is_sent_again_on_request() {
    let mut bench = Bench::plain();
    bench.ask_keyboard(&[0xf2]);
    assert_eq!(bench.ask_keyboard(&[0xfe]), [0x83]);
}

#[test]
fn the_line_falls_between_two_bytes() {
    let mut bench = Bench::plain();
    bench.send(0xf2);
    for byte in [0xfa, 0xab, 0x83] {
        assert!(bench.level());
        assert_eq!(bench.read(DATA, 0, 1), Ok(byte));
        assert!(!bench.level());
        bench.pass_until(bench.now + BYTE_NS);
    }
    assert!(!bench.level());
    assert_eq!(bench.outputs().deadline, None);
}

#[test]
fn the_interrupt_can_be_switched_off() {
    let mut bench = Bench::<Board>::new();
    bench.configure(CONFIG_SYSTEM);
    bench.send(0xee);
    assert!(!bench.level());
    assert_eq!(bench.status() & STATUS_FULL, STATUS_FULL);
    bench.configure(CONFIG_SYSTEM | CONFIG_INTERRUPT);
    assert!(bench.level());
}

#[test]
fn a_keyboard_that_is_off_keeps_its_answer() {
    let mut bench = Bench::plain();
    bench.command(0xad);
    assert_eq!(bench.ask_keyboard(&[0xee]), []);
    assert_eq!(bench.outputs().deadline, None);
    assert_eq!(bench.ask(0xae), [0xee]);
}

#[test]
fn state_with_an_index_beyond_its_array_is_refused() {
    let mut device = I8042::attach(&Options::default(), &mut Bells::new(1).powers()).unwrap();
    let good = device.power_on();
    assert!(device.check(&good));
    assert!(!device.check(&State { address: MEMORY as u8, ..good }));
    assert!(!device.check(&State { awaited: FOR_NOBODY + 1, ..good }));
    let mut long = good;
    let queued = size_of::<u64>() + Keyboard::QUEUED;
    long.as_mut_bytes()[queued] = 17;
    assert!(!device.check(&long));
}

#[test]
fn an_empty_buffer_gives_its_last_byte_again() {
    let mut bench = Bench::plain();
    bench.ask_keyboard(&[0xee]);
    assert_eq!(bench.read(DATA, 0, 1), Ok(0xee));
}

#[test]
fn status_tells_a_command_from_data() {
    let mut bench = Bench::plain();
    bench.command(0x60);
    assert_eq!(bench.status() & STATUS_COMMAND, STATUS_COMMAND);
    bench.send(0x65);
    assert_eq!(bench.status() & STATUS_COMMAND, 0);
}

#[test]
fn pulsing_the_reset_line_resets_the_machine() {
    for command in 0xf0..=0xff_u8 {
        let mut bench = Bench::<Board>::new();
        bench.command(command);
        assert_eq!(bench.world.0.rung(0), u64::from(command & 1 == 0), "{command:#x}");
    }
}

#[test]
fn the_output_ports_lowest_bit_resets_the_machine() {
    let mut bench = Bench::<Board>::new();
    bench.command(0xd1);
    bench.send(0xdf);
    assert_eq!(bench.world.0.rung(0), 0);
    bench.command(0xd1);
    bench.send(0xfe);
    assert_eq!(bench.world.0.rung(0), 1);
}

#[test]
fn a20_is_kept_in_the_output_port() {
    let mut bench = Bench::<Board>::new();
    assert_eq!(bench.ask(0xd0), [0xc3]);
    bench.command(0xd1);
    bench.send(0xdd);
    assert_eq!(bench.ask(0xd0), [0xcd]);
}

#[test]
fn a_byte_can_be_pretended_to_come_from_the_keyboard() {
    let mut bench = Bench::plain();
    bench.command(0xd2);
    bench.send(0x1c);
    assert!(bench.level());
    assert_eq!(bench.receive(), Some(0x1c));
}

#[test]
fn answers_that_nobody_reads_are_lost_and_nothing_else_is() {
    let mut bench = Bench::plain();
    bench.ask_keyboard(&[]);
    for _ in 0..100 {
        bench.send(0xee);
    }
    assert_eq!(bench.receive_all().len(), 17, "one in the buffer, sixteen in the keyboard");
    assert_eq!(bench.ask_keyboard(&[0xee]), [0xee]);
}
