//! What the pages for device authors show is so: their code is what the program makes, and their commands run.

mod harness;
#[path = "harness/python.rs"]
mod python;

use harness::{Place, root, text};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines that a device of the tutorial has at most.
const LINES: usize = 40;

fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs/devices").join(name)).unwrap()
}

/// The one block of code in this language.
fn code(page: &str, language: &str) -> String {
    let mark = format!("```{language}\n");
    assert_eq!(page.matches(&mark).count(), 1, "there is one block in {language}");
    let (_, rest) = page.split_once(&mark).unwrap();
    format!("{}\n", rest.split_once("\n```").expect("a block ends").0)
}

/// Commands that are shown, whole ones.
fn commands(page: &str) -> impl Iterator<Item = &str> {
    let shown = page.lines().filter_map(|line| line.strip_prefix("    "));
    shown.filter(|line| line.contains("cofferdam ") && !line.contains('…'))
}

/// The folder of the tutorial, made by its command.
fn made(place: &Place, language: &str) -> PathBuf {
    let folder = place.path("");
    let command = ["device", "new", "thermo", "--lang", language];
    let done = place.cofferdam().args(command).current_dir(&folder).output().unwrap();
    assert!(done.status.success(), "{}", text(&done.stderr));
    folder.join("thermo")
}

/// Runs each command of the page that is about a device, in its folder, with `plugin` in the place of the one in Python, and with
/// programs of the folder `first` before all others.
fn commands_run(place: &Place, folder: &Path, plugin: &str, first: &Path) {
    let program = Path::new(env!("CARGO_BIN_EXE_cofferdam")).parent().unwrap();
    let path = format!("{}:{}:{}", first.display(), program.display(), std::env::var("PATH").unwrap_or_default());
    let page = page("README.md");
    let mut asked = 0;
    for command in
        commands(&page).filter(|command| command.contains("./thermo.py") && !command.contains("cofferdam run"))
    {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command.replace("./thermo.py", plugin)).current_dir(folder).env("PATH", &path);
        let done = shell.env("COFFERDAM_RUNTIME", place.path("run")).output().unwrap();
        let said = text(&done.stdout);
        assert!(done.status.success(), "{command}: {said}{}", text(&done.stderr));
        if command.contains("drive") {
            assert!(said.starts_with("0x12c "), "{command}: {said}");
        }
        if command.contains("check") {
            let (_, table) = page.split_once("## What the kit checks").expect("a chapter about the kit");
            let rows = table.lines().filter_map(|line| line.strip_prefix("| ")).skip(2);
            for check in rows.filter_map(|row| row.split(' ').next()) {
                assert!(said.contains(&format!("{check} ")), "{check}: {said}");
            }
        }
        asked += 1;
    }
    assert_eq!(asked, 3, "describe, check and drive");
    let by_hand = Command::new(folder.join(plugin)).env("PATH", &path).output().unwrap();
    assert!(!by_hand.status.success() && text(&by_hand.stderr).contains("is a device of a virtual machine"));
}

#[test]
fn the_device_in_python_is_what_the_page_shows_and_its_commands_run() {
    let Some(interpreter) = python::interpreter() else { return };
    let place = Place::new();
    let folder = made(&place, "python");
    let shown = code(&page("README.md"), "python");
    assert_eq!(shown, fs::read_to_string(folder.join("thermo.py")).unwrap());
    assert!(shown.lines().count() <= LINES, "{} lines", shown.lines().count());
    // The page has the environment made in the same way, with the newest pycapnp, and activated.
    assert!(page("README.md").contains("    python3 -m venv env && . env/bin/activate && pip install pycapnp\n"));
    commands_run(&place, &folder, "./thermo.py", interpreter.parent().unwrap());
}

#[test]
fn the_device_in_cpp_is_what_the_page_shows_and_its_commands_run() {
    let place = Place::new();
    let folder = made(&place, "cpp");
    let shown = code(&page("README.md"), "cpp");
    assert_eq!(shown, fs::read_to_string(folder.join("thermo.cpp")).unwrap());
    assert!(shown.lines().count() <= LINES, "{} lines", shown.lines().count());
    for program in ["g++", "make", "capnp"] {
        if Command::new(program).arg("--version").output().is_err() {
            println!("SKIPPED: {program} is missing");
            return;
        }
    }
    let built = Command::new("make").current_dir(&folder).output().unwrap();
    assert!(built.status.success(), "{}", text(&built.stderr));
    commands_run(&place, &folder, "./thermo", &folder);
}

#[test]
fn the_device_in_rust_is_what_the_page_shows_and_its_commands_run() {
    let place = Place::new();
    let folder = made(&place, "rust");
    let shown = code(&page("README.md"), "rust");
    assert_eq!(shown, fs::read_to_string(folder.join("src/main.rs")).unwrap());
    assert!(shown.lines().count() <= LINES, "{} lines", shown.lines().count());
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--offline"]).current_dir(&folder).env("CARGO_HOME", place.path("registry"));
    // What is said to the cargo that runs this test is not meant for that one.
    for name in ["CARGO_TARGET_DIR", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"]
    {
        cargo.env_remove(name);
    }
    let built = cargo.output().unwrap();
    assert!(built.status.success(), "{}", text(&built.stderr));
    commands_run(&place, &folder, "target/release/thermo", &folder);
}

#[test]
fn what_a_guest_does_in_the_tutorial_is_what_a_linux_guest_does_in_its_scenario() {
    let page = page("README.md");
    assert_eq!(code(&page, "c"), fs::read_to_string(root().join("docs/devices/inw.c")).unwrap());
    let scenario = fs::read_to_string(root().join("tests/nested/plugins.sh")).unwrap();
    let guest = fs::read_to_string(root().join("tests/nested/guest/plugins.sh")).unwrap();
    let run = commands(&page).find(|command| command.contains("cofferdam run")).expect("a machine is started");
    let (_, device) = run.split_once("--device ./").expect("with the device");
    assert!(scenario.contains(device), "the scenario does not start {device}");
    assert!(page.contains("`inw 0x450` prints 215") && guest.contains("inw 0x450"));
    for option in ["virtio_entropy.py,grant=memory+entropy", "virtio_block,grant=memory+file-read,file="] {
        assert!(page.contains(option) && scenario.contains(option), "{option}");
    }
}

/// All files of a folder, one behind the other.
fn sources(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("schema") && !path.ends_with("__pycache__") {
            all += &sources(&path);
        } else if path.extension().is_some_and(|end| end == "rs" || end == "py" || end == "hpp") {
            all += &fs::read_to_string(path).unwrap();
        }
    }
    all
}

#[test]
fn each_name_that_the_page_gives_a_concept_is_there_in_its_language() {
    let page = page("README.md");
    let (_, table) = page.split_once("| | Rust | Python | C++ |\n| --- | --- | --- | --- |\n").expect("the table");
    let rows: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 15);
    for (column, folder) in [(2, "plugin/src"), (3, "python/cofferdam_device"), (4, "cpp/include")] {
        let source = sources(&root().join("devices/sdk").join(folder));
        for row in &rows {
            let name = row.split('|').nth(column).unwrap().trim().trim_matches('`');
            assert!(source.contains(name), "{folder} has no {name:?}: {row}");
        }
    }
}

#[test]
fn each_way_out_that_the_page_about_plugins_shows_is_one_that_is_tried() {
    let tried = fs::read_to_string(root().join("docs/attacks.md")).unwrap();
    let page = page("plugins.md");
    let is_row =
        |line: &&str| line.starts_with("| ") && line[2..].starts_with(|first: char| first.is_ascii_uppercase());
    let rows: Vec<&str> = page.lines().filter(is_row).collect();
    assert!(rows.len() > 10);
    for row in rows {
        assert!(tried.lines().any(|line| line == row), "{row}");
    }
}
