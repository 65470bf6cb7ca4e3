//! Everything two Cofferdam processes may say to each other.
//!
//! The `.capnp` files beside this one are the only definition of what crosses a process boundary. Each message also
//! has a plain type here. A receiver decodes a message into its plain type at once and never keeps a Cap'n Proto reader:
//! a plain type has checked enums, bounded lists and text, and no reference into the datagram.

mod body;
mod check;
mod codec;
mod handle;
mod messages;

pub mod control;
pub mod display;
pub mod host;
pub mod keys;
pub mod lane;
pub mod manifest;
pub mod play;
pub mod sample;
pub mod vmm;

pub use body::{BODY_MAX, BadBody, Body, Builder, HANDLES_MAX, NESTING_MAX, Reader, Scratch, decode, encode_in};
pub use handle::{Connection, Handle, Handles, Kind, Lease, Rights};
pub use messages::{ForEach, for_each_message};

/// The Rust code that capnpc makes of the schema.
#[allow(missing_docs, unsafe_code, clippy::all, clippy::pedantic)]
pub mod wire {
    macro_rules! generated {
        ($($module:ident),*) => {$(
            pub mod $module { include!(concat!(env!("OUT_DIR"), "/", stringify!($module), ".rs")); }
        )*};
    }
    generated!(
        imc_capnp,
        lane_capnp,
        manifest_capnp,
        host_capnp,
        vmm_capnp,
        control_capnp,
        sample_capnp,
        display_capnp
    );
}
