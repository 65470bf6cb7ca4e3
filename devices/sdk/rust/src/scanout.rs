//! Where a display draws what it shows.

use crate::GuestMemory;
use schema::display::{HEIGHT_MAX, PIXEL_BYTES, SCANOUT_BYTES, SCANOUT_HEADER_BYTES, WIDTH_MAX};
use std::sync::atomic::{Ordering, fence};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

/// A region that pictures are drawn into, for who may only read it.
///
/// Its first bytes are [`schema::display::Scanout`]. The generation is no state: it goes on with each picture, also with one
/// that is drawn again because the process died while it was drawn.
pub struct Scanout(GuestMemory);

impl Scanout {
    /// The scanout in this memory, which begins at address 0.
    #[must_use]
    pub fn new(memory: GuestMemory) -> Option<Scanout> {
        memory.check_range(GuestAddress(0), SCANOUT_BYTES as usize).then_some(Scanout(memory))
    }

    /// A scanout in private memory, for tests.
    #[must_use]
    pub fn private() -> Option<Scanout> {
        Scanout::new(GuestMemory::from_ranges(&[(GuestAddress(0), SCANOUT_BYTES as usize)]).ok()?)
    }

    /// Its memory.
    #[must_use]
    pub fn memory(&self) -> &GuestMemory {
        &self.0
    }

    /// Begins a picture of this size, cut to what there is room for. What was there means nothing from now on.
    pub fn begin(&self, width: u32, height: u32) -> Drawing<'_> {
        let generation = self.0.read_obj::<u64>(GuestAddress(0)).unwrap_or(0) | 1;
        self.write(0, &generation.to_le_bytes());
        // Who sees a pixel of the new picture sees that it is drawn.
        fence(Ordering::SeqCst);
        let (width, height) = (width.min(WIDTH_MAX), height.min(HEIGHT_MAX));
        let header = schema::display::Scanout { generation, width, height, stride: width * PIXEL_BYTES };
        Drawing { scanout: self, header }
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        let written = self.0.write_slice(bytes, GuestAddress(at));
        debug_assert!(written.is_ok(), "a picture was cut to what there is room for");
    }
}

/// A picture while it is drawn.
pub struct Drawing<'a> {
    scanout: &'a Scanout,
    header: schema::display::Scanout,
}

impl Drawing<'_> {
    /// Pixels of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.header.width as usize
    }

    /// Rows.
    #[must_use]
    pub fn height(&self) -> usize {
        self.header.height as usize
    }

    /// Draws row `row`, of these pixels from the left: `0x00RRGGBB`. What lies beyond the picture is left out.
    pub fn row(&self, row: usize, pixels: &[u32]) {
        if row >= self.height() {
            return;
        }
        let pixels = &pixels[..pixels.len().min(self.width())];
        self.scanout.write(self.header.row(row as u32), zerocopy::IntoBytes::as_bytes(pixels));
    }

    /// The picture is whole.
    pub fn finish(self) {
        let header = schema::display::Scanout { generation: self.header.generation.wrapping_add(1), ..self.header };
        let bytes: [u8; SCANOUT_HEADER_BYTES] = header.to_bytes();
        let (generation, rest) = bytes.split_at(size_of::<u64>());
        self.scanout.write(generation.len() as u64, rest);
        // Who sees that it is whole sees all of it.
        fence(Ordering::SeqCst);
        self.scanout.write(0, generation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::display;

    fn header(scanout: &Scanout) -> display::Scanout {
        let mut bytes = [0; SCANOUT_HEADER_BYTES];
        scanout.memory().read_slice(&mut bytes, GuestAddress(0)).unwrap();
        display::Scanout::from_bytes(&bytes).unwrap()
    }

    #[test]
    fn picture_larger_than_the_region_is_cut() {
        let scanout = Scanout::private().unwrap();
        let drawing = scanout.begin(u32::MAX, u32::MAX);
        assert_eq!((drawing.width(), drawing.height()), (WIDTH_MAX as usize, HEIGHT_MAX as usize));
        drawing.row(usize::MAX, &[1]);
        drawing.row(HEIGHT_MAX as usize - 1, &vec![1; WIDTH_MAX as usize + 1]);
        drawing.finish();
        assert_eq!(header(&scanout).width, WIDTH_MAX);
    }

    #[test]
    fn generation_is_odd_while_a_picture_is_drawn_and_goes_on() {
        let scanout = Scanout::private().unwrap();
        for generation in [2, 4, 6] {
            // The process died while it drew: the next one draws it again.
            scanout.begin(1, 1);
            let drawing = scanout.begin(2, 2);
            assert_eq!(scanout.memory().read_obj::<u64>(GuestAddress(0)).unwrap(), generation - 1);
            drawing.row(1, &[0x0011_2233, 0x0044_5566]);
            drawing.finish();
            let header = header(&scanout);
            assert_eq!(header, display::Scanout { generation, width: 2, height: 2, stride: 8 });
            assert!(header.is_whole());
            assert_eq!(scanout.memory().read_obj::<u32>(GuestAddress(header.row(1) + 4)).unwrap(), 0x0044_5566);
        }
    }
}
