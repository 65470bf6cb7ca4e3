//! Group B: processes, memory and whatever else a host shares with everybody.

#![allow(unsafe_code)] // The attacker's calls, and kernel objects for it to find.

use super::attempt::{Attempt, CGROUP, Done, FILTER, Group, Guard, Judge, LANDLOCK, OPEN_FILES, Outcome, Trial};
use super::ground::{Ground, REGISTERS, status};
use super::hostile::{Host, check};
use super::kernel::{HOG_BYTES, children, fork, has_the_secret, pausing_program, resident, take_memory};
use super::lone::judge;
use crate::catalogue::BuiltIn;
use anyhow::Result;
use sandbox::{LayerName, Resource};
use schema::host::Purpose;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use vmm::supervisor::{Cell, Hostile};

/// The group.
pub static GROUP: Group = Group { letter: 'B', name: "processes and other resources", attempts: ATTEMPTS };

/// Processes of a bomb that is one only by intent.
const BOMB: usize = 64;
/// Bytes that no log should have.
const FILL_BYTES: u64 = 8 << 20;
/// A key of System V memory that nobody else has.
const SHARED_KEY: i32 = 0x0c0f_fe61;
/// Somebody who is not the user.
const NOBODY: u32 = 65534;

const ATTEMPTS: &[Attempt] = &[
    Attempt {
        id: "B1",
        no: "29",
        attempt: "start processes without end",
        guards: &[FILTER, Guard::Limit(Resource::Processes), CGROUP],
        seen_by: "wait status; its children in /proc",
        device: REGISTERS,
        act: |_| (0..BOMB).try_for_each(|_| fork()),
        judge: Judge::Cell(|_| Ok(Trial::new(|cell, _| Ok(children(cell.pid()) == BOMB)))),
    },
    Attempt {
        id: "B2",
        no: "31",
        attempt: "take memory that is shared, and so is not its own",
        guards: &[FILTER, CGROUP],
        seen_by: "wait status; its resident memory in /proc",
        device: REGISTERS,
        act: |_| take_memory(libc::MAP_SHARED),
        judge: Judge::Cell(|_| Ok(Trial::new(|cell, _| Ok(resident(cell.pid()) >= HOG_BYTES)))),
    },
    Attempt {
        id: "B3",
        no: "32",
        attempt: "fill the disk by its log",
        guards: &[Guard::Limit(Resource::FileBytes), FILTER, Guard::Grants],
        seen_by: "wait status; the size of a log file",
        device: REGISTERS,
        act: fill_log,
        judge: Judge::Cell(|ground| {
            let log = std::fs::File::create(ground.path("log"))?;
            let seen = log.try_clone()?;
            let large = move |_: &mut Cell, _| Ok(seen.metadata()?.len() >= FILL_BYTES);
            Ok(Trial::new(large).give(Guard::Grants, log))
        }),
    },
    Attempt {
        id: "B4",
        no: "34",
        attempt: "leave a core with all that it had in memory",
        guards: &[
            Guard::Limit(Resource::CoreBytes),
            Guard::Layer(LayerName::Undumpable),
            super::attempt::CAPABILITIES,
            Guard::Namespaces,
            Guard::Limit(Resource::FileBytes),
            LANDLOCK,
        ],
        seen_by: "files in the folder where cores go",
        device: REGISTERS,
        act: |_| {
            // SAFETY: there is no memory at 8, so this ends the process.
            unsafe { std::ptr::without_provenance_mut::<u64>(8).write_volatile(1) };
            Ok(())
        },
        judge: Judge::Cell(dump_core),
    },
    Attempt {
        id: "B5",
        no: "35",
        attempt: "use up the descriptors that its user may have on their way",
        guards: &[FILTER, OPEN_FILES, Guard::NoDescriptors],
        seen_by: "wait status; what waits at its supervisor's end of the channel",
        device: REGISTERS,
        act: |host| super::descriptors::send_descriptors(host.descriptor(Purpose::Wake), 1, 100),
        judge: Judge::Cell(|_| {
            let mut count = 0;
            let seen = move |cell: &mut Cell, _| {
                while let Some(descriptors) = super::descriptors::take_descriptors(cell)? {
                    count += descriptors;
                }
                Ok(count >= 64)
            };
            Ok(Trial::new(seen).relax(Guard::NoDescriptors, super::descriptors::let_descriptors_in))
        }),
    },
    Attempt {
        id: "B6",
        no: "37",
        attempt: "leave System V memory behind",
        guards: &[FILTER, Guard::Layer(LayerName::Ipc)],
        seen_by: "the host's list of it, once the attacker is dead",
        device: REGISTERS,
        // SAFETY: no memory is passed.
        act: |_| check(unsafe { libc::shmget(SHARED_KEY, 4096, libc::IPC_CREAT | 0o600) }).map(drop),
        judge: Judge::Cell(|_| Ok(Trial::new(|cell, _| Ok(take_shared_memory(cell))))),
    },
    Attempt {
        id: "B7",
        no: "37",
        attempt: "take a name among the host's abstract sockets",
        guards: &[FILTER, OPEN_FILES, Guard::Layer(LayerName::Net)],
        seen_by: "wait status; the host's list of sockets",
        device: REGISTERS,
        act: bind_abstract,
        judge: Judge::Cell(|_| {
            let own = format!("@{SOCKET_NAME}");
            Ok(Trial::new(move |_, _| Ok(std::fs::read_to_string("/proc/net/unix")?.contains(&own))))
        }),
    },
    Attempt {
        id: "B8",
        no: "38",
        attempt: "find what its starter left it: environment, arguments, open files",
        guards: &[Guard::Check("started with nothing but its channel")],
        seen_by: "the secret in its state region, or in what it prints",
        device: REGISTERS,
        act: |host| {
            let mut found = [0u8; 64];
            let bytes = find_inheritance(&mut found);
            host.carry_off(&found[..bytes]);
            Ok(())
        },
        judge: Judge::Own(inherit),
    },
    Attempt {
        id: "B9",
        no: "40",
        attempt: "become another user by a set-user-ID program",
        guards: &[FILTER, Guard::Namespaces, LANDLOCK, Guard::Layer(LayerName::NoNewPrivs)],
        seen_by: "wait status; its users in /proc",
        device: REGISTERS,
        act: |host| {
            let none = std::ptr::null::<*const libc::c_char>();
            // SAFETY: a path of this process, no arguments and no environment.
            check(unsafe { libc::execve(host.told(0), none, none) }).map(drop)
        },
        judge: Judge::Cell(|ground| {
            let program = ground.path("set-user-id");
            std::fs::write(&program, pausing_program())?;
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
            let made = ground.root && std::os::unix::fs::chown(&program, Some(NOBODY), Some(NOBODY)).is_ok();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o4755))?;
            let honoured =
                !nix::sys::statvfs::statvfs(&program)?.flags().contains(nix::sys::statvfs::FsFlags::ST_NOSUID);
            let seen = |cell: &mut Cell, _| {
                let users = status(cell.pid(), "Uid");
                let (real, effective) = users.split_once(char::is_whitespace).unwrap_or_default();
                Ok(real != NOBODY.to_string() && effective.starts_with(&NOBODY.to_string()))
            };
            Ok(Trial::new(seen)
                .needs(made && std::fs::metadata(&program)?.uid() == NOBODY, "root alone makes programs of other users")
                .needs(honoured, "the file system of temporary files honours no set-user-ID")
                .tell(program.display()))
        }),
    },
];

fn fill_log(host: &Host) -> Done {
    static BLOCK: [u8; 64 << 10] = [b'.'; 64 << 10];
    let mut last = libc::EBADF;
    // The channel is a log, too, but a bounded one: it would be the first to be full.
    for number in (4..64).chain(host.gift) {
        let mut written = 0;
        while written < FILL_BYTES {
            // SAFETY: bytes of a constant.
            match check(unsafe { libc::write(number, BLOCK.as_ptr().cast(), BLOCK.len()) } as i64) {
                Ok(bytes @ 4096..) => written += bytes as u64,
                Ok(_) => break,
                Err(errno) => {
                    last = errno;
                    break;
                }
            }
        }
        if written >= FILL_BYTES {
            return Ok(());
        }
    }
    Err(last)
}

fn dump_core(ground: &Ground<'_>) -> Result<Trial> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let name = pattern.trim().split('%').next().unwrap_or_default().to_owned();
    let plain = !name.is_empty() && !name.starts_with('|') && !name.contains('/');
    // A limit is inherited; those of hosts are lower.
    let (_, most) = getrlimit(Resource::RLIMIT_CORE)?;
    setrlimit(Resource::RLIMIT_CORE, most, most)?;
    let folder = ground.path("cores");
    if !folder.exists() {
        std::fs::create_dir(&folder)?;
    }
    std::env::set_current_dir(&folder)?;
    let seen = move |over: bool| -> Result<bool> {
        let files = std::fs::read_dir(&folder)?.flatten();
        let mut cores = files.filter(|file| file.file_name().to_string_lossy().starts_with(&name));
        match cores.next() {
            Some(core) => {
                let bytes = core.metadata()?.len();
                // The kernel makes the file first and fills it then: an empty one may be about to be filled.
                if bytes > 0 || over {
                    std::fs::remove_file(core.path())?;
                }
                Ok(bytes > 0)
            }
            None => Ok(false),
        }
    };
    let crashed = plain && {
        Command::new("/proc/self/exe").arg0(CARELESS).arg(CRASH).stdout(Stdio::null()).status()?;
        seen(true)?
    };
    Ok(Trial::new(move |_, end| seen(end.is_some()))
        .needs(plain, "cores go to another program here (kernel.core_pattern)")
        .needs(most > 0, "its user may leave no cores")
        .needs(crashed, "nobody leaves a core here"))
}

/// Whether the memory is in the host's list, once its maker is dead; it is taken out.
fn take_shared_memory(cell: &mut Cell) -> bool {
    let is_there = || {
        let list = std::fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
        list.lines().any(|line| line.split_whitespace().next() == Some(&SHARED_KEY.to_string()))
    };
    if !is_there() {
        return false;
    }
    cell.end();
    let still = is_there();
    // SAFETY: no memory is passed or taken.
    unsafe { libc::shmctl(libc::shmget(SHARED_KEY, 0, 0), libc::IPC_RMID, std::ptr::null_mut()) };
    still
}

const SOCKET_NAME: &str = "cofferdam-attack-witness";

fn bind_abstract(_: &Host) -> Done {
    // SAFETY: all zeroes is a valid address.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as u16;
    for (to, from) in address.sun_path[1..].iter_mut().zip(SOCKET_NAME.bytes()) {
        *to = from as libc::c_char;
    }
    let bytes = std::mem::offset_of!(libc::sockaddr_un, sun_path) + 1 + SOCKET_NAME.len();
    // SAFETY: an address of this stack, as long as is said.
    unsafe {
        let socket = check(libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0))?;
        check(libc::bind(socket as i32, (&raw const address).cast(), bytes as u32)).map(drop)
    }
}

/// The variable in which a careless starter has its secret.
const VARIABLE: &str = "COFFERDAM_ATTACK_WITNESS";

/// Looks through environment and open files for what looks like a secret: the first bytes of either. Makes no call that a
/// sealed process does not have until it has looked through its environment.
fn find_inheritance(found: &mut [u8; 64]) -> usize {
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    // SAFETY: the C library's list of strings, which nobody changes: each ends with a zero, the list with null.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let text = std::ffi::CStr::from_ptr(*entry).to_bytes();
            if let Some(value) = text.strip_prefix(VARIABLE.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) {
                let bytes = value.len().min(found.len());
                found[..bytes].copy_from_slice(&value[..bytes]);
                return bytes;
            }
            entry = entry.add(1);
        }
        0
    }
}

/// The role of a process that is started without care.
pub const CARELESS: &str = "cofferdam: careless";

/// What tells it to crash instead.
const CRASH: &str = "crash";

/// Prints what was left to it.
pub fn be_careless() {
    if std::env::args().nth(1).as_deref() == Some(CRASH) {
        std::process::abort();
    }
    let mut found = [0u8; 64];
    let bytes = find_inheritance(&mut found);
    print!("{}", String::from_utf8_lossy(&found[..bytes]));
    // The first open file that is not a standard one.
    let mut text = [0u8; 64];
    for number in 3..4096 {
        // SAFETY: a buffer of this stack.
        let read = unsafe { libc::pread(number, text.as_mut_ptr().cast(), text.len(), 0) };
        if read > 0 {
            print!(" {}", String::from_utf8_lossy(&text[..read as usize]));
        }
    }
}

fn inherit(ground: &Ground<'_>, attempt: &Attempt, removed: &[Guard]) -> Result<Outcome> {
    // Not closed on exec, as a careless library's.
    let left = std::fs::File::open(ground.secret_file())?;
    nix::fcntl::fcntl(&left, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))?;
    let left = Leftover(left.into_raw_fd());
    if !removed.is_empty() {
        let mut command = Command::new("/proc/self/exe");
        let output = command.arg0(CARELESS).env(VARIABLE, &ground.secret).stdin(Stdio::null()).output()?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let both = printed.matches(&ground.secret).count() == 2;
        return Ok(if both { Outcome::Succeeded } else { Outcome::Stopped("found nothing".to_owned()) });
    }
    // SAFETY: this process has one thread, so nobody reads the environment meanwhile.
    unsafe { std::env::set_var(VARIABLE, &ground.secret) };
    let mut device = ground.device(attempt.device, Vec::new());
    device.hostile = Some(Hostile { role: attempt.role(removed, false, &[]), without: Vec::new() });
    let started = Cell::start(&device, &BuiltIn, None);
    // SAFETY: as above.
    unsafe { std::env::remove_var(VARIABLE) };
    let mut cell = started?;
    let descriptors = cell.audit()?.descriptors;
    let mut proof = has_the_secret(ground);
    let outcome = judge(&mut cell, |cell, end| proof(cell, end))?;
    drop(left);
    Ok(match outcome {
        Outcome::Stopped(_) => {
            Outcome::Stopped(format!("found nothing; holds {} descriptors, as its recipe says", descriptors.len()))
        }
        other => other,
    })
}

/// A descriptor that is closed by its number.
struct Leftover(i32);

impl Drop for Leftover {
    fn drop(&mut self) {
        // SAFETY: it is ours and nobody else's.
        unsafe { libc::close(self.0) };
    }
}
