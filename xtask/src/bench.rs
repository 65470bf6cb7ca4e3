//! The program that measures other message layers, and the figures in the documentation.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{Tree, licences};

/// The workspace of that program. What it depends on is no part of the product's.
pub const PEERS: &str = "benches/peers/Cargo.toml";
/// The page with the figures.
const PAGE: &str = "docs/carriers.md";
/// Many rounds: a figure in a document has time.
const ROUNDS: &str = "21";

/// Builds the program, where `cofferdam bench calls` looks for it. Its dependencies are held to the licences of ours.
pub fn peers(tree: &Tree) -> Result<bool> {
    let mut command = Command::new(&tree.cargo);
    command.args(["metadata", "--format-version", "1", "--locked", "--manifest-path", PEERS]).current_dir(&tree.top);
    let done = command.output().context("cannot run cargo")?;
    ensure!(done.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&done.stderr));
    let licences = licences::check(&serde_json::from_slice(&done.stdout)?);
    if let Some(failure) = licences.failed.first() {
        bail!("{PEERS}: {} {}", failure.name, failure.why);
    }
    let target = tree.target.join("peers");
    let mut command = Command::new(&tree.cargo);
    command.args(["build", "--release", "--locked", "--manifest-path", PEERS, "--target-dir"]).arg(&target);
    let built = command.current_dir(&tree.top).status().context("cannot run cargo")?.success();
    if built {
        println!("{}", target.join("release/peers").display());
    }
    Ok(built)
}

/// Measures, draws `docs/calls.svg` and `docs/carriers.svg`, and writes the tables of the page.
pub fn documents(tree: &Tree) -> Result<bool> {
    ensure!(peers(tree)?, "the program that measures other message layers cannot be built");
    let built = tree.build_program();
    ensure!(built.failed.is_empty(), "the program cannot be built");
    let carriers = run(tree, "carriers")?;
    let calls = run(tree, "calls")?;
    let path = tree.top.join(PAGE);
    let page = std::fs::read_to_string(&path).with_context(|| format!("cannot read {PAGE}"))?;
    let page = fill(&page, "carriers", &accesses(&carriers))?;
    std::fs::write(&path, fill(&page, "calls", &messages(&calls))?)?;
    Ok(true)
}

fn run(tree: &Tree, bench: &str) -> Result<Vec<Value>> {
    let picture = Path::new("docs").join(format!("{bench}.svg"));
    let mut command = Command::new(tree.program());
    command.args(["bench", bench, "--json", "--rounds", ROUNDS, "--svg"]).arg(&picture).current_dir(&tree.top);
    eprintln!("cofferdam bench {bench} …");
    let done = command.stderr(std::process::Stdio::inherit()).output().context("cannot run the program")?;
    ensure!(done.status.success(), "cofferdam bench {bench}: {}", done.status);
    Ok(serde_json::from_slice(&done.stdout)?)
}

/// Puts `content` between the comments that frame it.
fn fill(page: &str, what: &str, content: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- begin: {what}"), format!("<!-- end: {what} -->"));
    let Some((before, (comment, after))) =
        page.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once("-->\n")?)))
    else {
        bail!("{PAGE} has no place that begins with `{begin}`");
    };
    let (_, after) = after.split_once(&end).with_context(|| format!("{PAGE} has no `{end}`"))?;
    Ok(format!("{before}{begin}{comment}-->\n{content}{end}{after}"))
}

/// What is in a cell: the median of a row, and its ratio where it is compared with something else.
fn cell(rows: &[Value], name: &str, placement: &str) -> String {
    let found = rows.iter().find(|row| row["name"] == name && row["placement"] == placement);
    let Some((row, median)) = found.and_then(|row| Some((row, row["median"].as_f64()?))) else { return "–".into() };
    let time = match median {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns => format!("{:.1} µs", ns / 1e3),
    };
    match row["ratio"].as_f64() {
        Some(ratio) if row["base"] != row["name"] => format!("**{ratio:.2}** ({time})"),
        _ => time,
    }
}

fn table(header: &[&str], lines: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = format!("| {} |\n|{}\n", header.join(" | "), " --- |".repeat(header.len()));
    for line in lines {
        let _ = writeln!(table, "| {} |", line.join(" | "));
    }
    table
}

/// The second halves of names that begin with this group, each once, in order.
fn members<'a>(rows: &'a [Value], group: &str) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    let names = rows.iter().filter_map(|row| row["name"].as_str()?.strip_prefix(group)?.strip_prefix(", "));
    names.filter(|name| seen.insert(*name)).collect()
}

fn accesses(rows: &[Value]) -> String {
    let header = [
        "lane over",
        "access, both awake",
        "access, both asleep",
        "the same, one processor",
        "posted write",
        "the same, one processor",
        "shadow read",
    ];
    let lines = members(rows, "shadow read").into_iter().map(|carrier| {
        let cell = |what: &str, placement| cell(rows, &format!("{what}, {carrier}"), placement);
        vec![
            format!("`{carrier}`"),
            cell("access, awake", "cross"),
            cell("access, asleep", "cross"),
            cell("access, asleep", "same"),
            cell("posted write", "cross"),
            cell("posted write", "same"),
            cell("shadow read", "cross"),
        ]
    });
    let bounds = vec![
        "bound".to_owned(),
        cell(rows, "bound, two cache lines", "cross"),
        cell(rows, "bound, eventfd", "cross"),
        cell(rows, "bound, eventfd", "same"),
        "–".to_owned(),
        "–".to_owned(),
        "–".to_owned(),
    ];
    table(&header, lines.chain([bounds]))
}

fn messages(rows: &[Value]) -> String {
    let header =
        ["message by", "64 B, one processor", "64 B, two", "4 KiB, one", "4 KiB, two", "64 KiB, one", "64 KiB, two"];
    let mut names = members(rows, "64 B");
    names.extend(members(rows, "4 KiB").into_iter().filter(|name| !members(rows, "64 B").contains(name)));
    let lines = names.into_iter().map(|name| {
        let mut line = vec![name.to_owned()];
        for size in ["64 B", "4 KiB", "64 KiB"] {
            line.extend(["same", "cross"].map(|placement| cell(rows, &format!("{size}, {name}"), placement)));
        }
        line
    });
    table(&header, lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_without_a_place_for_figures_is_refused() {
        assert!(fill("nothing", "calls", "x").is_err());
        assert!(fill("<!-- begin: calls -->\n", "calls", "x").is_err());
    }

    #[test]
    fn the_page_has_a_place_for_each_table() {
        let page = include_str!("../../docs/carriers.md");
        assert!(fill(page, "carriers", "").is_ok() && fill(page, "calls", "").is_ok());
    }

    #[test]
    fn only_what_is_framed_is_replaced() {
        let page = "a\n<!-- begin: calls, made by something -->\nold\n<!-- end: calls -->\nb\n";
        let filled = fill(page, "calls", "new\n").unwrap();
        assert_eq!(filled, "a\n<!-- begin: calls, made by something -->\nnew\n<!-- end: calls -->\nb\n");
    }

    #[test]
    fn a_figure_is_a_ratio_unless_it_is_its_own_base() {
        let rows = [
            serde_json::json!({"name": "x", "placement": "same", "median": 1500.0, "base": "x", "ratio": 1.0}),
            serde_json::json!({"name": "y", "placement": "same", "median": 750.0, "base": "x", "ratio": 0.5}),
        ];
        assert_eq!(cell(&rows, "x", "same"), "1.5 µs");
        assert_eq!(cell(&rows, "y", "same"), "**0.50** (750 ns)");
        assert_eq!(cell(&rows, "y", "cross"), "–");
    }
}
