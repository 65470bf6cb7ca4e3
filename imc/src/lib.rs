#![doc = include_str!("../README.md")]

pub mod lane;
pub mod native_client;
pub mod tutorial;

mod capability;
mod channel;
mod connect;
mod datagram;
mod ends;
mod events;
mod fault;
mod frames;
mod header;
mod lease;
mod packet;
mod region;
mod socket;
mod stream;
mod table;
mod wake;

pub use capability::{BlockFile, Capability, Kvm, Listener, Tap, UnixStream};
pub use channel::{Asked, CREDIT, CallId, Channel, SMALL_BODY_BYTES, WAITING_MAX};
pub use connect::{Acceptor, Connect};
pub use ends::{Packets, PipeReader, PipeWriter, pipe};
pub use events::EventCount;
pub use fault::{CallError, Fault, SendError};
pub use frames::{FramesDevice, FramesRelay};
pub use header::DATAGRAM_MAX;
pub use lease::{Borrowed, LEASES_MAX, LeaseError, Lender};
pub use packet::{Descriptors, Packet};
pub use region::{Frozen, Mapping, PAGE_BYTES, ReadOnly, ReadWrite, Region, Rights};
pub use schema;
pub use stream::{DeviceEnd, RING_BYTES, RelayEnd, STREAM_BYTES};
pub use table::{Key, Table};
pub use wake::Wake;
