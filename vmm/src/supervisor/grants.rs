//! The kernel objects of a VM: made once, kept for its whole life, granted to each side that needs them.
//!
//! A restart of a host grants the same set again. What a host holds the VMM need not: files and streams go to the host
//! alone.

use super::image::Image;
use super::lane::LaneObjects;
use super::mac::Mac;
use super::network::{End, Network};
use super::plan::{Backing, Demands, Isolate, Plan, PlannedDevice, wants_memory};
use crate::memory;
use anyhow::{Context, Result, ensure};
use imc::{Capability, Channel, Frozen, Listener, ReadOnly, ReadWrite, Region, Wake};
use sandbox::policy::PLUGIN;
use sandbox::{HelperForm, Recipe};
use schema::display::SCANOUT_BYTES;
use schema::host::{FRAMES_REGION_BYTES, Grant, Grants, HELPER_REGION_BYTES, HOST_WIDE, Level, Purpose};
use schema::lane::Carrier;
use schema::manifest::{Manifest, Power};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Most descriptors of one message.
const BATCH: usize = 8;

/// The name by which a device wishes for the stream of what people do with keyboard and mouse.
const INPUT: &str = "input";

/// Guest memory: a region for each grant class.
pub struct GuestMemory {
    /// Guest address, whether it is the low grant class, and the memory.
    pub regions: Vec<(u64, bool, Region<ReadWrite>)>,
}

impl GuestMemory {
    /// Makes the regions of `bytes` of guest memory.
    pub fn create(bytes: u64) -> Result<GuestMemory> {
        let host = nix::sys::sysinfo::sysinfo().context("asking for the size of memory")?.ram_total();
        ensure!(bytes <= host, "--memory {}M: this machine has {}M", bytes >> 20, host >> 20);
        let mut regions = Vec::new();
        for extent in memory::layout(bytes) {
            let name = if extent.low { "cofferdam:ram-low" } else { "cofferdam:ram" };
            let region = Region::create(name, extent.bytes)
                .with_context(|| format!("--memory {}M: cannot make guest memory", bytes >> 20))?;
            regions.push((extent.base, extent.low, region));
        }
        Ok(GuestMemory { regions })
    }
}

/// A stream's region and both its bells.
pub struct StreamObjects {
    /// Index of the wish.
    pub wish: u32,
    /// It carries what people do with keyboard and mouse.
    pub is_input: bool,
    /// The rings.
    pub region: Region<ReadWrite>,
    /// Rung by the host when it has printed or read.
    pub bell: Wake,
}

/// The rings of a net device's frames, and what is on their other side.
pub struct FramesObjects {
    /// Index of the wish.
    pub wish: u32,
    region: Region<ReadWrite>,
    /// Rung by the host when it has sent or received.
    bell: Wake,
    /// Where the frames go, if anywhere.
    pub network: Option<Network>,
}

/// The objects of one device.
pub struct DeviceObjects {
    /// How it is reached.
    pub lane: LaneObjects,
    /// State, from the host; outlives it.
    pub state: Region<ReadWrite>,
    state_view: Region<ReadOnly>,
    /// MSI-X vectors.
    pub vectors: Vec<Wake>,
    switches: Vec<(u32, Wake)>,
    /// Media, by wish.
    pub(super) images: Vec<(u32, Arc<Image>)>,
    /// Byte streams.
    pub streams: Vec<StreamObjects>,
    /// Rings of network frames.
    pub frames: Vec<FramesObjects>,
    direct: Vec<(u32, Region<ReadWrite>)>,
    /// Where displays draw what they show.
    pub scanouts: Vec<(u32, Region<ReadWrite>)>,
    memory: Option<bool>,
}

impl DeviceObjects {
    /// The switch of this wish.
    pub fn switch(&self, wish: u32) -> Option<&Wake> {
        self.switches.iter().find(|(have, _)| *have == wish).map(|(_, switch)| switch)
    }

    /// Makes what `manifest` asks for.
    pub fn create(device: &PlannedDevice, carrier: Carrier, manifest: &Manifest) -> Result<DeviceObjects> {
        let state = Region::create(
            "cofferdam:state",
            imc::lane::state_region_bytes(manifest.state_bytes, manifest.bulk_bytes),
        )?;
        let mut objects = DeviceObjects {
            lane: LaneObjects::create(carrier)?,
            state_view: state.read_only()?,
            state,
            vectors: (0..manifest.vectors).map(|_| Wake::create()).collect::<Result<_, _>>()?,
            switches: Vec::new(),
            images: Vec::new(),
            streams: Vec::new(),
            frames: Vec::new(),
            direct: Vec::new(),
            scanouts: Vec::new(),
            memory: None,
        };
        let mut backing = device.backing.iter();
        for (index, wish) in manifest.wishes.iter().enumerate() {
            let index = index as u32;
            match wish.power {
                Power::Stream => objects.streams.push(StreamObjects {
                    wish: index,
                    is_input: wish.name == INPUT,
                    region: Region::create("cofferdam:stream", imc::STREAM_BYTES)?,
                    bell: Wake::create()?,
                }),
                Power::Memory => objects.memory = Some(false),
                Power::LowMemory => objects.memory = Some(true),
                Power::FileRead | Power::FileWrite => {
                    let backing = backing.next().with_context(|| {
                        format!("device {}: needs a file ({}), and none is given", device.label, wish.because)
                    })?;
                    objects.images.push((index, Arc::new(Image::open(backing, wish.power == Power::FileRead)?)));
                }
                Power::Switch => objects.switches.push((index, Wake::create()?)),
                Power::Direct => objects.direct.push((index, Region::create("cofferdam:direct", wish.bytes)?)),
                Power::Scanout => {
                    objects.scanouts.push((index, Region::create("cofferdam:scanout", SCANOUT_BYTES)?));
                }
                Power::Entropy => {}
                Power::Frames => objects.frames.push(FramesObjects {
                    wish: index,
                    region: Region::create("cofferdam:frames", FRAMES_REGION_BYTES)?,
                    bell: Wake::create()?,
                    network: match backing.next() {
                        Some(Backing::Network(network)) => Some(network.clone()),
                        // A card without a cable.
                        _ => None,
                    },
                }),
            }
        }
        Ok(objects)
    }
}

/// All objects of a VM.
pub struct Objects {
    /// Guest memory.
    pub memory: GuestMemory,
    /// By device, in the plan's order.
    pub devices: Vec<DeviceObjects>,
    /// By host: its wake, and its "my irq levels changed".
    pub hosts: Vec<(Wake, Wake)>,
    /// By host: what is between it and its helper, where it has one.
    helpers: Vec<Option<HelperObjects>>,
    /// Their labels, and those of the processes that they are granted to.
    pub mac: Mac,
}

/// What an incarnation of a display relay is granted.
pub struct DisplayGrants<'a> {
    /// Where viewers connect.
    pub listeners: &'a [Listener],
    /// What the display draws.
    pub screen: Region<ReadOnly>,
    /// What viewers are to know.
    pub password: Region<Frozen>,
    /// What viewers do.
    pub ring: &'a Region<ReadWrite>,
    /// Rung when there is something in it.
    pub bell: &'a Wake,
    /// Rung when a viewer wants a picture.
    pub wanted: &'a Wake,
}

/// What is between a host and its helper.
struct HelperObjects {
    form: HelperForm,
    region: Region<ReadWrite>,
    /// What the helper sleeps on.
    wake: Wake,
}

impl Objects {
    /// Makes everything for `hosts` hosts.
    pub fn create(plan: &Plan, manifests: &[Manifest], hosts: usize) -> Result<Objects> {
        let mac = Mac::demanded(&plan.demands, &plan.name, plan.isolate == Isolate::None)?;
        mac.claim_channels()?;
        let objects = Objects {
            devices: plan
                .devices
                .iter()
                .zip(manifests)
                .map(|(device, manifest)| DeviceObjects::create(device, plan.carrier(device), manifest))
                .collect::<Result<_>>()?,
            memory: GuestMemory::create(plan.memory_bytes)?,
            hosts: (0..hosts).map(|_| Ok((Wake::create()?, Wake::create()?))).collect::<Result<_>>()?,
            helpers: (0..hosts).map(|_| None).collect(),
            mac,
        };
        objects.mac.claim(&objects)?;
        let mut images = objects.devices.iter().flat_map(|device| &device.images);
        images.try_for_each(|(_, image)| image.label(&objects.mac))?;
        Ok(objects)
    }

    /// The recipe of a host of these devices: with room for the guest memory that it is granted, what the operator says of
    /// layers, and the label of the first one's class.
    pub fn host_recipe(
        &self,
        demands: &Demands,
        level: Level,
        manifests: &[Manifest],
        carriers: &[Carrier],
        helper: HelperForm,
    ) -> Result<Recipe> {
        let guest = self.guest_memory_bytes(&manifests.iter().collect::<Vec<_>>());
        let recipe = demands.apply(Recipe::host_with(level, manifests, carriers, helper).with_guest_memory(guest))?;
        let class = manifests.first().context("a host has a device")?.class;
        self.mac.label(recipe, class.name())
    }

    /// The recipe of a plugin, with room for the guest memory that it is granted, what the operator says of layers, and the
    /// label of plugins.
    pub fn plugin_recipe(&self, demands: &Demands, device: &PlannedDevice, level: Level) -> Result<Recipe> {
        let plugin = device.plugin.as_ref().context("not a plugin")?;
        let writes = plugin.manifest.wishes.iter().any(|wish| wish.power == Power::FileWrite);
        ensure!(
            !writes || self.mac.plugins_may_write(),
            "plugin {}: wishes for `file-write`, and under AppArmor it writes what a profile of its VM names: install what \
             `cofferdam policy apparmor --vm NAME --disk PATH` writes, or give `--label none`",
            plugin.path.display()
        );
        let guest = self.guest_memory_bytes(&[&plugin.manifest]);
        let recipe = demands.apply(plugin.recipe(level, device.carrier).with_guest_memory(guest))?;
        self.mac.label(recipe, PLUGIN)
    }

    /// Bytes of guest memory that a host of these devices holds.
    #[must_use]
    pub fn guest_memory_bytes(&self, manifests: &[&Manifest]) -> u64 {
        let all = manifests.iter().any(|manifest| manifest.wishes.iter().any(|wish| wish.power == Power::Memory));
        let low = manifests.iter().any(|manifest| wants_memory(manifest));
        self.memory
            .regions
            .iter()
            .filter(|(_, is_low, _)| all || (low && *is_low))
            .map(|(_, _, region)| region.bytes())
            .sum()
    }

    /// All memory that processes share.
    pub(super) fn shared_memory(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let guest = self.memory.regions.iter().map(|(_, _, region)| region.as_fd());
        let devices = self.devices.iter().flat_map(|device| {
            let own = device.streams.iter().map(|stream| stream.region.as_fd());
            let own = own.chain(device.direct.iter().chain(&device.scanouts).map(|(_, region)| region.as_fd()));
            let own = own.chain(device.frames.iter().map(|frames| frames.region.as_fd()));
            own.chain([device.state.as_fd()]).chain(device.lane.shared_memory())
        });
        guest.chain(devices)
    }

    /// All pipes that are lanes, one end of each.
    pub(super) fn pipes(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.devices.iter().flat_map(|device| device.lane.pipes())
    }

    /// The region between host number `host` and its helper, if it has one.
    pub fn helper_region(&self, host: usize) -> Option<&Region<ReadWrite>> {
        Some(&self.helpers.get(host)?.as_ref()?.region)
    }

    /// Makes what is between host number `host` and the helper that its recipe has, if it has one.
    pub fn add_helper(&mut self, host: usize, recipe: &Recipe) -> Result<()> {
        self.helpers[host] = None;
        if let Some(helper) = &recipe.helper {
            let region = Region::create("cofferdam:helper", HELPER_REGION_BYTES)?;
            self.mac.claim_region(region.as_fd())?;
            self.helpers[host] = Some(HelperObjects { form: helper.form, region, wake: Wake::create()? });
        }
        Ok(())
    }

    /// Grants to a device host what its devices need, files only if it reads and writes them itself. `devices` are indices
    /// into the plan.
    pub(super) fn host_grants(&self, host: usize, devices: &[usize]) -> Result<Vec<Batch>> {
        let mut bundle = Bundle::default();
        bundle.host_wide(&self.hosts[host])?;
        let helper = self.helpers[host].as_ref();
        if let Some(helper) = helper {
            bundle.helper(helper)?;
        }
        let files = helper.is_none_or(|helper| helper.form == HelperForm::Thread);
        for (number, device) in devices.iter().enumerate() {
            let objects = &self.devices[*device];
            let number = number as u8;
            objects.lane.grant_host(&mut bundle, number)?;
            bundle.add(number, Purpose::State, 0, 0, &objects.state)?;
            self.powers(&mut bundle, number, objects)?;
            if files {
                bundle.files(number, objects)?;
            }
            for (wish, region) in &objects.direct {
                bundle.add(number, Purpose::Direct, *wish, 0, region)?;
            }
        }
        Ok(bundle.batches)
    }

    /// Grants to the helper of a host what it does its work with, and no more: guest memory is not among it.
    pub(super) fn helper_grants(&self, host: usize, devices: &[usize]) -> Result<Vec<Batch>> {
        let mut bundle = Bundle::default();
        bundle.add(HOST_WIDE, Purpose::Wake, 0, 0, &self.hosts[host].0)?;
        if let Some(helper) = &self.helpers[host] {
            bundle.helper(helper)?;
        }
        for (number, device) in devices.iter().enumerate() {
            bundle.files(number as u8, &self.devices[*device])?;
        }
        Ok(bundle.batches)
    }

    /// Grants to a net relay the rings of `frames`, the network behind them, and the wake of host `host`.
    pub fn grant_relay(
        &self,
        channel: &mut Channel,
        host: usize,
        frames: &FramesObjects,
        network: &End,
        deadline: Duration,
    ) -> Result<()> {
        let mut bundle = Bundle::default();
        bundle.add(HOST_WIDE, Purpose::Frames, 0, 0, &frames.region)?;
        bundle.add(HOST_WIDE, Purpose::Bell, 0, 0, &frames.bell)?;
        bundle.add(HOST_WIDE, Purpose::Wake, 0, 0, &self.hosts[host].0)?;
        match network {
            End::Tap(tap) => bundle.add(HOST_WIDE, Purpose::Network, 0, 0, tap)?,
            End::Socket(socket) => bundle.add(HOST_WIDE, Purpose::Network, 0, 0, socket)?,
        }
        bundle.send(channel, deadline)
    }

    /// Grants to a display relay what it shows and to whom, and how it says what they do.
    pub fn grant_display_relay(
        &self,
        channel: &mut Channel,
        grants: &DisplayGrants<'_>,
        deadline: Duration,
    ) -> Result<()> {
        let mut bundle = Bundle::default();
        for listener in grants.listeners {
            bundle.add(HOST_WIDE, Purpose::Listener, 0, 0, listener)?;
        }
        bundle.add(HOST_WIDE, Purpose::Screen, 0, 0, &grants.screen)?;
        bundle.add(HOST_WIDE, Purpose::Password, 0, 0, &grants.password)?;
        bundle.add(HOST_WIDE, Purpose::Stream, 0, 0, grants.ring)?;
        bundle.add(HOST_WIDE, Purpose::Bell, 0, 0, grants.bell)?;
        bundle.add(HOST_WIDE, Purpose::Wanted, 0, 0, grants.wanted)?;
        bundle.send(channel, deadline)
    }

    /// Grants to the VMM its side of device `id`, which host `host` serves; with `linked`, the device's side as well.
    pub fn grant_vmm(
        &self,
        channel: &mut Channel,
        host: usize,
        id: usize,
        linked: bool,
        deadline: Duration,
    ) -> Result<()> {
        let mut bundle = Bundle::default();
        let objects = &self.devices[id];
        let number = id as u8;
        let (wake, irq) = &self.hosts[host];
        bundle.add(number, Purpose::Wake, 0, 0, wake)?;
        bundle.add(number, Purpose::Irq, 0, 0, irq)?;
        objects.lane.grant_vmm(&mut bundle, number)?;
        if linked {
            bundle.add(number, Purpose::State, 0, 0, &objects.state)?;
            self.powers(&mut bundle, number, objects)?;
            bundle.files(number, objects)?;
        } else {
            if objects.lane.shares_state() {
                bundle.add(number, Purpose::State, 0, 0, &objects.state_view)?;
            }
            for (vector, wake) in objects.vectors.iter().enumerate() {
                bundle.add(number, Purpose::Vector, vector as u32, 0, wake)?;
            }
            for (wish, wake) in &objects.switches {
                bundle.add(number, Purpose::Switch, *wish, 0, wake)?;
            }
        }
        for (wish, region) in &objects.direct {
            bundle.add(number, Purpose::Direct, *wish, 0, region)?;
        }
        bundle.send(channel, deadline)
    }

    /// What only the device's side needs beside files, and the vectors and switches that it shares with the VMM.
    fn powers(&self, bundle: &mut Bundle, number: u8, objects: &DeviceObjects) -> Result<()> {
        for (vector, wake) in objects.vectors.iter().enumerate() {
            bundle.add(number, Purpose::Vector, vector as u32, 0, wake)?;
        }
        if let Some(low_only) = objects.memory {
            for (base, low, region) in &self.memory.regions {
                if *low || !low_only {
                    bundle.add(number, Purpose::Memory, 0, *base, region)?;
                }
            }
        }
        for stream in &objects.streams {
            bundle.add(number, Purpose::Stream, stream.wish, 0, &stream.region)?;
            bundle.add(number, Purpose::Bell, stream.wish, 0, &stream.bell)?;
        }
        for frames in &objects.frames {
            bundle.add(number, Purpose::Frames, frames.wish, 0, &frames.region)?;
            bundle.add(number, Purpose::Bell, frames.wish, 0, &frames.bell)?;
        }
        for (wish, wake) in &objects.switches {
            bundle.add(number, Purpose::Switch, *wish, 0, wake)?;
        }
        for (wish, region) in &objects.scanouts {
            bundle.add(number, Purpose::Scanout, *wish, 0, region)?;
        }
        Ok(())
    }
}

/// Grants, in batches.
#[derive(Default)]
pub(super) struct Bundle {
    batches: Vec<Batch>,
}

/// As many grants as one message may carry.
pub(super) struct Batch {
    pub(super) grants: Grants,
    descriptors: Vec<OwnedFd>,
}

impl Batch {
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.descriptors.iter().map(AsFd::as_fd).collect()
    }
}

impl Bundle {
    fn host_wide(&mut self, (wake, irq): &(Wake, Wake)) -> Result<()> {
        self.add(HOST_WIDE, Purpose::Wake, 0, 0, wake)?;
        self.add(HOST_WIDE, Purpose::Irq, 0, 0, irq)
    }

    fn helper(&mut self, helper: &HelperObjects) -> Result<()> {
        self.add(HOST_WIDE, Purpose::HelperRegion, 0, 0, &helper.region)?;
        self.add(HOST_WIDE, Purpose::HelperWake, 0, 0, &helper.wake)
    }

    fn files(&mut self, number: u8, objects: &DeviceObjects) -> Result<()> {
        objects.images.iter().try_for_each(|(wish, image)| self.add(number, Purpose::File, *wish, 0, &image.grant()?))
    }

    pub(super) fn add(
        &mut self,
        device: u8,
        purpose: Purpose,
        number: u32,
        base: u64,
        what: &impl Capability,
    ) -> Result<()> {
        if self.batches.last().is_none_or(|batch| batch.descriptors.len() == BATCH) {
            self.batches.push(Batch { grants: Grants { grants: Vec::new() }, descriptors: Vec::new() });
        }
        let Some(Batch { grants, descriptors }) = self.batches.last_mut() else { return Ok(()) };
        let handle = what.handle(descriptors.len() as u8);
        descriptors.push(what.as_fd().try_clone_to_owned()?);
        grants.grants.push(Grant { device, purpose, number, base, handle });
        Ok(())
    }

    /// Grants all of them, and waits for each answer until `deadline` has passed.
    fn send(self, channel: &mut Channel, deadline: Duration) -> Result<()> {
        for batch in self.batches {
            let (schema::host::Empty, _) =
                channel.call(&batch.grants, &batch.descriptors(), deadline).map_err(super::refused)?;
        }
        Ok(())
    }
}
