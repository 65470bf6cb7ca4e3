//! `cofferdam bench`: what isolation costs, as ratios of things measured in the same run.

use super::guests;
use crate::args::{BenchCommon, BenchKind, STANDARD, label, planned};
use crate::catalogue::BuiltIn;
use crate::table::table;
use anyhow::{Context, Result, bail, ensure};
use schema::host::Level;
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use vmm::supervisor::{
    BootPlan, Console, ConsolePlan, DEADLINE, Ended, Isolate, Pins, Plan, Signals, Vm, time_empty_program, time_spawn,
};

/// One measured thing. `ratio` is its median against that of the row named `base`, of the same run.
#[derive(Serialize)]
struct Row {
    name: String,
    placement: &'static str,
    median: f64,
    p99: f64,
    unit: &'static str,
    rounds: usize,
    base: String,
    ratio: f64,
}

/// Samples of one thing.
struct Series {
    name: String,
    placement: &'static str,
    unit: &'static str,
    base: String,
    samples: Vec<f64>,
}

impl Series {
    fn new(name: impl Into<String>, placement: &'static str, unit: &'static str, base: impl Into<String>) -> Series {
        Series { name: name.into(), placement, unit, base: base.into(), samples: Vec::new() }
    }

    fn median(&self) -> f64 {
        quantile(&self.samples, 0.5)
    }
}

fn quantile(samples: &[f64], at: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = ((sorted.len() as f64 - 1.0) * at).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// Runs the command.
pub fn bench(asked: &crate::args::BenchArgs, signals: &Signals) -> Result<u8> {
    let (common, series) = match &asked.what {
        BenchKind::Exits(common) => (common, exits(common, signals)?),
        BenchKind::Spawn(common) => (common, spawn(common)?),
        BenchKind::Boot { kernel, initrd, cmdline, common } => {
            (common, boot(kernel.clone(), initrd.clone(), cmdline.clone(), common, signals)?)
        }
    };
    let rows: Vec<Row> = series
        .iter()
        .map(|one| {
            let base = series.iter().find(|other| other.name == one.base && other.placement == one.placement);
            Row {
                name: one.name.clone(),
                placement: one.placement,
                median: one.median(),
                p99: quantile(&one.samples, 0.99),
                unit: one.unit,
                rounds: one.samples.len(),
                base: one.base.clone(),
                ratio: base.map_or(f64::NAN, |base| one.median() / base.median()),
            }
        })
        .collect();
    if common.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        let mut shown = table(["what", "placement", "median", "p99", "unit", "rounds", "against", "ratio"]);
        for row in rows {
            shown.add_row([
                row.name,
                row.placement.to_owned(),
                format!("{:.1}", row.median),
                format!("{:.1}", row.p99),
                row.unit.to_owned(),
                row.rounds.to_string(),
                row.base,
                format!("{:.3}", row.ratio),
            ]);
        }
        println!("{shown}");
    }
    Ok(0)
}

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

/// A guest loops for this long before it is measured, so that caches and polling are warm.
const WARM_UP: Duration = Duration::from_millis(60);
/// One sample: long enough that asking for the counters is lost in it.
const WINDOW: Duration = Duration::from_millis(60);
/// Samples of one start.
const WINDOWS: usize = 3;

/// Exits per access of each loop: printing looks at the line status first.
const LOOPS: [(&str, u64); 3] = [("sync read", 1), ("shadow read", 1), ("UART print", 2)];

fn exits(common: &BenchCommon, signals: &Signals) -> Result<Vec<Series>> {
    let processors = allowed_processors()?;
    let mut placements = vec![("same", Pins { vmm: processors[0], hosts: processors[0] })];
    if let Some(second) = processors.get(1) {
        placements.push(("cross", Pins { vmm: processors[0], hosts: *second }));
    }
    let mut series = Vec::new();
    for (placement, _) in &placements {
        for (name, _) in LOOPS {
            let base = format!("{name}, in-process");
            series.push(Series::new(base.clone(), placement, "ns", base.clone()));
            series.push(Series::new(format!("{name}, memory"), placement, "ns", base));
        }
    }
    for round in 0..common.rounds {
        if !common.json {
            eprintln!("round {} of {}", round + 1, common.rounds);
        }
        for (placement, pins) in &placements {
            // The relay stays off the vcpu's processor where there is another.
            pin_self(pins.hosts)?;
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

fn spawn(common: &BenchCommon) -> Result<Vec<Series>> {
    let empty = "empty static program";
    let mut series = vec![Series::new(empty, "any", "µs", empty)];
    let mut pss = Series::new("memory of the host (PSS)", "any", "KiB", "memory of the host (PSS)");
    let mut total = Series::new("spawn to first answered access", "any", "µs", empty);
    let mut steps: Vec<Series> = Vec::new();
    let device = planned("i8042", Vec::new(), Vec::new());
    // The first of each is slower: the program is read in, the kernel's caches fill.
    for round in 0..=common.rounds {
        let alone = time_empty_program()?;
        let timed = time_spawn(&device, &BuiltIn)?;
        if round == 0 {
            continue;
        }
        series[0].samples.push(micros(alone));
        total.samples.push(timed.steps.iter().map(|(_, time)| micros(*time)).sum());
        pss.samples.push(timed.pss_bytes as f64 / 1024.0);
        for (at, (step, time)) in timed.steps.iter().enumerate() {
            if steps.len() == at {
                steps.push(Series::new(format!("  of it: {step}"), "any", "µs", empty));
            }
            steps[at].samples.push(micros(*time));
        }
    }
    series.push(total);
    series.extend(steps);
    series.push(pss);
    Ok(series)
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1000.0
}

/// A kernel boots and powers off within this, even where everything is emulated twice.
const BOOT: Duration = Duration::from_secs(300);

fn boot(
    kernel: PathBuf,
    initrd: Option<PathBuf>,
    cmdline: String,
    common: &BenchCommon,
    signals: &Signals,
) -> Result<Vec<Series>> {
    let base = "boot, --isolate none";
    let mut series =
        vec![Series::new(base, "any", "ms", base), Series::new("boot, sandboxed, --isolate device", "any", "ms", base)];
    for round in 0..common.rounds {
        // Whoever goes first alternates: a machine that slows down must not favour one side.
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for at in order {
            let isolate = if at == 0 { Isolate::None } else { Isolate::Device };
            let boot = BootPlan::Kernel { kernel: kernel.clone(), initrd: initrd.clone(), cmdline: cmdline.clone() };
            let mut plan = machine(boot, isolate, None);
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
            series[at].samples.push(from.elapsed().as_nanos() as f64 / 1e6);
            if !common.json {
                eprintln!("{}: {:.0} ms", series[at].name, series[at].samples.last().unwrap_or(&0.0));
            }
        }
    }
    Ok(series)
}

/// Processors that this process may run on.
fn allowed_processors() -> Result<Vec<usize>> {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0))?;
    Ok((0..nix::sched::CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}

fn pin_self(cpu: usize) -> Result<()> {
    let mut set = nix::sched::CpuSet::new();
    set.set(cpu)?;
    Ok(nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)?)
}
