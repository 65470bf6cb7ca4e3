//! `cofferdam bench`: what isolation costs, as ratios of things measured in the same run.

mod answer;
mod boot;
mod bounds;
mod calls;
mod carriers;
mod chart;
mod clock;
mod contest;
mod disks;
mod exits;
mod pair;
mod peers;
mod plugins;
mod sandbox;
mod series;
mod shared;
mod spawn;
mod ticks;

pub use answer::answer;
pub use pair::ANSWERER;

use crate::args::{BenchArgs, BenchBeside, BenchCommon, BenchKind};
use crate::machine::{STANDARD, label, planned};
use anyhow::{Context, Result};
use peers::Peers;
use schema::host::Level;
use series::Series;
use vmm::supervisor::{BootPlan, DEADLINE, Demands, Isolate, Pins, Plan, Signals};

/// Runs the command.
pub fn bench(asked: &BenchArgs, signals: &Signals) -> Result<u8> {
    let (common, series) = match &asked.what {
        BenchKind::Exits(common) => (common, exits::exits(common, signals)?),
        BenchKind::Spawn(common) => (common, spawn::spawn(common)?),
        BenchKind::Sandbox(common) => (common, sandbox::sandbox(common)?),
        BenchKind::Calls(asked) => return beside(asked, "Messages between two processes", calls::calls),
        BenchKind::Carriers(asked) => {
            return beside(asked, "An access to a device in another process", carriers::carriers);
        }
        BenchKind::Disks(asked) => (&asked.common, disks::disks(asked, signals)?),
        BenchKind::Plugins(asked) => (&asked.common, plugins::plugins(asked, signals)?),
        BenchKind::Boot { kernel, initrd, cmdline, common } => {
            (common, boot::boot(kernel, initrd.as_deref(), cmdline, common, signals)?)
        }
    };
    series::show(&series::rows(&series, common.rounds)?, common.json)?;
    Ok(0)
}

/// A bench beside which other message layers are measured, and which can be drawn.
fn beside(asked: &BenchBeside, title: &str, measure: fn(&Peers, &BenchCommon) -> Result<Vec<Series>>) -> Result<u8> {
    let series = measure(&Peers::find(asked.peers.as_deref())?, &asked.common)?;
    let rows = series::rows(&series, asked.common.rounds)?;
    if let Some(path) = &asked.svg {
        std::fs::write(path, chart::svg(title, &rows)).with_context(|| format!("--svg {}", path.display()))?;
    }
    series::show(&rows, asked.common.json)?;
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
        display: None,
        isolate,
        level: Level::Seccomp,
        demands: Demands::default(),
        deadline: DEADLINE,
        // A death is to be noticed.
        restarts: 0,
        kvm: true,
        pins,
    }
}

/// Processors that this process may run on.
fn allowed_processors() -> Result<Vec<usize>> {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0))?;
    Ok((0..nix::sched::CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}
