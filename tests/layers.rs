//! Single layers of the sandbox: demanded, done without, and shown.

mod harness;

use harness::{Place, kvm, text, tick_guest, wait_until};
use serde_json::json;
use std::fs;

fn refusal(words: &[&str]) -> (Option<i32>, String) {
    let place = Place::new();
    let guest = place.file("guest", &tick_guest());
    let output = place.run(&[&["run", "--flat", guest.to_str().unwrap()], words].concat());
    (output.status.code(), text(&output.stderr))
}

#[test]
fn a_layer_that_does_not_exist_is_refused_with_those_that_do() {
    let (status, said) = refusal(&["--require", "moat"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("`moat` is no layer of the sandbox; there are user, mount"), "{said}");
}

#[test]
fn a_layer_cannot_be_required_and_allowed_to_be_missing() {
    let (status, said) = refusal(&["--require", "cgroup", "--allow-missing", "cgroup"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("both name `cgroup`"), "{said}");
}

#[test]
fn a_layer_that_the_level_lacks_cannot_be_required() {
    let (status, said) = refusal(&["--sandbox", "process", "--require", "filter"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("--require: uart16550: sandbox level `process` has no layer `filter`"), "{said}");
}

#[test]
fn a_required_layer_that_is_missing_is_one_sentence() {
    if sandbox::Module::active().is_some() {
        println!("SKIPPED: this machine has a security module that gives labels");
        return;
    }
    if !kvm() {
        return;
    }
    let (status, said) = refusal(&["--require", "label"]);
    assert_eq!((status, said.lines().count()), (Some(1), 1), "{said}");
    for words in ["layer `label` is required", "neither SELinux nor AppArmor", "--allow-missing label"] {
        assert!(said.contains(words), "{said}");
    }
    let (status, said) = refusal(&["--label", "selinux"]);
    assert_eq!((status, said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("this kernel does not run SELinux"), "{said}");
}

#[test]
fn what_is_asked_of_layers_is_shown_by_ps_and_recipe() {
    let place = Place::new();
    let recipe = text(&place.run(&["recipe", "i8042", "--require", "mseal", "--allow-missing", "user"]).stdout);
    assert!(recipe.contains("required, as asked") && recipe.contains("may be missing, as asked"), "{recipe}");
    if !kvm() {
        return;
    }
    let words = ["--require", "undumpable", "--allow-missing", "landlock", "--label", "none"];
    let vm = place.start("asked", &tick_guest(), &words);
    vm.wait_until_running();
    for row in vm.hosts() {
        assert_eq!(row["required"], json!(["undumpable"]), "{row:#}");
        assert_eq!(row["allowed_missing"], json!(["landlock"]), "{row:#}");
        assert!(row["missing"].as_array().unwrap().contains(&json!("label")), "{row:#}");
    }
    let table = text(&place.run(&["ps"]).stdout);
    assert!(table.contains("requires undumpable") && table.contains("may lack landlock"), "{table}");
    assert!(table.contains("Layers that this machine does not give: "), "{table}");
}

#[test]
fn a_supervisor_gives_up_what_it_does_not_need_and_can_still_start_everything_anew() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let vm = place.start("modest", &tick_guest(), &[]);
    vm.wait_until_running();
    let field = |name: &str| {
        let status = fs::read_to_string(format!("/proc/{}/status", vm.pid())).unwrap();
        status.lines().find_map(|line| line.strip_prefix(name)).expect(name).trim().to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    // So that level `strict` has seccomp mode 1.
    assert_eq!(field("Seccomp:"), "0");
    let effective = u64::from_str_radix(&field("CapEff:"), 16).unwrap();
    assert_eq!(effective & !0x8008_00ee, 0, "{effective:#x}");

    let before = vm.hosts();
    assert!(place.run(&["reset", "modest"]).status.success());
    wait_until("every process is a new one", || {
        let after = vm.hosts();
        after.len() == before.len() && after.iter().all(|row| before.iter().all(|old| old["pid"] != row["pid"]))
    });
    for (old, row) in before.iter().zip(vm.hosts()) {
        assert_eq!(row["differences"], json!([]), "{row:#}");
        assert_eq!(row["missing"], old["missing"], "{row:#}");
    }
}

#[test]
fn a_vm_with_an_unconfined_host_leaves_it_its_rights() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let vm = place.start("generous", &tick_guest(), &["--sandbox", "seccomp,i8042=off"]);
    vm.wait_until_running();
    let status = fs::read_to_string(format!("/proc/{}/status", vm.pid())).unwrap();
    assert!(status.contains("NoNewPrivs:\t0"), "{status}");
}
