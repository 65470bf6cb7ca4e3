//! What a VM's processes say, and what follows when one of them ends.

use super::{ANSWER, Ended, Told, Vm, printable};
use crate::supervisor::lives::Next;
use anyhow::Result;
use imc::{Fault, Packet};
use schema::host::{Empty, Log, Severity};
use schema::play::{Changes, Played, Turned};
use schema::vmm::{Late, Reason, Renew, Retire, Stopped};
use std::time::{Duration, Instant};

/// Messages taken from one child at a turn, so that a flood of logs does not starve the rest of the loop.
const MESSAGES_PER_TURN: usize = 16;

impl Vm {
    pub(super) fn hear_vmm(&mut self) -> Option<Ended> {
        for turn in 0..=MESSAGES_PER_TURN {
            if turn == MESSAGES_PER_TURN {
                // There may be more.
                self.asked = true;
                return None;
            }
            match self.vmm.channel.receive(Some(Duration::ZERO)) {
                Ok(Some(packet)) => {
                    if let Some(ended) = self.heard_from_vmm(packet) {
                        return Some(ended);
                    }
                }
                Ok(None) => break,
                Err(fault) => {
                    let how = self.vmm.reap().map_or_else(|| fault.to_string(), str::to_owned);
                    return Some(Ended::Failed(format!("the VMM process ended: {how}")));
                }
            }
        }
        let how = self.vmm.reap()?.to_owned();
        Some(Ended::Failed(format!("the VMM process ended: {how}")))
    }

    fn heard_from_vmm(&mut self, packet: Packet) -> Option<Ended> {
        if packet.is::<Stopped>() {
            let Ok((stopped, _)) = packet.decode::<Stopped>() else { return None };
            // A guest that comes up again by itself, or an end that nobody asked for, is what people look into afterwards.
            let severity = if stopped.reason == Reason::Reset { Severity::Warning } else { Severity::Info };
            self.note(severity, "vmm", &stopped.text);
            return Some(match stopped.reason {
                Reason::PoweredOff => Ended::PoweredOff,
                Reason::Reset => Ended::Reset,
                Reason::Panicked => Ended::Panicked,
                Reason::Exit => Ended::Exit(stopped.code),
                Reason::Failed => Ended::Failed(printable(&stopped.text)),
            });
        }
        if packet.is::<Played>() {
            self.played = packet.decode::<Played>().ok().map(|(played, _)| played);
        } else if packet.is::<Changes>() {
            if let Ok((changes, _)) = packet.decode::<Changes>() {
                self.told.push_back(Told::Changes(changes.changes));
            }
        } else if packet.is::<Turned>() {
            if let Ok((turned, _)) = packet.decode::<Turned>() {
                self.told.push_back(Told::Turned(turned));
            }
        } else if packet.is::<Late>() {
            if let Ok((late, _)) = packet.decode::<Late>()
                && let Some(host) = self.hosts.get_mut(usize::from(late.host))
            {
                host.accuse(&late, &printable(&late.text));
            }
        } else if packet.is::<Log>()
            && let Ok((log, _)) = packet.decode::<Log>()
        {
            self.note(log.severity, "vmm", &log.text);
        }
        None
    }

    pub(super) fn hear_host(&mut self, at: usize) {
        if self.hosts[at].lives.starts() {
            return self.go_on(at);
        }
        if !self.hosts[at].lives.runs() {
            return;
        }
        let (mut fault, mut logs, mut helper_is_gone) = (None, Vec::new(), false);
        for (number, channel) in self.hosts[at].process.channels().enumerate() {
            for _ in 0..MESSAGES_PER_TURN {
                match channel.receive(Some(Duration::ZERO)).map(|packet| packet.map(Packet::decode::<Log>)) {
                    Ok(Some(Ok((log, _)))) => logs.push(log),
                    Ok(None) => break,
                    Ok(Some(Err(broken))) | Err(broken) => {
                        // A host that ends closes its own channel first.
                        helper_is_gone |= number > 0 && broken == Fault::PeerGone && fault.is_none();
                        fault = Some(broken);
                        break;
                    }
                }
            }
        }
        let name = self.hosts[at].process.name.clone();
        logs.iter().for_each(|log| self.note(log.severity, &name, &log.text));
        let host = &mut self.hosts[at];
        host.words.count(logs.len() as u32, Instant::now());
        match fault {
            Some(fault) if fault != Fault::PeerGone && host.process.reap().is_none() => {
                host.condemn(format!("broke the protocol: {fault}"));
            }
            // A process that is ending closes its channel first. One that lives on without has nothing to say any more.
            Some(_) if helper_is_gone => host.process.follow_its_helper(),
            Some(_) => host.process.kill(),
            None => {}
        }
        if let Some((why, next)) = host.bury(&self.objects) {
            self.after_death(at, &why, next);
        }
    }

    /// An incarnation of a host is gone. The next one is made when it is due.
    fn after_death(&mut self, at: usize, why: &str, next: Next) {
        let name = self.hosts[at].process.name.clone();
        if matches!(next, Next::Retire) {
            // The VMM answers for its devices from now on.
            let _ = self.vmm.channel.tell(&Retire { host: at as u8, why: why.to_owned() }, &[]);
        }
        let what_next = next.told("its devices read as ones");
        self.note(Severity::Warning, &name, &format!("device host ended: {why}; {what_next}"));
    }

    /// Begins the next incarnation of a host.
    pub(super) fn restart(&mut self, at: usize) {
        if self.hosts[at].is_broken()
            && let Err(error) = self.renew(at)
        {
            self.note(Severity::Warning, &self.hosts[at].process.name.clone(), &format!("{error:#}"));
        }
        let patience = self.hosts[at].patience();
        match self.hosts[at].restart(&self.objects, patience) {
            Ok(()) => self.go_on(at),
            Err((why, next)) => self.after_death(at, &why, next),
        }
    }

    /// Goes on with an incarnation that is being made.
    fn go_on(&mut self, at: usize) {
        match self.hosts[at].go_on(&self.objects) {
            // What it logged before its answers is no longer in its socket.
            Ok(true) => self.hear_host(at),
            Ok(false) => {}
            Err((why, next)) => self.after_death(at, &why, next),
        }
    }

    /// Wipes what a host that broke the rules left, and has the VMM begin anew with its lanes.
    pub(super) fn renew(&mut self, at: usize) -> Result<()> {
        self.hosts[at].wipe(&self.objects)?;
        self.ask::<Renew, Empty>(&Renew { host: at as u8 }, &[], ANSWER).map(drop)
    }

    /// Begins the incarnations that are due, and gives up those that take too long.
    pub(super) fn restart_due(&mut self) {
        let now = Instant::now();
        for at in 0..self.hosts.len() {
            if self.hosts[at].lives.due().is_some_and(|due| due <= now) {
                self.restart(at);
            } else if self.hosts[at].gives_up_at().is_some_and(|until| until <= now) {
                self.go_on(at);
            }
        }
        for at in 0..self.sealed.len() {
            if self.sealed[at].lives.due().is_some_and(|due| due <= now)
                && let Err((why, next)) = self.sealed[at].restart(&self.objects)
            {
                self.after_end_of_relay(at, &why, next);
            }
        }
    }
}
