//! The sequencer: which planes a write reaches, and how characters find their font.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bits of each register that exist: reset, clocking mode, map mask, character map select, memory mode.
const BITS: [u8; 8] = [0x03, 0x3d, 0x0f, 0x3f, 0x0e, 0, 0, 0];
const CLOCKING: usize = 1;
const MAP_MASK: usize = 2;
const CHARACTER_MAPS: usize = 3;
const MEMORY_MODE: usize = 4;

/// Characters are eight dots wide, not nine.
const CLOCKING_EIGHT_DOTS: u8 = 1 << 0;
const CLOCKING_SCREEN_OFF: u8 = 1 << 5;
const MEMORY_MODE_SEQUENTIAL: u8 = 1 << 2;
const MEMORY_MODE_CHAIN_4: u8 = 1 << 3;

/// Its registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Sequencer {
    index: u8,
    unused: [u8; 7],
    registers: [u8; 8],
}

impl Sequencer {
    pub(super) fn check(&self) -> bool {
        self.index < 8
            && self.unused == [0; 7]
            && self.registers.iter().zip(BITS).all(|(register, bits)| register & !bits == 0)
    }

    pub(super) fn index(&self) -> u8 {
        self.index
    }

    pub(super) fn set_index(&mut self, value: u8) {
        self.index = value & 7;
    }

    pub(super) fn read(&self) -> u8 {
        self.registers[usize::from(self.index & 7)]
    }

    pub(super) fn write(&mut self, value: u8) {
        let at = usize::from(self.index & 7);
        self.registers[at] = value & BITS[at];
    }

    /// Bit `n`: writes reach plane `n`.
    pub(super) fn map_mask(&self) -> u8 {
        self.registers[MAP_MASK]
    }

    /// The lowest two address bits choose the plane.
    pub(super) fn chain_4(&self) -> bool {
        self.registers[MEMORY_MODE] & MEMORY_MODE_CHAIN_4 != 0
    }

    /// Writes to even addresses reach planes 0 and 2, those to odd ones 1 and 3.
    pub(super) fn odd_even(&self) -> bool {
        self.registers[MEMORY_MODE] & MEMORY_MODE_SEQUENTIAL == 0
    }

    pub(super) fn is_off(&self) -> bool {
        self.registers[CLOCKING] & CLOCKING_SCREEN_OFF != 0
    }

    /// Dots of a character's width.
    pub(super) fn dots(&self) -> usize {
        if self.registers[CLOCKING] & CLOCKING_EIGHT_DOTS != 0 { 8 } else { 9 }
    }

    /// Where the fonts begin in plane 2: of characters whose attribute bit 3 is clear, and of those where it is set.
    pub(super) fn fonts(&self) -> [usize; 2] {
        /// Eight fonts of 256 glyphs of 32 bytes: the first four begin at multiples of 16 KiB, the others 8 KiB behind them.
        const fn place(low: u8, high: u8) -> usize {
            (low as usize) * 0x4000 + (high as usize) * 0x2000
        }
        let maps = self.registers[CHARACTER_MAPS];
        [place(maps & 3, maps >> 4 & 1), place(maps >> 2 & 3, maps >> 5 & 1)]
    }
}
