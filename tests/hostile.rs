//! A device host that breaks the rules, next to honest ones.

mod harness;

use harness::{Place, kvm, tick_guest, wait_until};

/// The stand-in for `debug-exit`, next to the program under test.
fn hostile_host() -> String {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_cofferdam"));
    let path = program.with_file_name("examples").join("hostile_host");
    assert!(path.exists(), "{} is built with the tests", path.display());
    path.to_str().unwrap().to_owned()
}

/// Runs a VM with a host of this mode, which is not filtered; the guest and the other devices go on.
fn harms_nobody(mode: u16, dies: bool) {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let device = format!("debug-exit,port={:#x}", 0x5000 + 4 * mode);
    let program = format!("debug-exit={}", hostile_host());
    let words = [
        "--deadline",
        "300",
        "--device",
        &device,
        "--host-program",
        &program,
        "--sandbox",
        "seccomp,debug-exit=process",
    ];
    let vm = place.start("hostile", &tick_guest(), &words);
    vm.wait_until_running();
    if dies {
        wait_until("the hostile host is retired", || {
            vm.host("debug-exit")["state"].as_str().unwrap().starts_with("retired: ")
        });
    }
    let before = vm.served("i8042");
    wait_until("another device serves the guest", || vm.served("i8042") > before + 200);
    vm.wait_for_output();
    for row in vm.hosts().iter().filter(|row| row["name"] != "debug-exit") {
        assert_eq!(row["state"], "running", "{row:#}");
        assert_eq!(row["differences"], serde_json::json!([]), "{row:#}");
    }
    assert!(!vm.errors().contains('\u{1b}'), "no escape of a host's reaches the terminal");
}

#[test]
fn a_host_that_never_answers_is_given_up() {
    harms_nobody(0, true);
}

#[test]
fn a_host_that_did_what_was_never_asked_is_given_up() {
    harms_nobody(1, true);
}

#[test]
fn a_host_with_wild_levels_and_deadlines_harms_nobody() {
    harms_nobody(2, false);
}

#[test]
fn a_host_that_stuffs_its_eventfds_is_given_up() {
    harms_nobody(3, true);
}

#[test]
fn a_host_that_floods_and_talks_nonsense_is_given_up() {
    harms_nobody(4, true);
}

#[test]
fn a_host_that_sends_a_descriptor_is_given_up() {
    harms_nobody(5, true);
}

#[test]
fn a_host_that_dies_at_its_first_access_harms_nobody() {
    harms_nobody(6, true);
}

#[test]
fn a_host_that_changes_values_under_the_reader_harms_nobody() {
    harms_nobody(7, false);
}
