//! Which accesses need the device, and which its manifest and its last commit already answer.

use super::layout::ENTRIES;
use super::{Carrier, LaneError, Levels, PostError, Request, Retirement, StateView, mask};
use crate::Wake;
use schema::lane::{Loaded, Operation, STRING_MAX};
use schema::manifest::{Manifest, RegisterKind, Tolerance};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

/// What a device's VMM keeps of it: the way to it, and the registers that need no way.
///
/// One lock orders the operations, so at most one waits, and it is always the last. What the device has committed is read
/// without it.
pub struct Lane {
    queue: Mutex<Queue>,
    view: StateView,
    retirement: Arc<Retirement>,
    carrier: schema::lane::Carrier,
    deadline: Duration,
    late: Option<Late>,
    posted: Vec<Posted>,
    shadows: Vec<Shadow>,
    /// Registers whose string loads may be joined.
    strings: Vec<Place>,
    /// Kinds of posted writes that are only remembered.
    remembered: u32,
    counts: Counts,
}

/// What becomes of a wait that has lasted for a deadline, where hosts are started anew: it is told of, and goes on.
pub struct Late {
    /// Deadlines that one operation is waited for at most.
    pub deadlines: u32,
    /// Rung for whoever looks at [`Lane::take_late`].
    pub bell: Arc<Wake>,
    /// To be taken.
    is_late: AtomicBool,
}

impl Late {
    /// Waits are told of by `bell`, and last for `deadlines` at most.
    #[must_use]
    pub fn new(deadlines: u32, bell: Arc<Wake>) -> Late {
        Late { deadlines, bell, is_late: AtomicBool::new(false) }
    }

    fn tell(&self) {
        self.is_late.store(true, Ordering::SeqCst);
        if self.bell.has_room() {
            // An error would leave it to the next look.
            let _ = self.bell.signal(1);
        }
    }
}

/// How a lane's operations were answered, since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaneCounters {
    /// Reads served from the committed header.
    pub shadow: u64,
    /// Writes that did not wait.
    pub posted: u64,
    /// Operations that waited for the device.
    pub lane: u64,
    /// Accesses that got no answer: the guest saw ones, or its write vanished.
    pub ones: u64,
    /// Accesses that hit no register, as the device counts them.
    pub unknown: u64,
}

#[derive(Default)]
struct Counts {
    shadow: AtomicU64,
    posted: AtomicU64,
    lane: AtomicU64,
    ones: AtomicU64,
}

struct Queue {
    carrier: Box<dyn Carrier>,
    /// What was issued, and not seen to have taken effect when last looked at. The oldest first.
    outstanding: VecDeque<Issued>,
    /// What the last operation said that its next would give.
    ahead: Option<Ahead>,
}

/// Bytes that string loads of a register would give, and that lie in the state region.
#[derive(Clone, Copy)]
struct Ahead {
    from: Place,
    place: u32,
    bytes: u16,
}

/// What a shadow register's truth may depend on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Issued {
    /// A posted write of this kind.
    Posted(u8),
    /// A string load that was taken ahead, on which nothing depends.
    Ahead,
    /// Anything else.
    Other,
}

/// Where writes may be posted: a register, or an area of memory behind registers.
struct Posted {
    place: Place,
    /// Bytes; zero: the one place, at its one width.
    length: u64,
    /// Which bits of the value have to be as in the next.
    mask: u64,
    value: u64,
    kind: u8,
}

impl Posted {
    fn covers(&self, place: Place, value: u64) -> bool {
        if self.length == 0 {
            return self.place == place && value & self.mask == self.value;
        }
        let offset = place.offset.checked_sub(self.place.offset);
        self.place.range == place.range
            && place.width <= self.place.width
            && offset
                .and_then(|offset| offset.checked_add(u64::from(place.width)))
                .is_some_and(|end| end <= self.length)
    }
}

struct Shadow {
    place: Place,
    slot: u8,
    tolerates: Vec<Tolerance>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    range: u8,
    offset: u64,
    width: u8,
}

impl Lane {
    /// The lane of a device with this manifest. `deadline` bounds each wait for it.
    pub fn new(carrier: Box<dyn Carrier>, view: StateView, manifest: &Manifest, deadline: Duration) -> Lane {
        let (mut posted, mut shadows, mut strings) = (Vec::new(), Vec::new(), Vec::new());
        for register in &manifest.registers {
            let place = Place { range: register.range, offset: register.offset, width: register.width };
            match &register.kind {
                RegisterKind::Strings => strings.push(place),
                RegisterKind::Posted(kind) => {
                    posted.push(Posted { place, length: 0, mask: 0, value: 0, kind: *kind });
                }
                RegisterKind::PostedValue { posted: kind, mask, value } => {
                    posted.push(Posted { place, length: 0, mask: *mask, value: *value, kind: *kind });
                }
                RegisterKind::Area { posted: kind, length } => {
                    posted.push(Posted { place, length: *length, mask: 0, value: 0, kind: *kind });
                }
                RegisterKind::Shadow { slot, tolerates } => {
                    shadows.push(Shadow { place, slot: *slot, tolerates: tolerates.clone() });
                }
            }
        }
        let outstanding = VecDeque::with_capacity(ENTRIES as usize + 1);
        Lane {
            retirement: carrier.retirement(),
            carrier: carrier.kind(),
            queue: Mutex::new(Queue { carrier, outstanding, ahead: None }),
            view,
            deadline,
            late: None,
            posted,
            shadows,
            strings,
            remembered: manifest.remembered,
            counts: Counts::default(),
        }
    }

    /// Has whoever waits for the device go on when its deadline has passed: a host that is late is started anew.
    #[must_use]
    pub fn with_restarts(self, late: Late) -> Lane {
        Lane { late: Some(late), ..self }
    }

    /// Whether an operation has missed its deadline since this was asked last.
    pub fn take_late(&self) -> bool {
        self.late.as_ref().is_some_and(|late| late.is_late.swap(false, Ordering::SeqCst))
    }

    /// Sequence of the operation issued last. Of a retired lane, whose lock nobody holds for long.
    pub fn issued(&self) -> u32 {
        self.lock().carrier.issued()
    }

    /// A lane that retired itself over a violation begins anew: its host is gone, and what that wrote is wiped.
    pub fn renew(&self) -> Result<(), LaneError> {
        let mut queue = self.lock();
        queue.carrier.renew()?;
        queue.outstanding.clear();
        queue.ahead = None;
        self.retirement.revive();
        Ok(())
    }

    /// Answers a guest load, masked to its width.
    pub fn read(&self, range: u8, offset: u64, width: u8, now: u64) -> Result<u64, LaneError> {
        let answer = self.try_read(Place { range, offset, width }, now);
        self.counted(answer)
    }

    /// Whether loads that one string instruction makes of this register may be asked for at once.
    #[must_use]
    pub fn joins(&self, range: u8, offset: u64, width: u8) -> bool {
        self.strings.contains(&Place { range, offset, width })
    }

    /// Answers such loads, of elements of `width` bytes: as many as the device gives at once. Says how many bytes they are.
    pub fn read_string(
        &self,
        range: u8,
        offset: u64,
        width: u8,
        into: &mut [u8],
        now: u64,
    ) -> Result<usize, LaneError> {
        let answer = self.try_read_string(Place { range, offset, width }, into, now);
        self.counted(answer)
    }

    /// Takes a guest store. On return it has taken effect, or is queued ahead of every later operation.
    pub fn write(&self, range: u8, offset: u64, width: u8, value: u64, now: u64) -> Result<(), LaneError> {
        let taken = self.try_write(Place { range, offset, width }, value & mask(width), now);
        self.counted(taken)
    }

    /// Has an operation done that is no access (reset, quiesce, shutdown), and waits for it.
    pub fn operate(&self, operation: Operation, now: u64) -> Result<(), LaneError> {
        let mut queue = self.live()?;
        self.call(&mut queue, &bare(operation, now))?;
        Ok(())
    }

    /// Queues an operation that is no access (alarm, button), without waiting for anything. False: it was not possible now;
    /// try again a little later.
    pub fn notify(&self, operation: Operation, now: u64) -> bool {
        if self.is_retired() {
            return true;
        }
        let mut queue = match self.queue.try_lock() {
            Ok(queue) => queue,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        // A failure is told to the next access, which has somebody to tell.
        queue.post(&bare(operation, now), Issued::Other, false) != Err(PostError::Full)
    }

    /// Takes what the device has told of its own accord, so that levels and deadline are as new as its hint to look at
    /// them. False: not all could be taken now; try again a little later.
    pub fn refresh(&self) -> Result<bool, LaneError> {
        if self.is_retired() {
            return Ok(true);
        }
        match self.queue.try_lock() {
            Ok(mut queue) => queue.carrier.refresh(),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().carrier.refresh(),
            Err(TryLockError::WouldBlock) => Ok(false),
        }
    }

    /// The committed levels of the lines.
    pub fn levels(&self) -> Levels {
        self.view.levels()
    }

    /// When the device's alarm is due, in nanoseconds of the guest clock.
    pub fn deadline(&self) -> Option<u64> {
        self.view.deadline()
    }

    /// Doorbells that the device answered.
    pub fn doorbells(&self) -> u64 {
        self.view.doorbells()
    }

    /// From now on every operation is answered [`LaneError::Gone`] at once; who waits is woken.
    pub fn retire(&self) {
        self.retirement.retire();
    }

    /// Whether the lane was retired, or retired itself over a violation.
    pub fn is_retired(&self) -> bool {
        self.retirement.is_retired()
    }

    /// What it runs over.
    pub fn carrier(&self) -> schema::lane::Carrier {
        self.carrier
    }

    /// How its operations were answered so far.
    pub fn counters(&self) -> LaneCounters {
        LaneCounters {
            shadow: self.counts.shadow.load(Ordering::Relaxed),
            posted: self.counts.posted.load(Ordering::Relaxed),
            lane: self.counts.lane.load(Ordering::Relaxed),
            ones: self.counts.ones.load(Ordering::Relaxed),
            unknown: self.view.unknown(),
        }
    }

    fn try_read(&self, place: Place, now: u64) -> Result<u64, LaneError> {
        let mut queue = self.live()?;
        if let Some(shadow) = self.shadows.iter().find(|shadow| shadow.place == place)
            && queue.carrier.refresh()?
            && queue.leaves_true(shadow)?
            && let Some(value) = self.view.shadow(shadow.slot, now)
        {
            count(&self.counts.shadow);
            return Ok(value & mask(place.width));
        }
        let value = self.call(&mut queue, &place.request(Operation::Read, 0, now))?;
        Ok(value & mask(place.width))
    }

    fn try_read_string(&self, place: Place, into: &mut [u8], now: u64) -> Result<usize, LaneError> {
        let element = usize::from(place.width);
        let most = into.len().min(STRING_MAX) / element * element;
        let request = place.request(Operation::ReadString, most as u64, now);
        let mut queue = self.live()?;
        if queue.take_ahead(place, &request, &mut into[..most])? {
            count(&self.counts.posted);
            return Ok(most);
        }
        let loaded = Loaded::of(self.call(&mut queue, &request)?);
        let bytes = usize::from(loaded.bytes);
        if bytes == 0 || bytes > most || !bytes.is_multiple_of(element) {
            self.retirement.retire();
            return Err(LaneError::Violation(format!("it gave {bytes} bytes where {most} were to be loaded")));
        }
        queue.carrier.take_string(&mut into[..bytes])?;
        queue.ahead = Some(Ahead { from: place, place: loaded.place, bytes: loaded.ahead });
        Ok(bytes)
    }

    fn try_write(&self, place: Place, value: u64, now: u64) -> Result<(), LaneError> {
        let mut queue = self.live()?;
        if let Some(posted) = self.posted.iter().find(|posted| posted.covers(place, value))
            && queue.carrier.refresh()?
            && self.view.postable(now) & bit(posted.kind) != 0
        {
            let remembered = self.remembered & bit(posted.kind) != 0;
            match queue.post(&place.request(Operation::Post, value, now), Issued::Posted(posted.kind), remembered) {
                Ok(()) => {
                    count(&self.counts.posted);
                    return Ok(());
                }
                Err(PostError::Full) => {}
                Err(PostError::Failed(error)) => return Err(error),
            }
        }
        self.call(&mut queue, &place.request(Operation::Write, value, now))?;
        Ok(())
    }

    fn live(&self) -> Result<MutexGuard<'_, Queue>, LaneError> {
        if self.is_retired() {
            return Err(LaneError::Gone);
        }
        Ok(self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, queue: &mut Queue, request: &Request) -> Result<u64, LaneError> {
        count(&self.counts.lane);
        let Some(late) = &self.late else { return queue.call(request, self.deadline) };
        let mut left = late.deadlines;
        let mut is_over = || {
            left = left.saturating_sub(1);
            if left > 0 {
                late.tell();
            }
            left == 0
        };
        // Only then is it certain that a call which is late was issued, to be waited for again.
        while let Err(error) = queue.carrier.make_room(self.deadline) {
            if error != LaneError::Late || is_over() {
                return Err(error);
            }
        }
        let mut answer = queue.call(request, self.deadline);
        while answer == Err(LaneError::Late) && !is_over() {
            answer = queue.resume(self.deadline);
        }
        answer
    }

    fn counted<T>(&self, result: Result<T, LaneError>) -> Result<T, LaneError> {
        if result.is_err() {
            self.counts.ones.fetch_add(1, Ordering::Relaxed);
        }
        result
    }
}

impl Queue {
    /// Answers a string load, and has the device only told of it. False: the device has to answer.
    fn take_ahead(&mut self, from: Place, request: &Request, into: &mut [u8]) -> Result<bool, LaneError> {
        let Some(ahead) = self.ahead.filter(|ahead| ahead.from == from && into.len() <= ahead.bytes.into()) else {
            return Ok(false);
        };
        if !self.carrier.take_ahead(ahead.place, into) {
            return Ok(false);
        }
        match self.post(request, Issued::Ahead, true) {
            Ok(()) => {}
            Err(PostError::Full) => return Ok(false),
            Err(PostError::Failed(error)) => return Err(error),
        }
        let bytes = into.len() as u16;
        let place = ahead.place.saturating_add(bytes.into());
        self.ahead = Some(Ahead { place, bytes: ahead.bytes - bytes, ..ahead });
        Ok(true)
    }

    fn call(&mut self, request: &Request, deadline: Duration) -> Result<u64, LaneError> {
        self.ahead = None;
        let reply = self.carrier.call(request, deadline);
        match reply {
            // It was the last one, so all before it have taken effect.
            Ok(_) => self.outstanding.clear(),
            Err(_) => self.note(Issued::Other),
        }
        reply
    }

    /// Waits on for the last call.
    fn resume(&mut self, deadline: Duration) -> Result<u64, LaneError> {
        let reply = self.carrier.resume(deadline);
        if reply.is_ok() {
            self.outstanding.clear();
        }
        reply
    }

    fn post(&mut self, request: &Request, issued: Issued, remembered: bool) -> Result<(), PostError> {
        self.ahead = None;
        if remembered {
            self.carrier.post_remembered(request)?;
        } else {
            self.carrier.post(request)?;
        }
        self.note(issued);
        Ok(())
    }

    fn note(&mut self, issued: Issued) {
        if self.outstanding.len() > ENTRIES as usize {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back(issued);
    }

    /// Whether what is outstanding leaves this register's shadow true.
    fn leaves_true(&mut self, shadow: &Shadow) -> Result<bool, LaneError> {
        if self.outstanding.is_empty() {
            return Ok(true);
        }
        let outstanding = self.carrier.outstanding()?;
        while self.outstanding.len() > outstanding {
            self.outstanding.pop_front();
        }
        let mut others = self.outstanding.iter().filter(|issued| **issued != Issued::Ahead);
        Ok(others.all(|issued| {
            let tolerance = shadow.tolerates.iter().find(|tolerance| *issued == Issued::Posted(tolerance.posted));
            tolerance.is_some_and(|tolerance| {
                let count = self.outstanding.iter().filter(|other| *other == issued).count();
                count <= usize::from(tolerance.count)
            })
        }))
    }
}

impl Place {
    fn request(self, operation: Operation, value: u64, now: u64) -> Request {
        Request { operation, range: self.range, width: self.width, offset: self.offset, value, now }
    }
}

/// An operation that is no access.
fn bare(operation: Operation, now: u64) -> Request {
    Request { operation, range: 0, width: 1, offset: 0, value: 0, now }
}

/// The bit of a posted kind in a mask of them.
fn bit(kind: u8) -> u32 {
    1u32.checked_shl(kind.into()).unwrap_or(0)
}

/// Counts one more. The lane's lock is held, so nobody else counts here.
fn count(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}
