//! `cofferdam ps`: running VMs and their processes.

use crate::args::PsArgs;
use crate::table::{size, table};
use anyhow::Result;
use schema::control::HostStatus;
use serde::Serialize;
use vmm::supervisor::{operator::Client, runtime};

/// One device host, for `--json`.
#[derive(Serialize)]
pub struct Row<'a> {
    vm: &'a str,
    name: &'a str,
    class: &'a str,
    pid: u32,
    level: &'a str,
    seccomp_mode: u8,
    no_new_privs: bool,
    syscalls_allowed: u32,
    descriptors: &'a [String],
    guest_memory_bytes: u64,
    pss_bytes: u64,
    restarts: u32,
    state: &'a str,
    differences: &'a [String],
    notes: &'a [String],
    carriers: &'a [String],
    missing: &'a [String],
    required: &'a [String],
    allowed_missing: &'a [String],
    label: &'a str,
    accesses: Accesses,
}

/// How a host's accesses were served.
#[derive(Serialize)]
struct Accesses {
    shadow: u64,
    posted: u64,
    lane: u64,
    doorbell: u64,
}

/// The hosts among `rows`, as objects. The VMM counts as one only where devices are linked into it.
pub fn objects<'a>(vm: &'a str, rows: &'a [HostStatus]) -> Vec<Row<'a>> {
    let alone = rows.len() == 1;
    rows.iter()
        .filter(|row| row.class != "vmm" || alone)
        .map(|row| Row {
            vm,
            name: &row.name,
            class: &row.class,
            pid: row.pid,
            level: &row.level,
            seccomp_mode: row.seccomp_mode,
            no_new_privs: row.no_new_privs,
            syscalls_allowed: row.syscalls_allowed,
            descriptors: &row.descriptors,
            guest_memory_bytes: row.guest_memory_bytes,
            pss_bytes: row.pss_bytes,
            restarts: row.restarts,
            state: &row.state,
            differences: &row.differences,
            notes: &row.notes,
            carriers: &row.carriers,
            missing: &row.missing,
            required: &row.required,
            allowed_missing: &row.allowed_missing,
            label: &row.label,
            accesses: Accesses { shadow: row.shadow, posted: row.posted, lane: row.lane, doorbell: row.doorbell },
        })
        .collect()
}

/// Runs the command.
pub fn ps(asked: &PsArgs) -> Result<u8> {
    let mut machines = Vec::new();
    for name in runtime::running()? {
        // One that ends just now is simply no longer there.
        if let Ok(found) = Client::connect(&name).and_then(|mut client| client.status(asked.audit)) {
            machines.push(found);
        }
    }
    if asked.json {
        let rows: Vec<Row<'_>> = machines.iter().flat_map(|(name, rows)| objects(name, rows)).collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(0);
    }
    if machines.is_empty() {
        println!("No virtual machine of yours is running.");
        return Ok(0);
    }
    let mut shown =
        table(["VM", "device host", "process", "sandbox", "calls left", "descriptors", "guest memory", "PSS", "state"]);
    for (name, rows) in &machines {
        for row in rows {
            shown.add_row([
                name.clone(),
                row.name.clone(),
                row.pid.to_string(),
                sandbox_words(row),
                calls_words(row),
                row.descriptors.len().to_string(),
                size(row.guest_memory_bytes),
                size(row.pss_bytes),
                state_words(row),
            ]);
        }
    }
    println!("{shown}");
    print_missing(machines.iter().flat_map(|(_, rows)| rows));
    if asked.audit {
        print_audit(&machines);
    }
    Ok(0)
}

/// Says which layers of the sandbox some process does without.
pub fn print_missing<'a>(rows: impl Iterator<Item = &'a HostStatus>) {
    let mut missing: Vec<&str> = rows.flat_map(|row| &row.missing).map(String::as_str).collect();
    missing.sort_unstable();
    missing.dedup();
    if !missing.is_empty() {
        println!("Layers that this machine does not give: {}; `cofferdam ps --audit` says why.", missing.join(", "));
    }
}

fn print_audit(machines: &[(String, Vec<HostStatus>)]) {
    let mut differing = 0;
    for (name, rows) in machines {
        for row in rows {
            println!("{name}/{} (process {}): {}", row.name, row.pid, row.descriptors.join(", "));
            for note in &row.notes {
                println!("    this kernel lacks: {note}");
            }
            for difference in &row.differences {
                println!("    DIFFERS FROM ITS RECIPE: {difference}");
                differing += 1;
            }
        }
    }
    match differing {
        0 => println!("The kernel shows each process as its recipe says."),
        count => println!("{count} differences between the kernel's view and the recipes."),
    }
}

/// The level as the kernel shows it, what the operator said of single layers, and the label.
pub fn sandbox_words(row: &HostStatus) -> String {
    let mut words = match (row.level.as_str(), row.seccomp_mode) {
        (level, 0) => level.to_owned(),
        // What `strict` becomes under a filter that was there before.
        ("strict", 2) => "strict (filter, mode 2)".to_owned(),
        (level, mode) => format!("{level} (mode {mode})"),
    };
    for (what, layers) in [("requires", &row.required), ("may lack", &row.allowed_missing)] {
        if !layers.is_empty() {
            words.push_str(&format!("\n{what} {}", layers.join(", ")));
        }
    }
    if !row.label.is_empty() {
        words.push_str(&format!("\n{}", row.label));
    }
    words
}

/// How it is, and how often it was started anew.
fn state_words(row: &HostStatus) -> String {
    match row.restarts {
        0 => row.state.clone(),
        1 => format!("{}; restarted once", row.state),
        times => format!("{}; restarted {times} times", row.state),
    }
}

/// System calls left.
pub fn calls_words(row: &HostStatus) -> String {
    if row.seccomp_mode == 0 { "all".to_owned() } else { row.syscalls_allowed.to_string() }
}
