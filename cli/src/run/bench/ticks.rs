//! The time stamp counter, by which guests time themselves.
#![allow(unsafe_code)] // Reads the counter.

use std::arch::x86_64::_rdtsc;
use std::time::{Duration, Instant};

/// How long it is compared with the clock: a reading of either, a microsecond late, is lost in it.
const WHILE: Duration = Duration::from_millis(50);

/// Ticks of a nanosecond. Guests' counters run at the same pace.
pub fn per_nanosecond() -> f64 {
    // SAFETY: every processor of this architecture has the counter, and nobody here has forbidden it.
    let read = || unsafe { _rdtsc() };
    let (first, from) = (read(), Instant::now());
    std::thread::sleep(WHILE);
    let (last, to) = (read(), Instant::now());
    last.wrapping_sub(first) as f64 / (to - from).as_nanos() as f64
}
