//! What a device was granted. What it does not take in `attach` it will never have.

use crate::kernel::{self, Shared};
use crate::{Refusal, Stream};
use std::io;
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::fs::FileExt;

/// An eventfd: a switch, or an MSI-X vector.
#[derive(Debug, Clone, Copy)]
pub struct Bell(RawFd);

impl Bell {
    /// Rings it. That never fails and never waits.
    pub fn ring(&self, value: u64) {
        kernel::ring(self.0, value);
    }

    pub(crate) fn of(descriptor: RawFd) -> Bell {
        Bell(descriptor)
    }
}

/// Turns a switch once for each time that the state asks for it, and once more after a restart.
#[derive(Debug)]
pub struct Latch {
    bell: Bell,
    rung: Option<u64>,
}

impl Latch {
    /// A latch of this switch.
    #[must_use]
    pub fn new(bell: Bell) -> Latch {
        Latch { bell, rung: None }
    }

    /// The committed state asks for this value, or for nothing.
    pub fn settle(&mut self, wanted: Option<u64>) {
        if self.rung != wanted {
            self.rung = wanted;
            if let Some(value) = wanted {
                self.bell.ring(value);
            }
        }
    }
}

/// An address that is not in the guest memory that was granted, or a place that is not in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutsideGrant;

/// The part of guest memory that was granted. The guest may change it at any time: read once, then check.
#[derive(Default)]
pub struct GuestMemory {
    windows: Vec<(u64, Shared)>,
}

impl GuestMemory {
    /// Copies bytes of the guest's.
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<(), OutsideGrant> {
        let (window, at) = self.window(address, into.len())?;
        window.copy_out(at, into);
        Ok(())
    }

    /// Stores bytes.
    pub fn write(&self, address: u64, from: &[u8]) -> Result<(), OutsideGrant> {
        let (window, at) = self.window(address, from.len())?;
        window.copy_in(at, from);
        Ok(())
    }

    pub(crate) fn add(&mut self, base: u64, window: Shared) {
        self.windows.push((base, window));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    fn window(&self, address: u64, length: usize) -> Result<(&Shared, usize), OutsideGrant> {
        let within = |(base, window): &(u64, Shared)| {
            let at = usize::try_from(address.checked_sub(*base)?).ok()?;
            at.checked_add(length).is_some_and(|end| end <= window.len()).then_some(at)
        };
        let found = self.windows.iter().find_map(|window| within(window).map(|at| (&window.1, at)));
        found.ok_or(OutsideGrant)
    }
}

/// A file that was granted, read and written at offsets.
#[derive(Debug)]
pub struct File {
    file: std::fs::File,
    bytes: u64,
}

impl File {
    /// Its bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.bytes
    }

    /// Bytes at an offset, all of them.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    /// Stores bytes at an offset, never beyond its end.
    pub fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        if offset.checked_add(from.len() as u64).is_none_or(|end| end > self.bytes) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.file.write_all_at(from, offset)
    }

    /// What was written is on the disk when this returns.
    pub fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    #[allow(unsafe_code)] // The one place where a granted number becomes a file.
    pub(crate) fn of(descriptor: RawFd) -> io::Result<File> {
        // SAFETY: the descriptor came with a grant, and nobody else has taken it.
        let file = unsafe { std::fs::File::from_raw_fd(descriptor) };
        let bytes = file.metadata()?.len();
        Ok(File { file, bytes })
    }
}

/// Everything that was granted to a device, by the names of its wishes.
#[derive(Default)]
pub struct Powers {
    pub(crate) switches: Vec<(String, Bell)>,
    pub(crate) files: Vec<(String, File)>,
    pub(crate) streams: Vec<(String, Stream)>,
    pub(crate) memory: Option<GuestMemory>,
    /// MSI-X vectors, in order.
    pub vectors: Vec<Bell>,
}

impl Powers {
    /// Takes the switch of this name.
    pub fn switch(&mut self, name: &str) -> Result<Bell, Refusal> {
        take(&mut self.switches, name)
    }

    /// Takes the file of this name.
    pub fn file(&mut self, name: &str) -> Result<File, Refusal> {
        take(&mut self.files, name)
    }

    /// Takes the stream of this name.
    pub fn stream(&mut self, name: &str) -> Result<Stream, Refusal> {
        take(&mut self.streams, name)
    }

    /// Takes the guest memory.
    pub fn memory(&mut self) -> Result<GuestMemory, Refusal> {
        self.memory.take().ok_or_else(|| "guest memory was not granted".into())
    }
}

fn take<T>(granted: &mut Vec<(String, T)>, name: &str) -> Result<T, Refusal> {
    let at = granted.iter().position(|(have, _)| have == name);
    at.map(|at| granted.swap_remove(at).1).ok_or_else(|| Refusal(format!("the power `{name}` was not granted")))
}
