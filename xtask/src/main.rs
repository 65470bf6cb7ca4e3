//! The project's own chores. `cargo xtask test` is what has to pass before a push, and what CI runs.

mod bench;
mod command;
mod elf;
mod fuzz;
mod licences;
mod nested;
mod packages;
mod python;
mod report;
mod schema;
mod unit;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use serde_json::Value;

use report::{Outcome, Report};

/// The project's own chores.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Run every check and test; all failures are reported at the end
    Test {
        /// Leave out the ten million sleeps, fuzzing, the release build and the guests
        #[arg(long)]
        quick: bool,
        /// Only tests and guest scenarios whose names contain this
        filter: Option<String>,
    },
    /// Boot the guest scenarios alone
    Nested {
        /// Scenarios by name; without any, all that a test run boots
        names: Vec<String>,
        /// Print their names
        #[arg(long)]
        list: bool,
        /// A program to test in place of a fresh build
        #[arg(long)]
        program: Option<PathBuf>,
    },
    /// Compile the schema anew and write the golden messages, after a change of schema/*.capnp
    Schema {
        /// Also record what it means as that of this release: later schemas are held to it
        #[arg(long, value_name = "VERSION")]
        release: Option<String>,
    },
    /// Read the golden messages with pycapnp and in C++
    Golden,
    /// Build the program that measures other message layers for `cofferdam bench calls`
    BenchPeers,
    /// Measure anew what docs/carriers.md shows: its tables and both pictures. Wants a quiet machine
    BenchDocs,
    /// Play hostile peers with made-up bytes, under AddressSanitizer
    Fuzz {
        /// Targets by name; without any, all
        targets: Vec<String>,
        /// How long each
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let arguments = Arguments::parse();
    let tree = Tree::find()?;
    match arguments.chore {
        Chore::Schema { release } => {
            schema::write(&tree.cargo, &tree.top)?;
            if let Some(version) = release {
                schema::release(&tree.top, &version)?;
            }
            Ok(true)
        }
        Chore::Golden => Ok(alone("golden messages", || tree.read_golden())),
        Chore::Fuzz { targets, seconds } => Ok(alone("fuzzing", || fuzz::run(&tree.fuzzing(), &targets, |_| seconds))),
        Chore::BenchPeers => bench::peers(&tree),
        Chore::BenchDocs => bench::documents(&tree),
        Chore::Test { quick, filter } => Ok(test(&tree, quick, filter.as_deref())),
        Chore::Nested { list: true, .. } => {
            for scenario in nested::scenarios(&tree.top)? {
                println!("{}", scenario.name);
            }
            Ok(true)
        }
        Chore::Nested { names, program, .. } => guests(&tree, &names, program),
    }
}

/// Where the tree and its products are.
struct Tree {
    top: PathBuf,
    /// Cargo's target folder.
    target: PathBuf,
    /// The cargo that runs us.
    cargo: PathBuf,
    metadata: Value,
}

impl Tree {
    fn find() -> Result<Self> {
        let cargo = PathBuf::from(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let metadata = metadata(&cargo, Path::new("."), &[])?;
        let path = |field: &str| {
            metadata[field].as_str().map(PathBuf::from).with_context(|| format!("cargo metadata has no {field}"))
        };
        Ok(Self { top: path("workspace_root")?, target: path("target_directory")?, cargo, metadata })
    }

    /// Everything of ours that is not cargo's.
    fn work(&self) -> PathBuf {
        self.target.join("xtask")
    }

    fn logs(&self) -> PathBuf {
        self.work().join("logs")
    }

    fn program(&self) -> PathBuf {
        self.target.join("release/cofferdam")
    }

    /// A check that is one run of cargo, with `environment` set.
    fn cargo_check(&self, name: &str, words: &[&str], environment: &[(&str, &str)]) -> Outcome {
        let mut command = Command::new(&self.cargo);
        command.args(words).current_dir(&self.top).envs(environment.iter().copied());
        match command::run(&mut command, &self.logs().join(format!("{}.log", name.replace(' ', "-")))) {
            Ok(done) if done.success => Outcome::pass(),
            Ok(done) => Outcome::fail(name, done.tail()),
            Err(error) => Outcome::fail(name, format!("{error:#}")),
        }
    }

    /// Builds the program as users get it, and looks whether it can start in an empty root.
    fn build_program(&self) -> Outcome {
        let build = |name, what: &[&str]| {
            let words = ["build", "--release", "--locked", "--package", "cofferdam"];
            self.cargo_check(name, &[&words[..], what].concat(), &[])
        };
        // By itself: with an example, the program too would get what only tests may have of its crates.
        let mut outcome = build("release build", &["--package", "cofferdam-sandbox", "--bins"]);
        if outcome.failed.is_empty() {
            let verdict = std::fs::read(self.program()).map_err(Into::into).and_then(|bytes| elf::is_static(&bytes));
            outcome.merge(match verdict {
                Ok(true) => Outcome::pass(),
                Ok(false) => Outcome::fail("static program", "it names a dynamic loader"),
                Err(error) => Outcome::fail("static program", format!("{error:#}")),
            });
            let examples = ["--example", nested::GREEDY, "--example", nested::READ_SCREEN];
            outcome.merge(build("programs of the tests", &examples));
        }
        outcome
    }

    /// The golden messages, read in other languages.
    fn read_golden(&self) -> Outcome {
        schema::readers::check(&schema::readers::Places { top: &self.top, work: &self.work(), logs: &self.logs() })
    }

    /// What holds for all of our code, for that which fuzzes; and the inputs that were kept.
    fn check_fuzz_targets(&self) -> Outcome {
        let [manifest, path] = fuzz::WORKSPACE;
        let mut outcome = self.cargo_check("rustfmt of fuzz", &["fmt", manifest, path, "--check"], &[]);
        let target = self.target.to_string_lossy();
        let words = ["clippy", manifest, path, fuzz::PLAIN, "--all-targets", "--target-dir", &target, "--"];
        outcome.merge(self.cargo_check("clippy of fuzz", &[&words[..], &["--deny", "warnings"]].concat(), &[]));
        outcome.merge(match metadata(&self.cargo, &self.top, &fuzz::WORKSPACE) {
            Ok(metadata) => licences::check(&metadata),
            Err(error) => Outcome::fail("licences of fuzz", format!("{error:#}")),
        });
        outcome.merge(fuzz::replay(&self.fuzzing()));
        outcome
    }

    fn fuzzing(&self) -> fuzz::Places<'_> {
        let (work, logs) = (self.work(), self.logs());
        fuzz::Places { top: &self.top, target: &self.target, work, logs, cargo: &self.cargo }
    }

    /// The scenarios of a test run; those that it leaves out are named in the report.
    fn guests_of_a_test_run(&self, filter: Option<&str>) -> Outcome {
        let mut outcome = self.guests(self.program(), |scenario| match filter {
            Some(filter) => scenario.name.contains(filter),
            None => scenario.only_by_name.is_none(),
        });
        for scenario in nested::scenarios(&self.top).unwrap_or_default() {
            if let (Some(why), None) = (scenario.only_by_name, filter) {
                outcome.add_skip(&scenario.name, format!("run by name only: {why}"));
            }
        }
        outcome
    }

    fn guests(&self, program: PathBuf, wanted: impl Fn(&nested::Scenario) -> bool) -> Outcome {
        let places = nested::Places { top: &self.top, work: self.work(), program };
        nested::run(&places, wanted)
    }
}

/// What cargo knows of a workspace: of this one, without `more`.
fn metadata(cargo: &Path, folder: &Path, more: &[&str]) -> Result<Value> {
    let mut command = Command::new(cargo);
    let done = command.args(["metadata", "--format-version", "1", "--locked"]).args(more).current_dir(folder).output();
    let done = done.context("cannot run cargo")?;
    if !done.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(serde_json::from_slice(&done.stdout)?)
}

/// Runs one step by itself, prints the report, says whether it did not fail.
fn alone(name: &str, work: impl FnOnce() -> Outcome) -> bool {
    let mut report = Report::default();
    let begun = Instant::now();
    report.add(name, work(), begun.elapsed());
    println!("{}", report.render());
    report.succeeded()
}

/// Runs all steps, prints the report, says whether nothing failed.
fn test(tree: &Tree, quick: bool, filter: Option<&str>) -> bool {
    let step = |name: &'static str, when: When, work: &dyn Fn() -> Outcome| {
        let left_out = match when {
            When::NotQuick | When::NotQuickNorFiltered if quick => Some("left out by --quick"),
            When::NotFiltered | When::NotQuickNorFiltered if filter.is_some() => Some("left out by the filter"),
            _ => None,
        };
        let begun = Instant::now();
        let outcome = match left_out {
            Some(why) => Outcome::skip(name, why),
            None => {
                eprintln!("{name} …");
                work()
            }
        };
        (name, outcome, begun.elapsed())
    };
    let mut done = vec![
        step("packages", When::Always, &|| match packages::install(&tree.logs()) {
            Ok(()) => Outcome::pass(),
            Err(why) => Outcome::skip("system packages", why),
        }),
        step("formatting", When::NotFiltered, &|| tree.cargo_check("rustfmt", &["fmt", "--all", "--check"], &[])),
        step("formatting of the peers", When::NotFiltered, &|| {
            tree.cargo_check("rustfmt of the peers", &["fmt", "--manifest-path", bench::PEERS, "--check"], &[])
        }),
        step("licences", When::NotFiltered, &|| licences::check(&tree.metadata)),
        step("schema", When::NotFiltered, &|| schema::check(&tree.top)),
        step("schema history", When::NotFiltered, &|| schema::check_history(&tree.top)),
    ];
    // Compilers: one crate after the other waits for those that it needs, so that one build alone leaves processors idle. Each has a
    // folder of its own, which cargo locks.
    let (checked, built) = beside_each_other(
        || {
            [
                step("golden messages", When::NotFiltered, &|| tree.read_golden()),
                step("clippy", When::NotFiltered, &|| {
                    let words = ["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];
                    tree.cargo_check("clippy", &words, &[])
                }),
                step("documentation", When::NotFiltered, &|| {
                    let words = ["doc", "--workspace", "--no-deps", "--document-private-items"];
                    tree.cargo_check("rustdoc", &words, &[("RUSTDOCFLAGS", "--deny warnings")])
                }),
                step("build of the tests", When::NotFiltered, &|| unit::build(&tree.cargo, &tree.top, &tree.logs())),
            ]
        },
        || {
            [
                step("release build", When::NotQuick, &|| tree.build_program()),
                step("build for fuzzing", When::NotQuickNorFiltered, &|| fuzz::prepare(&tree.fuzzing())),
            ]
        },
    );
    done.extend(checked);
    done.extend(built);
    // Alone: these have to do with time, and with two processors.
    done.push(step("tests", When::Always, &|| unit::run(&tree.cargo, &tree.top, filter, &tree.logs())));
    done.push(step("ten million sleeps", When::NotQuickNorFiltered, &|| {
        let words = ["test", "--package", "cofferdam-imc", "--lib", "no_wake_up_is_lost", "--", "--nocapture"];
        tree.cargo_check("sleeps", &words, &[("COFFERDAM_SLEEPS", "10000000")])
    }));
    // Guests wait for a good part of their time, and what random bytes are tried on never waits: each takes what the other leaves.
    let (fuzzed, guests) = beside_each_other(
        || {
            [
                step("fuzz targets", When::NotFiltered, &|| tree.check_fuzz_targets()),
                step("fuzzing", When::NotQuickNorFiltered, &|| {
                    let each = |targets: usize| fuzz::CI_BUDGET.as_secs() / targets as u64;
                    fuzz::run(&tree.fuzzing(), &[], each)
                }),
            ]
        },
        || step("guests", When::NotQuick, &|| tree.guests_of_a_test_run(filter)),
    );
    done.extend(fuzzed);
    done.push(guests);
    let mut report = Report::default();
    done.into_iter().for_each(|(name, outcome, took)| report.add(name, outcome, took));
    println!("{}", report.render());
    report.succeeded()
}

/// Does both at the same time.
fn beside_each_other<A: Send, B>(one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B) -> (A, B) {
    std::thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        match one.join() {
            Ok(one) => (one, other),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Which runs have a step.
#[derive(Clone, Copy)]
enum When {
    Always,
    NotFiltered,
    NotQuick,
    NotQuickNorFiltered,
}

/// `cargo xtask nested`: builds the program, unless one is given, and boots the named scenarios.
fn guests(tree: &Tree, names: &[String], program: Option<PathBuf>) -> Result<bool> {
    let known: Vec<String> = nested::scenarios(&tree.top)?.into_iter().map(|scenario| scenario.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        bail!("there is no scenario {unknown}; there are {}", known.join(", "));
    }
    let mut report = Report::default();
    let begun = Instant::now();
    if let Err(why) = packages::install(Path::new(&tree.logs())) {
        report.add("packages", Outcome::skip("system packages", why), begun.elapsed());
    }
    if program.is_none() {
        eprintln!("release build …");
        let begun = Instant::now();
        report.add("release build", tree.build_program(), begun.elapsed());
    }
    if report.succeeded() {
        // The images are made elsewhere.
        let program = program.map_or_else(|| Ok(tree.program()), std::path::absolute)?;
        let begun = Instant::now();
        let wanted = |scenario: &nested::Scenario| match names {
            [] => scenario.only_by_name.is_none(),
            names => names.contains(&scenario.name),
        };
        report.add("guests", tree.guests(program, wanted), begun.elapsed());
    }
    println!("{}", report.render());
    Ok(report.succeeded())
}
