//! One running VM: from plan to processes, the loop that watches them, and their end.

mod media;
mod relays;
mod report;

pub use media::Medium;

use super::console::{Console, Typed};
use super::grants::Objects;
use super::host::Host;
use super::input::InputRelay;
use super::journal::Journal;
use super::lives::{Lives, Next, SETUP_AGAIN};
use super::open::{OpenBoot, open_kvm, push};
use super::operator::Operators;
use super::pin;
use super::plan::{Catalogue, Isolate, Plan, PlannedDevice};
use super::process::{Process, SETUP};
use super::relay::Relay;
use super::runtime;
use super::sealed_relay::{Place, SealedRelay};
use super::viewers::Viewers;
use super::window::GuestWindow;
use anyhow::{Context, Result, bail};
use imc::{Fault, Kvm, Packet, ReadOnly, Region};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sandbox::{Program, Recipe, Stage};
use schema::control::Order;
use schema::host::{Empty, Log, Severity};
use schema::lane::Carrier;
use schema::manifest::Manifest;
use schema::play::{Change, Changes, Play, Played, Step, Turned};
use schema::vmm::{
    AttachDevice, Button, Counted, Counters, Drive, Driven, GuestRegion, Late, Machine, Memory, REGIONS_MAX, Reason,
    Refresh, Renew, Retire, Start, Stopped,
};
use std::cell::Cell;
use std::collections::VecDeque;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Messages taken from one child at a turn, so that a flood of logs does not starve the rest of the loop.
const MESSAGES_PER_TURN: usize = 16;
/// A log line from a child is cut to this.
const LOG_TEXT: usize = 512;
/// The VMM answers a question within this; it has nothing else to do on that thread.
const ANSWER: Duration = Duration::from_secs(2);

/// Signals that end us, kept from the moment the program starts, so that none is lost and none ends us half way.
pub struct Signals {
    queue: SignalFd,
    /// The last one that was taken.
    last: Cell<Option<&'static str>>,
}

impl Signals {
    /// Blocks them; from now on they are read here. Call before any thread is started.
    pub fn hold() -> Result<Signals> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
            set.add(signal);
        }
        set.thread_block()?;
        let queue = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Signals { queue, last: Cell::new(None) })
    }

    /// The name of one that has come.
    pub fn taken(&self) -> Option<&'static str> {
        let info = self.queue.read_signal().ok()??;
        let name = Signal::try_from(info.ssi_signo as i32).map_or("a signal", Signal::as_str);
        self.last.set(Some(name));
        Some(name)
    }

    /// The name of one that has come, now or before: for who runs several machines, and may have lost one to it.
    pub fn came(&self) -> Option<&'static str> {
        self.taken().or(self.last.get())
    }

    /// Ends the start if one has come.
    fn check(&self) -> Result<()> {
        match self.taken() {
            Some(name) => bail!("ended by {name} while starting"),
            None => Ok(()),
        }
    }
}

/// Why a VM ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The guest powered off.
    PoweredOff,
    /// The guest, or an operator, asked for a reset.
    Reset,
    /// The guest said it panicked.
    Panicked,
    /// The guest ended the run with this number.
    Exit(u32),
    /// An operator stopped it, or typed the escape.
    Stopped,
    /// A signal to the supervisor.
    Signal(&'static str),
    /// The VMM died or could not go on.
    Failed(String),
}

/// A running VM.
pub struct Vm {
    name: String,
    vmm: Process,
    hosts: Vec<Host>,
    manifests: Vec<Manifest>,
    labels: Vec<String>,
    isolate: Isolate,
    /// Devices whose media can be exchanged, with the media that they have now, by index.
    removable: Vec<(usize, PlannedDevice)>,
    catalogue: &'static dyn Catalogue,
    /// Each with the index of its device.
    relays: Vec<(usize, Relay)>,
    inputs: Vec<InputRelay>,
    sealed: Vec<SealedRelay>,
    program: Rc<Program>,
    objects: Objects,
    journal: Journal,
    /// Log lines also go to standard error.
    verbose: bool,
    /// The VMM was asked something since it was last heard, and may have said more than the answer.
    asked: bool,
    /// What happened of its own accord in a machine that is driven.
    told: VecDeque<Told>,
    /// What came of the steps that were played last.
    played: Option<Played>,
}

/// What a machine that is driven does of its own accord.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Interrupt inputs changed.
    Changes(Vec<Change>),
    /// A device turned a switch.
    Turned(Turned),
}

/// Something the loop waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Signal,
    Vmm,
    Host(usize),
    Relay(usize),
    /// A guest took some of what people did.
    Taken(usize),
    Sealed(usize),
    /// A viewer did something.
    Did,
    /// A viewer wants a picture.
    Wanted(usize),
    Input,
    Output,
    Operator,
    Other,
}

impl Vm {
    /// Starts `plan`: every process confined, granted, sealed and audited, then the guest.
    pub fn start(plan: &Plan, catalogue: &'static dyn Catalogue, signals: &Signals) -> Result<Vm> {
        Vm::start_with(plan, catalogue, signals, true)
    }

    /// The same, without log lines on standard error.
    pub fn start_quietly(plan: &Plan, catalogue: &'static dyn Catalogue, signals: &Signals) -> Result<Vm> {
        Vm::start_with(plan, catalogue, signals, false)
    }

    fn start_with(plan: &Plan, catalogue: &'static dyn Catalogue, signals: &Signals, verbose: bool) -> Result<Vm> {
        runtime::check_name(&plan.name)?;
        let manifests = plan.manifests(catalogue)?;
        let groups = plan.groups(&manifests)?;
        let linked = plan.isolate == Isolate::None;
        // A device linked into the VMM has a wake of its own, as if it were alone in a host.
        let wakes = if linked { plan.devices.len() } else { groups.len() };
        let mut objects = Objects::create(plan, &manifests, wakes)?;
        let boot = OpenBoot::open(&plan.boot, &objects.mac)?;
        let kvm = if plan.kvm { Some(open_kvm()?) } else { None };
        signals.check()?;

        let program = Program::current().context("opening this program, to start its parts from")?;
        let program = Rc::new(program);
        let mut hosts = Vec::new();
        for (number, group) in groups.into_iter().enumerate() {
            let other = group.devices.iter().find_map(|device| {
                let device = &plan.devices[*device];
                device.plugin.as_ref().map(|plugin| &plugin.program.executable).or(device.program.as_ref())
            });
            let other = other.map(|path| {
                Program::open(path).with_context(|| format!("program {}: cannot be opened", path.display()))
            });
            let program = other.transpose()?.map_or_else(|| Rc::clone(&program), Rc::new);
            hosts.push(Host::spawn(plan, &manifests, &mut objects, group, number, program)?);
            signals.check()?;
        }
        let carriers: Vec<Carrier> = plan.devices.iter().map(|device| plan.carrier(device)).collect();
        let recipe = Recipe::vmm_over(plan.level, plan.cpus, plan.kvm, &manifests, &carriers)
            .with_guest_memory(plan.memory_bytes);
        let recipe = objects.mac.label(plan.demands.apply(recipe)?, sandbox::policy::VMM)?;
        let vmm = Process::spawn(&program, "cofferdam: vmm", "vmm", recipe)?;
        if let Some(pins) = plan.pins {
            pin(vmm.pid(), pins.vmm)?;
        }
        let labels = plan.devices.iter().map(|device| device.label.clone()).collect();
        let removable = plan.devices.iter().enumerate().filter(|(_, device)| !device.bays.is_empty());
        let removable = removable.map(|(index, device)| (index, device.clone())).collect();
        let mut vm = Vm {
            name: plan.name.clone(),
            vmm,
            hosts,
            manifests,
            labels,
            isolate: plan.isolate,
            removable,
            catalogue,
            relays: Vec::new(),
            inputs: Vec::new(),
            sealed: Vec::new(),
            program,
            objects,
            journal: Journal::default(),
            verbose,
            asked: true,
            told: VecDeque::new(),
            played: None,
        };
        vm.set_up_hosts(signals)?;
        vm.set_up_vmm(plan, boot, kvm, signals)?;
        // What a host logged while a call waited for its reply is no longer in its socket.
        (0..vm.hosts.len()).for_each(|at| vm.hear_host(at));
        Ok(vm)
    }

    fn set_up_hosts(&mut self, signals: &Signals) -> Result<()> {
        for host in &mut self.hosts {
            host.introduce()?;
            signals.check()?;
        }
        for host in &mut self.hosts {
            host.equip(&self.objects)?;
            signals.check()?;
        }
        Ok(())
    }

    fn set_up_vmm(&mut self, plan: &Plan, boot: OpenBoot, kvm: Option<Kvm>, signals: &Signals) -> Result<()> {
        let linked = plan.isolate == Isolate::None;
        self.vmm.greet()?;
        self.vmm.require_clean(Stage::Confined)?;

        let mut descriptors: Vec<BorrowedFd<'_>> = Vec::new();
        let boot_body = boot.body(&mut descriptors);
        let kvm_handle = kvm.as_ref().map(|kvm| push(&mut descriptors, kvm));
        let machine = Machine {
            cpus: plan.cpus,
            memory_bytes: plan.memory_bytes,
            deadline_ms: plan.deadline.as_millis() as u32,
            in_process: linked,
            spin: may_spin(plan),
            boot: boot_body,
            kvm: kvm_handle,
            level: plan.level,
            restarts: plan.restarts > 0,
        };
        self.ask::<Machine, Empty>(&machine, &descriptors, SETUP)?;
        for batch in self.objects.memory.regions.chunks(REGIONS_MAX) {
            let mut descriptors = Vec::new();
            let regions = batch
                .iter()
                .map(|(base, _, region)| GuestRegion { base: *base, handle: push(&mut descriptors, region) })
                .collect();
            let (Empty, _) = self
                .vmm
                .channel
                .call(&Memory { regions }, &descriptors, SETUP)
                .map_err(|error| self.vmm.failed(error))?;
        }
        for (id, device) in plan.devices.iter().enumerate() {
            let host = self.hosts.iter().position(|host| host.group.devices.contains(&id)).unwrap_or(id);
            let granted = self.objects.grant_vmm(&mut self.vmm.channel, host, id, linked, SETUP);
            granted.with_context(|| format!("granting {} to the VMM", device.label))?;
            let attach = AttachDevice {
                id: id as u8,
                host: host as u8,
                manifest: self.manifests[id].clone(),
                options: device.options.clone(),
                carrier: plan.carrier(device),
            };
            self.ask::<AttachDevice, Empty>(&attach, &[], SETUP)?;
            signals.check()?;
            for stream in &self.objects.devices[id].streams {
                let wake = &self.objects.hosts[host].0;
                if stream.is_input {
                    self.inputs.push(InputRelay::new(stream, wake)?);
                } else {
                    self.relays.push((id, Relay::new(stream, &device.outlet, wake)?));
                }
            }
            for (frames, rings) in self.objects.devices[id].frames.iter().enumerate() {
                if rings.network.is_some() {
                    let place = Place { device: id, frames, host };
                    self.sealed.push(SealedRelay::of_frames(plan, &self.objects, place, Rc::clone(&self.program))?);
                }
            }
        }
        if let Some((device, display)) = plan.shown(&self.manifests)? {
            let viewers = Viewers::new(device, display);
            self.sealed.push(SealedRelay::of_display(plan, &self.objects, viewers, Rc::clone(&self.program))?);
        }
        self.ask::<Start, Empty>(&Start, &[], SETUP)?;
        self.vmm.require_clean(Stage::Sealed)?;
        signals.check()
    }

    fn ask<C: schema::Body, R: schema::Body>(
        &mut self,
        body: &C,
        descriptors: &[BorrowedFd<'_>],
        deadline: Duration,
    ) -> Result<R> {
        self.asked = true;
        match self.vmm.channel.call(body, descriptors, deadline) {
            Ok((reply, _)) => Ok(reply),
            Err(error) => Err(self.vmm.failed(error)),
        }
    }

    /// Whether log lines go to standard error as well.
    pub fn set_verbose(&mut self, verbose: bool) {
        self.verbose = verbose;
    }

    /// One turn of the loop: waits for something to happen, at most `wait`, and deals with it. Says when the VM has ended.
    pub fn step(
        &mut self,
        console: &mut Console,
        operators: Option<&mut Operators>,
        signals: &Signals,
        wait: Duration,
    ) -> Result<Option<Ended>> {
        self.turn(console, operators, &[], signals, wait)
    }

    /// The same, and its end too when one of `others` has something to say: who asks looks at them then.
    pub fn step_beside(
        &mut self,
        console: &mut Console,
        others: &[BorrowedFd<'_>],
        signals: &Signals,
        wait: Duration,
    ) -> Result<Option<Ended>> {
        self.turn(console, None, others, signals, wait)
    }

    fn turn(
        &mut self,
        console: &mut Console,
        operators: Option<&mut Operators>,
        others: &[BorrowedFd<'_>],
        signals: &Signals,
        wait: Duration,
    ) -> Result<Option<Ended>> {
        let ready = self.sleep(console, operators.as_deref(), others, signals, wait)?;
        let is_ready = |source| ready.contains(&source);
        if is_ready(Source::Signal)
            && let Some(name) = signals.taken()
        {
            return Ok(Some(Ended::Signal(name)));
        }
        if is_ready(Source::Output) {
            console.flush();
            self.turn_relays(console);
        }
        for source in &ready {
            match source {
                Source::Relay(at) => self.turn_relay(*at, console),
                Source::Host(at) => self.hear_host(*at),
                Source::Taken(at) => self.inputs[*at].turn(),
                Source::Sealed(at) => self.hear_sealed(*at),
                Source::Wanted(at) if self.sealed[*at].viewers().is_some_and(Viewers::want) => self.refresh(),
                _ => {}
            }
        }
        self.hear_viewers();
        self.restart_due();
        if is_ready(Source::Input)
            && let Some(relay) = self.console_relay()
            && relay.read(console) == Typed::Quit
        {
            return Ok(Some(Ended::Stopped));
        }
        if is_ready(Source::Operator)
            && let Some(operators) = operators
            && let Some(order) = operators.serve(self, console)
        {
            match order {
                Order::Stop => return Ok(Some(Ended::Stopped)),
                Order::Reset => return Ok(Some(Ended::Reset)),
                Order::Powerdown => self.press_button(),
            }
        }
        if is_ready(Source::Vmm) || self.asked {
            // What came while a call waited for its reply is no longer in the socket: polling would not show it.
            self.asked = false;
            if let Some(ended) = self.hear_vmm() {
                // What the guest printed last is still on its way.
                self.turn_relays(console);
                return Ok(Some(ended));
            }
        }
        Ok(None)
    }

    /// Waits for something to happen; says what.
    fn sleep(
        &self,
        console: &Console,
        operators: Option<&Operators>,
        others: &[BorrowedFd<'_>],
        signals: &Signals,
        wait: Duration,
    ) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        let mut polled = Vec::new();
        let mut watch = |source, fd, events| {
            sources.push(source);
            polled.push(PollFd::new(fd, events));
        };
        watch(Source::Signal, signals.queue.as_fd(), PollFlags::POLLIN);
        if self.vmm.ended().is_none() {
            watch(Source::Vmm, self.vmm.channel.as_fd(), PollFlags::POLLIN);
            watch(Source::Vmm, self.vmm.pidfd(), PollFlags::POLLIN);
        }
        let now = Instant::now();
        for (at, host) in self.hosts.iter().enumerate().filter(|(_, host)| host.lives.runs()) {
            if host.words.used_up(now).is_some() {
                watch(Source::Host(at), host.process.pidfd(), PollFlags::POLLIN);
                continue;
            }
            for fd in host.process.sources() {
                watch(Source::Host(at), fd, PollFlags::POLLIN);
            }
        }
        for (at, (_, relay)) in self.relays.iter().enumerate() {
            match relay.blocked_output() {
                _ if relay.hungry(console) => watch(Source::Relay(at), relay.bell(), PollFlags::POLLIN),
                Some(output) => watch(Source::Relay(at), output, PollFlags::POLLOUT),
                None => {}
            }
        }
        for (at, input) in self.inputs.iter().enumerate() {
            watch(Source::Taken(at), input.bell(), PollFlags::POLLIN);
        }
        let takes = self.inputs.first().is_none_or(InputRelay::accepts);
        for (at, relay) in self.sealed.iter().enumerate().filter(|(_, relay)| relay.lives.runs()) {
            match relay.used_up(now) {
                Some(_) => watch(Source::Sealed(at), relay.process.pidfd(), PollFlags::POLLIN),
                None => relay.process.sources().for_each(|fd| watch(Source::Sealed(at), fd, PollFlags::POLLIN)),
            }
            if let Some(viewers) = relay.as_viewers() {
                viewers.bell().filter(|_| takes).into_iter().for_each(|fd| watch(Source::Did, fd, PollFlags::POLLIN));
                viewers.wanted(now).into_iter().for_each(|fd| watch(Source::Wanted(at), fd, PollFlags::POLLIN));
            }
        }
        let accepts =
            || self.relays.iter().find(|(_, relay)| relay.is_of_console()).is_some_and(|(_, relay)| relay.accepts());
        if let Some(input) = console.input().filter(|_| accepts()) {
            watch(Source::Input, input, PollFlags::POLLIN);
        }
        if let Some(operators) = operators {
            operators.sources().for_each(|fd| watch(Source::Operator, fd, PollFlags::POLLIN));
        }
        for other in others {
            watch(Source::Other, *other, PollFlags::POLLIN);
        }
        if let Some(output) = console.blocked_output() {
            watch(Source::Output, output, PollFlags::POLLOUT);
        }
        let lives = self.hosts.iter().map(|host| &host.lives).chain(self.sealed.iter().map(|relay| &relay.lives));
        let due = lives.filter_map(Lives::due);
        let due = due.map(|due| due.saturating_duration_since(now));
        let due = due.chain(self.sealed.iter().filter_map(|relay| relay.used_up(now)));
        let viewers = || self.sealed.iter().filter(|relay| relay.lives.runs()).filter_map(SealedRelay::as_viewers);
        let due = due.chain(viewers().filter_map(|viewers| viewers.used_up(now)));
        let due = due.chain(viewers().any(|viewers| takes && viewers.has_more()).then_some(Duration::ZERO));
        let due = due.chain(self.hosts.iter().filter_map(|host| host.words.used_up(now))).min();
        // Rounded up, so that what is due is not looked for a moment too early, again and again.
        let wait = due.map_or(wait, |due| wait.min(due + Duration::from_micros(999)));
        let wait = if self.asked { PollTimeout::ZERO } else { PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX) };
        match poll(&mut polled, wait) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting for the VM's processes"),
        }
        let happened = |polled: &PollFd<'_>| polled.revents().is_some_and(|seen| !seen.is_empty());
        Ok(sources.into_iter().zip(&polled).filter(|(_, polled)| happened(polled)).map(|(source, _)| source).collect())
    }

    /// Has the display draw what it shows. Returns where, to read, and the generation of what was there before.
    pub fn screenshot(&mut self) -> Result<(Region<ReadOnly>, u64)> {
        let mut scanouts = self.objects.devices.iter().flat_map(|device| &device.scanouts);
        let (_, region) = scanouts.next().context("this machine has no display; add one with `--device vga`")?;
        let region = region.read_only()?;
        // Its host may have written what it likes; the number is only handed on.
        let mut generation = [0; size_of::<u64>()];
        region.map()?.read(0, &mut generation);
        self.refresh();
        Ok((region, u64::from_le_bytes(generation)))
    }

    /// Has displays draw what they show.
    fn refresh(&mut self) {
        let _ = self.vmm.channel.tell(&Refresh, &[]);
    }

    /// Presses the power button.
    pub fn press_button(&mut self) {
        let _ = self.vmm.channel.tell(&Button, &[]);
    }

    fn hear_vmm(&mut self) -> Option<Ended> {
        for turn in 0..=MESSAGES_PER_TURN {
            if turn == MESSAGES_PER_TURN {
                // There may be more.
                self.asked = true;
                return None;
            }
            match self.vmm.channel.receive(Some(Duration::ZERO)) {
                Ok(Some(packet)) => {
                    if let Some(ended) = self.heard_from_vmm(packet) {
                        return Some(ended);
                    }
                }
                Ok(None) => break,
                Err(fault) => {
                    let how = self.vmm.reap().map_or_else(|| fault.to_string(), str::to_owned);
                    return Some(Ended::Failed(format!("the VMM process ended: {how}")));
                }
            }
        }
        let how = self.vmm.reap()?.to_owned();
        Some(Ended::Failed(format!("the VMM process ended: {how}")))
    }

    fn heard_from_vmm(&mut self, packet: Packet) -> Option<Ended> {
        if packet.is::<Stopped>() {
            let Ok((stopped, _)) = packet.decode::<Stopped>() else { return None };
            // A guest that comes up again by itself, or an end that nobody asked for, is what people look into afterwards.
            let severity = if stopped.reason == Reason::Reset { Severity::Warning } else { Severity::Info };
            self.note(severity, "vmm", &stopped.text);
            return Some(match stopped.reason {
                Reason::PoweredOff => Ended::PoweredOff,
                Reason::Reset => Ended::Reset,
                Reason::Panicked => Ended::Panicked,
                Reason::Exit => Ended::Exit(stopped.code),
                Reason::Failed => Ended::Failed(printable(&stopped.text)),
            });
        }
        if packet.is::<Played>() {
            self.played = packet.decode::<Played>().ok().map(|(played, _)| played);
        } else if packet.is::<Changes>() {
            if let Ok((changes, _)) = packet.decode::<Changes>() {
                self.told.push_back(Told::Changes(changes.changes));
            }
        } else if packet.is::<Turned>() {
            if let Ok((turned, _)) = packet.decode::<Turned>() {
                self.told.push_back(Told::Turned(turned));
            }
        } else if packet.is::<Late>() {
            if let Ok((late, _)) = packet.decode::<Late>()
                && let Some(host) = self.hosts.get_mut(usize::from(late.host))
            {
                host.accuse(&late, &printable(&late.text));
            }
        } else if packet.is::<Log>()
            && let Ok((log, _)) = packet.decode::<Log>()
        {
            self.note(log.severity, "vmm", &log.text);
        }
        None
    }

    fn hear_host(&mut self, at: usize) {
        if !self.hosts[at].lives.runs() {
            return;
        }
        let (mut fault, mut logs, mut helper_is_gone) = (None, Vec::new(), false);
        for (number, channel) in self.hosts[at].process.channels().enumerate() {
            for _ in 0..MESSAGES_PER_TURN {
                match channel.receive(Some(Duration::ZERO)).map(|packet| packet.map(Packet::decode::<Log>)) {
                    Ok(Some(Ok((log, _)))) => logs.push(log),
                    Ok(None) => break,
                    Ok(Some(Err(broken))) | Err(broken) => {
                        // A host that ends closes its own channel first.
                        helper_is_gone |= number > 0 && broken == Fault::PeerGone && fault.is_none();
                        fault = Some(broken);
                        break;
                    }
                }
            }
        }
        let name = self.hosts[at].process.name.clone();
        logs.iter().for_each(|log| self.note(log.severity, &name, &log.text));
        let host = &mut self.hosts[at];
        host.words.count(logs.len() as u32, Instant::now());
        match fault {
            Some(fault) if fault != Fault::PeerGone && host.process.reap().is_none() => {
                host.condemn(format!("broke the protocol: {fault}"));
            }
            // A process that is ending closes its channel first. One that lives on without has nothing to say any more.
            Some(_) if helper_is_gone => host.process.follow_its_helper(),
            Some(_) => host.process.kill(),
            None => {}
        }
        if let Some((why, next)) = host.bury(&self.objects) {
            self.after_death(at, &why, next);
        }
    }

    /// An incarnation of a host is gone. The next one is made when it is due.
    fn after_death(&mut self, at: usize, why: &str, next: Next) {
        let name = self.hosts[at].process.name.clone();
        if matches!(next, Next::Retire) {
            // The VMM answers for its devices from now on.
            let _ = self.vmm.channel.tell(&Retire { host: at as u8, why: why.to_owned() }, &[]);
        }
        let what_next = next.told("its devices read as ones");
        self.note(Severity::Warning, &name, &format!("device host ended: {why}; {what_next}"));
    }

    /// Makes the next incarnation of a host.
    fn restart(&mut self, at: usize) {
        if self.hosts[at].is_broken()
            && let Err(error) = self.renew(at)
        {
            self.note(Severity::Warning, &self.hosts[at].process.name.clone(), &format!("{error:#}"));
        }
        match self.hosts[at].restart(&self.objects, SETUP_AGAIN) {
            // What it logged while a call waited for its reply is no longer in its socket.
            Ok(()) => self.hear_host(at),
            Err((why, next)) => self.after_death(at, &why, next),
        }
    }

    /// Wipes what a host that broke the rules left, and has the VMM begin anew with its lanes.
    fn renew(&mut self, at: usize) -> Result<()> {
        self.hosts[at].wipe(&self.objects)?;
        self.ask::<Renew, Empty>(&Renew { host: at as u8 }, &[], ANSWER).map(drop)
    }

    /// Makes the incarnations that are due.
    fn restart_due(&mut self) {
        let now = Instant::now();
        for at in 0..self.hosts.len() {
            if self.hosts[at].lives.due().is_some_and(|due| due <= now) {
                self.restart(at);
            }
        }
        for at in 0..self.sealed.len() {
            if self.sealed[at].lives.due().is_some_and(|due| due <= now)
                && let Err((why, next)) = self.sealed[at].restart(&self.objects)
            {
                self.after_end_of_relay(at, &why, next);
            }
        }
    }

    fn note(&mut self, severity: Severity, who: &str, text: &str) {
        let line = format!("{who}: {}", printable(text));
        if self.verbose && severity <= Severity::Warning {
            // The terminal may be raw: a bare line feed would not return the carriage.
            let _ = write!(std::io::stderr(), "cofferdam: {line}\r\n");
        }
        self.journal.add(line);
    }

    /// Kept log lines from number `from` on, at most `bound`, and the number to ask for next.
    #[must_use]
    pub fn log_since(&self, from: u64, bound: usize) -> (Vec<String>, u64) {
        self.journal.since(from, bound)
    }

    /// The log, which the machine after a reset goes on with.
    pub fn journal(&mut self) -> &mut Journal {
        &mut self.journal
    }

    /// How accesses were served so far.
    pub fn counters(&mut self) -> Result<Counted> {
        self.ask(&Counters, &[], ANSWER)
    }

    /// One access through the bus, as a vcpu would make it.
    pub fn drive(&mut self, access: Drive) -> Result<u64> {
        let patience = super::plan::DEADLINE + ANSWER;
        self.ask::<Drive, Driven>(&access, &[], patience).map(|driven| driven.value)
    }

    /// Plays steps of a machine that is driven, and goes on with everything else until they are done. What the machine told
    /// before is in [`Vm::told`] by then. An error of the second kind says how it has ended.
    pub fn play(
        &mut self,
        steps: Vec<Step>,
        console: &mut Console,
        signals: &Signals,
    ) -> Result<Result<Played, Ended>> {
        self.vmm.channel.tell(&Play { steps }, &[]).context("telling the VMM what to do")?;
        loop {
            if let Some(played) = self.played.take() {
                return Ok(Ok(played));
            }
            if let Some(ended) = self.step(console, None, signals, Duration::from_secs(60))? {
                return Ok(Err(ended));
            }
        }
    }

    /// The next thing that a driven machine has told.
    pub fn told(&mut self) -> Option<Told> {
        self.told.pop_front()
    }

    /// The labels of the plan's devices, in order.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Labels of the devices that each host runs, for tables; the VMM's own are those linked into it.
    #[must_use]
    pub fn devices_of(&self, host: &str) -> Vec<String> {
        let labels = |indices: &[usize]| indices.iter().map(|at| self.labels[*at].clone()).collect();
        match self.hosts.iter().find(|other| other.process.name == host) {
            Some(found) => labels(&found.group.devices),
            None if self.isolate == Isolate::None => self.labels.clone(),
            None => Vec::new(),
        }
    }

    /// Manifests of the plan's devices, in order.
    #[must_use]
    pub fn manifests(&self) -> &[Manifest] {
        &self.manifests
    }

    /// The first 16 MiB of guest memory, for a script that stands in for a guest.
    pub fn low_memory(&self) -> Result<GuestWindow> {
        let (_, _, region) = self.objects.memory.regions.first().context("every machine has low memory")?;
        Ok(GuestWindow::new(region.map()?))
    }

    /// Ends every process. They are killed together, then reaped.
    pub fn end(&mut self) {
        self.vmm.kill();
        for host in &self.hosts {
            host.process.kill();
        }
        for relay in &self.sealed {
            relay.process.kill();
        }
        self.vmm.end();
        for host in &mut self.hosts {
            host.process.end();
        }
        for relay in &mut self.sealed {
            relay.process.end();
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.end();
    }
}

/// Text of a child as one bounded, harmless line: terminals obey escapes.
fn printable(text: &str) -> String {
    text.chars().take(LOG_TEXT).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Waiting by polling needs a processor for each side.
fn may_spin(plan: &Plan) -> bool {
    match plan.pins {
        Some(pins) => pins.vmm != pins.hosts,
        None => std::thread::available_parallelism().is_ok_and(|count| count.get() > usize::from(plan.cpus)),
    }
}

impl Vm {
    /// Steps until the VM ends or `until` has passed.
    pub fn run_until(&mut self, console: &mut Console, signals: &Signals, until: Instant) -> Result<Option<Ended>> {
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            if let Some(ended) = self.step(console, None, signals, left)? {
                return Ok(Some(ended));
            }
        }
        Ok(None)
    }
}
