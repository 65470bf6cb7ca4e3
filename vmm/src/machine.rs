//! The running machine: what every vcpu thread, the hub and the worker share.
//!
//! Locks are taken in this order, and each for its own device or input only: PCI configuration, bus, vectors, routes; PCI
//! configuration, what is shadowed, memory slots; PCI configuration, a device's lines, the routes of the bus's interrupts, an
//! interrupt input. A lane's lock is never held together with one of these, so a host that does not answer stops nobody but who
//! waits for it.

use crate::bus::{Bus, Route, Space, Target};
use crate::chipset::controllers::Controllers;
use crate::chipset::port92::Port92;
use crate::chipset::shadow::Shadow;
use crate::clock::Clock;
use crate::direct::Direct;
use crate::exit::to_bytes;
use crate::irq::{Lines, Pins};
use crate::kvm::{BellPlace, Bells, Vm};
use crate::lock;
use crate::memory::{self, BUS_WINDOW, SHADOW};
use crate::outbox::{Event, Outbox};
use crate::pci::{Effect, Pci};
use crate::vectors::Vectors;
use imc::Wake;
use imc::lane::{Lane, LaneError};
use schema::host::Severity;
use schema::lane::Operation;
use schema::manifest::{self, Manifest, Switch};
use schema::play::{OUTSIDE, Turned};
use schema::vmm::{DeviceCounters, Drive, Late, Reason, Stopped};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use vm_memory::{Bytes, GuestAddress};

/// Where a processor may find something else than memory, below 1 MiB.
const BELOW_1_MIB: std::ops::Range<u64> = BUS_WINDOW.start..SHADOW.end;

/// A device as its VMM knows it: a lane, interrupts, and nothing of what it is.
pub struct Device {
    /// Its number.
    pub id: u8,
    /// Number of the host that serves it.
    pub host: u8,
    /// What it declares.
    pub manifest: Manifest,
    /// Its access path.
    pub lane: Lane,
    /// Its pin interrupts.
    pub lines: Lines,
    /// Its message-signalled interrupts.
    pub vectors: Option<Vectors>,
    /// Its ranges that are memory.
    pub direct: Vec<Direct>,
    /// What its doorbells ring, if it has some.
    pub wake: Option<Wake>,
}

/// What the machine stands on: memory and, if there is one, the virtual machine of KVM.
pub struct Platform {
    memory: Shadow,
    bells: Option<Bells>,
    clock: Clock,
    /// Not on the bus where the kernel has its own.
    controllers: Arc<Controllers>,
    /// The machine is driven, and goes on when it is reset.
    driven: bool,
    /// Keeps the memory that the guest sees.
    _vm: Option<Vm>,
}

impl Platform {
    /// What processors find in memory, the virtual machine that they belong to, and time.
    pub fn new(memory: Shadow, vm: Option<Vm>, clock: Clock) -> Platform {
        Platform {
            memory,
            bells: vm.as_ref().map(Vm::bells),
            clock,
            controllers: Arc::default(),
            driven: false,
            _vm: vm,
        }
    }

    /// With these interrupt controllers.
    #[must_use]
    pub fn with(self, controllers: Arc<Controllers>) -> Platform {
        Platform { controllers, ..self }
    }

    /// Of a machine that is driven: that it was reset is told, and it goes on.
    #[must_use]
    pub fn driven(self, driven: bool) -> Platform {
        Platform { driven, ..self }
    }
}

/// The machine.
pub struct Machine {
    /// By number.
    pub devices: Vec<Device>,
    /// Interrupt inputs.
    pub pins: Pins,
    /// Opened when the machine starts.
    pub gate: Gate,
    /// What is to be told to the supervisor; who puts something in wakes the hub.
    pub outbox: Outbox,
    /// The hub's sleep.
    pub sleep: Sleep,
    platform: Platform,
    bus: RwLock<Bus>,
    pci: Mutex<Pci>,
    port92: Port92,
    stopped: AtomicBool,
    ending: Mutex<Option<Stopped>>,
    /// A host that dies, is late or breaks the rules is started anew.
    restarts: bool,
    /// Hosts that were given up.
    failed: Mutex<HashSet<u8>>,
    /// Devices whose lanes wait to be renewed, because a host broke the rules.
    broken: Mutex<HashSet<u8>>,
    exits: AtomicU64,
}

impl Machine {
    /// Puts a machine together; nothing runs yet.
    pub fn new(
        devices: Vec<Device>,
        pins: Pins,
        bus: Bus,
        pci: Pci,
        platform: Platform,
        outbox: Outbox,
        restarts: bool,
    ) -> Machine {
        Machine {
            devices,
            pins,
            gate: Gate::default(),
            outbox,
            sleep: Sleep::default(),
            platform,
            bus: RwLock::new(bus),
            pci: Mutex::new(pci),
            port92: Port92::default(),
            stopped: AtomicBool::new(false),
            ending: Mutex::new(None),
            restarts,
            failed: Mutex::default(),
            broken: Mutex::default(),
            exits: AtomicU64::new(0),
        }
    }

    /// The machine runs: its clock begins, and whoever waits at the gate goes on.
    pub fn start(&self) {
        self.clock().start();
        self.gate.open();
    }

    /// Nanoseconds since the machine started; zero before.
    pub fn now(&self) -> u64 {
        self.clock().now()
    }

    /// Where they come from.
    pub fn clock(&self) -> &Clock {
        &self.platform.clock
    }

    /// A guest load: one that KVM showed the processor no memory for, or any other.
    pub fn load(&self, space: Space, address: u64, width: u8) -> u64 {
        let Some(Route { target, offset }) = self.route(space, address, width) else {
            let memory = (space == Space::Memory).then(|| self.platform.memory.load(address, width));
            return memory.flatten().unwrap_or(ones(width));
        };
        match target {
            Target::Device { device, range } => self.load_device(device, range, offset, width),
            Target::PciConfig => lock(&self.pci).read(offset, width, |device| self.asserts_pin(device)) & ones(width),
            Target::Port92 => self.port92.read().into(),
            Target::Controllers(part) => self.platform.controllers.read(part, offset, width) & ones(width),
            Target::Vectors { device } => {
                self.vectors(device).map_or(ones(width), |vectors| vectors.read(offset, width))
            }
        }
    }

    /// Loads that one string instruction makes of a port: elements of `width` bytes, of which `data` has room for a whole number.
    pub fn load_string(&self, port: u16, width: u8, data: &mut [u8]) {
        let mut left = data;
        while !left.is_empty() {
            let bytes = self.load_some(port, width, left).clamp(1, left.len());
            left = &mut left[bytes..];
        }
    }

    /// The first of them. Says how many bytes they are.
    fn load_some(&self, port: u16, width: u8, data: &mut [u8]) -> usize {
        let element = usize::from(width).min(data.len());
        if data.len() > element
            && let Some(Route { target: Target::Device { device, range }, offset }) =
                self.route(Space::Port, port.into(), width)
            && let Some(found) = self.device(device)
            && found.lane.joins(range, offset, width)
        {
            match found.lane.read_string(range, offset, width, data, self.now()) {
                Ok(bytes) => {
                    self.settle(found);
                    return bytes;
                }
                Err(error) => self.lane_failed(found, error),
            }
            data[..element].fill(u8::MAX);
            return element;
        }
        to_bytes(self.load(Space::Port, port.into(), width), &mut data[..element]);
        element
    }

    /// A guest store: one that KVM showed the processor no memory for, or any other.
    pub fn store(&self, space: Space, address: u64, width: u8, value: u64) {
        let Some(Route { target, offset }) = self.route(space, address, width) else {
            if space == Space::Memory {
                self.platform.memory.store(address, width, value);
            }
            return;
        };
        let value = value & ones(width);
        match target {
            Target::Device { device, range } => self.store_device(device, range, offset, width, value),
            Target::PciConfig => self.configure(offset, width, value),
            Target::Port92 => {
                if self.port92.write(value as u8) {
                    self.reset();
                }
            }
            Target::Controllers(part) => self.platform.controllers.write(part, offset, width, value),
            Target::Vectors { device } => {
                if let Some(vectors) = self.vectors(device) {
                    self.note(vectors.write(offset, width, value), device);
                }
            }
        }
    }

    /// One access as a vcpu would make it, including those that memory answers. `None`: there is no such access.
    pub fn drive(&self, access: &Drive) -> Option<u64> {
        let widths: &[u8] = if access.port { &[1, 2, 4] } else { &[1, 2, 4, 8] };
        if !widths.contains(&access.width) || (access.port && access.address > u64::from(u16::MAX)) {
            return None;
        }
        let space = if access.port { Space::Port } else { Space::Memory };
        if access.write {
            self.store(space, access.address, access.width, access.value);
            Some(0)
        } else {
            Some(self.load(space, access.address, access.width))
        }
    }

    /// A load of any length from guest memory where nothing else is ever found. False: it may be elsewhere.
    pub fn read_ram(&self, address: u64, into: &mut [u8]) -> bool {
        !memory::overlaps(&BELOW_1_MIB, address, into.len() as u64)
            && self.platform.memory.ram().read_slice(into, GuestAddress(address)).is_ok()
    }

    /// A store of any length, likewise.
    pub fn write_ram(&self, address: u64, from: &[u8]) -> bool {
        !memory::overlaps(&BELOW_1_MIB, address, from.len() as u64)
            && self.platform.memory.ram().write_slice(from, GuestAddress(address)).is_ok()
    }

    /// What answers an access.
    pub fn route(&self, space: Space, address: u64, width: u8) -> Option<Route> {
        let bus = self.bus.read().unwrap_or_else(PoisonError::into_inner);
        bus.lookup(space, address, width)
    }

    fn load_device(&self, device: u8, range: u8, offset: u64, width: u8) -> u64 {
        let Some(found) = self.device(device) else { return ones(width) };
        if let Some(direct) = found.direct.iter().find(|direct| direct.range == range) {
            return direct.load(offset, width).unwrap_or(ones(width));
        }
        match found.lane.read(range, offset, width, self.now()) {
            Ok(value) => {
                self.settle(found);
                value & ones(width)
            }
            Err(error) => {
                self.lane_failed(found, error);
                ones(width)
            }
        }
    }

    fn store_device(&self, device: u8, range: u8, offset: u64, width: u8, value: u64) {
        let Some(found) = self.device(device) else { return };
        if let Some(direct) = found.direct.iter().find(|direct| direct.range == range) {
            return direct.store(offset, width, value);
        }
        match found.lane.write(range, offset, width, value, self.now()) {
            Ok(()) => self.settle(found),
            Err(error) => self.lane_failed(found, error),
        }
    }

    /// Before an access completes, what it committed takes effect: irq levels, and the hub's sleep if it must end sooner.
    fn settle(&self, device: &Device) {
        device.lines.apply(&self.pins, || device.lane.levels());
        if let Some(deadline) = device.lane.deadline()
            && self.sleep.is_longer_than(deadline)
        {
            self.outbox.wake();
        }
    }

    /// A host says that its levels or deadlines changed, or may have. False: a vcpu was just asking it, so that not all could
    /// be looked at; try again a little later.
    pub fn levels_changed(&self, host: u8) -> bool {
        let mut all = true;
        for device in self.devices.iter().filter(|device| device.host == host) {
            all &= self.refresh(device);
            device.lines.apply(&self.pins, || device.lane.levels());
        }
        all
    }

    /// Takes what a device has told of its own accord. False: not all could be taken now.
    pub fn refresh(&self, device: &Device) -> bool {
        device.lane.refresh().unwrap_or_else(|error| {
            self.lane_failed(device, error);
            true
        })
    }

    fn lane_failed(&self, device: &Device, error: LaneError) {
        let name = &device.manifest.name;
        match error {
            // It is dead already and whoever saw it die has said so.
            LaneError::Gone => {}
            LaneError::Late => self.give_up(device.host, false, format!("{name} did not answer in time")),
            LaneError::Violation(what) if self.restarts => self.broke(device, format!("{name}: {what}")),
            LaneError::Violation(what) => self.give_up(device.host, true, format!("{name}: {what}")),
        }
    }

    /// A host missed its deadline or broke the lane's rules: its devices are dead from now on, and the supervisor, who can
    /// kill it, is told.
    pub fn give_up(&self, host: u8, violation: bool, text: String) {
        if lock(&self.failed).insert(host) {
            self.outbox.push(Event::Late(Late { host, violation, text, device: 0, issued: 0, gave_up: true }));
        }
        self.retire(host);
    }

    /// A host missed a deadline: the supervisor, who can start it anew, is told. Who waits for it waits on.
    pub fn late(&self, host: u8, text: String) {
        self.outbox.push(Event::Late(Late { host, violation: false, text, device: 0, issued: 0, gave_up: false }));
    }

    /// Tells of the lanes whose operations have missed a deadline and are waited for all the same.
    pub fn tell_late(&self) {
        for device in self.devices.iter().filter(|device| device.lane.take_late()) {
            self.late(device.host, format!("{} did not answer in time", device.manifest.name));
        }
    }

    /// A host broke the rules of this device's lane, which has retired itself: loads are ones and lines low, until the
    /// supervisor has put another host in its place.
    fn broke(&self, device: &Device, text: String) {
        if lock(&self.broken).insert(device.id) {
            device.lines.kill(&self.pins);
            let (host, issued) = (device.host, device.lane.issued());
            let late = Late { host, violation: true, text, device: device.id, issued, gave_up: false };
            self.outbox.push(Event::Late(late));
        }
    }

    /// Nothing of `host` is left running, and what its violations left is wiped: the lanes that it broke begin anew.
    pub fn renew(&self, host: u8) {
        if lock(&self.failed).contains(&host) {
            return;
        }
        for device in self.devices.iter().filter(|device| device.host == host) {
            if lock(&self.broken).remove(&device.id) {
                device.lines.revive();
                if let Err(error) = device.lane.renew() {
                    self.lane_failed(device, error);
                }
            }
        }
    }

    /// The devices of `host` are dead: loads are ones, stores vanish, lines are low.
    pub fn retire(&self, host: u8) {
        for device in self.devices.iter().filter(|device| device.host == host) {
            device.lane.retire();
            device.lines.kill(&self.pins);
        }
    }

    /// Whether a device asserts a PCI pin, whether or not the guest lets it through.
    fn asserts_pin(&self, device: u8) -> bool {
        self.device(device).is_some_and(|found| found.lines.has_pin(found.lane.levels().high))
    }

    /// The device of this number.
    pub fn device(&self, device: u8) -> Option<&Device> {
        self.devices.get(usize::from(device))
    }

    fn vectors(&self, device: u8) -> Option<&Vectors> {
        self.device(device)?.vectors.as_ref()
    }

    /// A store to PCI configuration space. Its effects are applied under the same lock, so they happen in its order.
    fn configure(&self, offset: u64, width: u8, value: u64) {
        let mut pci = lock(&self.pci);
        for effect in pci.write(offset, width, value) {
            self.apply(effect);
        }
    }

    fn apply(&self, effect: Effect) {
        let bus = || self.bus.write().unwrap_or_else(PoisonError::into_inner);
        match effect {
            Effect::Map { target, space, base, length } => {
                let inserted = bus().insert(space, base, length, target);
                match (inserted, target) {
                    (Ok(()), Target::Device { device, range }) => {
                        self.show(device, range, base);
                        self.ring_from(device, range, space, base, true);
                    }
                    (Ok(()), _) => {}
                    // On top of a fixed device: the guest's own doing, and the fixed device stays.
                    (Err(error), _) => self.outbox.log(Severity::Warning, error.to_string()),
                }
            }
            Effect::Unmap { target, space, base, length: _ } => {
                // One that was not mapped for lack of room is not there.
                let there = self.route(space, base, 1).is_some_and(|route| route.target == target);
                if let Target::Device { device, range } = target
                    && there
                {
                    self.hide(device, range);
                    self.ring_from(device, range, space, base, false);
                }
                bus().remove(space, base, target);
            }
            Effect::Vectors { device, enabled, masked } => {
                let Some(found) = self.device(device) else { return };
                found.lines.set_messages(&self.pins, enabled, || found.lane.levels());
                if let Some(vectors) = &found.vectors {
                    self.note(vectors.control(enabled, masked), device);
                }
            }
            Effect::Shadow(registers) => {
                if let Err(error) = self.platform.memory.set(&registers) {
                    self.stop(Reason::Failed, 0, error.to_string());
                }
            }
            Effect::Route { pirq, input } => self.pins.route(pirq, input),
            Effect::Reset => self.reset(),
            Effect::InterruptDisable { device, disabled } => {
                if let Some(found) = self.device(device) {
                    found.lines.set_disabled(&self.pins, disabled, || found.lane.levels());
                }
            }
        }
    }

    /// Shows the guest a device's own memory, if the range is that, where the range now is.
    fn show(&self, device: u8, range: u8, base: u64) {
        if let Some(direct) = self.direct(device, range) {
            self.note(direct.show(base), device);
        }
    }

    fn hide(&self, device: u8, range: u8) {
        if let Some(direct) = self.direct(device, range) {
            self.note(direct.hide(), device);
        }
    }

    fn direct(&self, device: u8, range: u8) -> Option<&Direct> {
        self.device(device)?.direct.iter().find(|direct| direct.range == range)
    }

    /// Hangs the doorbells of all ranges that never move. Those of BARs follow when the guest maps them.
    pub fn hang_fixed_bells(&self) {
        for (device, found) in self.devices.iter().enumerate() {
            for (range, declared) in found.manifest.ranges.iter().enumerate() {
                let (space, base) = match declared.space {
                    manifest::Space::Port(port) => (Space::Port, u64::from(port)),
                    manifest::Space::Memory(address) => (Space::Memory, address),
                    manifest::Space::Bar(_) | manifest::Space::PortBar(_) => continue,
                };
                self.ring_from(device as u8, range as u8, space, base, true);
            }
        }
    }

    /// Hangs or takes down the doorbells of a range that is now at `base`. Where the kernel cannot, the store takes the lane.
    fn ring_from(&self, device: u8, range: u8, space: Space, base: u64, hang: bool) {
        let (Some(bells), Some(found)) = (&self.platform.bells, self.device(device)) else { return };
        let Some(wake) = &found.wake else { return };
        for doorbell in found.manifest.doorbells.iter().filter(|doorbell| doorbell.range == range) {
            let address = base.wrapping_add(doorbell.offset);
            let place = BellPlace { port: space == Space::Port, address, width: doorbell.width };
            let done = if hang { bells.hang(place, wake) } else { bells.take_down(place, wake) };
            self.note(done.map_err(|error| error.to_string()), device);
        }
    }

    /// A sentence about something that goes on without, for the log.
    fn note(&self, result: Result<(), String>, device: u8) {
        if let Err(sentence) = result {
            let name = self.device(device).map_or("?", |device| &device.manifest.name);
            self.outbox.log(Severity::Warning, format!("{name}: {sentence}"));
        }
    }

    /// The guest resets the machine by other means than a device's.
    pub fn reset(&self) {
        if self.platform.driven {
            self.outbox.push(Event::Turned(Turned { device: OUTSIDE, switch: Switch::Reset, value: 1 }));
        } else {
            self.stop(Reason::Reset, 0, String::new());
        }
    }

    /// Ends the run, for the first reason that is given. Vcpus stop at their next exit and are kicked by the hub.
    pub fn stop(&self, reason: Reason, code: u32, text: String) {
        let mut ending = lock(&self.ending);
        if ending.is_none() {
            *ending = Some(Stopped { reason, code, text });
            self.stopped.store(true, Ordering::SeqCst);
            self.outbox.wake();
        }
    }

    /// Whether the run has ended.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Why the run has ended, if it has.
    pub fn ending(&self) -> Option<Stopped> {
        lock(&self.ending).clone()
    }

    /// Once the run has ended: lets each host finish what the guest had asked for, such as bytes still on their way out.
    pub fn finish(&self) {
        for device in &self.devices {
            if !device.lane.is_retired() {
                self.operate(device, Operation::Quiesce);
            }
        }
    }

    /// Has a device do an operation that is no access, and waits for it.
    pub fn operate(&self, device: &Device, operation: Operation) {
        match device.lane.operate(operation, self.now()) {
            Ok(()) => self.settle(device),
            Err(error) => self.lane_failed(device, error),
        }
    }

    /// Counts a return from `KVM_RUN`.
    pub fn count_exit(&self) {
        self.exits.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns from `KVM_RUN` so far.
    pub fn exits(&self) -> u64 {
        self.exits.load(Ordering::Relaxed)
    }

    /// How accesses were served so far.
    pub fn counters(&self) -> Vec<DeviceCounters> {
        let counted = |(id, device): (usize, &Device)| {
            let lane = device.lane.counters();
            DeviceCounters {
                id: id as u8,
                shadow: lane.shadow,
                posted: lane.posted,
                lane: lane.lane,
                doorbell: device.lane.doorbells(),
                ones: lane.ones,
                interrupts: device.lines.changes(),
                carrier: device.lane.carrier(),
            }
        };
        self.devices.iter().enumerate().map(counted).collect()
    }

    /// Sends the message-signalled interrupts that wait, where no kernel does: a plain store to guest memory.
    pub fn send_messages(&self) {
        let ram = self.platform.memory.ram();
        for vectors in self.devices.iter().filter_map(|device| device.vectors.as_ref()) {
            for message in (0..vectors.count()).filter_map(|index| vectors.take(index)) {
                // A message to where no memory is vanishes, as a store would.
                let _ = ram.write_slice(&message.data.to_le_bytes(), GuestAddress(message.address));
            }
        }
    }
}

/// All ones at this width: what an access that nobody answers loads.
pub fn ones(width: u8) -> u64 {
    match width {
        0..8 => (1 << (8 * u32::from(width))) - 1,
        _ => u64::MAX,
    }
}

/// Where threads wait until the machine runs.
///
/// A thread's first steps take system calls that a sealed process does not have, so the seal waits until all are here.
#[derive(Default)]
pub struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    arrived: usize,
    open: bool,
}

impl Gate {
    /// Waits until it is open.
    pub fn wait(&self) {
        let mut state = lock(&self.state);
        state.arrived += 1;
        self.changed.notify_all();
        while !state.open {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until so many threads wait here.
    pub fn gather(&self, threads: usize) {
        let mut state = lock(&self.state);
        while state.arrived < threads {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Opens it, for good.
    pub fn open(&self) {
        lock(&self.state).open = true;
        self.changed.notify_all();
    }
}

/// Until when the hub sleeps, in guest time, so that whoever learns of an earlier deadline wakes it.
///
/// The hub announces that it is about to look, looks at all deadlines, announces the earliest and sleeps. Who commits a
/// deadline looks at the announcement afterwards. The fences order the store of each side before its look, so one of the two
/// sees the other.
pub struct Sleep(AtomicU64);

impl Default for Sleep {
    fn default() -> Sleep {
        Sleep(AtomicU64::new(u64::MAX))
    }
}

impl Sleep {
    /// The hub is about to look at all deadlines.
    pub fn look(&self) {
        self.0.store(u64::MAX, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// The hub is about to sleep until `deadline`.
    pub fn until(&self, deadline: u64) {
        self.0.store(deadline, Ordering::SeqCst);
    }

    /// Whether the hub would oversleep `deadline`.
    pub fn is_longer_than(&self, deadline: u64) -> bool {
        fence(Ordering::SeqCst);
        deadline < self.0.load(Ordering::SeqCst)
    }
}
