//! `cofferdam bench sandbox`: what each level of the sandbox costs, in one run.
//!
//! A register access is one to a device of registers. That needs no helper, so the two rows of level `strict` measure the same
//! process twice: how far they are apart is how much the run is to be believed.

use super::clock::samples;
use super::contest::{Contest, Seats, seats};
use super::series::{Placement, Series};
use crate::args::BenchCommon;
use crate::catalogue::{BuiltIn, Linked};
use crate::machine::planned;
use anyhow::{Context, Result, ensure};
use sandbox::HelperForm;
use schema::host::Level;
use schema::lane::Carrier;
use std::time::Duration;
use vmm::supervisor::{
    Backing, GuestWindow, Pins, PlannedDevice, Reached, reach, time_empty_program, time_restart, time_spawn,
};

/// A device of registers: one of them is posted, one not.
const CLOCK: &str = "mc146818";
const INDEX: u64 = 0;
const DATA: u64 = 1;
/// An index at which there is plain memory.
const PLAIN: u64 = 0x40;
/// A device that needs system calls of its own.
const DISK: &str = "virtio-block";
const DISK_BYTES: usize = 1 << 20;

/// One way to confine a device.
#[derive(Clone, Copy)]
struct Variant {
    name: &'static str,
    /// What it is compared with.
    base: &'static str,
    level: Level,
    helper: HelperForm,
}

const fn variant(name: &'static str, base: &'static str, level: Level, helper: HelperForm) -> Variant {
    Variant { name, base, level, helper }
}

const VARIANTS: [Variant; 5] = [
    variant("off", "off", Level::Off, HelperForm::Process),
    variant("process", "off", Level::Process, HelperForm::Process),
    variant("seccomp", "process", Level::Seccomp, HelperForm::Process),
    variant("strict+process", "seccomp", Level::Strict, HelperForm::Process),
    variant("strict+thread", "seccomp", Level::Strict, HelperForm::Thread),
];

impl Variant {
    fn device(self, name: &str) -> PlannedDevice {
        let backing = if name == DISK { vec![Backing::Memory(contents())] } else { Vec::new() };
        PlannedDevice { level: self.level, helper: self.helper, ..planned(name, Vec::new(), backing) }
    }

    fn reach(self, name: &str, seats: Seats, poll: bool) -> Result<Reached> {
        let pins = Pins { vmm: seats.caller, hosts: seats.answerer };
        reach(&self.device(name), &BuiltIn, &Linked, Carrier::Memory, poll, pins)
    }
}

/// Bytes of which no sector is like another.
fn contents() -> Vec<u8> {
    (0..DISK_BYTES).map(|at| (at / 512 * 7 + at % 251) as u8).collect()
}

/// Measures all of them in turn.
pub fn sandbox(common: &BenchCommon) -> Result<Vec<Series>> {
    // Pins the calling thread, so it comes last.
    let started = starts(common)?;
    let mut contest = Contest::default();
    for seats in seats()? {
        let spare = seats.placement == Placement::Cross;
        for (how, poll) in [("awake", true), ("asleep", false)].into_iter().filter(|(_, poll)| spare || !poll) {
            for what in ["register access", "4 KiB read"] {
                for variant in VARIANTS {
                    let name = |variant: &str| format!("{what}, {how}, {variant}");
                    let base = name(variant.base);
                    contest.add(&name(variant.name), seats.placement, &[&base], move || match what {
                        "4 KiB read" => block_reads(variant, seats, poll),
                        _ => register_accesses(variant, seats, poll),
                    });
                }
            }
        }
    }
    let mut series = contest.run(common)?;
    series.extend(started);
    Ok(series)
}

/// Loads that only the device can answer.
fn register_accesses(variant: Variant, seats: Seats, poll: bool) -> Result<Vec<f64>> {
    let reached = variant.reach(CLOCK, seats, poll)?;
    reached.lane.write(0, INDEX, 1, PLAIN, 0)?;
    samples(|count| {
        for _ in 0..count {
            reached.lane.read(0, DATA, 1, 0)?;
        }
        Ok(())
    })
}

/// Requests for 4 KiB, from the doorbell to the interrupt, one after the other.
fn block_reads(variant: Variant, seats: Seats, poll: bool) -> Result<Vec<f64>> {
    let mut driver = Driver::start(variant.reach(DISK, seats, poll)?, poll)?;
    driver.read(8)?;
    let read = driver.memory.read::<4096>(BUFFER);
    ensure!(read == contents()[8 * 512..][..4096], "the disk reads other bytes than it has");
    samples(|count| {
        for _ in 0..count {
            driver.read(8)?;
        }
        Ok(())
    })
}

const RING: u64 = 0x20_0000;
const AVAILABLE: u64 = RING + 0x1000;
const USED: u64 = RING + 0x2000;
const HEADER: u64 = 0x21_0000;
const STATUS: u64 = HEADER + 0x80;
const BUFFER: u64 = 0x21_1000;
/// Entries of the queue.
const SIZE: u64 = 8;
/// The MSI-X vector of the queue.
const VECTOR: usize = 1;
/// Looks for an answer: some seconds of them.
const LOOKS_MAX: u64 = 1 << 30;

/// A guest's driver of the disk, without a guest.
struct Driver {
    reached: Reached,
    memory: GuestWindow,
    available: u16,
    poll: bool,
}

impl Driver {
    /// Negotiates, and sets the queue up (virtio 1.2, 3.1.1).
    fn start(reached: Reached, poll: bool) -> Result<Driver> {
        let memory = reached.low_memory()?;
        let registers = [
            // Device status: acknowledge, driver; features: version 1; features agreed.
            (0x14, 1, 0),
            (0x14, 1, 1),
            (0x14, 1, 3),
            (0x08, 4, 1),
            (0x0c, 4, 1),
            (0x14, 1, 11),
            // Queue 0, its size, vector and three parts.
            (0x16, 2, 0),
            (0x18, 2, SIZE),
            (0x1a, 2, VECTOR as u64),
            (0x20, 4, RING),
            (0x24, 4, 0),
            (0x28, 4, AVAILABLE),
            (0x2c, 4, 0),
            (0x30, 4, USED),
            (0x34, 4, 0),
            (0x1c, 2, 1),
            // Driver ready.
            (0x14, 1, 15),
        ];
        for (offset, width, value) in registers {
            reached.lane.write(0, offset, width, value, 0)?;
        }
        ensure!(reached.lane.read(0, 0x14, 1, 0)? == 15, "the disk does not start");
        Ok(Driver { reached, memory, available: 0, poll })
    }

    /// Reads 4 KiB from this sector on.
    fn read(&mut self, sector: u64) -> Result<()> {
        let mut header = [0; 16];
        header[8..].copy_from_slice(&sector.to_le_bytes());
        self.memory.write(HEADER, &header);
        self.describe(0, HEADER, 16, 1, 1);
        self.describe(1, BUFFER, 4096, 1 | 2, 2);
        self.describe(2, STATUS, 1, 2, 0);
        let slot = AVAILABLE + 4 + u64::from(self.available) % SIZE * 2;
        self.memory.write(slot, &[0, 0]);
        self.available = self.available.wrapping_add(1);
        self.memory.write(AVAILABLE + 2, &self.available.to_le_bytes());
        // As a doorbell does it, past the VMM.
        self.reached.wake().signal(1)?;
        self.await_used()?;
        ensure!(self.memory.read(STATUS) == [0u8], "the disk fails a request");
        Ok(())
    }

    fn await_used(&self) -> Result<()> {
        let vector = self.reached.vector(VECTOR).context("the disk has a vector for its queue")?;
        for _ in 0..LOOKS_MAX {
            if u16::from_le_bytes(self.memory.read(USED + 2)) == self.available {
                // Its interrupt comes, awaited or not.
                vector.drain();
                return Ok(());
            }
            if self.poll {
                std::hint::spin_loop();
            } else {
                vector.sleep()?;
            }
        }
        anyhow::bail!("the disk does not answer")
    }

    fn describe(&self, index: u64, address: u64, bytes: u32, flags: u16, next: u16) {
        let mut descriptor = [0; 16];
        descriptor[..8].copy_from_slice(&address.to_le_bytes());
        descriptor[8..12].copy_from_slice(&bytes.to_le_bytes());
        descriptor[12..14].copy_from_slice(&flags.to_le_bytes());
        descriptor[14..].copy_from_slice(&next.to_le_bytes());
        self.memory.write(RING + index * 16, &descriptor);
    }
}

/// What is measured of a start.
struct Started {
    spawn: Series,
    restart: Series,
    pss: Series,
}

/// Starting the disk's host to its first answer, starting it anew once it was killed, and what it weighs; by rounds, of which
/// the first only warms the machine up.
fn starts(common: &BenchCommon) -> Result<Vec<Series>> {
    const SPAWN: &str = "spawn to first answered access";
    let empty = "empty static program";
    let mut alone = Series::new(empty, Placement::Any, "µs", empty);
    let named = |what: &str, variant: &str| format!("{what}, {variant}");
    let mut all: Vec<(Variant, Started)> = VARIANTS
        .into_iter()
        .map(|variant| {
            let Variant { name, base, .. } = variant;
            let weight = "memory of host and helper (PSS)";
            let spawn = Series::new(named(SPAWN, name), Placement::Any, "µs", named(SPAWN, base));
            let restart = named("kill to next answer", name);
            let restart = Series::new(restart, Placement::Any, "µs", named(SPAWN, name));
            let pss = Series::new(named(weight, name), Placement::Any, "KiB", named(weight, base));
            (variant, Started { spawn, restart, pss })
        })
        .collect();
    for round in 0..=common.rounds {
        let keep = |series: &mut Series, sample: f64| {
            if round > 0 {
                series.samples.push(sample);
            }
        };
        keep(&mut alone, micros(time_empty_program()?));
        let count = all.len();
        for at in 0..count {
            let at = if round % 2 == 0 { at } else { count - 1 - at };
            let (variant, started) = &mut all[at];
            let device = variant.device(DISK);
            let timed = time_spawn(&device, &BuiltIn)?;
            keep(&mut started.spawn, timed.steps.iter().map(|(_, time)| micros(*time)).sum());
            keep(&mut started.pss, timed.pss_bytes as f64 / 1024.0);
            keep(&mut started.restart, micros(time_restart(&device, &BuiltIn)?));
        }
    }
    let mut series = vec![alone];
    let (mut spawns, mut restarts, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for (_, Started { spawn, restart, pss }) in all {
        spawns.push(spawn);
        restarts.push(restart);
        weights.push(pss);
    }
    series.extend(spawns.into_iter().chain(restarts).chain(weights));
    Ok(series)
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1000.0
}
