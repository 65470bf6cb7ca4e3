//! A device host over all its incarnations: what it is made of, when it is made again, and when no more.
//!
//! An incarnation ends when nothing of it is left: its process is the first of a pid namespace, and the kernel tells of its
//! end only when all others in there are gone. Until then one of them could still write to memory that is shared. The next
//! one is granted the same kernel objects, and goes on with the state that it finds in them.

use super::grants::Objects;
use super::image::Image;
use super::lives::{EndedBy, Lives, Next, SETUP_AGAIN};
use super::pin;
use super::plan::{Demands, Group, Plan};
use super::process::{Process, SETUP};
use crate::quota::Quota;
use anyhow::{Context, Result, anyhow, ensure};
use imc::lane::{look_at_remains, wipe};
use sandbox::{Program, Recipe, Stage};
use schema::host::{Assignment, Exchanged, Setting};
use schema::lane::Carrier;
use schema::manifest::Manifest;
use schema::vmm::Late;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The role of this program in which it is a device host.
pub const HOST_ROLE: &str = "cofferdam: host";

/// Log lines of a host that are heard in [`LINES_PERIOD`]: more than one that is in trouble has to say, and too few to keep
/// a processor busy.
const LINES_MAX: u32 = 256;
/// See [`LINES_MAX`].
const LINES_PERIOD: Duration = Duration::from_secs(1);

/// A device host and what it runs.
pub struct Host {
    /// Its incarnation of now, or the last one.
    pub process: Process,
    /// Its devices.
    pub group: Group,
    number: usize,
    program: Rc<Program>,
    role: String,
    /// What a plugin's program is started with.
    arguments: Vec<String>,
    recipe: Recipe,
    demands: Demands,
    cpu: Option<usize>,
    devices: Vec<Hosted>,
    deadline: Duration,
    /// When the first incarnation was spawned, and how long it took until it served.
    spawned: Instant,
    took: Option<Duration>,
    /// How it is, and how often it was started anew.
    pub lives: Lives,
    /// Why it was killed by us, if it was.
    verdict: Option<String>,
    /// The VMM waits for it no more.
    given_up: bool,
    /// How much of what it says is heard. The rest waits in its channel, and is lost to it when that is full.
    pub words: Quota,
}

/// What a device is given, as far as it depends on the media in its drives.
pub struct Fitting {
    /// Its options.
    pub options: Vec<Setting>,
    /// What it declares with them.
    pub manifest: Manifest,
    /// The media, by wish.
    pub images: Vec<(u32, Arc<Image>)>,
}

/// One of a host's devices.
struct Hosted {
    /// Index into the plan.
    index: usize,
    assignment: Assignment,
    manifest: Manifest,
    /// The operation that an incarnation was at when it ended.
    died_at: Option<u32>,
    /// The one that ended two.
    poison: Option<u32>,
    /// The lane was broken by a violation: it begins anew after this operation.
    broken_after: Option<u32>,
}

impl Host {
    /// Spawns the first incarnation; it has still to be set up.
    pub fn spawn(
        plan: &Plan,
        manifests: &[Manifest],
        objects: &mut Objects,
        group: Group,
        number: usize,
        program: Rc<Program>,
    ) -> Result<Host> {
        let devices: Vec<Hosted> = group
            .devices
            .iter()
            .map(|index| {
                let device = &plan.devices[*index];
                let (name, options) = (device.device.clone(), device.options.clone());
                Hosted {
                    index: *index,
                    assignment: Assignment {
                        device: name,
                        options,
                        carrier: device.carrier,
                        poisoned: false,
                        exchanged: None,
                    },
                    manifest: manifests[*index].clone(),
                    died_at: None,
                    poison: None,
                    broken_after: None,
                }
            })
            .collect();
        let declared: Vec<Manifest> = devices.iter().map(|device| device.manifest.clone()).collect();
        let carriers: Vec<Carrier> = devices.iter().map(|device| device.assignment.carrier).collect();
        let hostile = group.devices.iter().find_map(|device| plan.devices[*device].hostile.as_ref());
        let recipe = match group.devices.as_slice() {
            [only] if plan.devices[*only].plugin.is_some() => {
                objects.plugin_recipe(&plan.demands, &plan.devices[*only], group.level)?
            }
            _ => objects.host_recipe(&plan.demands, group.level, &declared, &carriers, group.helper)?,
        };
        let recipe = recipe.without_parts(hostile.map_or(&[], |hostile| &hostile.without));
        objects.add_helper(number, &recipe)?;
        let plugin = group.devices.iter().find_map(|device| plan.devices[*device].plugin.as_ref());
        let (role, arguments) = match plugin {
            Some(plugin) => (plugin.program.argv0.clone(), plugin.program.arguments.clone()),
            None => (hostile.map_or(HOST_ROLE, |hostile| &hostile.role).to_owned(), Vec::new()),
        };
        let cpu = plan.pins.map(|pins| pins.hosts);
        let process = begin(&program, &role, &arguments, &recipe, cpu, &group, &devices)?;
        Ok(Host {
            process,
            group,
            number,
            program,
            role,
            arguments,
            recipe,
            demands: plan.demands.clone(),
            cpu,
            devices,
            deadline: plan.deadline,
            spawned: Instant::now(),
            took: None,
            lives: Lives::new(plan.restarts),
            verdict: None,
            given_up: false,
            words: Quota::new(LINES_MAX, LINES_PERIOD, Instant::now()),
        })
    }

    /// Goes on with its set-up, as far as it need not wait. True: from now on it serves.
    pub fn proceed(&mut self, objects: &Objects) -> Result<bool> {
        while self.process.proceed()? {
            if self.process.stage() == Some(Stage::Sealed) {
                self.took.get_or_insert(self.spawned.elapsed());
                self.lives.begin();
                return Ok(true);
            }
            self.process.plan_equipment(objects, self.number, &self.group.devices)?;
        }
        Ok(false)
    }

    /// Waits for all of its set-up.
    pub fn set_up(&mut self, objects: &Objects) -> Result<()> {
        while !self.proceed(objects)? {
            self.process.finish()?;
        }
        Ok(())
    }

    /// How long an incarnation after the first may take to answer: twice as long as all of the first one's start took, which for a
    /// plugin is what its language takes to load here.
    #[must_use]
    pub fn patience(&self) -> Duration {
        (self.took.unwrap_or_default() * 2).clamp(SETUP_AGAIN, SETUP)
    }

    /// When the incarnation that is being made is given up, if one is.
    #[must_use]
    pub fn gives_up_at(&self) -> Option<Instant> {
        self.process.gives_up_at().filter(|_| self.lives.starts())
    }

    /// What one of its devices declares.
    #[must_use]
    pub fn manifest(&self, index: usize) -> Option<&Manifest> {
        self.devices.iter().find(|device| device.index == index).map(|device| &device.manifest)
    }

    /// Ends its incarnation, with the reason.
    pub fn condemn(&mut self, why: String) {
        if self.lives.runs() || self.lives.starts() {
            self.verdict.get_or_insert(why);
            self.process.kill();
        }
    }

    /// The VMM complains of it.
    pub fn accuse(&mut self, late: &Late, text: &str) {
        self.given_up |= late.gave_up;
        if late.gave_up {
            self.lives.give_up();
        }
        if late.violation {
            if let Some(device) = self.devices.iter_mut().find(|device| device.index == usize::from(late.device)) {
                device.broken_after = Some(late.issued).filter(|_| !late.gave_up);
            }
            self.condemn(format!("broke the lane's rules: {text}"));
        } else if late.gave_up || self.lives.age().is_some_and(|age| age > self.deadline / 2) {
            self.condemn(format!("missed its deadline: {text}"));
        }
        // Of one that is younger: its predecessor was late, or the vcpu waited while there was none.
    }

    /// If all of its incarnation is gone: what that died of, and whether another one follows.
    pub fn bury(&mut self, objects: &Objects) -> Option<(String, Next)> {
        let age = self.lives.age()?;
        let how = self.process.reap()?.to_owned();
        let ended_by = if self.verdict.is_some() { EndedBy::Us } else { EndedBy::Others };
        let why = self.verdict.take().map_or_else(|| how.clone(), |verdict| format!("{verdict} ({how})"));
        self.devices.iter_mut().for_each(|device| device.look_at_remains(objects, true));
        Some(self.lives.mourn(why, age, ended_by, self.given_up))
    }

    /// Whether a violation left something in shared memory that has to be wiped, and the VMM's lanes be renewed.
    pub fn is_broken(&self) -> bool {
        self.devices.iter().any(|device| device.broken_after.is_some())
    }

    /// Wipes that. Nobody but the VMM, which does not look, has the memory.
    pub fn wipe(&mut self, objects: &Objects) -> Result<()> {
        for device in &mut self.devices {
            if let Some(issued) = device.broken_after.take() {
                let objects = &objects.devices[device.index];
                wipe(&objects.state, issued).context("wiping a device's state")?;
                objects.lane.wipe().context("wiping a lane")?;
                (device.died_at, device.poison) = (None, None);
            }
        }
        Ok(())
    }

    /// Begins the next incarnation, which does each step of its set-up within `patience`; [`Host::go_on`] goes on with it. If it
    /// cannot be made: why, and whether another one follows.
    pub fn restart(&mut self, objects: &Objects, patience: Duration) -> Result<(), (String, Next)> {
        self.lives.start();
        self.begin_anew(patience).map_err(|error| self.miscarry(objects, &error))
    }

    /// Goes on with the incarnation that begins, as far as it need not wait. True: it serves. If it cannot be made: why, and
    /// whether another one follows.
    pub fn go_on(&mut self, objects: &Objects) -> Result<bool, (String, Next)> {
        self.proceed(objects).map_err(|error| self.miscarry(objects, &error))
    }

    /// Makes the next incarnation, and waits until it serves.
    pub fn restart_and_wait(&mut self, objects: &Objects) -> Result<(), (String, Next)> {
        self.restart(objects, SETUP)?;
        self.set_up(objects).map_err(|error| self.miscarry(objects, &error))
    }

    /// One that was not seen to serve is charged like one that died at once, however long it took. It may have served: it begins to
    /// before it is looked at, with the operation that its predecessor died of.
    fn miscarry(&mut self, objects: &Objects, error: &anyhow::Error) -> (String, Next) {
        self.process.end();
        if self.process.ended().is_some() {
            self.devices.iter_mut().for_each(|device| device.look_at_remains(objects, true));
        }
        let why = self.verdict.take().unwrap_or_else(|| format!("could not be started anew: {error:#}"));
        self.lives.mourn(why, Duration::ZERO, EndedBy::Others, self.given_up)
    }

    /// Ends its incarnation, for no fault of its own, so that [`Host::refit`] can follow.
    pub fn halt(&mut self, objects: &Objects) -> Result<()> {
        ensure!(self.verdict.is_none(), "{}: is about to be started anew; try again", self.group.name);
        ensure!(!self.lives.is_retired(), "{}: is {}", self.group.name, self.lives.state());
        self.process.end();
        ensure!(self.process.ended().is_some(), "{}: its process does not end; try again", self.group.name);
        self.devices.iter_mut().for_each(|device| device.look_at_remains(objects, false));
        Ok(())
    }

    /// Swaps what one of its devices is given with `fitting`: the same again takes it back. There is no incarnation meanwhile.
    pub fn refit(&mut self, objects: &mut Objects, index: usize, fitting: &mut Fitting) -> Result<()> {
        let device = self.devices.iter_mut().find(|device| device.index == index).context("a device of this host")?;
        std::mem::swap(&mut device.assignment.options, &mut fitting.options);
        std::mem::swap(&mut device.manifest, &mut fitting.manifest);
        std::mem::swap(&mut objects.devices[index].images, &mut fitting.images);
        let manifests: Vec<Manifest> = self.devices.iter().map(|device| device.manifest.clone()).collect();
        let carriers: Vec<Carrier> = self.devices.iter().map(|device| device.assignment.carrier).collect();
        self.recipe = objects.host_recipe(&self.demands, self.group.level, &manifests, &carriers, self.group.helper)?;
        objects.add_helper(self.number, &self.recipe)
    }

    /// Makes the next incarnation after [`Host::refit`], and tells it what was exchanged. If it cannot be made, the error says why,
    /// and there is none.
    pub fn restart_refitted(&mut self, objects: &Objects, index: usize, exchanged: Exchanged) -> Result<()> {
        for device in &mut self.devices {
            device.assignment.exchanged = Some(exchanged).filter(|_| device.index == index);
        }
        let made = self.begin_anew(self.patience()).and_then(|()| self.set_up(objects));
        self.devices.iter_mut().for_each(|device| device.assignment.exchanged = None);
        made.map_err(|error| {
            let said: Vec<String> = self.process.said().into_iter().map(|log| log.text).collect();
            self.process.end();
            if said.is_empty() { error } else { anyhow!("{}: {}", self.group.name, said.join("; ")) }
        })
    }

    fn begin_anew(&mut self, patience: Duration) -> Result<()> {
        for device in &mut self.devices {
            device.assignment.poisoned = device.poison.is_some();
        }
        let (program, role, arguments) = (&self.program, &self.role, &self.arguments);
        self.process = begin(program, role, arguments, &self.recipe, self.cpu, &self.group, &self.devices)?;
        self.process.patience = patience;
        Ok(())
    }
}

impl Hosted {
    /// Looks what the incarnation that is gone was at; with `blame`, that may be what it died of.
    fn look_at_remains(&mut self, objects: &Objects, blame: bool) {
        let Ok(remains) = look_at_remains(&objects.devices[self.index].state) else { return };
        let next = Some(remains.committed.wrapping_add(1));
        // Answered, or left behind in another way.
        self.poison = self.poison.filter(|_| self.poison == next);
        self.died_at = self.died_at.filter(|_| self.died_at == next);
        if blame && remains.attempted.is_some() {
            if self.died_at == remains.attempted {
                self.poison = remains.attempted;
            }
            self.died_at = remains.attempted;
        }
    }
}

/// Spawns an incarnation, which has still to be set up.
fn begin(
    program: &Program,
    role: &str,
    arguments: &[String],
    recipe: &Recipe,
    cpu: Option<usize>,
    group: &Group,
    devices: &[Hosted],
) -> Result<Process> {
    let mut process = Process::spawn_with(program, role, arguments, &group.name, recipe.clone())?;
    if let Some(cpu) = cpu {
        process.pids().try_for_each(|pid| pin(pid, cpu))?;
    }
    let assignments: Vec<Assignment> = devices.iter().map(|device| device.assignment.clone()).collect();
    let planned: Vec<&Manifest> = devices.iter().map(|device| &device.manifest).collect();
    process.plan_introduction(group.level, &assignments, &planned);
    Ok(process)
}
