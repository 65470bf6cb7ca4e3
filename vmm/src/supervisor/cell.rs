//! A device host without a machine, for looking at what it can do from inside: `cofferdam attack`.

use super::grants::Objects;
use super::host::HOST_ROLE;
use super::lane::LaneObjects;
use super::plan::{BootPlan, Catalogue, DEADLINE, Demands, Isolate, Plan, PlannedDevice};
use super::process::Process;
use super::window::GuestWindow;
use anyhow::{Context, Result, bail};
use imc::{Channel, Mapping, ReadWrite, Region, Wake};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use sandbox::{Audit, End, Program, Stage};
use schema::host::Assignment;
use schema::manifest::Manifest;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// One device host: started, confined, granted, sealed and audited as those of a VM are.
pub struct Cell {
    process: Process,
    objects: Objects,
}

impl Cell {
    /// Starts a host for `device`, whoever is in its place. `gift` is a descriptor that no recipe knows, sent ahead of all
    /// else; a host is then not what its recipe says, and so is not audited.
    pub fn start(device: &PlannedDevice, catalogue: &dyn Catalogue, gift: Option<BorrowedFd<'_>>) -> Result<Cell> {
        let plan = Plan {
            name: "cell".to_owned(),
            cpus: 1,
            memory_bytes: super::plan::MEMORY_MIN,
            boot: BootPlan::None,
            devices: vec![device.clone()],
            display: None,
            isolate: Isolate::Device,
            level: device.level,
            demands: Demands::default(),
            deadline: DEADLINE,
            restarts: 0,
            kvm: false,
            pins: None,
        };
        let manifests = plan.manifests(catalogue)?;
        let mut objects = Objects::create(&plan, &manifests, 1)?;
        let process = start_host(device, &manifests, &mut objects, gift)?;
        Ok(Cell { process, objects })
    }

    /// Ends it, and starts another host in its place, with the same grants: whatever the first one left in its state.
    pub fn succeed(&mut self, device: &PlannedDevice, catalogue: &dyn Catalogue) -> Result<()> {
        self.process.end();
        let manifest = catalogue.manifest(&device.device, &device.options).map_err(anyhow::Error::msg)?;
        self.process = start_host(device, &[manifest], &mut self.objects, None)?;
        Ok(())
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Our end of its channel.
    pub fn channel(&mut self) -> &mut Channel {
        &mut self.process.channel
    }

    /// What the kernel shows of it.
    pub fn audit(&self) -> Result<Audit> {
        self.process.audit(Stage::Sealed)
    }

    /// Waits for its end, at most `wait`.
    pub fn wait_for_end(&mut self, wait: Duration) -> Option<End> {
        self.process.wait_for_end(wait)
    }

    /// Kills it and takes the news.
    pub fn end(&mut self) {
        self.process.end();
    }

    /// Its device's state region, which it writes.
    #[must_use]
    pub fn state(&self) -> &Region<ReadWrite> {
        &self.objects.devices[0].state
    }

    /// The state region, mapped.
    pub fn map_state(&self) -> Result<Mapping> {
        Ok(self.state().map()?)
    }

    /// What it sleeps on.
    #[must_use]
    pub fn wake(&self) -> &Wake {
        &self.objects.hosts[0].0
    }

    /// What it rings when its levels change.
    #[must_use]
    pub fn irq(&self) -> &Wake {
        &self.objects.hosts[0].1
    }

    /// The request region of its lane over shared memory, as the VMM would write it.
    pub fn request(&self) -> Result<Mapping> {
        match &self.objects.devices[0].lane {
            LaneObjects::Memory { request, .. } | LaneObjects::Virtio { request, .. } => Ok(request.region.map()?),
            _ => bail!("its lane shares no memory"),
        }
    }

    /// What it rings when it has answered.
    pub fn reply(&self) -> Result<&Wake> {
        match &self.objects.devices[0].lane {
            LaneObjects::Memory { reply, .. } | LaneObjects::Virtio { reply, .. } => Ok(reply),
            _ => bail!("its lane rings nothing"),
        }
    }

    /// What it answers in over virtqueues.
    pub fn answers(&self) -> Result<OwnedFd> {
        match &self.objects.devices[0].lane {
            LaneObjects::Virtio { answers, .. } => Ok(answers.region.as_fd().try_clone_to_owned()?),
            _ => bail!("its lane has no virtqueues"),
        }
    }

    /// The rings of its device's first stream.
    pub fn stream(&self) -> Result<Mapping> {
        Ok(self.objects.devices[0].streams.first().context("its device has no stream")?.region.map()?)
    }

    /// The number of the helper beside it, if that is a process.
    #[must_use]
    pub fn helper(&self) -> Option<i32> {
        self.process.helper().map(|(pid, _)| pid)
    }

    /// The region between it and its helper, if it has one.
    pub fn helper_region(&self) -> Result<Mapping> {
        Ok(self.objects.helper_region(0).context("its recipe has no helper")?.map()?)
    }

    /// The first 16 MiB of the memory of the guest that there is not.
    pub fn low_memory(&self) -> Result<GuestWindow> {
        let (_, _, region) = self.objects.memory.regions.first().context("every machine has low memory")?;
        Ok(GuestWindow::new(region.map()?))
    }
}

fn start_host(
    device: &PlannedDevice,
    manifests: &[Manifest],
    objects: &mut Objects,
    gift: Option<BorrowedFd<'_>>,
) -> Result<Process> {
    let hostile = device.hostile.clone().unwrap_or_default();
    let recipe = objects
        .host_recipe(&Demands::default(), device.level, manifests, &[device.carrier], device.helper)?
        .without_parts(&hostile.without);
    objects.add_helper(0, &recipe)?;
    let role = if hostile.role.is_empty() { HOST_ROLE } else { &hostile.role };
    let mut process = Process::spawn(&Program::current()?, role, &device.label, recipe)?;
    process.greet()?;
    let whole = hostile.without.is_empty() && gift.is_none();
    if whole {
        process.require_clean(Stage::Confined)?;
    }
    if let Some(gift) = gift {
        let control = [gift.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&control)];
        let channel = process.channel.as_fd().as_raw_fd();
        sendmsg::<()>(channel, &[IoSlice::new(b"gift")], &control, MsgFlags::empty(), None).context("a gift")?;
    }
    let (name, options) = (device.device.clone(), device.options.clone());
    let assignment = Assignment { device: name, options, carrier: device.carrier, poisoned: false, exchanged: None };
    process.assign(device.level, &[assignment], &[&manifests[0]])?;
    process.grant(objects, 0, &[0])?;
    process.attach()?;
    process.seal()?;
    if whole {
        process.require_clean(Stage::Sealed)?;
    }
    Ok(process)
}
