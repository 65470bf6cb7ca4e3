//! Group A: system calls that a device host has no need of.

#![allow(unsafe_code)] // The attacker's calls, and kernel objects for it to find.

mod acts;

pub(super) use acts::{HOG_BYTES, fork, open_by_name, pausing_program, take_memory};

use super::attempt::{
    Attempt, CAPABILITIES, CGROUP, FILTER, Group, Guard, Judge, LANDLOCK, OPEN_FILES, OWN_USER, Proof, Trial,
    kernel_is_at_least,
};
use super::ground::{DISK, DISK_BYTES, Ground, REGISTERS, VICTIM_PAGE, Victim, page_of, status};
use super::hostile::{check, system_call};
use super::lone::loot;
use anyhow::{Context, Result};
use nix::pty::openpty;
use sandbox::{End, LayerName, Resource};
use schema::host::Purpose;
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{SystemTime, UNIX_EPOCH};
use vmm::supervisor::{Backing, Cell};

const PID: Guard = Guard::Layer(LayerName::Pid);
const DATA: Guard = Guard::Limit(Resource::DataBytes);
const FILE_BYTES: Guard = Guard::Limit(Resource::FileBytes);
const PROCESSES: Guard = Guard::Limit(Resource::Processes);

/// The group.
pub static GROUP: Group = Group { letter: 'A', name: "kernel calls", attempts: ATTEMPTS };

const ATTEMPTS: &[Attempt] = &[
    Attempt {
        id: "A1",
        no: "1",
        attempt: "open a file of the host by its name",
        guards: &[FILTER, OPEN_FILES, Guard::Layer(LayerName::Root), LANDLOCK],
        seen_by: "wait status; the secret in its state region",
        device: REGISTERS,
        act: open_by_name,
        judge: Judge::Cell(|ground| Ok(Trial::new(has_the_secret(ground)).tell(ground.secret_file().display()))),
    },
    Attempt {
        id: "A2",
        no: "2",
        attempt: "open a file relative to a descriptor, by `..`",
        guards: &[FILTER, OPEN_FILES, Guard::Grants, LANDLOCK],
        seen_by: "wait status; the secret in its state region",
        device: REGISTERS,
        act: acts::open_relative,
        judge: Judge::Cell(|ground| {
            let folder = std::fs::File::open(ground.path("inner"))?;
            Ok(Trial::new(has_the_secret(ground)).give(Guard::Grants, folder))
        }),
    },
    Attempt {
        id: "A3",
        no: "4",
        attempt: "execute a program made in memory",
        guards: &[FILTER, OPEN_FILES, FILE_BYTES],
        seen_by: "wait status; the link to its program in /proc",
        device: REGISTERS,
        act: acts::execute_memory,
        judge: Judge::Cell(|_| {
            Ok(Trial::new(|cell, _| Ok(link(cell, "exe").is_some_and(|link| link.contains("memfd:witness")))))
        }),
    },
    Attempt {
        id: "A4",
        no: "5",
        attempt: "start another process",
        guards: &[FILTER, PROCESSES, CGROUP],
        seen_by: "wait status; its children in /proc",
        device: REGISTERS,
        act: |_| fork(),
        judge: Judge::Cell(|_| Ok(Trial::new(|cell, _| Ok(children(cell.pid()) > 0)))),
    },
    Attempt {
        id: "A5",
        no: "7",
        attempt: "read the memory of a process of the same user",
        guards: &[FILTER, CAPABILITIES, Guard::Namespaces, LANDLOCK],
        seen_by: "wait status; the victim's secret in its state region",
        device: REGISTERS,
        act: acts::read_memory,
        judge: Judge::Cell(|ground| {
            let victim = Victim::start(ground)?;
            let pid = victim.pid();
            let mut proof = has_the_secret(ground);
            Ok(Trial::new(move |cell, end| {
                let _alive = &victim;
                proof(cell, end)
            })
            .tell(pid))
        }),
    },
    Attempt {
        id: "A6",
        no: "7",
        attempt: "write the memory of a process of the same user by /proc",
        guards: &[FILTER, OPEN_FILES, CAPABILITIES, Guard::Namespaces, FILE_BYTES, LANDLOCK],
        seen_by: "wait status; the victim's memory",
        device: REGISTERS,
        act: acts::write_memory,
        judge: Judge::Cell(|ground| {
            let victim = Victim::start(ground)?;
            let told = format!("/proc/{}/mem", victim.pid());
            Ok(Trial::new(move |_, _| Ok(victim.page().is_some_and(|page| page.starts_with(b"changed")))).tell(told))
        }),
    },
    Attempt {
        id: "A7",
        no: "8",
        attempt: "trace a process of the same user",
        guards: &[FILTER, CAPABILITIES, Guard::Namespaces, LANDLOCK],
        seen_by: "wait status; the victim's tracer in /proc",
        device: REGISTERS,
        act: |host| {
            // SAFETY: no memory is passed.
            check(unsafe { libc::ptrace(libc::PTRACE_SEIZE, host.number(0) as i32, 0, 0) }).map(drop)
        },
        judge: Judge::Cell(|ground| {
            let victim = Victim::start(ground)?;
            let pid = victim.pid();
            Ok(Trial::new(move |_, _| Ok(victim.status("TracerPid") != "0")).tell(pid))
        }),
    },
    Attempt {
        id: "A8",
        no: "8",
        attempt: "signal a process of the same user",
        guards: &[FILTER, PID, Guard::LandlockSignals, OWN_USER],
        seen_by: "wait status; the victim's wait status",
        device: REGISTERS,
        act: |host| {
            // SAFETY: no memory is passed.
            check(unsafe { libc::kill(host.number(0) as i32, libc::SIGUSR1) }).map(drop)
        },
        judge: Judge::Cell(|ground| {
            let mut victim = Victim::start(ground)?;
            let pid = victim.pid();
            Ok(Trial::new(move |_, _| Ok(victim.signal()? == Some(libc::SIGUSR1))).tell(pid))
        }),
    },
    Attempt {
        id: "A9",
        no: "10",
        attempt: "open a file by a guessed handle",
        guards: &[FILTER, OPEN_FILES, CAPABILITIES, Guard::Namespaces, LANDLOCK],
        seen_by: "wait status; the secret in its state region",
        device: REGISTERS,
        act: acts::open_by_handle,
        judge: Judge::Cell(|ground| {
            let handle = handle_of(ground);
            Ok(Trial::new(has_the_secret(ground))
                .needs(ground.root, "root alone may open by handles")
                .needs(handle.is_some(), "this file system gives its files no handles")
                .tell(ground.path("inner").display())
                .tell(handle.unwrap_or_default()))
        }),
    },
    Attempt {
        id: "A10",
        no: "11",
        attempt: "mount a file system",
        guards: &[FILTER, CAPABILITIES, LANDLOCK],
        seen_by: "wait status; its mounts in /proc",
        device: REGISTERS,
        act: |_| {
            let (name, kind) = (c"witness".as_ptr(), c"tmpfs".as_ptr());
            // SAFETY: constant strings.
            check(unsafe { libc::mount(name, c"/".as_ptr(), kind, 0, std::ptr::null()) }).map(drop)
        },
        judge: Judge::Cell(|_| {
            Ok(Trial::new(|cell, _| {
                let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", cell.pid())).unwrap_or_default();
                Ok(mounts.contains(" witness "))
            }))
        }),
    },
    Attempt {
        id: "A11",
        no: "13",
        attempt: "set up an io_uring, which no filter sees into",
        guards: &[FILTER, Guard::Limit(Resource::LockedBytes), OPEN_FILES],
        seen_by: "wait status; its descriptors in /proc",
        device: REGISTERS,
        act: |_| {
            let mut parameters = [0u64; 16];
            // SAFETY: `struct io_uring_params` is 120 bytes, which the kernel reads and writes.
            unsafe { system_call(libc::SYS_io_uring_setup, [4, (&raw mut parameters) as i64, 0, 0, 0, 0]) }.map(drop)
        },
        judge: Judge::Cell(|_| {
            let disabled = setting("/proc/sys/kernel/io_uring_disabled");
            Ok(Trial::new(holds("io_uring")).needs(disabled.is_none_or(|value| value == 0), "io_uring is switched off"))
        }),
    },
    Attempt {
        id: "A12",
        no: "14",
        attempt: "make a map for BPF programs",
        guards: &[FILTER, OPEN_FILES, CAPABILITIES, Guard::Namespaces],
        seen_by: "wait status; its descriptors in /proc",
        device: REGISTERS,
        act: |_| {
            // BPF_MAP_CREATE of <linux/bpf.h>: an array of one entry, key and value of four bytes.
            let attributes: [u32; 32] = std::array::from_fn(|at| [2, 4, 4, 1].get(at).copied().unwrap_or(0));
            // SAFETY: the attributes are as long as is said.
            unsafe { system_call(libc::SYS_bpf, [0, (&raw const attributes) as i64, 128, 0, 0, 0]) }.map(drop)
        },
        judge: Judge::Cell(|ground| {
            let open = setting("/proc/sys/kernel/unprivileged_bpf_disabled") == Some(0);
            Ok(Trial::new(holds("bpf-map")).needs(ground.root || open, "root alone may use BPF here"))
        }),
    },
    Attempt {
        id: "A13",
        no: "14",
        attempt: "count events of the processor and the kernel",
        guards: &[FILTER, OPEN_FILES],
        seen_by: "wait status; its descriptors in /proc",
        device: REGISTERS,
        act: |_| {
            // `struct perf_event_attr`, version 0: type software, size 64, task clock; excludes the kernel, as anybody may.
            let attributes = [1 | 64 << 32, 1, 0, 0, 0, 1 << 5 | 1 << 6, 0, 0u64];
            // SAFETY: the attributes are as long as they say.
            unsafe { system_call(libc::SYS_perf_event_open, [(&raw const attributes) as i64, 0, -1, -1, 0, 0]) }
                .map(drop)
        },
        judge: Judge::Cell(|_| {
            let paranoid = setting("/proc/sys/kernel/perf_event_paranoid");
            Ok(Trial::new(holds("perf_event")).needs(paranoid.is_some_and(|value| value <= 2), "nobody may count here"))
        }),
    },
    Attempt {
        id: "A14",
        no: "14",
        attempt: "handle page faults itself (userfaultfd)",
        guards: &[FILTER, OPEN_FILES],
        seen_by: "wait status; its descriptors in /proc",
        device: REGISTERS,
        // UFFD_USER_MODE_ONLY of <linux/userfaultfd.h>.
        // SAFETY: no memory is passed.
        act: |_| unsafe { system_call(libc::SYS_userfaultfd, [1, 0, 0, 0, 0, 0]) }.map(drop),
        judge: Judge::Cell(|_| {
            let known = setting("/proc/sys/vm/unprivileged_userfaultfd").is_some();
            Ok(Trial::new(holds("userfaultfd")).needs(known, "this kernel has no userfaultfd"))
        }),
    },
    Attempt {
        id: "A15",
        no: "14",
        attempt: "leave a key in its user's keyring",
        guards: &[FILTER, CAPABILITIES, Guard::Namespaces],
        seen_by: "wait status; the supervisor's search of the same keyring",
        device: REGISTERS,
        act: |_| {
            let (kind, name) = (c"user".as_ptr() as i64, KEY.as_ptr() as i64);
            // SAFETY: constant strings, and a payload as long as is said.
            unsafe { system_call(libc::SYS_add_key, [kind, name, KEY.as_ptr() as i64, 4, USER_KEYRING, 0]) }.map(drop)
        },
        judge: Judge::Cell(|_| {
            // SAFETY: a constant string.
            let known = unsafe { libc::syscall(libc::SYS_keyctl, 0, USER_KEYRING, 1) } >= 0;
            Ok(Trial::new(|_, _| Ok(take_key())).needs(known, "this kernel has no keyrings"))
        }),
    },
    Attempt {
        id: "A16",
        no: "16",
        attempt: "take far more memory than its device needs",
        guards: &[FILTER, DATA, CGROUP],
        seen_by: "wait status; its resident memory in /proc",
        device: REGISTERS,
        act: |_| take_memory(libc::MAP_PRIVATE),
        judge: Judge::Cell(|_| Ok(Trial::new(|cell, _| Ok(resident(cell.pid()) >= HOG_BYTES)))),
    },
    Attempt {
        id: "A17",
        no: "17",
        attempt: "type into the operator's terminal, or print on it",
        guards: &[FILTER, Guard::Grants],
        seen_by: "wait status; what comes out at the terminal's ends",
        device: REGISTERS,
        act: acts::use_terminal,
        judge: Judge::Cell(|_| {
            let terminal = openpty(None, None)?;
            let ends = [terminal.master, terminal.slave.try_clone()?];
            let seen = move |_: &mut Cell, _| {
                for end in &ends {
                    let mut waiting = 0i32;
                    // SAFETY: the request writes one int.
                    check(unsafe { libc::ioctl(end.as_raw_fd(), libc::FIONREAD, &raw mut waiting) })
                        .map_err(std::io::Error::from_raw_os_error)?;
                    if waiting > 0 {
                        return Ok(true);
                    }
                }
                Ok(false)
            };
            Ok(Trial::new(seen).give(Guard::Grants, terminal.slave))
        }),
    },
    Attempt {
        id: "A18",
        no: "19",
        attempt: "make itself dumpable, so that others may trace it",
        guards: &[FILTER],
        seen_by: "wait status; the audit of its process",
        device: REGISTERS,
        // SAFETY: no memory is passed.
        act: |_| check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) }).map(drop),
        judge: Judge::Cell(|_| {
            let shown = kernel_is_at_least(6, 16);
            let seen = |cell: &mut Cell, _| {
                let audit = cell.audit();
                Ok(audit.is_ok_and(|audit| audit.differences.iter().any(|difference| difference.contains("dumpable"))))
            };
            Ok(Trial::new(seen).needs(shown, "this kernel (before 6.16) does not show it"))
        }),
    },
    Attempt {
        id: "A19",
        no: "19",
        attempt: "raise its own limits",
        guards: &[FILTER, CAPABILITIES, Guard::Namespaces],
        seen_by: "wait status; its limits in /proc",
        device: REGISTERS,
        act: |_| {
            let limit = libc::rlimit { rlim_cur: 4242, rlim_max: 4242 };
            // SAFETY: a limit of this stack.
            check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }).map(drop)
        },
        judge: Judge::Cell(|ground| {
            let seen = |cell: &mut Cell, _| {
                let limits = std::fs::read_to_string(format!("/proc/{}/limits", cell.pid())).unwrap_or_default();
                Ok(limits.contains(" 4242 "))
            };
            const CAP_SYS_RESOURCE: u32 = 24;
            Ok(Trial::new(seen).needs(ground.has_capability(CAP_SYS_RESOURCE), "its user may not raise limits"))
        }),
    },
    Attempt {
        id: "A20",
        no: "20",
        attempt: "make a call by the convention of 32-bit programs",
        guards: &[FILTER],
        seen_by: "wait status; its umask in /proc",
        device: REGISTERS,
        act: |_| {
            // Number 60 of 32-bit programs is umask: no memory is passed, and /proc shows it.
            // SAFETY: changes rax alone, and what the call changes.
            unsafe {
                std::arch::asm!("push rbx", "mov ebx, {mask:e}", "int 0x80", "pop rbx", mask = in(reg) 0o123,
                    inout("eax") 60 => _, clobber_abi("C"));
            }
            Ok(())
        },
        judge: Judge::Cell(|_| {
            // Where 32-bit calls are switched off, the instruction faults.
            let seen = |cell: &mut Cell, _| Ok(status(cell.pid(), "Umask") == "0123");
            Ok(Trial::new(seen).needs(has_32_bit(), "this kernel has no calls of 32-bit programs"))
        }),
    },
    Attempt {
        id: "A21",
        no: "22",
        attempt: "learn the time by the kernel's old call page",
        guards: &[FILTER],
        seen_by: "wait status; the time in its state region",
        device: REGISTERS,
        act: |host| {
            let seconds: i64;
            // SAFETY: time(NULL) at its fixed address, which the kernel emulates or refuses; it uses no stack but the return.
            unsafe {
                std::arch::asm!("call {page}", page = in(reg) 0xffff_ffff_ff60_0400_u64, in("rdi") 0,
                    out("rax") seconds, clobber_abi("C"));
            }
            host.carry_off(&seconds.to_ne_bytes());
            Ok(())
        },
        judge: Judge::Cell(|_| {
            let has = std::fs::read_to_string("/proc/self/maps")?.contains("[vsyscall]");
            let seen = |cell: &mut Cell, _| {
                let loot = loot(cell)?;
                let told = u64::from_ne_bytes(*loot.first_chunk().context("a word")?);
                let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
                Ok(now.abs_diff(told) < 60)
            };
            Ok(Trial::new(seen).needs(has, "this kernel has no such page"))
        }),
    },
    Attempt {
        id: "A22",
        no: "23",
        attempt: "read the time-stamp counter",
        guards: &[Guard::NoCounter],
        seen_by: "wait status; two different counts in its state region",
        device: REGISTERS,
        act: |host| {
            // SAFETY: every processor of this architecture has it; where it is switched off it faults.
            let counts = unsafe { [core::arch::x86_64::_rdtsc(), core::arch::x86_64::_rdtsc()] };
            host.carry_off(&counts[0].to_ne_bytes());
            Ok(())
        },
        judge: Judge::Cell(|_| Ok(Trial::new(|cell, _| Ok(loot(cell)?[..8] != [0; 8])))),
    },
    Attempt {
        id: "A23",
        no: "25",
        attempt: "change the mode of a file that it was granted",
        guards: &[FILTER, OWN_USER],
        seen_by: "wait status; the file's metadata",
        device: DISK,
        // SAFETY: no memory is passed.
        act: |host| check(unsafe { libc::fchmod(host.descriptor(Purpose::File), 0o604) }).map(drop),
        judge: Judge::Cell(|ground| {
            let path = ground.path("disk-mode");
            std::fs::write(&path, [0; DISK_BYTES])?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            let seen = path.clone();
            Ok(Trial::new(move |_, _| Ok(std::fs::metadata(&seen)?.mode() & 0o777 == 0o604)).with(Backing::Path(path)))
        }),
    },
    Attempt {
        id: "A24",
        no: "25",
        attempt: "cut a file that it was granted",
        guards: &[FILTER],
        seen_by: "wait status; the file's size",
        device: DISK,
        // SAFETY: no memory is passed.
        act: |host| check(unsafe { libc::ftruncate(host.descriptor(Purpose::File), 0) }).map(drop),
        judge: Judge::Cell(|ground| {
            let path = ground.path("disk-size");
            std::fs::write(&path, [0; DISK_BYTES])?;
            let seen = path.clone();
            Ok(Trial::new(move |_, _| Ok(std::fs::metadata(&seen)?.len() == 0)).with(Backing::Path(path)))
        }),
    },
    Attempt {
        id: "A25",
        no: "25",
        attempt: "make a file that it was granted larger",
        guards: &[Guard::Limit(Resource::FileBytes)],
        seen_by: "the file's size",
        device: DISK,
        act: |host| {
            // SAFETY: one byte of a constant.
            check(unsafe { libc::pwrite(host.descriptor(Purpose::File), c"x".as_ptr().cast(), 1, 1 << 20) as i64 })
                .map(drop)
        },
        judge: Judge::Cell(|ground| {
            let path = ground.path("disk-growth");
            std::fs::write(&path, [0; DISK_BYTES])?;
            let seen = path.clone();
            let large = move |_: &mut Cell, _| Ok(std::fs::metadata(&seen)?.len() > DISK_BYTES as u64);
            Ok(Trial::new(large).with(Backing::Path(path)))
        }),
    },
    Attempt {
        id: "A26",
        no: "28",
        attempt: "reboot the machine",
        guards: &[FILTER, CAPABILITIES],
        seen_by: "wait status: a process namespace that reboots ends by SIGHUP, and nothing else does",
        device: REGISTERS,
        act: |host| {
            // Outside of a namespace it would be in earnest.
            if !host.is_first {
                return Err(libc::EPERM);
            }
            let (one, two, restart) = (0xfee1_dead_u32 as i64, 672_274_793, 0x0123_4567);
            // SAFETY: no memory is passed.
            unsafe { system_call(libc::SYS_reboot, [one, two, restart, 0, 0, 0]) }.map(drop)
        },
        judge: Judge::Cell(|_| Ok(Trial::new(|_, end| Ok(end == Some(End::Killed(libc::SIGHUP)))))),
    },
    Attempt {
        id: "A27",
        no: "28",
        attempt: "load a kernel module",
        guards: &[FILTER, CAPABILITIES],
        seen_by: "wait status",
        device: REGISTERS,
        act: |_| {
            // SAFETY: no bytes and an empty string; not even root could load it.
            unsafe { system_call(libc::SYS_init_module, [0, 0, c"".as_ptr() as i64, 0, 0, 0]) }.map(drop)
        },
        judge: Judge::Cell(|_| {
            Ok(Trial::new(|_, _| Ok(false))
                .needs(false, "a module would stay in the kernel, which is shared with everybody"))
        }),
    },
    Attempt {
        id: "A28",
        no: "-",
        attempt: "connect to a server of the host",
        guards: &[FILTER, OPEN_FILES, Guard::Layer(LayerName::Net), Guard::LandlockNetwork],
        seen_by: "wait status; a connection at the server",
        device: REGISTERS,
        act: acts::connect,
        judge: Judge::Cell(|_| {
            let server = TcpListener::bind("127.0.0.1:0")?;
            server.set_nonblocking(true)?;
            let port = server.local_addr()?.port();
            Ok(Trial::new(move |_, _| Ok(server.accept().is_ok())).tell(port))
        }),
    },
    Attempt {
        id: "A29",
        no: "-",
        attempt: "get all capabilities in a user namespace of its own making",
        guards: &[FILTER, Guard::Layer(LayerName::Nesting)],
        seen_by: "wait status; its capabilities in /proc",
        device: REGISTERS,
        // SAFETY: no memory is passed.
        act: |_| check(unsafe { libc::unshare(libc::CLONE_NEWUSER) }).map(drop),
        judge: Judge::Cell(|_| {
            let seen =
                |cell: &mut Cell, _| Ok(status(cell.pid(), "CapEff").contains(|digit| ('1'..='f').contains(&digit)));
            Ok(Trial::new(seen))
        }),
    },
    Attempt {
        id: "A30",
        no: "-",
        attempt: "make memory executable that it has written",
        guards: &[FILTER, Guard::Layer(LayerName::Mdwe)],
        seen_by: "wait status; its memory in /proc",
        device: REGISTERS,
        act: |_| {
            let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // SAFETY: a new mapping.
            let address = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
            if address == libc::MAP_FAILED { check(-1).map(drop) } else { Ok(()) }
        },
        judge: Judge::Cell(|_| Ok(Trial::new(|cell, _| Ok(maps(cell.pid()).contains(" rwxp "))))),
    },
    Attempt {
        id: "A31",
        no: "-",
        attempt: "replace its program's code",
        guards: &[FILTER, Guard::Layer(LayerName::Mseal)],
        seen_by: "wait status; its memory in /proc",
        device: REGISTERS,
        act: acts::replace_code,
        judge: Judge::Cell(|_| {
            // Nothing else is writable and cannot be read.
            Ok(Trial::new(|cell, _| Ok(maps(cell.pid()).contains(" -w-p "))))
        }),
    },
    Attempt {
        id: "A32",
        no: "26",
        attempt: "change the memory of who makes calls for it, by a plain store",
        guards: &[Guard::OwnProcess],
        seen_by: "wait status; the page that a helper relies on",
        device: REGISTERS,
        act: |_| {
            let page = std::ptr::without_provenance_mut::<[u8; 8]>(VICTIM_PAGE);
            // SAFETY: either there is no such page, which ends this process, or it is one that nobody here has a reference to.
            unsafe { page.write_volatile(*b"changed!") };
            Ok(())
        },
        judge: Judge::Cell(|ground| {
            let victim = Victim::start(ground)?;
            Ok(Trial::new(move |cell, _| {
                let pages = [victim.page(), page_of(cell.pid() as u32)];
                Ok(pages.into_iter().flatten().any(|page| page.starts_with(b"changed!")))
            }))
        }),
    },
];

/// Proof: the secret is where the attacker leaves what it carries off.
pub(super) fn has_the_secret(ground: &Ground<'_>) -> Proof {
    let secret = ground.secret.clone().into_bytes();
    Box::new(move |cell, _| Ok(loot(cell)?.starts_with(&secret)))
}

/// Proof: it holds a descriptor of this kind.
fn holds(kind: &'static str) -> impl FnMut(&mut Cell, Option<End>) -> Result<bool> {
    move |cell, _| {
        let Ok(folder) = std::fs::read_dir(format!("/proc/{}/fd", cell.pid())) else { return Ok(false) };
        let links = folder.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        Ok(links.into_iter().any(|link| link.to_string_lossy().contains(kind)))
    }
}

/// A link of its `/proc`.
fn link(cell: &Cell, name: &str) -> Option<String> {
    let link = std::fs::read_link(format!("/proc/{}/{name}", cell.pid())).ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// How many children a process has.
pub(super) fn children(pid: i32) -> usize {
    let Ok(mut file) = std::fs::File::open(format!("/proc/{pid}/task/{pid}/children")) else { return 0 };
    let mut text = String::new();
    if file.read_to_string(&mut text).is_ok() { text.split_whitespace().count() } else { 0 }
}

/// Bytes of memory that a process has in use.
pub(super) fn resident(pid: i32) -> u64 {
    let text = status(pid, "VmRSS");
    text.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Its memory map.
pub(super) fn maps(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default()
}

/// The value of a setting of the kernel's.
fn setting(path: &str) -> Option<i64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Whether this kernel has the calls of 32-bit programs.
fn has_32_bit() -> bool {
    std::fs::exists("/proc/sys/vm/mmap_rnd_compat_bits").unwrap_or(false)
}

/// The handle of the secret, in words of hexadecimal digits.
fn handle_of(ground: &Ground<'_>) -> Option<String> {
    let path = std::ffi::CString::new(ground.secret_file().to_str()?).ok()?;
    let mut handle = [0u32; 34];
    handle[0] = 128;
    let mut mount = 0i32;
    // SAFETY: a path, a handle with room for as many bytes as it says, and an int.
    let made = unsafe {
        libc::syscall(libc::SYS_name_to_handle_at, libc::AT_FDCWD, path.as_ptr(), &raw mut handle, &raw mut mount, 0)
    };
    if made < 0 {
        return None;
    }
    let words = 2 + (handle[0] as usize).div_ceil(4);
    Some(handle[..words.min(handle.len())].iter().map(|word| format!("{word:08x}")).collect())
}

/// KEY_SPEC_USER_KEYRING of <linux/keyctl.h>.
const USER_KEYRING: i64 = -4;
const KEY: &std::ffi::CStr = c"cofferdam-attack-witness";

/// Whether the key is in our keyring; it is taken out.
fn take_key() -> bool {
    const SEARCH: i64 = 10;
    const UNLINK: i64 = 9;
    // SAFETY: constant strings, and numbers.
    unsafe {
        let key = libc::syscall(libc::SYS_keyctl, SEARCH, USER_KEYRING, c"user".as_ptr(), KEY.as_ptr(), 0);
        key >= 0 && libc::syscall(libc::SYS_keyctl, UNLINK, key, USER_KEYRING) == 0
    }
}
