//! Group G: what leaks beside the ways that are watched, and what is left out when nobody looks.

#![allow(unsafe_code)] // A clock by the C library, and a filter for a child.

use super::arena::{PORT, alone, device, fooled, reader};
use super::attempt::{Attempt, Done, Group, Guard, Judge, LANDLOCK, Outcome, Trial};
use super::ground::{Ground, Machine, REGISTERS};
use super::hostile::{Host, LOOT_BYTES, check};
use super::kernel::{has_the_secret, maps, open_by_name};
use super::lone::{judge, loot};
use super::naive::permit_everything;
use super::{lane, messages};
use crate::catalogue::BuiltIn;
use anyhow::{Context, Result};
use sandbox::LayerName;
use schema::host::{Log, Purpose};
use schema::lane::Carrier;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use vmm::supervisor::{Cell, Hostile};

/// The group.
pub static GROUP: Group = Group { letter: 'G', name: "side channels and policy", attempts: ATTEMPTS };

const ATTEMPTS: &[Attempt] = &[
    Attempt {
        id: "G1",
        no: "101",
        attempt: "measure time finely, by the kernel's clock page",
        guards: &[Guard::NoCounter],
        seen_by: "wait status; two different times in its state region",
        device: REGISTERS,
        act: |host| {
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: a time of this stack.
            check(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) })?;
            host.carry_off(&time.tv_nsec.to_ne_bytes());
            Ok(())
        },
        judge: Judge::Cell(|_| Ok(Trial::new(|cell, _| Ok(loot(cell)?[..8] != [0; 8])))),
    },
    Attempt {
        id: "G2",
        no: "103",
        attempt: "find in its memory what was there before",
        guards: &[Guard::Check("every region is new, and reads as zeros")],
        seen_by: "another machine's secret in its state region",
        device: REGISTERS,
        act: find_leftovers,
        judge: Judge::Own(leftovers),
    },
    Attempt {
        id: "G3",
        no: "104",
        attempt: "find addresses of the VMM in memory that they share",
        guards: &[Guard::Check("no address is shared")],
        seen_by: "the VMM's memory map, against what the attacker reports",
        device: REGISTERS,
        act: report_addresses,
        judge: Judge::Own(addresses),
    },
    Attempt {
        id: "G4",
        no: "106",
        attempt: "say that it is sealed, and leave it at that",
        guards: &[Guard::Audit, Guard::Layer(LayerName::Root), LANDLOCK],
        seen_by: "the audit; the secret in its state region",
        device: REGISTERS,
        act: open_by_name,
        judge: Judge::Own(unsealed),
    },
    Attempt {
        id: "G5",
        no: "107",
        attempt: "be started where a filter is already installed, so that mode 1 cannot be had",
        guards: &[Guard::FilterInstead],
        seen_by: "what an attack says that runs there; a process that goes on unsealed",
        device: REGISTERS,
        act: |_| Ok(()),
        judge: Judge::Own(filtered),
    },
];

/// Where an honest host's state may be, and an attacker has nothing of its own.
const STATE: std::ops::Range<usize> = 1024..2048;

fn find_leftovers(host: &Host) -> Done {
    let mut bytes = [0; STATE.end - STATE.start];
    host.state().read(STATE.start, &mut bytes);
    let first = bytes.iter().position(|byte| *byte != 0).ok_or(libc::ENODATA)?;
    host.carry_off(&bytes[first..]);
    Ok(())
}

fn leftovers(ground: &Ground<'_>, attempt: &Attempt, removed: &[Guard]) -> Result<Outcome> {
    let mut honest = ground.device(attempt.device, Vec::new());
    honest.hostile = None;
    let mut cell = Cell::start(&honest, &BuiltIn, None)?;
    cell.map_state()?.write(STATE.start, ground.secret.as_bytes());
    let mut other = if removed.is_empty() {
        cell.end();
        alone(ground, attempt, removed, Carrier::Memory)?
    } else {
        // Memory that is used again as it is.
        cell.succeed(&device(ground, attempt, removed, Carrier::Memory), &BuiltIn)?;
        cell
    };
    let mut proof = has_the_secret(ground);
    judge(&mut other, |cell, end| proof(cell, end))
}

/// What could be an address of a process.
const ADDRESSES: std::ops::Range<u64> = 0x1000_0000_0000..0x8000_0000_0000;

fn report_addresses(host: &Host) -> Done {
    lane::serve(host);
    let Some(request) = host.region(Purpose::Request) else { return Err(libc::ENOENT) };
    let mut text = *b"address 0000000000000000";
    for at in (0..request.len()).step_by(8) {
        let value = super::hostile::word(request, at).load(Ordering::SeqCst);
        if ADDRESSES.contains(&value) {
            for (place, digit) in text[8..].iter_mut().zip((0..16).rev()) {
                *place = b"0123456789abcdef"[(value >> (4 * digit) & 0xf) as usize];
            }
            messages::send(&messages::log(&text))?;
        }
    }
    messages::send(&messages::log(b"that is all"))
}

fn is_address(line: &str, maps: &str) -> bool {
    let Some(value) = line.split("address ").nth(1).and_then(|word| u64::from_str_radix(word, 16).ok()) else {
        return false;
    };
    maps.lines().any(|line| {
        let (start, rest) = line.split_once('-').unwrap_or_default();
        let end = rest.split(' ').next().unwrap_or_default();
        let number = |word| u64::from_str_radix(word, 16).unwrap_or(0);
        (number(start)..number(end)).contains(&value)
    })
}

fn addresses(ground: &Ground<'_>, attempt: &Attempt, removed: &[Guard]) -> Result<Outcome> {
    if !removed.is_empty() {
        let mut cell = alone(ground, attempt, removed, Carrier::Memory)?;
        // As a ring does that has its owner's pointers in it.
        let request = cell.request()?;
        let at = request.len() - 8;
        super::hostile::word(&request, at).store(request.as_ptr() as u64, Ordering::SeqCst);
        cell.wake().signal(1)?;
        let packet = cell.channel().receive(Some(super::ground::PATIENCE))?.context("nothing came")?;
        let (log, _) = packet.decode::<Log>()?;
        return Ok(fooled(is_address(&log.text, &maps(std::process::id() as i32))));
    }
    let mut machine = Machine::start(ground, vec![device(ground, attempt, removed, Carrier::Memory)])?;
    if !ground.kvm {
        machine.access(false, PORT, 4, 0)?;
    }
    let lines = machine.hear(ground, "that is all")?;
    let report = machine.vm.report(false);
    let vmm = report.hosts.iter().find(|row| row.class == "vmm").context("there is a VMM")?;
    let maps = maps(vmm.pid as i32);
    let leaks = lines.iter().filter(|line| is_address(line, &maps)).count();
    Ok(if leaks > 0 { Outcome::Succeeded } else { Outcome::Stopped("found no address of the VMM".to_owned()) })
}

fn unsealed(ground: &Ground<'_>, attempt: &Attempt, removed: &[Guard]) -> Result<Outcome> {
    let told = [ground.secret_file().display().to_string()];
    let mut device = ground.device(attempt.device, Vec::new());
    device.hostile = Some(Hostile {
        role: attempt.role(removed, !removed.is_empty(), &told),
        without: removed.iter().flat_map(|guard| guard.parts()).collect(),
    });
    if removed.is_empty() {
        return Ok(match Cell::start(&device, &BuiltIn, None) {
            Ok(_) => Outcome::Succeeded,
            Err(error) => {
                let words = format!("{error:#}");
                let first = words.split(':').next_back().unwrap_or_default().split(';').next().unwrap_or_default();
                Outcome::Stopped(format!("refused: {}", first.trim()))
            }
        });
    }
    // Who has got a gift is not looked at.
    let gift = std::fs::File::open("/dev/null")?;
    let mut cell = Cell::start(&device, &BuiltIn, Some(std::os::fd::AsFd::as_fd(&gift)))?;
    let mut proof = has_the_secret(ground);
    judge(&mut cell, |cell, end| proof(cell, end))
}

fn filtered(_: &Ground<'_>, _: &Attempt, removed: &[Guard]) -> Result<Outcome> {
    if !removed.is_empty() {
        return reader("insist", std::fs::File::open("/dev/null")?);
    }
    let mut command = Command::new("/proc/self/exe");
    command.args(["attack", "A1", "--sandbox", "strict", "--json", "--no-kvm"]).stdin(Stdio::null());
    // SAFETY: two calls, and nothing that a child may not do between fork and exec.
    unsafe { command.pre_exec(|| permit_everything().map_err(std::io::Error::from_raw_os_error)) };
    let output = command.output()?;
    Ok(if output.status.success() {
        Outcome::Stopped("sealed by a filter instead".to_owned())
    } else {
        Outcome::Failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    })
}

const _: () = assert!(STATE.end <= 4096 - LOOT_BYTES - 8, "an attacker's own words are elsewhere");
