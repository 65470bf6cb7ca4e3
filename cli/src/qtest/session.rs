//! A machine that runs, with whoever drives it and whoever is told of it.

use super::actions::{Actions, After, Watchdog};
use super::board::Board;
use super::link::{Heard, Port};
use super::log::Log;
use super::pci;
use super::qmp::{Disk, Drive, Exchange, Facts, Failed, Monitor, Order};
use super::setup::{Names, Setup};
use crate::drives::disks;
use anyhow::Result;
use schema::manifest::Switch;
use serde_json::{Value, json};
use std::os::fd::BorrowedFd;
use std::time::Duration;
use vmm::supervisor::{Console, ConsolePlan, Ended, Medium, Signals};

/// How long the loop sleeps when nothing happens; everything that matters wakes it.
const IDLE: Duration = Duration::from_secs(60);
/// The catalogue name of the watchdog, whose switch is told as another event than the guest's own.
const WATCHDOG: &str = "ib700";

/// Runs it until the test program leaves, or has it end.
pub fn run(setup: Setup, signals: &Signals) -> Result<u8> {
    let Setup { machine, ways, names, actions } = setup;
    let mut test = Port::open(&ways.test)?;
    // Before the machine starts: who waits for a greeting waits for nothing else.
    let monitors = ways.monitors.iter().map(Monitor::open).collect::<Result<Vec<_>>>()?;
    let mut log = Log::new(ways.log);
    if test.has_peer() {
        log.write("I", "OPENED");
    }
    let console = Console::open(if ways.prints { &ConsolePlan::Stdio } else { &ConsolePlan::Quiet })?;
    let devices = &machine.plan.devices;
    let disk = |(number, path, readonly)| Disk {
        name: format!("ide{}-hd{}", number / 2, number % 2),
        medium: Medium { path, readonly },
    };
    let mut session = Session {
        board: Board::start(&machine.plan, console, machine.is_virtual, signals)?,
        monitors,
        devices: devices.iter().map(|device| (device.label.clone(), device.device.clone())).collect(),
        disks: disks(devices).into_iter().map(disk).collect(),
        names,
        memory_bytes: machine.plan.memory_bytes,
        is_pc: machine.is_pc,
        status: if machine.runs { "running" } else { "prelaunch" },
        actions,
        order_after: machine.order_after,
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
    disks: Vec<Disk>,
    names: Names,
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
            self.monitors[at].look();
            while let Some(message) = self.monitors[at].next() {
                let drives = self.drives();
                let facts = Facts {
                    status: self.status,
                    names: &self.names,
                    is_pc: self.is_pc,
                    memory_bytes: self.memory_bytes,
                    devices: &self.devices,
                    drives: &drives,
                    disks: &self.disks,
                    actions: self.actions,
                };
                let asked = self.monitors[at].consider(&message, &facts);
                let (result, status) = match asked.order() {
                    None => (Ok(json!({})), None),
                    Some(order) => self.obey(order, &drives)?,
                };
                self.monitors[at].answer(asked, result);
                if status.is_some() {
                    return Ok(status);
                }
            }
        }
        Ok(None)
    }

    /// The drives, with what is in them now.
    fn drives(&self) -> Vec<Drive> {
        let drive = |(name, medium): (String, Option<Medium>)| Drive {
            names: self.names.drives.iter().filter(|known| known.drive == name).cloned().collect(),
            name,
            medium,
        };
        self.board.drives().into_iter().map(drive).collect()
    }

    /// Does what a monitor asks for. What it is answered, and an exit status if it is over.
    fn obey(&mut self, order: &Order, drives: &[Drive]) -> Result<(Result<Value, Failed>, Option<u8>)> {
        let mut status = None;
        match order {
            Order::Quit => {
                self.event("SHUTDOWN", &json!({ "guest": false, "reason": "host-qmp-quit" }));
                status = Some(0);
            }
            Order::Reset => status = self.reset(&json!({ "guest": false, "reason": "host-qmp-system-reset" }))?,
            Order::Powerdown => self.powerdown(),
            Order::Run(true) if self.status != "running" => {
                self.status = "running";
                self.event("RESUME", &Value::Null);
            }
            Order::Run(false) => self.pause("paused"),
            Order::Run(true) => {}
            Order::React(actions) => self.actions = *actions,
            Order::Exchange(exchange) => return Ok((self.exchange(exchange, drives), None)),
            Order::Survey => match self.board.functions()? {
                Ok(functions) => return Ok((Ok(pci::shown(&functions)), None)),
                Err(ended) => status = self.ended(ended)?,
            },
        }
        Ok((Ok(json!({})), status))
    }

    fn exchange(&mut self, asked: &Exchange, drives: &[Drive]) -> Result<Value, Failed> {
        let done = self.board.exchange(&asked.drive, asked.medium.as_ref(), asked.forced);
        done.map_err(|error| Failed::generic(format!("{error:#}")))?;
        let drive = drives.iter().find(|drive| drive.name == asked.drive && drive.has_tray());
        for open in [true, false].into_iter().take(1 + usize::from(asked.medium.is_some())) {
            if let Some(drive) = drive {
                let data = json!({ "device": drive.shown(), "id": drive.device(), "tray-open": open });
                self.event("DEVICE_TRAY_MOVED", &data);
            }
        }
        Ok(json!({}))
    }

    fn powerdown(&mut self) {
        self.board.press_button();
        self.event("POWERDOWN", &Value::Null);
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
                Watchdog::Shutdown => {
                    self.powerdown();
                    Ok(None)
                }
                Watchdog::Debug | Watchdog::Nothing | Watchdog::InjectNmi => Ok(None),
            };
        }
        match switch {
            Switch::Reset => self.after(After::Reset, "shutdown", "guest-reset"),
            Switch::PowerOff => self.after(self.actions.power_off, "shutdown", "guest-shutdown"),
            Switch::Panicked => {
                let after = self.actions.after_panic();
                self.event("GUEST_PANICKED", &json!({ "action": after.word() }));
                self.after(after, "guest-panicked", "guest-panic")
            }
            Switch::CrashLoaded => {
                self.event("GUEST_CRASHLOADED", &json!({ "action": After::Nothing.word() }));
                Ok(None)
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

    /// One that does not run stays as it is, unless it is shut down.
    fn pause(&mut self, status: &'static str) {
        if self.status == "running" {
            self.event("STOP", &Value::Null);
        } else if status != "shutdown" {
            return;
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
