//! From a channel to a server that outlives its peers, in three programs.
//!
//! Each is a whole program, which starts itself once more as its peer, and is run by the tests. They speak the messages of
//! [`crate::schema::sample`]; [how to have your own](#messages-of-your-own) comes last.
//!
//! # Two processes, a sealed region, a wake
//!
//! A [`Channel`](crate::Channel) is a connected pair, one end of which a new process inherits. Over it goes what the two need to
//! work together without it: memory, and something to sleep on. The region's size is sealed before anybody else sees it, so
//! no mapping of it can ever fault; what the worker gets is a fresh open for reading, so it cannot store there.
//!
//! In memory that is shared, *the word is the truth and the wake is a hint*: an [`EventCount`](crate::EventCount) is both.
//! A buffer of one call is [lent](crate::Lender) until the answer.
//!
//! ```standalone_crate
#![doc = include_str!("../examples/two_processes.rs")]
//! ```
//!
//! # A server behind a connect capability
//!
//! There are no names by which processes could find each other. Who shall reach a server is given a
//! [`Connect`](crate::Connect); it may clone it and hand it on. To connect, the client makes a pair and sends one end, which an
//! [`Acceptor`](crate::Acceptor) takes: the one place where a channel arrives in a message.
//!
//! ```standalone_crate
#![doc = include_str!("../examples/server.rs")]
//! ```
//!
//! # Surviving a peer's death
//!
//! A dead peer is an answer like others: [`CallError::Gone`](crate::CallError::Gone). What it leaves behind is what it had
//! stored into memory that others hold as well. A worker that dies is replaced by one that finds its work there.
//!
//! ```standalone_crate
#![doc = include_str!("../examples/survivor.rs")]
//! ```
//!
//! In earnest the state would not be trusted either: the next worker reads it as it reads a message, and stores it in an order
//! that makes sense however far the last one came. That is what a [lane](crate::lane) does for a device.
//!
//! # Messages of your own
//!
//! A message is a struct of a Cap'n Proto schema, the plain Rust type that a receiver works with, and an implementation of
//! [`Body`](crate::schema::Body) that turns one into the other and refuses what makes no sense. It has an ordinal, which within a
//! protocol means one message for ever; fields are only ever added. `capnpc` makes the modules of the first from the schema,
//! here of
//!
//! ```text
//! struct Door { connect @0 :Imc.Handle; }
//! ```
//!
//! ```
//! use imc::schema::wire::{imc_capnp, sample_capnp::door};
//! use imc::schema::{BadBody, Body, Builder, HANDLES_MAX, Handle, Handles, Kind, Reader, Rights};
//!
//! #[derive(Debug, PartialEq)]
//! struct Door {
//!     connect: Handle,
//! }
//!
//! impl Body for Door {
//!     const ORDINAL: u16 = 0x74;
//!     const SCHEMA_ID: u64 = <door::Reader<'static> as capnp::traits::HasTypeId>::TYPE_ID;
//!
//!     // Words: the root pointer, the struct's own pointer, the handle. Bounds of texts and lists are checked here.
//!     fn measure(&self) -> Result<usize, BadBody> {
//!         Ok(1 + 1 + 2)
//!     }
//!     fn encode(&self, message: &mut Builder<'_>) {
//!         let mut connect = message.init_root::<door::Builder<'_>>().init_connect();
//!         connect.set_slot(self.connect.slot);
//!         connect.set_kind(imc_capnp::Kind::Connect);
//!         connect.set_rights(self.connect.rights.0);
//!     }
//!     // Copies out of the message and checks as it goes. Nothing of the message is kept.
//!     fn decode(message: &Reader<'_>) -> Result<Self, BadBody> {
//!         let connect = message.get_root::<door::Reader<'_>>()?.get_connect()?;
//!         let (slot, rights) = (connect.get_slot(), Rights(connect.get_rights()));
//!         match connect.get_kind() {
//!             Ok(imc_capnp::Kind::Connect) if usize::from(slot) < HANDLES_MAX => {
//!                 Ok(Door { connect: Handle { slot, kind: Kind::Connect, rights, size: 0 } })
//!             }
//!             _ => Err(BadBody::Unknown("connect")),
//!         }
//!     }
//!     // The channel holds these against the descriptors that came, one to one, and asks the kernel about each.
//!     fn handles(&self) -> Handles {
//!         [self.connect].into_iter().collect()
//!     }
//! }
//!
//! let (_acceptor, connect) = imc::Acceptor::create()?;
//! let (mut sender, mut receiver) = imc::Channel::pair()?;
//! let door = Door { connect: imc::Capability::handle(&connect, 0) };
//! sender.tell(&door, &[std::os::fd::AsFd::as_fd(&connect)])?;
//! let packet = receiver.receive(None)?.ok_or("nothing came")?;
//! assert_eq!(packet.decode::<Door>()?.0, door);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
