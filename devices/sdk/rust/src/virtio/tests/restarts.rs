//! A device that dies, and what its successor finds.

use super::*;

/// A driver that does the same random things each time; gives all that is left.
fn life(seed: u64, deaths: Deaths) -> (State, Vec<u8>) {
    let mut random = Random(seed);
    let mut guest = guest();
    guest.start(if random.below(2) == 0 { EVENT_INDEX } else { 0 }, 16, random.below(4) != 0);
    guest.deaths = deaths;
    for _ in 0..200 {
        let head = random.below(16) as u16 & !3;
        let (address, bytes) = (0x8_0000 + random.below(0x10_0000), random.below(3000) as u32);
        let chain = [
            Buffer::readable(address, bytes),
            Buffer::readable(address / 2 + 0x7_0000, bytes / 3),
            Buffer::writable(0x18_0000 + random.below(0x4_0000), bytes),
        ];
        match random.below(4) {
            0 => guest.submit_indirect(head, 0x1e_0000, &chain),
            1 => guest.submit(head, &chain[1..]),
            _ => guest.submit(head, &chain),
        }
        guest.set_used_event(random.next() as u16);
        match random.below(4) {
            0 => guest.notify(0),
            1 => drop(guest.load(0x1000, 1)),
            _ => drop(guest.ring()),
        }
    }
    assert_eq!(guest.status(), 0xf);
    (guest.state, guest.bytes(0, MEMORY_BYTES as usize))
}

#[test]
fn a_life_with_deaths_leaves_the_same_state_and_memory_as_one_without() {
    for seed in 1..=12 {
        let (state, memory) = life(seed, Deaths::Never);
        for deaths in Deaths::ALL {
            let (other_state, other_memory) = life(seed, deaths);
            assert_eq!(state, other_state, "seed {seed}, {deaths:?}");
            assert!(memory == other_memory, "seed {seed}, {deaths:?}");
        }
    }
}

#[test]
fn a_successor_publishes_what_was_committed_and_rings_all_vectors() {
    let mut guest = started(0, true);
    guest.submit(0, &pair(1));
    let mut committed = guest.state;
    guest.device.scan(&mut committed, 0);
    guest.state = committed;
    assert_eq!(guest.used(), []);
    guest.kill();
    assert_eq!(guest.used(), [(0, 1)]);
    assert_eq!([guest.rung(0), guest.rung(1), guest.rung(2)], [1, 1, 1]);
    guest.run();
    assert_eq!(guest.rung(1), 2);
}

#[test]
fn a_reset_rings_nothing() {
    let mut guest = started(0, true);
    guest.submit(0, &pair(1));
    guest.ring();
    let rung = guest.rung(1);
    guest.start(0, 8, true);
    assert_eq!(guest.rung(1), rung);
    guest.state = guest.device.power_on();
    guest.device.settle(&guest.state);
    assert_eq!([guest.rung(0), guest.rung(1), guest.rung(2)], [0, rung, 0]);
}

#[test]
fn state_that_contradicts_the_published_index_is_refused() {
    let mut guest = started(0, true);
    guest.submit(0, &pair(1));
    guest.ring();
    for (index, sound) in [(1, true), (0, false), (2, false), (0x8001, false)] {
        guest.set_word(USED + 2, index);
        assert_eq!(guest.device.check(&guest.state), sound, "{index}");
    }
}

#[test]
fn state_that_this_device_could_not_have_left_is_refused() {
    let guest = started(EVENT_INDEX, true);
    assert!(guest.device.check(&guest.state));
    let mutations: [fn(&mut State); 15] = [
        |state| state.driver_features |= 1,
        |state| state.driver_features &= !(1 << 32),
        |state| state.status |= 0x10,
        |state| state.status &= !8,
        |state| state.config_vector = 3,
        |state| state.queues[0].vector = 3,
        |state| state.queues[0].size = 7,
        |state| state.queues[0].size = 512,
        |state| state.queues[1].size = 128,
        |state| state.queues[0].desc = MEMORY_BYTES,
        |state| state.queues[0].driver = u64::MAX,
        |state| state.queues[0].device = u64::MAX - 1,
        |state| state.queues[0].next_used = 1,
        |state| state.queues[2].size_max = 8,
        |state| state.queues[3].next_avail = 1,
    ];
    for (index, mutation) in mutations.iter().enumerate() {
        let mut state = guest.state;
        mutation(&mut state);
        assert!(!guest.device.check(&state), "mutation {index}");
    }
}

#[test]
fn random_state_is_refused_or_harmless() {
    let mut random = Random(7);
    let mut guest = started(EVENT_INDEX, true);
    let good = guest.state;
    let mut accepted = 0;
    for _ in 0..100_000 {
        let mut state = if random.below(8) == 0 { State::new_zeroed() } else { good };
        for _ in 0..=random.below(3) {
            let at = random.below(size_of::<State>() as u64) as usize;
            state.as_mut_bytes()[at] = random.next() as u8;
        }
        if guest.device.check(&state) {
            accepted += 1;
            guest.state = state;
            guest.device.settle(&state);
            guest.run();
        }
    }
    assert!(accepted > 1000, "the test tries something");
}
