//! The buffers of one request.

use super::{Broken, QUEUE_SIZE_MAX};
use crate::{GuestMemory, Plain};

/// Most buffers in a chain: a driver may not use more descriptors than the largest queue has (2.7.5.3.1).
pub const SEGMENTS_MAX: usize = QUEUE_SIZE_MAX as usize;

/// Most descriptors of an indirect table: its entries are named by 16 bits.
const TABLE_MAX: u32 = u16::MAX as u32;
/// No chain may describe more than 2^32 bytes (2.7.5).
const CHAIN_BYTES_MAX: u64 = u32::MAX as u64;

/// Flags of a descriptor (2.7.5).
pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;
pub(super) const INDIRECT: u16 = 4;

crate::state! {
    /// A descriptor (2.7.5).
    pub(super) struct Descriptor {
        pub(super) address: u64,
        pub(super) length: u32,
        pub(super) flags: u16,
        pub(super) next: u16,
    }
}

/// Bytes of a descriptor.
pub(super) const DESCRIPTOR_BYTES: u32 = <Descriptor as Plain>::BYTES as u32;

/// Bytes of guest memory, scattered over buffers. Where one ends and the next begins means nothing (2.7.4.1). All of them were in
/// guest memory when they were checked; their content may change at any time.
pub struct Buffers<'a> {
    memory: &'a GuestMemory,
    segments: Vec<(u64, u32)>,
}

/// A request: what the device may read, then what it may write.
pub struct Chain<'a> {
    /// What the device may read.
    pub readable: Buffers<'a>,
    /// What it may write.
    pub writable: Buffers<'a>,
}

impl<'a> Buffers<'a> {
    /// How many bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|(_, length)| u64::from(*length)).sum()
    }

    /// The first `at` bytes, or all if there are fewer, and the rest.
    #[must_use]
    pub fn split_at(&self, at: u64) -> (Buffers<'a>, Buffers<'a>) {
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        let mut left = at;
        for (address, length) in &self.segments {
            let part = left.min(u64::from(*length)) as u32;
            left -= u64::from(part);
            if part > 0 {
                first.push((*address, part));
            }
            if part < *length {
                rest.push((*address + u64::from(part), length - part));
            }
        }
        (Buffers { memory: self.memory, segments: first }, Buffers { memory: self.memory, segments: rest })
    }

    /// Copies the first bytes, as many as there are; gives how many.
    pub fn read(&self, into: &mut [u8]) -> usize {
        let mut done = 0;
        for (address, length) in self.split_at(into.len() as u64).0.segments {
            let piece = &mut into[done..done + length as usize];
            // Granted memory does not go away: it was there when it was checked.
            if self.memory.read(address, piece).is_err() {
                break;
            }
            done += piece.len();
        }
        done
    }

    /// Copies `from` over the first bytes, as many as there are; gives how many.
    pub fn write(&self, from: &[u8]) -> usize {
        let mut done = 0;
        for (address, length) in self.split_at(from.len() as u64).0.segments {
            let piece = &from[done..done + length as usize];
            // As above.
            if self.memory.write(address, piece).is_err() {
                break;
            }
            done += piece.len();
        }
        done
    }
}

impl<'a> Chain<'a> {
    /// Follows the descriptors of a chain, reads each once, and checks them.
    pub(super) fn collect(memory: &'a GuestMemory, table: u64, size: u16, head: u16) -> Result<Chain<'a>, Broken> {
        let none = || Buffers { memory, segments: Vec::new() };
        let mut chain = Chain { readable: none(), writable: none() };
        let (mut table, mut size, mut index) = (table, u32::from(size), u32::from(head));
        let (mut left, mut total, mut indirect) = (size, 0, false);
        loop {
            if left == 0 || index >= size {
                return Err(Broken::Endless);
            }
            let Descriptor { address, length, flags, next } =
                descriptor(memory, table, index).ok_or(Broken::Endless)?;
            if flags & INDIRECT != 0 {
                // A table in a table, or one that is not made of descriptors, is followed nowhere.
                let entries = length / DESCRIPTOR_BYTES;
                if indirect || !length.is_multiple_of(DESCRIPTOR_BYTES) || entries > TABLE_MAX {
                    return Err(Broken::Endless);
                }
                (table, size, index, left, indirect) = (address, entries, 0, entries, true);
                continue;
            }
            total += u64::from(length);
            if total > CHAIN_BYTES_MAX {
                return Err(Broken::Endless);
            }
            if chain.readable.segments.len() + chain.writable.segments.len() == SEGMENTS_MAX {
                return Err(Broken::Long);
            }
            let writable = flags & WRITE != 0;
            if !writable && !chain.writable.segments.is_empty() {
                return Err(Broken::Order);
            }
            if !memory.contains(address, length.into()) {
                return Err(Broken::Outside);
            }
            let buffers = if writable { &mut chain.writable } else { &mut chain.readable };
            buffers.segments.push((address, length));
            if flags & NEXT == 0 {
                return Ok(chain);
            }
            (index, left) = (next.into(), left - 1);
        }
    }
}

/// A copy of a descriptor of a table.
fn descriptor(memory: &GuestMemory, table: u64, index: u32) -> Option<Descriptor> {
    let mut bytes = [0; DESCRIPTOR_BYTES as usize];
    let at = table.checked_add(u64::from(index) * u64::from(DESCRIPTOR_BYTES))?;
    memory.read(at, &mut bytes).ok()?;
    Some(Descriptor::load(&bytes))
}
