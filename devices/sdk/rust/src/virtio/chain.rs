//! The buffers of one request.

use super::{Broken, QUEUE_SIZE_MAX};
use crate::GuestMemory;
use std::io;
use virtio_queue::DescriptorChain;
use vm_memory::{Bytes, GuestAddress, GuestMemory as _, Permissions, VolatileSlice};

/// Most buffers in a chain: a driver may not use more descriptors than the largest queue has (2.7.5.3.1).
pub const SEGMENTS_MAX: usize = QUEUE_SIZE_MAX as usize;

/// Slices handed over at once by [`Buffers::in_batches`]: as many as one vectored system call can take from the stack.
const BATCH: usize = 64;

/// A request: what the device may read, then what it may write. All of it was in guest memory when it was checked, and
/// guest memory does not go away; its bytes may change at any time.
#[derive(Clone, Copy)]
pub struct Chain<'a> {
    /// Buffers to read.
    pub readable: Buffers<'a>,
    /// Buffers to write.
    pub writable: Buffers<'a>,
}

/// Bytes of guest memory, scattered over buffers. Where one buffer ends and the next begins means nothing (2.7.4.1).
#[derive(Clone, Copy)]
pub struct Buffers<'a> {
    memory: &'a GuestMemory,
    segments: &'a [Segment],
    /// Bytes of the first segments that are left out.
    skip: u64,
    bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    address: GuestAddress,
    bytes: u32,
}

/// Room for the buffers of one chain, taken once: a sealed process may not be able to have more memory.
pub(super) struct Segments {
    all: Vec<Segment>,
    /// How many come first and are readable.
    readable: usize,
}

impl Segments {
    pub(super) fn new() -> Segments {
        Segments { all: Vec::with_capacity(SEGMENTS_MAX), readable: 0 }
    }

    /// Reads the descriptors of `chain`, each once, and checks them.
    pub(super) fn collect(&mut self, chain: DescriptorChain<&GuestMemory>) -> Result<(), Broken> {
        self.all.clear();
        self.readable = 0;
        let memory = chain.memory();
        // The library ends a broken chain as it ends a good one; but what it gave last then wants a next one.
        let mut ended = false;
        for descriptor in chain.clone() {
            if self.all.len() == SEGMENTS_MAX {
                return Err(Broken::Long);
            }
            if !descriptor.is_write_only() {
                if self.readable != self.all.len() {
                    return Err(Broken::Order);
                }
                self.readable += 1;
            }
            let segment = Segment { address: descriptor.addr(), bytes: descriptor.len() };
            if segment.bytes != 0
                && !memory.check_range(segment.address, segment.bytes as usize, Permissions::ReadWrite)
            {
                return Err(Broken::Outside);
            }
            self.all.push(segment);
            ended = !descriptor.has_next();
        }
        if ended { Ok(()) } else { Err(Broken::Endless) }
    }

    /// The chain that was collected last.
    pub(super) fn chain<'a>(&'a self, memory: &'a GuestMemory) -> Chain<'a> {
        let (readable, writable) = self.all.split_at(self.readable);
        Chain { readable: Buffers::new(memory, readable), writable: Buffers::new(memory, writable) }
    }
}

impl<'a> Buffers<'a> {
    fn new(memory: &'a GuestMemory, segments: &'a [Segment]) -> Buffers<'a> {
        let bytes = segments.iter().map(|segment| u64::from(segment.bytes)).sum();
        Buffers { memory, segments, skip: 0, bytes }
    }

    /// How many bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The first `at` bytes, or all if there are fewer, and the rest.
    #[must_use]
    pub fn split_at(self, at: u64) -> (Buffers<'a>, Buffers<'a>) {
        let at = at.min(self.bytes);
        (Buffers { bytes: at, ..self }, Buffers { skip: self.skip + at, bytes: self.bytes - at, ..self })
    }

    /// Copies the first bytes into `into`, as many as there are; gives how many.
    pub fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        self.split_at(into.len() as u64).0.each(|slice| {
            done += slice.copy_to(&mut into[done..]);
            Ok(())
        })?;
        Ok(done)
    }

    /// Copies `from` over the first bytes, as many as there are; gives how many.
    pub fn write(&self, from: &[u8]) -> io::Result<usize> {
        let mut done = 0;
        self.split_at(from.len() as u64).0.each(|slice| {
            let bytes = slice.len();
            slice.copy_from(&from[done..done + bytes]);
            done += bytes;
            Ok(())
        })?;
        Ok(done)
    }

    /// Where byte `at` is, if there is one.
    #[must_use]
    pub fn address(&self, at: u64) -> Option<GuestAddress> {
        let mut rest = self.skip + Some(at).filter(|at| *at < self.bytes)?;
        for segment in self.segments {
            if rest < u64::from(segment.bytes) {
                return Some(GuestAddress(segment.address.0 + rest));
            }
            rest -= u64::from(segment.bytes);
        }
        None
    }

    /// Changes a byte of guest memory whose [address](Buffers::address) an earlier chain of the same request gave.
    pub fn change(&self, address: GuestAddress, byte: u8) -> io::Result<()> {
        self.memory.write_obj(byte, address).map_err(io::Error::other)
    }

    /// Hands over the bytes in order as pieces of memory, one at a time.
    pub fn each(&self, mut act: impl FnMut(VolatileSlice<'a>) -> io::Result<()>) -> io::Result<()> {
        let (mut skip, mut left) = (self.skip, self.bytes);
        for segment in self.segments {
            let bytes = u64::from(segment.bytes);
            if skip >= bytes {
                skip -= bytes;
                continue;
            }
            let take = (bytes - skip).min(left);
            if take == 0 {
                break;
            }
            // Where regions of memory meet, one buffer is several slices.
            let start = GuestAddress(segment.address.0 + skip);
            let slices = self.memory.get_slices(start, take as usize, Permissions::ReadWrite);
            for slice in slices.map_err(io::Error::other)? {
                act(slice.map_err(io::Error::other)?)?;
            }
            left -= take;
            skip = 0;
        }
        Ok(())
    }

    /// Hands over the bytes in order as pieces of memory, many at a time, with the offset of the first.
    pub fn in_batches(&self, mut act: impl FnMut(u64, &[VolatileSlice<'a>]) -> io::Result<()>) -> io::Result<()> {
        let mut batch: [VolatileSlice<'a>; BATCH] = [VolatileSlice::from(&mut [][..]); BATCH];
        let (mut count, mut start, mut bytes) = (0, 0, 0);
        self.each(|slice| {
            batch[count] = slice;
            count += 1;
            bytes += slice.len() as u64;
            if count == BATCH {
                act(start, &batch)?;
                (count, start) = (0, bytes);
            }
            Ok(())
        })?;
        if count == 0 { Ok(()) } else { act(start, &batch[..count]) }
    }
}
