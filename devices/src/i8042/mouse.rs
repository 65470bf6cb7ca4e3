//! A mouse with two buttons, a wheel that is a third, on the end of the other cable.
//!
//! Source: public descriptions of IBM's *Mouse*, above all Brouwer, *Keyboard scancodes*, 12; Microsoft's description of the IntelliMouse
//! for the wheel.

use super::queue::Queue;
use device::display::Pointer;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

const ACKNOWLEDGE: u8 = 0xfa;
const RESEND: u8 = 0xfe;
const ERROR: u8 = 0xfc;
const SELF_TEST_PASSED: u8 = 0xaa;

const SCALING_1: u8 = 0xe6;
const SCALING_2: u8 = 0xe7;
const SET_RESOLUTION: u8 = 0xe8;
const STATUS: u8 = 0xe9;
const STREAM: u8 = 0xea;
const READ: u8 = 0xeb;
const WRAP_OFF: u8 = 0xec;
const WRAP: u8 = 0xee;
const REMOTE: u8 = 0xf0;
const IDENTIFY: u8 = 0xf2;
const SET_RATE: u8 = 0xf3;
const ENABLE: u8 = 0xf4;
const DISABLE: u8 = 0xf5;
const DEFAULTS: u8 = 0xf6;
const RESET: u8 = 0xff;

/// No parameter is awaited.
const NOTHING: u8 = 0;

/// Reports a second that it can be asked for.
const RATES: [u8; 7] = [10, 20, 40, 60, 80, 100, 200];
const RATE_DEFAULT: u8 = 100;
/// Rates that, set one after the other, ask whether there is a wheel.
const KNOCK: [u8; 3] = [200, 100, 80];
/// Four counts for each millimetre.
const RESOLUTION_DEFAULT: u8 = 2;
const RESOLUTION_MAX: u8 = 3;

/// What it calls itself: without its wheel, and once it was asked for that.
const PLAIN: u8 = 0;
const WHEEL: u8 = 3;

/// A report's motion has nine bits, and the wheel's four.
const MOTION_MAX: i16 = 255;
const WHEEL_MAX: i8 = 7;
/// Motion that is kept: more, in counts, than a table is wide.
const KEPT_MAX: i16 = 0x3fff;

/// Modes.
const MODE_STREAM: u8 = 0;
const MODE_REMOTE: u8 = 1;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// The mouse, what it has not sent yet, and what moved since it last reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Mouse {
    /// When it may next report of its own accord.
    sample_ns: u64,
    /// To the right, and up.
    dx: i16,
    dy: i16,
    wheel: i8,
    buttons: u8,
    /// Buttons as they were last reported.
    reported: u8,
    queue: Queue,
    /// The command whose parameter is awaited, or [`NOTHING`].
    awaited: u8,
    mode: u8,
    /// 0 or 1: it sends back what it is sent.
    wraps: u8,
    /// 0 or 1: it reports of its own accord, in stream mode.
    enabled: u8,
    /// 0 or 1: small motions count less, large ones more.
    scaled: u8,
    resolution: u8,
    rate: u8,
    /// How many rates of [`KNOCK`] were set.
    knocks: u8,
    identity: u8,
    /// The last byte that was sent.
    last: u8,
    unused: [u8; 6],
}

impl Mouse {
    pub(super) fn power_on() -> Mouse {
        Mouse { resolution: RESOLUTION_DEFAULT, rate: RATE_DEFAULT, ..Mouse::new_zeroed() }
    }

    pub(super) fn check(&self) -> bool {
        let kept = -KEPT_MAX..=KEPT_MAX;
        self.queue.check()
            && kept.contains(&self.dx)
            && kept.contains(&self.dy)
            && self.wheel > i8::MIN
            && (self.buttons | self.reported) & !Pointer::BUTTONS == 0
            && matches!(self.awaited, NOTHING | SET_RESOLUTION | SET_RATE)
            && self.mode <= MODE_REMOTE
            && self.wraps <= 1
            && self.enabled <= 1
            && self.scaled <= 1
            && self.resolution <= RESOLUTION_MAX
            && RATES.contains(&self.rate)
            && usize::from(self.knocks) < KNOCK.len()
            && matches!(self.identity, PLAIN | WHEEL)
            && self.unused == [0; 6]
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

    /// Whether it may be moved and nothing is lost: a button that changed twice between two reports would not be seen.
    pub(super) fn has_room(&self, pointer: &Pointer) -> bool {
        !self.reports() || self.buttons == self.reported || pointer.buttons == self.buttons
    }

    /// A person moves it.
    pub(super) fn moved(&mut self, pointer: &Pointer) {
        self.buttons = pointer.buttons & Pointer::BUTTONS;
        if !self.reports() && self.mode != MODE_REMOTE {
            return;
        }
        let add = |sum: i16, more: i16| sum.saturating_add(more).clamp(-KEPT_MAX, KEPT_MAX);
        self.dx = add(self.dx, pointer.dx.into());
        self.dy = add(self.dy, -i16::from(pointer.dy));
        if self.identity == WHEEL {
            self.wheel = self.wheel.saturating_add(pointer.wheel).max(-i8::MAX);
        }
    }

    /// When it has something to report, if it has.
    pub(super) fn due(&self) -> Option<u64> {
        let moved = self.dx != 0 || self.dy != 0 || self.wheel != 0 || self.buttons != self.reported;
        (moved && self.reports() && self.queue.is_empty()).then_some(self.sample_ns)
    }

    /// Reports, if it is time.
    pub(super) fn sample(&mut self, now: u64) {
        if self.due().is_some_and(|due| due <= now) {
            self.report();
            self.sample_ns = now.saturating_add(NS_PER_SECOND / u64::from(self.rate.max(1)));
        }
    }

    /// Whether it reports of its own accord.
    fn reports(&self) -> bool {
        self.enabled != 0 && self.mode == MODE_STREAM && self.wraps == 0
    }

    fn report(&mut self) {
        let dx = portion(&mut self.dx);
        let dy = portion(&mut self.dy);
        // Only what is reported of its own accord is scaled.
        let [dx, dy] =
            [dx, dy].map(|count| if self.scaled != 0 && self.mode == MODE_STREAM { scale(count) } else { count });
        let sign = |count: i16, bit: u8| if count < 0 { 1 << bit } else { 0 };
        let first = 1 << 3 | self.buttons | sign(dx, 4) | sign(dy, 5);
        self.queue.put(&[first, dx as u8, dy as u8]);
        if self.identity == WHEEL {
            let wheel = self.wheel.clamp(-WHEEL_MAX, WHEEL_MAX);
            self.wheel -= wheel;
            self.queue.put(&[wheel as u8]);
        }
        self.reported = self.buttons;
    }

    /// Motion since the last report means nothing any more.
    fn forget(&mut self) {
        (self.dx, self.dy, self.wheel, self.reported) = (0, 0, 0, self.buttons);
    }

    /// Takes a byte from the system.
    pub(super) fn receive(&mut self, byte: u8) {
        if self.wraps != 0 && !matches!(byte, WRAP_OFF | RESET) {
            return self.queue.put(&[byte]);
        }
        // What it was about to say is overtaken by the answer.
        self.queue.clear();
        // A command in the place of a parameter is a command: no rate and no resolution is as large. A driver that tries
        // what other makers' mice understand leaves parameters out.
        let awaited = std::mem::replace(&mut self.awaited, NOTHING);
        if byte < SCALING_1 && awaited != NOTHING {
            self.parameter(awaited, byte);
        } else {
            self.command(byte);
        }
    }

    fn parameter(&mut self, command: u8, byte: u8) {
        match command {
            SET_RESOLUTION if byte <= RESOLUTION_MAX => self.resolution = byte,
            SET_RATE if RATES.contains(&byte) => self.set_rate(byte),
            // A parameter that makes no sense is asked for again.
            _ => {
                self.awaited = command;
                return self.queue.put(&[RESEND]);
            }
        }
        self.queue.put(&[ACKNOWLEDGE]);
    }

    fn set_rate(&mut self, rate: u8) {
        self.rate = rate;
        self.knocks = match KNOCK.get(usize::from(self.knocks)) {
            Some(next) if *next == rate => self.knocks + 1,
            _ => u8::from(rate == KNOCK[0]),
        };
        if usize::from(self.knocks) == KNOCK.len() {
            (self.knocks, self.identity) = (0, WHEEL);
        }
    }

    fn command(&mut self, byte: u8) {
        match byte {
            RESET => {
                *self = Mouse { buttons: self.buttons, reported: self.buttons, ..Mouse::power_on() };
                return self.queue.put(&[ACKNOWLEDGE, SELF_TEST_PASSED, PLAIN]);
            }
            RESEND => return self.queue.put(&[self.last]),
            IDENTIFY => return self.queue.put(&[ACKNOWLEDGE, self.identity]),
            STATUS => {
                let set = |flag: bool, bit: u8| u8::from(flag) << bit;
                let modes = set(self.mode == MODE_REMOTE, 6) | set(self.enabled != 0, 5) | set(self.scaled != 0, 4);
                let [left, right, middle] = [0, 1, 2].map(|button| self.buttons >> button & 1 != 0);
                let first = modes | set(left, 2) | set(middle, 1) | set(right, 0);
                return self.queue.put(&[ACKNOWLEDGE, first, self.resolution, self.rate]);
            }
            READ => {
                self.queue.put(&[ACKNOWLEDGE]);
                return self.report();
            }
            SET_RESOLUTION | SET_RATE => self.awaited = byte,
            SCALING_1 | SCALING_2 => self.scaled = u8::from(byte == SCALING_2),
            STREAM | REMOTE => {
                self.mode = if byte == REMOTE { MODE_REMOTE } else { MODE_STREAM };
                self.forget();
            }
            WRAP | WRAP_OFF => self.wraps = u8::from(byte == WRAP),
            ENABLE | DISABLE => {
                self.enabled = u8::from(byte == ENABLE);
                self.forget();
            }
            DEFAULTS => {
                let kept = *self;
                *self = Mouse {
                    buttons: kept.buttons,
                    reported: kept.buttons,
                    identity: kept.identity,
                    last: kept.last,
                    ..Mouse::power_on()
                };
            }
            _ => return self.queue.put(&[ERROR]),
        }
        self.queue.put(&[ACKNOWLEDGE]);
    }
}

/// Takes as much of a motion as one report tells.
fn portion(kept: &mut i16) -> i16 {
    let told = (*kept).clamp(-MOTION_MAX, MOTION_MAX);
    *kept -= told;
    told
}

/// Scaling 2:1.
fn scale(count: i16) -> i16 {
    let scaled = match count.unsigned_abs() {
        0 => 0,
        1 | 2 => 1,
        3 => 3,
        4 => 6,
        5 => 9,
        more => (2 * more).min(MOTION_MAX.unsigned_abs()),
    } as i16;
    if count < 0 { -scaled } else { scaled }
}
