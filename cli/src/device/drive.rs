//! `cofferdam device drive`: accesses to one device from a script, without a machine.

use super::stand;
use crate::args::{DriveArgs, usage};
use anyhow::{Result, anyhow};
use imc::lane::Request;
use schema::lane::Operation;
use std::io::BufRead;
use vmm::supervisor::Stand;

/// Reads operations from standard input, a line each, and prints the answers.
pub fn drive(asked: &DriveArgs) -> Result<u8> {
    let mut stand = stand(&asked.device, asked.carrier, asked.sandbox.all)?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() || words[0].starts_with('#') {
            continue;
        }
        println!("{}", step(&mut stand, &words).map_err(|error| usage!("{line}: {error:#}"))?);
    }
    Ok(0)
}

/// Does what one line says; gives what there is to see afterwards.
fn step(stand: &mut Stand, words: &[&str]) -> Result<String> {
    let reply = if words == ["restart"] {
        stand.restart()?;
        "restarted".to_owned()
    } else {
        match stand.ask(&request(words)?) {
            Ok(value) => format!("{value:#x}"),
            Err(error) => format!("no answer: {error}"),
        }
    };
    let seen = stand.seen()?;
    let wishes = 0..stand.manifest().wishes.len() as u32;
    let turned: Vec<String> =
        wishes.filter_map(|wish| Some(format!(" switch {wish} turned with {}", stand.turned(wish)?))).collect();
    let deadline = seen.deadline.map_or("none".to_owned(), |deadline| deadline.to_string());
    Ok(format!("{reply}  levels {:#x}  deadline {deadline}  unknown {}{}", seen.levels, seen.unknown, turned.concat()))
}

/// `read RANGE OFFSET WIDTH NOW`, `write RANGE OFFSET WIDTH VALUE NOW`, `alarm NOW`, `button NOW`, `reset NOW`.
fn request(words: &[&str]) -> Result<Request> {
    let number = |at: usize| -> Result<u64> {
        let word = words.get(at).ok_or_else(|| anyhow!("a number is missing"))?;
        let parsed = match word.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => word.parse(),
        };
        parsed.map_err(|_| anyhow!("`{word}` is not a number"))
    };
    let at = |operation, now| Request { operation, range: 0, width: 1, offset: 0, value: 0, now };
    let access = |operation, value, now| -> Result<Request> {
        Ok(Request {
            range: number(1)? as u8,
            offset: number(2)?,
            width: number(3)? as u8,
            value,
            ..at(operation, now)
        })
    };
    match words[0] {
        "read" => access(Operation::Read, 0, number(4)?),
        "write" => access(Operation::Write, number(4)?, number(5)?),
        "alarm" => Ok(at(Operation::Alarm, number(1)?)),
        "button" => Ok(at(Operation::Button, number(1)?)),
        "reset" => Ok(at(Operation::Reset, number(1)?)),
        other => Err(anyhow!("`{other}` is nothing to do; there are read, write, alarm, button, reset and restart")),
    }
}
