//! Level `strict`, with real processes: every device in seccomp mode 1, and a helper for what that has no room for.

// A filter is installed in a child before its exec.
#![allow(unsafe_code)]

mod harness;

use harness::{Place, kvm, lives, send, text, tick_guest, wait_until};
use serde_json::{Value, json};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Devices that need a helper.
const HELPED: [&str; 2] = ["virtio-block", "virtio-entropy"];

fn run(command: &mut Command) -> Vec<Value> {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("a list of objects")
}

/// The rows of a demo at this level; the demo compares what the guest reads from its disk with what it wrote.
fn demo(words: &[&str]) -> Vec<Value> {
    run(Place::new().cofferdam().args(["demo", "--json", "--sandbox", "strict"]).args(words))
}

fn is_helper(row: &Value) -> bool {
    row["class"] == "helper"
}

fn holds(row: &Value, kind: &str) -> bool {
    row["descriptors"].as_array().unwrap().iter().any(|held| held.as_str().unwrap().contains(kind))
}

/// The stand-in for device hosts, built with the tests.
fn frugal_host() -> String {
    let path = Path::new(env!("CARGO_BIN_EXE_cofferdam")).with_file_name("examples").join("frugal_host");
    assert!(path.exists(), "{} is built with the tests", path.display());
    path.to_str().unwrap().to_owned()
}

/// A filter that forbids nothing, as a container's might almost.
fn permit_everything() -> std::io::Result<()> {
    let permit = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
    let program = libc::sock_fprog { len: 1, filter: (&raw const permit).cast_mut() };
    // SAFETY: the program is on this stack, and the kernel copies it.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[test]
fn each_device_is_in_mode_1_and_its_helper_holds_no_guest_memory() {
    let rows = demo(&[]);
    assert_eq!(rows.iter().filter(|row| is_helper(row)).count(), HELPED.len(), "{rows:#?}");
    for row in &rows {
        assert_eq!(row["differences"], json!([]), "{row:#}");
        assert_eq!(row["state"], "running", "{row:#}");
        if is_helper(row) {
            assert_eq!(row["seccomp_mode"], 2, "{row:#}");
            assert!(row["syscalls_allowed"].as_u64().unwrap() <= 7, "{row:#}");
            assert_eq!(row["guest_memory_bytes"], 0, "{row:#}");
        } else {
            assert_eq!(row["seccomp_mode"], 1, "{row:#}");
            assert_eq!(row["syscalls_allowed"], 4, "{row:#}");
            assert!(!holds(row, "file"), "{row:#}");
        }
    }
    let disk = rows.iter().find(|row| row["name"] == "virtio-block helper").expect("a helper of the disk's");
    assert!(holds(disk, "file"), "{disk:#}");
}

#[test]
fn every_carrier_runs_in_mode_1() {
    for carrier in ["memory", "socket", "pipe", "virtio"] {
        for row in demo(&["--carrier", carrier]).iter().filter(|row| !is_helper(row)) {
            assert_eq!(row["seccomp_mode"], 1, "{carrier}: {row:#}");
            assert_eq!(row["state"], "running", "{carrier}: {row:#}");
        }
    }
}

#[test]
fn a_class_shares_a_host_and_a_helper() {
    let rows = demo(&["--isolate", "class"]);
    assert!(rows.iter().any(|row| row["name"] == "block helper"), "{rows:#?}");
    assert!(rows.iter().all(|row| row["differences"] == json!([])), "{rows:#?}");
}

#[test]
fn a_helper_may_be_a_thread_which_is_shown_to_be_no_boundary() {
    let rows = demo(&["--helper", "process,virtio-block=thread"]);
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"virtio-entropy helper") && !names.contains(&"virtio-block helper"), "{names:?}");
    let disk = rows.iter().find(|row| row["name"] == "virtio-block").unwrap();
    assert_eq!((&disk["seccomp_mode"], &disk["differences"]), (&json!(1), &json!([])), "{disk:#}");
    assert!(disk["notes"].as_array().unwrap().iter().any(|note| note.as_str().unwrap().contains("no boundary")));
    assert!(holds(disk, "file"), "what a thread holds its process holds: {disk:#}");
}

#[test]
fn under_a_filter_that_was_there_before_a_filter_takes_the_place_of_mode_1() {
    let place = Place::new();
    for words in [&[][..], &["--helper", "thread"]] {
        let mut command = place.cofferdam();
        command.args(["demo", "--json", "--sandbox", "strict", "--no-kvm"]).args(words);
        // SAFETY: two system calls on memory of the closure.
        unsafe { command.pre_exec(permit_everything) };
        for row in run(&mut command).iter().filter(|row| !is_helper(row)) {
            assert_eq!(row["seccomp_mode"], 2, "{row:#}");
            assert_eq!(row["differences"], json!([]), "{row:#}");
            let notes = row["notes"].as_array().unwrap();
            assert!(notes.iter().any(|note| note.as_str().unwrap().contains("mode 1 is not to be had")), "{row:#}");
        }
    }
}

#[test]
fn an_ordinary_user_gets_mode_1_too() {
    /// Nobody in particular.
    const USER: u32 = 65534;
    let mut command = Place::new().cofferdam();
    command.args(["demo", "--json", "--sandbox", "strict", "--no-kvm"]).current_dir("/").gid(USER).uid(USER);
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            println!("SKIPPED: cannot become user {USER}: {error}");
            return;
        }
    };
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    for row in &rows {
        assert_eq!(row["seccomp_mode"], if is_helper(row) { 2 } else { 1 }, "{row:#}");
        assert_eq!(row["differences"], json!([]), "{row:#}");
    }
}

#[test]
fn one_kill_takes_host_and_helper() {
    if !kvm() {
        return;
    }
    for victim in ["virtio-block", "virtio-block helper"] {
        let place = Place::new();
        let disk = place.file("disk", &[0; 1 << 20]);
        let vm = place.start("felled", &tick_guest(), &["--sandbox", "strict", "--disk", disk.to_str().unwrap()]);
        vm.wait_until_running();
        vm.wait_for_output();
        let pid = |name: &str| vm.host(name)["pid"].as_i64().unwrap();
        let (host, helper) = (pid("virtio-block"), pid("virtio-block helper"));
        send(pid(victim) as i32, libc::SIGKILL);
        wait_until("both are gone", || !lives(host) && !lives(helper));
        // What is left of the VM goes on.
        vm.wait_for_output();
        let before = vm.served("i8042");
        wait_until("another device serves the guest", || vm.served("i8042") > before + 100);
        // The next ones are a host and a helper again.
        wait_until("both are started anew", || {
            let rows = vm.hosts();
            let helped = |row: &&Value| row["name"].as_str().is_some_and(|name| name.starts_with("virtio-block"));
            let found: Vec<&Value> = rows.iter().filter(helped).collect();
            found.len() == 2 && found.iter().all(|row| row["state"] == "running" && row["differences"] == json!([]))
        });
        assert_eq!(vm.host("virtio-block")["seccomp_mode"], 1);
        if victim != "virtio-block" {
            wait_until("its end is told", || vm.errors().contains("its helper ended"));
        }
    }
}

#[test]
fn no_device_touches_the_heap_once_it_is_sealed() {
    let frugal = frugal_host();
    let rows = demo(&[]);
    let devices = rows.iter().filter(|row| !is_helper(row)).map(|row| row["name"].as_str().unwrap());
    let programs: Vec<String> =
        devices.flat_map(|name| ["--host-program".to_owned(), format!("{name}={frugal}")]).collect();
    for words in [&[][..], &["--no-kvm"], &["--carrier", "socket"], &["--carrier", "pipe"], &["--carrier", "virtio"]] {
        let words: Vec<&str> = words.iter().copied().chain(programs.iter().map(String::as_str)).collect();
        for row in demo(&words) {
            assert_eq!(row["state"], "running", "{row:#}");
        }
    }
}

#[test]
fn a_device_that_does_touch_the_heap_is_caught() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let program = format!("debug-exit={}", frugal_host());
    let words = ["--sandbox", "strict", "--device", "debug-exit,port=0x5000", "--host-program", &program];
    let vm = place.start("wasteful", &tick_guest(), &words);
    vm.wait_until_running();
    wait_until("its end is told", || vm.errors().contains("code 66"));
}
