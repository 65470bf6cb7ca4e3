//! The graphics controller: what becomes of a byte on its way into the planes and out of them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bits of each register that exist: set/reset, enable set/reset, colour compare, data rotate, read map select, mode,
/// miscellaneous, colour don't care, bit mask.
const BITS: [u8; 16] = [0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff, 0, 0, 0, 0, 0, 0, 0];
const SET_RESET: usize = 0;
const ENABLE_SET_RESET: usize = 1;
const COLOUR_COMPARE: usize = 2;
const DATA_ROTATE: usize = 3;
const READ_MAP: usize = 4;
const MODE: usize = 5;
const MISCELLANEOUS: usize = 6;
const DONT_CARE: usize = 7;
const BIT_MASK: usize = 8;

const MODE_READ_COMPARES: u8 = 1 << 3;
const MODE_ODD_EVEN: u8 = 1 << 4;
const MODE_INTERLEAVED: u8 = 1 << 5;
const MODE_256_COLOURS: u8 = 1 << 6;
const MISCELLANEOUS_GRAPHICS: u8 = 1 << 0;

/// A byte for each plane.
pub(super) type Planes = [u8; 4];

/// Its registers, and the latches: what the last read found in the four planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Graphics {
    registers: [u8; 16],
    latches: Planes,
    index: u8,
    unused: [u8; 3],
}

/// How dots are made of the planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shift {
    /// A bit of each plane.
    Planar,
    /// Two bits of planes 0 and 2, then of 1 and 3: as on the first colour adapter.
    Interleaved,
    /// A byte of one plane after the other.
    Bytes,
}

impl Graphics {
    pub(super) fn check(&self) -> bool {
        self.index < 16
            && self.unused == [0; 3]
            && self.registers.iter().zip(BITS).all(|(register, bits)| register & !bits == 0)
    }

    pub(super) fn index(&self) -> u8 {
        self.index
    }

    pub(super) fn set_index(&mut self, value: u8) {
        self.index = value & 0x0f;
    }

    pub(super) fn read(&self) -> u8 {
        self.registers[usize::from(self.index & 0x0f)]
    }

    pub(super) fn write(&mut self, value: u8) {
        let at = usize::from(self.index & 0x0f);
        self.registers[at] = value & BITS[at];
    }

    /// Dots, not characters.
    pub(super) fn is_graphics(&self) -> bool {
        self.registers[MISCELLANEOUS] & MISCELLANEOUS_GRAPHICS != 0
    }

    pub(super) fn shift(&self) -> Shift {
        match self.registers[MODE] {
            mode if mode & MODE_256_COLOURS != 0 => Shift::Bytes,
            mode if mode & MODE_INTERLEAVED != 0 => Shift::Interleaved,
            _ => Shift::Planar,
        }
    }

    /// Reads of even addresses come from planes 0 and 2, those of odd ones from 1 and 3.
    pub(super) fn odd_even(&self) -> bool {
        self.registers[MODE] & MODE_ODD_EVEN != 0
    }

    /// What of the window from 0xA0000 on it answers: the first byte, and how many.
    pub(super) fn window(&self) -> (u64, u64) {
        match self.registers[MISCELLANEOUS] >> 2 & 3 {
            0 => (0, 0x2_0000),
            1 => (0, 0x1_0000),
            2 => (0x1_0000, 0x8000),
            _ => (0x1_8000, 0x8000),
        }
    }

    /// The plane that reads come from.
    pub(super) fn read_map(&self) -> u8 {
        self.registers[READ_MAP]
    }

    /// Keeps what the planes hold, and makes of it what is read; `plane` is the one that the address means.
    pub(super) fn load(&mut self, planes: Planes, plane: usize) -> u8 {
        self.latches = planes;
        if self.registers[MODE] & MODE_READ_COMPARES == 0 {
            return planes[plane & 3];
        }
        // Each bit: do all planes that matter have the colour's bit?
        let (colour, care) = (self.registers[COLOUR_COMPARE], self.registers[DONT_CARE]);
        (0..4)
            .filter(|plane| care >> plane & 1 != 0)
            .fold(0xff, |equal, plane| equal & !(planes[plane] ^ expand(colour, plane)))
    }

    /// What a write of `byte` puts into each plane. Made of the latches, not of what is there: it may be done again.
    pub(super) fn store(&self, byte: u8) -> Planes {
        let mask = self.registers[BIT_MASK];
        let rotated = byte.rotate_right(u32::from(self.registers[DATA_ROTATE] & 7));
        let (set, enabled) = (self.registers[SET_RESET], self.registers[ENABLE_SET_RESET]);
        let (data, mask): (Planes, u8) = match self.registers[MODE] & 3 {
            0 => {
                let plane = |plane| if enabled >> plane & 1 != 0 { expand(set, plane) } else { rotated };
                (std::array::from_fn(|at| self.combine(plane(at), at)), mask)
            }
            1 => return self.latches,
            2 => (std::array::from_fn(|at| self.combine(expand(byte, at), at)), mask),
            _ => (std::array::from_fn(|at| expand(set, at)), rotated & mask),
        };
        std::array::from_fn(|at| data[at] & mask | self.latches[at] & !mask)
    }

    /// The logical operation with the latch.
    fn combine(&self, data: u8, plane: usize) -> u8 {
        let latch = self.latches[plane];
        match self.registers[DATA_ROTATE] >> 3 & 3 {
            0 => data,
            1 => data & latch,
            2 => data | latch,
            _ => data ^ latch,
        }
    }
}

/// Eight times the bit of this plane.
fn expand(colour: u8, plane: usize) -> u8 {
    if colour >> plane & 1 != 0 { 0xff } else { 0 }
}
