//! `cofferdam bench exits`: a guest's access to a device, against the same device linked into the VMM.

use super::series::{Placement, Series};
use super::{allowed_processors, clock, machine};
use crate::args::BenchCommon;
use crate::catalogue::BuiltIn;
use crate::run::guests;
use anyhow::{Context, Result, bail, ensure};
use std::time::{Duration, Instant};
use vmm::supervisor::{BootPlan, Console, ConsolePlan, Isolate, Pins, Plan, Signals, Vm};

/// A guest loops for this long before it is measured, so that caches and polling are warm.
const WARM_UP: Duration = Duration::from_millis(60);
/// One sample: long enough that asking for the counters is lost in it.
const WINDOW: Duration = Duration::from_millis(60);
/// Samples of one start.
const WINDOWS: usize = 3;

/// Exits per access of each loop: printing looks at the line status first.
const LOOPS: [(&str, u64); 3] = [("sync read", 1), ("shadow read", 1), ("UART print", 2)];

/// Measures a guest's accesses to devices in processes of their own, and in the VMM's.
pub fn exits(common: &BenchCommon, signals: &Signals) -> Result<Vec<Series>> {
    let processors = allowed_processors()?;
    let mut placements = vec![(Placement::Same, Pins { vmm: processors[0], hosts: processors[0] })];
    if let Some(second) = processors.get(1) {
        placements.push((Placement::Cross, Pins { vmm: processors[0], hosts: *second }));
    }
    let mut series = Vec::new();
    for (placement, _) in &placements {
        for (name, _) in LOOPS {
            let base = format!("{name}, in-process");
            series.push(Series::new(base.clone(), *placement, "ns", base.clone()));
            series.push(Series::new(format!("{name}, memory"), *placement, "ns", base));
        }
    }
    for round in 0..common.rounds {
        if !common.json {
            eprintln!("round {} of {}", round + 1, common.rounds);
        }
        for (placement, pins) in &placements {
            // The relay stays off the vcpu's processor where there is another.
            clock::pin(pins.hosts)?;
            for (name, per_access) in LOOPS {
                let image = match name {
                    "sync read" => guests::sync(),
                    "shadow read" => guests::shadow(),
                    _ => guests::print(),
                };
                for (carrier, isolate) in [("in-process", Isolate::None), ("memory", Isolate::Device)] {
                    let boot = BootPlan::Flat { image: image.clone(), base: guests::BASE };
                    let samples = sample(&machine(boot, isolate, Some(*pins)), signals)?;
                    let full = format!("{name}, {carrier}");
                    let one = series.iter_mut().find(|one| one.name == full && one.placement == *placement);
                    let one = one.context("a series for each combination")?;
                    one.samples.extend(samples.iter().map(|ns| ns * per_access as f64));
                }
            }
        }
    }
    Ok(series)
}

/// Nanoseconds per exit, in each of a few windows.
fn sample(plan: &Plan, signals: &Signals) -> Result<Vec<f64>> {
    let mut console = Console::open(&ConsolePlan::Quiet)?;
    let mut vm = Vm::start(plan, &BuiltIn, signals)?;
    let go_on =
        |vm: &mut Vm, console: &mut Console, time| match vm.run_until(console, signals, Instant::now() + time)? {
            None => Ok(()),
            Some(ended) => bail!("the bench's guest ended: {ended:?}"),
        };
    go_on(&mut vm, &mut console, WARM_UP)?;
    let mut samples = Vec::new();
    for _ in 0..WINDOWS {
        let (from, before) = (Instant::now(), vm.counters()?.exits);
        go_on(&mut vm, &mut console, WINDOW)?;
        let (time, exits) = (from.elapsed(), vm.counters()?.exits - before);
        ensure!(exits > 0, "the bench's guest makes no progress");
        samples.push(time.as_nanos() as f64 / exits as f64);
    }
    Ok(samples)
}
