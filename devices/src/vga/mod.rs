//! A VGA with the Bochs display interface: text, dots in planes, and a linear frame buffer.
//!
//! Source: Neal, *Hardware Level VGA and SVGA Video Programming Information* (the FreeVGA project); public descriptions of the Bochs
//! project's VBE display interface.
//!
//! | file | part of the chip |
//! | --- | --- |
//! | `sequencer.rs`, `crtc.rs`, `graphics.rs`, `attribute.rs`, `dac.rs` | registers, one group each |
//! | `dispi.rs` | the display interface beside them |
//! | `planes.rs` | display memory |
//! | `draw.rs` | what the registers make of the memory, when somebody wants to see it |

mod attribute;
mod crtc;
mod dac;
mod dispi;
mod draw;
mod graphics;
mod planes;
mod sequencer;

use crate::declare;
use attribute::Attribute;
use crtc::Crtc;
use dac::Dac;
use device::manifest::{Class, Manifest, Pci, Power, Range, Register, RegisterKind, Space, Wish};
use device::{Access, AttachError, Device, NoRegister, OptionError, Options, Outputs, Powers, Scan, Scanout};
use dispi::{BANK_BYTES, Dispi, Wanted};
use draw::Line;
use graphics::Graphics;
use planes::{MEMORY_BYTES, Memory};
use sequencer::Sequencer;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

pub(crate) const NAME: &str = "vga";

/// Ranges.
const PORTS: u8 = 0;
const MONOCHROME: u8 = 1;
const DISPI: u8 = 2;
const WINDOW: u8 = 3;
const FRAME_BUFFER: u8 = 4;

/// First ports of the ranges, and how many.
const FIRST_PORT: u16 = 0x3c0;
const PORT_COUNT: u16 = 0x20;
/// Between these and the first adapter's other ports lie those of a parallel port.
const MONOCHROME_PORT: u16 = 0x3b4;
const MONOCHROME_COUNT: u16 = 8;
const DISPI_PORT: u16 = 0x1ce;
/// An index of two bytes, and data of two bytes that begin with the index's second port.
const DISPI_COUNT: u16 = 3;
const WINDOW_ADDRESS: u64 = 0xa_0000;
const WINDOW_BYTES: u64 = 0x2_0000;
/// A wide store to the window.
const WINDOW_WIDTH: u8 = 8;

/// Wishes.
const WISH_MEMORY: u32 = 0;
const WISH_SCANOUT: u32 = 1;

/// The identity that the display interface's drivers know.
const VENDOR: u16 = 0x1234;
const DEVICE: u16 = 0x1111;
const REVISION: u8 = 2;
/// A VGA compatible controller (PCI Code and ID Assignment Specification, 1.4).
const CLASS: u32 = 0x03_0000;

/// No write raises an interrupt, so it may be posted. Not while there is a frame buffer, and not what makes one: the guest
/// stores there past us, and must find what it stored before where it stored it.
const POSTED: u8 = 0;

/// Bits of the miscellaneous output register.
const MISC_COLOUR: u8 = 1 << 0;
const MISC_MEMORY: u8 = 1 << 1;
/// Input status 0: the switch that says that a monitor is there.
const STATUS_SENSE: u8 = 1 << 4;
/// Input status 1.
const STATUS_BLANK: u8 = 1 << 0;
const STATUS_RETRACE: u8 = 1 << 3;

/// A picture takes so long on a screen of 60 Hz, the last part of it without a line, and each line so long, its last part
/// without a dot. Programs wait for both, so that each comes and goes is all that matters.
const FRAME_NS: u64 = 16_683_000;
const FRAME_SHOWN_NS: u64 = 15_253_000;
const LINE_NS: u64 = 31_778;
const LINE_SHOWN_NS: u64 = 25_422;

/// The display, with its memory and the place where it draws.
pub(crate) struct Vga {
    memory: Memory,
    scanout: Scanout,
    line: Box<Line>,
}

/// All registers. Display memory is beside it, and outlives the process as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct State {
    dispi: Dispi,
    sequencer: Sequencer,
    crtc: Crtc,
    graphics: Graphics,
    attribute: Attribute,
    dac: Dac,
    misc: u8,
    feature: u8,
    /// The subsystem's enable port, which nothing here hangs on.
    enable: u8,
    unused: [u8; 5],
}

const _: () = assert!(size_of::<State>().is_multiple_of(8), "copies lie one after the other, aligned to 8");

impl State {
    /// The CRT controller has its ports among those of colour, or of monochrome displays.
    fn is_at(&self, range: u8) -> bool {
        (self.misc & MISC_COLOUR != 0) == (range == PORTS)
    }

    fn status(&self, now: u64) -> u8 {
        let retrace = now % FRAME_NS >= FRAME_SHOWN_NS;
        let blank = retrace || now % LINE_NS >= LINE_SHOWN_NS;
        let bit = |set, bit| if set { bit } else { 0 };
        bit(blank, STATUS_BLANK) | bit(retrace, STATUS_RETRACE)
    }

    /// A byte of port `port`; `None`: there is no register to read.
    fn read_port(&mut self, range: u8, port: u16, now: u64) -> Option<u8> {
        Some(match port {
            0x3c0 => self.attribute.index(),
            0x3c1 => self.attribute.read(),
            0x3c2 => STATUS_SENSE,
            0x3c3 => self.enable,
            0x3c4 => self.sequencer.index(),
            0x3c5 => self.sequencer.read(),
            0x3c6 => self.dac.mask(),
            0x3c7 => self.dac.state(),
            0x3c8 => self.dac.write_index(),
            0x3c9 => self.dac.read(),
            0x3ca => self.feature,
            0x3cc => self.misc,
            0x3ce => self.graphics.index(),
            0x3cf => self.graphics.read(),
            0x3b4 | 0x3d4 if self.is_at(range) => self.crtc.index(),
            0x3b5 | 0x3d5 if self.is_at(range) => self.crtc.read(),
            0x3ba | 0x3da if self.is_at(range) => {
                self.attribute.begin();
                self.status(now)
            }
            _ => return None,
        })
    }

    /// Whether there was a register to write.
    fn write_port(&mut self, range: u8, port: u16, value: u8) -> bool {
        match port {
            0x3c0 => self.attribute.write(value),
            0x3c2 => self.misc = value,
            0x3c3 => self.enable = value,
            0x3c4 => self.sequencer.set_index(value),
            0x3c5 => self.sequencer.write(value),
            0x3c6 => self.dac.set_mask(value),
            0x3c7 => self.dac.set_read_index(value),
            0x3c8 => self.dac.set_write_index(value),
            0x3c9 => self.dac.write(value, self.dispi.has_wide_dac()),
            0x3ce => self.graphics.set_index(value),
            0x3cf => self.graphics.write(value),
            0x3b4 | 0x3d4 if self.is_at(range) => self.crtc.set_index(value),
            0x3b5 | 0x3d5 if self.is_at(range) => self.crtc.write(value),
            0x3ba | 0x3da if self.is_at(range) => self.feature = value,
            _ => return false,
        }
        true
    }

    /// Where the window leads, if anywhere, for the byte at `offset` of it.
    fn place(&self, offset: u64) -> Option<Place> {
        let (first, bytes) = self.graphics.window();
        let at = offset.checked_sub(first).filter(|at| *at < bytes && self.misc & MISC_MEMORY != 0)?;
        if let Some(bank) = self.dispi.bank() {
            return (at < BANK_BYTES).then_some(Place::Row(bank + at));
        }
        let at = at as usize;
        Some(if self.sequencer.chain_4() {
            // The CRT controller's double words: bits 14 and 15 take the place of those that choose the plane.
            Place::Plane { at: at & 0xfffc | at >> 14 & 3, plane: at & 3, mask: 1 << (at & 3) }
        } else if self.sequencer.odd_even() || self.graphics.odd_even() {
            let odd = at & 1;
            let mask = if self.sequencer.odd_even() { 0b0101 << odd } else { 0b1111 };
            let plane = usize::from(self.graphics.read_map() & 2) | odd;
            // Bit 16 takes the place of the one that chooses between even and odd.
            Place::Plane { at: at & 0xfffe | at >> 16 & 1, plane, mask }
        } else {
            Place::Plane { at: at & 0xffff, plane: self.graphics.read_map().into(), mask: 0b1111 }
        })
    }
}

/// What a byte of the window is.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// A byte of display memory.
    Row(u64),
    /// A byte of each plane: `plane` is read, those of `mask` are written.
    Plane { at: usize, plane: usize, mask: u8 },
}

impl Vga {
    fn load(&self, state: &mut State, offset: u64) -> u8 {
        match state.place(offset) {
            Some(Place::Row(at)) => self.memory.byte(at),
            Some(Place::Plane { at, plane, .. }) => state.graphics.load(self.memory.planes(at), plane),
            None => u8::MAX,
        }
    }

    fn store(&self, state: &State, offset: u64, byte: u8) {
        match state.place(offset) {
            Some(Place::Row(at)) => self.memory.set_byte(at, byte),
            Some(Place::Plane { at, mask, .. }) => {
                self.memory.set_planes(at, state.graphics.store(byte), mask & state.sequencer.map_mask());
            }
            None => {}
        }
    }

    fn write_dispi(&self, state: &mut State, at: Access, value: u64) -> Result<(), NoRegister> {
        match (at.offset, at.width) {
            (0, 2) => state.dispi.set_index(value as u16),
            (1, 2) => {
                if state.dispi.write(value as u16) == Wanted::Clear
                    && let Some(mode) = state.dispi.mode()
                {
                    self.memory.clear(mode.bytes());
                }
            }
            _ => return Err(NoRegister),
        }
        Ok(())
    }
}

/// The port at `offset` of a range.
fn port(range: u8, offset: u64) -> u16 {
    let first = if range == PORTS { FIRST_PORT } else { MONOCHROME_PORT };
    first + offset as u16
}

impl Device for Vga {
    type State = State;

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        options.check(&[])?;
        let area = |range, width, length: u64| {
            let kind = RegisterKind::Area { posted: POSTED, length };
            Register { range, offset: 0, width, kind }
        };
        Ok(Manifest {
            ranges: vec![
                declare::ports("ports", FIRST_PORT, PORT_COUNT),
                declare::ports("monochrome", MONOCHROME_PORT, MONOCHROME_COUNT),
                declare::ports("dispi", DISPI_PORT, DISPI_COUNT),
                Range { name: "window".into(), length: WINDOW_BYTES, space: Space::Memory(WINDOW_ADDRESS) },
                Range { name: "frame buffer".into(), length: MEMORY_BYTES, space: Space::Bar(0) },
            ],
            registers: vec![
                area(PORTS, 4, PORT_COUNT.into()),
                area(MONOCHROME, 4, MONOCHROME_COUNT.into()),
                area(WINDOW, WINDOW_WIDTH, WINDOW_BYTES),
            ],
            wishes: vec![
                Wish {
                    bytes: MEMORY_BYTES,
                    range: FRAME_BUFFER,
                    ..declare::wish(Power::Direct, "memory", "display memory, which the guest draws into")
                },
                declare::wish(Power::Scanout, "screen", "what a person at the screen would see"),
            ],
            pci: Some(Pci {
                vendor: VENDOR,
                device: DEVICE,
                subsystem_vendor: 0,
                subsystem: 0,
                class: CLASS,
                revision: REVISION,
                capabilities: Vec::new(),
                vector_bar: 0,
                registers: Vec::new(),
                bridge_function: 0,
            }),
            ..declare::nothing::<State>(NAME, "VGA with the Bochs display interface", Class::Display)
        })
    }

    fn attach(_: &Options, powers: &mut Powers) -> Result<Vga, AttachError> {
        let memory = Memory::new(powers.direct(WISH_MEMORY)?);
        let memory = memory.ok_or_else(|| AttachError::Unfit("display memory has not its size".into()))?;
        Ok(Vga { memory, scanout: powers.scanout(WISH_SCANOUT)?, line: Line::boxed() })
    }

    fn power_on(&mut self) -> State {
        State { dispi: Dispi::power_on(), ..State::new_zeroed() }
    }

    fn check(&self, state: &State) -> bool {
        state.dispi.check()
            && state.sequencer.check()
            && state.crtc.check()
            && state.graphics.check()
            && state.attribute.check()
            && state.dac.check()
            && state.unused == [0; 5]
    }

    fn read(&mut self, state: &mut State, at: Access) -> Result<u64, NoRegister> {
        let mut bytes = [u8::MAX; 8];
        let used = &mut bytes[..usize::from(at.width.min(8))];
        match at.range {
            PORTS | MONOCHROME => {
                let mut any = false;
                for (offset, byte) in (at.offset..).zip(used) {
                    if let Some(read) = state.read_port(at.range, port(at.range, offset), at.now) {
                        (*byte, any) = (read, true);
                    }
                }
                if !any {
                    return Err(NoRegister);
                }
            }
            DISPI => {
                return match (at.offset, at.width) {
                    (0, 2) => Ok(state.dispi.index().into()),
                    (1, 2) => Ok(state.dispi.read().into()),
                    _ => Err(NoRegister),
                };
            }
            WINDOW => {
                for (offset, byte) in (at.offset..).zip(used) {
                    *byte = self.load(state, offset);
                }
            }
            // The frame buffer is memory: no access comes here.
            _ => return Err(NoRegister),
        }
        Ok(u64::from_le_bytes(bytes))
    }

    fn write(&mut self, state: &mut State, at: Access, value: u64) -> Result<(), NoRegister> {
        let bytes = value.to_le_bytes();
        let used = (at.offset..).zip(&bytes[..usize::from(at.width.min(8))]);
        match at.range {
            PORTS | MONOCHROME => {
                let mut any = false;
                for (offset, byte) in used {
                    any |= state.write_port(at.range, port(at.range, offset), *byte);
                }
                if any { Ok(()) } else { Err(NoRegister) }
            }
            DISPI => self.write_dispi(state, at, value),
            WINDOW => {
                used.for_each(|(offset, byte)| self.store(state, offset, *byte));
                Ok(())
            }
            _ => Err(NoRegister),
        }
    }

    fn alarm(&mut self, _: &mut State, _: u64) {}

    fn button(&mut self, _: &mut State, _: u64) {}

    fn refresh(&mut self, state: &mut State, now: u64) {
        draw::draw(state, &self.memory, &self.scanout, &mut self.line, now);
    }

    fn scan(&mut self, _: &mut State, _: u64) -> Scan {
        Scan::Idle
    }

    fn pending(&self, _: &State) -> bool {
        false
    }

    fn outputs(&self, state: &State) -> Outputs {
        let postable = if state.dispi.mode().is_none() { 1 << POSTED } else { 0 };
        Outputs { postable, ..Outputs::default() }
    }

    fn settle(&mut self, _: &State) {}
}

#[cfg(test)]
mod tests;
