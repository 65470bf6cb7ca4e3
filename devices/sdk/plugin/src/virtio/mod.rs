//! Virtio over PCI, as a library inside a plugin: a modern device (virtio 1.2, section 4.1) with split queues.
//!
//! A device implements [`Backend`]: what it offers and how it serves one chain of buffers. [`Virtio`] makes a
//! [`Device`](crate::Device) of it. To everybody else that device is a memory BAR, doorbells, a pin and MSI-X vectors.
//!
//! What survives a crash, and how: a queue's position is committed state; the rings are guest memory, which is not. So the order
//! is:
//!
//! 1. `scan` serves chains and writes entries of the used ring behind its published index, where no driver looks;
//! 2. the state is committed, with the queue's new positions;
//! 3. `settle` publishes the used ring's index from the committed state;
//! 4. the next `scan` decides whether the driver wants to be notified, which may be asked only after publication. The decision
//!    is state: an interrupt status, or a count of notifications for each source;
//! 5. the state is committed, and `settle` rings the vectors whose counts it has not rung before.
//!
//! A process that dies before 2 has done nothing: its successor finds the same chains and serves them again. One that dies later
//! has a successor that publishes again what was published, or should have been, and rings all vectors.
//!
//! The MSI-X enable bit lies in configuration space, which is the VMM's, so here a source whose vector is "none" drives the pin.
//!
//! Not modelled: what the library for our own devices does not model either, requests of several chains, and rings to the
//! outside.

mod chain;
mod describe;
mod device;
pub mod guest;
mod registers;
mod ring;
mod state;
#[cfg(test)]
mod tests;

pub use chain::{Buffers, Chain, SEGMENTS_MAX};
pub use describe::Function;
pub use device::{Backend, Request, Served, Virtio};
pub use state::State;

/// Most queues of a device, so that its state has a fixed size: a network device has three.
pub const QUEUES_MAX: usize = 4;

/// Largest queue. Linux asks for no more by default, and a chain is never longer than the largest queue (2.7.5.3.1).
pub const QUEUE_SIZE_MAX: u16 = 256;

/// Chains of one queue served in one scan: between scans, accesses that vcpus wait for are answered.
pub const CHAINS_PER_SCAN: u32 = 64;

/// Work on one queue in one scan, in bytes moved. A chain is served whole, so the last may exceed it.
pub const WORK_PER_SCAN: u64 = 1 << 20;

/// How a driver broke the rules of a queue. The device then needs a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A queue was enabled that is not aligned, or not inside memory.
    Queue,
    /// The available index ran away from the device by more than the queue holds.
    Index,
    /// A chain names a descriptor that does not exist, goes round in circles, or nests indirect tables.
    Endless,
    /// A chain has more than [`SEGMENTS_MAX`] buffers.
    Long,
    /// A buffer to read follows one to write.
    Order,
    /// A buffer is not in memory.
    Outside,
    /// A chain cannot be a request of this device.
    Short,
    /// The device itself cannot go on.
    Failed,
}
