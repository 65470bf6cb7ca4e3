//! Every command of the machine protocol, and what it does.

use super::language::{Kind, Member, may, needs, schema};
use super::{Becomes, Facts, Failed, Order, media, tree};
use crate::qtest::actions::{After, Watchdog};
use serde_json::{Value, json};

/// A command.
pub struct Command {
    pub name: &'static str,
    /// Its arguments; if it is open, it may have others too.
    pub members: &'static [Member],
    pub is_open: bool,
    pub act: fn(&Call<'_>) -> Becomes,
}

/// One use of a command, whose arguments have been checked.
pub struct Call<'a> {
    pub name: &'a str,
    pub arguments: &'a Value,
    pub facts: &'a Facts<'a>,
}

impl<'a> Call<'a> {
    /// An argument that is a text.
    pub fn word(&self, name: &str) -> Option<&'a str> {
        self.arguments.get(name).and_then(Value::as_str)
    }

    /// It is to be done though the guest holds a medium.
    fn is_forced(&self) -> bool {
        self.arguments.get("force").and_then(Value::as_bool).unwrap_or(false)
    }

    /// One that must be there, and is.
    fn text(&self, name: &str) -> &'a str {
        self.word(name).unwrap_or_default()
    }
}

/// What ends the negotiation, and what asks in the words of people: the monitor does both.
pub const NEGOTIATION: &str = "qmp_capabilities";
pub const IN_WORDS: &str = "human-monitor-command";

const fn command(name: &'static str, members: &'static [Member], act: fn(&Call<'_>) -> Becomes) -> Command {
    Command { name, members, is_open: false, act }
}

const fn open(name: &'static str, members: &'static [Member], act: fn(&Call<'_>) -> Becomes) -> Command {
    Command { name, members, is_open: true, act }
}

const REBOOT: &[&str] = &["reset", "shutdown"];
const SHUTDOWN: &[&str] = &["poweroff", "pause"];
const PANIC: &[&str] = &["pause", "shutdown", "exit-failure", "none"];
const MODES: &[&str] = &["retain", "read-only", "read-write"];

/// All of them.
pub const COMMANDS: &[Command] = &[
    command(NEGOTIATION, &[may("enable", Kind::Texts)], |_| returns(json!({}))),
    command("query-status", &[], |call| returns(status(call.facts))),
    command("query-version", &[], |_| returns(version())),
    command("query-name", &[], |call| returns(name(call.facts))),
    command("query-kvm", &[], |_| returns(json!({ "enabled": false, "present": false }))),
    command("query-target", &[], |_| returns(json!({ "arch": "x86_64" }))),
    command("query-commands", &[], |_| returns(COMMANDS.iter().map(|one| json!({ "name": one.name })).collect())),
    command("query-qmp-schema", &[], |_| returns(schema())),
    command("query-machines", &[], |_| returns(machines())),
    command("query-memory-size-summary", &[], |call| {
        returns(json!({ "base-memory": call.facts.memory_bytes, "plugged-memory": 0 }))
    }),
    command("query-chardev", &[], |call| returns(chardevs(call.facts))),
    command("query-block", &[], |call| returns(media::blocks(call.facts))),
    command("query-named-block-nodes", &[may("flat", Kind::Flag)], |call| returns(media::nodes(call.facts))),
    command("query-pci", &[], |_| Becomes::Order(Order::Survey)),
    // No processor runs.
    command("query-cpus-fast", &[], none),
    command("query-cpu-definitions", &[], none),
    command("query-hotpluggable-cpus", &[], none),
    command("query-memory-devices", &[], none),
    command("query-iothreads", &[], none),
    command("query-jobs", &[], none),
    command("query-block-jobs", &[], none),
    command("query-mice", &[], none),
    command("qom-list-types", &[may("implements", Kind::Text), may("abstract", Kind::Flag)], |call| {
        let with_abstract = call.arguments.get("abstract").and_then(Value::as_bool).unwrap_or(false);
        returns(tree::types(call.text("implements"), with_abstract))
    }),
    command("qom-list", &[needs("path", Kind::Text)], |call| {
        Becomes::Answer(tree::list(call.text("path"), call.facts))
    }),
    command("qom-get", &[needs("path", Kind::Text), needs("property", Kind::Text)], |call| {
        Becomes::Answer(tree::get(call.text("path"), call.text("property"), call.facts))
    }),
    command(
        "qom-set",
        &[needs("path", Kind::Text), needs("property", Kind::Text), needs("value", Kind::Any)],
        |call| {
            let found = tree::get(call.text("path"), call.text("property"), call.facts);
            let why = format!("Property '{}' cannot be set", call.text("property"));
            Becomes::Answer(found.and(Err(Failed::generic(why))))
        },
    ),
    command("device-list-properties", &[needs("typename", Kind::Text)], properties),
    command("qom-list-properties", &[needs("typename", Kind::Text)], properties),
    command(IN_WORDS, &[needs("command-line", Kind::Text), may("cpu-index", Kind::Number)], |_| returns(json!(""))),
    command("quit", &[], |_| Becomes::Order(Order::Quit)),
    command("stop", &[], |_| Becomes::Order(Order::Run(false))),
    command("cont", &[], |_| Becomes::Order(Order::Run(true))),
    command("system_reset", &[], |_| Becomes::Order(Order::Reset)),
    command("system_powerdown", &[], |_| Becomes::Order(Order::Powerdown)),
    command(
        "set-action",
        &[
            may("reboot", Kind::OneOf(REBOOT)),
            may("shutdown", Kind::OneOf(SHUTDOWN)),
            may("panic", Kind::OneOf(PANIC)),
            may("watchdog", Kind::OneOf(Watchdog::WORDS)),
        ],
        react,
    ),
    command("watchdog-set-action", &[needs("action", Kind::OneOf(Watchdog::WORDS))], react),
    open("device_add", &[needs("driver", Kind::Text), may("bus", Kind::Text), may("id", Kind::Text)], |call| {
        let driver = call.text("driver");
        fails(match tree::is_device(driver) {
            true => format!("Device '{driver}' cannot be added: a machine has the devices that it was started with"),
            false => format!("'{driver}' is not a valid device model name"),
        })
    }),
    command("device_del", &[needs("id", Kind::Text)], |call| {
        let id = call.text("id");
        let names = call.facts.devices.iter().chain(&call.facts.names.ids);
        Becomes::Answer(Err(match names.into_iter().any(|(name, _)| name == id) {
            true => Failed::generic(format!(
                "Device '{id}' cannot be removed: a machine keeps the devices that it was started with"
            )),
            false => Failed::absent(id),
        }))
    }),
    open("object-add", &[needs("qom-type", Kind::Text), needs("id", Kind::Text)], keeps),
    command("object-del", &[needs("id", Kind::Text)], keeps),
    open("netdev_add", &[needs("type", Kind::Text), needs("id", Kind::Text)], keeps),
    command("netdev_del", &[needs("id", Kind::Text)], keeps),
    command("inject-nmi", &[], |_| fails("inject-nmi: no processor runs that would take an NMI".to_owned())),
    command("eject", &[may("device", Kind::Text), may("id", Kind::Text), may("force", Kind::Flag)], |call| {
        orders(media::named(call).map(|drive| Order::Exchange(drive.emptied(call.is_forced()))))
    }),
    command(
        "blockdev-change-medium",
        &[
            may("device", Kind::Text),
            may("id", Kind::Text),
            needs("filename", Kind::Text),
            may("format", Kind::Text),
            may("force", Kind::Flag),
            may("read-only-mode", Kind::OneOf(MODES)),
        ],
        |call| {
            let mode = call.word("read-only-mode").unwrap_or("retain");
            let changed = media::named(call).and_then(|drive| {
                drive.changed(call.text("filename"), call.word("format").unwrap_or("raw"), mode, call.is_forced())
            });
            orders(changed.map(Order::Exchange))
        },
    ),
];

/// The one of this name.
pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

fn returns(value: Value) -> Becomes {
    Becomes::Answer(Ok(value))
}

fn fails(why: String) -> Becomes {
    Becomes::Answer(Err(Failed::generic(why)))
}

fn orders(order: Result<Order, Failed>) -> Becomes {
    order.map_or_else(|failed| Becomes::Answer(Err(failed)), Becomes::Order)
}

/// The answer to a question after things that there are none of.
fn none(_: &Call<'_>) -> Becomes {
    returns(json!([]))
}

/// The answer to who would add or remove something.
fn keeps(call: &Call<'_>) -> Becomes {
    fails(format!("{}: a machine keeps what it was started with", call.name))
}

fn properties(call: &Call<'_>) -> Becomes {
    Becomes::Answer(tree::properties(call.text("typename")))
}

fn status(facts: &Facts<'_>) -> Value {
    json!({ "running": facts.status == "running", "singlestep": false, "status": facts.status })
}

fn name(facts: &Facts<'_>) -> Value {
    match facts.names.title.as_str() {
        "" => json!({}),
        title => json!({ "name": title }),
    }
}

fn chardevs(facts: &Facts<'_>) -> Value {
    let shown =
        |(label, filename): &(String, String)| json!({ "label": label, "filename": filename, "frontend-open": true });
    facts.names.chardevs.iter().map(shown).collect()
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

/// Another thing is done when the guest does something.
fn react(call: &Call<'_>) -> Becomes {
    let mut actions = call.facts.actions;
    if let Some(watchdog) = call.word("watchdog").or(call.word("action")).and_then(Watchdog::of) {
        actions.watchdog = watchdog;
    }
    if let Some(panic) = call.word("panic") {
        actions.panic = After::of(panic);
    }
    if let Some(reboot) = call.word("reboot") {
        actions.reset_ends = reboot == "shutdown";
    }
    if let Some(shutdown) = call.word("shutdown") {
        actions.power_off = After::of(shutdown);
    }
    Becomes::Order(Order::React(actions))
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
