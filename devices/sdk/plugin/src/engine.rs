//! A device between its lane and its state: what is asked is done on a copy, and takes effect by one commit.

use crate::lane::{Entry, Header, Lane, NEVER, StateRegion, mask, operation};
use crate::{Access, Device, NoRegister, Plain};
use std::io;

/// Looks at its queues that a device is given to come to rest: a guest could go on filling them for ever.
const QUIESCE_LOOKS: u32 = 1024;

/// A device with its state region and its lane.
pub(crate) struct Engine<D: Device> {
    device: D,
    lengths: Vec<u64>,
    state: StateRegion,
    bytes: Vec<u8>,
    lane: Lane,
    irq: Box<dyn Fn()>,
    poisoned: bool,
    now: Option<u64>,
    told: Told,
    resting: bool,
    left: bool,
}

/// What the VMM knows of the device's outputs.
#[derive(Clone, Copy)]
struct Told {
    levels: u32,
    falls: u32,
    deadline: u64,
}

const NOTHING: Told = Told { levels: 0, falls: 0, deadline: NEVER };

impl<D: Device> Engine<D> {
    pub(crate) fn new(
        device: D,
        lengths: Vec<u64>,
        state: StateRegion,
        lane: Lane,
        irq: Box<dyn Fn()>,
        poisoned: bool,
    ) -> Engine<D> {
        let bytes = vec![0; state_bytes::<D>()];
        Engine {
            device,
            lengths,
            state,
            bytes,
            lane,
            irq,
            poisoned,
            now: None,
            told: NOTHING,
            resting: false,
            left: false,
        }
    }

    pub(crate) fn state(&self) -> &StateRegion {
        &self.state
    }
    pub(crate) fn lane(&self) -> &Lane {
        &self.lane
    }
    /// It was told to leave.
    pub(crate) fn left(&self) -> bool {
        self.left
    }

    /// Powers the device on, or goes on with the state that an earlier incarnation committed.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        let now = self.state.header().now;
        let found = self.current();
        let good = self.state.has_state() && !self.poisoned && self.device.check(&found);
        let state = if good { found } else { self.device.power_on() };
        self.commit(&state, now, None)?;
        self.told = NOTHING;
        (self.irq)();
        Ok(())
    }

    /// Does what stands in the lane, and lets the device look at its queues. Says whether there was anything.
    pub(crate) fn work(&mut self) -> io::Result<bool> {
        let mut any = false;
        while let Some(entry) = self.lane.take()? {
            self.serve(&entry)?;
            any = true;
        }
        if !self.resting {
            let now = self.now.unwrap_or(self.state.header().now);
            any |= self.scan(now)?;
            self.tell();
        }
        Ok(any)
    }

    /// Does one operation.
    fn serve(&mut self, entry: &Entry) -> io::Result<()> {
        let now = self.now.map_or(entry.now, |seen| seen.max(entry.now));
        self.now = Some(now);
        self.resting = false;
        if entry.operation != operation::ALARM && self.is_due(now) {
            let mut state = self.current();
            self.device.alarm(&mut state, now);
            self.commit(&state, now, None)?;
            self.told.deadline = NEVER;
        }
        if matches!(entry.operation, operation::READ | operation::WRITE) {
            self.scan(now)?;
        }
        let mut state = self.current();
        let reply = self.perform(&mut state, entry, now)?;
        self.commit(&state, now, Some((entry.sequence, reply)))?;
        match entry.operation {
            operation::ALARM => {
                // The VMM has used the deadline up: it is to hear of the next one, or that there is none.
                (self.irq)();
                self.note();
            }
            operation::POST | operation::BUTTON | operation::REFRESH => self.tell(),
            // Its vcpu looks at levels and deadline before it goes on.
            _ => self.note(),
        }
        self.left |= entry.operation == operation::SHUTDOWN;
        Ok(())
    }

    fn perform(&mut self, state: &mut D::State, entry: &Entry, now: u64) -> io::Result<u64> {
        if std::mem::take(&mut self.poisoned) {
            return Ok(mask(entry.width));
        }
        self.state.attempt(entry.sequence);
        match entry.operation {
            operation::READ | operation::WRITE | operation::POST => {
                let value = self.access(state, entry, now).unwrap_or_else(|NoRegister| {
                    self.state.count_unknown();
                    u64::MAX
                });
                return Ok(value & mask(entry.width));
            }
            // Another operation may have run it first.
            operation::ALARM if self.is_due(now) => self.device.alarm(state, now),
            operation::ALARM => {}
            operation::BUTTON => self.device.button(state, now),
            operation::REFRESH => self.device.refresh(state, now),
            operation::RESET => *state = self.device.power_on(),
            operation::QUIESCE | operation::SHUTDOWN => {
                for _ in 0..QUIESCE_LOOKS {
                    if !self.scan(now)? {
                        break;
                    }
                }
                *state = self.current();
                self.resting = true;
            }
            other => {
                return Err(io::Error::other(format!("the VMM asked for operation {other}, which does not exist")));
            }
        }
        Ok(0)
    }

    fn access(&mut self, state: &mut D::State, entry: &Entry, now: u64) -> Result<u64, NoRegister> {
        let Entry { range, offset, width, .. } = *entry;
        let length = *self.lengths.get(usize::from(range)).ok_or(NoRegister)?;
        let inside = offset.checked_add(width.into()).is_some_and(|end| end <= length);
        if !inside || !matches!(width, 1 | 2 | 4 | 8) {
            return Err(NoRegister);
        }
        let at = Access { range, offset, width, now };
        if entry.operation == operation::READ {
            return self.device.read(state, at);
        }
        self.device.write(state, at, entry.value & mask(width)).map(|()| 0)
    }

    fn scan(&mut self, now: u64) -> io::Result<bool> {
        let mut state = self.current();
        let done = self.device.scan(&mut state, now);
        if done {
            self.commit(&state, now, None)?;
        }
        Ok(done)
    }

    fn commit(&mut self, state: &D::State, now: u64, reply: Option<(u32, u64)>) -> io::Result<()> {
        state.store(&mut self.bytes);
        self.state.commit(&self.bytes, Header { outputs: self.device.outputs(state), now }, reply);
        self.lane.tell(&self.state)?;
        self.device.settle(state);
        Ok(())
    }

    fn current(&mut self) -> D::State {
        self.state.current(&mut self.bytes);
        D::State::load(&self.bytes)
    }

    fn is_due(&self, now: u64) -> bool {
        self.state.header().deadline() <= now
    }

    /// Tells the VMM to look, if levels changed or the deadline came closer than what it knows.
    fn tell(&mut self) {
        let header = self.state.header();
        let levels = header.outputs.levels != self.told.levels || self.state.falls() != self.told.falls;
        if levels || header.deadline() < self.told.deadline {
            (self.irq)();
        }
        self.note();
    }

    fn note(&mut self) {
        let header = self.state.header();
        self.told = Told { levels: header.outputs.levels, falls: self.state.falls(), deadline: header.deadline() };
    }
}

/// Bytes of a device's state in its region: whole words, and never none.
pub(crate) fn state_bytes<D: Device>() -> usize {
    D::State::BYTES.next_multiple_of(8).max(8)
}
