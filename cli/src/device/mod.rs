//! `cofferdam device`: plugins, for those who write them and those who run them.

mod check;
mod describe;
mod drive;
mod new;
mod plugin;

pub use plugin::{Checked, ask, ask_one, of_spec, stand, stand_on};

use crate::args::DeviceKind;
use anyhow::Result;

/// Runs the command.
pub fn device(what: &DeviceKind) -> Result<u8> {
    match what {
        DeviceKind::Describe(asked) => describe::describe(asked),
        DeviceKind::Check(asked) => check::check(asked),
        DeviceKind::Drive(asked) => drive::drive(asked),
        DeviceKind::New(asked) => new::new(asked),
    }
}
