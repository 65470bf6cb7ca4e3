//! Chains that a good driver makes.

use super::*;

#[test]
fn chains_are_served_in_order_and_told_of() {
    for deaths in Deaths::ALL {
        let mut guest = started(EVENT_INDEX, true);
        guest.deaths = deaths;
        guest.set_bytes(IN, b"hello");
        guest.submit(2, &pair(5));
        guest.submit(6, &[Buffer::readable(IN, 2), Buffer::writable(OUT + 0x100, 1)]);
        guest.notify(0);
        assert_eq!(guest.used(), [(2, 5), (6, 1)], "{deaths:?}");
        assert_eq!(guest.bytes(OUT, 6), b"hello\0");
        assert_eq!(guest.bytes(OUT + 0x100, 2), b"h\0");
        assert!(guest.rung(1) >= 1);
        assert_eq!(guest.rung(1) == 1, deaths == Deaths::Never);
        assert!(!guest.level());
    }
}

#[test]
fn nothing_is_served_before_the_driver_is_ready() {
    let mut guest = started(0, true);
    guest.state.status = 0xb;
    guest.submit(0, &pair(4));
    guest.ring();
    assert_eq!(guest.used(), []);
    assert_eq!(guest.word(USED + 2), 0);
    guest.store(0x14, 1, 0xf);
    assert_eq!(guest.used(), [(0, 4)]);
}

#[test]
fn a_used_entry_is_not_shown_before_it_is_committed() {
    let mut guest = started(0, true);
    guest.submit(0, &pair(4));
    let mut uncommitted = guest.state;
    assert_eq!(guest.device.scan(&mut uncommitted, 0), Scan::More);
    assert_eq!(guest.used(), []);
    assert_eq!(guest.rung(1), 0);
    guest.device.settle(&uncommitted);
    assert_eq!(guest.used(), [(0, 4)]);
    assert_eq!(guest.rung(1), 0, "whether to notify is asked only now");
    guest.state = uncommitted;
    guest.run();
    assert_eq!(guest.rung(1), 1);
}

#[test]
fn positions_wrap_around() {
    for deaths in [Deaths::Never, Deaths::AfterSettle] {
        let mut guest = started(EVENT_INDEX, true);
        guest.deaths = deaths;
        guest.set_bytes(IN, b"round");
        for turn in 0..66_000_u64 {
            guest.set_used_event(turn as u16);
            guest.submit((turn % 3) as u16 * 2, &pair(5));
            guest.ring();
            assert_eq!(guest.word(USED + 2), (turn + 1) as u16);
        }
        assert_eq!(guest.status(), 0xf);
        assert!(guest.rung(1) >= 66_000);
    }
}

#[test]
fn with_the_event_index_the_driver_is_notified_when_it_asked_for_it() {
    for deaths in [Deaths::Never, Deaths::BeforeCommit] {
        let mut guest = started(EVENT_INDEX, true);
        guest.set_used_event(2);
        guest.deaths = deaths;
        let mut rung = Vec::new();
        for _ in 0..5 {
            guest.submit(0, &pair(1));
            let before = guest.state.queues[0].signals;
            guest.ring();
            rung.push(guest.state.queues[0].signals - before);
        }
        assert_eq!(rung, [0, 0, 1, 0, 0], "{deaths:?}");
        assert_eq!(guest.avail_event(), 5);
    }
}

#[test]
fn a_batch_that_passes_the_event_is_notified_of_once() {
    let mut guest = started(EVENT_INDEX, true);
    guest.set_used_event(3);
    for head in 0..4 {
        guest.submit(head * 2, &pair(1));
    }
    guest.ring();
    assert_eq!(guest.rung(1), 1);
}

#[test]
fn without_the_event_index_a_flag_keeps_the_device_silent() {
    let mut guest = started(0, true);
    guest.set_word(AVAIL, 1);
    guest.submit(0, &pair(1));
    guest.ring();
    assert_eq!(guest.rung(1), 0);
    guest.set_word(AVAIL, 0);
    guest.submit(0, &pair(1));
    guest.ring();
    assert_eq!(guest.rung(1), 1);
}

#[test]
fn a_queue_without_a_vector_drives_the_pin_until_its_status_is_read() {
    for deaths in Deaths::ALL {
        let mut guest = started(EVENT_INDEX, false);
        guest.deaths = deaths;
        guest.submit(0, &pair(1));
        guest.ring();
        assert!(guest.level(), "{deaths:?}");
        assert_eq!(guest.load(0x1000, 1), 1);
        assert!(!guest.level());
        assert_eq!(guest.load(0x1000, 1), 0);
        assert!(guest.vectors.iter().all(|vector| vector.load(Ordering::SeqCst) == 0));
    }
}

#[test]
fn a_scan_serves_no_more_chains_than_its_bound() {
    let mut guest = guest();
    guest.start(0, 256, true);
    for head in 0..128 {
        guest.submit(head * 2, &pair(1));
    }
    let served = Arc::clone(&guest.doorbells);
    let mut scans = 0;
    while guest.scan() != Scan::Idle {
        scans += 1;
        assert!(served.load(Ordering::Relaxed) >> 32 <= scans * u64::from(CHAINS_PER_SCAN));
    }
    assert_eq!(guest.used().len(), 128);
    assert!(scans >= 2);
}

#[test]
fn a_scan_ends_after_a_bounded_amount_of_work() {
    let mut guest = started(0, true);
    for head in 0..4 {
        guest.submit(head, &[Buffer::writable(0, MEMORY_BYTES as u32 / 2)]);
    }
    assert_eq!(guest.scan(), Scan::More);
    assert_eq!(guest.used().len(), 1);
    guest.run();
    assert_eq!(guest.used().len(), 4);
}

#[test]
fn an_indirect_table_is_followed() {
    for deaths in Deaths::ALL {
        let mut guest = started(0, true);
        guest.deaths = deaths;
        guest.set_bytes(IN, b"abcdef");
        let chain = [
            Buffer::readable(IN + 3, 3),
            Buffer::readable(IN, 3),
            Buffer::writable(OUT, 2),
            Buffer::writable(OUT + 8, 4),
        ];
        guest.submit_indirect(7, 0x7_0003, &chain);
        guest.ring();
        assert_eq!(guest.used(), [(7, 6)]);
        assert_eq!(guest.bytes(OUT, 12), b"de\0\0\0\0\0\0fabc");
    }
}

#[test]
fn an_indirect_table_may_follow_plain_descriptors() {
    let mut guest = started(0, true);
    guest.set_bytes(IN, b"xy");
    guest.submit_indirect(1, 0x7_0000, &pair(1));
    guest.describe(0, IN + 1, 1, 1, 1);
    guest.offer(0);
    guest.ring();
    assert_eq!(guest.used(), [(1, 1), (0, 1)]);
    assert_eq!(guest.bytes(OUT, 2), b"y\0");
}

#[test]
fn a_buffer_may_span_two_regions_and_have_no_bytes() {
    let mut guest = started(0, true);
    guest.set_bytes(SEAM - 3, b"across");
    let chain = [
        Buffer::readable(0, 0),
        Buffer::readable(SEAM - 3, 6),
        Buffer::writable(u64::MAX, 0),
        Buffer::writable(OUT, 6),
    ];
    guest.submit(0, &chain);
    guest.ring();
    assert_eq!(guest.used(), [(0, 6)]);
    assert_eq!(guest.bytes(OUT, 6), b"across");
}

#[test]
fn doorbells_are_counted_once_for_each_look_that_finds_something_new() {
    let mut guest = started(0, true);
    let count = |guest: &Guest<Echo>| guest.doorbells.load(Ordering::Relaxed) as u32;
    assert_eq!(count(&guest), 0);
    guest.submit(0, &pair(1));
    guest.submit(2, &pair(1));
    guest.ring();
    assert_eq!(count(&guest), 1);
    guest.ring();
    assert_eq!(count(&guest), 1);
    guest.submit(0, &pair(1));
    guest.notify(0);
    assert_eq!(count(&guest), 2);
}

#[test]
fn queues_do_not_mix() {
    let mut guest = started(0, true);
    guest.submit(0, &pair(1));
    guest.notify(1);
    assert_eq!((guest.rung(1), guest.rung(2)), (1, 0));
}
