//! An enhanced keyboard on the end of the cable: it answers commands, and nobody types on it yet.
//!
//! Source: IBM PS/2 Hardware Interface Technical Reference, *Keyboards (101- and 102-key)*, part "Commands from the
//! system".

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Bytes that a keyboard keeps until they are taken.
const QUEUE: usize = 16;

const ACKNOWLEDGE: u8 = 0xfa;
const RESEND: u8 = 0xfe;
const SELF_TEST_PASSED: u8 = 0xaa;
const ECHO: u8 = 0xee;
/// What an enhanced keyboard calls itself.
const IDENTITY: [u8; 2] = [0xab, 0x83];

const SET_LEDS: u8 = 0xed;
const SCAN_CODE_SET: u8 = 0xf0;
const IDENTIFY: u8 = 0xf2;
const SET_TYPEMATIC: u8 = 0xf3;
const ENABLE: u8 = 0xf4;
const DISABLE: u8 = 0xf5;
const DEFAULTS: u8 = 0xf6;
/// Key types, all or single keys: they would change what a key sends.
const KEY_TYPES: std::ops::RangeInclusive<u8> = 0xf7..=0xfd;
const RESET: u8 = 0xff;

/// No parameter is awaited.
const NOTHING: u8 = 0;

/// Ten repetitions a second after half a second.
const TYPEMATIC_DEFAULT: u8 = 0x2b;
const SET_DEFAULT: u8 = 2;

/// The keyboard, and what it has not sent yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Keyboard {
    queue: [u8; QUEUE],
    queued: u8,
    /// The command whose parameter is awaited, or [`NOTHING`].
    awaited: u8,
    /// 0 or 1: it would send keys.
    enabled: u8,
    leds: u8,
    typematic: u8,
    /// Scan code set, 1 to 3.
    set: u8,
    /// The last byte that was sent.
    last: u8,
    unused: u8,
}

impl Keyboard {
    /// Where the queue's length lies.
    #[cfg(test)]
    pub(super) const QUEUED: usize = std::mem::offset_of!(Keyboard, queued);

    pub(super) fn power_on() -> Keyboard {
        Keyboard { enabled: 1, typematic: TYPEMATIC_DEFAULT, set: SET_DEFAULT, ..Keyboard::new_zeroed() }
    }

    pub(super) fn check(&self) -> bool {
        usize::from(self.queued) <= QUEUE
            && matches!(self.awaited, NOTHING | SET_LEDS | SCAN_CODE_SET | SET_TYPEMATIC)
            && self.enabled <= 1
            && (1..=3).contains(&self.set)
            && self.unused == 0
    }

    /// Whether it has something to send.
    pub(super) fn has_byte(&self) -> bool {
        self.queued > 0
    }

    /// Sends a byte.
    pub(super) fn send(&mut self) -> Option<u8> {
        self.queued = self.queued.checked_sub(1)?;
        self.last = self.queue[0];
        self.queue.copy_within(1.., 0);
        Some(self.last)
    }

    /// Takes a byte from the system.
    pub(super) fn receive(&mut self, byte: u8) {
        // A command in the place of a parameter is a command.
        let awaited = std::mem::replace(&mut self.awaited, NOTHING);
        if byte < SET_LEDS && awaited != NOTHING {
            self.parameter(awaited, byte);
        } else {
            self.command(byte);
        }
    }

    fn parameter(&mut self, command: u8, byte: u8) {
        match (command, byte) {
            (SET_LEDS, _) => self.leds = byte,
            (SET_TYPEMATIC, _) => self.typematic = byte,
            (_, 0) => return self.answer(&[ACKNOWLEDGE, self.set]),
            (_, 1..=3) => self.set = byte,
            _ => return self.answer(&[RESEND]),
        }
        self.answer(&[ACKNOWLEDGE]);
    }

    fn command(&mut self, byte: u8) {
        match byte {
            SET_LEDS | SCAN_CODE_SET | SET_TYPEMATIC => {
                self.awaited = byte;
                self.answer(&[ACKNOWLEDGE]);
            }
            ECHO => self.answer(&[ECHO]),
            IDENTIFY => self.answer(&[ACKNOWLEDGE, IDENTITY[0], IDENTITY[1]]),
            ENABLE => {
                self.queued = 0;
                self.enabled = 1;
                self.answer(&[ACKNOWLEDGE]);
            }
            DISABLE | DEFAULTS => {
                *self = Keyboard {
                    enabled: u8::from(byte == DEFAULTS),
                    leds: self.leds,
                    last: self.last,
                    ..Keyboard::power_on()
                };
                self.answer(&[ACKNOWLEDGE]);
            }
            RESET => {
                *self = Keyboard::power_on();
                self.answer(&[ACKNOWLEDGE, SELF_TEST_PASSED]);
            }
            RESEND => self.answer(&[self.last]),
            byte if KEY_TYPES.contains(&byte) => self.answer(&[ACKNOWLEDGE]),
            _ => self.answer(&[RESEND]),
        }
    }

    /// What finds no place is lost: the system did not read what it had asked for.
    fn answer(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(free) = self.queue.get_mut(usize::from(self.queued)) {
                *free = *byte;
                self.queued += 1;
            }
        }
    }
}
