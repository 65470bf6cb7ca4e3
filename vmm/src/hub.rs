//! The thread that waits for everything but the guest: the supervisor, hosts' hints, switches and alarms.
//!
//! It never waits for a host. What might (a driven access, the hosts' last work at the end) is the worker's.

use crate::lock;
use crate::machine::Machine;
use crate::outbox::Event;
use crate::quota::Quota;
use crate::vcpu::Running;
use imc::{CallId, Channel, Fault, Packet, SendError, Wake};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use schema::host::{Empty, Severity};
use schema::lane::Operation;
use schema::manifest::{Power, Switch};
use schema::play::{Change, Changes, Play, Turned};
use schema::vmm::{Button, Counted, Counters, Drive, Driven, Reason, Refresh, Renew, Retire};
use std::collections::{BTreeSet, VecDeque};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Messages of the supervisor taken at one turn, so that alarms are not late behind them.
const MESSAGES_PER_TURN: usize = 16;
/// The hub looks again after this where nothing will wake it: a lane that was busy when an alarm was due, an alarm that its
/// host has not answered yet, a channel that was full. Short enough for a timer of a kilohertz.
const AGAIN: Duration = Duration::from_millis(1);

/// Hints of one host that are followed up within [`AGAIN`]; the rest is followed up at its end, as one. Twice what the fastest
/// clock of a PC asks for, 8192 a second; and little work, so that a host that rings without end takes no time from the others.
const HINTS_MAX: u32 = 16;

/// Switches turned that wait to be told of: more than the devices of a machine have.
const TURNED_MAX: usize = 64;

/// Something the hub sleeps on.
pub enum Source {
    /// A host says that its irq levels, or its next deadline, changed of its own accord.
    Irq {
        /// Which host.
        host: u8,
        /// Rung by it.
        wake: Wake,
    },
    /// A device's switch.
    Switch {
        /// Which device.
        device: u8,
        /// What it does.
        switch: Switch,
        /// Rung by the device's host.
        wake: Wake,
    },
}

/// What the hub is made of, beside its channel.
pub struct Parts {
    /// The machine.
    pub machine: Arc<Machine>,
    /// What it sleeps on beside the channel.
    pub sources: Vec<Source>,
    /// The vcpus' threads.
    pub vcpus: Vec<Running>,
    /// Does what may have to wait for a host.
    pub worker: Arc<Worker>,
    /// The hub sends message-signalled interrupts, because no kernel does.
    pub sends_messages: bool,
    /// A host that leaves an alarm unanswered for so long is late.
    pub deadline: Duration,
    /// And for so many of them is given up.
    pub deadlines: u32,
    /// The machine is driven: it goes on when a switch is turned, and that is told, as changes of interrupt inputs are.
    pub driven: bool,
}

/// The loop of the VMM's first thread.
pub struct Hub {
    channel: Channel,
    machine: Arc<Machine>,
    parts: Parts,
    alarms: Vec<Alarm>,
    /// Of each source.
    hints: Vec<Quota>,
    /// Hosts whose hint could not be followed up, because a vcpu was at one of their lanes.
    unheard: BTreeSet<u8>,
    /// The drive call that the worker is at.
    driving: Option<CallId>,
    /// The worker is at steps of a driven machine.
    playing: bool,
    /// Switches that were turned and not told of yet.
    turned: VecDeque<Turned>,
    /// Changes of interrupt inputs that were not told of yet.
    changes: Vec<Change>,
    /// The run has ended and vcpus were told to stop.
    ending: bool,
    /// Rises of interrupt inputs that a processor which steps was told of.
    rises: u64,
}

/// What the hub knows of a device's alarm.
#[derive(Debug, Clone, Copy, Default)]
struct Alarm {
    /// The committed deadline for which an alarm is on its way, and when it was sent.
    sent: Option<(u64, u64)>,
    /// How many deadlines it was not answered in.
    missed: u32,
    /// The power button was pressed and the device's lane was busy.
    button: bool,
    /// Somebody wants to see what the device shows, and its lane was busy.
    refresh: bool,
}

impl Hub {
    /// A hub that has heard nothing yet.
    pub fn new(channel: Channel, parts: Parts) -> Hub {
        let machine = Arc::clone(&parts.machine);
        let alarms = vec![Alarm::default(); machine.devices.len()];
        let hints = vec![Quota::new(HINTS_MAX, AGAIN, Instant::now()); parts.sources.len()];
        Hub {
            channel,
            machine,
            parts,
            alarms,
            hints,
            unheard: BTreeSet::new(),
            driving: None,
            playing: false,
            turned: VecDeque::new(),
            changes: Vec::new(),
            ending: false,
            rises: 0,
        }
    }

    /// Serves until the supervisor is gone or talks nonsense.
    pub fn run(mut self) -> Fault {
        loop {
            if let Err(fault) = self.turn() {
                return fault;
            }
        }
    }

    /// Sleeps until there is something to do, and does it.
    fn turn(&mut self) -> Result<(), Fault> {
        let wait = self.alarms();
        let unsent = !self.tell()?;
        let now = Instant::now();
        let hushed = self.hints.iter().any(|hints| hints.used_up(now).is_some());
        self.sleep(if unsent || hushed || !self.unheard.is_empty() {
            Some(wait.map_or(AGAIN, |wait| wait.min(AGAIN)))
        } else {
            wait
        })?;
        // Before anything that they could be about is looked at.
        self.machine.outbox.bell().drain();
        let now = Instant::now();
        for (source, hints) in self.parts.sources.iter().zip(&mut self.hints) {
            match source {
                Source::Irq { .. } if hints.used_up(now).is_some() => {}
                Source::Irq { host, wake } => {
                    let rang = wake.drain().is_some();
                    if rang {
                        hints.count(1, now);
                    }
                    if (rang | self.unheard.remove(host)) && !self.machine.levels_changed(*host) {
                        self.unheard.insert(*host);
                    }
                }
                Source::Switch { device, switch, wake } => match wake.drain() {
                    Some(value) if self.parts.driven && self.turned.len() < TURNED_MAX => {
                        self.turned.push_back(Turned { device: *device, switch: *switch, value });
                    }
                    Some(count) if !self.parts.driven => turn_switch(&self.machine, *device, *switch, count),
                    _ => {}
                },
            }
        }
        self.tell_rises();
        self.machine.tell_late();
        if self.parts.sends_messages {
            self.machine.send_messages();
        }
        self.hear()?;
        self.end();
        Ok(())
    }

    /// Sends the alarms that are due. Says when to look again, if anything is to be waited for.
    fn alarms(&mut self) -> Option<Duration> {
        self.machine.sleep.look();
        let now = self.machine.now();
        // With the virtual clock alarms are part of what is played.
        let by_play = self.machine.clock().is_virtual();
        let (mut earliest, mut again) = (u64::MAX, false);
        let mut late = Vec::new();
        for (device, alarm) in self.machine.devices.iter().zip(&mut self.alarms) {
            if device.lane.is_retired() || self.ending {
                continue;
            }
            for (wanted, operation) in
                [(&mut alarm.button, Operation::Button), (&mut alarm.refresh, Operation::Refresh)]
            {
                if *wanted {
                    *wanted = !device.lane.notify(operation, now);
                    again |= *wanted;
                }
            }
            if by_play {
                continue;
            }
            // Nothing else may say that an alarm was the last one.
            if alarm.sent.is_some() {
                self.machine.refresh(device);
            }
            match (device.lane.deadline(), alarm.sent) {
                (Some(deadline), Some((sent, since))) if deadline == sent => {
                    if u128::from(now - since) > self.parts.deadline.as_nanos() {
                        alarm.sent = Some((sent, now));
                        alarm.missed += 1;
                        late.push((device, alarm.missed >= self.parts.deadlines));
                    }
                    again = true;
                }
                (Some(deadline), _) if deadline <= now => {
                    let sent = device.lane.notify(Operation::Alarm, now);
                    alarm.sent = sent.then_some((deadline, now));
                    alarm.missed = 0;
                    again = true;
                }
                (deadline, _) => {
                    alarm.sent = None;
                    earliest = earliest.min(deadline.unwrap_or(u64::MAX));
                }
            }
        }
        for (device, is_last) in late {
            let text = format!("{} did not answer an alarm in time", device.manifest.name);
            if is_last { self.machine.give_up(device.host, false, text) } else { self.machine.late(device.host, text) }
        }
        // Where nobody waits for an alarm, no deadline ends a sleep.
        self.machine.sleep.until(if by_play { 0 } else { earliest });
        let wait = (earliest != u64::MAX).then(|| Duration::from_nanos(earliest.saturating_sub(self.machine.now())));
        if again { Some(wait.map_or(AGAIN, |wait| wait.min(AGAIN))) } else { wait }
    }

    fn sleep(&self, wait: Option<Duration>) -> Result<(), Fault> {
        let mut polled = vec![readable(&self.channel), readable(self.machine.outbox.bell())];
        let now = Instant::now();
        let heard = self.parts.sources.iter().zip(&self.hints).filter(|(_, hints)| hints.used_up(now).is_none());
        polled.extend(heard.map(|(source, _)| match source {
            Source::Irq { wake, .. } | Source::Switch { wake, .. } => readable(wake),
        }));
        if self.parts.sends_messages {
            for vectors in self.machine.devices.iter().filter_map(|device| device.vectors.as_ref()) {
                let may_send = |(index, _): &(usize, &Wake)| vectors.may_send(*index);
                polled.extend(vectors.wakes().iter().enumerate().filter(may_send).map(|(_, wake)| readable(wake)));
            }
        }
        match ppoll(&mut polled, wait.map(TimeSpec::from_duration), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(Fault::Io(error)),
        }
    }

    /// Tells the supervisor what waits. False: the channel is full, and some of it still waits.
    fn tell(&mut self) -> Result<bool, Fault> {
        while let Some(event) = self.machine.outbox.pop() {
            let sent = match &event {
                Event::Late(late) => self.channel.tell(late, &[]),
                Event::Log(log) => self.channel.tell(log, &[]),
                Event::Finished => match self.machine.ending() {
                    Some(stopped) => self.channel.tell(&stopped, &[]),
                    None => Ok(()),
                },
                Event::Driven(value) => match (self.driving, value) {
                    (Some(call), Some(value)) => self.channel.reply(call, &Driven { value: *value }, &[]),
                    (Some(call), None) => self.channel.refuse(call, "there is no such access"),
                    (None, _) => Ok(()),
                },
                Event::Played(played) => self.channel.tell(played, &[]),
                Event::Turned(turned) => self.channel.tell(turned, &[]),
                Event::Count(call) => {
                    let counted = Counted { devices: self.machine.counters(), exits: self.machine.exits() };
                    self.channel.reply(*call, &counted, &[])
                }
                Event::Done(call) => self.channel.reply(*call, &Empty, &[]),
                Event::Refuse(call, why) => self.channel.refuse(*call, why),
            };
            match sent {
                Ok(()) => match event {
                    Event::Driven(_) => self.driving = None,
                    Event::Played(_) => self.playing = false,
                    _ => {}
                },
                Err(SendError::Full) => {
                    self.machine.outbox.put_back(event);
                    return Ok(false);
                }
                Err(error) => return Err(unsent(error)),
            }
        }
        self.tell_driver()
    }

    /// Tells who drives the machine what happened of its own accord. False: some of it still waits.
    fn tell_driver(&mut self) -> Result<bool, Fault> {
        // What happens during steps is told with their outcomes.
        if !self.playing && self.changes.is_empty() {
            self.changes = self.machine.pins.changes();
        }
        if !self.changes.is_empty() {
            let changes = std::mem::take(&mut self.changes);
            let told = Changes { changes };
            match self.channel.tell(&told, &[]) {
                Ok(()) => {}
                Err(SendError::Full) => {
                    self.changes = told.changes;
                    return Ok(false);
                }
                Err(error) => return Err(unsent(error)),
            }
        }
        while let Some(turned) = self.turned.front() {
            match self.channel.tell(turned, &[]) {
                Ok(()) => drop(self.turned.pop_front()),
                Err(SendError::Full) => return Ok(false),
                Err(error) => return Err(unsent(error)),
            }
        }
        Ok(true)
    }

    fn hear(&mut self) -> Result<(), Fault> {
        for _ in 0..MESSAGES_PER_TURN {
            let Some(packet) = self.channel.receive(Some(Duration::ZERO))? else { return Ok(()) };
            self.heard(packet)?;
        }
        // There may be more, which nothing but another look will show.
        self.machine.outbox.wake();
        Ok(())
    }

    fn heard(&mut self, packet: Packet) -> Result<(), Fault> {
        match packet.call {
            None if packet.is::<Retire>() => {
                let (retire, _) = packet.decode::<Retire>()?;
                self.machine.retire(retire.host);
            }
            None if packet.is::<Button>() => {
                packet.decode::<Button>()?;
                // The button is wired to fixed power management hardware.
                let wired = |device: &crate::machine::Device| {
                    device.manifest.acpi.as_ref().is_some_and(|acpi| acpi.fixed.is_some())
                };
                for (device, alarm) in self.machine.devices.iter().zip(&mut self.alarms) {
                    alarm.button |= wired(device);
                }
            }
            None if packet.is::<Refresh>() => {
                packet.decode::<Refresh>()?;
                let draws = |device: &crate::machine::Device| {
                    device.manifest.wishes.iter().any(|wish| wish.power == Power::Scanout)
                };
                for (device, alarm) in self.machine.devices.iter().zip(&mut self.alarms) {
                    alarm.refresh |= draws(device);
                }
            }
            // Who drives waits for the outcomes before it goes on.
            None if packet.is::<Play>() && self.parts.driven && !self.playing => {
                let (play, _) = packet.decode::<Play>()?;
                self.playing = true;
                self.parts.worker.give(Job::Play(play));
            }
            Some(call) if packet.is::<Counters>() => {
                packet.decode::<Counters>()?;
                self.machine.outbox.push(Event::Count(call));
            }
            Some(call) if packet.is::<Renew>() => {
                let (renew, _) = packet.decode::<Renew>()?;
                self.machine.renew(renew.host);
                self.machine.outbox.push(Event::Done(call));
            }
            Some(call) if packet.is::<Drive>() => {
                let (access, _) = packet.decode::<Drive>()?;
                if self.driving.is_some() {
                    self.machine.outbox.push(Event::Refuse(call, "another access is under way"));
                } else {
                    self.driving = Some(call);
                    self.parts.worker.give(Job::Drive(access));
                }
            }
            Some(call) => {
                self.machine
                    .outbox
                    .push(Event::Refuse(call, "the machine runs, and this is no call to a running machine"));
            }
            // From a supervisor that knows more messages than we do.
            None => {}
        }
        Ok(())
    }

    /// A processor that steps while an input is up does not see one that rose while it runs.
    fn tell_rises(&mut self) {
        let rises = self.machine.pins.rises();
        if rises != self.rises {
            self.rises = rises;
            self.parts.vcpus.iter().filter(|vcpu| vcpu.steps()).for_each(Running::kick);
        }
    }

    /// When the run has ended: stops the vcpus, and has the hosts finish before the supervisor is told.
    fn end(&mut self) {
        if self.machine.is_stopped() && !self.ending {
            self.ending = true;
            self.parts.vcpus.iter().for_each(Running::kick);
            self.parts.worker.give(Job::Finish);
        }
    }
}

/// A message that cannot be sent, for another reason than a full queue.
fn unsent(error: SendError) -> Fault {
    match error {
        SendError::Gone | SendError::Full => Fault::PeerGone,
        SendError::Body(error) => Fault::BadBody(error),
        SendError::Handles => Fault::HandleCount,
        SendError::NotOwed => Fault::BadTxid,
        SendError::Io(error) => Fault::Io(error),
    }
}

fn readable(source: &impl AsFd) -> PollFd<'_> {
    PollFd::new(source.as_fd(), PollFlags::POLLIN)
}

/// A device turned a switch `count` times, or once with that number.
fn turn_switch(machine: &Machine, device: u8, switch: Switch, count: u64) {
    let name = machine.devices.get(usize::from(device)).map_or("?", |device| &device.manifest.name);
    let (reason, code, what) = match switch {
        Switch::Reset => (Reason::Reset, 0, "a reset"),
        Switch::PowerOff => (Reason::PoweredOff, 0, "power off"),
        Switch::Panicked => (Reason::Panicked, 0, "an end, as after a panic"),
        // An eventfd cannot carry zero, so the number is sent as one more.
        Switch::Exit => (Reason::Exit, (count - 1) as u32, "an end with a number"),
        Switch::CrashLoaded => {
            let text = format!("{name}: the guest panicked, and goes on in its crash kernel");
            return machine.outbox.log(Severity::Warning, text);
        }
    };
    machine.stop(reason, code, format!("{name}: the guest asks for {what}"));
}

/// A thread that may wait for a host, so that the hub need not.
#[derive(Default)]
pub struct Worker {
    jobs: Mutex<VecDeque<Job>>,
    given: Condvar,
}

/// What the worker is given. The hub gives one access, one play of steps and one end at a time, so there are never more than three.
pub enum Job {
    /// An access of the supervisor.
    Drive(Drive),
    /// Steps of a driven machine.
    Play(Play),
    /// The run has ended: let each host finish.
    Finish,
}

impl Worker {
    /// Works for ever, once the machine runs.
    pub fn run(&self, machine: &Machine) -> ! {
        machine.gate.wait();
        loop {
            match self.take() {
                Job::Drive(access) => machine.outbox.push(Event::Driven(machine.drive(&access))),
                Job::Play(play) => machine.outbox.push(Event::Played(machine.play(&play.steps))),
                Job::Finish => {
                    machine.finish();
                    machine.outbox.push(Event::Finished);
                }
            }
        }
    }

    fn give(&self, job: Job) {
        lock(&self.jobs).push_back(job);
        self.given.notify_one();
    }

    fn take(&self) -> Job {
        let mut jobs = lock(&self.jobs);
        loop {
            if let Some(job) = jobs.pop_front() {
                return job;
            }
            jobs = self.given.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
