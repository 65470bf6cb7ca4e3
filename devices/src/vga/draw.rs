//! What the registers make of display memory: a picture, drawn line by line. A bounded amount of work: the largest picture
//! has as many dots as the scanout has room for.

use super::State;
use super::attribute::Attribute;
use super::dispi::Mode;
use super::graphics::Shift;
use super::planes::Memory;
use device::Scanout;
use device::display::WIDTH_MAX;

/// Characters blink at this rate, the cursor at twice that: every 32nd and 16th picture of 60 a second.
const BLINK_NS: u64 = 533_000_000;
/// The widest characters.
const DOTS_MAX: usize = 9;
/// Room for the widest row: 256 characters, and one more that panning brings in.
const DOTS_PER_LINE: usize = 257 * DOTS_MAX;
const LINE_DOTS: usize = if DOTS_PER_LINE > WIDTH_MAX as usize { DOTS_PER_LINE } else { WIDTH_MAX as usize };
/// Bytes of a glyph in the font.
const GLYPH_BYTES: usize = 32;
/// Characters whose ninth dot may be as the eighth.
const BOXES: std::ops::RangeInclusive<u8> = 0xc0..=0xdf;

/// Attribute bits of a character.
const ATTRIBUTE_BLINK: u8 = 1 << 7;
const ATTRIBUTE_FONT: u8 = 1 << 3;
/// On monochrome displays this foreground is an underline.
const ATTRIBUTE_UNDERLINE: u8 = 1;

/// A line on its way from memory to the scanout.
pub(super) struct Line {
    bytes: [u8; 4 * WIDTH_MAX as usize],
    /// Numbers of colours.
    numbers: [u8; LINE_DOTS],
    pixels: [u32; LINE_DOTS],
}

impl Line {
    pub(super) fn boxed() -> Box<Line> {
        Box::new(Line { bytes: [0; 4 * WIDTH_MAX as usize], numbers: [0; LINE_DOTS], pixels: [0; LINE_DOTS] })
    }
}

/// Draws what the screen shows now.
pub(super) fn draw(state: &State, memory: &Memory, scanout: &Scanout, line: &mut Line, now: u64) {
    match state.dispi.mode() {
        Some(mode) if mode.bits == 4 => Legacy::of_mode(state, &mode, now).draw(memory, scanout, line),
        Some(mode) => draw_rows(state, &mode, memory, scanout, line),
        None => Legacy::new(state, now).draw(memory, scanout, line),
    }
}

/// A mode of the display interface whose rows are pixels.
fn draw_rows(state: &State, mode: &Mode, memory: &Memory, scanout: &Scanout, line: &mut Line) {
    let drawing = scanout.begin(mode.width, mode.height);
    let width = drawing.width();
    let bytes_each = usize::from(mode.bits.div_ceil(8));
    let wide = state.dispi.has_wide_dac();
    for row in 0..drawing.height() {
        let bytes = &mut line.bytes[..width * bytes_each];
        memory.copy(mode.start + row as u64 * mode.pitch, bytes);
        for (pixel, bytes) in line.pixels.iter_mut().zip(bytes.chunks_exact(bytes_each)) {
            *pixel = match (mode.bits, bytes) {
                (15, &[low, high]) => from_15(u16::from_le_bytes([low, high])),
                (_, &[low, high]) => from_16(u16::from_le_bytes([low, high])),
                (_, &[blue, green, red, ..]) => u32::from_be_bytes([0, red, green, blue]),
                (_, bytes) => state.dac.colour(bytes.first().copied().unwrap_or(0), wide),
            };
        }
        drawing.row(row, &line.pixels[..width]);
    }
    drawing.finish();
}

/// Five bits of each colour.
fn from_15(pixel: u16) -> u32 {
    let part = |shift: u16| widen(u32::from(pixel >> shift & 0x1f), 5);
    part(10) << 16 | part(5) << 8 | part(0)
}

/// Six bits of green.
fn from_16(pixel: u16) -> u32 {
    let part = |shift: u16| widen(u32::from(pixel >> shift & 0x1f), 5);
    part(11) << 16 | widen(u32::from(pixel >> 5 & 0x3f), 6) << 8 | part(0)
}

/// Eight bits of which the brightest is that of fewer.
fn widen(part: u32, bits: u32) -> u32 {
    part << (8 - bits) | part >> (2 * bits - 8)
}

/// A picture that the CRT controller makes.
struct Legacy<'a> {
    state: &'a State,
    /// Characters of a row, or groups of dots.
    columns: usize,
    /// Lines of the picture, each drawn once however often it is shown.
    lines: usize,
    /// Counter of the first character, and what it goes on by from a row to the next.
    start: usize,
    pitch: usize,
    /// Lines of the first row that are left out.
    preset: usize,
    /// The line from which on the picture begins again at address 0.
    split: usize,
    is_text: bool,
    is_dark: bool,
    blinked: bool,
    cursor_blinked: bool,
    /// The display interface has its own idea of addresses: a row is bytes, without wrap.
    counts_bytes: bool,
}

impl<'a> Legacy<'a> {
    fn new(state: &'a State, now: u64) -> Legacy<'a> {
        let crtc = &state.crtc;
        let is_text = !state.graphics.is_graphics();
        let repeated = if is_text || crtc.interleaves() { 1 } else { crtc.row_lines() };
        let shown = if crtc.doubles() { 2 } else { 1 } * repeated;
        Legacy {
            state,
            columns: crtc.columns(),
            lines: crtc.lines() / shown,
            start: crtc.start() + crtc.byte_panning(),
            pitch: crtc.pitch(),
            preset: if is_text { crtc.preset_row() } else { 0 },
            split: (crtc.line_compare() + 1) / shown,
            is_text,
            is_dark: state.attribute.is_off() || state.sequencer.is_off() || !crtc.runs(),
            blinked: !(now / BLINK_NS).is_multiple_of(2),
            cursor_blinked: !(now / (BLINK_NS / 2)).is_multiple_of(2),
            counts_bytes: false,
        }
    }

    /// Four bits for each pixel, in planes, with the size that the display interface says.
    fn of_mode(state: &'a State, mode: &Mode, now: u64) -> Legacy<'a> {
        Legacy {
            columns: mode.width.div_ceil(8) as usize,
            lines: mode.height as usize,
            start: mode.start as usize,
            pitch: mode.pitch as usize,
            preset: 0,
            split: usize::MAX,
            is_text: false,
            is_dark: state.attribute.is_off() || state.sequencer.is_off(),
            counts_bytes: true,
            ..Legacy::new(state, now)
        }
    }

    /// Dots of a character or of a group.
    fn dots(&self) -> usize {
        if self.is_text {
            return self.state.sequencer.dots();
        }
        // A dot of eight bits takes the time of two.
        if self.state.graphics.shift() == Shift::Bytes { 4 } else { 8 }
    }

    fn draw(&self, memory: &Memory, scanout: &Scanout, line: &mut Line) {
        let state = self.state;
        let width = self.columns * self.dots();
        let drawing = scanout.begin(width as u32, self.lines as u32);
        let wide = state.dispi.has_wide_dac();
        let mut colours = [0; 256];
        for (number, colour) in (0..=u8::MAX).zip(&mut colours) {
            *colour = if self.is_dark { 0 } else { state.dac.colour(number, wide) };
        }
        let panning = if self.counts_bytes { 0 } else { state.attribute.panning(self.dots()) % self.dots() };
        for shown in 0..drawing.height() {
            // Below the split the picture begins again at address 0, with a whole row, and perhaps without panning.
            let (start, y, panning) = match shown.checked_sub(self.split) {
                Some(y) => (0, y, if state.attribute.panning_ends() { 0 } else { panning }),
                None => (self.start, shown + self.preset, panning),
            };
            if !self.is_dark {
                self.fill(memory, &mut line.numbers, start, y);
            }
            for (pixel, number) in line.pixels.iter_mut().zip(&line.numbers[panning..]) {
                *pixel = colours[usize::from(*number)];
            }
            drawing.row(shown, &line.pixels[..width.min(LINE_DOTS)]);
        }
        drawing.finish();
    }

    /// The numbers of the colours of line `y`, counted from where `start` is.
    fn fill(&self, memory: &Memory, numbers: &mut [u8; LINE_DOTS], start: usize, y: usize) {
        let crtc = &self.state.crtc;
        let (row, scan) = if self.is_text || (!self.counts_bytes && crtc.interleaves()) {
            (y / crtc.row_lines(), y % crtc.row_lines())
        } else {
            (y, 0)
        };
        let first = start + row * self.pitch;
        let dots = self.dots();
        for (counter, numbers) in (first..=first + self.columns).zip(numbers.chunks_exact_mut(dots)) {
            let at = if self.counts_bytes { counter } else { crtc.address(counter & 0xffff, scan) };
            let planes = memory.planes(at);
            if self.is_text {
                self.character(memory, planes[0], planes[1], counter, scan, numbers);
            } else {
                self.group(planes, numbers);
            }
        }
    }

    /// A line of a character.
    fn character(
        &self,
        memory: &Memory,
        character: u8,
        attribute: u8,
        counter: usize,
        scan: usize,
        numbers: &mut [u8],
    ) {
        let state = self.state;
        let blinks = state.attribute.blinks();
        let fonts = state.sequencer.fonts();
        let font = fonts[usize::from(attribute & ATTRIBUTE_FONT != 0)];
        let [_, _, mut glyph, _] = memory.planes(font + GLYPH_BYTES * usize::from(character) + scan % GLYPH_BYTES);
        let mut ninth = state.attribute.joins_lines() && BOXES.contains(&character) && glyph & 1 != 0;
        if blinks && attribute & ATTRIBUTE_BLINK != 0 && self.blinked {
            (glyph, ninth) = (0, false);
        }
        let underlines = state.attribute.is_monochrome() && attribute & 7 == ATTRIBUTE_UNDERLINE;
        let is_cursor = state
            .crtc
            .cursor()
            .is_some_and(|(place, lines)| place == counter & 0xffff && lines.contains(&scan) && !self.cursor_blinked);
        if is_cursor || underlines && scan == state.crtc.underline() {
            (glyph, ninth) = (0xff, true);
        }
        let foreground = state.attribute.colour(attribute & 0x0f);
        let background = attribute >> 4 & if blinks { 7 } else { 0x0f };
        let background = state.attribute.colour(background);
        for (dot, number) in numbers.iter_mut().enumerate() {
            let is_set = if dot < 8 { glyph << dot & 0x80 != 0 } else { ninth };
            *number = if is_set { foreground } else { background };
        }
    }

    /// The dots of a byte of each plane.
    fn group(&self, planes: [u8; 4], numbers: &mut [u8]) {
        let attribute: &Attribute = &self.state.attribute;
        match self.state.graphics.shift() {
            Shift::Bytes => numbers.copy_from_slice(&planes),
            Shift::Planar => {
                for (dot, number) in numbers.iter_mut().enumerate() {
                    let bits = (0..4).fold(0, |bits, plane| bits | (planes[plane] << dot >> 7) << plane);
                    *number = attribute.colour(bits);
                }
            }
            Shift::Interleaved => {
                for (dot, number) in numbers.iter_mut().enumerate() {
                    let (pair, shift) = (dot / 4, 6 - 2 * (dot % 4));
                    let bits = planes[pair] >> shift & 3 | (planes[pair + 2] >> shift & 3) << 2;
                    *number = attribute.colour(bits);
                }
            }
        }
    }
}
