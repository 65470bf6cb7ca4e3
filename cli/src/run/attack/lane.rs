//! What an attacker does to its lane: raw words, where an honest host would keep to the rules.

#![allow(unsafe_code)] // Plain writes, which a sealed host has.

use super::hostile::{Host, check, word};
use imc::Mapping;
use schema::host::Purpose;
use std::os::fd::RawFd;
use std::sync::atomic::{Ordering, fence};

/// Where the answers of both copies are, and the words behind them: reply, sequence and levels, deadline.
const ANSWERS: [usize; 2] = [8, 32];
/// The rest of both headers.
const HEADERS: std::ops::Range<usize> = 256..512;
/// Entries of the request region.
const ENTRIES: std::ops::Range<usize> = 0..32;
/// Odd while the host sleeps: then it is rung.
pub const GENERATION: usize = 64;
/// No alarm is due.
pub const NEVER: u64 = u64::MAX;
/// Where the attacker keeps a length.
pub const LENGTH_AT: usize = 256;
const ENTRY_BYTES: usize = 64;
const RING: usize = 2048;

/// The latest sequence that was published.
pub fn published(request: &Mapping) -> u32 {
    let sequence = |at| word(request, RING + at * ENTRY_BYTES).load(Ordering::Acquire) as u32;
    ENTRIES.map(sequence).max().unwrap_or(0)
}

/// The same for an attacker.
pub fn asked(host: &Host) -> u32 {
    host.region(Purpose::Request).map_or(0, published)
}

/// Asks for a read of the device's first register, as a VMM would.
pub fn ask(request: &Mapping, sequence: u32) {
    let at = RING + sequence as usize % ENTRIES.len() * ENTRY_BYTES;
    // Operation 1 is a read; its width is 4.
    word(request, at).store(u64::from(sequence) | 1 << 32 | 4 << 56, Ordering::Release);
}

/// Puts the same answer into both copies: value, levels, deadline.
pub fn answer(host: &Host, sequence: u32, value: u64, levels: u32, deadline: u64) {
    for at in ANSWERS {
        host.word(at).store(value, Ordering::Relaxed);
        host.word(at + 8).store(u64::from(sequence) | u64::from(levels) << 32, Ordering::Relaxed);
        host.word(at + 16).store(deadline, Ordering::Relaxed);
    }
}

/// Looks like an honest host that has done nothing yet, and is about to sleep.
pub fn look_honest(host: &Host) {
    answer(host, 0, 0, 0, NEVER);
    // Another one than its predecessor's, for which it has been rung already.
    let before = host.word(GENERATION).load(Ordering::SeqCst);
    host.word(GENERATION).store((before | 1).wrapping_add(2), Ordering::SeqCst);
}

/// Answers what was asked as a register does that reads as ones, so that nobody is waited for.
pub fn serve(host: &Host) {
    let sequence = asked(host);
    if sequence > 0 {
        answer(host, sequence, u64::MAX, 0, NEVER);
        commit(host, sequence, 0);
        ring_all(host);
    }
}

/// Says that everything up to `sequence` is done.
pub fn commit(host: &Host, sequence: u32, round: u64) {
    fence(Ordering::SeqCst);
    host.word(0).store(u64::from(sequence) << 32 | round & 0xffff_ffff, Ordering::SeqCst);
}

/// The value of the answer that a region has, as whoever trusts it takes it.
pub fn value(state: &Mapping) -> u64 {
    word(state, ANSWERS[current(state)]).load(Ordering::SeqCst)
}

/// Which copy the commit word says is the current one.
fn current(state: &Mapping) -> usize {
    (word(state, 0).load(Ordering::SeqCst) & 1) as usize
}

/// The levels.
pub fn levels(state: &Mapping) -> u32 {
    (word(state, ANSWERS[current(state)] + 8).load(Ordering::SeqCst) >> 32) as u32
}

/// The deadline.
pub fn deadline(state: &Mapping) -> u64 {
    word(state, ANSWERS[current(state)] + 16).load(Ordering::SeqCst)
}

/// The sequence of the last commit.
pub fn committed(state: &Mapping) -> u32 {
    (word(state, 0).load(Ordering::SeqCst) >> 32) as u32
}

/// Stores to every word of both headers.
pub fn fill_headers(host: &Host, mut value: impl FnMut() -> u64) {
    debug_assert!(HEADERS.contains(&LENGTH_AT));
    for offset in HEADERS.step_by(8) {
        host.word(offset).store(value(), Ordering::Relaxed);
    }
}

/// Adds to an eventfd's count.
pub fn ring(number: RawFd, count: u64) -> Result<(), i32> {
    // SAFETY: eight bytes of this stack.
    let written = unsafe { libc::write(number, (&raw const count).cast(), 8) };
    check(written as i64).map(drop)
}

/// Rings everybody that it may.
pub fn ring_all(host: &Host) {
    for (purpose, _, number) in &host.descriptors {
        if matches!(purpose, Purpose::Irq | Purpose::Reply) {
            let _ = ring(*number, 1);
        }
    }
}
