//! A net relay: between one network and the frame rings of one device, which has no network.
//!
//! It holds the network's descriptor, the rings and two eventfds, and looks into frames only to see where they end. It knows nothing that is not in the
//! rings, so another one can take its place at any time; a frame that it was about to hand on is lost or doubled then, as on a
//! wire.

use crate::grants::{held_wake, missing, once, receive};
use crate::run::{CHANNEL, Ready, Role, Setup, fail, leave_on_panic};
use imc::{Descriptors, FramesRelay, ReadWrite, Region, Tap, UnixStream, Wake};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};
use sandbox::{DescriptorKind, Held, Mode, Network, Recipe, Sealed};
use schema::Kind;
use schema::host::{FRAME_MAX, FRAMES_REGION_BYTES, Grants, HOST_WIDE, Level, Purpose};
use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Frames that go one way before the other way has its turn.
const TURN_MAX: u32 = 64;
/// Before each frame on a socket comes its length, big-endian (passt(1), as QEMU's `-netdev stream`).
const LENGTH_BYTES: usize = 4;
/// Largest frame that may come from a socket: one of the largest IP packet, with its header. Those that are larger than the
/// rings take are dropped; one that claims to be larger than this was never a frame.
const SOCKET_FRAME_MAX: usize = 65535 + 18;
/// Bytes of a socket that are looked at together: the largest frame, and many of the usual size.
const LOOK_BYTES: usize = 128 << 10;
/// Bytes before the packet in a frame, whose last two are its type; the type of IP version 4; and where such a packet has its length,
/// which is at least that of its header (IEEE 802.3, 3.1.1; RFC 791, 3.1).
const HEADER_BYTES: usize = 14;
const TYPE_IPV4: [u8; 2] = [0x08, 0x00];
const PACKET_LENGTH: usize = HEADER_BYTES + 2;
const PACKET_MIN: usize = 20;
/// How long a frame that has come in part is left alone: its rest is on the way.
const PART_MS: u16 = 1;

/// The body of a net relay, until its network is gone.
///
/// The order is that of a host. It is told no device.
pub fn relay() -> ! {
    leave_on_panic();
    match sealed() {
        Ok((mut pump, sealed)) => {
            let Err(ended) = pump.go_on(&sealed);
            fail(&ended.to_string())
        }
        Err(sentence) => fail(&sentence),
    }
}

fn sealed() -> Result<(Pump, Sealed), String> {
    let (mut setup, confined) = Setup::begin()?;
    let level = setup.assign_nothing()?;
    let ready = setup.grants(Assigned { level, network: None, region: None, bell: None, host: None })?;
    setup.seal(ready, confined, |_| Ok(()))
}

/// What a relay is to be.
struct Assigned {
    level: Level,
    network: Option<End>,
    region: Option<Region<ReadWrite>>,
    bell: Option<Wake>,
    host: Option<Wake>,
}

impl Role for Assigned {
    type Work = Pump;

    fn take(&mut self, grants: Grants, mut descriptors: Descriptors) -> Result<(), String> {
        for grant in grants.grants {
            let descriptor = descriptors.take(grant.handle.slot).ok_or("a grant names no descriptor of its own")?;
            match grant.purpose {
                _ if grant.device != HOST_WIDE => return Err("a relay has no devices".into()),
                Purpose::Frames => once(&mut self.region, receive(&grant, descriptor)?, "frames")?,
                Purpose::Bell => once(&mut self.bell, receive(&grant, descriptor)?, "bell")?,
                Purpose::Wake => once(&mut self.host, receive(&grant, descriptor)?, "wake")?,
                Purpose::Network if grant.handle.kind == Kind::Tap => {
                    once(&mut self.network, End::Tap(receive(&grant, descriptor)?), "network")?;
                }
                Purpose::Network => {
                    once(&mut self.network, End::Socket(receive(&grant, descriptor)?), "network")?;
                }
                purpose => return Err(format!("{purpose:?} is not for a relay")),
            }
        }
        Ok(())
    }

    fn attach(&mut self) -> Result<Ready<Pump>, String> {
        let region = self.region.take().ok_or_else(|| missing("frames"))?;
        let network = self.network.take().ok_or_else(|| missing("network"))?;
        let bell = self.bell.take().ok_or_else(|| missing("bell"))?;
        let host = self.host.take().ok_or_else(|| missing("wake"))?;
        if region.bytes() < FRAMES_REGION_BYTES {
            return Err("the region of frames is too small".into());
        }
        let mapping = region.map().map_err(|error| format!("the frames cannot be mapped: {error}"))?;
        let held = vec![
            Held::new(CHANNEL, DescriptorKind::Channel, Mode::Write),
            Held::new(network.as_fd().as_raw_fd(), network.is().kind(), Mode::Both),
            held_wake(&bell, Mode::Read),
            held_wake(&host, Mode::Write),
        ];
        let recipe = Recipe::net_relay(self.level, network.is());
        Ok(Ready { recipe, held, work: Pump::new(FramesRelay::new(mapping), network, bell, host) })
    }
}

/// The end of a network.
enum End {
    Tap(Tap),
    Socket(UnixStream),
}

impl End {
    fn is(&self) -> Network {
        match self {
            End::Tap(_) => Network::Tap,
            End::Socket(_) => Network::Socket,
        }
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            End::Tap(tap) => tap.as_fd(),
            End::Socket(socket) => socket.as_fd(),
        }
    }
}

/// Why a relay ends.
#[derive(Debug, thiserror::Error)]
enum Ended {
    /// Nobody is there any more.
    #[error("the network is gone: {0}")]
    Gone(Errno),
    /// What comes are no frames.
    #[error("the network sends a frame of {0} bytes, which is none")]
    Violation(usize),
    /// The kernel refused to let it sleep or ring.
    #[error("the kernel refused to let the relay sleep or ring: {0}")]
    Io(#[from] std::io::Error),
}

impl From<Errno> for Ended {
    fn from(error: Errno) -> Ended {
        Ended::Gone(error)
    }
}

/// How a frame fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It was handed on, or is nothing that anybody could take.
    Done,
    /// There is no room for it now.
    Waits,
}

/// What keeps the network from being read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    /// Nothing has come.
    Empty,
    /// The beginning of a frame has come.
    Part,
    /// The device has not taken what came before, or there was enough for one turn.
    Full,
}

/// All that a relay has.
struct Pump {
    rings: FramesRelay,
    network: End,
    /// What the device rings.
    bell: Wake,
    /// The host's wake.
    host: Wake,
    frame: Box<[u8; FRAME_MAX]>,
    /// What was looked at of a socket, or a frame of a tap with a byte more than it may have.
    seen: Box<[u8]>,
}

impl Pump {
    fn new(rings: FramesRelay, network: End, bell: Wake, host: Wake) -> Pump {
        let frame = Box::new([0; FRAME_MAX]);
        Pump { rings, network, bell, host, frame, seen: vec![0; LOOK_BYTES].into() }
    }

    /// Hands frames on both ways, for ever. Only a sealed process may.
    fn go_on(&mut self, _: &Sealed) -> Result<Infallible, Ended> {
        loop {
            self.turn()?;
        }
    }

    /// Sleeps until there is something to do, and does it.
    fn turn(&mut self) -> Result<(), Ended> {
        let (sent, wants_room) = self.send()?;
        let (received, input) = self.receive()?;
        if sent == Some(true) || received > 0 {
            self.wake_host()?;
        }
        if sent.is_none() && received == 0 {
            self.sleep(input, wants_room)?;
        }
        Ok(())
    }

    /// A wake stuffed full by its host is not waited for: the host has then enough to wake up for.
    fn wake_host(&self) -> Result<(), Ended> {
        if self.host.has_room() {
            self.host.signal(1)?;
        }
        Ok(())
    }

    fn sleep(&self, input: Input, wants_room: bool) -> Result<(), Ended> {
        let mut events = PollFlags::empty();
        events.set(PollFlags::POLLIN, input == Input::Empty);
        events.set(PollFlags::POLLOUT, wants_room);
        let wait = if input == Input::Part { PollTimeout::from(PART_MS) } else { PollTimeout::NONE };
        let mut polled = [PollFd::new(self.bell.as_fd(), PollFlags::POLLIN), PollFd::new(self.network.as_fd(), events)];
        match poll(&mut polled, wait) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(std::io::Error::from(error).into()),
        }
        let seen = polled.map(|polled| polled.revents().unwrap_or(PollFlags::empty()));
        // A network that is gone says so whether it was asked or not, and would keep this loop from ever sleeping.
        if seen[1].intersects(PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL) && input != Input::Empty {
            return Err(Ended::Gone(Errno::EPIPE));
        }
        if seen[0].contains(PollFlags::POLLIN) {
            self.bell.sleep()?;
        }
        Ok(())
    }

    /// Hands on what the device sends. Says whether anything went, and then whether the host is to be woken; and whether a
    /// frame waits for room.
    fn send(&mut self) -> Result<(Option<bool>, bool), Ended> {
        let (mut any, mut failed, mut waits) = (None, None, false);
        for _ in 0..TURN_MAX {
            let network = &self.network;
            let taken = self.rings.take(&mut self.frame, |frame| match give(network, frame) {
                Ok(Fate::Done) => true,
                Ok(Fate::Waits) => {
                    waits = true;
                    false
                }
                Err(ended) => {
                    failed = Some(ended);
                    false
                }
            });
            match taken {
                Some(wake) => any = Some(wake || any == Some(true)),
                None => break,
            }
        }
        failed.map_or(Ok((any, waits)), Err)
    }

    /// Hands the device what comes. Says how many frames, and what ended it.
    fn receive(&mut self) -> Result<(u32, Input), Ended> {
        match self.network {
            End::Tap(_) => self.receive_from_tap(),
            End::Socket(_) => self.receive_from_socket(),
        }
    }

    fn receive_from_tap(&mut self) -> Result<(u32, Input), Ended> {
        for count in 0..TURN_MAX {
            if !self.rings.has_room() {
                return Ok((count, Input::Full));
            }
            match nix::unistd::read(&self.network, &mut self.seen[..=FRAME_MAX]) {
                // A byte more than it may have: it is longer than that.
                Ok(length) if length > FRAME_MAX => {}
                Ok(0) => return Err(Ended::Gone(Errno::EPIPE)),
                Ok(length) => drop(self.rings.offer(&self.seen[..length])),
                Err(Errno::EAGAIN) => return Ok((count, Input::Empty)),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok((TURN_MAX, Input::Full))
    }

    /// Frames are looked at first and taken from the socket once they are in the ring: a relay that dies in between leaves the
    /// socket at the beginning of a frame.
    fn receive_from_socket(&mut self) -> Result<(u32, Input), Ended> {
        if !self.rings.has_room() {
            return Ok((0, Input::Full));
        }
        let socket = self.network.as_fd().as_raw_fd();
        let length = match recv(socket, &mut self.seen, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK) {
            Ok(0) => return Err(Ended::Gone(Errno::EPIPE)),
            Ok(length) => length,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok((0, Input::Empty)),
            Err(error) => return Err(error.into()),
        };
        let (mut done, mut count, mut input) = (0, 0, Input::Full);
        while count < TURN_MAX && self.rings.has_room() {
            let Some(frame) = first_frame(&self.seen[done..length])? else {
                input = Input::Part;
                break;
            };
            if frame.len() <= FRAME_MAX {
                self.rings.offer(frame);
            }
            count += 1;
            done += LENGTH_BYTES + frame.len();
        }
        if done > 0 {
            // All of it is there: it was looked at, and nobody else reads.
            recv(socket, &mut self.seen[..done], MsgFlags::MSG_DONTWAIT)?;
        }
        Ok((count, input))
    }
}

/// The frame at the beginning of `bytes`, if all of it is there.
fn first_frame(bytes: &[u8]) -> Result<Option<&[u8]>, Ended> {
    let Some((head, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_be_bytes(*head) as usize;
    if length == 0 || length > SOCKET_FRAME_MAX {
        return Err(Ended::Violation(length));
    }
    Ok(rest.get(..length))
}

/// The frame without what fills a short packet of IP up to the shortest frame of a wire. A socket is no wire, and passt (2023)
/// takes the filling for data: then it counts no acknowledgement of a card that fills up, and in the end gives the connection up.
fn without_filling(frame: &[u8]) -> &[u8] {
    let is_ipv4 = frame.get(HEADER_BYTES - TYPE_IPV4.len()..HEADER_BYTES) == Some(&TYPE_IPV4);
    let length = frame.get(PACKET_LENGTH..).and_then(|rest| rest.first_chunk()).filter(|_| is_ipv4);
    let packet = length.map(|bytes| usize::from(u16::from_be_bytes(*bytes))).filter(|bytes| *bytes >= PACKET_MIN);
    packet.and_then(|bytes| frame.get(..HEADER_BYTES + bytes)).unwrap_or(frame)
}

/// Gives the network a frame.
fn give(network: &End, frame: &[u8]) -> Result<Fate, Ended> {
    // The device was to send no such thing.
    if frame.is_empty() {
        return Ok(Fate::Done);
    }
    let given = match network {
        End::Tap(tap) => nix::unistd::write(tap, frame),
        End::Socket(socket) => {
            let frame = without_filling(frame);
            let mut whole = [0; LENGTH_BYTES + FRAME_MAX];
            whole[..LENGTH_BYTES].copy_from_slice(&(frame.len() as u32).to_be_bytes());
            whole[LENGTH_BYTES..LENGTH_BYTES + frame.len()].copy_from_slice(frame);
            // The kernel takes so few bytes whole or not at all: a relay that dies leaves no half of a frame.
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            send(socket.as_fd().as_raw_fd(), &whole[..LENGTH_BYTES + frame.len()], flags)
        }
    };
    match given {
        Ok(_) => Ok(Fate::Done),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(Fate::Waits),
        // An interface that is down, or a frame that has not even a header: as on a wire that leads nowhere.
        Err(Errno::EIO | Errno::EINVAL) if matches!(network, End::Tap(_)) => Ok(Fate::Done),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imc::FramesDevice;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use std::io::{Read, Write};
    use std::os::unix::net;

    struct Bench {
        region: Region<ReadWrite>,
        device: FramesDevice,
        bell: Wake,
        host: Wake,
        near: UnixStream,
        far: net::UnixStream,
    }

    fn bench() -> Bench {
        let region = Region::create("cofferdam:frames", FRAMES_REGION_BYTES).unwrap();
        let bell = Wake::create().unwrap();
        let (near, far) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let far = net::UnixStream::from(far);
        far.set_nonblocking(true).unwrap();
        Bench {
            device: FramesDevice::new(region.map().unwrap(), bell.try_clone().unwrap()),
            region,
            bell,
            host: Wake::create().unwrap(),
            near: UnixStream::new(near).unwrap(),
            far,
        }
    }

    impl Bench {
        /// A relay, as after a restart.
        fn pump(&self) -> Pump {
            let network = UnixStream::new(self.near.as_fd().try_clone_to_owned().unwrap()).unwrap();
            let rings = FramesRelay::new(self.region.map().unwrap());
            Pump::new(rings, End::Socket(network), self.bell.try_clone().unwrap(), self.host.try_clone().unwrap())
        }

        fn come(&mut self, frames: &[&[u8]]) {
            for frame in frames {
                self.far.write_all(&(frame.len() as u32).to_be_bytes()).unwrap();
                self.far.write_all(frame).unwrap();
            }
        }
    }

    #[test]
    fn network_that_sends_what_are_no_frames_ends_the_relay() {
        let mut bench = bench();
        bench.far.write_all(&[0xff; 8]).unwrap();
        assert!(matches!(bench.pump().turn(), Err(Ended::Violation(0xffff_ffff))));
        let mut bench = self::bench();
        bench.far.write_all(&[0; 4]).unwrap();
        assert!(matches!(bench.pump().turn(), Err(Ended::Violation(0))));
    }

    #[test]
    fn network_that_is_gone_ends_the_relay() {
        let Bench { region, bell, host, near, far, .. } = bench();
        drop(far);
        let mut pump = Pump::new(FramesRelay::new(region.map().unwrap()), End::Socket(near), bell, host);
        assert!(matches!(pump.turn(), Err(Ended::Gone(_))));
    }

    #[test]
    fn frame_that_is_larger_than_the_rings_take_is_dropped_and_the_next_one_comes() {
        let mut bench = bench();
        bench.come(&[&[1; FRAME_MAX + 1], &[2; 9000], b"small"]);
        bench.pump().turn().unwrap();
        let mut frame = [0; FRAME_MAX];
        assert_eq!((bench.device.receive(0, &mut frame), &frame[..5]), (Some(5), &b"small"[..]));
        assert!(!bench.device.has(1));
        assert_eq!(bench.host.drain(), Some(1));
    }

    #[test]
    fn frame_that_has_come_in_part_is_left_in_the_socket_for_whichever_relay_is_there_then() {
        let mut bench = bench();
        bench.far.write_all(&[0, 0, 0, 5, b'h', b'e']).unwrap();
        bench.pump().turn().unwrap();
        assert!(!bench.device.has(0));
        bench.far.write_all(b"llo").unwrap();
        bench.pump().turn().unwrap();
        let mut frame = [0; FRAME_MAX];
        assert_eq!((bench.device.receive(0, &mut frame), &frame[..5]), (Some(5), &b"hello"[..]));
    }

    #[test]
    fn frames_that_the_device_sends_have_their_length_before_them() {
        let mut bench = bench();
        bench.device.send(0, b"one");
        bench.device.send(1, b"three");
        bench.device.publish(2, 0);
        bench.pump().turn().unwrap();
        let mut bytes = Vec::new();
        let _ = bench.far.read_to_end(&mut bytes);
        assert_eq!(bytes, b"\0\0\0\x03one\0\0\0\x05three");
    }

    /// A frame with a packet of IP version 4 that says it has `length` bytes, filled up to the shortest of a wire.
    fn filled(length: u16) -> Vec<u8> {
        let mut frame = vec![7; 60];
        frame[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        frame
    }

    #[test]
    fn frames_whose_packets_are_of_no_length_or_of_another_kind_stay_as_they_are() {
        let mut other = filled(40);
        other[13] = 0x06;
        for frame in
            [filled(0), filled(19), filled(47), filled(u16::MAX), other, filled(40)[..17].to_vec(), vec![8; 13]]
        {
            assert_eq!(without_filling(&frame), frame);
        }
    }

    #[test]
    fn what_fills_a_short_packet_up_does_not_go_to_a_socket() {
        let mut bench = bench();
        bench.device.send(0, &filled(40));
        bench.device.send(1, &filled(46));
        bench.device.publish(2, 0);
        bench.pump().turn().unwrap();
        let mut bytes = Vec::new();
        let _ = bench.far.read_to_end(&mut bytes);
        assert_eq!(bytes, [&[0, 0, 0, 54], &filled(40)[..54], &[0, 0, 0, 60], &filled(46)].concat());
    }

    #[test]
    fn device_that_takes_nothing_keeps_frames_in_the_socket() {
        let mut bench = bench();
        let mut pump = bench.pump();
        while pump.rings.has_room() {
            bench.come(&[b"x"]);
            pump.turn().unwrap();
        }
        bench.come(&[b"x", b"x", b"x"]);
        assert_eq!(pump.receive().unwrap(), (0, Input::Full));
        bench.device.publish(0, 2);
        assert_eq!(pump.receive().unwrap(), (2, Input::Full));
    }

    #[test]
    fn network_that_takes_nothing_leaves_frames_in_the_ring() {
        let bench = bench();
        let mut pump = bench.pump();
        let mut sent = 0;
        let blocked = loop {
            assert!(sent < 1_000_000, "the socket never fills");
            if bench.device.has_room(sent) {
                bench.device.send(sent, &[0; FRAME_MAX]);
                sent += 1;
                bench.device.publish(sent, 0);
            }
            if let (None, waits) = pump.send().unwrap() {
                break waits;
            }
        };
        assert!(blocked);
    }
}
