//! `cofferdam bench`: what isolation costs, as ratios of things measured in the same run.

mod boot;
mod bounds;
mod calls;
mod carriers;
mod clock;
mod contest;
mod exits;
mod pair;
mod peers;
mod series;
mod shared;
mod spawn;

pub use pair::{ANSWERER, answer};

use crate::args::{BenchArgs, BenchKind, STANDARD, label, planned};
use anyhow::Result;
use schema::host::Level;
use vmm::supervisor::{BootPlan, DEADLINE, Isolate, Pins, Plan, Signals};

/// Runs the command.
pub fn bench(asked: &BenchArgs, signals: &Signals) -> Result<u8> {
    let (common, series) = match &asked.what {
        BenchKind::Exits(common) => (common, exits::exits(common, signals)?),
        BenchKind::Spawn(common) => (common, spawn::spawn(common)?),
        BenchKind::Carriers { peers, common } => (common, carriers::carriers(peers.as_deref(), common)?),
        BenchKind::Calls { peers, common } => (common, calls::calls(peers.as_deref(), common)?),
        BenchKind::Boot { kernel, initrd, cmdline, common } => {
            (common, boot::boot(kernel, initrd.as_deref(), cmdline, common, signals)?)
        }
    };
    series::show(&series, common.json)?;
    Ok(0)
}

/// A machine of the standard devices.
fn machine(boot: BootPlan, isolate: Isolate, pins: Option<Pins>) -> Plan {
    let mut devices: Vec<_> = STANDARD.iter().map(|device| planned(device, Vec::new(), Vec::new())).collect();
    label(&mut devices);
    Plan {
        name: format!("bench-{}", std::process::id()),
        cpus: 1,
        memory_bytes: 64 << 20,
        boot,
        devices,
        isolate,
        level: Level::Seccomp,
        deadline: DEADLINE,
        kvm: true,
        pins,
    }
}

/// Processors that this process may run on.
fn allowed_processors() -> Result<Vec<usize>> {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0))?;
    Ok((0..nix::sched::CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}
