//! What a bad driver makes.

use super::*;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// Lets `mischief` happen on a running device, and expects that it asks for a reset because of `why`.
fn expect(why: Broken, mischief: impl Fn(&Guest<Echo>)) {
    for deaths in Deaths::ALL {
        for vectors in [true, false] {
            let mut guest = started(EVENT_INDEX, vectors);
            guest.set_bytes(IN, b"good");
            guest.submit(5, &pair(4));
            guest.deaths = deaths;
            mischief(&guest);
            guest.ring();
            if deaths == Deaths::Never {
                assert_eq!(guest.device.broken(), Some(why));
                assert!(guest.rung(0) == u64::from(vectors));
            }
            assert_eq!(guest.status(), 0xf | NEEDS_RESET, "{why:?}");
            assert_eq!(guest.level(), !vectors);
            assert_eq!(guest.load(0x1000, 1) & 2, 2, "the interrupt status tells of the configuration");

            // Nothing more is done until the reset, and after it all is well.
            let state = guest.state;
            guest.offer(5);
            guest.ring();
            assert_eq!(guest.state, state);
            guest.deaths = Deaths::Never;
            guest.start(0, 8, true);
            guest.submit(5, &pair(4));
            guest.ring();
            assert_eq!(guest.used(), [(5, 4)]);
        }
    }
}

#[test]
fn an_index_too_far_ahead() {
    expect(Broken::Index, |guest| guest.set_word(AVAIL + 2, 9));
    expect(Broken::Index, |guest| guest.set_word(AVAIL + 2, 0xffff));
}

#[test]
fn a_head_that_does_not_exist() {
    expect(Broken::Endless, |guest| guest.offer(8));
    expect(Broken::Endless, |guest| guest.offer(0xffff));
}

#[test]
fn a_next_that_does_not_exist() {
    expect(Broken::Endless, |guest| {
        guest.submit(0, &pair(1));
        guest.describe(0, IN, 1, NEXT, 8);
    });
}

#[test]
fn a_chain_that_goes_round_in_circles() {
    expect(Broken::Endless, |guest| {
        guest.describe(0, IN, 1, NEXT, 1);
        guest.describe(1, IN, 1, NEXT, 0);
        guest.offer(0);
    });
    expect(Broken::Endless, |guest| {
        guest.describe(0, IN, 1, NEXT, 0);
        guest.offer(0);
    });
}

#[test]
fn an_indirect_table_that_goes_round_in_circles() {
    expect(Broken::Long, |guest| {
        guest.describe_at(0x7_0000, IN, 1, NEXT, 0);
        guest.describe(0, 0x7_0000, 16 * 60_000, INDIRECT, 0);
        guest.offer(0);
    });
}

#[test]
fn an_indirect_table_of_no_or_half_descriptors_or_too_many() {
    for bytes in [0, 8, 24, 16 << 16, 0xffff_fff0] {
        expect(Broken::Endless, |guest| {
            guest.describe(0, 0x7_0000, bytes, INDIRECT, 0);
            guest.offer(0);
        });
    }
}

#[test]
fn an_indirect_table_in_an_indirect_table() {
    expect(Broken::Endless, |guest| {
        guest.describe_at(0x7_0000, 0x7_0000, 16, INDIRECT, 0);
        guest.describe(0, 0x7_0000, 16, INDIRECT, 0);
        guest.offer(0);
    });
}

#[test]
fn an_indirect_table_outside_memory() {
    for address in [MEMORY_BYTES, MEMORY_BYTES - 8, u64::MAX - 3, 1 << 63] {
        expect(Broken::Endless, |guest| {
            guest.describe(0, address, 16, INDIRECT, 0);
            guest.offer(0);
        });
    }
}

#[test]
fn a_chain_with_too_many_buffers() {
    expect(Broken::Long, |guest| {
        let chain = [Buffer::readable(IN, 1); SEGMENTS_MAX + 1];
        guest.submit_indirect(0, 0x7_0000, &chain);
    });
}

#[test]
fn a_readable_buffer_after_a_writable_one() {
    expect(Broken::Order, |guest| {
        guest.submit(0, &[Buffer::readable(IN, 1), Buffer::writable(OUT, 1), Buffer::readable(IN, 1)]);
    });
}

#[test]
fn a_buffer_outside_memory() {
    for (address, bytes) in
        [(MEMORY_BYTES, 1), (MEMORY_BYTES - 1, 2), (u64::MAX, 1), (u64::MAX, u32::MAX), (0, u32::MAX)]
    {
        for flags in [0, WRITE] {
            expect(Broken::Outside, |guest| {
                guest.describe(0, address, bytes, flags, 0);
                guest.offer(0);
            });
        }
    }
}
