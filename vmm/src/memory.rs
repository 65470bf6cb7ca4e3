//! Guest memory: where it lies, and its place in this process.
#![allow(unsafe_code)] // mmap and munmap: nobody else can own the reservation for us.

use imc::{ReadWrite, Region};
use nix::sys::mman::{self, MapFlags, MmapAdvise, ProtFlags};
use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes,
    GuestRegionCollection, GuestRegionCollectionError, MemoryRegionAddress, VolatileSlice,
};

/// Memory that an ISA DMA controller reaches: a grant class of its own, since a device with such a power needs no more.
pub const LOW_BYTES: u64 = 16 << 20;
/// Guest addresses from here to [`HOLE_END`] are no memory: PCI windows, interrupt controllers, fixed devices.
pub const HOLE_START: u64 = 3 << 30;
/// Memory that does not fit below the hole goes on here.
pub const HOLE_END: u64 = 4 << 30;
/// Guest addresses that the processors find on the bus, although memory lies there: a PC keeps them for its display
/// (82441FX data sheet, 4.1: the compatibility area). Devices reach the memory, which nobody else does.
pub const BUS_WINDOW: Range<u64> = 0xa_0000..0xc_0000;
/// Guest addresses whose memory is shown piece by piece: it shadows what firmware has there.
pub const SHADOW: Range<u64> = 0xc_0000..0x10_0000;
/// Guest pages this large want the same alignment in both address spaces.
const HUGE_PAGE_BYTES: u64 = 2 << 20;
/// Regions are whole pages.
const PAGE_BYTES: u64 = imc::PAGE_BYTES;

/// A piece of guest memory that is backed by one region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Guest address.
    pub base: u64,
    /// Bytes.
    pub bytes: u64,
    /// It is the low grant class.
    pub low: bool,
}

/// How `memory_bytes` of guest memory are laid out, in ascending order: the low grant class, the rest below the hole,
/// and what does not fit there above it. Less than a page at the end is not given.
pub fn layout(memory_bytes: u64) -> Vec<Extent> {
    let total = memory_bytes - memory_bytes % PAGE_BYTES;
    let low = total.min(LOW_BYTES);
    let below = total.min(HOLE_START);
    let extents = [
        Extent { base: 0, bytes: low, low: true },
        Extent { base: LOW_BYTES, bytes: below - low, low: false },
        Extent { base: HOLE_END, bytes: total - below, low: false },
    ];
    extents.into_iter().filter(|extent| extent.bytes != 0).collect()
}

/// Whether `bytes` from `base` have an address in common with `range`.
pub const fn overlaps(range: &Range<u64>, base: u64, bytes: u64) -> bool {
    base < range.end && range.start < base.saturating_add(bytes)
}

/// A piece of guest memory that processors see, contiguous in both address spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Guest address.
    pub base: u64,
    /// Bytes.
    pub bytes: u64,
    /// Its first byte in this process.
    pub start: *mut u8,
}

/// What processors see of `ram` at any time, in as few pieces as can be: all but [`BUS_WINDOW`] and [`SHADOW`].
pub fn pieces(ram: &GuestRam) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for region in ram.iter() {
        let (base, end) = (region.start_addr().0, region.start_addr().0 + region.len());
        for (from, to) in [(base, end.min(BUS_WINDOW.start)), (base.max(SHADOW.end), end)] {
            if from >= to {
                continue;
            }
            let start = region.as_ptr().wrapping_add((from - base) as usize);
            let (base, bytes) = (from, to - from);
            match pieces.last_mut() {
                Some(last)
                    if last.base + last.bytes == base && last.start.wrapping_add(last.bytes as usize) == start =>
                {
                    last.bytes += bytes;
                }
                _ => pieces.push(Piece { base, bytes, start }),
            }
        }
    }
    pieces
}

/// All memory of a guest. Clones share it; it is unmapped when the last is dropped.
pub type GuestRam = GuestRegionCollection<RamRegion>;

/// Why guest memory cannot be mapped.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Not an address and size that guest memory may have.
    #[error("guest memory of {bytes:#x} bytes at {base:#x} is not whole pages below 2^63")]
    Place {
        /// Guest address.
        base: u64,
        /// Bytes.
        bytes: u64,
    },
    /// Out of order, overlapping or none.
    #[error("guest memory: {0}")]
    Collection(#[from] GuestRegionCollectionError),
    /// The kernel refused.
    #[error("guest memory of {bytes:#x} bytes at {base:#x} cannot be mapped: {why}")]
    Map {
        /// Guest address.
        base: u64,
        /// Bytes.
        bytes: u64,
        /// The kernel's answer.
        why: nix::Error,
    },
}

/// Maps `regions`, each with its guest address, in ascending order.
///
/// Regions that are adjacent in the guest are adjacent here, and addresses are the same modulo 2 MiB, so that the
/// kernel can make them one memory slot and back them by huge pages. The descriptors are closed; the mappings remain.
pub fn map(regions: Vec<(u64, Region<ReadWrite>)>) -> Result<GuestRam, MemoryError> {
    for (base, region) in &regions {
        let (base, bytes) = (*base, region.bytes());
        let end = base.checked_add(bytes).filter(|end| *end <= i64::MAX as u64);
        if end.is_none() || !base.is_multiple_of(PAGE_BYTES) || !bytes.is_multiple_of(PAGE_BYTES) {
            return Err(MemoryError::Place { base, bytes });
        }
    }
    let mut mapped = Vec::new();
    for run in regions.chunk_by(|(base, region), (next, _)| base + region.bytes() == *next) {
        let bytes = run.iter().map(|(_, region)| region.bytes()).sum();
        let area = Arc::new(Area::reserve(run[0].0, bytes)?);
        for (base, region) in run {
            mapped.push(area.place(*base, region)?);
        }
    }
    Ok(GuestRam::from_regions(mapped)?)
}

/// One region of guest memory, as vm-memory knows it.
#[derive(Debug)]
pub struct RamRegion {
    guest_base: u64,
    start: NonNull<u8>,
    bytes: u64,
    /// Keeps the memory at `start` mapped.
    _area: Arc<Area>,
}

// SAFETY: plain memory of the process, valid in each of its threads while `_area` lives.
unsafe impl Send for RamRegion {}
// SAFETY: it is accessed only through raw pointers and volatile slices, whose users expect the guest to race them.
unsafe impl Sync for RamRegion {}

impl RamRegion {
    /// Its first byte in this process; valid for [`GuestMemoryRegion::len`] bytes while the region lives.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl GuestMemoryRegion for RamRegion {
    type B = ();

    fn len(&self) -> u64 {
        self.bytes
    }

    fn start_addr(&self) -> GuestAddress {
        GuestAddress(self.guest_base)
    }

    fn bitmap(&self) {}

    fn get_host_address(&self, at: MemoryRegionAddress) -> Result<*mut u8, GuestMemoryError> {
        let at = self.check_address(at).ok_or(GuestMemoryError::InvalidBackendAddress)?;
        Ok(self.as_ptr().wrapping_add(at.0 as usize))
    }

    fn get_slice(&self, offset: MemoryRegionAddress, count: usize) -> Result<VolatileSlice<'_>, GuestMemoryError> {
        let end = offset.0.checked_add(count as u64).filter(|end| *end <= self.bytes);
        end.ok_or(GuestMemoryError::InvalidBackendAddress)?;
        // SAFETY: `count` bytes from `offset` lie in the region, which stays mapped while `self` is borrowed.
        Ok(unsafe { VolatileSlice::new(self.as_ptr().add(offset.0 as usize), count) })
    }
}

impl GuestMemoryRegionBytes for RamRegion {}

/// Addresses of this process reserved for memory that is contiguous in the guest.
#[derive(Debug)]
struct Area {
    guest_base: u64,
    start: NonNull<c_void>,
    bytes: u64,
}

// SAFETY: a reservation belongs to the whole process; the one owner unmaps it.
unsafe impl Send for Area {}
// SAFETY: shared, it only keeps the memory mapped.
unsafe impl Sync for Area {}

impl Area {
    /// Reserves `bytes` whose first address is that of `guest_base` modulo 2 MiB.
    fn reserve(guest_base: u64, bytes: u64) -> Result<Area, MemoryError> {
        let failed = |why| MemoryError::Map { base: guest_base, bytes, why };
        let whole = bytes.checked_add(HUGE_PAGE_BYTES).and_then(|whole| NonZeroUsize::new(whole as usize));
        let whole = whole.ok_or(failed(nix::Error::EOVERFLOW))?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: the kernel chooses a place where nothing is mapped, so no memory of ours is replaced.
        let all = unsafe { mman::mmap_anonymous(None, whole, ProtFlags::PROT_NONE, flags) }.map_err(failed)?;
        let first = all.as_ptr() as u64;
        let skip = (guest_base % HUGE_PAGE_BYTES + HUGE_PAGE_BYTES - first % HUGE_PAGE_BYTES) % HUGE_PAGE_BYTES;
        // SAFETY: `skip` is less than the 2 MiB by which the reservation is larger than `bytes`.
        let (start, rest) = unsafe { (all.add(skip as usize), all.add((skip + bytes) as usize)) };
        for (at, spare) in [(all, skip), (rest, HUGE_PAGE_BYTES - skip)] {
            if spare != 0 {
                // SAFETY: whole pages of the reservation made above, at its ends, which nobody knows yet.
                unsafe { mman::munmap(at, spare as usize) }.map_err(failed)?;
            }
        }
        Ok(Area { guest_base, start, bytes })
    }

    /// Maps `region` at its place in the reservation.
    fn place(self: &Arc<Area>, base: u64, region: &Region<ReadWrite>) -> Result<RamRegion, MemoryError> {
        let bytes = region.bytes();
        let failed = |why| MemoryError::Map { base, bytes, why };
        let offset = base - self.guest_base;
        assert!(offset + bytes <= self.bytes, "the reservation was made for all of the run");
        // SAFETY: the offset lies in the reservation.
        let at = unsafe { self.start.add(offset as usize) };
        let length = NonZeroUsize::new(bytes as usize).ok_or(failed(nix::Error::EINVAL))?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
        // SAFETY: what is replaced is a part of our own reservation that nothing uses.
        let start =
            unsafe { mman::mmap(NonZeroUsize::new(at.as_ptr() as usize), length, protection, flags, region, 0) };
        let start = start.map_err(failed)?;
        // A wish: kernels without huge pages in shared memory refuse it.
        // SAFETY: the mapping made above; the advice changes no byte of it.
        let _ = unsafe { mman::madvise(start, length.get(), MmapAdvise::MADV_HUGEPAGE) };
        Ok(RamRegion { guest_base: base, start: start.cast(), bytes, _area: Arc::clone(self) })
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: the reservation is ours alone, with all that is mapped in it, and its last user is gone.
        let unmapped = unsafe { mman::munmap(self.start, self.bytes as usize) };
        debug_assert!(unmapped.is_ok());
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use vm_memory::Bytes;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    /// Memory as a machine of this size has it.
    pub(crate) fn ram(bytes: u64) -> GuestRam {
        let regions = layout(bytes).into_iter();
        map(regions.map(|extent| (extent.base, Region::create("test:ram", extent.bytes).unwrap())).collect()).unwrap()
    }

    #[test]
    fn layout_covers_every_byte_and_leaves_the_hole() {
        let low = Extent { base: 0, bytes: 16 * MIB, low: true };
        let next = |bytes| Extent { base: 16 * MIB, bytes, low: false };
        let high = |bytes| Extent { base: 4 * GIB, bytes, low: false };
        assert_eq!(layout(64 * MIB), [low, next(48 * MIB)]);
        assert_eq!(layout(16 * MIB), [low]);
        assert_eq!(layout(3 * GIB), [low, next(3 * GIB - 16 * MIB)]);
        assert_eq!(layout(3 * GIB + 2 * MIB), [low, next(3 * GIB - 16 * MIB), high(2 * MIB)]);
        assert_eq!(layout(6 * GIB), [low, next(3 * GIB - 16 * MIB), high(3 * GIB)]);
        assert_eq!(layout(0), []);
    }

    #[test]
    fn extents_next_to_each_other_in_the_guest_are_next_to_each_other_here() {
        let ram = ram(6 * GIB);
        let regions: Vec<_> = ram.iter().collect();
        let [low, next, high] = regions[..] else { panic!("three regions") };
        assert_eq!(low.as_ptr() as u64 + low.len(), next.as_ptr() as u64);
        for region in [low, next, high] {
            assert_eq!(region.as_ptr() as u64 % HUGE_PAGE_BYTES, region.start_addr().0 % HUGE_PAGE_BYTES);
        }
    }

    #[test]
    fn access_across_two_regions_is_one_access() {
        let ram = ram(64 * MIB);
        ram.write_slice(&[1, 2, 3, 4], GuestAddress(LOW_BYTES - 2)).unwrap();
        assert_eq!(ram.read_obj::<u16>(GuestAddress(LOW_BYTES)).unwrap(), 0x0403);
        assert!(ram.write_slice(&[0; 2], GuestAddress(64 * MIB - 1)).is_err());
        assert!(ram.write_slice(&[0], GuestAddress(u64::MAX)).is_err());
    }

    #[test]
    fn holders_of_the_region_see_the_same_bytes() {
        let region = Region::create("test:ram", PAGE_BYTES).unwrap();
        let other = region.map().unwrap();
        let ram = map(vec![(0, region)]).unwrap();
        ram.write_obj(0xa5_u8, GuestAddress(7)).unwrap();
        // SAFETY: inside the mapping; the write above happened before in this thread.
        assert_eq!(unsafe { other.as_ptr().add(7).read_volatile() }, 0xa5);
    }

    #[test]
    fn clone_keeps_the_memory_mapped() {
        let ram = ram(MIB);
        let clone = ram.clone();
        drop(ram);
        clone.write_obj(1_u64, GuestAddress(0)).unwrap();
    }

    #[test]
    fn slice_past_the_region_is_refused() {
        let ram = ram(MIB);
        let region = ram.iter().next().unwrap();
        assert!(region.get_slice(MemoryRegionAddress(MIB - 4), 4).is_ok());
        assert!(region.get_slice(MemoryRegionAddress(MIB - 4), 5).is_err());
        assert!(region.get_slice(MemoryRegionAddress(u64::MAX), 2).is_err());
        assert!(region.get_host_address(MemoryRegionAddress(MIB)).is_err());
    }

    #[test]
    fn processors_see_all_memory_but_the_bus_window() {
        let ram = ram(6 * GIB);
        let seen: Vec<_> = pieces(&ram).iter().map(|piece| (piece.base, piece.base + piece.bytes)).collect();
        assert_eq!(seen, [(0, 0xa_0000), (MIB, 3 * GIB), (4 * GIB, 7 * GIB)]);
        let first = ram.iter().next().unwrap().as_ptr();
        for piece in &pieces(&ram)[..2] {
            assert_eq!(piece.start, first.wrapping_add(piece.base as usize));
        }
    }

    #[test]
    fn memory_that_ends_in_the_bus_window_is_seen_up_to_there() {
        for (bytes, seen) in [(0xa_0000, 0xa_0000), (0xb_0000, 0xa_0000), (0x8_0000, 0x8_0000)] {
            let ram = ram(bytes);
            let pieces = pieces(&ram);
            assert_eq!(pieces.len(), 1);
            assert_eq!((pieces[0].base, pieces[0].bytes), (0, seen));
        }
    }

    #[test]
    fn misplaced_memory_is_refused() {
        let region = || Region::create("test:ram", PAGE_BYTES).unwrap();
        assert!(matches!(map(vec![(1, region())]), Err(MemoryError::Place { .. })));
        assert!(matches!(map(vec![(u64::MAX - 4095, region())]), Err(MemoryError::Place { .. })));
        assert!(matches!(map(vec![]), Err(MemoryError::Collection(_))));
        assert!(matches!(map(vec![(PAGE_BYTES, region()), (0, region())]), Err(MemoryError::Collection(_))));
        assert!(matches!(map(vec![(0, region()), (0, region())]), Err(MemoryError::Collection(_))));
    }
}
