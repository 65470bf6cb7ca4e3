//! What a device was granted. What it does not take in `attach` it will never have.

use crate::kernel::{self, Shared};
use crate::{Refusal, Scanout, Stream};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// Something to ring: a switch, or an MSI-X vector.
#[derive(Debug, Clone)]
pub struct Bell(Ringing);

#[derive(Debug, Clone)]
enum Ringing {
    /// An eventfd.
    Descriptor(RawFd),
    /// What was rung so far, for tests.
    Sum(Rc<Cell<u64>>),
}

impl Bell {
    /// A bell for tests, and the sum of what it was rung with.
    #[must_use]
    pub fn counting() -> (Bell, Rc<Cell<u64>>) {
        let sum = Rc::default();
        (Bell(Ringing::Sum(Rc::clone(&sum))), sum)
    }

    /// Rings it. That never fails and never waits.
    pub fn ring(&self, value: u64) {
        match &self.0 {
            Ringing::Descriptor(descriptor) => kernel::ring(*descriptor, value),
            Ringing::Sum(sum) => sum.set(sum.get().wrapping_add(value)),
        }
    }

    pub(crate) fn of(descriptor: RawFd) -> Bell {
        Bell(Ringing::Descriptor(descriptor))
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
    /// By address.
    windows: Vec<(u64, Shared)>,
}

impl GuestMemory {
    /// Memory for tests: windows of so many bytes at these addresses. It is never given back.
    #[must_use]
    pub fn private(windows: &[(u64, usize)]) -> GuestMemory {
        let mut memory = GuestMemory::default();
        for (base, length) in windows {
            memory.add(*base, Shared::private(*length));
        }
        memory
    }

    /// Copies bytes of the guest's.
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<(), OutsideGrant> {
        let mut rest = &mut into[..];
        self.each(address, rest.len() as u64, |window, at, length| {
            let (piece, behind) = std::mem::take(&mut rest).split_at_mut(length);
            window.copy_out(at, piece);
            rest = behind;
        })
    }

    /// Stores bytes.
    pub fn write(&self, address: u64, from: &[u8]) -> Result<(), OutsideGrant> {
        let mut rest = from;
        self.each(address, rest.len() as u64, |window, at, length| {
            let (piece, behind) = rest.split_at(length);
            window.copy_in(at, piece);
            rest = behind;
        })
    }

    /// Whether all of these bytes were granted.
    #[must_use]
    pub fn contains(&self, address: u64, length: u64) -> bool {
        self.parts(address, length).map(|(_, _, part)| part as u64).sum::<u64>() == length
    }

    /// A 16-bit word at an even address, read whole: what the guest stores at the same time is seen or not.
    pub fn load(&self, address: u64) -> Result<u16, OutsideGrant> {
        let (window, at) = self.word(address)?;
        Ok(window.short(at).load(Ordering::Acquire))
    }

    /// Stores a 16-bit word at an even address, whole, after all that was stored before.
    pub fn store(&self, address: u64, value: u16) -> Result<(), OutsideGrant> {
        let (window, at) = self.word(address)?;
        window.short(at).store(value, Ordering::Release);
        Ok(())
    }

    pub(crate) fn add(&mut self, base: u64, window: Shared) {
        let at = self.windows.partition_point(|(other, _)| *other < base);
        self.windows.insert(at, (base, window));
    }

    /// The same windows once more.
    pub(crate) fn again(&self) -> GuestMemory {
        GuestMemory { windows: self.windows.clone() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Hands over where these bytes lie, if all of them were granted: in more than one part where windows meet.
    fn each(&self, address: u64, length: u64, mut act: impl FnMut(&Shared, usize, usize)) -> Result<(), OutsideGrant> {
        if !self.contains(address, length) {
            return Err(OutsideGrant);
        }
        self.parts(address, length).for_each(|(window, at, part)| act(window, at, part));
        Ok(())
    }

    fn parts(&self, mut address: u64, mut length: u64) -> impl Iterator<Item = (&Shared, usize, usize)> {
        self.windows.iter().filter_map(move |(base, window)| {
            let into = address.checked_sub(*base)?;
            let part = length.min((window.len() as u64).checked_sub(into)?);
            (address, length) = (address.checked_add(part)?, length - part);
            (part > 0).then_some((window, into as usize, part as usize))
        })
    }

    fn word(&self, address: u64) -> Result<(&Shared, usize), OutsideGrant> {
        let mut parts = self.parts(address, 2);
        let found = parts.next().filter(|(_, _, part)| *part == 2 && address.is_multiple_of(2));
        found.map(|(window, at, _)| (window, at)).ok_or(OutsideGrant)
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

    /// A file of a test's own.
    pub fn new(file: std::fs::File) -> io::Result<File> {
        let bytes = file.metadata()?.len();
        Ok(File { file, bytes })
    }

    #[allow(unsafe_code)] // The one place where a granted number becomes a file.
    pub(crate) fn of(descriptor: RawFd) -> io::Result<File> {
        // SAFETY: the descriptor came with a grant, and nobody else has taken it.
        File::new(unsafe { std::fs::File::from_raw_fd(descriptor) })
    }
}

/// The kernel's random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Random;

impl Random {
    /// Fills `into` with random bytes.
    pub fn fill(&self, into: &mut [u8]) -> io::Result<()> {
        kernel::random(into)
    }
}

/// Everything that was granted to a device, by the names of its wishes. A test grants what it likes.
pub struct Powers {
    /// Switches.
    pub switches: BTreeMap<String, Bell>,
    /// Files.
    pub files: BTreeMap<String, File>,
    /// Streams.
    pub streams: BTreeMap<String, Stream>,
    /// Memory of its own behind direct ranges: it begins at address 0, and the guest may change it at any time.
    pub directs: BTreeMap<String, GuestMemory>,
    /// Where pictures are drawn.
    pub scanouts: BTreeMap<String, Scanout>,
    /// Guest memory, all that was granted.
    pub memory: Option<GuestMemory>,
    /// Random bytes.
    pub random: Option<Random>,
    /// MSI-X vectors, in order.
    pub vectors: Vec<Bell>,
    /// Counts a doorbell that was answered: only the device sees them.
    pub doorbell: Box<dyn Fn()>,
}

impl Default for Powers {
    fn default() -> Powers {
        Powers {
            switches: BTreeMap::new(),
            files: BTreeMap::new(),
            streams: BTreeMap::new(),
            directs: BTreeMap::new(),
            scanouts: BTreeMap::new(),
            memory: None,
            random: None,
            vectors: Vec::new(),
            doorbell: Box::new(|| ()),
        }
    }
}

impl Powers {
    /// Takes the switch of this name.
    pub fn switch(&mut self, name: &str) -> Result<Bell, Refusal> {
        taken(self.switches.remove(name), name)
    }

    /// Takes the file of this name.
    pub fn file(&mut self, name: &str) -> Result<File, Refusal> {
        taken(self.files.remove(name), name)
    }

    /// Takes the stream of this name.
    pub fn stream(&mut self, name: &str) -> Result<Stream, Refusal> {
        taken(self.streams.remove(name), name)
    }

    /// Takes the memory behind the direct range of this name.
    pub fn direct(&mut self, name: &str) -> Result<GuestMemory, Refusal> {
        taken(self.directs.remove(name), name)
    }

    /// Takes the scanout of this name.
    pub fn scanout(&mut self, name: &str) -> Result<Scanout, Refusal> {
        taken(self.scanouts.remove(name), name)
    }

    /// Takes the guest memory.
    pub fn memory(&mut self) -> Result<GuestMemory, Refusal> {
        taken(self.memory.take(), "memory")
    }

    /// Takes the source of random bytes.
    pub fn random(&mut self) -> Result<Random, Refusal> {
        taken(self.random.take(), "entropy")
    }
}

fn taken<T>(granted: Option<T>, name: &str) -> Result<T, Refusal> {
    granted.ok_or_else(|| Refusal(format!("the power `{name}` was not granted")))
}
