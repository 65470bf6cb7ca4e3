//! What goes between a VM and those outside: its relays, the keyboard and mouse of whoever is there, and the viewers of its display.

use super::Vm;
use crate::supervisor::console::Console;
use crate::supervisor::input::InputRelay;
use crate::supervisor::lives::Next;
use crate::supervisor::relay::Relay;
use crate::supervisor::viewers::{Nonsense, Viewers};
use anyhow::{Context, Result};
use schema::display::Input;
use schema::host::Severity;

impl Vm {
    pub(super) fn turn_relays(&mut self, console: &mut Console) {
        (0..self.relays.len()).for_each(|at| self.turn_relay(at, console));
    }

    pub(super) fn turn_relay(&mut self, at: usize, console: &mut Console) {
        let (device, relay) = &mut self.relays[at];
        let (device, mut lines) = (*device, Vec::new());
        while relay.turn(console, &mut lines) {}
        let who = self.labels[device].clone();
        lines.iter().for_each(|line| self.note(Severity::Debug, &who, line));
    }

    /// The relay of the guest's keyboard: there is one, so only the console's first stream has input.
    pub(super) fn console_relay(&mut self) -> Option<&mut Relay> {
        self.relays.iter_mut().map(|(_, relay)| relay).find(|relay| relay.is_of_console())
    }

    /// Types bytes at the guest's console.
    pub fn type_bytes(&mut self, bytes: &[u8]) {
        if let Some(relay) = self.console_relay() {
            relay.typed(bytes);
        }
    }

    /// Does with keyboard and mouse what a person did. Refused in a sentence where the machine has none, or its guest does not
    /// take what was done before.
    pub fn press(&mut self, inputs: &[Input]) -> Result<()> {
        self.inputs.first_mut().context("this machine has no keyboard")?.press(inputs)
    }

    /// Does what viewers did, as far as the guest takes it. A relay that says what nobody can do is ended.
    pub(super) fn hear_viewers(&mut self) {
        for at in 0..self.sealed.len() {
            if !self.inputs.first().is_none_or(InputRelay::accepts) {
                return;
            }
            match self.sealed[at].viewers().map(Viewers::did) {
                Some(Ok(inputs)) if !inputs.is_empty() => {
                    // What is done at a machine without a keyboard comes to nothing.
                    let _ = self.press(&inputs);
                }
                Some(Err(Nonsense)) => {
                    self.sealed[at].process.kill();
                    let name = self.sealed[at].process.name.clone();
                    self.note(Severity::Warning, &name, "it says that viewers did what nobody can do, and is ended");
                }
                _ => {}
            }
        }
    }

    pub(super) fn hear_sealed(&mut self, at: usize) {
        let name = self.sealed[at].process.name.clone();
        let (logs, gone) = self.sealed[at].hear();
        logs.iter().for_each(|log| self.note(log.severity, &name, &log.text));
        if let Some((why, next)) = gone {
            self.after_end_of_relay(at, &why, next);
        }
    }

    /// An incarnation of a sealed relay is gone. No device waits for one.
    pub(super) fn after_end_of_relay(&mut self, at: usize, why: &str, next: Next) {
        let let_go = self.sealed[at].viewers().map(Viewers::let_go).unwrap_or_default();
        if !let_go.is_empty() {
            let _ = self.press(&let_go);
        }
        let relay = &self.sealed[at];
        let what_next = next.told(relay.loss());
        let name = relay.process.name.clone();
        self.note(Severity::Warning, &name, &format!("relay ended: {why}; {what_next}"));
    }
}
