//! `cofferdam bench plugins`: one device in several languages: an access to each, and a kernel's boot beside each.

use super::boot;
use super::clock::{pin, samples};
use super::contest::{Contest, Seats, seats};
use super::machine;
use super::series::{Placement, Series};
use crate::args::{BenchPlugins, usage};
use crate::device;
use crate::machine::{is_plugin, label};
use anyhow::Result;
use imc::lane::Request;
use schema::host::Level;
use schema::lane::{Carrier, Operation};
use vmm::supervisor::{BootPlan, Isolate, Pins, Plan, Signals};

/// The device that this program has, too; it is written in Rust.
const DEVICE: &str = "ib700";
const RUST: &str = "Rust";
/// A store to its first register, which stops the watchdog: no deadline is left, and nothing is ever posted.
const STOP: Request = Request { operation: Operation::Write, range: 0, width: 1, offset: 0, value: 0, now: 0 };
/// The carriers that plugins have.
const CARRIERS: [Carrier; 2] = [Carrier::Memory, Carrier::Socket];

/// Measures the plugins beside the device of the same name.
pub fn plugins(asked: &BenchPlugins, signals: &Signals) -> Result<Vec<Series>> {
    if let Some(plugin) = asked.plugins.iter().find(|plugin| !is_plugin(plugin)) {
        return Err(usage!("{plugin}: give a plugin by its path, as ./{plugin}"));
    }
    let written = asked.plugins.iter().map(|plugin| (plugin.as_str(), plugin.as_str()));
    let devices: Vec<(&str, &str)> = [(RUST, DEVICE)].into_iter().chain(written).collect();
    let mut contest = Contest::default();
    for seats in seats()? {
        // On one processor, who looks keeps the other from running.
        let awake = seats.placement == Placement::Cross;
        for carrier in CARRIERS {
            for poll in if awake { &[true, false][..] } else { &[false] } {
                let what = format!("access, {}, {}", if *poll { "awake" } else { "asleep" }, carrier.name());
                let base = format!("{what}, {RUST}");
                for (name, device) in &devices {
                    contest.add(&format!("{what}, {name}"), seats.placement, &[&base], move || {
                        access(device, carrier, *poll, seats)
                    });
                }
            }
        }
    }
    let mut series = contest.run(&asked.common)?;
    if let Some(kernel) = &asked.kernel {
        let boot =
            BootPlan::Kernel { kernel: kernel.clone(), initrd: asked.initrd.clone(), cmdline: asked.cmdline.clone() };
        series.extend(boots(&boot, &devices, asked, signals)?);
    }
    Ok(series)
}

/// A store to a device that sleeps, or looks for more to do for a while.
fn access(device: &str, carrier: Carrier, poll: bool, seats: Seats) -> Result<Vec<f64>> {
    let pins = Pins { vmm: seats.caller, hosts: seats.answerer };
    let mut stand = device::stand_on(device, carrier, poll, pins)?;
    pin(seats.caller)?;
    samples(|count| {
        for _ in 0..count {
            stand.ask(&STOP)?;
        }
        Ok(())
    })
}

/// Boots beside each device, and beside none.
fn boots(boot: &BootPlan, devices: &[(&str, &str)], asked: &BenchPlugins, signals: &Signals) -> Result<Vec<Series>> {
    let base = "boot beside no watchdog";
    let names = devices.iter().map(|(name, _)| format!("boot beside {name}"));
    let names = [base.to_owned()].into_iter().chain(names);
    let series = names.map(|name| Series::new(name, Placement::Any, "ms", base)).collect();
    let plan = |at: usize| -> Result<Plan> {
        let mut plan = machine(boot.clone(), Isolate::Device, None);
        if let Some((_, device)) = at.checked_sub(1).and_then(|at| devices.get(at)) {
            plan.devices.push(device::of_spec(device, Carrier::Memory, Level::Seccomp)?);
            label(&mut plan.devices);
        }
        Ok(plan)
    };
    boot::run(series, plan, &asked.common, signals)
}
