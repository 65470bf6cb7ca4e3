//! Conversations with a monitor.

use super::*;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

/// A monitor, and who is at its other end.
struct World {
    monitor: Monitor,
    names: Names,
    devices: Vec<(String, String)>,
    peer: UnixStream,
    replies: BufReader<UnixStream>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qmp");
        let mut monitor = Monitor::open(&Link::Listen(path.clone())).unwrap();
        let peer = UnixStream::connect(path).unwrap();
        monitor.look();
        let replies = BufReader::new(peer.try_clone().unwrap());
        let devices = vec![("uart16550".to_owned(), "uart16550".to_owned())];
        let mut world = World { monitor, names: Names::default(), devices, peer, replies, _folder: folder };
        assert_eq!(world.reply()["QMP"]["capabilities"], json!(["oob"]));
        world
    }

    fn reply(&mut self) -> Value {
        let mut text = String::new();
        self.replies.read_line(&mut text).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Considers what is there, and answers it; what it has ordered.
    fn serve(&mut self) -> Vec<Order> {
        let facts = Facts {
            status: "running",
            names: &self.names,
            is_pc: true,
            memory_bytes: 1 << 20,
            devices: &self.devices,
            drives: &[],
            disks: &[],
            actions: Actions::default(),
        };
        self.monitor.look();
        let mut orders = Vec::new();
        while let Some(message) = self.monitor.next() {
            let asked = self.monitor.consider(&message, &facts);
            orders.extend(asked.order().cloned());
            self.monitor.answer(asked, Ok(json!({})));
        }
        orders
    }

    fn say(&mut self, message: &str) -> Value {
        self.peer.write_all(message.as_bytes()).unwrap();
        self.serve();
        self.reply()
    }

    fn ready() -> World {
        let mut world = World::new();
        assert_eq!(world.say("{\"execute\":\"qmp_capabilities\"}"), json!({ "return": {} }));
        world
    }

    fn ask(&mut self, command: &str, arguments: Value) -> Value {
        self.say(&json!({ "execute": command, "arguments": arguments }).to_string())
    }
}

#[test]
fn what_is_not_there_is_said() {
    let mut world = World::ready();
    assert_eq!(world.ask("dance", json!({}))["error"]["class"], "CommandNotFound");
    assert_eq!(world.ask("device_del", json!({ "id": "x" }))["error"]["class"], "DeviceNotFound");
    assert_eq!(world.ask("device_del", json!({ "id": "uart16550" }))["error"]["class"], "GenericError");
    let unknown = world.ask("device_add", json!({ "driver": "e1000", "mac": "x" }));
    assert_eq!(unknown["error"]["desc"], "'e1000' is not a valid device model name");
    let known = world.ask("device_add", json!({ "driver": "rtl8139" }));
    assert!(known["error"]["desc"].as_str().unwrap().contains("cannot be added"));
}

#[test]
fn orders_are_handed_on_before_they_are_answered() {
    let mut world = World::ready();
    for (command, order) in [("quit", Order::Quit), ("stop", Order::Run(false)), ("system_reset", Order::Reset)] {
        world.peer.write_all(json!({ "execute": command, "id": command }).to_string().as_bytes()).unwrap();
        assert_eq!(world.serve(), [order]);
        assert_eq!(world.reply(), json!({ "return": {}, "id": command }));
    }
    let line = json!({ "execute": "human-monitor-command", "arguments": { "command-line": "stop" } });
    world.peer.write_all(line.to_string().as_bytes()).unwrap();
    assert_eq!(world.serve(), [Order::Run(false)]);
    assert_eq!(world.reply(), json!({ "return": "" }));
}

#[test]
fn the_catalogue_is_what_there_is() {
    let mut world = World::ready();
    let types = world.ask("qom-list-types", json!({}));
    let names: Vec<&str> = types["return"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert!(devices::catalogue().iter().all(|entry| names.contains(&entry.name)));
    assert_eq!(world.ask("query-status", json!({}))["return"]["status"], "running");
}

#[test]
fn messages_need_no_lines_and_a_broken_one_does_not_spoil_the_next() {
    let mut world = World::new();
    let early = world.say("{\"execute\":\"query-status\"}{\"execute\":\"qmp_capabilities\",\"id\":7}");
    assert_eq!(early["error"]["class"], "CommandNotFound", "not before the negotiation");
    assert_eq!(world.reply(), json!({ "return": {}, "id": 7 }));
    let broken = world.say("{nonsense}\n{\"execute\":\"query-name\",\n\"id\":null}");
    assert_eq!(broken["error"]["class"], "GenericError");
    assert_eq!(world.reply(), json!({ "return": {}, "id": null }));
}

#[test]
fn a_message_that_is_no_command_is_refused_with_its_id() {
    let mut world = World::ready();
    for (message, sentence) in [
        (json!([]), "QMP input must be a JSON object"),
        (json!({ "arguments": {} }), "QMP input lacks member 'execute'"),
        (json!({ "execute": 1, "id": 2 }), "QMP input member 'execute' must be a string"),
        (json!({ "execute": "stop", "arguments": [] }), "QMP input member 'arguments' must be an object"),
        (json!({ "execute": "stop", "argument": {} }), "QMP input member 'argument' is unexpected"),
        (json!({ "exec-oob": "stop" }), "QMP input member 'exec-oob' is unexpected"),
    ] {
        let answer = world.say(&message.to_string());
        assert_eq!((&answer["error"]["desc"], &answer["id"]), (&json!(sentence), &message["id"]));
    }
}

#[test]
fn no_command_goes_out_of_band_though_a_peer_may_be_ready_for_it() {
    let mut world = World::new();
    let wrong = world.say("{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"dance\"]}}");
    assert_eq!(wrong["error"]["class"], "GenericError");
    assert_eq!(world.ask("qmp_capabilities", json!({ "enable": ["oob"] })), json!({ "return": {} }));
    let refused = world.say("{\"exec-oob\":\"query-status\",\"id\":1}");
    assert_eq!(refused["error"]["desc"], "The command query-status does not support OOB");
    assert_eq!(world.say("{\"exec-oob\":\"dance\"}")["error"]["class"], "CommandNotFound");
    assert_eq!(world.say("{\"exec-oob\":\"stop\",\"execute\":\"stop\"}")["error"]["class"], "GenericError");
}

#[test]
fn a_message_without_end_is_given_up() {
    let mut world = World::new();
    let mut peer = world.peer.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let _ = peer.write_all(&[b'['; 8]).and_then(|()| peer.write_all(&vec![b' '; MESSAGE_MAX]));
    });
    let refused = loop {
        world.monitor.look();
        if let Some(refused) = world.monitor.next() {
            break refused;
        }
    };
    assert!(refused.unwrap_err().why.contains("too long"));
    drop(sender.join());
    assert_eq!(world.monitor.port.pending().map(|pending| pending.len() < MESSAGE_MAX), Some(true));
}
