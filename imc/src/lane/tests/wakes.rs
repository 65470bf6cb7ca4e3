//! Each side publishes while the other is about to fall asleep, a million times, in two processes and over real eventfds.
//!
//! A wake-up that is lost shows as a call that takes as long as it may. The same without the fences must lose one.

use super::super::waiting::Side;
use super::*;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::cell::Cell;

thread_local! {
    /// Whose fences are left out: of this thread, and of the processes that it makes.
    static REMOVED: Cell<Option<Side>> = const { Cell::new(None) };
    /// How often this thread was about to sleep.
    static FALLEN_ASLEEP: Cell<u64> = const { Cell::new(0) };
}

/// Whether a fence is left out, to see what becomes of that.
pub(in crate::lane) fn is_removed(side: Side) -> bool {
    if side == Side::Sleeper {
        FALLEN_ASLEEP.set(FALLEN_ASLEEP.get() + 1);
    }
    REMOVED.get() == Some(side)
}

/// Random numbers; Marsaglia's xorshift64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A pause of up to some hundred nanoseconds: as long as what it is to make collide.
    fn pause(&mut self) {
        for _ in 0..self.next() % 512 {
            std::hint::black_box(());
        }
    }
}

/// How often a host falls asleep until the first wake-up is lost, at most `cycles` times. A call that takes `patience` has
/// lost one.
fn cycles_until_a_loss(cycles: u64, patience: Duration) -> Option<u64> {
    let objects = Objects::new();
    let mut carrier = objects.carrier(SpinBudget::NONE);
    let generation = objects.wild();
    let asleep = || load_acquire(word(&generation, GENERATION)) / 2;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let child = fork_host(&objects, move || {
        // Half of the time hardly at all, else until it is nearly sure to be asked again.
        let number = random.next();
        if number.is_multiple_of(2) { number >> 32 & 63 } else { 2000 }
    });
    part_from(child);
    let mut random = Random(0xd1b5_4a32_d192_ed03);
    let mut expected = 0;
    let mut lost = None;
    while lost.is_none() && asleep() < cycles {
        let value = random.next();
        // Nearly always long enough to see the answer; sometimes about as long as the answer takes.
        let vmm = if value.is_multiple_of(4) { (value >> 32) as u32 % 8 } else { 2000 };
        carrier.set_spin(SpinBudget { vmm, host: 0 });
        if value % 8 == 1 && carrier.post(&post(value)).is_ok() {
            expected = fold(expected, value);
        }
        expected = fold(expected, value);
        let start = Instant::now();
        let mut answer = carrier.call(&request(Operation::Write, value), patience);
        // A waiter that is not rung finds its answer at its deadline, and a host that is not rung finds nothing.
        if start.elapsed() >= patience {
            lost = Some(asleep());
        }
        if answer == Err(LaneError::Late) {
            objects.wake.signal(1).unwrap();
            answer = carrier.resume(LONG);
        }
        assert_eq!(answer, Ok(expected));
        random.pause();
    }
    carrier.call(&request(Operation::Shutdown, 0), LONG).unwrap();
    waitpid(child, None).unwrap();
    lost
}

/// How many sleeps, if not a million: `cargo xtask test` has ten million in a step of their own.
const SLEEPS: &str = "COFFERDAM_SLEEPS";

#[test]
fn no_wake_up_is_lost_in_a_million_sleeps() {
    let sleeps = std::env::var(SLEEPS).map_or(1_000_000, |sleeps| sleeps.parse().expect(SLEEPS));
    assert_eq!(cycles_until_a_loss(sleeps, LONG), None);
    println!("none lost in {sleeps} sleeps of the host and {} of the VMM", FALLEN_ASLEEP.get());
}

fn loses_one_without(side: Side) {
    if two_processors().is_none() {
        return println!("SKIPPED: a processor alone keeps its order without fences");
    }
    REMOVED.set(Some(side));
    let lost = cycles_until_a_loss(10_000_000, Duration::from_secs(1));
    REMOVED.set(None);
    println!("lost after {} sleeps", lost.expect("the test would not notice that wake-ups are lost"));
}

/// Two on which this thread may run.
fn two_processors() -> Option<[usize; 2]> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let mut processors = (0..CpuSet::count()).filter(|processor| allowed.is_set(*processor).unwrap());
    Some([processors.next()?, processors.next()?])
}

/// Has this thread and `child` run on a processor each: what needs a fence happens only there.
fn part_from(child: Pid) {
    for (process, processor) in [Pid::from_raw(0), child].into_iter().zip(two_processors().into_iter().flatten()) {
        let mut set = CpuSet::new();
        set.set(processor).unwrap();
        sched_setaffinity(process, &set).unwrap();
    }
}

#[test]
fn wake_up_is_lost_without_the_fences_of_who_publishes() {
    loses_one_without(Side::Publisher);
}

#[test]
fn wake_up_is_lost_without_the_fences_of_who_sleeps() {
    loses_one_without(Side::Sleeper);
}
