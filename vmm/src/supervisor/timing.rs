//! How long a device host takes from nothing to its first answer, step by step; for `cofferdam bench spawn` and `bench sandbox`.

use super::grants::Objects;
use super::host::Host;
use super::lane::LaneObjects;
use super::plan::{BootPlan, Catalogue, DEADLINE, Demands, Isolate, Plan, PlannedDevice};
use super::process::{Process, SETUP};
use anyhow::{Context, Result, anyhow, ensure};
use imc::lane::{Carrier, MemoryCarrier, Request, SpinBudget, StateView};
use sandbox::{Program, Stage};
use schema::host::Assignment;
use schema::lane::Operation;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// One timed start.
pub struct Spawned {
    /// Each step and how long it took; their sum is the whole.
    pub steps: Vec<(&'static str, Duration)>,
    /// Proportional set size of the host once it serves, and of its helper.
    pub pss_bytes: u64,
}

/// Starts a host for `device` as [`super::Vm::start`] does, and makes one access.
pub fn time_spawn(device: &PlannedDevice, catalogue: &dyn Catalogue) -> Result<Spawned> {
    let plan = plan(device);
    let manifests = plan.manifests(catalogue)?;
    let mut objects = Objects::create(&plan, &manifests, 1)?;
    let program = Program::current()?;
    let recipe = objects.host_recipe(&plan.demands, device.level, &manifests, &[device.carrier], device.helper)?;
    objects.add_helper(0, &recipe)?;

    let mut clock = Clock { last: Instant::now(), steps: Vec::new() };
    let mut process = Process::spawn(&program, "cofferdam: host", &device.device, recipe)?;
    clock.mark("clone, namespaces, exec");
    process.greet()?;
    clock.mark("start of the program, confine, hello");
    process.require_clean(Stage::Confined)?;
    clock.mark("audit after confine");
    let (name, options) = (device.device.clone(), device.options.clone());
    let assignment = Assignment { device: name, options, carrier: device.carrier, poisoned: false, exchanged: None };
    process.assign(device.level, &[assignment], &[&manifests[0]])?;
    process.grant(&objects, 0, &[0])?;
    clock.mark("assign, grants");
    process.attach()?;
    clock.mark("attach");
    process.seal()?;
    clock.mark("seal");
    process.require_clean(Stage::Sealed)?;
    clock.mark("audit after seal");
    let mut carrier = objects.carrier(0)?;
    access(&mut carrier)?;
    clock.mark("first access");
    let helper = process.audit_helper(Stage::Sealed)?.map_or(0, |audit| audit.pss_bytes);
    let pss_bytes = process.audit(Stage::Sealed)?.pss_bytes + helper;
    Ok(Spawned { steps: clock.steps, pss_bytes })
}

/// Starts a host for `device`, kills it once it has answered an access, and times how long it takes until the next one that
/// is started as [`super::Vm`] does has answered another.
pub fn time_restart(device: &PlannedDevice, catalogue: &dyn Catalogue) -> Result<Duration> {
    let plan = plan(device);
    let manifests = plan.manifests(catalogue)?;
    let mut objects = Objects::create(&plan, &manifests, 1)?;
    let group = plan.groups(&manifests)?.pop().context("a device has a host")?;
    let program = Rc::new(Program::current()?);
    let mut host = Host::spawn(&plan, &manifests, &mut objects, group, 0, program)?;
    host.set_up(&objects)?;
    let mut carrier = objects.carrier(0)?;
    access(&mut carrier)?;

    let from = Instant::now();
    host.process.kill();
    while host.bury(&objects).is_none() {
        ensure!(host.process.wait_for_end(SETUP).is_some(), "a killed host does not end");
    }
    host.restart_and_wait(&objects).map_err(|(why, _)| anyhow!("{why}"))?;
    access(&mut carrier)?;
    Ok(from.elapsed())
}

/// A machine without a guest that has this device, whose host is started anew once.
fn plan(device: &PlannedDevice) -> Plan {
    Plan {
        name: "timing".to_owned(),
        cpus: 1,
        memory_bytes: 64 << 20,
        boot: BootPlan::None,
        devices: vec![device.clone()],
        display: None,
        isolate: Isolate::Device,
        level: device.level,
        demands: Demands::default(),
        deadline: DEADLINE,
        restarts: 1,
        kvm: false,
        pins: None,
    }
}

/// An access that only the device can answer.
fn access(carrier: &mut impl Carrier) -> Result<()> {
    let request = Request { operation: Operation::Read, range: 0, width: 1, offset: 0, value: 0, now: 0 };
    carrier.call(&request, DEADLINE).map(drop).map_err(|error| anyhow!("an access: {error}"))
}

struct Clock {
    last: Instant,
    steps: Vec<(&'static str, Duration)>,
}

impl Clock {
    fn mark(&mut self, step: &'static str) {
        let now = Instant::now();
        self.steps.push((step, now - self.last));
        self.last = now;
    }
}

/// Starts this program in the role that does nothing, without any sandbox, and waits for its end: what the kernel needs for
/// a static program of this size.
pub fn time_empty_program() -> Result<Duration> {
    use std::os::unix::process::CommandExt;
    let from = Instant::now();
    let status = std::process::Command::new("/proc/self/exe").arg0("cofferdam: empty").env_clear().status();
    anyhow::ensure!(status.context("starting an empty program")?.success(), "the empty program failed");
    Ok(from.elapsed())
}

impl Objects {
    /// The VMM's end of device `id`'s lane.
    fn carrier(&self, id: usize) -> Result<impl Carrier + use<>> {
        let device = &self.devices[id];
        let LaneObjects::Memory { request, reply } = &device.lane else {
            anyhow::bail!("a start is timed over the carrier `memory`");
        };
        let view = StateView::new(device.state.map()?);
        Ok(MemoryCarrier::new(
            request.region.map()?,
            view,
            reply.try_clone()?,
            self.hosts[0].0.try_clone()?,
            SpinBudget::NONE,
        ))
    }
}
