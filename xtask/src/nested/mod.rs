//! Tests that boot Linux guests on nested KVM.
//!
//! An emulated machine (QEMU's TCG, with SVM) boots Debian's kernel and takes the part of the host; inside it our
//! program boots the same kernel again, or the one with drivers for a PC's own devices. The scenarios are shell scripts under `tests/nested`; each gets an outer
//! machine of its own and reports its tests over a serial port.

mod audit;
mod images;
mod kernel;
mod machine;
mod plugins;
mod room;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::packages;
use crate::report::Outcome;
use images::{Images, Kernels};
use room::Room;

/// How long a scenario may take where its file says nothing. Most take a minute or two on two cores, and twice that beside others.
const LIMIT: Duration = Duration::from_secs(1200);
/// How long it takes where the file says nothing.
const TAKES: Duration = Duration::from_secs(60);
/// Memory of the outer machine where the file says nothing.
const MEMORY_MIB: u64 = 3072;

/// One script: an outer machine, some inner guests, some tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// The script's name without `.sh`.
    pub name: String,
    /// Memory of the outer machine, in MiB.
    pub memory_mib: u64,
    /// When the outer machine is given up.
    pub limit: Duration,
    /// How long it takes, roughly: the longest are begun first.
    pub takes: Duration,
    /// Security modules of the outer machine's kernel, where the script names them.
    pub modules: Option<String>,
    /// Which root the script sees: `disk`, or `initramfs`, which cannot be pivoted away.
    pub root: String,
    /// Why it is left out unless it is named.
    pub only_by_name: Option<String>,
}

impl Scenario {
    /// Reads the comments at the top of a script: `# memory: MIB`, `# limit: SECONDS`, `# takes: SECONDS`,
    /// `# on: initramfs`, `# lsm: MODULES`, `# only by name: WHY`.
    fn parse(name: &str, script: &str) -> Result<Self> {
        let mut scenario = Self {
            name: name.to_owned(),
            memory_mib: MEMORY_MIB,
            limit: LIMIT,
            takes: TAKES,
            modules: None,
            root: "disk".to_owned(),
            only_by_name: None,
        };
        for line in script.lines().map_while(|line| line.strip_prefix('#')) {
            let Some((key, value)) = line.split_once(": ") else { continue };
            let value = value.trim();
            let number = || value.parse::<u64>().with_context(|| format!("{name}: {key}"));
            match key.trim() {
                "memory" => scenario.memory_mib = number()?,
                "limit" => scenario.limit = Duration::from_secs(number()?),
                "takes" => scenario.takes = Duration::from_secs(number()?),
                "lsm" => scenario.modules = Some(value.to_owned()),
                "on" if ["disk", "initramfs"].contains(&value) => scenario.root = value.to_owned(),
                "on" => bail!("{name}: no such root: {value}"),
                "only by name" => scenario.only_by_name = Some(value.to_owned()),
                _ => {}
            }
        }
        Ok(scenario)
    }
}

/// All scenarios of the tree, by name.
pub fn scenarios(top: &Path) -> Result<Vec<Scenario>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(top.join("tests/nested"))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_some_and(|extension| extension == "sh") && name != "lib" {
            found.push(Scenario::parse(&name, &std::fs::read_to_string(&path)?)?);
        }
    }
    found.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(found)
}

/// How often the outer machine is started for one scenario. Under emulation a guest stands still or resets by itself in about one
/// boot of a hundred: the emulator may deliver an injected interrupt twice (docs/decisions/0009). What fails so often running is
/// no accident.
const STARTS_MAX: u32 = 3;

/// A device host of the tests, which is built beside the program as an example.
pub const GREEDY: &str = "greedy_host";
/// Reads text off a picture of a screen; built in the same way.
pub const READ_SCREEN: &str = "read_screen";

/// Where things are.
pub struct Places<'a> {
    /// The top of the tree.
    pub top: &'a Path,
    /// Our own folder under `target`.
    pub work: PathBuf,
    /// The program under test.
    pub program: PathBuf,
}

/// Boots the scenarios that `wanted` accepts, as many beside each other as there is room for.
pub fn run(places: &Places<'_>, wanted: impl Fn(&Scenario) -> bool) -> Outcome {
    let mut outcome = Outcome::default();
    let scenarios = match scenarios(places.top) {
        Ok(scenarios) => scenarios,
        Err(error) => return Outcome::fail("scenarios", format!("{error:#}")),
    };
    let chosen: Vec<&Scenario> = scenarios.iter().filter(|scenario| wanted(scenario)).collect();
    if chosen.is_empty() {
        return outcome;
    }
    let skip_all = |why: &str| {
        let mut outcome = Outcome::default();
        chosen.iter().for_each(|scenario| outcome.add_skip(&scenario.name, why));
        outcome
    };
    if !places.program.is_file() {
        return Outcome::fail("program", format!("there is no {}", places.program.display()));
    }
    if let Some(missing) = ["qemu-system-x86_64", "busybox", "depmod", "mkfs.ext4"]
        .iter()
        .find_map(|program| packages::find(program).err())
    {
        return skip_all(&missing);
    }
    let obtain = |flavour| kernel::obtain(&places.work, flavour);
    let kernels = match obtain(&kernel::CLOUD).and_then(|cloud| Ok(Kernels { cloud, full: obtain(&kernel::FULL)? })) {
        Ok(kernels) => kernels,
        Err(error) => return skip_all(&format!("there is no guest kernel: {error:#}")),
    };
    // Two runs would build each other's images away.
    let lock = std::fs::File::create(places.work.join("nested.lock"));
    if let Err(error) = lock.as_ref().map_err(ToString::to_string).and_then(|lock| {
        lock.try_lock().or_else(|_| {
            eprintln!("  waiting for another run that boots guests …");
            lock.lock().map_err(|error| error.to_string())
        })
    }) {
        return Outcome::fail("lock", error);
    }
    let images = match Images::build(places, &kernels) {
        Ok(images) => images,
        Err(error) => return Outcome::fail("images", format!("{error:#}")),
    };
    let room = Room::new(chosen);
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..room.beside_each_other() {
            scope.spawn(|| {
                while let Some(scenario) = room.next() {
                    let outcome = match scenario {
                        room::Next::Fits(scenario) => {
                            let outcome = boot_and_tell(scenario, &images, &places.work);
                            room.leave(scenario);
                            (scenario, outcome)
                        }
                        room::Next::TooLarge(scenario, why) => (scenario, Outcome::skip(&scenario.name, why)),
                    };
                    found.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
                }
            });
        }
    });
    // The report has them by name, in whichever order they ended.
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    found.into_iter().for_each(|(_, one)| outcome.merge(one));
    outcome
}

/// Boots one scenario; says when it begins and what came of it.
fn boot_and_tell(scenario: &Scenario, images: &Images, work: &Path) -> Outcome {
    eprintln!("  {} …", scenario.name);
    let begun = Instant::now();
    let mut busy = Duration::ZERO;
    let found = boot(scenario, images, work, &mut busy)
        .unwrap_or_else(|error| Outcome::fail(&scenario.name, format!("the outer machine did not run: {error:#}")));
    eprintln!(
        "  {}: {} passed, {} failed, {} skipped, {:.0} s, {:.0} of a processor",
        scenario.name,
        found.passed,
        found.failed.len(),
        found.skipped.len(),
        begun.elapsed().as_secs_f64(),
        busy.as_secs_f64()
    );
    found
}

/// Boots the outer machine for one scenario, and once more when that breaks down or something in it fails. A start that was given
/// up is no secret: the summary has it among what did not run, with the reason, and its log is kept.
/// What the machines took of a processor is added to `busy`.
fn boot(scenario: &Scenario, images: &Images, work: &Path, busy: &mut Duration) -> anyhow::Result<Outcome> {
    let mut given_up = Outcome::default();
    let mut start = 1;
    loop {
        let (mut outcome, why) = match machine::run(scenario, images, work, busy)? {
            machine::Run::Done(outcome) => {
                let names: Vec<&str> = outcome.failed.iter().map(|finding| finding.name.as_str()).collect();
                let why = format!("failed: {}", names.join(", "));
                (outcome, why)
            }
            machine::Run::BrokeDown(how) => (Outcome::fail(&scenario.name, &how), how),
        };
        if outcome.failed.is_empty() || start == STARTS_MAX {
            outcome.merge(given_up);
            return Ok(outcome);
        }
        let log = |suffix: &str| work.join("logs").join(format!("nested-{}{suffix}.log", scenario.name));
        let kept = log(&format!("-start-{start}"));
        std::fs::rename(log(""), &kept)?;
        let why = format!("given up and started anew; {why}; its log is {}", kept.display());
        eprintln!("    {}: start {start} of {STARTS_MAX} {why}", scenario.name);
        given_up.add_skip(&format!("{}, start {start}", scenario.name), why);
        start += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_says_what_machine_it_needs() {
        let script =
            "# memory: 7168\n# takes: 40\n# lsm: selinux\n# on: initramfs\n# Words: about it.\n. lib.sh\n# limit: 5\n";
        let scenario = Scenario::parse("large", script).unwrap();
        assert_eq!((scenario.memory_mib, scenario.root.as_str()), (7168, "initramfs"));
        assert_eq!(scenario.modules.as_deref(), Some("selinux"));
        assert_eq!(scenario.takes, Duration::from_secs(40));
        assert_eq!(scenario.limit, LIMIT, "only the comments at the top count");
        assert!(Scenario::parse("odd", "# on: floppy\n").is_err());
    }

    #[test]
    fn every_script_of_the_tree_is_understood() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let scenarios = scenarios(top).unwrap();
        assert!(scenarios.iter().any(|scenario| scenario.name == "boot" && scenario.only_by_name.is_none()));
    }
}
