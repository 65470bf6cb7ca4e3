//! `cofferdam demo`: the first thing anyone runs.

mod harness;

use harness::{Place, kvm, text};
use serde_json::Value;
use std::io::Read;

fn demo(words: &[&str]) -> Vec<Value> {
    let place = Place::new();
    let output = place.cofferdam().args(["demo", "--json"]).args(words).output().unwrap();
    assert!(output.status.success(), "demo {words:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("a list of objects")
}

fn host<'a>(rows: &'a [Value], name: &str) -> &'a Value {
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no host {name} in {rows:#?}"))
}

#[test]
fn demo_shows_each_device_in_a_sealed_process() {
    if !kvm() {
        return;
    }
    let rows = demo(&[]);
    assert_eq!(rows.len(), 8, "{rows:#?}");
    for row in &rows {
        assert_eq!(row["seccomp_mode"], 2, "{row:#}");
        assert_eq!(row["no_new_privs"], true, "{row:#}");
        assert_eq!(row["differences"], serde_json::json!([]), "{row:#}");
        assert_eq!(row["state"], "running", "{row:#}");
    }
    for (name, calls) in [("uart16550", 4), ("mc146818", 4), ("virtio-block", 12), ("virtio-entropy", 12)] {
        assert!(host(&rows, name)["syscalls_allowed"].as_u64().unwrap() <= calls, "{:#}", host(&rows, name));
    }
}

#[test]
fn only_devices_that_need_guest_memory_hold_it() {
    if !kvm() {
        return;
    }
    for row in demo(&[]) {
        let held = row["guest_memory_bytes"].as_u64().unwrap();
        let wanted = if row["name"].as_str().unwrap().starts_with("virtio") { 64 << 20 } else { 0 };
        assert_eq!(held, wanted, "{row:#}");
    }
}

#[test]
fn the_uart_prints_without_the_lane() {
    if !kvm() {
        return;
    }
    let rows = demo(&[]);
    let accesses = &host(&rows, "uart16550")["accesses"];
    let count = |how: &str| accesses[how].as_u64().unwrap();
    // A host that is kept off the processor lets the ring run full, and then an access waits for it.
    assert!(count("posted") > 100 && count("shadow") > 100, "{accesses:#}");
    assert!(count("lane") * 5 < count("posted") + count("shadow"), "{accesses:#}");
    assert!(host(&rows, "virtio-block")["accesses"]["doorbell"].as_u64().unwrap() >= 2, "{rows:#?}");
}

#[test]
fn demo_prints_a_table_for_people() {
    let place = Place::new();
    let output = place.run(&["demo"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    for word in ["hello from", "device host", "uart16550", "virtio-block", "disk (virtio)          : ok", "calls left"]
    {
        assert!(shown.contains(word), "no {word:?} in:\n{shown}");
    }
}

#[test]
fn without_kvm_a_script_makes_the_same_accesses() {
    let rows = demo(&["--no-kvm"]);
    assert_eq!(rows.len(), 8);
    for name in ["uart16550", "mc146818", "i8042", "acpi-pm", "pvpanic"] {
        let accesses = &host(&rows, name)["accesses"];
        let all: u64 = ["shadow", "posted", "lane"].iter().map(|how| accesses[how].as_u64().unwrap()).sum();
        assert!(all > 0, "{name}: {accesses:#}");
    }
}

#[test]
fn an_ordinary_user_gets_the_same_sandbox() {
    /// Nobody in particular.
    const USER: u32 = 65534;
    let place = Place::new();
    let mut command = place.cofferdam();
    command.args(["demo", "--json", "--no-kvm"]).current_dir("/");
    std::os::unix::process::CommandExt::uid(std::os::unix::process::CommandExt::gid(&mut command, USER), USER);
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            println!("SKIPPED: cannot become user {USER}: {error}");
            return;
        }
    };
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rows.len(), 8);
    for row in rows {
        assert_eq!(row["seccomp_mode"], 2, "{row:#}");
        assert_eq!(row["differences"], serde_json::json!([]), "{row:#}");
    }
}

#[test]
fn a_class_shares_one_host() {
    let rows = demo(&["--isolate", "class", "--no-kvm"]);
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"char") && names.contains(&"block") && names.len() < 8, "{names:?}");
}

#[test]
fn linked_devices_have_no_host_of_their_own() {
    let rows = demo(&["--isolate", "none", "--no-kvm"]);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["name"], "vmm");
}

#[test]
fn every_carrier_carries_every_device_and_is_named() {
    for carrier in ["memory", "socket", "pipe", "virtio"] {
        // With a guest where there can be one, and by a script.
        for words in [&["--carrier", carrier, "--no-kvm"][..], &["--carrier", carrier]] {
            let rows = demo(words);
            assert_eq!(rows.len(), 8, "{words:?}");
            for row in &rows {
                assert_eq!(row["carriers"], serde_json::json!([carrier]), "{words:?}: {row:#}");
                assert_eq!(row["differences"], serde_json::json!([]), "{words:?}: {row:#}");
                assert_eq!(row["state"], "running", "{words:?}: {row:#}");
            }
            let uart = &host(&rows, "uart16550")["accesses"];
            assert!(uart["posted"].as_u64().unwrap() > 0, "{words:?}: {uart:#}");
        }
    }
}

#[test]
fn a_carrier_for_one_device_is_shown() {
    let rows = demo(&["--carrier", "memory,uart16550=pipe,virtio-block=virtio,i8042=socket", "--no-kvm"]);
    for (name, carrier) in
        [("uart16550", "pipe"), ("virtio-block", "virtio"), ("i8042", "socket"), ("acpi-pm", "memory")]
    {
        assert_eq!(host(&rows, name)["carriers"], serde_json::json!([carrier]), "{name}");
    }
}

#[test]
fn a_group_names_each_carrier_of_its_devices_once() {
    let rows = demo(&["--isolate", "class", "--carrier", "socket,uart16550=pipe", "--no-kvm"]);
    assert_eq!(host(&rows, "char")["carriers"], serde_json::json!(["pipe", "socket"]));
}

#[test]
fn linked_devices_are_called_and_no_carrier_can_be_chosen_for_them() {
    let rows = demo(&["--isolate", "none", "--no-kvm"]);
    assert_eq!(rows[0]["carriers"], serde_json::json!(["in-process"]));
    let output = Place::new().run(&["demo", "--isolate", "none", "--carrier", "socket"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--isolate none"), "{}", text(&output.stderr));
}

#[test]
fn a_level_for_one_device_is_shown() {
    let rows = demo(&["--sandbox", "seccomp,uart16550=process", "--no-kvm"]);
    assert_eq!(host(&rows, "uart16550")["seccomp_mode"], 0);
    assert_eq!(host(&rows, "uart16550")["level"], "process");
    assert_eq!(host(&rows, "i8042")["seccomp_mode"], 2);
}

#[test]
fn levels_that_differ_within_one_group_are_refused() {
    let place = Place::new();
    let output = place.run(&["demo", "--isolate", "class", "--sandbox", "seccomp,uart16550=off"]);
    assert!(!output.status.success());
    let said = text(&output.stderr);
    assert!(said.contains("uart16550") && said.contains("share the host"), "{said}");
}

#[test]
fn a_table_on_a_terminal_that_does_not_know_its_width_has_more_than_a_letter_a_line() {
    let place = Place::new();
    // Its size is 0 by 0, as of one that nobody has looked at.
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut listed = place.cofferdam().arg("devices").stdout(terminal.slave).spawn().unwrap();
    let mut shown = Vec::new();
    // Once its last writer is gone, a read of a terminal fails.
    let _ = std::fs::File::from(terminal.master).read_to_end(&mut shown);
    assert!(listed.wait().unwrap().success());
    let shown = text(&shown);
    assert!(shown.lines().any(|line| line.contains("uart16550")), "{shown}");
}
