//! The 82077AA floppy disk controller in PC/AT mode with two drives, and the DMA controllers that serve it.
//!
//! Source: Intel, *82077AA CHMOS Single-Chip Floppy Disk Controller* data sheet; the scan commands as public
//! descriptions of Intel's *8272A* have them; `dma8237` and `medium` name theirs.
//!
//! The controllers change each other's state with every byte, so they are one device.

mod command;
mod controller;
mod dma8237;
mod fifo;
mod medium;
mod transfer;

use crate::declare;
use controller::Controller;
use device::manifest::{
    Class, Line, Manifest, OptionKind, OptionSpec, Power, Register, RegisterKind, SHADOW_MAX, Tolerance, Wish,
};
use device::{Access, AttachError, Device, GuestMemory, NoRegister, OptionError, Options, Outputs, Powers, Scan};
use dma8237::{Dma, PAGES};
use medium::{Drive, Position};
use transfer::{STEP_NS, Transfer};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub(crate) const NAME: &str = "floppy";

/// Ranges. Between the first two lies a port of the IDE controller.
const REGISTERS: u8 = 0;
const INPUT: u8 = 1;
const FIRST_DMA: u8 = 2;
const PAGE: u8 = 3;
const SECOND_DMA: u8 = 4;

const PORT: u16 = 0x3f0;
const INPUT_PORT: u16 = 0x3f7;
const FIRST_DMA_PORT: u16 = 0x00;
const PAGE_PORT: u16 = 0x80;
const SECOND_DMA_PORT: u16 = 0xc0;
const FIRST_DMA_PORTS: u16 = 16;
const SECOND_DMA_PORTS: u16 = 32;
const INTERRUPT: u8 = 6;

/// Offsets in the first range. The two before them are not driven in this mode.
const OUTPUT: u64 = 2;
const TAPE: u64 = 3;
const STATUS: u64 = 4;
const DATA: u64 = 5;

/// A and B.
const DRIVES: usize = 2;
const NAMES: [&str; DRIVES] = ["a", "b"];

/// The controllers, and what is in the drives.
pub(crate) struct Floppy {
    drives: [Option<Drive>; DRIVES],
    memory: GuestMemory,
}

/// Everything that moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct State {
    chip: Controller,
    dma: Dma,
    positions: [Position; DRIVES],
}

impl Floppy {
    fn loaded(&self) -> [bool; DRIVES] {
        std::array::from_fn(|drive| self.drives[drive].is_some())
    }

    fn transfer<'a>(&'a mut self, state: &'a mut State) -> Transfer<'a> {
        Transfer {
            chip: &mut state.chip,
            dma: &mut state.dma,
            positions: &mut state.positions,
            drives: &mut self.drives,
            memory: &self.memory,
        }
    }

    /// What would happen in a moment happens before the guest looks, so that one that polls need not wait for time to pass.
    fn catch_up(&mut self, state: &mut State, now: u64) {
        if state.chip.goes_on() {
            self.transfer(state).go_on(now);
        }
    }

    /// A byte for the FIFO.
    fn take(&mut self, state: &mut State, byte: u8, now: u64) {
        let Some(command) = state.chip.take(byte) else { return };
        let loaded = self.loaded();
        if command.executes() {
            self.transfer(state).begin(command, now, &loaded);
        } else {
            let protected = std::array::from_fn::<_, DRIVES, _>(|drive| {
                self.drives[drive].as_ref().is_none_or(|drive| drive.protected)
            });
            state.chip.control(command, &mut state.positions, &loaded, &protected);
        }
    }
}

/// Posted writes, which are only remembered: to the DMA controllers' registers, which move nothing by themselves.
const PROGRAM: u8 = 0;
/// Shadow value: the main status, whose loads change nothing unless they move a command on.
const MAIN_STATUS: u8 = 0;
/// Posted writes that may be under way: more than a lane has room for.
const POSTS_MAX: u16 = 64;

/// The registers that need no wait.
fn registers() -> Vec<Register> {
    let area = |range, length| {
        let kind = RegisterKind::Area { posted: PROGRAM, length };
        Register { range, offset: 0, width: 1, kind }
    };
    // The status does not depend on the DMA controllers, however many writes are under way to them.
    let tolerates = vec![Tolerance { posted: PROGRAM, count: POSTS_MAX }];
    let status = RegisterKind::Shadow { slot: MAIN_STATUS, tolerates };
    vec![
        Register { range: REGISTERS, offset: STATUS, width: 1, kind: status },
        area(FIRST_DMA, FIRST_DMA_PORTS.into()),
        area(PAGE, PAGES as u64),
        area(SECOND_DMA, SECOND_DMA_PORTS.into()),
    ]
}

/// What is in a drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bay {
    /// The drive has no diskette, or there is no drive: nobody can tell.
    Empty,
    Protected,
    Writable,
}

fn specs() -> Vec<OptionSpec> {
    let spec = |name: &str| OptionSpec {
        name: name.into(),
        kind: OptionKind::Text,
        default: "empty".into(),
        summary: format!("drive {name}: empty, readonly or writable"),
    };
    NAMES.map(spec).into()
}

fn bays(options: &Options) -> Result<[Bay; DRIVES], OptionError> {
    options.check(&specs())?;
    let bay = |name: &str| match options.text(name).unwrap_or("empty") {
        "empty" => Ok(Bay::Empty),
        "readonly" => Ok(Bay::Protected),
        "writable" => Ok(Bay::Writable),
        other => Err(OptionError::Value {
            name: name.into(),
            value: other.into(),
            wanted: "`empty`, `readonly` or `writable`",
        }),
    };
    let [a, b] = NAMES.map(bay);
    Ok([a?, b?])
}

/// The memory, and then what each drive is given.
fn wishes(bays: [Bay; DRIVES]) -> Vec<Wish> {
    let because = "the guest puts sectors where 24 address lines reach";
    let mut wishes = vec![declare::wish(Power::LowMemory, "memory", because)];
    for (bay, name) in bays.iter().zip(NAMES) {
        match bay {
            Bay::Empty => {}
            Bay::Protected => wishes.push(declare::wish(Power::FileRead, name, "the diskette that the guest reads")),
            Bay::Writable => {
                wishes.push(declare::wish(Power::FileWrite, name, "the diskette that the guest reads and writes"));
            }
        }
    }
    wishes
}

impl Device for Floppy {
    type State = State;

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        let bays = bays(options)?;
        Ok(Manifest {
            ranges: vec![
                declare::ports("registers", PORT, 6),
                declare::ports("input", INPUT_PORT, 1),
                declare::ports("dma", FIRST_DMA_PORT, FIRST_DMA_PORTS),
                declare::ports("pages", PAGE_PORT, PAGES as u16),
                declare::ports("second dma", SECOND_DMA_PORT, SECOND_DMA_PORTS),
            ],
            registers: registers(),
            lines: vec![Line::Isa(INTERRUPT)],
            wishes: wishes(bays),
            options: specs(),
            remembered: 1 << PROGRAM,
            ..declare::nothing::<State>(NAME, "82077AA floppy controller with 8237A DMA controllers", Class::Block)
        })
    }

    fn attach(options: &Options, powers: &mut Powers) -> Result<Floppy, AttachError> {
        let mut drives = [None, None];
        let loaded = bays(options)?.into_iter().zip(&mut drives).filter(|(bay, _)| *bay != Bay::Empty);
        for (wish, (bay, drive)) in (1..).zip(loaded) {
            *drive = Some(Drive::new(powers.store(wish)?, bay == Bay::Protected)?);
        }
        Ok(Floppy { drives, memory: powers.memory()? })
    }

    fn power_on(&mut self) -> State {
        State { chip: Controller::power_on(), dma: Dma::power_on(), positions: [Position::POWER_ON; DRIVES] }
    }

    fn check(&self, state: &State) -> bool {
        state.chip.check() && state.dma.check() && state.positions.iter().all(Position::check)
    }

    /// A diskette is held by nothing.
    fn holds(&self, _: &State, _: u8) -> bool {
        false
    }

    fn exchanged(&mut self, state: &mut State, bay: u8) {
        let drive = usize::from(bay);
        if let Some(position) = state.positions.get_mut(drive) {
            position.changed = 1;
        }
        state.chip.lose(drive);
    }

    fn read(&mut self, state: &mut State, at: Access) -> Result<u64, NoRegister> {
        if at.width != 1 {
            return Err(NoRegister);
        }
        let byte = match (at.range, at.offset) {
            (REGISTERS, OUTPUT) => state.chip.output(),
            (REGISTERS, TAPE) => state.chip.tape(),
            (REGISTERS, STATUS) => {
                self.catch_up(state, at.now);
                state.chip.main_status()
            }
            (REGISTERS, DATA) => {
                self.catch_up(state, at.now);
                let byte = state.chip.give();
                state.chip.due_ns = at.now.saturating_add(STEP_NS);
                byte
            }
            (INPUT, _) => state.chip.input(&state.positions),
            (FIRST_DMA, register) => state.dma.read(0, register as u8, state.chip.requests_dma())?,
            (SECOND_DMA, offset) => state.dma.read(1, (offset / 2) as u8, false)?,
            (PAGE, page) => *state.dma.pages.get(page as usize).ok_or(NoRegister)?,
            _ => return Err(NoRegister),
        };
        Ok(byte.into())
    }

    fn write(&mut self, state: &mut State, at: Access, value: u64) -> Result<(), NoRegister> {
        let (1, Ok(value)) = (at.width, u8::try_from(value)) else { return Err(NoRegister) };
        match (at.range, at.offset) {
            (REGISTERS, OUTPUT) => state.chip.set_output(value),
            (REGISTERS, TAPE) => state.chip.set_tape(value),
            (REGISTERS, STATUS) => state.chip.set_rate_select(value),
            (REGISTERS, DATA) => {
                self.catch_up(state, at.now);
                self.take(state, value, at.now);
                state.chip.due_ns = at.now.saturating_add(STEP_NS);
            }
            (INPUT, _) => state.chip.set_rate(value),
            (FIRST_DMA, register) => state.dma.write(0, register as u8, value),
            (SECOND_DMA, offset) => state.dma.write(1, (offset / 2) as u8, value),
            (PAGE, page) => *state.dma.pages.get_mut(page as usize).ok_or(NoRegister)? = value,
            _ => return Err(NoRegister),
        }
        Ok(())
    }

    fn alarm(&mut self, state: &mut State, now: u64) {
        if state.chip.due_ns <= now {
            self.catch_up(state, now);
        }
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
        let mut shadow = [None; SHADOW_MAX];
        shadow[usize::from(MAIN_STATUS)] = (!state.chip.goes_on()).then(|| state.chip.main_status().into());
        Outputs {
            levels: state.chip.int().into(),
            deadline: state.chip.goes_on().then_some(state.chip.due_ns),
            postable: u32::from(!state.chip.goes_on()) << PROGRAM,
            shadow,
        }
    }

    fn settle(&mut self, _: &State) {}
}

#[cfg(test)]
mod tests;
