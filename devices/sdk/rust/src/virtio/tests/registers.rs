//! The structures in the BAR.

use super::*;

#[test]
fn features_are_offered_in_two_halves() {
    let mut guest = guest();
    let half = |guest: &mut Guest<Echo>, select| {
        guest.store(0x00, 4, select);
        guest.load(0x04, 4)
    };
    assert_eq!(half(&mut guest, 0), OFFER | 3 << 28);
    assert_eq!(half(&mut guest, 1), 1);
    assert_eq!(half(&mut guest, 2), 0);
    assert_eq!(half(&mut guest, 0xffff_ffff), 0);
}

fn accept(guest: &mut Guest<Echo>, features: u64) -> bool {
    guest.store(0x14, 1, 0);
    guest.store(0x14, 1, 3);
    for half in [0, 1] {
        guest.store(0x08, 4, half);
        guest.store(0x0c, 4, features >> (32 * half) & 0xffff_ffff);
    }
    guest.store(0x14, 1, 0xb);
    guest.status() & 8 != 0
}

#[test]
fn a_driver_must_want_version_1_and_nothing_that_is_not_offered() {
    let mut guest = guest();
    assert!(accept(&mut guest, 1 << 32 | OFFER));
    assert!(accept(&mut guest, 1 << 32));
    assert!(!accept(&mut guest, OFFER));
    assert!(!accept(&mut guest, 1 << 32 | 1 << 4));
    assert!(!accept(&mut guest, 1 << 32 | 1 << 40));
}

#[test]
fn features_are_fixed_once_accepted() {
    let mut guest = guest();
    assert!(accept(&mut guest, 1 << 32 | 1 << 3));
    guest.store(0x08, 4, 0);
    guest.store(0x0c, 4, 0xffff_ffff);
    assert_eq!(guest.load(0x0c, 4), 1 << 3);
}

#[test]
fn a_driver_cannot_start_without_features_nor_say_that_it_needs_a_reset() {
    let mut guest = guest();
    guest.store(0x14, 1, 0x47);
    assert_eq!(guest.status(), 3);
}

#[test]
fn status_bits_are_set_and_never_cleared_but_all_at_once() {
    let mut guest = started(0, true);
    guest.store(0x14, 1, 0x80);
    assert_eq!(guest.status(), 0x8f);
    guest.store(0x14, 1, 0);
    assert_eq!(guest.status(), 0);
}

#[test]
fn an_access_of_any_width_and_place_sees_the_same_bytes() {
    let mut guest = started(OFFER, true);
    let bytes: Vec<u8> = (0..0x3c).map(|offset| guest.load(offset, 1) as u8).collect();
    assert_eq!(bytes[0x20..0x24], (DESC as u32 + 0x1_0000).to_le_bytes());
    for width in [2, 4, 8] {
        for offset in 0..=0x3c - u64::from(width) {
            let value = guest.load(offset, width).to_le_bytes();
            assert_eq!(value[..usize::from(width)], bytes[offset as usize..][..usize::from(width)], "{offset:#x}");
        }
    }
    assert_eq!(guest.load(0x39, 4), 0xffff_ffff, "an access across the end is no register");
}

#[test]
fn an_address_can_be_written_whole_in_halves_and_by_bytes() {
    let mut guest = guest();
    guest.store(0x20, 8, 0x0123_4567_89ab_cdef);
    assert_eq!(guest.load(0x20, 8), 0x0123_4567_89ab_cdef);
    guest.store(0x24, 4, 0xffff_0000);
    assert_eq!(guest.load(0x20, 8), 0xffff_0000_89ab_cdef);
    guest.store(0x21, 1, 0x11);
    assert_eq!(guest.load(0x20, 8), 0xffff_0000_89ab_11ef);
    guest.store(0x26, 4, 0x2222_3333);
    assert_eq!(guest.load(0x20, 8), 0x3333_0000_89ab_11ef);
    assert_eq!(guest.load(0x28, 8), 0x2222);
}

#[test]
fn a_queue_that_does_not_exist_has_no_size_and_takes_nothing() {
    let mut guest = guest();
    for queue in [2, 3, 4, 0xffff] {
        guest.store(0x16, 2, queue);
        for (offset, width, value) in [(0x18, 2, 8), (0x1a, 2, 0), (0x20, 4, 0x1000), (0x1c, 2, 1)] {
            guest.store(offset, width, value);
        }
        assert_eq!(guest.load(0x18, 2), 0);
        assert_eq!(guest.load(0x1a, 2), 0xffff);
        assert_eq!(guest.load(0x1c, 2), 0);
        assert_eq!(guest.load(0x20, 8), 0);
    }
    assert_eq!(guest.load(0x12, 2), 2);
    assert_eq!(guest.status(), 0);
}

#[test]
fn an_event_mapped_to_a_vector_that_does_not_exist_is_mapped_to_none() {
    let mut guest = guest();
    for register in [0x10, 0x1a] {
        guest.store(register, 2, 2);
        assert_eq!(guest.load(register, 2), 2);
        guest.store(register, 2, 3);
        assert_eq!(guest.load(register, 2), 0xffff);
        guest.store(register, 2, 0xffff);
        assert_eq!(guest.load(register, 2), 0xffff);
    }
}

#[test]
fn a_queue_has_a_size_that_is_a_power_of_two_and_no_larger_than_offered() {
    let mut guest = guest();
    assert_eq!(guest.load(0x18, 2), 256);
    for (written, read) in [(128, 128), (100, 128), (0, 128), (512, 128), (1, 1), (256, 256)] {
        guest.store(0x18, 2, written);
        assert_eq!(guest.load(0x18, 2), read);
    }
}

#[test]
fn the_configuration_of_an_enabled_queue_is_fixed_until_a_reset() {
    let mut guest = started(0, true);
    guest.store(0x16, 2, 0);
    for (register, width) in [(0x18, 2), (0x20, 8), (0x28, 8), (0x30, 8), (0x1c, 2)] {
        let before = guest.load(register, width);
        guest.store(register, width, 0x40);
        guest.store(register, width, 0);
        assert_eq!(guest.load(register, width), before, "{register:#x}");
    }
    guest.store(0x14, 1, 0);
    assert_eq!(guest.load(0x20, 8), 0);
    assert_eq!(guest.load(0x1c, 2), 0);
    assert_eq!(guest.load(0x18, 2), 256);
    assert_eq!(guest.load(0x1a, 2), 0xffff);
}

#[test]
fn a_queue_that_does_not_lie_in_memory_is_not_enabled_and_needs_a_reset() {
    let good = [DESC, AVAIL, USED];
    let bad = [(0, DESC + 8), (1, AVAIL + 1), (2, USED + 2), (1, 0), (0, MEMORY_BYTES - 16)];
    let far = [MEMORY_BYTES, u64::MAX - 15, 1 << 63].into_iter().flat_map(|far| (0..3).map(move |part| (part, far)));
    for (part, address) in bad.into_iter().chain(far) {
        let mut guest = guest();
        let mut parts = good;
        parts[part] = address;
        for (register, part) in [0x20, 0x28, 0x30].into_iter().zip(parts) {
            guest.store(register, 8, part);
        }
        guest.store(0x1c, 2, 1);
        assert_eq!(guest.load(0x1c, 2), 0, "{parts:x?}");
        assert_eq!(guest.status(), NEEDS_RESET);
        assert_eq!(guest.device.broken(), Some(Broken::Queue));
        assert!(!guest.level(), "no driver is there to be told");
    }
}

#[test]
fn the_device_configuration_reads_at_every_width_and_takes_no_writes() {
    let mut guest = guest();
    assert_eq!(guest.load(0x2000, 8), 0x0807_0605_0403_0201);
    assert_eq!(guest.load(0x2002, 2), 0x0403);
    assert_eq!(guest.load(0x2007, 1), 8);
    assert_eq!(guest.load(0x2005, 4), 0xffff_ffff);
    guest.store(0x2000, 1, 9);
    assert_eq!(guest.load(0x2000, 1), 1);
}

#[test]
fn an_access_where_there_is_nothing_is_refused() {
    let mut guest = guest();
    let mut state = guest.state;
    for offset in [0x3c, 0xfff, 0x1001, 0x1fff, 0x2008, 0x3001, 0x3008, 0x3fff] {
        let at = Access { range: 0, offset, width: 1, now: 0 };
        assert_eq!(guest.device.read(&mut state, at), Err(NoRegister), "{offset:#x}");
        assert_eq!(guest.device.write(&mut state, at, 0), Err(NoRegister), "{offset:#x}");
    }
    assert_eq!(state, guest.state);
}

#[test]
fn each_capability_points_at_its_structure_in_the_bar() {
    let manifest = Echo::manifest(&Options::default()).unwrap();
    let pci = manifest.pci.unwrap();
    assert_eq!((pci.vendor, pci.device, pci.revision), (0x1af4, 0x106a, 1));
    assert_eq!(manifest.vectors, 3);
    let found: Vec<(u8, u8, u32, u32)> = pci
        .capabilities
        .iter()
        .map(|capability| {
            let word = |at: usize| u32::from_le_bytes(capability[at..at + 4].try_into().unwrap());
            assert_eq!(capability[0], 9);
            assert_eq!(usize::from(capability[2]), capability.len());
            (capability[3], capability[4], word(8), word(12))
        })
        .collect();
    assert_eq!(found, [(1, 0, 0, 0x3c), (2, 0, 0x3000, 8), (3, 0, 0x1000, 1), (4, 0, 0x2000, 8)]);
    assert_eq!(pci.capabilities[1][16..], [4, 0, 0, 0]);
    assert!(manifest.doorbells.iter().map(|bell| bell.offset).eq([0x3000, 0x3004]));
}
