//! The supervisor's side of a probe: grants it what a device host gets, and looks at it at each stage. Shared by the
//! probe program and the tests.

#![allow(dead_code)] // Each of the two uses a part.

use nix::cmsg_space;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};
use sandbox::{Audit, Child, End, Program, Recipe, SpawnError, Stage, audit, spawn};
use schema::host::Level;
use schema::manifest::{Class, Manifest, Power, Wish};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A probe answers within this.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Size of the file that a `file` device is granted.
pub const FILE_BYTES: u64 = 4096;

/// What a probe is a host of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Registers alone.
    Register,
    /// With a file that it may write.
    File,
}

impl DeviceKind {
    pub fn named(name: &str) -> DeviceKind {
        match name {
            "register" => DeviceKind::Register,
            "file" => DeviceKind::File,
            _ => panic!("no device `{name}`"),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            DeviceKind::Register => "register",
            DeviceKind::File => "file",
        }
    }

    /// The one device of its host.
    pub fn manifests(self) -> Vec<Manifest> {
        let mut wishes = Vec::new();
        if self == DeviceKind::File {
            wishes.push(wish(Power::FileWrite, "its contents"));
        }
        vec![manifest("probe", wishes)]
    }
}

/// A manifest of a device with these wishes.
pub fn manifest(name: &str, wishes: Vec<Wish>) -> Manifest {
    Manifest {
        name: name.into(),
        summary: "a device of tests".into(),
        class: Class::System,
        ranges: vec![],
        registers: vec![],
        lines: vec![],
        vectors: 0,
        doorbells: vec![],
        wishes,
        state_bytes: 64,
        bulk_bytes: 0,
        pci: None,
        acpi: None,
        with: vec![],
        options: vec![],
        remembered: 0,
    }
}

pub fn wish(power: Power, because: &str) -> Wish {
    Wish { power, name: "it".into(), switch: None, bytes: 0, range: 0, because: because.into() }
}

pub fn level_named(name: &str) -> Level {
    match name {
        "off" => Level::Off,
        "process" => Level::Process,
        "seccomp" => Level::Seccomp,
        "strict" => Level::Strict,
        _ => panic!("no level `{name}`"),
    }
}

pub fn level_name(level: Level) -> &'static str {
    match level {
        Level::Off => "off",
        Level::Process => "process",
        Level::Seccomp => "seccomp",
        Level::Strict => "strict",
    }
}

/// A running probe.
pub struct Probe {
    pub child: Child,
    pub recipe: Recipe,
    device: DeviceKind,
    channel: OwnedFd,
    wake: EventFd,
    irq: EventFd,
    reply: EventFd,
    file: Option<File>,
    /// SELinux context of the memory that it is granted.
    memory_context: Option<String>,
}

impl Probe {
    /// Starts one by the recipe of its level and device.
    pub fn start(program: &Program, level: Level, device: DeviceKind, act: &str) -> Result<Probe, SpawnError> {
        Probe::start_with(program, Recipe::host(level, &device.manifests()), device, act)
    }

    /// Starts one by another recipe.
    pub fn start_with(program: &Program, recipe: Recipe, device: DeviceKind, act: &str) -> Result<Probe, SpawnError> {
        let level = level_name(recipe.level);
        Probe::start_as(program, recipe, level, device, act)
    }

    /// Starts one by a recipe, which takes itself to be at another level.
    pub fn start_as(
        program: &Program,
        recipe: Recipe,
        level: &str,
        device: DeviceKind,
        act: &str,
    ) -> Result<Probe, SpawnError> {
        let (ours, theirs) = channel()?;
        let name = format!("probe {level} {} {act}", device.name());
        let child = spawn(program, &name, theirs, &recipe)?;
        let eventfd = || EventFd::from_flags(EfdFlags::EFD_CLOEXEC);
        let eventfd = || eventfd().map_err(io::Error::from);
        let file = if device == DeviceKind::File { Some(scratch_file()?) } else { None };
        Ok(Probe {
            child,
            recipe,
            device,
            channel: ours,
            wake: eventfd()?,
            irq: eventfd()?,
            reply: eventfd()?,
            file,
            memory_context: None,
        })
    }

    /// Grants this file in place of the scratch file, and labels the memory.
    pub fn with_file(mut self, file: File, memory_context: Option<String>) -> Probe {
        self.file = Some(file);
        self.memory_context = memory_context;
        self
    }

    /// The next word that it says.
    pub fn hear(&self) -> io::Result<String> {
        let mut watched = [nix::poll::PollFd::new(self.channel.as_fd(), nix::poll::PollFlags::POLLIN)];
        let patience = nix::poll::PollTimeout::try_from(PATIENCE).expect("some seconds");
        if nix::poll::poll(&mut watched, patience)? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut text = [0; 1024];
        let bytes = nix::sys::socket::recv(self.channel.as_raw_fd(), &mut text, MsgFlags::empty())?;
        Ok(String::from_utf8_lossy(&text[..bytes]).into_owned())
    }

    /// Waits for its hello.
    pub fn await_confined(&self) -> io::Result<()> {
        self.expect("confined")
    }

    /// Gives it what it needs, and waits until it is sealed.
    pub fn grant(&self) -> io::Result<()> {
        let request = region(c"cofferdam:request")?;
        let request = File::open(format!("/proc/self/fd/{}", request.as_raw_fd()))?;
        let state = region(c"cofferdam:state")?;
        for (region, context) in [&request, &state].into_iter().zip(self.memory_context.iter().cycle()) {
            sandbox::label::set_context(region.as_fd(), context)?;
        }
        let mut numbers = vec![
            self.wake.as_raw_fd(),
            self.irq.as_raw_fd(),
            self.reply.as_raw_fd(),
            request.as_raw_fd(),
            state.as_raw_fd(),
        ];
        numbers.extend(self.file.as_ref().map(AsRawFd::as_raw_fd));
        let control = [ControlMessage::ScmRights(&numbers)];
        sendmsg::<()>(self.channel.as_raw_fd(), &[IoSlice::new(b"g")], &control, MsgFlags::empty(), None)?;
        self.expect("sealed")
    }

    fn expect(&self, word: &str) -> io::Result<()> {
        let said = self.hear()?;
        if said == word { Ok(()) } else { Err(io::Error::other(format!("the probe said `{said}`, not `{word}`"))) }
    }

    pub fn audit(&self, stage: Stage) -> io::Result<Audit> {
        audit(self.child.pid, &self.recipe, stage)
    }

    /// Wakes it: it does its act.
    pub fn wake(&self) -> io::Result<()> {
        self.wake.write(1)?;
        Ok(())
    }

    /// Its end.
    pub fn end(&mut self) -> Option<End> {
        self.child.reap(PATIENCE)
    }

    /// One that acts as soon as it is confined, and is never sealed: what stops it is the start alone.
    pub fn run_early(program: &Program, recipe: Recipe, act: &str) -> Result<End, String> {
        let act = format!("early:{act}");
        let started = Probe::start_with(program, recipe, DeviceKind::Register, &act);
        let mut probe = started.map_err(|error| error.to_string())?;
        probe.end().ok_or_else(|| "it did not end".to_owned())
    }

    /// From its start to its end.
    pub fn run(program: &Program, level: Level, device: DeviceKind, act: &str) -> Result<End, String> {
        Probe::run_with(program, Recipe::host(level, &device.manifests()), device, act)
    }

    pub fn run_with(program: &Program, recipe: Recipe, device: DeviceKind, act: &str) -> Result<End, String> {
        let words = |error: io::Error| error.to_string();
        let mut probe = Probe::start_with(program, recipe, device, act).map_err(|error| error.to_string())?;
        probe.await_confined().map_err(words)?;
        probe.grant().map_err(words)?;
        probe.wake().map_err(words)?;
        probe.end().ok_or_else(|| "it did not end".to_owned())
    }
}

/// A pair of connected ends.
pub fn channel() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

fn region(name: &std::ffi::CStr) -> io::Result<File> {
    let file = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC)?);
    file.set_len(4096)?;
    Ok(file)
}

/// A file whose name is gone before anybody could need to remove it.
fn scratch_file() -> io::Result<File> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("sandbox-probe-{}-{number}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(path)?;
    file.set_len(FILE_BYTES)?;
    Ok(file)
}

/// What a probe was granted.
pub struct Granted {
    pub wake: OwnedFd,
    pub irq: OwnedFd,
    pub reply: OwnedFd,
    pub request: OwnedFd,
    pub state: OwnedFd,
    pub file: Option<OwnedFd>,
}

impl Granted {
    /// The regions, and whether they may be written.
    pub fn regions(&self) -> [(BorrowedFd<'_>, bool); 2] {
        [(self.request.as_fd(), false), (self.state.as_fd(), true)]
    }
}

/// In the probe: waits for the grants.
pub fn receive_grants(channel: BorrowedFd<'_>, device: DeviceKind) -> Granted {
    let mut text = [0; 16];
    let mut vectors = [IoSliceMut::new(&mut text)];
    let mut space = cmsg_space!([RawFd; 8]);
    let message =
        recvmsg::<()>(channel.as_raw_fd(), &mut vectors, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).expect("grants");
    let mut numbers = Vec::new();
    // Truncated: one did not arrive.
    let Ok(controls) = message.cmsgs() else { refuse_grants() };
    for control in controls {
        if let ControlMessageOwned::ScmRights(received) = control {
            numbers.extend(received);
        }
    }
    // SAFETY: the kernel has just made these numbers, and nobody else knows them.
    let mut owned = numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) });
    let mut next = || owned.next().unwrap_or_else(|| refuse_grants());
    Granted {
        wake: next(),
        irq: next(),
        reply: next(),
        request: next(),
        state: next(),
        file: (device == DeviceKind::File).then(next),
    }
}

/// In the probe: a grant did not arrive, for the kernel did not let it pass.
fn refuse_grants() -> ! {
    let words = "a grant did not arrive";
    // SAFETY: the text is readable; the process ends.
    unsafe {
        libc::write(3, words.as_ptr().cast(), words.len());
        libc::_exit(1)
    }
}

/// In the probe: maps a region for as long as it lives.
pub fn map((region, writable): (BorrowedFd<'_>, bool)) {
    let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
    // SAFETY: a new mapping, which nothing uses.
    let address =
        unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, libc::MAP_SHARED, region.as_raw_fd(), 0) };
    assert_ne!(address, libc::MAP_FAILED, "mapping a region");
}
