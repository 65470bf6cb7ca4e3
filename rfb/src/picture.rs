//! The screen as it was last seen, and which of its tiles changed when.

use schema::display::{HEIGHT_MAX, PIXEL_BYTES, WIDTH_MAX};

/// Pixels of a side of a tile.
pub const TILE: usize = 64;
/// Pixels of a row, of whatever size the picture is: a tile then always has the same place.
const ROW: usize = WIDTH_MAX as usize;
const ROWS: usize = HEIGHT_MAX as usize;
/// Tiles of a row.
pub(crate) const ACROSS: usize = ROW.div_ceil(TILE);
/// All tiles.
pub(crate) const TILES: usize = ACROSS * ROWS.div_ceil(TILE);

/// A copy of what a display shows, which viewers are shown.
pub struct Picture {
    width: usize,
    height: usize,
    /// `0x00RRGGBB`; black beside the picture.
    pixels: Vec<u32>,
    /// By tile: the look that saw it change last.
    changed: Vec<u64>,
    /// Looks so far.
    looks: u64,
    row: Vec<u8>,
}

impl Picture {
    /// One that nobody has looked at yet. All memory that it will need is there: a sealed process gets no more.
    #[must_use]
    pub fn new() -> Picture {
        Picture {
            width: 0,
            height: 0,
            pixels: vec![0; ROW * ROWS],
            changed: vec![0; TILES],
            looks: 0,
            row: vec![0; ROW * PIXEL_BYTES as usize],
        }
    }

    /// Looks at a picture of this size, whose row of some number `read` copies. Says whether anything changed. Sizes beyond the
    /// largest are cut.
    pub fn look(&mut self, width: u32, height: u32, mut read: impl FnMut(u32, &mut [u8])) -> bool {
        let (width, height) = (width.min(WIDTH_MAX) as usize, height.min(HEIGHT_MAX) as usize);
        if width == 0 || height == 0 {
            return false;
        }
        self.looks += 1;
        let mut any = false;
        if (width, height) != (self.width, self.height) {
            for row in self.pixels.chunks_mut(ROW).take(self.height) {
                row[..self.width].fill(0);
            }
            (self.width, self.height) = (width, height);
            self.changed.fill(self.looks);
            any = true;
        }
        for y in 0..height {
            let bytes = &mut self.row[..width * PIXEL_BYTES as usize];
            read(y as u32, bytes);
            let own = self.pixels[y * ROW..][..width].chunks_mut(TILE);
            let seen = bytes.as_chunks::<{ PIXEL_BYTES as usize }>().0.chunks(TILE);
            let changed = &mut self.changed[y / TILE * ACROSS..];
            for ((own, seen), changed) in own.zip(seen).zip(changed) {
                for (own, seen) in own.iter_mut().zip(seen) {
                    let seen = u32::from_le_bytes(*seen) & 0x00ff_ffff;
                    if *own != seen {
                        *own = seen;
                        *changed = self.looks;
                        any = true;
                    }
                }
            }
        }
        any
    }

    /// Pixels of a row and rows, once there is a picture.
    pub(crate) fn size(&self) -> Option<(u16, u16)> {
        (self.looks > 0).then_some((self.width as u16, self.height as u16))
    }

    /// Looks so far.
    pub(crate) fn looks(&self) -> u64 {
        self.looks
    }

    /// Whether a tile has changed after so many looks.
    pub(crate) fn changed_after(&self, tile: usize, looks: u64) -> bool {
        self.changed[tile] > looks
    }

    /// Pixels of row `y` from `x` on.
    pub(crate) fn row(&self, x: usize, y: usize, count: usize) -> &[u32] {
        &self.pixels[y * ROW + x..][..count]
    }
}

impl Default for Picture {
    fn default() -> Picture {
        Picture::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(picture: &mut Picture, width: u32, height: u32, pixel: impl Fn(u32, u32) -> u32) -> bool {
        picture.look(width, height, |y, bytes| {
            for (x, bytes) in (0..).zip(bytes.as_chunks_mut::<4>().0) {
                *bytes = pixel(x, y).to_le_bytes();
            }
        })
    }

    fn changed(picture: &Picture, looks: u64) -> Vec<usize> {
        (0..TILES).filter(|tile| picture.changed_after(*tile, looks)).collect()
    }

    #[test]
    fn picture_beyond_the_largest_size_is_cut_and_one_without_pixels_none() {
        let mut picture = Picture::new();
        assert!(!look(&mut picture, 0, 7, |_, _| 1) && picture.size().is_none());
        assert!(look(&mut picture, u32::MAX, u32::MAX, |_, _| 1));
        assert_eq!(picture.size(), Some((WIDTH_MAX as u16, HEIGHT_MAX as u16)));
    }

    #[test]
    fn tiles_that_changed_are_known_and_unused_bits_count_for_nothing() {
        let mut picture = Picture::new();
        look(&mut picture, 200, 100, |_, _| 7);
        assert_eq!(changed(&picture, 0).len(), TILES);
        assert!(!look(&mut picture, 200, 100, |_, _| 0xff00_0007));
        assert_eq!(changed(&picture, 1), []);
        assert!(look(&mut picture, 200, 100, |x, y| if (x, y) == (199, 64) { 8 } else { 7 }));
        assert_eq!(changed(&picture, 2), [ACROSS + 3]);
        assert_eq!(picture.row(198, 64, 3), [7, 8, 0]);
    }

    #[test]
    fn what_is_beside_a_smaller_picture_is_black() {
        let mut picture = Picture::new();
        look(&mut picture, 200, 100, |_, _| 7);
        look(&mut picture, 100, 50, |_, _| 7);
        assert_eq!((picture.row(99, 49, 2), picture.row(0, 50, 1)), (&[7, 0][..], &[0][..]));
        assert_eq!(changed(&picture, 1).len(), TILES);
    }
}
