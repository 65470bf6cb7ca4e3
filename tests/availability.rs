//! An honest device beside a host that takes all it can get: what it still costs the guest to reach it, and that the guest
//! comes to its end.
//!
//! A guest measures each of its accesses; what it says of them depends on who else uses this machine, so it is printed
//! (`cargo test -p cofferdam --test availability -- --nocapture`) and only the end is asserted.

mod harness;

use harness::{Place, Vm, kvm, lives, meter_guest, text};
use std::path::Path;

/// A median and a 99th percentile, in ticks of the time-stamp counter.
#[derive(Clone, Copy)]
struct Times {
    median: u64,
    late: u64,
}

/// Where the greedy host runs.
#[derive(Clone, Copy, PartialEq)]
enum Placed {
    /// On a processor of its own, with the supervisor; the guest and the honest hosts on the other one.
    Apart,
    /// Where the kernel puts it.
    Anywhere,
}

/// How often a pair is measured in turn, for figures that count; a test run needs the ends alone.
const PAIRS: &str = "COFFERDAM_PAIRS";
/// Rounds of the guest that are left once everything is seated; it makes 32.
const ROUNDS_MIN: usize = 4;

/// Runs the guest to its end beside `device`, served by `program` if there is one; gives the times of its rounds once
/// everything is where it belongs, if a loaded machine left any.
fn measure(device: &str, level: &str, program: Option<&Path>, placed: Placed) -> Option<Times> {
    let place = Place::new();
    let name = device.split(',').next().expect("a name");
    let sandbox = format!("seccomp,{name}={level}");
    let mut words = vec!["--deadline", "300", "--sandbox", &sandbox];
    if name != "mc146818" {
        words.extend(["--device", device]);
    }
    let program = program.map(|program| format!("{name}={}", program.display()));
    words.extend(program.iter().flat_map(|program| ["--host-program", program]));
    let mut vm = place.start("availability", &meter_guest(), &words);
    let mut seated_after = 0;
    if placed == Placed::Apart {
        vm.wait_until_running();
        seat(&vm, name);
        seated_after = rounds(&vm).len();
    }
    let status = vm.wait();
    let mut rounds = rounds(&vm);
    assert_eq!(status, Some(0), "the guest comes to its end beside {device}: {}", vm.errors());
    if rounds.len() < seated_after + ROUNDS_MIN {
        return None;
    }
    // The one that was interrupted by it does not count.
    rounds.drain(..=seated_after);
    let middle = |of: fn(&Times) -> u64| {
        let mut values: Vec<u64> = rounds.iter().map(of).collect();
        values.sort_unstable();
        values[values.len() / 2]
    };
    Some(Times { median: middle(|times| times.median), late: middle(|times| times.late) })
}

/// What the guest has measured so far.
fn rounds(vm: &Vm<'_>) -> Vec<Times> {
    let number = |word: &str| u64::from_str_radix(word, 16).ok();
    let round = |line: &str| {
        let (median, late) = line.trim().split_once(' ')?;
        Some(Times { median: number(median)?, late: number(late)? })
    };
    text(&vm.console()).lines().filter_map(round).collect()
}

/// Guest and honest hosts on processor 0, the rest on 1.
fn seat(vm: &Vm<'_>, greedy: &str) {
    pin(vm.pid(), 1);
    for row in vm.hosts() {
        let pid = row["pid"].as_i64().expect("a number");
        if lives(pid) {
            pin(pid as i32, usize::from(row["name"] == greedy));
        }
    }
}

fn pin(pid: i32, cpu: usize) {
    let mut set = nix::sched::CpuSet::new();
    set.set(cpu).expect("a processor");
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let task = task.file_name().to_string_lossy().parse().expect("a number");
        // One that has just ended needs no place.
        let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(task), &set);
    }
}

fn the_guest_comes_to_its_end_beside(what: &str, device: &str, level: &str) {
    if !kvm() {
        return;
    }
    let program = Path::new(env!("CARGO_BIN_EXE_cofferdam")).with_file_name("examples").join("greedy_host");
    assert!(program.exists(), "{} is built with the tests", program.display());
    let two = std::thread::available_parallelism().is_ok_and(|count| count.get() > 1);
    let placements: &[_] = if two { &[Placed::Apart, Placed::Anywhere] } else { &[Placed::Anywhere] };
    let pairs = std::env::var(PAIRS).ok().and_then(|pairs| pairs.parse().ok()).unwrap_or(1);
    for placed in placements {
        let mut ratios: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
        for _ in 0..pairs {
            let (quiet, beside) =
                (measure(device, level, None, *placed), measure(device, level, Some(&program), *placed));
            let (Some(quiet), Some(beside)) = (quiet, beside) else { continue };
            ratios[0].push(beside.median as f64 / quiet.median as f64);
            ratios[1].push(beside.late as f64 / quiet.late as f64);
        }
        let pairs = ratios[0].len();
        if pairs == 0 {
            println!("{what:11} {level:8} the guest was done before all had their places");
            continue;
        }
        let [median, late] = ratios.map(|mut ratios| {
            ratios.sort_by(f64::total_cmp);
            (ratios[ratios.len() / 2], ratios[0], ratios[ratios.len() - 1])
        });
        println!(
            "{what:11} {level:8} {:10} median {:5.2} x of the quiet one, 99 % {:5.2} x ({:.2} to {:.2}), {pairs} pairs",
            if *placed == Placed::Apart { "apart" } else { "anywhere" },
            median.0,
            late.0,
            late.1,
            late.2,
        );
    }
}

#[test]
fn a_guest_comes_to_its_end_beside_a_host_that_floods() {
    the_guest_comes_to_its_end_beside("flood", "debug-exit,port=0x5000", "seccomp");
}

#[test]
fn a_guest_comes_to_its_end_beside_a_host_that_hangs() {
    the_guest_comes_to_its_end_beside("hang", "debug-exit,port=0x5004", "seccomp");
}

#[test]
fn a_guest_comes_to_its_end_beside_a_host_that_crashes_again_and_again() {
    the_guest_comes_to_its_end_beside("crash loop", "debug-exit,port=0x5008", "seccomp");
}

#[test]
fn a_guest_comes_to_its_end_beside_a_host_that_takes_memory() {
    // Its filter ends the one at its first try; the other gets as far as its limit.
    the_guest_comes_to_its_end_beside("memory hog", "debug-exit,port=0x500c", "seccomp");
    the_guest_comes_to_its_end_beside("memory hog", "debug-exit,port=0x500c", "process");
}

#[test]
fn a_guest_comes_to_its_end_beside_a_host_that_starts_processes() {
    the_guest_comes_to_its_end_beside("fork bomb", "debug-exit,port=0x5010", "seccomp");
}

#[test]
fn a_guest_comes_to_its_end_beside_a_storm_of_interrupts() {
    the_guest_comes_to_its_end_beside("interrupts", "mc146818", "seccomp");
}
