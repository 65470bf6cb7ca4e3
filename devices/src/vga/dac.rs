//! The DAC: 256 colours, of 18 bits each or of 24.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Colours.
const COLOURS: usize = 256;
/// What `state` says after an index for writing and after one for reading.
const STATE_WRITE: u8 = 0;
const STATE_READ: u8 = 3;

/// Its colours, and the one that is being read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Dac {
    colours: [[u8; 3]; COLOURS],
    /// Red and green of a colour that is written.
    pending: [u8; 2],
    mask: u8,
    write_index: u8,
    read_index: u8,
    /// Which part comes next, 0 to 2.
    part: u8,
    state: u8,
    unused: u8,
}

impl Dac {
    pub(super) fn check(&self) -> bool {
        self.part < 3 && matches!(self.state, STATE_WRITE | STATE_READ) && self.unused == 0
    }

    pub(super) fn mask(&self) -> u8 {
        self.mask
    }

    pub(super) fn set_mask(&mut self, value: u8) {
        self.mask = value;
    }

    pub(super) fn state(&self) -> u8 {
        self.state
    }

    pub(super) fn write_index(&self) -> u8 {
        self.write_index
    }

    pub(super) fn set_read_index(&mut self, value: u8) {
        (self.read_index, self.part, self.state) = (value, 0, STATE_READ);
    }

    pub(super) fn set_write_index(&mut self, value: u8) {
        (self.write_index, self.part, self.state) = (value, 0, STATE_WRITE);
    }

    pub(super) fn read(&mut self) -> u8 {
        let value = self.colours[usize::from(self.read_index)][usize::from(self.part % 3)];
        self.part += 1;
        if self.part >= 3 {
            self.part = 0;
            self.read_index = self.read_index.wrapping_add(1);
        }
        value
    }

    /// A colour changes with its last part. Parts have six bits, or eight.
    pub(super) fn write(&mut self, value: u8, wide: bool) {
        let value = if wide { value } else { value & 0x3f };
        if let Some(pending) = self.pending.get_mut(usize::from(self.part)) {
            *pending = value;
            self.part += 1;
            return;
        }
        let [red, green] = self.pending;
        self.colours[usize::from(self.write_index)] = [red, green, value];
        self.part = 0;
        self.write_index = self.write_index.wrapping_add(1);
    }

    /// The colour of this number, `0x00RRGGBB`.
    pub(super) fn colour(&self, number: u8, wide: bool) -> u32 {
        let parts = self.colours[usize::from(number & self.mask)];
        // The brightest of six bits is the brightest of eight.
        let [red, green, blue] = parts.map(|part| if wide { part } else { part << 2 | part >> 4 & 3 });
        u32::from_be_bytes([0, red, green, blue])
    }
}
