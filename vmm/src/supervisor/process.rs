//! One child process with its channel: the VMM or a device host.

mod setup;

use super::refused;
use anyhow::{Context, Result, anyhow, ensure};
use imc::Channel;
use sandbox::{Audit, Child, End, HelperForm, Program, Recipe, Stage, Start};
use schema::Body;
use schema::host::{HELPER_GONE, Log, Severity};
use setup::Setup;
pub use setup::wait_for_any;
use std::time::Duration;

/// A child answers a set-up call within this, or is given up. Generous: a loaded machine must not fail a start.
pub const SETUP: Duration = Duration::from_secs(20);
/// Log lines that are heard of a process that could not be started.
const SAID_MAX: usize = 4;
/// A killed process is reaped within this; the kernel needs longer only for one stuck in a driver.
const REAP: Duration = Duration::from_secs(5);

/// How a host ended that ended with its helper.
const HELPER_ENDED: &str = "its helper ended, and it with it";
/// What the program is called when it is a helper.
const HELPER_ROLE: &str = "cofferdam: helper";

/// A child process.
pub struct Process {
    /// The device, the class of a group, or `vmm`.
    pub name: String,
    /// Our end of its channel.
    pub channel: Channel,
    /// What it may be and hold.
    pub recipe: Recipe,
    /// It does each step of its set-up within this, or is given up.
    pub patience: Duration,
    setup: Setup,
    /// The helper beside it, where that is a process.
    helper: Option<Helper>,
    child: Child,
    /// It is killed because its helper is gone.
    follows: bool,
    ended: Option<String>,
}

/// A helper that is a process. It is the child of its host, which is the first process of their process namespace: the kernel
/// ends it with the host, and shows the host's end only once it is gone. So there is nothing to kill or to reap.
struct Helper {
    channel: Channel,
    recipe: Recipe,
    pid: i32,
}

impl Process {
    /// Starts it in its sandbox, and beside it the helper that its recipe has.
    pub fn spawn(program: &Program, role: &str, name: &str, recipe: Recipe) -> Result<Process> {
        Process::spawn_with(program, role, &[], name, recipe)
    }

    /// As [`Process::spawn`], with arguments.
    pub fn spawn_with(
        program: &Program,
        role: &str,
        arguments: &[String],
        name: &str,
        recipe: Recipe,
    ) -> Result<Process> {
        let channel = || -> Result<(Channel, Channel)> {
            let (ours, theirs) = Channel::pair().context("making a channel")?;
            ours.refuse_descriptors();
            Ok((ours, theirs))
        };
        let starting = || format!("starting {name}");
        let (ours, theirs) = channel()?;
        let Some(helper) = recipe.helper_of(HelperForm::Process) else {
            let start = Start { program, argv0: role, arguments, channel: theirs.into() };
            let child = sandbox::spawn_with(start, &recipe).with_context(starting)?;
            return Ok(Process {
                name: name.to_owned(),
                channel: ours,
                recipe,
                patience: SETUP,
                setup: Setup::default(),
                helper: None,
                child,
                follows: false,
                ended: None,
            });
        };
        let (ours_of_helper, theirs_of_helper) = channel()?;
        // Never another program, whatever the host is: it is trusted.
        let own = Program::current().context("opening this program, to start a helper from")?;
        let host = Start { program, argv0: role, arguments, channel: theirs.into() };
        let start = Start { program: &own, argv0: HELPER_ROLE, arguments: &[], channel: theirs_of_helper.into() };
        let child = sandbox::spawn_with_helper(host, start, &recipe).with_context(starting)?;
        let pid = child.helper.context("a helper without a number")?;
        let helper = Some(Helper { channel: ours_of_helper, recipe: helper.clone(), pid });
        Ok(Process {
            name: name.to_owned(),
            channel: ours,
            recipe,
            patience: SETUP,
            setup: Setup::default(),
            helper,
            child,
            follows: false,
            ended: None,
        })
    }

    /// Our ends of its channel and of its helper's.
    pub fn channels(&mut self) -> impl Iterator<Item = &mut Channel> {
        std::iter::once(&mut self.channel).chain(self.helper.iter_mut().map(|helper| &mut helper.channel))
    }

    /// How it ended, if a failed conversation has that reason.
    fn last_words(&mut self) -> String {
        match self.child.reap(Duration::from_millis(200)) {
            Some(status) => {
                let words = self.words(status);
                let text = format!(" ({words})");
                self.ended = Some(words);
                text
            }
            None => String::new(),
        }
    }

    /// How it ended, for people.
    fn words(&self, end: End) -> String {
        match end {
            End::Exited(HELPER_GONE) if self.helper.is_some() => HELPER_ENDED.to_owned(),
            End::Killed(libc::SIGKILL) if self.follows => HELPER_ENDED.to_owned(),
            end => end.to_string(),
        }
    }

    /// Asks it alone.
    pub fn ask<C: Body, R: Body>(&mut self, call: &C) -> Result<R> {
        let answer = self.channel.call(call, &[], self.patience);
        answer.map(|(answer, _)| answer).map_err(|error| self.failed(error))
    }

    /// Refuses a process whose kernel view differs from its recipe, or whose helper's does.
    pub fn require_clean(&self, stage: Stage) -> Result<()> {
        for (who, audit) in [("", Some(self.audit(stage)?)), ("its helper: ", self.audit_helper(stage)?)] {
            let differences = audit.map(|audit| audit.differences).unwrap_or_default();
            ensure!(
                differences.is_empty(),
                "{}: {who}the kernel shows another process than its recipe: {}",
                self.name,
                differences.join("; ")
            );
        }
        Ok(())
    }

    /// What the kernel says of it.
    pub fn audit(&self, stage: Stage) -> Result<Audit> {
        self.look_at(self.child.pid, &self.recipe, stage)
    }

    /// What the kernel says of its helper, if that is a process.
    pub fn audit_helper(&self, stage: Stage) -> Result<Option<Audit>> {
        self.helper.as_ref().map(|helper| self.look_at(helper.pid, &helper.recipe, stage)).transpose()
    }

    fn look_at(&self, pid: i32, recipe: &Recipe, stage: Stage) -> Result<Audit> {
        let mut audit = sandbox::audit(pid, recipe, stage).with_context(|| format!("looking at {}", self.name))?;
        let reasons = self.child.lacks().iter().map(|lack| format!("`{}`: {}", lack.layer.name(), lack.why));
        audit.notes.extend(reasons);
        Ok(audit)
    }

    /// The number and recipe of its helper, if that is a process.
    #[must_use]
    pub fn helper(&self) -> Option<(i32, &Recipe)> {
        self.helper.as_ref().map(|helper| (helper.pid, &helper.recipe))
    }

    /// A failed call as a sentence that names it, with the reason it died for if it did.
    pub fn failed(&mut self, error: imc::CallError) -> anyhow::Error {
        match error {
            // Its own last words say more.
            imc::CallError::Gone => {
                let said = self.said().into_iter().rfind(|log| log.severity == Severity::Error);
                let why = said.map_or_else(|| refused(error).to_string(), |log| log.text);
                let words = self.last_words();
                anyhow!("{}: {why}{words}", self.name)
            }
            // Who refuses, or breaks the protocol and is heard no more, may die of that: it is not the reason.
            imc::CallError::Refused(_) | imc::CallError::Violation(_) => anyhow!("{}: {}", self.name, refused(error)),
            error => {
                let words = self.last_words();
                anyhow!("{}: {}{words}", self.name, refused(error))
            }
        }
    }

    /// Its number; 0 once it is gone.
    #[must_use]
    pub fn pid(&self) -> i32 {
        if self.ended.is_some() { 0 } else { self.child.pid }
    }

    /// Its number and its helper's, where that is a process.
    pub fn pids(&self) -> impl Iterator<Item = i32> {
        std::iter::once(self.pid()).chain(self.helper().map(|(pid, _)| pid))
    }

    /// What becomes readable when it, or its helper, has said something or ended.
    pub fn sources(&self) -> impl Iterator<Item = std::os::fd::BorrowedFd<'_>> {
        use std::os::fd::AsFd;
        let helper = self.helper.iter().map(|helper| helper.channel.as_fd());
        [self.channel.as_fd(), self.pidfd()].into_iter().chain(helper)
    }

    /// Of these, what does when it has ended, whatever it has still to say.
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

    /// What it has logged and nobody has heard yet.
    pub fn said(&mut self) -> Vec<Log> {
        let mut said = Vec::new();
        for channel in self.channels() {
            while let (true, Ok(Some(packet))) = (said.len() < SAID_MAX, channel.receive(Some(Duration::ZERO))) {
                said.extend(packet.decode::<Log>().ok().map(|(log, _)| log));
            }
        }
        said
    }

    /// Reaps it if it has ended.
    pub fn reap(&mut self) -> Option<&str> {
        if self.ended.is_none() {
            self.ended = self.child.reap(Duration::ZERO).map(|end| self.words(end));
        }
        self.ended.as_deref()
    }

    /// Waits for its end, at most `wait`.
    pub fn wait_for_end(&mut self, wait: Duration) -> Option<End> {
        let end = self.child.reap(wait)?;
        let words = self.words(end);
        self.ended.get_or_insert(words);
        Some(end)
    }

    /// Kills it, for its helper is gone. It may have ended by itself already, for the same reason.
    pub fn follow_its_helper(&mut self) {
        self.follows = true;
        self.kill();
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
            self.ended = self.child.reap(REAP).map(|end| self.words(end));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
