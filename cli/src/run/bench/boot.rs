//! `cofferdam bench boot`: booting a kernel, against the same with `--isolate none`.

use super::machine;
use super::series::{Placement, Series};
use crate::args::BenchCommon;
use crate::catalogue::BuiltIn;
use anyhow::{Result, bail};
use std::path::Path;
use std::time::{Duration, Instant};
use vmm::supervisor::{BootPlan, Console, ConsolePlan, Ended, Isolate, Plan, Signals, Vm};

/// A kernel boots and powers off within this, even where everything is emulated twice.
const BOOT: Duration = Duration::from_secs(300);

/// Measures booting a kernel that powers off.
pub fn boot(
    kernel: &Path,
    initrd: Option<&Path>,
    cmdline: &str,
    common: &BenchCommon,
    signals: &Signals,
) -> Result<Vec<Series>> {
    let base = "boot, --isolate none";
    let boot =
        BootPlan::Kernel { kernel: kernel.to_owned(), initrd: initrd.map(Path::to_owned), cmdline: cmdline.to_owned() };
    let series = vec![
        Series::new(base, Placement::Any, "ms", base),
        Series::new("boot, sandboxed, --isolate device", Placement::Any, "ms", base),
    ];
    let isolates = [Isolate::None, Isolate::Device];
    run(series, |at| Ok(machine(boot.clone(), isolates[at], None)), common, signals)
}

/// Boots the machine of each series in every round, with the time that it takes as the series' samples.
pub fn run(
    mut series: Vec<Series>,
    plan: impl Fn(usize) -> Result<Plan>,
    common: &BenchCommon,
    signals: &Signals,
) -> Result<Vec<Series>> {
    for round in 0..common.rounds {
        for at in 0..series.len() {
            // Whoever goes first alternates: a machine that slows down must not favour one side.
            let at = if round % 2 == 0 { at } else { series.len() - 1 - at };
            let mut plan = plan(at)?;
            plan.memory_bytes = 256 << 20;
            let mut console = Console::open(&ConsolePlan::Quiet)?;
            let from = Instant::now();
            let mut vm = Vm::start(&plan, &BuiltIn, signals)?;
            match vm.run_until(&mut console, signals, from + BOOT)? {
                Some(Ended::PoweredOff | Ended::Reset) => {}
                other => {
                    let (printed, _) = console.since(0, usize::MAX);
                    bail!("the kernel did not power off but: {other:?}\n{}", String::from_utf8_lossy(&printed));
                }
            }
            let time = from.elapsed().as_nanos() as f64 / 1e6;
            if !common.json {
                eprintln!("{}: {time:.0} ms", series[at].name);
            }
            series[at].samples.push(time);
        }
    }
    Ok(series)
}
