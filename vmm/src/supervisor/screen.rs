//! Looking at what a display has drawn, without believing a word of it: its host may be against us.

use anyhow::{Context, Result, bail};
use imc::{Mapping, ReadOnly, Region};
use schema::display::{PIXEL_BYTES, SCANOUT_BYTES, SCANOUT_HEADER_BYTES, Scanout};
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

/// How often a picture is looked for that is being drawn.
const PERIOD: Duration = Duration::from_millis(2);

/// A scanout, to read.
pub struct Screen(Mapping);

/// A picture, copied and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its number.
    pub generation: u64,
    /// Pixels of a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `0x00RRGGBB`, row after row. What a host puts into the unused bits is left out.
    pub pixels: Vec<u32>,
}

impl Screen {
    /// The scanout in this region.
    pub fn new(region: &Region<ReadOnly>) -> Result<Screen> {
        if region.bytes() < SCANOUT_BYTES {
            bail!("the region of a display's picture is too small");
        }
        Ok(Screen(region.map().context("mapping a display's picture")?))
    }

    /// The picture that is drawn after generation `after`. Waits for it.
    pub fn after(&self, after: u64, patience: Duration) -> Result<Frame> {
        let until = Instant::now() + patience;
        loop {
            if let Some(frame) = self.frame().filter(|frame| frame.generation != after) {
                return Ok(frame);
            }
            if Instant::now() >= until {
                bail!("the display has drawn nothing within {patience:?}; see `cofferdam logs`");
            }
            std::thread::sleep(PERIOD);
        }
    }

    /// The picture that is there now, if it is whole and stays so while it is copied.
    #[must_use]
    pub fn frame(&self) -> Option<Frame> {
        let before = self.header()?;
        let Scanout { generation, width, height, .. } = before;
        if !before.is_whole() || generation == 0 || width == 0 || height == 0 {
            return None;
        }
        // The copy of the header is what counts: its rows lie within the region whatever is written there meanwhile.
        let mut pixels = Vec::with_capacity((width * height) as usize);
        let mut bytes = vec![0; (width * PIXEL_BYTES) as usize];
        for row in 0..height {
            self.0.read(before.row(row) as usize, &mut bytes);
            let words = bytes.as_chunks::<{ PIXEL_BYTES as usize }>().0;
            pixels.extend(words.iter().map(|word| u32::from_le_bytes(*word) & 0x00ff_ffff));
        }
        fence(Ordering::SeqCst);
        (self.header() == Some(before)).then_some(Frame { generation, width, height, pixels })
    }

    fn header(&self) -> Option<Scanout> {
        let mut bytes = [0; SCANOUT_HEADER_BYTES];
        self.0.read(0, &mut bytes);
        fence(Ordering::SeqCst);
        Scanout::from_bytes(&bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imc::ReadWrite;

    fn drawn(header: Scanout, pixel: u32) -> (Region<ReadWrite>, Screen) {
        let region = Region::create("cofferdam:scanout", SCANOUT_BYTES).unwrap();
        let mapping = region.map().unwrap();
        mapping.write(0, &header.to_bytes());
        mapping.write(header.row(1) as usize, &pixel.to_le_bytes());
        let screen = Screen::new(&region.read_only().unwrap()).unwrap();
        (region, screen)
    }

    #[test]
    fn picture_that_is_not_whole_or_makes_no_sense_is_none() {
        let good = Scanout { generation: 2, width: 3, height: 2, stride: 12 };
        for header in [
            Scanout { generation: 3, ..good },
            Scanout { generation: 0, ..good },
            Scanout { width: 0, ..good },
            Scanout { width: 4, ..good },
            Scanout { height: u32::MAX, ..good },
        ] {
            assert_eq!(drawn(header, 0).1.frame(), None, "{header:?}");
        }
        let small = Region::create("cofferdam:scanout", 4096).unwrap();
        assert!(Screen::new(&small.read_only().unwrap()).is_err());
    }

    #[test]
    fn picture_is_copied_without_its_unused_bits() {
        let (_, screen) = drawn(Scanout { generation: 2, width: 3, height: 2, stride: 12 }, 0xff11_2233);
        let frame = screen.frame().unwrap();
        assert_eq!((frame.width, frame.height, frame.pixels), (3, 2, vec![0, 0, 0, 0x0011_2233, 0, 0]));
    }

    #[test]
    fn picture_of_before_is_not_the_one_that_was_asked_for() {
        let (region, screen) = drawn(Scanout { generation: 2, width: 1, height: 2, stride: 4 }, 1);
        assert!(screen.after(2, Duration::from_millis(10)).unwrap_err().to_string().contains("drawn nothing"));
        let later = Scanout { generation: 4, width: 1, height: 2, stride: 4 };
        region.map().unwrap().write(0, &later.to_bytes());
        assert_eq!(screen.after(2, Duration::from_secs(1)).unwrap().generation, 4);
    }
}
