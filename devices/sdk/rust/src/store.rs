//! Where a disk's sectors are.

// The kernel reads and writes guest memory, which Rust has no references to.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use vm_memory::VolatileSlice;

/// Pieces of memory in one system call. Above it a transfer is several calls; IOV_MAX is 1024.
const VECTORS_MAX: usize = 64;

/// Storage of a disk. Offsets and lengths are in bytes; the caller keeps them inside [`BlockStore::bytes`].
///
/// An error is of the request, not of the store: the next request is tried again.
pub trait BlockStore: Send {
    /// Its size.
    fn bytes(&self) -> u64;

    /// Whether it may be read only.
    fn readonly(&self) -> bool;

    /// Fills all of `into` from `offset` on.
    fn read_at(&mut self, offset: u64, into: &[VolatileSlice<'_>]) -> Result<()>;

    /// Writes all of `from` from `offset` on.
    fn write_at(&mut self, offset: u64, from: &[VolatileSlice<'_>]) -> Result<()>;

    /// What was written before survives a loss of power once this has returned.
    fn flush(&mut self) -> Result<()>;
}

/// A file, or block device, that holds the sectors as they are.
#[derive(Debug)]
pub struct RawFile {
    file: File,
    bytes: u64,
    readonly: bool,
}

impl RawFile {
    /// The first `bytes` of a file that was opened for this holder alone.
    #[must_use]
    pub fn new(file: File, bytes: u64, readonly: bool) -> RawFile {
        RawFile { file, bytes, readonly }
    }
}

impl AsFd for RawFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl BlockStore for RawFile {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn readonly(&self) -> bool {
        self.readonly
    }

    fn read_at(&mut self, offset: u64, into: &[VolatileSlice<'_>]) -> Result<()> {
        let descriptor = self.file.as_raw_fd();
        transfer(offset, into, ErrorKind::UnexpectedEof, |vectors, count, offset| {
            // SAFETY: the vectors name memory inside live volatile slices, which the kernel may write.
            unsafe { libc::preadv(descriptor, vectors, count, offset) }
        })
    }

    fn write_at(&mut self, offset: u64, from: &[VolatileSlice<'_>]) -> Result<()> {
        let descriptor = self.file.as_raw_fd();
        transfer(offset, from, ErrorKind::WriteZero, |vectors, count, offset| {
            // SAFETY: the vectors name memory inside live volatile slices, which the kernel only reads.
            unsafe { libc::pwritev(descriptor, vectors, count, offset) }
        })
    }

    fn flush(&mut self) -> Result<()> {
        self.file.sync_data()
    }
}

/// Makes `call` until all of `slices`, none of them empty, is done. A call that does nothing is the error `stuck`.
fn transfer(
    offset: u64,
    slices: &[VolatileSlice<'_>],
    stuck: ErrorKind,
    call: impl Fn(*const libc::iovec, libc::c_int, libc::off_t) -> isize,
) -> Result<()> {
    let mut offset = libc::off_t::try_from(offset).map_err(|_| ErrorKind::InvalidInput)?;
    let mut left = slices;
    // Bytes of the first slice that are done.
    let mut done = 0;
    while !left.is_empty() {
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; VECTORS_MAX];
        for (index, (vector, slice)) in vectors.iter_mut().zip(left).enumerate() {
            let rest = slice.offset(if index == 0 { done } else { 0 }).map_err(Error::other)?;
            *vector = libc::iovec { iov_base: rest.ptr_guard_mut().as_ptr().cast(), iov_len: rest.len() };
        }
        let count = left.len().min(VECTORS_MAX);
        let moved = match usize::try_from(call(vectors.as_ptr(), count as libc::c_int, offset)) {
            Ok(0) => return Err(stuck.into()),
            Ok(moved) => moved,
            Err(_) => match Error::last_os_error() {
                error if error.kind() == ErrorKind::Interrupted => continue,
                error => return Err(error),
            },
        };
        offset += moved as libc::off_t;
        done += moved;
        while let Some((first, rest)) = left.split_first()
            && done >= first.len()
        {
            done -= first.len();
            left = rest;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// Moves at most three bytes a call, and is interrupted before each.
    fn slow<'a>(
        log: &'a RefCell<Vec<u8>>,
        offsets: &'a RefCell<Vec<i64>>,
    ) -> impl Fn(*const libc::iovec, i32, i64) -> isize {
        let interrupt = RefCell::new(false);
        move |vectors, count, offset| {
            if interrupt.replace_with(|before| !*before) {
                // SAFETY: the location of this thread's errno.
                unsafe { *libc::__errno_location() = libc::EINTR };
                return -1;
            }
            offsets.borrow_mut().push(offset);
            // SAFETY: `transfer` passes as many vectors as it counts, over memory that the test holds.
            let vectors = unsafe { std::slice::from_raw_parts(vectors, count as usize) };
            let bytes = vectors.iter().flat_map(|vector| {
                // SAFETY: as above.
                unsafe { std::slice::from_raw_parts(vector.iov_base.cast::<u8>(), vector.iov_len) }
            });
            let moved: Vec<u8> = bytes.copied().take(3).collect();
            log.borrow_mut().extend(&moved);
            moved.len() as isize
        }
    }

    #[test]
    fn a_transfer_goes_on_after_short_and_interrupted_calls() {
        let mut pieces: Vec<Vec<u8>> = vec![vec![1, 2, 3, 4], vec![5], vec![6, 7], vec![8, 9, 10, 11, 12, 13, 14]];
        let slices: Vec<VolatileSlice<'_>> = pieces.iter_mut().map(|piece| piece.as_mut_slice().into()).collect();
        let (log, offsets) = (RefCell::default(), RefCell::default());
        let call = slow(&log, &offsets);
        transfer(100, &slices, ErrorKind::WriteZero, &call).unwrap();
        assert_eq!(*log.borrow(), (1..=14).collect::<Vec<u8>>());
        assert_eq!(*offsets.borrow(), [100, 103, 106, 109, 112]);
    }

    #[test]
    fn more_slices_than_one_call_takes_are_all_transferred() {
        let mut bytes: Vec<u8> = (0..=255).collect();
        let slices: Vec<VolatileSlice<'_>> = bytes.chunks_mut(1).map(VolatileSlice::from).collect();
        let (log, offsets) = (RefCell::default(), RefCell::default());
        let call = slow(&log, &offsets);
        transfer(0, &slices, ErrorKind::WriteZero, &call).unwrap();
        assert_eq!(*log.borrow(), (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn a_file_shorter_than_was_said_is_an_error_and_not_a_loop() {
        let mut byte = [0];
        let slices = [VolatileSlice::from(&mut byte[..])];
        let error = transfer(0, &slices, ErrorKind::UnexpectedEof, |_, _, _| 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }
}
