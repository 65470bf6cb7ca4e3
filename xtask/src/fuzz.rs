//! Fuzzing, in a workspace of its own: `fuzz/` has the targets, and for each the inputs that were kept.
//!
//! One build serves all targets. AddressSanitizer is an unstable option of the compiler, but the library that it needs comes
//! with a stable one as well, so it is allowed for this build alone; where the library is missing, fuzzing goes on without.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::command;
use crate::report::Outcome;

/// The tool that knows the compiler's options, and the version that is known to work.
const TOOL: &str = "cargo-fuzz";
const TOOL_VERSION: &str = "0.13.2";
/// What CI spends over all targets, whichever run at the same time: enough to see that each still runs, and to try some bytes that
/// nobody has tried. The kept inputs are replayed besides, and `cargo xtask fuzz` takes its time.
pub const CI_BUDGET: Duration = Duration::from_secs(160);
/// An input that takes longer is a finding: a peer could keep us busy.
const INPUT_SECONDS: u32 = 10;

/// Where things are.
pub struct Places<'a> {
    pub top: &'a Path,
    /// Cargo's target folder.
    pub target: &'a Path,
    pub work: PathBuf,
    pub logs: PathBuf,
    pub cargo: &'a Path,
}

/// What became of one target.
struct Run {
    target: String,
    executed: u64,
    /// Edges covered by the kept inputs, and those that were new.
    covered: u64,
    new: u64,
    /// Why it failed.
    failure: Option<String>,
}

/// What cargo is told, so that it takes this workspace, and no more of it than any toolchain can build.
pub const WORKSPACE: [&str; 2] = ["--manifest-path", "fuzz/Cargo.toml"];
pub const PLAIN: &str = "--no-default-features";

/// Gives each target the inputs that were kept, on any toolchain.
pub fn replay(places: &Places<'_>) -> Outcome {
    let mut command = Command::new(places.cargo);
    command
        .args(["test", "--locked", PLAIN])
        .args(WORKSPACE)
        .arg("--target-dir")
        .arg(places.target)
        .current_dir(places.top);
    match command::run(&mut command, &places.logs.join("fuzz-replay.log")) {
        Ok(done) if done.success => Outcome::pass(),
        Ok(done) => Outcome::fail("replay", done.tail()),
        Err(error) => Outcome::fail("replay", format!("{error:#}")),
    }
}

/// Fuzzes all targets, or those named, `seconds` each, and prints a table. A machine that cannot build them skips.
pub fn run(places: &Places<'_>, names: &[String], seconds: impl Fn(usize) -> u64) -> Outcome {
    let all = match targets(places.top) {
        Ok(all) => all,
        Err(error) => return Outcome::fail("fuzzing", format!("{error:#}")),
    };
    if let Some(unknown) = names.iter().find(|name| !all.contains(name)) {
        return Outcome::fail(unknown, format!("there is no such target; there are {}", all.join(", ")));
    }
    let chosen: Vec<String> = all.into_iter().filter(|target| names.is_empty() || names.contains(target)).collect();
    let mut outcome = Outcome::default();
    let Some(folder) = build_all(places, &mut outcome) else { return outcome };
    let seconds = seconds(chosen.len());
    let waiting = Mutex::new(VecDeque::from(chosen));
    let done = Mutex::new(Vec::new());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(target) = next() {
                    let run = fuzz(places, &folder, &target, seconds);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push(run);
                }
            });
        }
    });
    let mut runs = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    runs.sort_by(|one, other| one.target.cmp(&other.target));
    println!("{}", table(&runs, seconds));
    for run in runs {
        match run.failure {
            None => outcome.passed += 1,
            Some(why) => outcome.add_failure(&run.target, why),
        }
    }
    outcome
}

/// Builds all targets for [`run`], which then finds them built.
pub fn prepare(places: &Places<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    match build_all(places, &mut outcome) {
        // What is missing is said by who runs them.
        Some(_) => Outcome::pass(),
        None => outcome,
    }
}

/// Builds all targets, with AddressSanitizer where it is to be had, and says where they are; `outcome` has what is missing.
fn build_all(places: &Places<'_>, outcome: &mut Outcome) -> Option<PathBuf> {
    let tool = tool(places).map_err(|why| outcome.add_skip("fuzzing", why)).ok()?;
    let with = |sanitizer| build(places, &tool, sanitizer);
    let built = with("address").or_else(|why| {
        outcome.add_skip("AddressSanitizer", why.lines().last().unwrap_or_default());
        with("none")
    });
    built.map_err(|why| outcome.add_failure("fuzzing", why)).ok()
}

/// The names of all targets: those of their programs.
fn targets(top: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(top.join("fuzz/fuzz_targets"))? {
        names.extend(entry?.path().file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Finds cargo-fuzz, or installs it where nothing else is touched.
fn tool(places: &Places<'_>) -> Result<PathBuf, String> {
    let root = places.target.join("tools");
    let tool = root.join("bin").join(TOOL);
    if !tool.exists() {
        let mut install = Command::new(places.cargo);
        // It only starts the compiler: without being optimised it is there sooner.
        install.args(["install", TOOL, "--version", TOOL_VERSION, "--locked", "--debug", "--root"]).arg(&root);
        match command::run(&mut install, &places.logs.join("cargo-fuzz-install.log")) {
            Ok(done) if done.success => {}
            Ok(done) => return Err(format!("{TOOL} cannot be installed: {}", done.tail())),
            Err(error) => return Err(format!("{TOOL} cannot be installed: {error:#}")),
        }
    }
    Ok(tool)
}

/// Builds all targets, and says where they are.
fn build(places: &Places<'_>, tool: &Path, sanitizer: &str) -> Result<PathBuf, String> {
    let folder = places.target.join("fuzz").join(sanitizer);
    let mut command = Command::new(tool);
    command.args(["build", "--sanitizer", sanitizer, "--target-dir"]).arg(&folder).current_dir(places.top);
    if sanitizer != "none" {
        command.env("RUSTC_BOOTSTRAP", "1");
    }
    let mut built = || -> Result<PathBuf> {
        let done = command::run(&mut command, &places.logs.join(format!("fuzz-build-{sanitizer}.log")))?;
        ensure!(done.success, "{}", done.tail());
        // In a folder with the name of the platform.
        let folders = std::fs::read_dir(&folder)?.flatten().map(|entry| entry.path().join("release"));
        folders.into_iter().find(|path| path.join("deps").exists()).context("the build left no programs")
    };
    built().map_err(|error| format!("{error:#}"))
}

/// Runs one target. What it finds new is kept for the next run on this machine, beside the inputs of the repository.
fn fuzz(places: &Places<'_>, programs: &Path, target: &str, seconds: u64) -> Run {
    let mut run = Run { target: target.to_owned(), executed: 0, covered: 0, new: 0, failure: None };
    let found = places.work.join("fuzz").join(target);
    let artifacts = places.work.join("fuzz/findings");
    let mut execute = || -> Result<()> {
        std::fs::create_dir_all(&found)?;
        std::fs::create_dir_all(&artifacts)?;
        let mut command = Command::new(programs.join(target));
        command.arg(&found).arg(places.top.join("fuzz/corpus").join(target)).args([
            format!("-max_total_time={seconds}"),
            format!("-timeout={INPUT_SECONDS}"),
            format!("-artifact_prefix={}/{target}-", artifacts.display()),
            "-print_final_stats=1".to_owned(),
        ]);
        let done = command::run(&mut command, &places.logs.join(format!("fuzz-{target}.log")))?;
        let coverage =
            |mark: &str| done.output.lines().find(|line| line.contains(mark)).and_then(|line| number(line, "cov: "));
        run.covered = coverage("INITED").unwrap_or(0);
        run.new = coverage("DONE").unwrap_or(run.covered).saturating_sub(run.covered);
        let executed = done.output.lines().find_map(|line| number(line, "stat::number_of_executed_units: "));
        run.executed = executed.unwrap_or(0);
        let input =
            done.output.lines().find_map(|line| line.split("written to ").nth(1)).unwrap_or("no input was kept");
        let said =
            done.output.lines().skip_while(|line| !line.contains("panicked at")).take(3).collect::<Vec<_>>().join("\n");
        ensure!(done.success, "{input}\n{said}\n(all of it: {})", done.log.display());
        Ok(())
    };
    run.failure = execute().err().map(|error| format!("{error:#}"));
    run
}

/// The number that follows `mark`.
fn number(line: &str, mark: &str) -> Option<u64> {
    line.split_once(mark)?.1.trim_start().split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

fn table(runs: &[Run], seconds: u64) -> String {
    let mut text =
        format!("{:10} {:>8} {:>12} {:>8} {:>6} {:>8}\n", "target", "seconds", "runs", "covered", "new", "crashes");
    for run in runs {
        let crashes = u8::from(run.failure.is_some());
        let _ = writeln!(
            text,
            "{:10} {seconds:>8} {:>12} {:>8} {:>6} {crashes:>8}",
            run.target, run.executed, run.covered, run.new
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libfuzzers_numbers_are_found() {
        let line = "#89053\tDONE   cov: 6127 ft: 10465 corp: 489/114Kb lim: 1024 exec/s: 5565 rss: 316Mb";
        assert_eq!(number(line, "cov: "), Some(6127));
        assert_eq!(number("stat::number_of_executed_units: 89053", "stat::number_of_executed_units: "), Some(89053));
        assert_eq!(number(line, "stat::"), None);
    }
}
