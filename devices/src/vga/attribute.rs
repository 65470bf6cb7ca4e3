//! The attribute controller: from what characters and planes say to a colour's number.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bits of each register that exist: sixteen of palette, mode control, overscan, colour plane enable, pixel panning, colour
/// select.
const BITS: [u8; REGISTERS] = [
    0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0xef, 0xff, 0x3f,
    0x0f, 0x0f,
];
const REGISTERS: usize = 0x15;
const MODE: usize = 0x10;
const PLANE_ENABLE: usize = 0x12;
const PANNING: usize = 0x13;
const COLOUR_SELECT: usize = 0x14;

const MODE_MONOCHROME: u8 = 1 << 1;
const MODE_LINE_GRAPHICS: u8 = 1 << 2;
const MODE_BLINK: u8 = 1 << 3;
/// Below the line compare nothing is panned.
const MODE_PANNING_ENDS: u8 = 1 << 5;
const MODE_SELECTS_COLOUR: u8 = 1 << 7;
/// In the index: the palette is the screen's, not the processor's.
const INDEX_SCREEN: u8 = 1 << 5;

/// Its registers, and what the next write to its one port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Attribute {
    registers: [u8; REGISTERS],
    index: u8,
    /// 0 or 1: the next write is a register's value.
    takes_value: u8,
    unused: u8,
}

impl Attribute {
    pub(super) fn check(&self) -> bool {
        self.index < 0x40
            && self.takes_value <= 1
            && self.unused == 0
            && self.registers.iter().zip(BITS).all(|(register, bits)| register & !bits == 0)
    }

    /// The next write is an index.
    pub(super) fn begin(&mut self) {
        self.takes_value = 0;
    }

    pub(super) fn index(&self) -> u8 {
        self.index
    }

    pub(super) fn read(&self) -> u8 {
        self.registers.get(usize::from(self.index & 0x1f)).copied().unwrap_or(0)
    }

    pub(super) fn write(&mut self, value: u8) {
        if self.takes_value == 0 {
            self.index = value & 0x3f;
        } else if let Some(register) = self.registers.get_mut(usize::from(self.index & 0x1f)) {
            *register = value & BITS[usize::from(self.index & 0x1f)];
        }
        self.takes_value ^= 1;
    }

    pub(super) fn is_off(&self) -> bool {
        self.index & INDEX_SCREEN == 0
    }

    pub(super) fn blinks(&self) -> bool {
        self.registers[MODE] & MODE_BLINK != 0
    }

    pub(super) fn is_monochrome(&self) -> bool {
        self.registers[MODE] & MODE_MONOCHROME != 0
    }

    /// The ninth dot of characters that draw boxes is as the eighth.
    pub(super) fn joins_lines(&self) -> bool {
        self.registers[MODE] & MODE_LINE_GRAPHICS != 0
    }

    /// Whether nothing is panned below the line compare.
    pub(super) fn panning_ends(&self) -> bool {
        self.registers[MODE] & MODE_PANNING_ENDS != 0
    }

    /// Dots that the picture is shifted to the left, of characters so wide.
    pub(super) fn panning(&self, dots: usize) -> usize {
        let panning = usize::from(self.registers[PANNING]);
        // With nine dots 8 is no shift, and 0 is one dot.
        if dots == 9 { (panning + 1) % 9 } else { panning % 8 }
    }

    /// Number in the DAC of the colour with these four bits.
    pub(super) fn colour(&self, bits: u8) -> u8 {
        let palette = self.registers[usize::from(bits & self.registers[PLANE_ENABLE] & 0x0f)];
        let select = self.registers[COLOUR_SELECT];
        if self.registers[MODE] & MODE_SELECTS_COLOUR != 0 {
            palette & 0x0f | select << 4
        } else {
            palette | select << 4 & 0xc0
        }
    }
}
