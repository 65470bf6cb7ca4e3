//! The supervisor: where ambient authority lives, and nowhere else.
//!
//! It opens images and `/dev/kvm`, creates every region, eventfd and channel, spawns and confines the VMM and the device
//! hosts, grants each what its manifest justifies, audits them from outside, watches them, and relays console bytes. Frames of
//! net devices, and pictures for viewers, are relayed by processes of their own. One thread; it never waits for a device host without a deadline, and is never needed for a guest's access.

mod cell;
mod console;
mod display;
mod grants;
mod host;
mod image;
mod input;
mod journal;
mod lane;
mod lives;
mod mac;
mod network;
mod open;
pub mod operator;
mod plan;
mod plugin;
mod process;
mod reach;
mod relay;
pub mod runtime;
mod screen;
mod sealed_relay;
mod signals;
mod stand;
mod timing;
mod viewers;
mod vm;
mod window;

pub use cell::Cell;
pub use console::{Console, ConsolePlan, Typed};
pub use display::Display;
pub use host::HOST_ROLE;
pub use journal::Journal;
pub use lives::RESTARTS;
pub use mac::LabelChoice;
pub use network::{Network, NetworkPlan};
pub use plan::{
    Backing, Bay, BootPlan, CPUS_MAX, Catalogue, DEADLINE, Demands, Group, Hostile, Isolate, MEMORY_MIN, Outlet, Pins,
    Plan, PlannedDevice,
};
pub use plugin::{CARRIERS, Plugin, PluginProgram};
pub use reach::{Reached, reach};
pub use screen::{Frame, Screen};
pub use sealed_relay::{DISPLAY_ROLE, RELAY_ROLE};
pub use signals::Signals;
pub use stand::{Seen, Stand};
pub use timing::{Spawned, time_empty_program, time_restart, time_spawn};
pub use vm::{Ended, Medium, Told, Vm};
pub use window::GuestWindow;

use anyhow::Context;

/// Runs a process on one processor.
fn pin(pid: i32, cpu: usize) -> anyhow::Result<()> {
    let mut set = nix::sched::CpuSet::new();
    set.set(cpu)?;
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(pid), &set)
        .with_context(|| format!("running process {pid} on processor {cpu}"))
}

/// A call's failure as a sentence.
fn refused(error: imc::CallError) -> anyhow::Error {
    match error {
        imc::CallError::Refused(reason) => anyhow::anyhow!("{reason}"),
        imc::CallError::Gone => anyhow::anyhow!("the process ended"),
        imc::CallError::Late => anyhow::anyhow!("the process did not answer in time"),
        imc::CallError::Failed(error) => anyhow::anyhow!("{error}"),
        imc::CallError::Violation(imc::Fault::BadBody(error @ schema::BadBody::Manifest(_))) => {
            anyhow::anyhow!("{error}")
        }
        imc::CallError::Violation(fault) => anyhow::anyhow!("the process broke the protocol: {fault}"),
    }
}
