//! What can be said: the arguments of commands, the data of events, and the description of both that a program can ask for.

use super::Failed;
use super::commands::{COMMANDS, Command};
use crate::qtest::actions::Watchdog;
use serde_json::{Value, json};

/// A member of what is said.
pub struct Member {
    name: &'static str,
    kind: Kind,
    is_optional: bool,
}

/// What a member can be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// True or false.
    Flag,
    /// A whole number.
    Number,
    /// Texts.
    Texts,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// Anything.
    Any,
}

/// A member that must be there.
pub const fn needs(name: &'static str, kind: Kind) -> Member {
    Member { name, kind, is_optional: false }
}

/// A member that may be there.
pub const fn may(name: &'static str, kind: Kind) -> Member {
    Member { name, kind, is_optional: true }
}

/// Every event, and its data.
const EVENTS: &[(&str, &[Member])] = &[
    ("STOP", &[]),
    ("RESUME", &[]),
    ("RESET", &[needs("guest", Kind::Flag), needs("reason", Kind::Text)]),
    ("SHUTDOWN", &[needs("guest", Kind::Flag), needs("reason", Kind::Text)]),
    ("POWERDOWN", &[]),
    ("DEVICE_TRAY_MOVED", &[needs("device", Kind::Text), needs("id", Kind::Text), needs("tray-open", Kind::Flag)]),
    ("GUEST_PANICKED", &[needs("action", Kind::Text)]),
    ("GUEST_CRASHLOADED", &[needs("action", Kind::Text)]),
    ("WATCHDOG", &[needs("action", Kind::OneOf(Watchdog::WORDS))]),
];

impl Command {
    /// Whether it may have these arguments.
    pub fn check(&self, arguments: &Value) -> Result<(), Failed> {
        for Member { name, kind, is_optional } in self.members {
            match arguments.get(name) {
                Some(value) => kind.check(name, value)?,
                None if *is_optional => {}
                None => return Err(Failed::generic(format!("Parameter '{name}' is missing"))),
            }
        }
        let is_known = |name: &str| self.is_open || self.members.iter().any(|member| member.name == name);
        match arguments.as_object().into_iter().flatten().find(|(name, _)| !is_known(name)) {
            Some((name, _)) => Err(Failed::generic(format!("Parameter '{name}' is unexpected"))),
            None => Ok(()),
        }
    }
}

impl Kind {
    fn check(self, name: &str, value: &Value) -> Result<(), Failed> {
        let expected =
            |name: &str, what| Failed::generic(format!("Invalid parameter type for '{name}', expected: {what}"));
        match (self, value) {
            (Kind::OneOf(words), Value::String(word)) if !words.contains(&word.as_str()) => {
                Err(Failed::generic(format!("Parameter '{name}' does not accept value '{word}'")))
            }
            (Kind::Texts, Value::Array(all)) => match all.iter().position(|one| !one.is_string()) {
                Some(at) => Err(expected(&format!("{name}[{at}]"), "string")),
                None => Ok(()),
            },
            (Kind::Any, _) | (Kind::Text | Kind::OneOf(_), Value::String(_)) | (Kind::Flag, Value::Bool(_)) => Ok(()),
            (Kind::Number, number) if number.is_i64() => Ok(()),
            (Kind::Text | Kind::OneOf(_), _) => Err(expected(name, "string")),
            (Kind::Flag, _) => Err(expected(name, "boolean")),
            (Kind::Number, _) => Err(expected(name, "integer")),
            (Kind::Texts, _) => Err(expected(name, "array")),
        }
    }

    /// The name of its type; one that is not built in is described among `types`.
    fn type_name(self, owner: &str, member: &str, types: &mut Vec<Value>) -> String {
        match self {
            Kind::Text => "str".to_owned(),
            Kind::Flag => "bool".to_owned(),
            Kind::Number => "int".to_owned(),
            Kind::Any => "any".to_owned(),
            Kind::Texts => "[str]".to_owned(),
            Kind::OneOf(words) => {
                let name = format!("{owner}.{member}");
                let members: Vec<Value> = words.iter().map(|word| json!({ "name": word })).collect();
                types.push(json!({ "name": name, "meta-type": "enum", "members": members, "values": words }));
                name
            }
        }
    }
}

/// The description of all that can be said, as `query-qmp-schema` has it. What a command returns is not described.
pub fn schema() -> Value {
    const NOTHING: &str = "nothing";
    let mut told = Vec::new();
    let object = |owner: &str, members: &[Member], told: &mut Vec<Value>| {
        if members.is_empty() {
            return NOTHING.to_owned();
        }
        let mut shown = Vec::new();
        for Member { name, kind, is_optional } in members {
            let mut member = json!({ "name": name, "type": kind.type_name(owner, name, told) });
            if *is_optional {
                member["default"] = Value::Null;
            }
            shown.push(member);
        }
        let name = format!("{owner}-arguments");
        told.push(json!({ "name": name, "meta-type": "object", "members": shown }));
        name
    };
    for Command { name, members, .. } in COMMANDS {
        let arguments = object(name, members, &mut told);
        told.push(json!({ "name": name, "meta-type": "command", "arg-type": arguments, "ret-type": "any", "allow-oob": false }));
    }
    for (name, members) in EVENTS {
        let data = object(name, members, &mut told);
        told.push(json!({ "name": name, "meta-type": "event", "arg-type": data }));
    }
    told.push(json!({ "name": NOTHING, "meta-type": "object", "members": [] }));
    for (name, json_type) in [("str", "string"), ("bool", "boolean"), ("int", "int"), ("any", "value")] {
        told.push(json!({ "name": name, "meta-type": "builtin", "json-type": json_type }));
    }
    told.push(json!({ "name": "[str]", "meta-type": "array", "element-type": "str" }));
    told.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_may_not_be_given_is_said() {
        let refused = |name: &str, arguments: Value| {
            let command = COMMANDS.iter().find(|command| command.name == name).unwrap();
            command.check(&arguments).unwrap_err().why
        };
        assert_eq!(refused("query-status", json!({ "x": 1 })), "Parameter 'x' is unexpected");
        assert_eq!(refused("device_del", Value::Null), "Parameter 'id' is missing");
        assert_eq!(refused("eject", json!({ "device": 7 })), "Invalid parameter type for 'device', expected: string");
        assert_eq!(refused("eject", json!({ "force": "" })), "Invalid parameter type for 'force', expected: boolean");
        let enable = json!({ "enable": [1] });
        assert_eq!(refused("qmp_capabilities", enable), "Invalid parameter type for 'enable[0]', expected: string");
        let dance = json!({ "action": "dance" });
        assert_eq!(refused("watchdog-set-action", dance), "Parameter 'action' does not accept value 'dance'");
    }

    #[test]
    fn every_type_that_is_named_is_described() {
        let told = schema();
        let told = told.as_array().unwrap();
        let is_there = |name: &Value| told.iter().filter(|one| one["name"] == *name).count() == 1;
        for one in told {
            for member in ["arg-type", "ret-type", "element-type"] {
                assert!(one.get(member).is_none_or(is_there), "{one}");
            }
            for member in one["members"].as_array().into_iter().flatten() {
                assert!(member.get("type").is_none_or(is_there), "{one}");
            }
        }
        assert!(told.iter().filter(|one| one["meta-type"] == "command").count() == COMMANDS.len());
    }
}
