//! What is behind a drive: a medium, and a buffer.

use super::state::{BLOCK_MAX, MULTIPLE_MAX, PACKET_BYTES};
use device::{BlockStore, Bulk};
use std::io;
use vm_memory::VolatileSlice;

/// Bytes of a disk's sector, and of a CD's.
pub(super) const SECTOR: u64 = 512;
pub(super) const FRAME: u64 = 2048;

/// The buffer has two halves. The next block goes into the one that the committed state does not speak of, so a process that
/// dies before it commits has spoilt nothing. The command packet has a place of its own, for the same reason.
pub(super) const HALF: usize = (BLOCK_MAX as usize + 1).next_multiple_of(4096);
const PACKET: usize = 2 * HALF;
/// Bytes of bulk state of a drive.
pub(super) const BUFFER_BYTES: usize = PACKET + 64;
const _: () = assert!(MULTIPLE_MAX as u64 * SECTOR <= BLOCK_MAX as u64);

/// Number of sectors that 48 bits can name.
const SECTORS_MAX: u64 = 1 << 48;

/// What kind of drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Disk,
    Cdrom,
}

/// A drive, apart from what it remembers.
pub(super) struct Unit {
    pub kind: Kind,
    /// The medium; a drive with a tray may have none.
    pub store: Option<Box<dyn BlockStore>>,
    pub readonly: bool,
    /// Which of the four it is.
    pub number: u8,
    /// What it says of itself.
    pub names: Names,
    /// Its geometry, if it is to have another than its size gives it.
    pub geometry: Option<Geometry>,
}

/// Names in an identity (ATA/ATAPI-6, 8.15: words 10 to 19, 23 to 26, 27 to 46).
pub(super) struct Names {
    pub serial: String,
    pub version: String,
    pub model: String,
}

/// How a disk's sectors are addressed before a host says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub cylinders: u16,
    pub heads: u8,
    pub sectors: u8,
}

impl Unit {
    /// Sectors of a disk, or frames of a CD. What is beyond the last whole one is not there.
    pub(super) fn blocks(&self) -> u64 {
        let bytes = self.store.as_ref().map_or(0, |store| store.bytes());
        match self.kind {
            Kind::Disk => (bytes / SECTOR).min(SECTORS_MAX),
            Kind::Cdrom => (bytes / FRAME).min(u64::from(u32::MAX)),
        }
    }

    /// The geometry of a disk before a host sets another: of 16 heads and 63 sectors, unless it was given one.
    pub(super) fn geometry(&self) -> Geometry {
        /// There are never more (ATA-3, 7.7.2).
        const CYLINDERS_MAX: u64 = 16_383;
        let cylinders = (self.blocks() / (16 * 63)).min(CYLINDERS_MAX) as u16;
        self.geometry.unwrap_or(Geometry { cylinders, heads: 16, sectors: 63 })
    }

    pub(super) fn read(&mut self, offset: u64, into: &[VolatileSlice<'_>]) -> io::Result<()> {
        self.medium()?.read_at(offset, into)
    }

    pub(super) fn write(&mut self, offset: u64, from: &[VolatileSlice<'_>]) -> io::Result<()> {
        self.medium()?.write_at(offset, from)
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.readonly { Ok(()) } else { self.medium()?.flush() }
    }

    fn medium(&mut self) -> io::Result<&mut Box<dyn BlockStore>> {
        self.store.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// A drive's buffer in the bulk state.
#[derive(Clone, Copy)]
pub(super) struct Buffer<'a> {
    pub bulk: &'a Bulk,
    pub number: u8,
}

impl<'a> Buffer<'a> {
    /// `bytes` bytes from `offset` on of a half; nothing if it does not have them.
    pub(super) fn half(self, half: u8, offset: usize, bytes: usize) -> Option<VolatileSlice<'a>> {
        let inside = offset.checked_add(bytes).is_some_and(|end| end <= HALF);
        let first = Self::place(self.number, half) as usize;
        inside.then(|| self.bulk.slice(first + offset, bytes))?
    }

    /// Where in the bulk state a half of a drive's buffer begins.
    pub(super) fn place(number: u8, half: u8) -> u32 {
        u32::from(number) * BUFFER_BYTES as u32 + u32::from(half & 1) * HALF as u32
    }

    /// The place of the command packet.
    pub(super) fn packet(self) -> Option<VolatileSlice<'a>> {
        self.bulk.slice(usize::from(self.number) * BUFFER_BYTES + PACKET, PACKET_BYTES as usize)
    }
}
