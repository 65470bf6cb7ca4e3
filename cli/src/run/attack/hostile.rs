//! A device host that an attacker controls from its first instruction after the seal: it sets itself up as an honest one,
//! then does what one attempt says.
//!
//! It is a role of this program, `cofferdam: hostile …`, that only the command `attack` starts; the role's words name the
//! attempt, the guards that are taken out, and what the attacker is told. A process in that role which nobody confined and
//! granted anything has no more rights than who started it.

#![allow(unsafe_code)] // It makes system calls, and touches memory, as no library would.

use super::attempt::{Attempt, Guard};
use super::{ground, lane, list};
use crate::catalogue::BuiltIn;
use anyhow::{Context, Result, bail, ensure};
use imc::{Capability, Channel, Mapping, ReadOnly, ReadWrite, Region};
use sandbox::{DescriptorKind, Held, LayerName, Mode, Part, Recipe};
use schema::host::{Assign, Attach, Empty, Grant, Grants, Hello, Manifests, PROTOCOL, Purpose, Seal};
use schema::manifest::Power;
use std::ffi::CString;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use vmm::supervisor::Catalogue;

/// How the role of this program begins.
pub const ROLE: &str = "cofferdam: hostile";
/// Separates a role's words: what the attacker is told may have spaces.
const BETWEEN: char = '\t';
/// The channel's number.
pub const CHANNEL: RawFd = 3;
/// What an attacker carries off is left in the last bytes of its state region; before them, a word that says it is done.
pub const LOOT_BYTES: usize = 1024;
/// The code of a set-up that failed; acts end with error numbers, which are smaller.
const NOT_SET_UP: i32 = 250;

/// The role in which this program makes `attempt`.
pub fn role(attempt: &Attempt, removed: &[Guard], gift: bool, told: &[String]) -> String {
    let gift = if gift { "gift" } else { "" };
    let removed = removed.len().to_string();
    let mut words = vec![ROLE, attempt.id, &removed, gift];
    words.extend(told.iter().map(String::as_str));
    words.join(&BETWEEN.to_string())
}

/// What an attacker has got.
pub struct Host {
    /// Descriptors: for what, which one of several, and their numbers.
    pub descriptors: Vec<(Purpose, u32, RawFd)>,
    /// Memory: for what, and where the guest has it.
    pub regions: Vec<(Purpose, u64, Mapping)>,
    /// A descriptor that it should never have got.
    pub gift: Option<RawFd>,
    /// What it was told.
    pub told: Vec<CString>,
    /// It is the first process of a process namespace.
    pub is_first: bool,
}

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

/// Leaves without the C library's help, which a sealed process could not use.
pub fn leave(code: i32) -> ! {
    // SAFETY: ends this thread, the only one.
    unsafe { libc::syscall(libc::SYS_exit, code) };
    unreachable!("exit returned")
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

    /// The number of a descriptor; -1 if it was not granted.
    pub fn descriptor(&self, purpose: Purpose) -> RawFd {
        self.descriptors.iter().find(|(for_what, ..)| *for_what == purpose).map_or(-1, |(.., number)| *number)
    }

    /// The memory that was granted for this.
    pub fn region(&self, purpose: Purpose) -> Option<&Mapping> {
        self.regions.iter().find(|(for_what, ..)| *for_what == purpose).map(|(.., mapping)| mapping)
    }

    /// A word of its state region, which everybody sees.
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        word(self.state(), offset)
    }

    /// Its state region: every host has one.
    pub fn state(&self) -> &Mapping {
        match self.region(Purpose::State) {
            Some(state) => state,
            None => leave(NOT_SET_UP),
        }
    }

    /// Carries something off, to where its supervisor finds it.
    pub fn carry_off(&self, what: &[u8]) {
        let what = &what[..what.len().min(LOOT_BYTES)];
        self.state().write(self.state().len() - LOOT_BYTES, what);
    }

    /// Sleeps until it is woken: a call that every host has.
    pub fn sleep(&self) {
        let mut count = 0u64;
        // SAFETY: eight bytes of this stack.
        unsafe { libc::read(self.descriptor(Purpose::Wake), (&raw mut count).cast(), 8) };
    }

    /// Says that it is done, and stays to be looked at.
    pub fn rest(&self) -> ! {
        self.word(done_offset(self.state())).store(1, Ordering::SeqCst);
        loop {
            self.sleep();
        }
    }

    /// What it was told, as a path.
    pub fn told(&self, index: usize) -> *const libc::c_char {
        self.told.get(index).map_or(c"".as_ptr(), |word| word.as_ptr())
    }

    /// What it was told, as a number.
    pub fn number(&self, index: usize) -> i64 {
        self.told.get(index).and_then(|word| word.to_str().ok()?.parse().ok()).unwrap_or(-1)
    }
}

/// Where the word is that says that an attacker is done.
pub fn done_offset(state: &Mapping) -> usize {
    state.len() - LOOT_BYTES - 8
}

/// A word of shared memory.
pub fn word(mapping: &Mapping, offset: usize) -> &AtomicU64 {
    assert!(offset.is_multiple_of(8) && offset + 8 <= mapping.len());
    // SAFETY: in bounds, aligned, and only accessed atomically here.
    unsafe { AtomicU64::from_ptr(mapping.as_ptr().add(offset).cast()) }
}

/// A system call with up to six arguments, by its number. The result, or the error number.
///
/// # Safety
/// As for the call.
pub unsafe fn system_call(number: i64, arguments: [i64; 6]) -> Result<i64, i32> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the caller's.
    check(unsafe { libc::syscall(number, a, b, c, d, e, f) })
}

/// The result of a call of the C library, or the error number.
pub fn check(result: impl Into<i64>) -> Result<i64, i32> {
    let result = result.into();
    if result < 0 { Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)) } else { Ok(result) }
}
