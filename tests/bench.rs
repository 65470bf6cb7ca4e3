//! What the benches print. Nothing here depends on how fast anything is.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

fn bench(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cofferdam")).arg("bench").args(words).output().unwrap()
}

/// The rows of one round, each of which has been compared with another row of the same run.
fn rows(words: &[&str]) -> Vec<Value> {
    let output = bench(&[words, &["--json", "--rounds", "1"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("cofferdam: answer"), "the other process complains: {said}");
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    for row in &rows {
        let number = |row: &Value, field: &str| row[field].as_f64().unwrap_or_else(|| panic!("{field} of {row}"));
        assert!(matches!(row["placement"].as_str(), Some("same" | "cross" | "any")), "{row}");
        assert!(number(row, "median") > 0.0 && number(row, "p99") >= number(row, "median"), "{row}");
        assert!(row["unit"].is_string() && row["rounds"] == 1, "{row}");
        let base = rows.iter().find(|base| base["name"] == row["base"] && base["placement"] == row["placement"]);
        let ratio = number(row, "median") / number(base.unwrap_or_else(|| panic!("no base: {row}")), "median");
        assert!((number(row, "ratio") / ratio - 1.0).abs() < 1e-9, "{row}");
    }
    rows
}

fn names(rows: &[Value], placement: &str) -> BTreeSet<String> {
    let placed = rows.iter().filter(|row| row["placement"] == placement);
    placed.map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

/// A program that says of itself what the peers' program does.
fn peers(folder: &tempfile::TempDir, script: &str) -> String {
    let path = folder.path().join("peers");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn peers_that_are_not_there_are_missed_in_a_sentence() {
    let output = bench(&["calls", "--peers", "/nowhere/peers"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/peers"));
}

#[test]
fn peer_that_fails_ends_the_bench_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"test $# = 0 && echo '{"name":"broken","polls":false}'"#;
    let output = bench(&["calls", "--rounds", "1", "--peers", &peers(&folder, script)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("broken"));
}

#[test]
fn calls_are_compared_with_the_bare_socket_the_bounds_and_the_peers_of_the_same_run() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"if test $# = 0
        then echo '{"name":"mail","polls":false}'; echo '{"name":"telegraph","polls":true}'
        else echo '{"samples":[5e9,6e9]}'
        fi"#;
    let picture = folder.path().join("calls.svg");
    let rows = rows(&["calls", "--peers", &peers(&folder, script), "--svg", picture.to_str().unwrap()]);
    let drawn = fs::read_to_string(picture).unwrap();
    assert!(drawn.starts_with("<svg") && drawn.contains(">mail<"), "{drawn}");
    let same = names(&rows, "same");
    for name in [
        "64 B, raw SEQPACKET",
        "64 B, raw SEQPACKET with a descriptor",
        "64 B, typed call",
        "64 B, typed call with a capability",
        "64 B, mail",
        "4 KiB, region and wake",
        "64 KiB, region and wake",
        "64 KiB, mail",
        "bound, eventfd",
        "bound, futex",
        "bound, pipe",
    ] {
        assert!(same.contains(name), "{name} is missing: {same:?}");
    }
    assert!(!same.contains("64 B, telegraph"), "polling needs two processors");
    assert!(names(&rows, "any").contains("bound, empty system call"));
    let cross = names(&rows, "cross");
    if cross.is_empty() {
        println!("SKIPPED: one processor, so nothing runs on two");
        return;
    }
    for name in ["bound, cache line", "bound, two cache lines", "64 B, telegraph", "64 B, typed call"] {
        assert!(cross.contains(name), "{name} is missing: {cross:?}");
    }
}

#[test]
fn carriers_are_compared_with_a_function_call_and_the_bounds_of_the_same_run() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"if test $# = 0
        then echo '{"name":"mail","polls":false}'; echo '{"name":"iceoryx2 polling","polls":true}'
        else echo '{"samples":[5e9,6e9]}'
        fi"#;
    let rows = rows(&["carriers", "--peers", &peers(&folder, script)]);
    let (same, cross) = (names(&rows, "same"), names(&rows, "cross"));
    for placed in [&same, &cross].into_iter().filter(|placed| !placed.is_empty()) {
        for what in ["access, asleep", "posted write", "shadow read"] {
            for carrier in ["memory", "socket", "pipe", "virtio", "in-process"] {
                assert!(placed.contains(&format!("{what}, {carrier}")), "{what} over {carrier} is missing: {placed:?}");
            }
        }
    }
    if cross.is_empty() {
        println!("SKIPPED: one processor, so nothing stays awake");
        return;
    }
    assert!(!cross.contains("64 B, mail"), "only who polls is compared with accesses");
    let bases = |name: &str| {
        let named = rows.iter().filter(|row| row["name"] == name);
        named.map(|row| row["base"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(bases("access, awake, memory"), ["bound, two cache lines", "64 B, iceoryx2 polling"]);
}

#[test]
fn each_level_of_the_sandbox_is_compared_with_the_one_below() {
    let rows = rows(&["sandbox"]);
    let (same, cross, any) = (names(&rows, "same"), names(&rows, "cross"), names(&rows, "any"));
    for variant in ["off", "process", "seccomp", "strict+process", "strict+thread"] {
        for what in ["spawn to first answered access", "kill to next answer", "memory of host and helper (PSS)"] {
            assert!(any.contains(&format!("{what}, {variant}")), "{what} at {variant} is missing: {any:?}");
        }
        for what in ["register access", "4 KiB read"] {
            assert!(same.contains(&format!("{what}, asleep, {variant}")), "{what} at {variant} is missing: {same:?}");
            let awake = format!("{what}, awake, {variant}");
            assert!(cross.is_empty() || cross.contains(&awake), "{awake} is missing: {cross:?}");
        }
    }
    let base = |name: &str| {
        let row = rows.iter().find(|row| row["name"] == name && row["placement"] == "same");
        row.unwrap_or_else(|| panic!("no row {name}"))["base"].clone()
    };
    assert_eq!(base("4 KiB read, asleep, strict+process"), "4 KiB read, asleep, seccomp");
    assert_eq!(base("register access, asleep, seccomp"), "register access, asleep, process");
    if cross.is_empty() {
        println!("SKIPPED: one processor, so nothing stays awake");
    }
}

#[test]
fn plugin_that_is_no_path_or_not_there_is_refused_in_a_sentence() {
    for (plugin, said) in [("ib700.py", "./ib700.py"), ("./nowhere", "./nowhere")] {
        let output = bench(&["plugins", "--rounds", "1", plugin]);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && errors.contains(said), "{errors}");
    }
}

#[test]
fn plugins_are_compared_with_the_device_of_this_program() {
    let rows = rows(&["plugins"]);
    let (same, cross) = (names(&rows, "same"), names(&rows, "cross"));
    for carrier in ["memory", "socket"] {
        assert!(same.contains(&format!("access, asleep, {carrier}, Rust")), "{carrier} is missing: {same:?}");
        let awake = format!("access, awake, {carrier}, Rust");
        assert!(cross.is_empty() || cross.contains(&awake), "{awake} is missing: {cross:?}");
    }
    if cross.is_empty() {
        println!("SKIPPED: one processor, so nothing stays awake");
    }
}

#[test]
fn reads_from_disks_are_compared_in_process_and_with_qemu() {
    if !std::path::Path::new("/dev/kvm").exists() {
        println!("SKIPPED: /dev/kvm is missing");
        return;
    }
    let rows = rows(&["disks"]);
    let all: BTreeSet<String> = ["same", "cross"].iter().flat_map(|placement| names(&rows, placement)).collect();
    let has_qemu = all.contains("floppy read, QEMU");
    for what in ["IDE PIO read", "IDE DMA read", "floppy read"] {
        for how in ["in-process", "sandboxed"] {
            assert!(all.contains(&format!("{what}, {how}")), "{what}, {how} is missing: {all:?}");
        }
        let linked = rows.iter().find(|row| row["name"] == format!("{what}, in-process")).unwrap();
        let base = if has_qemu { format!("{what}, QEMU") } else { format!("{what}, in-process") };
        assert_eq!(linked["base"], base);
    }
}
