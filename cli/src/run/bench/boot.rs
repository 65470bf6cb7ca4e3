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
        for at in order(round, series.len()) {
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

/// Whose turn it is in a round. Each has each place once in as many rounds as there are series: boots take so long that the machine is
/// not the same at the end of a round as at its beginning, and the first boot of all finds it cold.
fn order(round: u32, count: usize) -> impl Iterator<Item = usize> {
    let first = round as usize % count.max(1);
    (0..count).map(move |step| (first + step) % count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_boot_is_at_one_end_of_every_round() {
        const COUNT: usize = 4;
        let rounds: Vec<Vec<usize>> = (0..COUNT as u32).map(|round| order(round, COUNT).collect()).collect();
        for place in 0..COUNT {
            let mut there: Vec<usize> = rounds.iter().map(|round| round[place]).collect();
            there.sort_unstable();
            assert_eq!(there, (0..COUNT).collect::<Vec<_>>(), "place {place}");
        }
        assert_eq!([0, 1, 2].map(|round| order(round, 2).next()), [Some(0), Some(1), Some(0)]);
        assert_eq!(order(3, 0).count(), 0);
    }
}
