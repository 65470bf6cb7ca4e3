//! `cofferdam bench calls`: messages between two processes, beside the bare socket, other message layers and the bounds.

use super::bounds;
use super::clock::samples;
use super::contest::{Contest, Seats, seats};
use super::pair::{Answering, Common, Other, grant};
use super::peers::Peers;
use super::series::Series;
use crate::args::BenchCommon;
use anyhow::{Context, Result, anyhow, ensure};
use imc::{Channel, Region};
use nix::cmsg_space;
use nix::sys::socket::{self, ControlMessage, ControlMessageOwned, MsgFlags};
use schema::Body;
use schema::host::{Empty, Grants, Purpose};
use schema::lane::{Access, Operation};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

/// A call is answered within this, or the other process is dead.
const DEADLINE: Duration = Duration::from_secs(10);
/// Bytes that go one way; an empty answer says that they came.
const BULKS: [(&str, usize); 2] = [("4 KiB", 4 << 10), ("64 KiB", 64 << 10)];
/// Bytes of the answer to them, where one cannot be empty.
const ACKNOWLEDGEMENT: usize = 8;
/// Room for the longest datagram here.
const DATAGRAM_ROOM: usize = 128 << 10;

const RAW: &str = "64 B, raw SEQPACKET";
const RAW_DESCRIPTOR: &str = "64 B, raw SEQPACKET with a descriptor";
const CALL: &str = "64 B, typed call";
const CAPABILITY: &str = "64 B, typed call with a capability";

/// Runs all contenders in turn.
pub fn calls(peers: &Peers, common: &BenchCommon) -> Result<Vec<Series>> {
    let mut contest = Contest::default();
    let call = datagram(&numbers(0), &[])?;
    let region = Region::create("cofferdam:bench", 4096)?;
    let granting = Grants { grants: vec![grant(Purpose::State, &region, 0)] };
    let (granted, empty) = (datagram(&granting, &[region.as_fd()])?, datagram(&Empty, &[])?.len());
    for seats in seats()? {
        let placement = seats.placement;
        bounds::add(&mut contest, seats);
        let bytes = call.clone();
        contest.add(RAW, placement, &[RAW], move || datagrams(seats, &bytes, bytes.len()));
        let (bytes, region) = (granted.clone(), region.try_clone()?);
        contest.add(RAW_DESCRIPTOR, placement, &[RAW], move || datagrams_with(region.as_fd(), seats, &bytes, empty));
        contest.add(CALL, placement, &[RAW, bounds::EVENTFD], move || typed_calls(seats));
        contest.add(CAPABILITY, placement, &[RAW, RAW_DESCRIPTOR], move || typed_calls_with_a_capability(seats));
        peers.add(&mut contest, seats, "64 B", RAW, 64, 64)?;
        for (size, bytes) in BULKS {
            let raw = format!("{size}, raw SEQPACKET");
            contest.add(&raw, placement, &[&raw], move || datagrams(seats, &vec![1; bytes], ACKNOWLEDGEMENT));
            contest.add(&format!("{size}, region and wake"), placement, &[&raw], move || bulk(seats, bytes));
            peers.add(&mut contest, seats, size, &raw, bytes, ACKNOWLEDGEMENT)?;
        }
    }
    contest.run(common)
}

/// What is asked and echoed: some numbers, encoded in 40 bytes behind a header of 32.
fn numbers(sequence: u32) -> Access {
    Access { sequence, operation: Operation::Write, range: 0, width: 8, offset: 8, value: !0, now: 1 }
}

/// The very bytes of a message, so that the bare socket carries the same.
fn datagram<B: Body>(body: &B, descriptors: &[BorrowedFd<'_>]) -> Result<Vec<u8>> {
    let (mut from, to) = Channel::pair()?;
    from.tell(body, descriptors).map_err(|error| anyhow!("{error}"))?;
    let mut bytes = vec![0; DATAGRAM_ROOM];
    let length = socket::recv(to.as_fd().as_raw_fd(), &mut bytes, MsgFlags::empty())?;
    bytes.truncate(length);
    Ok(bytes)
}

fn datagrams(seats: Seats, bytes: &[u8], back: usize) -> Result<Vec<f64>> {
    let (socket, _other) = Other::at_socket(Answering::Datagrams { back }, seats)?;
    let mut answer = vec![0; DATAGRAM_ROOM];
    samples(|count| {
        for _ in 0..count {
            socket::send(socket.as_raw_fd(), bytes, MsgFlags::empty())?;
            look(receive(&socket, &mut answer)?);
        }
        Ok(())
    })
}

fn datagrams_with(descriptor: BorrowedFd<'_>, seats: Seats, bytes: &[u8], back: usize) -> Result<Vec<f64>> {
    let (socket, _other) = Other::at_socket(Answering::Datagrams { back }, seats)?;
    let mut answer = vec![0; DATAGRAM_ROOM];
    let numbers = [descriptor.as_raw_fd()];
    samples(|count| {
        for _ in 0..count {
            let rights = [ControlMessage::ScmRights(&numbers)];
            socket::sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], &rights, MsgFlags::empty(), None)?;
            look(receive(&socket, &mut answer)?);
        }
        Ok(())
    })
}

/// The other side of both.
pub fn answer_datagrams(socket: OwnedFd, back: usize) -> Result<()> {
    let (mut bytes, answer) = (vec![0; DATAGRAM_ROOM], vec![1; back]);
    let mut control = cmsg_space!(RawFd);
    loop {
        let mut into = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = socket::recvmsg::<()>(socket.as_raw_fd(), &mut into, Some(&mut control), flags)?;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = control {
                numbers.into_iter().try_for_each(nix::unistd::close)?;
            }
        }
        let length = message.bytes;
        look(&bytes[..length]);
        socket::send(socket.as_raw_fd(), &answer, MsgFlags::empty())?;
    }
}

fn receive<'a>(socket: &OwnedFd, into: &'a mut [u8]) -> Result<&'a [u8]> {
    let length = socket::recv(socket.as_raw_fd(), into, MsgFlags::empty())?;
    ensure!(length > 0, "the other process hung up");
    Ok(&into[..length])
}

/// What each receiver does with what it got: it looks at every cache line once.
fn look(bytes: &[u8]) {
    std::hint::black_box(bytes.iter().step_by(64).fold(0, |seen, byte| seen ^ byte));
}

fn typed_calls(seats: Seats) -> Result<Vec<f64>> {
    let (mut channel, _other) = Other::at_channel(Answering::Calls, seats)?;
    channel.refuse_descriptors();
    let mut sequence = 0u32;
    samples(|count| {
        for _ in 0..count {
            sequence = sequence.wrapping_add(1);
            let asked = numbers(sequence);
            let (answer, _): (Access, _) = channel.call(&asked, &[], DEADLINE)?;
            ensure!(answer == asked, "another answer");
        }
        Ok(())
    })
}

/// The other side of it.
pub fn answer_calls(mut channel: Channel) -> Result<()> {
    channel.refuse_descriptors();
    loop {
        let packet = channel.receive(None)?.context("nothing came")?;
        let call = packet.call.context("an event came in place of a call")?;
        let (access, _) = packet.decode::<Access>()?;
        channel.reply(call, &access, &[]).map_err(|error| anyhow!("{error}"))?;
    }
}

fn typed_calls_with_a_capability(seats: Seats) -> Result<Vec<f64>> {
    let (mut channel, _other) = Other::at_channel(Answering::Capabilities, seats)?;
    let region = Region::create("cofferdam:bench", 4096)?;
    let granting = Grants { grants: vec![grant(Purpose::State, &region, 0)] };
    samples(|count| {
        for _ in 0..count {
            let (Empty, _) = channel.call(&granting, &[region.as_fd()], DEADLINE)?;
        }
        Ok(())
    })
}

/// The other side of it: each capability is checked against the kernel, and let go.
pub fn answer_capabilities(mut channel: Channel) -> Result<()> {
    loop {
        let packet = channel.receive(None)?.context("nothing came")?;
        let call = packet.call.context("an event came in place of a call")?;
        let (_, descriptors) = packet.decode::<Grants>()?;
        drop(descriptors);
        channel.reply(call, &Empty, &[]).map_err(|error| anyhow!("{error}"))?;
    }
}

fn bulk(seats: Seats, bytes: usize) -> Result<Vec<f64>> {
    let (common, _other) = Other::with_memory(Answering::Bulk(bytes), seats, bytes as u64)?;
    let payload = vec![1; bytes];
    samples(|count| {
        for _ in 0..count {
            common.memory.copy_in(&payload);
            common.there.signal(1)?;
            common.back.sleep()?;
        }
        Ok(())
    })
}

/// The other side of it.
pub fn answer_bulk(common: &Common, bytes: usize) -> Result<()> {
    let mut own = vec![0; bytes];
    loop {
        common.there.sleep()?;
        common.memory.copy_out(&mut own);
        look(&own);
        common.back.signal(1)?;
    }
}
