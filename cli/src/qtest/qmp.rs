//! The QEMU machine protocol, as far as test programs need it: a greeting, questions about the machine, and its events.

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
    /// The machine's name.
    pub name: &'a str,
    /// Its devices, by label and catalogue name.
    pub devices: &'a [(String, String)],
    /// Its drives.
    pub drives: &'a [Drive],
}

/// A monitor: one link.
pub struct Monitor {
    port: Port,
    /// The peer has ended the negotiation.
    ready: bool,
}

/// Every command that is answered.
const COMMANDS: [&str; 20] = [
    "qmp_capabilities",
    "query-status",
    "query-version",
    "query-name",
    "query-kvm",
    "query-commands",
    "query-machines",
    "query-cpus-fast",
    "query-block",
    "qom-list-types",
    "qom-list",
    "quit",
    "stop",
    "cont",
    "system_reset",
    "system_powerdown",
    "device_add",
    "device_del",
    "eject",
    "blockdev-change-medium",
];

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
        self.send(&json!({ "QMP": { "version": version(), "capabilities": [] } }));
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
        let command = message.get("execute").or_else(|| message.get("exec-oob")).and_then(Value::as_str);
        let (answer, order) = match command {
            None => (failed("GenericError", "QMP input lacks member 'execute'"), None),
            Some("qmp_capabilities") if self.ready => {
                (failed("CommandNotFound", "Capabilities negotiation is already complete, command ignored"), None)
            }
            Some("qmp_capabilities") => {
                self.ready = true;
                (json!({ "return": {} }), None)
            }
            Some(_) if !self.ready => {
                (failed("CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'"), None)
            }
            Some(command) => return act(command, message.get("arguments").unwrap_or(&Value::Null), facts),
        };
        Becomes::Answer(answer, order)
    }
}

/// Does one command.
fn act(command: &str, arguments: &Value, facts: &Facts<'_>) -> Becomes {
    let returns = |value: Value| Becomes::Answer(json!({ "return": value }), None);
    let orders = |order: Order| Becomes::Answer(json!({ "return": {} }), Some(order));
    let fails = |class: &str, why: &str| Becomes::Answer(failed(class, why), None);
    let word = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    match command {
        "query-status" => returns(json!({
            "running": facts.status == "running", "singlestep": false, "status": facts.status,
        })),
        "query-version" => returns(version()),
        "query-name" => returns(json!({ "name": facts.name })),
        "query-kvm" => returns(json!({ "enabled": false, "present": false })),
        "query-commands" => returns(COMMANDS.iter().map(|name| json!({ "name": name })).collect()),
        "query-machines" => returns(json!([
            { "name": "pc", "is-default": true, "cpu-max": 1, "hotpluggable-cpus": false, "numa-mem-supported": false, "deprecated": false },
            { "name": "none", "cpu-max": 1, "hotpluggable-cpus": false, "numa-mem-supported": false, "deprecated": false },
        ])),
        // No processor runs.
        "query-cpus-fast" => returns(json!([])),
        "query-block" => returns(facts.drives.iter().map(shown).collect()),
        "qom-list-types" => {
            let types = devices::catalogue().iter().map(|entry| json!({ "name": entry.name, "parent": "device" }));
            returns(types.chain([json!({ "name": "pc-machine", "parent": "machine" })]).collect())
        }
        "qom-list" => {
            let children = facts
                .devices
                .iter()
                .map(|(label, device)| json!({ "name": label, "type": format!("child<{device}>") }));
            returns(children.collect())
        }
        "quit" => orders(Order::Quit),
        "stop" => orders(Order::Run(false)),
        "cont" => orders(Order::Run(true)),
        "system_reset" => orders(Order::Reset),
        "system_powerdown" => orders(Order::Powerdown),
        "device_add" => {
            let why = format!(
                "Device '{}' cannot be added: a machine has the devices that it was started with",
                word("driver")
            );
            fails("GenericError", &why)
        }
        "device_del" => {
            let (id, why) = (word("id"), "a machine keeps the devices that it was started with");
            match facts.devices.iter().any(|(label, _)| *label == id) {
                true => fails("GenericError", &format!("Device '{id}' cannot be removed: {why}")),
                false => fails("DeviceNotFound", &format!("Device '{id}' not found")),
            }
        }
        "eject" | "blockdev-change-medium" => match exchange(command, arguments, facts.drives) {
            Ok(exchange) => Becomes::Exchange(exchange),
            Err((class, why)) => fails(class, &why),
        },
        other => fails("CommandNotFound", &format!("The command {other} has not been found")),
    }
}

/// What `eject` or `blockdev-change-medium` asks for; or the class of what is wrong with it, and a sentence.
fn exchange(command: &str, arguments: &Value, drives: &[Drive]) -> Result<Exchange, (&'static str, String)> {
    let word = |name: &str| arguments.get(name).and_then(Value::as_str);
    let wrong = |why: String| ("GenericError", why);
    let asked = word("id").or_else(|| word("device")).ok_or_else(|| wrong("Parameter 'id' is missing".into()))?;
    let is_it = |drive: &&Drive| drive.name == asked || drive.aliases.iter().any(|alias| alias == asked);
    let drive = drives.iter().find(is_it).ok_or_else(|| {
        let names: Vec<&str> = drives.iter().map(|drive| drive.name.as_str()).collect();
        ("DeviceNotFound", format!("Device '{asked}' has no medium to exchange; there are {}", names.join(", ")))
    })?;
    let medium = match command {
        "eject" => None,
        _ => {
            let path = word("filename").ok_or_else(|| wrong("Parameter 'filename' is missing".into()))?;
            match word("format") {
                None | Some("raw") => {}
                Some(other) => return Err(wrong(format!("Unknown driver '{other}'; an image is raw"))),
            }
            let readonly = match word("read-only-mode").unwrap_or("retain") {
                "retain" => drive.medium.as_ref().is_some_and(|medium| medium.readonly),
                "read-only" => true,
                "read-write" => false,
                other => return Err(wrong(format!("Invalid parameter '{other}'"))),
            };
            Some(Medium { path: path.into(), readonly })
        }
    };
    let forced = arguments.get("force").and_then(Value::as_bool).unwrap_or(false);
    Ok(Exchange { drive: drive.name.clone(), medium, forced })
}

/// A drive, as `query-block` has it.
fn shown(drive: &Drive) -> Value {
    let mut shown = json!({ "device": drive.name, "type": "unknown", "removable": true, "locked": false });
    if let Some(Medium { path, readonly }) = &drive.medium {
        shown["inserted"] = json!({ "file": path, "ro": readonly, "drv": "raw" });
    }
    shown
}

fn version() -> Value {
    let part = |text: &str| text.parse::<u32>().unwrap_or_default();
    json!({
        "qemu": {
            "major": part(env!("CARGO_PKG_VERSION_MAJOR")),
            "minor": part(env!("CARGO_PKG_VERSION_MINOR")),
            "micro": part(env!("CARGO_PKG_VERSION_PATCH")),
        },
        "package": concat!("cofferdam ", env!("CARGO_PKG_VERSION")),
    })
}

fn failed(class: &str, why: &str) -> Value {
    json!({ "error": { "class": class, "desc": why } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(devices: &[(String, String)]) -> Facts<'_> {
        Facts { status: "running", name: "test", devices, drives: &[] }
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
    fn a_drive_that_is_not_there_or_an_image_that_is_not_said_is_refused() {
        let medium = Some(Medium { path: "a.img".into(), readonly: true });
        let drives = [Drive { name: "floppy0".into(), aliases: vec!["mine".into()], medium: medium.clone() }];
        let asked = |command: &str, arguments: Value| exchange(command, &arguments, &drives);
        let class = |command, arguments| asked(command, arguments).unwrap_err().0;
        assert_eq!(class("eject", json!({ "device": "floppy1" })), "DeviceNotFound");
        assert_eq!(class("eject", json!({})), "GenericError");
        assert_eq!(class("blockdev-change-medium", json!({ "id": "mine" })), "GenericError");
        let more = json!({ "id": "mine", "filename": "b.img", "format": "qcow2" });
        assert!(asked("blockdev-change-medium", more).unwrap_err().1.contains("qcow2"));
        let taken = Exchange { drive: "floppy0".into(), medium: None, forced: true };
        assert_eq!(asked("eject", json!({ "device": "floppy0", "force": true })), Ok(taken));
        let retained = asked("blockdev-change-medium", json!({ "id": "mine", "filename": "b.img" })).unwrap();
        assert_eq!(retained.medium, Some(Medium { path: "b.img".into(), readonly: true }));
        assert_eq!(shown(&drives[0])["inserted"]["file"], "a.img");
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
}
