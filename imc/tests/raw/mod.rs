//! A peer that keeps to no rules, in a process of its own (`probe/main.rs`): datagrams put together by hand, from the
//! documented layout.
#![allow(dead_code)] // Each test program uses its part of it.

use imc::Channel;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};
use schema::{Body, Scratch};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub const CALL: u8 = 1;
pub const REPLY: u8 = 2;
pub const ERROR: u8 = 3;
pub const EVENT: u8 = 4;
pub const CLOSE: u8 = 5;

/// A channel, and its other end in another process, which all tests of a program share.
pub fn pair() -> (Channel, Peer) {
    pair_with(SHARED.get_or_init(Probe::start))
}

/// The same with a process that may be killed.
pub fn mortal_pair() -> (Channel, Peer) {
    pair_with(&Probe::start())
}

/// The process that all tests share, with this socket in its hands.
pub fn hand(socket: BorrowedFd<'_>) -> Peer {
    hand_to(SHARED.get_or_init(Probe::start), socket)
}

static SHARED: OnceLock<Arc<Probe>> = OnceLock::new();

fn pair_with(probe: &Arc<Probe>) -> (Channel, Peer) {
    let (ours, theirs) = Channel::pair().unwrap();
    (ours, hand_to(probe, theirs.as_fd()))
}

fn hand_to(probe: &Arc<Probe>, socket: BorrowedFd<'_>) -> Peer {
    let peer = Peer { probe: Arc::clone(probe), end: probe.ends.fetch_add(1, Ordering::Relaxed) };
    peer.order(b'n', &[], &[socket]);
    peer
}

/// One end, held by the other process.
pub struct Peer {
    probe: Arc<Probe>,
    end: u16,
}

impl Peer {
    pub fn send(&self, datagram: &[u8], descriptors: &[BorrowedFd<'_>]) {
        self.try_send(datagram, descriptors).unwrap();
    }

    pub fn try_send(&self, datagram: &[u8], descriptors: &[BorrowedFd<'_>]) -> nix::Result<()> {
        status(&self.order(b's', datagram, descriptors))
    }

    /// Sends this until it cannot be sent any more, and says why.
    pub fn flood(&self, datagram: &[u8], descriptors: &[BorrowedFd<'_>]) -> Errno {
        status(&self.order(b'f', datagram, descriptors)).unwrap_err()
    }

    /// Resizes this file.
    pub fn resize(&self, file: BorrowedFd<'_>, size: u64) -> nix::Result<()> {
        status(&self.order(b't', &size.to_le_bytes(), &[file]))
    }

    /// Makes its process an ordinary user's, of a [`mortal_pair`]. False where it is not root's.
    pub fn become_nobody(&self) -> bool {
        status(&self.order(b'u', &[], &[])).is_ok()
    }

    /// Tries all that there is to get more out of this than it allows: to change it, and to open it anew for more. What
    /// came of each try.
    pub fn try_to_write(&self, weak: BorrowedFd<'_>) -> Vec<nix::Result<()>> {
        self.order(b'w', &[], &[weak]).chunks(4).map(status).collect()
    }

    pub fn receive(&self) -> Vec<u8> {
        self.order(b'r', &[], &[])
    }

    /// Kills its process, of a [`mortal_pair`].
    pub fn kill(&self) {
        let mut child = self.probe.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn order(&self, letter: u8, rest: &[u8], descriptors: &[BorrowedFd<'_>]) -> Vec<u8> {
        let [low, high] = self.end.to_le_bytes();
        self.probe.order(&[&[letter, low, high], rest].concat(), descriptors).expect("the peer's process lives")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let [low, high] = self.end.to_le_bytes();
        // A killed one has closed it.
        let _ = self.probe.order(&[b'c', low, high], &[]);
    }
}

/// The other process.
struct Probe {
    child: Mutex<Child>,
    /// Where orders go. Locked from an order to its answer.
    orders: Mutex<OwnedFd>,
    ends: AtomicU16,
}

impl Probe {
    fn start() -> Arc<Probe> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_imc_peer")).stdin(Stdio::from(theirs)).spawn().unwrap();
        Arc::new(Probe { child: Mutex::new(child), orders: Mutex::new(ours), ends: AtomicU16::new(0) })
    }

    fn order(&self, order: &[u8], descriptors: &[BorrowedFd<'_>]) -> nix::Result<Vec<u8>> {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let control = if numbers.is_empty() { &[] } else { &rights[..] };
        sendmsg::<()>(orders.as_raw_fd(), &[IoSlice::new(order)], control, MsgFlags::MSG_NOSIGNAL, None)?;
        let mut answer = vec![0; 2 * imc::DATAGRAM_MAX];
        match nix::unistd::read(&*orders, &mut answer)? {
            0 => Err(Errno::EPIPE),
            length => Ok(answer[1..length].to_vec()),
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        // It may be dead already.
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn status(answer: &[u8]) -> nix::Result<()> {
    match i32::from_le_bytes(answer.try_into().unwrap()) {
        0 => Ok(()),
        error => Err(Errno::from_raw(error)),
    }
}

/// A datagram as the documentation has it.
pub fn datagram<B: Body>(kind: u8, txid: u64, handles: u8, body: &B) -> Vec<u8> {
    let mut segment = Vec::new();
    Scratch::default().encode(body, &mut segment).unwrap();
    assemble(kind, B::ORDINAL, txid, handles, B::SCHEMA_ID, &segment)
}

pub fn assemble(kind: u8, ordinal: u16, txid: u64, handles: u8, schema_id: u64, segment: &[u8]) -> Vec<u8> {
    let mut datagram = b"IMC1".to_vec();
    datagram.extend(1u16.to_le_bytes());
    datagram.extend(ordinal.to_le_bytes());
    datagram.extend(txid.to_le_bytes());
    datagram.extend([kind, handles, 0, 0]);
    datagram.extend((segment.len() as u32).to_le_bytes());
    datagram.extend(schema_id.to_le_bytes());
    datagram.extend(segment);
    datagram
}

/// The number of the call that this datagram is.
pub fn txid(datagram: &[u8]) -> u64 {
    u64::from_le_bytes(datagram[8..16].try_into().unwrap())
}

/// How many descriptors this process has, besides those by which it, or the test harness, looks into `/proc` and `/sys`.
pub fn descriptors() -> usize {
    // It would be counted as left behind, were it started between two counts.
    SHARED.get_or_init(Probe::start);
    let all = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = all.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    targets.filter(|target| !target.starts_with("/proc") && !target.starts_with("/sys")).count()
}
