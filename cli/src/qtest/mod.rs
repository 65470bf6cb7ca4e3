//! `cofferdam qtest`: the machine without a processor, driven by a test program.
//!
//! The devices are in their sealed processes, as in any other machine. What a guest would do comes as lines of the qtest
//! protocol; with the virtual clock, so does time.

mod board;
mod inherited;
mod link;
mod protocol;
mod qmp;
mod words;

pub use link::Link;
pub use words::{NAME, parse as parse_words};

use crate::drives::disks;
use anyhow::Result;
use board::Board;
use link::{Heard, Port};
use qmp::{Disk, Drive, Exchange, Facts, Monitor, Order};
use schema::manifest::Switch;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};
use vmm::supervisor::{Console, ConsolePlan, Ended, Medium, Plan, Signals};

/// How long the loop sleeps when nothing happens; everything that matters wakes it.
const IDLE: Duration = Duration::from_secs(60);
/// The catalogue name of the watchdog, whose switch is told as another event than the guest's own.
const WATCHDOG: &str = "ib700";

/// What is to be driven, by whom.
pub struct Setup {
    /// The machine.
    pub plan: Plan,
    /// Time passes by command alone.
    pub is_virtual: bool,
    /// Who drives it.
    pub test: Link,
    /// Who else wants to know of it.
    pub monitors: Vec<Link>,
    /// Where the conversation is written down.
    pub log: Option<File>,
    /// What is done when the guest does something.
    pub actions: Actions,
    /// What who started it calls its drives: such a name, and the machine's.
    pub drive_names: Vec<(String, String)>,
    /// The same of its devices: such a name, and what has it.
    pub ids: Vec<(String, String)>,
    /// What who started it calls the machine, if anything.
    pub title: String,
    /// Its character devices, and what is behind each.
    pub chardevs: Vec<(String, String)>,
    /// A PC, and not a machine without anything.
    pub is_pc: bool,
    /// What firmware boots after a reset, where that is not what it boots first.
    pub order_after: Option<String>,
    /// The first serial port prints to our standard output.
    pub prints: bool,
    /// It runs from the start on; this only decides what a monitor is told.
    pub runs: bool,
}

/// What is done when a guest does something that ends a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actions {
    /// It resets the machine: `true`, the run ends.
    pub reset_ends: bool,
    /// It powers the machine off.
    pub power_off: After,
    /// It says that it panicked.
    pub panic: After,
    /// Its watchdog expires.
    pub watchdog: Watchdog,
}

/// What is done when a watchdog expires, in the words of the machine protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watchdog {
    /// The machine begins anew.
    Reset,
    /// Its power button is pressed.
    Shutdown,
    /// It is powered off.
    PowerOff,
    /// It pauses.
    Pause,
    /// It is told, and no more.
    Debug,
    /// The same.
    Nothing,
    /// The same: there is no processor that would take an NMI.
    InjectNmi,
}

impl Watchdog {
    /// All of them.
    pub const ALL: [Watchdog; 7] = [
        Watchdog::Reset,
        Watchdog::Shutdown,
        Watchdog::PowerOff,
        Watchdog::Pause,
        Watchdog::Debug,
        Watchdog::Nothing,
        Watchdog::InjectNmi,
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Watchdog::Reset => "reset",
            Watchdog::Shutdown => "shutdown",
            Watchdog::PowerOff => "poweroff",
            Watchdog::Pause => "pause",
            Watchdog::Debug => "debug",
            Watchdog::Nothing => "none",
            Watchdog::InjectNmi => "inject-nmi",
        }
    }
}

impl Default for Actions {
    fn default() -> Actions {
        Actions { reset_ends: false, power_off: After::PowerOff, panic: After::PowerOff, watchdog: Watchdog::Reset }
    }
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Nothing.
    Nothing,
    /// The machine pauses.
    Pause,
    /// It begins anew.
    Reset,
    /// It is powered off.
    PowerOff,
}

/// Runs it until the test program leaves, or has it end.
pub fn run(setup: Setup, signals: &Signals) -> Result<u8> {
    let mut test = Port::open(&setup.test)?;
    // Before the machine starts: who waits for a greeting waits for nothing else.
    let monitors = setup.monitors.iter().map(Monitor::open).collect::<Result<Vec<_>>>()?;
    let mut log = Log { file: setup.log, start: Instant::now() };
    if test.has_peer() {
        log.write("I", "OPENED");
    }
    let console = Console::open(if setup.prints { &ConsolePlan::Stdio } else { &ConsolePlan::Quiet })?;
    let board = Board::start(&setup.plan, console, setup.is_virtual, signals)?;
    let labels = setup.plan.devices.iter().map(|device| (device.label.clone(), device.device.clone())).collect();
    let disks = disks(&setup.plan.devices).into_iter().map(|(number, path, readonly)| Disk {
        name: format!("ide{}-hd{}", number / 2, number % 2),
        medium: Medium { path, readonly },
    });
    let disks = disks.collect();
    let mut session = Session {
        board,
        monitors,
        devices: labels,
        drive_names: setup.drive_names,
        ids: setup.ids,
        chardevs: setup.chardevs,
        disks,
        name: setup.title,
        memory_bytes: setup.plan.memory_bytes,
        is_pc: setup.is_pc,
        status: if setup.runs { "running" } else { "prelaunch" },
        actions: setup.actions,
        order_after: setup.order_after,
    };
    loop {
        let sources: Vec<BorrowedFd<'_>> =
            test.source().into_iter().chain(session.monitors.iter().filter_map(|one| one.port().source())).collect();
        let ended = session.board.wait(&sources, IDLE)?;
        drop(sources);
        let done = match ended {
            Some(ended) => session.ended(ended)?,
            None => session.serve(&mut test, &mut log)?,
        };
        let said = session.board.said();
        log.write_lines("S", &said);
        test.say(&said);
        if let Some(status) = done {
            return Ok(status);
        }
        if !test.is_open() {
            return Ok(0);
        }
    }
}

struct Session<'a> {
    board: Board<'a>,
    monitors: Vec<Monitor>,
    devices: Vec<(String, String)>,
    drive_names: Vec<(String, String)>,
    ids: Vec<(String, String)>,
    chardevs: Vec<(String, String)>,
    disks: Vec<Disk>,
    name: String,
    memory_bytes: u64,
    is_pc: bool,
    status: &'static str,
    actions: Actions,
    order_after: Option<String>,
}

impl Session<'_> {
    /// Serves whoever has said something. An exit status, when it is over.
    fn serve(&mut self, test: &mut Port, log: &mut Log) -> Result<Option<u8>> {
        match test.look() {
            Heard::Came => log.write("I", "OPENED"),
            Heard::Left => {
                log.write("I", "CLOSED");
                self.board.forget_listener();
            }
            Heard::Said => {
                let lines = test.lines();
                lines.iter().for_each(|line| log.write("R", line));
                if let Some(ended) = self.board.serve(lines.iter().map(String::as_str))? {
                    return self.ended(ended);
                }
            }
        }
        while let Some((label, turned)) = self.board.turned() {
            if let Some(status) = self.turned(&label, turned.switch)? {
                return Ok(Some(status));
            }
        }
        for at in 0..self.monitors.len() {
            let drives = self.drives();
            let facts = Facts {
                status: self.status,
                name: &self.name,
                is_pc: self.is_pc,
                memory_bytes: self.memory_bytes,
                devices: &self.devices,
                ids: &self.ids,
                chardevs: &self.chardevs,
                drives: &drives,
                disks: &self.disks,
                actions: self.actions,
            };
            let board = &mut self.board;
            let mut exchange = |asked: &Exchange| {
                let done = board.exchange(&asked.drive, asked.medium.as_ref(), asked.forced);
                done.map_err(|error| format!("{error:#}"))
            };
            for order in self.monitors[at].serve(&facts, &mut exchange) {
                if let Some(status) = self.obey(&order)? {
                    return Ok(Some(status));
                }
            }
        }
        Ok(None)
    }

    /// The drives, with what is in them now.
    fn drives(&self) -> Vec<Drive> {
        let drive = |(name, medium): (String, Option<Medium>)| {
            let aliases = self.drive_names.iter().filter(|(_, own)| *own == name);
            Drive { aliases: aliases.map(|(alias, _)| alias.clone()).collect(), name, medium }
        };
        self.board.drives().into_iter().map(drive).collect()
    }

    fn obey(&mut self, order: &Order) -> Result<Option<u8>> {
        match order {
            Order::Quit => {
                self.event("SHUTDOWN", &json!({ "guest": false, "reason": "host-qmp-quit" }));
                return Ok(Some(0));
            }
            Order::Reset => return self.reset(&json!({ "guest": false, "reason": "host-qmp-system-reset" })),
            Order::Powerdown => {
                self.board.press_button();
                self.event("POWERDOWN", &Value::Null);
            }
            Order::Run(true) if self.status != "running" => {
                self.status = "running";
                self.event("RESUME", &Value::Null);
            }
            Order::Run(false) if self.status == "running" => self.pause("paused"),
            Order::Run(_) => {}
            Order::React(actions) => self.actions = *actions,
        }
        Ok(None)
    }

    /// A device turned a switch.
    fn turned(&mut self, label: &str, switch: Switch) -> Result<Option<u8>> {
        if self.devices.iter().any(|(own, device)| own == label && device == WATCHDOG) {
            let action = self.actions.watchdog;
            self.event("WATCHDOG", &json!({ "action": action.word() }));
            return match action {
                Watchdog::Reset => self.after(After::Reset, "watchdog", "guest-reset"),
                Watchdog::PowerOff => self.after(After::PowerOff, "watchdog", "guest-shutdown"),
                Watchdog::Pause => self.after(After::Pause, "watchdog", "guest-shutdown"),
                Watchdog::Shutdown => self.obey(&Order::Powerdown),
                Watchdog::Debug | Watchdog::Nothing | Watchdog::InjectNmi => Ok(None),
            };
        }
        match switch {
            Switch::Reset => self.after(After::Reset, "shutdown", "guest-reset"),
            Switch::PowerOff => self.after(self.actions.power_off, "shutdown", "guest-shutdown"),
            Switch::Panicked => {
                // A machine that is not to end pauses.
                let after = match self.actions {
                    Actions { panic: After::PowerOff, power_off: After::Pause, .. } => After::Pause,
                    Actions { panic, .. } => panic,
                };
                self.event("GUEST_PANICKED", &json!({ "action": word(after) }));
                self.after(after, "guest-panicked", "guest-panic")
            }
            Switch::Exit => Ok(Some(0)),
        }
    }

    fn after(&mut self, after: After, status: &'static str, reason: &str) -> Result<Option<u8>> {
        match after {
            After::Nothing => Ok(None),
            After::Pause => {
                if status == "shutdown" {
                    self.event("SHUTDOWN", &json!({ "guest": true, "reason": reason }));
                }
                self.pause(status);
                Ok(None)
            }
            After::Reset if !self.actions.reset_ends => self.reset(&json!({ "guest": true, "reason": reason })),
            After::Reset | After::PowerOff => {
                self.event("SHUTDOWN", &json!({ "guest": true, "reason": reason }));
                if self.actions.power_off == After::Pause {
                    self.pause("shutdown");
                    return Ok(None);
                }
                Ok(Some(0))
            }
        }
    }

    fn pause(&mut self, status: &'static str) {
        if self.status == "running" {
            self.event("STOP", &Value::Null);
        }
        self.status = status;
    }

    fn reset(&mut self, data: &Value) -> Result<Option<u8>> {
        if let Some(order) = self.order_after.take() {
            self.board.boot(order);
        }
        let ended = self.board.reset()?;
        self.event("RESET", data);
        ended.map_or(Ok(None), |ended| self.ended(ended))
    }

    fn event(&mut self, name: &str, data: &Value) {
        self.monitors.iter_mut().for_each(|monitor| monitor.event(name, data));
    }

    /// The machine ended of its own accord, or a signal came: that is how a test program ends it.
    fn ended(&mut self, ended: Ended) -> Result<Option<u8>> {
        match ended {
            Ended::Signal(_) => {
                self.event("SHUTDOWN", &json!({ "guest": false, "reason": "host-signal" }));
                Ok(Some(0))
            }
            Ended::Failed(sentence) => anyhow::bail!("{sentence}"),
            other => anyhow::bail!("the machine ended although it is driven: {other:?}"),
        }
    }
}

/// The word for what is done after a panic.
fn word(after: After) -> &'static str {
    match after {
        After::Nothing => "run",
        After::Pause => "pause",
        After::Reset => "reset",
        After::PowerOff => "poweroff",
    }
}

/// The conversation, written down: `[R +1.000000] inb 0x70`.
struct Log {
    file: Option<File>,
    start: Instant,
}

impl Log {
    fn write(&mut self, direction: &str, line: &str) {
        if let Some(file) = &mut self.file {
            // Nobody fails because nobody can read it.
            let _ = writeln!(file, "[{direction} +{:.6}] {line}", self.start.elapsed().as_secs_f64());
        }
    }

    fn write_lines(&mut self, direction: &str, lines: &str) {
        if self.file.is_some() {
            lines.lines().for_each(|line| self.write(direction, line));
        }
    }
}
