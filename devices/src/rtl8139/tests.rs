use super::*;
use crate::conformance::{Bench, Random, World, conforms};
use device::TestFrames;
use large::tests::large_frame;
use registers::cr;
use state::CLOCK_WRAP_NS;

const MEMORY_BYTES: usize = 0x20_0000;
const BUFFER: u64 = 0x1_0000;
const FRAME: u64 = 0x4_0000;
const RECEIVE_RING: u64 = 0x5_0000;
const TRANSMIT_RING: u64 = 0x5_1000;
const PIECES: u64 = 0x6_0000;
const US: [u8; 6] = [2, 0, 0, 0, 0, 7];
/// Ports, and memory.
const PORTS: u8 = 0;
const MEMORY: u8 = 1;

struct Machine<const CPLUS: bool> {
    memory: GuestMemory,
    frames: TestFrames,
}

impl<const CPLUS: bool> World for Machine<CPLUS> {
    const NAME: &'static str = NAME;

    fn new() -> Self {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).unwrap();
        Machine { memory, frames: TestFrames::default() }
    }

    fn options(&self) -> Options {
        if CPLUS { Options::new([("mac", "02:00:00:00:00:07"), ("cplus", "on")]) } else { Options::default() }
    }

    fn powers(&self) -> Powers {
        let frames = vec![(FRAMES, Box::new(self.frames.clone()) as _)];
        Powers { memory: Some(self.memory.clone()), frames, ..Powers::default() }
    }

    fn stir(&mut self, random: &mut Random) {
        self.frames.set_stalled(random.one_in(4));
        let mut frame = frame(random.below(FRAME_MAX as u64) as usize, random.next() as u8);
        if random.one_in(2) && frame.len() >= 6 {
            frame[..6].fill(0xff);
        }
        self.frames.arrive(&frame);
    }

    fn seen(&self) -> Vec<u8> {
        self.frames.sent().concat()
    }
}

mod plain {
    use super::*;
    conforms!(Machine<false>);
}

mod cplus {
    use super::*;
    conforms!(Machine<true>);
}

/// Accesses of a driver.
type Card<const CPLUS: bool> = Bench<Machine<CPLUS>>;

impl<const CPLUS: bool> Card<CPLUS> {
    fn get(&mut self, offset: u64, width: u8) -> u64 {
        self.read(MEMORY, offset, width).unwrap()
    }

    fn put(&mut self, offset: u64, width: u8, value: u64) {
        self.write(PORTS, offset, width, value).unwrap();
    }

    fn set_bytes(&self, at: u64, bytes: &[u8]) {
        self.world.memory.write_slice(bytes, GuestAddress(at)).unwrap();
    }

    fn bytes(&self, at: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.world.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }

    fn word(&self, at: u64) -> u32 {
        self.world.memory.read_obj(GuestAddress(at)).unwrap()
    }

    fn arrive(&mut self, frame: &[u8]) {
        self.world.frames.arrive(frame);
        self.scan();
    }

    fn interrupts(&mut self) -> u16 {
        self.get(0x3e, 2) as u16
    }
}

fn frame(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(7).wrapping_add(seed)).collect()
}

/// A frame for this address.
fn frame_to(to: [u8; 6], length: usize) -> Vec<u8> {
    let mut frame = frame(length, 1);
    frame[..6].copy_from_slice(&to);
    frame
}

/// A plain card whose driver receives what is for it into 8 KiB, and sends.
fn started() -> Card<false> {
    let mut card = Card::<false>::new();
    card.put(0x50, 1, 0xc0);
    card.put(0x00, 4, 0x0000_0002);
    card.put(0x04, 4, 0x0700);
    card.put(0x50, 1, 0);
    card.put(0x37, 1, 0x10);
    card.put(0x30, 4, BUFFER);
    card.put(0x37, 1, 0x0c);
    card.put(0x44, 4, 0x0000_000a);
    card.put(0x3c, 2, 0xffff);
    card
}

/// The packets that a driver finds in the 8 KiB behind its last one: status and frame.
fn packets(card: &mut Card<false>) -> Vec<(u16, Vec<u8>)> {
    const BYTES: u64 = 0x2000;
    let mut packets = Vec::new();
    while card.get(0x37, 1) as u8 & cr::BUFFER_EMPTY == 0 {
        let at = (card.get(0x38, 2) + 16) % BYTES;
        let ring: Vec<u8> = {
            let bytes = card.bytes(BUFFER, BYTES as usize);
            [&bytes[at as usize..], &bytes[..at as usize]].concat()
        };
        let (status, length) = (u16::from_le_bytes([ring[0], ring[1]]), u16::from_le_bytes([ring[2], ring[3]]));
        let (body, rest) = ring[4..4 + usize::from(length)].split_at(usize::from(length) - 4);
        assert_eq!(rest, crc32fast::hash(body).to_le_bytes(), "the frame's checksum comes with it");
        packets.push((status, body.to_vec()));
        let next = (at + 4 + u64::from(length)).next_multiple_of(4);
        card.put(0x38, 2, next.wrapping_sub(16) & 0xffff);
    }
    packets
}

fn transmit(card: &mut Card<false>, number: u64, frame: &[u8]) {
    card.set_bytes(FRAME + number * 0x1000, frame);
    card.put(0x20 + 4 * number, 4, FRAME + number * 0x1000);
    card.put(0x10 + 4 * number, 4, frame.len() as u64);
}

#[test]
fn frames_that_lie_outside_memory_or_are_too_long_are_aborted() {
    let mut card = started();
    card.put(0x20, 4, MEMORY_BYTES as u64 - 59);
    card.put(0x10, 4, 60);
    assert_eq!(card.get(0x10, 4) as u32 & (tsd::OWN | tsd::OK | tsd::ABORT), tsd::OWN | tsd::ABORT);
    card.put(0x24, 4, FRAME);
    card.put(0x14, 4, FRAME_MAX as u64 + 1);
    assert_eq!(card.get(0x14, 4) as u32 & (tsd::OWN | tsd::OK | tsd::ABORT), tsd::OWN | tsd::ABORT);
    assert!(card.world.frames.sent().is_empty());
    assert_eq!((card.interrupts(), card.outputs().levels), (isr::TRANSMIT_ERROR, 1));
    assert_eq!(card.get(0x60, 2), 0x003f);
}

#[test]
fn receive_buffer_outside_memory_is_a_system_error_and_no_more() {
    let mut card = started();
    card.put(0x30, 4, 0xffff_f000);
    card.arrive(&frame_to(US, 60));
    assert_eq!(card.interrupts(), isr::SYSTEM_ERROR);
    assert_eq!(card.world.frames.waiting(), 0);
}

#[test]
fn card_that_does_not_receive_throws_frames_away() {
    let mut card = Card::<false>::new();
    card.arrive(&frame_to([0xff; 6], 60));
    assert_eq!((card.world.frames.waiting(), card.interrupts()), (0, 0));
}

#[test]
fn nothing_is_sent_before_the_transmitter_is_on() {
    let mut card = Card::<false>::new();
    transmit(&mut card, 0, &frame(100, 0));
    assert_eq!(card.get(0x10, 4) as u32 & tsd::OWN, 0);
    assert!(card.world.frames.sent().is_empty());
    card.put(0x37, 1, cr::TRANSMIT.into());
    assert_eq!(card.world.frames.sent(), [frame(100, 0)]);
}

#[test]
fn four_frames_are_sent_in_order_and_short_ones_filled_up() {
    let mut card = started();
    for number in 0..4 {
        transmit(&mut card, number, &frame(50 + number as usize * 20, number as u8));
        assert_eq!(card.get(0x10 + 4 * number, 4) as u32 & (tsd::OWN | tsd::OK), tsd::OWN | tsd::OK);
    }
    transmit(&mut card, 0, &frame(FRAME_MAX, 9));
    let sent = card.world.frames.sent();
    assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), [60, 70, 90, 110, FRAME_MAX]);
    assert_eq!((&sent[0][..50], &sent[0][50..]), (&frame(50, 0)[..], &[0; 10][..]));
    assert_eq!(card.interrupts(), isr::TRANSMIT_OK);
    card.put(0x3e, 2, isr::TRANSMIT_OK.into());
    assert_eq!(card.outputs().levels, 0);
    assert_eq!(card.get(0x60, 2), 0xf00f);
}

#[test]
fn frames_wait_while_the_network_takes_none() {
    let mut card = started();
    card.world.frames.set_stalled(true);
    for round in 0..device::FRAME_SLOTS as u64 {
        transmit(&mut card, round % 4, &frame(60, 0));
    }
    transmit(&mut card, 0, &frame(61, 0));
    assert_eq!(card.get(0x10, 4) as u32 & tsd::OWN, 0);
    card.world.frames.set_stalled(false);
    card.scan();
    assert_eq!(card.get(0x10, 4) as u32 & tsd::OWN, tsd::OWN);
}

#[test]
fn frames_lie_in_the_buffer_with_status_length_and_checksum() {
    let mut card = started();
    card.arrive(&frame_to(US, 42));
    card.arrive(&frame_to([0xff; 6], 1514));
    assert_eq!((card.interrupts(), card.outputs().levels), (isr::RECEIVE_OK, 1));
    let seen = packets(&mut card);
    let mut short = frame_to(US, 42);
    short.resize(60, 0);
    assert_eq!(seen, [(0x4001, short), (0x2001, frame_to([0xff; 6], 1514))]);
}

#[test]
fn packets_go_round_the_buffer_whatever_their_length() {
    let mut card = started();
    for round in 0..200 {
        let sent = frame_to(US, 60 + round * 7 % 1459);
        card.arrive(&sent);
        assert_eq!(packets(&mut card), [(0x4001, sent)], "round {round}");
    }
}

#[test]
fn packet_at_the_end_is_written_on_behind_the_buffer_where_the_driver_has_it_so() {
    let mut card = started();
    card.put(0x44, 4, 0x8a);
    // 5 packets of 1520 bytes, and one that begins 7600 bytes into 8192.
    for _ in 0..5 {
        card.arrive(&frame_to(US, 1512));
        card.put(0x38, 2, card.outputs().levels.into());
        let next = card.get(0x3a, 2).wrapping_sub(16) & 0xffff;
        card.put(0x38, 2, next);
    }
    card.arrive(&frame_to(US, 1514));
    assert_eq!(card.bytes(BUFFER + 7604, 1514), frame_to(US, 1514));
    assert_eq!(card.get(0x3a, 2), (7600 + 1524) % 8192);
}

#[test]
fn frames_wait_outside_while_the_buffer_is_full() {
    let mut card = started();
    for _ in 0..10 {
        card.arrive(&frame_to(US, 1514));
    }
    assert!(card.world.frames.waiting() > 0);
    let mut all = packets(&mut card).len();
    all += packets(&mut card).len();
    assert_eq!((all, card.world.frames.waiting()), (10, 0));
}

#[test]
fn driver_that_leaves_a_full_buffer_is_told_until_nothing_waits() {
    let mut card = started();
    for _ in 0..10 {
        card.arrive(&frame_to(US, 1514));
    }
    for _ in 0..3 {
        card.put(0x3e, 2, 0xffff);
        card.scan();
        assert_eq!((card.interrupts(), card.outputs().levels), (isr::RECEIVE_OVERFLOW, 1));
    }
    let mut all = packets(&mut card).len();
    card.put(0x3e, 2, 0xffff);
    card.scan();
    all += packets(&mut card).len();
    assert_eq!((all, card.world.frames.waiting()), (10, 0));
    card.put(0x3e, 2, 0xffff);
    card.scan();
    assert_eq!(card.interrupts(), 0);
}

#[test]
fn filters_let_through_what_they_say() {
    let group = [0x01, 0x00, 0x5e, 0x00, 0x00, 0x01];
    let other = [2, 0, 0, 0, 0, 8];
    let seen = |config: u64, to| {
        let mut card = started();
        card.put(0x44, 4, config);
        card.put(0x08, 4, 1 << 31);
        card.put(0x0c, 4, 0);
        card.arrive(&frame_to(to, 60));
        packets(&mut card).first().map(|(status, _)| *status)
    };
    for (config, us, all, many, another) in [
        (0x00, None, None, None, None),
        (0x01, Some(0x4001), Some(0x2001), Some(0x8001), Some(0x0001)),
        (0x02, Some(0x4001), None, None, None),
        (0x04, None, None, Some(0x8001), None),
        (0x08, None, Some(0x2001), None, None),
    ] {
        let found = [seen(config, US), seen(config, [0xff; 6]), seen(config, group), seen(config, other)];
        assert_eq!(found, [us, all, many, another], "{config:#x}");
    }
    let mut card = started();
    card.put(0x44, 4, 0x04);
    card.put(0x08, 4, 0x7fff_ffff);
    card.put(0x0c, 4, 0xffff_ffff);
    card.arrive(&frame_to(group, 60));
    assert!(packets(&mut card).is_empty(), "its bit alone is not set");
}

#[test]
fn what_is_sent_in_loopback_is_received() {
    let mut card = started();
    card.put(0x40, 4, 0x0006_0000);
    transmit(&mut card, 0, &frame_to(US, 100));
    assert_eq!(packets(&mut card), [(0x4001, frame_to(US, 100))]);
    assert!(card.world.frames.sent().is_empty());
}

#[test]
fn registers_answer_at_every_width_and_in_both_ranges() {
    let mut card = started();
    card.put(0x08, 4, 0x1122_3344);
    card.put(0x0c, 4, 0x5566_7788);
    assert_eq!(card.get(0x08, 8), 0x5566_7788_1122_3344);
    assert_eq!((card.get(0x09, 1), card.get(0x0b, 2), card.get(0x0a, 4)), (0x33, 0x8811, 0x7788_1122));
    card.put(0x0b, 2, 0xaabb);
    assert_eq!(card.get(0x08, 8), 0x5566_77aa_bb22_3344);
    assert_eq!(card.get(0x3e, 4), 0);
    assert_eq!(card.get(0xfc, 4), 0);
    assert_eq!(card.get(0x00, 8), 0x0700_0000_0002);
}

#[test]
fn configuration_is_locked_but_for_its_last_register_and_the_address() {
    let mut card = Card::<false>::new();
    let before = card.get(0, 8);
    card.put(0x52, 1, 0xff);
    card.put(0x62, 2, 0x0000);
    assert_eq!((card.get(0x52, 1), card.get(0x62, 2)), (0x0c, 0x3100));
    card.put(0, 4, 0x1234_5678);
    card.put(0xd8, 1, 0xff);
    assert_eq!((card.get(0, 4), card.get(0xd8, 1)), (0x1234_5678, 0x7f));
    card.put(0x50, 1, 0xc0);
    card.put(0x52, 1, 0x20);
    card.put(0x62, 2, 0x2000);
    assert_eq!((card.get(0x52, 1), card.get(0x62, 2)), (0x2c, 0x2000));
    card.put(0x50, 1, 0x40);
    assert_eq!((card.get(0, 8), card.get(0x50, 1)), (before, 0), "the EEPROM's address is loaded anew");
}

#[test]
fn reset_of_the_link_brings_back_what_was_advertised() {
    let mut card = Card::<false>::new();
    card.put(0x66, 2, 0x0021);
    card.put(0x62, 2, 0x8000);
    assert_eq!((card.get(0x62, 2), card.get(0x66, 2)), (0x3100, 0x01e1));
}

#[test]
fn how_it_sends_is_set_while_the_transmitter_is_on() {
    let mut card = Card::<false>::new();
    let version = card.get(0x40, 4);
    card.put(0x40, 4, 0x0300_0700);
    assert_eq!(card.get(0x40, 4), version);
    card.put(0x37, 1, cr::TRANSMIT.into());
    card.put(0x40, 4, 0x0300_0700);
    assert_eq!(card.get(0x40, 4), version | 0x0300_0700);
}

#[test]
fn software_reset_keeps_address_filter_and_configuration() {
    let mut card = started();
    card.put(0x08, 4, 77);
    transmit(&mut card, 0, &frame(60, 0));
    card.put(0x37, 1, 0x10);
    assert_eq!((card.get(0x37, 1), card.get(0x3c, 4), card.get(0x44, 4)), (1, 0, 0));
    assert_eq!((card.get(0x10, 4), card.get(0x38, 4)), (0x2000, 0xfff0));
    assert_eq!((card.get(0, 8), card.get(0x08, 4)), (0x0700_0000_0002, 77));
    // It goes on where the frames are, and with the first descriptor.
    card.put(0x37, 1, 0x0c);
    transmit(&mut card, 0, &frame(70, 0));
    assert_eq!(card.world.frames.sent().len(), 2);
}

#[test]
fn timer_counts_the_pci_clock_and_interrupts_each_time_round() {
    let mut card = started();
    card.now = 1_000_000;
    card.put(0x48, 4, 5);
    assert_eq!(card.get(0x48, 4), 0);
    card.put(0x54, 4, 33_000);
    assert_eq!(card.outputs().deadline, Some(2_000_000));
    card.pass_until(1_999_999);
    assert_eq!(card.interrupts(), 0);
    card.pass_until(2_000_000);
    assert_eq!((card.get(0x48, 4), card.interrupts()), (33_000, isr::TIMEOUT));
    assert_eq!(card.outputs().deadline, Some(2_000_000 + CLOCK_WRAP_NS));
    card.put(0x54, 4, 0);
    assert_eq!(card.outputs().deadline, None);
}

#[test]
fn revision_tells_the_two_cards_apart_and_only_one_has_rings() {
    let mut plain = Card::<false>::new();
    plain.put(0xe0, 2, 3);
    plain.put(0xd9, 1, 0x40);
    plain.put(0xe4, 4, 0x1000);
    assert_eq!((plain.get(0xe0, 2), plain.get(0xd9, 1), plain.get(0xe4, 4)), (0, 0, 0));
    assert_eq!((plain.get(0x5e, 1), plain.get(0x40, 4) & 0x7cc0_0000), (0x10, 0x7400_0000));
    let mut cplus = Card::<true>::new();
    cplus.put(0xe0, 2, 3);
    assert_eq!((cplus.get(0xe0, 2), cplus.get(0x5e, 1)), (3, 0x20));
    assert_eq!(cplus.get(0x40, 4) & 0x7cc0_0000, 0x7480_0000);
    for (options, revision) in [(Options::default(), 0x10), (Options::new([("cplus", "on")]), 0x20)] {
        assert_eq!(Rtl8139::manifest(&options).unwrap().pci.unwrap().revision, revision);
    }
}

/// A C+ whose driver has 4 receive descriptors of 100 bytes and 4 transmit descriptors.
fn started_cplus() -> Card<true> {
    let mut card = Card::<true>::new();
    card.put(0xe0, 2, 3);
    card.put(0x20, 4, TRANSMIT_RING);
    card.put(0x24, 4, 0);
    card.put(0xe4, 4, RECEIVE_RING);
    card.put(0xe8, 4, 0);
    card.put(0x44, 4, 0x0a);
    card.put(0x37, 1, 0x0c);
    card.put(0x3c, 2, 0xffff);
    for number in 0..4 {
        give(&card, number, 100);
        describe(&card, TRANSMIT_RING, number, 0, 0, 0);
    }
    card
}

fn describe(card: &Card<true>, ring: u64, number: u64, flags: u32, vlan: u32, address: u64) {
    let end = if number == 3 { ring::END_OF_RING } else { 0 };
    let words = u128::from(flags | end) | u128::from(vlan) << 32 | u128::from(address) << 64;
    card.set_bytes(ring + 16 * number, &words.to_le_bytes());
}

/// A receive descriptor is the card's.
fn give(card: &Card<true>, number: u64, bytes: u32) {
    describe(card, RECEIVE_RING, number, ring::OWN | bytes, 0, PIECES + 0x1000 * number);
}

fn flags(card: &Card<true>, ring: u64, number: u64) -> u32 {
    card.word(ring + 16 * number)
}

#[test]
fn rings_outside_memory_and_buffers_outside_memory_are_errors_and_no_more() {
    let mut card = started_cplus();
    card.put(0x20, 4, MEMORY_BYTES as u64 - 8);
    card.put(0xd9, 1, 0x40);
    assert_eq!((card.get(0xd9, 1), card.interrupts()), (0, isr::NO_TRANSMIT_DESCRIPTOR));
    card.put(0x20, 4, TRANSMIT_RING);
    let whole = ring::OWN | ring::FIRST | ring::LAST | 60;
    describe(&card, TRANSMIT_RING, 0, whole, 0, u64::MAX - 3);
    card.put(0xd9, 1, 0x40);
    assert_eq!(flags(&card, TRANSMIT_RING, 0), ring::FIRST | ring::LAST | 1 << 23);
    describe(&card, RECEIVE_RING, 0, ring::OWN | 100, 0, u64::MAX - 3);
    card.arrive(&frame_to(US, 60));
    assert!(card.interrupts() & isr::SYSTEM_ERROR != 0);
    assert!(card.world.frames.sent().is_empty());
}

#[test]
fn rings_that_go_round_without_an_end_are_left() {
    let mut card = started_cplus();
    for number in 0..4 {
        describe(&card, TRANSMIT_RING, number, ring::OWN | 20, 0, FRAME);
        give(&card, number, 0);
    }
    card.put(0xd9, 1, 0x40);
    assert_eq!(card.get(0xd9, 1), 0);
    card.arrive(&frame_to(US, 60));
    assert_eq!(card.world.frames.waiting(), 1);
}

#[test]
fn frame_in_pieces_is_sent_as_one_and_its_descriptors_come_back() {
    let mut card = started_cplus();
    let sent = frame(150, 3);
    for (number, (piece, flag)) in
        (0..).zip([(&sent[..50], ring::FIRST), (&sent[50..110], 0), (&sent[110..], ring::LAST)])
    {
        card.set_bytes(PIECES + 0x1_0000 + 0x1000 * number, piece);
        let flags = ring::OWN | flag | piece.len() as u32;
        describe(&card, TRANSMIT_RING, number, flags, 0, PIECES + 0x1_0000 + 0x1000 * number);
    }
    card.put(0xd9, 1, 0x40);
    assert_eq!(card.world.frames.sent(), [sent]);
    let found = [0, 1, 2].map(|number| flags(&card, TRANSMIT_RING, number));
    assert_eq!(found, [ring::FIRST, 0, ring::LAST]);
    assert_eq!(card.interrupts(), isr::TRANSMIT_OK | isr::NO_TRANSMIT_DESCRIPTOR);
    // The next one is behind them, and the ring's end is kept.
    card.set_bytes(FRAME, &frame(60, 4));
    describe(&card, TRANSMIT_RING, 3, ring::OWN | ring::FIRST | ring::LAST | 60, 0, FRAME);
    describe(&card, TRANSMIT_RING, 0, ring::OWN | ring::FIRST | ring::LAST | 60, 0, FRAME);
    card.put(0xd9, 1, 0x40);
    assert_eq!(card.world.frames.sent().len(), 3);
    assert_eq!(flags(&card, TRANSMIT_RING, 3), ring::END_OF_RING | ring::FIRST | ring::LAST);
}

/// Gives the card a large frame, in two pieces, of which each part is to have `most` bytes of data.
fn give_large(card: &mut Card<true>, frame: &[u8], most: u32) {
    const AT: u64 = PIECES + 0x2_0000;
    card.set_bytes(AT, frame);
    let first = frame.len() as u32 / 3;
    let flags = ring::OWN | 1 << 27 | most << 16;
    describe(card, TRANSMIT_RING, 1, flags | ring::LAST | (frame.len() as u32 - first), 0, AT + u64::from(first));
    describe(card, TRANSMIT_RING, 0, flags | ring::FIRST | first, 0, AT);
    card.put(0xd9, 1, 0x40);
}

#[test]
fn large_frame_that_is_no_tcp_or_has_parts_that_no_wire_takes_is_not_sent() {
    type Spoil = fn(&mut Vec<u8>);
    let spoilt: [(Spoil, u32); 5] = [
        (|frame| frame[23] = 17, 1460),
        // Longer than a packet of IP can be.
        (|frame| frame.resize(66_000, 0), 1460),
        (|frame| frame.truncate(40), 1460),
        (|_| {}, 0),
        // Longer than any frame.
        (|_| {}, 0x7ff),
    ];
    for (spoil, most) in spoilt {
        let mut card = started_cplus();
        let mut frame = large_frame(3000);
        spoil(&mut frame);
        give_large(&mut card, &frame, most);
        assert_eq!(flags(&card, TRANSMIT_RING, 1), ring::LAST | 1 << 23);
        assert!(card.interrupts() & isr::TRANSMIT_ERROR != 0 && card.world.frames.sent().is_empty());
    }
}

#[test]
fn large_frame_is_sent_in_parts_with_headers_and_checksums_of_their_own() {
    for (data, most) in [(0, 1460), (1460, 1460), (1461, 1460), (20_000, 1460), (4000, 1448), (5, 1)] {
        let mut card = started_cplus();
        let large = large_frame(data);
        give_large(&mut card, &large, most);
        let sent = card.world.frames.sent();
        assert_eq!(sent.len(), data.div_ceil(most as usize).max(1));
        let mut seen = Vec::<u8>::new();
        for (number, part) in (0u16..).zip(&sent) {
            let total = usize::from(u16::from_be_bytes([part[16], part[17]]));
            let identification = u16::from_be_bytes([part[18], part[19]]);
            let sequence = u32::from_be_bytes([part[38], part[39], part[40], part[41]]);
            assert_eq!(
                (identification, sequence),
                (u16::MAX.wrapping_add(number), u32::MAX.wrapping_add(seen.len() as u32))
            );
            let (first, last) = (number == 0, usize::from(number) + 1 == sent.len());
            assert_eq!(part[47], 0x76 | if first { 0x80 } else { 0 } | if last { 0x09 } else { 0 });
            let mut summed = part.clone();
            checksum::fill(&mut summed, checksum::Wanted { ip: true, udp: true, tcp: true });
            assert_eq!(&summed, part);
            seen.extend(&part[54..14 + total]);
        }
        assert_eq!(seen, large[54..]);
        assert_eq!([0, 1].map(|at| flags(&card, TRANSMIT_RING, at)), [ring::FIRST, ring::LAST]);
        assert_eq!(card.interrupts() & (isr::TRANSMIT_OK | isr::TRANSMIT_ERROR), isr::TRANSMIT_OK);
    }
}

#[test]
fn large_frame_goes_on_behind_what_was_sent_when_the_process_dies() {
    let mut card = started_cplus();
    let large = large_frame(20_000);
    // The network takes some of the parts, and then no more for a while.
    card.world.frames.set_stalled(true);
    give_large(&mut card, &large, 50);
    assert_eq!(card.world.frames.sent().len(), device::FRAME_SLOTS as usize);
    assert_eq!(flags(&card, TRANSMIT_RING, 0) & ring::OWN, ring::OWN);
    card.restart();
    card.world.frames.set_stalled(false);
    card.scan();
    let seen = card.world.frames.sent().iter().map(|part| part[54..].to_vec()).collect::<Vec<_>>();
    assert_eq!(seen.concat(), large[54..]);
}

#[test]
fn tag_of_a_vlan_is_put_in() {
    let mut card = started_cplus();
    card.set_bytes(FRAME, &frame(60, 4));
    let whole = ring::OWN | ring::FIRST | ring::LAST | 60;
    describe(&card, TRANSMIT_RING, 0, whole, 1 << 17 | 0x3412, FRAME);
    card.put(0xd9, 1, 0x40);
    let sent = card.world.frames.sent().remove(0);
    assert_eq!(
        (&sent[..12], &sent[12..16], &sent[16..]),
        (&frame(60, 4)[..12], &[0x81, 0, 0x12, 0x34][..], &frame(60, 4)[12..])
    );
}

#[test]
fn frame_fills_as_many_receive_descriptors_as_it_takes() {
    let mut card = started_cplus();
    let seen = frame_to(US, 250);
    card.arrive(&seen);
    let found = [0, 1, 2, 3].map(|number| flags(&card, RECEIVE_RING, number));
    assert_eq!(found, [ring::FIRST, 0, ring::LAST | 1 << 25 | 254, ring::OWN | ring::END_OF_RING | 100]);
    let pieces = [0, 1, 2].map(|number| card.bytes(PIECES + 0x1000 * number, 100)).concat();
    assert_eq!(pieces[..250], seen);
    assert_eq!(card.interrupts(), isr::RECEIVE_OK);
}

#[test]
fn frame_without_descriptors_waits_and_the_driver_is_told_once() {
    let mut card = started_cplus();
    for _ in 0..5 {
        card.arrive(&frame_to(US, 60));
    }
    assert_eq!((card.world.frames.waiting(), card.interrupts()), (1, isr::RECEIVE_OK | isr::RECEIVE_OVERFLOW));
    card.put(0x3e, 2, 0xffff);
    card.scan();
    assert_eq!(card.interrupts(), 0);
    give(&card, 0, 100);
    card.scan();
    assert_eq!((card.world.frames.waiting(), card.interrupts()), (0, isr::RECEIVE_OK));
    assert_eq!(flags(&card, RECEIVE_RING, 0), ring::FIRST | ring::LAST | 1 << 25 | 64);
}

#[test]
fn descriptors_come_back_once_whenever_the_process_dies() {
    let mut card = started_cplus();
    card.arrive(&frame_to(US, 60));
    assert_eq!(flags(&card, RECEIVE_RING, 0) & ring::OWN, 0);
    // The driver has given it anew, into another buffer: a new incarnation does not take it for the old one.
    describe(&card, RECEIVE_RING, 0, ring::OWN | 100, 0, PIECES + 0x9000);
    card.restart();
    assert_eq!(flags(&card, RECEIVE_RING, 0), ring::OWN | 100);
}

#[test]
fn counters_are_dumped_where_they_are_wanted() {
    let mut card = started_cplus();
    card.arrive(&frame_to(US, 60));
    card.arrive(&frame_to([0xff; 6], 60));
    card.put(0x14, 4, 0);
    card.put(0x10, 4, FRAME | 8);
    assert_eq!(card.get(0x10, 8), FRAME);
    let dumped = card.bytes(FRAME, 64);
    assert_eq!((dumped[0x08], dumped[0x28], dumped[0x30]), (2, 1, 1));
}

#[test]
fn it_wishes_for_nothing_but_memory_and_frames() {
    let manifest = Rtl8139::manifest(&Options::default()).unwrap();
    assert_eq!(manifest.wishes.iter().map(|wish| wish.power).collect::<Vec<_>>(), [Power::Memory, Power::Frames]);
}
