//! ACPI fixed hardware: the PM1 event and control blocks and the power management timer.
//!
//! Source: *ACPI Specification* 6.5, 4.8.3.1 (PM1 event grouping), 4.8.3.2 (PM1 control), 4.8.3.3 (PM timer). There is no
//! firmware in system management mode behind it: the machine is always in ACPI mode.

use crate::declare;
use crate::latch::Latch;
use device::manifest::{Acpi, Class, Fixed, Line, Manifest, OptionSpec, Switch};
use device::{Access, AttachError, Device, NoRegister, OptionError, Options, Outputs, Powers, Scan};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

pub(crate) const NAME: &str = "acpi-pm";

const PORT: u16 = 0x600;
const PORTS: u16 = 12;
/// The system control interrupt that PCs use.
const SCI: u8 = 9;

/// Offsets of the blocks. The event block is two registers, status and enable, of two bytes each.
const EVENT: u64 = 0;
const CONTROL: u64 = 4;
const TIMER: u64 = 8;

/// Events: the same bit in status and enable.
const EVENT_TIMER: u16 = 1 << 0;
const EVENT_GLOBAL: u16 = 1 << 5;
const EVENT_POWER_BUTTON: u16 = 1 << 8;
const EVENT_SLEEP_BUTTON: u16 = 1 << 9;
const EVENT_CLOCK: u16 = 1 << 10;
const EVENTS: u16 = EVENT_TIMER | EVENT_GLOBAL | EVENT_POWER_BUTTON | EVENT_SLEEP_BUTTON | EVENT_CLOCK;

const CONTROL_SCI: u16 = 1 << 0;
const CONTROL_BUS_MASTER: u16 = 1 << 1;
const CONTROL_SLEEP_TYPE: u16 = 7 << 10;
const CONTROL_SLEEP: u16 = 1 << 13;

/// The sleep type that our tables call S5.
const SOFT_OFF: u8 = 5;

const TIMER_HZ: u128 = 3_579_545;
const SECOND_NS: u128 = 1_000_000_000;
/// The timer has 24 bits, as it has for every system that is not told otherwise (FADT, `TMR_VAL_EXT`).
const TIMER_MASK: u64 = (1 << 24) - 1;
/// Its event comes when the highest one changes.
const TIMER_EVENT_BITS: u32 = 23;

/// The block, and its way to the power supply.
pub(crate) struct AcpiPm {
    power_off: Latch,
}

/// The registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct State {
    /// Guest time up to which `status` is true.
    seen_ns: u64,
    status: u16,
    enable: u16,
    /// The bits that are stored: bus master reload and sleep type.
    control: u16,
    /// 0 or 1: the power is to be switched off.
    off: u8,
    unused: u8,
}

/// The timer's count, not yet cut to its width.
fn ticks(now: u64) -> u128 {
    u128::from(now) * TIMER_HZ / SECOND_NS
}

impl State {
    fn catch_up(&mut self, now: u64) {
        if now <= self.seen_ns {
            return;
        }
        if ticks(now) >> TIMER_EVENT_BITS != ticks(self.seen_ns) >> TIMER_EVENT_BITS {
            self.status |= EVENT_TIMER;
        }
        self.seen_ns = now;
    }

    /// The event block and the control block as the guest reads them: eight bytes.
    fn blocks(&self) -> u64 {
        let control = self.control | CONTROL_SCI;
        u64::from(self.status) | u64::from(self.enable) << 16 | u64::from(control) << 32
    }

    /// Takes a write of those bytes of the blocks that `mask` tells.
    fn set_blocks(&mut self, value: u64, mask: u64) {
        let part = |shift: u32| ((value >> shift) as u16, (mask >> shift) as u16);
        let (status, written) = part(0);
        self.status &= !(status & written);
        let (enable, written) = part(16);
        self.enable = (self.enable & !written | enable & written) & EVENTS;
        let (control, written) = part(32);
        self.control = (self.control & !written | control & written) & (CONTROL_BUS_MASTER | CONTROL_SLEEP_TYPE);
        let sleep_type = (self.control & CONTROL_SLEEP_TYPE) >> 10;
        if control & written & CONTROL_SLEEP != 0 && sleep_type == u16::from(SOFT_OFF) {
            self.off = 1;
        }
    }

    fn requests_interrupt(&self) -> bool {
        self.status & self.enable != 0
    }

    /// When the timer's event will next be set, if anybody is to hear of it.
    fn deadline(&self) -> Option<u64> {
        if self.enable & EVENT_TIMER == 0 || self.requests_interrupt() {
            return None;
        }
        let next = ((ticks(self.seen_ns) >> TIMER_EVENT_BITS) + 1) << TIMER_EVENT_BITS;
        u64::try_from((next * SECOND_NS).div_ceil(TIMER_HZ)).ok()
    }
}

/// Whether a naturally aligned access lies inside the event block or the control block.
fn is_in_blocks(at: Access) -> bool {
    let width = u64::from(at.width);
    let control_end = CONTROL + 2;
    at.offset.is_multiple_of(width) && at.offset + width <= control_end
}

fn specs() -> Vec<OptionSpec> {
    vec![declare::number("port", "0x600", "first I/O port")]
}

impl Device for AcpiPm {
    type State = State;

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        options.check(&specs())?;
        let port = declare::port_option(options, "port", PORT, PORTS)?;
        let fixed =
            Fixed { event: EVENT as u8, control: CONTROL as u8, timer: TIMER as u8, sci: SCI, sleep_type: SOFT_OFF };
        Ok(Manifest {
            ranges: vec![declare::ports("fixed", port, PORTS)],
            lines: vec![Line::Isa(SCI)],
            wishes: vec![declare::switch(Switch::PowerOff, "power-off", "the guest switches itself off")],
            acpi: Some(Acpi { fixed: Some(fixed), ..Acpi::default() }),
            options: specs(),
            ..declare::nothing::<State>(NAME, "ACPI power management: power button, power off, timer", Class::System)
        })
    }

    fn attach(options: &Options, powers: &mut Powers) -> Result<AcpiPm, AttachError> {
        options.check(&specs())?;
        Ok(AcpiPm { power_off: Latch::new(powers.switch(0)?) })
    }

    fn power_on(&mut self) -> State {
        State::new_zeroed()
    }

    fn check(&self, state: &State) -> bool {
        state.status & !(EVENT_TIMER | EVENT_POWER_BUTTON) == 0
            && state.enable & !EVENTS == 0
            && state.control & !(CONTROL_BUS_MASTER | CONTROL_SLEEP_TYPE) == 0
            && state.off <= 1
            && state.unused == 0
    }

    fn read(&mut self, state: &mut State, at: Access) -> Result<u64, NoRegister> {
        state.catch_up(at.now);
        match (at.offset, at.width) {
            (TIMER, 4) => Ok(ticks(at.now) as u64 & TIMER_MASK),
            _ if is_in_blocks(at) => Ok(state.blocks() >> (8 * at.offset)),
            _ => Err(NoRegister),
        }
    }

    fn write(&mut self, state: &mut State, at: Access, value: u64) -> Result<(), NoRegister> {
        if !is_in_blocks(at) {
            return Err(NoRegister);
        }
        state.catch_up(at.now);
        let mask = (1 << (8 * u32::from(at.width))) - 1;
        let shift = 8 * at.offset;
        state.set_blocks((value & mask) << shift, mask << shift);
        Ok(())
    }

    fn alarm(&mut self, state: &mut State, now: u64) {
        state.catch_up(now);
    }

    fn button(&mut self, state: &mut State, now: u64) {
        state.catch_up(now);
        state.status |= EVENT_POWER_BUTTON;
    }

    fn refresh(&mut self, _: &mut State, _: u64) {}

    fn scan(&mut self, _: &mut State, _: u64) -> Scan {
        Scan::Idle
    }

    fn pending(&self, _: &State) -> bool {
        false
    }

    fn outputs(&self, state: &State) -> Outputs {
        Outputs { levels: u32::from(state.requests_interrupt()), deadline: state.deadline(), ..Outputs::default() }
    }

    fn settle(&mut self, state: &State) {
        self.power_off.settle((state.off != 0).then_some(1));
    }
}

#[cfg(test)]
mod tests;
