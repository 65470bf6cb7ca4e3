use super::*;
use crate::conformance::{Bench, Random, Strike, World, conforms};
use device::display::{self, PIXELS_AT, SCANOUT_HEADER_BYTES};
use device::{DirectMemory, GuestMemory};
use vm_memory::{Bytes, GuestAddress};

/// A screen and display memory that outlive the device.
struct Desk {
    memory: DirectMemory,
    screen: GuestMemory,
}

impl World for Desk {
    const NAME: &'static str = NAME;
    /// Fewer than others: now and then a whole picture is drawn.
    const STEPS: usize = 40_000;

    fn new() -> Desk {
        let memory = DirectMemory::from_ranges(&[(GuestAddress(0), MEMORY_BYTES as usize)]).unwrap();
        Desk { memory, screen: Scanout::private().unwrap().memory().clone() }
    }

    fn powers(&self) -> Powers {
        let mut powers = Powers::default();
        powers.direct.push((WISH_MEMORY, self.memory.clone()));
        powers.scanouts.push((WISH_SCANOUT, Scanout::new(self.screen.clone()).unwrap()));
        powers
    }

    fn seen(&self) -> Vec<u8> {
        let mut planes = vec![0; 1 << 18];
        self.memory.read_slice(&mut planes, GuestAddress(0)).unwrap();
        planes
    }

    /// Mostly ports, and places of the window where something is.
    fn strike(&mut self, random: &mut Random, _: &Manifest) -> Strike {
        let (range, length) = match random.below(8) {
            0..3 => (PORTS, u64::from(PORT_COUNT)),
            3 => (MONOCHROME, u64::from(MONOCHROME_COUNT)),
            4 => (DISPI, u64::from(DISPI_COUNT)),
            _ => (WINDOW, WINDOW_BYTES),
        };
        let width = [1, 1, 2, 4][random.below(4) as usize].min(if range == DISPI { 2 } else { 4 });
        let offset = random.below(length - u64::from(width) + 1);
        let value = if range == DISPI { random.below(64) | random.value() & 0xfff } else { random.value() };
        Strike { range, offset, width, value, write: !random.one_in(3) }
    }
}

conforms!(Desk);

/// The registers of a BIOS mode: miscellaneous output, sequencer, CRT controller, graphics controller, attribute controller
/// (public descriptions of the tables of BIOS mode values).
struct Table {
    misc: u8,
    sequencer: [u8; 5],
    crtc: [u8; 25],
    graphics: [u8; 9],
    attribute_mode: u8,
    panning: u8,
}

/// Mode 3: text, 80 by 25 characters of 9 by 16 dots.
const TEXT: Table = Table {
    misc: 0x67,
    sequencer: [0x03, 0x00, 0x03, 0x00, 0x02],
    crtc: [
        0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00, 0x00, 0x00, 0x00, 0x9c, 0x8e,
        0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
    ],
    graphics: [0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x00, 0xff],
    attribute_mode: 0x0c,
    panning: 0x08,
};

/// Mode 4: 320 by 200 dots of four colours, as the first colour adapter had them.
const FOUR_COLOURS: Table = Table {
    misc: 0x63,
    sequencer: [0x03, 0x09, 0x03, 0x00, 0x02],
    crtc: [
        0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0x00, 0xc1, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x9c, 0x8e,
        0x8f, 0x14, 0x00, 0x96, 0xb9, 0xa2, 0xff,
    ],
    graphics: [0x00, 0x00, 0x00, 0x00, 0x00, 0x30, 0x0f, 0x00, 0xff],
    attribute_mode: 0x01,
    panning: 0x00,
};

/// Mode 12h: 640 by 480 dots of sixteen colours.
const SIXTEEN_COLOURS: Table = Table {
    misc: 0xe3,
    sequencer: [0x03, 0x01, 0x0f, 0x00, 0x06],
    crtc: [
        0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xea, 0x8c,
        0xdf, 0x28, 0x00, 0xe7, 0x04, 0xe3, 0xff,
    ],
    graphics: [0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x0f, 0xff],
    attribute_mode: 0x01,
    panning: 0x00,
};

/// Mode 13h: 320 by 200 dots of 256 colours.
const MANY_COLOURS: Table = Table {
    misc: 0x63,
    sequencer: [0x03, 0x01, 0x0f, 0x00, 0x0e],
    crtc: [
        0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0x00, 0x41, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x9c, 0x8e,
        0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff,
    ],
    graphics: [0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x05, 0x0f, 0xff],
    attribute_mode: 0x41,
    panning: 0x00,
};

/// A picture as a person sees it.
struct Picture {
    header: display::Scanout,
    pixels: Vec<u32>,
}

impl Picture {
    fn size(&self) -> (u32, u32) {
        (self.header.width, self.header.height)
    }

    fn at(&self, x: usize, y: usize) -> u32 {
        self.pixels[y * self.header.width as usize + x]
    }
}

impl Bench<Desk> {
    fn out(&mut self, port: u16, value: u8) {
        let (range, first) = if port < FIRST_PORT { (MONOCHROME, MONOCHROME_PORT) } else { (PORTS, FIRST_PORT) };
        self.write(range, (port - first).into(), 1, value.into()).unwrap();
    }

    fn input(&mut self, port: u16) -> u8 {
        self.read(PORTS, (port - FIRST_PORT).into(), 1).unwrap() as u8
    }

    fn set(&mut self, port: u16, index: u8, value: u8) {
        self.write(PORTS, (port - FIRST_PORT).into(), 2, u64::from(index) | u64::from(value) << 8).unwrap();
    }

    fn set_attribute(&mut self, index: u8, value: u8) {
        self.input(0x3da);
        self.out(0x3c0, index);
        self.out(0x3c0, value);
    }

    fn set_colour(&mut self, number: u8, colour: [u8; 3]) {
        self.out(0x3c8, number);
        colour.iter().for_each(|part| self.out(0x3c9, *part));
    }

    fn dispi(&mut self, index: u16, value: u16) {
        self.write(DISPI, 0, 2, index.into()).unwrap();
        self.write(DISPI, 1, 2, value.into()).unwrap();
    }

    fn dispi_says(&mut self, index: u16) -> u16 {
        self.write(DISPI, 0, 2, index.into()).unwrap();
        self.read(DISPI, 1, 2).unwrap() as u16
    }

    /// As firmware sets a mode, with a palette whose sixteen colours are `0x000101` times their numbers.
    fn mode(table: &Table) -> Bench<Desk> {
        let mut bench = Bench::<Desk>::new();
        bench.out(0x3c2, table.misc);
        (0..).zip(table.sequencer).for_each(|(index, value)| bench.set(0x3c4, index, value));
        bench.set(0x3d4, 0x11, 0);
        (0..).zip(table.crtc).for_each(|(index, value)| bench.set(0x3d4, index, value));
        (0..).zip(table.graphics).for_each(|(index, value)| bench.set(0x3ce, index, value));
        (0..16).for_each(|number| bench.set_attribute(number, number));
        bench.set_attribute(0x10, table.attribute_mode);
        bench.set_attribute(0x12, 0x0f);
        bench.set_attribute(0x13, table.panning);
        bench.input(0x3da);
        bench.out(0x3c0, 0x20);
        bench.out(0x3c6, 0xff);
        (0..=255).for_each(|number| bench.set_colour(number, [0, number >> 2, number & 0x3f]));
        bench
    }

    /// In a mode with 8-bit colours of which each is its number.
    fn vbe(bits: u16, width: u16, height: u16) -> Bench<Desk> {
        let mut bench = Bench::<Desk>::new();
        bench.out(0x3c2, MISC_COLOUR | MISC_MEMORY);
        for (index, value) in [(1, width), (2, height), (3, bits), (4, 0x41)] {
            bench.dispi(index, value);
        }
        bench
    }

    fn load(&mut self, offset: u64) -> u8 {
        self.read(WINDOW, offset, 1).unwrap() as u8
    }

    fn store(&mut self, offset: u64, byte: u8) {
        self.write(WINDOW, offset, 1, byte.into()).unwrap();
    }

    fn memory(&self, at: u64, bytes: &[u8]) {
        self.world.memory.write_slice(bytes, GuestAddress(at)).unwrap();
    }

    fn picture(&mut self) -> Picture {
        self.refresh();
        let mut bytes = [0; SCANOUT_HEADER_BYTES];
        self.world.screen.read_slice(&mut bytes, GuestAddress(0)).unwrap();
        let header = display::Scanout::from_bytes(&bytes).unwrap();
        assert!(header.is_whole());
        let mut pixels = vec![0u8; (header.stride * header.height) as usize];
        self.world.screen.read_slice(&mut pixels, GuestAddress(PIXELS_AT)).unwrap();
        let pixels = pixels.as_chunks::<4>().0.iter().map(|pixel| u32::from_le_bytes(*pixel)).collect();
        Picture { header, pixels }
    }

    /// Puts a glyph into the font, as firmware does: plane 2 alone, in a row.
    fn set_glyph(&mut self, font: u64, character: u8, glyph: &[u8]) {
        self.set(0x3c4, 2, 4);
        self.set(0x3c4, 4, 7);
        self.set(0x3ce, 5, 0);
        self.set(0x3ce, 6, 4);
        for (line, byte) in (0..).zip(glyph) {
            self.store(font + 32 * u64::from(character) + line, *byte);
        }
        self.set(0x3c4, 2, 3);
        self.set(0x3c4, 4, 2);
        self.set(0x3ce, 5, 0x10);
        self.set(0x3ce, 6, 0x0e);
    }
}

/// Where text begins in the window.
const TEXT_AT: u64 = 0x1_8000;

/// A colour of the palette that `Bench::mode` sets.
fn colour(number: u8) -> u32 {
    let widen = |part: u8| u32::from(part << 2 | part >> 4);
    widen(number >> 2) << 8 | widen(number & 0x3f)
}

#[test]
fn window_that_is_off_or_elsewhere_reads_ones_and_takes_nothing() {
    let mut bench = Bench::mode(&TEXT);
    bench.store(0, 1);
    assert_eq!(bench.load(0), 0xff, "text lies in the last 32 KiB");
    bench.out(0x3c2, 0x65);
    assert_eq!(bench.load(TEXT_AT), 0xff);
    bench.store(TEXT_AT, 7);
    bench.out(0x3c2, 0x67);
    assert_eq!(bench.load(TEXT_AT), 0);
}

#[test]
fn crtc_answers_at_colour_ports_or_at_monochrome_ones() {
    let mut bench = Bench::<Desk>::new();
    bench.out(0x3c2, MISC_COLOUR);
    assert_eq!(bench.write(MONOCHROME, 0, 2, 0x5a0c), Err(NoRegister));
    bench.set(0x3d4, 0x0c, 0xa5);
    assert_eq!(bench.input(0x3d5), 0xa5);
    bench.out(0x3c2, 0);
    assert_eq!(bench.read(PORTS, 0x15, 1), Err(NoRegister));
    assert_eq!(bench.read(MONOCHROME, 1, 1), Ok(0xa5));
}

#[test]
fn protected_crtc_registers_keep_their_values_but_for_line_compare() {
    let mut bench = Bench::mode(&TEXT);
    bench.set(0x3d4, 0, 0x12);
    assert_eq!(bench.input(0x3d5), 0x5f);
    bench.set(0x3d4, 7, 0);
    assert_eq!(bench.input(0x3d5), 0x0f);
    bench.set(0x3d4, 0x11, 0x0e);
    bench.set(0x3d4, 0, 0x12);
    assert_eq!(bench.input(0x3d5), 0x12);
}

#[test]
fn registers_keep_the_bits_that_exist() {
    let mut bench = Bench::<Desk>::new();
    bench.out(0x3c2, MISC_COLOUR);
    for (port, index, kept) in [(0x3c4, 1, 0x3d), (0x3c4, 4, 0x0e), (0x3ce, 5, 0x7b), (0x3ce, 8, 0xff)] {
        bench.set(port, index, 0xff);
        assert_eq!(bench.input(port + 1), kept);
        assert_eq!(bench.input(port), index);
    }
    bench.set_attribute(0x10, 0xff);
    assert_eq!((bench.input(0x3c0), bench.input(0x3c1)), (0x10, 0xef));
}

#[test]
fn attribute_port_takes_index_and_value_in_turn() {
    let mut bench = Bench::mode(&TEXT);
    bench.input(0x3da);
    bench.out(0x3c0, 3);
    bench.input(0x3da);
    bench.out(0x3c0, 4);
    bench.out(0x3c0, 0x2a);
    assert_eq!(bench.input(0x3c1), 0x2a);
    bench.out(0x3c0, 3);
    assert_eq!(bench.input(0x3c1), 3, "what was begun before the status was read is forgotten");
}

#[test]
fn dac_counts_parts_and_colours() {
    let mut bench = Bench::<Desk>::new();
    bench.out(0x3c8, 254);
    (1..=9).for_each(|part| bench.out(0x3c9, part));
    assert_eq!((bench.input(0x3c7), bench.input(0x3c8)), (0, 1));
    bench.out(0x3c7, 254);
    assert_eq!(bench.input(0x3c7), 3);
    assert_eq!((0..9).map(|_| bench.input(0x3c9)).collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>());
    bench.out(0x3c8, 0);
    bench.out(0x3c9, 0xff);
    bench.out(0x3c9, 0xff);
    bench.out(0x3c7, 0);
    assert_eq!(bench.input(0x3c9), 7, "a colour changes with its last part");
}

#[test]
fn status_says_lines_and_pictures_as_time_passes() {
    let mut bench = Bench::mode(&TEXT);
    let mut seen = [[0; 2]; 2];
    for step in 0..2000 {
        bench.now = step * 10_000;
        let status = bench.input(0x3da);
        seen[0][usize::from(status & STATUS_BLANK != 0)] += 1;
        seen[1][usize::from(status & STATUS_RETRACE != 0)] += 1;
    }
    assert!(seen.iter().flatten().all(|count| *count > 20), "{seen:?}");
}

#[test]
fn planes_are_written_as_mode_mask_and_latches_say() {
    let mut bench = Bench::mode(&SIXTEEN_COLOURS);
    let planes = |bench: &mut Bench<Desk>| {
        (0..4)
            .map(|plane| {
                bench.set(0x3ce, 4, plane);
                bench.load(9)
            })
            .collect::<Vec<_>>()
    };
    bench.store(9, 0x81);
    assert_eq!(planes(&mut bench), [0x81; 4]);
    bench.set(0x3c4, 2, 0b0101);
    bench.store(9, 0x18);
    assert_eq!(planes(&mut bench), [0x18, 0x81, 0x18, 0x81], "the map mask");
    bench.set(0x3c4, 2, 0x0f);
    bench.set(0x3ce, 0, 0b0011);
    bench.set(0x3ce, 1, 0b0110);
    bench.store(9, 0xf0);
    assert_eq!(planes(&mut bench), [0xf0, 0xff, 0x00, 0xf0], "set and reset");
    bench.set(0x3ce, 1, 0);
    bench.set(0x3ce, 3, 4);
    bench.store(9, 0x1f);
    assert_eq!(planes(&mut bench), [0xf1; 4], "rotation");
    bench.set(0x3ce, 3, 0x18);
    bench.load(9);
    bench.store(9, 0xff);
    assert_eq!(planes(&mut bench), [0x0e; 4], "exclusive or with the latches");
    bench.set(0x3ce, 3, 0);
    bench.set(0x3ce, 8, 0x0f);
    bench.load(9);
    bench.store(9, 0x55);
    assert_eq!(planes(&mut bench), [0x05; 4], "the bit mask");
    bench.set(0x3ce, 8, 0xff);
    bench.set(0x3ce, 5, 2);
    bench.store(9, 0b1001);
    assert_eq!(planes(&mut bench), [0xff, 0, 0, 0xff], "write mode 2");
    bench.set(0x3ce, 5, 3);
    bench.set(0x3ce, 0, 0b0100);
    bench.load(9);
    bench.store(9, 0x3c);
    assert_eq!(planes(&mut bench), [0xc3, 0, 0x3c, 0xc3], "write mode 3");
    bench.set(0x3ce, 5, 1);
    bench.load(9);
    bench.store(10, 0);
    bench.set(0x3ce, 4, 2);
    assert_eq!(bench.load(10), 0x3c, "write mode 1 copies the latches");
    bench.set(0x3ce, 5, 8);
    bench.set(0x3ce, 2, 0b0100);
    bench.set(0x3ce, 7, 0b0101);
    assert_eq!(bench.load(9), 0x3c, "read mode 1 compares colours");
}

#[test]
fn latches_live_in_the_state_and_outlive_the_process() {
    let mut bench = Bench::mode(&SIXTEEN_COLOURS);
    bench.store(0, 0xa5);
    bench.load(0);
    bench.restart();
    bench.set(0x3ce, 5, 1);
    bench.store(1, 0);
    assert_eq!(bench.load(1), 0xa5);
}

#[test]
fn text_is_drawn_with_the_font_in_plane_2() {
    let mut bench = Bench::mode(&TEXT);
    bench.set(0x3d4, 0x0a, 0x20);
    bench.set_glyph(0, b'A', &[0x80, 0x01]);
    bench.set_glyph(0, 0xc4, &[0x01]);
    bench.write(WINDOW, TEXT_AT, 4, 0x0441_1e41).unwrap();
    bench.write(WINDOW, TEXT_AT + 160, 2, 0x07c4).unwrap();
    let picture = bench.picture();
    assert_eq!(picture.size(), (720, 400));
    assert_eq!([picture.at(0, 0), picture.at(1, 0), picture.at(8, 0)], [colour(14), colour(1), colour(1)]);
    assert_eq!([picture.at(0, 1), picture.at(7, 1), picture.at(8, 1)], [colour(1), colour(14), colour(1)]);
    assert_eq!([picture.at(9, 0), picture.at(10, 0)], [colour(4), colour(0)]);
    assert_eq!([picture.at(6, 16), picture.at(7, 16), picture.at(8, 16)], [colour(0), colour(7), colour(7)], "a box");
    bench.set(0x3d4, 0x0d, 1);
    assert_eq!(bench.picture().at(0, 0), colour(4), "the picture begins a character later");
}

#[test]
fn second_font_is_chosen_by_the_attribute() {
    let mut bench = Bench::mode(&TEXT);
    bench.set_glyph(0x2000, 1, &[0xff]);
    bench.write(WINDOW, TEXT_AT, 4, 0x0701_0f01).unwrap();
    bench.set(0x3c4, 3, 0x20);
    let picture = bench.picture();
    assert_eq!((picture.at(0, 0), picture.at(9, 0)), (colour(15), colour(0)));
}

#[test]
fn cursor_and_blinking_characters_come_and_go() {
    let mut bench = Bench::mode(&TEXT);
    bench.set_glyph(0, 1, &[0xff]);
    bench.write(WINDOW, TEXT_AT, 2, 0x8701).unwrap();
    bench.write(WINDOW, TEXT_AT + 2, 2, 0x0700).unwrap();
    bench.set(0x3d4, 0x0f, 1);
    let look = |bench: &mut Bench<Desk>| {
        let picture = bench.picture();
        (picture.at(0, 0) != 0, picture.at(9, 14) != 0, picture.at(9, 12) != 0)
    };
    assert_eq!(look(&mut bench), (true, true, false));
    bench.now = 300_000_000;
    assert_eq!(look(&mut bench), (true, false, false));
    bench.now = 550_000_000;
    assert_eq!(look(&mut bench), (false, true, false));
}

#[test]
fn lines_below_the_split_begin_again_at_address_zero() {
    let mut bench = Bench::mode(&TEXT);
    bench.set(0x3d4, 0x0a, 0x20);
    bench.set_glyph(0, 1, &[0xff]);
    bench.write(WINDOW, TEXT_AT, 2, 0x0701).unwrap();
    bench.set(0x3d4, 0x0d, 80);
    bench.set(0x3d4, 0x11, 0);
    bench.set(0x3d4, 0x07, 0x0f);
    bench.set(0x3d4, 0x09, 0x0f);
    bench.set(0x3d4, 0x18, 31);
    let picture = bench.picture();
    assert_eq!((picture.at(0, 0), picture.at(0, 32)), (0, colour(7)));
}

#[test]
fn sixteen_colours_come_from_four_planes() {
    let mut bench = Bench::mode(&SIXTEEN_COLOURS);
    bench.set(0x3c4, 2, 0b1010);
    bench.store(80, 0x40);
    let picture = bench.picture();
    assert_eq!(picture.size(), (640, 480));
    assert_eq!((picture.at(1, 1), picture.at(0, 1), picture.at(1, 0)), (colour(10), colour(0), colour(0)));
    bench.set_attribute(0x13, 1);
    bench.input(0x3da);
    bench.out(0x3c0, 0x20);
    assert_eq!(bench.picture().at(0, 1), colour(10), "panned by a dot");
    bench.input(0x3da);
    bench.out(0x3c0, 0);
    assert_eq!(bench.picture().at(0, 1), 0, "the screen is off while the processor has the palette");
}

#[test]
fn many_colours_are_a_byte_each_in_the_order_of_addresses() {
    let mut bench = Bench::mode(&MANY_COLOURS);
    for at in [0u64, 1, 2, 3, 4, 319, 320, 63_999] {
        bench.store(at, at as u8 | 0x80);
        assert_eq!(bench.load(at), at as u8 | 0x80);
    }
    let picture = bench.picture();
    assert_eq!(picture.size(), (320, 200));
    for at in [0, 1, 2, 3, 4, 319, 320, 63_999] {
        assert_eq!(picture.at(at % 320, at / 320), colour(at as u8 | 0x80), "{at}");
    }
    // Without the chain each byte is one of a plane: the mode that programs made themselves.
    bench.set(0x3c4, 4, 6);
    bench.set(0x3d4, 0x14, 0);
    bench.set(0x3d4, 0x17, 0xe3);
    bench.set(0x3c4, 2, 0b0100);
    bench.store(80, 0x33);
    assert_eq!(bench.picture().at(2, 1), colour(0x33));
}

#[test]
fn four_colours_have_even_and_odd_lines_apart() {
    let mut bench = Bench::mode(&FOUR_COLOURS);
    bench.store(TEXT_AT + 1, 0b0001_1011);
    bench.store(TEXT_AT + 0x2000, 0b1100_0000);
    let picture = bench.picture();
    assert_eq!(picture.size(), (320, 200));
    assert_eq!((4..8).map(|x| picture.at(x, 0)).collect::<Vec<_>>(), (0..4).map(colour).collect::<Vec<_>>());
    assert_eq!(picture.at(0, 1), colour(3));
}

#[test]
fn mode_that_does_not_fit_stays_off() {
    for (bits, width, height) in [(32, 2561, 1), (32, 1, 1601), (7, 64, 64), (32, 0, 64), (4, 2560, 1600)] {
        let mut bench = Bench::vbe(bits, width, height);
        assert_eq!(bench.dispi_says(4) & 1, 0, "{bits} {width} {height}");
    }
}

#[test]
fn display_interface_says_what_it_has() {
    let mut bench = Bench::<Desk>::new();
    assert_eq!((bench.dispi_says(0), bench.dispi_says(10), bench.dispi_says(11)), (0xb0c5, 256, 0));
    bench.dispi(0, 0xb0c0);
    bench.dispi(0, 0x1234);
    assert_eq!(bench.dispi_says(0), 0xb0c0);
    bench.dispi(4, 2);
    assert_eq!([1, 2, 3].map(|index| bench.dispi_says(index)), [2560, 1600, 32]);
    assert_eq!(bench.read(DISPI, 0, 1), Err(NoRegister));
}

#[test]
fn mode_that_is_on_keeps_its_size_and_pans() {
    let mut bench = Bench::vbe(32, 640, 480);
    bench.dispi(1, 800);
    assert_eq!([1, 6, 7].map(|index| bench.dispi_says(index)), [640, 640, 6553]);
    bench.dispi(6, 1024);
    bench.dispi(8, 3);
    bench.dispi(9, 2);
    bench.memory(4 * (2 * 1024 + 3), &[1, 2, 3, 4]);
    let picture = bench.picture();
    assert_eq!((picture.size(), picture.at(0, 0)), ((640, 480), 0x0003_0201));
    bench.dispi(6, 639);
    assert_eq!(bench.dispi_says(6), 1024, "a row is not narrower than the picture");
}

#[test]
fn pixels_have_the_bits_that_the_mode_says() {
    for (bits, bytes, pixel) in [
        (15, &[0x00, 0x7c][..], 0x00ff_0000),
        (16, &[0xe0, 0x07], 0x0000_ff00),
        (16, &[0x00, 0x80], 0x0084_0000),
        (24, &[3, 2, 1], 0x0001_0203),
        (32, &[3, 2, 1, 9], 0x0001_0203),
    ] {
        let mut bench = Bench::vbe(bits, 64, 2);
        bench.memory(0, bytes);
        assert_eq!(bench.picture().at(0, 0), pixel, "{bits}");
        assert_eq!(bench.picture().at(1, 0), 0);
    }
}

#[test]
fn colours_of_eight_bits_are_those_of_the_dac() {
    let mut bench = Bench::vbe(8, 320, 200);
    bench.out(0x3c6, 0xff);
    bench.set_colour(5, [0x3f, 0x20, 0x01]);
    bench.memory(321, &[5]);
    assert_eq!(bench.picture().at(1, 1), 0x00ff_8204);
    bench.dispi(4, 0x61);
    bench.set_colour(5, [0xff, 0x80, 0x01]);
    assert_eq!(bench.picture().at(1, 1), 0x00ff_8001, "a wide DAC");
}

#[test]
fn four_bits_of_each_pixel_lie_in_planes() {
    let mut bench = Bench::mode(&SIXTEEN_COLOURS);
    for (index, value) in [(1, 800), (2, 600), (3, 4), (4, 1)] {
        bench.dispi(index, value);
    }
    bench.set(0x3c4, 2, 0b0110);
    bench.store(100, 0x80);
    let picture = bench.picture();
    assert_eq!((picture.size(), picture.at(0, 1)), ((800, 600), colour(6)));
}

#[test]
fn window_shows_a_bank_of_the_frame_buffer() {
    let mut bench = Bench::vbe(32, 640, 480);
    bench.dispi(5, 17);
    bench.store(5, 0x77);
    assert_eq!(bench.world.memory.read_obj::<u8>(GuestAddress(17 * 0x1_0000 + 5)).unwrap(), 0x77);
    assert_eq!(bench.load(5), 0x77);
    bench.dispi(5, 256);
    assert_eq!(bench.dispi_says(5), 17, "there is no such bank");
}

#[test]
fn memory_is_cleared_with_a_new_mode_unless_it_is_to_stay() {
    let mut bench = Bench::vbe(32, 640, 480);
    bench.memory(640 * 480 * 4 - 1, &[1, 1]);
    bench.dispi(4, 0);
    bench.dispi(4, 0xc1);
    let last = GuestAddress(640 * 480 * 4 - 1);
    assert_eq!(bench.world.memory.read_obj::<u8>(last).unwrap(), 1);
    bench.dispi(4, 0);
    bench.dispi(4, 0x41);
    assert_eq!(bench.world.memory.read_obj::<u8>(last).unwrap(), 0);
}

#[test]
fn writes_are_posted_only_while_there_is_no_frame_buffer() {
    let mut bench = Bench::mode(&TEXT);
    assert_eq!(bench.outputs().postable, 1);
    for (index, value) in [(1, 64), (2, 64), (3, 32), (4, 0x41)] {
        bench.dispi(index, value);
    }
    assert_eq!(bench.outputs().postable, 0);
    bench.dispi(4, 0);
    assert_eq!(bench.outputs().postable, 1);
}

#[test]
fn picture_outlives_the_process() {
    let mut bench = Bench::mode(&SIXTEEN_COLOURS);
    bench.store(0, 0xff);
    let before = bench.picture().pixels;
    bench.restart();
    assert_eq!(bench.picture().pixels, before);
}
