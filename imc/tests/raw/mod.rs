//! A peer that keeps to no rules: datagrams put together by hand, from the documented layout.
#![allow(dead_code)] // Each test program uses its part of it.

use imc::Channel;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use schema::{Body, Scratch};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

pub const CALL: u8 = 1;
pub const REPLY: u8 = 2;
pub const ERROR: u8 = 3;
pub const EVENT: u8 = 4;
pub const CLOSE: u8 = 5;

/// A channel, and the bare socket at its other end.
pub fn pair() -> (Channel, Peer) {
    let (ours, theirs) = Channel::pair().unwrap();
    (ours, Peer(theirs.into()))
}

pub struct Peer(pub OwnedFd);

impl Peer {
    pub fn send(&self, datagram: &[u8], descriptors: &[BorrowedFd<'_>]) {
        self.try_send(datagram, descriptors).unwrap();
    }

    pub fn try_send(&self, datagram: &[u8], descriptors: &[BorrowedFd<'_>]) -> nix::Result<usize> {
        let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let control = if numbers.is_empty() { &[] } else { &rights[..] };
        sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(datagram)], control, MsgFlags::MSG_NOSIGNAL, None)
    }

    pub fn receive(&self) -> Vec<u8> {
        let mut datagram = vec![0; imc::DATAGRAM_MAX];
        let length = nix::unistd::read(self.0.as_fd(), &mut datagram).unwrap();
        datagram.truncate(length);
        datagram
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

/// How many descriptors this process has.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
