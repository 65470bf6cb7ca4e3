//! The memory of a process.

use super::Process;
use crate::recipe::{Mode, Recipe, Share, Stage};
use std::collections::BTreeMap;
use std::io;

/// One mapping of `/proc/PID/maps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapping {
    bytes: u64,
    /// Of what: an offset into the file of this number.
    place: (u64, u64),
    writable: bool,
    executable: bool,
    shared: bool,
    /// Path, `[heap]`, or nothing.
    name: String,
}

impl Mapping {
    /// `start-end permissions offset device inode name`, as proc(5) has it.
    fn parse(line: &str) -> Option<Mapping> {
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let permissions = fields.next()?.as_bytes();
        let at = |text| u64::from_str_radix(text, 16).ok();
        let (offset, inode) = (at(fields.next()?)?, fields.nth(1)?.parse().ok()?);
        Some(Mapping {
            bytes: at(end)?.checked_sub(at(start)?)?,
            place: (inode, offset),
            writable: permissions.get(1) == Some(&b'w'),
            executable: permissions.get(2) == Some(&b'x'),
            shared: permissions.get(3) == Some(&b's'),
            name: fields.next().unwrap_or("").trim().to_owned(),
        })
    }

    /// The name that its memfd was given.
    fn memfd(&self) -> Option<&str> {
        let name = self.name.strip_prefix("/memfd:")?;
        Some(name.strip_suffix(" (deleted)").unwrap_or(name))
    }
}

pub(super) fn of(process: &Process) -> io::Result<Vec<Mapping>> {
    Ok(process.read("maps")?.lines().filter_map(Mapping::parse).collect())
}

/// Guest memory among them: devices that share a host may each have mapped it.
pub(super) fn guest_bytes(maps: &[Mapping]) -> u64 {
    let guest = |mapping: &&Mapping| mapping.memfd().is_some_and(|name| name.starts_with("cofferdam:ram"));
    let places: BTreeMap<_, _> = maps.iter().filter(guest).map(|mapping| (mapping.place, mapping.bytes)).collect();
    places.values().sum()
}

/// Compares shared memory with what the recipe says, and looks for memory that is both writable and executable.
pub(super) fn compare(differences: &mut Vec<String>, maps: &[Mapping], recipe: &Recipe, stage: Stage) {
    let mut totals = vec![0u64; recipe.memory.len()];
    for mapping in maps {
        if mapping.writable && mapping.executable {
            differences
                .push(format!("it has {} bytes mapped both writable and executable {}", mapping.bytes, mapping.name));
        }
        if !mapping.shared {
            continue;
        }
        let name = mapping.memfd().unwrap_or(&mapping.name);
        // A memfd has the name that its maker gave it; what is no memfd has its name from the kernel.
        let share = recipe.memory.iter().position(|share| {
            share.name.starts_with("cofferdam:") == mapping.memfd().is_some() && name.starts_with(share.name)
        });
        let Some((at, share)) = share.and_then(|at| Some((at, recipe.memory.get(at)?))) else {
            differences.push(format!("it has shared memory mapped that its recipe does not know: {name}"));
            continue;
        };
        if stage == Stage::Confined {
            differences.push(format!("it has {name} mapped before anything was granted"));
        }
        if mapping.executable {
            differences.push(format!("it has {name} mapped executable"));
        }
        if mapping.writable && !share.mode.covers(Mode::Write) {
            differences.push(format!("it has {name} mapped writable, which it should only read"));
        }
        if let Some(total) = totals.get_mut(at) {
            *total += mapping.bytes;
        }
    }
    for (Share { name, bytes, .. }, total) in recipe.memory.iter().zip(totals) {
        if let Some(most) = bytes.filter(|most| total > *most) {
            differences.push(format!("it has {total} bytes of {name} mapped where its recipe allows {most}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::host::Level;
    use schema::lane::Carrier;

    fn differences(lines: &[&str]) -> Vec<String> {
        let maps: Vec<Mapping> = lines.iter().map(|line| Mapping::parse(line).expect(line)).collect();
        let mut differences = Vec::new();
        compare(&mut differences, &maps, &Recipe::host_over(Level::Seccomp, &[], &[Carrier::Memory]), Stage::Sealed);
        differences
    }

    #[test]
    fn mappings_of_an_honest_host_are_no_difference() {
        let honest = [
            "7f0000000000-7f0000001000 r--s 00000000 00:01 7    /memfd:cofferdam:request (deleted)",
            "7f0000002000-7f0000004000 rw-s 00000000 00:01 8    /memfd:cofferdam:state (deleted)",
            "7f0000005000-7f0000006000 r-xp 00001000 fe:00 9    /cofferdam",
            "7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0    [stack]",
        ];
        assert_eq!(differences(&honest), Vec::<String>::new());
    }

    #[test]
    fn a_request_region_mapped_writable_is_seen() {
        let line = "7f0000000000-7f0000001000 rw-s 00000000 00:01 7    /memfd:cofferdam:request (deleted)";
        assert_eq!(differences(&[line]), ["it has cofferdam:request mapped writable, which it should only read"]);
    }

    #[test]
    fn guest_memory_without_a_wish_for_it_is_seen() {
        let line = "7f0000000000-7f0001000000 rw-s 00000000 00:01 7    /memfd:cofferdam:ram (deleted)";
        assert_eq!(differences(&[line]), ["it has shared memory mapped that its recipe does not know: cofferdam:ram"]);
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!(guest_bytes(&[mapping.clone(), mapping]), 16 << 20, "two devices of a host share it");
    }

    #[test]
    fn memory_both_writable_and_executable_is_seen() {
        let line = "7f0000000000-7f0000001000 rwxp 00000000 00:00 0 ";
        assert_eq!(differences(&[line]), ["it has 4096 bytes mapped both writable and executable "]);
    }
}
