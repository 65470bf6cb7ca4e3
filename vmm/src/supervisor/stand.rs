//! One device on a stand: its host and the way to it, without a machine around them. For who tries devices.

use super::grants::Objects;
use super::host::Host;
use super::plan::{BootPlan, Catalogue, DEADLINE, Demands, Isolate, Pins, Plan, PlannedDevice};
use super::process::SETUP;
use crate::lane::LaneGrants;
use crate::serve::calibrate;
use anyhow::{Context, Result, anyhow, ensure};
use imc::lane::{Carrier, LaneError, Request, SpinBudget, StateView};
use sandbox::{Audit, Program, Stage};
use schema::manifest::Manifest;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long an answer is waited for before it is looked whether its device has died meanwhile.
const LOOK: Duration = Duration::from_millis(20);

/// A device with its host, which may be killed and started anew.
pub struct Stand {
    host: Host,
    objects: Objects,
    manifest: Manifest,
    carrier: Box<dyn Carrier>,
    view: StateView,
    patience: Duration,
}

/// What a guest sees of a device without asking it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Bit `n`: the level of line `n`.
    pub levels: u32,
    /// When the device's alarm is due.
    pub deadline: Option<u64>,
    /// Accesses that hit no register.
    pub unknown: u64,
}

impl Stand {
    /// Starts a host for `device`, as [`super::Vm::start`] does: confined, granted, sealed and audited.
    pub fn start(device: &PlannedDevice, catalogue: &dyn Catalogue) -> Result<Stand> {
        Stand::start_on(device, catalogue, false, None)
    }

    /// The same, where it is said who runs where. With `poll` each side looks for a while before it sleeps.
    pub fn start_on(
        device: &PlannedDevice,
        catalogue: &dyn Catalogue,
        poll: bool,
        pins: Option<Pins>,
    ) -> Result<Stand> {
        let plan = Plan {
            name: "stand".to_owned(),
            cpus: 1,
            memory_bytes: super::plan::MEMORY_MIN,
            boot: BootPlan::None,
            devices: vec![device.clone()],
            display: None,
            isolate: Isolate::Device,
            level: device.level,
            demands: Demands::default(),
            deadline: DEADLINE,
            // Bounds nothing here: each restart is asked for.
            restarts: u32::MAX,
            kvm: false,
            pins,
        };
        let manifests = plan.manifests(catalogue)?;
        let mut objects = Objects::create(&plan, &manifests, 1)?;
        let group = plan.groups(&manifests)?.pop().context("a device has a host")?;
        let program = match &device.plugin {
            Some(plugin) => Program::open(&plugin.program.executable)?,
            None => Program::current()?,
        };
        let mut host = Host::spawn(&plan, &manifests, &mut objects, group, 0, Rc::new(program))?;
        host.set_up(&objects)?;
        let device_objects = &objects.devices[0];
        let state =
            if device_objects.lane.shares_state() { Some(StateView::new(device_objects.state.map()?)) } else { None };
        let spin = if poll { calibrate() } else { SpinBudget::NONE };
        let lane: LaneGrants = device_objects.lane.ours()?;
        let wake = objects.hosts[0].0.try_clone()?;
        let way = lane.way(device.carrier, state, wake, spin).map_err(|what| anyhow!("the device {what}"))?;
        let manifest = manifests.into_iter().next().context("a device has a manifest")?;
        Ok(Stand { host, objects, manifest, carrier: way.carrier, view: way.view, patience: DEADLINE })
    }

    /// What the device declares.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// How long an answer is waited for.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// How long an answer is waited for.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Asks the device; gives its reply. One that has died is not waited for.
    pub fn ask(&mut self, request: &Request) -> Result<u64, LaneError> {
        let until = Instant::now() + self.patience;
        let mut reply = self.carrier.call(request, self.patience.min(LOOK));
        while matches!(reply, Err(LaneError::Late)) && Instant::now() < until {
            let died = self.host.process.reap().is_some();
            // It may have answered as the last thing that it did.
            reply = self.carrier.resume(if died { Duration::ZERO } else { LOOK });
            if died {
                break;
            }
        }
        reply
    }

    /// Asks the device without waiting for it.
    pub fn post(&mut self, request: &Request) -> Result<(), imc::lane::PostError> {
        self.carrier.post(request)
    }

    /// What the guest sees.
    pub fn seen(&mut self) -> Result<Seen> {
        while !self.carrier.refresh().map_err(|error| anyhow!("{error}"))? {}
        let (levels, deadline) = (self.view.levels().high, self.view.deadline());
        Ok(Seen { levels, deadline, unknown: self.view.unknown() })
    }

    /// The value that a switch of the device was turned with since the last look, if it was; by the wish's number.
    #[must_use]
    pub fn turned(&self, wish: u32) -> Option<u64> {
        self.objects.devices[0].switch(wish)?.drain()
    }

    /// How often each MSI-X vector was signalled since the last look.
    #[must_use]
    pub fn signalled(&self) -> Vec<u64> {
        self.objects.devices[0].vectors.iter().map(|vector| vector.drain().unwrap_or(0)).collect()
    }

    /// Reads guest memory, as a guest would see it. What the device was not granted is there, too.
    pub fn load(&self, address: u64, into: &mut [u8]) -> Result<()> {
        let (memory, offset) = self.place(address, into.len())?;
        Ok(memory.read_exact_at(into, offset)?)
    }

    /// Writes guest memory.
    pub fn store(&self, address: u64, from: &[u8]) -> Result<()> {
        let (memory, offset) = self.place(address, from.len())?;
        Ok(memory.write_all_at(from, offset)?)
    }

    /// The region that has these bytes, and where in it they begin.
    fn place(&self, address: u64, bytes: usize) -> Result<(File, u64)> {
        let inside = |base: u64, length: u64| {
            let into = address.checked_sub(base)?;
            (into.checked_add(bytes as u64)? <= length).then_some(into)
        };
        for (base, _, region) in &self.objects.memory.regions {
            if let Some(into) = inside(*base, region.bytes()) {
                return Ok((region.as_fd().try_clone_to_owned()?.into(), into));
            }
        }
        Err(anyhow!("{bytes} bytes at {address:#x} do not lie in one region of guest memory"))
    }

    /// The host's number.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.host.process.pid()
    }

    /// What the kernel shows of the host.
    pub fn audit(&self) -> Result<Audit> {
        self.host.process.audit(Stage::Sealed)
    }

    /// What the host has logged since the last look, as it may be printed.
    pub fn log(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(Some(packet)) = self.host.process.channel.receive(Some(Duration::ZERO)) {
            if let Ok((log, _)) = packet.decode::<schema::host::Log>() {
                lines.push(super::vm::printable(&log.text));
            }
        }
        lines
    }

    /// Waits for the host's end, at most `wait`; says how it ended.
    pub fn wait_for_end(&mut self, wait: Duration) -> Option<String> {
        self.host.process.wait_for_end(wait).map(|end| end.to_string())
    }

    /// Kills the host, and starts another in its place, with the same grants: it goes on with the state that it finds.
    pub fn restart(&mut self) -> Result<()> {
        self.host.process.kill();
        ensure!(self.host.process.wait_for_end(SETUP).is_some(), "a killed host does not end");
        self.host.bury(&self.objects).context("a dead host is not gone")?;
        // One that dies of what its predecessor died of may do so before it was looked at. That is poison then, and ends no third.
        let mut made = self.host.restart_and_wait(&self.objects);
        if made.is_err() {
            made = self.host.restart_and_wait(&self.objects);
        }
        made.map_err(|(why, _)| anyhow!("{why}"))
    }
}
