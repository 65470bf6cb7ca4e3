//! Group C: descriptors, those that it has and those that it should not have.

#![allow(unsafe_code)] // The attacker's calls.

use super::arena::{alone, fooled, soon};
use super::attempt::{Attempt, Done, FILTER, Group, Guard, Judge, LANDLOCK, OPEN_FILES, OWN_USER, Outcome, Trial};
use super::ground::{DISK, DISK_BYTES, Ground, PATIENCE, REGISTERS};
use super::hostile::{CHANNEL, Host, check, word};
use super::kernel::maps;
use super::lone::words;
use super::naive::Naive;
use super::{lane, messages};
use crate::catalogue::BuiltIn;
use anyhow::{Context, Result, ensure};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{setsockopt, sockopt};
use sandbox::{LayerName, Resource};
use schema::host::{Log, Purpose, Setting, Severity};
use schema::lane::Carrier;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use vmm::supervisor::{Backing, Cell, Hostile};

/// The group.
pub static GROUP: Group = Group { letter: 'C', name: "descriptors", attempts: ATTEMPTS };

const FILE_BYTES: Guard = Guard::Limit(Resource::FileBytes);

const ATTEMPTS: &[Attempt] = &[
    Attempt {
        id: "C1",
        no: "41",
        attempt: "write to every descriptor it can think of",
        guards: &[FILTER, Guard::Grants],
        seen_by: "wait status; the content of another device's disk",
        device: DISK,
        act: write_guessed,
        judge: Judge::Cell(|ground| {
            let path = ground.path("other-disk");
            std::fs::write(&path, [0; DISK_BYTES])?;
            let other = OpenOptions::new().read(true).write(true).open(&path)?;
            Ok(Trial::new(move |_, _| Ok(std::fs::read(&path)? != [0; DISK_BYTES]))
                .with(Backing::Memory(vec![0; DISK_BYTES]))
                .give(Guard::Grants, other))
        }),
    },
    Attempt {
        id: "C2",
        no: "44",
        attempt: "change the flags of an open file, so that others' writes go astray",
        guards: &[FILTER, Guard::FreshOpen],
        seen_by: "wait status; where the supervisor's own write lands",
        device: DISK,
        act: append,
        judge: Judge::Cell(|ground| {
            let path = ground.path("shared-flags");
            std::fs::write(&path, [0; DISK_BYTES])?;
            let own = OpenOptions::new().read(true).write(true).open(&path)?;
            let gift = own.try_clone()?;
            let seen = move |_: &mut Cell, _| {
                own.write_all_at(b"at the start", 0)?;
                Ok(own.metadata()?.len() > DISK_BYTES as u64)
            };
            Ok(Trial::new(seen).with(Backing::Path(path)).give(Guard::FreshOpen, gift))
        }),
    },
    Attempt {
        id: "C3",
        no: "46",
        attempt: "undo the lock of a file that others hold",
        guards: &[FILTER, Guard::FreshOpen],
        seen_by: "wait status; whether somebody else can lock the file",
        device: DISK,
        act: unlock,
        judge: Judge::Cell(|ground| {
            let path = ground.path("shared-lock");
            std::fs::write(&path, [0; DISK_BYTES])?;
            let own = OpenOptions::new().read(true).write(true).open(&path)?;
            let gift = own.try_clone()?;
            let lock = Flock::lock(own, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
            let seen = move |_: &mut Cell, _| {
                let _held = &lock;
                Ok(Flock::lock(File::open(&path)?, FlockArg::LockExclusiveNonblock).is_ok())
            };
            Ok(Trial::new(seen).with(Backing::Memory(vec![0; DISK_BYTES])).give(Guard::FreshOpen, gift))
        }),
    },
    Attempt {
        id: "C4",
        no: "47",
        attempt: "open a file that it may only read anew, to write it",
        guards: &[FILTER, OPEN_FILES, Guard::Layer(LayerName::Root), FILE_BYTES, LANDLOCK, OWN_USER],
        seen_by: "wait status; the file's content",
        device: DISK,
        act: open_anew,
        judge: Judge::Cell(|ground| {
            let path = ground.path("read-only");
            std::fs::write(&path, [0; DISK_BYTES])?;
            let seen = path.clone();
            let mut trial = Trial::new(move |_, _| Ok(std::fs::read(&seen)? != [0; DISK_BYTES]));
            trial.options.push(Setting { name: "readonly".into(), value: "on".into() });
            Ok(trial.with(Backing::Path(path)))
        }),
    },
    Attempt {
        id: "C5",
        no: "49",
        attempt: "send memory of its own, and take it away while it is read",
        guards: &[FILTER, OPEN_FILES, FILE_BYTES, Guard::NoDescriptors, Guard::Check("takes no descriptor")],
        seen_by: "wait status; what the supervisor hears; the wait status of a reader",
        device: REGISTERS,
        act: send_memory,
        judge: Judge::Own(|ground, attempt, removed| hear(ground, attempt, removed, "memory")),
    },
    Attempt {
        id: "C6",
        no: "50",
        attempt: "send two descriptors where there is room for one",
        guards: &[FILTER, OPEN_FILES, Guard::NoDescriptors, Guard::Check("takes no descriptor")],
        seen_by: "wait status; what the supervisor hears; a reader's descriptors in /proc",
        device: REGISTERS,
        act: |host| send_descriptors(host.descriptor(Purpose::Wake), 2, TWICE),
        judge: Judge::Own(|ground, attempt, removed| hear(ground, attempt, removed, "one-descriptor")),
    },
    Attempt {
        id: "C7",
        no: "52",
        attempt: "keep ringing what its supervisor has closed",
        guards: &[Guard::Check("waits for nothing that it has closed")],
        seen_by: "what a wait says once the host is given up",
        device: REGISTERS,
        act: |host| {
            loop {
                lane::ring(host.descriptor(Purpose::Irq), 1)?;
            }
        },
        judge: Judge::Own(stale_wait),
    },
    Attempt {
        id: "C8",
        no: "53",
        attempt: "use what it was granted once it is given up",
        guards: &[Guard::Kill],
        seen_by: "the count of its eventfd, and the process table",
        device: REGISTERS,
        act: |host| {
            // It breaks the protocol, and goes on.
            messages::send(&messages::log(&[0xff; 8]))?;
            loop {
                lane::ring(host.descriptor(Purpose::Irq), 1)?;
            }
        },
        judge: Judge::Own(revoked),
    },
    Attempt {
        id: "C9",
        no: "55",
        attempt: "never read, so that who tells it something waits",
        guards: &[Guard::Check("a full queue is an answer")],
        seen_by: "how long the supervisor takes to tell it something",
        device: REGISTERS,
        act: |_| Ok(()),
        judge: Judge::Own(never_reads),
    },
    Attempt {
        id: "C10",
        no: "26",
        attempt: "have its helper write beyond the end of its disk",
        guards: &[Guard::HelperCheck],
        seen_by: "the file's size; the process table",
        device: DISK,
        act: ask_helper,
        judge: Judge::Own(beyond_the_disk),
    },
];

/// Where a host asks its helper, and what.
const ASKED: [u64; 4] = [1 | WRITE << 32, 0, BEYOND, 512];
const WRITE: u64 = 2;
/// A place on the disk that there is not.
const BEYOND: u64 = 1 << 20;

fn ask_helper(host: &Host) -> Done {
    let Some(region) = host.region(Purpose::HelperRegion) else { return Err(libc::ENOENT) };
    // The first word last: it says that there is a question.
    for (at, value) in ASKED.into_iter().enumerate().rev() {
        word(region, 8 * at).store(value, Ordering::SeqCst);
    }
    lane::ring(host.descriptor(Purpose::HelperWake), 1)
}

fn beyond_the_disk(ground: &Ground<'_>, attempt: &Attempt, removed: &[Guard]) -> Result<Outcome> {
    let path = ground.path("helper-disk");
    std::fs::write(&path, [0; DISK_BYTES])?;
    let mut device = ground.device(attempt.device, vec![Backing::Path(path.clone())]);
    device.level = ground.level;
    device.hostile = Some(Hostile { role: attempt.role(removed, false, &[]), without: Vec::new() });
    let cell = Cell::start(&device, &BuiltIn, None)?;
    let region = cell.helper_region()?;
    let helper = cell.helper().context("a host at level strict has a helper")?;
    cell.wake().signal(1)?;
    let until = Instant::now() + PATIENCE;
    if removed.is_empty() {
        // A dead child of the attacker's may not be reaped; a dead process has no memory.
        while !maps(helper).is_empty() {
            ensure!(Instant::now() < until, "the helper goes on");
            std::thread::sleep(Duration::from_millis(1));
        }
        let grown = std::fs::metadata(&path)?.len() > DISK_BYTES as u64;
        return Ok(if grown { Outcome::Succeeded } else { Outcome::Stopped("the helper ended itself".to_owned()) });
    }
    while word(&region, 0).load(Ordering::SeqCst) != ASKED[0] {
        ensure!(Instant::now() < until, "nothing was asked");
        std::thread::sleep(Duration::from_millis(1));
    }
    // Who does as he is asked.
    let [offset, bytes] = [16, 24].map(|at| word(&region, at).load(Ordering::SeqCst));
    OpenOptions::new().write(true).open(&path)?.write_all_at(&vec![1; bytes.min(4096) as usize], offset)?;
    Ok(fooled(std::fs::metadata(&path)?.len() > DISK_BYTES as u64))
}

/// Messages of two descriptors each.
const TWICE: usize = 50;

/// What comes of descriptors that are sent to a supervisor, or to a reader who takes them.
fn hear(ground: &Ground<'_>, attempt: &Attempt, removed: &[Guard], reader: &'static str) -> Result<Outcome> {
    let mut cell = alone(ground, attempt, removed, Carrier::Memory)?;
    if removed.contains(&Guard::NoDescriptors) {
        let_descriptors_in(&mut cell)?;
    }
    cell.wake().signal(1)?;
    if removed.len() == attempt.guards.len() {
        let mut naive = Naive::start(reader, cell.channel().as_fd())?;
        if reader == "memory" {
            return naive.outcome();
        }
        let folder = format!("/proc/{}/fd", naive.pid());
        return soon(|| Ok(std::fs::read_dir(&folder)?.count() > TWICE / 2));
    }
    let before = std::fs::read_dir("/proc/self/fd")?.count();
    let heard = cell.channel().receive(Some(PATIENCE));
    let kept = std::fs::read_dir("/proc/self/fd")?.count().saturating_sub(before);
    if kept > 0 {
        return Ok(Outcome::Succeeded);
    }
    Ok(match heard {
        Err(imc::Fault::PeerGone) => Outcome::Stopped(cell.wait_for_end(PATIENCE).map_or_else(String::new, words)),
        Err(fault) => Outcome::Stopped(fault.to_string()),
        Ok(_) => Outcome::Succeeded,
    })
}

fn send_memory(_: &Host) -> Done {
    // SAFETY: a constant string; the calls take numbers, and a time of this stack.
    unsafe {
        let memory = check(libc::memfd_create(c"witness".as_ptr(), libc::MFD_CLOEXEC))?;
        check(libc::ftruncate(memory as RawFd, 4096))?;
        send_descriptors(memory as RawFd, 1, 1)?;
        libc::nanosleep(&libc::timespec { tv_sec: 0, tv_nsec: 50_000_000 }, std::ptr::null_mut());
        check(libc::ftruncate(memory as RawFd, 0)).map(drop)
    }
}

fn stale_wait(ground: &Ground<'_>, attempt: &Attempt, removed: &[Guard]) -> Result<Outcome> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
    let cell = alone(ground, attempt, removed, Carrier::Memory)?;
    let watched = cell.irq().as_fd().try_clone_to_owned()?;
    if !removed.is_empty() {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&watched, EpollEvent::new(EpollFlags::EPOLLIN, 1))?;
        // What it stood for is gone, and its number may be somebody else's; the attacker keeps the open file alive.
        drop(watched);
        cell.wake().signal(1)?;
        let mut events = [EpollEvent::empty()];
        return Ok(fooled(epoll.wait(&mut events, EpollTimeout::from(1000u16))? == 1));
    }
    cell.wake().signal(1)?;
    let mut polled = [PollFd::new(watched.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::from(1000u16))?;
    drop(watched);
    // Each wait names what it waits for: nothing is left to name.
    let told = poll(&mut [], PollTimeout::from(20u8))?;
    Ok(if told == 0 { Outcome::Stopped("nothing is told".to_owned()) } else { Outcome::Succeeded })
}

fn revoked(ground: &Ground<'_>, attempt: &Attempt, removed: &[Guard]) -> Result<Outcome> {
    let mut cell = alone(ground, attempt, removed, Carrier::Memory)?;
    cell.wake().signal(1)?;
    let packet = cell.channel().receive(Some(PATIENCE))?;
    let broken = packet.map(|packet| packet.decode::<Log>().is_err());
    ensure!(broken == Some(true), "it has not broken the protocol");
    let pid = cell.pid();
    if removed.is_empty() {
        cell.end();
    }
    cell.irq().drain();
    std::thread::sleep(Duration::from_millis(20));
    let rings = cell.irq().drain().unwrap_or(0);
    let lives = std::fs::exists(format!("/proc/{pid}"))?;
    Ok(if rings > 0 || lives { Outcome::Succeeded } else { Outcome::Stopped("killed; nothing rings".to_owned()) })
}

fn never_reads(ground: &Ground<'_>, attempt: &Attempt, removed: &[Guard]) -> Result<Outcome> {
    /// A write that waits as long as this waits for ever.
    const FOR_EVER: Duration = Duration::from_millis(200);
    let mut cell = alone(ground, attempt, removed, Carrier::Memory)?;
    cell.wake().signal(1)?;
    let line = Log { severity: Severity::Info, text: ".".repeat(300) };
    if removed.is_empty() {
        for told in 0.. {
            let begin = Instant::now();
            match cell.channel().tell(&line, &[]) {
                Ok(()) if told < 100_000 && begin.elapsed() < FOR_EVER => {}
                Err(imc::SendError::Full) => return Ok(Outcome::Stopped(format!("full after {told}, and said so"))),
                other => return Ok(Outcome::Failed(format!("after {told}: {other:?}"))),
            }
        }
    }
    let channel = cell.channel();
    let channel = channel.as_fd();
    let wait = nix::sys::time::TimeVal::new(0, FOR_EVER.as_micros() as i64);
    setsockopt(&channel, sockopt::SendTimeout, &wait)?;
    let bytes = [0u8; 1024];
    loop {
        let begin = Instant::now();
        // SAFETY: bytes of this stack.
        let sent = unsafe { libc::send(channel.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
        if sent < 0 {
            return Ok(fooled(begin.elapsed() >= FOR_EVER / 2));
        }
    }
}

fn write_guessed(host: &Host) -> Done {
    let mut last = libc::EBADF;
    let own = host.descriptor(Purpose::File);
    for number in (0..1024).filter(|number| *number != own && *number != CHANNEL) {
        // SAFETY: bytes of a constant.
        match check(unsafe { libc::pwrite(number, c"mine".as_ptr().cast(), 4, 0) } as i64) {
            Ok(_) => return Ok(()),
            Err(libc::EBADF) => {}
            Err(errno) => last = errno,
        }
    }
    Err(last)
}

fn files(host: &Host) -> impl Iterator<Item = RawFd> {
    [host.descriptor(Purpose::File)].into_iter().chain(host.gift)
}

fn append(host: &Host) -> Done {
    for file in files(host) {
        // SAFETY: no memory is passed.
        check(unsafe { libc::fcntl(file, libc::F_SETFL, libc::O_APPEND) })?;
    }
    Ok(())
}

fn unlock(host: &Host) -> Done {
    for file in files(host) {
        // SAFETY: no memory is passed.
        check(unsafe { libc::flock(file, libc::LOCK_UN) })?;
    }
    Ok(())
}

fn open_anew(host: &Host) -> Done {
    // Its name in /proc, put together without the help of an allocator.
    let mut name = *b"/proc/self/fd/000\0";
    let number = host.descriptor(Purpose::File) as u8;
    name[14..17].copy_from_slice(&[b'0' + number / 100, b'0' + number / 10 % 10, b'0' + number % 10]);
    let first = (14..16).find(|at| name[*at] != b'0').unwrap_or(16);
    name.copy_within(first.., 14);
    // SAFETY: the name ends with a zero; bytes of a constant.
    unsafe {
        let file = check(libc::open(name.as_ptr().cast(), libc::O_WRONLY))?;
        check(libc::pwrite(file as i32, c"mine".as_ptr().cast(), 4, 0) as i64).map(drop)
    }
}

/// Sends `each` copies of a descriptor with each of `count` messages to its supervisor.
pub(super) fn send_descriptors(descriptor: RawFd, each: usize, count: usize) -> Done {
    let mut bytes = [0u8; 8];
    let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut control = [0u64; 8];
    // SAFETY: all pointers are to live locals of the sizes given; the control buffer has room for one header and two numbers.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        let numbers = (4 * each.min(2)) as u32;
        message.msg_controllen = libc::CMSG_SPACE(numbers) as usize;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(numbers) as usize;
        for at in 0..each.min(2) {
            libc::CMSG_DATA(header).cast::<i32>().add(at).write_unaligned(descriptor);
        }
        for _ in 0..count {
            loop {
                match check(libc::sendmsg(CHANNEL, &raw const message, 0) as i64) {
                    // Its queue is full until somebody reads.
                    Err(libc::EAGAIN) => libc::sched_yield(),
                    Err(errno) => return Err(errno),
                    Ok(_) => break,
                };
            }
        }
    }
    Ok(())
}

/// The descriptors of the next message that waits at the supervisor's end; they are closed. `None`: no message waits.
pub(super) fn take_descriptors(cell: &mut Cell) -> Result<Option<usize>> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    use std::os::fd::{FromRawFd, OwnedFd};
    let mut text = [0; 4096];
    let mut space = nix::cmsg_space!([RawFd; 8]);
    let mut vector = [std::io::IoSliceMut::new(&mut text)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let channel = cell.channel().as_fd().as_raw_fd();
    let message = match recvmsg::<()>(channel, &mut vector, Some(&mut space), flags) {
        Err(_) => return Ok(None),
        // The end.
        Ok(message) if message.bytes == 0 => return Ok(None),
        Ok(message) => message,
    };
    let mut count = 0;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            count += numbers.len();
            // SAFETY: the kernel has just made these numbers, and nobody else knows them.
            numbers.into_iter().for_each(|number| drop(unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    Ok(Some(count))
}

/// Lets a supervisor's channel take descriptors again.
pub(super) fn let_descriptors_in(cell: &mut Cell) -> Result<()> {
    /// `SO_PASSRIGHTS` of <asm-generic/socket.h>, since Linux 6.16. An older kernel has nothing to let in.
    const SO_PASSRIGHTS: i32 = 83;
    let on = 1i32;
    let channel = cell.channel().as_fd().as_raw_fd();
    // SAFETY: an int of this stack.
    unsafe { libc::setsockopt(channel, libc::SOL_SOCKET, SO_PASSRIGHTS, (&raw const on).cast(), 4) };
    Ok(())
}
