//! The other process of a measurement: this program, started anew, which answers until it is ended.

use super::clock;
use super::contest::Seats;
use super::shared::Shared;
use anyhow::{Context, Result, anyhow};
use imc::{Capability, Channel, ReadWrite, Region, Wake};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use schema::host::{Empty, Grant, Grants, HOST_WIDE, Purpose};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What the program is called when it is the other process.
pub const ANSWERER: &str = "cofferdam: answer";
/// Setting up takes no longer, on the slowest machine.
const SETUP: Duration = Duration::from_secs(20);

/// What the other process answers.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Answering {
    /// Datagrams by datagrams of so many bytes.
    Datagrams {
        /// Bytes of an answer.
        back: usize,
    },
    /// Calls by replies with the same numbers.
    Calls,
    /// Calls that carry a capability.
    Capabilities,
    /// Words through pipes.
    Pipe,
    /// Eventfds.
    Eventfds,
    /// Futexes.
    Futexes,
    /// A word in a cache line, by the same or by another.
    Lines {
        /// In which line it answers.
        back: usize,
    },
    /// So many bytes in a region, announced by a wake.
    Bulk(usize),
}

/// The other process, ended when dropped: before the caller's ends of what they share, or it would complain.
pub struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Other {
    /// Starts it, and sits down on the caller's seat.
    pub fn start(what: Answering, seats: Seats, input: impl Into<Stdio>, output: impl Into<Stdio>) -> Result<Other> {
        clock::pin(seats.caller)?;
        let words = [serde_json::to_string(&what)?, seats.answerer.to_string()];
        let mut command = Command::new("/proc/self/exe");
        let command = command.arg0(ANSWERER).args(words).env_clear().stdin(input).stdout(output);
        Ok(Other(command.spawn().context("starting the other process")?))
    }

    /// Starts it at the other end of a socket.
    pub fn at_socket(what: Answering, seats: Seats) -> Result<(OwnedFd, Other)> {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((ours, Other::start(what, seats, theirs, Stdio::null())?))
    }

    /// Starts it at the other end of a channel.
    pub fn at_channel(what: Answering, seats: Seats) -> Result<(Channel, Other)> {
        let (ours, theirs) = Channel::pair()?;
        Ok((ours, Other::start(what, seats, OwnedFd::from(theirs), Stdio::null())?))
    }

    /// Starts it and shares `bytes` of memory with it, and two wakes.
    pub fn with_memory(what: Answering, seats: Seats, bytes: u64) -> Result<(Common, Other)> {
        let (mut channel, other) = Other::at_channel(what, seats)?;
        let (region, there, back) = (Region::create("cofferdam:bench", bytes)?, Wake::create()?, Wake::create()?);
        let grants =
            vec![grant(Purpose::Request, &region, 0), grant(Purpose::Wake, &there, 1), grant(Purpose::Reply, &back, 2)];
        let descriptors = [region.as_fd(), there.as_fd(), back.as_fd()];
        let (Empty, _) = channel.call(&Grants { grants }, &descriptors, SETUP)?;
        Ok((Common { memory: Shared::new(region.map()?), there, back }, other))
    }
}

/// What both processes hold.
pub struct Common {
    /// Memory.
    pub memory: Shared,
    /// Rung by the caller.
    pub there: Wake,
    /// Rung by the answerer.
    pub back: Wake,
}

impl Common {
    /// The answerer's side: `input` is the channel.
    pub fn receive(input: OwnedFd) -> Result<Common> {
        let mut channel = Channel::from_fd(input)?;
        let packet = channel.receive(Some(SETUP))?.context("nothing was granted")?;
        let call = packet.call.context("an event came in place of grants")?;
        let (grants, mut descriptors) = packet.decode::<Grants>()?;
        let mut next = grants.grants.into_iter().map(|grant| {
            let descriptor = descriptors.take(grant.handle.slot).context("a grant without a descriptor")?;
            anyhow::Ok((descriptor, grant.handle))
        });
        let mut next = || next.next().context("too little was granted")?;
        let (descriptor, handle) = next()?;
        let region = Region::<ReadWrite>::receive(descriptor, &handle)?;
        let mut wake = || {
            let (descriptor, handle) = next()?;
            anyhow::Ok(Wake::receive(descriptor, &handle)?)
        };
        let common = Common { memory: Shared::new(region.map()?), there: wake()?, back: wake()? };
        channel.reply(call, &Empty, &[]).map_err(|error| anyhow!("{error}"))?;
        Ok(common)
    }
}

/// A grant of `what`, the descriptor number `slot` of its message.
pub fn grant(purpose: Purpose, what: &impl Capability, slot: u8) -> Grant {
    Grant { device: HOST_WIDE, purpose, number: 0, base: 0, handle: what.handle(slot) }
}
