//! Device hosts that die or hang, supervisors that are killed: what the guest and the operator see.

mod harness;

use harness::{PATIENCE, Place, Vm, kvm, lives, send, tick_guest, wait_until};
use std::time::Instant;

const HOSTS: [&str; 6] = ["uart16550", "mc146818", "i8042", "acpi-pm", "pvpanic", "virtio-entropy"];

/// A VM whose hosts are not started anew.
fn start<'a>(place: &'a Place, name: &str) -> Vm<'a> {
    let vm = place.start(name, &tick_guest(), &["--deadline", "2000", "--restart", "off"]);
    vm.wait_until_running();
    vm.wait_for_output();
    vm
}

fn state(vm: &Vm<'_>, host: &str) -> String {
    vm.host(host)["state"].as_str().unwrap().to_owned()
}

/// Fells each host in turn with `signal`; the guest goes on, as a device that lives shows.
fn fell_each_host(signal: i32) {
    let place = Place::new();
    for victim in HOSTS {
        let vm = start(&place, "felled");
        let witness = if victim == "i8042" { "mc146818" } else { "i8042" };
        send(vm.host(victim)["pid"].as_i64().unwrap() as i32, signal);
        wait_until("the host is shown dead", || state(&vm, victim).starts_with("retired: "));
        let before = vm.served(witness);
        wait_until("another device serves the guest", || vm.served(witness) > before + 100);
        for other in HOSTS.iter().filter(|other| **other != victim) {
            assert_eq!(vm.host(other)["state"], "running", "{other} after {victim}");
        }
        if victim != "uart16550" {
            vm.wait_for_output();
        }
        assert!(vm.errors().contains(victim), "said: {}", vm.errors());
    }
}

#[test]
fn a_killed_host_takes_nothing_else_down() {
    if kvm() {
        fell_each_host(libc::SIGKILL);
    }
}

#[test]
fn a_stopped_host_takes_nothing_else_down() {
    if kvm() {
        fell_each_host(libc::SIGSTOP);
    }
}

/// Fells each host in turn with `signal`, which is started anew, over `carrier`; the guest goes on with all its devices.
fn each_host_is_started_anew_over(carrier: &str, signal: i32) {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let vm = place.start("felled", &tick_guest(), &["--deadline", "1000", "--carrier", carrier]);
    vm.wait_until_running();
    vm.wait_for_output();
    for victim in HOSTS {
        let before = vm.host(victim);
        send(before["pid"].as_i64().unwrap() as i32, signal);
        wait_until("it is another process", || {
            let now = vm.host(victim);
            now["restarts"] == 1 && now["state"] == "running" && now["pid"] != before["pid"]
        });
        let served = vm.served(victim);
        wait_until("it serves the guest", || vm.served(victim) > served + 100);
        vm.wait_for_output();
    }
    for row in vm.hosts() {
        assert_eq!((&row["restarts"], &row["state"]), (&1.into(), &"running".into()), "{row:#}");
        assert_eq!(row["differences"], serde_json::json!([]), "{row:#}");
    }
}

#[test]
fn a_killed_host_is_started_anew_over_memory() {
    each_host_is_started_anew_over("memory", libc::SIGKILL);
}

#[test]
fn a_killed_host_is_started_anew_over_sockets() {
    each_host_is_started_anew_over("socket", libc::SIGKILL);
}

#[test]
fn a_killed_host_is_started_anew_over_pipes() {
    each_host_is_started_anew_over("pipe", libc::SIGKILL);
}

#[test]
fn a_killed_host_is_started_anew_over_virtqueues() {
    each_host_is_started_anew_over("virtio", libc::SIGKILL);
}

#[test]
fn a_stopped_host_is_killed_at_its_deadline_and_started_anew() {
    each_host_is_started_anew_over("memory", libc::SIGSTOP);
}

#[test]
fn a_host_that_is_killed_again_and_again_is_retired_and_ps_says_why() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let vm = place.start("retired", &tick_guest(), &["--restart", "3"]);
    vm.wait_until_running();
    let mut last = 0;
    // One look a turn: between two, a host that backed off may be running again.
    let goes_on = |state: String| !state.starts_with("retired: ");
    while goes_on(state(&vm, "mc146818")) {
        let row = vm.host("mc146818");
        let pid = row["pid"].as_i64().unwrap();
        // One that is still being made would die of something else.
        if row["state"] == "running" && pid != last {
            send(pid as i32, libc::SIGKILL);
            last = pid;
        }
    }
    assert_eq!(state(&vm, "mc146818"), "retired: killed (signal 9)");
    assert_eq!(vm.host("mc146818")["restarts"], 3);
    let before = vm.served("i8042");
    wait_until("another device serves the guest", || vm.served("i8042") > before + 100);
    vm.wait_for_output();
}

#[test]
fn after_the_supervisor_is_killed_nothing_is_left_running() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let mut vm = start(&place, "orphans");
    let pids: Vec<i64> = vm.hosts().iter().map(|row| row["pid"].as_i64().unwrap()).collect();
    assert_eq!(pids.len(), HOSTS.len());
    vm.signal(libc::SIGKILL);
    vm.wait();
    wait_until("all its processes are gone", || !pids.iter().any(|pid| lives(*pid)));
    assert!(place.ps().is_empty());
    assert!(place.runtime_files().is_empty(), "{:?}", place.runtime_files());
    drop(vm);
    start(&place, "orphans");
}

#[test]
fn a_signal_ends_the_vm_and_leaves_nothing() {
    if !kvm() {
        return;
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let place = Place::new();
        let mut vm = start(&place, "signalled");
        let pids: Vec<i64> = vm.hosts().iter().map(|row| row["pid"].as_i64().unwrap()).collect();
        vm.signal(signal);
        assert_eq!(vm.wait(), Some(1));
        assert!(!pids.iter().any(|pid| lives(*pid)));
        assert!(place.runtime_files().is_empty());
    }
}

#[test]
fn a_signal_at_any_moment_of_the_start_leaves_nothing() {
    if !kvm() {
        return;
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        for delay in (0..60).step_by(4) {
            let place = Place::new();
            let mut vm = place.start("early", &tick_guest(), &[]);
            std::thread::sleep(std::time::Duration::from_millis(delay));
            vm.signal(signal);
            let from = Instant::now();
            // Before the program holds its signals, the signal's default ends it.
            assert!(matches!(vm.wait(), Some(1) | None), "after {delay} ms");
            assert!(from.elapsed() < PATIENCE);
            assert!(place.runtime_files().is_empty(), "after {delay} ms: {:?}", place.runtime_files());
        }
    }
}

#[test]
fn operators_end_and_reset_a_vm() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let mut vm = start(&place, "operated");
    let before = vm.host("i8042")["pid"].clone();
    assert!(place.run(&["reset", "operated"]).status.success());
    wait_until("the hosts are new ones", || {
        vm.hosts().iter().any(|row| row["name"] == "i8042" && row["pid"] != before)
    });
    vm.wait_for_output();
    assert!(place.run(&["logs", "operated"]).status.success());
    assert!(place.run(&["stop", "operated"]).status.success());
    assert_eq!(vm.wait(), Some(0));
    assert!(place.ps().is_empty());
}

#[test]
fn an_operator_attaches_to_the_console() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let mut vm = start(&place, "attached");
    let seen = place.path("seen");
    let mut attached = place
        .cofferdam()
        .args(["console", "attached"])
        .stdout(std::fs::File::create(&seen).unwrap())
        .spawn()
        .expect("the program starts");
    wait_until("the console shows what the guest prints", || {
        std::fs::read(&seen).is_ok_and(|shown| shown.windows(8).any(|dots| dots == b"........"))
    });
    assert!(place.run(&["stop", "attached"]).status.success());
    assert_eq!(vm.wait(), Some(0));
    assert!(attached.wait().unwrap().success(), "it ends with the VM");
}

#[test]
fn two_vms_run_at_once() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let (one, two) = (start(&place, "one"), start(&place, "two"));
    one.wait_for_output();
    two.wait_for_output();
    assert_eq!(one.hosts().len(), HOSTS.len());
    assert_eq!(two.hosts().len(), HOSTS.len());
}
