//! House rules that a machine can hold.

mod harness;

use harness::root;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which crate of the workspace may use which. A device never depends on the message layer, the VMM never on a device host.
const ARROWS: [(&str, &[&str]); 11] = [
    ("cofferdam-schema", &[]),
    ("cofferdam-imc", &["cofferdam-schema"]),
    ("cofferdam-sandbox", &["cofferdam-schema"]),
    ("cofferdam-device", &["cofferdam-schema"]),
    // Only its tests know the schema.
    ("cofferdam-plugin", &["cofferdam-schema"]),
    ("cofferdam-devices", &["cofferdam-device"]),
    ("cofferdam-rfb", &["cofferdam-schema"]),
    (
        "cofferdam-device-host",
        &["cofferdam-imc", "cofferdam-sandbox", "cofferdam-device", "cofferdam-rfb", "cofferdam-schema"],
    ),
    ("cofferdam-vmm", &["cofferdam-imc", "cofferdam-sandbox", "cofferdam-schema"]),
    (
        "cofferdam",
        &[
            "cofferdam-schema",
            "cofferdam-imc",
            "cofferdam-sandbox",
            "cofferdam-device",
            "cofferdam-devices",
            "cofferdam-device-host",
            "cofferdam-vmm",
            // Its tests are viewers.
            "cofferdam-rfb",
        ],
    ),
    ("xtask", &[]),
];

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("target") && !path.ends_with(".git") {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    found
}

#[test]
fn arrows_between_crates_run_one_way() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let ours: BTreeSet<&str> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    assert_eq!(ours, allowed.keys().copied().collect(), "each crate has its line in ARROWS");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            assert!(!ours.contains(on) || allowed[name].contains(&on), "{name} must not depend on {on}");
        }
    }
}

#[test]
fn only_tests_can_end_a_host_between_two_steps() {
    let features = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", "cofferdam", "--edges", "normal,features", "--prefix", "none"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(features.status.success(), "{}", String::from_utf8_lossy(&features.stderr));
    let features = String::from_utf8_lossy(&features.stdout).into_owned();
    assert!(features.contains("cofferdam-imc"), "{features}");
    assert!(!features.contains("\"steps\""), "the program is built with the hooks of a test: {features}");
}

#[test]
fn what_the_peers_depend_on_never_enters_the_product() {
    let ours = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let theirs = fs::read_to_string(root().join("benches/peers/Cargo.lock")).unwrap();
    for peer in ["ipc-channel", "capnp-rpc", "capnp-futures", "iceoryx2", "zbus", "tokio"] {
        let line = format!("name = \"{peer}\"\n");
        assert!(theirs.contains(&line), "the peers no longer depend on {peer}");
        assert!(!ours.contains(&line), "the product depends on {peer}");
    }
}

#[test]
fn the_vmm_names_no_device() {
    let names: Vec<&str> = devices::catalogue().iter().map(|entry| entry.name).collect();
    for folder in ["vmm/src", "imc/src", "sandbox/src", "rfb/src", "device-host/src", "schema"] {
        let is_test = |path: &Path| path.ends_with("tests.rs") || path.iter().any(|part| part == "tests");
        for (path, text) in sources(folder).into_iter().filter(|(path, _)| !is_test(path)) {
            // Tests and examples in documentation may speak of real devices.
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for (number, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
                for name in &names {
                    assert!(!line.contains(&format!("\"{name}\"")), "{}:{}: names {name}", path.display(), number + 1);
                }
            }
        }
    }
}

#[test]
fn nothing_is_left_to_do_in_the_code() {
    let markers = ["todo", "unimplemented", "dbg"].map(|word| format!("{word}!("));
    for folder in ["vmm", "imc", "sandbox", "rfb", "device-host", "devices", "cli", "schema", "fuzz", "xtask", "tests"]
    {
        for (path, text) in sources(folder) {
            for marker in &markers {
                assert!(!text.contains(marker), "{} has {marker}", path.display());
            }
        }
    }
}

#[test]
fn files_named_in_the_documents_exist() {
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let named = text.split('`').skip(1).step_by(2);
        let files = named.filter(|word| {
            word.contains('/') && word.ends_with(".rs") || word.ends_with(".capnp") || word.ends_with(".s")
        });
        for file in files.filter(|file| !file.contains('*')) {
            assert!(root().join(file).exists(), "{document} names {file}, which is not there");
        }
    }
}

#[test]
fn ci_runs_the_command_of_the_readme() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let ci = fs::read_to_string(root().join(".ci/run")).unwrap();
    let command = "cargo xtask test";
    assert!(readme.contains(&format!("    {command}\n")), "the README says how to test");
    assert!(ci.lines().any(|line| line.trim().trim_start_matches("exec ") == command), "CI runs the same: {ci}");
}
