//! Where random bytes come from.

// The kernel writes guest memory, which Rust has no references to.
#![allow(unsafe_code)]

use std::io;
use vm_memory::VolatileSlice;

/// A source of random bytes.
pub trait RandomSource: Send {
    /// Fills all of `into`.
    fn fill(&mut self, into: &VolatileSlice<'_>) -> io::Result<()>;
}

/// The kernel's random numbers, by `getrandom(2)`.
pub struct KernelRandom;

impl RandomSource for KernelRandom {
    fn fill(&mut self, into: &VolatileSlice<'_>) -> io::Result<()> {
        let mut done = 0;
        while done < into.len() {
            let rest = into.offset(done).map_err(io::Error::other)?;
            let memory = rest.ptr_guard_mut();
            // The system call itself: the C library's function may map memory for the kernel's fast path, which a sealed
            // process may not.
            // SAFETY: the memory lies inside a live volatile slice, which the kernel may write.
            let moved = unsafe { libc::syscall(libc::SYS_getrandom, memory.as_ptr(), rest.len(), 0) };
            match usize::try_from(moved) {
                Ok(moved) => done += moved,
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        }
        Ok(())
    }
}
