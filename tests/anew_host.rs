//! A device host that ends after a step of its choice, with that step's number, and may break a rule of the lane.
//!
//! Test-only: `tests/anew.rs` makes copies of this program in which [`ORDERS`] say which rule. A copy takes a step at
//! random, so over many incarnations it ends after each of them.

// It reads its orders as somebody may have changed them, reads the time stamp counter, and forks.
#![allow(unsafe_code)]

use imc::lane::steps::{Fault, Step, arm};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What marks the orders in the program's file.
const MARK: [u8; 15] = *b"a host's orders";
/// The mark, and behind it the number of a fault, or 255.
#[used]
static ORDERS: [u8; 16] = {
    let mut orders = [255; 16];
    let mut at = 0;
    while at < MARK.len() {
        orders[at] = MARK[at];
        at += 1;
    }
    orders
};

/// Added to a step's number it is the status with which a host ends after it.
const ENDED_AFTER: i32 = 100;
/// Times that a step may be survived.
const SURVIVED: u64 = 8;
/// Commits that an incarnation makes before it ends after a step of one: its first, and that of the operation that ended its
/// predecessor. That must not end it as well, for it would be taken for poison.
const COMMITS: u64 = 2;
/// A step that has not come by so many commits does not come to this device: it ends after another one.
const COMMITS_MOST: u64 = 50;
/// The step after which this incarnation ends.
static LAST: AtomicU64 = AtomicU64::new(0);
/// How often it is still survived.
static LEFT: AtomicU64 = AtomicU64::new(0);
/// Commits so far.
static SO_FAR: AtomicU64 = AtomicU64::new(0);
/// It goes on with what an earlier incarnation left.
static HAS_FOUND: AtomicBool = AtomicBool::new(false);
/// An incarnation that goes on beside its successor has this many steps more.
const OVERLAP_STEPS: u64 = 100_000;
/// And it has so long: where nobody asks it for anything any more, no step comes.
const OVERLAP_SECONDS: u32 = 30;

fn main() {
    // SAFETY: a live static. Volatile: the file may say another thing than the source.
    let orders = unsafe { std::ptr::read_volatile(&raw const ORDERS) };
    let fault = Fault::ALL.get(usize::from(orders[15])).copied();
    // The counter goes in strides: its low bits say little.
    let random = time_stamp().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let mut step = Step::ALL[(random % Step::ALL.len() as u64) as usize];
    let mut random = random / Step::ALL.len() as u64;
    if comes_once(step) {
        // Each other one goes on to live a while.
        if random.is_multiple_of(2) {
            step = Step::Settled;
        } else {
            random = 0;
        }
    }
    LAST.store(step as u64, Ordering::Relaxed);
    LEFT.store(random % SURVIVED, Ordering::Relaxed);
    arm(if fault == Some(Fault::Overlap) { end_and_go_on } else { end }, fault);
    device_host::run(devices::catalogue())
}

/// Whether a step comes once in a life.
fn comes_once(step: Step) -> bool {
    matches!(step, Step::Found | Step::Started)
}

/// Whether this incarnation is to end.
fn is_last(step: Step) -> bool {
    if step == Step::Committed {
        SO_FAR.fetch_add(1, Ordering::Relaxed);
    }
    let commits = SO_FAR.load(Ordering::Relaxed);
    if commits == COMMITS_MOST {
        LAST.store(Step::Settled as u64, Ordering::Relaxed);
    }
    if step == Step::Found {
        HAS_FOUND.store(true, Ordering::Relaxed);
    }
    // The first incarnation lives on until the machine runs: one that dies before is no restart.
    let is_between = matches!(step, Step::Asleep | Step::Rung) && HAS_FOUND.load(Ordering::Relaxed);
    let is_free = comes_once(step) || is_between;
    LAST.load(Ordering::Relaxed) == step as u64
        && (is_free || commits > COMMITS)
        && LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
}

fn end(step: Step) {
    if is_last(step) {
        exit(ENDED_AFTER + step as i32);
    }
}

/// Ends as seen by its supervisor, while another process goes on for a while with all that this one has.
fn end_and_go_on(step: Step) {
    static BESIDE: AtomicU64 = AtomicU64::new(0);
    match BESIDE.load(Ordering::Relaxed) {
        // SAFETY: there is one thread, and nothing that a fork would leave half done.
        0 if is_last(step) => match unsafe { libc::fork() } {
            0 => {
                BESIDE.store(OVERLAP_STEPS, Ordering::Relaxed);
                // SAFETY: no memory is passed. Nothing here catches the signal, so it ends the process.
                unsafe { libc::alarm(OVERLAP_SECONDS) };
            }
            _ => exit(ENDED_AFTER + step as i32),
        },
        0 => {}
        1 => exit(0),
        left => BESIDE.store(left - 1, Ordering::Relaxed),
    }
}

/// Ends at once, as if it had been killed: no destructor runs, and nothing is told. A filter leaves a host this one call.
fn exit(status: i32) -> ! {
    // SAFETY: no memory is passed. The process has one thread, so this ends all of it.
    unsafe { libc::syscall(libc::SYS_exit, status) };
    unreachable!("exit does not return")
}

fn time_stamp() -> u64 {
    // SAFETY: every processor has it, and a host may read it.
    unsafe { std::arch::x86_64::_rdtsc() }
}
