//! What was released stays true: compares the schema with each file of `schema/history`.
//!
//! Everything that a peer of another version relies on is held: types by their ids, fields and enumerants by their ordinals.
//! Of names, those of types, files, groups and unions are free, for nothing on the wire depends on them. The name of a field
//! or an enumerant is what says that its ordinal still means the same; it may change in two ways alone: `reservedN`, which
//! meant nothing, may get a name, and what nobody should use any more is renamed from `x` to `obsoleteX`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::meaning::{Field, Key, Meaning, Shape, Struct, Type};

/// Where the files are, from the top of the tree.
pub const FOLDER: &str = "schema/history";

/// The released versions and what their schemas meant.
pub fn released(top: &Path) -> Result<BTreeMap<String, Meaning>> {
    let mut released = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir(top.join(FOLDER)) else { return Ok(released) };
    for entry in entries {
        let path = entry?.path();
        let version = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path)?;
        released.insert(version, text.parse().with_context(|| path.display().to_string())?);
    }
    Ok(released)
}

/// Records what the schema of a release means. What is recorded once is never written again.
pub fn record(top: &Path, version: &str, meaning: &Meaning) -> Result<PathBuf> {
    let numbers = version.split('.').all(|number| number.parse::<u32>().is_ok());
    ensure!(numbers, "a version is numbers with dots between them, such as 0.1.0");
    let path = top.join(FOLDER).join(format!("{version}.txt"));
    ensure!(!path.exists(), "{} is there: what was released does not change", path.display());
    std::fs::create_dir_all(top.join(FOLDER))?;
    let heading = format!(
        "# What the schema of {version} means on the wire. Written by `cargo xtask schema --release {version}`, never by hand:\n\
         # later schemas are held to it.\n"
    );
    std::fs::write(&path, heading + &meaning.to_string())?;
    Ok(path)
}

/// Where a schema breaks the house's rules, whatever was released before.
pub fn rules(schema: &Meaning) -> Vec<String> {
    let mut broken = Vec::new();
    let mut messages: BTreeMap<u16, &str> = BTreeMap::new();
    for Type { place, shape } in schema.0.values() {
        match shape {
            Shape::Enum(names) => {
                if names.first().is_none_or(|name| name != "invalid") {
                    broken.push(format!(
                        "{place}: the first enumerant of an enum is `invalid @0`, so that zero is refused."
                    ));
                }
            }
            Shape::Struct(of) => {
                let zero = of.fields.values().find(|field| field.member == Some(0));
                let invalid = zero.is_some_and(|field| field.name == "invalid" && field.of == "Void");
                if of.discriminant.is_some() && !invalid {
                    broken.push(format!(
                        "{place}: the first member of a union is `invalid :Void`, so that zero is refused."
                    ));
                }
                if of.message == Some(0) {
                    broken.push(format!("{place}: 0 is no ordinal of a message; take one that was never used."));
                }
                if let Some(other) = of.message.and_then(|ordinal| messages.insert(ordinal, place)) {
                    broken.push(format!(
                        "{place} and {other} are the same message; give the new one an ordinal of its own."
                    ));
                }
            }
        }
    }
    broken
}

/// Where `now` breaks what `then`, the schema of `version`, promised: a sentence for each.
pub fn broken(version: &str, then: &Meaning, now: &Meaning) -> Vec<String> {
    let mut broken = Vec::new();
    for (id, old) in &then.0 {
        let place = &old.place;
        let Some(new) = now.0.get(id) else {
            broken.push(format!(
                "{place}, the type {id:#x} of {version}, is gone: keep it; if it has another name or file, give it its id \
                 (`@{id:#x}`)."
            ));
            continue;
        };
        match (&old.shape, &new.shape) {
            (Shape::Enum(old), Shape::Enum(new)) => enumerants(version, place, old, new, &mut broken),
            (Shape::Struct(old), Shape::Struct(new)) => structs(version, place, old, new, &mut broken),
            _ => {
                broken.push(format!("{place} was an enum or a struct in {version} and is the other: make a new type."))
            }
        }
    }
    for (id, new) in &now.0 {
        let Some(ordinal) = message(new) else { continue };
        for (then, old) in then.0.iter().filter(|(then, old)| *then != id && message(old) == Some(ordinal)) {
            broken.push(format!(
                "{}: message {ordinal:#x} was {} (type {then:#x}) in {version}: take an ordinal that was never used.",
                new.place, old.place
            ));
        }
    }
    broken
}

fn message(of: &Type) -> Option<u16> {
    match &of.shape {
        Shape::Struct(of) => of.message,
        Shape::Enum(_) => None,
    }
}

fn enumerants(version: &str, place: &str, old: &[String], new: &[String], broken: &mut Vec<String>) {
    for (number, name) in old.iter().enumerate() {
        let same = new.get(number).is_some_and(|new| may_be_named(name, new));
        if !same {
            let found = new.iter().position(|new| new == name).map(|number| format!("@{number}"));
            broken.push(moved(version, place, name, &format!("@{number}"), new.get(number), found));
        }
    }
}

fn structs(version: &str, place: &str, old: &Struct, new: &Struct, broken: &mut Vec<String>) {
    for (what, old, new) in [("words of data", old.words, new.words), ("pointers", old.pointers, new.pointers)] {
        if new < old {
            broken.push(format!("{place} had {old} {what} in {version} and has {new}: a struct never shrinks."));
        }
    }
    if let Some(ordinal) = old.message
        && old.message != new.message
    {
        let now = new.message.map_or("none".to_owned(), |now| format!("{now:#x}"));
        broken.push(format!(
            "{place} was message {ordinal:#x} in {version} and is {now}: give it back its ordinal; what means something else \
             is a new struct."
        ));
    }
    if old.discriminant.is_some() && old.discriminant != new.discriminant {
        broken.push(format!("{place}: its union's discriminant is not where it was in {version}: put it back."));
    }
    for (key, field) in &old.fields {
        let name = &field.name;
        match (key, new.fields.get(key)) {
            (_, Some(new)) if matches!(key, Key::Group(_)) || may_be_named(name, &new.name) => {
                changed(version, place, field, new, broken);
            }
            (Key::Group(id), _) => broken.push(format!(
                "{place}.{name}, the group {id:#x} of {version}, is gone: keep it, and its place among the groups of its struct."
            )),
            (Key::Ordinal(ordinal), other) => {
                let found = new.fields.iter().find_map(|(key, field)| match key {
                    Key::Ordinal(ordinal) if field.name == *name => Some(format!("@{ordinal}")),
                    _ => None,
                });
                let other = other.map(|field| &field.name);
                broken.push(moved(version, place, name, &format!("@{ordinal}"), other, found));
            }
        }
    }
}

/// What became of a field that is still there, under a name that it may have.
fn changed(version: &str, place: &str, old: &Field, new: &Field, broken: &mut Vec<String>) {
    let name = &new.name;
    let none = || "none".to_owned();
    if old.of != new.of {
        broken.push(format!(
            "{place}.{name} was {} in {version} and is {}: give it back its type, and add a field for the other.",
            old.of, new.of
        ));
    } else if old.at != new.at {
        broken.push(format!(
            "{place}.{name} was at {} in {version} and is at {}: fields are added at the end, with the next ordinal.",
            old.at, new.at
        ));
    }
    if old.member != new.member {
        let member = |of: Option<u16>| of.map_or("no member of a union".to_owned(), |value| format!("member {value}"));
        broken.push(format!(
            "{place}.{name} was {} in {version} and is {}: put it back; members are added with the next ordinal.",
            member(old.member),
            member(new.member)
        ));
    }
    if old.default != new.default {
        broken.push(format!(
            "{place}.{name} had the default {} in {version} and has {}: defaults are part of the bytes; put it back.",
            old.default.clone().unwrap_or_else(none),
            new.default.clone().unwrap_or_else(none)
        ));
    }
}

/// The sentence for a name that is not at its ordinal any more.
fn moved(version: &str, place: &str, name: &str, at: &str, there: Option<&String>, found: Option<String>) -> String {
    let obsolete = obsolete(name);
    match (found, there) {
        (Some(found), _) => format!("{place}.{name} was {at} in {version} and is {found}: give it back its number."),
        (None, None) => {
            format!("{place}.{name} ({at} in {version}) is gone: keep it, as `{obsolete}` if nobody uses it.")
        }
        (None, Some(there)) => format!(
            "{place}: {at} was `{name}` in {version} and is `{there}`: a number is never used again. Keep the name, or make it \
             `{obsolete}` and add `{there}` at the end."
        ),
    }
}

/// Whether `old` and `new` are one thing; see the top of this file.
fn may_be_named(old: &str, new: &str) -> bool {
    let reserved = old.strip_prefix("reserved").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
    old == new || reserved || new == obsolete(old)
}

fn obsolete(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    "obsolete".chars().chain(first).chain(letters).collect()
}

#[cfg(test)]
mod tests;
