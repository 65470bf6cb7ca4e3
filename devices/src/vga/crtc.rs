//! The CRT controller: how many dots and lines there are, and where in memory each comes from.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Registers 0 to 0x18.
const REGISTERS: usize = 0x19;

const DISPLAY_END: usize = 0x01;
const OVERFLOW: usize = 0x07;
const PRESET_ROW: usize = 0x08;
const MAXIMUM_LINE: usize = 0x09;
const CURSOR_START: usize = 0x0a;
const CURSOR_END: usize = 0x0b;
const START_HIGH: usize = 0x0c;
const START_LOW: usize = 0x0d;
const CURSOR_HIGH: usize = 0x0e;
const CURSOR_LOW: usize = 0x0f;
const RETRACE_END: usize = 0x11;
const VERTICAL_END: usize = 0x12;
const OFFSET: usize = 0x13;
const UNDERLINE: usize = 0x14;
const MODE: usize = 0x17;
const LINE_COMPARE: usize = 0x18;

/// Registers 0 to 7 keep what they have.
const RETRACE_END_PROTECT: u8 = 1 << 7;
/// The one bit of the overflow register that is not protected: line compare's bit 8.
const OVERFLOW_LINE_COMPARE: u8 = 1 << 4;
const CURSOR_OFF: u8 = 1 << 5;
const MAXIMUM_LINE_DOUBLE: u8 = 1 << 7;
const UNDERLINE_DOUBLE_WORD: u8 = 1 << 6;
/// Clear: address bit 13 is the lowest bit of the row scan counter.
const MODE_ROW_SCAN_13: u8 = 1 << 0;
/// Clear: address bit 14 is the next one.
const MODE_ROW_SCAN_14: u8 = 1 << 1;
const MODE_WRAP: u8 = 1 << 5;
const MODE_BYTE: u8 = 1 << 6;
const MODE_RUN: u8 = 1 << 7;

/// Its registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Crtc {
    index: u8,
    registers: [u8; REGISTERS],
    unused: [u8; 6],
}

impl Crtc {
    pub(super) fn check(&self) -> bool {
        self.index < 0x40 && self.unused == [0; 6]
    }

    pub(super) fn index(&self) -> u8 {
        self.index
    }

    pub(super) fn set_index(&mut self, value: u8) {
        self.index = value & 0x3f;
    }

    pub(super) fn read(&self) -> u8 {
        self.registers.get(usize::from(self.index)).copied().unwrap_or(0)
    }

    pub(super) fn write(&mut self, value: u8) {
        let at = usize::from(self.index);
        if at <= OVERFLOW && self.registers[RETRACE_END] & RETRACE_END_PROTECT != 0 {
            if at == OVERFLOW {
                self.set(OVERFLOW, OVERFLOW_LINE_COMPARE, value);
            }
        } else if let Some(register) = self.registers.get_mut(at) {
            *register = value;
        }
    }

    fn set(&mut self, register: usize, bits: u8, value: u8) {
        self.registers[register] = self.registers[register] & !bits | value & bits;
    }

    /// A bit of a register, at place `to` of a larger number.
    fn bit(&self, register: usize, bit: u8, to: u8) -> usize {
        usize::from(self.registers[register] >> bit & 1) << to
    }

    fn word(&self, high: usize, low: usize) -> usize {
        usize::from(self.registers[high]) << 8 | usize::from(self.registers[low])
    }

    /// Whether it makes a picture at all.
    pub(super) fn runs(&self) -> bool {
        self.registers[MODE] & MODE_RUN != 0
    }

    /// Characters of a row.
    pub(super) fn columns(&self) -> usize {
        usize::from(self.registers[DISPLAY_END]) + 1
    }

    /// Lines on the screen.
    pub(super) fn lines(&self) -> usize {
        (usize::from(self.registers[VERTICAL_END]) | self.bit(OVERFLOW, 1, 8) | self.bit(OVERFLOW, 6, 9)) + 1
    }

    /// Lines of a character, or times that a line of dots is shown.
    pub(super) fn row_lines(&self) -> usize {
        usize::from(self.registers[MAXIMUM_LINE] & 0x1f) + 1
    }

    /// Each line is shown twice: 200 lines on a screen of 400.
    pub(super) fn doubles(&self) -> bool {
        self.registers[MAXIMUM_LINE] & MAXIMUM_LINE_DOUBLE != 0
    }

    /// The line of the screen behind which the picture begins again at address 0.
    pub(super) fn line_compare(&self) -> usize {
        usize::from(self.registers[LINE_COMPARE]) | self.bit(OVERFLOW, 4, 8) | self.bit(MAXIMUM_LINE, 6, 9)
    }

    /// Lines of the first row that are left out.
    pub(super) fn preset_row(&self) -> usize {
        usize::from(self.registers[PRESET_ROW] & 0x1f)
    }

    /// Characters that the picture is shifted to the left.
    pub(super) fn byte_panning(&self) -> usize {
        usize::from(self.registers[PRESET_ROW] >> 5 & 3)
    }

    /// What the counter of characters begins with.
    pub(super) fn start(&self) -> usize {
        self.word(START_HIGH, START_LOW)
    }

    /// What the counter of characters goes on by from a row to the next.
    pub(super) fn pitch(&self) -> usize {
        2 * usize::from(self.registers[OFFSET])
    }

    /// The cursor's place in the counter of characters, and its first and last line, if it is on.
    pub(super) fn cursor(&self) -> Option<(usize, std::ops::RangeInclusive<usize>)> {
        let [start, end] = [CURSOR_START, CURSOR_END].map(|register| usize::from(self.registers[register] & 0x1f));
        (self.registers[CURSOR_START] & CURSOR_OFF == 0).then(|| (self.word(CURSOR_HIGH, CURSOR_LOW), start..=end))
    }

    /// The line of a character that an underline takes.
    pub(super) fn underline(&self) -> usize {
        usize::from(self.registers[UNDERLINE] & 0x1f)
    }

    /// Whether lines of one row come from different places: as on the adapters before this one.
    pub(super) fn interleaves(&self) -> bool {
        self.registers[MODE] & (MODE_ROW_SCAN_13 | MODE_ROW_SCAN_14) != MODE_ROW_SCAN_13 | MODE_ROW_SCAN_14
    }

    /// The address in each plane for this value of the counter of characters, in line `scan` of its row.
    pub(super) fn address(&self, counter: usize, scan: usize) -> usize {
        let mode = self.registers[MODE];
        let mut address = if self.registers[UNDERLINE] & UNDERLINE_DOUBLE_WORD != 0 {
            counter << 2 | counter >> 12 & 3
        } else if mode & MODE_BYTE != 0 {
            counter
        } else {
            counter << 1 | counter >> if mode & MODE_WRAP != 0 { 15 } else { 13 } & 1
        };
        for (substitutes, scan_bit, bit) in [(MODE_ROW_SCAN_13, 0, 13), (MODE_ROW_SCAN_14, 1, 14)] {
            if mode & substitutes == 0 {
                address = address & !(1 << bit) | (scan >> scan_bit & 1) << bit;
            }
        }
        address & 0xffff
    }
}
