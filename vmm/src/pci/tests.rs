use super::*;
use crate::testing;
use schema::manifest::{Line, Pci as Identity, PciRegister, Range, Space as Where};

const ONES: u64 = 0xffff_ffff;
const COMMAND: u64 = 0x04;
const IO_ENABLE: u64 = 1;
const MEMORY_ENABLE: u64 = 2;
const MASTER: u64 = 4;
const FIRST: u64 = FIRST_SLOT as u64;
const SECOND: u64 = FIRST + 1;

fn range(space: Where, length: u64) -> Range {
    Range { name: "registers".to_owned(), length, space }
}

fn identity() -> Identity {
    Identity {
        vendor: 0x1af4,
        device: 0x1042,
        subsystem_vendor: 0x1af4,
        subsystem: 0x0040,
        class: 0x01_0080,
        revision: 1,
        capabilities: vec![vec![0x09, 0xee, 16, 1, 4, 0, 0, 0, 0, 0, 0, 0, 56, 0, 0, 0], vec![0x09, 0, 5, 9, 9]],
        vector_bar: 1,
        registers: Vec::new(),
        bridge_function: 0,
    }
}

/// Memory, ports, vectors and a pin.
fn rich() -> Manifest {
    Manifest {
        ranges: vec![range(Where::Bar(4), 0x4000), range(Where::Port(0x70), 2), range(Where::PortBar(0), 0x21)],
        vectors: 3,
        lines: vec![Line::Pin(1)],
        pci: Some(identity()),
        ..testing::manifest("rich")
    }
}

fn plain(ranges: Vec<Range>) -> Manifest {
    Manifest { ranges, pci: Some(Identity { capabilities: Vec::new(), ..identity() }), ..testing::manifest("plain") }
}

fn with(manifests: &[Manifest]) -> Pci {
    let mut pci = Pci::new(pam::ALL_MEMORY);
    for (device, manifest) in manifests.iter().enumerate() {
        pci.add(device as u8, manifest).unwrap();
    }
    pci
}

fn quiet(_: u8) -> bool {
    false
}

impl Pci {
    fn aim(&mut self, slot: u64, register: u64) {
        assert_eq!(self.write(0, 4, 1 << 31 | slot << 11 | register & 0xfc), []);
    }
    fn get(&mut self, slot: u64, register: u64, width: u8) -> u64 {
        self.aim(slot, register);
        self.read(4 + register % 4, width, quiet)
    }
    fn set(&mut self, slot: u64, register: u64, width: u8, value: u64) -> Vec<Effect> {
        self.aim(slot, register);
        self.write(4 + register % 4, width, value)
    }
}

#[test]
fn address_register_keeps_what_it_can_hold_and_takes_only_whole_stores() {
    let mut pci = Pci::new(pam::ALL_MEMORY);
    assert_eq!(pci.write(0, 4, ONES), []);
    assert_eq!(pci.read(0, 4, quiet), 0x80ff_fffc);
    for (offset, width) in [(0, 1), (0, 2), (1, 2), (2, 2), (3, 1)] {
        assert_eq!(pci.write(offset, width, 0), []);
        assert_eq!(pci.read(offset, width, quiet), ONES >> (32 - 8 * u32::from(width)));
    }
    assert_eq!(pci.read(0, 4, quiet), 0x80ff_fffc);
}

#[test]
fn data_register_is_off_until_enabled() {
    let mut pci = with(&[rich()]);
    assert_eq!(pci.read(4, 4, quiet), ONES);
    assert_eq!(pci.write(0, 4, FIRST << 11 | COMMAND), []);
    assert_eq!(pci.write(4, 2, MEMORY_ENABLE), []);
    assert_eq!(pci.get(FIRST, COMMAND, 2), 0);
}

#[test]
fn host_bridge_is_an_82441fx_of_which_stores_change_the_attribute_maps_alone() {
    let mut pci = Pci::new([0; pam::REGISTERS]);
    assert_eq!((pci.get(0, 0, 4), pci.get(0, 8, 4), pci.get(0, 0x2c, 4)), (0x1237_8086, 0x0600_0002, 0x1100_1af4));
    let before: Vec<u64> = (0..64).map(|word| pci.get(0, 4 * word, 4)).collect();
    let attributes = [0x58 / 4, 0x5c / 4];
    for word in (0..64).filter(|word| !attributes.contains(word)) {
        assert_eq!(pci.set(0, 4 * word, 4, !before[word as usize] & ONES), []);
    }
    assert_eq!((0..64).map(|word| pci.get(0, 4 * word, 4)).collect::<Vec<_>>(), before);

    assert_eq!(pci.set(0, 0x59, 1, 0xff), [Effect::Shadow([0x30, 0, 0, 0, 0, 0, 0])]);
    assert_eq!(pci.set(0, 0x59, 1, 0x30), [], "no change");
    assert_eq!(pci.set(0, 0x5c, 4, 0x1122_0133), [Effect::Shadow([0x30, 0, 0, 0x33, 0x01, 0x22, 0x11])]);
    assert_eq!((pci.get(0, 0x58, 4), pci.get(0, 0x5c, 4)), (0x3010, 0x1122_0133));
}

#[test]
fn isa_bridge_tells_where_interrupts_of_the_bus_are_routed() {
    let mut pci = with(&[rich()]);
    assert_eq!((pci.get(1, 0, 4), pci.get(1, 8, 4) >> 8), (0x7000_8086, 0x06_0100));
    assert_eq!(pci.get(1, 0x60, 4), 0x8080_8080, "none is routed");
    let route = |pirq, input| Effect::Route { pirq, input };
    assert_eq!(pci.set(1, 0x60, 1, 0x0b), [route(0, Some(11))]);
    assert_eq!(pci.set(1, 0x62, 2, 0x7a8a), [route(3, Some(10))], "the third stays off, its number does not matter");
    assert_eq!(pci.set(1, 0x60, 4, 0x8080_8080), [route(0, None), route(3, None)]);
}

#[test]
fn pins_take_turns_at_the_interrupts_of_the_bus() {
    // As the ISA bridge's firmware has them: its own INTA is PIRQA, the next slot's INTA is PIRQB.
    assert_eq!(
        (pirq_of(1, 1), pirq_of(2, 1), pirq_of(3, 1), pirq_of(5, 1), pirq_of(1, 4), pirq_of(31, 4)),
        (0, 1, 2, 0, 3, 1)
    );
    assert_eq!(gsi_of(2, 1), 17);
}

#[test]
fn reset_control_register_resets_when_its_bit_rises() {
    let mut pci = Pci::new(pam::ALL_MEMORY);
    assert_eq!(pci.write(1, 1, 0xf2), []);
    assert_eq!(pci.read(1, 1, quiet), 2);
    assert_eq!(pci.write(1, 1, 6), [Effect::Reset]);
    assert_eq!(pci.write(1, 1, 6), []);
    assert_eq!(pci.read(0, 4, quiet), 0, "the address register is another");
}

#[test]
fn absent_functions_slots_and_buses_read_as_ones() {
    let mut pci = with(&[rich()]);
    for address in [SECOND << 11, 31 << 11, FIRST << 11 | 1 << 8, 1 << 16 | FIRST << 11, 7 << 8] {
        assert_eq!(pci.write(0, 4, 1 << 31 | address), []);
        assert_eq!(pci.read(4, 4, quiet), ONES);
        assert_eq!(pci.read(6, 1, quiet), 0xff);
        assert_eq!(pci.write(4, 4, 0), []);
    }
}

#[test]
fn access_across_the_end_of_the_data_register_is_none() {
    let mut pci = with(&[rich()]);
    pci.aim(FIRST, COMMAND);
    for (offset, width) in [(5, 4), (7, 2), (3, 2), (2, 4), (4, 8), (4, 3), (8, 1), (u64::MAX, 1)] {
        assert_eq!(pci.write(offset, width, ONES), [], "{width} at {offset}");
        assert_eq!(pci.read(offset, width, quiet), u64::MAX >> (64 - 8 * u32::from(width)), "{width} at {offset}");
    }
    assert_eq!(pci.get(FIRST, COMMAND, 2), 0);
}

#[test]
fn header_says_what_the_manifest_says() {
    let mut pci = with(&[rich()]);
    assert_eq!(pci.get(FIRST, 0, 4), 0x1042_1af4);
    assert_eq!(pci.get(FIRST, 8, 4), 0x0100_8001);
    assert_eq!(pci.get(FIRST, 0x2c, 4), 0x0040_1af4);
    assert_eq!(pci.get(FIRST, 0x0e, 1), 0, "header type 0, one function");
    assert_eq!(pci.get(FIRST, 0x3c, 2), 0x0111, "interrupt 17, INTA");
    assert_eq!(pci.get(FIRST, COMMAND, 4), 0x0010_0000, "decoding off, capabilities present");
    assert_eq!((pci.slot_of(0), pci.gsi_of(0)), (Some(2), Some(17)));
    assert_eq!((pci.slot_of(1), pci.gsi_of(1)), (None, None));
}

#[test]
fn narrow_loads_are_parts_of_the_whole_word_at_every_offset() {
    let mut pci = with(&[rich()]);
    for slot in [0, 1, FIRST] {
        for word in (0..0x100).step_by(4) {
            let whole = pci.get(slot, word, 4);
            for (at, width) in [(0, 1), (1, 1), (2, 1), (3, 1), (0, 2), (1, 2), (2, 2)] {
                let part = whole >> (8 * at) & (ONES >> (32 - 8 * u32::from(width)));
                assert_eq!(pci.get(slot, word + at, width), part, "{width} at {:#x} of slot {slot}", word + at);
            }
        }
    }
}

/// Which bits a store may change in [`rich`]'s configuration space.
fn writable(word: u64) -> u64 {
    match word {
        // I/O, memory, master, memory write and invalidate, interrupt disable; status has nothing.
        0x04 => 0x0417,
        // Cache line size, latency timer.
        0x0c => 0xf8ff,
        0x10 => 0xffff_ffc0,
        0x14 => 0xffff_f000,
        0x20 => 0xffff_c000,
        0x3c => 0x00ff,
        // MSI-X control, after capabilities of 16 and 5 bytes.
        0x58 => 0xc000_0000,
        _ => 0,
    }
}

#[test]
fn stores_of_every_width_change_exactly_the_writable_bits() {
    for word in (0..0x100).step_by(4) {
        for (at, width) in [(0, 1), (1, 1), (2, 1), (3, 1), (0, 2), (1, 2), (2, 2), (0, 4)] {
            let mut pci = with(&[rich()]);
            let before = pci.get(FIRST, word, 4);
            let touched = (ONES >> (32 - 8 * u32::from(width))) << (8 * at) & writable(word);
            let _ = pci.set(FIRST, word + at, width, !before >> (8 * at));
            assert_eq!(pci.get(FIRST, word, 4), before ^ touched, "{width} at {:#x}", word + at);
            for other in (0..0x100).step_by(4).filter(|other| *other != word) {
                let mut fresh = with(&[rich()]);
                assert_eq!(pci.get(FIRST, other, 4), fresh.get(FIRST, other, 4), "{other:#x} after {:#x}", word + at);
            }
        }
    }
}

#[test]
fn capabilities_are_chained_and_msi_x_is_the_last() {
    let mut pci = with(&[rich()]);
    let mut chain = Vec::new();
    let mut next = pci.get(FIRST, 0x34, 1);
    while next != 0 {
        assert!(next >= 0x40 && next.is_multiple_of(4) && chain.len() < 8);
        chain.push((next, pci.get(FIRST, next, 1)));
        next = pci.get(FIRST, next + 1, 1);
    }
    assert_eq!(chain, [(0x40, 0x09), (0x50, 0x09), (0x58, 0x11)]);
    assert_eq!(pci.get(FIRST, 0x42, 2), 0x0110, "the capability's own bytes");
    assert_eq!(pci.get(FIRST, 0x5a, 2), 2, "three vectors");
    assert_eq!(pci.get(FIRST, 0x5c, 4), 1, "the table is at 0 of register 1");
    assert_eq!(pci.get(FIRST, 0x60, 4), 0x801, "the pending bits are at 0x800 of it");
}

#[test]
fn function_without_capabilities_has_no_list() {
    let mut pci = with(&[plain(vec![range(Where::Bar(0), 4)])]);
    assert_eq!(pci.get(FIRST, 0x06, 2), 0);
    assert_eq!(pci.get(FIRST, 0x34, 1), 0);
    assert_eq!(pci.get(FIRST, 0x3d, 1), 0, "no pin");
    let _ = pci.set(FIRST, COMMAND, 2, 0xffff);
    assert_eq!(pci.get(FIRST, COMMAND, 2), 0x16, "neither ports nor a pin to switch");
}

#[test]
fn base_addresses_are_assigned_in_the_windows_and_aligned() {
    let manifests: Vec<_> = (0..30).map(|_| rich()).collect();
    let mut pci = with(&manifests);
    let mut taken: Vec<(u64, u64)> = Vec::new();
    for slot in FIRST..32 {
        for (register, size) in [(0x14, 0x1000), (0x20, 0x4000)] {
            let base = pci.get(slot, register, 4);
            assert!(base.is_multiple_of(size) && MEMORY_WINDOW.contains(&base) && base + size <= MEMORY_WINDOW.end);
            assert!(taken.iter().all(|(other, end)| base + size <= *other || *end <= base), "{base:#x} twice");
            taken.push((base, base + size));
        }
        let ports = pci.get(slot, 0x10, 4);
        assert!(ports & 3 == 1 && ports % 0x40 == 1 && PORT_WINDOW.contains(&ports));
    }
    assert_eq!(pci.add(30, &rich()), Err("rich: all 30 PCI slots are taken".to_owned()));
}

#[test]
fn sizing_tells_the_size_of_each_register() {
    let mut pci = with(&[rich()]);
    let _ = pci.set(FIRST, COMMAND, 2, MASTER);
    for (register, size, kind) in [(0x10, 0x40, 1), (0x14, 0x1000, 0), (0x20, 0x4000, 0)] {
        let base = pci.get(FIRST, register, 4);
        assert_eq!(pci.set(FIRST, register, 4, ONES), []);
        let answer = pci.get(FIRST, register, 4);
        let address_bits = if kind == 1 { !3 } else { !0xf };
        assert_eq!((!(answer & address_bits) & ONES) + 1, size);
        assert_eq!(answer & 3, kind);
        assert_eq!(pci.set(FIRST, register, 4, base), []);
        assert_eq!(pci.get(FIRST, register, 4), base);
    }
    for absent in [0x18, 0x1c, 0x24, 0x28, 0x30] {
        let _ = pci.set(FIRST, absent, 4, ONES);
        assert_eq!(pci.get(FIRST, absent, 4), 0);
    }
}

#[test]
fn command_bits_put_ranges_on_the_bus_and_take_them_off() {
    let mut pci = with(&[rich()]);
    let (memory, vectors, ports) = (0xc000_0000, 0xc000_4000, 0xc000);
    let device = |range| Target::Device { device: 0, range };
    let map = |target, space, base, length| Effect::Map { target, space, base, length };
    let unmap = |target, space, base, length| Effect::Unmap { target, space, base, length };
    assert_eq!(
        pci.set(FIRST, COMMAND, 2, MEMORY_ENABLE),
        [
            map(device(0), Space::Memory, memory, 0x4000),
            map(Target::Vectors { device: 0 }, Space::Memory, vectors, 0x1000)
        ]
    );
    assert_eq!(pci.set(FIRST, COMMAND, 2, MEMORY_ENABLE | IO_ENABLE), [map(device(2), Space::Port, ports, 0x21)]);
    assert_eq!(pci.set(FIRST, COMMAND, 2, MEMORY_ENABLE | IO_ENABLE | MASTER), []);
    assert_eq!(
        pci.set(FIRST, COMMAND, 1, IO_ENABLE),
        [
            unmap(device(0), Space::Memory, memory, 0x4000),
            unmap(Target::Vectors { device: 0 }, Space::Memory, vectors, 0x1000)
        ]
    );
    assert_eq!(pci.set(FIRST, COMMAND, 2, 0), [unmap(device(2), Space::Port, ports, 0x21)]);
}

#[test]
fn moved_register_is_unmapped_before_it_is_mapped() {
    let mut pci = with(&[plain(vec![range(Where::Bar(2), 0x800)])]);
    let target = Target::Device { device: 0, range: 0 };
    let at = |base| (target, Space::Memory, base, 0x800);
    let _ = pci.set(FIRST, COMMAND, 2, MEMORY_ENABLE);
    let effects = pci.set(FIRST, 0x18, 4, 0xd123_4567);
    let (target, space, base, length) = at(0xc000_0000);
    let unmap = Effect::Unmap { target, space, base, length };
    assert_eq!(effects, [unmap, Effect::Map { target, space, base: 0xd123_4000, length }]);
    // One byte of the address at a time, as some firmware does.
    let effects = pci.set(FIRST, 0x1b, 1, 0xe0);
    let unmap = Effect::Unmap { target, space, base: 0xd123_4000, length };
    assert_eq!(effects, [unmap, Effect::Map { target, space, base: 0xe023_4000, length }]);
    assert_eq!(pci.set(FIRST, 0x18, 1, 0xff), [], "no address bits");
}

#[test]
fn register_outside_the_windows_is_not_decoded() {
    let mut pci = with(&[plain(vec![range(Where::Bar(0), 0x1000), range(Where::PortBar(1), 8)])]);
    let _ = pci.set(FIRST, COMMAND, 2, MEMORY_ENABLE | IO_ENABLE);
    let unmapped = |effects: Vec<Effect>| matches!(effects[..], [Effect::Unmap { .. }]);
    assert!(unmapped(pci.set(FIRST, 0x10, 4, ONES)));
    for base in [0, 0x10_0000, 0xbfff_f000, 0xfec0_0000, 0xfee0_0000] {
        assert_eq!(pci.set(FIRST, 0x10, 4, base), []);
    }
    assert!(matches!(pci.set(FIRST, 0x10, 4, 0xfebf_f000)[..], [Effect::Map { base: 0xfebf_f000, .. }]));
    assert!(unmapped(pci.set(FIRST, 0x14, 4, ONES)));
    for base in [0, 0x70, 0xcf8, 0x1_0000, 0xffff_0000] {
        assert_eq!(pci.set(FIRST, 0x14, 4, base), []);
    }
    assert!(matches!(pci.set(FIRST, 0x14, 4, 0xfff8)[..], [Effect::Map { base: 0xfff8, length: 8, .. }]));
}

#[test]
fn place_taken_is_kept_by_who_has_it_and_given_when_it_is_free() {
    let one = || plain(vec![range(Where::Bar(0), 0x1000)]);
    let mut pci = with(&[one(), one()]);
    let (first, second) = (Target::Device { device: 0, range: 0 }, Target::Device { device: 1, range: 0 });
    let (space, length) = (Space::Memory, 0x1000);
    let _ = pci.set(FIRST, COMMAND, 2, MEMORY_ENABLE);
    let _ = pci.set(SECOND, COMMAND, 2, MEMORY_ENABLE);
    let effects = pci.set(SECOND, 0x10, 4, 0xc000_0000);
    assert_eq!(effects, [Effect::Unmap { target: second, space, base: 0xc000_1000, length }]);
    let effects = pci.set(FIRST, 0x10, 4, 0xc800_0000);
    assert_eq!(
        effects,
        [
            Effect::Unmap { target: first, space, base: 0xc000_0000, length },
            Effect::Map { target: first, space, base: 0xc800_0000, length },
            Effect::Map { target: second, space, base: 0xc000_0000, length },
        ]
    );
}

#[test]
fn mappings_never_overlap_whatever_the_guest_stores() {
    let mut pci = with(&[rich(), rich(), rich()]);
    let mut mapped: Vec<(Target, Space, u64, u64)> = Vec::new();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..20_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let register = [0x04, 0x05, 0x10, 0x12, 0x14, 0x16, 0x20, 0x22, 0x23][(state >> 8) as usize % 9];
        let width = if register % 2 == 0 { 2 } else { 1 };
        for effect in pci.set(FIRST + state % 3, register, width, state >> 32 & 0xc707) {
            match effect {
                Effect::Map { target, space, base, length } => {
                    let apart = |(_, other, at, bytes): &(Target, Space, u64, u64)| {
                        *other != space || base + length <= *at || at + bytes <= base
                    };
                    assert!(mapped.iter().all(apart), "{effect:?} over {mapped:?}");
                    mapped.push((target, space, base, length));
                }
                Effect::Unmap { target, space, base, length } => {
                    let before = mapped.len();
                    mapped.retain(|one| *one != (target, space, base, length));
                    assert_eq!(mapped.len(), before - 1, "{effect:?} was not mapped");
                }
                _ => {}
            }
        }
    }
}

#[test]
fn vector_control_is_told_once_for_each_change() {
    let mut pci = with(&[plain(vec![]), rich()]);
    let control = 0x5a;
    let vectors = |enabled, masked| vec![Effect::Vectors { device: 1, enabled, masked }];
    assert_eq!(pci.set(SECOND, control, 2, 0x4000), vectors(false, true));
    assert_eq!(pci.set(SECOND, control, 2, 0xc000), vectors(true, true));
    assert_eq!(pci.set(SECOND, control, 2, 0xffff), [], "the rest is read-only");
    assert_eq!(pci.set(SECOND, control + 1, 1, 0x80), vectors(true, false));
    assert_eq!(pci.get(SECOND, control, 2), 0x8002);
    assert_eq!(pci.set(SECOND, 0x58, 4, 0), vectors(false, false));
}

#[test]
fn interrupt_disable_is_told_and_the_status_bit_shows_the_pin_all_the_same() {
    let mut pci = with(&[rich()]);
    assert_eq!(pci.set(FIRST, COMMAND, 2, 0x400), [Effect::InterruptDisable { device: 0, disabled: true }]);
    pci.aim(FIRST, COMMAND);
    assert_eq!(pci.read(6, 2, |device| device == 0), 0x18);
    assert_eq!(pci.read(4, 4, |device| device == 0), 0x0018_0400);
    assert_eq!(pci.read(6, 2, quiet), 0x10);
    assert_eq!(pci.read(4, 2, |_| panic!("the command register says nothing of the pin")), 0x400);
    assert_eq!(pci.set(FIRST, COMMAND, 2, 0), [Effect::InterruptDisable { device: 0, disabled: false }]);
}

#[test]
fn manifest_that_makes_no_sense_is_refused_and_changes_nothing() {
    let mut cases = vec![
        (plain(vec![range(Where::Bar(6), 4)]), "no base address register 6"),
        (plain(vec![range(Where::Bar(0), 4), range(Where::PortBar(0), 4)]), "two ranges want base address register 0"),
        (plain(vec![range(Where::Bar(0), 0)]), "cannot hold 0x0 bytes"),
        (plain(vec![range(Where::Bar(0), 1 << 30)]), "cannot hold"),
        (plain(vec![range(Where::Bar(0), u64::MAX)]), "cannot hold"),
        (plain(vec![range(Where::Bar(0), 0x3e00_0000)]), "no addresses are left"),
        (plain(vec![range(Where::PortBar(0), 257)]), "cannot hold 0x101 bytes"),
        (Manifest { lines: vec![Line::Pin(0)], ..plain(vec![]) }, "no PCI pin 0"),
        (Manifest { lines: vec![Line::Pin(1), Line::Pin(2)], ..plain(vec![]) }, "one PCI pin"),
        (Manifest { vectors: 129, ..plain(vec![]) }, "129 vectors"),
        (Manifest { vectors: 1, ..plain(vec![range(Where::Bar(1), 4)]) }, "two ranges want base address register 1"),
    ];
    for (capability, why) in [(vec![9], "shorter"), (vec![0x11, 0, 0, 0], "vectors"), (vec![9; 200], "do not fit")] {
        let identity = Identity { capabilities: vec![capability], ..identity() };
        cases.push((Manifest { pci: Some(identity), ..plain(vec![]) }, why));
    }
    let register = |offset, value: &[u8]| PciRegister { offset, value: value.to_vec(), writable: value.to_vec() };
    for (registers, why) in [
        (vec![register(0x3c, &[1])], "header"),
        (vec![register(0xfe, &[1, 2, 3])], "header"),
        (vec![register(0x40, &[1, 2]), register(0x41, &[1])], "overlap"),
        (vec![PciRegister { writable: Vec::new(), ..register(0x40, &[1]) }], "mask"),
        (vec![register(0xf0, &[1; 8])], "do not fit"),
    ] {
        cases.push((Manifest { pci: Some(Identity { registers, ..identity() }), ..plain(vec![]) }, why));
    }
    let class = Identity { class: 1 << 24, ..identity() };
    cases.push((Manifest { pci: Some(class), ..plain(vec![]) }, "24 bits"));
    for (manifest, why) in cases {
        let mut pci = Pci::new(pam::ALL_MEMORY);
        let refused = pci.add(0, &manifest).unwrap_err();
        assert!(refused.starts_with("plain: ") && refused.contains(why), "{refused}");
        pci.add(0, &rich()).unwrap();
        assert_eq!(pci.slot_of(0), Some(FIRST_SLOT));
        assert_eq!(pci.get(FIRST, 0x20, 4), 0xc000_0000, "its addresses were given back");
    }
}

#[test]
fn registers_of_the_function_keep_the_bits_that_may_be_stored_and_capabilities_lie_behind_them() {
    let registers = vec![
        PciRegister { offset: 0x40, value: vec![0x00, 0x80], writable: vec![0x0f, 0x80] },
        PciRegister { offset: 0x49, value: vec![0x11, 0x22], writable: vec![0xff, 0x00] },
    ];
    let mut pci = with(&[Manifest { pci: Some(Identity { registers, ..identity() }), ..rich() }]);
    assert_eq!(pci.get(FIRST, 0x40, 4), 0x8000);
    assert_eq!(pci.set(FIRST, 0x40, 4, ONES), [], "nothing outside of configuration space changes");
    assert_eq!(pci.get(FIRST, 0x40, 4), 0x800f);
    assert_eq!(pci.set(FIRST, 0x48, 4, 0), []);
    assert_eq!(pci.get(FIRST, 0x48, 4), 0x0022_0000);
    assert_eq!(pci.get(FIRST, 0x34, 1), 0x4c);
    assert_eq!(pci.get(FIRST, 0x4c, 1), 0x09);
}

#[test]
fn function_with_legacy_ports_lines_and_a_port_bar_decodes_what_the_command_register_says() {
    let manifest = Manifest {
        ranges: vec![range(Where::Port(0x1f0), 8), range(Where::PortBar(4), 16)],
        lines: vec![Line::Isa(14), Line::Isa(15)],
        pci: Some(Identity { class: 0x01_0180, capabilities: Vec::new(), ..identity() }),
        ..testing::manifest("ide")
    };
    let mut pci = with(&[manifest]);
    assert_eq!(pci.get(FIRST, 0x08, 4), 0x0101_8001);
    assert_eq!(pci.get(FIRST, 0x20, 4), 0xc001);
    assert_eq!(pci.get(FIRST, 0x3c, 2), 0, "an ISA interrupt is no PCI pin");
    let target = Target::Device { device: 0, range: 1 };
    let (space, base, length) = (Space::Port, 0xc000, 16);
    assert_eq!(pci.set(FIRST, COMMAND, 2, IO_ENABLE | MASTER), [Effect::Map { target, space, base, length }]);
    assert_eq!(pci.set(FIRST, COMMAND, 2, 0), [Effect::Unmap { target, space, base, length }]);
}

#[test]
fn device_without_a_pci_identity_takes_no_slot() {
    let mut pci = with(&[testing::manifest("isa"), rich()]);
    assert_eq!((pci.slot_of(0), pci.slot_of(1)), (None, Some(FIRST_SLOT)));
    assert_eq!(pci.get(SECOND, 0, 4), ONES);
}

/// With the function of this number beside the ISA bridge.
fn beside(function: u8) -> Manifest {
    let mut manifest = plain(vec![range(Where::PortBar(4), 16)]);
    manifest.pci.as_mut().unwrap().bridge_function = function;
    manifest
}

#[test]
fn a_function_that_cannot_be_beside_the_isa_bridge_is_refused() {
    let mut pci = with(&[beside(1)]);
    assert!(pci.add(1, &beside(1)).unwrap_err().contains("function 1 of the ISA bridge is there already"));
    assert!(pci.add(1, &beside(8)).unwrap_err().contains("no function 8"));
    let pinned = Manifest { lines: vec![Line::Pin(1)], ..beside(2) };
    assert!(pci.add(1, &pinned).unwrap_err().contains("no pin"));
}

#[test]
fn a_function_beside_the_isa_bridge_takes_no_slot_of_its_own() {
    let mut pci = with(&[plain(Vec::new()), beside(1), plain(Vec::new())]);
    assert_eq!((pci.slot_of(0), pci.slot_of(1), pci.slot_of(2)), (Some(2), Some(1), Some(3)));
    let function = |pci: &mut Pci, number: u64| {
        assert_eq!(pci.write(0, 4, 1 << 31 | 1 << 11 | number << 8), []);
        pci.read(4, 4, quiet)
    };
    assert_eq!(function(&mut pci, 0), 0x7000_8086);
    assert_eq!(function(&mut pci, 1), 0x1042_1af4);
    assert_eq!(function(&mut pci, 2), ONES);
    assert_eq!(pci.get(1, 0x0e, 1), 0x80, "more functions follow");
}
