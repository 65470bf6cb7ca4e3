//! The outer machine: starts it, listens to it, ends it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::images::Images;
use super::{Scenario, audit};
use crate::command::{self, Progress};
use crate::packages;
use crate::report::Outcome;

/// How often we look at the time while the guest is silent.
const TICK: Duration = Duration::from_millis(500);

/// The outer machine shows every few seconds that its clock goes on. Silent for so long, it stands still: even a machine that
/// gets a tenth of a processor says something in this time.
const SILENCE: Duration = Duration::from_secs(150);

/// What became of an outer machine.
pub enum Run {
    /// It ran to its end, or to that of its time.
    Done(Outcome),
    /// It broke down itself: nothing was learnt. What happened, for people.
    BrokeDown(String),
}

/// One line from the guest's second serial port.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Passed(&'a str),
    Failed(&'a str, &'a str),
    Skipped(&'a str, &'a str),
    /// What `ps --audit --json` said, to be judged here.
    Audit(&'a str, &'a str),
    /// What a bench measured, to be shown as a table.
    Bench(&'a str),
    /// What a guest's display shows, for people: a name, and a PNG file in hexadecimal.
    Picture(&'a str, &'a str),
    /// A line for whoever watches.
    Note(&'a str),
    /// The script ran to its end, unless a reason follows.
    End(&'a str),
    /// A sign of life.
    Alive,
    Other,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Self {
        let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let (name, rest_of_it) = rest.split_once(' ').unwrap_or((rest, ""));
        match word {
            "TEST" => match rest_of_it.split_once(' ').unwrap_or((rest_of_it, "")) {
                ("ok", _) => Self::Passed(name),
                ("FAIL", why) => Self::Failed(name, why),
                ("SKIP", why) => Self::Skipped(name, why),
                _ => Self::Other,
            },
            "AUDIT" => Self::Audit(name, rest_of_it),
            "BENCH" => Self::Bench(rest),
            "PICTURE" => Self::Picture(name, rest_of_it),
            "NOTE" => Self::Note(rest),
            "END" => Self::End(rest),
            "ALIVE" => Self::Alive,
            _ => Self::Other,
        }
    }
}

/// Boots the outer machine for one scenario and listens until it is off or its time is over. What it took of a processor is added
/// to `busy`.
pub fn run(scenario: &Scenario, images: &Images, work: &Path, busy: &mut Duration) -> Result<Run> {
    let logs = work.join("logs");
    std::fs::create_dir_all(&logs)?;
    let log = logs.join(format!("nested-{}.log", scenario.name));
    let mut machine = Machine::start(scenario, images, &log)?;
    let output = machine.0.stdout.take().context("qemu has no output")?;
    let errors = machine.0.stderr.take().context("qemu has no error output")?;
    let (sender, lines) = mpsc::channel();
    command::forward(errors, sender.clone());
    command::forward(output, sender);
    let run = listen(scenario, &lines, &log, work);
    *busy += machine.busy();
    run
}

/// Listens to a machine until it is off or its time is over.
fn listen(scenario: &Scenario, lines: &mpsc::Receiver<String>, log: &Path, work: &Path) -> Result<Run> {
    let deadline = Instant::now() + scenario.limit;
    let mut progress = Progress::start(&scenario.name);
    let mut outcome = Outcome::default();
    let mut ended = None;
    let mut heard = Instant::now();
    let mut others = Vec::new();
    let named = |name: &str| format!("{} / {name}", scenario.name);
    while Instant::now() < deadline {
        let line = match lines.recv_timeout(TICK) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Timeout) if heard.elapsed() > SILENCE => {
                progress.clear();
                return Ok(Run::BrokeDown("the emulated machine stood still".to_owned()));
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                progress.show("");
                continue;
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        };
        heard = Instant::now();
        let parsed = Line::parse(&line);
        if !matches!(parsed, Line::Alive | Line::Picture(..)) {
            progress.show(&line);
        }
        match parsed {
            Line::Alive => {}
            Line::Passed(_) => outcome.passed += 1,
            Line::Failed(name, why) => {
                progress.clear();
                eprintln!("    {} FAILED: {why}", named(name));
                outcome.add_failure(&named(name), why);
            }
            Line::Skipped(name, why) => outcome.add_skip(&named(name), why),
            Line::Audit(name, json) => match audit::judge(json) {
                Ok(()) => outcome.passed += 1,
                Err(why) => outcome.add_failure(&named(name), why),
            },
            Line::Bench(json) => {
                progress.clear();
                println!("{}", bench_table(json));
            }
            Line::Picture(name, hex) => {
                if let Err(error) = keep_picture(work, name, hex) {
                    outcome.add_failure(&named(name), format!("the picture: {error:#}"));
                }
            }
            Line::Note(text) => {
                progress.clear();
                eprintln!("    {}: {text}", scenario.name);
            }
            Line::End(why) => ended = Some(why.to_owned()),
            Line::Other => others.push(line),
        }
    }
    progress.clear();
    let text = || String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).replace('\r', "");
    if ended.is_none() && Instant::now() < deadline && ends_in_a_panic(&text()) {
        return Ok(Run::BrokeDown("the emulated machine's own kernel panicked".to_owned()));
    }
    let unfinished = match ended {
        Some(why) if why.is_empty() => None,
        Some(why) => Some(format!("the script ended {why}")),
        None if Instant::now() >= deadline => Some(format!("not done after {} s", scenario.limit.as_secs())),
        None => Some("the outer machine went off before the script's end".to_owned()),
    };
    if let Some(why) = unfinished {
        outcome.add_failure(&scenario.name, format!("{why}\n{}", command::tail(&others.join("\n"))));
    }
    if !outcome.failed.is_empty() {
        outcome.add_failure(&named("log"), format!("the end of {}:\n{}", log.display(), command::tail(&text())));
    }
    Ok(Run::Done(outcome))
}

/// Writes a picture that a scenario took to `pictures/NAME.png` of our folder.
fn keep_picture(work: &Path, name: &str, hex: &str) -> Result<()> {
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        bail!("`{name}` is no name for one");
    }
    let digits: Vec<u32> =
        hex.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>().context("not hexadecimal")?;
    let (pairs, []) = digits.as_chunks() else { bail!("half a byte") };
    let folder = work.join("pictures");
    std::fs::create_dir_all(&folder)?;
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| (high << 4 | low) as u8).collect();
    Ok(std::fs::write(folder.join(format!("{name}.png")), bytes)?)
}

/// Whether the last thing that a kernel said on this console is why it panicked. What guests said is further up, if it is there.
fn ends_in_a_panic(console: &str) -> bool {
    const LAST_WORDS: usize = 4;
    console.lines().rev().filter(|line| !line.trim().is_empty()).take(LAST_WORDS).any(|line| {
        line.starts_with('[') && (line.contains("] Kernel Offset: ") || line.contains("end Kernel panic - not syncing"))
    })
}

/// The rows of a bench, one a line, ratios with what they are against.
fn bench_table(json: &str) -> String {
    let Ok(serde_json::Value::Array(rows)) = serde_json::from_str(json) else { return json.to_owned() };
    let line = |row: &serde_json::Value| {
        let text = |field: &str| row[field].as_str().unwrap_or("-").to_owned();
        let number = |field: &str| row[field].as_f64().map_or("-".to_owned(), |value| format!("{value:.3}"));
        format!(
            "    {} ({}): median {} {}, p99 {}, {} rounds, {} × {}",
            text("name"),
            text("placement"),
            number("median"),
            text("unit"),
            number("p99"),
            row["rounds"],
            number("ratio"),
            text("base")
        )
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The pace of the emulated time stamp counter, which is this computer's own: half of what its kernel calls BogoMIPS. An outer
/// kernel that measures it while something else has the processor has been seen to take a clock that runs three times too fast,
/// and to give up what had just begun.
fn counter_khz(cpuinfo: &str) -> Option<u64> {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("bogomips"))?;
    let bogomips: f64 = line.trim_start_matches([' ', '\t', ':']).parse().ok()?;
    Some((bogomips * 500.0) as u64)
}

/// User and system time of a process, which its row of /proc has in ticks (proc(5)).
fn processor_time(stat: &str) -> Option<Duration> {
    /// What Linux tells user space is always this many a second.
    const TICKS_PER_SECOND: u64 = 100;
    // The name before it may have brackets and spaces.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// A running QEMU, which does not outlive this value.
struct Machine(Child);

impl Machine {
    fn start(scenario: &Scenario, images: &Images, log: &Path) -> Result<Self> {
        let qemu = packages::find("qemu-system-x86_64").map_err(anyhow::Error::msg)?;
        let mut words =
            format!("console=ttyS0 panic=-1 quiet scenario={} on={} tsc=reliable", scenario.name, scenario.root);
        // The kernel wants four interrupts of its timer within a moment of real time, and goes on without any if a busy computer
        // has not emulated so many. A guest of KVM does not look, either.
        words.push_str(" no_timer_check");
        if let Some(khz) = std::fs::read_to_string("/proc/cpuinfo").ok().as_deref().and_then(counter_khz) {
            words.push_str(&format!(" tsc_early_khz={khz}"));
        }
        if let Some(modules) = &scenario.modules {
            words.push_str(&format!(" lsm={modules} audit_backlog_limit=8192"));
        }
        // With setpriv (util-linux) the kernel ends the machine should we be killed.
        let mut command = match packages::find("setpriv") {
            Ok(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL"]).arg(qemu);
                command
            }
            Err(_) => Command::new(qemu),
        };
        command.args(["-accel", "tcg", "-cpu", "max,svm=on", "-smp", "2"]);
        command.args(["-m", &scenario.memory_mib.to_string()]);
        command.args(["-nodefaults", "-no-reboot", "-display", "none", "-monitor", "none"]);
        command.arg("-kernel").arg(&images.kernel).arg("-initrd").arg(&images.initramfs).args(["-append", &words]);
        command.args(["-serial", &format!("file:{}", log.display()), "-serial", "stdio"]);
        // Each scenario finds the drive as it was built.
        command.args(["-drive", &format!("file={},format=raw,if=virtio,snapshot=on", images.drive.display())]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Self(command.spawn().context("qemu-system-x86_64")?))
    }

    /// What it has taken of a processor; that is there to be read until it is waited for.
    fn busy(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        processor_time(&stat).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_guest_are_told_apart_from_noise() {
        assert_eq!(Line::parse("TEST boots ok\r"), Line::Passed("boots"));
        assert_eq!(Line::parse("TEST boots FAIL no shell, no prompt"), Line::Failed("boots", "no shell, no prompt"));
        assert_eq!(Line::parse("TEST boots SKIP no disk"), Line::Skipped("boots", "no disk"));
        assert_eq!(Line::parse("AUDIT audit [{\"a\": 1}]"), Line::Audit("audit", "[{\"a\": 1}]"));
        assert_eq!(Line::parse("BENCH []"), Line::Bench("[]"));
        assert_eq!(Line::parse("PICTURE a 8950\r"), Line::Picture("a", "8950"));
        assert_eq!(Line::parse("ALIVE\r"), Line::Alive);
        assert_eq!(Line::parse("END"), Line::End(""));
        assert_eq!(Line::parse("END with status 2"), Line::End("with status 2"));
        assert_eq!(Line::parse("TEST boots maybe"), Line::Other);
        assert_eq!(Line::parse("qemu: cannot allocate"), Line::Other);
    }

    #[test]
    fn picture_is_kept_under_a_name_that_leads_nowhere_else() {
        let work = tempfile::tempdir().unwrap();
        for (name, hex) in [("../a", "00"), ("", "00"), ("a", "0"), ("a", "0g")] {
            assert!(keep_picture(work.path(), name, hex).is_err(), "{name} {hex}");
        }
        keep_picture(work.path(), "a-1", "89504e").unwrap();
        assert_eq!(std::fs::read(work.path().join("pictures/a-1.png")).unwrap(), [0x89, 0x50, 0x4e]);
    }

    #[test]
    fn machine_whose_kernel_panics_is_told_from_one_that_goes_off() {
        let trace = "GUEST ready\n[   27.264076]  </TASK>\n[   27.264541] Kernel Offset: 0x31200000 from 0xffffffff81000000\n\n";
        assert!(ends_in_a_panic(trace));
        assert!(ends_in_a_panic("[    3.1] ---[ end Kernel panic - not syncing: Fatal exception ]---\n"));
        assert!(!ends_in_a_panic("--- panic.log\n[ 3.1] ---[ end Kernel panic - not syncing ]---\na\nb\nc\nd\n"));
        assert!(!ends_in_a_panic("[   30.1] reboot: Power down\n"));
        assert!(!ends_in_a_panic(""));
    }

    #[test]
    fn counter_runs_at_half_of_the_bogomips() {
        assert_eq!(counter_khz("processor\t: 0\nbogomips\t: 5192.27\n"), Some(2_596_135));
        assert_eq!(counter_khz("BogoMIPS\t: 50.00\n"), None, "another architecture's, which means something else");
    }

    #[test]
    fn processor_time_is_that_of_user_and_system() {
        let stat = "7 (qemu (x) y) S 1 7 7 0 -1 4194304 9 0 0 0 250 50 1 1 20 0 4 0 100 5000 9\n";
        assert_eq!(processor_time(stat), Some(Duration::from_secs(3)));
        assert_eq!(processor_time(""), None);
    }

    #[test]
    fn a_bench_row_says_what_its_ratio_is_against() {
        let row = r#"[{"name": "boot", "placement": "any", "median": 3.5, "p99": 4, "unit": "s", "rounds": 7,
            "base": "boot unisolated", "ratio": 1.05}]"#;
        assert!(bench_table(row).contains("boot (any): median 3.500 s"));
        assert!(bench_table(row).contains("1.050 × boot unisolated"));
    }
}
