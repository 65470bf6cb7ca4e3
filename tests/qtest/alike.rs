//! What the two monitors answer alike: ours, and that of Debian's QEMU, which is seen from outside alone.

use crate::driven::Program;
use crate::harness::Place;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// What both are told, and answer in the same words.
const SAID: &[&str] = &[
    r#"{"execute": "qmp_capabilities", "id": 1}"#,
    r#"{"execute": "dance", "id": {"a": [1, null]}}"#,
    r#"{"execute": "query-status", "arguments": {"x": 1}, "id": null}"#,
    r#"{"execute": 7}"#,
    r#"{"foo": 1}"#,
    r#"{"execute": "query-status", "arguments": []}"#,
    r#"{"exec-oob": "query-status"}"#,
    "[]",
    "null",
    r#"{"execute": "query-status"}"#,
    r#"{"execute": "query-name"}"#,
    r#"{"execute": "query-target"}"#,
    r#"{"execute": "query-iothreads"}"#,
    r#"{"execute": "eject"}"#,
    r#"{"execute": "eject", "arguments": {"device": "a", "id": "b"}}"#,
    r#"{"execute": "eject", "arguments": {"device": 7}}"#,
    r#"{"execute": "eject", "arguments": {"device": "nope"}}"#,
    r#"{"execute": "eject", "arguments": {"device": "ide1-cd0", "force": "yes"}}"#,
    r#"{"execute": "blockdev-change-medium", "arguments": {"id": "nope"}}"#,
    r#"{"execute": "blockdev-change-medium", "arguments": {"id": "nope", "filename": "/nope"}}"#,
    r#"{"execute": "device_del"}"#,
    r#"{"execute": "device_del", "arguments": {"id": "nope"}}"#,
    r#"{"execute": "device_add"}"#,
    r#"{"execute": "device_add", "arguments": {"driver": "nope"}}"#,
    r#"{"execute": "qom-get", "arguments": {"path": "/nope", "property": "x"}}"#,
    r#"{"execute": "qom-list", "arguments": {"path": "/nope"}}"#,
    r#"{"execute": "qom-list", "arguments": {"path": 7}}"#,
    r#"{"execute": "device-list-properties", "arguments": {"typename": "nope"}}"#,
    r#"{"execute": "watchdog-set-action", "arguments": {"action": "dance"}}"#,
    r#"{"execute": "watchdog-set-action"}"#,
    r#"{"execute": "set-action", "arguments": {"panic": "dance"}}"#,
    r#"{"execute": "set-action", "arguments": {"x": "dance"}}"#,
    r#"{"execute": "set-action", "arguments": {"panic": "pause", "shutdown": "pause"}}"#,
    r#"{"execute": "human-monitor-command"}"#,
    r#"{"execute": "human-monitor-command", "arguments": {"command-line": 7}}"#,
    r#"{"execute": "human-monitor-command", "arguments": {"command-line": ""}}"#,
    r#"{"execute": "human-monitor-command", "arguments": {"command-line": "dance now"}}"#,
    r#"{"execute": "human-monitor-command", "arguments": {"command-line": "info dance"}}"#,
    r#"{"execute": "human-monitor-command", "arguments": {"command-line": "info status"}}"#,
    r#"{"execute": "human-monitor-command", "arguments": {"command-line": "info name"}}"#,
    r#"{"execute": "human-monitor-command", "arguments": {"command-line": "eject nope"}}"#,
    r#"{"execute": "human-monitor-command", "arguments": {"command-line": "watchdog_action dance"}}"#,
];
/// Orders, and the events that they bring about before they are answered.
const ORDERED: &[(&str, &[&str])] = &[
    (r#"{"execute": "cont", "id": 2}"#, &["RESUME"]),
    (r#"{"execute": "stop"}"#, &["STOP"]),
    (r#"{"execute": "query-status"}"#, &[]),
    (r#"{"execute": "human-monitor-command", "arguments": {"command-line": "c"}}"#, &["RESUME"]),
    (r#"{"execute": "human-monitor-command", "arguments": {"command-line": "stop"}}"#, &["STOP"]),
    (r#"{"execute": "system_reset"}"#, &["RESET"]),
];
/// What a guest says at the panic device, and the event that tells of it.
const EVENTS: &[(&str, &str)] = &[("outb 0x505 2", "GUEST_CRASHLOADED"), ("outb 0x505 1", "GUEST_PANICKED")];
/// A processor that has this before it halts.
const FIRMWARE: &[u8] = &[0xf4; 64 << 10];

#[test]
fn both_monitors_answer_alike() {
    let other = Path::new("qemu-system-x86_64");
    if Command::new(other).arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("SKIPPED: there is no qemu-system-x86_64 to compare with");
        return;
    }
    let places = [Place::new(), Place::new()];
    let firmware = places[1].file("halt", FIRMWARE);
    let words = ["-S", "-name", "guest=mine", "-device", "pvpanic", "-bios", &*firmware.to_string_lossy()];
    let mut ours = Program::start(&places[0], &words);
    let mut theirs = Program::start_as(&places[1], other, "tcg", &words);
    for line in SAID {
        assert_eq!(ours.say(line), theirs.say(line), "{line}");
    }
    for (line, events) in ORDERED {
        assert_eq!(ours.say(line), theirs.say(line), "{line}");
        for program in [&mut ours, &mut theirs] {
            let before: Vec<Value> = program.told_before().map(|event| event["event"].clone()).collect();
            assert_eq!(before, *events, "{line}");
        }
    }
    for (line, event) in EVENTS {
        let mut told = [&mut ours, &mut theirs].map(|program| {
            program.test.ask(line);
            program.event(event)
        });
        // Later ones say more.
        told.iter_mut().for_each(|data| drop(data.as_object_mut().and_then(|data| data.remove("info"))));
        assert_eq!(told[0], told[1], "{line}");
    }
    assert_eq!(ours.say(r#"{"execute": "quit"}"#), theirs.say(r#"{"execute": "quit"}"#));
    assert_eq!(ours.event("SHUTDOWN"), theirs.event("SHUTDOWN"));
}
