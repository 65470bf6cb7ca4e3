//! The carriers that send messages: what is asked goes one way, what was committed comes the other.
//!
//! Where `memory` shows the VMM a host's state region, these share nothing that both write or one writes for the other to
//! trust: an answer holds all of a committed header. It is kept in a *mirror*, private memory with the layout of a state
//! region's first part, so shadow reads, levels and deadlines are read here as they are on `memory`.
//!
//! The rules, beside those of all lanes:
//!
//! - Each commit that does an operation is told by one answer; one of the device's own accord only if what the VMM sees has
//!   changed. It is told before anything of it happens outside, so a guest that was interrupted finds it here.
//! - A new incarnation first tells what it found committed. What lies beyond is then sent again, in order: it was lost with
//!   the process that had read it, or the new one knows it by its sequence and drops it.
//! - The VMM rings after it has sent, so a host may sleep whenever it finds nothing to read. A host that finds no room for
//!   an answer sleeps too. It is rung: the queue holds more than [`BURST`] answers then and takes no more, so the look at it
//!   that ends next, or the one after that, takes a full burst; and each look that does rings.

use super::layout::{ENTRIES, has_happened};
use super::{Carrier, Header, LaneError, Patience, PostError, Request, Retirement, StateView, StateWriter};
use crate::{Mapping, PAGE_BYTES, Wake};
use schema::lane::{Access, Answer, STRING_MAX};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Answers taken in one look. What a host tells may not keep a vcpu from its work; and far fewer than the least that any
/// queue holds (a pipe of two pages: 48), so that a host which finds no room is known to be rung.
pub(super) const BURST: u32 = 16;
/// Restarts of a host that are honoured while not one operation takes effect. Each has up to a lane's length of entries
/// sent again. A supervisor gives up on an honest device long before.
const RESTARTS_MAX: u32 = 16;

/// How one message after another gets to the host and back, whole and in order. `Err` is a sentence about the host.
pub(super) trait Transport: Send {
    /// What a table calls it.
    const KIND: schema::lane::Carrier;

    /// Sends without waiting. False: there is no room now.
    fn send(&mut self, access: &Access) -> Result<bool, String>;

    /// Whether the host may sleep without knowing of what was sent last.
    fn must_ring(&mut self) -> bool;

    /// Takes the next message, if there is one, and the bytes of a string load that follow it.
    fn receive(&mut self, string: &mut [u8; STRING_MAX]) -> Result<Option<Answer>, String>;

    /// Forgets whatever has arrived and is not taken: of a host that is gone, in whatever shape.
    fn renew(&mut self) -> Result<(), String>;

    /// Waits until there may be something to receive, the lane is retired, or `most` has passed; with `room`, also until
    /// there may be room to send.
    fn wait(&mut self, retirement: &Retirement, room: bool, most: Duration);
}

/// The VMM's end of a lane that sends messages over `T`.
pub struct MessageCarrier<T> {
    transport: T,
    wake: Wake,
    retirement: Arc<Retirement>,
    mirror: StateWriter,
    view: StateView,
    /// Looks that a waiter spends at most.
    most_looks: u32,
    patience: Patience,
    /// The operations issued last, by their sequence: those that have not taken effect may have to be sent again.
    entries: [Access; ENTRIES as usize],
    /// Sequence of the last operation.
    issued: u32,
    /// Sequence of the last one that was sent.
    sent: u32,
    /// The last one that is known to have taken effect.
    seen: u32,
    /// What a string load gave, and how many bytes of it the last operation did.
    string: Box<[u8; STRING_MAX]>,
    string_bytes: usize,
    /// Restarts honoured since an operation took effect.
    restarts: u32,
}

#[allow(private_bounds)] // Transports are this crate's.
impl<T: Transport> MessageCarrier<T> {
    /// The lane starts new: nothing was issued yet. `waiter` ends a wait when the lane is retired, `wake` is the host's.
    /// The VMM looks at most `looks` times for an answer before it sleeps.
    pub(super) fn over(transport: T, wake: Wake, waiter: Wake, looks: u32) -> io::Result<MessageCarrier<T>> {
        let mapping = Arc::new(Mapping::anonymous(PAGE_BYTES)?);
        let view = StateView::new(mapping.clone());
        let mut mirror = StateWriter::new(mapping, 0, 0).map_err(io::Error::other)?;
        // Nothing is known yet: no alarm is due, nothing may be posted, no shadow is valid.
        mirror.commit(Header::default(), None);
        let nothing = Access {
            sequence: 0,
            operation: schema::lane::Operation::Read,
            range: 0,
            width: 1,
            offset: 0,
            value: 0,
            now: 0,
        };
        Ok(MessageCarrier {
            transport,
            wake,
            retirement: Retirement::new(Some(waiter)),
            mirror,
            view,
            most_looks: looks,
            patience: Patience::default(),
            entries: [nothing; ENTRIES as usize],
            issued: 0,
            sent: 0,
            seen: 0,
            string: Box::new([0; STRING_MAX]),
            string_bytes: 0,
            restarts: 0,
        })
    }

    /// What was committed as far as it was told: for the lane over this carrier.
    #[must_use]
    pub fn view(&self) -> StateView {
        self.view.clone()
    }

    /// As if so many operations had been done.
    #[cfg(test)]
    pub(super) fn begin_at(&mut self, sequence: u32) {
        (self.issued, self.sent, self.seen) = (sequence, sequence, sequence);
    }

    fn violation(&self, what: String) -> LaneError {
        self.retirement.retire();
        LaneError::Violation(what)
    }

    fn check(&self) -> Result<(), LaneError> {
        if self.retirement.is_retired() { Err(LaneError::Gone) } else { Ok(()) }
    }

    /// Takes what has arrived, up to a burst. True: that was all.
    fn hear(&mut self) -> Result<bool, LaneError> {
        for _ in 0..BURST {
            match self.transport.receive(&mut self.string) {
                Ok(Some(answer)) => self.accept(&answer)?,
                Ok(None) => return Ok(true),
                Err(what) => return Err(self.violation(what)),
            }
        }
        // The host may have found no room before.
        self.ring()?;
        Ok(false)
    }

    /// Believes an answer that an honest host could have sent.
    fn accept(&mut self, answer: &Answer) -> Result<(), LaneError> {
        let Answer { value, sequence, levels, deadline, postable, shadow, now, doorbells, unknown, bytes, started } =
            *answer;
        let done = sequence.wrapping_sub(self.seen);
        if done > self.issued.wrapping_sub(self.seen) {
            return Err(self.violation(format!(
                "it tells of operation {sequence}, after {} and with only {} issued",
                self.seen, self.issued
            )));
        }
        self.seen = sequence;
        if done > 0 {
            self.restarts = 0;
            // What a new incarnation tells once more has the same bytes.
            self.string_bytes = bytes.into();
        }
        if started && sequence != self.issued {
            self.restarts += 1;
            if self.restarts > RESTARTS_MAX {
                return Err(self.violation(format!("it started {} times and did nothing", self.restarts)));
            }
            self.sent = sequence;
        } else if has_happened(self.sent, sequence) {
            // Done, though this side had not yet sent it again.
            self.sent = sequence;
        }
        self.mirror.set_doorbells(doorbells);
        self.mirror.set_unknown(unknown);
        self.mirror.commit(Header { levels, deadline, postable, shadow, now }, (done > 0).then_some((sequence, value)));
        Ok(())
    }

    /// Sends what is issued and not sent, as far as there is room. True: that was all.
    fn flush(&mut self) -> Result<bool, LaneError> {
        let first = self.sent;
        while self.sent != self.issued {
            let next = self.sent.wrapping_add(1);
            let entry = self.entries[slot(next)];
            if !self.send(&entry)? {
                break;
            }
            self.sent = next;
        }
        if self.sent != first {
            self.ring_if_due()?;
        }
        Ok(self.sent == self.issued)
    }

    fn send(&mut self, access: &Access) -> Result<bool, LaneError> {
        self.transport.send(access).map_err(|what| self.violation(what))
    }

    fn ring_if_due(&mut self) -> Result<(), LaneError> {
        if self.transport.must_ring() { self.ring() } else { Ok(()) }
    }

    fn ring(&mut self) -> Result<(), LaneError> {
        // A vcpu must not wait for room, and an honest host never fills its own wake.
        if !self.wake.has_room() {
            return Err(self.violation("its wake is stuffed full".into()));
        }
        self.wake.signal(1).map_err(|error| self.violation(format!("its wake cannot be rung: {error}")))
    }

    fn has_room(&self) -> bool {
        self.issued.wrapping_sub(self.seen) < ENTRIES
    }

    fn next(&self, request: &Request) -> Access {
        let Request { operation, range, width, offset, value, now } = *request;
        Access { sequence: self.issued.wrapping_add(1), operation, range, width, offset, value, now }
    }

    /// Waits until `sequence` has taken effect.
    fn wait(&mut self, sequence: u32, deadline: Duration) -> Result<(), LaneError> {
        let looks = self.patience.looks(self.most_looks);
        for look in 0..looks {
            if self.look_for(sequence)?.done {
                self.patience.came(look, self.most_looks);
                return Ok(());
            }
            std::hint::spin_loop();
        }
        self.patience.missed(looks);
        let end = Instant::now() + deadline;
        loop {
            let Look { done, drained, sent } = self.look_for(sequence)?;
            if done {
                return Ok(());
            }
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LaneError::Late);
            }
            if drained {
                self.transport.wait(&self.retirement, !sent, left);
            }
        }
    }

    fn look_for(&mut self, sequence: u32) -> Result<Look, LaneError> {
        let drained = self.hear()?;
        let sent = self.flush()?;
        Ok(Look { done: has_happened(sequence, self.seen), drained, sent })
    }
}

/// What a look found.
struct Look {
    /// What is waited for has happened.
    done: bool,
    /// All that had arrived is taken.
    drained: bool,
    /// All that is issued is sent.
    sent: bool,
}

impl<T: Transport> Carrier for MessageCarrier<T> {
    fn make_room(&mut self, deadline: Duration) -> Result<(), LaneError> {
        if self.has_room() { Ok(()) } else { self.wait(self.issued.wrapping_add(1).wrapping_sub(ENTRIES), deadline) }
    }

    fn call(&mut self, request: &Request, deadline: Duration) -> Result<u64, LaneError> {
        self.check()?;
        let mut left = deadline;
        if !self.has_room() {
            let start = Instant::now();
            self.make_room(deadline)?;
            left = deadline.saturating_sub(start.elapsed());
        }
        let access = self.next(request);
        self.entries[slot(access.sequence)] = access;
        self.issued = access.sequence;
        self.flush()?;
        self.resume(left)
    }

    fn resume(&mut self, deadline: Duration) -> Result<u64, LaneError> {
        self.wait(self.issued, deadline)?;
        Ok(self.mirror.reply())
    }

    fn take_string(&mut self, into: &mut [u8]) -> Result<(), LaneError> {
        if self.string_bytes != into.len() {
            let what = format!("it told of {} bytes, and sent {}", into.len(), self.string_bytes);
            return Err(self.violation(what));
        }
        into.copy_from_slice(&self.string[..into.len()]);
        Ok(())
    }

    fn take_ahead(&mut self, _: u32, _: &mut [u8]) -> bool {
        false
    }

    fn post(&mut self, request: &Request) -> Result<(), PostError> {
        self.check()?;
        if !self.has_room() {
            self.hear()?;
        }
        if !self.has_room() || !self.flush()? {
            return Err(PostError::Full);
        }
        let access = self.next(request);
        if !self.send(&access)? {
            return Err(PostError::Full);
        }
        self.entries[slot(access.sequence)] = access;
        self.issued = access.sequence;
        self.sent = access.sequence;
        Ok(self.ring_if_due()?)
    }

    fn post_remembered(&mut self, request: &Request) -> Result<(), PostError> {
        // A message is sent in any case, and that is most of what a ring takes.
        self.post(request)
    }

    fn refresh(&mut self) -> Result<bool, LaneError> {
        let drained = self.hear()?;
        Ok(self.flush()? && drained)
    }

    fn outstanding(&mut self) -> Result<usize, LaneError> {
        Ok(self.issued.wrapping_sub(self.seen) as usize)
    }

    fn issued(&self) -> u32 {
        self.issued
    }

    fn renew(&mut self) -> Result<(), LaneError> {
        self.transport.renew().map_err(|what| self.violation(what))?;
        (self.sent, self.seen, self.restarts) = (self.issued, self.issued, 0);
        // As in the beginning, nothing is known.
        self.mirror.commit(Header::default(), None);
        Ok(())
    }

    fn retirement(&self) -> Arc<Retirement> {
        self.retirement.clone()
    }

    fn kind(&self) -> schema::lane::Carrier {
        T::KIND
    }
}

fn slot(sequence: u32) -> usize {
    (sequence % ENTRIES) as usize
}
