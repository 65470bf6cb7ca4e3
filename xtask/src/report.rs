//! What a run found: outcomes of steps, the closing table, the totals.

use std::fmt::Write as _;
use std::time::Duration;

/// One thing that went wrong, or was left out, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The test or check.
    pub name: String,
    /// One sentence or the end of its output.
    pub why: String,
}

/// What became of one step. A step may be one check or hundreds of tests.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How many tests passed.
    pub passed: u32,
    /// Every test that failed.
    pub failed: Vec<Finding>,
    /// Every test that did not run. Never counted as passed.
    pub skipped: Vec<Finding>,
}

impl Outcome {
    /// A single check that held.
    pub fn pass() -> Self {
        Self { passed: 1, ..Self::default() }
    }

    /// A single check that did not.
    pub fn fail(name: &str, why: impl Into<String>) -> Self {
        let mut outcome = Self::default();
        outcome.add_failure(name, why);
        outcome
    }

    /// A single check that could not run here.
    pub fn skip(name: &str, why: impl Into<String>) -> Self {
        let mut outcome = Self::default();
        outcome.add_skip(name, why);
        outcome
    }

    /// One more failure.
    pub fn add_failure(&mut self, name: &str, why: impl Into<String>) {
        self.failed.push(Finding { name: name.to_owned(), why: why.into() });
    }

    /// One more test left out.
    pub fn add_skip(&mut self, name: &str, why: impl Into<String>) {
        self.skipped.push(Finding { name: name.to_owned(), why: why.into() });
    }

    /// Takes over everything that `other` found.
    pub fn merge(&mut self, other: Outcome) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
    }

    fn word(&self) -> &'static str {
        if !self.failed.is_empty() {
            "FAILED"
        } else if self.passed > 0 {
            "ok"
        } else if !self.skipped.is_empty() {
            "skipped"
        } else {
            "nothing"
        }
    }
}

/// The outcomes of all steps, in order.
#[derive(Debug, Default)]
pub struct Report {
    steps: Vec<(String, Outcome, Duration)>,
}

impl Report {
    /// Adds the outcome of a step.
    pub fn add(&mut self, step: &str, outcome: Outcome, took: Duration) {
        self.steps.push((step.to_owned(), outcome, took));
    }

    /// Whether nothing failed. Skips do not make a run fail; they are shown.
    pub fn succeeded(&self) -> bool {
        self.steps.iter().all(|(_, outcome, _)| outcome.failed.is_empty())
    }

    /// Failures, what was skipped and why, the table, and the totals alone on the last line.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let mut section = |title: &str, findings: fn(&Outcome) -> &[Finding]| {
            if self.steps.iter().any(|(_, outcome, _)| !findings(outcome).is_empty()) {
                let _ = writeln!(text, "\n{title}");
            }
            for (step, outcome, _) in &self.steps {
                for finding in findings(outcome) {
                    let why = finding.why.trim_end().replace('\n', "\n      ");
                    let _ = writeln!(text, "  {step} / {}: {why}", finding.name);
                }
            }
        };
        section("Skipped, and why (a skip is not a pass):", |outcome| &outcome.skipped);
        section("Failed:", |outcome| &outcome.failed);

        let width = self.steps.iter().map(|(step, ..)| step.len()).max().unwrap_or(0).max("step".len());
        let _ = writeln!(
            text,
            "\n{:width$}  {:8} {:>7} {:>7} {:>8} {:>8}",
            "step", "result", "passed", "failed", "skipped", "seconds"
        );
        for (step, outcome, took) in &self.steps {
            let _ = writeln!(
                text,
                "{step:width$}  {:8} {:>7} {:>7} {:>8} {:>8.1}",
                outcome.word(),
                outcome.passed,
                outcome.failed.len(),
                outcome.skipped.len(),
                took.as_secs_f64()
            );
        }
        let mut total = Outcome::default();
        self.steps.iter().for_each(|(_, outcome, _)| total.merge(outcome.clone()));
        let _ =
            write!(text, "\n{} passed, {} failed, {} skipped", total.passed, total.failed.len(), total.skipped.len());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_is_shown_with_its_reason_and_never_counted_as_passed() {
        let mut report = Report::default();
        report.add("unit tests", Outcome { passed: 3, ..Outcome::default() }, Duration::from_secs(2));
        report.add("guests", Outcome::skip("boot", "qemu-system-x86_64 is missing"), Duration::ZERO);
        let text = report.render();
        assert!(text.contains("guests / boot: qemu-system-x86_64 is missing"), "{text}");
        assert_eq!(text.lines().last(), Some("3 passed, 0 failed, 1 skipped"));
        assert!(report.succeeded());
    }

    #[test]
    fn one_failure_fails_the_run_and_is_named() {
        let mut report = Report::default();
        report.add("formatting", Outcome::fail("rustfmt", "two files differ"), Duration::ZERO);
        report.add("docs", Outcome::pass(), Duration::ZERO);
        let text = report.render();
        assert!(!report.succeeded());
        assert!(text.contains("formatting / rustfmt: two files differ"), "{text}");
        assert_eq!(text.lines().last(), Some("1 passed, 1 failed, 0 skipped"));
    }
}
