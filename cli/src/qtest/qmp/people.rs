//! The words of a monitor for people, for programs that ask in them.

use super::media::find;
use super::{Becomes, Facts, Failed, Order};
use crate::qtest::actions::Watchdog;
use serde_json::Value;
use std::fmt::Write;

/// What becomes of a line. There are few commands; who gives another one is told so.
pub fn becomes(line: &str, facts: &Facts<'_>) -> Becomes {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let says = |text: String| Becomes::Answer(Ok(text.into()));
    let orders = |order: Result<Order, Failed>| match order {
        Ok(order) => Becomes::Order(order),
        Err(failed) => says(done(&Err(failed))),
    };
    match words.as_slice() {
        [] => says(String::new()),
        ["info", "status"] => says(status(facts)),
        ["info", "version"] => says(concat!(env!("CARGO_PKG_VERSION"), " (cofferdam)\r\n").to_owned()),
        ["info", "name"] if facts.names.title.is_empty() => says(String::new()),
        ["info", "name"] => says(format!("{}\r\n", facts.names.title)),
        ["info", "block"] => says(blocks(facts)),
        ["stop" | "s"] => orders(Ok(Order::Run(false))),
        ["cont" | "c"] => orders(Ok(Order::Run(true))),
        ["quit" | "q"] => orders(Ok(Order::Quit)),
        ["system_reset"] => orders(Ok(Order::Reset)),
        ["system_powerdown"] => orders(Ok(Order::Powerdown)),
        ["watchdog_action", word] => orders(match Watchdog::of(word) {
            Some(watchdog) => {
                let mut actions = facts.actions;
                actions.watchdog = watchdog;
                Ok(Order::React(actions))
            }
            None => Err(Failed::generic(format!("invalid parameter value: {word}"))),
        }),
        ["eject", name] => orders(find(name, facts).map(|drive| Order::Exchange(drive.emptied(false)))),
        ["eject", "-f", name] => orders(find(name, facts).map(|drive| Order::Exchange(drive.emptied(true)))),
        ["change", name, file, rest @ ..] if rest.len() <= 2 => {
            let word = |at: usize, usual| rest.get(at).copied().unwrap_or(usual);
            let changed =
                find(name, facts).and_then(|drive| drive.changed(file, word(0, "raw"), word(1, "retain"), false));
            orders(changed.map(Order::Exchange))
        }
        ["info", ..] => says(format!("unknown command: '{line}'\r\n")),
        [first, ..] => says(format!("unknown command: '{first}'\r\n")),
    }
}

/// What is said when it is done, or has failed.
pub fn done(result: &Result<Value, Failed>) -> String {
    match result {
        Ok(_) => String::new(),
        Err(failed) => format!("Error: {}\r\n", failed.why),
    }
}

fn status(facts: &Facts<'_>) -> String {
    let runs = facts.status == "running";
    let why = if runs || facts.status == "paused" { String::new() } else { format!(" ({})", facts.status) };
    format!("VM status: {}{why}\r\n", if runs { "running" } else { "paused" })
}

fn blocks(facts: &Facts<'_>) -> String {
    let mut text = String::new();
    let drives = facts.drives.iter().map(|drive| (drive.shown(), drive.medium.as_ref(), true));
    let disks = facts.disks.iter().map(|disk| (disk.name.as_str(), Some(&disk.medium), false));
    for (name, medium, is_removable) in drives.chain(disks) {
        let what = medium.map_or("[not inserted]".to_owned(), |medium| {
            let access = if medium.readonly { "raw, read-only" } else { "raw" };
            format!("{} ({access})", medium.path.display())
        });
        let _ = write!(text, "{name}: {what}\r\n");
        if is_removable {
            text.push_str("    Removable device: not locked, tray closed\r\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::Disk;
    use super::*;
    use crate::qtest::actions::Actions;
    use crate::qtest::setup::Names;
    use vmm::supervisor::Medium;

    #[test]
    fn a_word_that_is_not_known_is_said_and_others_are_done() {
        let disks = [Disk { name: "ide0-hd0".into(), medium: Medium { path: "a.img".into(), readonly: true } }];
        let facts = Facts {
            status: "prelaunch",
            names: &Names::default(),
            is_pc: true,
            memory_bytes: 0,
            devices: &[],
            drives: &[],
            disks: &disks,
            actions: Actions::default(),
        };
        for (line, text) in [
            ("dance now", "unknown command: 'dance'\r\n"),
            ("info dance", "unknown command: 'info dance'\r\n"),
            ("", ""),
            ("info status", "VM status: paused (prelaunch)\r\n"),
            ("info block", "ide0-hd0: a.img (raw, read-only)\r\n"),
            ("eject teapot", "Error: Device 'teapot' not found\r\n"),
            ("watchdog_action dance", "Error: invalid parameter value: dance\r\n"),
        ] {
            assert_eq!(becomes(line, &facts), Becomes::Answer(Ok(text.into())), "{line}");
        }
        assert_eq!(becomes(" cont ", &facts), Becomes::Order(Order::Run(true)));
        assert_eq!(becomes("q", &facts), Becomes::Order(Order::Quit));
    }
}
