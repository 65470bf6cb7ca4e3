//! What `cofferdam bench calls` measures its own calls against: the same bytes, there and back, over other message layers.
//!
//! `peers PEER THERE BACK CALLER ANSWERER` measures one: THERE bytes to another process, BACK bytes from it, the caller on
//! processor CALLER, the other on ANSWERER. It prints one JSON line, with the nanoseconds of a round trip in each of some
//! samples. `peers` alone names the peers, a JSON line for each.

mod capnproto;
#[path = "../../../cli/src/run/bench/clock.rs"]
mod clock;
mod iceoryx;
mod ipc_channel;
mod zbus;

use anyhow::{Context, Result, bail, ensure};
use std::process::{Child, Command, Stdio};

/// Bytes of one round trip.
#[derive(Clone, Copy)]
struct Trip {
    there: usize,
    back: usize,
}

/// A message layer, from both ends.
struct Peer {
    name: &'static str,
    /// It looks without pause, so it makes sense only where each side has a processor.
    polls: bool,
    ask: fn(Trip, &Answerer) -> Result<Vec<f64>>,
    answer: fn(Trip, &str) -> Result<()>,
}

const PEERS: [Peer; 5] = [
    Peer { name: "ipc-channel", polls: false, ask: ipc_channel::ask, answer: ipc_channel::answer },
    Peer { name: "capnp-rpc", polls: false, ask: capnproto::ask, answer: capnproto::answer },
    Peer { name: "iceoryx2 event", polls: false, ask: iceoryx::ask_by_event, answer: iceoryx::answer_by_event },
    Peer { name: "iceoryx2 polling", polls: true, ask: iceoryx::ask_by_polling, answer: iceoryx::answer_by_polling },
    Peer { name: "zbus", polls: false, ask: zbus::ask, answer: zbus::answer },
];

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [] => {
            for peer in &PEERS {
                println!("{}", serde_json::json!({ "name": peer.name, "polls": peer.polls }));
            }
            Ok(())
        }
        ["answer", name, there, back, cpu, place] => {
            clock::die_with_parent()?;
            clock::pin(cpu.parse()?)?;
            (find(name)?.answer)(trip(there, back)?, place)
        }
        [name, there, back, caller, answerer] => {
            let peer = find(name)?;
            ensure!(!peer.polls || caller != answerer, "{name}: polling needs a processor for each side");
            clock::pin(caller.parse()?)?;
            let trip = trip(there, back)?;
            let samples = (peer.ask)(trip, &Answerer { name, trip, cpu: answerer })?;
            let line = serde_json::json!({ "name": name, "there": trip.there, "back": trip.back, "samples": samples });
            println!("{line}");
            Ok(())
        }
        _ => bail!("peers [PEER THERE BACK CALLER ANSWERER]"),
    }
}

fn find(name: &str) -> Result<&'static Peer> {
    PEERS.iter().find(|peer| peer.name == name).with_context(|| format!("there is no peer `{name}`"))
}

fn trip(there: &str, back: &str) -> Result<Trip> {
    let trip = Trip { there: there.parse()?, back: back.parse()? };
    ensure!(trip.there > 0 && trip.back > 0, "a message of no bytes cannot be told from none");
    Ok(trip)
}

/// The other process, to be started.
struct Answerer<'a> {
    name: &'a str,
    trip: Trip,
    cpu: &'a str,
}

impl Answerer<'_> {
    /// Starts it with this as its standard input. `place` is where it finds the caller, if not there.
    fn start(&self, input: impl Into<Stdio>, place: &str) -> Result<Running> {
        let (there, back) = (self.trip.there.to_string(), self.trip.back.to_string());
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["answer", self.name, &there, &back, self.cpu, place]).stdin(input).stdout(Stdio::null());
        Ok(Running(command.spawn()?))
    }
}

/// The other process; ended with its caller's interest in it.
struct Running(Child);

impl Running {
    /// Waits for it to end by itself, which it does when its caller hangs up.
    fn join(mut self) -> Result<()> {
        let status = self.0.wait()?;
        ensure!(status.success(), "the answering process: {status}");
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a receiver does with what it got: it looks at each cache line once.
fn look(bytes: &[u8]) -> u8 {
    bytes.iter().step_by(64).fold(0, |seen, byte| seen ^ byte)
}

/// Refuses an answer of another size.
fn check(bytes: &[u8], expected: usize) -> Result<()> {
    std::hint::black_box(look(bytes));
    ensure!(bytes.len() == expected, "{} bytes came, not {expected}", bytes.len());
    Ok(())
}
