//! Unit and integration tests, by cargo-nextest where it is installed, else by cargo itself.
//!
//! A test that cannot run on this machine prints a line `SKIPPED: why` and returns. Neither runner knows such a thing, so
//! the tests' output is read and these count as skipped.

use std::path::Path;
use std::process::Command;

use crate::command::{self, Finished};
use crate::report::Outcome;

/// What a test prints at the start of a line, in letters of either case, when it does not run.
const SKIP: &str = "skipped: ";

/// Builds all tests of the workspace for [`run`], which then finds them built.
pub fn build(cargo: &Path, top: &Path, logs: &Path) -> Outcome {
    let mut command = Command::new(cargo);
    let words: &[&str] = if has_nextest(cargo) { &["nextest", "run", "--workspace"] } else { &LIBTEST };
    command.args(words).arg("--no-run").current_dir(top);
    match command::run(&mut command, &logs.join("tests-build.log")) {
        Ok(done) if done.success => Outcome::pass(),
        Ok(done) => Outcome::fail("build", done.tail()),
        Err(error) => Outcome::fail("build", format!("{error:#}")),
    }
}

/// Cargo's own runner.
const LIBTEST: [&str; 6] = ["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests"];

fn has_nextest(cargo: &Path) -> bool {
    Command::new(cargo).args(["nextest", "--version"]).output().is_ok_and(|done| done.status.success())
}

/// Runs all tests of the workspace whose names contain `filter`, documentation tests included.
pub fn run(cargo: &Path, top: &Path, filter: Option<&str>, logs: &Path) -> Outcome {
    let nextest = has_nextest(cargo);
    let cargo = |words: &[&str]| {
        let mut command = Command::new(cargo);
        command.args(words).current_dir(top);
        command
    };
    let mut outcome = Outcome::default();
    if nextest {
        let nextest = |log: &str, chosen: &[&str]| {
            let mut command = cargo(&["nextest", "run", "--workspace", "--no-fail-fast", "--no-tests", "pass"]);
            command.args(["--success-output", "immediate", "--failure-output", "immediate", "--color", "never"]);
            judge("tests", command::run(command.args(chosen), &logs.join(log)), read_nextest)
        };
        let chosen: Vec<&str> = filter.into_iter().collect();
        let mut tests = nextest("tests.log", &chosen);
        run_again(&mut tests, |name| Some(nextest("tests-again.log", &["-E", &exactly(name)?])));
        outcome.merge(tests);
    } else {
        let mut command = cargo(&LIBTEST);
        let command = command.args(filter).args(["--", "--show-output"]);
        outcome.merge(judge("tests", command::run(command, &logs.join("tests.log")), read_libtest));
    }
    let mut command = cargo(&["test", "--workspace", "--no-fail-fast", "--doc"]);
    let command = command.args(filter).args(["--", "--show-output"]);
    outcome.merge(judge("documentation tests", command::run(command, &logs.join("doc-tests.log")), read_libtest));
    outcome
}

/// Most failures that may be the machine's: of more, the change is the cause.
const AGAIN_MAX: usize = 3;

/// Gives tests that failed beside all others a second chance, each alone. One that passes then is not counted as passed:
/// it stays in the summary, among what did not run, with what it said when it failed.
fn run_again(outcome: &mut Outcome, again: impl Fn(&str) -> Option<Outcome>) {
    if outcome.failed.len() > AGAIN_MAX {
        return;
    }
    for failure in std::mem::take(&mut outcome.failed) {
        println!("{}: failed beside the others; once more, alone", failure.name);
        let passes = again(&failure.name).is_some_and(|again| again.passed == 1 && again.failed.is_empty());
        if passes {
            outcome.add_skip(&failure.name, format!("failed beside the others, passed alone: {}", failure.why));
        } else {
            outcome.failed.push(failure);
        }
    }
}

/// The filter of cargo-nextest for one test, of the name that its status line has: `program test::name`.
fn exactly(name: &str) -> Option<String> {
    let (program, test) = name.split_once(' ')?;
    Some(format!("binary_id(={program}) and test(={test})"))
}

fn judge(name: &str, done: anyhow::Result<Finished>, read: fn(&str) -> Outcome) -> Outcome {
    match done {
        Err(error) => Outcome::fail(name, format!("{error:#}")),
        Ok(done) => {
            let mut outcome = read(&done.output);
            // A build that failed has no tests to name.
            if !done.success && outcome.failed.is_empty() {
                outcome.add_failure(name, done.tail());
            }
            outcome
        }
    }
}

/// Reads what `cargo nextest run --success-output immediate` printed: a status line for each test, followed by
/// headings `stdout ───` and the output, indented.
fn read_nextest(output: &str) -> Outcome {
    let mut outcome = Outcome::default();
    // The test whose output is being read, and whether it passed.
    let mut current: Option<(String, bool)> = None;
    let mut shown = Vec::new();
    let mut skip = None;
    let mut finish = |current: &mut Option<(String, bool)>, shown: &mut Vec<&str>, skip: &mut Option<&str>| {
        let Some((name, passed)) = current.take() else { return };
        match (passed, skip.take()) {
            (true, Some(why)) => outcome.add_skip(&name, why),
            (true, None) => outcome.passed += 1,
            (false, _) => outcome.add_failure(&name, command::tail(&shown.join("\n"))),
        }
        shown.clear();
    };
    for line in output.lines() {
        if let Some((passed, name)) = nextest_status(line) {
            finish(&mut current, &mut shown, &mut skip);
            current = Some((name.to_owned(), passed));
        } else if line.trim_start().starts_with("Summary [") {
            break;
        } else {
            skip = skip.or(skipped(line));
            shown.push(line);
        }
    }
    finish(&mut current, &mut shown, &mut skip);
    outcome
}

fn skipped(line: &str) -> Option<&str> {
    let (start, why) = line.trim_start().split_at_checked(SKIP.len())?;
    start.eq_ignore_ascii_case(SKIP).then_some(why)
}

/// `        PASS [   0.004s] (1/9) crate test::name`
fn nextest_status(line: &str) -> Option<(bool, &str)> {
    let (word, rest) = line.trim_start().split_once(" [")?;
    let passed = match word.split_whitespace().next()? {
        "PASS" | "LEAK" | "FLAKY" => true,
        "FAIL" | "TIMEOUT" | "ABORT" | "SIGABRT" | "SIGSEGV" | "SIGKILL" | "SIGSYS" | "SIGTERM" | "SIGILL"
        | "SIGBUS" | "LEAK-FAIL" | "XFAIL" => false,
        _ => return None,
    };
    let (_, name) = rest.split_once("] ")?;
    let name = name.trim_start();
    // Newer versions count: `(1/9) `.
    Some((passed, name.strip_prefix('(').and_then(|rest| rest.split_once(") ")).map_or(name, |(_, name)| name.trim())))
}

/// Reads what `cargo test -- --show-output` printed: a line `test NAME ... ok` for each test, then sections
/// `---- NAME stdout ----`.
fn read_libtest(output: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let mut passed: Vec<&str> = Vec::new();
    let mut section: Option<&str> = None;
    let mut skips: Vec<(&str, &str)> = Vec::new();
    let mut failures: Vec<(&str, String)> = Vec::new();
    for line in output.lines() {
        if let Some((name, word)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) {
            match word.split_whitespace().next() {
                Some("ok") => passed.push(name),
                Some("FAILED") => failures.push((name, String::new())),
                Some("ignored") => outcome.add_skip(name, "it is marked `ignore`"),
                _ => {}
            }
        } else if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            section = Some(name);
        } else if line == "successes:" || line == "failures:" || line.starts_with("test result:") {
            section = None;
        } else if let Some(name) = section {
            if let Some(why) = skipped(line) {
                skips.push((name, why));
            }
            if let Some((_, text)) = failures.iter_mut().find(|(failed, _)| *failed == name) {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    for name in passed {
        match skips.iter().find(|(skipped, _)| *skipped == name) {
            Some((_, why)) => outcome.add_skip(name, *why),
            None => outcome.passed += 1,
        }
    }
    for (name, text) in failures {
        outcome.add_failure(name, command::tail(&text));
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nextest_output_is_counted_and_a_skip_keeps_its_reason() {
        let outcome = read_nextest(
            "    Starting 3 tests across 2 binaries\n        PASS [   0.004s] (1/3) imc lane::tests::works\n  \
             stdout ───\n\n    SKIPPED: no such thing, the next test says this\n        PASS [   0.004s] (2/3) vmm runs\n        \
             FAIL [   0.010s] (3/3) vmm falls\n  stderr ───\n\n    it fell\n\n────────────\n     Summary [   0.020s] \
             3 tests run: 2 passed, 1 failed, 0 skipped\n        FAIL [   0.010s] (3/3) vmm falls\n",
        );
        assert_eq!(outcome.passed, 1);
        assert_eq!(outcome.skipped.len(), 1);
        assert_eq!(outcome.skipped[0].name, "imc lane::tests::works");
        assert_eq!(outcome.failed.len(), 1);
        assert_eq!(outcome.failed[0].name, "vmm falls");
        assert!(outcome.failed[0].why.contains("it fell"));
    }

    #[test]
    fn a_test_that_passes_alone_is_not_counted_as_passed() {
        let failed = || {
            let mut outcome = Outcome::fail("vmm::faults falls", "it fell");
            outcome.add_failure("vmm::faults breaks", "it broke");
            outcome
        };
        let alone = |name: &str| {
            let falls = exactly(name)?.contains("test(=falls)");
            Some(if falls { Outcome::pass() } else { Outcome::fail(name, "again") })
        };
        let mut outcome = failed();
        run_again(&mut outcome, alone);
        assert_eq!((outcome.passed, outcome.skipped.len(), outcome.failed.len()), (0, 1, 1));
        assert!(outcome.skipped[0].why.contains("it fell"));
        assert_eq!(outcome.failed[0].why, "it broke");

        let mut many = failed();
        many.merge(failed());
        run_again(&mut many, |_| Some(Outcome::pass()));
        assert_eq!(many.failed.len(), 4, "so many are no accident");
    }

    #[test]
    fn libtest_output_is_counted_and_a_skip_keeps_its_reason() {
        let outcome = read_libtest(
            "running 4 tests\ntest a ... ok\ntest b ... ok\ntest c ... FAILED\ntest d ... ignored\n\nsuccesses:\n\n\
             ---- b stdout ----\nskipped: there is no /dev/kvm\n\n\nsuccesses:\n    a\n    b\n\nfailures:\n\n\
             ---- c stdout ----\nc panicked\n\nfailures:\n    c\n\ntest result: FAILED. 2 passed; 1 failed\n",
        );
        assert_eq!(outcome.passed, 1);
        assert_eq!(outcome.skipped.len(), 2);
        assert!(outcome.skipped.iter().any(|skip| skip.name == "b" && skip.why == "there is no /dev/kvm"));
        assert_eq!(outcome.failed[0].name, "c");
        assert!(outcome.failed[0].why.contains("c panicked"));
    }
}
