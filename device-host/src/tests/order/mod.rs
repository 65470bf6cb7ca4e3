//! No guest can tell the device behind a lane from one that does each of its accesses at once: over every schedule of small
//! programs, on each carrier.
//!
//! The rules of the lane, the carriers and the engine are the real ones; what is played here is only who goes on when.
//! `explore.rs` plays every schedule, `history.rs` judges what the vcpus saw, `device.rs` is the device, and the synchronous
//! one that it is compared with. That the judge is not blind is shown by breaking one rule after the other.

mod device;
mod explore;
mod history;

use device::{ARM, CONTROL, DATA, SCRATCH, STATUS};
use explore::{Fault, Program, explore};
use history::Step::{self, Hear, Read, Ring, Write};
use schema::lane::Carrier;

const SEND: Step = Write(DATA, 1);
const SEND_OTHER: Step = Write(DATA, 2);
const RECEIVE: Step = Read(DATA);
const LOOK: Step = Read(STATUS);
const MARK: Step = Write(SCRATCH, 1);
const ENABLE: Step = Write(CONTROL, 1);
const START: Step = Write(ARM, 0);

fn program(first: &[Step], second: &[Step]) -> Program {
    Program { vcpus: [first.into(), second.into()], bytes: 0, clock: false }
}

fn with_bytes(bytes: u64, first: &[Step], second: &[Step]) -> Program {
    Program { bytes, ..program(first, second) }
}

fn with_clock(first: &[Step], second: &[Step]) -> Program {
    Program { clock: true, ..program(first, second) }
}

/// Explores each program.
fn hold(carrier: Carrier, programs: &[Program]) {
    let (mut schedules, mut histories) = (0, 0);
    for program in programs {
        let explored = explore(carrier, program, None);
        if let Some(wrong) = explored.wrong {
            let edges = explored.lost_edges;
            panic!("over {}, no synchronous device shows this: {wrong:#?}, lost edges {edges:#b}", carrier.name());
        }
        (schedules, histories) = (schedules + explored.schedules, histories + explored.histories);
    }
    println!("{schedules} schedules, {histories} histories");
}

/// One test for each carrier and each of these.
macro_rules! on_each_carrier {
    ($($name:ident)*) => {
        on_each_carrier!(@over memory Memory; $($name)*);
        on_each_carrier!(@over socket Socket; $($name)*);
        on_each_carrier!(@over pipe Pipe; $($name)*);
        on_each_carrier!(@over virtio Virtio; $($name)*);
    };
    (@over $module:ident $carrier:ident; $($name:ident)*) => {
        mod $module {
            $(#[test]
            fn $name() {
                super::hold(super::Carrier::$carrier, &super::$name());
            })*
        }
    };
}

on_each_carrier! {
    posted_writes_and_shadows
    writes_that_may_not_be_posted
    bytes_from_outside
    doorbells_and_interrupts
    alarms
}

fn posted_writes_and_shadows() -> Vec<Program> {
    vec![
        program(&[SEND, LOOK], &[SEND_OTHER, LOOK]),
        program(&[SEND, SEND_OTHER, LOOK], &[LOOK, MARK]),
        program(&[MARK, LOOK], &[SEND, LOOK]),
    ]
}

fn writes_that_may_not_be_posted() -> Vec<Program> {
    vec![program(&[ENABLE, SEND, LOOK], &[SEND_OTHER, LOOK]), program(&[ENABLE, MARK], &[SEND, SEND_OTHER])]
}

fn bytes_from_outside() -> Vec<Program> {
    vec![
        with_bytes(1, &[RECEIVE, LOOK], &[LOOK]),
        with_bytes(1, &[SEND, LOOK], &[RECEIVE]),
        with_bytes(2, &[RECEIVE, LOOK], &[RECEIVE]),
    ]
}

fn doorbells_and_interrupts() -> Vec<Program> {
    vec![
        program(&[Ring, Hear, LOOK], &[SEND, LOOK]),
        program(&[Ring, LOOK], &[SEND, Ring]),
        with_bytes(1, &[SEND, Ring, LOOK], &[RECEIVE]),
    ]
}

fn alarms() -> Vec<Program> {
    vec![with_clock(&[START, LOOK], &[LOOK]), with_clock(&[START, SEND], &[LOOK])]
}

#[test]
fn every_program_of_two_steps_on_each_vcpu() {
    const STEPS: [Step; 6] = [SEND, LOOK, RECEIVE, MARK, ENABLE, Ring];
    let pairs: Vec<[Step; 2]> = STEPS.into_iter().flat_map(|one| STEPS.map(|other| [one, other])).collect();
    let mut programs = Vec::new();
    for (index, first) in pairs.iter().enumerate() {
        programs.extend(pairs[index..].iter().map(|second| program(first, second)));
    }
    hold(Carrier::Memory, &programs);
}

#[test]
fn broken_rule_is_seen() {
    let broken = [
        (Fault::ForgetsOutstanding, Carrier::Memory, program(&[SEND, SEND_OTHER, LOOK], &[])),
        (Fault::ForgetsAnswers, Carrier::Socket, program(&[LOOK, Ring, Hear, LOOK], &[])),
        (Fault::AlwaysPosts, Carrier::Memory, program(&[ENABLE, SEND], &[])),
        (Fault::ToleratesOneMore, Carrier::Memory, program(&[SEND, SEND_OTHER, LOOK], &[])),
        (Fault::AlwaysServes, Carrier::Memory, program(&[SEND, SEND_OTHER, LOOK], &[])),
        (Fault::ForgetsAlarm, Carrier::Memory, with_clock(&[START, LOOK], &[])),
        (Fault::ForgetsLevels, Carrier::Memory, program(&[ENABLE], &[])),
        (Fault::ForgetsFalls, Carrier::Memory, with_bytes(2, &[LOOK, RECEIVE], &[])),
        (Fault::Overtakes, Carrier::Memory, program(&[SEND, SEND_OTHER], &[])),
        (Fault::PostsBesideDoorbell, Carrier::Memory, program(&[SEND, Ring], &[])),
    ];
    for (fault, carrier, program) in broken {
        hold(carrier, std::slice::from_ref(&program));
        assert!(explore(carrier, &program, Some(fault)).wrong.is_some(), "{fault:?}");
    }
}
