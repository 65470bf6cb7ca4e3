//! `cofferdam bench carriers`: an access to a device in a sealed process, over each carrier, beside the bounds.

use super::bounds;
use super::clock::samples;
use super::contest::{Contest, Seats, seats};
use super::peers::Peers;
use super::series::{Placement, Series};
use crate::args::BenchCommon;
use crate::catalogue::{BuiltIn, Linked};
use crate::machine::planned;
use anyhow::Result;
use schema::lane::Carrier;
use vmm::supervisor::{Pins, PlannedDevice, reach};

/// A clock: one register that is posted, one that is not.
const CLOCK: &str = "mc146818";
const INDEX: u64 = 0;
const DATA: u64 = 1;
/// An index at which there is plain memory.
const PLAIN: u64 = 0x40;
/// A serial port, whose line status is a shadow register.
const SERIAL: &str = "uart16550";
const LINE_STATUS: u64 = 5;

/// Both sides look for a while before they sleep: what a conversation costs on a machine with processors to spare.
const AWAKE: &str = "access, awake";
/// Both sides sleep at once, as where they may share a processor.
const ASLEEP: &str = "access, asleep";
const POSTED: &str = "posted write";
const SHADOW: &str = "shadow read";
const IN_PROCESS: &str = Carrier::InProcess.name();

/// The one other message layer that looks without pause.
const POLLING_PEER: &str = "iceoryx2 polling";

/// Runs all contenders in turn.
pub fn carriers(peers: &Peers, common: &BenchCommon) -> Result<Vec<Series>> {
    let peers = peers.only(POLLING_PEER);
    let mut contest = Contest::default();
    for seats in seats()? {
        bounds::add(&mut contest, seats);
        let spare = seats.placement == Placement::Cross;
        if spare {
            peers.add(&mut contest, seats, "64 B", bounds::TWO_LINES, 64, 64)?;
            let polling = format!("64 B, {POLLING_PEER}");
            let bases = [bounds::TWO_LINES, &polling];
            let bases = if peers.is_empty() { &bases[..1] } else { &bases };
            each(&mut contest, AWAKE, seats, bases, move |carrier| read(seats, carrier, true));
        }
        each(&mut contest, ASLEEP, seats, &[bounds::EVENTFD], move |carrier| read(seats, carrier, false));
        each(&mut contest, POSTED, seats, &[], move |carrier| post(seats, carrier, spare));
        each(&mut contest, SHADOW, seats, &[], move |carrier| shadow(seats, carrier, spare));
    }
    contest.run(common)
}

/// Adds `what` over each carrier, compared with `bases`, or with a function call if there are none. That is compared with
/// nothing: it is another thing than any bound.
fn each<'a>(
    contest: &mut Contest<'a>,
    what: &str,
    seats: Seats,
    bases: &[&str],
    measure: impl Fn(Carrier) -> Result<Vec<f64>> + Copy + 'a,
) {
    let in_process = format!("{what}, {IN_PROCESS}");
    let bases = if bases.is_empty() { &[in_process.as_str()] } else { bases };
    for carrier in Carrier::ALL {
        let bases = if carrier == Carrier::InProcess { &[in_process.as_str()] } else { bases };
        contest.add(&format!("{what}, {}", carrier.name()), seats.placement, bases, move || measure(carrier));
    }
}

fn device(name: &str) -> PlannedDevice {
    planned(name, Vec::new(), Vec::new())
}

fn pins(seats: Seats) -> Pins {
    Pins { vmm: seats.caller, hosts: seats.answerer }
}

/// A load that only the device can answer.
fn read(seats: Seats, carrier: Carrier, poll: bool) -> Result<Vec<f64>> {
    let reached = reach(&device(CLOCK), &BuiltIn, &Linked, carrier, poll, pins(seats))?;
    reached.lane.write(0, INDEX, 1, PLAIN, 0)?;
    samples(|count| {
        for _ in 0..count {
            reached.lane.read(0, DATA, 1, 0)?;
        }
        Ok(())
    })
}

/// A store that does not wait, as fast as the device takes them.
fn post(seats: Seats, carrier: Carrier, poll: bool) -> Result<Vec<f64>> {
    let reached = reach(&device(CLOCK), &BuiltIn, &Linked, carrier, poll, pins(seats))?;
    samples(|count| {
        for _ in 0..count {
            reached.lane.write(0, INDEX, 1, PLAIN, 0)?;
        }
        Ok(())
    })
}

/// A load that the committed header answers.
fn shadow(seats: Seats, carrier: Carrier, poll: bool) -> Result<Vec<f64>> {
    let reached = reach(&device(SERIAL), &BuiltIn, &Linked, carrier, poll, pins(seats))?;
    samples(|count| {
        for _ in 0..count {
            reached.lane.read(0, LINE_STATUS, 1, 0)?;
        }
        Ok(())
    })
}
