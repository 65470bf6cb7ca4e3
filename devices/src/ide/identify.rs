//! What drives say of themselves: IDENTIFY DEVICE and IDENTIFY PACKET DEVICE (ATA/ATAPI-6, 8.15 and 8.16).

use super::ata::{SECTORS_28, TRIM_BLOCKS};
use super::state::MULTIPLE_MAX;
use super::unit::Unit;
use super::work::Work;

/// Bytes of an identity.
const BYTES: usize = 512;
/// Words that always read so.
const NO_AND_YES: u16 = 0x4000;
/// Cycle times of multiword DMA and PIO that modes 2 and 4 have, in nanoseconds.
const CYCLE_NS: u16 = 120;
/// Multiword modes 0 to 2, ultra modes 0 to 5.
const MULTIWORD: u16 = 0x0007;
const ULTRA: u16 = 0x003f;

/// The words, to be filled in.
struct Words([u8; BYTES]);

impl Words {
    fn set(&mut self, word: usize, value: u16) {
        self.0[2 * word..2 * word + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn set_all(&mut self, first: usize, values: &[u16]) {
        for (word, value) in (first..).zip(values) {
            self.set(word, *value);
        }
    }

    /// A number of several words, the lowest first.
    fn set_number(&mut self, first: usize, words: usize, value: u64) {
        for word in 0..words {
            self.set(first + word, (value >> (16 * word)) as u16);
        }
    }

    /// Text, padded with spaces; of each word the first character is the upper byte.
    fn set_text(&mut self, first: usize, words: usize, text: &[u8]) {
        let at = |index: usize| text.get(index).copied().unwrap_or(b' ');
        for word in 0..words {
            self.set(first + word, u16::from_be_bytes([at(2 * word), at(2 * word + 1)]));
        }
    }

    fn set_names(&mut self, unit: &Unit) {
        self.set_text(10, 10, unit.names.serial.as_bytes());
        self.set_text(23, 4, unit.names.version.as_bytes());
        self.set_text(27, 20, unit.names.model.as_bytes());
    }

    /// What both kinds have: DMA, PIO modes to 4, which DMA mode is chosen, which device it is.
    fn set_modes(&mut self, mode: u8, number: u8) {
        // DMA, LBA, IORDY that can be switched off.
        self.set_all(49, &[0x0f00, NO_AND_YES, 0x0200]);
        let chosen = |class: u8| if mode & 0xf0 == class { 1 << (8 + (mode & 0x07)) } else { 0 };
        self.set(63, MULTIWORD | chosen(0x20));
        self.set_all(64, &[0x0003, CYCLE_NS, CYCLE_NS, CYCLE_NS, CYCLE_NS]);
        self.set(88, ULTRA | chosen(0x40));
        // A cable of 80 wires; device 0 and 1 know their number by a jumper.
        self.set(93, if number.is_multiple_of(2) { 0x6003 } else { 0x6300 });
    }

    /// With its checksum: all bytes add up to 0 (8.15.61).
    fn whole(mut self) -> [u8; BYTES] {
        self.0[BYTES - 2] = 0xa5;
        let sum = self.0[..BYTES - 1].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        self.0[BYTES - 1] = sum.wrapping_neg();
        self.0
    }
}

impl Work<'_> {
    pub(super) fn identify_disk(&self) -> [u8; BYTES] {
        let (drive, unit) = (&*self.drive, &*self.unit);
        let mut words = Words([0; BYTES]);
        words.set(0, 0x0040);
        let geometry = unit.geometry();
        words.set(1, geometry.cylinders);
        words.set(3, geometry.heads.into());
        words.set(6, geometry.sectors.into());
        words.set_names(unit);
        words.set(47, 0x8000 | u16::from(MULTIPLE_MAX));
        words.set_modes(drive.mode, unit.number);
        words.set(53, 0x0007);
        words.set_all(54, &[drive.cylinders, drive.heads.into(), drive.sectors.into()]);
        let current = u64::from(drive.cylinders) * u64::from(drive.heads) * u64::from(drive.sectors);
        words.set_number(57, 2, current);
        words.set(59, if drive.multiple == 0 { 0 } else { 0x0100 | u16::from(drive.multiple) });
        words.set_number(60, 2, unit.blocks().min(SECTORS_28));
        // ATA-3 to ATA/ATAPI-6.
        words.set(80, 0x0078);
        // NOP, look-ahead, write cache, power management; FLUSH CACHE, FLUSH CACHE EXT, 48-bit addresses.
        words.set_all(82, &[0x4068, 0x7400, NO_AND_YES]);
        words.set_all(85, &[if drive.uncached == 1 { 0x4048 } else { 0x4068 }, 0x3400, NO_AND_YES]);
        words.set_number(100, 4, unit.blocks());
        // DATA SET MANAGEMENT with TRIM, and how long a list may be (ACS-2). Word 69 does not say what trimmed sectors read as.
        if !unit.readonly {
            words.set(105, TRIM_BLOCKS.into());
            words.set(169, 0x0001);
        }
        words.whole()
    }

    pub(super) fn identify_packet_device(&self) -> [u8; BYTES] {
        let (drive, unit) = (&*self.drive, &*self.unit);
        let mut words = Words([0; BYTES]);
        // A packet device, a CD-ROM, removable; it asks for a packet of 12 bytes within 50 us.
        words.set(0, 0x85c0);
        words.set_names(unit);
        words.set_modes(drive.mode, unit.number);
        words.set(53, 0x0006);
        // ATA/ATAPI-4 to 6.
        words.set(80, 0x0070);
        // NOP, DEVICE RESET, PACKET, power management.
        words.set_all(82, &[0x4218, NO_AND_YES, NO_AND_YES]);
        words.set_all(85, &[0x4218, 0, NO_AND_YES]);
        words.whole()
    }
}
