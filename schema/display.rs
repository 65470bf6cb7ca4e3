//! What a display shows to people, and what people do with keyboard and mouse.
//!
//! Both travel in shared memory that an untrusted process writes, in the layout of the schema's structs: whoever reads them
//! copies the bytes once, and checks the copy by making the plain type of it.

use crate::BadBody;

/// Widest picture: what 16 MiB of display memory can hold of 32-bit pixels, as a wide screen.
pub const WIDTH_MAX: u32 = 2560;
/// Highest picture.
pub const HEIGHT_MAX: u32 = 1600;
/// Bytes of a pixel.
pub const PIXEL_BYTES: u32 = 4;
/// Where pixels begin in a scanout's region: a page, so that they are aligned for whoever maps them.
pub const PIXELS_AT: u64 = 4096;
/// Bytes of a scanout's region.
pub const SCANOUT_BYTES: u64 = PIXELS_AT + (WIDTH_MAX * HEIGHT_MAX * PIXEL_BYTES) as u64;

/// Bytes of [`Scanout`].
pub const SCANOUT_HEADER_BYTES: usize = 24;
/// The one format: of each word the low byte is blue, then green, then red.
const XRGB8888: u16 = 1;

/// What is drawn in a scanout's region: the plain type of the schema's `Scanout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scanout {
    /// Odd while a picture is drawn.
    pub generation: u64,
    /// Pixels of a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bytes from a row to the next.
    pub stride: u32,
}

impl Scanout {
    /// As it lies in the region.
    #[must_use]
    pub fn to_bytes(self) -> [u8; SCANOUT_HEADER_BYTES] {
        let mut bytes = [0; SCANOUT_HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.generation.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.width.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.height.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.stride.to_le_bytes());
        bytes[20..22].copy_from_slice(&XRGB8888.to_le_bytes());
        bytes
    }

    /// A picture whose rows lie within the region, made of a copy of its header.
    pub fn from_bytes(bytes: &[u8; SCANOUT_HEADER_BYTES]) -> Result<Scanout, BadBody> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let scanout = Scanout {
            generation: u64::from(word(0)) | u64::from(word(4)) << 32,
            width: word(8),
            height: word(12),
            stride: word(16),
        };
        if word(20) != u32::from(XRGB8888) {
            return Err(BadBody::Unknown("format"));
        }
        let require = |holds: bool, field| if holds { Ok(()) } else { Err(BadBody::OutOfRange(field)) };
        require(scanout.width <= WIDTH_MAX, "width")?;
        require(scanout.height <= HEIGHT_MAX, "height")?;
        require(scanout.stride >= scanout.width * PIXEL_BYTES && scanout.stride <= WIDTH_MAX * PIXEL_BYTES, "stride")?;
        Ok(scanout)
    }

    /// Whether no picture is drawn at this moment.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.generation.is_multiple_of(2)
    }

    /// Where row `row` begins in the region.
    #[must_use]
    pub const fn row(&self, row: u32) -> u64 {
        PIXELS_AT + row as u64 * self.stride as u64
    }
}

/// Bytes of an [`Input`] in a stream.
pub const INPUT_BYTES: usize = 8;

/// One thing that a person did: the plain type of the schema's `Input`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A key went down.
    Press {
        /// Its number in the keyboard page of the USB HID usage tables.
        key: u16,
    },
    /// A key went up.
    Release {
        /// Its number.
        key: u16,
    },
    /// The mouse moved, or one of its buttons or its wheel did.
    Pointer(Pointer),
}

/// What a mouse did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pointer {
    /// To the right.
    pub dx: i8,
    /// Down.
    pub dy: i8,
    /// Steps of the wheel towards the person.
    pub wheel: i8,
    /// Buttons that are down: bit 0 left, bit 1 right, bit 2 middle.
    pub buttons: u8,
}

impl Pointer {
    /// All buttons.
    pub const BUTTONS: u8 = 7;
}

impl Input {
    /// As it lies in a stream.
    #[must_use]
    pub fn to_bytes(self) -> [u8; INPUT_BYTES] {
        let of_key = |kind: u8, key: u16| {
            let [low, high] = key.to_le_bytes();
            [kind, 0, low, high, 0, 0, 0, 0]
        };
        match self {
            Input::Press { key } => of_key(1, key),
            Input::Release { key } => of_key(2, key),
            Input::Pointer(Pointer { dx, dy, wheel, buttons }) => {
                [3, 0, 0, 0, dx as u8, dy as u8, wheel as u8, buttons]
            }
        }
    }

    /// What the record says, if it says anything.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; INPUT_BYTES]) -> Option<Input> {
        match *bytes {
            [kind @ 1..=2, 0, low, high, 0, 0, 0, 0] => {
                let key = u16::from_le_bytes([low, high]);
                Some(if kind == 1 { Input::Press { key } } else { Input::Release { key } })
            }
            [3, 0, 0, 0, dx, dy, wheel, buttons] if buttons & !Pointer::BUTTONS == 0 => {
                Some(Input::Pointer(Pointer { dx: dx as i8, dy: dy as i8, wheel: wheel as i8, buttons }))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_whose_rows_would_leave_the_region_is_refused() {
        let good = Scanout { generation: 2, width: WIDTH_MAX, height: HEIGHT_MAX, stride: WIDTH_MAX * PIXEL_BYTES };
        let read = |scanout: Scanout| Scanout::from_bytes(&scanout.to_bytes());
        assert_eq!(read(good), Ok(good));
        assert_eq!(read(Scanout { width: WIDTH_MAX + 1, ..good }), Err(BadBody::OutOfRange("width")));
        assert_eq!(read(Scanout { height: HEIGHT_MAX + 1, ..good }), Err(BadBody::OutOfRange("height")));
        assert_eq!(read(Scanout { stride: good.stride - 1, ..good }), Err(BadBody::OutOfRange("stride")));
        assert_eq!(read(Scanout { width: 1, stride: good.stride + 1, ..good }), Err(BadBody::OutOfRange("stride")));
        assert_eq!(Scanout::from_bytes(&[0; SCANOUT_HEADER_BYTES]), Err(BadBody::Unknown("format")));
        assert_eq!(good.row(HEIGHT_MAX), SCANOUT_BYTES);
    }

    #[test]
    fn record_that_says_nothing_is_no_input() {
        for bytes in [[0; 8], [4, 0, 0, 0, 0, 0, 0, 0], [1, 1, 4, 0, 0, 0, 0, 0], [3, 0, 0, 0, 1, 1, 0, 8]] {
            assert_eq!(Input::from_bytes(&bytes), None, "{bytes:?}");
        }
        let pointer = Pointer { dx: -128, dy: 127, wheel: -1, buttons: 5 };
        for input in [Input::Press { key: 0xe7 }, Input::Release { key: 4 }, Input::Pointer(pointer)] {
            assert_eq!(Input::from_bytes(&input.to_bytes()), Some(input));
        }
    }
}
