//! Shared memory of fixed size.
#![allow(unsafe_code)] // mmap and munmap: nobody else can own a mapping for us.

use crate::Fault;
use crate::capability::{Capability, FromVerified, Verified, access_mode, claim};
use nix::errno::Errno;
use nix::fcntl::{self, FallocateFlags, FcntlArg, OFlag, SealFlag};
use nix::sys::memfd::{self, MFdFlags};
use nix::sys::mman::{self, MapFlags, ProtFlags};
use nix::sys::stat::{self, Mode};
use nix::unistd;
use schema::{Handle, Kind};
use std::ffi::{CString, c_void};
use std::io;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

/// Regions are whole pages, so that a mapping of one never shows bytes that belong to nobody.
pub const PAGE_BYTES: u64 = 4096;

/// `MFD_NOEXEC_SEAL` (Linux 6.3): the memory can never be made executable by way of its descriptor.
const MFD_NOEXEC_SEAL: MFdFlags = MFdFlags::from_bits_retain(0x8);

/// The seals that every region has: its size can change no more, and its seals neither.
const SIZE_SEALS: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SEAL);

/// What a holder may do with a region; one of [`ReadWrite`], [`ReadOnly`] and [`Frozen`].
pub trait Rights: sealed::Sealed + Send + Sync + 'static {
    /// Whether a mapping may be stored to.
    const WRITABLE: bool;
    /// The rights as a message claims them.
    const CLAIM: schema::Rights;
}

mod sealed {
    pub trait Sealed {}
}

/// Load and store.
pub struct ReadWrite;
/// Load; somebody else may store.
///
/// The promise is about this *open description*: it was opened for reading, and the memfd's mode forbids opening it anew
/// for more. Other holders may well write.
pub struct ReadOnly;
/// Load, and the bytes never change again.
///
/// The promise is about the *memory*: a seal binds every holder.
pub struct Frozen;

impl sealed::Sealed for ReadWrite {}
impl sealed::Sealed for ReadOnly {}
impl sealed::Sealed for Frozen {}

impl Rights for ReadWrite {
    const WRITABLE: bool = true;
    const CLAIM: schema::Rights = schema::Rights::READ.and(schema::Rights::WRITE).and(schema::Rights::MAP);
}
impl Rights for ReadOnly {
    const WRITABLE: bool = false;
    const CLAIM: schema::Rights = schema::Rights::READ.and(schema::Rights::MAP);
}
impl Rights for Frozen {
    const WRITABLE: bool = false;
    const CLAIM: schema::Rights = schema::Rights::READ.and(schema::Rights::MAP).and(schema::Rights::FROZEN);
}

/// Shared memory: a memfd whose size is sealed before anybody else sees it, so that no holder can shrink it under another.
pub struct Region<R: Rights> {
    descriptor: OwnedFd,
    bytes: u64,
    rights: PhantomData<R>,
}

impl Region<ReadWrite> {
    /// Makes a region of `bytes`, rounded up to whole pages, that reads as zeros. `name` is what `/proc` shows.
    pub fn create(name: &str, bytes: u64) -> io::Result<Self> {
        let bytes = bytes.checked_next_multiple_of(PAGE_BYTES).filter(|bytes| *bytes != 0 && *bytes <= i64::MAX as u64);
        let bytes = bytes.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a region must have a size"))?;
        let descriptor = memory(name)?;
        unistd::ftruncate(&descriptor, bytes as i64)?;
        // Who holds a read-only open must not get more by opening the file anew through /proc.
        stat::fchmod(&descriptor, Mode::S_IRUSR)?;
        fcntl::fcntl(&descriptor, FcntlArg::F_ADD_SEALS(SIZE_SEALS))?;
        Ok(Self::new(descriptor, bytes))
    }

    /// Has all of it read as zeros again, whoever maps it.
    pub fn clear(&self) -> io::Result<()> {
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        Ok(fcntl::fallocate(&self.descriptor, hole, 0, self.bytes as i64)?)
    }

    /// The same memory with less power: a fresh open for reading. There is no way back.
    ///
    /// Needs `/proc`; only the supervisor, which has it, weakens regions.
    pub fn read_only(&self) -> io::Result<Region<ReadOnly>> {
        Ok(Region::new(reopen_read_only(self.descriptor.as_fd())?, self.bytes))
    }
}

impl Region<Frozen> {
    /// Makes a region that holds `content`, which nobody can change any more, followed by zeros up to a whole page.
    pub fn freeze(name: &str, content: &[u8]) -> io::Result<Self> {
        let length = (content.len() as u64).max(1).next_multiple_of(PAGE_BYTES);
        let descriptor = memory(name)?;
        unistd::ftruncate(&descriptor, length as i64)?;
        let mut rest = content;
        while !rest.is_empty() {
            let written = unistd::write(&descriptor, rest)?;
            rest = &rest[written..];
        }
        stat::fchmod(&descriptor, Mode::S_IRUSR)?;
        fcntl::fcntl(&descriptor, FcntlArg::F_ADD_SEALS(SIZE_SEALS.union(SealFlag::F_SEAL_WRITE)))?;
        // Kernels before 6.7 refuse a shared mapping of a write-sealed memfd that is open for writing.
        Ok(Region::new(reopen_read_only(descriptor.as_fd())?, length))
    }
}

impl<R: Rights> Region<R> {
    /// Size in bytes: whole pages.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Maps all of it, with the protection that the rights allow.
    pub fn map(&self) -> io::Result<Mapping> {
        let length = usize::try_from(self.bytes).ok().and_then(NonZeroUsize::new).ok_or(Errno::EOVERFLOW)?;
        let protection = if R::WRITABLE { ProtFlags::PROT_READ | ProtFlags::PROT_WRITE } else { ProtFlags::PROT_READ };
        // SAFETY: the kernel chooses a place where nothing is mapped, so no memory of ours is replaced.
        let start = unsafe { mman::mmap(None, length, protection, MapFlags::MAP_SHARED, &self.descriptor, 0)? };
        Ok(Mapping { start: start.cast(), length: length.get(), writable: R::WRITABLE })
    }

    /// A second descriptor of the same open description, with the same rights.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self::new(self.descriptor.try_clone()?, self.bytes))
    }

    fn new(descriptor: OwnedFd, bytes: u64) -> Self {
        Region { descriptor, bytes, rights: PhantomData }
    }
}

impl<R: Rights> AsFd for Region<R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl<R: Rights> From<Region<R>> for OwnedFd {
    fn from(region: Region<R>) -> OwnedFd {
        region.descriptor
    }
}

impl<R: Rights> Capability for Region<R> {
    fn handle(&self, slot: u8) -> Handle {
        Handle { slot, kind: Kind::Region, rights: R::CLAIM, size: self.bytes() }
    }
    fn accepts(claimed: &Handle) -> Result<(), Fault> {
        claim(claimed, Kind::Region, R::CLAIM)
    }
}

impl<R: Rights> FromVerified for Region<R> {
    fn check(descriptor: BorrowedFd<'_>, claimed: &Handle) -> Result<(), Fault> {
        check(descriptor, claimed).map(drop)
    }
    fn from_verified(descriptor: OwnedFd, verified: Verified<'_>) -> Result<Self, Fault> {
        Ok(Region::new(descriptor, verified.0.size))
    }
}

/// The identity of a region's memory: device and inode, as the kernel numbers them.
pub(crate) type Memory = (u64, u64);

/// A memfd whose size is sealed and as claimed, and which can do exactly what is claimed.
pub(crate) fn check(descriptor: BorrowedFd<'_>, claimed: &Handle) -> Result<Memory, Fault> {
    // Only memfds have seals; asking also excludes files whose page faults somebody else could stall.
    let seals = fcntl::fcntl(descriptor, FcntlArg::F_GET_SEALS)
        .map_err(|_| Fault::HandleObject("it is not a memfd"))
        .map(SealFlag::from_bits_retain)?;
    if !seals.contains(SIZE_SEALS) {
        return Err(Fault::HandleObject("its size is not sealed"));
    }
    let status = stat::fstat(descriptor)?;
    if claimed.size == 0 || u64::try_from(status.st_size) != Ok(claimed.size) {
        return Err(Fault::HandleObject("it has another size"));
    }
    let mode = access_mode(descriptor)?;
    let write_sealed = seals.contains(SealFlag::F_SEAL_WRITE);
    let fits = match claimed.rights {
        ReadWrite::CLAIM => {
            mode == OFlag::O_RDWR && !seals.intersects(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_FUTURE_WRITE)
        }
        ReadOnly::CLAIM => {
            mode == OFlag::O_RDONLY || (mode == OFlag::O_RDWR && seals.contains(SealFlag::F_SEAL_FUTURE_WRITE))
        }
        Frozen::CLAIM => write_sealed && mode != OFlag::O_WRONLY,
        _ => false,
    };
    if fits { Ok((status.st_dev, status.st_ino)) } else { Err(Fault::HandleRights) }
}

/// A region in this process's address space, until dropped. The region's descriptor may be closed meanwhile.
///
/// Other processes load and store here at any time, so no reference into it is ever made: its memory is touched through
/// the raw pointer alone, by atomic and volatile operations, and what is read is copied before it is checked.
pub struct Mapping {
    start: NonNull<u8>,
    length: usize,
    writable: bool,
}

// SAFETY: a mapping is plain memory of the process, valid in each of its threads until the one owner drops it.
unsafe impl Send for Mapping {}
// SAFETY: through a shared `Mapping` one gets only a raw pointer; each use of it answers for its own synchronisation.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Private memory of this process, whole pages that read as zeros.
    pub fn anonymous(bytes: u64) -> io::Result<Mapping> {
        let bytes = bytes.next_multiple_of(PAGE_BYTES);
        let length = usize::try_from(bytes).ok().and_then(NonZeroUsize::new).ok_or(Errno::EOVERFLOW)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses a place where nothing is mapped, so no memory of ours is replaced.
        let start = unsafe { mman::mmap_anonymous(None, length, protection, MapFlags::MAP_PRIVATE)? };
        Ok(Mapping { start: start.cast(), length: length.get(), writable: true })
    }

    /// The first byte. Page aligned; valid for [`Mapping::len`] bytes as long as `self` lives; storing needs
    /// [`Mapping::writable`].
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Bytes mapped; never zero.
    #[allow(clippy::len_without_is_empty)] // An empty mapping does not exist.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it may be stored to.
    pub fn writable(&self) -> bool {
        self.writable
    }

    /// Copies bytes out, from `offset` on. Each is loaded once; another process may change them meanwhile, so what was
    /// copied may be a mixture of old and new: check the copy.
    ///
    /// # Panics
    /// When they are not all within the mapping.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        assert!(offset.checked_add(into.len()).is_some_and(|end| end <= self.length));
        // SAFETY: within the mapping, as was asserted.
        let mut from = unsafe { self.start.as_ptr().add(offset) };
        // Bytes up to a word of the mapping, words, and the bytes that are left.
        let (head, rest) = into.split_at_mut(from.align_offset(WORD).min(into.len()));
        let (words, tail) = rest.as_chunks_mut::<WORD>();
        for byte in head {
            // SAFETY: `from` has come as far as bytes of `into` were filled, so what it points to lies within the mapping.
            // Volatile, for another process may be storing there.
            *byte = unsafe { from.read_volatile() };
            from = from.wrapping_add(1);
        }
        for word in words {
            // SAFETY: as above, for eight bytes; the head has ended at a word.
            *word = unsafe { from.cast::<u64>().read_volatile() }.to_ne_bytes();
            from = from.wrapping_add(WORD);
        }
        for byte in tail {
            // SAFETY: as above.
            *byte = unsafe { from.read_volatile() };
            from = from.wrapping_add(1);
        }
    }

    /// Copies bytes in, from `offset` on. When others see them is for an atomic to say, such as an
    /// [`EventCount`](crate::EventCount).
    ///
    /// # Panics
    /// When they are not all within the mapping, or it may not be stored to.
    pub fn write(&self, offset: usize, from: &[u8]) {
        assert!(self.writable && offset.checked_add(from.len()).is_some_and(|end| end <= self.length));
        // SAFETY: within the mapping, as was asserted.
        let mut to = unsafe { self.start.as_ptr().add(offset) };
        let (head, rest) = from.split_at(to.align_offset(WORD).min(from.len()));
        let (words, tail) = rest.as_chunks::<WORD>();
        for byte in head {
            // SAFETY: `to` has come as far as bytes of `from` were taken, so what it points to lies within the mapping, which
            // may be stored to.
            unsafe { to.write_volatile(*byte) };
            to = to.wrapping_add(1);
        }
        for word in words {
            // SAFETY: as above, for eight bytes; the head has ended at a word.
            unsafe { to.cast::<u64>().write_volatile(u64::from_ne_bytes(*word)) };
            to = to.wrapping_add(WORD);
        }
        for byte in tail {
            // SAFETY: as above.
            unsafe { to.write_volatile(*byte) };
            to = to.wrapping_add(1);
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: start and length are those of one mmap that only this value owns.
        let unmapped = unsafe { mman::munmap(self.start.cast::<c_void>(), self.length) };
        debug_assert!(unmapped.is_ok());
    }
}

/// Bytes that are copied at once.
const WORD: usize = size_of::<u64>();

/// An empty memfd that may be sealed.
fn memory(name: &str) -> io::Result<OwnedFd> {
    let name = CString::new(name)?;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    match memfd::memfd_create(name.as_c_str(), flags | MFD_NOEXEC_SEAL) {
        Err(Errno::EINVAL) => Ok(memfd::memfd_create(name.as_c_str(), flags)?),
        made => Ok(made?),
    }
}

/// A fresh open for reading of what this descriptor is open to.
pub(crate) fn reopen_read_only(descriptor: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    fcntl::open(path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
}
