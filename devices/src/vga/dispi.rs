//! The Bochs display interface: modes of any size over a linear frame buffer.

use super::planes::{MEMORY_BYTES, PLANE_BYTES};
use device::display::{HEIGHT_MAX, WIDTH_MAX};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes that the window shows of it at a time.
pub(super) const BANK_BYTES: u64 = 64 << 10;

/// The version that has all registers below.
const ID: u16 = 0xb0c5;
/// Versions that a program may ask for.
const IDS: std::ops::RangeInclusive<u16> = 0xb0c0..=ID;
const REGISTER_ID: u16 = 0;
const REGISTER_WIDTH: u16 = 1;
const REGISTER_HEIGHT: u16 = 2;
const REGISTER_BITS: u16 = 3;
const REGISTER_ENABLE: u16 = 4;
const REGISTER_BANK: u16 = 5;
const REGISTER_VIRTUAL_WIDTH: u16 = 6;
const REGISTER_VIRTUAL_HEIGHT: u16 = 7;
const REGISTER_X: u16 = 8;
const REGISTER_Y: u16 = 9;
const REGISTER_MEMORY: u16 = 10;

const ENABLED: u16 = 1 << 0;
/// Reads of the sizes say how large they may be.
const CAPABILITIES: u16 = 1 << 1;
const WIDE_DAC: u16 = 1 << 5;
const LINEAR: u16 = 1 << 6;
/// Display memory stays as it is when the mode is set.
const KEEP_MEMORY: u16 = 1 << 7;
const ENABLE_BITS: u16 = ENABLED | CAPABILITIES | WIDE_DAC | LINEAR | KEEP_MEMORY;

/// Its registers. Sizes are checked when a mode is set, not before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Dispi {
    index: u16,
    id: u16,
    width: u16,
    height: u16,
    bits: u16,
    enable: u16,
    bank: u16,
    virtual_width: u16,
    x: u16,
    y: u16,
    unused: [u16; 2],
}

/// A mode that is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mode {
    pub(super) width: u32,
    pub(super) height: u32,
    /// Of a pixel.
    pub(super) bits: u16,
    /// Bytes from a row to the next.
    pub(super) pitch: u64,
    /// Where the first row begins.
    pub(super) start: u64,
}

impl Mode {
    /// Display memory that its rows take, if they begin at its start.
    pub(super) fn bytes(&self) -> u64 {
        let rows = u64::from(self.height) * self.pitch;
        if self.bits == 4 { 4 * rows } else { rows }
    }
}

/// What a write asks of display memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Nothing,
    /// All of the picture becomes black.
    Clear,
}

impl Dispi {
    pub(super) fn power_on() -> Dispi {
        Dispi { id: ID, bits: 8, ..zerocopy::FromZeros::new_zeroed() }
    }

    pub(super) fn check(&self) -> bool {
        IDS.contains(&self.id)
            && self.enable & !ENABLE_BITS == 0
            && (self.enable & ENABLED == 0 || self.is_possible())
            && u64::from(self.bank) < MEMORY_BYTES / BANK_BYTES
            && self.unused == [0; 2]
    }

    pub(super) fn index(&self) -> u16 {
        self.index
    }

    pub(super) fn set_index(&mut self, value: u16) {
        self.index = value;
    }

    pub(super) fn read(&self) -> u16 {
        let asks = self.enable & CAPABILITIES != 0;
        match self.index {
            REGISTER_ID => self.id,
            REGISTER_WIDTH if asks => WIDTH_MAX as u16,
            REGISTER_HEIGHT if asks => HEIGHT_MAX as u16,
            REGISTER_BITS if asks => 32,
            REGISTER_WIDTH => self.width,
            REGISTER_HEIGHT => self.height,
            REGISTER_BITS => self.bits,
            REGISTER_ENABLE => self.enable,
            REGISTER_BANK => self.bank,
            REGISTER_VIRTUAL_WIDTH => self.virtual_width,
            REGISTER_VIRTUAL_HEIGHT => self.virtual_height(),
            REGISTER_X => self.x,
            REGISTER_Y => self.y,
            REGISTER_MEMORY => (MEMORY_BYTES / BANK_BYTES) as u16,
            _ => 0,
        }
    }

    pub(super) fn write(&mut self, value: u16) -> Wanted {
        let off = self.enable & ENABLED == 0;
        match self.index {
            REGISTER_ID if IDS.contains(&value) => self.id = value,
            // A mode that is on keeps its size.
            REGISTER_WIDTH if off => self.width = value,
            REGISTER_HEIGHT if off => self.height = value,
            REGISTER_BITS if off => self.bits = value,
            REGISTER_ENABLE => return self.set_enable(value),
            REGISTER_BANK if u64::from(value) < MEMORY_BYTES / BANK_BYTES => self.bank = value,
            REGISTER_VIRTUAL_WIDTH if value >= self.width && self.fits(value) => self.virtual_width = value,
            REGISTER_X => self.x = value,
            REGISTER_Y => self.y = value,
            _ => {}
        }
        Wanted::Nothing
    }

    fn set_enable(&mut self, value: u16) -> Wanted {
        let was = std::mem::replace(&mut self.enable, value & ENABLE_BITS);
        if self.enable & ENABLED == 0 || was & ENABLED != 0 {
            return Wanted::Nothing;
        }
        (self.virtual_width, self.x, self.y, self.bank) = (self.width, 0, 0, 0);
        if !self.is_possible() {
            self.enable &= !ENABLED;
            return Wanted::Nothing;
        }
        if self.enable & KEEP_MEMORY == 0 { Wanted::Clear } else { Wanted::Nothing }
    }

    /// Whether the picture has a size, and its rows lie in display memory.
    fn is_possible(&self) -> bool {
        matches!(self.bits, 4 | 8 | 15 | 16 | 24 | 32)
            && (1..=WIDTH_MAX as u16).contains(&self.width)
            && (1..=HEIGHT_MAX as u16).contains(&self.height)
            && self.virtual_width >= self.width
            && self.fits(self.virtual_width)
    }

    /// Whether there is memory for all rows, if they are so wide.
    fn fits(&self, width: u16) -> bool {
        u64::from(self.height) * self.pitch(width) <= self.row_memory()
    }

    /// Memory for rows: of four bits they lie in planes, each of a quarter of the first 256 KiB.
    fn row_memory(&self) -> u64 {
        if self.bits == 4 { PLANE_BYTES } else { MEMORY_BYTES }
    }

    fn pitch(&self, width: u16) -> u64 {
        let width = u64::from(width);
        match self.bits {
            4 => width.div_ceil(8),
            bits => width * u64::from(bits.div_ceil(8)),
        }
    }

    fn virtual_height(&self) -> u16 {
        self.row_memory().checked_div(self.pitch(self.virtual_width)).map_or(0, |rows| rows.min(0xffff) as u16)
    }

    /// Colours have eight bits for each part.
    pub(super) fn has_wide_dac(&self) -> bool {
        self.enable & WIDE_DAC != 0
    }

    /// Where the window shows display memory in a row, if it does.
    pub(super) fn bank(&self) -> Option<u64> {
        (self.enable & ENABLED != 0 && self.bits > 4).then(|| u64::from(self.bank) * BANK_BYTES)
    }

    /// The mode, if it is on.
    pub(super) fn mode(&self) -> Option<Mode> {
        if self.enable & ENABLED == 0 {
            return None;
        }
        let pitch = self.pitch(self.virtual_width);
        let start = u64::from(self.y) * pitch + self.pitch(self.x);
        let (width, height) = (self.width.into(), self.height.into());
        Some(Mode { width, height, bits: self.bits, pitch, start })
    }
}
