//! Lanes: how a guest's access reaches its device.
//!
//! A [`Lane`] is the VMM's end: a lock, the shortcuts that the device's manifest allows, and a [`Carrier`] for whatever
//! needs the device itself. The far end is a [`HostLane`], for what is asked and to tell of what was committed, and a
//! [`StateWriter`], where it is committed.
//!
//! | carrier | what is asked | what is committed | shared with the host |
//! | --- | --- | --- | --- |
//! | [`MemoryCarrier`] | entries in shared memory | read in place | two regions |
//! | [`SocketCarrier`] | packets | told by packets | a socket |
//! | [`PipeCarrier`] | records of a pipe | told by records of another | two pipes |
//! | [`VirtioCarrier`] | buffers of a virtqueue | told by buffers of another | two regions |
//! | [`InProcess`] | a function call | read in place | everything |
//!
//! The three that tell send one message for each operation and for each commit that changes what the VMM sees, and their
//! rules are one: [`MessageCarrier`].
//!
//! The rules, which are few and were each tried under kill -9:
//!
//! - An entry is published by its sequence, stored last. It is reused only after its sequence is committed.
//! - A state, its header and its reply take effect by one store of the commit word. What was committed is never redone;
//!   what was not is done again by the next incarnation of the host.
//! - Who is about to sleep says so, fences, and looks once more. Who has published fences, and looks whether somebody
//!   sleeps. Of the two at least one sees the other.
//! - The VMM believes nothing: a committed sequence outside of what it saw and what it issued, or a reply to another
//!   operation, is a violation; every wait has a deadline; no wake can make it wait.

mod descriptors;
mod end;
mod host;
mod host_message;
mod in_process;
mod layout;
mod memory;
mod message;
mod patience;
mod rules;
pub mod steps;
#[cfg(test)]
mod tests;
mod view;
mod virtio;
mod waiting;
mod wire;

pub use descriptors::{Descriptors, PipeCarrier, Pipes, SocketCarrier};
pub use end::HostLane;
pub use host::{BadEntry, Header, RegionTooSmall, Remains, StateWriter, look_at_remains, wipe};
pub use host_message::Rest;
pub use in_process::{InProcess, Serve};
pub use layout::{CommitWord, REQUEST_BYTES, state_region_bytes};
pub use memory::{MemoryCarrier, SpinBudget};
pub use message::MessageCarrier;
pub use patience::Patience;
pub use rules::{Lane, LaneCounters, Late};
pub use view::{Levels, StateView};
pub use virtio::{ANSWER_REGION_BYTES, VirtioCarrier, VirtioDriver, prepare_virtqueues};
pub use waiting::{Sleeper, sleep};

use crate::Wake;
use schema::lane::Operation;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One operation, before it has a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub operation: Operation,
    /// Index into the manifest's ranges.
    pub range: u8,
    /// Bytes: 1, 2, 4 or 8.
    pub width: u8,
    /// Bytes from the start of the range.
    pub offset: u64,
    /// What is written; the bytes wanted by a string load; zero for reads.
    pub value: u64,
    /// Guest clock: nanoseconds since power on.
    pub now: u64,
}

/// What takes a lane's operations to the device, in order. The caller holds the lane's lock.
pub trait Carrier: Send {
    /// Waits until one more operation can be issued.
    fn make_room(&mut self, deadline: Duration) -> Result<(), LaneError>;

    /// Has the operation done, waits for it, and returns its reply.
    fn call(&mut self, request: &Request, deadline: Duration) -> Result<u64, LaneError>;

    /// Waits on for the last call, which ended [`LaneError::Late`]. Nothing is issued again: a host that is started anew
    /// finds the operation, or the reply of it, where it was.
    fn resume(&mut self, deadline: Duration) -> Result<u64, LaneError>;

    /// Copies what the last call, a string load, gave: as many bytes as its reply says.
    fn take_string(&mut self, into: &mut [u8]) -> Result<(), LaneError>;

    /// Copies bytes of the state region, which the host shares and the last string load has said are ahead. False: it is not
    /// shared, or has no such place.
    fn take_ahead(&mut self, place: u32, into: &mut [u8]) -> bool;

    /// Queues the operation and returns at once.
    fn post(&mut self, request: &Request) -> Result<(), PostError>;

    /// The same for an operation that is only remembered: a host that sleeps may sleep on until there is another.
    fn post_remembered(&mut self, request: &Request) -> Result<(), PostError>;

    /// Takes what the device has told, as far as it has come, and without waiting. True: that was all, so what is known of
    /// the device is as new as what reached the guest by another way.
    fn refresh(&mut self) -> Result<bool, LaneError>;

    /// How many of the operations issued last are not known to have taken effect.
    fn outstanding(&mut self) -> Result<usize, LaneError>;

    /// Sequence of the operation issued last.
    fn issued(&self) -> u32;

    /// Begins anew after the operation issued last: the host that broke the rules is gone, and what it wrote is wiped. What
    /// it had not done is never done.
    fn renew(&mut self) -> Result<(), LaneError>;

    /// What ends this carrier from outside of the lane's lock.
    fn retirement(&self) -> Arc<Retirement>;

    /// Which one it is.
    fn kind(&self) -> schema::lane::Carrier;
}

/// Why an operation has no answer. The guest sees ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaneError {
    /// No answer by the deadline. The operation is still queued.
    #[error("the device did not answer in time")]
    Late,
    /// The lane was retired.
    #[error("the device is gone")]
    Gone,
    /// The host broke the rules. The lane is retired.
    #[error("the device host broke the lane's rules: {0}")]
    Violation(String),
}

/// Why an operation was not queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// There is no room: the caller waits instead, or tries later.
    #[error("the lane is full")]
    Full,
    /// It can be queued no more.
    #[error(transparent)]
    Failed(#[from] LaneError),
}

/// Ends a lane, from any thread and without its lock.
pub struct Retirement {
    retired: AtomicU64,
    waiter: Option<Wake>,
}

impl Retirement {
    /// For a carrier whose waiter sleeps on `waiter`, if it sleeps at all.
    #[must_use]
    pub fn new(waiter: Option<Wake>) -> Arc<Retirement> {
        Arc::new(Retirement { retired: AtomicU64::new(0), waiter })
    }

    /// From now on each operation is answered [`LaneError::Gone`] at once; who waits is woken.
    pub fn retire(&self) {
        waiting::retire(&self.retired, || {
            if let Some(waiter) = self.waiter()
                && waiter.has_room()
            {
                // An error would leave the waiter to its deadline.
                let _ = waiter.signal(1);
            }
        });
    }

    /// The lane goes on, with a host that is another.
    fn revive(&self) {
        self.retired.store(0, Ordering::Relaxed);
    }

    /// Whether it is retired.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed) != 0
    }

    fn waiter(&self) -> Option<&Wake> {
        self.waiter.as_ref()
    }
}

/// The bits that an access of `width` bytes has.
#[must_use]
pub const fn mask(width: u8) -> u64 {
    if width >= 8 { u64::MAX } else { (1 << (8 * width)) - 1 }
}

/// What a guest reads where nobody answers: all ones, as wide as its access.
#[must_use]
pub const fn ones(width: u8) -> u64 {
    mask(width)
}
