//! `cofferdam qtest`: the machine without a processor, driven by a test program.
//!
//! The devices are in their sealed processes, as in any other machine. What a guest would do comes as lines of the qtest
//! protocol; with the virtual clock, so does time.

mod actions;
mod board;
mod inherited;
mod link;
mod log;
mod pci;
mod protocol;
mod qmp;
mod session;
mod setup;
mod words;

pub use actions::Actions;
pub use link::Link;
pub use session::run;
pub use setup::{DriveName, Driven, Names, Setup, Ways, Whose};
pub use words::{NAME, parse as parse_words};
