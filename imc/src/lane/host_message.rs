//! The device host's end of a lane that sends messages, whatever carries them.

use super::Header;
use super::host::{BadEntry, StateWriter};
use crate::Wake;
use schema::lane::{Access, Answer, STRING_MAX};
use schema::manifest::SHADOW_MAX;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a host sleeps, and how it has the VMM look.
pub struct Rest {
    wake: Wake,
    irq: Arc<Wake>,
    /// How often the wake was taken.
    taken: AtomicU64,
}

impl Rest {
    /// A host that sleeps on `wake` and rings `irq`.
    #[must_use]
    pub fn new(wake: Wake, irq: Arc<Wake>) -> Arc<Rest> {
        Arc::new(Rest { wake, irq, taken: AtomicU64::new(0) })
    }

    /// Sleeps until the wake is rung. Whoever calls this looks at everything afterwards.
    pub fn sleep(&self) -> io::Result<()> {
        self.wake.sleep()?;
        self.taken.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

/// How messages come to a host and go from it. `Err` of what comes is a sentence about the VMM.
pub(super) trait HostTransport: Send {
    /// Whether a look costs no system call. Otherwise the VMM rings after whatever it sends.
    const IS_POLLED: bool;

    /// Takes the next message, if there is one.
    fn take(&mut self) -> Result<Option<Access>, String>;
    /// Whether there may be one.
    fn has_next(&self) -> bool;
    /// Sends without waiting, with the bytes of a string load behind it. False: there is no room now.
    fn tell(&mut self, answer: &Answer, string: &[u8]) -> io::Result<bool>;
    /// Wakes the VMM's waiter if what was sent last does not by itself; `always`, if an earlier incarnation may have left it
    /// asleep.
    fn told(&mut self, always: bool) -> io::Result<()>;
    /// How many times to look again before sleeping.
    fn spin(&self) -> u32;
    /// Says that the host is about to sleep. On return that is ordered before its last look, and remains so.
    fn fall_asleep(&mut self);
    /// Says that it is awake.
    fn wake_up(&mut self);
}

/// The host's end of a lane that sends messages.
pub(super) struct Messages<T> {
    transport: T,
    rest: Arc<Rest>,
    /// Sequence of the next operation.
    next: u32,
    /// What the VMM was told last. Nothing yet: this incarnation has just begun.
    told: Option<Answer>,
    /// The bytes of a string load, on their way.
    string: [u8; STRING_MAX],
    /// Nothing was there when the wake had been taken so often.
    dry: Option<u64>,
}

impl<T: HostTransport> Messages<T> {
    pub(super) fn new(transport: T, rest: Arc<Rest>, committed: u32) -> Messages<T> {
        Messages { transport, rest, next: committed.wrapping_add(1), told: None, string: [0; STRING_MAX], dry: None }
    }

    pub(super) fn has_next(&self) -> bool {
        self.dry != Some(self.rest.taken()) && self.transport.has_next()
    }

    pub(super) fn take(&mut self) -> Result<Option<Access>, BadEntry> {
        let taken = self.rest.taken();
        if self.dry == Some(taken) {
            return Ok(None);
        }
        while let Some(access) = self.transport.take().map_err(BadEntry::Message)? {
            // What is not the next comes from before a restart: it was done, or is sent again in its turn.
            if access.sequence == self.next {
                self.next = self.next.wrapping_add(1);
                return Ok(Some(access));
            }
        }
        if !T::IS_POLLED {
            self.dry = Some(taken);
        }
        Ok(None)
    }

    pub(super) fn tell(&mut self, state: &StateWriter) -> io::Result<()> {
        let started = self.told.is_none();
        let mut answer = answer(state, started);
        let is_news = self.told.is_none_or(|told| told.sequence != answer.sequence || seen(&told) != seen(&answer));
        if !is_news {
            return Ok(());
        }
        let is_reply = self.told.is_none_or(|told| told.sequence != answer.sequence);
        let bytes = if is_reply { state.string(&mut self.string) } else { 0 };
        answer.bytes = bytes as u16;
        while !self.transport.tell(&answer, &self.string[..bytes])? {
            // Whoever takes answers makes room, and rings.
            self.rest.irq.signal(1)?;
            self.rest.sleep()?;
        }
        self.told = Some(answer);
        self.transport.told(started)
    }

    pub(super) fn spin(&self) -> u32 {
        self.transport.spin()
    }

    pub(super) fn fall_asleep(&mut self) {
        self.transport.fall_asleep();
    }

    pub(super) fn wake_up(&mut self) {
        self.transport.wake_up();
    }
}

/// What a guest could see of it.
fn seen(answer: &Answer) -> (u32, Option<u64>, u32, &[Option<u64>; SHADOW_MAX]) {
    (answer.levels, answer.deadline, answer.postable, &answer.shadow)
}

/// The answer that tells of what `state` has committed last.
pub(super) fn answer(state: &StateWriter, started: bool) -> Answer {
    let Header { levels, deadline, postable, shadow, now } = *state.header();
    Answer {
        value: state.reply(),
        sequence: state.committed().sequence(),
        levels,
        deadline,
        postable,
        shadow,
        now,
        doorbells: state.doorbells(),
        unknown: state.unknown(),
        bytes: 0,
        started,
    }
}
