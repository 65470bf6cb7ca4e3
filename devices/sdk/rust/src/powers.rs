//! What a device may be given, and the bag it is given in.

use crate::{AttachError, BlockStore, Frames, RandomSource, Scanout};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use vm_memory::{MmapRegion, VolatileMemory, VolatileSlice};

/// Guest memory that was granted; the guest may change it at any time, so read once, then check.
pub type GuestMemory = vm_memory::GuestMemoryMmap<()>;

/// Memory of a device's own, which the guest sees: it begins at address 0. The guest may change it at any time, as it may its
/// own; it outlives the process.
pub type DirectMemory = GuestMemory;

/// Everything that was granted to one device, by the index of the wish in its manifest.
///
/// [`crate::Device::attach`] takes what it needs; the rest is dropped, and so closed, afterwards.
#[derive(Default)]
pub struct Powers {
    /// Streams by wish.
    pub streams: Vec<(u32, Box<dyn Stream>)>,
    /// Network frames by wish.
    pub frames: Vec<(u32, Box<dyn Frames>)>,
    /// Guest memory, all that was granted.
    pub memory: Option<GuestMemory>,
    /// What is behind files, by wish.
    pub stores: Vec<(u32, Box<dyn BlockStore>)>,
    /// Random bytes.
    pub random: Option<Box<dyn RandomSource>>,
    /// Memory of its own behind direct ranges, by wish.
    pub direct: Vec<(u32, DirectMemory)>,
    /// Where pictures are drawn, by wish.
    pub scanouts: Vec<(u32, Scanout)>,
    /// Switches by wish.
    pub switches: Vec<(u32, Box<dyn Bell>)>,
    /// MSI-X vectors, in order.
    pub vectors: Vec<Box<dyn Bell>>,
    /// State beside the copies, if the manifest asks for some.
    pub bulk: Option<Bulk>,
    /// Where a device counts the doorbells that it answered: only it sees them.
    pub doorbells: Arc<AtomicU64>,
}

impl Powers {
    /// Takes the stream of wish `index`.
    pub fn stream(&mut self, index: u32) -> Result<Box<dyn Stream>, AttachError> {
        take(&mut self.streams, index).ok_or(AttachError::Missing("stream"))
    }
    /// Takes the network frames of wish `index`.
    pub fn frames(&mut self, index: u32) -> Result<Box<dyn Frames>, AttachError> {
        take(&mut self.frames, index).ok_or(AttachError::Missing("frames"))
    }
    /// Takes the guest memory.
    pub fn memory(&mut self) -> Result<GuestMemory, AttachError> {
        self.memory.take().ok_or(AttachError::Missing("memory"))
    }
    /// Takes what is behind the file of wish `index`.
    pub fn store(&mut self, index: u32) -> Result<Box<dyn BlockStore>, AttachError> {
        take(&mut self.stores, index).ok_or(AttachError::Missing("file"))
    }
    /// Takes the source of random bytes.
    pub fn random(&mut self) -> Result<Box<dyn RandomSource>, AttachError> {
        self.random.take().ok_or(AttachError::Missing("entropy"))
    }
    /// Takes the memory behind the direct range of wish `index`.
    pub fn direct(&mut self, index: u32) -> Result<DirectMemory, AttachError> {
        take(&mut self.direct, index).ok_or(AttachError::Missing("direct"))
    }
    /// Takes the scanout of wish `index`.
    pub fn scanout(&mut self, index: u32) -> Result<Scanout, AttachError> {
        take(&mut self.scanouts, index).ok_or(AttachError::Missing("scanout"))
    }
    /// Takes the switch of wish `index`.
    pub fn switch(&mut self, index: u32) -> Result<Box<dyn Bell>, AttachError> {
        take(&mut self.switches, index).ok_or(AttachError::Missing("switch"))
    }
    /// Takes the bulk state.
    pub fn bulk(&mut self) -> Result<Bulk, AttachError> {
        self.bulk.take().ok_or(AttachError::Missing("bulk state"))
    }
    /// Takes the MSI-X vectors.
    pub fn vectors(&mut self) -> Vec<Box<dyn Bell>> {
        std::mem::take(&mut self.vectors)
    }
}

fn take<T>(bag: &mut Vec<(u32, T)>, index: u32) -> Option<T> {
    let at = bag.iter().position(|(have, _)| *have == index)?;
    Some(bag.swap_remove(at).1)
}

/// State too large to be copied at each commit: a sector, a frame. It outlives the process as the hot state does, and is in no
/// copy: what is written here before a commit is there whether or not the commit comes. So a device writes only what writing
/// again leaves the same, and what the committed state does not speak of.
#[derive(Clone)]
pub struct Bulk {
    region: Arc<MmapRegion>,
    place: Range<usize>,
}

impl Bulk {
    /// The bulk state at this place of a region.
    #[must_use]
    pub fn new(region: MmapRegion, place: Range<usize>) -> Bulk {
        Bulk { region: Arc::new(region), place }
    }

    /// `bytes` bytes from `offset` on, or nothing if it does not have them.
    #[must_use]
    pub fn slice(&self, offset: usize, bytes: usize) -> Option<VolatileSlice<'_>> {
        let end = offset.checked_add(bytes)?;
        let fits = end <= self.place.len();
        fits.then(|| self.region.get_slice(self.place.start + offset, bytes).ok())?
    }
}

/// Something to ring: a switch, or an MSI-X vector. Ringing never fails and never waits.
pub trait Bell: Send {
    /// Adds `value` to what the other side reads.
    fn ring(&self, value: u64);
}

/// A bell that counts, for tests.
impl Bell for Arc<AtomicU64> {
    fn ring(&self, value: u64) {
        self.fetch_add(value, Ordering::SeqCst);
    }
}

/// A device's end of a pair of byte rings to the outside.
///
/// The device's two indices are part of its *state* and published only once committed, so a byte is handed on exactly once
/// however often the process dies. Bytes beyond the published head mean nothing. Indices count bytes, modulo 2^32.
pub trait Stream: Send {
    /// Free bytes of the out ring when `head` bytes have been put in all.
    fn room(&self, head: u32) -> usize;
    /// Puts a byte at `head` of the out ring, which has room. It means nothing until [`Stream::publish`].
    fn put(&self, head: u32, byte: u8);
    /// The byte at `tail` of the in ring, if there is one.
    fn get(&self, tail: u32) -> Option<u8>;
    /// Publishes the committed indices, and wakes the other side if they changed.
    fn publish(&self, out_head: u32, in_tail: u32);
    /// The indices published last: where a device goes on whose state is gone.
    fn published(&self) -> (u32, u32) {
        (0, 0)
    }
}

/// A stream in private memory, for tests: what was published is in `output`, what is put into `input` is read.
#[derive(Clone, Default)]
pub struct TestStream(Arc<Mutex<TestRings>>);

#[derive(Default)]
struct TestRings {
    out: Vec<u8>,
    published: u32,
    taken: u32,
    full: bool,
    input: VecDeque<(u32, u8)>,
    input_head: u32,
}

#[allow(clippy::unwrap_used)]
impl TestStream {
    /// What was published so far.
    #[must_use]
    pub fn output(&self) -> Vec<u8> {
        let rings = self.0.lock().unwrap();
        rings.out[..rings.published as usize].to_vec()
    }
    /// Types these bytes.
    pub fn input(&self, bytes: &[u8]) {
        let mut rings = self.0.lock().unwrap();
        for byte in bytes {
            let at = rings.input_head;
            rings.input.push_back((at, *byte));
            rings.input_head = at.wrapping_add(1);
        }
    }
    /// Whether the reader of the output has fallen behind.
    pub fn set_full(&self, full: bool) {
        self.0.lock().unwrap().full = full;
    }
}

#[allow(clippy::unwrap_used)]
impl Stream for TestStream {
    fn room(&self, _: u32) -> usize {
        if self.0.lock().unwrap().full { 0 } else { 64 }
    }
    fn put(&self, head: u32, byte: u8) {
        let mut rings = self.0.lock().unwrap();
        rings.out.truncate(head as usize);
        rings.out.push(byte);
    }
    fn get(&self, tail: u32) -> Option<u8> {
        self.0.lock().unwrap().input.iter().find(|(at, _)| *at == tail).map(|(_, byte)| *byte)
    }
    fn publish(&self, out_head: u32, in_tail: u32) {
        let mut rings = self.0.lock().unwrap();
        rings.published = out_head;
        rings.taken = in_tail;
        rings.input.retain(|(at, _)| at.wrapping_sub(in_tail) < u32::MAX / 2);
    }
    fn published(&self) -> (u32, u32) {
        let rings = self.0.lock().unwrap();
        (rings.published, rings.taken)
    }
}
