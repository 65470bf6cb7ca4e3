//! Accesses to an IDE cable with a disk, and to one with a CD-ROM drive: by the processor, and by the bus master.
//!
//! Both machines have the same media. A command is given when the registers say that it may be, and its data are moved when they say
//! that they are there; so it does not matter how long a machine takes for them.

use crate::accesses::{Random, configure};
use crate::machine::Access;

/// Commands that have data.
const READ: u8 = 0x20;
const WRITE: u8 = 0x30;
const PACKET: u8 = 0xa0;
pub const READ_DMA: u8 = 0xc8;
pub const WRITE_DMA: u8 = 0xca;

/// Where the function is, in configuration space: slot 1, function 1; and its registers there.
const SLOT: u32 = 1;
const FUNCTION: u32 = 1 << 8;
const MASTER_BAR: u32 = FUNCTION | 0x20;
const CONFIGURATION: u32 = FUNCTION | 0x04;
/// Where the bus master is told to answer, and what of it is each channel's.
pub const MASTER: u16 = 0xc000;
pub const MASTER_BYTES: u16 = 8;
/// Bits of its command and of its status.
const START: u8 = 0x01;
const TO_MEMORY: u8 = 0x08;
const ACTIVE: u8 = 0x01;
const INTERRUPT: u8 = 0x04;
/// Memory of the guest: descriptors, and what they describe.
const TABLE: u32 = 0x4_0000;
const DATA: u32 = 0x5_0000;
const DATA_BYTES: u64 = 0x8000;
const LAST: u32 = 1 << 31;

/// A guest that knows an IDE cable: its command block, and its control block.
struct Cable {
    all: Vec<Access>,
    block: u16,
    control: u16,
    master: u16,
}

/// How much memory a table describes, against what a command moves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Table {
    Less,
    Same,
    More,
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

    /// Sends a packet.
    fn give(&mut self, packet: &[u8], features: u8) {
        self.select(0xa0);
        for (register, value) in [(1, features), (4, 0xfe), (5, 0xff)] {
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
    }

    /// Sends a packet; `data` bytes come.
    fn packet(&mut self, packet: &[u8], data: usize) {
        self.give(packet, 0);
        if data > 0 {
            self.wait(0x88, 0x08);
            for register in [2, 4, 5, 7] {
                self.all.push(Access::read(self.block + register));
            }
            self.words(data.div_ceil(2), None);
        }
        self.look();
    }

    /// The bus master answers, and may move data.
    fn open_master(&mut self) {
        self.all.extend(configure(SLOT, MASTER_BAR, MASTER.into()));
        self.all.extend(configure(SLOT, CONFIGURATION, 5));
    }

    /// A table for `bytes` bytes; gives where some of them come to lie.
    fn describe(&mut self, bytes: u32, size: Table, random: &mut Random) -> Vec<u32> {
        let bytes = match size {
            Table::Less => bytes / 2,
            Table::Same => bytes,
            Table::More => bytes + 512,
        };
        let store = |at: u32, value: u32| Access::write(0, 0).in_memory(at).wide(4).of(value);
        let (mut left, mut at, mut places) = (bytes, TABLE, Vec::new());
        while left > 0 {
            let piece = (2 + 2 * random.below(300) as u32).min(left);
            left -= piece;
            let address = DATA + 2 * random.below(DATA_BYTES / 2) as u32;
            let last = if left == 0 { LAST } else { 0 };
            self.all.extend([store(at, address), store(at + 4, piece | last)]);
            at += 8;
            places.extend([address & !3, (address + piece) & !3]);
        }
        places
    }

    /// Gives the bus master its table, and looks at it; `begin` has the drive do its part.
    fn by_master(&mut self, to_memory: bool, size: Table, places: &[u32], begin: impl FnOnce(&mut Cable)) {
        let direction = if to_memory { TO_MEMORY } else { 0 };
        let (command, status, table) = (self.master, self.master + 2, self.master + 4);
        self.all.extend([Access::write(command, direction), Access::write(status, 0x66)]);
        self.all.extend([Access::write(table, 0).wide(4).of(TABLE), Access::read(table).wide(4), Access::read(status)]);
        begin(self);
        self.all.push(Access::write(command, direction | START));
        let (bit, value) = if size == Table::Less { (ACTIVE, 0) } else { (INTERRUPT, INTERRUPT) };
        self.all.extend([Access::wait(status, bit, value), Access::read(command), Access::read(status)]);
        if size == Table::Less {
            // How much came into memory is not said.
            self.all.extend([Access::write(command, 0), Access::clear(DATA, DATA_BYTES as u32 + 0x1000)]);
            return self.reset();
        }
        self.look();
        self.all.extend([Access::write(command, 0), Access::read(command), Access::read(status)]);
        self.all.extend([Access::write(status, 0x04), Access::read(status)]);
        self.all.extend(places.iter().map(|at| Access::read(0).in_memory(*at).wide(4)));
    }

    fn sense(&mut self) {
        self.packet(&[0x03, 0, 0, 0, 18], 18);
    }
}

/// The disk of the first IDE cable.
pub fn disk(random: &mut Random, count: usize) -> Vec<Access> {
    let mut guest = Cable { all: Vec::new(), block: 0x1f0, control: 0x3f6, master: MASTER };
    guest.open_master();
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
        match random.below(16) {
            13..16 => {
                let size = random.of(&[Table::Same, Table::Same, Table::More, Table::Less]);
                let (count, write) = (1 + random.below(4) as u8, random.one_in(2));
                let places = guest.describe(512 * u32::from(count), size, random);
                guest.by_master(!write, size, &places, |guest| {
                    guest.address(sector, count);
                    guest.command(if write { WRITE_DMA } else { READ_DMA });
                });
            }
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
    let mut guest = Cable { all: Vec::new(), block: 0x170, control: 0x376, master: MASTER + MASTER_BYTES };
    guest.open_master();
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
        match random.below(13) {
            11..13 => {
                let size = random.of(&[Table::Same, Table::More]);
                let (first, count) = (random.below(60) as u8, 1 + random.below(2) as u8);
                let places = guest.describe(2048 * u32::from(count), size, random);
                guest.by_master(true, size, &places, |guest| guest.give(&[0x28, 0, 0, 0, 0, first, 0, 0, count], 1));
            }
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
