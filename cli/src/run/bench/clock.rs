//! How every contender is timed; `benches/peers` has this very file.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// One sample is the mean of as many operations as take this long: reading the clock is lost in it, and a disturbance of
/// some milliseconds is still many samples wide.
const SAMPLE: Duration = Duration::from_micros(200);
/// Samples of one visit. Short enough that all contenders of a round see the same machine.
const SAMPLES: usize = 50;

/// Operations of one sample: something that takes no time at all must not be counted for ever.
const COUNT_MAX: u32 = 1 << 24;

/// Nanoseconds per operation, in each of some samples. `run` does so many operations, one after the other.
pub fn samples<E>(mut run: impl FnMut(u32) -> Result<(), E>) -> Result<Vec<f64>, E> {
    let mut timed = |count: u32| {
        let from = Instant::now();
        run(count)?;
        Ok(from.elapsed())
    };
    // Finds the count, and warms up: the first operations fault in memory and settle where processes run. The faster of two
    // tries counts: a disturbance must not end the search.
    let mut count = 1;
    while timed(count)?.min(timed(count)?) < SAMPLE && count < COUNT_MAX {
        count *= 2;
    }
    (0..SAMPLES).map(|_| Ok(timed(count)?.as_nanos() as f64 / f64::from(count))).collect()
}

/// Runs the calling thread on this processor alone.
pub fn pin(cpu: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// A helper of a bench must not outlive it.
pub fn die_with_parent() -> nix::Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
}
