//! The VMM process, from its first message to its last.
//!
//! Set-up is one conversation in a fixed order: machine, memory, then grants and attach for each device, then start. A call
//! out of order is refused and changes nothing; a step that fails is refused with its reason and ends the process. Only a
//! sealed process runs the guest.

use crate::acpi;
use crate::attach::{Assembly, Reach};
use crate::boot::{self, Beginning};
use crate::chipset::controllers::{Controllers, Inputs};
use crate::chipset::shadow::{ROM_MAX, ROM_UNIT, Shadow};
use crate::hub::{Hub, Parts, Worker};
use crate::irq::{Chip, Pins};
use crate::kvm::Vm;
use crate::link::Linker;
use crate::machine::{Machine, Platform};
use crate::memory::{self, GuestRam};
use crate::outbox::Outbox;
use crate::pci::Pci;
use crate::vcpu::{self, Vcpu};
use crate::vectors::{Delivery, Polled};
use imc::lane::SpinBudget;
use imc::{BlockFile, CallId, Capability, Channel, Descriptors, Fault, Frozen, Kvm, Mapping, ReadWrite, Region};
use sandbox::{DescriptorKind, Held, Mode, Recipe};
use schema::host::{Empty, Grants, Hello, Level, Log, PROTOCOL, Severity};
use schema::manifest::Manifest;
use schema::play::Clock;
use schema::vmm::{self as message, AttachDevice, Memory, Start};
use schema::{Body, Handle};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// The channel's number, as in every child.
const CHANNEL: i32 = 3;
/// How long a vcpu or a host polls before it sleeps: a little longer than it takes to wake an idle processor, so that two
/// sides which are both busy never sleep.
const POLL: Duration = Duration::from_micros(50);
/// Deadlines that one access waits for at most, where hosts are started anew: one for each of two incarnations that it
/// hangs, before it is answered as ones, and as many for what came before it in its lane. With the usual deadline that is
/// less than the 20 s after which Linux calls a processor stuck.
const DEADLINES: u32 = 4;
/// Looks that are timed to know how many fit into [`POLL`].
const TIMED_LOOKS: u32 = 20_000;

/// Runs the VMM. `linker` makes the devices of a machine that has them in this process.
pub fn run(linker: &dyn Linker) -> ! {
    let served = Channel::inherit(CHANNEL).map_err(sentence).and_then(|mut channel| match sandbox::confine() {
        Ok(confined) => serve(channel, linker, |recipe, held| confined.seal(recipe, held).map_err(sentence)),
        Err(error) => {
            let _ = channel.tell(&Log { severity: Severity::Error, text: sentence(&error) }, &[]);
            Err(sentence(error))
        }
    });
    std::process::exit(i32::from(served.is_err()))
}

/// Serves until the supervisor is gone. `seal` makes the process unable to do anything else, and its result, the proof of
/// that, is kept for as long as the machine runs. A failure was told to the supervisor, if it could be.
fn serve<S>(
    mut channel: Channel,
    linker: &dyn Linker,
    seal: impl FnOnce(&Recipe, &[Held]) -> Result<S, String>,
) -> Result<(), String> {
    let Ready { parts, idle: _idle, sealed: _sealed } = set_up(&mut channel, linker, seal)?;
    match Hub::new(channel, parts).run() {
        Fault::PeerGone => Ok(()),
        fault => Err(sentence(fault)),
    }
}

/// A machine that runs, in a process that can do nothing else any more.
struct Ready<S> {
    parts: Parts,
    /// Vcpus of a machine that boots nothing.
    idle: Vec<Vcpu>,
    sealed: S,
}

fn set_up<S>(
    channel: &mut Channel,
    linker: &dyn Linker,
    seal: impl FnOnce(&Recipe, &[Held]) -> Result<S, String>,
) -> Result<Ready<S>, String> {
    channel.tell(&Hello { protocol: PROTOCOL }, &[]).map_err(sentence)?;

    let (call, (machine, mut descriptors)) = next::<message::Machine>(channel)?;
    let mut notes = Vec::new();
    let found = Config::of(machine, &mut descriptors, &mut notes);
    let (config, vm) = answer(channel, call, found)?;

    let (call, (memory, mut descriptors)) = next::<Memory>(channel)?;
    let mapped = map_memory(memory, &mut descriptors, &config, vm.as_ref());
    let memory = answer(channel, call, mapped)?;

    let outbox = Outbox::create().map_err(sentence)?;
    notes.into_iter().for_each(|note| outbox.log(Severity::Info, note));
    let delivery: Arc<dyn Delivery> = match &vm {
        Some(vm) => Arc::new(vm.routes()),
        None => Arc::new(Polled::new(outbox.bell().try_clone().map_err(sentence)?)),
    };
    let pci = Pci::new(Shadow::at_reset(config.boot.rom().is_some()));
    let mut assembly = Assembly::new(config.reach, pci, delivery, Arc::clone(outbox.bell()));
    if vm.is_none() {
        assembly.add_controllers();
    }
    let call = loop {
        let packet = receive(channel)?;
        match packet.call {
            Some(call) if packet.is::<Grants>() => {
                let (grants, mut descriptors) = packet.decode::<Grants>().map_err(sentence)?;
                let kept = assembly.grant(grants, &mut descriptors);
                answer(channel, call, kept)?;
            }
            Some(call) if packet.is::<AttachDevice>() => {
                let (attach, _) = packet.decode::<AttachDevice>().map_err(sentence)?;
                let attached = assembly.attach(attach, linker, vm.as_ref(), memory.ram());
                answer(channel, call, attached)?;
            }
            Some(call) if packet.is::<Start>() => {
                packet.decode::<Start>().map_err(sentence)?;
                break call;
            }
            _ => out_of_order(channel, packet.call)?,
        }
    };
    let started = start(config, vm, memory, assembly, outbox, channel.as_fd().as_raw_fd(), seal);
    let ready = answer(channel, call, started)?;
    ready.parts.machine.start();
    Ok(ready)
}

/// Tables, processors, threads, and then the seal.
fn start<S>(
    config: Config,
    mut vm: Option<Vm>,
    memory: Shadow,
    mut assembly: Assembly,
    outbox: Outbox,
    channel: RawFd,
    seal: impl FnOnce(&Recipe, &[Held]) -> Result<S, String>,
) -> Result<Ready<S>, String> {
    let manifests: Vec<Manifest> = assembly.devices.iter().map(|device| device.manifest.clone()).collect();
    let beginning = load(config.boot, memory.ram(), config.cpus, &manifests.iter().collect::<Vec<_>>())?;

    let mut held = std::mem::take(&mut assembly.held);
    held.push(Held::new(channel, DescriptorKind::Channel, Mode::Both));
    held.push(Held::new(outbox.bell().as_fd().as_raw_fd(), DescriptorKind::Eventfd, Mode::Both));
    let mut vcpus = Vec::new();
    if let Some(vm) = &mut vm {
        let mut notes = Vec::new();
        for id in 0..config.cpus {
            vcpus.push(Vcpu::create(vm, id, config.cpus, &beginning, &mut notes).map_err(sentence)?);
        }
        notes.into_iter().for_each(|note| outbox.log(Severity::Info, note));
        // From it machines are made, and there is one now.
        vm.close_kvm();
        held.push(Held::new(vm.number(), DescriptorKind::KvmMachine, Mode::Both));
        held.extend(vcpus.iter().map(|vcpu| Held::new(vcpu.number(), DescriptorKind::KvmProcessor, Mode::Both)));
    }
    vcpu::expect_kicks().map_err(sentence)?;

    let with_kvm = vm.is_some();
    let carriers: Vec<_> = assembly.devices.iter().map(|device| device.lane.carrier()).collect();
    let controllers = Arc::<Controllers>::default();
    let chip: Box<dyn Chip> = match &vm {
        Some(vm) => Box::new(vm.chip()),
        None => Box::new(Inputs(Arc::clone(&controllers))),
    };
    let pins = Pins::new(chip);
    let pins = if config.driven.is_some() { pins.recorded() } else { pins };
    let clock = crate::clock::Clock::new(config.driven.unwrap_or_default());
    // What is not used any more is closed here: a sealed process has no call for it.
    let Assembly { devices, bus, pci, sources, pumps, delivery, bell, .. } = assembly;
    drop((delivery, bell));
    let restarts = config.reach.deadlines > 1;
    let platform = Platform::new(memory, vm, clock).with(controllers).driven(config.driven.is_some());
    let machine = Arc::new(Machine::new(devices, pins, bus, pci, platform, outbox, restarts));
    machine.hang_fixed_bells();

    let worker = Arc::new(Worker::default());
    let (runs, idle) = match beginning {
        Beginning::Never => (Vec::new(), vcpus),
        _ => (vcpus, Vec::new()),
    };
    let vcpus = runs.into_iter().map(|vcpu| vcpu.spawn(Arc::clone(&machine)));
    let vcpus = vcpus.collect::<Result<Vec<_>, _>>().map_err(sentence)?;
    let works = { (Arc::clone(&worker), Arc::clone(&machine)) };
    thread("worker", move || {
        works.1.gate.wait();
        works.0.run(&works.1)
    })?;
    // The vcpus, the worker, and who waits for linked devices.
    let threads = vcpus.len() + 1 + pumps.len();
    for mut pump in pumps {
        let machine = Arc::clone(&machine);
        thread("device", move || {
            machine.gate.wait();
            loop {
                pump();
            }
        })?;
    }

    machine.gate.gather(threads);

    let recipe = Recipe::vmm_over(config.level, config.cpus, with_kvm, &manifests, &carriers);
    let sealed = seal(&recipe, &held)?;
    let Reach { deadline, deadlines, .. } = config.reach;
    let parts = Parts {
        machine,
        sources,
        vcpus,
        worker,
        sends_messages: !with_kvm,
        deadline,
        deadlines,
        driven: config.driven.is_some(),
    };
    Ok(Ready { parts, idle, sealed })
}

/// What machine to be.
struct Config {
    cpus: u8,
    memory_bytes: u64,
    level: Level,
    reach: Reach,
    boot: Boot,
    /// It is driven from outside, with this clock.
    driven: Option<Clock>,
}

/// What to run, opened.
enum Boot {
    None,
    Kernel {
        kernel: BlockFile,
        initrd: Option<BlockFile>,
        cmdline: String,
    },
    Flat {
        image: BlockFile,
        base: u64,
    },
    Firmware {
        rom: Arc<Mapping>,
    },
    /// Nothing, with a ROM where firmware would be.
    Driven {
        rom: Arc<Mapping>,
    },
}

impl Boot {
    /// The firmware that the machine starts from.
    fn rom(&self) -> Option<&Arc<Mapping>> {
        match self {
            Boot::Firmware { rom } | Boot::Driven { rom } => Some(rom),
            _ => None,
        }
    }
}

impl Config {
    fn of(
        machine: message::Machine,
        descriptors: &mut Descriptors,
        notes: &mut Vec<String>,
    ) -> Result<(Config, Option<Vm>), String> {
        let mut driven = None;
        let boot = match machine.boot {
            message::Boot::None => Boot::None,
            message::Boot::Driven(clock, rom) => {
                driven = Some(clock);
                match rom {
                    Some(rom) => Boot::Driven { rom: take_rom(descriptors, &rom)? },
                    None => Boot::None,
                }
            }
            message::Boot::Kernel { kernel, initrd, cmdline } => Boot::Kernel {
                kernel: take(descriptors, &kernel)?,
                initrd: initrd.map(|initrd| take(descriptors, &initrd)).transpose()?,
                cmdline,
            },
            message::Boot::Flat { image, base } => Boot::Flat { image: take(descriptors, &image)?, base },
            message::Boot::Firmware { rom } => Boot::Firmware { rom: take_rom(descriptors, &rom)? },
        };
        let vm = match &machine.kvm {
            Some(handle) => {
                let kvm = OwnedFd::from(take::<Kvm>(descriptors, handle)?);
                Some(Vm::create(kvm, notes).map_err(sentence)?)
            }
            None if matches!(boot, Boot::None | Boot::Driven { .. }) => None,
            None => return Err("a machine without KVM has no processor to boot".to_owned()),
        };
        let reach = Reach {
            deadline: Duration::from_millis(u64::from(machine.deadline_ms)),
            deadlines: if machine.restarts { DEADLINES } else { 1 },
            linked: machine.in_process,
            spin: if machine.spin { calibrate() } else { SpinBudget::NONE },
        };
        let config = Config {
            cpus: machine.cpus,
            memory_bytes: machine.memory_bytes,
            level: machine.level,
            reach,
            boot,
            driven,
        };
        Ok((config, vm))
    }
}

/// A ROM, which has a size that one can have.
fn take_rom(descriptors: &mut Descriptors, handle: &Handle) -> Result<Arc<Mapping>, String> {
    let rom = take::<Region<Frozen>>(descriptors, handle)?;
    let bytes = rom.bytes();
    if bytes == 0 || bytes > ROM_MAX || !bytes.is_multiple_of(ROM_UNIT) {
        return Err(format!("a ROM of {bytes} bytes: it has a multiple of {ROM_UNIT}, at most {ROM_MAX}"));
    }
    Ok(Arc::new(rom.map().map_err(sentence)?))
}

/// Maps guest memory, which must be laid out as this machine has it.
fn map_memory(
    memory: Memory,
    descriptors: &mut Descriptors,
    config: &Config,
    vm: Option<&Vm>,
) -> Result<Shadow, String> {
    let mut regions = Vec::new();
    for region in &memory.regions {
        regions.push((region.base, take::<Region<ReadWrite>>(descriptors, &region.handle)?));
    }
    let given = regions.iter().map(|(base, region)| (*base, region.bytes()));
    if !given.eq(memory::layout(config.memory_bytes).iter().map(|extent| (extent.base, extent.bytes))) {
        return Err(format!("the regions are not those of {} bytes of guest memory", config.memory_bytes));
    }
    let ram = memory::map(regions).map_err(sentence)?;
    Shadow::new(ram, config.boot.rom().cloned(), vm.map(Vm::slots)).map_err(sentence)
}

/// Loads what is to run.
fn load(boot: Boot, ram: &GuestRam, cpus: u8, devices: &[&Manifest]) -> Result<Beginning, String> {
    match boot {
        Boot::None | Boot::Driven { .. } => Ok(Beginning::Never),
        Boot::Firmware { .. } => Ok(Beginning::Reset),
        Boot::Kernel { mut kernel, mut initrd, cmdline } => {
            let rsdp = acpi::build(ram, cpus, devices).map_err(sentence)?;
            let initrd = initrd.as_mut().map(|initrd| &mut initrd.file);
            boot::load_kernel(ram, &mut kernel.file, initrd, &cmdline, rsdp).map(Beginning::Entry).map_err(sentence)
        }
        Boot::Flat { mut image, base } => {
            boot::load_flat(ram, &mut image.file, base).map(Beginning::Entry).map_err(sentence)
        }
    }
}

/// How many looks fit into [`POLL`]. Whether there is a processor for each side is the supervisor's to know.
pub(crate) fn calibrate() -> SpinBudget {
    let word = std::sync::atomic::AtomicU32::new(0);
    let start = Instant::now();
    for _ in 0..TIMED_LOOKS {
        std::hint::black_box(word.load(std::sync::atomic::Ordering::Acquire));
        std::hint::spin_loop();
    }
    let nanoseconds = start.elapsed().as_nanos().max(1);
    let looks = (POLL.as_nanos() * u128::from(TIMED_LOOKS) / nanoseconds) as u32;
    SpinBudget { vmm: looks, host: looks }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(sentence)
}

/// The next call, which must be this one; any other is refused.
fn next<C: Body>(channel: &mut Channel) -> Result<(CallId, (C, Descriptors)), String> {
    loop {
        let packet = receive(channel)?;
        match packet.call {
            Some(call) if packet.is::<C>() => return Ok((call, packet.decode().map_err(sentence)?)),
            call => out_of_order(channel, call)?,
        }
    }
}

fn receive(channel: &mut Channel) -> Result<imc::Packet, String> {
    // Without a limit there is always one.
    channel.receive(None).map_err(sentence)?.ok_or_else(|| sentence(Fault::Deadline))
}

fn out_of_order(channel: &mut Channel, call: Option<CallId>) -> Result<(), String> {
    match call {
        Some(call) => channel.refuse(call, "this call is not due now").map_err(sentence),
        // An event of a machine that does not run yet concerns nobody.
        None => Ok(()),
    }
}

/// Answers a step of the set-up: with nothing, or with the reason that ends it.
fn answer<T>(channel: &mut Channel, call: CallId, result: Result<T, String>) -> Result<T, String> {
    match &result {
        Ok(_) => channel.reply(call, &Empty, &[]),
        Err(why) => channel.refuse(call, why),
    }
    .map_err(sentence)?;
    result
}

fn take<C: Capability>(descriptors: &mut Descriptors, handle: &Handle) -> Result<C, String> {
    let descriptor = descriptors.take(handle.slot).ok_or("a descriptor is missing")?;
    C::receive(descriptor, handle).map_err(sentence)
}

fn sentence(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Serves in a thread of a test, which goes on with other things in the same process.
#[cfg(test)]
pub fn serve_unsealed(channel: Channel, linker: &dyn Linker) -> Result<(), String> {
    serve(channel, linker, |_, _| Ok(()))
}
