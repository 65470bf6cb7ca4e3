//! What device authors have: a device to begin with, and a kit that finds what is wrong with theirs.

#[path = "harness/cpp.rs"]
mod cpp;
mod harness;
#[path = "harness/python.rs"]
mod python;
#[path = "harness/rust.rs"]
mod rust;

use harness::{Place, root, text};
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs the program in a folder.
fn run_in(place: &Place, folder: &Path, words: &[&str]) -> std::process::Output {
    place.cofferdam().current_dir(folder).args(words).output().expect("the program starts")
}

/// What the kit finds, or one check of it: the names of the checks that failed, with their details.
fn found(place: &Place, plugin: &Path, only: Option<&str>) -> Vec<(String, String)> {
    let mut words = vec!["device", "check", "--json", "--seconds", "0", plugin.to_str().unwrap()];
    words.extend(only.iter().flat_map(|check| ["--only", check]));
    let output = place.run(&words);
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
    let failed = found(&place, &plugin, Some(check));
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
fn a_device_that_hangs_is_found() {
    let hangs = [(READ, "        while True:\n            pass\n")];
    must_find("widths", "no answer within 2 s", &hangs);
}

#[test]
fn a_device_that_does_not_know_its_own_state_again_is_found() {
    let forgets =
        [("    def temperature(", "    def check(self, state):\n        return False\n\n    def temperature(")];
    must_find("restart", "killed now and then", &forgets);
}

#[test]
fn a_device_that_a_reset_does_not_reset_is_found() {
    let stays = [
        ("field=\"limit\", writable=True", "field=\"limit\", on_write=\"keep\""),
        (
            "    def temperature(",
            "    def keep(self, state, at, value):\n        self.kept = state.limit = value\n\n    def power_on(self, state):\n        \
             state.limit = getattr(self, 'kept', 0xFFFF)\n\n    def temperature(",
        ),
    ];
    must_find("reset", "after a reset", &stays);
}

#[test]
fn a_device_that_never_has_enough_memory_is_found() {
    let hoards = [(READ, "        self.hoard = [*getattr(self, 'hoard', []), bytearray(1 << 26)]\n        return 1\n")];
    must_find("clock", "MemoryError", &hoards);
}

#[test]
fn a_device_that_answers_by_chance_is_found() {
    let chance = [
        ("from cofferdam_device", "import random\n\nfrom cofferdam_device"),
        (READ, "        return random.getrandbits(16)\n"),
    ];
    must_find("clock", "asked the same a second time", &chance);
}

#[test]
fn a_wish_without_a_reason_is_found() {
    let wish = "    wishes = [__import__('cofferdam_device').wish('switch', 'off', '', switch='reset')]\n    lines =";
    must_find("manifest", "a wish has no reason", &[("    lines =", wish)]);
}

/// What a device answers to one read of this port, and what it says.
fn read_once(place: &Place, plugin: &Path, port: usize) -> (String, String) {
    driven(place, plugin, &format!("read 0 {port} 1 0\n"))
}

/// What comes of these steps, and what the device says.
fn driven(place: &Place, plugin: &Path, steps: &str) -> (String, String) {
    let mut child = place
        .cofferdam()
        .args(["device", "drive", plugin.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(steps.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (text(&output.stdout), text(&output.stderr))
}

/// The device whose author did wrong ends as it should at each port, and says so; but for the last, which is a good one.
fn ends_with_a_sentence(place: &Place, plugin: &Path, ends: [(&str, &str); 3]) {
    std::thread::scope(|scope| {
        for (port, (how, words)) in ends.into_iter().chain([("0x1 ", "")]).enumerate() {
            scope.spawn(move || {
                let (answer, said) = read_once(place, plugin, port);
                assert!(answer.contains(how) && said.contains(words), "{port}: {answer}{said}");
            });
        }
    });
}

fn wrong(language: &str) -> PathBuf {
    root().join("tests/plugins/wrong").with_extension(language)
}

#[test]
fn whatever_an_author_does_wrong_in_python_ends_with_a_sentence() {
    let Some(interpreter) = python::interpreter() else { return };
    let place = Place::new();
    let source = std::fs::read_to_string(wrong("py")).unwrap();
    let plugin = python::script(&source, "wrong", interpreter, &place.path(""));
    let by_itself = "it died: it ended by itself with code 1";
    let (answer, said) = read_once(&place, &plugin, 3);
    assert!(answer.starts_with("0x1 ") && said.contains("it is warm"), "{answer}{said}");
    ends_with_a_sentence(
        &place,
        &plugin,
        [
            (by_itself, "ValueError: it is too cold (wrong.py:24)"),
            (by_itself, "TypeError: reading `wrong` at 0x1 gave None, which is no number"),
            ("it died: killed by the kernel for a system call", ""),
        ],
    );
}

#[test]
fn a_device_in_python_whose_parts_do_not_fit_is_refused_in_a_sentence_that_says_where() {
    let Some(interpreter) = python::interpreter() else { return };
    let place = Place::new();
    for (from, to, sentence) in [
        ("class Sensor", "clas Sensor", "SyntaxError: invalid syntax (unfit.py:14)"),
        ("from cofferdam_device", "import nowhere\nfrom cofferdam_device", "No module named 'nowhere' (unfit.py:10)"),
        ("class Sensor(Device)", "class Sensor(object)", "derived from `Device`, and `Sensor` is none"),
        ("run(Sensor)", "run(Sensor())", "derived from `Device`, and `Sensor(…)` is none"),
        ("@device(", "0 and device(", "class `Sensor` has no name: say `@device("),
        ("2, width=2, field", "1, width=2, field", "the register at 0x1 of `registers` overlaps that at 0x0"),
        ("\"registers\", 2", "\"register\", 2", "there is no range `register`; there are: registers"),
        ("field=\"limit\"", "field=\"limits\"", "there is no field `limits`; there are: limit"),
        ("on_read=\"temperature\"", "on_read=\"degrees\"", "`Sensor` has no method `degrees`"),
        (
            "\"tenths\", 215",
            "\"tenths\", \"warm\"",
            "option `tenths`: its default is 'warm', which is no int (unfit.py:15)",
        ),
        ("limit: u16 = 0xFFFF", "limit: u16 = 0x10000", "field `limit` of the state cannot be 65536"),
        ("limit: u16", "limit: int", "field `limit` of the state is none of u8, u16"),
        ("run(Sensor)", "raise SystemExit(0)", "ended before it said hello"),
    ] {
        let text = include_str!("../cli/src/device/skeleton/device.py");
        assert!(text.contains(from), "the skeleton has no {from:?}");
        let text = text.replace(from, to);
        let plugin = python::script(&text, "unfit", interpreter, &place.path(""));
        let output = place.run(&["device", "describe", plugin.to_str().unwrap()]);
        let said = harness::text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(sentence), "{sentence}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn whatever_an_author_does_wrong_in_cpp_ends_with_a_sentence() {
    let place = Place::new();
    let Some(plugin) = cpp::compiled(&wrong("cpp"), &place.path("")) else { return };
    let by_itself = "it died: it ended by itself with code 1";
    ends_with_a_sentence(
        &place,
        &plugin,
        [
            (by_itself, "the device threw something that is no exception"),
            (by_itself, "it is too cold"),
            ("it died: it ended by itself with code 3", ""),
        ],
    );
}

#[test]
fn whatever_an_author_does_wrong_in_rust_ends_with_a_sentence() {
    let place = Place::new();
    let plugin = rust::compiled(&wrong("rs"), &place.path(""));
    ends_with_a_sentence(
        &place,
        &plugin,
        [
            ("it died: it ended by itself with code 101", "it is too cold"),
            ("it died: it ended by itself with code 3", ""),
            ("it died: killed by the kernel for a system call", ""),
        ],
    );
}

#[test]
fn an_operation_that_ends_two_incarnations_is_answered_by_the_third_on_a_stand_too() {
    let Some(interpreter) = python::interpreter() else { return };
    let place = Place::new();
    let source = include_str!("../cli/src/device/skeleton/device.py").replace(READ, "        return 1 // 0\n");
    let plugin = python::script(&source, "dies", interpreter, &place.path(""));
    // The second may die before it was looked at, or after.
    let steps = "write 0 2 2 7 0\nread 0 0 2 1\nrestart\nread 0 2 2 2\nrestart\nread 0 2 2 3\n";
    let (answers, said) = driven(&place, &plugin, steps);
    let answers: Vec<&str> = answers.lines().collect();
    assert!(answers[1].contains("it died") && said.contains("ZeroDivisionError"), "{answers:#?} {said}");
    assert!(answers[5].starts_with("0xffff "), "it was reset: {answers:#?} {said}");
}

#[test]
fn a_script_that_never_serves_its_device_is_refused() {
    let Some(interpreter) = python::interpreter() else { return };
    let place = Place::new();
    let source = include_str!("../cli/src/device/skeleton/device.py").replace("    run(Sensor)", "    pass");
    let plugin = python::script(&source, "silent", interpreter, &place.path(""));
    let output = place.run(&["device", "describe", plugin.to_str().unwrap()]);
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("it ended by itself"), "{said}");
}

#[test]
fn a_check_that_there_is_not_is_refused() {
    let output = Place::new().run(&["device", "check", "./it", "--only", "colour"]);
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("there is no such check; there are manifest,"), "{said}");
}

#[test]
fn a_name_that_is_none_is_refused() {
    let place = Place::new();
    for name in ["", "Thermo", "../thermo", "9lives", "a-b"] {
        let output = run_in(&place, &place.path(""), &["device", "new", "--lang", "rust", "--", name]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(text(&output.stderr).contains("begins with a letter"), "{}", text(&output.stderr));
    }
}

#[test]
fn a_new_device_in_rust_is_built_with_an_empty_registry_and_nothing_is_found() {
    let place = Place::new();
    let folder = place.path("");
    let made = run_in(&place, &folder, &["device", "new", "thermo", "--lang", "rust"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let device = folder.join("thermo");
    for words in [["test", "--offline"], ["build", "--offline"]] {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(words).current_dir(&device).env("CARGO_HOME", place.path("registry"));
        // What is said to the cargo that runs this test is not meant for that one.
        for name in
            ["CARGO_TARGET_DIR", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"]
        {
            cargo.env_remove(name);
        }
        let done = cargo.output().unwrap();
        assert!(done.status.success(), "{words:?}: {}", text(&done.stderr));
    }
    assert_eq!(found(&place, &device.join("target/debug/thermo"), None), []);
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
    // A device is a plain object: its tests need no pycapnp, and are not given it.
    let tests = Command::new(interpreter).args(["-S", "-m", "unittest"]).current_dir(&device).output().unwrap();
    assert!(tests.status.success(), "{}", text(&tests.stderr));
    let source = std::fs::read_to_string(device.join("thermo.py")).unwrap();
    let plugin = python::script(&source, "thermo", interpreter, &device);
    assert_eq!(found(&place, &plugin, None), []);
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
    assert_eq!(found(&place, &device.join("thermo"), None), []);
}
