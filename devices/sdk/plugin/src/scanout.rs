//! Where a display draws what it shows. Layout: `schema/display.capnp`.

use crate::kernel::Shared;
use std::sync::atomic::{Ordering, fence};

/// Widest picture.
const WIDTH_MAX: u32 = 2560;
/// Highest picture.
const HEIGHT_MAX: u32 = 1600;
const PIXEL_BYTES: u32 = 4;
/// Where pixels begin.
const PIXELS_AT: usize = 4096;
/// Bytes of the region.
const SCANOUT_BYTES: usize = PIXELS_AT + (WIDTH_MAX * HEIGHT_MAX * PIXEL_BYTES) as usize;
/// Where the generation is, the width and the height, and the stride and the format.
const GENERATION: usize = 0;
const SIZE: usize = 8;
const STRIDE: usize = 16;
/// The one format: of each word the low byte is blue, then green, then red.
const XRGB8888: u64 = 1 << 32;

/// A region that pictures are drawn into, for who may only read it.
///
/// Its generation is no state: it goes on with each picture, also with one that is drawn again because the process died while it
/// was drawn.
pub struct Scanout(Shared);

impl Scanout {
    pub(crate) fn new(region: Shared) -> Option<Scanout> {
        (region.len() >= SCANOUT_BYTES).then_some(Scanout(region))
    }

    /// A scanout for tests. Its memory is never given back.
    #[must_use]
    pub fn private() -> Scanout {
        Scanout(Shared::private(SCANOUT_BYTES))
    }

    /// Begins a picture of this size, cut to what there is room for. What was there means nothing from now on.
    pub fn begin(&self, width: u32, height: u32) -> Drawing<'_> {
        let generation = self.0.word(GENERATION).load(Ordering::Relaxed) | 1;
        self.0.word(GENERATION).store(generation, Ordering::Relaxed);
        // Who sees a pixel of the new picture sees that it is drawn.
        fence(Ordering::SeqCst);
        Drawing { scanout: self, generation, width: width.min(WIDTH_MAX), height: height.min(HEIGHT_MAX) }
    }

    /// The size of the picture that was drawn last, and its pixels: for tests. `None` while one is drawn.
    #[must_use]
    pub fn picture(&self) -> Option<(u32, u32, Vec<u32>)> {
        let size = self.0.word(SIZE).load(Ordering::Acquire);
        let (width, height) = (size as u32, (size >> 32) as u32);
        let whole = self.0.word(GENERATION).load(Ordering::Acquire).is_multiple_of(2);
        let pixel = |at: usize| self.0.index(PIXELS_AT + at * PIXEL_BYTES as usize).load(Ordering::Relaxed);
        whole.then(|| (width, height, (0..(width * height) as usize).map(pixel).collect()))
    }
}

/// A picture while it is drawn.
pub struct Drawing<'a> {
    scanout: &'a Scanout,
    generation: u64,
    width: u32,
    height: u32,
}

impl Drawing<'_> {
    /// Pixels of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width as usize
    }

    /// Rows.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height as usize
    }

    /// Draws row `row`, of these pixels from the left: `0x00RRGGBB`. What lies beyond the picture is left out.
    pub fn row(&self, row: usize, pixels: &[u32]) {
        if row < self.height() {
            let pixels = &pixels[..pixels.len().min(self.width())];
            let bytes: Vec<u8> = pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
            self.scanout.0.copy_in(PIXELS_AT + row * self.width() * PIXEL_BYTES as usize, &bytes);
        }
    }

    /// The picture is whole.
    pub fn finish(self) {
        let region = &self.scanout.0;
        region.word(SIZE).store(u64::from(self.width) | u64::from(self.height) << 32, Ordering::Relaxed);
        region.word(STRIDE).store(u64::from(self.width * PIXEL_BYTES) | XRGB8888, Ordering::Relaxed);
        // Who sees that it is whole sees all of it.
        fence(Ordering::SeqCst);
        region.word(GENERATION).store(self.generation.wrapping_add(1), Ordering::Release);
    }
}
