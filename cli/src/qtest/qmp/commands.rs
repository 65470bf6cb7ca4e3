//! What each command of the machine protocol does.

use super::{Becomes, Drive, Exchange, Facts, Order, failed, people, tree};
use crate::qtest::{After, Watchdog};
use serde_json::{Value, json};
use vmm::supervisor::Medium;

/// Every command that is answered.
const COMMANDS: [&str; 43] = [
    "qmp_capabilities",
    "query-status",
    "query-version",
    "query-name",
    "query-kvm",
    "query-target",
    "query-commands",
    "query-machines",
    "query-cpus-fast",
    "query-cpu-definitions",
    "query-hotpluggable-cpus",
    "query-memory-size-summary",
    "query-memory-devices",
    "query-iothreads",
    "query-jobs",
    "query-block-jobs",
    "query-mice",
    "query-chardev",
    "query-block",
    "query-named-block-nodes",
    "qom-list-types",
    "qom-list",
    "qom-get",
    "qom-set",
    "device-list-properties",
    "qom-list-properties",
    "human-monitor-command",
    "quit",
    "stop",
    "cont",
    "system_reset",
    "system_powerdown",
    "set-action",
    "watchdog-set-action",
    "device_add",
    "device_del",
    "object-add",
    "object-del",
    "netdev_add",
    "netdev_del",
    "eject",
    "blockdev-change-medium",
    "inject-nmi",
];
/// Of those, the ones that change what a machine has; it keeps what it was started with.
const FIXED: [&str; 5] = ["object-add", "object-del", "netdev_add", "netdev_del", "inject-nmi"];
/// Questions whose answer is that there is none.
const EMPTY: [&str; 8] = [
    // No processor runs.
    "query-cpus-fast",
    "query-cpu-definitions",
    "query-hotpluggable-cpus",
    "query-memory-devices",
    "query-iothreads",
    "query-jobs",
    "query-block-jobs",
    "query-mice",
];

/// Does one command.
pub fn act(command: &str, arguments: &Value, facts: &Facts<'_>) -> Becomes {
    let returns = |value: Value| Becomes::Answer(json!({ "return": value }), None);
    let orders = |order: Order| Becomes::Answer(json!({ "return": {} }), Some(order));
    let fails = |(class, why): (&str, String)| Becomes::Answer(failed(class, &why), None);
    let told = |result: Result<Value, (&'static str, String)>| result.map_or_else(fails, returns);
    let word = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    match command {
        "query-status" => returns(json!({
            "running": facts.status == "running", "singlestep": false, "status": facts.status,
        })),
        "query-version" => returns(version()),
        "query-name" if facts.name.is_empty() => returns(json!({})),
        "query-name" => returns(json!({ "name": facts.name })),
        "query-kvm" => returns(json!({ "enabled": false, "present": false })),
        "query-target" => returns(json!({ "arch": "x86_64" })),
        "query-commands" => returns(COMMANDS.iter().map(|name| json!({ "name": name })).collect()),
        "query-machines" => returns(machines()),
        "query-memory-size-summary" => returns(json!({ "base-memory": facts.memory_bytes })),
        "query-chardev" => returns(
            facts
                .chardevs
                .iter()
                .map(|(label, filename)| {
                    json!({
                        "label": label, "filename": filename, "frontend-open": true,
                    })
                })
                .collect(),
        ),
        "query-block" => returns(blocks(facts)),
        "query-named-block-nodes" => returns(nodes(facts)),
        question if EMPTY.contains(&question) => returns(json!([])),
        "qom-list-types" => returns(tree::types(&word("implements"), arguments)),
        "qom-list" => told(tree::list(&word("path"), facts)),
        "qom-get" => told(tree::get(&word("path"), &word("property"), facts)),
        "qom-set" => fails(("GenericError", format!("Property '{}' cannot be set", word("property")))),
        "device-list-properties" | "qom-list-properties" => told(tree::properties(&word("typename"))),
        "human-monitor-command" => returns(people::answer(&word("command-line"), facts).into()),
        "quit" => orders(Order::Quit),
        "stop" => orders(Order::Run(false)),
        "cont" => orders(Order::Run(true)),
        "system_reset" => orders(Order::Reset),
        "system_powerdown" => orders(Order::Powerdown),
        "watchdog-set-action" | "set-action" => react(command, arguments, facts).map_or_else(fails, orders),
        "device_add" => {
            let why = "cannot be added: a machine has the devices that it was started with";
            fails(("GenericError", format!("Device '{}' {why}", word("driver"))))
        }
        "device_del" => {
            let (id, why) = (word("id"), "a machine keeps the devices that it was started with");
            let labels = facts.devices.iter().chain(facts.ids).map(|(name, _)| name);
            fails(match labels.into_iter().any(|name| *name == id) {
                true => ("GenericError", format!("Device '{id}' cannot be removed: {why}")),
                false => ("DeviceNotFound", format!("Device '{id}' not found")),
            })
        }
        fixed if FIXED.contains(&fixed) => {
            fails(("GenericError", format!("{fixed}: a machine keeps what it was started with")))
        }
        "eject" | "blockdev-change-medium" => match exchange(command, arguments, facts.drives) {
            Ok(exchange) => Becomes::Exchange(exchange),
            Err(why) => fails(why),
        },
        other => fails(("CommandNotFound", format!("The command {other} has not been found"))),
    }
}

/// The machines that there are. Versions of one are the same one here.
fn machines() -> Value {
    let machine = |name: &str| {
        json!({
            "name": name, "cpu-max": vmm::supervisor::CPUS_MAX, "hotpluggable-cpus": false, "numa-mem-supported": false, "deprecated": false,
        })
    };
    let mut pc = machine("pc-i440fx");
    pc["alias"] = "pc".into();
    pc["is-default"] = true.into();
    json!([pc, machine("none")])
}

/// What `watchdog-set-action` or `set-action` asks for.
fn react(command: &str, arguments: &Value, facts: &Facts<'_>) -> Result<Order, (&'static str, String)> {
    let mut actions = facts.actions;
    let wrong = |name: &str, word: &str| ("GenericError", format!("Parameter '{name}' does not accept value '{word}'"));
    for (name, value) in arguments.as_object().into_iter().flatten() {
        let word = value.as_str().unwrap_or_default();
        match (name.as_str(), word) {
            ("watchdog", _) | ("action", _) if name == "watchdog" || command == "watchdog-set-action" => {
                let known = Watchdog::ALL.into_iter().find(|action| action.word() == word);
                actions.watchdog = known.ok_or_else(|| wrong(name, word))?;
            }
            ("panic", "pause") => actions.panic = After::Pause,
            ("panic", "shutdown" | "exit-failure") => actions.panic = After::PowerOff,
            ("panic", "none") => actions.panic = After::Nothing,
            ("reboot", "reset" | "shutdown") => actions.reset_ends = word == "shutdown",
            ("shutdown", "poweroff") => actions.power_off = After::PowerOff,
            ("shutdown", "pause") => actions.power_off = After::Pause,
            _ => return Err(wrong(name, word)),
        }
    }
    Ok(Order::React(actions))
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

/// The drives and disks, as `query-block` has them.
fn blocks(facts: &Facts<'_>) -> Value {
    let drives = facts.drives.iter().map(shown);
    let disk = |disk: &super::Disk| {
        json!({
            "device": disk.name, "type": "unknown", "removable": false, "locked": false, "inserted": inserted(&disk.medium),
        })
    };
    drives.chain(facts.disks.iter().map(disk)).collect()
}

/// A drive with an exchangeable medium.
fn shown(drive: &Drive) -> Value {
    let mut shown = json!({ "device": drive.name, "type": "unknown", "removable": true, "locked": false });
    if let Some(medium) = &drive.medium {
        shown["inserted"] = inserted(medium);
    }
    shown
}

fn inserted(medium: &Medium) -> Value {
    json!({ "file": medium.path, "ro": medium.readonly, "drv": "raw" })
}

fn nodes(facts: &Facts<'_>) -> Value {
    let drives = facts.drives.iter().filter_map(|drive| Some((&drive.name, drive.medium.as_ref()?)));
    let disks = facts.disks.iter().map(|disk| (&disk.name, &disk.medium));
    let node = |(name, medium): (&String, &Medium)| {
        let mut node = inserted(medium);
        node["node-name"] = name.as_str().into();
        node
    };
    drives.chain(disks).map(node).collect()
}

pub fn version() -> Value {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
