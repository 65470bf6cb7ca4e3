//! `cofferdam devices` and `cofferdam recipe`: what there is, and what each may do.

use crate::args::{DevicesArgs, RecipeArgs};
use crate::catalogue::BuiltIn;
use crate::device::ask_one;
use crate::machine::{is_plugin, parse_device};
use crate::table::table;
use anyhow::{Result, anyhow};
use sandbox::{Network, Recipe};
use schema::lane::Carrier;
use schema::manifest::Manifest;
use serde::Serialize;
use vmm::supervisor::Catalogue;

#[derive(Serialize)]
struct Row {
    name: String,
    class: &'static str,
    summary: String,
    ranges: Vec<String>,
    options: Vec<String>,
    wishes: Vec<String>,
}

fn row(manifest: Manifest) -> Row {
    Row {
        class: manifest.class.name(),
        ranges: manifest.ranges.iter().map(|range| format!("{}: {range}", range.name)).collect(),
        options: manifest
            .options
            .iter()
            .map(|option| format!("{}={}: {}", option.name, option.default, option.summary))
            .collect(),
        wishes: manifest.wishes.iter().map(|wish| format!("{:?}: {}", wish.power, wish.because)).collect(),
        name: manifest.name,
        summary: manifest.summary,
    }
}

/// Lists the catalogue.
pub fn devices(asked: &DevicesArgs) -> Result<u8> {
    let rows: Vec<Row> = ::devices::catalogue()
        .iter()
        .map(|entry| (entry.manifest)(&device::Options::default()).map(row))
        .collect::<Result<_, _>>()?;
    if asked.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(0);
    }
    let mut shown = table(["device", "class", "what it is", "ranges", "options", "powers"]);
    for row in rows {
        shown.add_row([
            row.name,
            row.class.to_owned(),
            row.summary,
            row.ranges.join("\n"),
            row.options.join("\n"),
            row.wishes.join("\n"),
        ]);
    }
    println!("{shown}");
    Ok(0)
}

/// Where viewers connect: at both loopback addresses, as most machines have them.
const LISTENERS: u32 = 2;

/// Prints a recipe.
pub fn recipe(asked: &RecipeArgs) -> Result<u8> {
    let (name, options) = parse_device(&asked.device)?;
    let recipe = if is_plugin(&name) {
        ask_one(&name, options, asked.sandbox.all, Carrier::Memory)?.recipe(asked.sandbox.all, Carrier::Memory)
    } else if name == "vmm" {
        Recipe::vmm(asked.sandbox.all, 1, true, &[], false)
    } else if name == "net-relay" {
        Recipe::net_relay(asked.sandbox.all, Network::Tap)
    } else if name == "display-relay" {
        Recipe::display_relay(asked.sandbox.all, LISTENERS)
    } else {
        let manifest = BuiltIn
            .manifest(&name, &options)
            .map_err(|sentence| anyhow!(crate::args::Usage(format!("{name}: {sentence}"))))?;
        Recipe::host_with(asked.sandbox.all, &[manifest], &[Carrier::Memory], asked.helper.all)
    };
    let recipe =
        asked.layers.demands()?.apply(recipe).map_err(|error| anyhow!(crate::args::Usage(error.to_string())))?;
    print!("{recipe}");
    Ok(0)
}
