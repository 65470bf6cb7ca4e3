//! What a probe does that a device host must not.

use std::io;

/// Numbers of granted descriptors; -1 is none.
pub struct Numbers {
    pub wake: i32,
    pub irq: i32,
    pub file: i32,
}

/// Between confine and hello: what makes a process other than its recipe.
pub fn while_confined(act: &str) {
    if let Some(act) = act.strip_prefix("early:") {
        crate::leave(once_sealed(act, &Numbers { wake: -1, irq: -1, file: -1 }));
    }
    match act {
        "be-dumpable" => {
            // SAFETY: no memory is passed.
            unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) };
        }
        "open-more" => {
            // SAFETY: no memory is passed.
            unsafe { libc::eventfd(0, 0) };
        }
        _ => {}
    }
}

/// Before sealing: a descriptor that it keeps beyond its recipe.
pub fn before_seal(act: &str) -> Option<i32> {
    match act {
        // SAFETY: no memory is passed.
        "keep-more" => Some(unsafe { libc::eventfd(0, 0) }),
        "start-thread" => {
            let (started, running) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let _ = started.send(());
                loop {
                    std::thread::park();
                }
            });
            // A thread that was still starting when the filter comes would be killed by it.
            let _ = running.recv();
            std::thread::sleep(std::time::Duration::from_millis(20));
            None
        }
        "map-executable" => {
            // SAFETY: a new mapping, which nothing uses.
            unsafe {
                let memory = libc::memfd_create(c"cofferdam:state".as_ptr(), 0);
                libc::syscall(libc::SYS_fallocate, memory, 0, 0, 4096);
                libc::ftruncate(memory, 4096);
                libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_EXEC, libc::MAP_SHARED, memory, 0);
            }
            None
        }
        _ => None,
    }
}

/// Once sealed. Returns 0 if it could be done, else the error number.
pub fn once_sealed(act: &str, numbers: &Numbers) -> i32 {
    let result = match act.split_once(':') {
        // SAFETY: with nothing but zeroes no call touches memory of ours, and what it changes is this process, which ends.
        Some(("call", number)) => unsafe { libc::syscall(number.parse().expect("a number"), 0, 0, 0, 0, 0, 0) },
        Some(("int80", number)) => by_int80(number.parse().expect("a number")),
        _ => attempt(act, numbers),
    };
    if result < 0 { io::Error::last_os_error().raw_os_error().unwrap_or(255) } else { 0 }
}

#[allow(clippy::too_many_lines)] // A list.
fn attempt(act: &str, numbers: &Numbers) -> i64 {
    use libc::syscall;
    let mut one = 1u64;
    let word = std::ptr::from_mut(&mut one);
    let nothing = std::ptr::null::<u8>();
    // SAFETY: each call passes constants, null, or memory of this stack; what they would change is this process, which
    // ends right after.
    unsafe {
        match act {
            "nothing" => 0,
            "be-dumpable" | "open-more" | "keep-more" | "start-thread" | "stay-unsealed" | "map-executable" => 0,

            // What is permitted.
            "log" => libc::write(3, c"a line".as_ptr().cast(), 6) as i64,
            "ring" => libc::write(numbers.irq, word.cast(), 8) as i64,
            "allocate" => allocate(),
            "reopen-file" => {
                let path = format!("/proc/self/fd/{}\0", numbers.file);
                i64::from(libc::open(path.as_ptr().cast(), libc::O_RDWR))
            }
            "map-file-executable" => {
                let protection = libc::PROT_READ | libc::PROT_EXEC;
                libc::mmap(std::ptr::null_mut(), 4096, protection, libc::MAP_PRIVATE, numbers.file, 0) as i64
            }
            "read-file" => libc::pread(numbers.file, word.cast(), 8, 0) as i64,
            "write-file" => libc::pwrite(numbers.file, word.cast(), 8, 0) as i64,
            "write-vectors" => {
                let vector = libc::iovec { iov_base: word.cast(), iov_len: 8 };
                libc::pwritev(numbers.file, &vector, 1, 8) as i64
            }
            "flush-file" => i64::from(libc::fdatasync(numbers.file)),

            // The wrong descriptor, or the wrong way.
            "read-what-it-writes" => libc::read(numbers.irq, word.cast(), 8) as i64,
            "write-what-it-reads" => libc::write(numbers.wake, word.cast(), 8) as i64,
            "read-channel" => libc::recv(3, word.cast(), 8, libc::MSG_DONTWAIT) as i64,
            "write-standard-output" => libc::write(1, c"a line".as_ptr().cast(), 6) as i64,
            "read-file-offset" => libc::read(numbers.file, word.cast(), 8) as i64,
            "write-beyond-file" => libc::pwrite(numbers.file, word.cast(), 8, 1 << 20) as i64,
            "truncate-file" => i64::from(libc::ftruncate(numbers.file, 0)),
            "chmod-file" => i64::from(libc::fchmod(numbers.file, 0o777)),
            "append-to-file" => i64::from(libc::fcntl(numbers.file, libc::F_SETFL, libc::O_APPEND)),
            "send-descriptor" => send_descriptor(numbers.wake),

            // Calls.
            "open" => i64::from(libc::open(c"/etc/passwd".as_ptr(), libc::O_RDONLY)),
            "open-root" => i64::from(libc::open(c"/".as_ptr(), libc::O_RDONLY)),
            "create" => i64::from(libc::open(c"/".as_ptr(), libc::O_TMPFILE | libc::O_WRONLY, 0o600)),
            "socket" => i64::from(libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0)),
            "raw-socket" => i64::from(libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)),
            "fork" => fork(),
            "execute" => syscall(libc::SYS_execve, c"/bin/sh".as_ptr(), nothing, nothing),
            "kill-all" => i64::from(libc::kill(-1, libc::SIGKILL)),
            "signal-parent" => match libc::getppid() {
                0 => {
                    // The parent has no number here.
                    *libc::__errno_location() = libc::ESRCH;
                    -1
                }
                parent => i64::from(libc::kill(parent, 0)),
            },
            "trace" => libc::ptrace(libc::PTRACE_ATTACH, 2, 0, 0),
            "read-memory" => libc::process_vm_readv(2, std::ptr::null(), 0, std::ptr::null(), 0, 0) as i64,
            "mount" => i64::from(libc::mount(c"x".as_ptr(), c"/".as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null())),
            "remount" => {
                let flags = libc::MS_REMOUNT | libc::MS_BIND;
                i64::from(libc::mount(c"x".as_ptr(), c"/".as_ptr(), std::ptr::null(), flags, std::ptr::null()))
            }
            "chroot" => i64::from(libc::chroot(c".".as_ptr())),
            "new-user-namespace" => i64::from(libc::unshare(libc::CLONE_NEWUSER)),
            "new-network" => i64::from(libc::unshare(libc::CLONE_NEWNET)),
            "map-writable-executable" => {
                let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) as i64
            }
            "host-name" => i64::from(libc::sethostname(c"x".as_ptr(), 1)),
            "set-time" => i64::from(libc::settimeofday(&libc::timeval { tv_sec: 0, tv_usec: 0 }, std::ptr::null())),
            "raise-limit" => {
                let limit = libc::rlimit { rlim_cur: 4096, rlim_max: 4096 };
                i64::from(libc::setrlimit(libc::RLIMIT_NOFILE, &limit))
            }
            "new-descriptor" => i64::from(libc::eventfd(0, 0)),
            "become-dumpable" => i64::from(libc::prctl(libc::PR_SET_DUMPABLE, 1)),
            "io-uring" => syscall(libc::SYS_io_uring_setup, 1, nothing),
            "bpf" => syscall(libc::SYS_bpf, 0, nothing, 0),
            "perf" => syscall(libc::SYS_perf_event_open, nothing, 0, -1, -1, 0),
            "userfaultfd" => syscall(libc::SYS_userfaultfd, 0),
            "keyring" => syscall(libc::SYS_keyctl, 0, -3, 1),
            "get-pid" => i64::from(libc::getpid()),
            "get-pid-x32" => syscall(libc::SYS_getpid | 0x4000_0000),
            "get-pid-int80" => by_int80(20),
            "exit-group" => syscall(libc::SYS_exit_group, 0),

            "read-tsc" => (core::arch::x86_64::_rdtsc() == 0).into(),

            // Its own faults.
            "wild-write" => {
                std::ptr::write_volatile(std::ptr::without_provenance_mut::<u8>(8), 1);
                0
            }
            "overflow-stack" => recurse(1) as i64,
            _ => {
                *libc::__errno_location() = 254;
                -1
            }
        }
    }
}

/// Some small allocations, as a library makes in passing: less in all than is kept for them.
fn allocate() -> i64 {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for size in 0..600usize {
        kept.push(vec![1; size]);
    }
    std::hint::black_box(&kept);
    drop(kept);
    0
}

#[allow(unconditional_recursion)] // Until the stack ends.
fn recurse(depth: u64) -> u64 {
    let frame = [depth; 512];
    std::hint::black_box(&frame);
    recurse(depth + 1) + frame[7]
}

unsafe fn fork() -> i64 {
    // SAFETY: both sides only exit.
    unsafe {
        let pid = libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0);
        if pid == 0 {
            crate::leave(0);
        }
        pid
    }
}

unsafe fn send_descriptor(number: i32) -> i64 {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    /// What all processes of the user have in flight counts against this one's limit of none, so it waits for theirs.
    const TRIES: u32 = 500;
    let text = [io::IoSlice::new(b"x")];
    let send = || sendmsg::<()>(3, &text, &[ControlMessage::ScmRights(&[number])], MsgFlags::MSG_DONTWAIT, None);
    let mut sent = send();
    for _ in 0..TRIES {
        if sent != Err(nix::errno::Errno::ETOOMANYREFS) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
        sent = send();
    }
    match sent {
        Ok(_) => 0,
        Err(error) => {
            // SAFETY: the location is that of this thread.
            unsafe { *libc::__errno_location() = error as i32 };
            -1
        }
    }
}

/// A call of the 32-bit convention, with nothing but zeroes.
fn by_int80(number: i64) -> i64 {
    let result: i64;
    // SAFETY: as for calls of our own convention; the kernel keeps all registers but the result. The one that the compiler
    // keeps for itself is 0 for the call, and put back.
    unsafe {
        std::arch::asm!(
            "xchg {kept}, rbx", "int 0x80", "xchg {kept}, rbx",
            kept = inout(reg) 0i64 => _, inout("rax") number => result,
            in("rcx") 0, in("rdx") 0, in("rsi") 0, in("rdi") 0, options(nostack)
        );
    }
    if result < 0 {
        // SAFETY: the location is that of this thread.
        unsafe { *libc::__errno_location() = -result as i32 };
        return -1;
    }
    result
}
