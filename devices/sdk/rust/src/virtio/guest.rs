//! A guest and a device host in miniature, in one process, that drive a virtio device: for tests.
//!
//! [`Guest`] makes accesses, builds rings in memory and commits as a host does. It can let the device's process die between
//! any two steps, so a test that passes with [`Deaths::Never`] can be run again with the others, and must pass the same.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

use super::describe::{NOTIFY, NOTIFY_STEP};
use super::{Backend, State, Virtio};
use crate::{Access, Device, GuestMemory, Options, Powers, Scan};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use vm_memory::{Bytes, GuestAddress};

/// Memory of the guest: two regions that meet, and nothing behind them.
pub const MEMORY_BYTES: u64 = 0x20_0000;
/// Where the two regions meet.
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

/// A buffer of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    /// Guest address.
    pub address: u64,
    /// Bytes.
    pub bytes: u32,
    /// The device may write it.
    pub writable: bool,
}

impl Buffer {
    /// A buffer that the device may read.
    #[must_use]
    pub fn readable(address: u64, bytes: u32) -> Buffer {
        Buffer { address, bytes, writable: false }
    }
    /// A buffer that the device may write.
    #[must_use]
    pub fn writable(address: u64, bytes: u32) -> Buffer {
        Buffer { address, bytes, writable: true }
    }
}

/// A guest, its device, and the host between them.
pub struct Guest<B: Backend> {
    /// Guest memory.
    pub memory: GuestMemory,
    /// The device's present incarnation.
    pub device: Virtio<B>,
    /// The committed state.
    pub state: State,
    /// What was rung, by MSI-X vector.
    pub vectors: Vec<Arc<AtomicU64>>,
    /// Doorbells answered.
    pub doorbells: Arc<AtomicU64>,
    /// When the device's process dies.
    pub deaths: Deaths,
    options: Options,
    grant: Box<dyn Fn(&mut Powers)>,
    sizes: [u16; super::QUEUES_MAX],
}

impl<B: Backend> Guest<B> {
    /// A machine with a device that has `options` and, beside memory and vectors, what `grant` puts in its bag: that is
    /// called for each incarnation.
    pub fn new(options: Options, grant: impl Fn(&mut Powers) + 'static) -> Guest<B> {
        let low = (GuestAddress(0), SEAM as usize);
        let high = (GuestAddress(SEAM), (MEMORY_BYTES - SEAM) as usize);
        let memory = GuestMemory::from_ranges(&[low, high]).unwrap();
        let manifest = B::manifest(&options).unwrap();
        let vectors: Vec<Arc<AtomicU64>> = (0..manifest.vectors).map(|_| Arc::default()).collect();
        let doorbells = Arc::default();
        let mut device = attach::<B>(&options, &memory, &vectors, &doorbells, &grant);
        let state = device.power_on();
        device.settle(&state);
        Guest {
            memory,
            device,
            state,
            vectors,
            doorbells,
            deaths: Deaths::Never,
            options,
            grant: Box::new(grant),
            sizes: [0; super::QUEUES_MAX],
        }
    }

    /// The device's process dies; a new one takes up what is committed.
    pub fn kill(&mut self) {
        self.device = attach::<B>(&self.options, &self.memory, &self.vectors, &self.doorbells, &self.grant);
        assert!(self.device.check(&self.state), "a device refuses the state that its predecessor committed");
        self.device.settle(&self.state);
    }

    /// Does `step` on a copy of the state and commits it, with the deaths that are due.
    fn step<T>(&mut self, step: impl Fn(&mut Virtio<B>, &mut State) -> T) -> T {
        let mut next = self.state;
        let mut outcome = step(&mut self.device, &mut next);
        if self.deaths == Deaths::BeforeCommit {
            self.kill();
            next = self.state;
            outcome = step(&mut self.device, &mut next);
        }
        self.state = next;
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

    /// One scan. Gives what it says of itself.
    pub fn scan(&mut self) -> Scan {
        let before = self.state;
        let outcome = self.step(|device, state| device.scan(state, 0));
        if outcome == Scan::Idle {
            assert_eq!(before, self.state, "an idle scan changes nothing");
        }
        outcome
    }

    /// Scans until there is nothing more to do. Gives how many scans found something.
    pub fn run(&mut self) -> usize {
        for scans in 0..SCANS_MAX {
            if self.scan() == Scan::Idle {
                assert!(!self.device.pending(&self.state) || self.deaths != Deaths::Never, "idle, and yet not");
                return scans;
            }
        }
        panic!("the device finds no end");
    }

    /// A load from the BAR.
    pub fn load(&mut self, offset: u64, width: u8) -> u64 {
        self.run();
        let at = Access { range: 0, offset, width, now: 0 };
        let mask = u64::MAX >> (64 - u32::from(width) * 8);
        self.step(|device, state| device.read(state, at)).map_or(mask, |value| value & mask)
    }

    /// A store to the BAR.
    pub fn store(&mut self, offset: u64, width: u8, value: u64) {
        self.run();
        let at = Access { range: 0, offset, width, now: 0 };
        let _ = self.step(|device, state| device.write(state, at, value));
        self.run();
    }

    /// A doorbell that goes past the VMM, as an eventfd does.
    pub fn ring(&mut self) -> usize {
        self.run()
    }

    /// A doorbell that comes as a store.
    pub fn notify(&mut self, queue: u64) {
        self.store(NOTIFY + queue * NOTIFY_STEP, 2, queue);
    }

    /// Resets the device, accepts `features` and version 1, sets up all queues with `size` entries, with the vector of
    /// the same number plus one, or none; and starts.
    pub fn start(&mut self, features: u64, size: u16, vectors: bool) {
        self.store(0x14, 1, 0);
        assert_eq!(self.load(0x14, 1), 0);
        self.store(0x14, 1, 1);
        self.store(0x14, 1, 3);
        let features = features | 1 << VIRTIO_F_VERSION_1;
        for half in [0, 1] {
            self.store(0x08, 4, half);
            self.store(0x0c, 4, features >> (32 * half) & u64::from(u32::MAX));
        }
        self.store(0x14, 1, 0xb);
        assert_eq!(self.load(0x14, 1), 0xb, "the device refuses features {features:#x}");
        if vectors {
            self.store(0x10, 2, 0);
        }
        for queue in 0..B::QUEUES.len() as u64 {
            let at = queue * QUEUE_STEP;
            for part in [DESC, AVAIL, USED] {
                self.memory.write_slice(&[0; 0x4000], GuestAddress(part + at)).unwrap();
            }
            self.sizes[queue as usize] = size;
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
            assert_eq!(self.load(0x1c, 2), 1);
        }
        self.store(0x14, 1, 0xf);
        assert_eq!(self.load(0x14, 1), 0xf);
    }

    /// The device status.
    pub fn status(&mut self) -> u8 {
        self.load(0x14, 1) as u8
    }

    /// Writes one descriptor of queue 0's table.
    pub fn describe(&self, index: u16, address: u64, bytes: u32, flags: u16, next: u16) {
        self.describe_at(DESC + u64::from(index) * 16, address, bytes, flags, next);
    }

    /// Writes a descriptor anywhere.
    pub fn describe_at(&self, at: u64, address: u64, bytes: u32, flags: u16, next: u16) {
        let descriptor =
            u128::from(address) | u128::from(bytes) << 64 | u128::from(flags) << 96 | u128::from(next) << 112;
        self.memory.write_slice(&descriptor.to_le_bytes(), GuestAddress(at)).unwrap();
    }

    /// Makes descriptors of `chain` from `first` on, each with the next, at `table`.
    fn link(&self, table: u64, first: u16, chain: &[Buffer]) {
        for (buffer, index) in chain.iter().zip(first..) {
            let last = usize::from(index - first) + 1 == chain.len();
            let write = if buffer.writable { VRING_DESC_F_WRITE } else { 0 };
            let next = if last { 0 } else { VRING_DESC_F_NEXT };
            let at = table + u64::from(index) * 16;
            self.describe_at(at, buffer.address, buffer.bytes, (write | next) as u16, index + 1);
        }
    }

    /// Puts a chain into queue 0's table from descriptor `head` on and makes it available. Rings nothing.
    pub fn submit(&self, head: u16, chain: &[Buffer]) {
        self.submit_to(0, head, chain);
    }

    /// The same with queue `queue`.
    pub fn submit_to(&self, queue: u64, head: u16, chain: &[Buffer]) {
        self.link(DESC + queue * QUEUE_STEP, head, chain);
        self.offer_to(queue, head);
    }

    /// As [`Guest::submit`], by way of an indirect table at `table`.
    pub fn submit_indirect(&self, head: u16, table: u64, chain: &[Buffer]) {
        self.link(table, 0, chain);
        self.describe(head, table, chain.len() as u32 * 16, VRING_DESC_F_INDIRECT as u16, 0);
        self.offer(head);
    }

    /// Makes a chain available.
    pub fn offer(&self, head: u16) {
        self.offer_to(0, head);
    }

    fn offer_to(&self, queue: u64, head: u16) {
        let (ring, size) = (AVAIL + queue * QUEUE_STEP, self.sizes[queue as usize]);
        let index = self.word(ring + 2);
        self.set_word(ring + 4 + u64::from(index % size) * 2, head);
        self.set_word(ring + 2, index.wrapping_add(1));
    }

    /// All that queue 0's device has used so far and has not overwritten: heads and lengths.
    #[must_use]
    pub fn used(&self) -> Vec<(u32, u32)> {
        self.used_of(0)
    }

    /// The same of queue `queue`.
    #[must_use]
    pub fn used_of(&self, queue: u64) -> Vec<(u32, u32)> {
        let (ring, size) = (USED + queue * QUEUE_STEP, self.sizes[queue as usize]);
        let index = self.word(ring + 2);
        let first = index.saturating_sub(size);
        (first..index)
            .map(|entry| {
                let at = ring + 4 + u64::from(entry % size) * 8;
                let element: u64 = self.memory.read_obj(GuestAddress(at)).unwrap();
                (element as u32, (element >> 32) as u32)
            })
            .collect()
    }

    /// A 16-bit word of memory.
    #[must_use]
    pub fn word(&self, at: u64) -> u16 {
        self.memory.read_obj(GuestAddress(at)).unwrap()
    }

    /// Sets a 16-bit word of memory.
    pub fn set_word(&self, at: u64, value: u16) {
        self.memory.write_obj(value, GuestAddress(at)).unwrap();
    }

    /// The driver's wish of when to be notified, with the event index.
    pub fn set_used_event(&self, index: u16) {
        self.set_word(AVAIL + 4 + u64::from(self.sizes[0]) * 2, index);
    }

    /// The device's wish of when to be notified, with the event index.
    #[must_use]
    pub fn avail_event(&self) -> u16 {
        self.word(USED + 4 + u64::from(self.sizes[0]) * 8)
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self, at: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }

    /// Sets bytes of memory.
    pub fn set_bytes(&self, at: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(at)).unwrap();
    }

    /// How often `vector` was rung.
    #[must_use]
    pub fn rung(&self, vector: usize) -> u64 {
        self.vectors[vector].load(Ordering::SeqCst)
    }

    /// The level of the pin.
    #[must_use]
    pub fn level(&self) -> bool {
        self.device.outputs(&self.state).levels & 1 != 0
    }
}

fn attach<B: Backend>(
    options: &Options,
    memory: &GuestMemory,
    vectors: &[Arc<AtomicU64>],
    doorbells: &Arc<AtomicU64>,
    grant: &dyn Fn(&mut Powers),
) -> Virtio<B> {
    let mut powers = Powers { memory: Some(memory.clone()), doorbells: Arc::clone(doorbells), ..Powers::default() };
    powers.vectors = vectors.iter().map(|vector| Box::new(Arc::clone(vector)) as _).collect();
    grant(&mut powers);
    Virtio::attach(options, &mut powers).unwrap()
}
