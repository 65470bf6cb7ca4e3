//! `cofferdam attack`: a device host and a guest that are against us, and what comes of it.
//!
//! Each attempt runs in the whole sandbox, where it must be stopped, and with the guards that stop it taken out, where it
//! must succeed: an attempt that never does proves nothing. Nobody asks the attacker how it went.

mod arena;
mod attacker;
mod attempt;
mod behaviour;
mod descriptors;
mod ground;
mod hostile;
mod kernel;
mod lane;
mod list;
mod lone;
mod memory;
mod messages;
mod naive;
mod policy;
mod resources;

pub use attacker::run as be_hostile;
pub use ground::{VICTIM, be_victim};
pub use hostile::ROLE as HOSTILE;
pub use naive::{ROLE as NAIVE, run as be_naive};
pub use resources::{CARELESS, be_careless};

use crate::args::{AttackArgs, usage};
use crate::catalogue::BuiltIn;
use crate::table::table;
use anyhow::Result;
use attempt::{Attempt, Group, Guard, Judge, Outcome};
use ground::Ground;
use lone::judge;
use schema::host::Level;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use vmm::supervisor::{Cell, Hostile, Signals};

/// Some attempt succeeded, or proves nothing.
const NOT_HELD: u8 = 1;
/// What came of all runs of an attempt.
struct Row {
    group: &'static Group,
    attempt: &'static Attempt,
    with: Outcome,
    /// With some of the guards taken out: how many, and what came of it.
    between: Vec<(usize, Outcome)>,
    without: Outcome,
    /// The first guard is not to be had on this machine.
    unavailable: bool,
    /// What was attacked.
    level: Level,
    /// Who was no longer well afterwards.
    harmed: Option<String>,
}

/// Runs the command.
pub fn attack(asked: &AttackArgs, signals: &Signals) -> Result<u8> {
    let chosen = chosen(&asked.which)?;
    if asked.list {
        return list_attempts(&chosen, asked.json);
    }
    let level = asked.sandbox;
    let kvm = !asked.no_kvm && std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
    let ground = Ground::lay_out(level, kvm, signals)?;
    let mut rows = Vec::new();
    for (number, (group, attempt)) in chosen.iter().enumerate() {
        show_progress(&format!("{}/{} {} {}", number + 1, chosen.len(), attempt.id, attempt.attempt));
        ground.check_signals()?;
        rows.push(make(&ground, group, attempt, asked.let_through.as_deref() == Some(attempt.id)));
    }
    show_progress("");
    if asked.json {
        println!("{}", serde_json::to_string_pretty(&rows.iter().map(Row::object).collect::<Vec<_>>())?);
    } else {
        show(&rows);
        if !ground.missing.is_empty() {
            let missing: Vec<&str> = ground.missing.iter().map(|layer| layer.name()).collect();
            println!("Layers that are not to be had here, and so were not counted on: {}.", missing.join(", "));
        }
    }
    let failures: Vec<String> = rows.iter().filter_map(Row::failure).collect();
    for failure in &failures {
        eprintln!("cofferdam: {failure}");
    }
    Ok(if failures.is_empty() { 0 } else { NOT_HELD })
}

/// The attempts of these names and groups; all, if there are none.
fn chosen(which: &[String]) -> Result<Vec<(&'static Group, &'static Attempt)>> {
    let mut chosen = Vec::new();
    for word in which {
        let before = chosen.len();
        let is_it = |(group, attempt): &(&Group, &Attempt)| {
            attempt.id.eq_ignore_ascii_case(word) || group.letter.to_string().eq_ignore_ascii_case(word)
        };
        chosen.extend(list::all().filter(is_it));
        if chosen.len() == before {
            let groups: Vec<String> =
                list::GROUPS.iter().map(|group| format!("{} ({})", group.letter, group.name)).collect();
            return Err(usage!(
                "attack {word}: there is no such attempt or group; the groups are {}, and `--list` names the attempts",
                groups.join(", ")
            ));
        }
    }
    if which.is_empty() {
        chosen.extend(list::all());
    }
    Ok(chosen)
}

/// Makes an attempt in every way that it is to be made. `let_through`: it never meets its guards.
fn make(ground: &Ground<'_>, group: &'static Group, attempt: &'static Attempt, let_through: bool) -> Row {
    let guards = attempt.guards;
    let mut row = Row {
        group,
        attempt,
        with: Outcome::NotRun("its guard is not to be had here".to_owned()),
        between: Vec::new(),
        without: Outcome::NotRun("its guard is not to be had here".to_owned()),
        unavailable: !guards[0].is_available(ground),
        level: ground.level,
        harmed: None,
    };
    if row.unavailable {
        return row;
    }
    row.with = run(ground, attempt, if let_through { guards } else { &[] });
    row.note_harm(ground.bystander_is_well());
    for removed in 1..guards.len() {
        if guards[removed].is_available(ground) {
            row.between.push((removed, run(ground, attempt, &guards[..removed])));
        }
    }
    row.without = run(ground, attempt, guards);
    row.note_harm(ground.bystander_is_well());
    row
}

/// Makes an attempt once.
fn run(ground: &Ground<'_>, attempt: &Attempt, removed: &[Guard]) -> Outcome {
    try_to_run(ground, attempt, removed).unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")))
}

fn try_to_run(ground: &Ground<'_>, attempt: &Attempt, removed: &[Guard]) -> Result<Outcome> {
    match attempt.judge {
        Judge::Cell(prepare) => {
            let mut trial = prepare(ground)?;
            if let Some(why) = trial.needs.filter(|_| !removed.is_empty()) {
                return Ok(Outcome::NotRun(why.to_owned()));
            }
            let gift = trial.gift.filter(|(guard, _)| removed.contains(guard)).map(|(_, gift)| gift);
            let mut device = ground.device(attempt.device, trial.backing);
            device.options.extend(trial.options);
            device.hostile = Some(Hostile {
                role: attempt.role(removed, gift.is_some(), &trial.told),
                without: removed.iter().flat_map(|guard| guard.parts()).collect(),
            });
            let mut cell = Cell::start(&device, &BuiltIn, gift.as_ref().map(AsFd::as_fd))?;
            if let Some((_, relax)) = trial.relax.filter(|(guard, _)| removed.contains(guard)) {
                relax(&mut cell)?;
            }
            judge(&mut cell, |cell, end| (trial.proof)(cell, end))
        }
        Judge::Own(judge) => judge(ground, attempt, removed),
    }
}

impl Row {
    fn note_harm(&mut self, well: Result<()>) {
        if let Err(error) = well {
            self.harmed.get_or_insert(format!("{error:#}"));
        }
    }

    /// Why this attempt is not as it should be, if it is not.
    fn failure(&self) -> Option<String> {
        let name = format!("{} ({})", self.attempt.id, self.attempt.attempt);
        if self.unavailable {
            return None;
        }
        if let Some(harmed) = &self.harmed {
            return Some(format!("{name}: afterwards, {harmed}"));
        }
        match &self.with {
            Outcome::Stopped(how) if self.is_stopped_as_stated(how) => {}
            Outcome::Stopped(how) => return Some(format!("{name}: was stopped by something else: {how}")),
            other => return Some(format!("{name}: was not stopped in the whole sandbox: {other:?}")),
        }
        let names = |count: usize| self.attempt.guards[..count].iter().map(|guard| guard.name()).collect::<Vec<_>>();
        for (removed, outcome) in &self.between {
            let next = self.attempt.guards[*removed].name();
            let without = names(*removed).join(", ");
            match outcome {
                Outcome::Succeeded => return Some(format!("{name}: without {without}, {next} does not stop it")),
                Outcome::Failed(why) => return Some(format!("{name}: without {without}: {why}")),
                Outcome::Stopped(_) | Outcome::NotRun(_) => {}
            }
        }
        match &self.without {
            Outcome::Failed(why) => Some(format!("{name}: without its guards: {why}")),
            Outcome::Stopped(how) => Some(format!(
                "{name}: proves nothing: without {} it is still stopped: {how}",
                names(self.attempt.guards.len()).join(", ")
            )),
            _ => None,
        }
    }

    /// A call that is not left is the end of a process, by one signal.
    fn is_stopped_as_stated(&self, how: &str) -> bool {
        let by_filter = ["killed by SIGSYS", "does not permit"];
        let by_mode_1 = ["killed by SIGKILL", "killed (signal 9)"];
        let says = |words: [&str; 2]| words.iter().any(|words| how.contains(words));
        match self.attempt.guards[0] {
            attempt::FILTER => {
                // Where what it asks for is not there at all, it comes to harm before it can be stopped.
                let is_absent = matches!(self.without, Outcome::NotRun(_)) && how == "killed by SIGSEGV";
                says(by_filter) || self.level == Level::Strict && says(by_mode_1) || is_absent
            }
            _ => true,
        }
    }

    fn object(&self) -> serde_json::Value {
        let guards: Vec<String> = self.attempt.guards.iter().map(|guard| guard.name()).collect();
        let with = match &self.with {
            _ if self.unavailable => "unavailable",
            Outcome::Stopped(_) => "stopped",
            Outcome::Succeeded => "succeeded",
            Outcome::NotRun(_) | Outcome::Failed(_) => "unavailable",
        };
        serde_json::json!({
            "id": self.attempt.id,
            "no": self.attempt.no,
            "group": self.group.name,
            "attempt": self.attempt.attempt,
            "layer": guards[0],
            "behind": guards[1..],
            "with_layer": with,
            "without_layer": without_word(&self.without),
            "seen_by": self.attempt.seen_by,
            "how": how(&self.with),
            "between": self.between.iter().map(|(removed, outcome)| serde_json::json!({
                "without": guards[..*removed],
                "result": without_word(outcome),
                "how": how(outcome),
            })).collect::<Vec<_>>(),
            "held": self.failure().is_none(),
        })
    }
}

fn without_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Stopped(_) => "stopped",
        Outcome::Succeeded => "succeeded",
        Outcome::NotRun(_) | Outcome::Failed(_) => "not-run",
    }
}

fn how(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Stopped(how) | Outcome::NotRun(how) | Outcome::Failed(how) => how,
        Outcome::Succeeded => "",
    }
}

/// One line that says what goes on, where somebody looks.
fn show_progress(text: &str) {
    if std::io::stderr().is_terminal() {
        let text: String = text.chars().take(78).collect();
        let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
        let _ = std::io::stderr().flush();
    }
}

fn list_attempts(chosen: &[(&'static Group, &'static Attempt)], json: bool) -> Result<u8> {
    let guards = |attempt: &Attempt| attempt.guards.iter().map(|guard| guard.name()).collect::<Vec<_>>();
    if json {
        let object = |(group, attempt): &(&Group, &Attempt)| {
            serde_json::json!({
                "id": attempt.id, "no": attempt.no, "group": group.name, "attempt": attempt.attempt,
                "layer": guards(attempt)[0], "behind": guards(attempt)[1..], "seen_by": attempt.seen_by,
            })
        };
        println!("{}", serde_json::to_string_pretty(&chosen.iter().map(object).collect::<Vec<_>>())?);
        return Ok(0);
    }
    let mut shown = table(["id", "no.", "attempt", "stopped by, in turn", "seen by"]);
    for (_, attempt) in chosen {
        shown.add_row([attempt.id, attempt.no, attempt.attempt, &guards(attempt).join(", "), attempt.seen_by]);
    }
    println!("{shown}");
    Ok(0)
}

fn show(rows: &[Row]) {
    let mut shown = table(["id", "attempt", "stopped by", "with it", "without it", "and those behind it", "seen by"]);
    for row in rows {
        let guards: Vec<String> = row.attempt.guards.iter().map(|guard| guard.name()).collect();
        let with = match &row.with {
            Outcome::Stopped(how) => format!("stopped: {how}"),
            Outcome::Succeeded => "SUCCEEDED".to_owned(),
            Outcome::NotRun(_) => "unavailable".to_owned(),
            Outcome::Failed(_) => "FAILED".to_owned(),
        };
        let without = match &row.without {
            Outcome::Stopped(how) => format!("STOPPED: {how}"),
            Outcome::Succeeded => "succeeded".to_owned(),
            Outcome::NotRun(_) if row.unavailable => "-".to_owned(),
            Outcome::NotRun(why) => format!("not run: {why}"),
            Outcome::Failed(why) => format!("FAILED: {why}"),
        };
        let behind = guards[1..].join(", ");
        shown.add_row([
            row.attempt.id,
            row.attempt.attempt,
            &guards[0],
            &with,
            &without,
            if behind.is_empty() { "-" } else { &behind },
            row.attempt.seen_by,
        ]);
    }
    println!("{shown}");
    let count = |is: fn(&Row) -> bool| rows.iter().filter(|row| is(row)).count();
    println!(
        "{} attempts: {} stopped, {} not; {} need a layer that is not to be had here; {} were not made without their guards.",
        rows.len(),
        count(|row| matches!(row.with, Outcome::Stopped(_))),
        count(|row| row.with == Outcome::Succeeded),
        count(|row| row.unavailable),
        count(|row| !row.unavailable && matches!(row.without, Outcome::NotRun(_))),
    );
}
