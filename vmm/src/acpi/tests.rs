use super::*;
use crate::memory::tests::ram;
use crate::testing;
use schema::manifest::{Acpi, AcpiNode, Line, Range};

/// A device's ports, as its manifest has them.
fn ports(first: u16, length: u64) -> Range {
    Range { name: "registers".to_owned(), length, space: Space::Port(first) }
}

fn power() -> Manifest {
    let fixed = Fixed { event: 0, control: 4, timer: 8, sci: 9, sleep_type: 5 };
    Manifest {
        ranges: vec![ports(0x600, 12)],
        lines: vec![Line::Isa(9)],
        acpi: Some(Acpi { fixed: Some(fixed), ..Acpi::default() }),
        ..testing::manifest("power")
    }
}

fn serial() -> Manifest {
    let acpi = Acpi { name: "COM1".into(), hid: "PNP0501".into(), uid: 1, boot_arch: 1, ..Acpi::default() };
    Manifest {
        ranges: vec![ports(0x3f8, 8)],
        lines: vec![Line::Isa(4)],
        acpi: Some(acpi),
        ..testing::manifest("serial")
    }
}

fn clock() -> Manifest {
    let acpi = Acpi { name: "RTC0".into(), hid: "PNP0B00".into(), century: 0x32, ..Acpi::default() };
    Manifest { ranges: vec![ports(0x70, 2)], lines: vec![Line::Isa(8)], acpi: Some(acpi), ..testing::manifest("clock") }
}

fn notifier() -> Manifest {
    let acpi = Acpi { name: "PEVT".into(), hid: "QEMU0001".into(), ..Acpi::default() };
    let range = Range { name: "far".to_owned(), length: 0x1000, space: Space::Memory(1 << 40) };
    let near = Range { name: "near".to_owned(), length: 0x1000, space: Space::Memory(0xfed0_0000) };
    Manifest { ranges: vec![ports(0x505, 1), near, range], acpi: Some(acpi), ..testing::manifest("notifier") }
}

/// Guest memory with the tables in it.
struct Tables(GuestRam);

impl Tables {
    fn of(cpus: u8, manifests: &[Manifest]) -> Tables {
        let ram = ram(2 << 20);
        let rsdp = build(&ram, cpus, &manifests.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(rsdp, 0xe_0000);
        Tables(ram)
    }

    fn bytes(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }

    fn number(&self, at: u64, width: usize) -> u64 {
        self.bytes(at, width).iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    /// A whole table with a good checksum.
    fn table(&self, at: u64, signature: &[u8; 4]) -> Vec<u8> {
        let length = self.number(at + 4, 4) as usize;
        assert!((36..0x1_0000).contains(&length) && at + length as u64 <= TABLES_END);
        let table = self.bytes(at, length);
        assert_eq!(&table[..4], signature);
        assert_eq!(sum(&table), 0, "checksum of {signature:?}");
        table
    }

    fn fadt_address(&self) -> u64 {
        let xsdt = self.number(TABLES + 24, 8);
        self.number(xsdt + 36, 8)
    }

    fn fadt(&self) -> Vec<u8> {
        self.table(self.fadt_address(), b"FACP")
    }

    fn madt(&self) -> Vec<u8> {
        let xsdt = self.number(TABLES + 24, 8);
        self.table(self.number(xsdt + 44, 8), b"APIC")
    }

    fn dsdt(&self) -> Vec<u8> {
        self.table(self.number(self.fadt_address() + 140, 8), b"DSDT")
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn le(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn every_table_is_found_from_the_root_with_a_good_checksum() {
    let tables = Tables::of(2, &[power(), serial(), clock(), notifier()]);
    let rsdp = tables.bytes(TABLES, 36);
    assert_eq!(&rsdp[..8], b"RSD PTR ");
    assert_eq!((sum(&rsdp[..20]), sum(&rsdp), rsdp[15]), (0, 0, 2));
    let xsdt = tables.table(le(&rsdp[24..32]), b"XSDT");
    assert_eq!(xsdt.len(), 36 + 16, "FADT and MADT");
    tables.madt();
    tables.dsdt();
    let fadt = tables.fadt();
    assert_eq!((fadt.len(), fadt[8]), (276, 6));
    assert_eq!(le(&fadt[40..44]), le(&fadt[140..148]), "both say where the DSDT is");
    let facs = le(&fadt[36..40]);
    assert_eq!(tables.bytes(facs, 4), b"FACS");
    assert_eq!((facs % 64, tables.number(facs + 4, 4)), (0, 64));
}

#[test]
fn power_block_is_described_in_both_forms() {
    let fadt = Tables::of(1, &[serial(), power()]).fadt();
    assert_eq!(le(&fadt[46..48]), 9, "SCI");
    assert_eq!(le(&fadt[48..52]), 0, "no SMI command: always ACPI");
    assert_eq!((le(&fadt[56..60]), le(&fadt[64..68]), le(&fadt[76..80])), (0x600, 0x604, 0x608));
    assert_eq!((fadt[88], fadt[89], fadt[91]), (4, 2, 4));
    for (at, width, access, address) in [(148, 32, 2, 0x600), (172, 16, 2, 0x604), (208, 32, 3, 0x608)] {
        assert_eq!(fadt[at..at + 4], [1, width, 0, access]);
        assert_eq!(le(&fadt[at + 4..at + 12]), address);
    }
    // WBINVD, PROC_C1, SLP_BUTTON and FIX_RTC set; PWR_BUTTON, RESET_REG_SUP and HW_REDUCED_ACPI clear.
    assert_eq!(le(&fadt[112..116]), 0b0110_0101);
}

#[test]
fn machine_without_a_power_block_says_that_it_has_none() {
    let tables = Tables::of(1, &[serial()]);
    let fadt = tables.fadt();
    assert_ne!(le(&fadt[112..116]) & 1 << 20, 0, "HW_REDUCED_ACPI");
    assert!(fadt[48..108].iter().enumerate().all(|(at, byte)| *byte == 0 || (96 - 48..100 - 48).contains(&at)));
    assert!(!contains(&tables.dsdt(), b"_S5_"));
}

#[test]
fn boot_architecture_is_what_the_devices_say_and_what_is_missing() {
    let boot_arch = |manifests: &[Manifest]| le(&Tables::of(1, manifests).fadt()[109..111]);
    let keyboard = || {
        let acpi = Acpi { name: "PS2K".into(), hid: "PNP0303".into(), boot_arch: 2, ..Acpi::default() };
        Manifest { acpi: Some(acpi), ..testing::manifest("keyboard") }
    };
    assert_eq!(boot_arch(&[]), 0b10_0100, "no VGA, no clock");
    assert_eq!(boot_arch(&[serial(), clock(), keyboard()]), 0b00_0111);
    assert_eq!(Tables::of(1, &[clock()]).fadt()[108], 0x32, "century");
}

#[test]
fn processors_and_interrupt_wiring_are_in_the_madt() {
    let madt = Tables::of(3, &[power()]).madt();
    assert_eq!((le(&madt[36..40]), le(&madt[40..44])), (0xfee0_0000, 1));
    let mut entries = Vec::new();
    let mut rest = &madt[44..];
    while !rest.is_empty() {
        let (entry, after) = rest.split_at(usize::from(rest[1]));
        entries.push(entry);
        rest = after;
    }
    assert_eq!(entries.len(), 6);
    for (cpu, entry) in (0..).zip(&entries[..3]) {
        assert_eq!(entry, &[0, 8, cpu, cpu, 1, 0, 0, 0]);
    }
    assert_eq!(entries[3], [1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
    assert_eq!(entries[4], [2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0]);
    assert_eq!(entries[5], [4, 6, 0xff, 0, 0, 1]);
}

#[test]
fn devices_are_in_the_namespace_with_their_resources() {
    let dsdt = Tables::of(1, &[power(), serial(), clock(), notifier()]).dsdt();
    // IO descriptors, IRQ descriptors, fixed memory: ACPI 6.5, 6.4.2 and 6.4.3.
    let serial = [0x47, 1, 0xf8, 0x03, 0xf8, 0x03, 1, 8, 0x22, 0x10, 0, 0x79];
    let clock = [0x47, 1, 0x70, 0, 0x70, 0, 1, 2, 0x22, 0, 1, 0x79];
    let near = [0x86, 9, 0, 1, 0, 0, 0xd0, 0xfe, 0, 0x10, 0, 0];
    let far = [[0x8a, 43, 0, 0, 13, 1, 0, 0].as_slice(), &[0; 6], &(1_u64 << 40).to_le_bytes()].concat();
    // The power block has no node of its own, so the motherboard claims it, without its interrupt.
    let block = [0x47, 1, 0, 6, 0, 6, 1, 12, 0x79];
    for needle in [&serial[..], &clock, &near, &far, &block, b"\x0dQEMU0001\0", b"COM1", b"RTC0", b"PEVT", b"MBRD"] {
        assert!(contains(&dsdt, needle), "{needle:x?}");
    }
    // EISA identifiers are packed, high byte first.
    for (packed, name) in [([0x41, 0xd0, 0x0a, 0x03], "PNP0A03"), ([0x41, 0xd0, 0x05, 0x01], "PNP0501")] {
        assert!(contains(&dsdt, &packed), "{name}");
    }
    // The soft-off state: a package of four.
    assert!(contains(&dsdt, b"\\_S5_\x12\x08\x04\x0a\x05\x0a\x05\x00\x00"));
}

#[test]
fn every_slot_is_wired_to_the_input_that_its_function_asserts() {
    let dsdt = Tables::of(1, &[]).dsdt();
    for slot in 2..32_u8 {
        for pin in 0..4 {
            let gsi = crate::pci::gsi_of(slot, pin + 1) as u8;
            let mut route = vec![0x0c, 0xff, 0xff, slot, 0];
            match pin {
                0 => route.push(0),
                1 => route.push(1),
                pin => route.extend([0x0a, pin]),
            }
            route.extend([0, 0x0a, gsi]);
            assert!(contains(&dsdt, &route), "slot {slot} pin {pin}");
        }
    }
}

#[test]
fn bridge_forwards_what_functions_may_decode() {
    let dsdt = Tables::of(1, &[]).dsdt();
    let words =
        |min: u16, max: u16| [min.to_le_bytes(), max.to_le_bytes(), [0; 2], (max - min + 1).to_le_bytes()].concat();
    assert!(contains(&dsdt, &[&[0x88, 13, 0, 2, 12, 0, 0, 0][..], &words(0, 0)].concat()), "bus 0");
    assert!(contains(&dsdt, &[&[0x88, 13, 0, 1, 12, 3, 0, 0][..], &words(0, 0xcf7)].concat()), "low ports");
    assert!(contains(&dsdt, &[&[0x88, 13, 0, 1, 12, 3, 0, 0][..], &words(0xd00, 0xffff)].concat()), "high ports");
    let window = [0xc000_0000_u32.to_le_bytes(), 0xfebf_ffff_u32.to_le_bytes(), [0; 4], 0x3ec0_0000_u32.to_le_bytes()];
    assert!(contains(&dsdt, &[&[0x87, 23, 0, 0, 12, 1, 0, 0, 0, 0][..], &window.concat()].concat()), "memory");
}

#[test]
fn device_behind_anothers_registers_has_its_own_interrupt() {
    let also = vec![AcpiNode { name: "PS2M".into(), hid: "PNP0F13".into(), line: 1 }];
    let acpi = Acpi { name: "PS2K".into(), hid: "PNP0303".into(), also, ..Acpi::default() };
    let lines = vec![Line::Isa(1), Line::Isa(12)];
    let keyboard = Manifest { ranges: vec![ports(0x60, 1)], lines, acpi: Some(acpi), ..testing::manifest("keyboard") };
    let dsdt = Tables::of(1, &[keyboard]).dsdt();
    let end = [0x79, 0];
    assert!(contains(&dsdt, &[&[0x47, 1, 0x60, 0, 0x60, 0, 1, 1, 0x22, 2, 0][..], &end].concat()), "the keyboard's");
    assert!(contains(&dsdt, b"PS2M"));
    assert!(contains(&dsdt, &[&[0x11, 8, 0x0a, 5, 0x22, 0, 0x10][..], &end].concat()), "the mouse's");
}

#[test]
fn range_of_many_ports_is_named_in_parts() {
    let many = Manifest { ranges: vec![ports(0x1000, 600)], ..serial() };
    let dsdt = Tables::of(1, &[many]).dsdt();
    let parts = [
        0x47, 1, 0, 0x10, 0, 0x10, 1, 255, 0x47, 1, 0xff, 0x10, 0xff, 0x10, 1, 255, 0x47, 1, 0xfe, 0x11, 0xfe, 0x11, 1,
        90,
    ];
    assert!(contains(&dsdt, &parts));
}

#[test]
fn manifest_that_makes_no_sense_is_refused_in_a_sentence() {
    let named = |name: &str, hid: &str| {
        let acpi = Acpi { name: name.into(), hid: hid.into(), ..Acpi::default() };
        Manifest { acpi: Some(acpi), ..testing::manifest("odd") }
    };
    let fixed = |change: fn(&mut Fixed)| {
        let mut power = power();
        power.name = "odd".to_owned();
        change(power.acpi.as_mut().unwrap().fixed.as_mut().unwrap());
        power
    };
    let ranges = |range| Manifest { ranges: vec![range], ..named("ODD0", "PNP0501") };
    let memory = |base, length| Range { name: "m".to_owned(), length, space: Space::Memory(base) };
    for (manifest, why) in [
        (named("ODD", "PNP0501"), "no ACPI name"),
        (named("_CRS", "PNP0501"), "no ACPI name"),
        (named("odd0", "PNP0501"), "no ACPI name"),
        (named("ÖÖ", "PNP0501"), "no ACPI name"),
        (named("A.B0", "PNP0501"), "no ACPI name"),
        (named("MBRD", "PNP0501"), "already"),
        (named("ODD0", ""), "no ACPI hardware ID"),
        (named("ODD0", "PNP050"), "no ACPI hardware ID"),
        (named("ODD0", "PNP050G"), "no ACPI hardware ID"),
        (named("ODD0", "pnp0501"), "no ACPI hardware ID"),
        (named("ODD0", "PNPÄ01"), "no ACPI hardware ID"),
        (named("ODD0", "QEMU\0\0\0\0"), "no ACPI hardware ID"),
        (ranges(ports(0xffff, 2)), "not in its address space"),
        (ranges(ports(0x100, 0)), "not in its address space"),
        (ranges(ports(0x100, u64::MAX)), "not in its address space"),
        (ranges(memory(u64::MAX, 2)), "not in its address space"),
        (Manifest { lines: vec![Line::Isa(16)], ..named("ODD0", "PNP0501") }, "no ISA interrupt 16"),
        (fixed(|fixed| fixed.timer = 9), "not all in its first range"),
        (fixed(|fixed| fixed.event = 255), "not all in its first range"),
        (fixed(|fixed| fixed.sci = 2), "3 to 15"),
        (fixed(|fixed| fixed.sci = 16), "3 to 15"),
        (fixed(|fixed| fixed.sleep_type = 8), "three bits"),
        (Manifest { ranges: vec![], ..fixed(|_| ()) }, "not of ports"),
        (Manifest { ranges: vec![ports(0xfff8, 12)], ..fixed(|_| ()) }, "not all in its first range"),
    ] {
        let sentence = build(&ram(2 << 20), 1, &[&manifest]).unwrap_err().to_string();
        assert!(sentence.starts_with("odd: ") && sentence.contains(why), "{sentence}");
    }
    let twice = |manifest: Manifest| build(&ram(2 << 20), 1, &[&manifest, &manifest]).unwrap_err().to_string();
    assert!(twice(serial()).contains("another device has the ACPI name"));
    assert!(twice(power()).contains("another device has ACPI's fixed registers"));
}

#[test]
fn tables_too_large_for_their_place_are_refused() {
    let ranges: Vec<_> = (0..64).map(|_| ports(0, 1 << 16)).collect();
    let large = Manifest { ranges, ..serial() };
    let refused = build(&ram(2 << 20), 1, &[&large]);
    assert!(matches!(refused, Err(AcpiError::TooLarge { .. })));
}

#[test]
fn memory_without_room_is_refused() {
    assert!(matches!(build(&ram(0xe_0000), 1, &[]), Err(AcpiError::Memory(_))));
}
