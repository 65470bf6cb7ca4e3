//! One device and the way to it, without a machine around them: for `cofferdam bench carriers`.

use super::grants::Objects;
use super::pin;
use super::plan::{BootPlan, Catalogue, DEADLINE, Demands, Isolate, Pins, Plan, PlannedDevice};
use super::process::{Process, SETUP};
use super::window::GuestWindow;
use crate::attach::{Assembly, Reach};
use crate::chipset::pam;
use crate::link::Linker;
use crate::memory::GuestRam;
use crate::pci::Pci;
use crate::serve::calibrate;
use crate::vectors::Polled;
use anyhow::{Context, Result, anyhow};
use imc::lane::{Lane, SpinBudget};
use imc::{Channel, Wake};
use sandbox::{Program, Stage};
use schema::host::{Assignment, Empty, Grants};
use schema::lane::Carrier;
use schema::vmm::AttachDevice;
use std::sync::Arc;

/// A device that serves, and the VMM's end of its lane in this process.
pub struct Reached {
    /// The way to it.
    pub lane: Lane,
    /// Its host, which ends with this; none where it is linked in.
    _host: Option<Process>,
    objects: Objects,
}

impl Reached {
    /// What its host sleeps on: a doorbell rings it.
    #[must_use]
    pub fn wake(&self) -> &Wake {
        &self.objects.hosts[0].0
    }

    /// What the device interrupts its guest by.
    #[must_use]
    pub fn vector(&self, number: usize) -> Option<&Wake> {
        self.objects.devices[0].vectors.get(number)
    }

    /// The first 16 MiB of the memory of the guest that there is not.
    pub fn low_memory(&self) -> Result<GuestWindow> {
        let (_, _, region) = self.objects.memory.regions.first().context("every machine has low memory")?;
        Ok(GuestWindow::new(region.map()?))
    }
}

/// Starts a sealed host for `device`, as [`super::Vm::start`] does, or links it in, and attaches its lane here, as the VMM
/// does. With `poll` each side looks for a while before it sleeps. The calling thread is the vcpu, and runs where `pins`
/// says.
pub fn reach(
    device: &PlannedDevice,
    catalogue: &dyn Catalogue,
    linker: &dyn Linker,
    carrier: Carrier,
    poll: bool,
    pins: Pins,
) -> Result<Reached> {
    let linked = carrier == Carrier::InProcess;
    let plan = Plan {
        name: "reach".to_owned(),
        cpus: 1,
        memory_bytes: 64 << 20,
        boot: BootPlan::None,
        devices: vec![PlannedDevice { carrier, ..device.clone() }],
        display: None,
        isolate: if linked { Isolate::None } else { Isolate::Device },
        level: device.level,
        demands: Demands::default(),
        deadline: DEADLINE,
        restarts: 0,
        kvm: false,
        pins: Some(pins),
    };
    let manifests = plan.manifests(catalogue)?;
    let mut objects = Objects::create(&plan, &manifests, 1)?;
    let host = if linked {
        None
    } else {
        let recipe = objects.host_recipe(&plan.demands, device.level, &manifests, &[carrier], device.helper)?;
        objects.add_helper(0, &recipe)?;
        let mut host = Process::spawn(&Program::current()?, "cofferdam: host", &device.device, recipe)?;
        // Before it has a thread for a helper: that one inherits it.
        host.pids().try_for_each(|pid| pin(pid, pins.hosts))?;
        host.greet()?;
        host.require_clean(Stage::Confined)?;
        let (name, options) = (device.device.clone(), device.options.clone());
        let assignment = Assignment { device: name, options, carrier, poisoned: false, exchanged: None };
        host.assign(device.level, &[assignment], &[&manifests[0]])?;
        host.grant(&objects, 0, &[0])?;
        host.attach_and_seal()?;
        Some(host)
    };
    pin(0, pins.vmm)?;
    let spin = if poll { calibrate() } else { SpinBudget::NONE };
    let reach = Reach { deadline: DEADLINE, deadlines: 1, linked, spin };
    let delivery = Arc::new(Polled::new(Wake::create()?));
    let mut assembly = Assembly::new(reach, Pci::new(pam::ALL_MEMORY), delivery, Arc::new(Wake::create()?));
    grant_here(&objects, &mut assembly, linked)?;
    let attach = AttachDevice {
        id: 0,
        host: 0,
        manifest: manifests[0].clone(),
        options: device.options.clone(),
        carrier,
        slot: 0,
    };
    assembly.attach(attach, linker, None, &GuestRam::new()).map_err(|error| anyhow!("{error}"))?;
    let attached = assembly.devices.pop().context("nothing was attached")?;
    Ok(Reached { lane: attached.lane, _host: host, objects })
}

/// Grants the VMM's side to this process itself, over a channel, as a VMM is granted it.
fn grant_here(objects: &Objects, assembly: &mut Assembly, linked: bool) -> Result<()> {
    let (mut ours, mut theirs) = Channel::pair()?;
    std::thread::scope(|scope| {
        let granting = scope.spawn(move || objects.grant_vmm(&mut ours, 0, 0, linked, SETUP));
        while let Ok(Some(packet)) = theirs.receive(Some(SETUP)) {
            let call = packet.call.context("an event came in place of grants")?;
            let (grants, mut descriptors) = packet.decode::<Grants>()?;
            assembly.grant(grants, &mut descriptors).map_err(|error| anyhow!("{error}"))?;
            theirs.reply(call, &Empty, &[]).map_err(|error| anyhow!("{error}"))?;
        }
        granting.join().map_err(|_| anyhow!("the granting thread panicked"))?
    })
}
