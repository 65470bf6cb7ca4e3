//! An enhanced keyboard on the end of the cable.
//!
//! Source: public descriptions of IBM's *Keyboards (101- and 102-key)*, parts "Commands from the system" and "Scan code sets", above all
//! Brouwer, *Keyboard scancodes*, 10 and 11.

use super::keys::{self, Key};
use super::queue::Queue;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

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
/// All keys repeat; send when they are let go as well; do not; do both.
const ALL_REPEAT: u8 = 0xf7;
const ALL_BREAK: u8 = 0xf8;
const ALL_MAKE: u8 = 0xf9;
const ALL_BOTH: u8 = 0xfa;
/// The same of the keys whose codes of set 3 follow.
const KEY_REPEATS: u8 = 0xfb;
const KEY_BREAKS: u8 = 0xfc;
const KEY_MAKES: u8 = 0xfd;
const RESET: u8 = 0xff;

/// No parameter is awaited.
const NOTHING: u8 = 0;

/// Eleven repetitions a second after half a second.
const TYPEMATIC_DEFAULT: u8 = 0x2b;
const TYPEMATIC_DELAY_NS: u64 = 250_000_000;
/// What the period counts: a 240th of a second.
const TYPEMATIC_UNIT_NS: u64 = 1_000_000_000 / 240;
const SET_DEFAULT: u8 = 2;
const SETS: std::ops::RangeInclusive<u8> = 1..=3;

/// The most bytes of one key: Pause in set 2.
pub(super) const KEY_BYTES_MAX: usize = 8;

/// The keyboard, and what it has not sent yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Keyboard {
    /// When the key that is held sends its code again.
    repeat_ns: u64,
    /// The key that was pressed last, if it is held and repeats; else 0, which is no key.
    held: u16,
    queue: Queue,
    /// The command whose parameter is awaited, or [`NOTHING`].
    awaited: u8,
    /// 0 or 1: it sends keys.
    enabled: u8,
    leds: u8,
    typematic: u8,
    /// Scan code set, 1 to 3.
    set: u8,
    /// The last byte that was sent.
    last: u8,
    /// In set 3: keys that send when they are let go, and keys that repeat.
    breaks: Keys,
    repeats: Keys,
    unused: [u8; 7],
}

/// Bit `n`: the key with code `n` of set 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
struct Keys([u8; 32]);

impl Keys {
    const NONE: Keys = Keys([0; 32]);
    const ALL: Keys = Keys([0xff; 32]);

    fn has(&self, code: u8) -> bool {
        self.0[usize::from(code / 8)] >> (code % 8) & 1 != 0
    }

    fn set(&mut self, code: u8, has: bool) {
        let byte = &mut self.0[usize::from(code / 8)];
        *byte = *byte & !(1 << (code % 8)) | u8::from(has) << (code % 8);
    }
}

impl Keyboard {
    pub(super) fn power_on() -> Keyboard {
        let mut keyboard = Keyboard {
            enabled: 1,
            typematic: TYPEMATIC_DEFAULT,
            set: SET_DEFAULT,
            repeats: Keys::ALL,
            ..Keyboard::new_zeroed()
        };
        keys::HELD.iter().for_each(|code| keyboard.breaks.set(*code, true));
        keys::HELD.iter().chain(&keys::ONCE).for_each(|code| keyboard.repeats.set(*code, false));
        keyboard
    }

    pub(super) fn check(&self) -> bool {
        self.queue.check()
            && matches!(
                self.awaited,
                NOTHING | SET_LEDS | SCAN_CODE_SET | SET_TYPEMATIC | KEY_REPEATS | KEY_BREAKS | KEY_MAKES
            )
            && self.enabled <= 1
            && SETS.contains(&self.set)
            && (self.held == 0 || keys::key(self.held).is_some())
            && self.unused == [0; 7]
    }

    /// Whether it has something to send.
    pub(super) fn has_byte(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Sends a byte.
    pub(super) fn send(&mut self) -> Option<u8> {
        self.last = self.queue.take()?;
        Some(self.last)
    }

    /// Whether a key may be pressed or let go and nothing is lost.
    pub(super) fn has_room(&self) -> bool {
        self.enabled == 0 || self.queue.room() >= KEY_BYTES_MAX
    }

    /// A person presses a key, or lets it go. One that this keyboard has not, or all while it is disabled, send nothing; nor does one
    /// that is pressed while it is held, for it repeats by itself.
    pub(super) fn strike(&mut self, usage: u16, pressed: bool, now: u64) {
        let Some(key) = keys::key(usage).filter(|_| self.enabled != 0) else { return };
        match (pressed, self.held == usage) {
            (true, true) => return,
            (true, false) => {
                self.held = if self.repeats(usage, key) { usage } else { 0 };
                self.repeat_ns = now.saturating_add(self.delay_ns());
            }
            // Another key that is let go does not end it.
            (false, held) => self.held = if held { 0 } else { self.held },
        }
        match (self.set, usage, pressed) {
            (1, keys::PAUSE, true) => self.queue.put(&[0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5]),
            (2, keys::PAUSE, true) => self.queue.put(&[0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77]),
            // It sends nothing when it is let go.
            (1 | 2, keys::PAUSE, false) => {}
            (1, keys::PRINT_SCREEN, true) => self.queue.put(&[0xe0, 0x2a, 0xe0, 0x37]),
            (1, keys::PRINT_SCREEN, false) => self.queue.put(&[0xe0, 0xb7, 0xe0, 0xaa]),
            (2, keys::PRINT_SCREEN, true) => self.queue.put(&[0xe0, 0x12, 0xe0, 0x7c]),
            (2, keys::PRINT_SCREEN, false) => self.queue.put(&[0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12]),
            (_, _, pressed) => self.send_key(key, pressed),
        }
    }

    fn send_key(&mut self, key: Key, pressed: bool) {
        if self.set != 3 && key.extended {
            self.queue.put(&[0xe0]);
        }
        match (self.set, pressed) {
            (1, _) => self.queue.put(&[if pressed { key.set_1 } else { key.set_1 | 0x80 }]),
            (2, true) => self.queue.put(&[key.set_2]),
            (2, false) => self.queue.put(&[0xf0, key.set_2]),
            (_, true) => self.queue.put(&[key.set_3]),
            (_, false) if self.breaks.has(key.set_3) => self.queue.put(&[0xf0, key.set_3]),
            (_, false) => {}
        }
    }

    fn repeats(&self, usage: u16, key: Key) -> bool {
        if self.set == 3 { self.repeats.has(key.set_3) } else { usage != keys::PAUSE }
    }

    /// When the key that is held sends its code again, if one is. What waits is sent before: of a key that is held while nothing can be
    /// sent only the first code is kept.
    pub(super) fn due(&self) -> Option<u64> {
        (self.held != 0 && self.queue.is_empty()).then_some(self.repeat_ns)
    }

    /// The key that is held sends its code again, if it is time.
    pub(super) fn repeat(&mut self, now: u64) {
        if self.due().is_some_and(|due| due <= now)
            && let Some(key) = keys::key(self.held)
        {
            self.send_key(key, true);
            self.repeat_ns = now.saturating_add(self.period_ns());
        }
    }

    /// Bits 5 and 6 of the typematic rate: one to four quarters of a second.
    fn delay_ns(&self) -> u64 {
        (1 + u64::from(self.typematic >> 5 & 3)) * TYPEMATIC_DELAY_NS
    }

    /// Bits 0 to 4: eight to fifteen units, doubled up to three times.
    fn period_ns(&self) -> u64 {
        ((8 + u64::from(self.typematic & 7)) << (self.typematic >> 3 & 3)) * TYPEMATIC_UNIT_NS
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
            // More keys may follow, until a command does.
            (KEY_REPEATS | KEY_BREAKS | KEY_MAKES, code) => {
                self.breaks.set(code, command == KEY_BREAKS);
                self.repeats.set(code, command == KEY_REPEATS);
                self.awaited = command;
            }
            (_, 0) => return self.queue.put(&[ACKNOWLEDGE, self.set]),
            (_, set) if SETS.contains(&set) => self.set = set,
            _ => return self.queue.put(&[RESEND]),
        }
        self.queue.put(&[ACKNOWLEDGE]);
    }

    fn command(&mut self, byte: u8) {
        match byte {
            SET_LEDS | SCAN_CODE_SET | SET_TYPEMATIC | KEY_REPEATS | KEY_BREAKS | KEY_MAKES => {
                if !matches!(byte, SET_LEDS | SET_TYPEMATIC) {
                    // What keys send is about to change.
                    self.held = 0;
                }
                self.awaited = byte;
                self.queue.put(&[ACKNOWLEDGE]);
            }
            ECHO => self.queue.put(&[ECHO]),
            IDENTIFY => self.queue.put(&[ACKNOWLEDGE, IDENTITY[0], IDENTITY[1]]),
            ENABLE => {
                self.queue.clear();
                (self.enabled, self.held) = (1, 0);
                self.queue.put(&[ACKNOWLEDGE]);
            }
            DISABLE | DEFAULTS => {
                *self = Keyboard {
                    enabled: u8::from(byte == DEFAULTS),
                    leds: self.leds,
                    last: self.last,
                    ..Keyboard::power_on()
                };
                self.queue.put(&[ACKNOWLEDGE]);
            }
            ALL_REPEAT | ALL_BREAK | ALL_MAKE | ALL_BOTH => {
                let all_if = |all: bool| if all { Keys::ALL } else { Keys::NONE };
                self.breaks = all_if(matches!(byte, ALL_BREAK | ALL_BOTH));
                self.repeats = all_if(matches!(byte, ALL_REPEAT | ALL_BOTH));
                self.held = 0;
                self.queue.put(&[ACKNOWLEDGE]);
            }
            RESET => {
                *self = Keyboard::power_on();
                self.queue.put(&[ACKNOWLEDGE, SELF_TEST_PASSED]);
            }
            RESEND => self.queue.put(&[self.last]),
            _ => self.queue.put(&[RESEND]),
        }
    }
}
