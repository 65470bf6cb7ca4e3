//! The machine under test: plays what lines ask for, and says what came of it.

use super::pci::{self, Function};
use super::protocol::{Answer, Line, Time, Where, is_chip, parse};
use crate::catalogue::BuiltIn;
use crate::machine::set_clock;
use anyhow::Result;
use schema::play::{Change, Outcome, Played, STEPS_MAX, Step, Turned};
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::Duration;
use vmm::supervisor::{Console, Ended, Medium, Plan, Signals, Told, Vm};

/// Words of a message that its steps may take together.
const WORDS_MAX: usize = 1800;
/// Words of a step that is an access, with what points to it; a block has its bytes besides.
const STEP_WORDS: usize = 7;

/// The machine, and who listens to its interrupts.
pub struct Board<'a> {
    plan: Plan,
    signals: &'a Signals,
    console: Console,
    vm: Vm,
    is_virtual: bool,
    /// Guest time, and when the next alarm is due, as it was told last.
    now: u64,
    deadline: Option<u64>,
    listens: Option<(Where, String, u8)>,
    /// What was said and not sent yet.
    said: String,
    turned: VecDeque<Turned>,
}

/// Steps that are to be played, and their answer.
struct Asked {
    steps: usize,
    answer: Answer,
    /// Guest time after them, where it is known.
    now: u64,
}

impl<'a> Board<'a> {
    /// Starts it.
    pub fn start(plan: &Plan, console: Console, is_virtual: bool, signals: &'a Signals) -> Result<Board<'a>> {
        let vm = Vm::start(plan, &BuiltIn, signals)?;
        Ok(Board {
            plan: plan.clone(),
            signals,
            console,
            vm,
            is_virtual,
            now: 0,
            deadline: None,
            listens: None,
            said: String::new(),
            turned: VecDeque::new(),
        })
    }

    /// Firmware is told to boot in this order, after the next reset.
    pub fn boot(&mut self, order: String) {
        set_clock(&mut self.plan.devices, "boot", order);
    }

    /// Starts it anew, as a reset does, at the time that it is.
    pub fn reset(&mut self) -> Result<Option<Ended>> {
        self.vm.end();
        self.vm = Vm::start(&self.plan, &BuiltIn, self.signals)?;
        let now = self.now;
        let steps = if self.is_virtual { vec![Step::Pass(now)] } else { Vec::new() };
        Ok(self.play(&steps)?.err())
    }

    /// Waits until one of `others` has something to say, or the machine has.
    pub fn wait(&mut self, others: &[BorrowedFd<'_>], wait: Duration) -> Result<Option<Ended>> {
        let ended = self.vm.step_beside(&mut self.console, others, self.signals, wait)?;
        self.hear();
        Ok(ended)
    }

    /// Presses the power button.
    pub fn press_button(&mut self) {
        self.vm.press_button();
    }

    /// Has another medium in a drive, or none.
    pub fn exchange(&mut self, drive: &str, medium: Option<&Medium>, forced: bool) -> Result<()> {
        self.vm.exchange(drive, medium, forced)?;
        self.vm.keep_media(&mut self.plan);
        Ok(())
    }

    /// The drives whose media can be exchanged, and what is in them.
    pub fn drives(&self) -> Vec<(String, Option<Medium>)> {
        self.vm.drives()
    }

    /// The next switch that a device has turned: its label, and what it turned.
    pub fn turned(&mut self) -> Option<(String, Turned)> {
        let turned = self.turned.pop_front()?;
        let label = self.vm.labels().get(usize::from(turned.device)).cloned().unwrap_or_default();
        Some((label, turned))
    }

    /// What was said since this was asked last.
    pub fn said(&mut self) -> String {
        std::mem::take(&mut self.said)
    }

    /// Who listened to interrupts is gone.
    pub fn forget_listener(&mut self) {
        self.listens = None;
    }

    /// The functions of the PCI bus, as its configuration ports tell of them. They are left as they were.
    pub fn functions(&mut self) -> Result<Result<Vec<Function>, Ended>> {
        let mut ended = None;
        let functions = pci::functions(&mut |access| {
            if ended.is_some() {
                return Ok(u32::MAX);
            }
            match self.play(&[Step::Access(access)])? {
                Ok(outcomes) => {
                    outcomes.iter().for_each(|outcome| self.tell(&outcome.changes));
                    Ok(outcomes.first().map_or(u32::MAX, |outcome| outcome.value as u32))
                }
                Err(why) => {
                    ended = Some(why);
                    Ok(u32::MAX)
                }
            }
        })?;
        Ok(ended.map_or(Ok(functions), Err))
    }

    /// Does what these lines ask for, in their order.
    pub fn serve<'l>(&mut self, lines: impl Iterator<Item = &'l str>) -> Result<Option<Ended>> {
        let (mut asked, mut steps) = (Vec::new(), Vec::new());
        let mut now = self.now;
        for line in lines {
            let (new, answer) = match parse(line) {
                Line::Play(new, answer) => (new, answer),
                Line::Time(_) if !self.is_virtual => {
                    if let Some(ended) = self.answer(&mut asked, &mut steps)? {
                        return Ok(Some(ended));
                    }
                    self.say("FAIL time is the outside's here: it passes by itself");
                    continue;
                }
                Line::Time(time) => {
                    let until = match time {
                        Time::To(until) => until,
                        Time::By(ns) => now.saturating_add(ns),
                        Time::Next => {
                            let ended = match self.answer(&mut asked, &mut steps)? {
                                None => self.play(&[])?.err(),
                                ended => ended,
                            };
                            if let Some(ended) = ended {
                                return Ok(Some(ended));
                            }
                            now = self.now;
                            self.deadline.unwrap_or(now)
                        }
                    };
                    now = now.max(until);
                    (vec![Step::Pass(until)], Answer::Now)
                }
                other => {
                    if let Some(ended) = self.answer(&mut asked, &mut steps)? {
                        return Ok(Some(ended));
                    }
                    match other {
                        Line::Intercept(at, path) => self.intercept(at, path),
                        Line::Said(text) => self.say(&text),
                        Line::Play(..) | Line::Time(_) => {}
                    }
                    continue;
                }
            };
            asked.push(Asked { steps: new.len(), answer, now });
            steps.extend(new);
            // Enough for a message: an answer should not wait for what comes long after it.
            if steps.len() >= STEPS_MAX
                && let Some(ended) = self.answer(&mut asked, &mut steps)?
            {
                return Ok(Some(ended));
            }
        }
        self.answer(&mut asked, &mut steps)
    }

    /// Plays what was asked for, and answers it.
    fn answer(&mut self, asked: &mut Vec<Asked>, steps: &mut Vec<Step>) -> Result<Option<Ended>> {
        if asked.is_empty() {
            return Ok(None);
        }
        let outcomes = match self.play(steps)? {
            Ok(outcomes) => outcomes,
            Err(ended) => return Ok(Some(ended)),
        };
        let mut rest = outcomes.as_slice();
        for one in asked.drain(..) {
            let (own, others) = rest.split_at(one.steps);
            rest = others;
            own.iter().for_each(|outcome| self.tell(&outcome.changes));
            self.say(&one.answer.line(own, one.now));
        }
        steps.clear();
        Ok(None)
    }

    /// Plays steps, in as many messages as it takes; an outcome for each.
    fn play(&mut self, steps: &[Step]) -> Result<Result<Vec<Outcome>, Ended>> {
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(steps.len());
        // What became of time that has not passed whole.
        let mut earlier: Vec<Change> = Vec::new();
        loop {
            let batch = batch(&steps[outcomes.len()..]);
            let sent = batch.len();
            let played = match self.vm.play(batch, &mut self.console, self.signals)? {
                Ok(played) => played,
                Err(ended) => return Ok(Err(ended)),
            };
            self.hear();
            let Played { steps: done, now, deadline } = played;
            (self.now, self.deadline) = (now, deadline);
            anyhow::ensure!(
                done.len() <= sent && (sent == 0) == done.is_empty(),
                "the VMM played other steps than it was told"
            );
            for mut outcome in done {
                let falls_short =
                    self.is_virtual && matches!(steps.get(outcomes.len()), Some(Step::Pass(until)) if now < *until);
                outcome.changes.splice(..0, std::mem::take(&mut earlier));
                if falls_short {
                    earlier = outcome.changes;
                } else {
                    outcomes.push(outcome);
                }
            }
            if outcomes.len() == steps.len() {
                return Ok(Ok(outcomes));
            }
        }
    }

    fn intercept(&mut self, at: Where, path: String) {
        let device = match at {
            Where::In => is_chip(&path).map(|()| 0),
            Where::Out => {
                let name = path.rsplit('/').next().unwrap_or_default();
                let labels = self.vm.labels();
                let found = labels.iter().position(|label| label == name);
                found.ok_or_else(|| format!("there is no device `{path}`; there are {}", labels.join(", ")))
            }
        };
        match (device, &self.listens) {
            (Err(why), _) => self.say(&format!("FAIL {why}")),
            (Ok(_), Some((before, what, _))) if *before != at || *what != path => {
                self.say("FAIL IRQ intercept already enabled");
            }
            (Ok(device), _) => {
                self.listens = Some((at, path, device as u8));
                self.say("OK");
            }
        }
    }

    /// Takes what the machine has told of its own accord.
    fn hear(&mut self) {
        while let Some(told) = self.vm.told() {
            match told {
                Told::Changes(changes) => self.tell(&changes),
                Told::Turned(turned) => self.turned.push_back(turned),
            }
        }
    }

    /// Says those changes that are listened to.
    fn tell(&mut self, changes: &[Change]) {
        let Some((at, _, device)) = self.listens else { return };
        for change in changes {
            let heard = match at {
                Where::In => !change.hidden,
                Where::Out => change.device == device,
            };
            if heard {
                let verb = if change.level { "raise" } else { "lower" };
                self.say(&format!("IRQ {verb} {}", change.input));
            }
        }
    }

    fn say(&mut self, line: &str) {
        self.said.push_str(line);
        self.said.push('\n');
    }
}

/// As many steps as one message takes.
fn batch(steps: &[Step]) -> Vec<Step> {
    let mut words = 0;
    let fits = |step: &&Step| {
        words += STEP_WORDS
            + match step {
                Step::Write { bytes, .. } => bytes.len().div_ceil(8),
                _ => 0,
            };
        words <= WORDS_MAX
    };
    steps.iter().take(STEPS_MAX).take_while(fits).cloned().collect()
}
