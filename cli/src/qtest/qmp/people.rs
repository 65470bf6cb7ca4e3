//! What is answered to the words of a monitor for people, for programs that ask in them.

use super::Facts;
use std::fmt::Write;

/// The text in answer. There are few questions; who asks another one is told so.
pub fn answer(line: &str, facts: &Facts<'_>) -> String {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    match words.as_slice() {
        ["info", "status"] => {
            let runs = facts.status == "running";
            let why = if runs { String::new() } else { format!(" ({})", facts.status) };
            format!("VM status: {}{why}\r\n", if runs { "running" } else { "paused" })
        }
        ["info", "version"] => concat!(env!("CARGO_PKG_VERSION"), " (cofferdam)\r\n").to_owned(),
        ["info", "name"] if facts.name.is_empty() => String::new(),
        ["info", "name"] => format!("{}\r\n", facts.name),
        ["info", "block"] => blocks(facts),
        _ => format!("unknown command: '{line}'\r\n"),
    }
}

fn blocks(facts: &Facts<'_>) -> String {
    let mut text = String::new();
    let drives = facts.drives.iter().map(|drive| (&drive.name, drive.medium.as_ref(), true));
    let disks = facts.disks.iter().map(|disk| (&disk.name, Some(&disk.medium), false));
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
    use crate::qtest::Actions;
    use vmm::supervisor::Medium;

    #[test]
    fn a_word_that_is_not_known_is_said_and_a_disk_is_shown() {
        let disks = [Disk { name: "ide0-hd0".into(), medium: Medium { path: "a.img".into(), readonly: true } }];
        let facts = Facts {
            status: "prelaunch",
            name: "",
            is_pc: true,
            memory_bytes: 0,
            devices: &[],
            ids: &[],
            chardevs: &[],
            drives: &[],
            disks: &disks,
            actions: Actions::default(),
        };
        assert_eq!(answer("dance now", &facts), "unknown command: 'dance now'\r\n");
        assert_eq!(answer("info status", &facts), "VM status: paused (prelaunch)\r\n");
        assert_eq!(answer("info block", &facts), "ide0-hd0: a.img (raw, read-only)\r\n");
    }
}
