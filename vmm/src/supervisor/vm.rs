//! One running VM: from plan to processes, the loop that watches them, and their end.

mod heard;
mod media;
mod relays;
mod report;
mod start;
mod turn;

pub use media::Medium;

use super::console::Console;
use super::grants::Objects;
use super::host::Host;
use super::input::InputRelay;
use super::journal::Journal;
use super::operator::Operators;
use super::plan::{Catalogue, Isolate, Plan, PlannedDevice};
use super::process::Process;
use super::relay::Relay;
use super::sealed_relay::SealedRelay;
use super::signals::Signals;
use super::window::GuestWindow;
use anyhow::{Context, Result};
use imc::{ReadOnly, Region};
use sandbox::Program;
use schema::host::Severity;
use schema::manifest::Manifest;
use schema::play::{Change, Play, Played, Step, Turned};
use schema::vmm::{Button, Counted, Counters, Drive, Driven, Refresh};
use std::collections::VecDeque;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A log line from a child is cut to this.
const LOG_TEXT: usize = 512;
/// The VMM answers a question within this; it has nothing else to do on that thread.
const ANSWER: Duration = Duration::from_secs(2);

/// Why a VM ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The guest powered off.
    PoweredOff,
    /// The guest, or an operator, asked for a reset.
    Reset,
    /// The guest said it panicked.
    Panicked,
    /// The guest ended the run with this number.
    Exit(u32),
    /// An operator stopped it, or typed the escape.
    Stopped,
    /// A signal to the supervisor.
    Signal(&'static str),
    /// The VMM died or could not go on.
    Failed(String),
}

/// A running VM.
pub struct Vm {
    name: String,
    vmm: Process,
    hosts: Vec<Host>,
    manifests: Vec<Manifest>,
    labels: Vec<String>,
    isolate: Isolate,
    /// Devices whose media can be exchanged, with the media that they have now, by index.
    removable: Vec<(usize, PlannedDevice)>,
    catalogue: &'static dyn Catalogue,
    /// Each with the index of its device.
    relays: Vec<(usize, Relay)>,
    inputs: Vec<InputRelay>,
    sealed: Vec<SealedRelay>,
    program: Rc<Program>,
    objects: Objects,
    journal: Journal,
    /// Log lines also go to standard error.
    verbose: bool,
    /// The VMM was asked something since it was last heard, and may have said more than the answer.
    asked: bool,
    /// What happened of its own accord in a machine that is driven.
    told: VecDeque<Told>,
    /// What came of the steps that were played last.
    played: Option<Played>,
}

/// What a machine that is driven does of its own accord.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Interrupt inputs changed.
    Changes(Vec<Change>),
    /// A device turned a switch.
    Turned(Turned),
}

impl Vm {
    /// Starts `plan`: every process confined, granted, sealed and audited, then the guest.
    pub fn start(plan: &Plan, catalogue: &'static dyn Catalogue, signals: &Signals) -> Result<Vm> {
        Vm::start_with(plan, catalogue, signals, true)
    }

    /// The same, without log lines on standard error.
    pub fn start_quietly(plan: &Plan, catalogue: &'static dyn Catalogue, signals: &Signals) -> Result<Vm> {
        Vm::start_with(plan, catalogue, signals, false)
    }

    fn ask<C: schema::Body, R: schema::Body>(
        &mut self,
        body: &C,
        descriptors: &[BorrowedFd<'_>],
        deadline: Duration,
    ) -> Result<R> {
        self.asked = true;
        match self.vmm.channel.call(body, descriptors, deadline) {
            Ok((reply, _)) => Ok(reply),
            Err(error) => Err(self.vmm.failed(error)),
        }
    }

    /// Whether log lines go to standard error as well.
    pub fn set_verbose(&mut self, verbose: bool) {
        self.verbose = verbose;
    }

    /// One turn of the loop: waits for something to happen, at most `wait`, and deals with it. Says when the VM has ended.
    pub fn step(
        &mut self,
        console: &mut Console,
        operators: Option<&mut Operators>,
        signals: &Signals,
        wait: Duration,
    ) -> Result<Option<Ended>> {
        self.turn(console, operators, &[], signals, wait)
    }

    /// The same, and its end too when one of `others` has something to say: who asks looks at them then.
    pub fn step_beside(
        &mut self,
        console: &mut Console,
        others: &[BorrowedFd<'_>],
        signals: &Signals,
        wait: Duration,
    ) -> Result<Option<Ended>> {
        self.turn(console, None, others, signals, wait)
    }

    /// Steps until the VM ends or `until` has passed.
    pub fn run_until(&mut self, console: &mut Console, signals: &Signals, until: Instant) -> Result<Option<Ended>> {
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            if let Some(ended) = self.step(console, None, signals, left)? {
                return Ok(Some(ended));
            }
        }
        Ok(None)
    }

    /// Has the display draw what it shows. Returns where, to read, and the generation of what was there before.
    pub fn screenshot(&mut self) -> Result<(Region<ReadOnly>, u64)> {
        let mut scanouts = self.objects.devices.iter().flat_map(|device| &device.scanouts);
        let (_, region) = scanouts.next().context("this machine has no display; add one with `--device vga`")?;
        let region = region.read_only()?;
        // Its host may have written what it likes; the number is only handed on.
        let mut generation = [0; size_of::<u64>()];
        region.map()?.read(0, &mut generation);
        self.refresh();
        Ok((region, u64::from_le_bytes(generation)))
    }

    /// Has displays draw what they show.
    fn refresh(&mut self) {
        let _ = self.vmm.channel.tell(&Refresh, &[]);
    }

    /// Presses the power button.
    pub fn press_button(&mut self) {
        let _ = self.vmm.channel.tell(&Button, &[]);
    }

    fn note(&mut self, severity: Severity, who: &str, text: &str) {
        let line = format!("{who}: {}", printable(text));
        if self.verbose && severity <= Severity::Warning {
            // The terminal may be raw: a bare line feed would not return the carriage.
            let _ = write!(std::io::stderr(), "cofferdam: {line}\r\n");
        }
        self.journal.add(line);
    }

    /// Kept log lines from number `from` on, at most `bound`, and the number to ask for next.
    #[must_use]
    pub fn log_since(&self, from: u64, bound: usize) -> (Vec<String>, u64) {
        self.journal.since(from, bound)
    }

    /// The log, which the machine after a reset goes on with.
    pub fn journal(&mut self) -> &mut Journal {
        &mut self.journal
    }

    /// How accesses were served so far.
    pub fn counters(&mut self) -> Result<Counted> {
        self.ask(&Counters, &[], ANSWER)
    }

    /// One access through the bus, as a vcpu would make it.
    pub fn drive(&mut self, access: Drive) -> Result<u64> {
        let patience = super::plan::DEADLINE + ANSWER;
        self.ask::<Drive, Driven>(&access, &[], patience).map(|driven| driven.value)
    }

    /// Plays steps of a machine that is driven, and goes on with everything else until they are done. What the machine told
    /// before is in [`Vm::told`] by then. An error of the second kind says how it has ended.
    pub fn play(
        &mut self,
        steps: Vec<Step>,
        console: &mut Console,
        signals: &Signals,
    ) -> Result<Result<Played, Ended>> {
        self.vmm.channel.tell(&Play { steps }, &[]).context("telling the VMM what to do")?;
        loop {
            if let Some(played) = self.played.take() {
                return Ok(Ok(played));
            }
            if let Some(ended) = self.step(console, None, signals, Duration::from_secs(60))? {
                return Ok(Err(ended));
            }
        }
    }

    /// The next thing that a driven machine has told.
    pub fn told(&mut self) -> Option<Told> {
        self.told.pop_front()
    }

    /// The labels of the plan's devices, in order.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Labels of the devices that each host runs, for tables; the VMM's own are those linked into it.
    #[must_use]
    pub fn devices_of(&self, host: &str) -> Vec<String> {
        let labels = |indices: &[usize]| indices.iter().map(|at| self.labels[*at].clone()).collect();
        match self.hosts.iter().find(|other| other.process.name == host) {
            Some(found) => labels(&found.group.devices),
            None if self.isolate == Isolate::None => self.labels.clone(),
            None => Vec::new(),
        }
    }

    /// Manifests of the plan's devices, in order.
    #[must_use]
    pub fn manifests(&self) -> &[Manifest] {
        &self.manifests
    }

    /// The first 16 MiB of guest memory, for a script that stands in for a guest.
    pub fn low_memory(&self) -> Result<GuestWindow> {
        let (_, _, region) = self.objects.memory.regions.first().context("every machine has low memory")?;
        Ok(GuestWindow::new(region.map()?))
    }

    /// Ends every process. They are killed together, then reaped.
    pub fn end(&mut self) {
        self.vmm.kill();
        for host in &self.hosts {
            host.process.kill();
        }
        for relay in &self.sealed {
            relay.process.kill();
        }
        self.vmm.end();
        for host in &mut self.hosts {
            host.process.end();
        }
        for relay in &mut self.sealed {
            relay.process.end();
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.end();
    }
}

/// Text of a child as one bounded, harmless line: terminals obey escapes.
pub(super) fn printable(text: &str) -> String {
    text.chars().take(LOG_TEXT).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
