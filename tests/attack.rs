//! `cofferdam attack`: every attempt is stopped, and none of them for want of trying.

mod harness;

use harness::{Place, root, text};
use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs::File;

/// Numbers of the list of known ways out, which the design was made against: each has an attempt at least.
const LIST: [u32; 73] = [
    1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 16, 17, 19, 20, 22, 23, 25, 26, 28, 29, 31, 32, 34, 35, 37, 38, 40, 41, 43, 44,
    46, 47, 49, 50, 52, 53, 55, 56, 58, 59, 61, 62, 64, 65, 67, 68, 70, 71, 73, 74, 76, 77, 78, 79, 80, 82, 83, 85, 86,
    88, 89, 91, 92, 94, 95, 97, 98, 100, 101, 103, 104, 106, 107,
];
/// So many attempts at least, of which none is a variant of another.
const ATTEMPTS: usize = 80;

/// One attack at a time: what an attempt leaves behind in its user's name, a key or a segment of memory, another takes away. Tests
/// are processes of one program, so that is what they lock.
fn alone() -> Flock<File> {
    let program = File::open(std::env::current_exe().unwrap()).unwrap();
    Flock::lock(program, FlockArg::LockExclusive).map_err(|(_, error)| error).unwrap()
}

fn rows(words: &[&str], status: i32) -> Vec<Value> {
    let _alone = alone();
    let output = Place::new().cofferdam().arg("attack").args(words).arg("--json").output().unwrap();
    assert_eq!(output.status.code(), Some(status), "attack {words:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("a list of objects")
}

fn word<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_else(|| panic!("no {field} in {row:#}"))
}

#[test]
fn an_attempt_that_is_let_through_is_reported() {
    for id in ["A1", "A10"] {
        let output = Place::new().run(&["attack", id, "A23", "--let-through", id, "--json"]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains(id), "{}", text(&output.stderr));
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((word(&rows[0], "with_layer"), &rows[0]["held"]), ("succeeded", &Value::Bool(false)));
        assert_eq!((word(&rows[1], "with_layer"), &rows[1]["held"]), ("stopped", &Value::Bool(true)));
    }
}

#[test]
fn an_attempt_that_is_not_there_is_a_matter_of_usage() {
    let output = Place::new().run(&["attack", "Z9"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("kernel calls"), "{}", text(&output.stderr));
}

#[test]
fn every_attempt_is_stopped_and_succeeds_without_its_guards() {
    let rows = rows(&[], 0);
    let ids: BTreeSet<&str> = rows.iter().map(|row| word(row, "id")).collect();
    assert_eq!(ids.len(), rows.len(), "each has a name of its own");
    for row in &rows {
        for field in ["group", "attempt", "layer", "seen_by"] {
            assert!(!word(row, field).is_empty(), "{row:#}");
        }
        match word(row, "with_layer") {
            "stopped" => assert!(["succeeded", "not-run"].contains(&word(row, "without_layer")), "{row:#}"),
            "unavailable" => assert_eq!(word(row, "without_layer"), "not-run", "{row:#}"),
            other => panic!("{other}: {row:#}"),
        }
    }
    let shown = rows.iter().filter(|row| row["without_layer"] == "succeeded").count();
    assert!(shown * 10 >= rows.len() * 8, "only {shown} of {} attempts were shown to be dangerous", rows.len());
}

#[test]
fn every_attempt_is_stopped_in_the_strict_sandbox() {
    let rows = rows(&["--sandbox", "strict"], 0);
    let counter = rows.iter().find(|row| row["no"] == "23").expect("the time-stamp counter");
    assert_eq!((word(counter, "with_layer"), word(counter, "without_layer")), ("stopped", "succeeded"), "{counter:#}");
}

#[test]
fn an_ordinary_user_may_attack_as_well() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: every other test here is an ordinary user's already");
        return;
    }
    let place = Place::new();
    let program = place.path("cofferdam");
    std::fs::copy(env!("CARGO_BIN_EXE_cofferdam"), &program).unwrap();
    std::fs::set_permissions(program.parent().unwrap(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = std::process::Command::new(&program);
    let output = command.args(["attack", "A", "B", "C", "D", "--json"]).uid(NOBODY).gid(NOBODY).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let shown = rows.iter().filter(|row| row["without_layer"] == "succeeded").count();
    assert!(shown * 10 >= rows.len() * 8, "only {shown} of {} attempts were shown to be dangerous", rows.len());
}

#[test]
fn attempts_are_made_without_a_virtual_processor() {
    let rows = rows(&["--no-kvm", "A1", "C", "F"], 0);
    assert!(rows.len() > 1);
}

#[test]
fn the_list_of_known_ways_out_is_covered() {
    let rows = rows(&["--list"], 0);
    let numbers: BTreeSet<u32> =
        rows.iter().flat_map(|row| word(row, "no").split(", ").filter_map(|number| number.parse().ok())).collect();
    let missing: Vec<u32> = LIST.into_iter().filter(|number| !numbers.contains(number)).collect();
    assert!(missing.is_empty(), "no attempt for {missing:?}");
    assert!(rows.len() >= ATTEMPTS, "{} attempts", rows.len());
}

const PAGE: &str = "docs/attacks.md";

#[test]
fn the_page_about_attacks_is_what_the_program_says() {
    let path = root().join(PAGE);
    if std::env::var_os("COFFERDAM_WRITE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page(), "{PAGE} is not what `cofferdam attack --list` says; write it anew as it says itself");
}

fn page() -> String {
    let rows = rows(&["--list"], 0);
    let mut page = String::from(include_str!("attacks.md"));
    let mut group = "";
    for row in &rows {
        if word(row, "group") != group {
            group = word(row, "group");
            let letter = &word(row, "id")[..1];
            write!(page, "\n## {letter}. {}{}\n\n", group[..1].to_uppercase(), &group[1..]).unwrap();
            page.push_str("| id | no. | attempt | stopped by, in turn | seen by |\n| --- | --- | --- | --- | --- |\n");
        }
        let behind = row["behind"].as_array().unwrap().iter().filter_map(Value::as_str);
        let guards: Vec<&str> = std::iter::once(word(row, "layer")).chain(behind).collect();
        let [id, no, attempt, seen] = ["id", "no", "attempt", "seen_by"].map(|field| word(row, field));
        writeln!(page, "| {id} | {no} | {attempt} | {} | {seen} |", guards.join(", ")).unwrap();
    }
    page
}
