//! What programs ask a monitor at their start, and what they try on it.

use crate::driven::Program;
use crate::harness::Place;
use serde_json::{Value, json};

#[test]
fn what_is_no_command_is_refused_with_its_id_and_the_next_is_answered() {
    let place = Place::new();
    let mut program = Program::start(&place, &["-machine", "none"]);
    let class = |answer: &Value| answer["error"]["class"].as_str().unwrap_or("none").to_owned();
    for wrong in
        ["null", "[]", "{nonsense}", "{\"execute\": 7}", "{\"execute\": \"stop\", \"arguments\": []}", "{\"more\": 1}"]
    {
        assert_eq!(class(&program.say(wrong)), "GenericError", "{wrong}");
    }
    assert_eq!(class(&program.say("{\"execute\": \"dance\"}")), "CommandNotFound");
    let answer = program.say("{\"execute\": \"dance\", \"id\": {\"a\": [1]}}");
    assert_eq!(answer["id"], json!({ "a": [1] }));
    let again = program.execute("qmp_capabilities", json!({}));
    assert_eq!(class(&again), "CommandNotFound");
    let missing = program.execute("device_del", json!({}));
    assert_eq!(missing["error"]["desc"], "Parameter 'id' is missing");
    assert_eq!(program.say("{\"execute\":\n \"query-name\",\n \"id\": 1}"), json!({ "return": {}, "id": 1 }));
}

#[test]
fn machines_types_and_objects_can_be_listed_to_the_end() {
    let place = Place::new();
    let words = ["-device", "ib700,id=dog", "-chardev", "null,id=n", "-name", "guest=mine,debug-threads=on"];
    let mut program = Program::start(&place, &words);
    let machines = program.execute("query-machines", json!({}));
    let pc = machines["return"].as_array().unwrap().iter().find(|one| one["alias"] == "pc").unwrap();
    assert_eq!(pc["is-default"], true);
    let types = program.execute("qom-list-types", json!({ "implements": "device", "abstract": false }));
    for name in ["isa-serial", "ide-cd", "virtio-rng-pci", "ib700"] {
        assert!(types["return"].as_array().unwrap().iter().any(|one| one["name"] == name), "{name}");
    }
    let mut paths = vec!["/machine".to_owned()];
    let mut dogs = 0;
    while let Some(path) = paths.pop() {
        let listed = program.execute("qom-list", json!({ "path": path }));
        for one in listed["return"].as_array().unwrap() {
            let name = one["name"].as_str().unwrap();
            let got = program.execute("qom-get", json!({ "path": path, "property": name }));
            assert!(got["return"].is_string(), "{path} {name}: {got}");
            dogs += u32::from(name == "type" && got["return"] == "ib700");
            if one["type"].as_str().unwrap().starts_with("child<") {
                paths.push(format!("{path}/{name}"));
            }
        }
    }
    assert_eq!(dogs, 3, "by its label, by its id, by its number");
    assert_eq!(program.execute("qom-list", json!({ "path": "/teapot" }))["error"]["class"], "DeviceNotFound");
    let properties = program.execute("device-list-properties", json!({ "typename": "pvpanic" }));
    assert_eq!(properties["return"][0]["name"], "events");
    assert_eq!(program.execute("query-name", json!({}))["return"]["name"], "mine");
    assert_eq!(program.execute("query-chardev", json!({}))["return"].as_array().unwrap().len(), 2);
    let said = program.execute("human-monitor-command", json!({ "command-line": "dance" }));
    assert_eq!(said["return"], "unknown command: 'dance'\r\n");
    let schema = program.execute("query-qmp-schema", json!({}));
    let is_event = |one: &&Value| one["meta-type"] == "event";
    assert!(schema["return"].as_array().unwrap().iter().filter(is_event).any(|one| one["name"] == "WATCHDOG"));
    // Every question that needs no argument has an answer.
    let commands = program.execute("query-commands", json!({}));
    for command in commands["return"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()) {
        if command.starts_with("query-") {
            assert!(program.execute(command, json!({})).get("return").is_some(), "{command}");
        }
    }
}

#[test]
fn it_stops_and_goes_on_and_does_other_things_than_at_its_start() {
    let place = Place::new();
    let mut program = Program::start(&place, &["-S", "-device", "ib700"]);
    assert_eq!(program.execute("query-status", json!({}))["return"]["status"], "prelaunch");
    program.execute("cont", json!({}));
    program.event("RESUME");
    let line = json!({ "command-line": "stop" });
    assert_eq!(program.execute("human-monitor-command", line), json!({ "return": "" }));
    program.event("STOP");
    assert_eq!(program.execute("query-status", json!({}))["return"]["running"], false);
    let refused = program.execute("watchdog-set-action", json!({ "action": "dance" }));
    assert_eq!(refused["error"]["class"], "GenericError");
    program.execute("set-action", json!({ "watchdog": "none" }));
    program.test.ask("outb 0x443 0xf");
    program.test.ask("clock_step 1000000000");
    assert_eq!(program.event("WATCHDOG")["action"], "none");
    program.execute("quit", json!({}));
    assert_eq!(program.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_reset_that_ends_the_machine_is_an_end_unless_it_is_to_stay() {
    for (words, stays) in [(&["-no-reboot"][..], false), (&["-no-reboot", "-no-shutdown"], true)] {
        let place = Place::new();
        let mut program = Program::start(&place, words);
        program.test.ask("outb 0x64 0xfe");
        assert_eq!(program.event("SHUTDOWN")["reason"], "guest-reset");
        match stays {
            false => assert_eq!(program.child.wait().unwrap().code(), Some(0)),
            true => assert_eq!(program.execute("query-status", json!({}))["return"]["status"], "shutdown"),
        }
    }
}
