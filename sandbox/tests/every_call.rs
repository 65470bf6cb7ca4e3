//! Every system call, made by a sealed process of the kernel's own: those that its recipe leaves come back, the others end it.

#![allow(missing_docs, unsafe_code)] // The driver takes descriptors out of messages.

#[path = "../probe/driver.rs"]
mod driver;

use driver::{DeviceKind, Probe};
use sandbox::{End, Program};
use schema::host::Level;
use std::path::Path;

/// All call numbers of the kernel are below this; the largest of Linux 6.18 is 469.
const NUMBERS: i64 = 512;
/// Left whatever its arguments, and asked to do its work: it ends the process.
const ENDS: i64 = libc::SYS_exit;
/// Left whatever its arguments, and lost without a signal to return from: a fault, not a forbidden call.
const FAULTS: i64 = libc::SYS_rt_sigreturn;
/// `uretprobe` and `uprobe`, which Linux asks no filter about since 6.14 and 6.18: made by anybody but the trampoline that
/// the kernel puts into a traced process, the one is SIGILL and the other an error.
const ASKED_ABOUT_NOWHERE: [i64; 2] = [335, 336];
/// Processes that are started and ended side by side.
const AT_ONCE: i64 = 2;

fn program() -> Program {
    Program::open(Path::new(env!("CARGO_BIN_EXE_sandbox_probe"))).expect("the probe")
}

/// Calls with nothing but zeroes: on descriptor 0, which nobody was granted.
fn only_the_two_that_take_no_descriptor_survive(device: DeviceKind) {
    let program = program();
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let one = |first| {
            let program = &program;
            scope.spawn(move || {
                let mut wrong = Vec::new();
                for number in (first..NUMBERS).step_by(AT_ONCE as usize) {
                    let expected = match number {
                        ENDS => End::Exited(0),
                        FAULTS => End::Killed(libc::SIGSEGV),
                        _ => End::Killed(libc::SIGSYS),
                    };
                    let end = Probe::run(program, Level::Seccomp, device, &format!("call:{number}"));
                    let exempt = ASKED_ABOUT_NOWHERE.contains(&number)
                        && matches!(end, Ok(End::Killed(libc::SIGILL) | End::Exited(libc::ENXIO)));
                    if end != Ok(expected) && !exempt {
                        wrong.push(format!("call {number}: {end:?}, not {expected:?}"));
                    }
                }
                wrong
            })
        };
        let threads: Vec<_> = (0..AT_ONCE).map(one).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread")).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_register_device_that_makes_any_call_but_its_own_is_killed() {
    only_the_two_that_take_no_descriptor_survive(DeviceKind::Register);
}

#[test]
fn a_block_device_that_makes_any_call_but_its_own_is_killed() {
    only_the_two_that_take_no_descriptor_survive(DeviceKind::File);
}

#[test]
fn no_call_of_the_32_bit_convention_is_left() {
    // Its read, write, exit and sigreturn, and those whose numbers are the left ones of the other convention.
    for number in [0, 1, 3, 4, 15, 60, 119, 173] {
        let end = Probe::run(&program(), Level::Seccomp, DeviceKind::Register, &format!("int80:{number}"));
        assert_eq!(end, Ok(End::Killed(libc::SIGSYS)), "{number}");
    }
}

#[test]
fn without_a_filter_the_same_calls_come_back() {
    for call in ["call:39", "int80:20"] {
        let end = Probe::run(&program(), Level::Process, DeviceKind::Register, call);
        assert_eq!(end, Ok(End::Exited(0)), "{call}");
    }
}
