//! Plugins: programs of somebody else's that are devices.

mod harness;
#[path = "harness/python.rs"]
mod python;

use harness::{Place, kvm, lives, send, text, wait_until};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the program says of a plugin, which it refuses.
fn refused(place: &Place, words: &[&str]) -> String {
    let output = place.run(words);
    assert_eq!(output.status.code(), Some(2), "{words:?}: {}", text(&output.stderr));
    text(&output.stderr)
}

/// A program of this text, which may be executed.
fn program(place: &Place, name: &str, content: &[u8]) -> PathBuf {
    let path = place.file(name, content);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The plugin that is crooked in this way: it is what it is called.
fn crooked(place: &Place, how: &str) -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_cofferdam")).with_file_name("examples").join("crooked_plugin");
    program(place, how, &fs::read(built).expect("build the examples first: cargo build -p cofferdam --examples"))
}

#[test]
fn what_is_no_plugin_is_refused_with_a_sentence() {
    let place = Place::new();
    let plain = place.file("plain", b"#!/bin/sh\n");
    let noise = program(&place, "noise", b"neither this nor that");
    let nobody = program(&place, "nobody", b"#!/nowhere/python\n");
    let unknown = program(&place, "unknown", b"#!/usr/bin/env no-such-program\n");
    let unnamed = program(&place, "unnamed", b"#!\n");
    let empty = program(&place, "empty", b"");
    let mut other = fs::read(env!("CARGO_BIN_EXE_cofferdam")).unwrap();
    // `EM_AARCH64`, as `e_machine`; and `ELFCLASS32`.
    other[18] = 183;
    let arm = program(&place, "arm", &other);
    (other[18], other[4]) = (62, 1);
    let short = program(&place, "short", &other);
    let comma = program(&place, "com,ma", b"#!/bin/true\n");
    for (plugin, sentence) in [
        (place.path("missing"), "cannot be found"),
        (place.path("."), "is not a file"),
        (plain, "is not executable; say `chmod +x"),
        (noise, "is neither a program for x86-64 nor a script"),
        (nobody, "its interpreter, /nowhere/python"),
        (unknown, "there is no program `no-such-program`"),
        (unnamed, "its `#!` line names no interpreter"),
        (empty, "is empty"),
        (arm, "is a program for another kind of machine; build it for x86-64"),
        (short, "is a program for another kind of machine; build it for x86-64"),
        (comma, "behind a comma are options"),
    ] {
        let said = refused(&place, &["device", "describe", plugin.to_str().unwrap()]);
        assert!(said.contains(sentence) && said.lines().count() == 1, "{}: {said}", plugin.display());
    }
    assert!(refused(&place, &["device", "describe", "uart16550"]).contains("by its path"));
}

#[test]
fn what_a_plugin_cannot_have_is_refused_with_a_sentence() {
    let place = Place::new();
    let plugin = crooked(&place, "prints");
    let plugin = plugin.to_str().unwrap();
    for (words, sentence) in [
        (
            &["--sandbox", "strict"],
            "level `strict` has no room for a language's run time; give it another, as --sandbox",
        ),
        (&["--carrier", "pipe"], "a plugin is reached over `memory` or `socket`, not over `pipe`"),
        (&["--carrier", "virtio"], "a plugin is reached over `memory` or `socket`, not over `virtio`"),
    ] {
        let said = refused(&place, &[&["run", "--flat", "/dev/null", "--device", plugin], &words[..]].concat());
        assert!(said.contains(sentence) && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn a_plugin_that_is_not_what_it_should_be_is_refused_before_a_guest_starts() {
    let place = Place::new();
    for (how, sentence) in [
        ("another-protocol", "speaks protocol 9"),
        ("another-schema", "the body is not of the message's type"),
        ("dies-at-once", "ended before it said hello on its descriptor 3, as a plugin does"),
        ("dies-when-assigned", "ended by itself with code 3"),
        ("two-devices", "it declares 2 devices, and a plugin is one"),
        ("no-device", "it declares 0 devices"),
        ("range-of-no-length", "ranges.length"),
        ("huge-state", "makes no sense: `stateBytes` is "),
        ("huge-bulk", "makes no sense: `bulkBytes` is "),
        ("huge-range", "makes no sense: there is no room for "),
        ("range-beyond-the-last-port", "makes no sense: there is no room for ports "),
        (
            "ranges-that-overlap",
            "ports 0x5002 to 0x5005 would overlap ports 0x5000 to 0x5003 of device ranges-that-overlap",
        ),
        ("a-range-of-the-uarts", "port 0x3fa would overlap ports 0x3f8 to 0x3ff of device uart16550; give one of them"),
        ("unknown-power", "`power` has a value that the schema does not know"),
        ("wishes-for-frames", "it wishes for `frames` (it would be a network card), and a plugin has no network"),
        ("dies-when-granted", "ended by itself with code 3"),
        ("dies-when-attached", "ended by itself with code 3"),
        ("starts-a-program", "killed by the kernel for a system call"),
        ("opens-a-socket", "the socket was refused"),
        ("wishes-for-memory", "wishes for `memory` (to look at everything), which it was not granted"),
    ] {
        let plugin = crooked(&place, how);
        let output = place.run(&["run", "--flat", "/dev/null", "--device", plugin.to_str().unwrap()]);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(sentence), "{how}: {said}");
        assert_eq!(said.lines().count(), 1, "{how}: {said}");
    }
}

#[test]
fn a_plugin_that_takes_for_ever_to_load_is_given_up() {
    let place = Place::new();
    let plugin = crooked(&place, "never-says-hello");
    let said = refused(&place, &["run", "--flat", "/dev/null", "--device", plugin.to_str().unwrap()]);
    assert!(said.contains("never-says-hello: did not say hello within 20 s") && said.lines().count() == 1, "{said}");
}

#[test]
fn a_signal_ends_who_waits_for_a_plugin_to_load() {
    let place = Place::new();
    let plugin = crooked(&place, "never-says-hello");
    for words in [&["run", "--flat", "/dev/null", "--device"][..], &["device", "check"]] {
        let mut child = place.cofferdam().args(words).arg(&plugin).spawn().expect("the program starts");
        // Early or late, it ends of it.
        std::thread::sleep(Duration::from_millis(200));
        send(child.id() as i32, libc::SIGINT);
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGINT), "{words:?}");
    }
}

#[test]
fn while_a_plugin_is_started_anew_its_supervisor_goes_on_with_everything_else() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let name = "waits-while-writable";
    let plugin = crooked(&place, name);
    let mut vm = place.start("goes-on", &harness::idle_guest(), &["--device", plugin.to_str().unwrap()]);
    vm.wait_until_running();
    let pid = |host: &str| vm.host(host)["pid"].as_i64().unwrap();
    let is = |host: &str, state: &str| vm.host(host)["state"].as_str().unwrap().starts_with(state);
    let mode = |mode| fs::set_permissions(&plugin, fs::Permissions::from_mode(mode)).unwrap();
    let begin_anew = || {
        mode(0o757);
        send(pid(name) as i32, libc::SIGKILL);
        wait_until("the next one loads", || is(name, "starting anew: killed"));
    };

    begin_anew();
    assert_eq!(vm.host(name)["differences"], serde_json::json!([]));
    send(pid("uart16550") as i32, libc::SIGKILL);
    wait_until("another host is started anew", || vm.host("uart16550")["restarts"] == 1 && is("uart16550", "running"));
    assert!(is(name, "starting anew: "), "{:#}", vm.host(name));
    mode(0o755);
    wait_until("it serves", || is(name, "running"));
    assert_eq!(vm.host(name)["differences"], serde_json::json!([]));

    begin_anew();
    assert!(place.run(&["stop", "goes-on"]).status.success());
    assert_eq!(vm.wait(), Some(0), "{}", vm.errors());
}

#[test]
fn a_plugin_that_takes_for_ever_to_load_anew_is_retired() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let name = "waits-while-writable";
    let plugin = crooked(&place, name);
    let words = ["--device", plugin.to_str().unwrap(), "--restart", "1"];
    let vm = place.start("for-ever", &harness::idle_guest(), &words);
    vm.wait_until_running();
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o757)).unwrap();
    send(vm.host(name)["pid"].as_i64().unwrap() as i32, libc::SIGKILL);
    wait_until("it is retired", || {
        let row = vm.host(name);
        let state = row["state"].as_str().unwrap();
        state.starts_with("retired: ") && state.contains("did not say hello within")
    });
}

#[test]
fn a_recipe_shows_what_a_plugin_has_and_a_device_of_ours_has_not() {
    let place = Place::new();
    let plugin = crooked(&place, "prints");
    let recipe = |device: &str| text(&place.run(&["recipe", device]).stdout);
    let (plugins, ours) = (recipe(plugin.to_str().unwrap()), recipe("ib700"));
    assert!(plugins.contains("System calls: 12 (what is left once it is sealed)"), "{plugins}");
    assert!(plugins.contains("Files (what it sees, to read") && plugins.contains("the plugin"), "{plugins}");
    assert!(ours.contains("System calls: 4 (any other") && !ours.contains("Files ("), "{ours}");
}

#[test]
fn a_plugin_that_prints_is_not_heard_and_does_no_harm() {
    let place = Place::new();
    let plugin = crooked(&place, "prints");
    let shown = place.run(&["device", "describe", plugin.to_str().unwrap()]);
    assert!(shown.status.success() && !text(&shown.stdout).contains("whom"), "{shown:?}");
}

#[test]
fn a_plugin_that_dies_or_answers_nobody_harms_no_other_device() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let mut plugins = vec![crooked(&place, "answers-nobody")];
    if let Some(interpreter) = python::interpreter() {
        let skeleton = include_str!("../cli/src/device/skeleton/device.py");
        let dies = skeleton.replace("0, width=2", "0, width=4").replace("return self.tenths", "return 1 // 0");
        plugins.push(python::script(&dies, "dies", interpreter, &place.path("")));
    }
    // The guest reads their port in each round, and prints by the UART, another device, behind that.
    for plugin in plugins {
        let name = plugin.file_stem().unwrap().to_str().unwrap().to_owned();
        let base = if name == "dies" { ",base=0x5000" } else { "" };
        let device = format!("{}{base}", plugin.display());
        let mut vm =
            place.start(&name, &harness::tick_guest(), &["--device", &device, "--deadline", "500", "--restart", "1"]);
        vm.wait_until_running();
        wait_until("it is retired", || vm.host(&name)["state"].as_str().unwrap().starts_with("retired: "));
        vm.wait_for_output();
        let others: Vec<_> = vm.hosts().into_iter().filter(|row| row["name"] != name.as_str()).collect();
        assert!(others.iter().all(|row| row["state"] == "running"), "{others:#?}");
        let said = vm.errors();
        let words = if name == "dies" { "ZeroDivisionError" } else { "answer" };
        assert!(said.contains(&name) && said.contains(words), "{said}");
        vm.signal(libc::SIGTERM);
        vm.wait();
    }
}

#[test]
fn a_plugin_that_does_not_leave_when_told_to_is_ended_with_its_machine() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let plugin = crooked(&place, "ignores-shutdown");
    let mut vm = place.start("stays", &harness::idle_guest(), &["--device", plugin.to_str().unwrap()]);
    vm.wait_until_running();
    let pid = vm.host("ignores-shutdown")["pid"].as_i64().unwrap();
    assert!(lives(pid));
    vm.signal(libc::SIGTERM);
    vm.wait();
    assert!(!lives(pid), "{}", vm.errors());
}

#[test]
fn a_plugin_that_does_not_seal_itself_is_refused_and_one_that_goes_on_opening_files_cannot() {
    let place = Place::new();
    for (how, sentence) in [
        ("never-seals", "did not answer in time"),
        ("dies-when-sealed", "ended by itself with code 3"),
        ("keeps-a-memfd", "of a kind that its recipe does not keep"),
        ("stays-dumpable", "it is dumpable"),
    ] {
        let plugin = crooked(&place, how);
        let output = place.run(&["run", "--flat", "/dev/null", "--device", plugin.to_str().unwrap()]);
        let said = text(&output.stderr);
        if how == "stays-dumpable" && said.is_empty() {
            println!("SKIPPED: this kernel (before 6.16) does not show whether a process is dumpable");
            continue;
        }
        assert!(!output.status.success() && said.contains(sentence), "{how}: {said}");
    }
}

#[test]
fn a_sealed_plugin_opens_nothing_whatever_it_tries() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let plugin = crooked(&place, "opens-files-once-sealed");
    let vm = place.start("open", &harness::tick_guest(), &["--device", plugin.to_str().unwrap()]);
    vm.wait_until_running();
    let log = || text(&place.run(&["logs", "open"]).stdout);
    wait_until("it has tried", || log().contains("tried"));
    assert!(log().contains("tried to open its own program: os error 38"), "{}", log());
    let row = vm.host("opens-files-once-sealed");
    assert_eq!(row["differences"], serde_json::json!([]), "{row:#}");
    // What docs/devices/plugins.md says of both.
    assert_eq!((&row["syscalls_allowed"], &vm.host("uart16550")["syscalls_allowed"]), (&12.into(), &4.into()));
}

#[test]
fn a_plugin_in_python_declares_what_it_is() {
    let Some(interpreter) = python::interpreter() else { return };
    let place = Place::new();
    let plugin = python::example("ib700", interpreter, &place.path(""));
    let shown = place.run(&["device", "describe", "--json", plugin.to_str().unwrap()]);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["ranges"][1]["place"], "port 0x443");
    assert_eq!(shown["wishes"][0]["power"], "switch");
    let with = |options: &str| format!("{},{options}", plugin.display());
    let said = refused(&place, &["device", "describe", &with("action=explode")]);
    assert!(said.contains("`explode` is not reset, poweroff or panic"), "{said}");
    let said = refused(&place, &["device", "describe", &with("speed=9")]);
    assert!(said.contains("there is no option `speed`; there are: action"), "{said}");
    let said = refused(&place, &["run", "--flat", "/dev/null", "--device", plugin.to_str().unwrap()]);
    assert!(said.contains("wishes for `switch`") && said.contains("add `grant=switch`"), "{said}");
}

/// A guest that winds the watchdog for two seconds, says so, and stands still.
const GUEST_THAT_STANDS_STILL: &[u8] = &[
    0x66, 0xba, 0x43, 0x04, // mov dx, 0x443
    0xb0, 0x0e, // mov al, 14
    0xee, // out dx, al
    0xec, // in al, dx
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xee, // out dx, al
    0xeb, 0xfe, // jmp .
];

#[test]
fn a_watchdog_in_python_ends_a_guest_that_stands_still_over_each_carrier_and_also_after_a_restart() {
    let Some(interpreter) = python::interpreter() else { return };
    if !kvm() {
        return;
    }
    let place = Place::new();
    let plugin = python::example("ib700", interpreter, &place.path(""));
    let device = format!("{},grant=switch", plugin.display());
    for carrier in ["memory", "socket"] {
        let carriers = format!("memory,ib700={carrier}");
        let words = ["--device", &device, "--carrier", &carriers, "--no-reboot"];
        let mut vm = place.start(carrier, GUEST_THAT_STANDS_STILL, &words);
        vm.wait_for_output();
        let row = vm.host("ib700");
        assert_eq!(row["differences"], serde_json::json!([]), "{row:#}");
        assert_eq!(row["seccomp_mode"], 2);
        let pid = row["pid"].as_i64().unwrap();
        send(pid as i32, libc::SIGKILL);
        assert_eq!(vm.wait(), Some(4), "{carrier}: the watchdog has reset the machine; it said: {}", vm.errors());
        assert!(!lives(pid));
        assert_eq!(vm.console(), [0xff], "its ports can only be written");
    }
}
