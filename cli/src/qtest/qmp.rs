//! The QEMU machine protocol, as far as test programs need it: a greeting, questions about the machine, and its events.

mod commands;
mod people;
mod tree;

use super::Actions;
use super::link::{Heard, Link, Port};
use anyhow::Result;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use vmm::supervisor::Medium;

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
}

/// What a command has done with a drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The drive, as the machine calls it.
    pub drive: String,
    /// What is to be in it; nothing: the medium is taken out.
    pub medium: Option<Medium>,
    /// Though the guest holds the one that is there.
    pub forced: bool,
}

/// A drive whose medium can be exchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// As the machine calls it.
    pub name: String,
    /// As others call it: by the place where it is, or as who started the machine has it.
    pub aliases: Vec<String>,
    /// What is in it.
    pub medium: Option<Medium>,
}

/// A disk, whose medium stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// By the place where it is.
    pub name: String,
    /// Its image.
    pub medium: Medium,
}

/// What becomes of a command.
#[derive(Debug, Clone, PartialEq)]
enum Becomes {
    /// An answer, and what the machine is to do after it.
    Answer(Value, Option<Order>),
    /// What the machine does first.
    Exchange(Exchange),
}

/// What is told of the machine.
pub struct Facts<'a> {
    /// As `query-status` names it.
    pub status: &'static str,
    /// What the machine is called.
    pub name: &'a str,
    /// It is a PC.
    pub is_pc: bool,
    /// Bytes of its memory.
    pub memory_bytes: u64,
    /// Its devices, by label and catalogue name.
    pub devices: &'a [(String, String)],
    /// Those that were given an id, which comes first, with what they are.
    pub ids: &'a [(String, String)],
    /// Character devices, and what is behind each.
    pub chardevs: &'a [(String, String)],
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
    /// The peer has ended the negotiation.
    ready: bool,
}

/// Longest message: as a person or a program writes them, with some room.
const MESSAGE_MAX: usize = 1 << 20;
/// Members that a command may have.
const MEMBERS: [&str; 3] = ["execute", "arguments", "id"];

impl Monitor {
    /// Opens it, and greets whoever is there.
    pub fn open(link: &Link) -> Result<Monitor> {
        let mut monitor = Monitor { port: Port::open(link)?, ready: false };
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
        self.ready = false;
        self.send(&json!({ "QMP": { "version": commands::version(), "capabilities": [] } }));
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

    /// Answers what was said; the orders among it are for the caller. `exchange` has another medium in a drive; what became of it
    /// is the answer.
    pub fn serve(
        &mut self,
        facts: &Facts<'_>,
        exchange: &mut dyn FnMut(&Exchange) -> Result<(), String>,
    ) -> Vec<Order> {
        if self.port.look() == Heard::Came {
            self.greet();
        }
        let mut orders = Vec::new();
        for message in self.messages() {
            let (id, becomes) = match message {
                Ok(message) => (message.get("id").cloned(), self.answer(&message, facts)),
                Err(why) => (None, Becomes::Answer(failed("GenericError", &why), None)),
            };
            let (mut answer, order) = match becomes {
                Becomes::Answer(answer, order) => (answer, order),
                Becomes::Exchange(asked) => match exchange(&asked) {
                    Ok(()) => {
                        self.tray_moved(&asked);
                        (json!({ "return": {} }), None)
                    }
                    Err(why) => (failed("GenericError", &why), None),
                },
            };
            if let Some(id) = id {
                answer["id"] = id;
            }
            self.send(&answer);
            orders.extend(order);
        }
        orders
    }

    /// The whole messages that were said.
    fn messages(&mut self) -> Vec<Result<Value, String>> {
        let Some(pending) = self.port.pending() else { return Vec::new() };
        let mut messages = Vec::new();
        let mut taken = 0;
        'all: loop {
            let mut stream = serde_json::Deserializer::from_slice(&pending[taken..]).into_iter::<Value>();
            loop {
                match stream.next() {
                    Some(Ok(message)) => messages.push(Ok(message)),
                    Some(Err(error)) if !error.is_eof() => {
                        messages.push(Err(format!("JSON parse error: {error}")));
                        // Where a broken message ends cannot be known: its line is given up.
                        taken += stream.byte_offset();
                        let line = pending[taken..].iter().position(|byte| *byte == b'\n');
                        taken = line.map_or(pending.len(), |end| taken + end + 1);
                        continue 'all;
                    }
                    _ => {
                        taken += stream.byte_offset();
                        break 'all;
                    }
                }
            }
        }
        pending.drain(..taken);
        if pending.len() > MESSAGE_MAX {
            pending.clear();
            messages.push(Err(format!("JSON message too long: there is room for {MESSAGE_MAX} bytes")));
        }
        messages
    }

    /// What a drive with a tray did with it: a diskette's door counts as one.
    fn tray_moved(&mut self, asked: &Exchange) {
        let event = |open: bool| json!({ "device": asked.drive, "id": asked.drive, "tray-open": open });
        self.event("DEVICE_TRAY_MOVED", &event(true));
        if asked.medium.is_some() {
            self.event("DEVICE_TRAY_MOVED", &event(false));
        }
    }

    fn answer(&mut self, message: &Value, facts: &Facts<'_>) -> Becomes {
        let (command, arguments) = match command(message) {
            Ok(command) => command,
            Err(why) => return Becomes::Answer(failed("GenericError", &why), None),
        };
        let wants = arguments.get("enable").and_then(Value::as_array).is_some_and(|enable| !enable.is_empty());
        let answer = match command {
            "qmp_capabilities" if self.ready => {
                failed("CommandNotFound", "Capabilities negotiation is already complete, command ignored")
            }
            "qmp_capabilities" if wants => failed("GenericError", "There is no capability to enable"),
            "qmp_capabilities" => {
                self.ready = true;
                json!({ "return": {} })
            }
            _ if !self.ready => failed("CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'"),
            command => return commands::act(command, arguments, facts),
        };
        Becomes::Answer(answer, None)
    }
}

/// The command of a message, and its arguments; or a sentence that says what is wrong with it.
fn command(message: &Value) -> Result<(&str, &Value), String> {
    let members = message.as_object().ok_or("QMP input must be a JSON object")?;
    if let Some(unknown) = members.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
        return Err(format!("QMP input member '{unknown}' is unexpected"));
    }
    let command = members.get("execute").ok_or("QMP input lacks member 'execute'")?;
    let command = command.as_str().ok_or("QMP input member 'execute' must be a string")?;
    match members.get("arguments") {
        None => Ok((command, &Value::Null)),
        Some(arguments) if arguments.is_object() => Ok((command, arguments)),
        Some(_) => Err("QMP input member 'arguments' must be an object".to_owned()),
    }
}

fn failed(class: &str, why: &str) -> Value {
    json!({ "error": { "class": class, "desc": why } })
}

#[cfg(test)]
mod tests {
    use super::commands::act;
    use super::*;

    fn facts(devices: &[(String, String)]) -> Facts<'_> {
        Facts {
            status: "running",
            name: "test",
            is_pc: true,
            memory_bytes: 1 << 20,
            devices,
            ids: &[],
            chardevs: &[],
            drives: &[],
            disks: &[],
            actions: Actions::default(),
        }
    }

    fn ask(command: &str, arguments: Value) -> (Value, Option<Order>) {
        let devices = [("uart16550".to_owned(), "uart16550".to_owned())];
        match act(command, &arguments, &facts(&devices)) {
            Becomes::Answer(answer, order) => (answer, order),
            Becomes::Exchange(_) => panic!("there are no drives"),
        }
    }

    fn no_drives(_: &Exchange) -> Result<(), String> {
        Err("there are no drives".into())
    }

    #[test]
    fn what_is_not_there_is_said() {
        assert_eq!(ask("dance", json!({})).0["error"]["class"], "CommandNotFound");
        assert_eq!(ask("device_del", json!({ "id": "x" })).0["error"]["class"], "DeviceNotFound");
        assert_eq!(ask("device_del", json!({ "id": "uart16550" })).0["error"]["class"], "GenericError");
        assert!(ask("device_add", json!({ "driver": "e1000" })).0["error"]["desc"].as_str().unwrap().contains("e1000"));
    }

    #[test]
    fn orders_are_answered_and_handed_on() {
        for (command, order) in [("quit", Order::Quit), ("stop", Order::Run(false)), ("system_reset", Order::Reset)] {
            assert_eq!(ask(command, Value::Null), (json!({ "return": {} }), Some(order)));
        }
    }

    #[test]
    fn the_catalogue_is_what_there_is() {
        let types = ask("qom-list-types", json!({})).0;
        let names: Vec<&str> =
            types["return"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
        assert!(devices::catalogue().iter().all(|entry| names.contains(&entry.name)));
        assert_eq!(ask("query-status", json!({})).0["return"]["status"], "running");
    }

    #[test]
    fn messages_need_no_lines_and_a_broken_one_does_not_spoil_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qmp");
        let mut monitor = Monitor::open(&Link::Listen(path.clone())).unwrap();
        let mut peer = std::os::unix::net::UnixStream::connect(path).unwrap();
        let no_devices = facts(&[]);
        monitor.serve(&no_devices, &mut no_drives);
        use std::io::{BufRead, Write};
        let mut replies = std::io::BufReader::new(peer.try_clone().unwrap());
        let mut line = || {
            let mut text = String::new();
            replies.read_line(&mut text).unwrap();
            serde_json::from_str::<Value>(&text).unwrap()
        };
        assert!(line()["QMP"]["version"].is_object());
        peer.write_all(b"{\"execute\":\"query-status\"}{\"execute\":\"qmp_capabilities\",\"id\":7}").unwrap();
        monitor.serve(&no_devices, &mut no_drives);
        assert_eq!(line()["error"]["class"], "CommandNotFound", "not before the negotiation");
        assert_eq!(line(), json!({ "return": {}, "id": 7 }));
        peer.write_all(b"{nonsense}\n{\"execute\":\"quit\"}").unwrap();
        assert_eq!(monitor.serve(&no_devices, &mut no_drives), [Order::Quit]);
        assert_eq!(line()["error"]["class"], "GenericError");
    }

    #[test]
    fn a_message_that_is_no_command_is_refused_with_its_id() {
        for (message, sentence) in [
            (json!([]), "QMP input must be a JSON object"),
            (json!({ "arguments": {} }), "QMP input lacks member 'execute'"),
            (json!({ "execute": 1 }), "QMP input member 'execute' must be a string"),
            (json!({ "execute": "stop", "arguments": [] }), "QMP input member 'arguments' must be an object"),
            (json!({ "execute": "stop", "argument": {} }), "QMP input member 'argument' is unexpected"),
        ] {
            assert_eq!(command(&message), Err(sentence.to_owned()));
        }
    }

    #[test]
    fn a_message_without_end_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qmp");
        let mut monitor = Monitor::open(&Link::Listen(path.clone())).unwrap();
        let mut peer = std::os::unix::net::UnixStream::connect(path).unwrap();
        monitor.serve(&facts(&[]), &mut no_drives);
        let sender = std::thread::spawn(move || {
            use std::io::Write;
            let _ = peer.write_all(&[b'['; 8]).and_then(|()| peer.write_all(&vec![b' '; MESSAGE_MAX]));
            peer
        });
        let answers = |monitor: &mut Monitor| {
            monitor.port.look();
            monitor.messages()
        };
        let refused = loop {
            if let Some(refused) = answers(&mut monitor).pop() {
                break refused;
            }
        };
        assert!(refused.unwrap_err().contains("too long"));
        drop(sender.join());
        assert_eq!(monitor.port.pending().map(|pending| pending.len() < MESSAGE_MAX), Some(true));
    }
}
