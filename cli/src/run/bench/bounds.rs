//! What no message layer can be faster than, measured in the same run: a cache line that changes hands, and the kernel's
//! ways to wake another process.

use super::clock::samples;
use super::contest::{Contest, Seats};
use super::pair::{Answering, Common, Other};
use super::series::Placement;
use super::shared::empty_call;
use anyhow::Result;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

/// A system call that does next to nothing.
pub const EMPTY_CALL: &str = "bound, empty system call";
/// One line goes there and back.
pub const LINE: &str = "bound, cache line";
/// A line there, another back: what a request and an answer take at least.
pub const TWO_LINES: &str = "bound, two cache lines";
/// A round trip by futexes.
pub const FUTEX: &str = "bound, futex";
/// A round trip by eventfds.
pub const EVENTFD: &str = "bound, eventfd";
/// A round trip by pipes.
pub const PIPE: &str = "bound, pipe";

/// Bytes of a region that holds some words.
const WORDS_BYTES: u64 = 4096;
/// Lines of the words.
const THERE: usize = 0;
const BACK: usize = 1;

/// Adds the bounds for these seats. Each is its own base.
pub fn add(contest: &mut Contest<'_>, seats: Seats) {
    let placement = seats.placement;
    if placement == Placement::Same {
        contest.add(EMPTY_CALL, Placement::Any, &[EMPTY_CALL], move || {
            super::clock::pin(seats.caller)?;
            samples(|count| {
                (0..count).for_each(|_| empty_call());
                Ok(())
            })
        });
    } else {
        // On one processor, who looks without pause keeps the other from running.
        contest.add(LINE, placement, &[LINE], move || lines(seats, THERE));
        contest.add(TWO_LINES, placement, &[TWO_LINES], move || lines(seats, BACK));
    }
    contest.add(FUTEX, placement, &[FUTEX], move || futexes(seats));
    contest.add(EVENTFD, placement, &[EVENTFD], move || eventfds(seats));
    contest.add(PIPE, placement, &[PIPE], move || pipes(seats));
}

fn lines(seats: Seats, back: usize) -> Result<Vec<f64>> {
    let (common, _other) = Other::with_memory(Answering::Lines { back }, seats, WORDS_BYTES)?;
    let mut value = 0u32;
    samples(|count| {
        for _ in 0..count {
            value = value.wrapping_add(2);
            common.memory.store(THERE, value.wrapping_sub(1));
            common.memory.spin_until(back, value);
        }
        Ok(())
    })
}

/// The other side of it.
pub fn answer_lines(common: &Common, back: usize) -> Result<()> {
    let mut value = 0u32;
    loop {
        value = value.wrapping_add(2);
        common.memory.spin_until(THERE, value.wrapping_sub(1));
        common.memory.store(back, value);
    }
}

fn futexes(seats: Seats) -> Result<Vec<f64>> {
    let (common, _other) = Other::with_memory(Answering::Futexes, seats, WORDS_BYTES)?;
    let mut value = 0u32;
    samples(|count| {
        for _ in 0..count {
            value = value.wrapping_add(1);
            common.memory.store_and_wake(THERE, value);
            common.memory.sleep_until(BACK, value);
        }
        Ok(())
    })
}

/// The other side of it.
pub fn answer_futexes(common: &Common) -> Result<()> {
    let mut value = 0u32;
    loop {
        value = value.wrapping_add(1);
        common.memory.sleep_until(THERE, value);
        common.memory.store_and_wake(BACK, value);
    }
}

fn eventfds(seats: Seats) -> Result<Vec<f64>> {
    let (common, _other) = Other::with_memory(Answering::Eventfds, seats, WORDS_BYTES)?;
    samples(|count| {
        for _ in 0..count {
            common.there.signal(1)?;
            common.back.sleep()?;
        }
        Ok(())
    })
}

/// The other side of it.
pub fn answer_eventfds(common: &Common) -> Result<()> {
    loop {
        common.there.sleep()?;
        common.back.signal(1)?;
    }
}

fn pipes(seats: Seats) -> Result<Vec<f64>> {
    let (theirs_in, ours_out) = std::io::pipe()?;
    let (ours_in, theirs_out) = std::io::pipe()?;
    let (mut input, mut output) = (File::from(OwnedFd::from(ours_in)), File::from(OwnedFd::from(ours_out)));
    let _other = Other::start(Answering::Pipe, seats, theirs_in, theirs_out)?;
    let mut word = [0; 8];
    samples(|count| {
        for _ in 0..count {
            output.write_all(&word)?;
            input.read_exact(&mut word)?;
        }
        Ok(())
    })
}

/// The other side of it.
pub fn answer_pipe(input: OwnedFd) -> Result<()> {
    let mut input = File::from(input);
    let mut output = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let mut word = [0; 8];
    loop {
        input.read_exact(&mut word)?;
        output.write_all(&word)?;
    }
}
