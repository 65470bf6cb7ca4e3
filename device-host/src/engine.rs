//! A device between its lane and its state: what is asked is done on a copy, and takes effect by one commit.

use crate::Ended;
use device::manifest::{Manifest, Range};
use device::{Ahead, Model, NoRegister, Scan};
use imc::Wake;
use imc::lane::steps::{Fault, Step, is_broken, reach};
use imc::lane::{Header, HostLane, Levels, Serve, StateWriter, mask, ones};
use schema::host::Exchanged;
use schema::lane::{Access, Loaded, Operation, STRING_MAX};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Posted writes that share one commit. As many as a lane holds: the writers do not wait, and one commit makes room for
/// all of them.
const BATCH_MAX: u32 = 32;
/// Operations that an incarnation commits one by one when it finds the state of an earlier one: should one of them be what
/// ended that, the commit word tells which.
const CAREFUL: u32 = 2 * BATCH_MAX;
/// Looks at its queues that a device is given to come to rest. Each does a bounded amount of work, and a guest could go on
/// filling them for ever.
const QUIESCE_LOOKS: u32 = 1024;

/// A device with its state and its lane.
pub struct Engine {
    model: Box<dyn Model>,
    state: StateWriter,
    lane: HostLane,
    ranges: Box<[Range]>,
    irq: Arc<Wake>,
    doorbells: Doorbells,
    told: Told,
    /// The last `now` that came with an operation. None yet: an earlier incarnation's is in the header.
    now: Option<u64>,
    /// Operations still to be committed one by one.
    careful: u32,
    /// What the device is asked next ended two incarnations.
    poisoned: bool,
    /// What was exchanged since the state was left.
    exchanged: Option<Exchanged>,
    /// It was told to come to rest: it does nothing of its own accord until it is asked something again.
    resting: bool,
}

/// What the VMM knows of the device's outputs: it looked, or was told to look.
#[derive(Default)]
struct Told {
    levels: Levels,
    deadline: Option<u64>,
}

/// How many doorbells a device answered.
struct Doorbells {
    counted: Arc<AtomicU64>,
    earlier: u64,
}

impl Engine {
    /// A device with its state region and its lane. `irq` tells the VMM to look at levels and deadline; `doorbells` is what
    /// the device counts them in. Nothing is done before [`Engine::start`].
    pub fn new(
        model: Box<dyn Model>,
        manifest: &Manifest,
        state: StateWriter,
        lane: HostLane,
        irq: Arc<Wake>,
        doorbells: Arc<AtomicU64>,
    ) -> Engine {
        let doorbells = Doorbells { counted: doorbells, earlier: state.doorbells() };
        Engine {
            model,
            state,
            lane,
            ranges: manifest.ranges.clone().into(),
            irq,
            doorbells,
            told: Told::default(),
            now: None,
            careful: 0,
            poisoned: false,
            exchanged: None,
            resting: false,
        }
    }

    /// What the device is asked next ended two incarnations: it begins anew, and answers that as if nobody were there.
    pub(crate) fn set_poisoned(&mut self) {
        self.poisoned = true;
    }

    /// A medium of the device is another one than when the state was left.
    pub(crate) fn set_exchanged(&mut self, exchanged: Option<Exchanged>) {
        self.exchanged = exchanged;
    }

    /// Powers the device on, or goes on with the state that an earlier incarnation committed, if the device could have left
    /// it. All that was committed and may not have been told is told again. A poisoned device is powered on in any case.
    pub fn start(&mut self) -> Result<(), Ended> {
        let found = self.state.has_state();
        let now = self.state.header().now;
        if found {
            self.careful = CAREFUL;
            reach(Step::Found);
        }
        let exchanged = self.exchanged.take();
        let state = self.state.begin();
        if found && let Some(Exchanged { bay, forced }) = exchanged {
            if !forced && self.model.holds(state, bay) {
                return Err(Ended::Held);
            }
            self.model.exchanged(state, bay);
        }
        if !found || self.poisoned || !self.model.check(state) {
            self.model.power_on(state);
            exchanged.iter().for_each(|exchanged| self.model.exchanged(state, exchanged.bay));
        }
        // What an earlier incarnation committed may not have happened outside yet: it happens behind this commit.
        if found && is_broken(Fault::SilentStart) {
            let header = self.header(now);
            self.state.commit(header, None);
            return Ok(());
        }
        self.commit_event(now)?;
        self.told = Told::default();
        self.ring();
        if found {
            reach(Step::Started);
        }
        Ok(())
    }

    /// Whether it went on with what it found, a moment ago.
    pub(crate) fn is_careful(&self) -> bool {
        self.careful > 0
    }

    /// The next operation, if there is one.
    pub(crate) fn take(&mut self) -> Result<Option<Access>, Ended> {
        Ok(self.lane.take()?)
    }

    /// Does one operation. Returns the reply.
    pub fn serve(&mut self, access: &Access) -> Result<u64, Ended> {
        reach(Step::Taken);
        let now = self.arrive(access);
        if access.operation != Operation::Alarm {
            self.catch_up(now)?;
        }
        self.state.begin();
        if matches!(access.operation, Operation::Read | Operation::ReadString | Operation::Write)
            && self.scan_working(now)?
        {
            self.state.begin();
        }
        let reply = self.perform(access, now)?;
        self.commit(now, access.sequence, reply)?;
        match access.operation {
            // Its vcpu looks at levels and deadline before it goes on.
            Operation::Read
            | Operation::ReadString
            | Operation::Write
            | Operation::Reset
            | Operation::Quiesce
            | Operation::Shutdown => self.note(),
            Operation::Alarm => {
                // The VMM has used the deadline up: it is to hear of the next one, or that there is none.
                self.ring();
                self.note();
            }
            Operation::Post | Operation::Button | Operation::Refresh => self.tell(),
        }
        Ok(reply)
    }

    /// Does a posted write, and those behind it in its lane, as one commit.
    ///
    /// Returns the operation that was taken from the lane behind them and is not one of them, if there was one.
    pub(crate) fn serve_posted(&mut self, first: Access) -> Result<Option<Access>, Ended> {
        debug_assert_eq!(first.operation, Operation::Post);
        reach(Step::Taken);
        let mut now = self.arrive(&first);
        self.catch_up(now)?;
        self.state.begin();
        let mut last = first;
        let most = if self.careful > 0 { 1 } else { BATCH_MAX };
        let mut count = 1;
        let behind = loop {
            self.perform(&last, now)?;
            if count == most {
                break None;
            }
            let Some(next) = self.lane.take()? else { break None };
            let due = self.model.outputs(self.state.working()).deadline;
            let next_now = self.arrive(&next);
            if next.operation != Operation::Post || due.is_some_and(|due| due <= next_now) {
                break Some(next);
            }
            (last, now) = (next, next_now);
            count += 1;
        };
        self.commit(now, last.sequence, 0)?;
        self.tell();
        Ok(behind)
    }

    /// Lets the device look at its queues and rings. Says whether it found something to do; then there may be more.
    pub fn scan(&mut self) -> Result<bool, Ended> {
        if self.resting {
            return Ok(false);
        }
        let now = self.now.unwrap_or(self.state.header().now);
        self.state.begin();
        let found = self.scan_working(now)?;
        self.tell();
        Ok(found)
    }

    /// Whether [`Engine::scan`] would find something to do: a cheap look.
    #[must_use]
    pub fn pending(&self) -> bool {
        !self.resting && self.model.pending(self.state.current())
    }

    /// The way to it.
    pub(crate) fn lane(&mut self) -> &mut HostLane {
        &mut self.lane
    }

    /// Commits an operation, as a host does that dies before it has told of it.
    #[cfg(test)]
    pub(crate) fn commit_untold(&mut self, access: &Access) {
        let now = self.arrive(access);
        self.state.begin();
        let reply = self.perform(access, now).unwrap();
        let header = self.header(now);
        self.state.commit(header, Some((access.sequence, reply)));
    }

    /// Has the next operations committed one by one.
    #[cfg(test)]
    pub(crate) fn set_careful(&mut self, operations: u32) {
        self.careful = operations;
    }

    /// Tells of what is committed, as a host does that dies before anything of it happens outside.
    #[cfg(test)]
    pub(crate) fn tell_unsettled(&mut self) {
        self.lane.tell(&self.state).unwrap();
    }

    /// Says that its host is about to sleep. On return that is ordered before a last look for work.
    pub(crate) fn fall_asleep(&mut self) {
        self.state.fall_asleep();
        self.lane.fall_asleep();
    }

    /// Says that its host is awake.
    pub(crate) fn wake_up(&mut self) {
        self.state.wake_up();
        self.lane.wake_up();
    }

    /// Takes the time from an operation. Vcpus read the clock before they queue for the lane, so it may come out of order;
    /// a device never sees it run backwards.
    fn arrive(&mut self, access: &Access) -> u64 {
        let now = self.now.map_or(access.now, |seen| seen.max(access.now));
        self.now = Some(now);
        self.resting = false;
        now
    }

    /// Runs the alarm, if it is due: before whatever came later.
    fn catch_up(&mut self, now: u64) -> Result<(), Ended> {
        if self.is_due(now) {
            let state = self.state.begin();
            self.model.alarm(state, now);
            self.commit_event(now)?;
            self.told.deadline = None;
        }
        Ok(())
    }

    fn is_due(&self, now: u64) -> bool {
        self.state.header().deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Does the operation on the working copy.
    fn perform(&mut self, access: &Access, now: u64) -> Result<u64, Ended> {
        if std::mem::take(&mut self.poisoned) {
            // All of a string is what ended them.
            return Ok(self.unanswered(access, wanted(access)));
        }
        self.state.attempt(access.sequence);
        let reply = match access.operation {
            Operation::Read | Operation::Write | Operation::Post => match self.register(access, now) {
                Ok(value) => value & mask(access.width),
                Err(NoRegister) => {
                    self.state.count_unknown();
                    ones(access.width)
                }
            },
            Operation::ReadString => match self.string(access, now) {
                Ok(bytes) => bytes,
                Err(NoRegister) => {
                    self.state.count_unknown();
                    self.unanswered(access, access.width.into())
                }
            },
            Operation::Alarm => {
                // Another operation may have run it first.
                if self.is_due(now) {
                    self.model.alarm(self.state.working(), now);
                }
                0
            }
            Operation::Button => {
                self.model.button(self.state.working(), now);
                0
            }
            Operation::Refresh => {
                self.model.refresh(self.state.working(), now);
                0
            }
            Operation::Reset => {
                self.model.power_on(self.state.working());
                0
            }
            Operation::Quiesce | Operation::Shutdown => {
                for _ in 0..QUIESCE_LOOKS {
                    if !self.scan_working(now)? {
                        break;
                    }
                    self.state.begin();
                }
                self.resting = true;
                0
            }
        };
        Ok(reply)
    }

    /// Does a string load, and puts down what it gives. Says how many bytes that is.
    fn string(&mut self, access: &Access, now: u64) -> Result<u64, NoRegister> {
        let at = self.landed(access, now)?;
        let mut string = [0; STRING_MAX];
        let into = &mut string[..wanted(access)];
        let bytes = self.model.read_string(self.state.working(), at, into)?.min(into.len());
        self.state.set_string(access.sequence, &into[..bytes]);
        let mut loaded = Loaded { bytes: bytes as u16, ahead: 0, place: 0 };
        if let Some(Ahead { offset, bytes }) = self.model.ahead(self.state.working(), at) {
            let (_, bulk) = self.state.bulk();
            loaded.ahead = bytes.min(u16::MAX.into()) as u16;
            loaded.place = bulk.start as u32 + offset;
        }
        Ok(loaded.reply())
    }

    /// The reply that is no answer: what was to be loaded is ones, of a string this many bytes.
    fn unanswered(&mut self, access: &Access, bytes: usize) -> u64 {
        if access.operation != Operation::ReadString {
            return ones(access.width);
        }
        let bytes = bytes.min(STRING_MAX);
        self.state.set_string(access.sequence, &[u8::MAX; STRING_MAX][..bytes]);
        bytes as u64
    }

    /// Where an access landed, if that is within a range.
    fn landed(&self, access: &Access, now: u64) -> Result<device::Access, NoRegister> {
        let Access { range, offset, width, .. } = *access;
        let length = self.ranges.get(usize::from(range)).ok_or(NoRegister)?.length;
        let inside = offset.checked_add(u64::from(width)).is_some_and(|end| end <= length);
        if !inside || !matches!(width, 1 | 2 | 4 | 8) {
            return Err(NoRegister);
        }
        Ok(device::Access { range, offset, width, now })
    }

    fn register(&mut self, access: &Access, now: u64) -> Result<u64, NoRegister> {
        let at = self.landed(access, now)?;
        let state = self.state.working();
        if access.operation == Operation::Read {
            self.model.read(state, at)
        } else {
            self.model.write(state, at, access.value & mask(access.width))?;
            Ok(0)
        }
    }

    /// Scans on the working copy, which is fresh. If there was something to do, it is committed, as an event.
    fn scan_working(&mut self, now: u64) -> Result<bool, Ended> {
        match self.model.scan(self.state.working(), now) {
            Scan::Idle => Ok(false),
            Scan::Changed | Scan::More => {
                self.commit_event(now)?;
                Ok(true)
            }
        }
    }

    fn commit_event(&mut self, now: u64) -> Result<(), Ended> {
        let header = self.changed(now);
        self.state.commit(header, None);
        self.settle()
    }

    fn commit(&mut self, now: u64, sequence: u32, reply: u64) -> Result<(), Ended> {
        let header = self.changed(now);
        self.state.commit(header, Some((sequence, reply)));
        self.careful = self.careful.saturating_sub(1);
        self.settle()
    }

    /// The header of the working copy, which is to be committed.
    fn changed(&mut self, now: u64) -> Header {
        reach(Step::Changed);
        if is_broken(Fault::EffectsBeforeCommit) {
            self.model.settle(self.state.working());
        }
        self.header(now)
    }

    fn header(&mut self, now: u64) -> Header {
        let outputs = self.model.outputs(self.state.working());
        Header {
            levels: outputs.levels,
            deadline: outputs.deadline,
            postable: outputs.postable,
            shadow: outputs.shadow,
            now,
        }
    }

    /// After a commit: the VMM is told, then come its effects outside. A guest that hears of them finds what the VMM knows as
    /// new as they are.
    fn settle(&mut self) -> Result<(), Ended> {
        let doorbells = self.doorbells.earlier.wrapping_add(self.doorbells.counted.load(Ordering::Relaxed));
        if doorbells != self.state.doorbells() {
            self.state.set_doorbells(doorbells);
        }
        self.lane.tell(&self.state)?;
        reach(Step::Told);
        self.model.settle(self.state.current());
        reach(Step::Settled);
        Ok(())
    }

    /// Tells the VMM to look, if levels changed or the deadline came closer than what it knows.
    fn tell(&mut self) {
        let deadline = self.state.header().deadline;
        let sooner = deadline.is_some_and(|deadline| self.told.deadline.is_none_or(|told| deadline < told));
        if self.state.levels() != self.told.levels || sooner {
            self.ring();
        }
        self.note();
    }

    fn note(&mut self) {
        self.told = Told { levels: self.state.levels(), deadline: self.state.header().deadline };
    }

    fn ring(&self) {
        // The VMM keeps it from filling up, and there is nobody to tell that it cannot be told.
        let _ = self.irq.signal(1);
    }
}

/// In the same process nobody sleeps on a commit.
impl Serve for Engine {
    fn serve(&mut self, access: &Access) -> u64 {
        // Nobody is told by a way that could fail.
        let reply = Engine::serve(self, access).unwrap_or_else(|_| ones(access.width));
        // Nobody looks again by himself, as a host does: what the operation left to do is done by whoever asked for it.
        for _ in 0..QUIESCE_LOOKS {
            if !self.pending() || !self.scan().unwrap_or(false) {
                break;
            }
        }
        reply
    }

    fn string(&self, into: &mut [u8; STRING_MAX]) {
        self.state.string(into);
    }
}

/// Bytes that a string load asks for: whole elements, and no more than there is room for.
fn wanted(access: &Access) -> usize {
    let width = usize::from(access.width).max(1);
    access.value.min(STRING_MAX as u64) as usize / width * width
}
