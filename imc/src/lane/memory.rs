//! The `memory` carrier: entries in shared memory, answers by a commit word.

use super::layout::{ENTRIES, SPIN, WAITER, encode, entry_offset, has_happened, word};
use super::waiting::{self, Rung, Sleeper, waiter};
use super::{Carrier, LaneError, Patience, PostError, Request, Retirement, StateView};
use crate::{Mapping, Wake};
use schema::lane::Access;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often a waiter may be woken for nothing before it stops believing its eventfd. A ring that came too late for the
/// last wait is one; more are a host's doing.
pub(super) const USELESS_WAKES: u32 = 16;
/// Then it looks this often. Short against what a person notices, long against what a processor does.
pub(super) const DOUBTFUL_WAIT: Duration = Duration::from_micros(500);
/// How often the reply is read anew when the host commits meanwhile; each try already has bounded ones of its own.
const REPLY_TRIES: u32 = 16;

/// How long each side looks at shared memory, at most, before it sleeps; how much of it is spent each time is learnt
/// ([`Patience`]). Counts of looks, not times: a sealed host has no clock. A look is a pause instruction and some loads, 20 to
/// 60 ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpinBudget {
    /// Looks of the VMM for an answer.
    pub vmm: u32,
    /// Looks of the host for more to do.
    pub host: u32,
}

impl SpinBudget {
    /// Neither looks twice. For whoever may share a core: each look would only keep the other side from running.
    pub const NONE: SpinBudget = SpinBudget { vmm: 0, host: 0 };
    /// For cores to spare. The VMM looks for longer than it takes a host to wake up (some 20 µs), and the host for longer
    /// than a guest takes between two accesses of one conversation.
    pub const SPARE_CORES: SpinBudget = SpinBudget { vmm: 1000, host: 4000 };
}

/// The VMM's end of a lane over a request region, which it writes, and a state region, which it reads.
pub struct MemoryCarrier {
    request: Mapping,
    view: StateView,
    wake: Wake,
    retirement: Arc<Retirement>,
    /// Looks that a waiter spends at most.
    spin: u32,
    /// What was learnt of a host that is awake, and of one that is rung.
    patience: [Patience; 2],
    /// Sequence of the last entry.
    issued: u32,
    /// The last committed sequence that was seen.
    seen: u32,
    rung: Rung,
}

impl MemoryCarrier {
    /// The carrier over these regions. `reply` wakes this side, `wake` the host.
    ///
    /// # Panics
    ///
    /// If `request` is mapped to be read only: that is the host's side of it.
    pub fn new(request: Mapping, view: StateView, reply: Wake, wake: Wake, spin: SpinBudget) -> MemoryCarrier {
        assert!(request.writable(), "the VMM writes the request region");
        let committed = view.committed().sequence();
        let retirement = Retirement::new(Some(reply));
        let mut carrier = MemoryCarrier {
            request,
            view,
            wake,
            retirement,
            spin: 0,
            patience: Default::default(),
            issued: committed,
            seen: committed,
            rung: Rung::default(),
        };
        carrier.set_spin(spin);
        carrier
    }

    /// Changes how long each side looks before it sleeps.
    pub fn set_spin(&mut self, spin: SpinBudget) {
        self.spin = spin.vmm;
        word(&self.request, SPIN).store(u64::from(spin.host), Ordering::Relaxed);
    }

    /// Looks at the commit word, and whether it is one that an honest host could have stored. Says whether `sequence` is
    /// committed.
    fn is_committed(&mut self, sequence: u32) -> Result<bool, LaneError> {
        let committed = self.view.committed().sequence();
        if committed.wrapping_sub(self.seen) > self.issued.wrapping_sub(self.seen) {
            return Err(self.violation(format!(
                "it committed operation {committed}, after {} and with only {} issued",
                self.seen, self.issued
            )));
        }
        self.seen = committed;
        Ok(has_happened(sequence, committed))
    }

    fn violation(&self, what: String) -> LaneError {
        self.retirement.retire();
        LaneError::Violation(what)
    }

    fn check(&self) -> Result<(), LaneError> {
        if self.retirement.is_retired() { Err(LaneError::Gone) } else { Ok(()) }
    }

    /// Whether one more entry may be written. An entry is reused only after its sequence was committed.
    fn has_room(&mut self) -> Result<bool, LaneError> {
        let reused = self.issued.wrapping_add(1).wrapping_sub(ENTRIES);
        Ok(has_happened(reused, self.seen) || self.is_committed(reused)?)
    }

    /// Writes the next entry, which has room.
    fn issue(&mut self, request: &Request) {
        self.issued = self.issued.wrapping_add(1);
        let Request { operation, range, width, offset, value, now } = *request;
        let access = Access { sequence: self.issued, operation, range, width, offset, value, now };
        let at = entry_offset(self.issued);
        let [first, rest @ ..] = encode(&access);
        for (index, value) in rest.into_iter().enumerate() {
            word(&self.request, at + 8 * (index + 1)).store(value, Ordering::Relaxed);
        }
        word(&self.request, at).store(first, Ordering::Release);
    }

    /// Wakes the host if it sleeps, once for each time that it went to sleep.
    fn ring(&mut self) -> Result<(), LaneError> {
        if !self.rung.must_ring(self.view.generation()) {
            return Ok(());
        }
        // A vcpu must not wait for room, and an honest host never fills its own wake.
        if !self.wake.has_room() {
            return Err(self.violation("its wake is stuffed full".into()));
        }
        self.wake.signal(1).map_err(|error| self.violation(format!("its wake cannot be rung: {error}")))
    }

    /// Waits until `sequence` is committed.
    fn wait(&mut self, sequence: u32, deadline: Duration) -> Result<(), LaneError> {
        let regime = usize::from(self.rung.found_asleep());
        let looks = self.patience[regime].looks(self.spin);
        for look in 0..looks {
            if self.is_committed(sequence)? {
                self.patience[regime].came(look, self.spin);
                return Ok(());
            }
            std::hint::spin_loop();
        }
        self.patience[regime].missed(looks);
        let end = Instant::now() + deadline;
        waiting::sleep(&mut Waiter { carrier: self, sequence, end, useless: 0 })
    }

    /// The reply to the last operation, which is committed.
    fn reply(&mut self) -> Result<u64, LaneError> {
        for _ in 0..REPLY_TRIES {
            if let Some((sequence, value)) = self.view.reply() {
                if sequence != self.issued {
                    let what = format!("it committed operation {} with a reply to operation {sequence}", self.issued);
                    return Err(self.violation(what));
                }
                return Ok(value);
            }
        }
        Err(LaneError::Late)
    }
}

impl Carrier for MemoryCarrier {
    fn make_room(&mut self, deadline: Duration) -> Result<(), LaneError> {
        if self.has_room()? {
            return Ok(());
        }
        // All that is in the way may be what it was not woken for.
        self.ring()?;
        self.wait(self.issued.wrapping_add(1).wrapping_sub(ENTRIES), deadline)
    }

    fn call(&mut self, request: &Request, deadline: Duration) -> Result<u64, LaneError> {
        self.check()?;
        let mut left = deadline;
        if !self.has_room()? {
            let start = Instant::now();
            self.make_room(deadline)?;
            left = deadline.saturating_sub(start.elapsed());
        }
        self.issue(request);
        self.ring()?;
        self.resume(left)
    }

    fn resume(&mut self, deadline: Duration) -> Result<u64, LaneError> {
        self.wait(self.issued, deadline)?;
        self.reply()
    }

    fn take_string(&mut self, into: &mut [u8]) -> Result<(), LaneError> {
        if self.view.string(self.issued, into) {
            return Ok(());
        }
        Err(self.violation(format!("it left no {} bytes for operation {}", into.len(), self.issued)))
    }

    fn take_ahead(&mut self, place: u32, into: &mut [u8]) -> bool {
        self.view.bytes(place, into)
    }

    fn post(&mut self, request: &Request) -> Result<(), PostError> {
        self.check()?;
        if !self.has_room()? {
            self.ring()?;
            return Err(PostError::Full);
        }
        self.issue(request);
        Ok(self.ring()?)
    }

    fn post_remembered(&mut self, request: &Request) -> Result<(), PostError> {
        // Where the host has a processor to itself, it wakes up while the guest goes on to what waits for it. Where it has
        // not, each of its wakes keeps the guest from running.
        self.check()?;
        if self.spin > 0 || !self.has_room()? {
            return self.post(request);
        }
        self.issue(request);
        Ok(())
    }

    fn refresh(&mut self) -> Result<bool, LaneError> {
        // What is committed is in place.
        Ok(true)
    }

    fn outstanding(&mut self) -> Result<usize, LaneError> {
        self.is_committed(self.issued)?;
        Ok(self.issued.wrapping_sub(self.seen) as usize)
    }

    fn issued(&self) -> u32 {
        self.issued
    }

    fn renew(&mut self) -> Result<(), LaneError> {
        self.seen = self.issued;
        self.rung = Rung::default();
        Ok(())
    }

    fn retirement(&self) -> Arc<Retirement> {
        self.retirement.clone()
    }

    fn kind(&self) -> schema::lane::Carrier {
        schema::lane::Carrier::Memory
    }
}

/// A vcpu that waits until `sequence` is committed, or for its `end`.
struct Waiter<'a> {
    carrier: &'a mut MemoryCarrier,
    sequence: u32,
    end: Instant,
    /// How often it was woken for nothing.
    useless: u32,
}

impl Sleeper for Waiter<'_> {
    type Reason = Result<(), LaneError>;

    fn fall_asleep(&mut self) {
        waiter::fall_asleep(word(&self.carrier.request, WAITER), self.sequence);
    }

    fn look(&mut self) -> Option<Result<(), LaneError>> {
        match self.carrier.is_committed(self.sequence) {
            Ok(false) => self.carrier.check().err().map(Err),
            Ok(true) => Some(Ok(())),
            Err(error) => Some(Err(error)),
        }
    }

    fn rest(&mut self) -> Option<Result<(), LaneError>> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Some(Err(LaneError::Late));
        }
        match self.carrier.retirement.waiter() {
            Some(reply) if self.useless < USELESS_WAKES => {
                if !matches!(reply.wait(left), Ok(false)) {
                    reply.drain();
                    self.useless += 1;
                }
            }
            _ => std::thread::sleep(left.min(DOUBTFUL_WAIT)),
        }
        None
    }

    fn wake_up(&mut self) {
        waiter::wake_up(word(&self.carrier.request, WAITER));
    }
}
