//! What a display shows, read from a picture of it: pixels, and text in the font of the VGA BIOS.

// Each test file uses its own part.
#![allow(dead_code)]

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// A picture as `cofferdam screenshot` wrote it.
#[derive(PartialEq, Eq)]
pub struct Picture {
    /// Width and height.
    pub size: (u32, u32),
    pixels: Vec<u8>,
}

impl Picture {
    /// Reads it from a file.
    pub fn read(file: &Path) -> Picture {
        let decoder = png::Decoder::new(BufReader::new(File::open(file).expect("the picture")));
        let mut reader = decoder.read_info().expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
        let info = reader.next_frame(&mut pixels).expect("a picture");
        assert_eq!(info.color_type, png::ColorType::Rgb);
        Picture { size: (info.width, info.height), pixels }
    }

    /// Red, green and blue of a dot.
    pub fn at(&self, x: usize, y: usize) -> [u8; 3] {
        let at = 3 * (y * self.size.0 as usize + x);
        [self.pixels[at], self.pixels[at + 1], self.pixels[at + 2]]
    }
}

/// The font of Debian's VGA BIOS: a glyph of sixteen lines for each character.
pub struct Font(Vec<u8>);

impl Font {
    /// Where the distribution keeps it.
    pub const ROM: &str = "/usr/share/seabios/vgabios-stdvga.bin";
    /// Lines of a character.
    const LINES: usize = 16;
    /// Dots of a character on the screen; the ninth has the background.
    const DOTS: usize = 9;
    /// A screen of 80 columns and 25 rows.
    const SCREEN: (u32, u32) = (720, 400);
    /// How the letter A looks in every VGA.
    const A: [u8; 16] = [0, 0, 0x10, 0x38, 0x6c, 0xc6, 0xc6, 0xfe, 0xc6, 0xc6, 0xc6, 0xc6, 0, 0, 0, 0];

    /// Takes it from there, if it is there.
    pub fn read() -> Option<Font> {
        let rom = std::fs::read(Font::ROM).ok()?;
        let letter = rom.windows(Font::LINES).position(|glyph| glyph == Font::A).expect("a letter in the VGA BIOS");
        let start = letter - Font::LINES * usize::from(b'A');
        Some(Font(rom[start..start + 256 * Font::LINES].to_vec()))
    }

    /// The text that a picture shows, line by line; what is no character of ASCII is a question mark. Graphics have no lines.
    pub fn read_lines(&self, picture: &Picture) -> Vec<String> {
        if picture.size != Font::SCREEN {
            return Vec::new();
        }
        let (columns, rows) = (picture.size.0 as usize / Font::DOTS, picture.size.1 as usize / Font::LINES);
        (0..rows).map(|row| (0..columns).map(|column| self.character(picture, column, row)).collect()).collect()
    }

    fn character(&self, picture: &Picture, column: usize, row: usize) -> char {
        let glyph: Vec<u8> = (0..Font::LINES)
            .map(|line| {
                let colour = |dot| picture.at(column * Font::DOTS + dot, row * Font::LINES + line);
                let dot = |dot| colour(dot) != colour(Font::DOTS - 1);
                (0..8).fold(0, |bits, at| bits << 1 | u8::from(dot(at)))
            })
            .collect();
        let found = (b' '..0x7f).find(|character| {
            let at = usize::from(*character) * Font::LINES;
            self.0[at..at + Font::LINES] == glyph[..]
        });
        found.map_or('?', char::from)
    }
}
