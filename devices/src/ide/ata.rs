//! Commands of a disk (ATA/ATAPI-6, clause 8), and those that both kinds of drive have.

use super::block::Stretch;
use super::state::{ABORTED, MULTIPLE_MAX, NO_ADDRESS, Phase, Source};
use super::unit::{Kind, SECTOR};
use super::work::Work;

/// Bit of the device register: the address is one of a logical block.
const LOGICAL: u8 = 0x40;
/// What CHECK POWER MODE says: in standby, or active.
const STANDBY: u8 = 0x00;
const ACTIVE: u8 = 0xff;
/// What the error register says after a diagnosis that found nothing wrong (8.11.5).
const PASSED: u8 = 0x01;
/// Most sectors that 28 bits can name (6.2.1).
pub(super) const SECTORS_28: u64 = 0x0fff_ffff;

pub(super) const DEVICE_RESET: u8 = 0x08;
pub(super) const DIAGNOSE: u8 = 0x90;

/// How sectors move.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// A block is a sector.
    Sectors,
    /// A block is as many as SET MULTIPLE MODE said.
    Multiple,
    Dma,
}

/// DATA SET MANAGEMENT (ACS-2): the feature that says that sectors are no longer needed, and most blocks of ranges that are taken at
/// once. A range is an entry of eight bytes: its first sector, and in the upper two how many.
const TRIM: u8 = 0x01;
pub(super) const TRIM_BLOCKS: u8 = 8;
const RANGE: usize = 8;
const RANGE_COUNT: u32 = 48;

/// Sectors that a command names.
struct Extent {
    first: u64,
    count: u32,
}

impl Work<'_> {
    /// The command register was written.
    pub(super) fn command(&mut self, code: u8) {
        self.drive.interrupt = 0;
        self.drive.error = 0;
        self.drive.packet = 0;
        self.drive.status = self.ready();
        match (self.unit.kind, code) {
            (_, 0xe0 | 0x94) => self.rest(true),
            (_, 0xe1 | 0x95) => self.rest(false),
            (_, 0xe6 | 0x99) => self.rest(true),
            (_, 0xe5 | 0x98) => {
                self.drive.count[0] = if self.drive.standby == 1 { STANDBY } else { ACTIVE };
                self.finish();
            }
            (_, 0xef) => self.set_features(),
            (Kind::Disk, _) => self.disk_command(code),
            (Kind::Cdrom, _) => self.packet_device_command(code),
        }
    }

    fn disk_command(&mut self, code: u8) {
        match code {
            // RECALIBRATE, SEEK.
            0x10..=0x1f => self.finish(),
            0x70..=0x7f => drop(self.extent(false).map(|_| self.finish())),
            0x20 | 0x21 => self.read(false, Way::Sectors),
            0x24 => self.read(true, Way::Sectors),
            0xc4 => self.read(false, Way::Multiple),
            0x29 => self.read(true, Way::Multiple),
            0xc8 | 0xc9 => self.read(false, Way::Dma),
            0x25 => self.read(true, Way::Dma),
            0x30 | 0x31 => self.write(false, Way::Sectors),
            0x34 => self.write(true, Way::Sectors),
            0xc5 => self.write(false, Way::Multiple),
            0x39 => self.write(true, Way::Multiple),
            0xca | 0xcb => self.write(false, Way::Dma),
            0x35 => self.write(true, Way::Dma),
            // READ VERIFY: what can be named can be read.
            0x40 | 0x41 => drop(self.extent(false).map(|_| self.finish())),
            0x42 => drop(self.extent(true).map(|_| self.finish())),
            0x06 => self.manage(),
            0x91 => self.set_geometry(),
            0xc6 => self.set_multiple(),
            // STANDBY and IDLE with their timers: a drive that has no motor has no use for them.
            0xe2 | 0x96 => self.rest(true),
            0xe3 | 0x97 => self.rest(false),
            0xe7 | 0xea => self.flush_later(),
            0xec => {
                let identity = self.identify_disk();
                self.begin_answer(&identity);
            }
            0xf8 => {
                self.set_address(self.unit.blocks().min(SECTORS_28).saturating_sub(1), false);
                self.finish();
            }
            0x27 => {
                self.set_address(self.unit.blocks().saturating_sub(1), true);
                self.finish();
            }
            // NOP always aborts (8.22), as does what there is not.
            _ => self.fail(ABORTED),
        }
    }

    /// What a packet device has of these; the packets are beside this.
    fn packet_device_command(&mut self, code: u8) {
        match code {
            0xa0 => self.begin_packet_command(),
            0xa1 => {
                let identity = self.identify_packet_device();
                self.begin_answer(&identity);
            }
            // A host that takes it for a disk finds the signature (8.15.5.2, 8.34.5.2).
            0xec | 0x20 => {
                self.sign();
                self.fail(ABORTED);
            }
            _ => self.fail(ABORTED),
        }
    }

    /// The host is to read this one block.
    fn begin_answer(&mut self, bytes: &[u8]) {
        let bytes = self.answer(bytes);
        self.begin_in(Stretch { source: Source::Answer, offset: 0, bytes }, bytes);
    }

    fn read(&mut self, extended: bool, way: Way) {
        let Some((stretch, limit)) = self.stretch(extended, way) else { return };
        match way {
            Way::Dma => self.begin_dma(stretch, Phase::DmaIn),
            Way::Sectors | Way::Multiple => self.begin_in(stretch, limit),
        }
    }

    fn write(&mut self, extended: bool, way: Way) {
        if self.unit.readonly {
            return self.fail(ABORTED);
        }
        let Some((stretch, limit)) = self.stretch(extended, way) else { return };
        match way {
            Way::Dma => self.begin_dma(stretch, Phase::DmaOut),
            Way::Sectors | Way::Multiple => self.begin_out(stretch, limit),
        }
    }

    /// The data of a command, and its blocks; nothing if it failed.
    fn stretch(&mut self, extended: bool, way: Way) -> Option<(Stretch, u32)> {
        let sectors = match way {
            Way::Multiple if self.drive.multiple == 0 => {
                self.fail(ABORTED);
                return None;
            }
            Way::Multiple => self.drive.multiple,
            Way::Sectors | Way::Dma => 1,
        };
        let Extent { first, count } = self.extent(extended)?;
        let stretch = Stretch { source: Source::Medium, offset: first * SECTOR, bytes: count * SECTOR as u32 };
        Some((stretch, u32::from(sectors) * SECTOR as u32))
    }

    /// DATA SET MANAGEMENT: a list of ranges is to come.
    fn manage(&mut self) {
        let drive = &mut *self.drive;
        // The count's upper byte is zero for every host that keeps to the most; one that stores the register once has left
        // there what it stored before.
        let blocks = drive.count[0];
        if drive.features[0] != TRIM || !(1..=TRIM_BLOCKS).contains(&blocks) || self.unit.readonly {
            return self.fail(ABORTED);
        }
        drive.half ^= 1;
        let bytes = u32::from(blocks) * SECTOR as u32;
        self.begin_dma(Stretch { source: Source::Answer, offset: 0, bytes }, Phase::DmaOut);
    }

    /// The ranges are there. That they are not needed is a hint, and the host was not told that they read as anything else
    /// afterwards: they stay as they are.
    pub(super) fn trim(&mut self) {
        let (bytes, blocks) = (self.drive.offset as usize, self.unit.blocks());
        let is_there = |at: usize| {
            let mut entry = [0; RANGE];
            self.buffer.half(self.drive.half, at, RANGE).is_some_and(|slice| {
                slice.copy_to(&mut entry);
                let entry = u64::from_le_bytes(entry);
                let (first, count) = (entry & ((1 << RANGE_COUNT) - 1), entry >> RANGE_COUNT);
                count == 0 || first + count <= blocks
            })
        };
        if (0..bytes).step_by(RANGE).all(is_there) { self.finish() } else { self.fail(ABORTED) }
    }

    /// The sectors that the registers name; nothing if the command failed for them.
    fn extent(&mut self, extended: bool) -> Option<Extent> {
        let drive = &*self.drive;
        let byte = |register: [u8; 2], high: bool| u64::from(register[usize::from(high)]);
        let (mut first, mut count) = (0, byte(drive.count, false) as u32);
        if extended {
            if drive.device & LOGICAL == 0 {
                self.fail(ABORTED);
                return None;
            }
            for high in [false, true] {
                let part = byte(drive.low, high) | byte(drive.mid, high) << 8 | byte(drive.high, high) << 16;
                first |= part << if high { 24 } else { 0 };
            }
            count |= (byte(drive.count, true) as u32) << 8;
        } else if drive.device & LOGICAL != 0 {
            first = byte(drive.low, false) | byte(drive.mid, false) << 8 | byte(drive.high, false) << 16;
            first |= u64::from(drive.device & 0x0f) << 24;
        } else {
            let cylinder = u64::from(u16::from_le_bytes([drive.mid[0], drive.high[0]]));
            let (head, sector) = (drive.device & 0x0f, drive.low[0]);
            // Sectors count from 1.
            if cylinder >= drive.cylinders.into() || head >= drive.heads || !(1..=drive.sectors).contains(&sector) {
                self.fail(NO_ADDRESS);
                return None;
            }
            let track = cylinder * u64::from(drive.heads) + u64::from(head);
            first = track * u64::from(drive.sectors) + u64::from(sector - 1);
        }
        if count == 0 {
            count = if extended { 0x1_0000 } else { 0x100 };
        }
        let blocks = self.unit.blocks();
        if first + u64::from(count) > blocks {
            // The address of the first sector that there is not.
            if self.drive.device & LOGICAL != 0 {
                self.set_address(first.max(blocks), extended);
            }
            self.fail(NO_ADDRESS);
            return None;
        }
        Some(Extent { first, count })
    }

    fn set_address(&mut self, sector: u64, extended: bool) {
        let drive = &mut *self.drive;
        let bytes = sector.to_le_bytes();
        [drive.low[0], drive.mid[0], drive.high[0], ..] = bytes;
        if extended {
            [_, _, _, drive.low[1], drive.mid[1], drive.high[1], ..] = bytes;
        } else {
            drive.device = drive.device & 0xf0 | bytes[3] & 0x0f;
        }
    }

    /// INITIALIZE DEVICE PARAMETERS (ATA-3, 7.11). A geometry without sectors is none.
    fn set_geometry(&mut self) {
        let (sectors, heads) = (self.drive.count[0], (self.drive.device & 0x0f) + 1);
        let cylinder = u64::from(sectors) * u64::from(heads);
        if cylinder == 0 {
            return self.fail(ABORTED);
        }
        (self.drive.sectors, self.drive.heads) = (sectors, heads);
        self.drive.cylinders = (self.unit.blocks() / cylinder).min(u16::MAX.into()) as u16;
        self.finish();
    }

    fn set_multiple(&mut self) {
        let count = self.drive.count[0];
        if count != 0 && (!count.is_power_of_two() || count > MULTIPLE_MAX) {
            return self.fail(ABORTED);
        }
        self.drive.multiple = count;
        self.finish();
    }

    fn set_features(&mut self) {
        let known = match (self.drive.features[0], self.unit.kind) {
            (0x03, _) => self.set_mode(),
            (code @ (0x02 | 0x82), Kind::Disk) => {
                self.drive.uncached = u8::from(code == 0x82);
                true
            }
            // Look-ahead, and whether a software reset reverts to defaults: nothing that could be noticed.
            (0x55 | 0xaa | 0x66 | 0xcc, Kind::Disk) => true,
            _ => false,
        };
        if known { self.finish() } else { self.fail(ABORTED) }
    }

    /// The transfer mode (8.46.11, table 45): data go as fast as they go, but what is set is kept and told.
    fn set_mode(&mut self) -> bool {
        let mode = self.drive.count[0];
        match mode {
            0x00 | 0x01 | 0x08..=0x0c => {}
            0x20..=0x22 | 0x40..=0x45 => self.drive.mode = mode,
            _ => return false,
        }
        true
    }

    fn rest(&mut self, standby: bool) {
        self.drive.standby = u8::from(standby);
        self.finish();
    }

    /// Puts the drive where power on, a reset and a diagnosis leave it: idle, with its signature (9.12).
    pub(super) fn reset(&mut self) {
        self.drive.phase = Phase::Idle as u8;
        self.drive.interrupt = 0;
        self.drive.standby = 0;
        self.drive.error = PASSED;
        self.sign();
        // A packet device is not ready before its first command.
        self.drive.status = if self.unit.kind == Kind::Disk { self.ready() } else { 0 };
    }

    fn sign(&mut self) {
        let drive = &mut *self.drive;
        let (mid, high) = if self.unit.kind == Kind::Disk { (0x00, 0x00) } else { (0x14, 0xeb) };
        (drive.count[0], drive.low[0], drive.mid[0], drive.high[0]) = (1, 1, mid, high);
        drive.device &= 0x10;
    }
}
