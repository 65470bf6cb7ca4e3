//! The parallel port of a PC, with a printer that is always ready.
//!
//! Source: public descriptions of the PS/2's port (registers, extended mode, interrupt status) and of IEEE 1284's compatibility mode
//! for the handshake.
//!
//! The printer is infinitely fast: a byte is acknowledged as soon as the ring to the outside has room for it. Until then
//! the port says that the printer is busy.

use crate::declare;
use device::manifest::{Acpi, Class, Line, Manifest, OptionSpec, Power};
use device::{Access, AttachError, Device, NoRegister, OptionError, Options, Outputs, Powers, Scan, Stream};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

pub(crate) const NAME: &str = "parallel";

const PORT: u16 = 0x378;
/// Data, status and control; the port after them belongs to modes that this one does not have.
const PORTS: u16 = 3;
const INTERRUPT: u8 = 7;

/// Register offsets.
const DATA: u64 = 0;
const STATUS: u64 = 1;
const CONTROL: u64 = 2;

/// Nothing stands on the two reserved bits of the status register, which read as ones.
const STATUS_RESERVED: u8 = 0x03;
/// Low: the printer has acknowledged a byte, and the register was not read since.
const STATUS_NOT_INTERRUPT: u8 = 1 << 2;
const STATUS_NOT_ERROR: u8 = 1 << 3;
const STATUS_SELECTED: u8 = 1 << 4;
/// Low only for the time of the acknowledgement, which is no time here.
const STATUS_NOT_ACKNOWLEDGE: u8 = 1 << 6;
const STATUS_NOT_BUSY: u8 = 1 << 7;

const CONTROL_STROBE: u8 = 1 << 0;
/// Low: the printer is reset.
const CONTROL_NOT_RESET: u8 = 1 << 2;
const CONTROL_INTERRUPT: u8 = 1 << 4;
/// High: the data pins are inputs.
const CONTROL_INPUT: u8 = 1 << 5;
const CONTROL_ALL: u8 = 0x3f;
/// The two reserved bits of the control register read as ones.
const CONTROL_RESERVED: u8 = 0xc0;

/// What open inputs show.
const NOTHING_DRIVES: u8 = 0xff;

/// The port and its cable.
pub(crate) struct Parallel {
    stream: Box<dyn Stream>,
}

/// The port's registers, and its place in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct State {
    /// Bytes put into the stream in all, modulo 2^32.
    out_head: u32,
    /// Where the stream's other direction stood when the port was powered on: nothing is ever read of it.
    in_tail: u32,
    data: u8,
    control: u8,
    /// The byte that the printer has not taken yet.
    held: u8,
    /// 0 or 1: there is one.
    busy: u8,
    /// 0 or 1: a byte was acknowledged, and the status register not read since.
    acknowledged: u8,
    unused: [u8; 3],
}

impl State {
    fn status(&self) -> u8 {
        let mut status = STATUS_RESERVED | STATUS_NOT_ERROR | STATUS_SELECTED | STATUS_NOT_ACKNOWLEDGE;
        if self.busy == 0 {
            status |= STATUS_NOT_BUSY;
        }
        if self.acknowledged == 0 {
            status |= STATUS_NOT_INTERRUPT;
        }
        status
    }

    fn set_control(&mut self, control: u8) {
        let strobed = control & !self.control & CONTROL_STROBE != 0;
        self.control = control & CONTROL_ALL;
        if self.control & CONTROL_NOT_RESET == 0 {
            self.busy = 0;
        } else if strobed && self.busy == 0 {
            // A byte strobed at a busy printer is lost (1284, compatibility mode).
            (self.held, self.busy) = (self.data, 1);
        }
    }
}

impl Parallel {
    /// The printer takes the byte, if there is one and room for it.
    fn print(&mut self, state: &mut State) -> bool {
        let prints = self.may_print(state);
        if prints {
            self.stream.put(state.out_head, state.held);
            state.out_head = state.out_head.wrapping_add(1);
            state.busy = 0;
            state.acknowledged = 1;
        }
        prints
    }

    fn may_print(&self, state: &State) -> bool {
        state.busy != 0 && self.stream.room(state.out_head) > 0
    }
}

struct Wiring {
    port: u16,
    interrupt: u8,
}

fn specs() -> Vec<OptionSpec> {
    vec![declare::number("port", "0x378", "first I/O port"), declare::number("irq", "7", "ISA interrupt number")]
}

fn wiring(options: &Options) -> Result<Wiring, OptionError> {
    options.check(&specs())?;
    Ok(Wiring {
        port: declare::port_option(options, "port", PORT, PORTS)?,
        interrupt: declare::isa_option(options, "irq", INTERRUPT)?,
    })
}

/// The name that a PC's tables give a parallel port at `port`. Elsewhere it is not described: the guest must be told.
fn acpi(port: u16) -> Option<Acpi> {
    let (uid, name) = [(0x378, "LPT1"), (0x278, "LPT2"), (0x3bc, "LPT3")]
        .into_iter()
        .zip(1..)
        .find_map(|((base, name), uid)| (base == port).then_some((uid, name)))?;
    Some(Acpi { name: name.into(), hid: "PNP0400".into(), uid, ..Acpi::default() })
}

impl Device for Parallel {
    type State = State;

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        let wiring = wiring(options)?;
        Ok(Manifest {
            ranges: vec![declare::ports("registers", wiring.port, PORTS)],
            lines: vec![Line::Isa(wiring.interrupt)],
            wishes: vec![declare::wish(Power::Stream, "printer", "what is printed goes there")],
            acpi: acpi(wiring.port),
            options: specs(),
            ..declare::nothing::<State>(NAME, "Parallel port with a printer", Class::Char)
        })
    }

    fn attach(options: &Options, powers: &mut Powers) -> Result<Parallel, AttachError> {
        wiring(options)?;
        Ok(Parallel { stream: powers.stream(0)? })
    }

    fn power_on(&mut self) -> State {
        // The rings are not reset with the port: bytes already handed over stay so.
        let (out_head, in_tail) = self.stream.published();
        State { out_head, in_tail, control: CONTROL_NOT_RESET, ..State::new_zeroed() }
    }

    fn check(&self, state: &State) -> bool {
        state.busy <= 1 && state.acknowledged <= 1 && state.control & !CONTROL_ALL == 0 && state.unused == [0; 3]
    }

    fn read(&mut self, state: &mut State, at: Access) -> Result<u64, NoRegister> {
        if at.width != 1 {
            return Err(NoRegister);
        }
        let value = match at.offset {
            DATA if state.control & CONTROL_INPUT != 0 => NOTHING_DRIVES,
            DATA => state.data,
            STATUS => {
                let status = state.status();
                state.acknowledged = 0;
                status
            }
            CONTROL => state.control | CONTROL_RESERVED,
            _ => return Err(NoRegister),
        };
        Ok(value.into())
    }

    fn write(&mut self, state: &mut State, at: Access, value: u64) -> Result<(), NoRegister> {
        let (1, Ok(value)) = (at.width, u8::try_from(value)) else { return Err(NoRegister) };
        match at.offset {
            DATA => state.data = value,
            // It can only be read.
            STATUS => {}
            CONTROL => {
                self.print(state);
                state.set_control(value);
                self.print(state);
            }
            _ => return Err(NoRegister),
        }
        Ok(())
    }

    fn alarm(&mut self, _: &mut State, _: u64) {}

    fn button(&mut self, _: &mut State, _: u64) {}

    fn refresh(&mut self, _: &mut State, _: u64) {}

    fn scan(&mut self, state: &mut State, _: u64) -> Scan {
        if self.print(state) { Scan::Changed } else { Scan::Idle }
    }

    fn pending(&self, state: &State) -> bool {
        self.may_print(state)
    }

    fn outputs(&self, state: &State) -> Outputs {
        let interrupts = state.acknowledged != 0 && state.control & CONTROL_INTERRUPT != 0;
        Outputs { levels: u32::from(interrupts), ..Outputs::default() }
    }

    fn settle(&mut self, state: &State) {
        self.stream.publish(state.out_head, state.in_tail);
    }
}

#[cfg(test)]
mod tests;
