//! A VM with nothing to do costs next to nothing.

mod harness;

use harness::{Place, idle_guest, kvm, tick_guest, wait_until};
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

/// Of one processor, for each process: half a percent.
const MOST: f64 = 0.005;
/// In a second, as `/proc` counts them for every program (USER_HZ).
const TICKS: f64 = 100.0;
/// Long enough for a clock tick of a process to be a fifth of what is allowed.
const WATCHED: Duration = Duration::from_secs(10);

/// What `/proc` says of a process, from its state on: behind its name, which may be anything.
fn stat(pid: i64) -> Option<Vec<String>> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(line.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// A process and all that come from it.
fn family(root: i64) -> Vec<i64> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let numbers: Vec<i64> = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let mut family = vec![root];
    let mut index = 0;
    while let Some(&parent) = family.get(index) {
        let is_child = |pid: &i64| stat(*pid).is_some_and(|fields| fields[1] == parent.to_string());
        family.extend(numbers.iter().copied().filter(is_child));
        index += 1;
    }
    family
}

/// Processor time of each process, of all its threads, in seconds.
fn used(family: &[i64]) -> BTreeMap<i64, f64> {
    let ticks = |fields: Vec<String>| fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>();
    family.iter().map(|pid| (*pid, ticks(stat(*pid).expect("it lives")) / TICKS)).collect()
}

/// What each process takes of a processor for so long.
fn shares(family: &[i64], watched: Duration) -> BTreeMap<i64, f64> {
    let (before, begun) = (used(family), Instant::now());
    std::thread::sleep(watched);
    let (after, seconds) = (used(family), begun.elapsed().as_secs_f64());
    after.into_iter().map(|(pid, after)| (pid, (after - before[&pid]) / seconds)).collect()
}

#[test]
fn idle_vm_has_no_process_above_half_a_percent() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let mut vms = Vec::new();
    for (option, value) in [
        ("--isolate", "device"),
        ("--isolate", "class"),
        ("--isolate", "none"),
        ("--carrier", "socket"),
        ("--carrier", "pipe"),
        ("--carrier", "virtio"),
    ] {
        let vm = place.start(value, &idle_guest(), &["--cpus", "2", option, value]);
        vm.wait_until_running();
        wait_until("the guest has said its word", || !vm.console().is_empty());
        vms.push(vm);
    }
    // What was started settles: a waiter tries now and then whether looking has become worth it.
    std::thread::sleep(Duration::from_secs(1));
    let family: Vec<i64> = vms.iter().flat_map(|vm| family(vm.pid().into())).collect();
    assert!(family.len() > 2 * vms.len(), "a supervisor and a VMM of each, and hosts: {family:?}");
    for (pid, share) in shares(&family, WATCHED) {
        let name = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
        println!("{:.2} % {pid} {name}", 100.0 * share);
        assert!(share <= MOST, "{name} ({pid}) takes {:.2} % of a processor and has nothing to do", 100.0 * share);
    }
}

#[test]
fn busy_vm_is_seen_to_be_busy() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let vm = place.start("busy", &tick_guest(), &[]);
    vm.wait_until_running();
    vm.wait_for_output();
    let shares = shares(&family(vm.pid().into()), Duration::from_secs(2));
    assert!(shares.values().any(|share| *share > MOST), "{shares:?}");
}
