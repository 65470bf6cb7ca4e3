//! `cofferdam bench disks`: a guest's reads from a diskette and a disk, sandboxed, linked into the VMM, and by QEMU's devices.
//!
//! The guest is a ROM, which every PC starts alike, on media that all of them are given in turn. It times its own passes by the
//! time stamp counter, so that what starting takes is in none of them.

use super::contest::{Contest, Seats, seats};
use super::series::Series;
use super::{clock, machine, ticks};
use crate::args::BenchDisks;
use crate::catalogue::BuiltIn;
use crate::machine::{label, planned};
use crate::run::guests;
use crate::{drives, machine as devices};
use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use vmm::supervisor::{BootPlan, Console, ConsolePlan, Isolate, Pins, Plan, Signals, Vm};

/// Passes of one start that are measured, after one that warms up.
const PASSES: usize = 3;
/// Even where everything is emulated twice, a pass ends within this.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a running guest is asked what it has said.
const LOOK: Duration = Duration::from_millis(20);
/// QEMU, where it is on the path.
const QEMU: &str = "qemu-system-x86_64";

/// Bytes of the disk, of which a pass by bus master reads half; and of a diskette with 80 cylinders of 36 sectors.
const DISK_BYTES: u64 = 32 << 20;
const DISKETTE_BYTES: u64 = 1440 << 10;

/// What is read, and how.
#[derive(Clone, Copy)]
struct Reads {
    name: &'static str,
    guest: guests::Disks,
    /// Sectors of a pass.
    sectors: f64,
    is_diskette: bool,
}

const READS: [Reads; 3] = [
    Reads { name: "IDE PIO read", guest: guests::Disks::Pio, sectors: 1024.0, is_diskette: false },
    Reads { name: "IDE DMA read", guest: guests::Disks::BusMaster, sectors: 32768.0, is_diskette: false },
    Reads { name: "floppy read", guest: guests::Disks::Diskette, sectors: 2880.0, is_diskette: true },
];

/// Measures a guest's reads, in time for each sector.
pub fn disks(asked: &BenchDisks, signals: &Signals) -> Result<Vec<Series>> {
    let folder = tempfile::tempdir().context("a folder for the media")?;
    let files = Files::make(folder.path())?;
    let qemu = match &asked.qemu {
        Some(program) => Some(program.clone()),
        None => find(QEMU),
    };
    if qemu.is_none() && !asked.common.json {
        eprintln!("{QEMU} is not here, so nothing is compared with it; --qemu PATH says where it is");
    }
    let frequency = ticks::per_nanosecond();
    let mut contest = Contest::default();
    for seats in seats()? {
        for reads in READS {
            let linked = format!("{}, in-process", reads.name);
            let theirs = format!("{}, QEMU", reads.name);
            let per_sector = move |passes: Vec<u64>| {
                let each = |ticks: u64| ticks as f64 / frequency / reads.sectors;
                passes.into_iter().map(each).collect::<Vec<f64>>()
            };
            let (files, qemu) = (&files, qemu.as_deref());
            if let Some(qemu) = qemu {
                contest.add(&theirs, seats.placement, &[&theirs], move || {
                    Ok(per_sector(by_qemu(qemu, files, reads, seats)?))
                });
            }
            let beside = if qemu.is_some() { vec![theirs.as_str()] } else { vec![linked.as_str()] };
            contest.add(&linked, seats.placement, &beside, move || {
                Ok(per_sector(by_us(files, reads, Isolate::None, seats, signals)?))
            });
            let sandboxed = format!("{}, sandboxed", reads.name);
            contest.add(&sandboxed, seats.placement, &[&linked], move || {
                Ok(per_sector(by_us(files, reads, Isolate::Device, seats, signals)?))
            });
        }
    }
    contest.run(&asked.common)
}

/// What the machines are made of.
struct Files {
    disk: PathBuf,
    diskette: PathBuf,
    roms: [PathBuf; READS.len()],
}

impl Files {
    fn make(folder: &Path) -> Result<Files> {
        let medium = |name: &str, bytes: u64| -> Result<PathBuf> {
            let path = folder.join(name);
            // Written, so that it is in memory: what is measured is the way from there.
            std::fs::write(&path, vec![0x5a; bytes as usize]).with_context(|| path.display().to_string())?;
            Ok(path)
        };
        let mut roms = READS.map(|reads| folder.join(reads.name));
        for (path, reads) in roms.iter_mut().zip(READS) {
            std::fs::write(&*path, guests::disks(reads.guest)).with_context(|| path.display().to_string())?;
        }
        Ok(Files { disk: medium("disk", DISK_BYTES)?, diskette: medium("diskette", DISKETTE_BYTES)?, roms })
    }

    fn medium(&self, reads: Reads) -> &Path {
        if reads.is_diskette { &self.diskette } else { &self.disk }
    }

    fn rom(&self, reads: Reads) -> &Path {
        &self.roms[reads.guest as usize]
    }
}

/// Ticks of some passes in a machine of ours.
fn by_us(files: &Files, reads: Reads, isolate: Isolate, seats: Seats, signals: &Signals) -> Result<Vec<u64>> {
    // The supervisor stays off the vcpu's processor where there is another.
    clock::pin(seats.answerer)?;
    let pins = Pins { vmm: seats.caller, hosts: seats.answerer };
    let image = vec![format!("{},readonly", files.medium(reads).display())];
    let drive = if reads.is_diskette { devices::floppy(&image)? } else { drives::ide(&image, &[])? };
    let mut devices = vec![planned("uart16550", Vec::new(), Vec::new()), drive];
    label(&mut devices);
    let boot = BootPlan::Firmware { image: guests::disks(reads.guest) };
    let plan = Plan { devices, ..machine(boot, isolate, Some(pins)) };
    let mut console = Console::open(&ConsolePlan::Quiet)?;
    let mut vm = Vm::start(&plan, &BuiltIn, signals)?;
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(ended) = vm.run_until(&mut console, signals, Instant::now() + LOOK)? {
            bail!("the bench's guest ended: {ended:?}");
        }
        let (said, _) = console.since(0, usize::MAX);
        let mut passes = Passes::default();
        String::from_utf8_lossy(&said).split_inclusive('\n').try_for_each(|line| passes.add(line))?;
        if let Some(measured) = passes.measured() {
            return Ok(measured);
        }
        ensure!(Instant::now() < end, "the bench's guest makes no progress");
    }
}

/// Ticks of some passes in QEMU's machine.
fn by_qemu(qemu: &Path, files: &Files, reads: Reads, seats: Seats) -> Result<Vec<u64>> {
    run_on(&[seats.caller, seats.answerer])?;
    let interface = if reads.is_diskette { "floppy" } else { "ide" };
    let drive = format!("file={},format=raw,if={interface}", files.medium(reads).display());
    let child = Command::new(qemu)
        .args(["-machine", "pc", "-accel", "kvm", "-m", "64", "-nodefaults", "-no-user-config", "-display", "none"])
        // For guests of 32 bits whose driver is of another kind; it would want a file of QEMU's that may not be here.
        .args(["-global", "apic-common.vapic=off"])
        .args(["-monitor", "none", "-serial", "stdio", "-bios"])
        .arg(files.rom(reads))
        .args(["-drive", &drive])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .with_context(|| qemu.display().to_string())?;
    let mut running = Running(child);
    let said = running.0.stdout.take().context("its output is a pipe")?;
    let mut passes = Passes::default();
    for line in BufReader::new(said).lines() {
        passes.add(&format!("{}\n", line?))?;
        if let Some(measured) = passes.measured() {
            return Ok(measured);
        }
    }
    bail!("{} ended before the bench's guest had read", qemu.display());
}

/// A program that does not outlive its use.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a guest has said of its passes.
#[derive(Default)]
struct Passes(Vec<u64>);

impl Passes {
    /// A line, as far as it has come.
    fn add(&mut self, line: &str) -> Result<()> {
        ensure!(!line.contains('E'), "the bench's guest found something wrong");
        if let Some(ticks) = line.strip_suffix('\n') {
            self.0.push(u64::from_str_radix(ticks.trim(), 16).with_context(|| format!("a guest that says {line:?}"))?);
        }
        Ok(())
    }

    /// All but the first, if there are enough.
    fn measured(&self) -> Option<Vec<u64>> {
        self.0.get(1..=PASSES).map(<[u64]>::to_vec)
    }
}

/// Has what is started from here run on these processors.
fn run_on(processors: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    processors.iter().try_for_each(|processor| set.set(*processor))?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// A program on the path.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_that_finds_something_wrong_or_says_something_else_is_no_figure() {
        let mut passes = Passes::default();
        assert!(passes.add("E").is_err() && passes.add("what?\n").is_err());
        passes.add("00000000000000ff\n").unwrap();
        passes.add("0000").unwrap();
        assert_eq!((passes.0.as_slice(), passes.measured()), ([255].as_slice(), None));
    }

    #[test]
    fn first_pass_warms_up() {
        let mut passes = Passes::default();
        for ticks in 0..=PASSES {
            assert_eq!(passes.measured(), None);
            passes.add(&format!("{ticks:016x}\n")).unwrap();
        }
        assert_eq!(passes.measured(), Some(vec![1, 2, 3]));
    }
}
