//! `cofferdam device check`: the conformance kit, which says of a plugin what it does wrong.

use super::Checked;
use crate::args::{CheckArgs, usage};
use crate::table::table;
use anyhow::{Result, anyhow, ensure};
use imc::lane::{LaneError, Request, mask, ones};
use schema::lane::{Carrier, Operation};
use schema::manifest::{Line, Manifest, Space};
use serde::Serialize;
use std::time::{Duration, Instant};
use vmm::supervisor::{CARRIERS, Seen, Stand};

/// A device answers an access within this, or it is too slow for any guest.
const ANSWER: Duration = Duration::from_secs(2);
/// Random accesses of one run: enough to visit each register of a small device at each width some times.
const ACCESSES: u32 = 400;
/// Accesses between two deaths.
const BETWEEN_DEATHS: usize = 40;
/// How long accesses are made up, as the schema allows them.
const FUZZED: Duration = Duration::from_secs(10);
/// Offsets of a range that are all swept; of a larger range the first and last half of so many.
const SWEPT: u64 = 4096;
/// The same where two devices are compared register by register.
const LOOKED_AT: u64 = 128;
/// The guest clock moves on at most this far between two accesses.
const STEP_NS: u64 = 3_000_000_000;
const WIDTHS: [u8; 4] = [1, 2, 4, 8];

#[derive(Serialize)]
struct Row {
    check: &'static str,
    result: &'static str,
    detail: String,
}

/// What became of a check: what was seen, or why it was left out.
enum Outcome {
    Passed(String),
    Skipped(String),
}

type Check = fn(&Subject) -> Result<Outcome>;

/// All of them, in order. Each begins with a device of its own.
const CHECKS: [(&str, Check); 10] = [
    ("manifest", manifest),
    ("sandbox", sandbox),
    ("widths", widths),
    ("clock", clock),
    ("reset", reset),
    ("deadlines", deadlines),
    ("restart", restart),
    ("carriers", carriers),
    ("misuse", misuse),
    ("fuzzing", fuzzing),
];

/// The plugin under test.
struct Subject {
    /// As it was asked for, with its options.
    spec: String,
    checked: Checked,
    fuzzed: Duration,
}

impl Subject {
    fn stand(&self, carrier: Carrier) -> Result<Stand> {
        let mut stand = self.checked.stand(carrier)?;
        stand.set_patience(ANSWER);
        Ok(stand)
    }
}

/// Runs all checks. Status 0: none has failed.
pub fn check(asked: &CheckArgs) -> Result<u8> {
    if let Some(unknown) = asked.only.iter().find(|only| CHECKS.iter().all(|(check, _)| check != only)) {
        return Err(usage!(
            "--only {unknown}: there is no such check; there are {}",
            CHECKS.map(|(check, _)| check).join(", ")
        ));
    }
    // What cannot be started at all has nothing to be checked.
    let checked = Checked::of(&asked.plugin, asked.sandbox.all)?;
    let fuzzed = asked.seconds.map_or(FUZZED, |seconds| Duration::from_secs(seconds.into()));
    let subject = Subject { spec: asked.plugin.clone(), checked, fuzzed };
    let is_asked = |check: &str| asked.only.is_empty() || asked.only.iter().any(|only| only == check);
    let rows: Vec<Row> = CHECKS
        .into_iter()
        .filter(|(check, _)| is_asked(check))
        .map(|(check, run)| {
            let (result, detail) = match run(&subject) {
                Ok(Outcome::Passed(detail)) => ("pass", detail),
                Ok(Outcome::Skipped(detail)) => ("skip", detail),
                Err(error) => ("fail", format!("{error:#}")),
            };
            Row { check, result, detail }
        })
        .collect();
    let failed = rows.iter().any(|row| row.result == "fail");
    if asked.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        let mut shown = table(["check", "result", "detail"]);
        for row in rows {
            shown.add_row([row.check, row.result, &row.detail]);
        }
        println!("{shown}");
    }
    Ok(failed.into())
}

/// The parts of the manifest fit, and no two ranges meet.
fn manifest(subject: &Subject) -> Result<Outcome> {
    let manifest = subject.checked.manifest();
    let of = |space: Space| match space {
        Space::Port(first) => Some((0, u64::from(first))),
        Space::Memory(first) => Some((1, first)),
        Space::Bar(_) | Space::PortBar(_) => None,
    };
    for (at, one) in manifest.ranges.iter().enumerate() {
        for other in &manifest.ranges[..at] {
            let (Some((space, first)), Some((others, second))) = (of(one.space), of(other.space)) else { continue };
            let apart = first >= second.saturating_add(other.length) || second >= first.saturating_add(one.length);
            ensure!(space != others || apart, "ranges `{}` and `{}` overlap", other.name, one.name);
        }
    }
    ensure!(!manifest.ranges.is_empty() || manifest.pci.is_some(), "it answers no address");
    ensure!(!manifest.summary.is_empty(), "it has no summary: `cofferdam device describe` shows it to people");
    let unexplained = manifest.wishes.iter().find(|wish| wish.because.is_empty());
    ensure!(unexplained.is_none(), "a wish has no reason; whoever grants it wants to know");
    let again = Checked::of(&subject.spec, subject.checked.level)?;
    ensure!(again.manifest() == manifest, "it declares something else when it is asked again");
    Ok(Outcome::Passed(format!("{} ranges, {} options", manifest.ranges.len(), manifest.options.len())))
}

/// What the kernel shows of it is what its recipe says, before and after it has worked.
fn sandbox(subject: &Subject) -> Result<Outcome> {
    let mut stand = subject.stand(Carrier::Memory)?;
    let mut accesses = Accesses::new(1, subject.checked.manifest());
    for _ in 0..ACCESSES / 4 {
        ask(&mut stand, &accesses.next())?;
    }
    let audit = stand.audit()?;
    ensure!(audit.differences.is_empty(), "{}", audit.differences.join("; "));
    Ok(Outcome::Passed(format!("{} descriptors, seccomp mode {}", audit.descriptors.len(), audit.seccomp_mode)))
}

/// Every range at every width: an answer for each, no wider than the access, and ones where a register is counted as absent.
fn widths(subject: &Subject) -> Result<Outcome> {
    let mut stand = subject.stand(Carrier::Memory)?;
    let (mut registers, mut absent) = (0, 0);
    for request in sweep(subject.checked.manifest(), SWEPT, 0) {
        let before = stand.seen()?.unknown;
        let value = ask(&mut stand, &request)?;
        let unknown = stand.seen()?.unknown != before;
        let Request { range, width, offset, .. } = request;
        ensure!(
            value <= mask(width) && (!unknown || value == ones(width)),
            "a read of {width} bytes at {offset:#x} of `{}` gave {value:#x}",
            subject.checked.manifest().ranges[usize::from(range)].name
        );
        if unknown { absent += 1 } else { registers += 1 }
    }
    Ok(Outcome::Passed(format!("{registers} reads met a register, {absent} met none")))
}

/// Two devices that are asked the same at the same times answer the same: they have no clock but `now`, and no chance.
fn clock(subject: &Subject) -> Result<Outcome> {
    if subject.checked.manifest().wishes.iter().any(|wish| wish.power == schema::manifest::Power::Entropy) {
        return Ok(Outcome::Skipped("it wishes for entropy, and so may answer by chance".to_owned()));
    }
    let requests: Vec<Request> = Accesses::new(2, subject.checked.manifest()).take(ACCESSES as usize).collect();
    let first = answers(&mut subject.stand(Carrier::Memory)?, &requests)?;
    // A clock of its own would have moved on.
    std::thread::sleep(Duration::from_millis(50));
    let second = answers(&mut subject.stand(Carrier::Memory)?, &requests)?;
    same(&requests, &first, &second, "asked the same a second time")?;
    Ok(Outcome::Passed(format!("{ACCESSES} accesses, answered alike twice")))
}

/// After a reset it is as it was after power on.
fn reset(subject: &Subject) -> Result<Outcome> {
    let manifest = subject.checked.manifest();
    let mut stand = subject.stand(Carrier::Memory)?;
    let mut accesses = Accesses::new(3, manifest);
    for _ in 0..ACCESSES / 4 {
        ask(&mut stand, &accesses.next())?;
    }
    let now = accesses.now;
    ask(&mut stand, &Request { operation: Operation::Reset, ..still(now) })?;
    let seen = stand.seen()?;
    let lines = manifest.lines.iter().any(|line| matches!(line, Line::Isa(_) | Line::Pin(_)));
    let mut fresh = subject.stand(Carrier::Memory)?;
    ask(&mut fresh, &Request { operation: Operation::Reset, ..still(now) })?;
    let wanted = fresh.seen()?;
    ensure!(!lines || seen.levels == wanted.levels, "its interrupt lines are {:#x} after a reset", seen.levels);
    ensure!(seen.deadline == wanted.deadline, "an alarm of before a reset is still due");
    // A register that was not reset is read before another write hides it.
    let random = Accesses::from(4, manifest, now).take(ACCESSES as usize / 4);
    let requests: Vec<Request> = sweep(manifest, LOOKED_AT, now).chain(random).collect();
    same(&requests, &answers(&mut fresh, &requests)?, &answers(&mut stand, &requests)?, "after a reset")?;
    Ok(Outcome::Passed("as after power on".to_owned()))
}

/// An alarm comes when it is due and no sooner, and makes itself undone: one that is due for ever would be answered for ever.
fn deadlines(subject: &Subject) -> Result<Outcome> {
    let mut stand = subject.stand(Carrier::Memory)?;
    let mut accesses = Accesses::new(5, subject.checked.manifest());
    let mut alarms = 0;
    for _ in 0..ACCESSES {
        ask(&mut stand, &accesses.next())?;
        let Some(due) = stand.seen()?.deadline else { continue };
        alarms += 1;
        let before = due.saturating_sub(1).max(accesses.now);
        if before < due {
            ask(&mut stand, &Request { operation: Operation::Alarm, ..still(before) })?;
            ensure!(stand.seen()?.deadline == Some(due), "an alarm that was not due yet has changed its deadline");
        }
        ask(&mut stand, &Request { operation: Operation::Alarm, ..still(due) })?;
        accesses.now = accesses.now.max(due);
        let next = stand.seen()?.deadline;
        ensure!(
            next.is_none_or(|next| next > accesses.now),
            "its deadline is {next:?} after an alarm at {}: it would be due for ever",
            accesses.now
        );
    }
    Ok(if alarms == 0 {
        Outcome::Skipped("no access gave it a deadline".to_owned())
    } else {
        Outcome::Passed(format!("{alarms} alarms"))
    })
}

/// One that is killed again and again answers as one that is not.
fn restart(subject: &Subject) -> Result<Outcome> {
    let requests: Vec<Request> = Accesses::new(6, subject.checked.manifest()).take(ACCESSES as usize / 2).collect();
    let whole = answers(&mut subject.stand(Carrier::Memory)?, &requests)?;
    let mut stand = subject.stand(Carrier::Memory)?;
    let (mut killed, mut deaths) = (Vec::new(), 0);
    for some in requests.chunks(BETWEEN_DEATHS) {
        killed.extend(answers(&mut stand, some)?);
        stand.restart()?;
        deaths += 1;
    }
    same(&requests, &whole, &killed, "of one that was killed now and then")?;
    Ok(Outcome::Passed(format!("killed {deaths} times, and nobody noticed")))
}

/// It answers alike whatever its lane runs over.
fn carriers(subject: &Subject) -> Result<Outcome> {
    let requests: Vec<Request> = Accesses::new(7, subject.checked.manifest()).take(ACCESSES as usize).collect();
    let [first, second] = CARRIERS.map(|carrier| answers(&mut subject.stand(carrier)?, &requests));
    same(&requests, &first?, &second?, "over `socket` and not over `memory`")?;
    Ok(Outcome::Passed("memory and socket".to_owned()))
}

/// Accesses that the bus would never make: beyond a range, at no width, in a range that is not there.
fn misuse(subject: &Subject) -> Result<Outcome> {
    let ranges = subject.checked.manifest().ranges.len() as u8;
    let length = subject.checked.manifest().ranges.first().map_or(0, |range| range.length);
    let mut stand = subject.stand(Carrier::Memory)?;
    let access = |range, offset, width| Request { range, offset, width, ..still(0) };
    for request in [
        access(ranges, 0, 1),
        access(u8::MAX, 0, 1),
        access(0, length, 1),
        access(0, u64::MAX, 8),
        access(0, 0, 3),
        access(0, 0, 0),
        access(0, 0, 255),
    ] {
        for operation in [Operation::Read, Operation::Write] {
            let before = stand.seen()?.unknown;
            ask(&mut stand, &Request { operation, ..request })?;
            ensure!(
                stand.seen()?.unknown == before + 1,
                "an access to range {}, offset {:#x}, of {} bytes met a register",
                request.range,
                request.offset,
                request.width
            );
        }
    }
    Ok(Outcome::Passed("all of them met no register".to_owned()))
}

/// Whatever the schema allows, as fast as it is answered.
fn fuzzing(subject: &Subject) -> Result<Outcome> {
    let mut stand = subject.stand(Carrier::Memory)?;
    let mut accesses = Accesses::new(8, subject.checked.manifest());
    let end = Instant::now() + subject.fuzzed;
    let mut count = 0u64;
    while Instant::now() < end {
        let mut request = accesses.next();
        match accesses.random.below(16) {
            0 => request.range = accesses.random.next() as u8,
            1 => request.offset = accesses.random.next(),
            2 => request.width = accesses.random.next() as u8,
            3 => request.operation = Operation::Button,
            4 => request.operation = Operation::Reset,
            5 => request.operation = Operation::Quiesce,
            6 => request.now = accesses.random.next() >> 1,
            _ => {}
        }
        ask(&mut stand, &request)?;
        count += 1;
    }
    let audit = stand.audit()?;
    ensure!(audit.differences.is_empty(), "{}", audit.differences.join("; "));
    Ok(Outcome::Passed(format!("{count} operations in {} s", subject.fuzzed.as_secs())))
}

/// Reads of every range at every width; of a range larger than `most` at its first and last offsets.
fn sweep(manifest: &Manifest, most: u64, now: u64) -> impl Iterator<Item = Request> {
    let at =
        (0..).zip(&manifest.ranges).flat_map(|(range, declared)| WIDTHS.map(|width| (range, declared.length, width)));
    at.flat_map(move |(range, length, width)| {
        let offsets = (0..length).step_by(width.into()).filter(move |offset| {
            offset + u64::from(width) <= length && (length <= most || *offset < most / 2 || length - offset <= most / 2)
        });
        offsets.map(move |offset| Request { range, width, offset, ..still(now) })
    })
}

/// One operation; a device that dies of it, or does not answer, has failed.
fn ask(stand: &mut Stand, request: &Request) -> Result<u64> {
    stand.ask(request).map_err(|error| {
        let what = format!(
            "{:?} of {} bytes at {:#x} of range {}, value {:#x}, now {}",
            request.operation, request.width, request.offset, request.range, request.value, request.now
        );
        let words = stand.log().last().map(|line| format!(": {line}")).unwrap_or_default();
        anyhow!("{what}: {}{words}", unanswered(stand, &error))
    })
}

/// Why there was no answer.
pub fn unanswered(stand: &mut Stand, error: &LaneError) -> String {
    match (error, stand.wait_for_end(Duration::from_millis(200))) {
        (LaneError::Late, Some(how)) => format!("it died: {how}"),
        (LaneError::Late, None) => format!("no answer within {} s", stand.patience().as_secs()),
        (other, _) => other.to_string(),
    }
}

/// A reply and what was to see after it.
type Answer = (u64, Seen);

fn answers(stand: &mut Stand, requests: &[Request]) -> Result<Vec<Answer>> {
    requests.iter().map(|request| Ok((ask(stand, request)?, stand.seen()?))).collect()
}

/// Refuses the first answer that differs; what was counted as absent may have begun differently.
fn same(requests: &[Request], first: &[Answer], second: &[Answer], how: &str) -> Result<()> {
    let plain = |answer: &Answer| (answer.0, answer.1.levels, answer.1.deadline);
    let mut pairs = requests.iter().zip(first.iter().zip(second));
    match pairs.find(|(_, (one, other))| plain(one) != plain(other)) {
        None => Ok(()),
        Some((request, (one, other))) => Err(anyhow!(
            "{:?} of {} bytes at {:#x} of range {}: answered {:#x} with levels {:#x} and deadline {:?}, and {how} {:#x} with \
             levels {:#x} and deadline {:?}",
            request.operation,
            request.width,
            request.offset,
            request.range,
            one.0,
            one.1.levels,
            one.1.deadline,
            other.0,
            other.1.levels,
            other.1.deadline
        )),
    }
}

/// Nothing in particular, at this time.
fn still(now: u64) -> Request {
    Request { operation: Operation::Read, range: 0, width: 1, offset: 0, value: 0, now }
}

/// Numbers that look random and are the same in each run (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

/// Accesses as a guest could make them, under a clock that moves on.
struct Accesses {
    random: Random,
    lengths: Vec<u64>,
    now: u64,
}

impl Accesses {
    fn new(seed: u64, manifest: &Manifest) -> Accesses {
        Accesses::from(seed, manifest, 0)
    }

    fn from(seed: u64, manifest: &Manifest, now: u64) -> Accesses {
        let lengths = manifest.ranges.iter().map(|range| range.length).collect();
        Accesses { random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1), lengths, now }
    }

    fn next(&mut self) -> Request {
        self.now += self.random.below(STEP_NS);
        let range = self.random.below(self.lengths.len() as u64);
        let length = self.lengths.get(range as usize).copied().unwrap_or(1);
        let fits: Vec<u8> = WIDTHS.into_iter().filter(|width| u64::from(*width) <= length).collect();
        let width = fits[self.random.below(fits.len() as u64) as usize];
        let offset = self.random.below(length / u64::from(width)) * u64::from(width);
        let operation = if self.random.below(2) == 0 { Operation::Read } else { Operation::Write };
        // Bits near the ends are what registers are made of.
        let value = match self.random.below(4) {
            0 => self.random.next(),
            1 => self.random.below(256),
            2 => 1 << self.random.below(64),
            _ => self.random.below(4),
        };
        let value = if operation == Operation::Write { value & mask(width) } else { 0 };
        Request { operation, range: range as u8, width, offset, value, now: self.now }
    }

    fn take(mut self, count: usize) -> impl Iterator<Item = Request> {
        (0..count).map(move |_| self.next())
    }
}
