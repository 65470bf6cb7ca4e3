//! The process between a network and a net device's host, over all its incarnations.
//!
//! It holds the network, the host does not; neither can do what the other can. Nothing of it is missed when it ends: the next
//! one goes on with the rings, and frames may be lost or doubled, as on a wire.

use super::grants::{FramesObjects, Objects};
use super::lives::{EndedBy, Lives, Next, SETUP_AGAIN};
use super::network::Network;
use super::plan::Plan;
use super::process::Process;
use crate::quota::Quota;
use anyhow::{Context, Result};
use imc::Packet;
use sandbox::{Program, Recipe, Stage, policy};
use schema::host::{Level, Log};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The role of this program in which it is a net relay.
pub const RELAY_ROLE: &str = "cofferdam: net";
/// Log lines of a relay that are heard in [`LINES_PERIOD`]: it says one, at its end.
const LINES_MAX: u32 = 16;
/// See [`LINES_MAX`].
const LINES_PERIOD: Duration = Duration::from_secs(1);

/// A net relay.
pub struct NetRelay {
    /// Its incarnation of now, or the last one.
    pub process: Process,
    /// How it is confined.
    pub level: Level,
    program: Rc<Program>,
    recipe: Recipe,
    place: Place,
    /// How it is, and how often it was started anew.
    pub lives: Lives,
    words: Quota,
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

impl NetRelay {
    /// Starts the relay of the frames at `place`: confined, granted, sealed and audited.
    pub fn start(plan: &Plan, objects: &Objects, place: Place, program: Rc<Program>) -> Result<NetRelay> {
        let device = &plan.devices[place.device];
        let recipe = plan.demands.apply(Recipe::net_relay(device.level, place.network(objects)?.kind()))?;
        let recipe = objects.mac.label(recipe, policy::RELAY)?;
        let name = format!("{} net relay", device.label);
        let mut relay = NetRelay {
            process: Process::spawn(&program, RELAY_ROLE, &name, recipe.clone())?,
            level: recipe.level,
            program,
            recipe,
            place,
            lives: Lives::new(plan.restarts),
            words: Quota::new(LINES_MAX, LINES_PERIOD, Instant::now()),
        };
        relay.equip(objects)?;
        Ok(relay)
    }

    fn equip(&mut self, objects: &Objects) -> Result<()> {
        self.process.greet()?;
        self.process.require_clean(Stage::Confined)?;
        self.process.assign(self.level, Vec::new(), &[])?;
        let network = self.place.network(objects)?.open()?;
        let (host, frames) = (self.place.host, self.place.frames(objects));
        let granted = objects.grant_relay(&mut self.process.channel, host, frames, network, self.process.patience);
        granted.with_context(|| format!("granting to {}", self.process.name))?;
        self.process.attach_and_seal()?;
        self.lives.begin();
        Ok(())
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
        let made = Process::spawn(&self.program, RELAY_ROLE, &self.process.name, self.recipe.clone());
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
