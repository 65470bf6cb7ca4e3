//! A machine in miniature around the function, and random accesses.

mod dma;
mod exchange;
mod packets;
mod registers;
mod sectors;

use super::*;
use crate::conformance::{Bench, Random, Strike, World, conforms};
use device::BlockStore;
use std::io;
use std::sync::{Arc, Mutex, OnceLock};
use vm_memory::{Bytes, GuestAddress, MmapRegion, VolatileSlice};

/// Sectors of the disks, and frames of the CD.
const SECTORS: usize = 2048;
const FRAMES: usize = 300;
/// Guest memory, in two regions side by side as a machine has it.
const LOW: usize = 0x1_8000;
const MEMORY_BYTES: usize = 0x4_0000;
/// In random accesses, tables of descriptors begin in the first bytes and data lie elsewhere. A transfer that changes its own
/// table would be another one when it is done again.
const TABLE_BYTES: usize = 256;
const DATA_FIRST: usize = 0x1000;

const ACTIVE: u64 = 1;
const BM_ERROR: u64 = 2;
const BM_INTERRUPT: u64 = 4;
/// Bus master bits: start; to memory.
const START: u64 = 1;
const TO_MEMORY: u64 = 8;

/// A medium in memory, all of which every holder sees.
#[derive(Clone)]
struct Medium {
    bytes: Arc<Mutex<Vec<u8>>>,
    readonly: bool,
    /// Accesses fail that touch this byte.
    bad: Option<u64>,
    flushed: Arc<Mutex<u32>>,
}

impl Medium {
    fn new(bytes: usize, seed: usize, readonly: bool) -> Medium {
        /// Made once: many worlds are.
        static CONTENTS: OnceLock<Vec<u8>> = OnceLock::new();
        const MOST: u64 = 1 << 21;
        let all = CONTENTS.get_or_init(|| (0..MOST).map(|at| (at / 512 * 7 + at % 251) as u8).collect());
        let contents = all[seed..seed + bytes].to_vec();
        Medium { bytes: Arc::new(Mutex::new(contents)), readonly, bad: None, flushed: Arc::default() }
    }

    fn contents(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    fn check(&self, offset: u64, slices: &[VolatileSlice<'_>]) -> io::Result<()> {
        let end = offset + slices.iter().map(|slice| slice.len() as u64).sum::<u64>();
        assert!(end <= self.bytes(), "an access beyond the end of the medium");
        match self.bad {
            Some(bad) if (offset..end).contains(&bad) => Err(io::ErrorKind::Other.into()),
            _ => Ok(()),
        }
    }
}

impl BlockStore for Medium {
    fn bytes(&self) -> u64 {
        self.bytes.lock().unwrap().len() as u64
    }
    fn readonly(&self) -> bool {
        self.readonly
    }
    fn read_at(&mut self, offset: u64, into: &[VolatileSlice<'_>]) -> io::Result<()> {
        self.check(offset, into)?;
        let bytes = self.bytes.lock().unwrap();
        let mut at = offset as usize;
        for slice in into {
            slice.copy_from(&bytes[at..at + slice.len()]);
            at += slice.len();
        }
        Ok(())
    }
    fn write_at(&mut self, offset: u64, from: &[VolatileSlice<'_>]) -> io::Result<()> {
        assert!(!self.readonly, "a write to a medium that may only be read");
        self.check(offset, from)?;
        let mut bytes = self.bytes.lock().unwrap();
        let mut at = offset as usize;
        for slice in from {
            slice.copy_to(&mut bytes[at..at + slice.len()]);
            at += slice.len();
        }
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        *self.flushed.lock().unwrap() += 1;
        Ok(())
    }
}

/// A disk and a CD-ROM drive on the first channel; an empty one and a disk that may only be read on the second.
struct Media {
    disk: Medium,
    cd: Medium,
    has_cd: bool,
    fixed: Medium,
    memory: GuestMemory,
    bulk: Bulk,
}

impl World for Media {
    const NAME: &'static str = super::NAME;
    const STEPS: usize = 40_000;

    fn new() -> Media {
        let bulk_bytes = BUFFER_BYTES * NAMES.len();
        let ranges = [(GuestAddress(0), LOW), (GuestAddress(LOW as u64), MEMORY_BYTES - LOW)];
        let memory = GuestMemory::from_ranges(&ranges).unwrap();
        // Behind the tables lies one that leads nowhere.
        memory.write_slice(&[0xff; DATA_FIRST - TABLE_BYTES], GuestAddress(TABLE_BYTES as u64)).unwrap();
        Media {
            disk: Medium::new(SECTORS * 512, 0, false),
            cd: Medium::new(FRAMES * 2048 + 100, 3, true),
            has_cd: true,
            fixed: Medium::new(SECTORS * 512, 5, true),
            memory,
            bulk: Bulk::new(MmapRegion::new(bulk_bytes + 8).unwrap(), 8..bulk_bytes + 8),
        }
    }

    fn options(&self) -> Options {
        Options::new([
            ("primary", "disk"),
            ("primary-slave", if self.has_cd { "cdrom" } else { "empty" }),
            ("secondary", "empty"),
            ("secondary-slave", "readonly"),
        ])
    }

    fn powers(&self) -> Powers {
        let cd = Some(&self.cd).filter(|_| self.has_cd);
        let stores = [Some(&self.disk), cd, Some(&self.fixed)].into_iter().flatten();
        Powers {
            stores: (1..).zip(stores.map(|store| Box::new(store.clone()) as Box<dyn BlockStore>)).collect(),
            memory: Some(self.memory.clone()),
            bulk: Some(self.bulk.clone()),
            ..Powers::default()
        }
    }

    /// Descriptors of all kinds, in memory where tables are.
    fn stir(&mut self, random: &mut Random) {
        let at = random.below(32) * 8;
        let address = match random.below(8) {
            0 => random.next() as u32 | MEMORY_BYTES as u32,
            _ => (DATA_FIRST as u64 + random.below((MEMORY_BYTES - DATA_FIRST) as u64)) as u32,
        };
        let bytes = if random.one_in(2) { random.below(4096) as u16 } else { random.value() as u16 };
        let last = if random.one_in(2) { 0x8000_u16 } else { 0 };
        self.memory.write_obj(address, GuestAddress(at)).unwrap();
        self.memory.write_obj(u32::from(bytes) | u32::from(last) << 16, GuestAddress(at + 4)).unwrap();
    }

    fn seen(&self) -> Vec<u8> {
        self.disk.contents()
    }

    fn strike(&mut self, random: &mut Random, _: &Manifest) -> Strike {
        const COMMANDS: [u64; 36] = [
            0x00, 0x08, 0x10, 0x20, 0x24, 0x25, 0x27, 0x29, 0x30, 0x34, 0x35, 0x39, 0x40, 0x42, 0x70, 0x90, 0x91, 0xa0,
            0xa0, 0xa0, 0xa1, 0xc4, 0xc5, 0xc6, 0xc8, 0xca, 0xe0, 0xe1, 0xe5, 0xe7, 0xea, 0xec, 0xef, 0xf8, 0x20, 0xc8,
        ];
        const PACKETS: [u64; 24] = [
            0x00, 0x03, 0x12, 0x1a, 0x1b, 0x1e, 0x25, 0x28, 0x2b, 0x42, 0x43, 0x46, 0x4a, 0x51, 0x5a, 0xa8, 0xbb, 0xbd,
            0xbe, 0x28, 0x28, 0x55, 0x02, 0xff,
        ];
        let range = random.below(5) as u8;
        let write = random.one_in(2);
        let (offset, width) = match range {
            MASTER => {
                let width = [1, 1, 2, 4][random.below(4) as usize];
                (random.below(16 / u64::from(width)) * u64::from(width), width)
            }
            range if CONTROLS.contains(&range) => (0, 1),
            _ if random.one_in(2) => (0, [2, 2, 4, 8, 1][random.below(5) as usize]),
            _ => (1 + random.below(7), 1),
        };
        let small = random.below(24);
        let value = match (range, offset) {
            (range, STATUS) if range != MASTER => COMMANDS[random.below(COMMANDS.len() as u64) as usize],
            (range, 6) if range != MASTER => [0x40, 0x50, 0xe0, 0xf0, small][random.below(5) as usize],
            (range, 0) if range != MASTER && !CONTROLS.contains(&range) && random.one_in(2) => {
                PACKETS[random.below(PACKETS.len() as u64) as usize] | small << 24 | random.below(3) << 8
            }
            (range, _) if CONTROLS.contains(&range) => [0, 0, 0, 2, 4, 0x80][random.below(6) as usize],
            (MASTER, 0 | 8) => [1, 9, 0, 1][random.below(4) as usize],
            (MASTER, 4 | 12) => random.below(32) * 8,
            (MASTER, 5 | 13) => 0,
            (MASTER, 6 | 7 | 14 | 15) => match random.below(2) {
                0 => 0,
                _ => MEMORY_BYTES as u64 >> 16 << random.below(6),
            },
            (MASTER, _) => random.below(256),
            _ if random.one_in(4) => random.value(),
            _ => small,
        };
        Strike { range, offset, width, value, write }
    }
}

conforms!(Media);

/// The range of a channel's command block, and of its control block.
fn block(channel: usize) -> u8 {
    2 * channel as u8
}

/// A driver.
struct Pc {
    bench: Bench<Media>,
    channel: usize,
}

impl Pc {
    fn new() -> Pc {
        Pc::with(Media::new())
    }

    fn with(world: Media) -> Pc {
        Pc { bench: Bench::with(world), channel: 0 }
    }

    /// With the CD-ROM drive of the first channel selected.
    fn cd() -> Pc {
        let mut pc = Pc::new();
        pc.select(0x10);
        pc
    }

    fn get(&mut self, register: u64) -> u64 {
        self.bench.read(block(self.channel), register, 1).unwrap()
    }

    fn put(&mut self, register: u64, value: u64) {
        self.bench.write(block(self.channel), register, 1, value).unwrap();
    }

    fn put_all<const N: usize>(&mut self, stores: [(u64, u64); N]) {
        for (register, value) in stores {
            self.put(register, value);
        }
    }

    fn select(&mut self, device: u64) {
        self.put(6, device);
    }

    fn control(&mut self, value: u64) {
        self.bench.write(block(self.channel) + 1, 0, 1, value).unwrap();
    }

    fn alternate(&mut self) -> u64 {
        self.bench.read(block(self.channel) + 1, 0, 1).unwrap()
    }

    /// Whether the channel's interrupt line is high.
    fn line(&self) -> bool {
        self.bench.outputs().levels & 1 << self.channel != 0
    }

    fn command(&mut self, code: u64) {
        self.put(STATUS, code);
    }

    /// Sector count and address of the next command, by logical block.
    fn address(&mut self, device: u64, sector: u64, count: u64) {
        self.select(0xe0 | device | sector >> 24);
        for (register, value) in [(2, count), (3, sector), (4, sector >> 8), (5, sector >> 16)] {
            self.put(register, value & 0xff);
        }
    }

    /// The same with 48 bits.
    fn long_address(&mut self, device: u64, sector: u64, count: u64) {
        self.select(0x40 | device);
        for (register, value) in [(2, count >> 8), (3, sector >> 24), (4, sector >> 32), (5, sector >> 40)] {
            self.put(register, value & 0xff);
        }
        for (register, value) in [(2, count), (3, sector), (4, sector >> 8), (5, sector >> 16)] {
            self.put(register, value & 0xff);
        }
    }

    fn load(&mut self, bytes: usize) -> Vec<u8> {
        let words = (0..bytes.div_ceil(2)).map(|_| self.bench.read(block(self.channel), 0, 2).unwrap() as u16);
        words.flat_map(u16::to_le_bytes).collect()
    }

    fn store(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(2) {
            let word = u64::from(word[0]) | u64::from(word[1]) << 8;
            self.bench.write(block(self.channel), 0, 2, word).unwrap();
        }
    }

    /// Acknowledges an interrupt, which there must be. Gives the status.
    fn interrupt(&mut self) -> u64 {
        assert!(self.line(), "no interrupt");
        let status = self.get(STATUS);
        assert!(!self.line());
        status
    }

    fn identity(&mut self, code: u64) -> Vec<u16> {
        self.command(code);
        assert_eq!(self.interrupt() & 0x89, 0x08);
        let bytes = self.load(512);
        assert_eq!((self.line(), self.alternate() & 0x89), (false, 0), "the last block has no interrupt behind it");
        assert_eq!(bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
        bytes.chunks(2).map(|word| u16::from_le_bytes([word[0], word[1]])).collect()
    }
}
