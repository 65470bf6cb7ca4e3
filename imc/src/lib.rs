//! Messages that carry capabilities, and lanes: how Cofferdam's processes talk.
//!
//! Two planes. A [`Channel`] carries set-up: one datagram is a 32-byte header, one Cap'n Proto segment and at most eight
//! descriptors, and what a received descriptor *is* gets derived from the kernel, never from the sender's word. A
//! [`lane`] carries the guest's accesses to one device.
//!
//! A capability is a type with rights ([`Region<ReadOnly>`](Region), [`Wake`], [`BlockFile`]): holding it is the
//! permission, and rights only shrink, by making a weaker kernel object before it is sent.

pub mod lane;

mod capability;
mod channel;
mod connect;
mod datagram;
mod ends;
mod events;
mod fault;
mod header;
mod lease;
mod packet;
mod region;
mod socket;
mod stream;
mod table;
mod wake;

pub use capability::{BlockFile, Capability, Kvm, Tap};
pub use channel::{CREDIT, CallId, Channel, SMALL_BODY_BYTES, WAITING_MAX};
pub use connect::{Acceptor, Connect};
pub use ends::{Packets, PipeReader, PipeWriter, pipe};
pub use events::EventCount;
pub use fault::{CallError, Fault, SendError};
pub use header::DATAGRAM_MAX;
pub use lease::{Borrowed, LEASES_MAX, LeaseError, Lender};
pub use packet::{Descriptors, Packet};
pub use region::{Frozen, Mapping, PAGE_BYTES, ReadOnly, ReadWrite, Region, Rights};
pub use stream::{DeviceEnd, RING_BYTES, RelayEnd, STREAM_BYTES};
pub use table::{Key, Table};
pub use wake::Wake;
