//! A guest and a device host in miniature, in one process, that drive a virtio device: for tests.
//!
//! [`Guest`] makes accesses, builds rings in memory and commits as a host does. It can let the device's process die between
//! any two steps, so a test that passes with [`Deaths::Never`] can be run again with the others, and must pass the same.
#![allow(clippy::missing_panics_doc)] // A panic is how a test fails.

use super::chain::{DESCRIPTOR_BYTES, Descriptor, INDIRECT, NEXT, WRITE};
use super::describe::{NOTIFY, NOTIFY_STEP, vectors};
use super::state::VERSION_1;
use super::{Backend, State, Virtio};
use crate::{Access, Bell, Device, GuestMemory, NoRegister, Options, Plain, Powers};
use std::cell::Cell;
use std::rc::Rc;

/// Memory of the guest: two windows that meet, and nothing behind them.
pub const MEMORY_BYTES: u64 = 0x20_0000;
/// Where the two windows meet.
pub const SEAM: u64 = 0x10_0000;

/// Where the driver puts the three parts of queue `n`: at `n` times [`QUEUE_STEP`] behind these.
pub const DESC: u64 = 0x1_0000;
/// The available ring.
pub const AVAIL: u64 = 0x1_4000;
/// The used ring.
pub const USED: u64 = 0x1_8000;
/// From one queue's parts to the next one's.
pub const QUEUE_STEP: u64 = 0x1_0000;

/// Scans of one run: a device that still finds work does not come to an end.
const SCANS_MAX: usize = 10_000;
/// Bytes that are cleared of each part of a queue: more than it can take.
const PART_BYTES: usize = 0x4000;

/// When the device's process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deaths {
    /// It lives.
    Never,
    /// After each step, before its commit. Its successor does the step.
    BeforeCommit,
    /// After each commit, before its effects happen.
    BeforeSettle,
    /// After each step and its effects.
    AfterSettle,
}

impl Deaths {
    /// All of them.
    pub const ALL: [Deaths; 4] = [Deaths::Never, Deaths::BeforeCommit, Deaths::BeforeSettle, Deaths::AfterSettle];
}

/// A buffer of a chain: its address, its bytes, and whether the device may write it.
pub type Buffer = (u64, u32, bool);

/// A guest, its device, and the host between them.
pub struct Guest<B: Backend> {
    /// Guest memory.
    pub memory: GuestMemory,
    /// The device's present incarnation.
    pub device: Virtio<B>,
    /// The committed state.
    pub state: State,
    /// Doorbells answered.
    pub doorbells: Rc<Cell<u64>>,
    /// When the device's process dies.
    pub deaths: Deaths,
    vectors: Vec<(Bell, Rc<Cell<u64>>)>,
    grant: Box<dyn Fn(&mut Powers)>,
    size: u16,
}

impl<B: Backend> Guest<B> {
    /// A guest with a device that has, beside memory and vectors, what `grant` puts into its powers: that is called for each
    /// incarnation.
    #[must_use]
    pub fn new(grant: impl Fn(&mut Powers) + 'static) -> Guest<B> {
        let memory = GuestMemory::private(&[(0, SEAM as usize), (SEAM, (MEMORY_BYTES - SEAM) as usize)]);
        let vectors: Vec<_> = (0..vectors(B::QUEUES.len())).map(|_| Bell::counting()).collect();
        let doorbells = Rc::default();
        let mut device = attach::<B>(&memory, &vectors, &doorbells, &grant);
        let state = device.power_on();
        device.settle(&state);
        let grant = Box::new(grant);
        Guest { memory, device, state, doorbells, deaths: Deaths::Never, vectors, grant, size: 0 }
    }

    /// The device's process dies; a new one takes up what is committed.
    pub fn kill(&mut self) {
        self.device = attach::<B>(&self.memory, &self.vectors, &self.doorbells, &self.grant);
        assert!(self.device.check(&self.state), "a device refuses the state that its predecessor committed");
        self.device.settle(&self.state);
    }

    /// One scan. Gives what it says of itself.
    pub fn scan(&mut self) -> bool {
        let before = self.state.clone();
        let changed = self.step(|device, state| device.scan(state, 0));
        assert!(changed || before == self.state, "an idle scan changes nothing");
        changed
    }

    /// A doorbell: scans until there is nothing more to do.
    pub fn ring(&mut self) {
        assert!((0..SCANS_MAX).any(|_| !self.scan()), "the device finds no end");
    }

    /// A load from the BAR.
    pub fn load(&mut self, offset: u64, width: u8) -> u64 {
        self.ring();
        let ones = u64::MAX >> (64 - 8 * u32::from(width));
        let answer = self.step(|device, state| device.read(state, Access { range: 0, offset, width, now: 0 }));
        answer.unwrap_or(ones) & ones
    }

    /// A store to the BAR.
    pub fn store(&mut self, offset: u64, width: u8, value: u64) {
        self.ring();
        // The guest sees no difference where there is no register.
        let _: Result<(), NoRegister> =
            self.step(|device, state| device.write(state, Access { range: 0, offset, width, now: 0 }, value));
        self.ring();
    }

    /// A doorbell that comes as a store.
    pub fn notify(&mut self, queue: u64) {
        self.store(NOTIFY + queue * NOTIFY_STEP, 2, queue);
    }

    /// Resets the device, accepts `features` and version 1, sets up all queues with `size` entries, with the vector of the same
    /// number plus one, or none; and starts.
    pub fn start(&mut self, features: u64, size: u16, vectors: bool) {
        for status in [0, 1, 3] {
            self.store(0x14, 1, status);
        }
        let features = features | VERSION_1;
        for half in [0, 1] {
            self.store(0x08, 4, half);
            self.store(0x0c, 4, features >> (32 * half) & u64::from(u32::MAX));
        }
        self.store(0x14, 1, 0xb);
        assert_eq!(self.status(), 0xb, "the device takes features {features:#x}");
        if vectors {
            self.store(0x10, 2, 0);
        }
        self.size = size;
        for queue in 0..B::QUEUES.len() as u64 {
            let at = queue * QUEUE_STEP;
            for part in [DESC, AVAIL, USED] {
                self.set_bytes(part + at, &[0; PART_BYTES]);
            }
            self.store(0x16, 2, queue);
            self.store(0x18, 2, size.into());
            if vectors {
                self.store(0x1a, 2, queue + 1);
            }
            for (register, part) in [(0x20, DESC), (0x28, AVAIL), (0x30, USED)] {
                self.store(register, 4, part + at);
                self.store(register + 4, 4, 0);
            }
            self.store(0x1c, 2, 1);
        }
        self.store(0x14, 1, 0xf);
        assert_eq!(self.status(), 0xf, "the device starts");
    }

    /// The device status.
    pub fn status(&mut self) -> u64 {
        self.load(0x14, 1)
    }

    /// The level of the pin.
    #[must_use]
    pub fn level(&self) -> bool {
        self.device.outputs(&self.state).levels & 1 != 0
    }

    /// How often a vector was rung.
    #[must_use]
    pub fn rung(&self, vector: usize) -> u64 {
        self.vectors[vector].1.get()
    }

    /// Writes a descriptor anywhere.
    pub fn describe(&self, at: u64, address: u64, length: u32, flags: u16, next: u16) {
        let mut bytes = [0; DESCRIPTOR_BYTES as usize];
        Descriptor { address, length, flags, next }.store(&mut bytes);
        self.set_bytes(at, &bytes);
    }

    /// Puts a chain into a queue's table from descriptor `head` on and makes it available. Rings nothing.
    pub fn submit(&self, queue: u64, head: u16, chain: &[Buffer]) {
        self.link(DESC + queue * QUEUE_STEP, head, chain);
        self.offer(queue, head);
    }

    /// As `submit` in queue 0, by way of an indirect table at `table`.
    pub fn submit_indirect(&self, head: u16, table: u64, chain: &[Buffer]) {
        self.link(table, 0, chain);
        let bytes = chain.len() as u32 * DESCRIPTOR_BYTES;
        self.describe(DESC + u64::from(head) * u64::from(DESCRIPTOR_BYTES), table, bytes, INDIRECT, 0);
        self.offer(0, head);
    }

    /// Makes a chain available.
    pub fn offer(&self, queue: u64, head: u16) {
        let ring = AVAIL + queue * QUEUE_STEP;
        let index = self.word(ring + 2);
        self.set_word(ring + 4 + u64::from(index % self.size) * 2, head);
        self.set_word(ring + 2, index.wrapping_add(1));
    }

    /// All that a queue's device has used so far and has not overwritten: heads and lengths.
    #[must_use]
    pub fn used(&self, queue: u64) -> Vec<(u32, u32)> {
        let ring = USED + queue * QUEUE_STEP;
        let index = self.word(ring + 2);
        let element = |entry: u16| {
            let bytes = self.bytes(ring + 4 + u64::from(entry % self.size) * 8, 8);
            (u32::load(&bytes), u32::load(&bytes[4..]))
        };
        (index.saturating_sub(self.size)..index).map(element).collect()
    }

    /// A 16-bit word of memory.
    #[must_use]
    pub fn word(&self, at: u64) -> u16 {
        self.memory.load(at).expect("a word of memory")
    }

    /// Sets a 16-bit word of memory.
    pub fn set_word(&self, at: u64, value: u16) {
        self.memory.store(at, value).expect("a word of memory");
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self, at: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.memory.read(at, &mut bytes).expect("bytes of memory");
        bytes
    }

    /// Sets bytes of memory.
    pub fn set_bytes(&self, at: u64, bytes: &[u8]) {
        self.memory.write(at, bytes).expect("bytes of memory");
    }

    fn link(&self, table: u64, first: u16, chain: &[Buffer]) {
        for (at, (address, length, writable)) in (first..).zip(chain) {
            let is_last = usize::from(at - first) + 1 == chain.len();
            let flags = if *writable { WRITE } else { 0 } | if is_last { 0 } else { NEXT };
            let descriptor = table + u64::from(at) * u64::from(DESCRIPTOR_BYTES);
            self.describe(descriptor, *address, *length, flags, at.wrapping_add(1));
        }
    }

    /// Does `act` on a copy of the state and commits it, with the deaths that are due.
    fn step<T>(&mut self, act: impl Fn(&mut Virtio<B>, &mut State) -> T) -> T {
        let mut working = self.state.clone();
        let mut outcome = act(&mut self.device, &mut working);
        if self.deaths == Deaths::BeforeCommit {
            self.kill();
            working = self.state.clone();
            outcome = act(&mut self.device, &mut working);
        }
        self.state = working;
        if self.deaths == Deaths::BeforeSettle {
            self.kill();
        } else {
            self.device.settle(&self.state);
        }
        if self.deaths == Deaths::AfterSettle {
            self.kill();
        }
        outcome
    }
}

fn attach<B: Backend>(
    memory: &GuestMemory,
    vectors: &[(Bell, Rc<Cell<u64>>)],
    doorbells: &Rc<Cell<u64>>,
    grant: &dyn Fn(&mut Powers),
) -> Virtio<B> {
    let doorbells = Rc::clone(doorbells);
    let mut powers = Powers {
        memory: Some(memory.again()),
        vectors: vectors.iter().map(|(bell, _)| bell.clone()).collect(),
        doorbell: Box::new(move || doorbells.set(doorbells.get() + 1)),
        ..Powers::default()
    };
    grant(&mut powers);
    let options = Options::parse::<&str>(B::OPTIONS, &[]).expect("defaults are options");
    Virtio::attach(&options, &mut powers).unwrap_or_else(|why| panic!("the device cannot be attached: {why}"))
}
