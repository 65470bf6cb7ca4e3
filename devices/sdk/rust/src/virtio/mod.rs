//! Virtio over PCI, as a library inside the device host: a modern device (virtio 1.2, section 4.1) with split queues.
//!
//! A device implements [`Backend`]: what it offers and how it serves one chain of buffers. [`Virtio`] makes a
//! [`Device`] of it. To everybody else that device is a memory BAR, doorbells, a pin and MSI-X vectors.
//!
//! # What survives a crash, and how
//!
//! A queue's position is committed state; the rings are guest memory, which is not. So the order is:
//!
//! 1. `scan` serves chains and writes entries of the used ring behind its published index, where no driver looks;
//! 2. the state is committed, with the queue's new positions;
//! 3. `settle` publishes the used ring's index from the committed state;
//! 4. the next `scan` decides whether the driver wants to be notified, which may be asked only after publication: before
//!    it, driver and device could each believe that the other will look again. The decision is state: an interrupt
//!    status, or a count of notifications per source;
//! 5. the state is committed, and `settle` rings the vectors whose counts it has not rung before.
//!
//! A process that dies before 2 has done nothing: its successor finds the same chains and serves them again. One that
//! dies later has a successor that publishes again what was published, or should have been, and rings all vectors.
//!
//! # MSI-X and the pin
//!
//! The MSI-X enable bit lies in configuration space, which is the VMM's, so here a source whose vector is "none" drives the
//! pin. The VMM keeps the pin of a function low while its MSI-X is enabled, as PCI demands.
//!
//! # Not modelled
//!
//! Legacy and transitional interfaces, packed queues, queue reset, notification data, shared memory, administration
//! queues, and the window to the BAR in configuration space (`VIRTIO_PCI_CAP_PCI_CFG`, 4.1.4.9), which the VMM would have
//! to serve.

mod chain;
mod describe;
#[cfg(any(test, feature = "test-guest"))]
pub mod guest;
mod registers;
mod ring;
mod state;
#[cfg(test)]
mod tests;

pub use chain::{Buffers, Chain, SEGMENTS_MAX};
pub use describe::{FIRST_WISH, Function, manifest};
pub use state::State;

use crate::{Access, AttachError, Bell, Device, GuestMemory, NoRegister, OptionError, Options, Outputs, Powers, Scan};
use chain::Segments;
use schema::manifest::Manifest;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most queues of a device, so that its state has a fixed size: a network device has three.
pub const QUEUES_MAX: usize = 4;

/// Largest queue. Linux asks for no more by default, and a chain is never longer than the largest queue (2.7.5.3.1).
pub const QUEUE_SIZE_MAX: u16 = 256;

/// Chains of one queue served in one scan: between scans, accesses that vcpus wait for are answered.
pub const CHAINS_PER_SCAN: u32 = 64;

/// Work on one queue in one scan, in bytes moved. A chain is served whole, so the last may exceed it.
pub const WORK_PER_SCAN: u64 = 1 << 20;

/// What makes one kind of virtio device: its offer, and how it serves a chain.
///
/// Order of calls: `attach`, then any of the others. Whatever `serve` does is done again when the process dies before the
/// commit, so doing it twice must be the same as doing it once.
pub trait Backend: Sized + Send + 'static {
    /// The largest size of each queue: a power of 2.
    const QUEUES: &'static [u16];

    /// What this device declares when it has these options: [`manifest`] of its [`Function`].
    fn manifest(options: &Options) -> Result<Manifest, OptionError>;

    /// Takes its powers, other than guest memory and the vectors.
    fn attach(options: &Options, powers: &mut Powers) -> Result<Self, AttachError>;

    /// Feature bits of the device type. The transport adds its own.
    fn features(&self) -> u64;

    /// The device configuration; its length is the one that the manifest declares.
    fn config(&self) -> &[u8];

    /// Serves one chain of a queue.
    fn serve(&mut self, request: Request<'_>) -> Result<Served, Broken>;

    /// Where a device begins whose state is gone. One without rings to the outside leaves this and the next two as they are.
    fn positions(&self) -> Positions {
        Positions::default()
    }

    /// Whether a chain of `queue` could be served now. Where it cannot, whatever it waits for wakes the host.
    fn is_ready(&self, _queue: usize, _positions: &Positions) -> bool {
        true
    }

    /// The positions are committed: shows them to the other side. Must bear being called again for the same ones.
    fn publish(&mut self, _positions: &Positions) {}
}

/// How far a backend has come in rings to the outside: part of the committed state. What each counts is the backend's affair.
pub type Positions = [u32; 2];

/// A chain to be served.
pub struct Request<'a> {
    /// Number of its queue.
    pub queue: usize,
    /// What the driver accepted.
    pub features: u64,
    /// Where the backend is. What it does to them counts once the request is done.
    pub positions: &'a mut Positions,
    /// Its buffers.
    pub chain: &'a Chain<'a>,
    /// How many chains the request has had before this one: those that were answered with [`Served::Part`].
    pub part: u16,
}

/// What became of a chain. Bytes written are counted from the first writable one on and without a gap (2.7.8.2); `work` is what
/// it cost, in bytes moved, or [`WORK_PER_SCAN`] for something that should be the last of its scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// It was used, and its request is done.
    Done {
        /// Bytes written.
        written: u32,
        /// The cost.
        work: u64,
    },
    /// It was used, and its request goes on in the next chain. Should there be none yet, all of it is done again when there is.
    Part {
        /// Bytes written.
        written: u32,
        /// The cost.
        work: u64,
    },
    /// It was not used: it is there for the next request. The positions have changed.
    Unused,
}

/// How a driver broke the rules of a queue. The device then needs a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A queue was enabled that is not aligned, or not inside memory.
    #[error("a queue was enabled that does not lie in memory as it must")]
    Queue,
    /// The available index ran away from the device by more than the queue holds.
    #[error("the available index is further ahead than the queue is long")]
    Index,
    /// A chain names a descriptor that does not exist, goes round in circles, or nests indirect tables.
    #[error("a chain of descriptors does not come to an end")]
    Endless,
    /// A chain has more than [`SEGMENTS_MAX`] buffers.
    #[error("a chain has too many buffers")]
    Long,
    /// A buffer to read follows one to write.
    #[error("a chain has a readable buffer after a writable one")]
    Order,
    /// A buffer is not in memory.
    #[error("a buffer lies outside memory")]
    Outside,
    /// A chain cannot be a request of this device.
    #[error("a chain is too short to be a request")]
    Short,
    /// The device itself cannot go on.
    #[error("the device failed")]
    Failed,
}

/// A virtio device on PCI.
pub struct Virtio<B> {
    backend: B,
    memory: GuestMemory,
    vectors: Vec<Box<dyn Bell>>,
    doorbells: Arc<AtomicU64>,
    segments: Segments,
    done: Done,
    broken: Option<Broken>,
}

/// What this incarnation has done outside its state: nothing that may not be done again.
#[derive(Default)]
struct Done {
    queues: [DoneQueue; QUEUES_MAX],
    /// Configuration notifications already sent.
    config_signals: Option<u32>,
}

#[derive(Default, Clone, Copy)]
struct DoneQueue {
    /// The used index that was published.
    published: Option<u16>,
    /// The available index at which a doorbell was asked for.
    armed: Option<u16>,
    /// The available index that was last seen to be new.
    seen: Option<u16>,
    /// The available index at which a request found no end.
    short: Option<u16>,
    /// Notifications already sent.
    signals: Option<u32>,
}

impl<B: Backend> Virtio<B> {
    const QUEUES_FIT: () = {
        assert!(B::QUEUES.len() <= QUEUES_MAX);
        let mut index = 0;
        while index < B::QUEUES.len() {
            assert!(B::QUEUES[index].is_power_of_two() && B::QUEUES[index] <= QUEUE_SIZE_MAX);
            index += 1;
        }
    };

    /// Why the device last came to need a reset, if this incarnation saw it.
    #[must_use]
    pub fn broken(&self) -> Option<Broken> {
        self.broken
    }

    /// Features offered.
    fn features(&self) -> u64 {
        self.backend.features() | state::TRANSPORT_FEATURES
    }

    /// Looks at every queue.
    fn look(&mut self, state: &mut State) -> Scan {
        let mut outcome = Scan::Idle;
        for index in 0..B::QUEUES.len() {
            // A queue can break the whole device.
            if !state.is_running() {
                break;
            }
            outcome = match (outcome, self.look_at(state, index)) {
                (Scan::More, Ok(_)) | (_, Ok(Scan::More)) => Scan::More,
                (Scan::Idle, Ok(scan)) => scan,
                (Scan::Changed, Ok(_)) => Scan::Changed,
                (_, Err(why)) => {
                    self.fail(state, why);
                    Scan::Changed
                }
            };
        }
        outcome
    }

    /// Decides about the notification of what is published, then serves chains.
    fn look_at(&mut self, state: &mut State, index: usize) -> Result<Scan, Broken> {
        let event_index = state.has_event_index();
        let features = state.driver_features;
        let memory = &self.memory;
        let done = &mut self.done.queues[index];
        if !state.queues[index].is_enabled() {
            return Ok(Scan::Idle);
        }

        let mut outcome = Scan::Idle;
        if state.queues[index].has_undecided() {
            if done.published == Some(state.queues[index].next_used) {
                if state.queues[index].decide(memory, event_index)? {
                    state.notify_queue(index);
                }
                outcome = Scan::Changed;
            } else {
                // Only `settle` publishes, and it comes after a commit.
                outcome = Scan::More;
            }
        }

        let positions = &mut state.positions;
        let ring = &mut state.queues[index];
        let mut queue = ring.queue(event_index)?;
        let (mut chains, mut work) = (0, 0);
        // The queue as it was when the request in hand began, and how many chains that has had.
        let (mut begun, mut part) = (*ring, 0);
        while (chains < CHAINS_PER_SCAN && work < WORK_PER_SCAN) || part > 0 {
            let available = ring::available(&queue, memory)?;
            if available == ring.next_avail {
                if done.armed == Some(available) {
                    if part > 0 {
                        *ring = begun;
                        done.short = Some(available);
                    }
                    return Ok(if chains == 0 { outcome } else { Scan::More });
                }
                ring::ask_for_doorbell(&mut queue, memory)?;
                done.armed = Some(available);
                // Now that a doorbell is asked for, one more look: an entry may have come just before. A driver that
                // goes on to make entries is bounded by those that are served.
                continue;
            }
            if part == 0 && (done.short == Some(available) || !self.backend.is_ready(index, positions)) {
                return Ok(if chains == 0 { outcome } else { Scan::More });
            }
            if done.seen != Some(available) {
                done.seen = Some(available);
                self.doorbells.fetch_add(1, Ordering::Relaxed);
            }
            let head = ring::take(&mut queue, memory, &mut self.segments)?;
            let chain = &self.segments.chain(memory);
            match self.backend.serve(Request { queue: index, features, positions, chain, part })? {
                Served::Done { written, work: cost } => {
                    ring.complete(memory, head, written)?;
                    (begun, part) = (*ring, 0);
                    chains += 1;
                    work += cost;
                }
                Served::Part { written, work: cost } => {
                    ring.complete(memory, head, written)?;
                    part += 1;
                    work += cost;
                }
                Served::Unused => {
                    queue = ring.queue(event_index)?;
                    chains += 1;
                }
            }
            done.short = None;
        }
        Ok(Scan::More)
    }

    /// The driver, or the device, cannot go on without a reset (2.1.2).
    fn fail(&mut self, state: &mut State, why: Broken) {
        self.broken = Some(why);
        state.need_reset();
    }
}

impl<B: Backend> Device for Virtio<B> {
    type State = State;

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        B::manifest(options)
    }

    fn attach(options: &Options, powers: &mut Powers) -> Result<Self, AttachError> {
        let () = Self::QUEUES_FIT;
        let memory = powers.memory()?;
        let vectors = powers.vectors();
        if vectors.len() != usize::from(describe::vectors(B::QUEUES.len())) {
            return Err(AttachError::Missing("vectors"));
        }
        Ok(Virtio {
            backend: B::attach(options, powers)?,
            memory,
            vectors,
            doorbells: Arc::clone(&powers.doorbells),
            segments: Segments::new(),
            done: Done::default(),
            broken: None,
        })
    }

    fn power_on(&mut self) -> State {
        let state = State::new(B::QUEUES, self.backend.positions());
        self.done = Done::for_reset(&state);
        state
    }

    fn check(&self, state: &State) -> bool {
        state.is_sound(B::QUEUES, self.features(), &self.memory)
    }

    fn read(&mut self, state: &mut State, at: Access) -> Result<u64, NoRegister> {
        registers::read(self, state, at)
    }

    fn write(&mut self, state: &mut State, at: Access, value: u64) -> Result<(), NoRegister> {
        registers::write(self, state, at, value)
    }

    fn alarm(&mut self, _: &mut State, _: u64) {}

    fn button(&mut self, _: &mut State, _: u64) {}

    fn refresh(&mut self, _: &mut State, _: u64) {}

    fn scan(&mut self, state: &mut State, _: u64) -> Scan {
        self.look(state)
    }

    fn pending(&self, state: &State) -> bool {
        state.is_running()
            && state.queues.iter().zip(&self.done.queues).enumerate().any(|(index, (ring, done))| {
                ring.is_enabled()
                    && (ring.has_undecided()
                        || match ring.available(&self.memory) {
                            Some(available) => {
                                done.short != Some(available) && self.backend.is_ready(index, &state.positions)
                            }
                            None => done.armed != Some(ring.next_avail),
                        })
            })
    }

    fn outputs(&self, state: &State) -> Outputs {
        Outputs { levels: state.pin_level().into(), ..Outputs::default() }
    }

    fn settle(&mut self, state: &State) {
        self.backend.publish(&state.positions);
        for (ring, done) in state.queues.iter().zip(&mut self.done.queues) {
            if ring.has_undecided() && done.published != Some(ring.next_used) {
                ring.publish(&self.memory);
                done.published = Some(ring.next_used);
            }
        }
        let config = (state.config_vector, state.config_signals, &mut self.done.config_signals);
        let queues = state.queues.iter().zip(&mut self.done.queues);
        let queues = queues.map(|(ring, done)| (ring.vector, ring.signals, &mut done.signals));
        for (vector, signals, sent) in queues.chain([config]) {
            if *sent != Some(signals) {
                *sent = Some(signals);
                if let Some(bell) = self.vectors.get(usize::from(vector)) {
                    bell.ring(1);
                }
            }
        }
    }
}

impl Done {
    /// After a reset into `state` nothing is published, and there is nothing to notify of.
    fn for_reset(state: &State) -> Done {
        let mut done = Done { config_signals: Some(state.config_signals), ..Done::default() };
        for (queue, ring) in done.queues.iter_mut().zip(&state.queues) {
            queue.signals = Some(ring.signals);
        }
        done
    }
}
