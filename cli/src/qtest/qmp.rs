//! The QEMU machine protocol, as far as test programs need it: a greeting, questions about the machine, and its events.

use super::link::{Heard, Link, Port};
use anyhow::Result;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

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

/// What is told of the machine.
pub struct Facts<'a> {
    /// As `query-status` names it.
    pub status: &'static str,
    /// The machine's name.
    pub name: &'a str,
    /// Its devices, by label and catalogue name.
    pub devices: &'a [(String, String)],
}

/// A monitor: one link.
pub struct Monitor {
    port: Port,
    /// The peer has ended the negotiation.
    ready: bool,
}

/// Every command that is answered.
const COMMANDS: [&str; 19] = [
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

    /// Answers what was said; the orders among it are for the caller.
    pub fn serve(&mut self, facts: &Facts<'_>) -> Vec<Order> {
        if self.port.look() == Heard::Came {
            self.greet();
        }
        let mut orders = Vec::new();
        for message in self.messages() {
            let (answer, order) = match message {
                Ok(message) => self.answer(&message, facts),
                Err(why) => (failed("GenericError", &why), None),
            };
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

    fn answer(&mut self, message: &Value, facts: &Facts<'_>) -> (Value, Option<Order>) {
        let command = message.get("execute").or_else(|| message.get("exec-oob")).and_then(Value::as_str);
        let (mut answer, order) = match command {
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
            Some(command) => act(command, message.get("arguments").unwrap_or(&Value::Null), facts),
        };
        if let Some(id) = message.get("id") {
            answer["id"] = id.clone();
        }
        (answer, order)
    }
}

/// Does one command.
fn act(command: &str, arguments: &Value, facts: &Facts<'_>) -> (Value, Option<Order>) {
    let returns = |value: Value| (json!({ "return": value }), None);
    let orders = |order: Order| (json!({ "return": {} }), Some(order));
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
        "query-cpus-fast" | "query-block" => returns(json!([])),
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
            (failed("GenericError", &why), None)
        }
        "device_del" => {
            let (id, why) = (word("id"), "a machine keeps the devices that it was started with");
            match facts.devices.iter().any(|(label, _)| *label == id) {
                true => (failed("GenericError", &format!("Device '{id}' cannot be removed: {why}")), None),
                false => (failed("DeviceNotFound", &format!("Device '{id}' not found")), None),
            }
        }
        "eject"
        | "blockdev-change-medium"
        | "blockdev-open-tray"
        | "blockdev-close-tray"
        | "blockdev-remove-medium" => {
            let id = if word("id").is_empty() { word("device") } else { word("id") };
            (failed("GenericError", &format!("Device '{id}': its medium stays what it was started with")), None)
        }
        other => (failed("CommandNotFound", &format!("The command {other} has not been found")), None),
    }
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
        Facts { status: "running", name: "test", devices }
    }

    fn ask(command: &str, arguments: Value) -> (Value, Option<Order>) {
        let devices = [("uart16550".to_owned(), "uart16550".to_owned())];
        act(command, &arguments, &facts(&devices))
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
        monitor.serve(&no_devices);
        use std::io::{BufRead, Write};
        let mut replies = std::io::BufReader::new(peer.try_clone().unwrap());
        let mut line = || {
            let mut text = String::new();
            replies.read_line(&mut text).unwrap();
            serde_json::from_str::<Value>(&text).unwrap()
        };
        assert!(line()["QMP"]["version"].is_object());
        peer.write_all(b"{\"execute\":\"query-status\"}{\"execute\":\"qmp_capabilities\",\"id\":7}").unwrap();
        monitor.serve(&no_devices);
        assert_eq!(line()["error"]["class"], "CommandNotFound", "not before the negotiation");
        assert_eq!(line(), json!({ "return": {}, "id": 7 }));
        peer.write_all(b"{nonsense}\n{\"execute\":\"quit\"}").unwrap();
        assert_eq!(monitor.serve(&no_devices), [Order::Quit]);
        assert_eq!(line()["error"]["class"], "GenericError");
    }
}
