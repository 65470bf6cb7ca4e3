//! How a viewer wants its pixels (RFC 6143, 7.4).

use crate::Ended;

/// Bytes of a format in a message.
pub(crate) const FORMAT_BYTES: usize = 16;

/// Where one colour is in a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Colour {
    /// Its largest value.
    max: u16,
    shift: u8,
}

impl Colour {
    /// Of a value from 0 to 255.
    fn place(self, value: u32) -> u32 {
        ((value * u32::from(self.max) + 127) / 255) << self.shift
    }
}

/// How pixels are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    /// 1, 2 or 4.
    bytes: usize,
    big_endian: bool,
    red: Colour,
    green: Colour,
    blue: Colour,
}

impl Format {
    /// What viewers are offered: pixels as a display draws them.
    pub(crate) const OWN: Format = Format {
        bytes: 4,
        big_endian: false,
        red: Colour { max: 255, shift: 16 },
        green: Colour { max: 255, shift: 8 },
        blue: Colour { max: 255, shift: 0 },
    };

    /// As a message has it. A colour map is not to be had.
    pub(crate) fn parse(bytes: &[u8; FORMAT_BYTES]) -> Result<Format, Ended> {
        let [bits, _depth, big_endian, true_colour, r1, r0, g1, g0, b1, b0, red, green, blue, ..] = *bytes;
        let colour = |max: [u8; 2], shift: u8| {
            let max = u16::from_be_bytes(max);
            // Every value of it lies within the pixel, so that nothing is lost when it is shifted.
            let fits = shift < bits && u64::from(max) << shift < 1 << bits;
            if fits { Ok(Colour { max, shift }) } else { Err(Ended::Format) }
        };
        if !matches!(bits, 8 | 16 | 32) || true_colour == 0 {
            return Err(Ended::Format);
        }
        Ok(Format {
            bytes: usize::from(bits / 8),
            big_endian: big_endian != 0,
            red: colour([r1, r0], red)?,
            green: colour([g1, g0], green)?,
            blue: colour([b1, b0], blue)?,
        })
    }

    /// As a message has it.
    pub(crate) fn to_bytes(self) -> [u8; FORMAT_BYTES] {
        let mut bytes = [0; FORMAT_BYTES];
        let depth: u32 = [self.red, self.green, self.blue].iter().map(|colour| colour.max.count_ones()).sum();
        bytes[..4].copy_from_slice(&[8 * self.bytes as u8, depth as u8, u8::from(self.big_endian), 1]);
        for (at, colour) in [self.red, self.green, self.blue].into_iter().enumerate() {
            bytes[4 + 2 * at..6 + 2 * at].copy_from_slice(&colour.max.to_be_bytes());
            bytes[10 + at] = colour.shift;
        }
        bytes
    }

    /// Appends pixels, each `0x00RRGGBB`.
    pub(crate) fn put(self, pixels: &[u32], into: &mut Vec<u8>) {
        if self == Format::OWN {
            into.extend(pixels.iter().flat_map(|pixel| pixel.to_le_bytes()));
            return;
        }
        for pixel in pixels {
            let value = self.red.place(pixel >> 16 & 0xff)
                | self.green.place(pixel >> 8 & 0xff)
                | self.blue.place(pixel & 0xff);
            if self.big_endian {
                into.extend(&value.to_be_bytes()[4 - self.bytes..]);
            } else {
                into.extend(&value.to_le_bytes()[..self.bytes]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bits: u8, true_colour: u8, max: u16, shift: u8) -> Result<Format, Ended> {
        let [m1, m0] = max.to_be_bytes();
        Format::parse(&[bits, bits, 0, true_colour, m1, m0, 0, 1, 0, 1, shift, 0, 0, 0, 0, 0])
    }

    #[test]
    fn format_that_no_pixel_has_is_refused() {
        for (bits, true_colour, max, shift) in [
            (24, 1, 1, 0),
            (0, 1, 1, 0),
            (32, 0, 255, 16),
            (8, 1, 7, 6),
            (16, 1, 255, 9),
            (32, 1, u16::MAX, 17),
            (32, 1, 1, 32),
            (32, 1, 0, 255),
        ] {
            assert_eq!(parse(bits, true_colour, max, shift), Err(Ended::Format), "{bits} {true_colour} {max} {shift}");
        }
        assert!(parse(32, 1, u16::MAX, 16).is_ok() && parse(8, 1, 7, 5).is_ok());
    }

    #[test]
    fn formats_travel_unchanged() {
        assert_eq!(Format::parse(&Format::OWN.to_bytes()), Ok(Format::OWN));
        assert_eq!(Format::OWN.to_bytes()[..13], [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0]);
    }

    #[test]
    fn pixels_are_written_as_asked() {
        let written = |bytes: [u8; 13]| {
            let mut whole = [0; FORMAT_BYTES];
            whole[..13].copy_from_slice(&bytes);
            let mut into = Vec::new();
            Format::parse(&whole).unwrap().put(&[0x00ff_8000], &mut into);
            into
        };
        assert_eq!(written([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0]), [0, 0x80, 0xff, 0]);
        assert_eq!(written([32, 24, 1, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16]), [0, 0, 0x80, 0xff]);
        // Five bits, six and five; then three, three and two.
        assert_eq!(
            written([16, 16, 0, 1, 0, 31, 0, 63, 0, 31, 11, 5, 0]),
            (0b1_1111 << 11 | 0b10_0000u16 << 5).to_le_bytes()
        );
        assert_eq!(written([8, 8, 0, 1, 0, 7, 0, 7, 0, 3, 0, 3, 6]), [0b0010_0111]);
    }
}
