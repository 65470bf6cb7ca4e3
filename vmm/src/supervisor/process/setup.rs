//! The set-up of a process: what it is asked, and when it is looked at, one step after the other until it serves.
//!
//! A step need not be waited for. A program of somebody else's may take seconds to load, or for ever, and other processes have
//! deaths and restarts meanwhile.

use super::Process;
use crate::supervisor::grants::{Batch, Objects};
use anyhow::{Context, Result, anyhow, bail, ensure};
use imc::{Asked, CallError, Channel, Fault};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sandbox::{HelperForm, Stage};
use schema::Body;
use schema::host::{Assign, Assignment, Attach, Empty, Hello, Level, Log, Manifests, PROTOCOL, Seal};
use schema::manifest::Manifest;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// Of a process that ended without a word.
const UNHEARD: &str = "ended before it said hello";
/// The same of a plugin, whose author reads this.
const PLUGIN_UNHEARD: &str = "ended before it said hello on its descriptor 3, as a plugin does; what it prints when it is started \
                              by hand may say why";

/// What is still to be done, and how far the first of it is.
#[derive(Default)]
pub(super) struct Setup {
    steps: VecDeque<Step>,
    /// The call of the first step, under way.
    asked: Option<Asked>,
    /// When the first step is given up.
    until: Option<Instant>,
    /// What the process has been seen to be.
    stage: Option<Stage>,
}

/// One thing to do.
enum Step {
    /// Somebody says hello.
    Greet(Whom),
    /// Somebody is asked, and answers.
    Ask(Whom, Question),
    /// Its gate is closed, if it has one.
    Close,
    /// The kernel is asked what it is.
    Look(Stage),
}

/// Whose step it is.
#[derive(Debug, Clone, Copy)]
enum Whom {
    Itself,
    Helper,
}

enum Question {
    /// To be this, and to declare what was planned.
    Assign(Assign, Vec<Manifest>),
    /// To take these grants.
    Take(Batch),
    /// To map and construct.
    Attach,
    /// To give up all that is not needed any more.
    Seal,
}

impl Process {
    /// Waits for its hello, and its helper's.
    pub fn greet(&mut self) -> Result<()> {
        self.plan_greeting();
        self.finish()
    }

    /// Tells a device host which devices to be, and compares what they declare with what was planned; its helper too.
    pub fn assign(&mut self, level: Level, devices: &[Assignment], planned: &[&Manifest]) -> Result<()> {
        self.plan_assignment(level, devices, planned);
        self.finish()
    }

    /// Grants what host number `host` of these objects needs for `devices`, which are indices into the plan.
    pub fn grant(&mut self, objects: &Objects, host: usize, devices: &[usize]) -> Result<()> {
        self.plan_grants(objects, host, devices)?;
        self.finish()
    }

    /// After the grants: map and construct.
    pub fn attach(&mut self) -> Result<()> {
        self.plan_question(|| Question::Attach);
        self.finish()
    }

    /// Gives up all that is not needed any more.
    pub fn seal(&mut self) -> Result<()> {
        self.plan_seal();
        self.finish()
    }

    /// After the grants: attach, seal, and look at it from outside. Only then may a range be routed to it.
    pub fn attach_and_seal(&mut self) -> Result<()> {
        self.attach()?;
        self.seal()?;
        self.require_clean(Stage::Sealed)
    }

    /// Plans its set-up until it is told what to be: hello, look, assign.
    pub fn plan_introduction(&mut self, level: Level, devices: &[Assignment], planned: &[&Manifest]) {
        self.plan_greeting();
        self.setup.steps.push_back(Step::Look(Stage::Confined));
        self.plan_assignment(level, devices, planned);
    }

    /// Plans the rest of it, from the grants on: attach, seal, look.
    pub fn plan_equipment(&mut self, objects: &Objects, host: usize, devices: &[usize]) -> Result<()> {
        self.plan_grants(objects, host, devices)?;
        self.plan_question(|| Question::Attach);
        self.plan_seal();
        self.setup.steps.push_back(Step::Look(Stage::Sealed));
        Ok(())
    }

    /// Does what is planned, as far as it need not wait. True: all of it is done.
    pub fn proceed(&mut self) -> Result<bool> {
        while let Some(step) = self.setup.steps.pop_front() {
            let until = *self.setup.until.get_or_insert_with(|| Instant::now() + self.patience);
            if !self.take(&step, until)? {
                self.setup.steps.push_front(step);
                return Ok(false);
            }
            self.setup.until = None;
        }
        Ok(true)
    }

    /// Does what is planned, and waits for each step as long as there is patience.
    pub fn finish(&mut self) -> Result<()> {
        while !self.proceed()? {
            wait_for_any(self.sources(), self.gives_up_at()).with_context(|| format!("waiting for {}", self.name))?;
        }
        Ok(())
    }

    /// When the step that it is at is given up.
    #[must_use]
    pub fn gives_up_at(&self) -> Option<Instant> {
        self.setup.until
    }

    /// Whether something of its set-up is still to be done.
    #[must_use]
    pub fn is_being_set_up(&self) -> bool {
        !self.setup.steps.is_empty()
    }

    /// What it has been seen to be, in its set-up.
    #[must_use]
    pub fn stage(&self) -> Option<Stage> {
        self.setup.stage
    }

    fn plan_greeting(&mut self) {
        let helper = self.helper.as_ref().map(|_| Step::Greet(Whom::Helper));
        self.setup.steps.extend([Step::Greet(Whom::Itself)].into_iter().chain(helper));
    }

    fn plan_assignment(&mut self, level: Level, devices: &[Assignment], planned: &[&Manifest]) {
        let threaded = self.recipe.helper_of(HelperForm::Thread).is_some();
        self.plan_question(|| {
            let assign = Assign { level, devices: devices.to_vec(), threaded };
            Question::Assign(assign, planned.iter().copied().cloned().collect())
        });
    }

    fn plan_grants(&mut self, objects: &Objects, host: usize, devices: &[usize]) -> Result<()> {
        let granting = || format!("granting to {}", self.name);
        let its_own = objects.host_grants(host, devices).with_context(granting)?;
        let its_helpers = self.helper.as_ref().map(|_| objects.helper_grants(host, devices));
        let its_helpers = its_helpers.transpose().with_context(granting)?.unwrap_or_default();
        let take = |whom| move |batch| Step::Ask(whom, Question::Take(batch));
        self.setup.steps.extend(its_own.into_iter().map(take(Whom::Itself)));
        self.setup.steps.extend(its_helpers.into_iter().map(take(Whom::Helper)));
        Ok(())
    }

    fn plan_seal(&mut self) {
        self.plan_question(|| Question::Seal);
        self.setup.steps.push_back(Step::Close);
    }

    /// The helper first, which tells the host what it has.
    fn plan_question(&mut self, question: impl Fn() -> Question) {
        let helper = self.helper.as_ref().map(|_| Step::Ask(Whom::Helper, question()));
        self.setup.steps.extend(helper.into_iter().chain([Step::Ask(Whom::Itself, question())]));
    }

    /// Goes on with this step. True: it is done.
    fn take(&mut self, step: &Step, until: Instant) -> Result<bool> {
        match step {
            Step::Greet(whom) => self.hear_hello(*whom, until).map_err(|why| {
                let words = self.last_words();
                anyhow!("{}: {why}{words}", self.name)
            }),
            Step::Ask(whom, question) => {
                let answered = self.hear_answer(*whom, question, until).map_err(|error| self.failed(error))?;
                ensure!(answered != Some(false), "{}: declares another manifest than the catalogue", self.name);
                Ok(answered.is_some())
            }
            Step::Close => {
                self.child.seal(&self.recipe).with_context(|| format!("sealing {}", self.name))?;
                Ok(true)
            }
            Step::Look(stage) => {
                self.require_clean(*stage)?;
                self.setup.stage = Some(*stage);
                Ok(true)
            }
        }
    }

    fn hear_hello(&mut self, whom: Whom, until: Instant) -> Result<bool> {
        let unheard = if self.recipe.loading.is_some() { PLUGIN_UNHEARD } else { UNHEARD };
        let packet = match self.channel_of(whom).map(|channel| channel.receive(Some(Duration::ZERO))) {
            Some(Ok(Some(packet))) => packet,
            Some(Ok(None)) => {
                ensure!(Instant::now() < until, "did not say hello within {} s", self.patience.as_secs());
                return Ok(false);
            }
            Some(Err(Fault::PeerGone)) | None => bail!(unheard),
            Some(Err(fault)) => return Err(fault.into()),
        };
        if packet.is::<Log>() {
            let (log, _) = packet.decode::<Log>()?;
            bail!("{}", log.text);
        }
        let (hello, _) = packet.decode::<Hello>()?;
        ensure!(hello.protocol == PROTOCOL, "speaks protocol {}, this program speaks {PROTOCOL}", hello.protocol);
        Ok(true)
    }

    /// Whether the answer is as planned, once it is there.
    fn hear_answer(&mut self, whom: Whom, question: &Question, until: Instant) -> Result<Option<bool>, CallError> {
        let asked = self.setup.asked.take();
        let channel = self.channel_of(whom).ok_or(CallError::Gone)?;
        let asked = match asked {
            Some(asked) => asked,
            None => question.ask(channel)?,
        };
        let answered = question.answer(channel, &asked)?;
        if answered.is_none() {
            self.setup.asked = Some(asked);
            if Instant::now() >= until {
                return Err(CallError::Late);
            }
        }
        Ok(answered)
    }

    fn channel_of(&mut self, whom: Whom) -> Option<&mut Channel> {
        match whom {
            Whom::Itself => Some(&mut self.channel),
            Whom::Helper => self.helper.as_mut().map(|helper| &mut helper.channel),
        }
    }
}

impl Question {
    fn ask(&self, channel: &mut Channel) -> Result<Asked, CallError> {
        match self {
            Question::Assign(assign, _) => channel.ask(assign, &[]),
            Question::Take(batch) => channel.ask(&batch.grants, &batch.descriptors()),
            Question::Attach => channel.ask(&Attach, &[]),
            Question::Seal => channel.ask(&Seal, &[]),
        }
    }

    fn answer(&self, channel: &mut Channel, asked: &Asked) -> Result<Option<bool>, CallError> {
        match self {
            Question::Assign(_, planned) => heard(channel, asked, |Manifests { manifests }| manifests == *planned),
            _ => heard(channel, asked, |Empty| true),
        }
    }
}

/// Waits until there is something at one of `sources`, or until then.
pub fn wait_for_any<'a>(sources: impl Iterator<Item = BorrowedFd<'a>>, until: Option<Instant>) -> nix::Result<()> {
    let left = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
    // Rounded up, so that what is given up then is not looked at a moment too early, again and again.
    let wait = PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
    let mut polled: Vec<PollFd<'_>> = sources.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    match poll(&mut polled, wait) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error),
    }
}

fn heard<R: Body>(
    channel: &mut Channel,
    asked: &Asked,
    is_as_planned: impl Fn(R) -> bool,
) -> Result<Option<bool>, CallError> {
    Ok(channel.replied(asked)?.map(|(answer, _)| is_as_planned(answer)))
}
