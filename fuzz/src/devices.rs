//! Every device of the catalogue, with any accesses, at any time, in any world, and with state of any bytes.
//!
//! Input: which device; then steps. What its powers lead to is as small as it can be: bytes of a disk are a function of their
//! place, and those that are written are looked at and forgotten.

use crate::heap;
use crate::input::Input;
use device::display::{INPUT_BYTES, Input as Done, Pointer};
use device::manifest::{Manifest, Power, RegisterKind};
use device::{
    Access, Bell, BlockStore, Bulk, DirectMemory, FRAME_MAX, Frames, GuestMemory, Model, NoRegister, Options, Powers,
    RandomSource, Registration, Scan, Scanout, Stream,
};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use vm_memory::{Bytes, GuestAddress, MmapRegion, VolatileSlice};
use zerocopy::IntoBytes;

/// Steps of one run.
const STEPS_MAX: usize = 512;
/// Bytes of guest memory: few, so that made-up addresses find them.
const MEMORY_BYTES: usize = 256 << 10;
/// Bytes behind each file: those of a diskette, which are whole sectors for everybody.
const FILE_BYTES: u64 = 1440 << 10;
/// Most bytes that one call of a device moves between files and memory. The longest request is one of virtio-block's.
const WORK_MAX: u64 = 20 << 20;
/// Most looks until a device has done what its queues hold, each a bounded amount of work.
const LOOKS_MAX: usize = 1 << 16;

/// Settings with which a device has all of its powers.
const SETTINGS: [(&str, &[(&str, &str)]); 3] = [
    ("floppy", &[("a", "writable"), ("b", "readonly")]),
    ("piix-ide", &[("primary", "disk"), ("primary-slave", "empty"), ("secondary", "cdrom")]),
    ("rtl8139", &[("cplus", "on")]),
];

pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let registration = choose(input.u8());
    let mut world = World::new(registration);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
    }
}

/// The device of this number. Inputs were kept for numbers, so most stay with their device when another one is added: it is
/// the one whose name and number make the largest of some scattered values.
fn choose(number: u8) -> &'static Registration {
    let scattered = |entry: &&Registration| {
        let bytes = entry.name.bytes().chain([number]);
        bytes
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
    };
    devices::catalogue().iter().max_by_key(scattered).expect("there are devices")
}

/// A device, and all that there is for it.
struct World {
    registration: &'static Registration,
    options: Options,
    manifest: Manifest,
    model: Box<dyn Model>,
    /// In words, as a state region is aligned.
    state: Vec<u64>,
    now: u64,
    outside: Outside,
}

/// What outlives the device's process.
struct Outside {
    memory: GuestMemory,
    /// By wish.
    direct: Vec<(u32, DirectMemory)>,
    bulk: Option<Bulk>,
    files: Arc<Mutex<Files>>,
    rings: Arc<Mutex<Rings>>,
}

/// What the disk does, and what it was asked.
#[derive(Default)]
struct Files {
    fails: bool,
    /// Bytes moved since the last look.
    moved: u64,
}

/// A stream's two rings, of which only the indices are kept, and the byte that is typed.
#[derive(Default)]
struct Rings {
    typed: u32,
    byte: u8,
    full: bool,
    out_head: u32,
    in_tail: u32,
}

struct File(Arc<Mutex<Files>>);

struct Teletype(Arc<Mutex<Rings>>);

/// What people do with keys and mouse, in records: one thing again and again.
struct Person(Arc<Mutex<Rings>>);

/// Frames all of one byte, and as long as that says.
struct Cable(Arc<Mutex<Rings>>);

struct Counter(AtomicU64);

/// Nothing here is broken by a panic: that ends the run.
fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl File {
    fn moves(&mut self, offset: u64, slices: &[VolatileSlice<'_>]) -> io::Result<()> {
        let bytes: u64 = slices.iter().map(|slice| slice.len() as u64).sum();
        assert!(slices.iter().all(|slice| !slice.is_empty()), "a transfer of nothing");
        assert!(offset.checked_add(bytes).is_some_and(|end| end <= FILE_BYTES), "{bytes} bytes at {offset}");
        let mut files = lock(&self.0);
        files.moved += bytes;
        if files.fails { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
    }
}

impl BlockStore for File {
    fn bytes(&self) -> u64 {
        FILE_BYTES
    }
    fn readonly(&self) -> bool {
        false
    }
    fn read_at(&mut self, offset: u64, into: &[VolatileSlice<'_>]) -> io::Result<()> {
        self.moves(offset, into)?;
        let mut at = offset;
        for slice in into {
            slice.write_obj((at >> 9) as u8, 0).expect("it is not empty");
            at += slice.len() as u64;
        }
        Ok(())
    }
    fn write_at(&mut self, offset: u64, from: &[VolatileSlice<'_>]) -> io::Result<()> {
        self.moves(offset, from)
    }
    fn flush(&mut self) -> io::Result<()> {
        if lock(&self.0).fails { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
    }
}

impl Stream for Teletype {
    fn room(&self, _: u32) -> usize {
        if lock(&self.0).full { 0 } else { 64 }
    }
    fn put(&self, _: u32, _: u8) {}
    fn get(&self, tail: u32) -> Option<u8> {
        let rings = lock(&self.0);
        (rings.typed.wrapping_sub(tail).wrapping_sub(1) < 64).then_some(rings.byte)
    }
    fn publish(&self, out_head: u32, in_tail: u32) {
        let mut rings = lock(&self.0);
        (rings.out_head, rings.in_tail) = (out_head, in_tail);
    }
    fn published(&self) -> (u32, u32) {
        let rings = lock(&self.0);
        (rings.out_head, rings.in_tail)
    }
}

impl Person {
    /// A key goes down or up, or the mouse moves.
    fn does(byte: u8) -> [u8; INPUT_BYTES] {
        match byte {
            0..0xf0 if byte & 1 == 0 => Done::Press { key: u16::from(byte >> 1) },
            0..0xf0 => Done::Release { key: u16::from(byte >> 1) },
            _ => Done::Pointer(Pointer { dx: byte as i8, dy: 1, wheel: 0, buttons: byte & Pointer::BUTTONS }),
        }
        .to_bytes()
    }
}

impl Stream for Person {
    fn room(&self, _: u32) -> usize {
        0
    }
    fn put(&self, _: u32, _: u8) {}
    fn get(&self, tail: u32) -> Option<u8> {
        let byte = Teletype(self.0.clone()).get(tail)?;
        Some(Person::does(byte)[tail as usize % INPUT_BYTES])
    }
    fn publish(&self, out_head: u32, in_tail: u32) {
        Teletype(self.0.clone()).publish(out_head, in_tail);
    }
    fn published(&self) -> (u32, u32) {
        Teletype(self.0.clone()).published()
    }
}

impl Frames for Cable {
    fn has(&self, received: u32) -> bool {
        Teletype(self.0.clone()).get(received).is_some()
    }
    fn receive(&self, received: u32, into: &mut [u8; FRAME_MAX]) -> Option<usize> {
        let byte = Teletype(self.0.clone()).get(received)?;
        into.fill(byte);
        Some(usize::from(byte) * FRAME_MAX / usize::from(u8::MAX))
    }
    fn has_room(&self, _: u32) -> bool {
        !lock(&self.0).full
    }
    fn send(&self, _: u32, frame: &[u8]) {
        assert!(frame.len() <= FRAME_MAX, "a frame of {} bytes", frame.len());
    }
    fn publish(&self, sent: u32, received: u32) {
        Teletype(self.0.clone()).publish(sent, received);
    }
    fn published(&self) -> (u32, u32) {
        Teletype(self.0.clone()).published()
    }
}

impl Bell for Counter {
    fn ring(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }
}

impl RandomSource for Counter {
    fn fill(&mut self, into: &VolatileSlice<'_>) -> io::Result<()> {
        into.write_obj(self.0.fetch_add(1, Ordering::Relaxed) as u8, 0).expect("it is not empty");
        Ok(())
    }
}

impl Outside {
    fn powers(&self, manifest: &Manifest) -> Powers {
        let counter = || Counter(AtomicU64::new(0));
        let mut powers = Powers { bulk: self.bulk.clone(), direct: self.direct.clone(), ..Powers::default() };
        powers.vectors = (0..manifest.vectors).map(|_| Box::new(counter()) as Box<dyn Bell>).collect();
        for (index, wish) in (0..).zip(&manifest.wishes) {
            match wish.power {
                Power::Stream if wish.name == "input" => {
                    powers.streams.push((index, Box::new(Person(self.rings.clone()))));
                }
                Power::Stream => powers.streams.push((index, Box::new(Teletype(self.rings.clone())))),
                Power::Memory | Power::LowMemory => powers.memory = Some(self.memory.clone()),
                Power::FileRead | Power::FileWrite => powers.stores.push((index, Box::new(File(self.files.clone())))),
                Power::Switch => powers.switches.push((index, Box::new(counter()))),
                Power::Entropy => powers.random = Some(Box::new(counter())),
                Power::Direct => {}
                Power::Frames => powers.frames.push((index, Box::new(Cable(self.rings.clone())))),
                Power::Scanout => powers.scanouts.push((index, Scanout::private().expect("memory"))),
            }
        }
        powers
    }
}

impl World {
    fn new(registration: &'static Registration) -> World {
        let settings = SETTINGS.iter().find(|(name, _)| *name == registration.name);
        let options = Options::new(settings.map_or(&[][..], |(_, settings)| settings).iter().copied());
        let manifest = (registration.manifest)(&options).expect("settings that are possible");
        let new = |bytes| GuestMemory::from_ranges(&[(GuestAddress(0), bytes)]).expect("memory");
        let memory = new(MEMORY_BYTES);
        let direct = (0..).zip(&manifest.wishes).filter(|(_, wish)| wish.power == Power::Direct);
        let direct = direct.map(|(index, wish)| (index, new(wish.bytes as usize))).collect();
        let bulk_bytes = manifest.bulk_bytes as usize;
        let bulk = (bulk_bytes > 0).then(|| Bulk::new(MmapRegion::new(bulk_bytes).expect("memory"), 0..bulk_bytes));
        let outside = Outside { memory, direct, bulk, files: Arc::default(), rings: Arc::default() };
        let model = attach(registration, &options, &manifest, &outside);
        let state = vec![0; manifest.state_bytes as usize / size_of::<u64>()];
        let mut world = World { registration, options, manifest, model, state, now: 0, outside };
        world.call(|model, state, _| model.power_on(state));
        assert_eq!(world.model.outputs(world.state.as_bytes()).levels, 0, "a line is up after power on");
        world
    }

    /// Does what the host does around each call: commits, settles, and looks at queues until they are empty; and holds the
    /// device to what holds after each.
    fn call<T>(&mut self, act: impl FnOnce(&mut dyn Model, &mut [u8], u64) -> T) -> T {
        let before = heap::uses();
        let answer = act(&mut *self.model, self.state.as_mut_bytes(), self.now);
        self.hold(before);
        for looks in 0.. {
            assert!(looks < LOOKS_MAX, "{}: looks without end", self.registration.name);
            let before = heap::uses();
            let pending = self.model.pending(self.state.as_bytes());
            let scan = self.model.scan(self.state.as_mut_bytes(), self.now);
            self.hold(before);
            if scan == Scan::Idle {
                break;
            }
            assert!(pending, "{}: a look found work that was not pending", self.registration.name);
        }
        answer
    }

    fn hold(&mut self, heap_before: u64) {
        let name = self.registration.name;
        let (state, outputs) = (self.state.as_bytes(), self.model.outputs(self.state.as_bytes()));
        self.model.settle(state);
        assert!(self.model.check(state), "{name}: left a state that fails its check");
        assert_eq!(heap::uses(), heap_before, "{name}: touched the heap");
        assert_eq!(self.model.outputs(state), outputs, "{name}: outputs that depend on more than the state");
        assert!(u64::from(outputs.levels) < 1 << self.manifest.lines.len(), "{name}: a level of no line");
        let moved = std::mem::take(&mut lock(&self.outside.files).moved);
        assert!(moved <= WORK_MAX, "{name}: moved {moved} bytes in one call");
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0..=4 => self.access(input, false),
            5..=9 => self.access(input, true),
            10 => {
                // A long run of one register, such as the bytes of a sector; loads that may be joined are, if the count is odd.
                let (place, count) = (self.place(input), input.u8());
                if count % 2 == 1 && self.joins(place) {
                    return self.load_string(place, count);
                }
                for _ in 0..count {
                    let _: Result<u64, NoRegister> = self.call(|model, state, now| model.read(state, place.at(now)));
                }
            }
            11 => self.now = self.now.saturating_add(u64::from(input.u8()) << (input.u8() % 56)),
            12 => {
                let deadline = self.model.outputs(self.state.as_bytes()).deadline;
                if let Some(deadline) = deadline {
                    self.now = self.now.max(deadline);
                }
                self.call(|model, state, now| model.alarm(state, now));
            }
            13 => self.happen(input),
            14 => {
                let (at, bytes) = (usize::from(input.u16()) * 4 % MEMORY_BYTES, usize::from(input.u8()));
                let bytes = input.take(bytes.min(MEMORY_BYTES - at));
                self.outside.memory.write_slice(bytes, GuestAddress(at as u64)).expect("it fits");
                self.call(|_, _, _| ());
            }
            _ => self.find_damaged(input),
        }
    }

    /// A register, or what lies beside it.
    fn place(&self, input: &mut Input<'_>) -> Place {
        let range = input.below(self.manifest.ranges.len());
        let (length, offset) = (self.manifest.ranges[range].length, u64::from(input.u16()));
        let widths = [1, 2, 4, 8].into_iter().filter(|width| u64::from(*width) <= length);
        let width = widths.clone().nth(input.below(4)).unwrap_or(1);
        Place { range: range as u8, offset: offset % (length - u64::from(width) + 1), width }
    }

    fn access(&mut self, input: &mut Input<'_>, write: bool) {
        let place = self.place(input);
        if write {
            let value =
                input.take(place.width.into()).iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
            let _: Result<(), NoRegister> = self.call(|model, state, now| model.write(state, place.at(now), value));
        } else {
            let _: Result<u64, NoRegister> = self.call(|model, state, now| model.read(state, place.at(now)));
        }
    }

    /// Whether the manifest says that loads of this register may be joined.
    fn joins(&self, place: Place) -> bool {
        self.manifest.registers.iter().any(|register| {
            let there = (register.range, register.offset, register.width) == (place.range, place.offset, place.width);
            there && register.kind == RegisterKind::Strings
        })
    }

    fn load_string(&mut self, place: Place, count: u8) {
        let mut into = vec![0; usize::from(count) * usize::from(place.width)];
        let loaded = self.call(|model, state, now| model.read_string(state, place.at(now), &mut into));
        if let Ok(bytes) = loaded {
            let whole = bytes > 0 && bytes <= into.len() && bytes.is_multiple_of(place.width.into());
            assert!(whole, "{}: {bytes} bytes of {} were loaded", self.registration.name, into.len());
        }
    }

    /// Something happens to the machine, or outside it.
    fn happen(&mut self, input: &mut Input<'_>) {
        match input.below(8) {
            0 => self.call(|model, state, _| model.power_on(state)),
            1 => self.call(|model, state, now| model.button(state, now)),
            7 => self.call(|model, state, now| model.refresh(state, now)),
            2 => lock(&self.outside.files).fails ^= true,
            3 => lock(&self.outside.rings).full ^= true,
            4..=5 => {
                {
                    let mut rings = lock(&self.outside.rings);
                    rings.byte = input.u8();
                    rings.typed = rings.in_tail.wrapping_add(input.below(64) as u32);
                }
                self.call(|_, _, _| ());
            }
            _ => self.restart(),
        }
    }

    /// The process dies, and the next one finds what it left.
    fn restart(&mut self) {
        let outputs = self.model.outputs(self.state.as_bytes());
        self.model = attach(self.registration, &self.options, &self.manifest, &self.outside);
        assert!(self.model.check(self.state.as_bytes()), "{}: its own state is refused", self.registration.name);
        assert_eq!(self.model.outputs(self.state.as_bytes()), outputs, "{}: a restart is seen", self.registration.name);
        self.call(|_, _, _| ());
    }

    /// The process dies, having left bytes of any value; what is refused is a reset.
    fn find_damaged(&mut self, input: &mut Input<'_>) {
        let at = usize::from(input.u16()) % (self.state.len() * size_of::<u64>()).max(1);
        let count = 1 + input.below(8);
        let bytes = input.take(count);
        for (to, from) in self.state.as_mut_bytes()[at..].iter_mut().zip(bytes) {
            *to = *from;
        }
        self.model = attach(self.registration, &self.options, &self.manifest, &self.outside);
        if self.model.check(self.state.as_bytes()) {
            self.call(|_, _, _| ());
        } else {
            self.call(|model, state, _| model.power_on(state));
        }
    }
}

/// Where an access lands.
#[derive(Clone, Copy)]
struct Place {
    range: u8,
    offset: u64,
    width: u8,
}

impl Place {
    fn at(self, now: u64) -> Access {
        Access { range: self.range, offset: self.offset, width: self.width, now }
    }
}

fn attach(entry: &Registration, options: &Options, manifest: &Manifest, outside: &Outside) -> Box<dyn Model> {
    match (entry.attach)(options, &mut outside.powers(manifest)) {
        Ok(model) => model,
        Err(error) => panic!("{}: {error}", entry.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_of_the_catalogue_is_chosen_by_some_number() {
        for entry in devices::catalogue() {
            assert!((0..=255).any(|number| choose(number).name == entry.name), "{}", entry.name);
            World::new(entry);
        }
    }

    #[test]
    fn each_device_of_the_catalogue_has_an_input_that_was_kept() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/devices");
        let inputs = std::fs::read_dir(corpus).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
        let chosen: Vec<&str> = inputs.filter_map(|input| Some(choose(*input.first()?).name)).collect();
        for entry in devices::catalogue() {
            assert!(chosen.contains(&entry.name), "{}", entry.name);
        }
    }
}
