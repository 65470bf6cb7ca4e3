//! The i8042 keyboard controller of an AT, with a keyboard and without a mouse.
//!
//! Source: IBM, *Personal System/2 Hardware Interface Technical Reference*, "Keyboard and Auxiliary Device Controller";
//! Intel, *UPI-41A/41AH/42/42AH User's Manual* for the two-port bus interface.
//!
//! The second port says, however it is asked, that nothing can be connected to it: its clock line is stuck low, it stays
//! disabled, and what the controller is told to pretend it sent does not come from it.

mod keyboard;

use crate::declare;
use crate::latch::Latch;
use device::manifest::{Acpi, Class, Line, Manifest, Switch};
use device::{Access, AttachError, Device, NoRegister, OptionError, Options, Outputs, Powers, Scan};
use keyboard::Keyboard;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

pub(crate) const NAME: &str = "i8042";

/// Ranges, of one port each; the ports between them belong to others.
const DATA: u8 = 0;
const COMMAND: u8 = 1;
const DATA_PORT: u16 = 0x60;
const COMMAND_PORT: u16 = 0x64;
const INTERRUPT: u8 = 1;

const STATUS_FULL: u8 = 1 << 0;
const STATUS_SYSTEM: u8 = 1 << 2;
/// The last write went to the command port.
const STATUS_COMMAND: u8 = 1 << 3;
/// The key in the front of the case does not lock the keyboard.
const STATUS_UNLOCKED: u8 = 1 << 4;

const CONFIG_INTERRUPT: u8 = 1 << 0;
const CONFIG_SYSTEM: u8 = 1 << 2;
const CONFIG_KEYBOARD_OFF: u8 = 1 << 4;
const CONFIG_SECOND_OFF: u8 = 1 << 5;
const CONFIG_TRANSLATE: u8 = 1 << 6;
/// Bit 7 is reserved.
const CONFIG_ALL: u8 = 0x7f;

/// Low: the processor is reset.
const OUTPUT_RUN: u8 = 1 << 0;
const OUTPUT_A20: u8 = 1 << 1;
/// Bits that a guest sets and nothing else drives.
const OUTPUT_LATCHED: u8 = 0x0f;
const OUTPUT_INTERRUPT: u8 = 1 << 4;
/// Clock and data of the keyboard, idle.
const OUTPUT_KEYBOARD_IDLE: u8 = 0xc0;

/// Keyboard not locked, manufacturing jumper not fitted, more than 256 KiB on the board.
const INPUT_PORT: u8 = 0xb0;
/// Clock and data of the keyboard, idle.
const TEST_INPUTS: u8 = 0x03;

const SELF_TEST_PASSED: u8 = 0x55;
const NO_PASSWORD: u8 = 0xf1;
const INTERFACE_GOOD: u8 = 0x00;
const INTERFACE_CLOCK_STUCK_LOW: u8 = 0x01;

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
const FOR_NOBODY: u8 = 4;

/// The controller, and its way to the reset line.
pub(crate) struct I8042 {
    reset: Latch,
}

/// Controller and keyboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct State {
    /// When the keyboard's next byte arrives, if there is one.
    next_byte_ns: u64,
    keyboard: Keyboard,
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
    unused: u8,
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
        status
    }

    fn interrupts(&self) -> bool {
        self.full != 0 && self.config() & CONFIG_INTERRUPT != 0
    }

    /// Whether a byte of the keyboard is on its way.
    fn expects_byte(&self) -> bool {
        self.full == 0 && self.config() & CONFIG_KEYBOARD_OFF == 0 && self.keyboard.has_byte()
    }

    /// Takes a byte from the keyboard, if it may send one.
    fn take_byte(&mut self) {
        if self.expects_byte()
            && let Some(byte) = self.keyboard.send()
        {
            let translated = self.config() & CONFIG_TRANSLATE != 0;
            self.put(if translated { translate(byte) } else { byte });
        }
    }

    /// Overwrites the output buffer, read or not, as the controller does.
    fn put(&mut self, byte: u8) {
        self.output = byte;
        self.full = 1;
    }

    fn set_memory(&mut self, address: u8, byte: u8) {
        let Some(place) = self.memory.get_mut(usize::from(address)) else { return };
        *place = if usize::from(address) == CONFIG { byte & CONFIG_ALL | CONFIG_SECOND_OFF } else { byte };
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
            0x20..=0x3f => self.put(self.memory[usize::from(command - 0x20)]),
            0x60..=0x7f => {
                self.awaited = FOR_MEMORY;
                self.address = command - 0x60;
            }
            0xa4 => self.put(NO_PASSWORD),
            0xa9 => self.put(INTERFACE_CLOCK_STUCK_LOW),
            0xaa => {
                self.memory[CONFIG] |= CONFIG_SYSTEM;
                self.put(SELF_TEST_PASSED);
            }
            0xab => self.put(INTERFACE_GOOD),
            0xad => self.memory[CONFIG] |= CONFIG_KEYBOARD_OFF,
            0xae => self.memory[CONFIG] &= !CONFIG_KEYBOARD_OFF,
            0xc0 => self.put(INPUT_PORT),
            0xd0 => {
                let interrupt = if self.interrupts() { OUTPUT_INTERRUPT } else { 0 };
                self.put(self.port | interrupt | OUTPUT_KEYBOARD_IDLE);
            }
            0xd1 => self.awaited = FOR_OUTPUT_PORT,
            // Without a second port, a byte that is to look like one of its bytes is just a byte.
            0xd2 | 0xd3 => self.awaited = FOR_OUTPUT_BUFFER,
            0xd4 => self.awaited = FOR_NOBODY,
            0xe0 => self.put(TEST_INPUTS),
            // The output port's low bits that are zero here are pulsed low; the first is the reset line.
            0xf0..=0xff if command & OUTPUT_RUN == 0 => self.reset = 1,
            // Among them enabling the second port (0xa8), which cannot be enabled, and disabling it (0xa7), which it is.
            _ => {}
        }
    }

    fn take_data(&mut self, byte: u8) {
        match std::mem::replace(&mut self.awaited, FOR_KEYBOARD) {
            FOR_MEMORY => self.set_memory(self.address, byte),
            FOR_OUTPUT_PORT => self.set_output_port(byte),
            FOR_OUTPUT_BUFFER => self.put(byte),
            FOR_NOBODY => {}
            _ => self.keyboard.receive(byte),
        }
    }
}

/// What the controller makes of a byte of scan code set 2: the code of set 1 for the key at that place. Only codes that
/// the keyboard sends without keys are here; answers lie outside the table and pass as they are.
fn translate(byte: u8) -> u8 {
    match byte {
        // As parts of an answer these are the number of a scan code set, and the second byte of the identity.
        0x01 => 0x43,
        0x02 => 0x41,
        0x03 => 0x3f,
        0x83 => 0x41,
        _ => byte,
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
            lines: vec![Line::Isa(INTERRUPT)],
            wishes: vec![declare::switch(
                Switch::Reset,
                "reset",
                "the processor's reset line hangs on its output port",
            )],
            acpi: Some(Acpi { name: "PS2K".into(), hid: "PNP0303".into(), boot_arch: HAS_8042, ..Acpi::default() }),
            ..declare::nothing::<State>(NAME, "i8042 keyboard controller with a keyboard", Class::Char)
        })
    }

    fn attach(_: &Options, powers: &mut Powers) -> Result<I8042, AttachError> {
        Ok(I8042 { reset: Latch::new(powers.switch(0)?) })
    }

    fn power_on(&mut self) -> State {
        // As firmware leaves it: tests passed, the keyboard on, its bytes translated and announced.
        let mut state = State { keyboard: Keyboard::power_on(), port: OUTPUT_RUN | OUTPUT_A20, ..State::new_zeroed() };
        state.memory[CONFIG] = CONFIG_INTERRUPT | CONFIG_SYSTEM | CONFIG_SECOND_OFF | CONFIG_TRANSLATE;
        state
    }

    fn check(&self, state: &State) -> bool {
        [state.full, state.command, state.reset].iter().all(|flag| *flag <= 1)
            && state.keyboard.check()
            && state.config() & (CONFIG_SECOND_OFF | !CONFIG_ALL) == CONFIG_SECOND_OFF
            && state.awaited <= FOR_NOBODY
            && usize::from(state.address) < MEMORY
            && state.port & (OUTPUT_RUN | !OUTPUT_LATCHED) == OUTPUT_RUN
            && state.unused == 0
    }

    fn read(&mut self, state: &mut State, at: Access) -> Result<u64, NoRegister> {
        // A byte that is due arrives before the guest looks, so that a guest that polls need not wait for time to pass.
        state.take_byte();
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
        state.take_byte();
        Ok(())
    }

    fn alarm(&mut self, state: &mut State, _: u64) {
        state.take_byte();
    }

    fn button(&mut self, _: &mut State, _: u64) {}

    fn refresh(&mut self, _: &mut State, _: u64) {}

    fn scan(&mut self, _: &mut State, _: u64) -> Scan {
        Scan::Idle
    }

    fn pending(&self, _: &State) -> bool {
        false
    }

    fn outputs(&self, state: &State) -> Outputs {
        Outputs {
            levels: u32::from(state.interrupts()),
            deadline: state.expects_byte().then_some(state.next_byte_ns),
            ..Outputs::default()
        }
    }

    fn settle(&mut self, state: &State) {
        self.reset.settle((state.reset != 0).then_some(1));
    }
}

#[cfg(test)]
mod tests;
