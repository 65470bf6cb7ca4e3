//! One device and the way to it, without a machine around them: for `cofferdam bench carriers`.

use super::grants::Objects;
use super::plan::{BootPlan, Catalogue, DEADLINE, Isolate, Pins, Plan, PlannedDevice};
use super::process::{Process, SETUP};
use super::refused;
use crate::attach::{Assembly, Reach};
use crate::link::Linker;
use crate::memory::GuestRam;
use crate::serve::calibrate;
use crate::vectors::Polled;
use anyhow::{Context, Result, anyhow, bail};
use imc::lane::{
    self, ANSWER_REGION_BYTES, Lane, PipeCarrier, REQUEST_BYTES, SocketCarrier, SpinBudget, VirtioCarrier,
};
use imc::{Capability, Channel, Packets, PipeReader, PipeWriter, ReadWrite, Region, Wake};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use sandbox::{Program, Recipe, Stage};
use schema::host::{Assignment, Empty, Grant, Grants, HOST_WIDE, Level, Purpose, Setting};
use schema::lane::Carrier;
use schema::manifest::Manifest;
use schema::vmm::AttachDevice;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// A device that serves, and the VMM's end of its lane in this process.
pub struct Reached {
    /// The way to it.
    pub lane: Lane,
    /// Its host, which ends with this; none where it is linked in.
    _host: Option<Process>,
    _objects: Objects,
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
        isolate: if linked { Isolate::None } else { Isolate::Device },
        level: Level::Seccomp,
        deadline: DEADLINE,
        kvm: false,
        pins: Some(pins),
    };
    let manifests = plan.manifests(catalogue)?;
    let objects = Objects::create(&plan, &manifests, 1)?;
    let ends = Ends::create(carrier)?;
    let host = if linked {
        None
    } else {
        let recipe = Recipe::host_over(Level::Seccomp, &manifests, &[carrier]);
        let mut host = Process::spawn(&Program::current()?, "cofferdam: host", &device.device, recipe)?;
        host.greet()?;
        host.require_clean(Stage::Confined)?;
        let assignment = Assignment { device: device.device.clone(), options: device.options.clone(), carrier };
        host.assign(Level::Seccomp, vec![assignment], &[&manifests[0]])?;
        match &ends {
            Ends::Shared => objects.grant_host(&mut host.channel, 0, &[0], SETUP)?,
            ends => ends.grant_host(&objects, &mut host.channel)?,
        }
        host.attach_and_seal()?;
        pin(host.pid(), pins.hosts)?;
        Some(host)
    };
    pin(0, pins.vmm)?;
    let spin = if poll { calibrate() } else { SpinBudget::NONE };
    let lane = match ends {
        Ends::Shared => attach(&objects, &manifests[0], &device.options, carrier, linker, spin)?,
        ends => ends.lane(&objects, &manifests[0], spin)?,
    };
    Ok(Reached { lane, _host: host, _objects: objects })
}

/// What a lane runs over that is not a region of requests and one of state.
enum Ends {
    /// It is just that; or nothing, where a device is linked in.
    Shared,
    /// Both ends of a socket, ours first.
    Socket(Packets, Packets),
    /// A pipe there and a pipe back.
    Pipe((PipeReader, PipeWriter), (PipeReader, PipeWriter)),
    /// What we write, what the host writes, and what wakes us.
    Virtio(Region<ReadWrite>, Region<ReadWrite>, Wake),
}

impl Ends {
    fn create(carrier: Carrier) -> Result<Ends> {
        Ok(match carrier {
            Carrier::Memory | Carrier::InProcess => Ends::Shared,
            Carrier::Socket => {
                let (ours, theirs) = Packets::pair()?;
                Ends::Socket(ours, theirs)
            }
            Carrier::Pipe => Ends::Pipe(imc::pipe()?, imc::pipe()?),
            Carrier::Virtio => {
                let request = Region::create("cofferdam:request", REQUEST_BYTES)?;
                lane::prepare_virtqueues(&request)?;
                Ends::Virtio(request, Region::create("cofferdam:answers", ANSWER_REGION_BYTES)?, Wake::create()?)
            }
        })
    }

    /// Grants the host its end, and what else the device needs: one message holds all of it.
    fn grant_host(&self, objects: &Objects, channel: &mut Channel) -> Result<()> {
        let (wake, irq) = &objects.hosts[0];
        let device = &objects.devices[0];
        let mut granting = Granting::default();
        granting.add(HOST_WIDE, Purpose::Wake, 0, wake)?;
        granting.add(HOST_WIDE, Purpose::Irq, 0, irq)?;
        granting.add(0, Purpose::State, 0, &device.state)?;
        for stream in &device.streams {
            granting.add(0, Purpose::Stream, stream.wish, &stream.region)?;
            granting.add(0, Purpose::Bell, stream.wish, &stream.bell)?;
        }
        match self {
            Ends::Shared => {}
            Ends::Socket(_, theirs) => granting.add(0, Purpose::Packets, 0, theirs)?,
            Ends::Pipe((asked, _), (_, answers)) => {
                granting.add(0, Purpose::Asked, 0, asked)?;
                granting.add(0, Purpose::Answers, 0, answers)?;
            }
            Ends::Virtio(request, answers, reply) => {
                granting.add(0, Purpose::Request, 0, &request.read_only()?)?;
                granting.add(0, Purpose::AnswerRegion, 0, answers)?;
                granting.add(0, Purpose::Reply, 0, reply)?;
            }
        }
        let descriptors: Vec<_> = granting.descriptors.iter().map(AsFd::as_fd).collect();
        let (Empty, _) = channel.call(&Grants { grants: granting.grants }, &descriptors, SETUP).map_err(refused)?;
        Ok(())
    }

    /// The VMM's end.
    fn lane(self, objects: &Objects, manifest: &Manifest, spin: SpinBudget) -> Result<Lane> {
        let (own, wake) = (Wake::create()?, objects.hosts[0].0.try_clone()?);
        let (carrier, view): (Box<dyn lane::Carrier>, _) = match self {
            Ends::Shared => bail!("its lane is attached as in a VMM"),
            Ends::Socket(ours, _) => {
                let carrier = SocketCarrier::new(ours, own, wake, spin)?;
                let view = carrier.view();
                (Box::new(carrier), view)
            }
            Ends::Pipe((_, asked), (answers, _)) => {
                let carrier = PipeCarrier::new(asked, answers, own, wake, spin)?;
                let view = carrier.view();
                (Box::new(carrier), view)
            }
            Ends::Virtio(request, answers, reply) => {
                let answers = answers.read_only()?.map()?;
                let carrier = VirtioCarrier::new(request.map()?, answers, reply, wake, spin)?;
                let view = carrier.view();
                (Box::new(carrier), view)
            }
        };
        Ok(Lane::new(carrier, view, manifest, DEADLINE))
    }
}

/// Grants of one message.
#[derive(Default)]
struct Granting {
    grants: Vec<Grant>,
    descriptors: Vec<OwnedFd>,
}

impl Granting {
    fn add(&mut self, device: u8, purpose: Purpose, number: u32, what: &impl Capability) -> Result<()> {
        let handle = what.handle(self.grants.len() as u8);
        self.grants.push(Grant { device, purpose, number, base: 0, handle });
        self.descriptors.push(what.as_fd().try_clone_to_owned()?);
        Ok(())
    }
}

/// Attaches the lane as a VMM does.
fn attach(
    objects: &Objects,
    manifest: &Manifest,
    options: &[Setting],
    carrier: Carrier,
    linker: &dyn Linker,
    spin: SpinBudget,
) -> Result<Lane> {
    let linked = carrier == Carrier::InProcess;
    let reach = Reach { deadline: DEADLINE, linked, spin };
    let mut assembly = Assembly::new(reach, Arc::new(Polled::new(Wake::create()?)));
    grant_here(objects, &mut assembly, linked)?;
    let attach = AttachDevice { id: 0, host: 0, manifest: manifest.clone(), options: options.to_vec(), carrier };
    assembly.attach(attach, linker, None, &GuestRam::new()).map_err(|error| anyhow!("{error}"))?;
    Ok(assembly.devices.pop().context("nothing was attached")?.lane)
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

fn pin(pid: i32, cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(pid), &set).with_context(|| format!("running process {pid} on processor {cpu}"))
}
