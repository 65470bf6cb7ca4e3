//! From grants to what a device may hold.
#![allow(unsafe_code)] // Guest memory is handed to vm-memory as a mapping that somebody else made.

use crate::helper::{Asking, Disk, Mailbox};
use device::manifest::{Manifest, Power};
use device::{BlockStore, Bulk, GuestMemory, KernelRandom, Powers, RawFile};
use imc::lane::{HostLane, Rest, StateWriter};
use imc::{
    Capability, DeviceEnd, FramesDevice, PAGE_BYTES, Packets, PipeReader, PipeWriter, ReadOnly, ReadWrite, Region,
    STREAM_BYTES, Wake,
};
use sandbox::{DescriptorKind, Held, Mode};
use schema::host::{FRAME_MAX, FRAMES_REGION_BYTES, Grant, Purpose};
use schema::lane::Carrier;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use vm_memory::{GuestAddress, GuestRegionMmap, MmapRegion};

/// A disk is read and written by sectors of this many bytes.
const SECTOR_BYTES: u64 = 512;

/// What was granted to a whole host.
#[derive(Default)]
pub(crate) struct HostGrants {
    wake: Option<Wake>,
    irq: Option<Wake>,
    helper_region: Option<Region<ReadWrite>>,
    helper_wake: Option<Wake>,
}

impl HostGrants {
    /// Takes a grant, if it is for a host as a whole; otherwise gives it back.
    pub(crate) fn add(&mut self, grant: Grant, descriptor: OwnedFd) -> Result<Option<(Grant, OwnedFd)>, String> {
        match grant.purpose {
            Purpose::Wake => once(&mut self.wake, receive(&grant, descriptor)?, "wake")?,
            Purpose::Irq => once(&mut self.irq, receive(&grant, descriptor)?, "irq")?,
            Purpose::HelperRegion => once(&mut self.helper_region, receive(&grant, descriptor)?, "helper's region")?,
            Purpose::HelperWake => once(&mut self.helper_wake, receive(&grant, descriptor)?, "helper's wake")?,
            _ => return Ok(Some((grant, descriptor))),
        }
        Ok(None)
    }

    /// The descriptors that are still needed once all is set up.
    pub(crate) fn held(&self) -> Vec<Held> {
        let wake = self.wake.iter().map(|wake| held_wake(wake, Mode::Read));
        let rung = self.irq.iter().chain(&self.helper_wake);
        wake.chain(rung.map(|rung| held_wake(rung, Mode::Write))).collect()
    }

    /// What is between a host and its helper, mapped, and what the helper sleeps on.
    pub(crate) fn take_helper(&mut self) -> Result<(Mailbox, Wake), String> {
        let region = self.helper_region.take().ok_or_else(|| missing("helper's region"))?;
        let wake = self.helper_wake.take().ok_or_else(|| missing("helper's wake"))?;
        Ok((Mailbox::map(region)?, wake))
    }

    /// The wake to sleep on.
    pub(crate) fn take_wake(&mut self) -> Result<Wake, String> {
        self.wake.take().ok_or_else(|| missing("wake"))
    }

    /// What tells the VMM to look at levels and deadlines.
    pub(crate) fn take_irq(&mut self) -> Result<Wake, String> {
        self.irq.take().ok_or_else(|| missing("irq"))
    }
}

/// What was granted to one device.
#[derive(Default)]
pub(crate) struct DeviceGrants {
    lane: LaneGrants,
    state: Option<Region<ReadWrite>>,
    vectors: Vec<(u32, Wake)>,
    memory: Vec<(u64, Region<ReadWrite>)>,
    files: Vec<(u32, imc::BlockFile)>,
    streams: Vec<(u32, Region<ReadWrite>)>,
    direct: Vec<(u32, Region<ReadWrite>)>,
    scanouts: Vec<(u32, Region<ReadWrite>)>,
    frames: Vec<(u32, Region<ReadWrite>)>,
    bells: Vec<(u32, Wake)>,
    switches: Vec<(u32, Wake)>,
}

/// The host's end of a device's lane: each carrier has some of these.
#[derive(Default)]
struct LaneGrants {
    request: Option<Region<ReadOnly>>,
    reply: Option<Wake>,
    packets: Option<Packets>,
    asked: Option<PipeReader>,
    answers: Option<PipeWriter>,
    answer_region: Option<Region<ReadWrite>>,
}

impl DeviceGrants {
    /// Takes a grant for what the manifest asks for, or for the lane. A device is never given more.
    pub(crate) fn add(
        &mut self,
        manifest: &Manifest,
        carrier: Carrier,
        grant: &Grant,
        descriptor: OwnedFd,
    ) -> Result<(), String> {
        let number = grant.number;
        let wished = |powers: &[Power]| {
            let wish = usize::try_from(number).ok().and_then(|index| manifest.wishes.get(index));
            if wish.is_some_and(|wish| powers.contains(&wish.power)) {
                Ok(())
            } else {
                Err(format!("{:?} {number} was not asked for", grant.purpose))
            }
        };
        match grant.purpose {
            Purpose::State => once(&mut self.state, receive(grant, descriptor)?, "state")?,
            Purpose::Request
            | Purpose::Reply
            | Purpose::Packets
            | Purpose::Asked
            | Purpose::Answers
            | Purpose::AnswerRegion => self.lane.add(carrier, grant, descriptor)?,
            Purpose::Vector if number < u32::from(manifest.vectors) => {
                numbered(&mut self.vectors, number, receive(grant, descriptor)?, "vector")?;
            }
            Purpose::Vector => return Err(format!("vector {number} was not asked for")),
            Purpose::Memory => {
                if !manifest.wishes.iter().any(|wish| matches!(wish.power, Power::Memory | Power::LowMemory)) {
                    return Err("guest memory was not asked for".into());
                }
                self.memory.push((grant.base, receive(grant, descriptor)?));
            }
            Purpose::File => {
                wished(&[Power::FileRead, Power::FileWrite])?;
                numbered(&mut self.files, number, receive(grant, descriptor)?, "file")?;
            }
            Purpose::Stream => {
                wished(&[Power::Stream])?;
                let region: Region<ReadWrite> = receive(grant, descriptor)?;
                if region.bytes() < STREAM_BYTES {
                    return Err(format!("the region of stream {number} is too small"));
                }
                numbered(&mut self.streams, number, region, "stream")?;
            }
            Purpose::Frames => {
                wished(&[Power::Frames])?;
                let region: Region<ReadWrite> = receive(grant, descriptor)?;
                if region.bytes() < FRAMES_REGION_BYTES {
                    return Err(format!("the region of frames {number} is too small"));
                }
                numbered(&mut self.frames, number, region, "frames")?;
            }
            Purpose::Bell => {
                wished(&[Power::Stream, Power::Frames])?;
                numbered(&mut self.bells, number, receive(grant, descriptor)?, "bell")?;
            }
            Purpose::Switch => {
                wished(&[Power::Switch])?;
                numbered(&mut self.switches, number, receive(grant, descriptor)?, "switch")?;
            }
            Purpose::Direct => {
                wished(&[Power::Direct])?;
                numbered(&mut self.direct, number, receive(grant, descriptor)?, "direct")?;
            }
            Purpose::Scanout => {
                wished(&[Power::Scanout])?;
                numbered(&mut self.scanouts, number, receive(grant, descriptor)?, "scanout")?;
            }
            Purpose::Network | Purpose::Screen | Purpose::Listener | Purpose::Wanted | Purpose::Password => {
                return Err("what is for a relay came for a device".into());
            }
            Purpose::Wake | Purpose::Irq | Purpose::HelperRegion | Purpose::HelperWake => {
                return Err("a grant for the whole host came for one device".into());
            }
        }
        Ok(())
    }

    /// The descriptors that are still needed once all is set up.
    pub(crate) fn held(&self) -> Vec<Held> {
        let mut held = self.lane.held();
        let rung = [&self.vectors, &self.bells, &self.switches].into_iter().flatten().map(second);
        held.extend(rung.map(|wake| held_wake(wake, Mode::Write)));
        held.extend(self.files.iter().map(|(_, file)| held_file(&file.file, file.readonly)));
        held
    }

    /// Maps the state region and closes its descriptor.
    pub(crate) fn state(&mut self, manifest: &Manifest) -> Result<StateWriter, String> {
        let region = self.state.take().ok_or_else(|| missing("state"))?;
        let mapping = region.map().map_err(|error| format!("the state region cannot be mapped: {error}"))?;
        StateWriter::new(mapping, manifest.state_bytes, manifest.bulk_bytes).map_err(|error| error.to_string())
    }

    /// The device's lane. Regions are mapped and their descriptors closed. `committed` is the device's last operation.
    pub(crate) fn lane(&mut self, carrier: Carrier, rest: &Arc<Rest>, committed: u32) -> Result<HostLane, String> {
        let lane = std::mem::take(&mut self.lane);
        let request = || {
            let region = lane.request.ok_or_else(|| missing("request"))?;
            region.map().map_err(|error| format!("the request region cannot be mapped: {error}"))
        };
        let reply = lane.reply.ok_or_else(|| missing("reply"));
        match carrier {
            Carrier::Memory => Ok(HostLane::memory(request()?, reply?, committed)),
            Carrier::Socket => {
                let packets = lane.packets.ok_or_else(|| missing("packets"))?;
                Ok(HostLane::socket(packets, rest.clone(), committed))
            }
            Carrier::Pipe => {
                let asked = lane.asked.ok_or_else(|| missing("asked"))?;
                let answers = lane.answers.ok_or_else(|| missing("answers"))?;
                Ok(HostLane::pipe(asked, answers, rest.clone(), committed))
            }
            Carrier::Virtio => {
                let region = lane.answer_region.ok_or_else(|| missing("answer region"))?;
                let answers = region.map().map_err(|error| format!("the answer region cannot be mapped: {error}"))?;
                HostLane::virtio(request()?, answers, reply?, rest.clone(), committed)
            }
            Carrier::InProcess => Err("a device in a process of its own cannot be called".into()),
        }
    }

    /// Takes the files, as disks of device number `device`.
    pub(crate) fn take_disks(&mut self, device: u8) -> impl Iterator<Item = Disk> {
        let files = std::mem::take(&mut self.files).into_iter();
        files.map(move |(wish, file)| Disk { device, wish, file: raw_file(file) })
    }

    /// What the constructor of device number `device` may take. What takes calls that this process has not is asked of its
    /// helper.
    pub(crate) fn powers(mut self, manifest: &Manifest, device: u8, helper: Option<&Asking>) -> Result<Powers, String> {
        let mut powers = Powers::default();
        for (wish, wanted) in (0..).zip(&manifest.wishes) {
            match (wanted.power, helper) {
                (Power::FileRead | Power::FileWrite, Some(helper)) => {
                    powers.stores.push((wish, helper.disk(device, wish).ok_or_else(|| missing("file"))?));
                }
                (Power::Entropy, Some(helper)) => powers.random = Some(helper.random()),
                (Power::Entropy, None) => powers.random = Some(Box::new(KernelRandom)),
                _ => {}
            }
        }
        let mut bell_of = |number| {
            let at = self.bells.iter().position(|(wish, _)| *wish == number);
            at.map(|at| self.bells.swap_remove(at).1).ok_or_else(|| missing("bell"))
        };
        for (number, region) in self.frames {
            let bell = bell_of(number)?;
            let mapping = region.map().map_err(|error| format!("frames {number} cannot be mapped: {error}"))?;
            powers.frames.push((number, Box::new(Frames(FramesDevice::new(mapping, bell)))));
        }
        for (number, region) in self.streams {
            let bell = bell_of(number)?;
            let mapping = region.map().map_err(|error| format!("stream {number} cannot be mapped: {error}"))?;
            powers.streams.push((number, Box::new(Stream(DeviceEnd::new(mapping, bell)))));
        }
        self.vectors.sort_by_key(|(vector, _)| *vector);
        if self.vectors.iter().zip(0..).any(|((vector, _), expected)| *vector != expected) {
            return Err(missing("vector"));
        }
        powers.vectors = self.vectors.into_iter().map(|(_, wake)| bell(wake)).collect();
        powers.switches = self.switches.into_iter().map(|(wish, wake)| (wish, bell(wake))).collect();
        let own = self.files.into_iter().map(|(wish, file)| (wish, Box::new(raw_file(file)) as Box<dyn BlockStore>));
        powers.stores.extend(own);
        if !self.memory.is_empty() {
            powers.memory = Some(guest_memory(self.memory)?);
        }
        for (number, region) in self.direct {
            powers.direct.push((number, guest_memory(vec![(0, region)])?));
        }
        for (number, region) in self.scanouts {
            let scanout = device::Scanout::new(guest_memory(vec![(0, region)])?);
            powers.scanouts.push((number, scanout.ok_or("the region of a scanout is too small")?));
        }
        Ok(powers)
    }
}

impl LaneGrants {
    fn add(&mut self, carrier: Carrier, grant: &Grant, descriptor: OwnedFd) -> Result<(), String> {
        match (carrier, grant.purpose) {
            (Carrier::Memory | Carrier::Virtio, Purpose::Request) => {
                once(&mut self.request, receive(grant, descriptor)?, "request")
            }
            (Carrier::Memory | Carrier::Virtio, Purpose::Reply) => {
                once(&mut self.reply, receive(grant, descriptor)?, "reply")
            }
            (Carrier::Socket, Purpose::Packets) => once(&mut self.packets, receive(grant, descriptor)?, "packets"),
            (Carrier::Pipe, Purpose::Asked) => once(&mut self.asked, receive(grant, descriptor)?, "asked"),
            (Carrier::Pipe, Purpose::Answers) => once(&mut self.answers, receive(grant, descriptor)?, "answers"),
            (Carrier::Virtio, Purpose::AnswerRegion) => {
                once(&mut self.answer_region, receive(grant, descriptor)?, "answer region")
            }
            (_, purpose) => Err(format!("{purpose:?} is not of the carrier `{}`", carrier.name())),
        }
    }

    fn held(&self) -> Vec<Held> {
        let held = |end: &dyn AsFd, kind, mode| Held::new(end.as_fd().as_raw_fd(), kind, mode);
        let mut all: Vec<Held> = self.reply.iter().map(|reply| held_wake(reply, Mode::Write)).collect();
        all.extend(self.packets.iter().map(|end| held(end, DescriptorKind::Channel, Mode::Both)));
        all.extend(self.asked.iter().map(|end| held(end, DescriptorKind::Pipe, Mode::Read)));
        all.extend(self.answers.iter().map(|end| held(end, DescriptorKind::Pipe, Mode::Write)));
        all
    }
}

/// Maps memory where the guest has it, or from address 0 on. The descriptors are closed; the mappings stay for the life of the process.
fn guest_memory(mut regions: Vec<(u64, Region<ReadWrite>)>) -> Result<GuestMemory, String> {
    regions.sort_by_key(|(base, _)| *base);
    let mut mapped = Vec::with_capacity(regions.len());
    for (base, region) in regions {
        if !base.is_multiple_of(PAGE_BYTES) {
            return Err(format!("guest memory at {base:#x} is not at a page"));
        }
        let mapping = region.map().map_err(|error| format!("guest memory at {base:#x} cannot be mapped: {error}"))?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the mapping has this start and length and both protections, and is never unmapped: it is forgotten below.
        let raw = unsafe { MmapRegion::build_raw(mapping.as_ptr(), mapping.len(), protection, libc::MAP_SHARED) };
        let raw = raw.map_err(|error| format!("guest memory at {base:#x}: {error}"))?;
        std::mem::forget(mapping);
        let placed = GuestRegionMmap::new(raw, GuestAddress(base));
        mapped.push(placed.ok_or_else(|| format!("guest memory at {base:#x} reaches beyond the last address"))?);
    }
    GuestMemory::from_regions(mapped).map_err(|error| format!("guest memory: {error}"))
}

/// The bulk state, if there is some. Its mapping, too, stays for the life of the process.
pub(crate) fn bulk(state: &StateWriter) -> Result<Option<Bulk>, String> {
    let (mapping, place) = state.bulk();
    if place.is_empty() {
        return Ok(None);
    }
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the mapping has this start and length and both protections, and is never unmapped: a share of it is forgotten
    // below. Of the region the device sees only the place that nobody else uses.
    let raw = unsafe { MmapRegion::build_raw(mapping.as_ptr(), mapping.len(), protection, libc::MAP_SHARED) };
    let raw = raw.map_err(|error| format!("the bulk state: {error}"))?;
    std::mem::forget(mapping.clone());
    Ok(Some(Bulk::new(raw, place)))
}

/// A granted file, as far as it is made of sectors.
pub(crate) fn raw_file(file: imc::BlockFile) -> RawFile {
    RawFile::new(file.file, file.bytes - file.bytes % SECTOR_BYTES, file.readonly)
}

/// An eventfd as a device rings it.
struct Bell(Wake);

impl device::Bell for Bell {
    fn ring(&self, value: u64) {
        // Whoever listens keeps it from filling up; a device has nobody to tell that it cannot be rung.
        let _ = self.0.signal(value);
    }
}

fn bell(wake: Wake) -> Box<dyn device::Bell> {
    Box::new(Bell(wake))
}

/// A pair of rings as a device uses it.
struct Stream(DeviceEnd);

impl device::Stream for Stream {
    fn room(&self, head: u32) -> usize {
        self.0.room(head)
    }
    fn put(&self, head: u32, byte: u8) {
        self.0.put(head, byte);
    }
    fn get(&self, tail: u32) -> Option<u8> {
        self.0.get(tail)
    }
    fn publish(&self, out_head: u32, in_tail: u32) {
        self.0.publish(out_head, in_tail);
    }
    fn published(&self) -> (u32, u32) {
        self.0.published()
    }
}

/// A pair of rings of frames as a device uses it.
struct Frames(FramesDevice);

impl device::Frames for Frames {
    fn has(&self, received: u32) -> bool {
        self.0.has(received)
    }
    fn receive(&self, received: u32, into: &mut [u8; FRAME_MAX]) -> Option<usize> {
        self.0.receive(received, into)
    }
    fn has_room(&self, sent: u32) -> bool {
        self.0.has_room(sent)
    }
    fn send(&self, sent: u32, frame: &[u8]) {
        self.0.send(sent, frame);
    }
    fn publish(&self, sent: u32, received: u32) {
        self.0.publish(sent, received);
    }
    fn published(&self) -> (u32, u32) {
        self.0.published()
    }
}

/// A file that is read, and written unless it may not be.
pub(crate) fn held_file(file: &impl AsFd, readonly: bool) -> Held {
    let mode = if readonly { Mode::Read } else { Mode::Both };
    Held::new(file.as_fd().as_raw_fd(), DescriptorKind::File, mode)
}

pub(crate) fn held_wake(wake: &Wake, mode: Mode) -> Held {
    Held::new(wake.as_fd().as_raw_fd(), DescriptorKind::Eventfd, mode)
}

fn second<T>((_, second): &(u32, T)) -> &T {
    second
}

pub(crate) fn receive<C: Capability>(grant: &Grant, descriptor: OwnedFd) -> Result<C, String> {
    C::receive(descriptor, &grant.handle).map_err(|fault| format!("{:?} {}: {fault}", grant.purpose, grant.number))
}

pub(crate) fn missing(what: &str) -> String {
    format!("`{what}` was not granted")
}

pub(crate) fn once<T>(place: &mut Option<T>, value: T, what: &str) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("`{what}` was granted twice")),
    }
}

fn numbered<T>(list: &mut Vec<(u32, T)>, number: u32, value: T, what: &str) -> Result<(), String> {
    if list.iter().any(|(have, _)| *have == number) {
        return Err(format!("`{what}` {number} was granted twice"));
    }
    list.push((number, value));
    Ok(())
}
