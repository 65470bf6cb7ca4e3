//! What an attacker has got in a sealed device host, and the calls with which it acts.

#![allow(unsafe_code)] // It makes system calls, and touches memory, as no library would.

use imc::Mapping;
use schema::host::Purpose;
use std::ffi::CString;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// How the role of this program begins.
pub const ROLE: &str = "cofferdam: hostile";
/// Separates a role's words: what the attacker is told may have spaces.
pub const BETWEEN: char = '\t';
/// The channel's number.
pub const CHANNEL: RawFd = 3;
/// What an attacker carries off is left in the last bytes of its state region; before them, a word that says it is done.
pub const LOOT_BYTES: usize = 1024;
/// The code of a set-up that failed; acts end with error numbers, which are smaller.
pub const NOT_SET_UP: i32 = 250;

/// What an attacker has got.
pub struct Host {
    /// Descriptors: for what, which one of several, and their numbers.
    pub descriptors: Vec<(Purpose, u32, RawFd)>,
    /// Memory: for what, and where the guest has it.
    pub regions: Vec<(Purpose, u64, Mapping)>,
    /// A descriptor that it should never have got.
    pub gift: Option<RawFd>,
    /// What it was told.
    pub told: Vec<CString>,
    /// It is the first process of a process namespace.
    pub is_first: bool,
}

/// Leaves without the C library's help, which a sealed process could not use.
pub fn leave(code: i32) -> ! {
    // SAFETY: ends this thread, the only one.
    unsafe { libc::syscall(libc::SYS_exit, code) };
    unreachable!("exit returned")
}

impl Host {
    /// The number of a descriptor; -1 if it was not granted.
    pub fn descriptor(&self, purpose: Purpose) -> RawFd {
        self.descriptors.iter().find(|(for_what, ..)| *for_what == purpose).map_or(-1, |(.., number)| *number)
    }

    /// The memory that was granted for this.
    pub fn region(&self, purpose: Purpose) -> Option<&Mapping> {
        self.regions.iter().find(|(for_what, ..)| *for_what == purpose).map(|(.., mapping)| mapping)
    }

    /// A word of its state region, which everybody sees.
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        word(self.state(), offset)
    }

    /// Its state region: every host has one.
    pub fn state(&self) -> &Mapping {
        match self.region(Purpose::State) {
            Some(state) => state,
            None => leave(NOT_SET_UP),
        }
    }

    /// Carries something off, to where its supervisor finds it.
    pub fn carry_off(&self, what: &[u8]) {
        let what = &what[..what.len().min(LOOT_BYTES)];
        self.state().write(self.state().len() - LOOT_BYTES, what);
    }

    /// Sleeps until it is woken: a call that every host has.
    pub fn sleep(&self) {
        let mut count = 0u64;
        // SAFETY: eight bytes of this stack.
        unsafe { libc::read(self.descriptor(Purpose::Wake), (&raw mut count).cast(), 8) };
    }

    /// Says that it is done, and stays to be looked at.
    pub fn rest(&self) -> ! {
        self.word(done_offset(self.state())).store(1, Ordering::SeqCst);
        loop {
            self.sleep();
        }
    }

    /// What it was told, as a path.
    pub fn told(&self, index: usize) -> *const libc::c_char {
        self.told.get(index).map_or(c"".as_ptr(), |word| word.as_ptr())
    }

    /// What it was told, as a number.
    pub fn number(&self, index: usize) -> i64 {
        self.told.get(index).and_then(|word| word.to_str().ok()?.parse().ok()).unwrap_or(-1)
    }
}

/// Where the word is that says that an attacker is done.
pub fn done_offset(state: &Mapping) -> usize {
    state.len() - LOOT_BYTES - 8
}

/// A word of shared memory.
pub fn word(mapping: &Mapping, offset: usize) -> &AtomicU64 {
    assert!(offset.is_multiple_of(8) && offset + 8 <= mapping.len());
    // SAFETY: in bounds, aligned, and only accessed atomically here.
    unsafe { AtomicU64::from_ptr(mapping.as_ptr().add(offset).cast()) }
}

/// A system call with up to six arguments, by its number. The result, or the error number.
///
/// # Safety
/// As for the call.
pub unsafe fn system_call(number: i64, arguments: [i64; 6]) -> Result<i64, i32> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the caller's.
    check(unsafe { libc::syscall(number, a, b, c, d, e, f) })
}

/// The result of a call of the C library, or the error number.
pub fn check(result: impl Into<i64>) -> Result<i64, i32> {
    let result = result.into();
    if result < 0 { Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)) } else { Ok(result) }
}
