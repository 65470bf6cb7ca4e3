//! What a sealed device host really does, seen by a tracer from outside.

mod harness;

use harness::{Place, kvm, tick_guest};
use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Names of the system calls in what `strace` wrote.
fn calls(trace: &str) -> BTreeSet<String> {
    trace
        .lines()
        .filter(|line| !line.contains("---") && !line.contains("+++") && !line.contains("resumed>"))
        .filter_map(|line| line.split_once('(')?.0.split_whitespace().last().map(str::to_owned))
        .collect()
}

#[test]
fn a_register_device_makes_only_read_and_write_after_seal() {
    if !kvm() {
        return;
    }
    let registers = ["uart16550", "mc146818", "i8042", "acpi-pm", "pvpanic"];
    traced_makes_only_read_and_write(&[], &registers);
}

#[test]
fn at_level_strict_every_device_makes_only_read_and_write() {
    if !kvm() {
        return;
    }
    let every = ["uart16550", "mc146818", "i8042", "acpi-pm", "pvpanic", "virtio-entropy", "virtio-block"];
    let disk = Place::new();
    let path = disk.file("disk", &[0; 1 << 20]);
    for carrier in ["memory", "socket"] {
        let words = ["--sandbox", "strict", "--carrier", carrier, "--disk", path.to_str().unwrap()];
        traced_makes_only_read_and_write(&words, &every);
    }
}

/// Traces these devices of a VM after each other.
fn traced_makes_only_read_and_write(words: &[&str], devices: &[&str]) {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        println!("SKIPPED: strace is not installed");
        return;
    }
    let place = Place::new();
    let vm = place.start("traced", &tick_guest(), words);
    vm.wait_until_running();
    vm.wait_for_output();
    for name in devices {
        let trace = place.path(&format!("{name}.trace"));
        let pid = vm.host(name)["pid"].as_i64().unwrap().to_string();
        let mut tracer = Command::new("strace")
            .args(["-f", "-p", &pid, "-o"])
            .arg(&trace)
            .stderr(Stdio::null())
            .spawn()
            .expect("strace starts");
        let before = vm.served(name);
        harness::wait_until("the traced host serves", || vm.served(name) > before + 50);
        std::thread::sleep(Duration::from_millis(200));
        harness::send(tracer.id() as i32, libc::SIGINT);
        tracer.wait().expect("strace ends");
        let made = calls(&std::fs::read_to_string(&trace).expect("strace has written"));
        let allowed: BTreeSet<String> = ["read", "write"].map(str::to_owned).into();
        assert!(made.is_subset(&allowed), "{name} made {made:?}");
        assert_eq!(vm.host(name)["state"], "running");
    }
}
