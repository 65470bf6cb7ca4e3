//! Commands to a running VM.

use crate::args::{EjectArgs, InsertArgs, VmArgs};
use crate::machine::parse_image;
use anyhow::{Context, Result};
use schema::control::Order;
use std::io::Write;
use std::time::{Duration, Instant};
use vmm::supervisor::operator::Client;
use vmm::supervisor::{Console, ConsolePlan, Medium, Signals, Typed, runtime};

/// How often an attached console looks for output: below what a person notices.
const CONSOLE_PERIOD: Duration = Duration::from_millis(20);
/// `stop` waits this long for the VM to be gone.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// Gives an order. `stop` returns when the VM is gone.
pub fn order(asked: &VmArgs, order: Order) -> Result<u8> {
    Client::connect(&asked.name)?.order(order)?;
    if order == Order::Stop {
        let until = Instant::now() + STOP_WAIT;
        while runtime::running()?.contains(&asked.name) {
            anyhow::ensure!(Instant::now() < until, "the VM `{}` has not ended within {STOP_WAIT:?}", asked.name);
            std::thread::sleep(CONSOLE_PERIOD);
        }
    }
    Ok(0)
}

/// Takes the medium out of a drive.
pub fn eject(asked: &EjectArgs) -> Result<u8> {
    Client::connect(&asked.name)?.exchange(&asked.drive, None, asked.force)?;
    Ok(0)
}

/// Puts a medium into a drive.
pub fn insert(asked: &InsertArgs) -> Result<u8> {
    let (path, readonly) = parse_image("insert", &asked.image)?;
    // Who opens it has another working directory.
    let path = std::path::absolute(path).with_context(|| format!("{path}: has no place"))?;
    Client::connect(&asked.name)?.exchange(&asked.drive, Some(&Medium { path, readonly }), asked.force)?;
    Ok(0)
}

/// Attaches to the console until the VM ends, input ends, or Ctrl-A x is typed.
pub fn console(asked: &VmArgs, signals: &Signals) -> Result<u8> {
    let mut client = Client::connect(&asked.name)?;
    let mut terminal = Console::open(&ConsolePlan::Stdio)?;
    terminal.raw();
    loop {
        let mut typed = Vec::new();
        if let Some(input) = terminal.input() {
            let mut source = [nix::poll::PollFd::new(input, nix::poll::PollFlags::POLLIN)];
            let ready = nix::poll::poll(&mut source, nix::poll::PollTimeout::try_from(CONSOLE_PERIOD)?);
            if matches!(ready, Ok(1)) && terminal.read(1024, &mut typed) == Typed::Quit {
                return Ok(0);
            }
        } else {
            std::thread::sleep(CONSOLE_PERIOD);
        }
        if signals.taken().is_some() {
            return Ok(0);
        }
        match client.console(typed) {
            Ok(output) => terminal.write(&output),
            Err(_ended) => return Ok(0),
        }
    }
}

/// Prints the kept log lines.
pub fn logs(asked: &VmArgs) -> Result<u8> {
    let mut client = Client::connect(&asked.name)?;
    let mut after = 0;
    loop {
        let (lines, next) = client.logs(after)?;
        if lines.is_empty() {
            return Ok(0);
        }
        let mut out = std::io::stdout().lock();
        for line in lines {
            writeln!(out, "{line}")?;
        }
        after = next;
    }
}
