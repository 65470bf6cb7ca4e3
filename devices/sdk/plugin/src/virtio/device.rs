//! What a virtio device implements, and the device that it makes.

use super::state::TRANSPORT_FEATURES;
use super::{Broken, CHAINS_PER_SCAN, Chain, Function, QUEUE_SIZE_MAX, QUEUES_MAX, State, WORK_PER_SCAN};
use super::{describe, registers};
use crate::{Access, Bell, Device, GuestMemory, Manifest, NoRegister, OptionSpec, Options, Outputs, Powers, Refusal};

/// What makes one kind of virtio device: its offer, and how it serves a chain.
///
/// Order of calls: `attach`, then any of the others. Whatever `serve` does is done again when the process dies before the
/// commit, so doing it twice must be the same as doing it once. What it keeps in itself is lost with the process.
pub trait Backend: Sized + 'static {
    /// The largest size of each queue: a power of 2.
    const QUEUES: &'static [u16];

    /// Options that a person may set.
    const OPTIONS: &'static [OptionSpec] = &[];

    /// What this device declares when it has these options.
    fn function(options: &Options) -> Result<Function, Refusal>;

    /// Takes its powers, other than guest memory and the vectors.
    fn attach(options: &Options, powers: &mut Powers) -> Result<Self, Refusal>;

    /// Feature bits of the device type. The transport adds its own.
    fn features(&self) -> u64 {
        0
    }

    /// The device configuration; its length is the one that is declared.
    fn config(&self) -> &[u8] {
        &[]
    }

    /// Serves one chain of a queue.
    fn serve(&mut self, request: Request<'_>) -> Result<Served, Broken>;
}

/// A chain to be served.
pub struct Request<'a> {
    /// Number of its queue.
    pub queue: usize,
    /// What the driver accepted.
    pub features: u64,
    /// Its buffers.
    pub chain: &'a Chain<'a>,
}

/// What became of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// Bytes written, from the first writable one on and without a gap (2.7.8.2).
    pub written: u32,
    /// What it cost, in bytes moved, or [`WORK_PER_SCAN`] for something that should be the last of its scan.
    pub work: u64,
}

/// A virtio device on PCI.
pub struct Virtio<B> {
    pub(super) backend: B,
    pub(super) memory: GuestMemory,
    vectors: Vec<Bell>,
    doorbell: Box<dyn Fn()>,
    done: [Done; QUEUES_MAX],
    config_signals: Option<u32>,
    broken: Option<Broken>,
}

/// What this incarnation has done outside its state: nothing that may not be done again.
#[derive(Default)]
struct Done {
    /// The used index that was published.
    published: Option<u16>,
    /// The available index at which a doorbell was asked for.
    armed: Option<u16>,
    /// The available index that was last seen to be new.
    seen: Option<u16>,
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
    pub(super) fn features(&self) -> u64 {
        self.backend.features() | TRANSPORT_FEATURES
    }

    /// After a reset into `state` nothing is published, and there is nothing to notify of.
    pub(super) fn begin_anew(&mut self, state: &State) {
        let done = |index: usize| Done { signals: Some(state.queues[index].signals), ..Done::default() };
        self.done = std::array::from_fn(done);
        self.config_signals = Some(state.config_signals);
        self.broken = None;
    }

    /// The driver, or the device, cannot go on without a reset (2.1.2).
    pub(super) fn fail(&mut self, state: &mut State, why: Broken) {
        self.broken = Some(why);
        state.need_reset();
    }

    /// Looks at every queue. Says whether something was done, or is left to do.
    pub(super) fn look(&mut self, state: &mut State) -> bool {
        let mut changed = false;
        for index in 0..B::QUEUES.len() {
            // A queue can break the whole device.
            if state.queues[index].enabled == 0 || !state.is_running() {
                continue;
            }
            changed |= self.look_at(state, index).unwrap_or_else(|why| {
                self.fail(state, why);
                true
            });
        }
        changed
    }

    /// Decides about the notification of what is published, then serves chains.
    fn look_at(&mut self, state: &mut State, index: usize) -> Result<bool, Broken> {
        let (event_index, features) = (state.has_event_index(), state.driver_features);
        let (memory, done) = (&self.memory, &mut self.done[index]);
        let ring = &mut state.queues[index];
        let changed = ring.has_undecided();
        // Only `settle` publishes, and it comes after a commit.
        if changed && done.published == Some(ring.next_used) && ring.decide(memory, event_index)? {
            state.notify_queue(index);
        }
        let ring = &mut state.queues[index];
        let (mut chains, mut work) = (0, 0);
        while chains < CHAINS_PER_SCAN && work < WORK_PER_SCAN {
            let available = ring.available(memory)?;
            if available == ring.next_avail {
                if done.armed == Some(available) {
                    return Ok(changed || chains > 0);
                }
                ring.ask_for_doorbell(memory, event_index)?;
                done.armed = Some(available);
                // Now that a doorbell is asked for, one more look: an entry may have come just before.
                continue;
            }
            if done.seen != Some(available) {
                done.seen = Some(available);
                (self.doorbell)();
            }
            let head = ring.next_head(memory, available)?;
            let chain = Chain::collect(memory, ring.desc, ring.size, head)?;
            let served = self.backend.serve(Request { queue: index, features, chain: &chain })?;
            ring.complete(memory, head, served.written)?;
            chains += 1;
            work += served.work.min(WORK_PER_SCAN);
        }
        Ok(true)
    }
}

impl<B: Backend> Device for Virtio<B> {
    type State = State;
    const OPTIONS: &'static [OptionSpec] = B::OPTIONS;

    fn manifest(options: &Options) -> Result<Manifest, Refusal> {
        let () = Self::QUEUES_FIT;
        Ok(describe::manifest(B::function(options)?, B::QUEUES.len()))
    }

    fn attach(options: &Options, powers: &mut Powers) -> Result<Self, Refusal> {
        let memory = powers.memory()?;
        let vectors = std::mem::take(&mut powers.vectors);
        if vectors.len() != usize::from(describe::vectors(B::QUEUES.len())) {
            return Err("the vectors were not granted".into());
        }
        let doorbell = std::mem::replace(&mut powers.doorbell, Box::new(|| ()));
        let backend = B::attach(options, powers)?;
        let done = std::array::from_fn(|_| Done::default());
        Ok(Virtio { backend, memory, vectors, doorbell, done, config_signals: None, broken: None })
    }

    fn power_on(&mut self) -> State {
        let state = State::new(B::QUEUES);
        self.begin_anew(&state);
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

    fn scan(&mut self, state: &mut State, _: u64) -> bool {
        self.look(state)
    }

    fn outputs(&self, state: &State) -> Outputs {
        Outputs { levels: state.pin.into(), ..Outputs::default() }
    }

    fn settle(&mut self, state: &State) {
        for (ring, done) in state.queues.iter().zip(&mut self.done) {
            if ring.has_undecided() && done.published != Some(ring.next_used) {
                ring.publish(&self.memory);
                done.published = Some(ring.next_used);
            }
        }
        let config = (state.config_vector, state.config_signals, &mut self.config_signals);
        let queues = state.queues.iter().zip(&mut self.done);
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
