//! A device host from its first message to its last.
#![allow(unsafe_code)] // Leaving without destructors, also by a signal, and last words on a descriptor known by its number.

use crate::grants::{self, DeviceGrants, HostGrants};
use crate::helper::{self, Asking, Mailbox, Work};
use crate::{Chosen, Engine, Host};
use device::Registration;
use imc::lane::Rest;
use imc::{CallId, Channel, Descriptors, Wake};
use sandbox::{Confined, DescriptorKind, Held, HelperForm, Mode, Recipe, Sealed};
use schema::Body;
use schema::host::{
    Assign, Assignment, Attach, DEVICES_MAX, Empty, Exchanged, Grants, HELPER_GONE, HOST_WIDE, Hello, Level, Log,
    Manifests, PROTOCOL, Seal, Severity,
};
use schema::lane::Carrier;
use schema::manifest::Manifest;
use std::mem::ManuallyDrop;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;

/// The number at which every child finds its channel.
pub(crate) const CHANNEL: RawFd = 3;
/// How a host ends that could not go on; it has said why.
pub(crate) const FAILED: i32 = 1;
/// How a host ends whose code panicked, as Rust programs do.
const PANICKED: i32 = 101;

/// The body of a device host: the devices of `catalogue` that its supervisor names, until they are told to leave.
///
/// The order is that of `schema/host.capnp`: confined, hello, assign, grants, attach, seal. Whatever goes wrong ends the
/// process with one log line.
pub fn run(catalogue: &[Registration]) -> ! {
    leave_on_panic();
    match sealed_host(catalogue) {
        Ok((mut host, sealed)) => match host.serve(&sealed) {
            Ok(()) => leave(0),
            Err(ended) => fail(&ended.to_string()),
        },
        Err(sentence) => fail(&sentence),
    }
}

fn sealed_host(catalogue: &[Registration]) -> Result<(Host, Sealed), String> {
    let (mut setup, confined) = Setup::begin()?;
    let (assign, chosen) = setup.assign(catalogue)?;
    let ready = setup.grants(Assigned::new(assign, chosen))?;
    // State found in the region comes from a process that may have been an attacker's: not before the seal.
    setup.seal(ready, confined, |host| host.start().map_err(|ended| ended.to_string()))
}

/// The side of a host, or of its helper, in the conversation that sets it up.
pub(crate) struct Setup {
    channel: Channel,
}

/// What is set up.
pub(crate) trait Role {
    /// What it does, once everything is granted.
    type Work;

    /// Takes grants.
    fn take(&mut self, grants: Grants, descriptors: Descriptors) -> Result<(), String>;

    /// Maps and constructs.
    fn attach(&mut self) -> Result<Ready<Self::Work>, String>;
}

/// What a host is to be.
struct Assigned {
    level: Level,
    form: HelperForm,
    devices: Vec<AssignedDevice>,
    whole: HostGrants,
}

/// One device of it.
struct AssignedDevice {
    chosen: Chosen,
    carrier: Carrier,
    poisoned: bool,
    exchanged: Option<Exchanged>,
    grants: DeviceGrants,
}

/// Everything is granted, mapped and constructed.
pub(crate) struct Ready<W> {
    pub(crate) recipe: Recipe,
    pub(crate) held: Vec<Held>,
    pub(crate) work: W,
}

impl Setup {
    /// Confines this process, and says hello.
    pub(crate) fn begin() -> Result<(ManuallyDrop<Setup>, Confined), String> {
        let confined = sandbox::confine().map_err(|error| error.to_string())?;
        let channel = Channel::inherit(CHANNEL).map_err(|fault| format!("the channel: {fault}"))?;
        // Once sealed, it says its last words by a plain `write(2)`.
        channel.never_wait_to_write().map_err(|fault| format!("the channel: {fault}"))?;
        // Never closed: last words go over it, and a sealed process has no call to give its memory back.
        let mut setup = ManuallyDrop::new(Setup { channel });
        setup.channel.tell(&Hello { protocol: PROTOCOL }, &[]).map_err(|error| error.to_string())?;
        Ok((setup, confined))
    }

    /// Takes the assignment, and declares its devices.
    pub(crate) fn assign(&mut self, catalogue: &[Registration]) -> Result<(Assign, Vec<Chosen>), String> {
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
        Ok((assign, chosen))
    }

    /// Takes the assignment of a process that is to be no device. Says how strictly it is confined.
    pub(crate) fn assign_nothing(&mut self) -> Result<Level, String> {
        let (call, assign, _) = self.next::<Assign>()?;
        let nothing = if assign.devices.is_empty() { Ok(()) } else { Err("a relay cannot be a device".to_owned()) };
        self.or_refuse(call, nothing)?;
        self.channel.reply(call, &Manifests { manifests: Vec::new() }, &[]).map_err(|error| error.to_string())?;
        Ok(assign.level)
    }

    /// Takes grants until it is told to attach.
    pub(crate) fn grants<R: Role>(&mut self, mut role: R) -> Result<Ready<R::Work>, String> {
        loop {
            let packet = self.receive()?;
            let call = packet.call.ok_or("a message came that is no call")?;
            if packet.is::<Attach>() {
                packet.decode::<Attach>().map_err(|fault| fault.to_string())?;
                let ready = self.or_refuse(call, role.attach())?;
                self.channel.reply(call, &Empty, &[]).map_err(|error| error.to_string())?;
                return Ok(ready);
            }
            let (grants, descriptors) = packet.decode::<Grants>().map_err(|fault| fault.to_string())?;
            self.or_refuse(call, role.take(grants, descriptors))?;
            self.channel.reply(call, &Empty, &[]).map_err(|error| error.to_string())?;
        }
    }

    /// Seals this process; `start` is the first thing that it does then.
    pub(crate) fn seal<W>(
        &mut self,
        ready: Ready<W>,
        confined: Confined,
        start: impl FnOnce(&mut W) -> Result<(), String>,
    ) -> Result<(W, Sealed), String> {
        let (call, Seal, _) = self.next::<Seal>()?;
        let Ready { recipe, held, mut work } = ready;
        let sealed = confined.seal(&recipe, &held).map_err(|error| error.to_string());
        let sealed = self.or_refuse(call, sealed)?;
        if let Err(sentence) = start(&mut work) {
            fail(&sentence);
        }
        if let Err(error) = self.channel.reply_by_write(call, &Empty) {
            fail(&error.to_string());
        }
        // As above.
        std::mem::forget((recipe, held));
        Ok((work, sealed))
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
    fn new(assign: Assign, chosen: Vec<Chosen>) -> Assigned {
        let devices = chosen.into_iter().zip(assign.devices).map(|(chosen, assignment)| {
            let Assignment { carrier, poisoned, exchanged, .. } = assignment;
            AssignedDevice { chosen, carrier, poisoned, exchanged, grants: DeviceGrants::default() }
        });
        let devices = devices.collect();
        let form = if assign.threaded { HelperForm::Thread } else { HelperForm::Process };
        Assigned { level: assign.level, form, devices, whole: HostGrants::default() }
    }

    /// Finds the helper that `recipe` says this host has; one that is a thread is started and sealed here.
    fn helper(&mut self, recipe: &Recipe, wake: &Wake) -> Result<(Mailbox, Wake), String> {
        let (mailbox, bell) = self.whole.take_helper()?;
        if let Some(helper) = recipe.helper_of(HelperForm::Thread) {
            let granted = self.devices.iter_mut().zip(0..).flat_map(|(own, device)| own.grants.take_disks(device));
            let another = |wake: &Wake| wake.try_clone().map_err(|error| format!("a wake: {error}"));
            let work = Work::new(mailbox.clone(), another(&bell)?, another(wake)?, granted.collect(), helper)?;
            helper::start_thread(work, helper)?;
        } else {
            leave_with_helper()?;
        }
        Ok((mailbox, bell))
    }
}

impl Role for Assigned {
    type Work = Host;

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

    fn attach(&mut self) -> Result<Ready<Host>, String> {
        let mut held = vec![Held::new(CHANNEL, DescriptorKind::Channel, Mode::Write)];
        held.extend(self.whole.held());
        let manifests: Vec<Manifest> = self.devices.iter().map(|device| device.chosen.manifest.clone()).collect();
        let carriers: Vec<Carrier> = self.devices.iter().map(|device| device.carrier).collect();
        let recipe = Recipe::host_with(self.level, &manifests, &carriers, self.form);
        let wake = self.whole.take_wake()?;
        let irq = Arc::new(self.whole.take_irq()?);
        let helper = if recipe.helper.is_some() { Some(self.helper(&recipe, &wake)?) } else { None };
        let rest = Rest::new(wake, irq.clone());
        let helper = helper.map(|(mailbox, bell)| Asking::new(mailbox, bell, rest.clone()));
        let mut devices = Vec::with_capacity(self.devices.len());
        for (device, number) in self.devices.drain(..).zip(0..) {
            let AssignedDevice { chosen, carrier, poisoned, exchanged, grants: mut own } = device;
            let Chosen { registration, options, manifest } = chosen;
            held.extend(own.held());
            let mut attach = || -> Result<Engine, String> {
                let state = own.state(&manifest)?;
                let lane = own.lane(carrier, &rest, state.committed().sequence())?;
                let mut powers = std::mem::take(&mut own).powers(&manifest, number, helper.as_ref())?;
                powers.bulk = grants::bulk(&state)?;
                let doorbells = powers.doorbells.clone();
                let model = (registration.attach)(&options, &mut powers).map_err(|error| error.to_string())?;
                let mut engine = Engine::new(model, &manifest, state, lane, irq.clone(), doorbells);
                engine.set_exchanged(exchanged);
                if poisoned {
                    engine.set_poisoned();
                }
                Ok(engine)
            };
            devices.push(attach().map_err(|error| format!("{}: {error}", registration.name))?);
        }
        Ok(Ready { recipe, held, work: Host::new(devices, rest) })
    }
}

/// Says why, and ends the process at once: in a sealed process destructors would make calls that it does not have.
pub(crate) fn fail(sentence: &str) -> ! {
    last_words(sentence);
    leave(FAILED)
}

/// Has a panic end the process with a log line.
pub(crate) fn leave_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        last_words(&panic.to_string().replace('\n', " "));
        leave(PANICKED)
    }));
}

/// Has this process end when its only child does, its helper: a host whose helper is gone would wait for it for ever.
fn leave_with_helper() -> Result<(), String> {
    extern "C" fn ended(_: libc::c_int) {
        leave(HELPER_GONE)
    }
    // SAFETY: all zeroes is a valid sigaction; the handler makes one system call, which may be made at any moment.
    let set = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ended as *const () as usize;
        action.sa_flags = libc::SA_NOCLDSTOP;
        libc::sigaction(libc::SIGCHLD, &action, std::ptr::null_mut())
    };
    if set == 0 { Ok(()) } else { Err(format!("the helper's end: {}", std::io::Error::last_os_error())) }
}

/// The last log line.
fn last_words(text: &str) {
    say(Severity::Error, text);
}

/// One log line, by a plain `write(2)`.
pub(crate) fn say(severity: Severity, text: &str) {
    // SAFETY: where this process is what `run` says, its channel is open at this number until the process ends; anywhere
    // else the write fails, or goes to whatever the one who started it put there.
    let channel = unsafe { BorrowedFd::borrow_raw(CHANNEL) };
    let log = Log { severity, text: text.to_owned() };
    // Nobody is left to be told that nobody listens.
    let _ = Channel::tell_over(channel, &log);
}

/// Ends the process at once, by the one call for it that a sealed process has.
pub(crate) fn leave(code: i32) -> ! {
    // SAFETY: the process has one thread, so this ends all of it; where a helper is another, the supervisor sees the channel
    // closed and ends the rest. No destructor runs, and none is needed: the kernel takes
    // everything back.
    unsafe { libc::syscall(libc::SYS_exit, code) };
    unreachable!("exit does not return")
}
