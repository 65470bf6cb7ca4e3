//! The MC146818 real-time clock with its battery-backed memory, as an AT wires it.
//!
//! Source: Motorola, *MC146818A Real-Time Clock Plus RAM* data sheet; the index register at port 0x70 and 128 bytes of
//! memory as public descriptions of the PC/AT and the PS/2 have them; the byte for the century at 0x32 as the ACPI FADT names it.
//!
//! The registers are brought up to date when they are looked at. So the state at rest does not change with time, and the
//! one clock the chip has is the `now` that comes with each operation.

mod calendar;
mod setup;

use crate::declare;
use calendar::{Alarm, Encoding, Moment};
use device::manifest::{Acpi, Class, Line, Manifest, OptionSpec, Register, RegisterKind};
use device::{Access, AttachError, Device, NoRegister, OptionError, Options, Outputs, Powers, Scan};
use setup::Setup;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

pub(crate) const NAME: &str = "mc146818";

const PORT: u16 = 0x70;
const INTERRUPT: u8 = 8;

/// Port offsets.
const INDEX: u64 = 0;
const DATA: u64 = 1;
/// Bit 7 of the index masks the processor's NMI, which is not this chip's.
const INDEX_MASK: u8 = 0x7f;

const BYTES: usize = 128;

/// Register numbers.
const SECONDS: usize = 0;
const SECONDS_ALARM: usize = 1;
const MINUTES: usize = 2;
const MINUTES_ALARM: usize = 3;
const HOURS: usize = 4;
const HOURS_ALARM: usize = 5;
const WEEKDAY: usize = 6;
const DAY: usize = 7;
const MONTH: usize = 8;
const YEAR: usize = 9;
const A: usize = 10;
const B: usize = 11;
const C: usize = 12;
const D: usize = 13;
const CENTURY: usize = 0x32;

const A_UPDATING: u8 = 1 << 7;
const A_DIVIDER: u8 = 0x70;
/// The divider that makes seconds of a PC's 32,768 Hz crystal; with any other, time does not pass.
const A_DIVIDER_RUNS: u8 = 0x20;
const A_RATE: u8 = 0x0f;

const B_SET: u8 = 1 << 7;
const B_PERIODIC: u8 = 1 << 6;
const B_ALARM: u8 = 1 << 5;
const B_UPDATED: u8 = 1 << 4;
const B_BINARY: u8 = 1 << 2;
const B_24_HOURS: u8 = 1 << 1;

/// Register C's flags stand where register B's enables do.
const C_REQUESTED: u8 = 1 << 7;
const C_FLAGS: u8 = B_PERIODIC | B_ALARM | B_UPDATED;

/// Memory and time are valid: the battery is good.
const D_VALID: u8 = 1 << 7;

/// An alarm byte from here on matches everything.
const ANY: u8 = 0xc0;

const SECOND_NS: u64 = 1_000_000_000;
/// Table 6, time base 32.768 kHz: update-in-progress is told 244 µs before an update, which takes 1984 µs. What is seen
/// here as the moment of the update is its end.
const UPDATING_NS: u64 = (244 + 1984) * 1000;
/// After the divider is released the first update comes half a second later.
const FIRST_UPDATE_NS: u64 = SECOND_NS / 2;

/// Log2 of the crystal's 32,768 oscillations in a second.
const CRYSTAL_BITS: u32 = 15;

/// The posted kind: writes to the index register, which is only remembered.
const POSTED_INDEX: u8 = 0;

/// The chip.
pub(crate) struct Mc146818 {
    /// Unix time in nanoseconds when the guest's clock is 0.
    epoch_ns: u64,
    setup: Setup,
}

/// The chip's memory, and how far it is up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct State {
    /// Guest time up to which all that follows is true.
    seen_ns: u64,
    /// Seconds begin at guest times that are this, modulo a second.
    phase_ns: u32,
    /// The register that the data port shows.
    index: u8,
    /// Register C without its top bit.
    flags: u8,
    unused: [u8; 2],
    /// Registers and memory; C and D are kept elsewhere and zero here, A's update bit is made when it is read.
    bytes: [u8; BYTES],
}

impl State {
    fn is_set(&self, bit: u8) -> bool {
        self.bytes[B] & bit != 0
    }

    fn divider_runs(&self) -> bool {
        self.bytes[A] & A_DIVIDER == A_DIVIDER_RUNS
    }

    /// Whether seconds reach the calendar.
    fn updates(&self) -> bool {
        self.divider_runs() && !self.is_set(B_SET)
    }

    fn encoding(&self) -> Encoding {
        Encoding { binary: self.is_set(B_BINARY), hours24: self.is_set(B_24_HOURS) }
    }

    /// Guest time on the divider's own scale, where seconds begin at multiples of a second and nothing is negative.
    fn on_divider(&self, now: u64) -> u128 {
        u128::from(now) + u128::from(SECOND_NS) - u128::from(self.phase_ns)
    }

    /// The guest time of a moment on the divider's scale.
    fn at_guest_time(&self, at: u128) -> u64 {
        u64::try_from(at + u128::from(self.phase_ns) - u128::from(SECOND_NS)).unwrap_or(u64::MAX)
    }

    /// Whole seconds on the divider's scale.
    fn seconds(&self, now: u64) -> u128 {
        self.on_divider(now) / u128::from(SECOND_NS)
    }

    /// Oscillations of the crystal, as a power of two, between periodic interrupts (table 5).
    fn period_bits(&self) -> Option<u32> {
        match self.bytes[A] & A_RATE {
            0 => None,
            rate @ 1..=2 => Some(u32::from(rate) + 6),
            rate => Some(u32::from(rate) - 1),
        }
    }

    /// Periodic edges on the divider's scale.
    fn periods(&self, now: u64, bits: u32) -> u128 {
        ((self.on_divider(now) << CRYSTAL_BITS) / u128::from(SECOND_NS)) >> bits
    }

    fn catch_up(&mut self, now: u64) {
        if now <= self.seen_ns {
            return;
        }
        if self.divider_runs() {
            if let Some(bits) = self.period_bits()
                && self.periods(now, bits) != self.periods(self.seen_ns, bits)
            {
                self.flags |= B_PERIODIC;
            }
            // Both fit: guest time has 64 bits of nanoseconds.
            let seconds = (self.seconds(now) - self.seconds(self.seen_ns)) as u64;
            if seconds > 0 && self.updates() {
                self.update(seconds);
            }
        }
        self.seen_ns = now;
    }

    /// The calendar goes on by `seconds`.
    fn update(&mut self, seconds: u64) {
        self.flags |= B_UPDATED;
        // What the chip makes of a date that does not exist is not specified: here it stands still.
        let Some(before) = self.moment() else { return };
        if self.alarm().is_some_and(|alarm| alarm.wait(before.second) <= seconds) {
            self.flags |= B_ALARM;
        }
        let after = before.after(seconds);
        self.show(after);
        if let Some(weekday) = self.encoding().number(self.bytes[WEEKDAY]).filter(|day| (1..=7).contains(day)) {
            let days = (after.day_number() - before.day_number()) % 7;
            self.bytes[WEEKDAY] = (weekday - 1 + days as u8) % 7 + 1;
        }
    }

    /// What the calendar's bytes mean. Without a century that can be read it is the 21st.
    fn moment(&self) -> Option<Moment> {
        let encoding = self.encoding();
        let below_60 = |byte| encoding.number(byte).filter(|number| *number < 60).map(u64::from);
        let second = below_60(self.bytes[SECONDS])?;
        let minute = below_60(self.bytes[MINUTES])?;
        let hour = u64::from(encoding.hour(self.bytes[HOURS])?);
        let century = encoding.number(self.bytes[CENTURY]).unwrap_or(20);
        let year = u16::from(century) * 100 + u16::from(encoding.number(self.bytes[YEAR])?);
        let (month, day) = (encoding.number(self.bytes[MONTH])?, encoding.number(self.bytes[DAY])?);
        Moment::new(year, month, day, hour * 3600 + minute * 60 + second)
    }

    /// Writes all of the calendar but the day of the week, which counts for itself.
    fn show(&mut self, moment: Moment) {
        let encoding = self.encoding();
        let (year, month, day) = moment.date();
        self.bytes[SECONDS] = encoding.byte((moment.second % 60) as u8);
        self.bytes[MINUTES] = encoding.byte((moment.second / 60 % 60) as u8);
        self.bytes[HOURS] = encoding.hour_byte((moment.second / 3600) as u8);
        self.bytes[DAY] = encoding.byte(day);
        self.bytes[MONTH] = encoding.byte(month);
        self.bytes[YEAR] = encoding.byte((year % 100) as u8);
        if encoding.number(self.bytes[CENTURY]).is_some() {
            self.bytes[CENTURY] = encoding.byte((year / 100) as u8);
        }
    }

    /// When the alarm goes off; nothing if its bytes match no time.
    fn alarm(&self) -> Option<Alarm> {
        let encoding = self.encoding();
        let part = |byte: u8, number: Option<u8>| if byte >= ANY { Some(None) } else { number.map(Some) };
        let below_60 = |byte| encoding.number(byte).filter(|number| *number < 60);
        let (hours, minutes, seconds) = (self.bytes[HOURS_ALARM], self.bytes[MINUTES_ALARM], self.bytes[SECONDS_ALARM]);
        Some(Alarm {
            hour: part(hours, encoding.hour(hours))?,
            minute: part(minutes, below_60(minutes))?,
            second: part(seconds, below_60(seconds))?,
        })
    }

    /// Pure in `now`: the update bit is told, then the update happens.
    fn is_updating(&self) -> bool {
        let into_second = self.on_divider(self.seen_ns) % u128::from(SECOND_NS);
        self.updates() && into_second >= u128::from(SECOND_NS - UPDATING_NS)
    }

    fn requests_interrupt(&self) -> bool {
        self.flags & self.bytes[B] & C_FLAGS != 0
    }

    /// When a flag whose interrupt is enabled will next be set.
    fn deadline(&self) -> Option<u64> {
        // While the line is up nothing more can happen to it before a read of register C.
        if self.requests_interrupt() || !self.divider_runs() {
            return None;
        }
        let second = u128::from(SECOND_NS);
        let next_second = self.seconds(self.seen_ns) + 1;
        let periodic = self.period_bits().filter(|_| self.is_set(B_PERIODIC)).map(|bits| {
            let oscillations = (self.periods(self.seen_ns, bits) + 1) << bits;
            (oscillations * second).div_ceil(1 << CRYSTAL_BITS)
        });
        let updated = (self.is_set(B_UPDATED) && self.updates()).then_some(next_second * second);
        let alarm = (self.is_set(B_ALARM) && self.updates())
            .then(|| Some(self.alarm()?.wait(self.moment()?.second)))
            .flatten()
            .map(|wait| (next_second + u128::from(wait) - 1) * second);
        [periodic, updated, alarm].into_iter().flatten().min().map(|at| self.at_guest_time(at))
    }

    fn read(&mut self) -> u8 {
        match usize::from(self.index) {
            A => self.bytes[A] | if self.is_updating() { A_UPDATING } else { 0 },
            C => {
                let requested = if self.requests_interrupt() { C_REQUESTED } else { 0 };
                requested | std::mem::take(&mut self.flags)
            }
            D => D_VALID,
            index => self.bytes[index],
        }
    }

    fn write(&mut self, value: u8) {
        match usize::from(self.index) {
            A => {
                let ran = self.divider_runs();
                self.bytes[A] = value & !A_UPDATING;
                if !ran && self.divider_runs() {
                    let first = (self.seen_ns % SECOND_NS + FIRST_UPDATE_NS) % SECOND_NS;
                    self.phase_ns = first as u32;
                }
            }
            B => {
                let set_now = value & B_SET != 0 && !self.is_set(B_SET);
                // SET going high ends the update interrupt (register B, UIE).
                self.bytes[B] = if set_now { value & !B_UPDATED } else { value };
            }
            C | D => {}
            index => self.bytes[index] = value,
        }
    }
}

fn specs() -> Vec<OptionSpec> {
    let epoch = declare::number("epoch_ns", "0", "Unix time in nanoseconds when the guest's clock is 0");
    [epoch].into_iter().chain(setup::specs()).collect()
}

impl Device for Mc146818 {
    type State = State;

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        options.check(&specs())?;
        Setup::of(options)?;
        Ok(Manifest {
            ranges: vec![declare::ports("registers", PORT, 2)],
            registers: vec![Register { range: 0, offset: INDEX, width: 1, kind: RegisterKind::Posted(POSTED_INDEX) }],
            lines: vec![Line::Isa(INTERRUPT)],
            acpi: Some(Acpi { name: "RTC0".into(), hid: "PNP0B00".into(), century: CENTURY as u8, ..Acpi::default() }),
            options: specs(),
            remembered: 1 << POSTED_INDEX,
            ..declare::nothing::<State>(NAME, "MC146818 real-time clock and CMOS memory", Class::Timer)
        })
    }

    fn attach(options: &Options, _: &mut Powers) -> Result<Mc146818, AttachError> {
        options.check(&specs())?;
        Ok(Mc146818 { epoch_ns: options.number("epoch_ns")?.unwrap_or(0), setup: Setup::of(options)? })
    }

    fn power_on(&mut self) -> State {
        let mut state =
            State { phase_ns: ((SECOND_NS - self.epoch_ns % SECOND_NS) % SECOND_NS) as u32, ..State::new_zeroed() };
        // As a PC's firmware leaves it: 1024 Hz, no interrupts, decimal digits, 24 hours.
        state.bytes[A] = A_DIVIDER_RUNS | 0x06;
        state.bytes[B] = B_24_HOURS;
        self.setup.show(&mut state.bytes);
        let moment = Moment::from_unix(self.epoch_ns / SECOND_NS);
        state.show(moment);
        // 1 January 1970 was a Thursday, the fifth day as the chip counts.
        state.bytes[WEEKDAY] = ((self.epoch_ns / SECOND_NS / calendar::DAY + 4) % 7 + 1) as u8;
        state
    }

    fn check(&self, state: &State) -> bool {
        u64::from(state.phase_ns) < SECOND_NS
            && state.index <= INDEX_MASK
            && state.flags & !C_FLAGS == 0
            && state.unused == [0; 2]
            && state.bytes[A] & A_UPDATING == 0
            && state.bytes[C] == 0
            && state.bytes[D] == 0
    }

    fn read(&mut self, state: &mut State, at: Access) -> Result<u64, NoRegister> {
        // The index can only be written.
        let (1, DATA) = (at.width, at.offset) else { return Err(NoRegister) };
        state.catch_up(at.now);
        Ok(state.read().into())
    }

    fn write(&mut self, state: &mut State, at: Access, value: u64) -> Result<(), NoRegister> {
        let (1, Ok(value)) = (at.width, u8::try_from(value)) else { return Err(NoRegister) };
        match at.offset {
            INDEX => state.index = value & INDEX_MASK,
            DATA => {
                state.catch_up(at.now);
                state.write(value);
            }
            _ => return Err(NoRegister),
        }
        Ok(())
    }

    fn alarm(&mut self, state: &mut State, now: u64) {
        state.catch_up(now);
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
            levels: u32::from(state.requests_interrupt()),
            deadline: state.deadline(),
            postable: 1 << POSTED_INDEX,
            ..Outputs::default()
        }
    }

    fn settle(&mut self, _: &State) {}
}

#[cfg(test)]
mod tests;
