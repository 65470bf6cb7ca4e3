//! What a lane serves without waiting for its device: shadow registers, posted writes, strings that lie ahead.

use super::*;

#[test]
fn shadow_is_served_only_while_it_is_valid() {
    let objects = Objects::new();
    let (lane, mut host) = (objects.lane(SOON), objects.host());
    assert_eq!(lane.read(0, 2, 1, 0), Err(LaneError::Late), "nothing is committed yet");
    host.step();
    host.event(Header { shadow: [Some(0x1_42); 8], ..PLAIN });
    assert_eq!(lane.read(0, 2, 1, 0), Ok(0x42), "as wide as the access");
    assert_eq!(lane.read(0, 2, 2, 0), Err(LaneError::Late), "at its one width");
    host.step();
    assert_eq!(lane.read(1, 2, 1, 0), Err(LaneError::Late), "in its range");
    host.step();
    host.event(Header { shadow: [None; 8], ..PLAIN });
    assert_eq!(lane.read(0, 2, 1, 0), Err(LaneError::Late), "not valid");
    host.step();
    host.event(Header { deadline: Some(100), ..PLAIN });
    assert_eq!(lane.read(0, 2, 1, 99), Ok(7));
    assert_eq!(lane.read(0, 2, 1, 100), Err(LaneError::Late), "the alarm comes first");
    assert_eq!(lane.counters().shadow, 2);
}

#[test]
fn shadow_is_served_only_within_what_the_manifest_tolerates() {
    let objects = Objects::new();
    let (lane, mut host) = (objects.lane(SOON), objects.host());
    host.event(PLAIN);
    let shadow = || lane.read(0, 2, 1, 0);
    for _ in 0..2 {
        lane.write(0, 0, 1, 1, 0).unwrap();
        assert_eq!(shadow(), Ok(7));
    }
    lane.write(0, 0, 1, 1, 0).unwrap();
    assert_eq!(shadow(), Err(LaneError::Late), "three are outstanding");
    assert_eq!(shadow(), Err(LaneError::Late), "and a read");
    while host.step().is_some() {}
    assert_eq!(shadow(), Ok(7));
    lane.write(0, 1, 1, 1, 0).unwrap();
    assert_eq!(shadow(), Err(LaneError::Late), "of this kind none is tolerated");
    while host.step().is_some() {}
    assert!(lane.notify(Operation::Alarm, 0));
    assert_eq!(shadow(), Err(LaneError::Late), "nor an alarm");
    while host.step().is_some() {}
    lane.write(0, 0, 1, 1, 0).unwrap();
    lane.write(0, 0, 1, 1, 0).unwrap();
    host.step();
    lane.write(0, 0, 1, 1, 0).unwrap();
    assert_eq!(shadow(), Ok(7), "one of three is committed");
    assert_eq!(lane.counters().posted, 7);
}

#[test]
fn write_is_posted_only_while_the_committed_mask_allows_it() {
    let objects = Objects::new();
    let (lane, mut host) = (objects.lane(SOON), objects.host());
    let posted = |offset, now| lane.write(0, offset, 1, 1, now) == Ok(());
    assert!(!posted(0, 0), "nothing is committed yet");
    host.step();
    host.event(Header { postable: 0b10, ..PLAIN });
    assert!(!posted(0, 0));
    host.step();
    assert!(posted(1, 0));
    host.event(Header { postable: 0b11, deadline: Some(50), ..PLAIN });
    assert!(posted(0, 49));
    assert!(!posted(0, 50), "the alarm comes first");
    host.event(Header { postable: 0b11, deadline: None, ..PLAIN });
    assert!(!posted(3, 50), "no posted register");
}

#[test]
fn write_is_posted_anywhere_in_an_area_and_not_across_its_ends() {
    let objects = Objects::new();
    let (lane, mut host) = (objects.lane(SOON), objects.host());
    host.event(Header { postable: 0b100, ..PLAIN });
    let posted = |range, offset, width| lane.write(range, offset, width, 1, 0) == Ok(());
    for (offset, width) in [(0x100, 4), (0x101, 2), (0x10c, 4), (0x10f, 1)] {
        assert!(posted(1, offset, width), "{offset:#x}, {width}");
    }
    for (range, offset, width) in
        [(0, 0x100, 4), (1, 0xff, 1), (1, 0xff, 4), (1, 0x10d, 4), (1, 0x110, 1), (1, 0x100, 8)]
    {
        assert!(!posted(range, offset, width), "{range}, {offset:#x}, {width}");
        host.step();
    }
}

#[test]
fn write_is_posted_only_with_the_value_that_its_register_says() {
    let objects = Objects::new();
    let (lane, mut host) = (objects.lane(SOON), objects.host());
    host.event(Header { postable: 0b1000, ..PLAIN });
    for (value, posted) in [(0x10, true), (0xfe, true), (0, false), (1, false), (0x11, false), (0xff, false)] {
        assert_eq!(lane.write(0, 3, 1, value, 0) == Ok(()), posted, "{value:#x}");
        host.step();
    }
    host.event(Header { postable: !0b1000, ..PLAIN });
    assert_eq!(lane.write(0, 3, 1, 0x10, 0), Err(LaneError::Late));
}

#[test]
fn string_that_is_ahead_is_taken_without_waiting_and_told() {
    const PLACE: u32 = 600;
    let objects = Objects::new();
    let (lane, mut host) = (objects.lane(LONG), objects.host());
    objects.wild().write(PLACE as usize, &[1, 2, 3, 4, 5, 6, 7, 8]);
    let loaded = |ahead, place| Loaded { bytes: 2, ahead, place }.reply();
    let load = |lane: &Lane, bytes: usize| {
        let mut into = vec![0; bytes];
        lane.read_string(2, 0, 2, &mut into, 0).map(|bytes| into[..bytes].to_vec())
    };
    let begin = |host: &mut Host, reply| {
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| load(&lane, 2).unwrap());
            while host.string(reply).is_none() {}
            waits.join().unwrap()
        })
    };
    assert_eq!(begin(&mut host, loaded(6, PLACE)), [0xaa, 0xbb]);
    assert_eq!(load(&lane, 4), Ok(vec![1, 2, 3, 4]));
    assert_eq!(load(&lane, 2), Ok(vec![5, 6]));
    for bytes in [4, 2] {
        let access = host.lane.take().unwrap().unwrap();
        assert_eq!((access.operation, access.value), (Operation::ReadString, bytes));
    }
    assert!(host.lane.take().unwrap().is_none());
}

#[test]
fn string_is_not_taken_ahead_over_a_place_that_there_is_not_or_past_another_operation() {
    for (place, interrupted) in [(u32::MAX, false), (600, true)] {
        let objects = Objects::new();
        let (lane, mut host) = (objects.lane(SOON), objects.host());
        host.event(PLAIN);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| lane.read_string(2, 0, 2, &mut [0; 2], 0));
            while host.string(Loaded { bytes: 2, ahead: 6, place }.reply()).is_none() {}
            assert_eq!(waits.join().unwrap(), Ok(2));
        });
        if interrupted {
            lane.write(0, 0, 1, 1, 0).unwrap();
        }
        assert_eq!(lane.read_string(2, 0, 2, &mut [0; 2], 0), Err(LaneError::Late), "{place}");
    }
}

#[test]
fn write_to_a_full_lane_waits() {
    let objects = Objects::new();
    let (lane, mut host) = (objects.lane(SOON), objects.host());
    host.event(PLAIN);
    for _ in 0..ENTRIES {
        lane.write(0, 0, 1, 1, 0).unwrap();
    }
    assert_eq!(lane.write(0, 0, 1, 1, 0), Err(LaneError::Late));
    assert!(!lane.notify(Operation::Alarm, 0), "who must not wait tries again");
    host.step();
    assert_eq!(lane.write(0, 0, 1, 1, 0), Ok(()));
    assert_eq!((lane.counters().posted, lane.counters().lane), (u64::from(ENTRIES) + 1, 1));
}
