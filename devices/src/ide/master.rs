//! The bus master: moves a drive's data to and from guest memory.
//!
//! Source: *Programming Interface for Bus Master IDE Controller*, revision 1.0; Intel 82371FB/82371SB (PIIX, PIIX3) data
//! sheet, "Bus Master IDE" registers.

use super::channel::Cable;
use super::state::{Channel, Cursor, Phase};
use super::unit::SECTOR;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress, VolatileSlice};

/// Bytes of the registers of one channel.
pub(super) const BLOCK: u64 = 8;
pub(super) const COMMAND: u64 = 0;
pub(super) const STATUS: u64 = 2;
pub(super) const TABLE: u64 = 4;

/// Bits of the command register (2.1 of the programming interface). Which way data go the drive's command says; the bit is kept.
pub(super) const START: u8 = 0x01;
const COMMAND_BITS: u8 = 0x09;
/// Bits of the status register (2.2).
const ACTIVE: u8 = 0x01;
const ERROR: u8 = 0x02;
const INTERRUPT: u8 = 0x04;
const CAPABLE: u8 = 0x60;

/// Bytes of a descriptor, and its bit that says that it is the last (1.2).
const DESCRIPTOR_BYTES: usize = 8;
const LAST: u8 = 0x80;

/// Most bytes that one call moves, and most pieces of memory: what is left waits for the next look. A request of a driver is
/// seldom larger, and takes less than a millisecond.
const BYTES_PER_CALL: u32 = 1 << 20;
const PIECES_PER_CALL: usize = 4096;
/// Pieces that go to the medium at once: as many as a sector may be made of, each of them two bytes or more.
const PIECES: usize = SECTOR as usize / 2;

impl Cable<'_> {
    /// Whether the bus master moves nothing, and would move nothing.
    pub(super) fn is_at_rest(state: &Channel) -> bool {
        state.master.status & ACTIVE == 0
    }

    /// Whether drive and bus master both are in the middle of a transfer.
    pub(super) fn can_transfer(state: &Channel) -> bool {
        let drive = state.drives.get(usize::from(state.selected));
        let moving = drive.is_some_and(|drive| matches!(drive.phase(), Phase::DmaIn | Phase::DmaOut));
        moving && state.master.status & ACTIVE != 0
    }

    /// A load of one byte.
    pub(super) fn read_master(&self, offset: u64) -> u8 {
        let master = &self.state.master;
        match offset {
            COMMAND => master.command,
            STATUS => master.status,
            TABLE.. => (master.table >> (8 * (offset - TABLE).min(3))) as u8,
            _ => 0,
        }
    }

    /// A store of one byte.
    pub(super) fn write_master(&mut self, offset: u64, value: u8) {
        let master = &mut self.state.master;
        match offset {
            COMMAND => {
                let started = value & !master.command & START != 0;
                master.command = value & COMMAND_BITS;
                if value & START == 0 {
                    master.status &= !ACTIVE;
                } else if started {
                    master.status |= ACTIVE;
                    master.cursor = Cursor { next: master.table, address: 0, left: 0, last: 0, unused: [0; 3] };
                    self.transfer();
                }
            }
            // Error and interrupt are cleared by writing ones.
            STATUS => master.status = master.status & !CAPABLE & !(value & (ERROR | INTERRUPT)) | value & CAPABLE,
            TABLE.. => {
                let shift = 8 * (offset - TABLE).min(3);
                // Descriptors are aligned to words of four bytes.
                master.table = (master.table & !(0xff << shift) | u32::from(value) << shift) & !3;
            }
            _ => {}
        }
    }

    /// Moves what can be moved now, up to a bound. Moving the same again is harmless: neither the drive's place nor the bus
    /// master's changes before the commit. A sector is written whole, or not at all.
    pub(super) fn transfer(&mut self) {
        let (mut bytes_left, mut pieces_left) = (BYTES_PER_CALL, PIECES_PER_CALL);
        while Self::can_transfer(self.state) && bytes_left > 0 && pieces_left >= PIECES {
            let mut cursor = self.state.master.cursor;
            let memory = self.memory;
            let Some(mut work) = self.selected() else { return };
            let (mut pieces, ended) = Pieces::gather(&mut cursor, memory, work.drive.left.min(bytes_left));
            if work.drive.phase() == Phase::DmaOut {
                pieces.give_back(pieces.bytes % SECTOR as u32, &mut cursor);
            }
            let Pieces { count, bytes, .. } = pieces;
            if bytes > 0 {
                let done = !work.move_dma(&pieces.slices[..count], bytes) || work.drive.left == 0;
                self.state.master.cursor = cursor;
                bytes_left -= bytes;
                pieces_left -= count;
                // With the last region full it is done; with room left it waits to be stopped.
                if done && cursor.left == 0 && cursor.last == 1 {
                    self.state.master.status &= !ACTIVE;
                }
            } else if let Some(ended) = ended {
                self.state.master.status &= !ACTIVE;
                self.state.master.status |= if ended == Ended::Outside { ERROR } else { 0 };
            } else {
                // Nothing was wanted: a drive without data to move is no honest one's.
                work.finish();
            }
        }
    }

    /// Brings the interrupt line up to date; its rise is kept in the bus master's status.
    pub(super) fn settle_line(&mut self) {
        let level = Self::level(self.state);
        let master = &mut self.state.master;
        if level && master.line == 0 {
            master.status |= INTERRUPT;
        }
        master.line = u8::from(level);
    }

    /// Whether state found for a channel's bus master and selection is one that it could have left.
    pub(super) fn is_possible(state: &Channel) -> bool {
        let master = &state.master;
        usize::from(state.selected) < state.drives.len()
            && state.unused == [0; 6]
            && master.unused == 0
            && master.cursor.unused == [0; 3]
            && master.cursor.last <= 1
            && master.table.is_multiple_of(4)
            && master.command & !COMMAND_BITS == 0
            && master.status & !(ACTIVE | ERROR | INTERRUPT | CAPABLE) == 0
            && master.line == u8::from(Self::level(state))
    }
}

/// Pieces of memory that follow one another in a table, and where in it each begins.
struct Pieces<'m> {
    slices: [VolatileSlice<'m>; PIECES],
    starts: [Cursor; PIECES],
    count: usize,
    /// Of all of them.
    bytes: u32,
}

impl<'m> Pieces<'m> {
    /// Up to `wanted` bytes from `cursor` on; and why there are no more, if the table says so.
    fn gather(
        cursor: &mut Cursor,
        memory: &'m vm_memory::GuestMemoryMmap<()>,
        wanted: u32,
    ) -> (Pieces<'m>, Option<Ended>) {
        let nothing = VolatileSlice::from(&mut [][..]);
        let mut pieces = Pieces { slices: [nothing; PIECES], starts: [*cursor; PIECES], count: 0, bytes: 0 };
        while pieces.bytes < wanted && pieces.count < PIECES {
            pieces.starts[pieces.count] = *cursor;
            match cursor.piece(memory, wanted - pieces.bytes) {
                Ok(piece) => {
                    pieces.slices[pieces.count] = piece;
                    pieces.count += 1;
                    pieces.bytes += piece.len() as u32;
                }
                Err(ended) => return (pieces, Some(ended)),
            }
        }
        (pieces, None)
    }

    /// Gives the last `surplus` bytes back to the table.
    fn give_back(&mut self, mut surplus: u32, cursor: &mut Cursor) {
        self.bytes -= surplus;
        while surplus > 0 && self.count > 0 {
            let last = self.slices[self.count - 1];
            let length = last.len() as u32;
            if let Ok(kept) = last.subslice(0, length.saturating_sub(surplus) as usize)
                && !kept.is_empty()
            {
                self.slices[self.count - 1] = kept;
                *cursor = cursor.back(surplus);
                return;
            }
            self.count -= 1;
            surplus = surplus.saturating_sub(length);
            *cursor = self.starts[self.count];
        }
    }
}

/// Why there is no more memory to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The table is at its end.
    Exhausted,
    /// A descriptor, or what it describes, is not in memory.
    Outside,
}

impl Cursor {
    /// The next piece, of at most `most` bytes, none of them beyond the end of a region of memory.
    fn piece<'m>(&mut self, memory: &'m vm_memory::GuestMemoryMmap<()>, most: u32) -> Result<VolatileSlice<'m>, Ended> {
        if self.left == 0 {
            self.fetch(memory)?;
        }
        let address = GuestAddress(self.address.into());
        let region = memory.find_region(address).ok_or(Ended::Outside)?;
        let start = address.0 - region.start_addr().0;
        let bytes = u64::from(self.left.min(most)).min(region.len() - start);
        let piece = region.get_slice(MemoryRegionAddress(start), bytes as usize).map_err(|_| Ended::Outside)?;
        self.address = self.address.wrapping_add(bytes as u32);
        self.left -= bytes as u32;
        Ok(piece)
    }

    /// So many bytes before this one, within the same region.
    fn back(self, bytes: u32) -> Cursor {
        Cursor { address: self.address.wrapping_sub(bytes), left: self.left + bytes, ..self }
    }

    /// Takes the next descriptor.
    fn fetch(&mut self, memory: &vm_memory::GuestMemoryMmap<()>) -> Result<(), Ended> {
        if self.last == 1 {
            return Err(Ended::Exhausted);
        }
        let mut descriptor = [0; DESCRIPTOR_BYTES];
        memory.read_slice(&mut descriptor, GuestAddress(self.next.into())).map_err(|_| Ended::Outside)?;
        let [a, b, c, d, low, high, _, flags] = descriptor;
        // Regions are made of words of two bytes; a count of 0 is 64 KiB.
        self.address = u32::from_le_bytes([a, b, c, d]) & !1;
        let bytes = u32::from(u16::from_le_bytes([low, high]) & !1);
        self.left = if bytes == 0 { 0x1_0000 } else { bytes };
        self.last = u8::from(flags & LAST != 0);
        self.next = self.next.wrapping_add(DESCRIPTOR_BYTES as u32);
        Ok(())
    }
}
