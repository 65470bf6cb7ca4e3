//! A device host that an attacker controls from its first instruction after the seal: it sets itself up as an honest one,
//! then does what one attempt says.
//!
//! It is a role of this program, `cofferdam: hostile …`, that only the command `attack` starts; the role's words name the
//! attempt, the guards that are taken out, and what the attacker is told. A process in that role which nobody confined and
//! granted anything has no more rights than who started it.

#![allow(unsafe_code)] // It takes descriptors by number.

use super::attempt::{Attempt, Guard};
use super::hostile::{BETWEEN, CHANNEL, Host, LOOT_BYTES, NOT_SET_UP, leave};
use super::{ground, lane, list};
use crate::catalogue::BuiltIn;
use anyhow::{Context, Result, bail, ensure};
use imc::{Capability, Channel, ReadOnly, ReadWrite, Region};
use sandbox::{DescriptorKind, Held, LayerName, Mode, Part, Recipe};
use schema::host::{Assign, Attach, Empty, Grant, Grants, Hello, Manifests, PROTOCOL, Purpose, Seal};
use schema::manifest::Power;
use std::ffi::CString;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use vmm::supervisor::Catalogue;

/// The process in this role.
pub fn run(role: &str) -> ! {
    let words: Vec<&str> = role.split(BETWEEN).collect();
    let Some((attempt, removed, gift, told)) = parse(&words) else { leave(NOT_SET_UP) };
    // Who counts on it that nobody looks does not seal itself.
    let seals = attempt.guards[0] != Guard::Audit;
    match set_up(removed, gift, told, seals) {
        Ok(host) => {
            // What its predecessor did not answer, nobody rings it for again.
            if lane::asked(&host) == lane::committed(host.state()) {
                host.sleep();
            }
            match (attempt.act)(&host) {
                Ok(()) => host.rest(),
                Err(errno) => leave(errno),
            }
        }
        Err(error) => {
            let log = schema::host::Log { severity: schema::host::Severity::Error, text: format!("{error:#}") };
            // SAFETY: nobody else closes the channel.
            let channel = unsafe { std::os::fd::BorrowedFd::borrow_raw(CHANNEL) };
            let _ = Channel::tell_over(channel, &log);
            leave(NOT_SET_UP)
        }
    }
}

fn parse<'a>(words: &[&'a str]) -> Option<(&'static Attempt, &'static [Guard], bool, Vec<&'a str>)> {
    let [_, id, removed, gift, told @ ..] = words else { return None };
    let attempt = list::find(id)?;
    let removed = attempt.guards.get(..removed.parse().ok()?)?;
    Some((attempt, removed, !gift.is_empty(), told.to_vec()))
}

fn set_up(removed: &[Guard], gift: bool, told: Vec<&str>, seals: bool) -> Result<Host> {
    let parts: Vec<Part> = removed.iter().flat_map(|guard| guard.parts()).collect();
    let layers: Vec<LayerName> =
        parts.iter().filter_map(|part| if let Part::Layer(layer) = part { Some(*layer) } else { None }).collect();
    if removed.contains(&Guard::OwnProcess) {
        // As the memory of a thread beside it would be.
        ground::make_page(b"a limit");
    }
    let keeps_regions = removed.contains(&Guard::Grants);
    let confined = sandbox::confine_without(&layers)?;
    let mut channel = Channel::inherit(CHANNEL)?;
    channel.never_wait_to_write()?;
    channel.tell(&Hello { protocol: PROTOCOL }, &[])?;
    let mut host = Host {
        descriptors: Vec::new(),
        regions: Vec::new(),
        gift: if gift { Some(receive_gift()?) } else { None },
        told: told.into_iter().map(CString::new).collect::<Result<_, _>>()?,
        is_first: std::process::id() == 1,
    };
    let mut held = vec![Held::new(CHANNEL, DescriptorKind::Channel, Mode::Write)];
    held.extend(host.gift.map(|gift| Held::new(gift, DescriptorKind::File, Mode::Both)));
    let mut recipe = None;
    let mut files = Vec::new();
    loop {
        let packet = channel.receive(None)?.context("nothing came")?;
        let call = packet.call.context("a message that is no call")?;
        if packet.is::<Assign>() {
            let (assign, _) = packet.decode::<Assign>()?;
            let [device] = assign.devices.as_slice() else { bail!("an attacker is in the place of one device") };
            let manifest = BuiltIn.manifest(&device.device, &device.options).map_err(anyhow::Error::msg)?;
            files = manifest.wishes.iter().map(|wish| wish.power == Power::FileWrite).collect();
            let devices = std::slice::from_ref(&manifest);
            recipe = Some(Recipe::host_over(assign.level, devices, &[device.carrier]).without_parts(&parts));
            channel.reply(call, &Manifests { manifests: vec![manifest] }, &[])?;
        } else if packet.is::<Grants>() {
            let (grants, mut descriptors) = packet.decode::<Grants>()?;
            for grant in grants.grants {
                let descriptor = descriptors.take(grant.handle.slot).context("a grant without its descriptor")?;
                held.extend(host.take(&grant, descriptor, keeps_regions, &files)?);
            }
            channel.reply(call, &Empty, &[])?;
        } else if packet.is::<Attach>() {
            channel.reply(call, &Empty, &[])?;
        } else {
            packet.decode::<Seal>()?;
            let recipe = recipe.context("sealed without devices")?;
            let sealed = if seals { Some(confined.seal(&recipe, &held)?) } else { None };
            if host.descriptors.iter().any(|(purpose, ..)| *purpose == Purpose::Reply) {
                // Before anybody may ask: who finds it awake does not ring.
                lane::look_honest(&host);
            }
            channel.reply_by_write(call, &Empty)?;
            // Closing and freeing are calls that it has no more.
            std::mem::forget((sealed, recipe, channel, held, files, parts, layers));
            return Ok(host);
        }
    }
}

/// A descriptor that came in a datagram of its own, ahead of all messages.
fn receive_gift() -> Result<RawFd> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let mut text = [0; 16];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let mut vector = [std::io::IoSliceMut::new(&mut text)];
    // SAFETY: nobody else closes the channel.
    let channel = unsafe { std::os::fd::BorrowedFd::borrow_raw(CHANNEL) };
    poll(&mut [PollFd::new(channel, PollFlags::POLLIN)], PollTimeout::NONE)?;
    let message = recvmsg::<()>(CHANNEL, &mut vector, Some(&mut space), MsgFlags::empty())?;
    let rights = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmRights(numbers) => numbers.first().copied(),
        _ => None,
    });
    rights.context("no gift came")
}

impl Host {
    /// Takes a grant: memory is mapped, everything else kept by its number.
    fn take(&mut self, grant: &Grant, descriptor: OwnedFd, keeps: bool, writable: &[bool]) -> Result<Option<Held>> {
        use DescriptorKind::{Channel, Eventfd, File, Memory, Pipe};
        let (kind, mode) = match grant.purpose {
            Purpose::Request => {
                let number = keeps.then(|| descriptor.try_clone()).transpose()?;
                let region = Region::<ReadOnly>::receive(descriptor, &grant.handle)?;
                self.regions.push((grant.purpose, grant.base, region.map()?));
                return Ok(self.keep(grant, number, Memory, Mode::Read));
            }
            Purpose::State
            | Purpose::Memory
            | Purpose::Stream
            | Purpose::AnswerRegion
            | Purpose::HelperRegion
            | Purpose::Direct
            | Purpose::Frames
            | Purpose::Scanout => {
                let number = keeps.then(|| descriptor.try_clone()).transpose()?;
                let region = Region::<ReadWrite>::receive(descriptor, &grant.handle)?;
                ensure!(region.bytes() > LOOT_BYTES as u64, "a region is too small");
                self.regions.push((grant.purpose, grant.base, region.map()?));
                return Ok(self.keep(grant, number, Memory, Mode::Both));
            }
            Purpose::Wake => (Eventfd, Mode::Read),
            Purpose::Irq | Purpose::Reply | Purpose::Vector | Purpose::Bell | Purpose::Switch | Purpose::HelperWake => {
                (Eventfd, Mode::Write)
            }
            Purpose::File => {
                let written = writable.get(grant.number as usize).copied().unwrap_or(false);
                (File, if written { Mode::Both } else { Mode::Read })
            }
            Purpose::Packets => (Channel, Mode::Both),
            Purpose::Asked => (Pipe, Mode::Read),
            Purpose::Answers => (Pipe, Mode::Write),
            Purpose::Network | Purpose::Screen | Purpose::Listener | Purpose::Wanted | Purpose::Password => {
                bail!("what is for a relay is granted to no host")
            }
        };
        Ok(self.keep(grant, Some(descriptor), kind, mode))
    }

    fn keep(&mut self, grant: &Grant, descriptor: Option<OwnedFd>, kind: DescriptorKind, mode: Mode) -> Option<Held> {
        let number = descriptor?.into_raw_fd();
        self.descriptors.push((grant.purpose, grant.number, number));
        Some(Held::new(number, kind, mode))
    }
}
