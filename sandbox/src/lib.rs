//! What a process may hold, and how that is made true and checked.
//!
//! A [`Recipe`] says in plain data how a process is confined. Its life has a fixed order, which the types keep:
//!
//! 1. the supervisor calls [`spawn()`]: namespaces, an empty root, limits, no capabilities, no new privileges, `exec`
//!    from a descriptor with nothing but the channel;
//! 2. the child calls [`confine()`] before it reads its first message, and holds [`Confined`]: it may now receive
//!    grants, map and allocate;
//! 3. [`Confined::seal`] closes all that is not held, tightens the limits and installs the system call filter. Only
//!    who has [`Sealed`] may serve a guest.
//!
//! After 2 and after 3 the supervisor calls [`audit()`], which asks the kernel and believes nobody.

mod audit;
mod code;
mod confine;
mod error;
mod filter;
mod gate;
mod group;
mod held;
pub mod label;
pub mod policy;
mod process;
mod recipe;
mod shed;
mod spawn;
mod strict;

pub use audit::{Audit, audit};
pub use confine::{Confined, Sealed, confine, confine_without, seal_thread};
pub use error::ConfineError;
pub use filter::FilterError;
pub use gate::Gate;
pub use held::Held;
pub use label::{Label, Module};
pub use process::{Child, End, Lack, Program};
pub use recipe::{
    Because, Call, Condition, Count, DescriptorKind, GroupLimits, Helper, HelperForm, Keep, Layer, LayerName, Limit,
    Loading, Mode, Named, Network, NoSuchLayer, Part, Permit, Recipe, Resource, Share, Shown, Stage, VIEWERS_MAX,
    Value, kvm,
};
pub use shed::shed;
pub use spawn::{SpawnError, Start, spawn, spawn_with, spawn_with_helper};
