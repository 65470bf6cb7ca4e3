//! The virtio library, with a device that copies what it may read to where it may write.

use super::chain::{INDIRECT, NEXT, WRITE};
use super::guest::{AVAIL, Buffer, DESC, Deaths, Guest, MEMORY_BYTES, SEAM, USED};
use super::state::{EVENT_INDEX, NEEDS_RESET, VERSION_1};
use super::*;
use crate::{Access, Class, Device, NoRegister, Options, Plain, Powers, Refusal};
use std::cell::Cell;

const OFFER: u64 = 1 << 3 | 1 << 7;
const IN: u64 = 0x8_0000;
const OUT: u64 = 0x9_0000;
const TABLE: u64 = 0x7_0000;
/// Bytes that are copied for one chain at most.
const COPY_MAX: usize = 4096;

thread_local! {
    /// Chains served, by whichever incarnation.
    static SERVED: Cell<u64> = const { Cell::new(0) };
}

struct Echo;

impl Backend for Echo {
    const QUEUES: &'static [u16] = &[256, 64];

    fn function(_: &Options) -> Result<Function, Refusal> {
        Ok(Function {
            name: "echo",
            summary: "Copies",
            class: Class::System,
            number: 42,
            pci_class: 0xff_00_00,
            config_bytes: 8,
            memory_because: "its queue lies there",
            wishes: Vec::new(),
        })
    }
    fn attach(_: &Options, _: &mut Powers) -> Result<Echo, Refusal> {
        Ok(Echo)
    }
    fn features(&self) -> u64 {
        OFFER
    }
    fn config(&self) -> &[u8] {
        &[1, 2, 3, 4, 5, 6, 7, 8]
    }
    fn serve(&mut self, request: Request<'_>) -> Result<Served, Broken> {
        SERVED.set(SERVED.get() + 1);
        let Chain { readable, writable } = request.chain;
        let mut data = [0; COPY_MAX];
        let count = readable.read(&mut data);
        let written = writable.write(&data[..count]);
        Ok(Served { written: written as u32, work: readable.bytes() + writable.bytes() })
    }
}

fn started(features: u64, size: u16, vectors: bool) -> Guest<Echo> {
    let mut guest = Guest::new(|_| ());
    guest.start(features, size, vectors);
    guest
}

fn pair(bytes: u32) -> [Buffer; 2] {
    [(IN, bytes, false), (OUT, bytes, true)]
}

/// Chance that is the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8) % bound
    }
}

/// What a bad driver does.
type Mischief = fn(&Guest<Echo>);

/// Lets `mischief` happen on a running device, and expects that it asks for a reset because of `why`.
fn expect(why: Broken, mischief: impl Fn(&Guest<Echo>)) {
    for deaths in Deaths::ALL {
        for vectors in [true, false] {
            let mut guest = started(EVENT_INDEX, 8, vectors);
            let before = guest.rung(0);
            guest.submit(0, 5, &pair(4));
            guest.deaths = deaths;
            mischief(&guest);
            guest.ring();
            if deaths == Deaths::Never {
                assert_eq!((guest.device.broken(), guest.rung(0) - before), (Some(why), vectors.into()));
            }
            assert_eq!(guest.status(), u64::from(0xf | NEEDS_RESET));
            assert_eq!(guest.level(), !vectors);
            assert_eq!(guest.load(0x1000, 1) & 2, 2, "the interrupt status tells of the configuration");
            // Nothing more is done until the reset, and after it all is well.
            let state = guest.state.clone();
            guest.offer(0, 5);
            guest.ring();
            assert_eq!(guest.state, state);
            guest.deaths = Deaths::Never;
            guest.start(0, 8, true);
            guest.submit(0, 5, &pair(4));
            guest.ring();
            assert_eq!(guest.used(0), [(5, 4)]);
        }
    }
}

#[test]
fn an_index_too_far_ahead_needs_a_reset() {
    for index in [9, 0xffff] {
        expect(Broken::Index, |guest| guest.set_word(AVAIL + 2, index));
    }
}

#[test]
fn a_chain_that_does_not_exist_or_end_needs_a_reset() {
    for head in [8, 0xffff] {
        expect(Broken::Endless, |guest| guest.offer(0, head));
    }
    let broken: [Mischief; 3] = [
        |guest| guest.describe(DESC, IN, 1, NEXT, 8),
        |guest| {
            guest.describe(DESC, IN, 1, NEXT, 1);
            guest.describe(DESC + 16, IN, 1, NEXT, 0);
        },
        |guest| {
            guest.describe(TABLE, TABLE, 16, INDIRECT, 0);
            guest.describe(DESC, TABLE, 16, INDIRECT, 0);
        },
    ];
    for mischief in broken {
        expect(Broken::Endless, |guest| {
            mischief(guest);
            guest.offer(0, 0);
        });
    }
}

#[test]
fn an_indirect_table_of_no_or_half_descriptors_or_too_many_or_outside_memory_needs_a_reset() {
    let sizes = [0, 8, 24, 16 << 16, 0xffff_fff0].map(|bytes| (TABLE, bytes));
    let places = [MEMORY_BYTES, MEMORY_BYTES - 8, u64::MAX - 3, 1 << 63].map(|address| (address, 16));
    for (address, bytes) in sizes.into_iter().chain(places) {
        expect(Broken::Endless, |guest| {
            guest.describe(DESC, address, bytes, INDIRECT, 0);
            guest.offer(0, 0);
        });
    }
}

#[test]
fn a_chain_with_too_many_buffers_needs_a_reset() {
    let chain = vec![(IN, 1, false); SEGMENTS_MAX + 1];
    expect(Broken::Long, |guest| guest.submit_indirect(0, TABLE, &chain));
    expect(Broken::Long, |guest| {
        guest.describe(TABLE, IN, 1, NEXT, 0);
        guest.describe(DESC, TABLE, 16 * 60_000, INDIRECT, 0);
        guest.offer(0, 0);
    });
}

#[test]
fn a_readable_buffer_after_a_writable_one_needs_a_reset() {
    expect(Broken::Order, |guest| guest.submit(0, 0, &[(IN, 1, false), (OUT, 1, true), (IN, 1, false)]));
}

#[test]
fn a_buffer_outside_memory_needs_a_reset() {
    let far = u64::MAX;
    for (address, bytes) in [(MEMORY_BYTES, 1), (MEMORY_BYTES - 1, 2), (far, 1), (far, 1 << 31), (0, u32::MAX)] {
        for flags in [0, WRITE] {
            expect(Broken::Outside, |guest| {
                guest.describe(DESC, address, bytes, flags, 0);
                guest.offer(0, 0);
            });
        }
    }
}

#[test]
fn random_rings_never_panic_and_end() {
    let mut chance = Chance(42);
    let mut guest = started(0, 8, true);
    let before = SERVED.get();
    for turn in 0..6_000 {
        if turn % 8 == 0 || guest.status() != 0xf {
            guest.start(chance.below(2) * EVENT_INDEX, 8, chance.below(2) == 0);
        }
        for _ in 0..chance.below(8) {
            let at = if chance.below(2) == 0 { DESC } else { TABLE } + 16 * chance.below(8);
            let address = match chance.below(5) {
                0 => chance.below(u64::MAX),
                1 => chance.below(MEMORY_BYTES + 64),
                2 => DESC + chance.below(0x1_0000),
                3 => USED + chance.below(64),
                _ => TABLE + chance.below(256),
            };
            let bytes = [chance.below(1 << 32), 16 * chance.below(8), chance.below(2000)][chance.below(3) as usize];
            guest.describe(at, address, bytes as u32, chance.below(8) as u16, chance.below(10) as u16);
        }
        for _ in 0..chance.below(4) {
            guest.offer(0, chance.below(9) as u16);
        }
        if chance.below(16) == 0 {
            guest.set_bytes(AVAIL + chance.below(24), &[chance.below(256) as u8]);
        }
        let served = SERVED.get();
        guest.scan();
        assert!(SERVED.get() - served <= CHAINS_PER_SCAN.into());
    }
    assert!(SERVED.get() - before > 500, "the test gets somewhere");
}

#[test]
fn an_access_where_there_is_nothing_is_refused() {
    let mut guest = Guest::<Echo>::new(|_| ());
    let mut state = guest.state.clone();
    for offset in [0x3c, 0xfff, 0x1001, 0x1fff, 0x2008, 0x3001, 0x3008, 0x3fff] {
        let at = Access { range: 0, offset, width: 1, now: 0 };
        assert_eq!(guest.device.read(&mut state, at), Err(NoRegister), "{offset:#x}");
        assert_eq!(guest.device.write(&mut state, at, 0), Err(NoRegister), "{offset:#x}");
    }
    assert_eq!(state, guest.state);
}

#[test]
fn a_queue_that_does_not_lie_in_memory_is_not_enabled_and_needs_a_reset() {
    let mut bad = vec![(0, DESC + 8), (1, AVAIL + 1), (2, USED + 2), (1, 0), (0, MEMORY_BYTES - 16)];
    for far in [MEMORY_BYTES, u64::MAX - 15, 1 << 63] {
        bad.extend((0..3).map(|part| (part, far)));
    }
    for (part, address) in bad {
        let mut guest = Guest::<Echo>::new(|_| ());
        let mut parts = [DESC, AVAIL, USED];
        parts[part] = address;
        for (register, value) in [0x20, 0x28, 0x30].into_iter().zip(parts) {
            guest.store(register, 8, value);
        }
        guest.store(0x1c, 2, 1);
        assert_eq!(guest.load(0x1c, 2), 0, "{parts:x?}");
        assert_eq!((guest.status(), guest.device.broken()), (NEEDS_RESET.into(), Some(Broken::Queue)));
        assert!(!guest.level(), "no driver is there to be told");
    }
}

#[test]
fn a_driver_must_want_version_1_and_nothing_that_is_not_offered() {
    let cases = [(VERSION_1 | OFFER, true), (OFFER, false), (VERSION_1 | 1 << 4, false), (1 << 40, false)];
    for (features, accepted) in cases {
        let mut guest = Guest::<Echo>::new(|_| ());
        guest.store(0x14, 1, 3);
        for half in [0, 1] {
            guest.store(0x08, 4, half);
            guest.store(0x0c, 4, features >> (32 * half) & u64::from(u32::MAX));
        }
        guest.store(0x14, 1, 0xb);
        assert_eq!(guest.status() & 8 != 0, accepted, "{features:#x}");
    }
}

#[test]
fn an_access_of_any_width_and_place_sees_the_same_bytes() {
    let mut guest = started(OFFER, 8, true);
    let whole: Vec<u8> = (0..0x3c).map(|offset| guest.load(offset, 1) as u8).collect();
    for width in [2, 4, 8] {
        for offset in 0..=0x3c - width {
            let bytes = guest.load(offset as u64, width as u8).to_le_bytes();
            assert_eq!(bytes[..width], whole[offset..offset + width], "{width} at {offset:#x}");
        }
    }
    assert_eq!(guest.load(0x39, 4), 0xffff_ffff, "an access across the end is no register");
    assert_eq!(guest.load(0x2000, 8), 0x0807_0605_0403_0201);
}

#[test]
fn the_configuration_of_an_enabled_queue_is_fixed_until_a_reset() {
    let mut guest = started(0, 8, true);
    guest.store(0x16, 2, 0);
    for (register, width) in [(0x18, 2), (0x20, 8), (0x28, 8), (0x30, 8), (0x1c, 2)] {
        let before = guest.load(register, width);
        guest.store(register, width, 0x40);
        guest.store(register, width, 0);
        assert_eq!(guest.load(register, width), before, "{register:#x}");
    }
    guest.store(0x14, 1, 0);
    assert_eq!((guest.load(0x20, 8), guest.load(0x1c, 2), guest.load(0x18, 2)), (0, 0, 256));
}

#[test]
fn chains_are_served_in_order_and_told_of_whenever_the_process_dies() {
    for deaths in Deaths::ALL {
        let mut guest = started(EVENT_INDEX, 8, true);
        let before = guest.rung(1);
        guest.deaths = deaths;
        guest.set_bytes(IN, b"hello");
        guest.submit(0, 2, &pair(5));
        guest.submit(0, 6, &[(IN, 2, false), (OUT + 0x100, 1, true)]);
        guest.notify(0);
        assert_eq!(guest.used(0), [(2, 5), (6, 1)], "{deaths:?}");
        assert_eq!((guest.bytes(OUT, 6), guest.bytes(OUT + 0x100, 2)), (b"hello\0".to_vec(), b"h\0".to_vec()));
        assert_eq!(guest.rung(1) - before == 1, deaths == Deaths::Never, "{deaths:?}");
        assert!(!guest.level() && guest.doorbells.get() > 0);
    }
}

#[test]
fn a_used_entry_is_not_shown_before_it_is_committed() {
    let mut guest = started(0, 8, true);
    let before = guest.rung(1);
    guest.submit(0, 0, &pair(4));
    let mut working = guest.state.clone();
    assert!(guest.device.scan(&mut working, 0));
    assert_eq!((guest.used(0), guest.rung(1)), (vec![], before));
    guest.device.settle(&working);
    assert_eq!(guest.used(0), [(0, 4)]);
    assert_eq!(guest.rung(1), before, "whether to notify is asked only now");
    guest.state = working;
    guest.ring();
    assert_eq!(guest.rung(1), before + 1);
}

#[test]
fn positions_wrap_around_and_the_driver_is_notified_when_it_asked_for_it() {
    let mut guest = started(EVENT_INDEX, 8, true);
    let almost = 0xfff0_u16;
    let ring = &mut guest.state.queues[0];
    (ring.next_avail, ring.next_used, ring.decided) = (almost, almost, almost);
    guest.set_word(AVAIL + 2, almost);
    guest.set_word(USED + 2, almost);
    guest.kill();
    for turn in 0..40 {
        let (now, before) = (almost.wrapping_add(turn), guest.rung(1));
        let asks = turn % 3 != 0;
        // An event index that was passed already asks for nothing.
        guest.set_word(AVAIL + 4 + 8 * 2, if asks { now } else { now.wrapping_sub(1) });
        guest.submit(0, turn % 3 * 2, &pair(5));
        guest.ring();
        assert_eq!(guest.word(USED + 2), now.wrapping_add(1));
        assert_eq!(guest.rung(1) - before, asks.into(), "{turn}");
    }
    assert_eq!(guest.word(USED + 4 + 8 * 8), almost.wrapping_add(40));
}

#[test]
fn without_the_event_index_a_flag_keeps_the_device_silent() {
    let mut guest = started(0, 8, true);
    for (flag, rung) in [(1, 0), (0, 1)] {
        let before = guest.rung(1);
        guest.set_word(AVAIL, flag);
        guest.submit(0, 0, &pair(1));
        guest.ring();
        assert_eq!(guest.rung(1) - before, rung);
    }
}

#[test]
fn a_queue_without_a_vector_drives_the_pin_until_its_status_is_read() {
    for deaths in Deaths::ALL {
        let mut guest = started(EVENT_INDEX, 8, false);
        guest.deaths = deaths;
        guest.submit(0, 0, &pair(1));
        guest.ring();
        assert!(guest.level(), "{deaths:?}");
        assert_eq!(guest.load(0x1000, 1), 1);
        assert!(!guest.level());
    }
}

#[test]
fn a_scan_does_a_bounded_amount_of_work() {
    let mut guest = started(0, 256, true);
    for head in (0..256).step_by(2) {
        guest.submit(0, head, &pair(1));
    }
    let before = SERVED.get();
    guest.scan();
    assert_eq!(SERVED.get() - before, CHAINS_PER_SCAN.into());
    guest.ring();
    assert_eq!(guest.used(0).len(), 128);
    let mut guest = started(0, 8, true);
    for head in 0..4 {
        guest.submit(0, head, &[(0, MEMORY_BYTES as u32 / 2, true)]);
    }
    assert!(guest.scan());
    assert_eq!(guest.used(0).len(), 1);
}

#[test]
fn an_indirect_table_is_followed_and_a_buffer_may_span_two_windows() {
    for deaths in Deaths::ALL {
        let mut guest = started(0, 8, true);
        guest.deaths = deaths;
        guest.set_bytes(SEAM - 3, b"across");
        let chain = [(0, 0, false), (SEAM - 3, 6, false), (OUT, 2, true), (1 << 63, 0, true), (OUT + 8, 4, true)];
        guest.submit_indirect(7, TABLE + 3, &chain);
        guest.ring();
        assert_eq!(guest.used(0), [(7, 6)]);
        assert_eq!(guest.bytes(OUT, 12), b"ac\0\0\0\0\0\0ross");
    }
}

#[test]
fn random_state_is_refused_or_harmless() {
    let mut chance = Chance(7);
    let mut guest = started(EVENT_INDEX, 8, true);
    let mut good = vec![0; State::BYTES];
    guest.state.store(&mut good);
    let mut accepted = 0;
    for _ in 0..3_000 {
        let mut bytes = good.clone();
        for _ in 0..=chance.below(3) {
            let at = chance.below(bytes.len() as u64) as usize;
            bytes[at] = chance.below(256) as u8;
        }
        let state = State::load(&bytes);
        if guest.device.check(&state) {
            accepted += 1;
            guest.state = state;
            guest.device.settle(&guest.state);
            guest.ring();
        }
    }
    assert!(accepted > 30, "the test tries something: {accepted}");
}
