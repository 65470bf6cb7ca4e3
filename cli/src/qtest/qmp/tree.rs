//! The machine as a tree of objects, each of a type: what `qom-list` and its like tell.

use super::{Facts, Failed};
use crate::qtest::words::driver_names;
use device::Options;
use serde_json::{Value, json};

/// Types that no object has, each with what it is a kind of.
const ABSTRACT: [(&str, &str); 3] = [("object", ""), ("machine", "object"), ("device", "object")];
const PC: &str = "pc-i440fx-machine";
const NONE: &str = "none-machine";

type Answer = Result<Value, Failed>;

/// Every type that something may have: its name, and what it is a kind of.
fn all() -> Vec<(&'static str, &'static str)> {
    let own = devices::catalogue().iter().map(|entry| entry.name);
    let mut names: Vec<&str> = own.chain(driver_names()).collect();
    names.sort_unstable();
    names.dedup();
    let machines = [(PC, "machine"), (NONE, "machine")];
    names.into_iter().map(|name| (name, "device")).chain(machines).collect()
}

/// The types that are a kind of `implements`, or all.
pub fn types(implements: &str, with_abstract: bool) -> Value {
    let abstracts = ABSTRACT.into_iter().filter(|_| with_abstract);
    let is_it =
        |(name, parent): &(&str, &str)| ["", "object"].contains(&implements) || [*name, *parent].contains(&implements);
    let shown = |(name, parent): (&str, &str)| match parent {
        "" => json!({ "name": name }),
        parent => json!({ "name": name, "parent": parent }),
    };
    all().into_iter().chain(abstracts).filter(is_it).map(shown).collect()
}

/// Objects under a path: their names and types; or the type of the object there.
enum Node<'a> {
    Container(Vec<(String, &'a str)>),
    Object(&'a str),
}

fn node<'a>(path: &str, facts: &'a Facts<'_>) -> Option<Node<'a>> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let numbered =
        || facts.devices.iter().zip(0..).map(|((_, device), number)| (format!("device[{number}]"), device.as_str()));
    let known = |(name, device): &'a (String, String)| (name.clone(), device.as_str());
    let object = |found: Option<(String, &'a str)>| found.map(|(_, device)| Node::Object(device));
    Some(match parts.as_slice() {
        [] => Node::Container(vec![("machine".into(), machine(facts))]),
        ["machine"] => {
            let own = [("peripheral".to_owned(), "container"), ("unattached".to_owned(), "container")];
            Node::Container(own.into_iter().chain(facts.devices.iter().map(known)).collect())
        }
        ["machine", "peripheral"] => Node::Container(facts.names.ids.iter().map(known).collect()),
        ["machine", "unattached"] => Node::Container(numbered().collect()),
        ["machine", "peripheral", id] => object(facts.names.ids.iter().map(known).find(|(name, _)| name == id))?,
        ["machine", "unattached", place] => object(numbered().find(|(name, _)| name == place))?,
        ["machine", label] => object(facts.devices.iter().map(known).find(|(name, _)| name == label))?,
        _ => return None,
    })
}

fn machine(facts: &Facts<'_>) -> &'static str {
    if facts.is_pc { PC } else { NONE }
}

/// Whether there are devices of this type.
pub fn is_device(name: &str) -> bool {
    all().contains(&(name, "device"))
}

/// What is at this path.
pub fn list(path: &str, facts: &Facts<'_>) -> Answer {
    let mut listed = vec![json!({ "name": "type", "type": "string" })];
    if let Node::Container(children) = node(path, facts).ok_or_else(|| Failed::absent(path))? {
        let child = |(name, kind): (String, &str)| json!({ "name": name, "type": format!("child<{kind}>") });
        listed.extend(children.into_iter().map(child));
    }
    Ok(listed.into())
}

/// A property of what is there. All have one, their type.
pub fn get(path: &str, property: &str, facts: &Facts<'_>) -> Answer {
    let found = node(path, facts).ok_or_else(|| Failed::absent(path))?;
    let kind = match &found {
        Node::Object(kind) => kind,
        Node::Container(_) if path.trim_matches('/') == "machine" => machine(facts),
        Node::Container(_) => "container",
    };
    let children = match &found {
        Node::Container(children) => children.as_slice(),
        Node::Object(_) => &[],
    };
    match children.iter().find(|(name, _)| name == property) {
        // A child is told by its path.
        Some((name, _)) => Ok(format!("{}/{name}", path.trim_end_matches('/')).into()),
        None if property == "type" => Ok((*kind).into()),
        None => Err(Failed::generic(format!("Property '{kind}.{property}' not found"))),
    }
}

/// The options of a device.
pub fn properties(name: &str) -> Answer {
    if let Some(entry) = devices::catalogue().iter().find(|entry| entry.name == name) {
        let manifest = (entry.manifest)(&Options::default());
        let options = manifest.map(|manifest| manifest.options).unwrap_or_default();
        let shown = |option: device::manifest::OptionSpec| json!({ "name": option.name, "type": "str", "description": option.summary, "default-value": option.default });
        return Ok(options.into_iter().map(shown).collect());
    }
    match all().iter().any(|(known, _)| *known == name) {
        true => Ok(json!([])),
        false => Err(Failed::absent(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qtest::actions::Actions;
    use crate::qtest::setup::Names;

    #[test]
    fn a_path_that_leads_nowhere_is_told_and_every_other_ends() {
        let devices = [("uart16550".to_owned(), "uart16550".to_owned())];
        let ids = vec![("mine".to_owned(), "ib700".to_owned())];
        let facts = Facts {
            status: "running",
            names: &Names { ids, ..Names::default() },
            is_pc: true,
            memory_bytes: 0,
            devices: &devices,
            drives: &[],
            disks: &[],
            actions: Actions::default(),
        };
        for path in ["/nowhere", "/machine/teapot", "/machine/uart16550/more", "/machine/unattached/device[1]"] {
            assert_eq!(list(path, &facts).unwrap_err().class, "DeviceNotFound", "{path}");
        }
        let mut seen = Vec::new();
        let mut paths = vec!["/".to_owned()];
        while let Some(path) = paths.pop() {
            for one in list(&path, &facts).unwrap().as_array().unwrap() {
                let (name, kind) = (one["name"].as_str().unwrap(), one["type"].as_str().unwrap());
                let value = get(&path, name, &facts).unwrap();
                if kind.starts_with("child<") {
                    paths.push(value.as_str().unwrap().to_owned());
                } else if value != "container" {
                    seen.push(value.as_str().unwrap().to_owned());
                }
            }
        }
        seen.sort();
        assert_eq!(seen, ["ib700", PC, "uart16550", "uart16550"]);
        assert_eq!(get("/machine", "teapot", &facts).unwrap_err().class, "GenericError");
    }

    #[test]
    fn types_are_told_by_what_they_are() {
        let names = |implements, with: bool| -> Vec<String> {
            let told = types(implements, with);
            told.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names("machine", false), [PC, NONE]);
        assert_eq!(names("teapot", true), Vec::<String>::new());
        let devices = names("device", false);
        assert!(["ide-hd", "isa-serial", "rtl8139", "ib700"].iter().all(|name| devices.iter().any(|one| one == name)));
        assert!(!devices.contains(&"device".to_owned()) && names("device", true).contains(&"device".to_owned()));
        assert_eq!(properties("teapot").unwrap_err().class, "DeviceNotFound");
        assert!(properties("uart16550").unwrap().as_array().unwrap().iter().any(|one| one["name"] == "port"));
        assert_eq!(properties("ide-hd"), Ok(json!([])));
    }
}
