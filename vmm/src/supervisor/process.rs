//! One child process with its channel: the VMM or a device host.

use super::refused;
use anyhow::{Context, Result, anyhow, bail, ensure};
use imc::Channel;
use sandbox::{Audit, Child, End, Program, Recipe, Stage};
use schema::host::{Assign, Assignment, Attach, Empty, Hello, Level, Log, Manifests, PROTOCOL, Seal};
use schema::manifest::Manifest;
use std::time::Duration;

/// A child answers a set-up call within this, or is given up. Generous: a loaded machine must not fail a start.
pub const SETUP: Duration = Duration::from_secs(20);
/// A killed process is reaped within this; the kernel needs longer only for one stuck in a driver.
const REAP: Duration = Duration::from_secs(5);

/// A child process.
pub struct Process {
    /// The device, the class of a group, or `vmm`.
    pub name: String,
    /// Our end of its channel.
    pub channel: Channel,
    /// What it may be and hold.
    pub recipe: Recipe,
    /// It answers a set-up call within this, or is given up.
    pub patience: Duration,
    child: Child,
    ended: Option<String>,
}

impl Process {
    /// Starts it in its sandbox; it has said hello and can be looked at.
    pub fn spawn(program: &Program, role: &str, name: &str, recipe: Recipe) -> Result<Process> {
        let (ours, theirs) = Channel::pair().context("making a channel")?;
        ours.refuse_descriptors();
        let child =
            sandbox::spawn(program, role, theirs.into(), &recipe).with_context(|| format!("starting {name}"))?;
        Ok(Process { name: name.to_owned(), channel: ours, recipe, patience: SETUP, child, ended: None })
    }

    /// Waits for its hello.
    pub fn greet(&mut self) -> Result<()> {
        let packet = self.channel.receive(Some(self.patience));
        let packet = packet.map_err(|fault| {
            let words = self.last_words();
            anyhow!("{}: {fault}{words}", self.name)
        })?;
        let packet = packet.ok_or_else(|| anyhow!("{}: did not say hello in time", self.name))?;
        if packet.is::<Log>() {
            let (log, _) = packet.decode::<Log>().map_err(|fault| anyhow!("{}: {fault}", self.name))?;
            bail!("{}: {}", self.name, log.text);
        }
        let (hello, _) = packet.decode::<Hello>().map_err(|fault| anyhow!("{}: {fault}", self.name))?;
        ensure!(
            hello.protocol == PROTOCOL,
            "{}: speaks protocol {}, this program speaks {PROTOCOL}",
            self.name,
            hello.protocol
        );
        Ok(())
    }

    /// How it ended, if a failed conversation has that reason.
    fn last_words(&mut self) -> String {
        match self.child.reap(Duration::from_millis(200)) {
            Some(status) => {
                let text = format!(" ({status})");
                self.ended = Some(status.to_string());
                text
            }
            None => String::new(),
        }
    }

    /// Tells a device host which devices to be, and compares what they declare with what was planned.
    pub fn assign(&mut self, level: Level, devices: Vec<Assignment>, planned: &[&Manifest]) -> Result<()> {
        let (declared, _): (Manifests, _) =
            self.channel.call(&Assign { level, devices }, &[], self.patience).map_err(|error| self.failed(error))?;
        ensure!(
            declared.manifests.iter().eq(planned.iter().copied()),
            "{}: declares another manifest than the catalogue",
            self.name
        );
        Ok(())
    }

    /// After the grants: attach, seal, and look at it from outside. Only then may a range be routed to it.
    pub fn attach_and_seal(&mut self) -> Result<()> {
        let (Empty, _) = self.channel.call(&Attach, &[], self.patience).map_err(|error| self.failed(error))?;
        let (Empty, _) = self.channel.call(&Seal, &[], self.patience).map_err(|error| self.failed(error))?;
        self.require_clean(Stage::Sealed)
    }

    /// Refuses a process whose kernel view differs from its recipe.
    pub fn require_clean(&self, stage: Stage) -> Result<()> {
        let audit = self.audit(stage)?;
        ensure!(
            audit.differences.is_empty(),
            "{}: the kernel shows another process than its recipe: {}",
            self.name,
            audit.differences.join("; ")
        );
        Ok(())
    }

    /// What the kernel says of it.
    pub fn audit(&self, stage: Stage) -> Result<Audit> {
        let mut audit =
            sandbox::audit(self.child.pid, &self.recipe, stage).with_context(|| format!("looking at {}", self.name))?;
        let reasons = self.child.lacks().iter().map(|lack| format!("`{}`: {}", lack.layer.name(), lack.why));
        audit.notes.extend(reasons);
        Ok(audit)
    }

    /// A failed call as a sentence that names it, with the reason it died for if it did.
    pub fn failed(&mut self, error: imc::CallError) -> anyhow::Error {
        let words = self.last_words();
        anyhow!("{}: {}{words}", self.name, refused(error))
    }

    /// Its number; 0 once it is gone.
    #[must_use]
    pub fn pid(&self) -> i32 {
        if self.ended.is_some() { 0 } else { self.child.pid }
    }

    /// What becomes readable when it ends.
    #[must_use]
    pub fn pidfd(&self) -> std::os::fd::BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.child.pidfd.as_fd()
    }

    /// How it ended, once it was reaped.
    #[must_use]
    pub fn ended(&self) -> Option<&str> {
        self.ended.as_deref()
    }

    /// Reaps it if it has ended.
    pub fn reap(&mut self) -> Option<&str> {
        if self.ended.is_none() {
            self.ended = self.child.reap(Duration::ZERO).map(|status| status.to_string());
        }
        self.ended.as_deref()
    }

    /// Waits for its end, at most `wait`.
    pub fn wait_for_end(&mut self, wait: Duration) -> Option<End> {
        let end = self.child.reap(wait)?;
        self.ended.get_or_insert_with(|| end.to_string());
        Some(end)
    }

    /// Kills it; [`Process::reap`] tells when it is gone.
    pub fn kill(&self) {
        if self.ended.is_none() {
            let _ = self.child.kill();
        }
    }

    /// Kills and reaps.
    pub fn end(&mut self) {
        self.kill();
        if self.ended.is_none() {
            self.ended = self.child.reap(REAP).map(|status| status.to_string());
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
