//! The QEMU machine protocol, as far as test programs need it: a greeting, questions about the machine, and its events.

mod commands;
mod language;
mod media;
mod people;
mod tree;

use super::actions::Actions;
use super::link::{Heard, Link, Port};
use super::setup::Names;
use anyhow::Result;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

pub use media::{Disk, Drive, Exchange};

/// What a command has the machine do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// End.
    Quit,
    /// Begin anew.
    Reset,
    /// Have its power button pressed.
    Powerdown,
    /// Run, or not.
    Run(bool),
    /// Do this from now on when its guest does something.
    React(Actions),
    /// Have another medium in a drive.
    Exchange(Exchange),
    /// Tell of its PCI bus.
    Survey,
}

/// Why a command has failed: the class of the error, and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    class: &'static str,
    why: String,
}

impl Failed {
    /// One that nobody acts on.
    pub fn generic(why: impl Into<String>) -> Failed {
        Failed { class: "GenericError", why: why.into() }
    }

    /// What was named is not there.
    fn absent(name: &str) -> Failed {
        Failed { class: "DeviceNotFound", why: format!("Device '{name}' not found") }
    }

    /// There is no such command, or not now.
    fn command(why: impl Into<String>) -> Failed {
        Failed { class: "CommandNotFound", why: why.into() }
    }

    fn shown(&self) -> Value {
        json!({ "error": { "class": self.class, "desc": self.why } })
    }
}

/// What becomes of a command.
#[derive(Debug, Clone, PartialEq)]
enum Becomes {
    /// An answer.
    Answer(Result<Value, Failed>),
    /// What the machine does first.
    Order(Order),
}

/// A command that was considered.
pub struct Asked {
    /// What the peer calls it.
    id: Option<Value>,
    /// It came in the words of a monitor for people, and is answered in them.
    in_words: bool,
    becomes: Becomes,
}

impl Asked {
    /// What is to be done before it is answered.
    pub fn order(&self) -> Option<&Order> {
        match &self.becomes {
            Becomes::Order(order) => Some(order),
            Becomes::Answer(_) => None,
        }
    }
}

/// What is told of the machine.
pub struct Facts<'a> {
    /// As `query-status` names it.
    pub status: &'static str,
    /// What it and its parts are called.
    pub names: &'a Names,
    /// It is a PC.
    pub is_pc: bool,
    /// Bytes of its memory.
    pub memory_bytes: u64,
    /// Its devices, by label and catalogue name.
    pub devices: &'a [(String, String)],
    /// Its drives with media that can be exchanged.
    pub drives: &'a [Drive],
    /// Its disks.
    pub disks: &'a [Disk],
    /// What is done when its guest does something.
    pub actions: Actions,
}

/// A monitor: one link.
pub struct Monitor {
    port: Port,
    /// The peer has ended the negotiation, and may send commands out of band.
    ready: bool,
    out_of_band: bool,
}

/// Longest message: as a person or a program writes them, with some room.
const MESSAGE_MAX: usize = 1 << 20;
/// The one capability that there is. No command may be sent out of band, so it changes what is refused, and how.
const OUT_OF_BAND: &str = "oob";
/// Members that a command may have.
const MEMBERS: [&str; 3] = ["execute", "arguments", "id"];
const EXECUTE_OUT_OF_BAND: &str = "exec-oob";

impl Monitor {
    /// Opens it, and greets whoever is there.
    pub fn open(link: &Link) -> Result<Monitor> {
        let mut monitor = Monitor { port: Port::open(link)?, ready: false, out_of_band: false };
        if monitor.port.has_peer() {
            monitor.greet();
        }
        Ok(monitor)
    }

    /// Its link.
    pub fn port(&self) -> &Port {
        &self.port
    }

    fn greet(&mut self) {
        (self.ready, self.out_of_band) = (false, false);
        self.send(&json!({ "QMP": { "version": commands::version(), "capabilities": [OUT_OF_BAND] } }));
    }

    fn send(&mut self, message: &Value) {
        self.port.say(&format!("{message}\r\n"));
    }

    /// Tells an event to who has ended the negotiation.
    pub fn event(&mut self, name: &str, data: &Value) {
        if self.ready {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let mut event = json!({
                "timestamp": { "seconds": now.as_secs(), "microseconds": now.subsec_micros() },
                "event": name,
            });
            if !data.is_null() {
                event["data"] = data.clone();
            }
            self.send(&event);
        }
    }

    /// Takes what was said, or greets who came.
    pub fn look(&mut self) {
        if self.port.look() == Heard::Came {
            self.greet();
        }
    }

    /// The next whole message that was said.
    pub fn next(&mut self) -> Option<Result<Value, Failed>> {
        let pending = self.port.pending()?;
        let mut stream = serde_json::Deserializer::from_slice(pending).into_iter::<Value>();
        let (message, taken) = match stream.next() {
            Some(Ok(message)) => (Ok(message), stream.byte_offset()),
            Some(Err(error)) if !error.is_eof() => {
                // Where a broken message ends cannot be known: its line is given up.
                let begin = stream.byte_offset();
                let line = pending[begin..].iter().position(|byte| *byte == b'\n');
                let taken = line.map_or(pending.len(), |end| begin + end + 1);
                (Err(Failed::generic(format!("JSON parse error, {error}"))), taken)
            }
            _ if pending.len() > MESSAGE_MAX => {
                let why = format!("JSON message too long: there is room for {MESSAGE_MAX} bytes");
                (Err(Failed::generic(why)), pending.len())
            }
            _ => return None,
        };
        pending.drain(..taken);
        Some(message)
    }

    /// What a message asks for.
    pub fn consider(&mut self, message: &Result<Value, Failed>, facts: &Facts<'_>) -> Asked {
        let becomes = match message {
            Ok(message) => self.becomes(message, facts),
            Err(failed) => Err(failed.clone()),
        };
        let (in_words, becomes) = becomes.unwrap_or_else(|failed| (false, Becomes::Answer(Err(failed))));
        let id = message.as_ref().ok().and_then(|message| message.get("id")).cloned();
        Asked { id, in_words, becomes }
    }

    /// Answers it; `result` is of what it has ordered, if anything.
    pub fn answer(&mut self, asked: Asked, result: Result<Value, Failed>) {
        let result = match asked.becomes {
            Becomes::Answer(answer) => answer,
            Becomes::Order(_) if asked.in_words => Ok(people::done(&result).into()),
            Becomes::Order(_) => result,
        };
        let mut answer = match result {
            Ok(value) => json!({ "return": value }),
            Err(failed) => failed.shown(),
        };
        if let Some(id) = asked.id {
            answer["id"] = id;
        }
        self.send(&answer);
    }

    /// Whether it was said in the words of people, and what becomes of it.
    fn becomes(&mut self, message: &Value, facts: &Facts<'_>) -> Result<(bool, Becomes), Failed> {
        let (name, arguments) = self.command(message)?;
        if !self.ready && name != commands::NEGOTIATION {
            return Err(Failed::command("Expecting capabilities negotiation with 'qmp_capabilities'"));
        }
        if self.ready && name == commands::NEGOTIATION {
            return Err(Failed::command("Capabilities negotiation is already complete, command ignored"));
        }
        let command =
            commands::find(name).ok_or_else(|| Failed::command(format!("The command {name} has not been found")))?;
        if message.get(EXECUTE_OUT_OF_BAND).is_some() {
            return Err(Failed::generic(format!("The command {name} does not support OOB")));
        }
        command.check(arguments)?;
        match name {
            commands::NEGOTIATION => {
                let enable = arguments.get("enable").and_then(Value::as_array);
                for word in enable.into_iter().flatten().filter_map(Value::as_str) {
                    if word != OUT_OF_BAND {
                        return Err(Failed::generic(format!("Parameter 'enable' does not accept value '{word}'")));
                    }
                    self.out_of_band = true;
                }
                self.ready = true;
                Ok((false, Becomes::Answer(Ok(json!({})))))
            }
            commands::IN_WORDS => {
                let line = arguments.get("command-line").and_then(Value::as_str).unwrap_or_default();
                Ok((true, people::becomes(line, facts)))
            }
            _ => Ok((false, (command.act)(&commands::Call { name, arguments, facts }))),
        }
    }

    /// The command of a message, and its arguments; or what is wrong with it.
    fn command<'m>(&self, message: &'m Value) -> Result<(&'m str, &'m Value), Failed> {
        let members = message.as_object().ok_or_else(|| Failed::generic("QMP input must be a JSON object"))?;
        let execute = [Some("execute"), Some(EXECUTE_OUT_OF_BAND).filter(|_| self.out_of_band)];
        let is_known = |name: &str| MEMBERS.contains(&name) || execute.contains(&Some(name));
        if let Some(unknown) = members.keys().find(|name| !is_known(name)) {
            return Err(Failed::generic(format!("QMP input member '{unknown}' is unexpected")));
        }
        let named: Vec<&str> = execute.into_iter().flatten().filter(|name| members.contains_key(*name)).collect();
        let name = match named.as_slice() {
            [name] => *name,
            [] => return Err(Failed::generic("QMP input lacks member 'execute'")),
            _ => return Err(Failed::generic("QMP input member 'exec-oob' clashes with 'execute'")),
        };
        let wrong = |what| Failed::generic(format!("QMP input member '{what}"));
        let command = members[name].as_str().ok_or_else(|| wrong(format!("{name}' must be a string")))?;
        match members.get("arguments") {
            None => Ok((command, &Value::Null)),
            Some(arguments) if arguments.is_object() => Ok((command, arguments)),
            Some(_) => Err(wrong("arguments' must be an object".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests;
