//! Readers that believe what an attacker wrote: each does what ours does, without one check. Those that may come to harm do so
//! in a process of their own.

#![allow(unsafe_code)] // They touch memory where an attacker says.

use super::attempt::Outcome;
use super::ground::PATIENCE;
use super::hostile::check;
use super::lane::LENGTH_AT;
use anyhow::Result;
use nix::sys::resource::{Resource, setrlimit};
use std::os::fd::BorrowedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How the role of a reader begins.
pub const ROLE: &str = "cofferdam: naive";
/// The code of a reader that was fooled, and noticed.
const FOOLED: i32 = 42;
/// A reader that waits still after this waits for ever.
const FOR_EVER: Duration = Duration::from_millis(300);
/// What a reader may take of memory: it is to come to harm, and nobody else.
const MEMORY_BYTES: u64 = 256 << 20;

/// A reader's process.
pub struct Naive {
    child: Child,
    waits: bool,
}

/// A reader.
struct Reader {
    name: &'static str,
    /// Reads its standard input. Says whether it was fooled, if it comes to no other harm.
    read: fn() -> bool,
    /// Its harm is that it waits for ever.
    waits: bool,
}

const fn reads(name: &'static str, read: fn() -> bool) -> Reader {
    Reader { name, read, waits: false }
}

const fn waits(name: &'static str, read: fn() -> bool) -> Reader {
    Reader { name, read, waits: true }
}

static READERS: [Reader; 14] = [
    reads("segments", || message().is_some_and(|message| touch(&message, u64::from(message.word(0) as u32) + 1, 4))),
    reads("length", || message().is_some_and(|message| touch(&message, message.body_bytes / 8, 8))),
    reads("recursion", || message().is_some_and(|message| recurse(&message, 0) > 0)),
    reads("capability", || message().is_some_and(|message| index(message.word(2) >> 32, 16))),
    reads("enumeration", || message().is_some_and(|message| index(message.word(1) & 0xffff, 1 << 20))),
    reads("hoard", hoard),
    reads("memory", use_as_memory),
    waits("one-descriptor", take_one_descriptor),
    waits("ring", ring),
    waits("answer", wait_for_answer),
    reads("length-twice", length_twice),
    reads("used-ring", used_ring),
    reads("state", state_index),
    reads("insist", insist_on_mode_1),
];

impl Naive {
    /// Starts one, with this as its standard input.
    pub fn start(name: &str, input: BorrowedFd<'_>) -> Result<Naive> {
        let waits = READERS.iter().any(|reader| reader.name == name && reader.waits);
        let child = Command::new("/proc/self/exe")
            .arg0(format!("{ROLE}\t{name}"))
            .env_clear()
            .stdin(Stdio::from(input.try_clone_to_owned()?))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Naive { child, waits })
    }

    /// Its process's number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What becomes of it.
    pub fn outcome(&mut self) -> Result<Outcome> {
        let until = Instant::now() + if self.waits { FOR_EVER } else { PATIENCE };
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                let harmed = status.code() == Some(FOOLED)
                    || matches!(status.signal(), Some(libc::SIGSEGV | libc::SIGBUS | libc::SIGABRT));
                return Ok(if harmed { Outcome::Succeeded } else { Outcome::Stopped(status.to_string()) });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(if self.waits { Outcome::Succeeded } else { Outcome::Stopped("nothing came of it".to_owned()) })
    }
}

impl Drop for Naive {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A reader's process.
pub fn run(role: &str) -> ! {
    // SAFETY: no memory is passed.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let _ = setrlimit(Resource::RLIMIT_DATA, MEMORY_BYTES, MEMORY_BYTES);
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    let name = role.split('\t').nth(1).unwrap_or_default();
    let fooled = READERS.iter().find(|reader| reader.name == name).is_some_and(|reader| (reader.read)());
    std::process::exit(if fooled { FOOLED } else { 0 })
}

/// A message as it came.
struct Message {
    bytes: Vec<u8>,
    /// What its header says.
    body_bytes: u64,
}

impl Message {
    const HEADER: usize = 32;

    /// A word of its body.
    fn word(&self, at: usize) -> u64 {
        let start = Message::HEADER + 8 * at;
        self.bytes.get(start..start + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
    }
}

fn message() -> Option<Message> {
    let mut bytes = vec![0; 64 << 10];
    // SAFETY: a buffer as long as is said.
    let got = unsafe { libc::recv(0, bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    bytes.truncate(usize::try_from(got).ok()?);
    let said: [u8; 4] = bytes.get(20..24)?.try_into().ok()?;
    Some(Message { body_bytes: u32::from_le_bytes(said).into(), bytes })
}

/// Touches as many things as the message says that it has. Returns if they are all there.
fn touch(message: &Message, count: u64, bytes: u64) -> bool {
    let start = message.bytes.as_ptr();
    for at in 0..count {
        // SAFETY: none: that is what an attacker makes of it.
        unsafe { start.wrapping_add((at * bytes) as usize).read_volatile() };
    }
    false
}

/// Follows pointers to wherever they lead. Returns if they end.
fn recurse(message: &Message, at: usize) -> usize {
    let pointer = message.word(at);
    if pointer == 0 {
        return 0;
    }
    let target = (at as i64 + 1 + ((pointer as i32) >> 2) as i64) as usize + (pointer >> 32 & 0xffff) as usize;
    let pointers = (pointer >> 48) as usize;
    std::hint::black_box((0..pointers).map(|next| recurse(message, target.wrapping_add(next))).sum::<usize>() + 1)
}

/// Takes a number for an index into a table of eight.
fn index(number: u64, bytes: u64) -> bool {
    let table = vec![0u8; 8 * bytes as usize];
    // SAFETY: none: that is what an attacker makes of it.
    unsafe { table.as_ptr().wrapping_add((number * bytes) as usize).read_volatile() };
    number >= 8
}

/// Keeps every line that comes.
fn hoard() -> bool {
    const FAR_TOO_MUCH: usize = 8 << 20;
    let mut kept = Vec::new();
    let mut bytes = 0;
    let until = Instant::now() + PATIENCE;
    while bytes < FAR_TOO_MUCH && Instant::now() < until {
        let Some(message) = message() else { return false };
        // Lines are small; what each costs its keeper is not.
        bytes += message.bytes.capacity();
        kept.push(message.bytes);
    }
    bytes >= FAR_TOO_MUCH
}

/// The descriptors of a message that has room for one.
fn receive_into_room_for_one() -> Vec<i32> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let mut text = [0; 64];
    let mut vector = [std::io::IoSliceMut::new(&mut text)];
    let mut space = nix::cmsg_space!([i32; 1]);
    let Ok(message) = recvmsg::<()>(0, &mut vector, Some(&mut space), MsgFlags::empty()) else { return Vec::new() };
    let Ok(mut controls) = message.cmsgs() else { return Vec::new() };
    match controls.next() {
        Some(ControlMessageOwned::ScmRights(numbers)) => numbers,
        _ => Vec::new(),
    }
}

/// Maps what it is sent, and reads it when it has the time.
fn use_as_memory() -> bool {
    let Some(number) = receive_into_room_for_one().first().copied() else { return false };
    // SAFETY: a new mapping; what reading it does is what this is about.
    unsafe {
        let page = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, number, 0);
        if page == libc::MAP_FAILED {
            return false;
        }
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            page.cast::<u8>().read_volatile();
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    false
}

/// Closes the one descriptor that each message has, and waits for the next.
fn take_one_descriptor() -> bool {
    loop {
        if let Some(first) = receive_into_room_for_one().first() {
            // SAFETY: it was just received, and nobody knows it.
            unsafe { libc::close(*first) };
        }
    }
}

/// Rings its peer, by a plain write.
fn ring() -> bool {
    // Once the attacker has come to it.
    std::thread::sleep(Duration::from_millis(50));
    let one = 1u64;
    // SAFETY: eight bytes of this stack.
    unsafe { libc::write(0, (&raw const one).cast(), 8) };
    false
}

/// Waits until it is rung.
fn wait_for_answer() -> bool {
    let mut count = 0u64;
    // SAFETY: eight bytes of this stack.
    unsafe { libc::read(0, (&raw mut count).cast(), 8) };
    false
}

/// Its standard input as memory.
fn shared() -> Option<*const u64> {
    // SAFETY: a new mapping.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, 0, 0) };
    (page != libc::MAP_FAILED).then_some(page.cast_const().cast())
}

/// Checks a length, and then looks at it again to use it.
fn length_twice() -> bool {
    const MOST: u64 = 16;
    let Some(memory) = shared() else { return false };
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        for _ in 0..100_000 {
            // SAFETY: within the page.
            unsafe {
                let length = memory.add(LENGTH_AT / 8);
                if length.read_volatile() <= MOST && length.read_volatile() > MOST {
                    return true;
                }
            }
        }
    }
    false
}

/// Takes back the buffers that a used ring names.
fn used_ring() -> bool {
    // Of answers: flags and index, then entries of a number and a length.
    const RING: usize = 320;
    let Some(memory) = shared() else { return false };
    let buffers = vec![[0u8; 16]; 32];
    std::thread::sleep(Duration::from_millis(50));
    // SAFETY: the ring is within the page; where its numbers lead is what this is about.
    unsafe {
        let ring = memory.cast::<u8>().add(RING);
        let published = ring.add(2).cast::<u16>().read_volatile();
        for at in 0..published.min(32) {
            let number = ring.add(4 + 8 * usize::from(at)).cast::<u32>().read_volatile();
            buffers.as_ptr().wrapping_add(number as usize).cast::<u8>().read_volatile();
        }
    }
    false
}

/// Goes on with a state that it finds, which says how far it has come in a buffer.
fn state_index() -> bool {
    let Some(memory) = shared() else { return false };
    let buffer = [0u8; 64];
    // SAFETY: the word is within the page; where it leads is what this is about.
    unsafe {
        let at = memory.add(512 / 8).read_volatile() as usize;
        buffer.as_ptr().wrapping_add(at).read_volatile();
    }
    false
}

/// Asks for seccomp mode 1 where there is a filter already, does not look at the answer, and goes on.
fn insist_on_mode_1() -> bool {
    if permit_everything().is_err() {
        return false;
    }
    // SAFETY: no memory is passed. In mode 1 the second call would be the end.
    unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT);
        libc::syscall(libc::SYS_getpid) > 0
    }
}

/// Installs a filter that permits everything, as a container's does nearly.
pub fn permit_everything() -> Result<(), i32> {
    let allow = libc::sock_filter { code: 6, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
    let program = libc::sock_fprog { len: 1, filter: (&raw const allow).cast_mut() };
    // SAFETY: one instruction, which lives until after the call.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        check(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program))?;
    }
    Ok(())
}
