//! The region between a host and its helper.
#![allow(unsafe_code)] // Words and bytes of memory that another process changes.

use imc::{Mapping, ReadWrite, Region};
use schema::host::{DEVICES_MAX, HELPER_REGION_BYTES};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vm_memory::VolatileSlice;

/// Where the host writes: what it asks.
const ASKED: usize = 0;
/// Where the helper writes: what it answers. A cache line apart.
const ANSWERED: usize = 64;
/// Where the helper writes, before the host is attached: what disks there are.
const DISKS: usize = 128;
/// Where the bytes are.
const DATA: usize = 4096;
/// Most bytes of one question.
pub(super) const DATA_MAX: usize = HELPER_REGION_BYTES as usize - DATA;
/// Most disks of one host: each has an entry of two words.
pub(super) const DISKS_MAX: usize = DEVICES_MAX;
const _: () = assert!(DISKS + 8 + 16 * DISKS_MAX <= DATA);

/// In an entry of a disk: it may be read only.
const READONLY: u64 = 1 << 63;

/// What a host may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bytes of a disk, into the data.
    Read = 1,
    /// The data, onto a disk.
    Write = 2,
    /// What was written to a disk is to survive a loss of power.
    Flush = 3,
    /// Random bytes, into the data.
    Random = 4,
}

/// One question. Whatever the host writes: the helper has to check it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    /// One of [`Kind`], or anything.
    pub(super) kind: u32,
    /// Which disk.
    pub(super) disk: u64,
    /// Where on it.
    pub(super) offset: u64,
    /// How many bytes.
    pub(super) bytes: u64,
}

/// A disk that the helper has, as it tells the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Index of the device in the host.
    pub(crate) device: u8,
    /// Index of the wish in its manifest.
    pub(crate) wish: u32,
    /// Its size.
    pub(crate) bytes: u64,
    /// It may be read only.
    pub(crate) readonly: bool,
}

/// The region, mapped; a helper that is a thread shares the mapping with its host.
#[derive(Clone)]
pub(crate) struct Mailbox(Arc<Mapping>);

impl Mailbox {
    /// Maps it. The descriptor is closed.
    pub(crate) fn map(region: Region<ReadWrite>) -> Result<Mailbox, String> {
        if region.bytes() < HELPER_REGION_BYTES {
            return Err("the region between host and helper is too small".into());
        }
        let mapping = region.map().map_err(|error| format!("the helper's region cannot be mapped: {error}"))?;
        Ok(Mailbox(Arc::new(mapping)))
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at + 8 <= DATA);
        // SAFETY: `map` checked that the region is larger than the page that words are in; the place is aligned, and no side
        // touches it but atomically.
        unsafe { AtomicU64::from_ptr(self.0.as_ptr().add(at).cast()) }
    }

    /// The first `bytes` of the data.
    pub(super) fn data(&self, bytes: usize) -> VolatileSlice<'_> {
        assert!(bytes <= DATA_MAX);
        // SAFETY: `map` checked that the region holds all of the data, and the mapping lives as long as the slice.
        unsafe { VolatileSlice::new(self.0.as_ptr().add(DATA), bytes) }
    }

    /// Forgets what an earlier host and helper said. By the helper, before the host is attached.
    pub(super) fn clear(&self) {
        for at in (0..DATA).step_by(8) {
            self.word(at).store(0, Ordering::Relaxed);
        }
    }

    /// Touches every page, so that none has to be found later.
    pub(super) fn fault_in(&self) {
        for page in (0..self.0.len()).step_by(DATA) {
            // SAFETY: inside the mapping; adding nothing to a byte changes nothing, and makes the page writable here.
            unsafe { AtomicU64::from_ptr(self.0.as_ptr().add(page).cast()) }.fetch_add(0, Ordering::Relaxed);
        }
    }

    /// Lists the helper's disks.
    pub(super) fn list(&self, disks: impl ExactSizeIterator<Item = Listed>) {
        self.word(DISKS).store(disks.len() as u64, Ordering::Relaxed);
        for (Listed { device, wish, bytes, readonly }, at) in disks.zip((DISKS + 8..).step_by(16)) {
            let name = u64::from(device) | u64::from(wish) << 8 | if readonly { READONLY } else { 0 };
            self.word(at).store(name, Ordering::Relaxed);
            self.word(at + 8).store(bytes, Ordering::Relaxed);
        }
    }

    /// The helper's disk for this wish of this device, and its number.
    pub(super) fn find(&self, device: u8, wish: u32) -> Option<(u64, Listed)> {
        let count = (self.word(DISKS).load(Ordering::Relaxed) as usize).min(DISKS_MAX);
        let listed = |number: usize| {
            let at = DISKS + 8 + 16 * number;
            let (name, bytes) = (self.word(at).load(Ordering::Relaxed), self.word(at + 8).load(Ordering::Relaxed));
            let (device, wish) = (name as u8, (name >> 8) as u32);
            (number as u64, Listed { device, wish, bytes, readonly: name & READONLY != 0 })
        };
        (0..count).map(listed).find(|(_, disk)| (disk.device, disk.wish) == (device, wish))
    }

    /// Asks. The helper is yet to be woken.
    pub(super) fn ask(&self, sequence: u32, question: &Question) {
        let Question { kind, disk, offset, bytes } = *question;
        self.word(ASKED + 8).store(disk, Ordering::Relaxed);
        self.word(ASKED + 16).store(offset, Ordering::Relaxed);
        self.word(ASKED + 24).store(bytes, Ordering::Relaxed);
        self.word(ASKED).store(u64::from(sequence) | u64::from(kind) << 32, Ordering::Release);
    }

    /// The question behind number `last`, if there is one: a copy, so what the host writes later changes nothing.
    pub(super) fn asked(&self, last: u32) -> Option<(u32, Question)> {
        let first = self.word(ASKED).load(Ordering::Acquire);
        let load = |at| self.word(ASKED + at).load(Ordering::Relaxed);
        let question = || Question { kind: (first >> 32) as u32, disk: load(8), offset: load(16), bytes: load(24) };
        (first as u32 != last).then(|| (first as u32, question()))
    }

    /// Answers. The host is yet to be woken.
    pub(super) fn answer(&self, sequence: u32, done: &io::Result<()>) {
        let error = match done {
            Ok(()) => 0,
            // What has no number is the disk's trouble as well.
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
        };
        self.word(ANSWERED).store(u64::from(sequence) | u64::from(error as u32) << 32, Ordering::Release);
    }

    /// The answer to question `sequence`, if it has come.
    pub(super) fn answered(&self, sequence: u32) -> Option<io::Result<()>> {
        let word = self.word(ANSWERED).load(Ordering::Acquire);
        if word as u32 != sequence {
            return None;
        }
        Some(match (word >> 32) as i32 {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        })
    }
}
