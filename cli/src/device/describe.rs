//! `cofferdam device describe`: what a plugin declares.

use super::ask_one;
use crate::args::{Choice, DescribeArgs, usage};
use crate::machine::{is_plugin, parse_device};
use crate::table::table;
use anyhow::Result;
use schema::lane::Carrier;
use schema::manifest::{Line, Manifest, OptionKind, RegisterKind};
use serde_json::{Value, json};

/// Prints a manifest.
pub fn describe(asked: &DescribeArgs) -> Result<u8> {
    let (path, options) = parse_device(&asked.plugin)?;
    if !is_plugin(&path) {
        return Err(usage!(
            "{path}: give a plugin by its path, as ./{path}; `cofferdam devices` lists the built-in devices"
        ));
    }
    let plugin = ask_one(&path, options, asked.sandbox.all, Carrier::DEFAULT)?;
    let manifest = plugin.manifest;
    if asked.json {
        println!("{}", serde_json::to_string_pretty(&object(&manifest))?);
    } else {
        println!("{}", shown(&manifest));
    }
    Ok(0)
}

fn shown(manifest: &Manifest) -> comfy_table::Table {
    let mut shown = table(["what", "which"]);
    let mut row = |what: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            shown.add_row([what.to_owned(), lines.join("\n")]);
        }
    };
    row("device", vec![format!("{}: {}", manifest.name, manifest.summary)]);
    row("class", vec![manifest.class.name().to_owned()]);
    let ranges = manifest.ranges.iter();
    row("ranges", ranges.map(|range| format!("{}: {range}", range.name)).collect());
    row("registers", manifest.registers.iter().map(register).collect());
    row("interrupts", manifest.lines.iter().map(line).collect());
    row(
        "vectors",
        Some(manifest.vectors).filter(|count| *count > 0).map(|count| count.to_string()).into_iter().collect(),
    );
    row(
        "doorbells",
        manifest.doorbells.iter().map(|bell| format!("range {}, offset {:#x}", bell.range, bell.offset)).collect(),
    );
    if let Some(pci) = &manifest.pci {
        row("PCI", vec![format!("{:04x}:{:04x}, class {:06x}", pci.vendor, pci.device, pci.class)]);
    }
    let wishes = manifest.wishes.iter();
    row("powers", wishes.map(|wish| format!("{}: {}", wish.power.name(), wish.because)).collect());
    let options = manifest.options.iter();
    row(
        "options",
        options
            .map(|option| format!("{} ({}, {}): {}", option.name, kind(option.kind), option.default, option.summary))
            .collect(),
    );
    row("state", vec![format!("{} bytes, and {} of bulk", manifest.state_bytes, manifest.bulk_bytes)]);
    shown
}

fn object(manifest: &Manifest) -> Value {
    json!({
        "name": manifest.name,
        "summary": manifest.summary,
        "class": manifest.class.name(),
        "ranges": manifest.ranges.iter().map(|range| json!({
            "name": range.name, "length": range.length, "place": range.to_string(),
        })).collect::<Vec<_>>(),
        "registers": manifest.registers.iter().map(register).collect::<Vec<_>>(),
        "lines": manifest.lines.iter().map(line).collect::<Vec<_>>(),
        "vectors": manifest.vectors,
        "doorbells": manifest.doorbells.iter().map(|bell| json!({
            "range": bell.range, "offset": bell.offset, "width": bell.width,
        })).collect::<Vec<_>>(),
        "pci": manifest.pci.as_ref().map(|pci| json!({
            "vendor": pci.vendor, "device": pci.device, "class": pci.class,
        })),
        "wishes": manifest.wishes.iter().map(|wish| json!({
            "power": wish.power.name(), "name": wish.name, "because": wish.because,
        })).collect::<Vec<_>>(),
        "options": manifest.options.iter().map(|option| json!({
            "name": option.name, "kind": kind(option.kind), "default": option.default, "summary": option.summary,
        })).collect::<Vec<_>>(),
        "state_bytes": manifest.state_bytes,
        "bulk_bytes": manifest.bulk_bytes,
    })
}

fn register(register: &schema::manifest::Register) -> String {
    let how = match &register.kind {
        RegisterKind::Posted(_) => "writes are posted",
        RegisterKind::PostedValue { .. } => "writes of some values are posted",
        RegisterKind::Shadow { .. } => "reads are served from its shadow",
        RegisterKind::Strings => "loads of one string instruction are joined",
        RegisterKind::Area { .. } => "an area whose writes are posted",
    };
    format!("range {}, offset {:#x}, {} bytes: {how}", register.range, register.offset, register.width)
}

fn line(line: &Line) -> String {
    match line {
        Line::Isa(number) => format!("ISA interrupt {number}"),
        Line::Pin(pin) => format!("PCI pin {pin}"),
    }
}

const fn kind(kind: OptionKind) -> &'static str {
    match kind {
        OptionKind::Number => "number",
        OptionKind::Text => "text",
        OptionKind::Flag => "flag",
    }
}
