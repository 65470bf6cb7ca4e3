//! What device authors have: a device to begin with, and a kit that finds what is wrong with theirs.

mod harness;
#[path = "harness/python.rs"]
mod python;

use harness::{Place, text};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Runs the program in a folder.
fn run_in(place: &Place, folder: &Path, words: &[&str]) -> std::process::Output {
    place.cofferdam().current_dir(folder).args(words).output().expect("the program starts")
}

/// What the kit finds: the names of the checks that failed, with their details.
fn found(place: &Place, plugin: &Path) -> Vec<(String, String)> {
    let output = place.run(&["device", "check", "--json", "--seconds", "0", plugin.to_str().unwrap()]);
    let rows: Vec<Value> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    let failed: Vec<_> = rows
        .iter()
        .filter(|row| row["result"] == "fail")
        .map(|row| (row["check"].as_str().unwrap().to_owned(), row["detail"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(output.status.code(), Some((!failed.is_empty()).into()), "{rows:#?}");
    failed
}

/// The skeleton in Python with these replacements has to fail this check, with this in its sentence.
fn must_find(check: &str, sentence: &str, replacements: &[(&str, &str)]) {
    let Some(interpreter) = python::interpreter() else { return };
    let place = Place::new();
    let mut text = include_str!("../cli/src/device/skeleton/device.py").to_owned();
    for (from, to) in replacements {
        assert!(text.contains(from), "the skeleton has no {from:?}");
        text = text.replace(from, to);
    }
    let plugin = python::script(&text, "broken", interpreter, &place.path(""));
    let failed = found(&place, &plugin);
    assert!(
        failed.iter().any(|(name, detail)| name == check && detail.contains(sentence)),
        "no {check} with {sentence:?} in {failed:#?}"
    );
}

const READ: &str = "        return self.tenths\n";

#[test]
fn a_device_with_a_clock_of_its_own_is_found() {
    let clock = [(READ, "        return __import__('time').monotonic_ns() & 0xFFFF\n")];
    must_find("clock", "asked the same a second time", &clock);
}

#[test]
fn a_device_that_keeps_state_outside_of_it_is_found() {
    let counts = [(READ, "        self.tenths += 1\n        return self.tenths\n")];
    must_find("restart", "killed now and then", &counts);
    must_find("reset", "after a reset", &counts);
}

#[test]
fn a_device_that_is_due_for_ever_is_found() {
    let due = [("return Outputs(levels", "return Outputs(deadline=1, levels")];
    must_find("deadlines", "due for ever", &due);
}

#[test]
fn a_device_that_dies_is_found_with_its_last_words() {
    must_find("widths", "ZeroDivisionError", &[(READ, "        return 1 // 0\n")]);
}

#[test]
fn a_device_that_opens_files_while_it_serves_is_found() {
    must_find("widths", "it died", &[(READ, "        return len(open('/etc/hostname').read())\n")]);
}

#[test]
fn ranges_that_overlap_are_found() {
    let twice = [("ranges = [", "ranges = [ports('again', 0x442, 4), ")];
    must_find("manifest", "overlap", &twice);
}

#[test]
fn a_device_that_says_nothing_of_itself_is_found() {
    must_find("manifest", "no summary", &[("\"Temperature sensor with an alarm line\", kind", "\"\", kind")]);
}

#[test]
fn a_device_that_is_another_each_time_is_found() {
    let other = [("\"tenths\", 215", "\"tenths\", int.from_bytes(__import__('os').urandom(7), 'little')")];
    must_find("manifest", "something else when it is asked again", &other);
}

#[test]
fn a_new_device_in_python_works_and_nothing_is_found() {
    let Some(interpreter) = python::interpreter() else { return };
    let place = Place::new();
    let folder = place.path("");
    let made = run_in(&place, &folder, &["device", "new", "thermo", "--lang", "python"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let again = run_in(&place, &folder, &["device", "new", "thermo", "--lang", "python"]);
    assert!(again.status.code() == Some(2) && text(&again.stderr).contains("is there already"));
    let device = folder.join("thermo");
    let tests = Command::new(interpreter).args(["-m", "unittest"]).current_dir(&device).output().unwrap();
    assert!(tests.status.success(), "{}", text(&tests.stderr));
    let source = std::fs::read_to_string(device.join("thermo.py")).unwrap();
    let plugin = python::script(&source, "thermo", interpreter, &device);
    assert_eq!(found(&place, &plugin), []);
}

#[test]
fn a_new_device_in_cpp_is_built_without_a_network_and_nothing_is_found() {
    let place = Place::new();
    let folder = place.path("");
    let made = run_in(&place, &folder, &["device", "new", "thermo", "--lang", "cpp"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    for program in ["g++", "make", "capnp"] {
        if Command::new(program).arg("--version").output().is_err() {
            println!("SKIPPED: {program} is missing");
            return;
        }
    }
    let device = folder.join("thermo");
    let built = Command::new("make").current_dir(&device).output().unwrap();
    assert!(built.status.success(), "{}", text(&built.stderr));
    assert_eq!(found(&place, &device.join("thermo")), []);
}
