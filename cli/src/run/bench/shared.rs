//! Memory of two processes, word by word: what bounds are measured with, and bulk is carried in.
#![allow(unsafe_code)] // Atomics in mapped memory, copies from and to it, and futex(2).

use imc::Mapping;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of a cache line; words that must not disturb each other are so far apart.
const LINE_BYTES: usize = 64;

/// A region, mapped by both sides.
pub struct Shared(Mapping);

impl Shared {
    /// Uses this mapping, which is writable.
    pub fn new(mapping: Mapping) -> Shared {
        assert!(mapping.writable());
        Shared(mapping)
    }

    /// The word of this line.
    fn word(&self, line: usize) -> &AtomicU32 {
        let at = line * LINE_BYTES;
        assert!(at < self.0.len());
        // SAFETY: aligned, inside the mapping, which lives as long as the borrow; both sides use it as an atomic only.
        unsafe { AtomicU32::from_ptr(self.0.as_ptr().add(at).cast()) }
    }

    /// Publishes a value in this line.
    pub fn store(&self, line: usize, value: u32) {
        self.word(line).store(value, Ordering::Release);
    }

    /// Looks without pause until this line has the value.
    pub fn spin_until(&self, line: usize, value: u32) {
        while self.word(line).load(Ordering::Acquire) != value {
            std::hint::spin_loop();
        }
    }

    /// Publishes a value in this line and wakes who sleeps on it.
    pub fn store_and_wake(&self, line: usize, value: u32) {
        let word = self.word(line);
        word.store(value, Ordering::Release);
        // SAFETY: the call reads the word's address only; it is shared between processes, so not a private futex.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
    }

    /// Sleeps until this line has the value.
    pub fn sleep_until(&self, line: usize, value: u32) {
        let word = self.word(line);
        loop {
            let seen = word.load(Ordering::Acquire);
            if seen == value {
                return;
            }
            let no_timeout = std::ptr::null::<libc::timespec>();
            // SAFETY: the word is mapped; the kernel compares it with `seen` and sleeps only where they agree.
            unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, seen, no_timeout) };
        }
    }

    /// Copies into the region, from its start.
    pub fn copy_in(&self, bytes: &[u8]) {
        assert!(bytes.len() <= self.0.len());
        // SAFETY: inside the mapping. The other side does not touch it before it is told to; should it, bytes are mixed.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.as_ptr(), bytes.len()) };
    }

    /// Copies out of the region, from its start: what the other side can still change is not looked at in place.
    pub fn copy_out(&self, into: &mut [u8]) {
        assert!(into.len() <= self.0.len());
        // SAFETY: as above.
        unsafe { std::ptr::copy_nonoverlapping(self.0.as_ptr(), into.as_mut_ptr(), into.len()) };
    }
}

/// A system call that does next to nothing.
pub fn empty_call() {
    // SAFETY: takes no arguments and changes nothing. `getppid`, since nothing may answer it without the kernel.
    unsafe { libc::syscall(libc::SYS_getppid) };
}
