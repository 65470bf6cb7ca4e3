//! `cofferdam device drive`: accesses to one device from a script, without a machine.

use super::check::unanswered;
use super::stand;
use crate::args::{DriveArgs, usage};
use anyhow::{Result, anyhow};
use imc::lane::Request;
use schema::lane::Operation;
use std::io::BufRead;
use std::time::Duration;
use vmm::supervisor::Stand;

/// Bytes of guest memory that one line shows at most.
const LOAD_MAX: usize = 1 << 20;

/// Reads operations from standard input, a line each, and prints the answers; what the device says meanwhile goes to standard
/// error.
pub fn drive(asked: &DriveArgs) -> Result<u8> {
    let mut stand = stand(&asked.device, asked.carrier, asked.sandbox.all)?;
    let mut now = 0;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() || words[0].starts_with('#') {
            continue;
        }
        println!("{}", step(&mut stand, &words, &mut now).map_err(|error| usage!("{line}: {error:#}"))?);
        stand.log().iter().for_each(|said| eprintln!("{said}"));
    }
    // A device is told that it is to turn a switch by what it has committed, and turns it after it has answered. So only once it
    // has answered another operation is it known whether it has.
    if stand.wait_for_end(Duration::ZERO).is_none() {
        let _ = stand.ask(&Request { operation: Operation::Quiesce, range: 0, width: 1, offset: 0, value: 0, now });
    }
    let wishes = (0..).zip(&stand.manifest().wishes);
    let turned: Vec<&str> =
        wishes.filter(|(wish, _)| stand.turned(*wish).is_some()).map(|(_, wish)| wish.name.as_str()).collect();
    println!("switches turned: {}", if turned.is_empty() { "none".to_owned() } else { turned.join(", ") });
    Ok(0)
}

/// Does what one line says; gives what there is to see afterwards.
fn step(stand: &mut Stand, words: &[&str], now: &mut u64) -> Result<String> {
    let reply = if words == ["restart"] {
        stand.restart()?;
        "restarted".to_owned()
    } else if let Some(shown) = look(stand, words)? {
        return Ok(shown);
    } else {
        let request = request(words)?;
        *now = request.now.max(*now);
        match stand.ask(&request) {
            Ok(value) => format!("{value:#x}"),
            Err(error) => format!("no answer: {}", unanswered(stand, &error)),
        }
    };
    let seen = stand.seen()?;
    let deadline = seen.deadline.map_or("none".to_owned(), |deadline| deadline.to_string());
    Ok(format!("{reply}  levels {:#x}  deadline {deadline}  unknown {}", seen.levels, seen.unknown))
}

/// What is done beside the device: `store ADDRESS BYTES` and `load ADDRESS COUNT` in guest memory, bytes as hexadecimal digits, and
/// `vectors`, how often each was signalled since the last look. After `quiesce` the device has done all that it will.
fn look(stand: &Stand, words: &[&str]) -> Result<Option<String>> {
    Ok(Some(match words {
        ["store", address, digits] => {
            stand.store(number(address)?, &bytes(digits)?)?;
            "stored".to_owned()
        }
        ["load", address, count] => {
            let mut found = vec![0; usize::try_from(number(count)?)?.min(LOAD_MAX)];
            stand.load(number(address)?, &mut found)?;
            found.iter().map(|byte| format!("{byte:02x}")).collect()
        }
        ["vectors"] => format!("signalled {:?}", stand.signalled()),
        _ => return Ok(None),
    }))
}

fn number(word: &str) -> Result<u64> {
    let parsed = match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => word.parse(),
    };
    parsed.map_err(|_| anyhow!("`{word}` is not a number"))
}

fn bytes(digits: &str) -> Result<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let parsed: Option<Vec<u8>> = pairs.map(byte).collect();
    parsed.filter(|_| digits.len().is_multiple_of(2)).ok_or_else(|| anyhow!("`{digits}` are not bytes"))
}

/// `read RANGE OFFSET WIDTH NOW`, `write RANGE OFFSET WIDTH VALUE NOW`, `alarm NOW`, `button NOW`, `reset NOW`, `quiesce NOW`.
fn request(words: &[&str]) -> Result<Request> {
    let number = |at: usize| number(words.get(at).ok_or_else(|| anyhow!("a number is missing"))?);
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
        "quiesce" => Ok(at(Operation::Quiesce, number(1)?)),
        other => Err(anyhow!(
            "`{other}` is nothing to do; there are read, write, alarm, button, reset, quiesce, restart, store, load and vectors"
        )),
    }
}
