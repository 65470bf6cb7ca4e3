use super::*;
use crate::conformance::{Random, World, conforms};
use device::virtio::guest::{Buffer, Deaths, Guest};
use device::{Device, FRAME_SLOTS, GuestMemory, TestFrames};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

const MERGEABLE: u64 = 1 << VIRTIO_NET_F_MRG_RXBUF;
const BUFFER: u64 = 0x8_0000;
const FRAME: u64 = 0xc_0000;
/// A buffer for a frame of the largest packet and the header before it (5.1.6.3.1).
const WHOLE: u32 = 1526;

fn guest(features: u64) -> (Guest<Net>, TestFrames) {
    let frames = TestFrames::default();
    let cable = frames.clone();
    let options = Options::new([("mac", "02:00:00:00:00:07")]);
    let mut guest = Guest::new(options, move |powers| powers.frames.push((FRAMES, Box::new(cable.clone()))));
    guest.start(features, 8, true);
    (guest, frames)
}

fn frame(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(7).wrapping_add(seed)).collect()
}

/// Sends a frame of the bytes at [`FRAME`].
fn send(guest: &mut Guest<Net>, head: u16, frame: &[u8]) {
    guest.set_bytes(FRAME, frame);
    let chain = [Buffer::readable(BUFFER, NET_HEADER_BYTES as u32), Buffer::readable(FRAME, frame.len() as u32)];
    guest.submit_to(TRANSMIT as u64, head, &chain);
    guest.ring();
}

#[test]
fn frames_that_no_wire_takes_are_sent_nowhere_and_their_buffers_given_back() {
    let (mut guest, frames) = guest(0);
    send(&mut guest, 0, &frame(HEADER_BYTES - 1, 0));
    send(&mut guest, 2, &frame(FRAME_MAX + 1, 0));
    send(&mut guest, 4, &[]);
    assert!(frames.sent().is_empty());
    assert_eq!(guest.used_of(1), [(0, 0), (2, 0), (4, 0)]);
}

#[test]
fn receive_buffer_without_room_for_a_header_needs_a_reset() {
    for chain in [Buffer::readable(BUFFER, WHOLE), Buffer::writable(BUFFER, NET_HEADER_BYTES as u32 - 1)] {
        let (mut guest, frames) = guest(MERGEABLE);
        guest.submit(0, &[chain]);
        frames.arrive(&frame(60, 0));
        guest.ring();
        assert_eq!(guest.device.broken(), Some(Broken::Short));
    }
}

#[test]
fn what_is_too_short_or_does_not_fit_is_dropped_and_the_buffer_kept_for_the_next_frame() {
    let (mut guest, frames) = guest(0);
    guest.submit(0, &[Buffer::writable(BUFFER, 100)]);
    frames.arrive(&frame(HEADER_BYTES - 1, 1));
    frames.arrive(&frame(89, 2));
    frames.arrive(&frame(88, 3));
    guest.ring();
    assert_eq!(guest.used(), [(0, 100)]);
    assert_eq!(guest.bytes(BUFFER + 12, 88), frame(88, 3));
    assert_eq!(frames.waiting(), 0);
}

#[test]
fn a_frame_is_sent_once_and_from_its_second_buffer_on() {
    for deaths in Deaths::ALL {
        let (mut guest, frames) = guest(0);
        guest.deaths = deaths;
        send(&mut guest, 0, &frame(200, 1));
        send(&mut guest, 2, &frame(FRAME_MAX, 2));
        assert_eq!(frames.sent(), [frame(200, 1), frame(FRAME_MAX, 2)], "{deaths:?}");
        assert_eq!(guest.used_of(1), [(0, 0), (2, 0)]);
        assert!(guest.rung(2) > 0);
    }
}

#[test]
fn frames_are_received_in_order_each_with_a_header_of_one_buffer() {
    for deaths in Deaths::ALL {
        for features in [0, MERGEABLE] {
            let (mut guest, frames) = guest(features);
            guest.deaths = deaths;
            frames.arrive(&frame(60, 1));
            frames.arrive(&frame(1514, 2));
            assert_eq!(guest.ring(), 0, "there are no buffers yet");
            for head in 0..2 {
                guest.submit(head, &[Buffer::writable(BUFFER + 0x1000 * u64::from(head), WHOLE)]);
            }
            guest.notify(0);
            assert_eq!(guest.used(), [(0, 72), (1, 1526)], "{deaths:?}");
            assert_eq!(guest.bytes(BUFFER, 12), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
            assert_eq!(guest.bytes(BUFFER + 12, 60), frame(60, 1));
            assert_eq!(guest.bytes(BUFFER + 0x1000 + 12, 1514), frame(1514, 2));
            assert!(guest.rung(1) > 0);
            assert_eq!(frames.waiting(), 0);
        }
    }
}

#[test]
fn buffers_without_frames_wait_and_nobody_is_busy() {
    let (mut guest, frames) = guest(MERGEABLE);
    guest.submit(0, &[Buffer::writable(BUFFER, WHOLE)]);
    guest.ring();
    assert!(guest.used().is_empty() && !guest.device.pending(&guest.state));
    frames.arrive(&frame(60, 1));
    assert!(guest.device.pending(&guest.state));
    guest.ring();
    assert_eq!(guest.used(), [(0, 72)]);
}

#[test]
fn a_frame_that_is_larger_than_a_buffer_takes_several_and_says_how_many() {
    for deaths in Deaths::ALL {
        let (mut guest, frames) = guest(MERGEABLE);
        guest.deaths = deaths;
        // The count lies in two buffers of its chain.
        guest.submit(0, &[Buffer::writable(BUFFER, 11), Buffer::writable(BUFFER + 0x100, 89)]);
        guest.submit(2, &[Buffer::writable(BUFFER + 0x1000, 100)]);
        guest.submit(3, &[Buffer::writable(BUFFER + 0x2000, 1000)]);
        frames.arrive(&frame(300, 5));
        guest.ring();
        assert_eq!(guest.used(), [(0, 100), (2, 100), (3, 112)], "{deaths:?}");
        assert_eq!([guest.bytes(BUFFER + 10, 1), guest.bytes(BUFFER + 0x100, 1)], [[3], [0]]);
        let mut seen = guest.bytes(BUFFER + 0x101, 88);
        seen.extend(guest.bytes(BUFFER + 0x1000, 100));
        seen.extend(guest.bytes(BUFFER + 0x2000, 112));
        assert_eq!(seen, frame(300, 5));
    }
}

#[test]
fn a_frame_with_too_few_buffers_waits_for_more_and_shows_none_before() {
    for deaths in Deaths::ALL {
        let (mut guest, frames) = guest(MERGEABLE);
        guest.deaths = deaths;
        guest.submit(0, &[Buffer::writable(BUFFER, 100)]);
        frames.arrive(&frame(150, 5));
        guest.ring();
        assert!(guest.used().is_empty() && frames.waiting() == 1, "{deaths:?}");
        guest.submit(1, &[Buffer::writable(BUFFER + 0x1000, 100)]);
        guest.notify(0);
        assert_eq!(guest.used(), [(0, 100), (1, 62)]);
        assert_eq!((guest.bytes(BUFFER + 10, 1), frames.waiting()), (vec![2], 0));
    }
}

#[test]
fn an_empty_buffer_in_the_middle_of_a_frame_needs_a_reset() {
    let (mut guest, frames) = guest(MERGEABLE);
    guest.submit(0, &[Buffer::writable(BUFFER, 100)]);
    guest.submit(1, &[Buffer::writable(BUFFER, 0)]);
    frames.arrive(&frame(150, 5));
    guest.ring();
    assert_eq!(guest.device.broken(), Some(Broken::Short));
}

#[test]
fn a_reader_that_falls_behind_keeps_frames_in_the_queue() {
    let (mut guest, frames) = guest(0);
    frames.set_stalled(true);
    for round in 0..FRAME_SLOTS {
        send(&mut guest, (round % 4 * 2) as u16, &frame(60, round as u8));
    }
    send(&mut guest, 0, &frame(61, 0));
    assert_eq!(frames.sent().len() as u32, FRAME_SLOTS);
    frames.set_stalled(false);
    guest.ring();
    assert_eq!(frames.sent().last(), Some(&frame(61, 0)));
}

#[test]
fn the_configuration_has_the_address_the_link_and_the_largest_packet() {
    let (mut guest, _) = guest(0);
    let read: Vec<u8> = (0..12).map(|at| guest.load(0x2000 + at, 1) as u8).collect();
    assert_eq!(read, [2, 0, 0, 0, 0, 7, 1, 0, 1, 0, 0xdc, 5]);
}

#[test]
fn random_chains_never_panic_and_end() {
    let mut random = Random::new(5);
    let (mut guest, frames) = guest(MERGEABLE);
    for _ in 0..20_000 {
        if guest.status() != 0xf {
            guest.start(if random.one_in(2) { MERGEABLE } else { 0 }, 8, true);
        }
        if random.one_in(3) {
            frames.arrive(&frame(random.below(FRAME_MAX as u64 + 1) as usize, 0));
        }
        let queue = random.below(2);
        let buffers: Vec<Buffer> = (0..=random.below(6))
            .map(|_| {
                let address = if random.one_in(16) { random.value() } else { random.below(0x10_0000) };
                let writable = (queue == 0) != random.one_in(16);
                Buffer { address, bytes: random.below(900) as u32, writable }
            })
            .collect();
        guest.submit_to(queue, random.below(8) as u16, &buffers);
        guest.scan();
    }
}

#[test]
fn it_wishes_for_nothing_but_memory_and_frames() {
    let manifest = Net::manifest(&Options::default()).unwrap();
    assert_eq!(manifest.wishes.iter().map(|wish| wish.power).collect::<Vec<_>>(), [Power::Memory, Power::Frames]);
    assert_eq!(manifest.pci.unwrap().device, 0x1041);
}

struct Machine {
    memory: GuestMemory,
    frames: TestFrames,
}

impl World for Machine {
    const NAME: &'static str = NAME;

    fn new() -> Machine {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 0x10_0000)]).unwrap();
        Machine { memory, frames: TestFrames::default() }
    }

    fn powers(&self) -> Powers {
        let vectors = (0..3).map(|_| Box::new(Arc::new(AtomicU64::new(0))) as _).collect();
        let frames = vec![(FRAMES, Box::new(self.frames.clone()) as _)];
        Powers { memory: Some(self.memory.clone()), vectors, frames, ..Powers::default() }
    }

    fn stir(&mut self, random: &mut Random) {
        self.frames.arrive(&frame(random.below(FRAME_MAX as u64) as usize, random.next() as u8));
    }

    fn seen(&self) -> Vec<u8> {
        self.frames.sent().concat()
    }
}

conforms!(Machine);
