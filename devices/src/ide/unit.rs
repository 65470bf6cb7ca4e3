//! What is behind a drive: a medium, and a buffer.

use super::state::{BLOCK_MAX, Drive, MULTIPLE_MAX, PACKET_BYTES, Phase, Source};
use device::{BlockStore, Bulk};
use std::io;
use vm_memory::VolatileSlice;

/// Bytes of a disk's sector, and of a CD's.
pub(super) const SECTOR: u64 = 512;
pub(super) const FRAME: u64 = 2048;

/// The buffer has two halves. The next block goes into the one that the committed state does not speak of, so a process that
/// dies before it commits has spoilt nothing. The command packet has a place of its own, for the same reason.
const HALF: usize = (BLOCK_MAX as usize + 1).next_multiple_of(4096);
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

    /// Cylinders of 16 heads and 63 sectors: the geometry of a disk before a host sets another.
    pub(super) fn cylinders(&self) -> u16 {
        /// ATA/ATAPI-5, 6.2.1: there are never more.
        const CYLINDERS_MAX: u64 = 16_383;
        (self.blocks() / (16 * 63)).min(CYLINDERS_MAX) as u16
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
        let first = usize::from(self.number) * BUFFER_BYTES + usize::from(half & 1) * HALF;
        inside.then(|| self.bulk.slice(first + offset, bytes))?
    }

    /// The place of the command packet.
    pub(super) fn packet(self) -> Option<VolatileSlice<'a>> {
        self.bulk.slice(usize::from(self.number) * BUFFER_BYTES + PACKET, PACKET_BYTES as usize)
    }
}

/// One drive at work: what it remembers and what is behind it.
pub(super) struct Work<'a> {
    pub drive: &'a mut Drive,
    pub unit: &'a mut Unit,
    pub buffer: Buffer<'a>,
}

impl Work<'_> {
    /// Whether state found for this drive is one that it could have left.
    pub(super) fn is_possible(drive: &Drive, unit: Option<&Unit>) -> bool {
        let Some(phase) = Phase::of(drive.phase) else { return false };
        let flags =
            [drive.interrupt, drive.standby, drive.uncached, drive.half, drive.open, drive.locked, drive.packet];
        let sound = flags.iter().all(|flag| *flag <= 1)
            && drive.source <= Source::Answer as u8
            && drive.unused == [0; 6]
            && drive.event <= super::sense::EVENT_MAX
            && (drive.multiple == 0 || drive.multiple.is_power_of_two() && drive.multiple <= MULTIPLE_MAX)
            && drive.heads <= 16;
        let Some(unit) = unit else { return sound && phase == Phase::Idle && drive.interrupt == 0 };
        // The host moves data exactly while it is told so.
        let moving = !matches!(phase, Phase::Idle | Phase::Flush);
        let told = (drive.status & super::state::REQUEST != 0) == moving
            && (drive.status & super::state::BUSY != 0) == (phase == Phase::Flush);
        let room = drive.at <= drive.end && drive.end <= BLOCK_MAX && drive.limit <= BLOCK_MAX;
        let whole = match drive.source() {
            Source::Answer => HALF as u64,
            Source::Medium => unit.store.as_ref().map_or(0, |store| store.bytes()),
        };
        let left = drive.offset.checked_add(u64::from(drive.left)).is_some_and(|end| end <= whole);
        let writes = matches!(phase, Phase::Out | Phase::DmaOut);
        let kind = match phase {
            Phase::Packet => unit.kind == Kind::Cdrom && drive.end == PACKET_BYTES && drive.at < drive.end,
            Phase::In => drive.at < drive.end && drive.limit > 0,
            Phase::Out => {
                let block = drive.offset.checked_add(u64::from(drive.end) + u64::from(drive.left));
                drive.at < drive.end && drive.limit > 0 && block.is_some_and(|end| end <= whole)
            }
            Phase::Idle | Phase::DmaIn | Phase::DmaOut | Phase::Flush => true,
        };
        sound
            && told
            && room
            && kind
            && (left || !moving || phase == Phase::Packet)
            && (!writes || drive.source() == Source::Medium && !unit.readonly)
    }
}
