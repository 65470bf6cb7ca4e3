//! The other process: it answers as it was started to.

use super::pair::{ANSWERER, Answering, Common};
use super::{bounds, calls, clock};
use anyhow::{Context, Result};
use imc::Channel;
use std::os::fd::AsFd;
use std::process::ExitCode;

/// The body of the other process.
pub fn answer() -> ExitCode {
    match answer_as_told() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{ANSWERER}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn answer_as_told() -> Result<()> {
    clock::die_with_parent()?;
    let mut words = std::env::args().skip(1);
    let mut word = || words.next().context("it is started by a bench");
    let what: Answering = serde_json::from_str(&word()?)?;
    clock::pin(word()?.parse()?)?;
    let input = std::io::stdin().as_fd().try_clone_to_owned()?;
    match what {
        Answering::Datagrams { back } => calls::answer_datagrams(input, back),
        Answering::Calls => calls::answer_calls(Channel::from_fd(input)?),
        Answering::Capabilities => calls::answer_capabilities(Channel::from_fd(input)?),
        Answering::Pipe => bounds::answer_pipe(input),
        Answering::Eventfds => bounds::answer_eventfds(&Common::receive(input)?),
        Answering::Futexes => bounds::answer_futexes(&Common::receive(input)?),
        Answering::Lines { back } => bounds::answer_lines(&Common::receive(input)?, back),
        Answering::Bulk(bytes) => calls::answer_bulk(&Common::receive(input)?, bytes),
    }
}
