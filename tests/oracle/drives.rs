//! Accesses to the drives of a PC: the floppy controller with its DMA controller, and an IDE cable with a disk and a CD.
//!
//! Both machines have the same media. A command is given when the registers say that it may be, and its results are read when they say
//! that they are there; so it does not matter how long a machine takes for them.

use crate::accesses::Random;
use crate::machine::Access;

/// Sectors of a track of the diskette, and its cylinders.
const SECTORS: u8 = 18;
const CYLINDERS: u64 = 80;
/// Memory that DMA moves sectors to and from.
const BUFFER: u32 = 0x2_0000;

/// A guest that knows the floppy controller.
struct Floppy(Vec<Access>);

impl Floppy {
    fn put(&mut self, port: u16, value: u8) {
        self.0.push(Access::write(port, value));
    }

    fn look(&mut self, port: u16) {
        self.0.push(Access::read(port));
    }

    /// Gives a command, and reads so many bytes of result.
    fn command(&mut self, bytes: &[u8], results: usize) {
        self.give(bytes);
        self.results(results);
    }

    fn give(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0.push(Access::wait(0x3f4, 0xc0, 0x80));
            self.put(0x3f5, *byte);
        }
    }

    fn results(&mut self, results: usize) {
        for _ in 0..results {
            self.0.push(Access::wait(0x3f4, 0xc0, 0xc0));
            self.look(0x3f5);
        }
        self.look(0x3f4);
    }

    /// Resets it, takes what it tells of each drive, and says how it is to work: with DMA or without.
    fn reset(&mut self, dma: bool) {
        for value in [0x00, 0x1c] {
            self.put(0x3f2, value);
        }
        for _ in 0..4 {
            self.command(&[0x08], 2);
        }
        self.put(0x3f7, 0);
        self.command(&[0x03, 0xdf, if dma { 0x02 } else { 0x03 }], 0);
    }

    fn seek(&mut self, cylinder: u8) {
        self.command(&[0x0f, 0, cylinder], 0);
        self.command(&[0x08], 2);
    }

    /// Reads one sector without DMA.
    fn sector(&mut self, cylinder: u8, head: u8, sector: u8) {
        self.give(&[0x46, head << 2, cylinder, head, sector, 2, sector, 0x1b, 0xff]);
        self.0.push(Access::wait(0x3f4, 0xf0, 0xf0));
        (0..512).for_each(|_| self.look(0x3f5));
        self.results(7);
    }

    /// One sector by channel 2 of the DMA controller, and what is in memory then.
    fn by_dma(&mut self, write: bool, cylinder: u8, head: u8, sector: u8) {
        let (mode, code) = if write { (0x4a, 0x45) } else { (0x46, 0x46) };
        for (port, value) in [
            (0x0a, 6),
            (0x0c, 0),
            (0x04, 0),
            (0x04, 0),
            (0x0c, 0),
            (0x05, 0xff),
            (0x05, 0x01),
            (0x81, (BUFFER >> 16) as u8),
            (0x0b, mode),
            (0x0a, 2),
        ] {
            self.put(port, value);
        }
        self.give(&[code, head << 2, cylinder, head, sector, 2, SECTORS, 0x1b, 0xff]);
        self.results(7);
        self.look(0x08);
        for word in 0..8 {
            self.0.push(Access::read(0).in_memory(BUFFER + 64 * word).wide(4));
        }
    }
}

/// The floppy controller: registers, each command, sectors with and without DMA.
pub fn floppy(random: &mut Random, count: usize) -> Vec<Access> {
    let mut guest = Floppy(Vec::new());
    guest.reset(false);
    for port in [0x3f2, 0x3f3, 0x3f4, 0x3f7] {
        guest.look(port);
    }
    for value in 0..4 {
        guest.put(0x3f3, value);
        guest.look(0x3f3);
    }
    guest.put(0x3f3, 0);
    // What may be written while it runs.
    for value in [0x0c, 0x1c, 0x2c, 0x0d, 0x2d, 0x04, 0x3c, 0x1c] {
        guest.put(0x3f2, value);
        guest.look(0x3f2);
        guest.look(0x3f4);
        guest.look(0x3f7);
    }
    guest.reset(false);
    guest.command(&[0x10], 1);
    guest.command(&[0x13, 0, 0x57, 0], 0);
    guest.command(&[0x0e], 10);
    for lock in [0x94, 0x14] {
        guest.command(&[lock], 1);
        guest.reset(false);
        guest.command(&[0x0e], 10);
    }
    guest.command(&[0x07, 0], 0);
    guest.command(&[0x08], 2);
    guest.seek(1);
    guest.look(0x3f7);
    guest.seek(0);
    while guest.0.len() < count {
        let (cylinder, head) = (random.below(CYLINDERS) as u8, random.below(2) as u8);
        let sector = 1 + random.below(SECTORS.into()) as u8;
        match random.below(16) {
            0 => guest.command(&[0x08], 1),
            1 => guest.command(&[0x10], 1),
            2 => guest.command(&[0x0e], 10),
            3 => guest.command(&[random.of(&[0x94, 0x14])], 1),
            4 => guest.command(&[0x04, head << 2], 1),
            5 => {
                guest.command(&[0x07, 0], 0);
                guest.command(&[0x08], 2);
            }
            6 | 7 => guest.command(&[random.of(&[0x00, 0x01, 0x0b, 0x15, 0x1f])], 1),
            8 => guest.reset(false),
            9 => {
                guest.seek(cylinder);
                guest.sector(cylinder, head, sector);
            }
            10 => {
                guest.reset(true);
                guest.seek(cylinder);
                guest.by_dma(random.one_in(2), cylinder, head, sector);
                guest.reset(false);
            }
            // A sector that a track does not have, and a cylinder where the arm is not.
            11 => {
                guest.seek(cylinder);
                guest.command(&[0x46, head << 2, cylinder, head, 40, 2, 40, 0x1b, 0xff], 7);
            }
            12 => guest.command(&[0x12, random.of(&[0x80, 0x84, 0x00])], 0),
            13 => guest.command(&[0x13, 0, random.byte() & 0x3f, random.byte()], 0),
            _ => guest.seek(cylinder),
        }
    }
    guest.0
}

/// Commands that have data.
const READ: u8 = 0x20;
const WRITE: u8 = 0x30;
const PACKET: u8 = 0xa0;

/// A guest that knows an IDE cable: its command block, and its control block.
struct Cable {
    all: Vec<Access>,
    block: u16,
    control: u16,
}

impl Cable {
    fn put(&mut self, register: u16, value: u8) {
        self.all.push(Access::write(self.block + register, value));
    }

    fn set_control(&mut self, value: u8) {
        self.all.push(Access::write(self.control, value));
    }

    fn wait(&mut self, bits: u8, value: u8) {
        self.all.push(Access::wait(self.control, bits, value));
    }

    /// Waits until the drive is not busy, then looks at all its registers; at the status last.
    fn look(&mut self) {
        self.wait(0x80, 0);
        (1..8).for_each(|register| self.all.push(Access::read(self.block + register)));
    }

    fn select(&mut self, device: u8) {
        self.put(6, device);
        self.wait(0x80, 0);
    }

    fn command(&mut self, code: u8) {
        self.put(7, code);
    }

    /// Waits for data, and reads or writes so many words.
    fn words(&mut self, count: usize, mut random: Option<&mut Random>) {
        self.wait(0x88, 0x08);
        for _ in 0..count {
            let access = match &mut random {
                Some(random) => Access::write(self.block, 0).wide(2).of(random.next() as u32 & 0xffff),
                None => Access::read(self.block).wide(2),
            };
            self.all.push(access);
        }
    }

    fn address(&mut self, sector: u32, count: u8) {
        self.select(0xe0 | (sector >> 24) as u8);
        let [low, mid, high, _] = sector.to_le_bytes();
        for (register, value) in [(2, count), (3, low), (4, mid), (5, high)] {
            self.put(register, value);
        }
    }

    /// A reset by software, and who is there.
    fn reset(&mut self) {
        self.set_control(0x04);
        self.set_control(0x00);
        self.look();
    }

    /// Registers are kept, with the bytes before them behind the high order bit.
    fn keep(&mut self, random: &mut Random) {
        self.select(0xa0);
        for register in 2..6 {
            self.put(register, random.byte());
            self.put(register, random.byte());
        }
        self.look();
        self.set_control(0x80);
        self.look();
        self.set_control(0);
    }

    /// Sends a packet; `data` bytes come.
    fn packet(&mut self, packet: &[u8], data: usize) {
        self.select(0xa0);
        for (register, value) in [(1, 0), (4, 0xfe), (5, 0xff)] {
            self.put(register, value);
        }
        self.command(PACKET);
        let mut whole = [0; 12];
        whole[..packet.len()].copy_from_slice(packet);
        self.wait(0x88, 0x08);
        for pair in whole.chunks(2) {
            let word = u16::from_le_bytes([pair[0], pair[1]]);
            self.all.push(Access::write(self.block, 0).wide(2).of(word.into()));
        }
        if data > 0 {
            self.wait(0x88, 0x08);
            for register in [2, 4, 5, 7] {
                self.all.push(Access::read(self.block + register));
            }
            self.words(data.div_ceil(2), None);
        }
        self.look();
    }

    fn sense(&mut self) {
        self.packet(&[0x03, 0, 0, 0, 18], 18);
    }
}

/// The disk of the first IDE cable.
pub fn disk(random: &mut Random, count: usize) -> Vec<Access> {
    let mut guest = Cable { all: Vec::new(), block: 0x1f0, control: 0x3f6 };
    guest.reset();
    guest.select(0xb0);
    guest.look();
    guest.select(0xe0);
    guest.look();
    guest.command(0xec);
    guest.words(256, None);
    guest.look();
    while guest.all.len() < count {
        let sector = random.below(4000) as u32;
        match random.below(13) {
            0..3 => {
                guest.address(sector, 1);
                guest.command(READ);
                guest.words(256, None);
                guest.look();
            }
            3..5 => {
                guest.address(sector, 1);
                guest.command(WRITE);
                guest.words(256, Some(random));
                guest.look();
            }
            5 => {
                // Two sectors, a block each.
                guest.address(sector, 2);
                guest.command(READ);
                guest.words(256, None);
                guest.words(256, None);
                guest.look();
            }
            6 => {
                // By cylinder, head and sector.
                guest.select(0xa0 | random.below(16) as u8);
                let (cylinder, number) = (random.below(8) as u8, 1 + random.below(63) as u8);
                for (register, value) in [(2, 1), (3, number), (4, cylinder), (5, 0)] {
                    guest.put(register, value);
                }
                guest.command(READ);
                guest.words(256, None);
                guest.look();
            }
            7 => {
                // Beyond the end.
                guest.address(0x0fff_0000 | sector, 1);
                guest.command(random.of(&[READ, 0x40]));
                guest.look();
            }
            8 => {
                guest.address(sector, random.of(&[0, 1, 2, 4, 8, 16, 3, 255]));
                guest.command(0xc6);
                guest.look();
            }
            9 => guest.keep(random),
            10 => {
                guest.address(sector, 1);
                guest.command(random.of(&[0xe0, 0xe1, 0xe5, 0xe7, 0xea, 0x10, 0xf8, 0x40]));
                guest.look();
            }
            11 => {
                guest.address(sector, 1);
                guest.command(random.of(&[0x00, 0x02, 0x43, 0x80, 0xfe, 0xff, 0xa0, 0xa1]));
                guest.look();
            }
            _ => guest.reset(),
        }
    }
    guest.all
}

/// The CD-ROM drive of the second IDE cable.
pub fn cd(random: &mut Random, count: usize) -> Vec<Access> {
    let mut guest = Cable { all: Vec::new(), block: 0x170, control: 0x376 };
    guest.reset();
    guest.select(0xa0);
    guest.command(0xa1);
    guest.words(256, None);
    guest.look();
    guest.command(0xec);
    guest.look();
    // Whatever attention is pending is told.
    guest.packet(&[0x00], 0);
    guest.sense();
    while guest.all.len() < count {
        match random.below(11) {
            0 => {
                guest.packet(&[0x12, 0, 0, 0, 36], 36);
                guest.packet(&[0x25], 8);
            }
            1 => {
                guest.packet(&[0x00], 0);
                guest.sense();
            }
            2..4 => guest.packet(&[0x28, 0, 0, 0, 0, random.below(60) as u8, 0, 0, 1], 2048),
            4 => {
                guest.packet(&[0x28, 0, 0, 1, 0, 0, 0, 0, 1], 0);
                guest.sense();
            }
            5 => {
                guest.packet(&[random.of(&[0x02, 0x56, 0xff, 0x5c])], 0);
                guest.sense();
            }
            6 => {
                guest.packet(&[0x43, random.of(&[0, 2]), 0, 0, 0, 0, 0, 0, 20], 20);
                guest.packet(&[0x43, 2, 1, 0, 0, 0, 0, 0, 12], 12);
            }
            7 => {
                // Held, it does not open.
                guest.packet(&[0x1e, 0, 0, 0, 1], 0);
                guest.packet(&[0x1b, 0, 0, 0, 2], 0);
                guest.sense();
                guest.packet(&[0x1e, 0, 0, 0, 0], 0);
            }
            8 => {
                guest.packet(&[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8], 8);
                guest.packet(&[0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8], 8);
            }
            9 => guest.keep(random),
            _ => guest.reset(),
        }
    }
    guest.all
}
