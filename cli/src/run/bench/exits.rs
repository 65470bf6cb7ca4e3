//! `cofferdam bench exits`: a guest's access to a device, against the same device linked into the VMM.

use super::bounds;
use super::contest::{Contest, Seats, seats};
use super::series::Series;
use super::{clock, machine};
use crate::args::BenchCommon;
use crate::catalogue::BuiltIn;
use crate::run::guests;
use anyhow::{Result, bail, ensure};
use std::time::{Duration, Instant};
use vmm::supervisor::{BootPlan, Console, ConsolePlan, Isolate, Pins, Plan, Signals, Vm};

/// A guest loops for this long before it is measured, so that caches and polling are warm.
const WARM_UP: Duration = Duration::from_millis(60);
/// One sample: long enough that asking for the counters, which takes both processors away for a moment, is lost in it.
const WINDOW: Duration = Duration::from_millis(100);
/// Samples of one start.
const WINDOWS: usize = 3;

/// A guest that does one thing for ever.
struct Loop {
    name: &'static str,
    image: fn() -> Vec<u8>,
    /// Exits that an access takes: printing looks at the line status first.
    exits: f64,
}

const LOOPS: [Loop; 3] = [
    Loop { name: "sync read", image: guests::sync, exits: 1.0 },
    Loop { name: "shadow read", image: guests::shadow, exits: 1.0 },
    Loop { name: "UART print", image: guests::print, exits: 2.0 },
];

/// Measures a guest's accesses to devices in processes of their own, and in the VMM's.
pub fn exits(common: &BenchCommon, signals: &Signals) -> Result<Vec<Series>> {
    let mut contest = Contest::default();
    for seats in seats()? {
        bounds::add(&mut contest, seats);
        for Loop { name, image, exits } in LOOPS {
            let base = format!("{name}, in-process");
            for (carrier, isolate) in [("in-process", Isolate::None), ("memory", Isolate::Device)] {
                contest.add(&format!("{name}, {carrier}"), seats.placement, &[&base], move || {
                    let samples = sample(image(), isolate, seats, signals)?;
                    Ok(samples.iter().map(|ns| ns * exits).collect())
                });
            }
        }
    }
    contest.run(common)
}

/// Nanoseconds per exit, in each of a few windows.
fn sample(image: Vec<u8>, isolate: Isolate, seats: Seats, signals: &Signals) -> Result<Vec<f64>> {
    // The supervisor stays off the vcpu's processor where there is another.
    clock::pin(seats.answerer)?;
    let pins = Pins { vmm: seats.caller, hosts: seats.answerer };
    let plan: Plan = machine(BootPlan::Flat { image, base: guests::BASE }, isolate, Some(pins));
    let mut console = Console::open(&ConsolePlan::Quiet)?;
    let mut vm = Vm::start(&plan, &BuiltIn, signals)?;
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
