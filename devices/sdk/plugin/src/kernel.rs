//! What std has no name for: shared memory, descriptors that come with a message, and leaving at once.
//!
//! Declared here as the C library has them, which std is linked with anyway. Layouts are those of x86-64.
#![allow(unsafe_code)] // Calls of the C library, and memory that another process stores to.

use std::ffi::{c_int, c_long, c_void};
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

/// Descriptors that one message may bring.
const HANDLES_MAX: usize = 8;
/// `SOL_SOCKET` and `SCM_RIGHTS`.
const RIGHTS: (c_int, c_int) = (1, 1);
const MSG_CMSG_CLOEXEC: c_int = 0x4000_0000;
const SYS_GETRANDOM: c_long = 318;
const PR_SET_DUMPABLE: c_int = 4;
const PROT_READ: c_int = 1;
const PROT_WRITE: c_int = 2;
const MAP_SHARED: c_int = 1;

#[repr(C)]
struct Piece {
    base: *mut c_void,
    length: usize,
}

/// `struct msghdr`.
#[repr(C)]
struct Message {
    name: *mut c_void,
    name_length: u32,
    pieces: *mut Piece,
    piece_count: usize,
    control: *mut c_void,
    control_length: usize,
    flags: c_int,
}

/// Room for one `struct cmsghdr` with descriptors.
#[repr(C, align(8))]
struct Control {
    length: usize,
    level: c_int,
    kind: c_int,
    descriptors: [c_int; HANDLES_MAX],
}

unsafe extern "C" {
    fn read(descriptor: c_int, into: *mut c_void, length: usize) -> isize;
    fn write(descriptor: c_int, from: *const c_void, length: usize) -> isize;
    fn recvmsg(descriptor: c_int, message: *mut Message, flags: c_int) -> isize;
    fn mmap(
        at: *mut c_void,
        length: usize,
        protection: c_int,
        flags: c_int,
        descriptor: c_int,
        from: i64,
    ) -> *mut c_void;
    fn prctl(what: c_int, argument: usize, second: usize, third: usize, fourth: usize) -> c_int;
    #[link_name = "close"]
    fn close_descriptor(descriptor: c_int) -> c_int;
    fn _exit(code: c_int) -> !;
    fn syscall(number: c_long, ...) -> c_long;
}

/// Whether this descriptor is there, and a socket.
pub(crate) fn is_socket(descriptor: RawFd) -> bool {
    // SAFETY: it is not closed here, and whoever owns it does nothing meanwhile: this is the only thread.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(descriptor) });
    file.metadata().is_ok_and(|found| found.file_type().is_socket())
}

/// Reads what is there, once.
pub(crate) fn read_once(descriptor: RawFd, into: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the memory is the caller's, of this length.
    moved(unsafe { read(descriptor, into.as_mut_ptr().cast(), into.len()) })
}

/// Writes it in one call.
pub(crate) fn write_once(descriptor: RawFd, from: &[u8]) -> io::Result<usize> {
    // SAFETY: the memory is the caller's, of this length.
    moved(unsafe { write(descriptor, from.as_ptr().cast(), from.len()) })
}

/// Adds to what an eventfd counts.
pub(crate) fn ring(descriptor: RawFd, value: u64) {
    // Whoever listens keeps it from filling up; there is nobody to tell that it cannot be rung.
    let _ = write_once(descriptor, &value.to_le_bytes());
}

/// Sleeps until an eventfd is rung.
pub(crate) fn sleep(descriptor: RawFd) {
    let _ = read_once(descriptor, &mut [0; 8]);
}

/// Fills memory with random bytes.
pub(crate) fn random(mut into: &mut [u8]) -> io::Result<()> {
    while !into.is_empty() {
        // The system call itself: the C library's function may keep memory of its own for it.
        // SAFETY: the memory is the caller's, of this length.
        let done = unsafe { syscall(SYS_GETRANDOM, into.as_mut_ptr(), into.len(), 0) };
        match moved(done as isize) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(filled) => into = into.get_mut(filled..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Receives one message, with the descriptors that come with it.
pub(crate) fn receive(socket: RawFd, into: &mut [u8]) -> io::Result<(usize, Vec<RawFd>)> {
    let mut piece = Piece { base: into.as_mut_ptr().cast(), length: into.len() };
    let mut control = Control { length: 0, level: 0, kind: 0, descriptors: [0; HANDLES_MAX] };
    let mut message = Message {
        name: std::ptr::null_mut(),
        name_length: 0,
        pieces: &raw mut piece,
        piece_count: 1,
        control: (&raw mut control).cast(),
        control_length: size_of::<Control>(),
        flags: 0,
    };
    // SAFETY: all that the message points at lives until the call is over, with the lengths that it says.
    let length = moved(unsafe { recvmsg(socket, &raw mut message, MSG_CMSG_CLOEXEC) })?;
    let header = std::mem::offset_of!(Control, descriptors);
    let came = message.control_length >= header && (control.level, control.kind) == RIGHTS;
    let bytes = if came { control.length.saturating_sub(header) } else { 0 };
    Ok((length, control.descriptors[..(bytes / size_of::<c_int>()).min(HANDLES_MAX)].to_vec()))
}

/// Nobody of the same user is to look at this process.
pub(crate) fn hide() {
    // SAFETY: no memory is passed.
    unsafe { prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) };
}

/// Closes a descriptor, if it is one.
pub(crate) fn close(descriptor: RawFd) {
    // SAFETY: whoever calls this owns all descriptors but those of its grants, which it does not close.
    unsafe { close_descriptor(descriptor) };
}

/// Ends the process, without destructors: it may be sealed.
pub(crate) fn leave(code: i32) -> ! {
    // SAFETY: of no effect but the end.
    unsafe { _exit(code) }
}

/// Memory that is shared with another process, for the life of this one.
#[derive(Clone, Copy)]
pub(crate) struct Shared {
    start: *mut u8,
    length: usize,
}

// SAFETY: a mapping is never unmapped, and is the same in each thread; it is only touched as atomics, or copied.
unsafe impl Send for Shared {}

impl Shared {
    /// Maps all of a region.
    pub(crate) fn map(descriptor: RawFd, length: usize, writable: bool) -> io::Result<Shared> {
        let protection = PROT_READ | if writable { PROT_WRITE } else { 0 };
        // SAFETY: the kernel chooses a place where nothing is.
        let start = unsafe { mmap(std::ptr::null_mut(), length, protection, MAP_SHARED, descriptor, 0) };
        if start.addr() == usize::MAX {
            return Err(io::Error::last_os_error());
        }
        Ok(Shared { start: start.cast(), length })
    }

    /// Memory of this process alone, for tests. It is never given back.
    pub(crate) fn private(length: usize) -> Shared {
        let words = vec![0u64; length.div_ceil(8)].leak();
        Shared { start: words.as_mut_ptr().cast(), length }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// The word at an offset, which is a multiple of its size.
    pub(crate) fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at + 8 <= self.length, "a word lies in its region");
        // SAFETY: inside the mapping, aligned, and only ever touched as an atomic of this size.
        unsafe { AtomicU64::from_ptr(self.start.add(at).cast()) }
    }

    /// The half word at an offset, which is a multiple of its size.
    pub(crate) fn index(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4) && at + 4 <= self.length, "an index lies in its region");
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr(self.start.add(at).cast()) }
    }

    /// The word of 16 bits at an offset, which is a multiple of its size.
    pub(crate) fn short(&self, at: usize) -> &AtomicU16 {
        assert!(at.is_multiple_of(2) && at + 2 <= self.length, "a word lies in its region");
        // SAFETY: as above.
        unsafe { AtomicU16::from_ptr(self.start.add(at).cast()) }
    }

    /// The byte at an offset.
    pub(crate) fn byte(&self, at: usize) -> &AtomicU8 {
        assert!(at < self.length, "a byte lies in its region");
        // SAFETY: as above.
        unsafe { AtomicU8::from_ptr(self.start.add(at)) }
    }

    /// Copies bytes out; what another process stores meanwhile may be half there.
    pub(crate) fn copy_out(&self, at: usize, into: &mut [u8]) {
        assert!(at <= self.length && into.len() <= self.length - at, "bytes lie in their region");
        // SAFETY: inside the mapping, into memory of the caller's that is not part of it.
        unsafe { self.start.add(at).copy_to_nonoverlapping(into.as_mut_ptr(), into.len()) };
    }

    /// Copies bytes in.
    pub(crate) fn copy_in(&self, at: usize, from: &[u8]) {
        assert!(at <= self.length && from.len() <= self.length - at, "bytes lie in their region");
        // SAFETY: inside the mapping, which may be stored to, from memory of the caller's that is not part of it.
        unsafe { self.start.add(at).copy_from_nonoverlapping(from.as_ptr(), from.len()) };
    }
}

fn moved(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
