//! A device host that may not touch the heap once it serves: whoever does ends the process, with a code that says so.
//!
//! Test-only. It serves any device of the catalogue. A `debug-exit` that was given a port allocates when it is read, to show
//! that this is noticed.

// An allocator is unsafe to be, and leaving by the one call of a sealed process has no safe wrapper.
#![allow(unsafe_code)]

use device::{Access, Ahead, AttachError, Model, NoRegister, Options, Outputs, Powers, Registration, Scan};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

/// How it ends.
const TOUCHED_THE_HEAP: i32 = 66;

/// The first call of a device comes right after the seal, and all others later.
static SERVING: AtomicBool = AtomicBool::new(false);

#[global_allocator]
static ALLOCATOR: Frugal = Frugal;

struct Frugal;

impl Frugal {
    fn count(&self) {
        if SERVING.load(Ordering::Relaxed) {
            // SAFETY: ends the process, and passes no memory.
            unsafe { libc::syscall(libc::SYS_exit, TOUCHED_THE_HEAP) };
        }
    }
}

// SAFETY: all of it is the system's allocator's.
unsafe impl GlobalAlloc for Frugal {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.count();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        self.count();
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.count();
        // SAFETY: as the caller promises.
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// A device that is seen to be called.
struct Watched {
    model: Box<dyn Model>,
    wasteful: bool,
}

impl Watched {
    fn model(&mut self) -> &mut dyn Model {
        SERVING.store(true, Ordering::Relaxed);
        &mut *self.model
    }
}

impl Model for Watched {
    fn power_on(&mut self, state: &mut [u8]) {
        self.model().power_on(state);
    }
    fn check(&self, state: &[u8]) -> bool {
        SERVING.store(true, Ordering::Relaxed);
        self.model.check(state)
    }
    fn holds(&self, state: &[u8], bay: u8) -> bool {
        self.model.holds(state, bay)
    }
    fn exchanged(&mut self, state: &mut [u8], bay: u8) {
        self.model().exchanged(state, bay);
    }
    fn read(&mut self, state: &mut [u8], at: Access) -> Result<u64, NoRegister> {
        if self.wasteful {
            std::hint::black_box(Box::new(at.offset));
        }
        self.model().read(state, at)
    }
    fn read_string(&mut self, state: &mut [u8], at: Access, into: &mut [u8]) -> Result<usize, NoRegister> {
        self.model().read_string(state, at, into)
    }
    fn ahead(&self, state: &[u8], at: Access) -> Option<Ahead> {
        self.model.ahead(state, at)
    }
    fn write(&mut self, state: &mut [u8], at: Access, value: u64) -> Result<(), NoRegister> {
        self.model().write(state, at, value)
    }
    fn alarm(&mut self, state: &mut [u8], now: u64) {
        self.model().alarm(state, now);
    }
    fn button(&mut self, state: &mut [u8], now: u64) {
        self.model().button(state, now);
    }
    fn refresh(&mut self, state: &mut [u8], now: u64) {
        self.model().refresh(state, now);
    }
    fn scan(&mut self, state: &mut [u8], now: u64) -> Scan {
        self.model().scan(state, now)
    }
    fn pending(&self, state: &[u8]) -> bool {
        self.model.pending(state)
    }
    fn outputs(&self, state: &[u8]) -> Outputs {
        self.model.outputs(state)
    }
    fn settle(&mut self, state: &[u8]) {
        self.model().settle(state);
    }
}

/// Entry `N` of the catalogue, watched.
fn attach<const N: usize>(options: &Options, powers: &mut Powers) -> Result<Box<dyn Model>, AttachError> {
    let entry = &devices::catalogue()[N];
    let wasteful = entry.name == "debug-exit" && options.text("port").is_some();
    Ok(Box::new(Watched { model: (entry.attach)(options, powers)?, wasteful }))
}

/// [`attach`] for each of these numbers.
macro_rules! attaches {
    ($($number:literal)*) => { [$(attach::<$number>),*] };
}

fn main() {
    let attaches = attaches!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
    let catalogue = devices::catalogue();
    assert!(catalogue.len() <= attaches.len(), "each device needs a number here");
    let watched: Vec<Registration> =
        catalogue.iter().zip(attaches).map(|(entry, attach)| Registration { attach, ..*entry }).collect();
    device_host::run(&watched)
}
