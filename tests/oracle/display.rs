//! Accesses to the display and to the firmware configuration device.

use crate::accesses::Random;
use crate::machine::Access;

/// Index registers with their data ports: sequencer, graphics controller, CRT controller.
const INDEXED: [(u16, u8); 3] = [(0x3c4, 5), (0x3ce, 9), (0x3d4, 0x19)];
/// The window of planes.
const WINDOW: u32 = 0xa_0000;

/// How the window leads to the planes: the memory mode of the sequencer, mode and miscellaneous of the graphics controller, and where
/// the accesses begin. What one of them finds where another one has written depends on which bits choose the plane; so each has
/// memory of its own.
struct Addressing {
    memory_mode: u8,
    mode: u8,
    miscellaneous: u8,
    first: u32,
}

const ADDRESSINGS: [Addressing; 6] = [
    // A plane after the other, through 64 KiB and through 128.
    Addressing { memory_mode: 0x06, mode: 0x00, miscellaneous: 0x05, first: 0xa_8000 },
    Addressing { memory_mode: 0x06, mode: 0x00, miscellaneous: 0x01, first: 0xa_8000 },
    // Even and odd, as dots and as the text of either adapter.
    Addressing { memory_mode: 0x02, mode: 0x10, miscellaneous: 0x07, first: 0xa_4000 },
    Addressing { memory_mode: 0x02, mode: 0x10, miscellaneous: 0x0a, first: 0xb_4000 },
    Addressing { memory_mode: 0x02, mode: 0x10, miscellaneous: 0x0e, first: 0xb_c000 },
    // Four in a chain.
    Addressing { memory_mode: 0x0e, mode: 0x40, miscellaneous: 0x05, first: 0xa_1000 },
];
impl Addressing {
    fn is_odd_even(&self) -> bool {
        self.mode & 0x10 != 0
    }

    /// What a mode of the Bochs interface leaves in these registers is not said.
    fn set(&self, all: &mut Vec<Access>, random: &mut Random) {
        set(all, 0x3c4, 2, if self.is_odd_even() { PAIR } else { random.byte() & 0x0f });
        set(all, 0x3c4, 4, self.memory_mode);
        set(all, 0x3ce, 6, self.miscellaneous);
        // Even and odd, or chained, bytes go to the oracle's planes as they are.
        for (index, value) in [(1, 0), (3, 0), (4, random.byte() & 1), (5, self.mode), (8, 0xff)] {
            set(all, 0x3ce, index, value);
        }
    }
}

/// The map mask of the first plane for even addresses, and the first for odd ones.
const PAIR: u8 = 0x03;
/// What even and odd addresses mean is tried here.
pub const PAIRED: u32 = 0xa_5f00;
/// Bytes from there on.
const ADDRESSED: u64 = 0x80;

fn set(accesses: &mut Vec<Access>, port: u16, index: u8, value: u8) {
    accesses.extend([Access::write(port, index), Access::write(port + 1, value)]);
}

/// Each bit of each register, the palette, the planes by every write mode, and the Bochs interface.
pub fn vga(random: &mut Random, count: usize) -> Vec<Access> {
    // Registers of the CRT controller at their colour ports.
    let mut all = vec![Access::write(0x3c2, 0x67), Access::read(0x3cc)];
    // What protects the first registers of the CRT controller is off.
    set(&mut all, 0x3d4, 0x11, 0);
    for (port, last) in INDEXED {
        for index in 0..=last {
            for value in [0x00, 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff, 0x00] {
                if (port, index) == (0x3d4, 0x11) && value & 0x80 != 0 {
                    continue;
                }
                set(&mut all, port, index, value);
                all.extend([Access::read(port), Access::read(port + 1)]);
            }
        }
    }
    // Protected, they stay.
    set(&mut all, 0x3d4, 0x11, 0x80);
    for index in 0..8 {
        set(&mut all, 0x3d4, index, 0xff);
        all.push(Access::read(0x3d5));
    }
    set(&mut all, 0x3d4, 0x11, 0);
    // The attribute controller's flip-flop is reset by a look at the status.
    for index in 0..0x15 {
        for value in [0x00, 0x3f, 0x15, 0xff] {
            all.extend([Access::read(0x3da), Access::write(0x3c0, index), Access::write(0x3c0, value)]);
            all.extend([Access::read(0x3c1), Access::read(0x3c0)]);
        }
    }
    all.extend([Access::read(0x3da), Access::write(0x3c0, 0x20), Access::read(0x3c0)]);
    // The palette: written and read in threes, its index going on.
    all.push(Access::write(0x3c8, 0));
    (0..768).for_each(|at| all.push(Access::write(0x3c9, at as u8 & 0x3f)));
    all.push(Access::write(0x3c7, 0));
    for _ in 0..768 {
        all.push(Access::read(0x3c9));
    }
    all.extend([Access::read(0x3c7), Access::read(0x3c8)]);
    for value in [0x00, 0x55, 0xaa, 0xff] {
        all.extend([Access::write(0x3c6, value), Access::read(0x3c6)]);
    }
    // The interface of Bochs: its registers, without a mode.
    for index in 0..10u32 {
        all.extend(look_at_dispi(index));
    }
    planar(&mut all);
    // An even address means both of the even planes.
    for (port, index, value) in
        [(0x3c4, 4, 0x02), (0x3ce, 5, 0x10), (0x3ce, 6, 0x07), (0x3ce, 1, 0), (0x3ce, 3, 0), (0x3ce, 8, 0xff)]
    {
        set(&mut all, port, index, value);
    }
    set(&mut all, 0x3c4, 2, 0x0f);
    set(&mut all, 0x3ce, 4, 0);
    all.push(Access::write(0, 0x5a).in_memory(PAIRED));
    for plane in [0, 2] {
        set(&mut all, 0x3ce, 4, plane);
        all.push(Access::read(0).in_memory(PAIRED));
    }
    let mut addressing = &ADDRESSINGS[0];
    addressing.set(&mut all, random);
    while all.len() < count {
        match random.below(9) {
            8 => {
                if random.one_in(16) {
                    bochs(random, &mut all);
                }
                addressing = &ADDRESSINGS[random.below(ADDRESSINGS.len() as u64) as usize];
                addressing.set(&mut all, random);
            }
            0 => {
                let (port, last) = random.of(&INDEXED);
                let index = random.below(u64::from(last) + 1) as u8;
                let value = match (port, index) {
                    // The sequencer runs, and planes are seen through the window: what is beside it is nobody's.
                    (0x3c4, 0) => 3,
                    (0x3c4, 4) => addressing.memory_mode,
                    (0x3ce, 6) => addressing.miscellaneous,
                    // Of two planes that an address means, the one that is written is the one that is read.
                    (0x3c4, 2) if addressing.is_odd_even() => PAIR,
                    (0x3ce, 4) if addressing.is_odd_even() => random.byte() & !2,
                    (0x3ce, 1 | 3) if addressing.mode != 0 => 0,
                    (0x3ce, 5) if addressing.mode != 0 => addressing.mode,
                    (0x3ce, 8) if addressing.mode != 0 => 0xff,
                    // Write mode 3 is tried by itself.
                    (0x3ce, 5) => random.of(&[0, 1, 2, 8, 9, 10]),
                    (0x3d4, 0x11) => random.byte() & 0x7f,
                    _ => random.byte(),
                };
                set(&mut all, port, index, value);
                all.extend([Access::read(port), Access::read(port + 1)]);
            }
            1 => {
                let index = random.below(0x15) as u8;
                all.extend([Access::read(0x3da), Access::write(0x3c0, index | 0x20)]);
                all.extend([Access::write(0x3c0, random.byte()), Access::read(0x3c1)]);
            }
            2 => {
                all.push(Access::write(random.of(&[0x3c7, 0x3c8]), random.byte()));
                for _ in 0..random.below(7) {
                    all.push(Access::read(0x3c9));
                }
            }
            3 => {
                all.push(Access::write(0x3c8, random.byte()));
                for _ in 0..random.below(7) {
                    all.push(Access::write(0x3c9, random.byte() & 0x3f));
                }
            }
            _ => {
                let at = addressing.first + random.below(ADDRESSED) as u32;
                let access = if random.one_in(2) { Access::read(0) } else { Access::write(0, random.byte()) };
                all.push(access.in_memory(at));
            }
        }
    }
    // At last the sizes of a mode while it is on.
    for (index, value) in [(1, 640), (2, 480), (3, 8), (4, 0x41), (1, 800), (2, 600), (3, 16)] {
        all.extend(dispi(index, value));
    }
    (1..4).for_each(|index| all.extend(look_at_dispi(index)));
    all
}

fn dispi(index: u32, value: u32) -> [Access; 2] {
    [Access::write(0x1ce, 0).wide(2).of(index), Access::write(0x1cf, 0).wide(2).of(value)]
}

fn look_at_dispi(index: u32) -> [Access; 2] {
    [Access::write(0x1ce, 0).wide(2).of(index), Access::read(0x1cf).wide(2)]
}

/// A mode of the Bochs interface, its registers on and off, and the window on its memory.
fn bochs(random: &mut Random, all: &mut Vec<Access>) {
    let put = |all: &mut Vec<Access>, index, value| all.extend(dispi(index, value));
    // How many rows there would be (7) is a mode's.
    let look = |all: &mut Vec<Access>, on: bool| {
        (0..12).filter(|index| on || *index != 7).for_each(|index| all.extend(look_at_dispi(index)));
    };
    let (width, height) = random.of(&[(640, 480), (800, 600), (1024, 768)]);
    for (index, value) in [(1, width), (2, height), (3, random.of(&[8, 15, 16, 24, 32]))] {
        put(all, index, value);
    }
    look(all, false);
    put(all, 4, random.of(&[0x01, 0x41, 0x61]));
    look(all, true);
    // Registers while the mode is on; the bank is one behind the planes.
    put(all, 6, width + 8 * random.below(40) as u32);
    put(all, 8, random.below(64) as u32);
    put(all, 9, random.below(64) as u32);
    put(all, 5, 8 + random.below(100) as u32);
    look(all, true);
    set(all, 0x3ce, 6, 0x05);
    for _ in 0..8 {
        let at = WINDOW + random.below(0x1_0000) as u32;
        let write = Access::write(0, random.byte());
        all.extend([write.in_memory(at), Access::read(0).in_memory(at)]);
    }
    put(all, 5, 0);
    put(all, 4, 0);
    put(all, 0, 0xb0c0 + random.below(7) as u32);
    put(all, 0, 0xb0c5);
    look(all, false);
}

/// Writes to the planes in each mode, with latches, masks, rotation and the four functions; reads in both modes.
fn planar(all: &mut Vec<Access>) {
    set(all, 0x3c4, 4, 6);
    set(all, 0x3c4, 0, 3);
    set(all, 0x3ce, 6, 5);
    let mut at = 0x100;
    for mode in 0..4 {
        for function in 0..4 {
            for (planes, mask, reset, enable, colour) in
                [(0x0f, 0xff, 0x0, 0x0, 0x0), (0x05, 0x3c, 0x3, 0xa, 0x6), (0x0a, 0xf0, 0xf, 0xf, 0x9)]
            {
                set(all, 0x3c4, 2, planes);
                set(all, 0x3ce, 0, reset);
                set(all, 0x3ce, 1, enable);
                set(all, 0x3ce, 2, colour);
                set(all, 0x3ce, 3, function << 3 | mode);
                set(all, 0x3ce, 7, 0x0d);
                set(all, 0x3ce, 8, mask);
                for value in [0x00, 0xff, 0x5a, 0xc3] {
                    at += 1;
                    set(all, 0x3ce, 5, mode);
                    // The latches are filled by a read.
                    all.push(Access::read(0).in_memory(WINDOW + at - 1));
                    all.push(Access::write(0, value).in_memory(WINDOW + at));
                    for plane in 0..4 {
                        set(all, 0x3ce, 4, plane);
                        all.push(Access::read(0).in_memory(WINDOW + at));
                    }
                    set(all, 0x3ce, 5, 0x08 | mode);
                    all.push(Access::read(0).in_memory(WINDOW + at));
                }
            }
        }
    }
}

/// Items that both machines have: by number, with as many bytes as are read.
const ITEMS: [(u16, usize); 7] = [(0x00, 6), (0x01, 6), (0x02, 18), (0x03, 10), (0x04, 4), (0x05, 4), (0x0f, 4)];
/// Where a DMA access is described, and where its bytes go.
pub const ACCESS: u32 = 0x3_0000;
const BYTES: u32 = 0x3_1000;

/// The firmware configuration device: items by port, and by DMA.
pub fn fw_cfg(random: &mut Random, count: usize) -> Vec<Access> {
    let mut all = Vec::new();
    let select = |all: &mut Vec<Access>, item: u16| all.push(Access::write(0x510, 0).wide(2).of(item.into()));
    for (item, bytes) in ITEMS {
        select(&mut all, item);
        (0..bytes).for_each(|_| all.push(Access::read(0x511)));
    }
    // Its signature, in the registers of DMA.
    all.extend([Access::read(0x514).wide(4), Access::read(0x518).wide(4)]);
    while all.len() < count {
        let (item, bytes) = random.of(&ITEMS);
        match random.below(4) {
            0 => {
                select(&mut all, random.of(&[item, 0x3fff, 0xffff, 0x4000, 0x8000]));
                (0..3).for_each(|_| all.push(Access::read(0x511)));
            }
            1 => {
                // What is written is lost.
                select(&mut all, item);
                all.extend([Access::write(0x511, random.byte()), Access::read(0x511)]);
            }
            2 => {
                select(&mut all, item);
                (0..1 + random.below(bytes as u64 + 2)).for_each(|_| all.push(Access::read(0x511)));
            }
            _ => {
                // Select and read, skip, or neither; big-endian.
                let length = random.below(24) as u32;
                let control = random.of(&[0x0a, 0x0a, 0x0c, 0x02, 0x00, 0x10]) | u32::from(item) << 16;
                let store = |at: u32, value: u32| Access::write(0, 0).in_memory(at).wide(4).of(value.swap_bytes());
                all.extend([store(ACCESS, control), store(ACCESS + 4, length)]);
                all.extend([store(ACCESS + 8, 0), store(ACCESS + 12, BYTES)]);
                (0..8).for_each(|word| all.push(store(BYTES + 4 * word, 0xa5a5_a5a5)));
                all.push(Access::write(0x514, 0).wide(4).of(0));
                all.push(Access::write(0x518, 0).wide(4).of(ACCESS.swap_bytes()));
                all.push(Access::read(0).in_memory(ACCESS).wide(4));
                (0..8).for_each(|word| all.push(Access::read(0).in_memory(BYTES + 4 * word).wide(4)));
            }
        }
    }
    all
}
