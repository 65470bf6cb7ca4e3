//! The loop of a VM: it sleeps until something happens, and deals with it.

use super::{Ended, Vm};
use crate::supervisor::console::{Console, Typed};
use crate::supervisor::host::Host;
use crate::supervisor::input::InputRelay;
use crate::supervisor::lives::Lives;
use crate::supervisor::operator::Operators;
use crate::supervisor::sealed_relay::SealedRelay;
use crate::supervisor::signals::Signals;
use crate::supervisor::viewers::Viewers;
use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use schema::control::Order;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Something the loop waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Signal,
    Vmm,
    Host(usize),
    Relay(usize),
    /// A guest took some of what people did.
    Taken(usize),
    Sealed(usize),
    /// A viewer did something.
    Did,
    /// A viewer wants a picture.
    Wanted(usize),
    Input,
    Output,
    Operator,
    Other,
}

impl Vm {
    pub(super) fn turn(
        &mut self,
        console: &mut Console,
        operators: Option<&mut Operators>,
        others: &[BorrowedFd<'_>],
        signals: &Signals,
        wait: Duration,
    ) -> Result<Option<Ended>> {
        let ready = self.sleep(console, operators.as_deref(), others, signals, wait)?;
        let is_ready = |source| ready.contains(&source);
        if is_ready(Source::Signal)
            && let Some(name) = signals.taken()
        {
            return Ok(Some(Ended::Signal(name)));
        }
        if is_ready(Source::Output) {
            console.flush();
            self.turn_relays(console);
        }
        for source in &ready {
            match source {
                Source::Relay(at) => self.turn_relay(*at, console),
                Source::Host(at) => self.hear_host(*at),
                Source::Taken(at) => self.inputs[*at].turn(),
                Source::Sealed(at) => self.hear_sealed(*at),
                Source::Wanted(at) if self.sealed[*at].viewers().is_some_and(Viewers::want) => self.refresh(),
                _ => {}
            }
        }
        self.hear_viewers();
        self.restart_due();
        if is_ready(Source::Input)
            && let Some(relay) = self.console_relay()
            && relay.read(console) == Typed::Quit
        {
            return Ok(Some(Ended::Stopped));
        }
        if is_ready(Source::Operator)
            && let Some(operators) = operators
            && let Some(order) = operators.serve(self, console)
        {
            match order {
                Order::Stop => return Ok(Some(Ended::Stopped)),
                Order::Reset => return Ok(Some(Ended::Reset)),
                Order::Powerdown => self.press_button(),
            }
        }
        if is_ready(Source::Vmm) || self.asked {
            // What came while a call waited for its reply is no longer in the socket: polling would not show it.
            self.asked = false;
            if let Some(ended) = self.hear_vmm() {
                // What the guest printed last is still on its way.
                self.turn_relays(console);
                return Ok(Some(ended));
            }
        }
        Ok(None)
    }

    /// Waits for something to happen; says what.
    fn sleep(
        &self,
        console: &Console,
        operators: Option<&Operators>,
        others: &[BorrowedFd<'_>],
        signals: &Signals,
        wait: Duration,
    ) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        let mut polled = Vec::new();
        let mut watch = |source, fd, events| {
            sources.push(source);
            polled.push(PollFd::new(fd, events));
        };
        watch(Source::Signal, signals.as_source(), PollFlags::POLLIN);
        if self.vmm.ended().is_none() {
            watch(Source::Vmm, self.vmm.channel.as_fd(), PollFlags::POLLIN);
            watch(Source::Vmm, self.vmm.pidfd(), PollFlags::POLLIN);
        }
        let now = Instant::now();
        for (at, host) in self.hosts.iter().enumerate().filter(|(_, host)| host.lives.runs() || host.lives.starts()) {
            if host.words.used_up(now).is_some() {
                watch(Source::Host(at), host.process.pidfd(), PollFlags::POLLIN);
                continue;
            }
            for fd in host.process.sources() {
                watch(Source::Host(at), fd, PollFlags::POLLIN);
            }
        }
        for (at, (_, relay)) in self.relays.iter().enumerate() {
            match relay.blocked_output() {
                _ if relay.hungry(console) => watch(Source::Relay(at), relay.bell(), PollFlags::POLLIN),
                Some(output) => watch(Source::Relay(at), output, PollFlags::POLLOUT),
                None => {}
            }
        }
        for (at, input) in self.inputs.iter().enumerate() {
            watch(Source::Taken(at), input.bell(), PollFlags::POLLIN);
        }
        let takes = self.inputs.first().is_none_or(InputRelay::accepts);
        for (at, relay) in self.sealed.iter().enumerate().filter(|(_, relay)| relay.lives.runs()) {
            match relay.used_up(now) {
                Some(_) => watch(Source::Sealed(at), relay.process.pidfd(), PollFlags::POLLIN),
                None => relay.process.sources().for_each(|fd| watch(Source::Sealed(at), fd, PollFlags::POLLIN)),
            }
            if let Some(viewers) = relay.as_viewers() {
                viewers.bell().filter(|_| takes).into_iter().for_each(|fd| watch(Source::Did, fd, PollFlags::POLLIN));
                viewers.wanted(now).into_iter().for_each(|fd| watch(Source::Wanted(at), fd, PollFlags::POLLIN));
            }
        }
        let accepts =
            || self.relays.iter().find(|(_, relay)| relay.is_of_console()).is_some_and(|(_, relay)| relay.accepts());
        if let Some(input) = console.input().filter(|_| accepts()) {
            watch(Source::Input, input, PollFlags::POLLIN);
        }
        if let Some(operators) = operators {
            operators.sources().for_each(|fd| watch(Source::Operator, fd, PollFlags::POLLIN));
        }
        for other in others {
            watch(Source::Other, *other, PollFlags::POLLIN);
        }
        if let Some(output) = console.blocked_output() {
            watch(Source::Output, output, PollFlags::POLLOUT);
        }
        let lives = self.hosts.iter().map(|host| &host.lives).chain(self.sealed.iter().map(|relay| &relay.lives));
        let due = lives.filter_map(Lives::due).chain(self.hosts.iter().filter_map(Host::gives_up_at));
        let due = due.map(|due| due.saturating_duration_since(now));
        let due = due.chain(self.sealed.iter().filter_map(|relay| relay.used_up(now)));
        let viewers = || self.sealed.iter().filter(|relay| relay.lives.runs()).filter_map(SealedRelay::as_viewers);
        let due = due.chain(viewers().filter_map(|viewers| viewers.used_up(now)));
        let due = due.chain(viewers().any(|viewers| takes && viewers.has_more()).then_some(Duration::ZERO));
        let due = due.chain(self.hosts.iter().filter_map(|host| host.words.used_up(now))).min();
        // Rounded up, so that what is due is not looked for a moment too early, again and again.
        let wait = due.map_or(wait, |due| wait.min(due + Duration::from_micros(999)));
        let wait = if self.asked { PollTimeout::ZERO } else { PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX) };
        match poll(&mut polled, wait) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting for the VM's processes"),
        }
        let happened = |polled: &PollFd<'_>| polled.revents().is_some_and(|seen| !seen.is_empty());
        Ok(sources.into_iter().zip(&polled).filter(|(_, polled)| happened(polled)).map(|(source, _)| source).collect())
    }
}
