//! The qtest text protocol: a line is a command, and has one line in answer.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use schema::play::{BLOCK_MAX, Outcome, Step};
use schema::vmm::Drive;
use std::fmt::Write;

/// Most bytes of memory that one command reads or writes: an answer is kept whole before it is sent.
const BYTES_MAX: u64 = 64 << 20;

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// Steps, and how to answer them.
    Play(Vec<Step>, Answer),
    /// Time passes.
    Time(Time),
    /// Changes of interrupt inputs are to be told: those that are seen at this chip's inputs, or that this device makes.
    Intercept(Where, String),
    /// Answered at once.
    Said(String),
}

/// Until when time passes.
#[derive(Debug, PartialEq, Eq)]
pub enum Time {
    /// The next alarm.
    Next,
    /// So many nanoseconds from now.
    By(u64),
    /// This time.
    To(u64),
}

/// Where interrupts are listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// At the inputs of an interrupt controller.
    In,
    /// At the outputs of a device.
    Out,
}

/// How a command is answered once its steps are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// That they are.
    Done,
    /// With the value loaded, of so many digits.
    Value(usize),
    /// With the bytes read.
    Bytes,
    /// The same, in base 64.
    Base64,
    /// With the time.
    Now,
}

impl Answer {
    /// The line, for these outcomes at this time.
    pub fn line(self, outcomes: &[Outcome], now: u64) -> String {
        let bytes = || outcomes.iter().flat_map(|outcome| &outcome.bytes);
        match self {
            Answer::Done => "OK".to_owned(),
            Answer::Now => format!("OK {now}"),
            Answer::Value(digits) => {
                format!("OK 0x{:0digits$x}", outcomes.first().map_or(u64::MAX, |outcome| outcome.value))
            }
            Answer::Bytes => {
                let mut line = "OK 0x".to_owned();
                for byte in bytes() {
                    let _ = write!(line, "{byte:02x}");
                }
                line
            }
            Answer::Base64 => format!("OK {}", BASE64.encode(bytes().copied().collect::<Vec<u8>>())),
        }
    }
}

/// Reads a line.
pub fn parse(line: &str) -> Line {
    let mut words = line.split_ascii_whitespace();
    let Some(command) = words.next() else { return Line::Said("FAIL Empty command".into()) };
    let words: Vec<&str> = words.collect();
    read(command, &words).unwrap_or_else(|why| Line::Said(format!("FAIL {command}: {why}")))
}

fn read(command: &str, words: &[&str]) -> Result<Line, String> {
    let count = |wanted: std::ops::RangeInclusive<usize>, usage: &str| {
        if wanted.contains(&words.len()) { Ok(()) } else { Err(format!("give {usage}")) }
    };
    if let Some((port, write, width)) = access(command) {
        count(if write { 2..=2 } else { 1..=1 }, if write { "ADDR VALUE" } else { "ADDR" })?;
        let value = if write { number(words[1])? } else { 0 };
        let mut address = number(words[0])?;
        if port {
            // A processor has 16 bits for it.
            address &= 0xffff;
        }
        let answer = match (write, port) {
            (true, _) => Answer::Done,
            (false, true) => Answer::Value(4),
            (false, false) => Answer::Value(16),
        };
        return Ok(Line::Play(vec![Step::Access(Drive { write, port, address, width, value })], answer));
    }
    Ok(match command {
        "read" | "b64read" => {
            count(2..=2, "ADDR SIZE")?;
            let answer = if command == "read" { Answer::Bytes } else { Answer::Base64 };
            let (address, size) = (number(words[0])?, size(words[1])?);
            let pieces = pieces(address, size).map(|(address, count)| Step::Read { address, count });
            Line::Play(pieces.collect(), answer)
        }
        "write" | "b64write" => {
            count(3..=3, "ADDR SIZE DATA")?;
            let (address, size) = (number(words[0])?, size(words[1])?);
            let mut bytes = if command == "write" { hexadecimal(words[2])? } else { base64(words[2])? };
            // What is missing at the end is zero, what is too much is dropped.
            bytes.resize(size as usize, 0);
            let pieces = pieces(address, size).zip(bytes.chunks(BLOCK_MAX));
            Line::Play(
                pieces.map(|((address, _), bytes)| Step::Write { address, bytes: bytes.to_vec() }).collect(),
                Answer::Done,
            )
        }
        "memset" => {
            count(3..=3, "ADDR SIZE VALUE")?;
            let (address, size, byte) = (number(words[0])?, size(words[1])?, number(words[2])? as u8);
            let pieces = pieces(address, size).map(|(address, count)| Step::Fill { address, count, byte });
            Line::Play(pieces.collect(), Answer::Done)
        }
        "clock_step" => {
            count(0..=1, "nothing or NS")?;
            Line::Time(words.first().map_or(Ok(Time::Next), |word| number(word).map(Time::By))?)
        }
        "clock_set" => {
            count(1..=1, "NS")?;
            Line::Time(Time::To(number(words[0])?))
        }
        "irq_intercept_in" | "irq_intercept_out" => {
            count(1..=1, "PATH")?;
            Line::Intercept(if command.ends_with("in") { Where::In } else { Where::Out }, words[0].to_owned())
        }
        "set_irq_in" => {
            count(4..=4, "PATH NAME NUMBER LEVEL")?;
            is_chip(words[0])?;
            let input = number(words[2])?;
            let input = u8::try_from(input).map_err(|_| format!("there is no input {input}"))?;
            Line::Play(vec![Step::Wire { input, level: number(words[3])? != 0 }], Answer::Done)
        }
        "endianness" => Line::Said("OK little".into()),
        _ => Line::Said(format!("FAIL Unknown command '{command}'")),
    })
}

/// Whether a path is that of the chip whose inputs all interrupt lines are.
pub fn is_chip(path: &str) -> Result<(), String> {
    // By its name, or by a path that ends in it.
    match path.rsplit('/').next() {
        Some("ioapic") => Ok(()),
        _ => Err(format!("there is no `{path}`; the interrupt inputs are those of `ioapic`")),
    }
}

/// Whether a command is an access: to a port, a store, how wide.
fn access(command: &str) -> Option<(bool, bool, u8)> {
    Some(match command {
        "outb" => (true, true, 1),
        "outw" => (true, true, 2),
        "outl" => (true, true, 4),
        "inb" => (true, false, 1),
        "inw" => (true, false, 2),
        "inl" => (true, false, 4),
        "writeb" => (false, true, 1),
        "writew" => (false, true, 2),
        "writel" => (false, true, 4),
        "writeq" => (false, true, 8),
        "readb" => (false, false, 1),
        "readw" => (false, false, 2),
        "readl" => (false, false, 4),
        "readq" => (false, false, 8),
        _ => return None,
    })
}

/// A number as C writes one: decimal, or hexadecimal after `0x`, or octal after `0`; a minus sign makes it wrap.
fn number(word: &str) -> Result<u64, String> {
    let (negative, digits) = word.strip_prefix('-').map_or((false, word), |digits| (true, digits));
    let parsed = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None if digits.len() > 1 && digits.starts_with('0') => u64::from_str_radix(digits, 8),
        None => digits.parse(),
    };
    let value = parsed.map_err(|_| format!("`{word}` is not a number"))?;
    Ok(if negative { value.wrapping_neg() } else { value })
}

fn size(word: &str) -> Result<u64, String> {
    match number(word)? {
        0 => Err("there is nothing in 0 bytes".into()),
        size if size > BYTES_MAX => Err(format!("{size} bytes are more than {BYTES_MAX} at once")),
        size => Ok(size),
    }
}

/// `size` bytes from `address` on, in blocks.
fn pieces(address: u64, size: u64) -> impl Iterator<Item = (u64, u16)> {
    let block = BLOCK_MAX as u64;
    (0..size.div_ceil(block)).map(move |number| {
        let done = number * block;
        (address.wrapping_add(done), (size - done).min(block) as u16)
    })
}

fn hexadecimal(word: &str) -> Result<Vec<u8>, String> {
    let digits = word.strip_prefix("0x").ok_or("data begins with 0x")?.as_bytes();
    if digits.len() % 2 != 0 {
        return Err("data has two digits for each byte".into());
    }
    let digit = |digit: u8| char::from(digit).to_digit(16).ok_or_else(|| "data has hexadecimal digits".to_owned());
    digits.chunks(2).map(|pair| Ok((digit(pair[0])? << 4 | digit(pair[1])?) as u8)).collect()
}

fn base64(word: &str) -> Result<Vec<u8>, String> {
    BASE64.decode(word).map_err(|error| format!("data is not base 64: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> String {
        match parse(line) {
            Line::Said(text) => text,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_line_that_makes_no_sense_fails_with_a_sentence() {
        for (line, sentence) in [
            ("", "FAIL Empty command"),
            ("dance 1 2", "FAIL Unknown command 'dance'"),
            ("outb 0x70", "FAIL outb: give ADDR VALUE"),
            ("inb 0x70 1", "FAIL inb: give ADDR"),
            ("inb port", "FAIL inb: `port` is not a number"),
            ("read 0 0", "FAIL read: there is nothing in 0 bytes"),
            ("read 0 0x10000000", "FAIL read: 268435456 bytes are more than 67108864 at once"),
            ("write 0 1 ff", "FAIL write: data begins with 0x"),
            ("write 0 1 0xf", "FAIL write: data has two digits for each byte"),
            ("write 0 1 0xgg", "FAIL write: data has hexadecimal digits"),
            ("clock_set", "FAIL clock_set: give NS"),
            (
                "set_irq_in /machine/cpu x 1 1",
                "FAIL set_irq_in: there is no `/machine/cpu`; the interrupt inputs are those of `ioapic`",
            ),
        ] {
            assert_eq!(said(line), sentence);
        }
        assert!(said("b64write 0 1 ?").starts_with("FAIL b64write: data is not base 64"));
    }

    #[test]
    fn numbers_are_those_of_c() {
        for (word, value) in [("10", 10), ("0x10", 16), ("010", 8), ("0", 0), ("-1", u64::MAX)] {
            assert_eq!(number(word), Ok(value));
        }
    }

    #[test]
    fn accesses_are_of_their_width_and_space() {
        let step =
            |write, port, address, width, value| vec![Step::Access(Drive { write, port, address, width, value })];
        assert_eq!(parse("outb 0x70 0x8f"), Line::Play(step(true, true, 0x70, 1, 0x8f), Answer::Done));
        assert_eq!(parse("inl 0x10cfc"), Line::Play(step(false, true, 0xcfc, 4, 0), Answer::Value(4)));
        assert_eq!(parse("writeq 0x1000 -1"), Line::Play(step(true, false, 0x1000, 8, u64::MAX), Answer::Done));
        assert_eq!(parse("readw 5"), Line::Play(step(false, false, 5, 2, 0), Answer::Value(16)));
    }

    #[test]
    fn long_blocks_are_cut_and_short_data_is_filled_up() {
        let Line::Play(steps, Answer::Bytes) = parse("read 0xfff 4097") else { panic!() };
        assert_eq!(steps, [Step::Read { address: 0xfff, count: 4096 }, Step::Read { address: 0x1fff, count: 1 }]);
        let Line::Play(steps, _) = parse("write 8 3 0x01") else { panic!() };
        assert_eq!(steps, [Step::Write { address: 8, bytes: vec![1, 0, 0] }]);
        let Line::Play(steps, _) = parse("b64write 8 2 AQID") else { panic!() };
        assert_eq!(steps, [Step::Write { address: 8, bytes: vec![1, 2] }]);
        let Line::Play(steps, _) = parse("memset 0 5000 0x1ff") else { panic!() };
        assert_eq!(steps[1], Step::Fill { address: 4096, count: 904, byte: 0xff });
    }

    #[test]
    fn answers_have_the_protocols_form() {
        let outcome = |value, bytes: &[u8]| Outcome { value, bytes: bytes.to_vec(), changes: Vec::new() };
        assert_eq!(Answer::Value(4).line(&[outcome(0x26, &[])], 0), "OK 0x0026");
        assert_eq!(Answer::Value(16).line(&[outcome(1, &[])], 0), "OK 0x0000000000000001");
        assert_eq!(Answer::Bytes.line(&[outcome(0, &[1, 0xab]), outcome(0, &[0])], 0), "OK 0x01ab00");
        assert_eq!(Answer::Base64.line(&[outcome(0, &[1, 2, 3])], 0), "OK AQID");
        assert_eq!(Answer::Now.line(&[], 12), "OK 12");
    }
}
