//! Accesses to the floppy controller and its DMA controller.
//!
//! Both machines have the same diskette. A command is given when the registers say that it may be, and its results are read when they say
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

    /// Writes one sector without DMA, and reads it. The oracle does not come to this command's end by itself.
    fn write_sector(&mut self, cylinder: u8, head: u8, sector: u8, random: &mut Random) {
        self.give(&[0x45, head << 2, cylinder, head, sector, 2, sector, 0x1b, 0xff]);
        self.0.push(Access::wait(0x3f4, 0xf0, 0xb0));
        for _ in 0..512 {
            self.put(0x3f5, random.byte());
            self.look(0x3f4);
        }
        self.reset(false);
        self.seek(cylinder);
        self.sector(cylinder, head, sector);
    }

    /// What passes the head: which sector, is not said.
    fn read_id(&mut self, head: u8) {
        self.command(&[0x4a, head << 2], 7);
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
        match random.below(18) {
            16 => {
                guest.seek(cylinder);
                guest.read_id(head);
            }
            17 => {
                guest.seek(cylinder);
                guest.write_sector(cylinder, head, sector, random);
            }
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
