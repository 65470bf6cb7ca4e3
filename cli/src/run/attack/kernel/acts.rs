//! What the attackers of group A do.

#![allow(unsafe_code)] // System calls that no library would make.

use super::super::attempt::Done;
use super::super::ground::VICTIM_PAGE;
use super::super::hostile::{Host, check, system_call};

/// Reads a file it has opened, and carries it off.
pub fn carry_off_file(host: &Host, file: i64) -> Done {
    let mut text = [0u8; 64];
    // SAFETY: a buffer of this stack.
    let bytes = check(unsafe { libc::read(file as i32, text.as_mut_ptr().cast(), text.len()) } as i64)?;
    host.carry_off(&text[..bytes as usize]);
    Ok(())
}

pub fn open_by_name(host: &Host) -> Done {
    // SAFETY: a path of this process.
    let file = check(unsafe { libc::open(host.told(0), libc::O_RDONLY) })?;
    carry_off_file(host, file)
}

pub fn open_relative(host: &Host) -> Done {
    let mut last = libc::EBADF;
    // Whatever it has: no number is known to be a folder.
    for number in 0..64 {
        // SAFETY: a constant path.
        match check(unsafe { libc::openat(number, c"../secret".as_ptr(), libc::O_RDONLY) }) {
            Ok(file) => return carry_off_file(host, file),
            Err(errno) => last = if errno == libc::EBADF || errno == libc::ENOTDIR { last } else { errno },
        }
    }
    Err(last)
}

const PROGRAM_BYTES: usize = 152;

/// A program that pauses for a second: an ELF header, one segment, and the code.
pub fn pausing_program() -> [u8; PROGRAM_BYTES] {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 120;
    let mut program = [0; PROGRAM_BYTES];
    let mut put = |at: usize, bytes: &[u8]| program[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &[2, 0, 62, 0, 1]);
    put(24, &(BASE + HEADERS).to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(52, &[64, 0, 56, 0, 1, 0]);
    put(64, &[1, 0, 0, 0, 5]);
    put(80, &BASE.to_le_bytes());
    put(88, &BASE.to_le_bytes());
    put(96, &(PROGRAM_BYTES as u64).to_le_bytes());
    put(104, &(PROGRAM_BYTES as u64).to_le_bytes());
    put(112, &4096u64.to_le_bytes());
    // push 0; push 1; mov rdi, rsp; xor esi, esi; mov eax, SYS_nanosleep; syscall; mov eax, SYS_exit; xor edi, edi; syscall
    put(120, b"\x6a\x00\x6a\x01\x48\x89\xe7\x31\xf6\xb8\x23\x00\x00\x00\x0f\x05\xb8\x3c\x00\x00\x00\x31\xff\x0f\x05");
    program
}

pub fn execute_memory(_: &Host) -> Done {
    let program = pausing_program();
    let (empty, none) = (c"".as_ptr() as i64, std::ptr::null::<u8>() as i64);
    // SAFETY: constant strings, a buffer of this stack, and null for no arguments.
    unsafe {
        let memory = match check(libc::memfd_create(c"witness".as_ptr(), libc::MFD_CLOEXEC | 0x10)) {
            // MFD_EXEC is newer than the oldest kernel.
            Err(libc::EINVAL) => check(libc::memfd_create(c"witness".as_ptr(), libc::MFD_CLOEXEC))?,
            made => made?,
        };
        check(libc::write(memory as i32, program.as_ptr().cast(), program.len()) as i64)?;
        system_call(libc::SYS_execveat, [memory, empty, none, none, libc::AT_EMPTY_PATH.into(), 0]).map(drop)
    }
}

/// Forks; the child pauses and dies with its parent's namespace, or its parent.
pub fn fork() -> Done {
    // SAFETY: the child makes two calls and never returns.
    unsafe {
        let child = check(libc::syscall(libc::SYS_fork))?;
        if child == 0 {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            loop {
                libc::pause();
            }
        }
    }
    Ok(())
}

pub fn read_memory(host: &Host) -> Done {
    let mut text = [0u8; 64];
    let local = libc::iovec { iov_base: text.as_mut_ptr().cast(), iov_len: text.len() };
    let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(VICTIM_PAGE), iov_len: text.len() };
    let (pid, local, remote) = (host.number(0) as i32, &raw const local, &raw const remote);
    // SAFETY: the local vector is a buffer of this stack; the remote one is another process's.
    let read = unsafe { libc::process_vm_readv(pid, local, 1, remote, 1, 0) };
    check(read as i64)?;
    host.carry_off(&text);
    Ok(())
}

pub fn write_memory(host: &Host) -> Done {
    // SAFETY: a path of this process, and bytes of a constant.
    unsafe {
        let memory = check(libc::open(host.told(0), libc::O_RDWR))?;
        check(libc::pwrite(memory as i32, c"changed".as_ptr().cast(), 7, VICTIM_PAGE as i64) as i64).map(drop)
    }
}

pub fn open_by_handle(host: &Host) -> Done {
    // `struct file_handle`: bytes, type, and the handle itself, as its owner would see it.
    let mut handle = [0u32; 34];
    let bytes = host.told.get(1).map_or(&[] as &[u8], |word| word.as_bytes());
    for (at, digits) in bytes.chunks(8).enumerate().take(handle.len()) {
        handle[at] = std::str::from_utf8(digits).ok().and_then(|word| u32::from_str_radix(word, 16).ok()).unwrap_or(0);
    }
    // SAFETY: a path of this process, and a handle of this stack.
    unsafe {
        let (flags, handle) = (libc::O_RDONLY, (&raw mut handle) as i64);
        // Any descriptor of the same file system will do, and its own folder's is one.
        let here = i64::from(libc::AT_FDCWD);
        let file = match system_call(libc::SYS_open_by_handle_at, [here, handle, flags.into(), 0, 0, 0]) {
            Err(libc::ESTALE) => {
                let folder = check(libc::open(host.told(0), libc::O_RDONLY))?;
                system_call(libc::SYS_open_by_handle_at, [folder, handle, flags.into(), 0, 0, 0])?
            }
            opened => opened?,
        };
        carry_off_file(host, file)
    }
}

/// So much is far beyond any device's need, and harmless where it is to be had.
pub const HOG_BYTES: u64 = 160 << 20;

pub fn take_memory(kind: i32) -> Done {
    let (bytes, protection) = (HOG_BYTES as usize + (1 << 20), libc::PROT_READ | libc::PROT_WRITE);
    let flags = kind | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    // SAFETY: a new mapping, which nothing uses.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if address == libc::MAP_FAILED { check(-1).map(drop) } else { Ok(()) }
}

pub fn use_terminal(host: &Host) -> Done {
    for number in (0..3).chain(host.gift) {
        // SAFETY: the requests read one byte, or nothing; then bytes of a constant are written.
        unsafe {
            // Not its terminal yet. Newer systems let nobody type, whoever's it is.
            libc::ioctl(number, libc::TIOCSCTTY, 0);
            if libc::ioctl(number, libc::TIOCSTI, c"\n".as_ptr()) == 0
                || libc::isatty(number) == 1 && libc::write(number, c"password: ".as_ptr().cast(), 10) == 10
            {
                return Ok(());
            }
        }
    }
    Err(libc::ENOTTY)
}

pub fn connect(host: &Host) -> Done {
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: (host.number(0) as u16).to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    };
    // SAFETY: an address of this stack, as long as is said.
    unsafe {
        let socket = check(libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0))?;
        check(libc::connect(socket as i32, (&raw const address).cast(), size_of_val(&address) as u32)).map(drop)
    }
}

/// Code that is never run: a page of it, whatever its alignment.
#[unsafe(naked)]
extern "C" fn unused_code() {
    std::arch::naked_asm!(".fill 8192, 1, 0xcc")
}

pub fn replace_code(_: &Host) -> Done {
    let start = (unused_code as *const () as usize).next_multiple_of(4096);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: replaces a page of code that is never run.
    let address = unsafe { libc::mmap(std::ptr::without_provenance_mut(start), 4096, libc::PROT_WRITE, flags, -1, 0) };
    if address == libc::MAP_FAILED { check(-1).map(drop) } else { Ok(()) }
}
