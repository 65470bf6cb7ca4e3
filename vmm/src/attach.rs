//! From grants and manifests to devices on the bus.

use crate::bus::{Bus, Space, Target};
use crate::chipset::{controllers, port92};
use crate::direct::Direct;
use crate::hub::Source;
use crate::irq::{Lines, PINS};
use crate::kvm::Vm;
use crate::lane::{LaneGrants, failed, receive};
use crate::link::Linker;
use crate::machine::Device;
use crate::memory::{BUS_WINDOW, GuestRam, overlaps};
use crate::pci::{CONFIG_PORT, CONFIG_PORTS, Pci};
use crate::vectors::{Delivery, Vectors};
use imc::lane::{Carrier, Lane, Late, SpinBudget, StateView, state_region_bytes};
use imc::{Descriptors, Mapping, PAGE_BYTES, ReadOnly, ReadWrite, Region, Wake};
use sandbox::{DescriptorKind, Held, Mode};
use schema::Kind;
use schema::host::{DEVICES_MAX, Grant, Grants, Purpose, Setting};
use schema::manifest::{self, LIST_MAX, Manifest, Power, VECTORS_MAX};
use schema::vmm::AttachDevice;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

/// Most grants of one device: its vectors, its wishes (a stream has two, guest memory one for each region), and what every
/// device has.
const GRANTS_MAX: usize = VECTORS_MAX as usize + 2 * LIST_MAX + 16;
/// Interrupt numbers that KVM has (`KVM_MAX_IRQ_ROUTES`).
const GSIS: u32 = 4096;

/// How devices are reached.
#[derive(Debug, Clone, Copy)]
pub struct Reach {
    /// Deadline of an operation.
    pub deadline: Duration,
    /// Deadlines that one operation is waited for: more than one where hosts are started anew.
    pub deadlines: u32,
    /// Devices are linked into this process.
    pub linked: bool,
    /// How long a vcpu and a host poll.
    pub spin: SpinBudget,
}

/// The devices of a machine that does not run yet.
pub struct Assembly {
    /// Devices so far, by number.
    pub devices: Vec<Device>,
    /// The bus with their fixed ranges.
    pub bus: Bus,
    /// The PCI bus with their functions.
    pub pci: Pci,
    /// What the hub is to sleep on.
    pub sources: Vec<Source>,
    /// Descriptors that this process still needs.
    pub held: Vec<Held>,
    /// What threads of linked devices do, each again and again.
    pub pumps: Vec<Box<dyn FnMut() + Send>>,
    reach: Reach,
    /// Where message-signalled interrupts go.
    pub delivery: Arc<dyn Delivery>,
    /// Rung when an operation is late.
    pub bell: Arc<Wake>,
    next_gsi: u32,
    waiting: Vec<(Grant, OwnedFd)>,
}

impl Assembly {
    /// No devices yet, on a PCI bus with nothing but its bridges. Message-signalled interrupts go to `delivery`; `bell` is rung when an operation is late.
    pub fn new(reach: Reach, pci: Pci, delivery: Arc<dyn Delivery>, bell: Arc<Wake>) -> Assembly {
        let mut bus = Bus::new();
        for (port, length, target) in
            [(CONFIG_PORT, CONFIG_PORTS, Target::PciConfig), (port92::PORT, 1, Target::Port92)]
        {
            let inserted = bus.insert(Space::Port, port.into(), length, target);
            assert!(inserted.is_ok(), "the bus is empty");
        }
        Assembly {
            devices: Vec::new(),
            bus,
            pci,
            sources: Vec::new(),
            held: Vec::new(),
            pumps: Vec::new(),
            reach,
            delivery,
            bell,
            next_gsi: PINS,
            waiting: Vec::new(),
        }
    }

    /// Puts the interrupt controllers on the bus, where they are the VMM's. Call before a device is attached.
    pub fn add_controllers(&mut self) {
        for (space, base, length, target) in controllers::PLACES {
            let inserted = self.bus.insert(space, base, length, target);
            assert!(inserted.is_ok(), "the places are apart");
        }
    }

    /// Keeps grants for the device that is attached next.
    pub fn grant(&mut self, grants: Grants, descriptors: &mut Descriptors) -> Result<(), String> {
        for grant in grants.grants {
            if usize::from(grant.device) != self.devices.len() {
                return Err(format!("a grant for device {}, when {} is next", grant.device, self.devices.len()));
            }
            if self.waiting.len() == GRANTS_MAX {
                return Err(format!("more than {GRANTS_MAX} grants for one device"));
            }
            let descriptor = descriptors.take(grant.handle.slot).ok_or("a grant without its descriptor")?;
            self.waiting.push((grant, descriptor));
        }
        Ok(())
    }

    /// Puts a device, made of the grants since the last one, on the bus.
    pub fn attach(
        &mut self,
        attach: AttachDevice,
        linker: &dyn Linker,
        vm: Option<&Vm>,
        ram: &GuestRam,
    ) -> Result<(), String> {
        let AttachDevice { id, host, manifest, options, carrier: over, slot } = attach;
        let grants = std::mem::take(&mut self.waiting);
        let sentence = |what: String| format!("{}: {what}", manifest.name);
        if usize::from(id) != self.devices.len() || usize::from(id) >= DEVICES_MAX || usize::from(host) >= DEVICES_MAX {
            return Err(sentence(format!("is device {id} of host {host}, when device {} is next", self.devices.len())));
        }
        let mut granted = Granted::default();
        let (carrier, view) = if self.reach.linked {
            self.link(&manifest, &options, grants, &mut granted, linker).map_err(sentence)?
        } else {
            self.reach(&manifest, over, grants, &mut granted).map_err(sentence)?
        };
        let Granted { wake: Some(wake), irq: Some(irq), vectors, switches, direct, .. } = granted else {
            return Err(sentence("has no wake, or nothing to be heard by".to_owned()));
        };
        self.pci.add_at(id, &manifest, Some(slot).filter(|slot| *slot != 0))?;
        let lines = Lines::new(id, &manifest, self.pci.gsi_of(id));
        let direct = self.place(id, &manifest, direct, vm, ram).map_err(sentence)?;
        let vectors = self.number(&manifest, vectors).map_err(sentence)?;
        self.listen(id, host, irq, &manifest, switches).map_err(sentence)?;
        let wake = Some(wake).filter(|_| !manifest.doorbells.is_empty());
        wake.iter().for_each(|wake| self.hold(wake, Mode::Both));
        let mut lane = Lane::new(carrier, view, &manifest, self.reach.deadline);
        if self.reach.deadlines > 1 {
            lane = lane.with_restarts(Late::new(self.reach.deadlines, Arc::clone(&self.bell)));
        }
        self.devices.push(Device { id, host, lane, lines, vectors, direct, wake, manifest });
        Ok(())
    }

    /// The way to a device in a host.
    fn reach(
        &mut self,
        manifest: &Manifest,
        carrier: schema::lane::Carrier,
        grants: Vec<(Grant, OwnedFd)>,
        granted: &mut Granted,
    ) -> Result<(Box<dyn Carrier>, StateView), String> {
        for (grant, descriptor) in grants {
            if !granted.take(&grant, descriptor, false)? {
                return Err(format!("was granted a {:?}, which is for a device host", grant.purpose));
            }
        }
        let state = granted.view(manifest)?;
        let wake = granted.wake.as_ref().ok_or("has no wake")?.try_clone().map_err(failed)?;
        let lane = std::mem::take(&mut granted.lane);
        let way = lane.way(carrier, state, wake, self.reach.spin)?;
        self.held.extend(way.held);
        Ok((way.carrier, way.view))
    }

    /// Makes a device in this process. It gets all grants; what the VMM needs of them it shares.
    fn link(
        &mut self,
        manifest: &Manifest,
        options: &[Setting],
        grants: Vec<(Grant, OwnedFd)>,
        granted: &mut Granted,
        linker: &dyn Linker,
    ) -> Result<(Box<dyn Carrier>, StateView), String> {
        let mut devices_own = Vec::new();
        for (grant, descriptor) in grants {
            granted.take(&grant, descriptor.try_clone().map_err(failed)?, true)?;
            devices_own.push((grant, descriptor));
        }
        let view = granted.view(manifest)?.ok_or("has no state region")?;
        for (grant, descriptor) in &devices_own {
            self.held.push(Held::new(descriptor.as_raw_fd(), kind_of(grant), Mode::Both));
        }
        let linked = linker.link(&manifest.name, options, devices_own)?;
        self.pumps.push(linked.pump);
        Ok((linked.carrier, view))
    }

    /// Puts the ranges that never move on the bus, memory of the device's own behind those that have some.
    fn place(
        &mut self,
        id: u8,
        manifest: &Manifest,
        mut memory: BTreeMap<u32, Region<ReadWrite>>,
        vm: Option<&Vm>,
        ram: &GuestRam,
    ) -> Result<Vec<Direct>, String> {
        for (range, declared) in manifest.ranges.iter().enumerate() {
            let (space, base) = match declared.space {
                manifest::Space::Port(port) => (Space::Port, u64::from(port)),
                manifest::Space::Memory(address) => (Space::Memory, address),
                manifest::Space::Bar(_) | manifest::Space::PortBar(_) => continue,
            };
            let on_bus = BUS_WINDOW.start <= base && base.saturating_add(declared.length) <= BUS_WINDOW.end;
            let over = |region: &crate::memory::RamRegion| {
                let start = region.start_addr().0;
                overlaps(&(start..start + region.len()), base, declared.length)
            };
            if space == Space::Memory && !on_bus && ram.iter().any(over) {
                return Err(format!("its range `{}` lies in guest memory", declared.name));
            }
            let target = Target::Device { device: id, range: range as u8 };
            self.bus.insert(space, base, declared.length, target).map_err(|error| error.to_string())?;
        }
        let mut direct = Vec::new();
        for (number, wish) in manifest.wishes.iter().enumerate().filter(|(_, wish)| wish.power == Power::Direct) {
            let region = memory.remove(&(number as u32)).ok_or("was not granted its own memory")?;
            let range = manifest.ranges.get(usize::from(wish.range)).ok_or("wishes for memory of no range")?;
            let whole = |bytes: u64| bytes.is_multiple_of(PAGE_BYTES);
            let fixed = match range.space {
                manifest::Space::Memory(base) if whole(base) && whole(range.length) => Some(base),
                manifest::Space::Bar(_) if whole(range.length) => None,
                _ => return Err(format!("its range `{}` is to be memory, but is not whole pages of it", range.name)),
            };
            if region.bytes() < range.length {
                return Err(format!("its range `{}` has less memory than addresses", range.name));
            }
            let mapping = Arc::new(region.map().map_err(failed)?);
            let memory = Direct::new(wish.range, mapping, range.length, vm.map(Vm::slots));
            // That of a base address register is shown once the guest has mapped it.
            fixed.map_or(Ok(()), |base| memory.show(base))?;
            direct.push(memory);
        }
        Ok(direct)
    }

    /// Gives its vectors interrupt numbers.
    fn number(&mut self, manifest: &Manifest, mut granted: BTreeMap<u32, Wake>) -> Result<Option<Vectors>, String> {
        let count = u32::from(manifest.vectors);
        if count == 0 {
            return Ok(None);
        }
        let first = self.next_gsi;
        self.next_gsi = first + count;
        if self.next_gsi > GSIS {
            return Err(format!("its {count} vectors are more than there are interrupt numbers left"));
        }
        let vectors: Option<Vec<Wake>> = (0..count).map(|number| granted.remove(&number)).collect();
        let vectors = vectors.ok_or("was not granted all its vectors")?;
        vectors.iter().for_each(|vector| self.hold(vector, Mode::Both));
        Ok(Some(Vectors::new(vectors, first, Arc::clone(&self.delivery))))
    }

    /// Has the hub listen to its host, once for each host, and to its switches.
    fn listen(
        &mut self,
        device: u8,
        host: u8,
        irq: Wake,
        manifest: &Manifest,
        mut switches: BTreeMap<u32, Wake>,
    ) -> Result<(), String> {
        let known = |source: &Source| matches!(source, Source::Irq { host: known, .. } if *known == host);
        if !self.sources.iter().any(known) {
            self.hold(&irq, Mode::Read);
            self.sources.push(Source::Irq { host, wake: irq });
        }
        for (number, wish) in manifest.wishes.iter().enumerate() {
            if let Some(switch) = wish.switch {
                let wake = switches.remove(&(number as u32)).ok_or("was not granted all its switches")?;
                self.hold(&wake, Mode::Read);
                self.sources.push(Source::Switch { device, switch, wake });
            }
        }
        Ok(())
    }

    /// Remembers an eventfd for the seal.
    fn hold(&mut self, wake: &Wake, mode: Mode) {
        self.held.push(Held::new(wake.as_fd().as_raw_fd(), DescriptorKind::Eventfd, mode));
    }
}

/// The VMM's side of a device's grants, each of the type that its purpose asks for.
#[derive(Default)]
struct Granted {
    wake: Option<Wake>,
    irq: Option<Wake>,
    lane: LaneGrants,
    state: Option<(Mapping, u64)>,
    vectors: BTreeMap<u32, Wake>,
    switches: BTreeMap<u32, Wake>,
    direct: BTreeMap<u32, Region<ReadWrite>>,
}

impl Granted {
    /// Takes one. False: it is none of the VMM's.
    fn take(&mut self, grant: &Grant, descriptor: OwnedFd, linked: bool) -> Result<bool, String> {
        let number = grant.number;
        let again = match grant.purpose {
            Purpose::Wake => self.wake.replace(receive(grant, descriptor)?).is_some(),
            Purpose::Irq => self.irq.replace(receive(grant, descriptor)?).is_some(),
            Purpose::Request
            | Purpose::Reply
            | Purpose::Packets
            | Purpose::Asked
            | Purpose::Answers
            | Purpose::AnswerRegion => self.lane.take(grant, descriptor)?,
            Purpose::State if linked => {
                self.state.replace(map(receive::<Region<ReadWrite>>(grant, descriptor)?)?).is_some()
            }
            Purpose::State => self.state.replace(map(receive::<Region<ReadOnly>>(grant, descriptor)?)?).is_some(),
            Purpose::Vector => self.vectors.insert(number, receive(grant, descriptor)?).is_some(),
            Purpose::Switch => self.switches.insert(number, receive(grant, descriptor)?).is_some(),
            Purpose::Direct => self.direct.insert(number, receive(grant, descriptor)?).is_some(),
            Purpose::Memory
            | Purpose::File
            | Purpose::Stream
            | Purpose::Bell
            | Purpose::Scanout
            | Purpose::Frames
            | Purpose::Network
            | Purpose::Screen
            | Purpose::Listener
            | Purpose::Wanted
            | Purpose::Password
            | Purpose::HelperRegion
            | Purpose::HelperWake => return Ok(false),
        };
        if again { Err(format!("was granted its {:?} {number} twice", grant.purpose)) } else { Ok(true) }
    }

    /// The look at its committed state, if it was granted.
    fn view(&mut self, manifest: &Manifest) -> Result<Option<StateView>, String> {
        let Some((mapping, bytes)) = self.state.take() else { return Ok(None) };
        if bytes < state_region_bytes(manifest.state_bytes, manifest.bulk_bytes) {
            return Err("has a state region that is too small".to_owned());
        }
        Ok(Some(StateView::new(mapping)))
    }
}

fn map<R: imc::Rights>(region: Region<R>) -> Result<(Mapping, u64), String> {
    Ok((region.map().map_err(failed)?, region.bytes()))
}

/// What the filter is to think of a linked device's descriptor.
fn kind_of(grant: &Grant) -> DescriptorKind {
    match grant.handle.kind {
        Kind::Wake => DescriptorKind::Eventfd,
        Kind::File => DescriptorKind::File,
        _ => DescriptorKind::Memory,
    }
}
