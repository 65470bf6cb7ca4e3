//! A process that relays for a device what the device's host may not reach: a net device's frames, or a display's picture. Over all
//! its incarnations.
//!
//! It holds the network or the viewers' connections, the host does not; neither can do what the other can. Nothing of it is missed
//! when it ends: the next one goes on with the rings, and frames may be lost or doubled, as on a wire; viewers connect anew.

use super::grants::{FramesObjects, Objects};
use super::lives::{EndedBy, Lives, Next, SETUP_AGAIN};
use super::network::Network;
use super::plan::Plan;
use super::process::Process;
use super::viewers::Viewers;
use crate::quota::Quota;
use anyhow::{Context, Result};
use imc::Packet;
use sandbox::{Program, Recipe, Stage, policy};
use schema::host::{Level, Log};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The role of this program in which it is a net relay.
pub const RELAY_ROLE: &str = "cofferdam: net";
/// The role of this program in which it is a display relay.
pub const DISPLAY_ROLE: &str = "cofferdam: display";
/// Log lines of a relay that are heard in [`LINES_PERIOD`]: it says one at its end, and one for each viewer that it refuses.
const LINES_MAX: u32 = 16;
/// See [`LINES_MAX`].
const LINES_PERIOD: Duration = Duration::from_secs(1);

/// A sealed relay.
pub struct SealedRelay {
    /// Its incarnation of now, or the last one.
    pub process: Process,
    /// How it is confined.
    pub level: Level,
    program: Rc<Program>,
    recipe: Recipe,
    task: Task,
    /// How it is, and how often it was started anew.
    pub lives: Lives,
    words: Quota,
}

/// What it relays.
enum Task {
    Frames(Place),
    Display(Box<Viewers>),
}

/// Which frames a relay is of.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Index of the device.
    pub device: usize,
    /// Index among the device's frames.
    pub frames: usize,
    /// Index of the host.
    pub host: usize,
}

impl Place {
    fn frames(self, objects: &Objects) -> &FramesObjects {
        &objects.devices[self.device].frames[self.frames]
    }

    fn network(self, objects: &Objects) -> Result<&Network> {
        self.frames(objects).network.as_ref().context("frames that go nowhere")
    }
}

impl Task {
    fn role(&self) -> &'static str {
        match self {
            Task::Frames(_) => RELAY_ROLE,
            Task::Display(_) => DISPLAY_ROLE,
        }
    }
}

impl SealedRelay {
    /// Starts the net relay of the frames at `place`: confined, granted, sealed and audited.
    pub fn of_frames(plan: &Plan, objects: &Objects, place: Place, program: Rc<Program>) -> Result<SealedRelay> {
        let device = &plan.devices[place.device];
        let recipe = Recipe::net_relay(device.level, place.network(objects)?.kind());
        let name = format!("{} net relay", device.label);
        SealedRelay::start(plan, objects, &name, recipe, policy::RELAY, Task::Frames(place), program)
    }

    /// Starts the display relay that shows viewers what device number `device` draws: confined, granted, sealed and audited.
    pub fn of_display(plan: &Plan, objects: &Objects, viewers: Viewers, program: Rc<Program>) -> Result<SealedRelay> {
        let device = &plan.devices[viewers.device()];
        let recipe = Recipe::display_relay(device.level, viewers.listeners()?);
        let name = format!("{} display relay", device.label);
        SealedRelay::start(plan, objects, &name, recipe, policy::VIEWERS, Task::Display(Box::new(viewers)), program)
    }

    fn start(
        plan: &Plan,
        objects: &Objects,
        name: &str,
        recipe: Recipe,
        label: &str,
        task: Task,
        program: Rc<Program>,
    ) -> Result<SealedRelay> {
        let recipe = objects.mac.label(plan.demands.apply(recipe)?, label)?;
        let mut relay = SealedRelay {
            process: Process::spawn(&program, task.role(), name, recipe.clone())?,
            level: recipe.level,
            program,
            recipe,
            task,
            lives: Lives::new(plan.restarts),
            words: Quota::new(LINES_MAX, LINES_PERIOD, Instant::now()),
        };
        relay.equip(objects)?;
        Ok(relay)
    }

    fn equip(&mut self, objects: &Objects) -> Result<()> {
        self.process.greet()?;
        self.process.require_clean(Stage::Confined)?;
        self.process.assign(self.level, &[], &[])?;
        let (channel, patience) = (&mut self.process.channel, self.process.patience);
        let granted = match &mut self.task {
            Task::Frames(place) => {
                let network = place.network(objects)?.open()?;
                objects.grant_relay(channel, place.host, place.frames(objects), network, patience)
            }
            Task::Display(viewers) => viewers.grant(objects, channel, patience),
        };
        granted.with_context(|| format!("granting to {}", self.process.name))?;
        self.process.attach_and_seal()?;
        self.lives.begin();
        Ok(())
    }

    /// What viewers do, of a display relay.
    pub fn viewers(&mut self) -> Option<&mut Viewers> {
        match &mut self.task {
            Task::Frames(_) => None,
            Task::Display(viewers) => Some(viewers),
        }
    }

    /// The same, to look at.
    pub fn as_viewers(&self) -> Option<&Viewers> {
        match &self.task {
            Task::Frames(_) => None,
            Task::Display(viewers) => Some(viewers),
        }
    }

    /// What is missing once it is retired.
    pub fn loss(&self) -> &'static str {
        match self.task {
            Task::Frames(_) => "its device has no network any more",
            Task::Display(_) => "nobody is shown the screen any more",
        }
    }

    /// When it is heard again, if it has said too much.
    pub fn used_up(&self, now: Instant) -> Option<Duration> {
        self.words.used_up(now)
    }

    /// Hears what it says. Gives its log lines; and if it is gone, why and what follows.
    pub fn hear(&mut self) -> (Vec<Log>, Option<(String, Next)>) {
        let Some(age) = self.lives.age() else { return (Vec::new(), None) };
        let mut logs = Vec::new();
        for _ in 0..LINES_MAX {
            match self.process.channel.receive(Some(Duration::ZERO)).map(|packet| packet.map(Packet::decode::<Log>)) {
                Ok(Some(Ok((log, _)))) => logs.push(log),
                Ok(None) => break,
                // It ends, or talks nonsense and is ended.
                Ok(Some(Err(_))) | Err(_) => {
                    self.process.kill();
                    break;
                }
            }
        }
        self.words.count(logs.len() as u32, Instant::now());
        let Some(how) = self.process.reap().map(str::to_owned) else { return (logs, None) };
        (logs, Some(self.lives.mourn(how, age, EndedBy::Others, false)))
    }

    /// Makes the next incarnation. If it cannot be made: why, and whether another one follows.
    pub fn restart(&mut self, objects: &Objects) -> Result<(), (String, Next)> {
        let from = Instant::now();
        let made = Process::spawn(&self.program, self.task.role(), &self.process.name, self.recipe.clone());
        let made = made.and_then(|process| {
            self.process = process;
            self.process.patience = SETUP_AGAIN;
            self.equip(objects)
        });
        made.map_err(|error| {
            self.process.end();
            self.lives.mourn(format!("could not be started anew: {error:#}"), from.elapsed(), EndedBy::Others, false)
        })
    }
}
