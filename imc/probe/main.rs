//! A peer that keeps to no rules, in a process of its own: it does what a test tells it over its standard input, a SEQPACKET
//! socket. An order is a letter, the number of an end, and what the letter needs; each gets one answer. See
//! `tests/raw/mod.rs`, which gives the orders.
#![allow(unsafe_code)] // Descriptors arrive as numbers.

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Room for an order that says to send a datagram which is longer than any may be.
const ORDER_MAX: usize = 192 << 10;

fn main() {
    let orders = std::io::stdin();
    let mut ends: Vec<Option<OwnedFd>> = Vec::new();
    let mut buffer = vec![0; ORDER_MAX];
    loop {
        let (length, mut descriptors) = order(orders.as_raw_fd(), &mut buffer);
        let Some(([letter, low, high], rest)) = buffer[..length].split_first_chunk() else { return };
        let at = usize::from(u16::from_le_bytes([*low, *high]));
        let answer = match letter {
            // Take this end.
            b'n' => {
                ends.resize_with(ends.len().max(at + 1), || None);
                ends[at] = descriptors.pop();
                Vec::new()
            }
            b'c' => {
                ends[at] = None;
                Vec::new()
            }
            // Send this once, or again and again until it cannot be sent.
            b's' => status(send(&ends[at], rest, &descriptors)),
            b'f' => loop {
                if let Err(error) = send(&ends[at], rest, &descriptors) {
                    break status(Err(error));
                }
            },
            // Resize this file.
            b't' => {
                let size = i64::from_le_bytes(rest.try_into().expect("a size"));
                status(nix::unistd::ftruncate(&descriptors[0], size).map(|()| 0))
            }
            b'u' => status(become_nobody().map(|()| 0)),
            b'w' => tries(&descriptors[0]).into_iter().flat_map(|tried| status(tried.map(|()| 0))).collect(),
            b'r' => {
                let mut datagram = vec![0; ORDER_MAX];
                let end = ends[at].as_ref().expect("an end");
                let length = nix::unistd::read(end, &mut datagram).expect("a datagram");
                datagram.truncate(length);
                datagram
            }
            other => panic!("no order {other}"),
        };
        // So that whoever counts them finds none here when the answer comes.
        drop(descriptors);
        nix::unistd::write(&orders, &[&b"."[..], &answer].concat()).expect("a test that listens");
    }
}

/// Takes an ordinary user's rights, and none but his: he may look into his own `/proc`.
fn become_nobody() -> Result<(), Errno> {
    let nobody = nix::unistd::Uid::from_raw(65534);
    nix::unistd::setresuid(nobody, nobody, nobody)?;
    nix::sys::prctl::set_dumpable(true)
}

/// Tries to store through a descriptor that is for reading.
fn tries(weak: &OwnedFd) -> Vec<Result<(), Errno>> {
    use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, SealFlag, fallocate, fcntl, open};
    use nix::sys::mman::{MapFlags, ProtFlags, mmap, mprotect};
    use nix::sys::stat::{Mode, fchmod};
    let length = std::num::NonZeroUsize::new(4096).expect("not zero");
    // SAFETY: the kernel chooses a place; the mapping is left alone but for its protection.
    let map = |protection| unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, weak, 0) };
    // SAFETY: the mapping has just been made, and nobody else knows it.
    let raise = |start| unsafe { mprotect(start, 4096, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE) };
    let path = format!("/proc/self/fd/{}", weak.as_raw_fd());
    vec![
        nix::unistd::write(weak, b"x").map(drop),
        nix::unistd::ftruncate(weak, 0),
        fallocate(weak, FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, 4096),
        map(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE).map(drop),
        map(ProtFlags::PROT_READ).and_then(raise),
        fcntl(weak, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_FUTURE_WRITE)).map(drop),
        fchmod(weak, Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IWOTH),
        open(path.as_str(), OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map(drop),
    ]
}

fn order(orders: RawFd, buffer: &mut [u8]) -> (usize, Vec<OwnedFd>) {
    let mut space = cmsg_space!([RawFd; 253]);
    let mut into = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<()>(orders, &mut into, Some(&mut space), flags).expect("an order");
    let mut descriptors = Vec::new();
    for message in received.cmsgs().expect("all of it") {
        if let ControlMessageOwned::ScmRights(numbers) = message {
            // SAFETY: recvmsg has just put them into our table.
            descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    (received.bytes, descriptors)
}

fn send(end: &Option<OwnedFd>, datagram: &[u8], descriptors: &[OwnedFd]) -> Result<usize, Errno> {
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() { &[] } else { &rights[..] };
    let end = end.as_ref().expect("an end").as_raw_fd();
    sendmsg::<()>(end, &[IoSlice::new(datagram)], control, MsgFlags::MSG_NOSIGNAL, None)
}

fn status(result: Result<usize, Errno>) -> Vec<u8> {
    result.map_or_else(|error| error as i32, |_| 0).to_le_bytes().to_vec()
}
