use super::*;
use crate::conformance::{Bells, Bench, Random, Strike, World, conforms};
use device::TestStream;
use device::display::Pointer;

struct Board(Bells, TestStream);

impl World for Board {
    const NAME: &'static str = NAME;

    fn new() -> Board {
        Board(Bells::new(1), TestStream::default())
    }

    fn powers(&self) -> Powers {
        let mut powers = self.0.powers();
        powers.streams.push((WISH_INPUT, Box::new(self.1.clone())));
        powers
    }

    /// A key, a motion, or a record that says nothing.
    fn stir(&mut self, random: &mut Random) {
        let input = match random.below(4) {
            0 => Input::Press { key: random.below(0x100) as u16 },
            1 => Input::Release { key: random.below(0x100) as u16 },
            2 => Input::Pointer(Pointer {
                dx: random.next() as i8,
                dy: random.next() as i8,
                wheel: random.below(3) as i8 - 1,
                buttons: random.below(8) as u8,
            }),
            _ => return self.1.input(&[random.next() as u8; INPUT_BYTES]),
        };
        self.1.input(&input.to_bytes());
    }

    /// Mostly bytes that mean something.
    fn strike(&mut self, random: &mut Random, _: &Manifest) -> Strike {
        let value = match random.below(5) {
            4 => 0xd4,
            0 => 0xe6 + random.below(26),
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
        self.outputs().levels == KEYBOARD_LINE
    }

    fn ask_mouse(&mut self, bytes: &[u8]) -> Vec<u8> {
        for byte in bytes {
            self.command(0xd4);
            self.send(*byte);
        }
        self.receive_all()
    }

    fn input(&mut self, inputs: &[Input]) {
        inputs.iter().for_each(|input| self.world.1.input(&input.to_bytes()));
        self.scan();
    }

    fn press(&mut self, key: u16) -> Vec<u8> {
        self.input(&[Input::Press { key }]);
        self.receive_all()
    }

    fn release(&mut self, key: u16) -> Vec<u8> {
        self.input(&[Input::Release { key }]);
        self.receive_all()
    }

    /// Moves the mouse, and lets so much time pass that it reports.
    fn move_mouse(&mut self, dx: i8, dy: i8, wheel: i8, buttons: u8) -> Vec<u8> {
        self.input(&[Input::Pointer(Pointer { dx, dy, wheel, buttons })]);
        self.now += 1_000_000_000;
        self.receive_all()
    }

    /// A mouse that is on and reports.
    fn streaming() -> Bench<Board> {
        let mut bench = Bench::plain();
        assert_eq!(bench.ask_mouse(&[0xf4]), [0xfa]);
        bench
    }

    /// A keyboard whose bytes come as they are.
    fn plain() -> Bench<Board> {
        let mut bench = Bench::new();
        bench.configure(CONFIG_INTERRUPT | CONFIG_MOUSE_INTERRUPT | CONFIG_SYSTEM);
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
        assert_eq!(bench.ask(0x20), [config & 0x7f]);
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
fn the_second_port_can_be_switched_off_and_tested() {
    let mut bench = Bench::<Board>::new();
    assert_eq!(bench.ask(0xa9), [INTERFACE_GOOD]);
    assert_eq!(bench.ask_mouse(&[0xf2]), [], "firmware leaves it off");
    assert_eq!(bench.ask(0xa8), [0xfa, 0x00], "the answer has waited");
    bench.command(0xa7);
    assert_eq!(bench.ask(0x20)[0] & CONFIG_MOUSE_OFF, CONFIG_MOUSE_OFF);
    assert_eq!(bench.outputs().deadline, None);
}

#[test]
fn status_and_line_tell_the_mouses_bytes_from_the_keyboards() {
    let mut bench = Bench::plain();
    bench.command(0xd3);
    bench.send(0x5a);
    assert_eq!((bench.status() & STATUS_MOUSE, bench.outputs().levels), (STATUS_MOUSE, MOUSE_LINE));
    assert_eq!(bench.receive(), Some(0x5a));
    bench.send(0xee);
    assert_eq!((bench.status() & STATUS_MOUSE, bench.outputs().levels), (0, KEYBOARD_LINE));
}

#[test]
fn keys_send_their_codes_of_the_set_that_is_chosen() {
    const A: u16 = 0x04;
    const UP: u16 = 0x52;
    const CONTROL: u16 = 0xe0;
    const RIGHT_CONTROL: u16 = 0xe4;
    let mut bench = Bench::plain();
    assert_eq!((bench.press(A), bench.release(A)), (vec![0x1c], vec![0xf0, 0x1c]));
    assert_eq!((bench.press(UP), bench.release(UP)), (vec![0xe0, 0x75], vec![0xe0, 0xf0, 0x75]));
    assert_eq!(bench.press(0x48), [0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77]);
    assert_eq!((bench.release(0x48), bench.press(0x46)), (vec![], vec![0xe0, 0x12, 0xe0, 0x7c]));
    assert_eq!(bench.press(0x00), [], "no such key");
    bench.ask_keyboard(&[0xf0, 1]);
    assert_eq!((bench.press(UP), bench.release(UP)), (vec![0xe0, 0x48], vec![0xe0, 0xc8]));
    bench.ask_keyboard(&[0xf0, 3]);
    assert_eq!((bench.press(UP), bench.release(UP)), (vec![0x63], vec![]));
    assert_eq!((bench.press(CONTROL), bench.release(CONTROL)), (vec![0x11], vec![0xf0, 0x11]));
    assert_eq!((bench.press(RIGHT_CONTROL), bench.release(RIGHT_CONTROL)), (vec![0x58], vec![]));
    bench.ask_keyboard(&[0xfc, 0x63]);
    assert_eq!(bench.release(UP), [0xf0, 0x63]);
    bench.ask_keyboard(&[0xf7]);
    assert_eq!((bench.release(UP), bench.release(CONTROL)), (vec![], vec![]));
    bench.ask_keyboard(&[0xfa]);
    assert_eq!(bench.release(A), [0xf0, 0x1c]);
}

#[test]
fn a_key_that_is_held_repeats_at_the_rate_that_was_set() {
    const MS: u64 = 1_000_000;
    let mut bench = Bench::plain();
    assert_eq!(bench.press(0x04), [0x1c]);
    bench.pass_until(499 * MS);
    assert_eq!(bench.receive(), None, "not before half a second");
    bench.pass_until(500 * MS);
    assert_eq!((bench.level(), bench.receive()), (true, Some(0x1c)));
    bench.pass_until(591 * MS);
    assert_eq!(bench.receive(), None);
    bench.pass_until(592 * MS);
    assert_eq!(bench.receive(), Some(0x1c), "10.9 a second");
    // A second, and twice a second.
    assert_eq!(bench.ask_keyboard(&[0xf3, 0x7f]), [0xfa, 0xfa]);
    assert_eq!((bench.release(0x04), bench.press(0x52)), (vec![0xf0, 0x1c], vec![0xe0, 0x75]));
    let pressed = bench.now;
    for (at, code) in [(999, None), (1000, Some(())), (1499, None), (1500, Some(()))] {
        bench.pass_until(pressed + at * MS);
        let bytes = bench.receive_all();
        assert_eq!(bytes, code.map_or(vec![], |()| vec![0xe0, 0x75]), "{at} ms");
    }
    assert_eq!(bench.release(0x52), [0xe0, 0xf0, 0x75]);
    assert_eq!(bench.outputs().deadline, None);
}

#[test]
fn only_the_last_key_repeats_and_only_while_what_it_sends_is_read() {
    const SECOND: u64 = 1_000_000_000;
    let mut bench = Bench::plain();
    let inputs = [(4, true), (5, true), (4, false)];
    bench.input(&inputs.map(|(key, down)| if down { Input::Press { key } } else { Input::Release { key } }));
    bench.pass_until(100 * SECOND);
    assert_eq!(bench.receive_all(), [0x1c, 0x32, 0xf0, 0x1c, 0x32], "nothing is kept but one");
    bench.input(&[Input::Press { key: 5 }]);
    assert_eq!(bench.receive_all(), [], "it is down already");
    // Pause, and any key of a keyboard that was told to begin anew, send once.
    bench.press(0x48);
    bench.pass_until(200 * SECOND);
    assert_eq!(bench.receive_all(), []);
    bench.press(4);
    bench.ask_keyboard(&[0xf4]);
    bench.pass_until(300 * SECOND);
    assert_eq!(bench.receive_all(), []);
    // Nor does anything repeat while the keyboard is off.
    bench.press(4);
    bench.command(0xad);
    bench.pass_until(400 * SECOND);
    assert_eq!((bench.receive_all(), bench.outputs().deadline), (vec![], None));
    assert_eq!(bench.ask(0xae), [0x1c]);
}

#[test]
fn in_set_3_each_key_repeats_as_it_was_told() {
    const SECOND: u64 = 1_000_000_000;
    const UP: u16 = 0x52;
    const ESCAPE: u16 = 0x29;
    let mut bench = Bench::plain();
    bench.ask_keyboard(&[0xf0, 3]);
    let repeats = |bench: &mut Bench<Board>, key: u16| {
        bench.press(key);
        bench.pass_until(bench.now + SECOND);
        let repeated = !bench.receive_all().is_empty();
        bench.release(key);
        repeated
    };
    assert_eq!((repeats(&mut bench, UP), repeats(&mut bench, ESCAPE)), (true, false));
    bench.ask_keyboard(&[0xfd, 0x63, 0xfb, 0x08]);
    assert_eq!((repeats(&mut bench, UP), repeats(&mut bench, ESCAPE)), (false, true));
    for (all, expected) in [(0xf7, true), (0xf8, false), (0xfa, true), (0xf9, false)] {
        bench.ask_keyboard(&[all]);
        assert_eq!((repeats(&mut bench, UP), repeats(&mut bench, ESCAPE)), (expected, expected), "{all:#x}");
    }
}

#[test]
fn with_translation_keys_send_codes_of_set_one() {
    let mut bench = Bench::<Board>::new();
    assert_eq!((bench.press(0x04), bench.release(0x04)), (vec![0x1e], vec![0x9e]));
    assert_eq!((bench.press(0x52), bench.release(0x52)), (vec![0xe0, 0x48], vec![0xe0, 0xc8]));
    assert_eq!((bench.press(0x40), bench.release(0x40)), (vec![0x41], vec![0xc1]), "F7");
    assert_eq!(bench.press(0x48), [0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5]);
}

#[test]
fn keys_that_the_guest_does_not_read_wait_outside_and_none_is_lost() {
    let mut bench = Bench::plain();
    let inputs: Vec<Input> = (0..300).map(|number| Input::Press { key: 4 + number % 26 }).collect();
    bench.input(&inputs);
    let mut seen = Vec::new();
    while let Some(byte) = bench.receive() {
        seen.push(byte);
        bench.scan();
    }
    let expected: Vec<u8> = (0..300).map(|number| keys::key(4 + number % 26).unwrap().set_2).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_disabled_keyboard_sends_no_keys() {
    let mut bench = Bench::plain();
    bench.ask_keyboard(&[0xf5]);
    assert_eq!(bench.press(4), []);
    bench.ask_keyboard(&[0xf4]);
    assert_eq!(bench.press(4), [0x1c]);
}

#[test]
fn a_record_that_says_nothing_is_passed_over() {
    let mut bench = Bench::plain();
    bench.world.1.input(&[0xff; INPUT_BYTES]);
    assert_eq!(bench.press(4), [0x1c]);
}

#[test]
fn the_mouse_tests_itself_and_tells_how_it_is_set() {
    let mut bench = Bench::plain();
    assert_eq!(bench.ask_mouse(&[0xff]), [0xfa, 0xaa, 0x00]);
    assert_eq!(bench.ask_mouse(&[0xf2]), [0xfa, 0x00]);
    assert_eq!(bench.ask_mouse(&[0xe9]), [0xfa, 0x00, 0x02, 100]);
    assert_eq!(bench.ask_mouse(&[0xf3]), [0xfa]);
    assert_eq!(bench.ask_mouse(&[77]), [0xfe], "no such rate");
    assert_eq!(bench.ask_mouse(&[40]), [0xfa]);
    assert_eq!(bench.ask_mouse(&[0xe8, 3, 0xe7, 0xf4]).len(), 2, "an answer that waits is overtaken by the next");
    bench.move_mouse(0, 0, 0, 0b011);
    assert_eq!(bench.ask_mouse(&[0xe9]), [0xfa, 0x35, 0x03, 40]);
    assert_eq!(bench.ask_mouse(&[0xf6]), [0xfa]);
    assert_eq!(bench.ask_mouse(&[0xe9]), [0xfa, 0x05, 0x02, 100]);
    assert_eq!(bench.ask_mouse(&[0x12]), [0xfc]);
}

#[test]
fn motion_is_reported_in_nine_bits_and_what_is_left_comes_next() {
    let mut bench = Bench::streaming();
    assert_eq!(bench.move_mouse(5, 3, 0, 0), [0x28, 5, 0xfd]);
    assert_eq!(bench.move_mouse(-5, -3, 0, 1), [0x19, 0xfb, 3]);
    let far = Pointer { dx: 127, dy: 0, wheel: 0, buttons: 1 };
    bench.input(&[Input::Pointer(far); 3]);
    bench.now += 1_000_000_000;
    let mut seen = bench.receive_all();
    bench.now += 1_000_000_000;
    seen.extend(bench.receive_all());
    assert_eq!(seen, [0x09, 255, 0, 0x09, 126, 0]);
}

#[test]
fn reports_come_no_faster_than_the_rate() {
    let mut bench = Bench::streaming();
    assert_eq!(bench.move_mouse(1, 0, 0, 0).len(), 3);
    bench.input(&[Input::Pointer(Pointer { dx: 1, ..Pointer::default() })]);
    assert_eq!(bench.receive_all(), []);
    let due = bench.outputs().deadline.unwrap();
    assert!(due <= bench.now + 10_000_000, "a hundred a second");
    bench.pass_until(due);
    assert_eq!(bench.outputs().levels, MOUSE_LINE);
    assert_eq!(bench.receive_all(), [0x08, 1, 0]);
}

#[test]
fn a_button_that_goes_down_and_up_between_two_reports_is_seen() {
    let mut bench = Bench::streaming();
    let buttons = |buttons| Input::Pointer(Pointer { buttons, ..Pointer::default() });
    bench.move_mouse(1, 0, 0, 0);
    bench.input(&[buttons(2), buttons(0)]);
    let mut seen = Vec::new();
    for _ in 0..4 {
        bench.now += 1_000_000_000;
        seen.extend(bench.receive_all());
        bench.scan();
    }
    assert_eq!(seen, [0x0a, 0, 0, 0x08, 0, 0]);
}

#[test]
fn the_wheel_turns_for_who_has_asked_for_it() {
    let mut bench = Bench::streaming();
    assert_eq!(bench.move_mouse(1, 0, 1, 0).len(), 3);
    for rate in [200, 100, 80] {
        assert_eq!(bench.ask_mouse(&[0xf3]), [0xfa]);
        assert_eq!(bench.ask_mouse(&[rate]), [0xfa]);
    }
    assert_eq!(bench.ask_mouse(&[0xf2]), [0xfa, 0x03]);
    assert_eq!(bench.move_mouse(0, 0, -1, 0), [0x08, 0, 0, 0xff]);
    assert_eq!(bench.ask_mouse(&[0xff]), [0xfa, 0xaa, 0x00]);
    assert_eq!(bench.ask_mouse(&[0xf2]), [0xfa, 0x00]);
}

#[test]
fn in_remote_mode_it_reports_when_asked() {
    let mut bench = Bench::streaming();
    bench.ask_mouse(&[0xf0]);
    assert_eq!(bench.move_mouse(4, 0, 0, 0), []);
    assert_eq!(bench.ask_mouse(&[0xeb]), [0xfa, 0x08, 4, 0]);
    assert_eq!(bench.ask_mouse(&[0xeb]), [0xfa, 0x08, 0, 0]);
}

#[test]
fn in_wrap_mode_it_sends_back_what_it_is_sent() {
    let mut bench = Bench::streaming();
    bench.ask_mouse(&[0xee]);
    assert_eq!(bench.ask_mouse(&[0xf2]), [0xf2]);
    assert_eq!(bench.move_mouse(4, 0, 0, 0), []);
    assert_eq!(bench.ask_mouse(&[0xec]), [0xfa]);
    assert_eq!(bench.ask_mouse(&[0xf2]), [0xfa, 0x00]);
}

#[test]
fn scaling_makes_small_motions_smaller_and_large_ones_larger() {
    let mut bench = Bench::streaming();
    bench.ask_mouse(&[0xe7]);
    assert_eq!(bench.move_mouse(2, 0, 0, 0), [0x08, 1, 0]);
    assert_eq!(bench.move_mouse(-5, 0, 0, 0), [0x18, 0xf7, 0]);
    assert_eq!(bench.move_mouse(100, 0, 0, 0), [0x08, 200, 0]);
}

#[test]
fn a_command_in_the_place_of_a_mouses_parameter_is_a_command() {
    let mut bench = Bench::plain();
    // What Linux says when it looks for a touchpad of Sentelic's, and what it says next.
    for (byte, answer) in [(0xf3, 0xfa), (0x66, 0xfe), (0x88, 0xfe), (0xf3, 0xfa), (0xf4, 0xfa), (0xe8, 0xfa)] {
        assert_eq!(bench.ask_mouse(&[byte]), [answer], "{byte:#x}");
    }
    assert_eq!(bench.ask_mouse(&[0xe9]), [0xfa, 1 << 5, 2, 100], "it is enabled, and what was not said is as it was");
}

#[test]
fn a_mouse_that_is_not_enabled_says_nothing() {
    let mut bench = Bench::plain();
    assert_eq!(bench.move_mouse(4, 0, 0, 1), []);
    bench.ask_mouse(&[0xf4]);
    assert_eq!(bench.move_mouse(1, 0, 0, 1), [0x09, 1, 0]);
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
fn a_keyboard_that_is_off_keeps_its_keys_and_is_switched_on_by_what_it_is_sent() {
    let mut bench = Bench::plain();
    bench.command(0xad);
    assert_eq!((bench.press(4), bench.outputs().deadline), (vec![], None));
    assert_eq!(bench.ask(0x20)[0] & CONFIG_KEYBOARD_OFF, CONFIG_KEYBOARD_OFF);
    assert_eq!(bench.ask_keyboard(&[0xee]), [0x1c, 0xee]);
    assert_eq!(bench.ask(0x20)[0] & CONFIG_KEYBOARD_OFF, 0);
    bench.command(0xad);
    assert_eq!((bench.release(4), bench.ask(0xae)), (vec![], vec![0xf0, 0x1c]));
}

#[test]
fn state_with_an_index_beyond_its_array_is_refused() {
    let mut device = I8042::attach(&Options::default(), &mut Board::new().powers()).unwrap();
    let good = device.power_on();
    assert!(device.check(&good));
    assert!(!device.check(&State { address: MEMORY as u8, ..good }));
    assert!(!device.check(&State { awaited: FOR_MOUSE + 1, ..good }));
    assert!(!device.check(&State { mouse: Mouse::new_zeroed(), ..good }), "no rate");
    let mut long = good;
    // Behind the time and the key of what repeats lie the queue's bytes and its length.
    long.keyboard.as_mut_bytes()[size_of::<u64>() + size_of::<u16>() + queue::QUEUE] = 17;
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
