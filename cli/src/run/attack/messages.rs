//! Group E: messages to the supervisor, who reads them with all its rights.

#![allow(unsafe_code)] // Plain writes of a sealed process.

use super::arena::{Fate, PORT, alone, beside, device, fooled, reader};
use super::attempt::{Attempt, Done, Group, Guard, Judge, Outcome};
use super::ground::{Ground, Machine, PATIENCE, REGISTERS};
use super::hostile::{CHANNEL, check, done_offset, word};
use super::lane;
use crate::catalogue::BuiltIn;
use anyhow::{Context, Result, ensure};
use schema::Body;
use schema::host::{Hello, Log};
use schema::lane::Carrier;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use vmm::supervisor::Cell;

/// The group.
pub static GROUP: Group = Group { letter: 'E', name: "messages", attempts: ATTEMPTS };

/// Words of a message's header, and the most of its body.
const HEADER_WORDS: usize = 4;
const BODY_WORDS: usize = 2048;

/// A datagram, put together without an allocator.
pub struct Datagram {
    words: [u64; HEADER_WORDS + BODY_WORDS],
    /// Words of its body.
    body: usize,
}

/// An event, and a reply.
const EVENT: u8 = 4;
const REPLY: u8 = 2;

impl Datagram {
    /// An event that claims to be a `B`.
    fn event<B: Body>(body: &[u64]) -> Datagram {
        Datagram::new::<B>(EVENT, 0, body)
    }

    fn new<B: Body>(kind: u8, number: u64, body: &[u64]) -> Datagram {
        let mut words = [0; HEADER_WORDS + BODY_WORDS];
        // The layout of `imc/src/header.rs`: magic, version and ordinal; number; type and bytes; the struct's name.
        words[0] = u64::from(u32::from_le_bytes(*b"IMC1")) | 1 << 32 | u64::from(B::ORDINAL) << 48;
        words[1] = number;
        words[2] = u64::from(kind) | (8 * body.len() as u64) << 32;
        words[3] = B::SCHEMA_ID;
        words[HEADER_WORDS..HEADER_WORDS + body.len()].copy_from_slice(body);
        Datagram { words, body: body.len() }
    }
}

/// Sends it, waiting for room if there is none.
pub fn send(datagram: &Datagram) -> Done {
    while !try_to_send(datagram)? {
        std::hint::spin_loop();
    }
    Ok(())
}

/// Sends it if there is room. Says whether there was.
fn try_to_send(datagram: &Datagram) -> Result<bool, i32> {
    let bytes = 8 * (HEADER_WORDS + datagram.body);
    // SAFETY: bytes of a live array.
    match check(unsafe { libc::write(CHANNEL, datagram.words.as_ptr().cast(), bytes) } as i64) {
        Err(libc::EAGAIN) => Ok(false),
        sent => sent.map(|_| true),
    }
}

/// Cap'n Proto's pointer to a struct, `offset` words after the pointer itself.
const fn struct_pointer(offset: i64, data: u64, pointers: u64) -> u64 {
    (((offset << 2) as u64) & 0xffff_fffc) | data << 32 | pointers << 48
}

/// Its pointer to a list of `count` elements of this size code.
const fn list_pointer(offset: i64, size: u64, count: u64) -> u64 {
    1 | (((offset << 2) as u64) & 0xffff_fffc) | size << 32 | count << 35
}

/// Element sizes.
const VOID: u64 = 0;
const BYTES: u64 = 2;
const POINTERS: u64 = 6;

/// A log line: one word of data, the severity, and one pointer, the text.
pub fn log(text: &[u8]) -> Datagram {
    let mut body = [0; 3 + 50];
    body[0] = struct_pointer(0, 1, 1);
    body[1] = 2;
    body[2] = list_pointer(0, BYTES, text.len() as u64 + 1);
    for (at, byte) in text.iter().enumerate().take(8 * 50 - 1) {
        body[3 + at / 8] |= u64::from(*byte) << (8 * (at % 8));
    }
    Datagram::event::<Log>(&body[..3 + (text.len() + 1).div_ceil(8).min(50)])
}

/// An attempt whose message the supervisor refuses, and whose sender it ends.
macro_rules! refused {
    ($id:literal, $no:literal, $attempt:literal, $check:literal, $act:expr, $naive:expr) => {
        Attempt {
            id: $id,
            no: $no,
            attempt: $attempt,
            guards: &[Guard::Check($check)],
            seen_by: "its state at the supervisor",
            device: REGISTERS,
            act: |host| {
                lane::serve(host);
                let act: fn() -> Done = $act;
                act()
            },
            judge: Judge::Own(|ground, attempt, removed| {
                beside(ground, attempt, removed, Fate::GivenUp("broke the protocol"), $naive)
            }),
        }
    };
}

/// A reader in a process of its own that gets the message.
macro_rules! read_by {
    ($reader:literal) => {
        |cell: &mut Cell| reader($reader, cell.channel().as_fd())
    };
}

/// A graph of so many words, in which the pointers of each struct meet in the next one: 8⁹ ways through 80 words.
const GRAPH_WORDS: usize = 80;
const FAN: usize = 8;

const ATTEMPTS: &[Attempt] = &[
    refused!(
        "E1",
        "73",
        "a table of 2³² segments",
        "a body is one segment, without a table",
        || send(&Datagram::event::<Log>(&[0xffff_ffff, 0, 0])),
        read_by!("segments")
    ),
    refused!(
        "E2",
        "74",
        "a body of 4 GiB, says its header",
        "a datagram is as long as its header says",
        || {
            let mut datagram = log(b"short");
            datagram.words[2] |= 0xffff_fff8 << 32;
            send(&datagram)
        },
        read_by!("length")
    ),
    refused!(
        "E3",
        "76",
        "a struct that contains itself",
        "nesting has a limit",
        || send(&Datagram::event::<Log>(&[struct_pointer(0, 1, 1), 2, struct_pointer(-1, 0, 1)])),
        read_by!("recursion")
    ),
    refused!(
        "E4",
        "77",
        "a small graph with a hundred million ways through it",
        "a reader follows no more words than a message may have",
        || send(&Datagram::event::<Log>(&graph())),
        |cell| Ok(fooled(walk(&body(cell)?, 2, &mut 0) > 1_000_000))
    ),
    refused!(
        "E5",
        "78",
        "a thousand pointers to the same text",
        "a reader follows no more words than a message may have",
        || send(&shared_text()),
        |cell| {
            let words = body(cell)?;
            let texts = words[3..].iter().take(1000).filter(|pointer| **pointer & 3 == 1);
            let bytes: u64 = texts.map(|pointer| pointer >> 35).sum();
            Ok(fooled(bytes > 100 * 8 * words.len() as u64))
        }
    ),
    refused!(
        "E6",
        "79",
        "a list of half a milliard nothings",
        "a list is no longer than its schema says",
        || send(&Datagram::event::<Log>(&[struct_pointer(0, 1, 1), 2, list_pointer(0, VOID, (1 << 29) - 1)])),
        |cell| {
            let count = body(cell)?[2] >> 35;
            let mut steps = 0u64;
            while steps < count && steps <= 1_000_000 {
                steps += 1;
            }
            Ok(fooled(steps > 1_000_000))
        }
    ),
    refused!(
        "E7",
        "80",
        "a capability that does not exist",
        "a capability is one of the message's descriptors",
        || send(&Datagram::event::<Log>(&[struct_pointer(0, 1, 1), 2, 3 | 0xffff_ffff << 32])),
        read_by!("capability")
    ),
    refused!(
        "E8",
        "82",
        "a value that its enumeration does not have",
        "a value is one that the schema has",
        || {
            let mut datagram = log(b"what?");
            datagram.words[HEADER_WORDS + 1] = 0xfff0;
            send(&datagram)
        },
        read_by!("enumeration")
    ),
    refused!(
        "E9",
        "83",
        "text that does not end, and is none",
        "text ends, and is UTF-8",
        || send(&Datagram::event::<Log>(&[
            struct_pointer(0, 1, 1),
            2,
            list_pointer(0, BYTES, 8),
            u64::MAX,
            u64::MAX,
            0
        ])),
        |cell| {
            let words = body(cell)?;
            let bytes: Vec<u8> = words[3..].iter().flat_map(|word| word.to_le_bytes()).collect();
            let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            Ok(fooled(length as u64 > words[2] >> 35))
        }
    ),
    Attempt {
        id: "E10",
        no: "83",
        attempt: "text that orders the operator's terminal about",
        guards: &[Guard::Check("text of others is printed without control characters")],
        seen_by: "the log that the supervisor keeps",
        device: REGISTERS,
        act: |host| {
            lane::serve(host);
            send(&log(ORDERS))
        },
        judge: Judge::Own(escapes),
    },
    refused!(
        "E11",
        "85",
        "begin anew, once it is sealed",
        "a message comes in its turn",
        || send(&Datagram::event::<Hello>(&[struct_pointer(0, 1, 0), 1])),
        |cell| {
            let packet = cell.channel().receive(Some(PATIENCE))?.context("nothing came")?;
            // Who answers each greeting by a set-up sets it up again, with all grants.
            Ok(fooled(packet.is::<Hello>()))
        }
    ),
    Attempt {
        id: "E12",
        no: "86",
        attempt: "more messages than anybody can keep",
        guards: &[Guard::Check("few messages at a turn, and few lines kept")],
        seen_by: "honest devices answer; the lines that the supervisor keeps",
        device: REGISTERS,
        act: |host| {
            let line = log(&[b'.'; 390]);
            loop {
                lane::serve(host);
                try_to_send(&line)?;
            }
        },
        judge: Judge::Own(|ground, attempt, removed| {
            beside(ground, attempt, removed, Fate::Endured, read_by!("hoard"))
        }),
    },
    refused!(
        "E13",
        "85",
        "answer what was never asked",
        "an answer names a call that is under way",
        || send(&Datagram::new::<schema::host::Empty>(REPLY, 0x1_0001, &[0])),
        |cell| {
            let mut bytes = [0u8; 64];
            // SAFETY: a buffer of this stack.
            let got = unsafe { libc::recv(socket(cell), bytes.as_mut_ptr().cast(), bytes.len(), 0) };
            // Whatever call comes next has its answer already.
            Ok(fooled(got > 0 && bytes[16] == REPLY))
        }
    ),
    Attempt {
        id: "E14",
        no: "88",
        attempt: "as a guest: accesses that reach around the end of a range",
        guards: &[Guard::Check("offset and width are added without wrapping")],
        seen_by: "what the guest loads; honest devices answer",
        device: REGISTERS,
        act: |_| Ok(()),
        judge: Judge::Own(around_the_end),
    },
    Attempt {
        id: "E15",
        no: "89",
        attempt: "speak for its successor",
        guards: &[Guard::Check("each start has a channel of its own")],
        seen_by: "what the supervisor hears on the successor's channel",
        device: REGISTERS,
        act: |_| send(&log(b"stale")),
        judge: Judge::Own(stale),
    },
    refused!(
        "E16",
        "56",
        "a datagram longer than any message",
        "a datagram has a largest size",
        || {
            static LONG: [u8; 24 << 10] = [b'.'; 24 << 10];
            // SAFETY: bytes of a constant.
            check(unsafe { libc::write(CHANNEL, LONG.as_ptr().cast(), LONG.len()) } as i64).map(drop)
        },
        |cell| {
            // A buffer for the largest message, and no look at what did not fit.
            let mut bytes = vec![0; imc::DATAGRAM_MAX];
            // SAFETY: a buffer as long as is said.
            let got = unsafe { libc::recv(socket(cell), bytes.as_mut_ptr().cast(), bytes.len(), 0) };
            Ok(fooled(got as usize == bytes.len()))
        }
    ),
    Attempt {
        id: "E17",
        no: "56",
        attempt: "an empty datagram, which reads like an end",
        guards: &[Guard::Check("who seems gone is killed")],
        seen_by: "the process table",
        device: REGISTERS,
        act: |host| {
            lane::serve(host);
            // SAFETY: no bytes.
            check(unsafe { libc::write(CHANNEL, c"".as_ptr().cast(), 0) } as i64).map(drop)
        },
        judge: Judge::Own(|ground, attempt, removed| {
            beside(ground, attempt, removed, Fate::GivenUp("killed"), |cell| {
                let mut byte = 0u8;
                // SAFETY: a byte of this stack.
                let got = unsafe { libc::recv(socket(cell), (&raw mut byte).cast(), 1, 0) };
                // Taken for dead, and forgotten.
                Ok(fooled(got == 0 && cell.wait_for_end(Duration::from_millis(20)).is_none()))
            })
        }),
    },
];

fn graph() -> [u64; GRAPH_WORDS] {
    let mut words = [0; GRAPH_WORDS];
    words[0] = struct_pointer(0, 1, 1);
    words[1] = 2;
    words[2] = struct_pointer(0, 0, FAN as u64);
    let mut level = 3;
    while level + 2 * FAN <= GRAPH_WORDS {
        for (at, word) in words[level..level + FAN].iter_mut().enumerate() {
            *word = struct_pointer((FAN - at - 1) as i64, 0, FAN as u64);
        }
        level += FAN;
    }
    words
}

/// Follows every pointer, and counts; gives up after far too many.
fn walk(words: &[u64], at: usize, seen: &mut u64) -> u64 {
    *seen += 1;
    let Some(pointer) = words.get(at).filter(|pointer| **pointer != 0 && *seen <= 1_000_000) else { return *seen };
    let target = at + 1 + ((*pointer as i32) >> 2) as usize;
    for next in 0..(*pointer >> 48) as usize {
        walk(words, target + next, seen);
    }
    *seen
}

/// A list of pointers in the place of a text, all of them to the same 4 KiB.
fn shared_text() -> Datagram {
    const COUNT: usize = 1000;
    const TEXT_WORDS: usize = 512;
    let mut body = [0; 3 + COUNT + TEXT_WORDS];
    body[0] = struct_pointer(0, 1, 1);
    body[1] = 2;
    body[2] = list_pointer(0, POINTERS, COUNT as u64);
    for at in 0..COUNT {
        body[3 + at] = list_pointer((COUNT - at - 1) as i64, BYTES, 8 * TEXT_WORDS as u64);
    }
    Datagram::event::<Log>(&body)
}

/// The number of our end of its channel.
fn socket(cell: &mut Cell) -> i32 {
    cell.channel().as_fd().as_raw_fd()
}

/// The words of the next message's body, as they came.
fn body(cell: &mut Cell) -> Result<Vec<u64>> {
    let mut words = vec![0u64; HEADER_WORDS + BODY_WORDS];
    // SAFETY: a buffer as long as is said.
    let got = unsafe { libc::recv(socket(cell), words.as_mut_ptr().cast(), 8 * words.len(), 0) };
    let got = usize::try_from(got).context("nothing came")?;
    words.truncate(got / 8);
    words.drain(..HEADER_WORDS.min(got / 8));
    words.resize(words.len().max(4), 0);
    Ok(words)
}

/// Clears the screen, and asks the terminal to type something.
const ORDERS: &[u8] = b"\x1b[2J\x1b[6n\x07 harmless\r\n";

fn escapes(ground: &Ground<'_>, attempt: &Attempt, removed: &[Guard]) -> Result<Outcome> {
    if !removed.is_empty() {
        let mut cell = alone(ground, attempt, removed, Carrier::Memory)?;
        cell.wake().signal(1)?;
        let packet = cell.channel().receive(Some(PATIENCE))?.context("nothing came")?;
        let (log, _) = packet.decode::<Log>()?;
        return Ok(fooled(log.text.contains('\x1b')));
    }
    let mut machine = Machine::start(ground, vec![device(ground, attempt, removed, Carrier::Memory)])?;
    machine.touch(PORT, 4)?;
    let lines = machine.hear(ground, "harmless")?;
    let line = lines.iter().find(|line| line.contains("harmless")).context("the line did not come")?;
    let harmless = !line.chars().any(char::is_control);
    Ok(if harmless { Outcome::Stopped("printed as replacement characters".to_owned()) } else { Outcome::Succeeded })
}

fn around_the_end(ground: &Ground<'_>, _: &Attempt, removed: &[Guard]) -> Result<Outcome> {
    if !removed.is_empty() {
        // The check as it is often written, for a range of 256 bytes.
        let inside = |offset: u64, width: u64| offset.wrapping_add(width) <= 256;
        return Ok(fooled(inside(u64::MAX - 3, 8)));
    }
    let mut machine = Machine::start(ground, Vec::new())?;
    {
        let mut script = machine.script(ground)?;
        let bar = script.start_virtio(0x1044_1af4)?;
        for width in [1, 2, 4, 8] {
            for address in
                [u64::MAX, u64::MAX - 3, bar + 0x3fff, bar - 1, bar + 0x3ffd, bar.wrapping_sub(u64::from(width) - 1)]
            {
                let _ = script.load(address, width);
                let _ = script.store(address, width, u64::MAX);
            }
        }
        for offset in [0xfc, 0xff] {
            script.set_port(0xcf8, 4, 0x8000_0000 | 2 << 11 | offset)?;
            for (port, width) in [(0xcfc, 4), (0xcfd, 4), (0xcff, 4), (0xcff, 2), (0xfffe, 4), (0xffff, 2)] {
                let _ = script.port(port, width);
                let _ = script.set_port(port, width, u64::MAX);
            }
        }
    }
    machine.is_well(ground)?;
    machine.others_are_clean("")?;
    Ok(Outcome::Stopped("no host or VMM came to harm".to_owned()))
}

fn stale(ground: &Ground<'_>, attempt: &Attempt, removed: &[Guard]) -> Result<Outcome> {
    let mut cell = alone(ground, attempt, removed, Carrier::Memory)?;
    cell.wake().signal(1)?;
    let state = cell.map_state()?;
    let until = Instant::now() + PATIENCE;
    while word(&state, done_offset(&state)).load(Ordering::SeqCst) == 0 {
        ensure!(Instant::now() < until, "it said nothing");
        std::thread::sleep(Duration::from_millis(1));
    }
    if !removed.is_empty() {
        // The successor speaks by the same socket: what is heard first is taken for its word.
        let packet = cell.channel().receive(Some(Duration::ZERO))?.context("nothing came")?;
        return Ok(fooled(packet.decode::<Log>()?.0.text == "stale"));
    }
    cell.succeed(&ground.device(attempt.device, Vec::new()), &BuiltIn)?;
    let heard = cell.channel().receive(Some(Duration::from_millis(20)))?;
    Ok(if heard.is_none() { Outcome::Stopped("was not heard".to_owned()) } else { Outcome::Succeeded })
}
