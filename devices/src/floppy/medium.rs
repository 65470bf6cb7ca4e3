//! Diskettes and the drives that they are in.
//!
//! Source: ECMA-70 (360 KB), ECMA-99 (1.2 MB), ECMA-100 (720 KB), ECMA-125 (1.44 MB); ECMA-147 (2.88 MB).

use device::{AttachError, BlockStore};
use vm_memory::VolatileSlice;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a sector: the only size that an image has.
pub(super) const SECTOR_BYTES: usize = 512;
/// N of an ID field: 128 << 2 bytes.
pub(super) const SECTOR_SIZE_CODE: u8 = 2;
/// The last cylinder that the arm of a drive reaches. Drives of 80 tracks have a few to spare.
pub(super) const LAST_CYLINDER: u8 = 83;

/// Kilobits of data that pass the head in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rate {
    Kbps500,
    Kbps300,
    Kbps250,
    Mbps1,
}

/// How a diskette of a certain size is laid out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) cylinders: u8,
    pub(super) heads: u8,
    pub(super) sectors: u8,
    /// At these rates its tracks can be read; the drive's speed decides between the two of a 360 KB diskette.
    rates: &'static [Rate],
}

const fn format(cylinders: u8, heads: u8, sectors: u8, rates: &'static [Rate]) -> Format {
    Format { cylinders, heads, sectors, rates }
}

const DOUBLE: &[Rate] = &[Rate::Kbps250, Rate::Kbps300];
const HIGH: &[Rate] = &[Rate::Kbps500];
const EXTRA: &[Rate] = &[Rate::Mbps1];

/// By size, which says of an image which one it is.
pub(super) const FORMATS: [Format; 9] = [
    format(40, 1, 8, DOUBLE),
    format(40, 1, 9, DOUBLE),
    format(40, 2, 8, DOUBLE),
    format(40, 2, 9, DOUBLE),
    format(80, 2, 9, DOUBLE),
    format(80, 2, 15, HIGH),
    format(80, 2, 18, HIGH),
    format(80, 2, 21, HIGH),
    format(80, 2, 36, EXTRA),
];

impl Format {
    pub(super) const fn bytes(&self) -> u64 {
        self.cylinders as u64 * self.heads as u64 * self.sectors as u64 * SECTOR_BYTES as u64
    }

    /// Whether tracks of this format appear as such at this rate.
    pub(super) fn is_read_at(&self, rate: Rate) -> bool {
        self.rates.contains(&rate)
    }

    /// Where in the image sector `number`, from 1 on, of this track begins; nothing if there is no such sector.
    pub(super) fn offset(&self, cylinder: u8, head: u8, number: u8) -> Option<u64> {
        if cylinder >= self.cylinders || head >= self.heads || !(1..=self.sectors).contains(&number) {
            return None;
        }
        let track = u64::from(cylinder) * u64::from(self.heads) + u64::from(head);
        Some((track * u64::from(self.sectors) + u64::from(number - 1)) * SECTOR_BYTES as u64)
    }
}

/// A drive with a diskette in it.
pub(super) struct Drive {
    store: Box<dyn BlockStore>,
    pub(super) format: &'static Format,
    /// The diskette's tab.
    pub(super) protected: bool,
}

impl Drive {
    /// The image is all of a diskette, or the beginning of the smallest one that holds it.
    pub(super) fn new(store: Box<dyn BlockStore>, readonly: bool) -> Result<Drive, AttachError> {
        let bytes = store.bytes();
        let whole = bytes > 0 && bytes.is_multiple_of(SECTOR_BYTES as u64);
        let Some(format) = FORMATS.iter().find(|format| whole && bytes <= format.bytes()) else {
            return Err(AttachError::Unfit(format!(
                "an image of {bytes} bytes is no diskette; make it of whole sectors of {SECTOR_BYTES} bytes, at most 2880 KiB"
            )));
        };
        let protected = readonly || store.readonly();
        Ok(Drive { store, format, protected })
    }

    /// Reads the sector at `offset`, which [`Format::offset`] gave; behind the image's end sectors are blank. `false`: its
    /// check sum is bad.
    pub(super) fn read(&mut self, offset: u64, sector: &mut [u8; SECTOR_BYTES]) -> bool {
        if !self.holds(offset) {
            sector.fill(0);
            return true;
        }
        self.store.read_at(offset, &[VolatileSlice::from(&mut sector[..])]).is_ok()
    }

    /// Writes the sector at `offset`. `false`: it could not be; an image never grows.
    pub(super) fn write(&mut self, offset: u64, sector: &mut [u8; SECTOR_BYTES]) -> bool {
        self.holds(offset) && self.store.write_at(offset, &[VolatileSlice::from(&mut sector[..])]).is_ok()
    }

    fn holds(&self, offset: u64) -> bool {
        offset < self.store.bytes()
    }
}

/// What of a drive moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Position {
    /// Where the arm is.
    pub(super) cylinder: u8,
    /// 0 or 1: the line that says that the diskette was changed.
    pub(super) changed: u8,
}

impl Position {
    /// The arm over track 0; the line is up since power on.
    pub(super) const POWER_ON: Position = Position { cylinder: 0, changed: 1 };

    pub(super) fn check(&self) -> bool {
        self.cylinder <= LAST_CYLINDER && self.changed <= 1
    }

    /// Step pulses: inwards if positive. With a diskette in the drive the first of them takes the change line back.
    pub(super) fn step(&mut self, pulses: i16, loaded: bool) {
        let to = i16::from(self.cylinder).saturating_add(pulses).clamp(0, i16::from(LAST_CYLINDER));
        self.cylinder = to as u8;
        if pulses != 0 && loaded {
            self.changed = 0;
        }
    }
}
