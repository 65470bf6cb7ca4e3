//! `cofferdam demo`: a built-in guest drives every device, then a table shows what each device's process may do.

use super::guests;
use crate::args::{DemoArgs, apply_carrier, usage};
use crate::catalogue::BuiltIn;
use crate::machine::{STANDARD, apply_host_programs, label, planned};
use crate::ps::{calls_words, objects, print_missing, sandbox_words};
use crate::table::{size, table};
use anyhow::{Result, bail};
use schema::control::HostStatus;
use std::time::{Duration, Instant};
use vmm::supervisor::{
    Backing, BootPlan, Console, ConsolePlan, DEADLINE, Ended, Isolate, Plan, PlannedDevice, Signals, Vm,
};

pub(super) mod script;

/// The guest is done in well under a second; on a machine that emulates everything it may take some.
const PATIENCE: Duration = Duration::from_secs(60);
/// The demo's disk: enough to read and write, and no file is touched.
const DISK_BYTES: usize = 1 << 20;

/// Every device there is.
fn every_device() -> Vec<PlannedDevice> {
    let mut devices: Vec<PlannedDevice> =
        STANDARD.iter().map(|device| planned(device, Vec::new(), Vec::new())).collect();
    devices.push(planned("virtio-block", Vec::new(), vec![Backing::Memory(vec![0; DISK_BYTES])]));
    devices.push(planned("debug-exit", Vec::new(), Vec::new()));
    label(&mut devices);
    devices
}

/// Runs the demo.
pub fn demo(asked: &DemoArgs, signals: &Signals) -> Result<u8> {
    let kvm = !asked.no_kvm && kvm_opens();
    if !kvm && !asked.no_kvm {
        eprintln!(
            "cofferdam: /dev/kvm cannot be opened here, so a script makes the accesses instead of a virtual processor"
        );
    }
    let mut devices = every_device();
    asked.sandbox.apply(&mut devices)?;
    asked.helper.apply(&mut devices)?;
    apply_host_programs(&asked.host_program, &mut devices)?;
    let isolate = Isolate::from(asked.isolate);
    apply_carrier(asked.carrier.as_ref(), isolate, &mut devices)?;
    let plan = Plan {
        name: format!("demo-{}", std::process::id()),
        cpus: 1,
        memory_bytes: 64 << 20,
        boot: if kvm { BootPlan::Flat { image: guests::demo(), base: guests::BASE } } else { BootPlan::None },
        devices,
        display: None,
        isolate,
        level: asked.sandbox.all,
        demands: asked.layers.demands()?,
        deadline: DEADLINE,
        // A death is to be noticed.
        restarts: 0,
        kvm,
        pins: None,
    };
    plan.check_demands().map_err(|error| usage!("{error:#}"))?;
    let mut console = Console::open(&ConsolePlan::Quiet)?;
    let mut vm = Vm::start(&plan, &BuiltIn, signals)?;
    if !kvm {
        script::drive_every_device(&mut vm, &mut console, signals)?;
    }
    let ended = vm.run_until(&mut console, signals, Instant::now() + PATIENCE)?;
    let (printed, _) = console.since(0, usize::MAX);
    let printed = String::from_utf8_lossy(&printed).into_owned();
    // The processes are still there: what follows is what the kernel shows of them now.
    let report = vm.report(true);
    let differing: Vec<String> = report
        .hosts
        .iter()
        .flat_map(|row| row.differences.iter().map(move |difference| format!("{}: {difference}", row.name)))
        .collect();
    if asked.json {
        println!("{}", serde_json::to_string_pretty(&objects(&report.name, &report.hosts))?);
    } else {
        for line in printed.lines() {
            println!("  guest | {line}");
        }
        show(&vm, &report.hosts);
    }
    vm.end();
    for difference in &differing {
        eprintln!("cofferdam: differs from its recipe: {difference}");
    }
    match ended {
        Some(Ended::PoweredOff) if printed.contains("WRONG") || printed.contains("absent") => {
            bail!("the guest found a device wrong or absent:\n{printed}")
        }
        Some(Ended::PoweredOff) if differing.is_empty() => Ok(0),
        Some(Ended::PoweredOff) => bail!("{} differences between the kernel's view and the recipes", differing.len()),
        Some(other) => bail!("the guest did not power off but: {other:?}\n{printed}"),
        None => bail!("the guest did not power off within {PATIENCE:?}; it printed:\n{printed}"),
    }
}

fn kvm_opens() -> bool {
    std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok()
}

fn show(vm: &Vm, rows: &[HostStatus]) {
    let mut shown = table([
        "device host",
        "process",
        "sandbox",
        "calls left",
        "descriptors held",
        "guest memory",
        "shadow",
        "posted",
        "lane",
        "doorbell",
    ]);
    for row in rows {
        let devices = vm.devices_of(&row.name);
        let name = if devices.len() == 1 && devices[0] == row.name || devices.is_empty() {
            row.name.clone()
        } else {
            format!("{} ({})", row.name, devices.join(", "))
        };
        let over =
            |count: u64| if count == 0 { "-".to_owned() } else { format!("{count} {}", row.carriers.join(", ")) };
        let count = |count: u64| if count == 0 { "-".to_owned() } else { count.to_string() };
        shown.add_row([
            name,
            row.pid.to_string(),
            sandbox_words(row),
            calls_words(row),
            row.descriptors.len().to_string(),
            size(row.guest_memory_bytes),
            count(row.shadow),
            count(row.posted),
            over(row.lane),
            count(row.doorbell),
        ]);
    }
    println!("{shown}");
    print_missing(rows.iter());
    println!(
        "Accesses: `shadow` reads and `posted` writes switch no process, `lane` ones wait for the device's, a `doorbell` \
         goes\nfrom the guest to the device's process through the kernel alone. Read from the kernel: /proc, not the processes' word."
    );
}
