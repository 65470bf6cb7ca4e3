//! A machine that answers the qtest protocol: ours, or the oracle.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Lines that are under way at once: fewer than the pipes between us hold.
pub const UNDER_WAY: usize = 256;
/// Looks at a register that is waited for. A machine that works beside its test program needs some hundred.
const LOOKS_MAX: usize = 100_000;
/// A port where nobody answers.
const QUIET: u16 = 0x80;
/// Accesses that are shown before one that waits in vain.
const SHOWN: usize = 12;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Read,
    Write,
    /// Fills memory: so many bytes.
    Fill(u32),
    /// Looks until these bits have this value: one machine may need a moment that the other does not.
    Await {
        bits: u8,
        value: u8,
    },
    /// An interrupt input has this level from now on.
    Wire(bool),
    /// So many nanoseconds pass.
    Pass(u32),
}

/// Whose words these are, where the protocol leaves them to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    Ours,
    /// Its time is the world's.
    Theirs,
}

/// Where the oracle has its two 8259As.
const THEIR_CONTROLLERS: [&str; 2] = ["/machine/unattached/device[6]", "/machine/unattached/device[7]"];

/// One access, to a port or to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    pub act: Act,
    pub memory: bool,
    pub at: u32,
    pub width: u8,
    pub value: u32,
}

impl Access {
    pub const fn read(port: u16) -> Access {
        Access { act: Act::Read, memory: false, at: port as u32, width: 1, value: 0 }
    }

    pub const fn write(port: u16, value: u8) -> Access {
        Access { act: Act::Write, value: value as u32, ..Access::read(port) }
    }

    /// Looks at a port until `bits` are `value`.
    pub const fn wait(port: u16, bits: u8, value: u8) -> Access {
        Access { act: Act::Await { bits, value }, ..Access::read(port) }
    }

    /// One of the sixteen inputs of the interrupt controllers has this level.
    pub const fn wire(input: u32, level: bool) -> Access {
        Access { act: Act::Wire(level), at: input, ..Access::read(0) }
    }

    /// Time passes.
    pub const fn pass(ns: u32) -> Access {
        Access { act: Act::Pass(ns), ..Access::read(0) }
    }

    /// So many bytes of memory are zero.
    pub const fn clear(address: u32, bytes: u32) -> Access {
        Access { act: Act::Fill(bytes), ..Access::read(0).in_memory(address) }
    }

    /// The same of this width.
    pub const fn wide(self, width: u8) -> Access {
        Access { width, ..self }
    }

    /// The same with this value.
    pub const fn of(self, value: u32) -> Access {
        Access { value, ..self }
    }

    /// The same at an address of memory.
    pub const fn in_memory(self, address: u32) -> Access {
        Access { memory: true, at: address, ..self }
    }

    pub fn writes(&self) -> bool {
        self.act == Act::Write
    }

    /// Whether what is under way must have been answered before it.
    fn waits(&self) -> bool {
        matches!(self.act, Act::Await { .. } | Act::Pass(_))
    }

    fn reads(&self) -> bool {
        matches!(self.act, Act::Read | Act::Await { .. })
    }

    /// Whether it is to this port.
    pub fn is_at(&self, port: u16) -> bool {
        !self.memory && (self.reads() || self.writes()) && self.at == u32::from(port)
    }

    /// Whether it is to this address.
    pub fn is_in_memory(&self, address: u32) -> bool {
        self.memory && self.at == address
    }

    /// As the protocol says it.
    pub fn line(&self, whose: Whose) -> String {
        let letter = match self.width {
            1 => 'b',
            2 => 'w',
            _ => 'l',
        };
        let Access { at, value, .. } = *self;
        match (self.act, self.memory) {
            (Act::Wire(level), _) => {
                let level = u8::from(level);
                match (whose, THEIR_CONTROLLERS[at as usize / 8 % 2]) {
                    (Whose::Ours, _) => format!("set_irq_in ioapic input {at} {level}\n"),
                    (Whose::Theirs, path) => format!("set_irq_in {path} unnamed-gpio-in {} {level}\n", at % 8),
                }
            }
            (Act::Pass(ns), _) => format!("clock_step {ns}\n"),
            (Act::Fill(bytes), _) => format!("memset {at:#x} {bytes:#x} {value:#x}\n"),
            (Act::Write, false) => format!("out{letter} {at:#x} {value:#x}\n"),
            (Act::Write, true) => format!("write{letter} {at:#x} {value:#x}\n"),
            (_, false) => format!("in{letter} {at:#x}\n"),
            (_, true) => format!("read{letter} {at:#x}\n"),
        }
    }
}

/// What came of it: what was read, and the level of each interrupt input afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub value: u64,
    pub inputs: u32,
}

pub struct Machine {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    inputs: u32,
    whose: Whose,
}

impl Machine {
    /// Starts it, and listens to its interrupts.
    pub fn start(mut command: Command, whose: Whose) -> Machine {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the machine starts");
        let (to, from) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let mut machine = Machine { child, to, from: BufReader::new(from), inputs: 0, whose };
        machine.to.write_all(b"irq_intercept_in ioapic\n").expect("it listens");
        machine.answer();
        machine
    }

    /// Makes these accesses.
    pub fn play(&mut self, accesses: &[Access]) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(accesses.len());
        let mut rest = accesses;
        while let Some(first) = rest.first() {
            if let Act::Await { bits, value } = first.act {
                let answer = self.wait(first, bits, value);
                let at = accesses.len() - rest.len();
                answers.push(answer.unwrap_or_else(|| {
                    let before: String =
                        accesses[at.saturating_sub(SHOWN)..=at].iter().map(|access| access.line(self.whose)).collect();
                    panic!("bits {bits:#x} are never {value:#x}:\n{before}");
                }));
                rest = &rest[1..];
                continue;
            }
            if let Act::Pass(ns) = first.act {
                answers.push(self.pass(first, ns));
                rest = &rest[1..];
                continue;
            }
            let together = 1 + rest[1..].iter().take(UNDER_WAY - 1).take_while(|access| !access.waits()).count();
            let lines: String = rest[..together].iter().map(|access| access.line(self.whose)).collect();
            self.to.write_all(lines.as_bytes()).expect("it listens");
            answers.extend((0..together).map(|_| self.answer()));
            rest = &rest[together..];
        }
        answers
    }

    fn wait(&mut self, access: &Access, bits: u8, value: u8) -> Option<Answer> {
        for _ in 0..LOOKS_MAX {
            let answer = self.ask(access);
            if answer.value as u8 & bits == value {
                return Some(answer);
            }
        }
        None
    }

    fn pass(&mut self, access: &Access, ns: u32) -> Answer {
        match self.whose {
            Whose::Ours => self.ask(access),
            Whose::Theirs => {
                std::thread::sleep(Duration::from_nanos(ns.into()));
                // What has happened meanwhile is told before the second of two answers at the latest.
                self.ask(&Access::read(QUIET));
                self.ask(&Access::read(QUIET))
            }
        };
        Answer { value: 0, inputs: self.inputs }
    }

    fn ask(&mut self, access: &Access) -> Answer {
        self.to.write_all(access.line(self.whose).as_bytes()).expect("it listens");
        self.answer()
    }

    fn answer(&mut self) -> Answer {
        loop {
            let mut line = String::new();
            assert!(self.from.read_line(&mut line).expect("it answers") > 0, "it ended: {:?}", self.child.try_wait());
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["IRQ", verb, input] => {
                    let bit = input.parse::<u32>().ok().and_then(|input| 1u32.checked_shl(input)).unwrap_or(0);
                    self.inputs = if *verb == "raise" { self.inputs | bit } else { self.inputs & !bit };
                }
                ["OK", rest @ ..] => {
                    let value =
                        rest.first().and_then(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok());
                    return Answer { value: value.unwrap_or(0), inputs: self.inputs };
                }
                _ => panic!("it said: {line}"),
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
