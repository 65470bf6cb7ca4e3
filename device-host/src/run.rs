//! A device host from its first message to its last.
#![allow(unsafe_code)] // Leaving without destructors, and last words on a descriptor known by its number.

use crate::grants::{DeviceGrants, HostGrants};
use crate::{Chosen, Engine, Host};
use device::Registration;
use imc::lane::Rest;
use imc::{CallId, Channel, Descriptors};
use sandbox::{Confined, DescriptorKind, Held, Mode, Recipe, Sealed};
use schema::Body;
use schema::host::{
    Assign, Assignment, Attach, DEVICES_MAX, Empty, Grants, HOST_WIDE, Hello, Level, Log, Manifests, PROTOCOL, Seal,
    Severity,
};
use schema::lane::Carrier;
use std::mem::ManuallyDrop;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;

/// The number at which every child finds its channel.
const CHANNEL: RawFd = 3;
/// How a host ends that could not go on; it has said why.
const FAILED: i32 = 1;
/// How a host ends whose code panicked, as Rust programs do.
const PANICKED: i32 = 101;

/// The body of a device host: the devices of `catalogue` that its supervisor names, until they are told to leave.
///
/// The order is that of `schema/host.capnp`: confined, hello, assign, grants, attach, seal. Whatever goes wrong ends the
/// process with one log line.
pub fn run(catalogue: &[Registration]) -> ! {
    std::panic::set_hook(Box::new(|panic| {
        last_words(&panic.to_string().replace('\n', " "));
        leave(PANICKED)
    }));
    match sealed_host(catalogue) {
        Ok((mut host, sealed)) => match host.serve(&sealed) {
            Ok(()) => leave(0),
            Err(ended) => fail(&ended.to_string()),
        },
        Err(sentence) => fail(&sentence),
    }
}

fn sealed_host(catalogue: &[Registration]) -> Result<(Host, Sealed), String> {
    let confined = sandbox::confine().map_err(|error| error.to_string())?;
    let channel = Channel::inherit(CHANNEL).map_err(|fault| format!("the channel: {fault}"))?;
    // Once sealed, it says its last words by a plain `write(2)`.
    channel.never_wait_to_write().map_err(|fault| format!("the channel: {fault}"))?;
    // Never closed: last words go over it, and a sealed process has no call to give its memory back.
    let mut setup = ManuallyDrop::new(Setup { channel });
    setup.channel.tell(&Hello { protocol: PROTOCOL }, &[]).map_err(|error| error.to_string())?;
    let assigned = setup.assign(catalogue)?;
    let ready = setup.grants(assigned)?;
    setup.seal(ready, confined)
}

/// The host's side of the conversation that sets it up.
struct Setup {
    channel: Channel,
}

/// What a host is to be.
struct Assigned {
    level: Level,
    devices: Vec<AssignedDevice>,
    whole: HostGrants,
}

/// One device of it.
struct AssignedDevice {
    chosen: Chosen,
    carrier: Carrier,
    poisoned: bool,
    grants: DeviceGrants,
}

/// Everything is granted, mapped and constructed.
struct Ready {
    recipe: Recipe,
    held: Vec<Held>,
    host: Host,
}

impl Setup {
    fn assign(&mut self, catalogue: &[Registration]) -> Result<Assigned, String> {
        let (call, assign, _) = self.next::<Assign>()?;
        let chosen = || -> Result<Vec<Chosen>, String> {
            if assign.devices.is_empty() || assign.devices.len() > DEVICES_MAX {
                return Err(format!("{} devices cannot be in one host", assign.devices.len()));
            }
            assign.devices.iter().map(|device| Chosen::find(catalogue, &device.device, &device.options)).collect()
        };
        let chosen = self.or_refuse(call, chosen())?;
        let manifests = chosen.iter().map(|device| device.manifest.clone()).collect();
        self.channel.reply(call, &Manifests { manifests }, &[]).map_err(|error| error.to_string())?;
        let devices = chosen.into_iter().zip(&assign.devices).map(|(chosen, Assignment { carrier, poisoned, .. })| {
            AssignedDevice { chosen, carrier: *carrier, poisoned: *poisoned, grants: DeviceGrants::default() }
        });
        let devices = devices.collect();
        Ok(Assigned { level: assign.level, devices, whole: HostGrants::default() })
    }

    /// Takes grants until it is told to attach.
    fn grants(&mut self, mut assigned: Assigned) -> Result<Ready, String> {
        loop {
            let packet = self.receive()?;
            let call = packet.call.ok_or("a message came that is no call")?;
            if packet.is::<Attach>() {
                packet.decode::<Attach>().map_err(|fault| fault.to_string())?;
                let ready = self.or_refuse(call, assigned.attach())?;
                self.channel.reply(call, &Empty, &[]).map_err(|error| error.to_string())?;
                return Ok(ready);
            }
            let (grants, descriptors) = packet.decode::<Grants>().map_err(|fault| fault.to_string())?;
            self.or_refuse(call, assigned.take(grants, descriptors))?;
            self.channel.reply(call, &Empty, &[]).map_err(|error| error.to_string())?;
        }
    }

    fn seal(&mut self, ready: Ready, confined: Confined) -> Result<(Host, Sealed), String> {
        let (call, Seal, _) = self.next::<Seal>()?;
        let Ready { recipe, held, mut host } = ready;
        let sealed = confined.seal(&recipe, &held).map_err(|error| error.to_string());
        let sealed = self.or_refuse(call, sealed)?;
        // State found in the region comes from a process that may have been an attacker's: not before the seal.
        if let Err(ended) = host.start() {
            fail(&ended.to_string());
        }
        if let Err(error) = self.channel.reply_by_write(call, &Empty) {
            fail(&error.to_string());
        }
        // As above.
        std::mem::forget((recipe, held));
        Ok((host, sealed))
    }

    /// The next message, which must be the call `C`.
    fn next<C: Body>(&mut self) -> Result<(CallId, C, Descriptors), String> {
        let packet = self.receive()?;
        let call = packet.call.ok_or("a message came that is no call")?;
        let (body, descriptors) = packet.decode::<C>().map_err(|fault| fault.to_string())?;
        Ok((call, body, descriptors))
    }

    fn receive(&mut self) -> Result<imc::Packet, String> {
        let packet = self.channel.receive(None).map_err(|fault| fault.to_string())?;
        packet.ok_or_else(|| "nothing came".into())
    }

    /// Passes `result` on; an error is the answer to `call` as well.
    fn or_refuse<T>(&mut self, call: CallId, result: Result<T, String>) -> Result<T, String> {
        if let Err(reason) = &result {
            // Should this fail too, the log line is left.
            let _ = self.channel.refuse(call, reason);
        }
        result
    }
}

impl Assigned {
    fn take(&mut self, grants: Grants, mut descriptors: Descriptors) -> Result<(), String> {
        for grant in grants.grants {
            let descriptor = descriptors.take(grant.handle.slot).ok_or("a grant names no descriptor of its own")?;
            if grant.device == HOST_WIDE {
                if let Some((grant, _)) = self.whole.add(grant, descriptor)? {
                    return Err(format!("{:?} cannot be granted to a whole host", grant.purpose));
                }
                continue;
            }
            let device = self.devices.get_mut(usize::from(grant.device));
            let AssignedDevice { chosen, carrier, grants: own, .. } =
                device.ok_or_else(|| format!("there is no device {}", grant.device))?;
            own.add(&chosen.manifest, *carrier, &grant, descriptor)
                .map_err(|error| format!("{}: {error}", chosen.registration.name))?;
        }
        Ok(())
    }

    fn attach(&mut self) -> Result<Ready, String> {
        let mut held = vec![Held::new(CHANNEL, DescriptorKind::Channel, Mode::Write)];
        held.extend(self.whole.held());
        let wake = self.whole.take_wake()?;
        let irq = Arc::new(self.whole.take_irq()?);
        let rest = Rest::new(wake, irq.clone());
        let carriers: Vec<Carrier> = self.devices.iter().map(|device| device.carrier).collect();
        let mut manifests = Vec::with_capacity(self.devices.len());
        let mut devices = Vec::with_capacity(self.devices.len());
        for AssignedDevice { chosen, carrier, poisoned, grants: mut own } in self.devices.drain(..) {
            let Chosen { registration, options, manifest } = chosen;
            held.extend(own.held());
            let mut attach = || -> Result<Engine, String> {
                let state = own.state(&manifest)?;
                let lane = own.lane(carrier, &rest, state.committed().sequence())?;
                let mut powers = std::mem::take(&mut own).powers()?;
                let doorbells = powers.doorbells.clone();
                let model = (registration.attach)(&options, &mut powers).map_err(|error| error.to_string())?;
                let mut engine = Engine::new(model, &manifest, state, lane, irq.clone(), doorbells);
                if poisoned {
                    engine.set_poisoned();
                }
                Ok(engine)
            };
            devices.push(attach().map_err(|error| format!("{}: {error}", registration.name))?);
            manifests.push(manifest);
        }
        Ok(Ready { recipe: Recipe::host_over(self.level, &manifests, &carriers), held, host: Host::new(devices, rest) })
    }
}

/// Says why, and ends the process at once: in a sealed process destructors would make calls that it does not have.
fn fail(sentence: &str) -> ! {
    last_words(sentence);
    leave(FAILED)
}

/// One log line, by a plain `write(2)`.
fn last_words(text: &str) {
    // SAFETY: where this process is what `run` says, its channel is open at this number until the process ends; anywhere
    // else the write fails, or goes to whatever the one who started it put there.
    let channel = unsafe { BorrowedFd::borrow_raw(CHANNEL) };
    let log = Log { severity: Severity::Error, text: text.to_owned() };
    // Nobody is left to be told that nobody listens.
    let _ = Channel::tell_over(channel, &log);
}

/// Ends the process at once, by the one call for it that a sealed process has.
fn leave(code: i32) -> ! {
    // SAFETY: the process has one thread, so this ends all of it. No destructor runs, and none is needed: the kernel takes
    // everything back.
    unsafe { libc::syscall(libc::SYS_exit, code) };
    unreachable!("exit does not return")
}
