//! The i8042 keyboard controller of a PS/2, with a keyboard and a mouse.
//!
//! Source: public descriptions of IBM's *Keyboard and Auxiliary Device Controller*, above all Brouwer, *Keyboard scancodes*, 10.
//!
//! What people do comes as records in a byte stream. One is taken when there is room for all that it makes the keyboard or
//! the mouse say, so nothing is lost however slowly the guest reads.

mod keyboard;
mod keys;
mod mouse;
mod queue;

use crate::declare;
use crate::latch::Latch;
use device::display::{INPUT_BYTES, Input};
use device::manifest::{Acpi, AcpiNode, Class, Line, Manifest, Power, Switch};
use device::{Access, AttachError, Device, NoRegister, OptionError, Options, Outputs, Powers, Scan, Stream};
use keyboard::Keyboard;
use mouse::Mouse;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

pub(crate) const NAME: &str = "i8042";

/// Ranges, of one port each; the ports between them belong to others.
const DATA: u8 = 0;
const COMMAND: u8 = 1;
const DATA_PORT: u16 = 0x60;
const COMMAND_PORT: u16 = 0x64;
/// Lines.
const KEYBOARD_LINE: u32 = 1 << 0;
const MOUSE_LINE: u32 = 1 << 1;
const KEYBOARD_INTERRUPT: u8 = 1;
const MOUSE_INTERRUPT: u8 = 12;

/// Wishes.
const WISH_RESET: u32 = 0;
const WISH_INPUT: u32 = 1;
/// Inputs taken at one look: more than a person makes between two.
const INPUTS_PER_LOOK: usize = 64;

const STATUS_FULL: u8 = 1 << 0;
const STATUS_SYSTEM: u8 = 1 << 2;
/// The last write went to the command port.
const STATUS_COMMAND: u8 = 1 << 3;
/// The key in the front of the case does not lock the keyboard.
const STATUS_UNLOCKED: u8 = 1 << 4;
/// What is in the output buffer is the mouse's.
const STATUS_MOUSE: u8 = 1 << 5;

const CONFIG_INTERRUPT: u8 = 1 << 0;
const CONFIG_MOUSE_INTERRUPT: u8 = 1 << 1;
const CONFIG_SYSTEM: u8 = 1 << 2;
const CONFIG_KEYBOARD_OFF: u8 = 1 << 4;
const CONFIG_MOUSE_OFF: u8 = 1 << 5;
const CONFIG_TRANSLATE: u8 = 1 << 6;
/// Bit 7 is reserved.
const CONFIG_ALL: u8 = 0x7f;

/// Low: the processor is reset.
const OUTPUT_RUN: u8 = 1 << 0;
const OUTPUT_A20: u8 = 1 << 1;
/// Bits that a guest sets and nothing else drives.
const OUTPUT_LATCHED: u8 = 0x0f;
const OUTPUT_INTERRUPT: u8 = 1 << 4;
const OUTPUT_MOUSE_INTERRUPT: u8 = 1 << 5;
/// Clock and data of the keyboard, idle.
const OUTPUT_KEYBOARD_IDLE: u8 = 0xc0;

/// Keyboard not locked, manufacturing jumper not fitted, more than 256 KiB on the board.
const INPUT_PORT: u8 = 0xb0;
/// Clock and data of the keyboard, idle.
const TEST_INPUTS: u8 = 0x03;

const SELF_TEST_PASSED: u8 = 0x55;
const NO_PASSWORD: u8 = 0xf1;
const INTERFACE_GOOD: u8 = 0x00;

/// Bytes of the controller's memory that commands reach; the first is the configuration.
const MEMORY: usize = 32;
const CONFIG: usize = 0;

/// Time from a byte's being read to the next byte's arrival. On the wire a byte takes about a millisecond; all that matters
/// is that the interrupt line is seen to fall in between, since the PC's input takes edges.
const BYTE_NS: u64 = 100_000;

/// What the next byte at the data port is for.
const FOR_KEYBOARD: u8 = 0;
const FOR_MEMORY: u8 = 1;
const FOR_OUTPUT_PORT: u8 = 2;
const FOR_OUTPUT_BUFFER: u8 = 3;
const FOR_MOUSE_BUFFER: u8 = 4;
const FOR_MOUSE: u8 = 5;

/// In set 2: the next code is that of a key which was let go.
const RELEASED: u8 = 0xf0;
/// In set 1: the same, as a bit of the code.
const RELEASED_BIT: u8 = 0x80;

/// The controller, its way to the reset line, and what people do.
pub(crate) struct I8042 {
    reset: Latch,
    input: Box<dyn Stream>,
}

/// Controller, keyboard and mouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct State {
    /// When the next byte arrives, if there is one.
    next_byte_ns: u64,
    mouse: Mouse,
    keyboard: Keyboard,
    /// Bytes of input that were taken.
    in_tail: u32,
    memory: [u8; MEMORY],
    /// The output buffer.
    output: u8,
    /// 0 or 1: the output buffer was not read yet.
    full: u8,
    /// 0 or 1: the last write was a command.
    command: u8,
    /// One of the `FOR_…`.
    awaited: u8,
    /// For [`FOR_MEMORY`]: where.
    address: u8,
    /// The output port's latched bits.
    port: u8,
    /// 0 or 1: the processor is to be reset.
    reset: u8,
    /// 0 or 1: what is in the output buffer is the mouse's.
    from_mouse: u8,
    /// 0 or 1: the keyboard has said [`RELEASED`], which is being translated.
    released: u8,
    unused: [u8; 3],
}

impl State {
    fn config(&self) -> u8 {
        self.memory[CONFIG]
    }

    fn status(&self) -> u8 {
        let mut status = STATUS_UNLOCKED;
        if self.full != 0 {
            status |= STATUS_FULL;
        }
        if self.config() & CONFIG_SYSTEM != 0 {
            status |= STATUS_SYSTEM;
        }
        if self.command != 0 {
            status |= STATUS_COMMAND;
        }
        if self.from_mouse != 0 {
            status |= STATUS_MOUSE;
        }
        status
    }

    fn levels(&self) -> u32 {
        let (line, enable) = match self.from_mouse {
            0 => (KEYBOARD_LINE, CONFIG_INTERRUPT),
            _ => (MOUSE_LINE, CONFIG_MOUSE_INTERRUPT),
        };
        if self.full != 0 && self.config() & enable != 0 { line } else { 0 }
    }

    fn keyboard_sends(&self) -> bool {
        self.config() & CONFIG_KEYBOARD_OFF == 0 && self.keyboard.has_byte()
    }

    fn mouse_sends(&self) -> bool {
        self.config() & CONFIG_MOUSE_OFF == 0 && self.mouse.has_byte()
    }

    /// When a byte arrives, if one is on its way.
    fn deadline(&self) -> Option<u64> {
        if self.full != 0 {
            return None;
        }
        if self.keyboard_sends() || self.mouse_sends() {
            return Some(self.next_byte_ns);
        }
        let keyboard = self.keyboard.due().filter(|_| self.config() & CONFIG_KEYBOARD_OFF == 0);
        let mouse = self.mouse.due().filter(|_| self.config() & CONFIG_MOUSE_OFF == 0);
        [keyboard, mouse].into_iter().flatten().min()
    }

    /// Takes a byte of the keyboard or of the mouse, if one may be sent.
    fn take_byte(&mut self, now: u64) {
        if self.config() & CONFIG_MOUSE_OFF == 0 {
            self.mouse.sample(now);
        }
        if self.full == 0 && self.config() & CONFIG_KEYBOARD_OFF == 0 {
            self.keyboard.repeat(now);
        }
        while self.full == 0 && self.keyboard_sends() {
            let Some(byte) = self.keyboard.send() else { return };
            match byte {
                RELEASED if self.config() & CONFIG_TRANSLATE != 0 => self.released = 1,
                _ => self.put_translated(byte),
            }
        }
        if self.full == 0
            && self.mouse_sends()
            && let Some(byte) = self.mouse.send()
        {
            self.put(byte, true);
        }
    }

    fn put_translated(&mut self, byte: u8) {
        let released = if std::mem::take(&mut self.released) != 0 { RELEASED_BIT } else { 0 };
        let translates = self.config() & CONFIG_TRANSLATE != 0;
        self.put(if translates { keys::translate(byte) | released } else { byte }, false);
    }

    /// Overwrites the output buffer, read or not, as the controller does.
    fn put(&mut self, byte: u8, from_mouse: bool) {
        self.output = byte;
        self.full = 1;
        self.from_mouse = u8::from(from_mouse);
    }

    /// The controller's own answer, which comes as if from the keyboard.
    fn answer(&mut self, byte: u8) {
        self.put(byte, false);
    }

    /// Whether all that `input` makes the keyboard or the mouse say finds room.
    fn has_room(&self, input: &Input) -> bool {
        match input {
            Input::Press { .. } | Input::Release { .. } => self.keyboard.has_room(),
            Input::Pointer(pointer) => self.mouse.has_room(pointer),
        }
    }

    fn take_input(&mut self, input: &Input, now: u64) {
        match input {
            Input::Press { key } => self.keyboard.strike(*key, true, now),
            Input::Release { key } => self.keyboard.strike(*key, false, now),
            Input::Pointer(pointer) => self.mouse.moved(pointer),
        }
    }

    fn set_memory(&mut self, address: u8, byte: u8) {
        let Some(place) = self.memory.get_mut(usize::from(address)) else { return };
        *place = if usize::from(address) == CONFIG { byte & CONFIG_ALL } else { byte };
    }

    fn set_output_port(&mut self, byte: u8) {
        self.port = byte & OUTPUT_LATCHED | OUTPUT_RUN;
        if byte & OUTPUT_RUN == 0 {
            self.reset = 1;
        }
    }

    fn run(&mut self, command: u8) {
        self.awaited = FOR_KEYBOARD;
        match command {
            0x20..=0x3f => self.answer(self.memory[usize::from(command - 0x20)]),
            0x60..=0x7f => {
                self.awaited = FOR_MEMORY;
                self.address = command - 0x60;
            }
            0xa4 => self.answer(NO_PASSWORD),
            0xa7 => self.memory[CONFIG] |= CONFIG_MOUSE_OFF,
            0xa8 => self.memory[CONFIG] &= !CONFIG_MOUSE_OFF,
            0xa9 => self.answer(INTERFACE_GOOD),
            0xaa => {
                self.memory[CONFIG] |= CONFIG_SYSTEM;
                self.answer(SELF_TEST_PASSED);
            }
            0xab => self.answer(INTERFACE_GOOD),
            0xad => self.memory[CONFIG] |= CONFIG_KEYBOARD_OFF,
            0xae => self.memory[CONFIG] &= !CONFIG_KEYBOARD_OFF,
            0xc0 => self.answer(INPUT_PORT),
            0xd0 => {
                let interrupt = match self.levels() {
                    0 => 0,
                    KEYBOARD_LINE => OUTPUT_INTERRUPT,
                    _ => OUTPUT_MOUSE_INTERRUPT,
                };
                self.answer(self.port | interrupt | OUTPUT_KEYBOARD_IDLE);
            }
            0xd1 => self.awaited = FOR_OUTPUT_PORT,
            0xd2 => self.awaited = FOR_OUTPUT_BUFFER,
            0xd3 => self.awaited = FOR_MOUSE_BUFFER,
            0xd4 => self.awaited = FOR_MOUSE,
            0xe0 => self.answer(TEST_INPUTS),
            // The output port's low bits that are zero here are pulsed low; the first is the reset line.
            0xf0..=0xff if command & OUTPUT_RUN == 0 => self.reset = 1,
            _ => {}
        }
    }

    fn take_data(&mut self, byte: u8) {
        match std::mem::replace(&mut self.awaited, FOR_KEYBOARD) {
            FOR_MEMORY => self.set_memory(self.address, byte),
            FOR_OUTPUT_PORT => self.set_output_port(byte),
            FOR_OUTPUT_BUFFER => self.put(byte, false),
            FOR_MOUSE_BUFFER => self.put(byte, true),
            FOR_MOUSE => self.mouse.receive(byte),
            // What is sent to a keyboard that is off switches it on (10.3, command ad).
            _ => {
                self.memory[CONFIG] &= !CONFIG_KEYBOARD_OFF;
                self.keyboard.receive(byte);
            }
        }
    }
}

impl I8042 {
    /// The next thing that a person did, if it can be taken: a record that says nothing can.
    fn next_input(&self, state: &State) -> Option<Option<Input>> {
        let mut record = [0; INPUT_BYTES];
        for (at, byte) in (0..).zip(&mut record) {
            *byte = self.input.get(state.in_tail.wrapping_add(at))?;
        }
        let input = Input::from_bytes(&record);
        input.is_none_or(|input| state.has_room(&input)).then_some(input)
    }
}

impl Device for I8042 {
    type State = State;

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        options.check(&[])?;
        /// FADT IAPC_BOOT_ARCH bit 1: there is an 8042 at 0x60 and 0x64.
        const HAS_8042: u16 = 1 << 1;
        Ok(Manifest {
            ranges: vec![declare::ports("data", DATA_PORT, 1), declare::ports("command", COMMAND_PORT, 1)],
            lines: vec![Line::Isa(KEYBOARD_INTERRUPT), Line::Isa(MOUSE_INTERRUPT)],
            wishes: vec![
                declare::switch(Switch::Reset, "reset", "the processor's reset line hangs on its output port"),
                declare::wish(Power::Stream, "input", "what a person does with keyboard and mouse"),
            ],
            acpi: Some(Acpi {
                name: "PS2K".into(),
                hid: "PNP0303".into(),
                boot_arch: HAS_8042,
                also: vec![AcpiNode { name: "PS2M".into(), hid: "PNP0F13".into(), line: 1 }],
                ..Acpi::default()
            }),
            ..declare::nothing::<State>(NAME, "i8042 keyboard controller with a keyboard and a mouse", Class::Char)
        })
    }

    fn attach(_: &Options, powers: &mut Powers) -> Result<I8042, AttachError> {
        Ok(I8042 { reset: Latch::new(powers.switch(WISH_RESET)?), input: powers.stream(WISH_INPUT)? })
    }

    fn power_on(&mut self) -> State {
        // As firmware leaves it: tests passed, the keyboard on, its bytes translated and announced.
        let (_, in_tail) = self.input.published();
        let mut state = State {
            keyboard: Keyboard::power_on(),
            mouse: Mouse::power_on(),
            port: OUTPUT_RUN | OUTPUT_A20,
            in_tail,
            ..State::new_zeroed()
        };
        state.memory[CONFIG] = CONFIG_INTERRUPT | CONFIG_SYSTEM | CONFIG_MOUSE_OFF | CONFIG_TRANSLATE;
        state
    }

    fn check(&self, state: &State) -> bool {
        let flags = [state.full, state.command, state.reset, state.from_mouse, state.released];
        flags.iter().all(|flag| *flag <= 1)
            && state.keyboard.check()
            && state.mouse.check()
            && state.config() & !CONFIG_ALL == 0
            && state.awaited <= FOR_MOUSE
            && usize::from(state.address) < MEMORY
            && state.port & (OUTPUT_RUN | !OUTPUT_LATCHED) == OUTPUT_RUN
            && state.unused == [0; 3]
    }

    fn read(&mut self, state: &mut State, at: Access) -> Result<u64, NoRegister> {
        // A byte that is due arrives before the guest looks, so that a guest that polls need not wait for time to pass.
        state.take_byte(at.now);
        match at.range {
            DATA => {
                // And the one after it does not arrive with this read: the interrupt line must fall first.
                state.full = 0;
                state.next_byte_ns = at.now.saturating_add(BYTE_NS);
                Ok(state.output.into())
            }
            COMMAND => Ok(state.status().into()),
            _ => Err(NoRegister),
        }
    }

    fn write(&mut self, state: &mut State, at: Access, value: u64) -> Result<(), NoRegister> {
        let Ok(value) = u8::try_from(value) else { return Err(NoRegister) };
        match at.range {
            DATA => state.take_data(value),
            COMMAND => state.run(value),
            _ => return Err(NoRegister),
        }
        state.command = u8::from(at.range == COMMAND);
        state.take_byte(at.now);
        Ok(())
    }

    fn alarm(&mut self, state: &mut State, now: u64) {
        state.take_byte(now);
    }

    fn button(&mut self, _: &mut State, _: u64) {}

    fn refresh(&mut self, _: &mut State, _: u64) {}

    fn scan(&mut self, state: &mut State, now: u64) -> Scan {
        for taken in 0..INPUTS_PER_LOOK {
            let Some(input) = self.next_input(state) else {
                return if taken == 0 { Scan::Idle } else { Scan::Changed };
            };
            if let Some(input) = input {
                state.take_input(&input, now);
            }
            state.in_tail = state.in_tail.wrapping_add(INPUT_BYTES as u32);
            if state.next_byte_ns <= now {
                state.take_byte(now);
            }
        }
        Scan::More
    }

    fn pending(&self, state: &State) -> bool {
        self.next_input(state).is_some()
    }

    fn outputs(&self, state: &State) -> Outputs {
        Outputs { levels: state.levels(), deadline: state.deadline(), ..Outputs::default() }
    }

    fn settle(&mut self, state: &State) {
        self.input.publish(0, state.in_tail);
        self.reset.settle((state.reset != 0).then_some(1));
    }
}

#[cfg(test)]
mod tests;
