#![allow(unsafe_code)] // Gives a virtual machine its memory.

use super::linux::e820;
use super::*;
use crate::memory::tests::ram;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::io::Write;

const GIB: u64 = 1 << 30;
const RSDP: u64 = 0xe_0000;

fn file(bytes: &[u8]) -> File {
    let mut file = File::from(memfd_create(c"test:file", MFdFlags::MFD_CLOEXEC).unwrap());
    file.write_all(bytes).unwrap();
    file
}

/// A bzImage whose code is `code`, after one sector of set-up. Fields of the header: boot protocol, "The Real-Mode
/// Kernel Header".
struct BzImage {
    bytes: Vec<u8>,
}

impl BzImage {
    fn new(code: &[u8]) -> BzImage {
        let mut bytes = vec![0; 1024];
        bytes.extend(code);
        bytes.resize(bytes.len().next_multiple_of(16), 0);
        let paragraphs = (bytes.len() - 1024) as u32 / 16;
        let mut image = BzImage { bytes };
        image.put(0x1f1, &[1]);
        image.put(0x1f4, &paragraphs.to_le_bytes());
        image.put(0x1fe, &[0x55, 0xaa]);
        image.put(0x202, b"HdrS");
        image.put(0x206, &0x20f_u16.to_le_bytes());
        image.put(0x211, &[1]);
        image.put(0x214, &0x10_0000_u32.to_le_bytes());
        image.put(0x22c, &0x7fff_ffff_u32.to_le_bytes());
        image.put(0x230, &0x20_0000_u32.to_le_bytes());
        image.put(0x234, &[1]);
        image.put(0x236, &1_u16.to_le_bytes());
        image.put(0x238, &2047_u32.to_le_bytes());
        image.put(0x258, &0x100_0000_u64.to_le_bytes());
        image.put(0x260, &(20 * MIB as u32).to_le_bytes());
        image
    }

    fn put(&mut self, at: usize, field: &[u8]) {
        self.bytes[at..at + field.len()].copy_from_slice(field);
    }

    fn with(mut self, at: usize, field: &[u8]) -> BzImage {
        self.put(at, field);
        self
    }

    fn file(&self) -> File {
        file(&self.bytes)
    }
}

/// An ELF kernel with one segment, at 16 MiB, of `code` and as much again of zeros.
fn elf(code: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend([2_u16, 62].map(u16::to_le_bytes).concat());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend([0x100_0000_u64, 64, 0].map(u64::to_le_bytes).concat());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend([64_u16, 56, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    assert_eq!(bytes.len(), 64);
    bytes.extend([1_u32, 7].map(u32::to_le_bytes).concat());
    let size = code.len() as u64;
    bytes.extend([120_u64, 0, 0x100_0000, size, 2 * size, 4096].map(u64::to_le_bytes).concat());
    assert_eq!(bytes.len(), 120);
    bytes.extend(code);
    bytes
}

fn number(ram: &GuestRam, at: u64, width: usize) -> u64 {
    let mut bytes = [0; 8];
    ram.read_slice(&mut bytes[..width], GuestAddress(at)).unwrap();
    u64::from_le_bytes(bytes)
}

fn refusal(kernel: &mut File, memory: u64) -> String {
    load_kernel(&ram(memory), kernel, None, "", RSDP).unwrap_err().to_string()
}

#[test]
fn bzimage_is_loaded_with_all_that_it_needs() {
    let code: Vec<u8> = (0..MIB as u32 / 4).flat_map(u32::to_le_bytes).collect();
    let initrd = vec![0x5a; 5000];
    let ram = ram(64 * MIB);
    let image = BzImage::new(&code);
    let entry = load_kernel(&ram, &mut image.file(), Some(&mut file(&initrd)), "console=ttyS0", RSDP).unwrap();
    assert_eq!(entry, Entry { rip: 0x10_0200, rsp: 0x1_0000, rsi: 0x8000 });
    let mut loaded = vec![0; code.len()];
    ram.read_slice(&mut loaded, GuestAddress(0x10_0000)).unwrap();
    assert!(loaded == code);

    let zero_page = |at: u64, width| number(&ram, 0x8000 + at, width);
    assert_eq!(zero_page(0x70, 8), RSDP);
    assert_eq!(zero_page(0x202, 4), u64::from(u32::from_le_bytes(*b"HdrS")));
    assert_eq!(zero_page(0x210, 1), 0xff, "type of loader");
    assert_eq!(zero_page(0x1ef, 1), 0, "sentinel");
    let cmdline = zero_page(0x228, 4);
    let mut text = [0; 14];
    ram.read_slice(&mut text, GuestAddress(cmdline)).unwrap();
    assert_eq!(&text, b"console=ttyS0\0");

    let (at, size) = (zero_page(0x218, 4), zero_page(0x21c, 4));
    assert_eq!(size, 5000);
    assert_eq!(at, 64 * MIB - 8192, "as high as memory goes, on a page");
    let mut loaded = vec![0; 5000];
    ram.read_slice(&mut loaded, GuestAddress(at)).unwrap();
    assert_eq!(loaded, initrd);

    let entries = zero_page(0x1e8, 1);
    assert_eq!(entries, 4);
    assert_eq!((zero_page(0x2d0, 8), zero_page(0x2d8, 8), zero_page(0x2e0, 4)), (0, 0x9_fc00, 1));
}

#[test]
fn elf_kernel_is_entered_where_it_says() {
    let ram = ram(64 * MIB);
    let entry = load_kernel(&ram, &mut file(&elf(&[0x90; 100])), Some(&mut file(&[1])), "", RSDP).unwrap();
    assert_eq!(entry, Entry { rip: 0x100_0000, rsp: 0x1_0000, rsi: 0x8000 });
    assert_eq!(number(&ram, 0x100_0000 + 98, 4), 0x9090);
    assert_eq!(number(&ram, 0x8000 + 0x1fe, 2), 0xaa55);
    assert_eq!(number(&ram, 0x8000 + 0x202, 4), u64::from(u32::from_le_bytes(*b"HdrS")));
    assert_eq!(number(&ram, 0x8000 + 0x218, 4), 64 * MIB - 4096);
}

#[test]
fn initrd_stays_below_the_hole_and_below_what_the_kernel_allows() {
    let initrd_at = |memory, last: u32| {
        let ram = ram(memory);
        let image = BzImage::new(&[0x90]).with(0x22c, &last.to_le_bytes());
        load_kernel(&ram, &mut image.file(), Some(&mut file(&[1; 100])), "", RSDP).unwrap();
        number(&ram, 0x8000 + 0x218, 4)
    };
    assert_eq!(initrd_at(6 * GIB, 0x7fff_ffff), 2 * GIB - 4096);
    assert_eq!(initrd_at(6 * GIB, u32::MAX), 3 * GIB - 4096);
    assert_eq!(initrd_at(64 * MIB, 0x37ff_ffff), 64 * MIB - 4096);
    assert_eq!(initrd_at(6 * GIB, 0x4000_0063), GIB, "its last byte is the last allowed");
    assert_eq!(initrd_at(6 * GIB, 0x4000_0062), GIB - 4096, "a byte less is a page less");
}

#[test]
fn initrd_that_does_not_fit_above_the_kernel_is_refused() {
    // The kernel needs memory up to 36 MiB.
    let load = |bytes: u64| {
        let mut initrd = file(&[]);
        initrd.set_len(bytes).unwrap();
        load_kernel(&ram(64 * MIB), &mut BzImage::new(&[0x90]).file(), Some(&mut initrd), "", RSDP)
    };
    assert!(load(28 * MIB).is_ok());
    let sentence = load(28 * MIB + 1).unwrap_err().to_string();
    assert!(sentence.contains("initrd of 29360129 bytes"), "{sentence}");
    assert!(load(0).unwrap_err().to_string().contains("the initrd is damaged: it is empty"));
    assert!(matches!(load(1 << 40), Err(BootError::NoPlaceForInitrd { .. })));
}

#[test]
fn what_is_no_kernel_is_refused() {
    for bytes in [&b""[..], b"ab", b"#!/bin/sh\n", &[0; 4096], &[0x1f, 0x8b, 8, 0]] {
        assert_eq!(refusal(&mut file(bytes), 64 * MIB), "the kernel is neither an x86 bzImage nor an ELF file");
    }
}

#[test]
fn kernel_without_a_64_bit_entry_is_refused_with_the_reason() {
    for (image, why) in [
        (BzImage::new(&[0x90]).with(0x236, &[0, 0]), "it is a 32-bit kernel"),
        (BzImage::new(&[0x90]).with(0x206, &0x20b_u16.to_le_bytes()), "older than 2.12"),
        (BzImage::new(&[0x90]).with(0x211, &[0]), "it is a zImage"),
    ] {
        let sentence = refusal(&mut image.file(), 64 * MIB);
        assert!(sentence.starts_with("the kernel has no 64-bit entry: ") && sentence.ends_with(why), "{sentence}");
    }
    let mut arm = elf(&[0; 16]);
    arm[18] = 183;
    assert!(refusal(&mut file(&arm), 64 * MIB).contains("another processor"));
}

#[test]
fn truncated_kernel_is_refused_wherever_it_ends() {
    let whole = BzImage::new(&[0x90; 10_000]).bytes;
    for length in [0x1f1, 0x202, 0x260, 0x26c, 1024, 1025, whole.len() - 16] {
        let sentence = refusal(&mut file(&whole[..length]), 64 * MIB);
        let promised = sentence.contains(&format!("it has {length} bytes, its header promises {}", whole.len()));
        assert!(promised || sentence.contains("neither"), "{length}: {sentence}");
    }
    let whole = elf(&[0x90; 100]);
    for length in [4, 63, 64, 119, 120, whole.len() - 1] {
        let sentence = refusal(&mut file(&whole[..length]), 64 * MIB);
        assert!(
            sentence.starts_with("the kernel is damaged: ") && sentence.contains("cut off"),
            "{length}: {sentence}"
        );
    }
}

#[test]
fn kernel_may_end_within_its_last_paragraph() {
    // memtest86+ 6.10 does.
    let whole = BzImage::new(&[0x90; 10_000]).bytes;
    for length in [whole.len() - 15, whole.len() - 1] {
        assert!(load_kernel(&ram(64 * MIB), &mut file(&whole[..length]), None, "", RSDP).is_ok(), "{length}");
    }
}

#[test]
fn kernel_that_needs_more_memory_than_there_is_is_refused_with_both_sizes() {
    let large = || BzImage::new(&[0x90]).with(0x260, &(48 * MIB as u32 + 1).to_le_bytes());
    let sentence = refusal(&mut large().file(), 64 * MIB);
    assert_eq!(sentence, "the kernel does not fit: it needs guest memory from 1M to 65M, and memory there ends at 64M");
    assert!(load_kernel(&ram(66 * MIB), &mut large().file(), None, "", RSDP).is_ok());
    assert!(refusal(&mut file(&elf(&vec![0; 25 * MIB as usize])), 64 * MIB).contains("does not fit"));
}

#[test]
fn header_that_cannot_be_is_refused() {
    for (image, why) in [
        (BzImage::new(&[0x90]).with(0x214, &0x9_0000_u32.to_le_bytes()), "below 1 MiB"),
        (BzImage::new(&[0x90]).with(0x230, &0_u32.to_le_bytes()), "no power of two"),
        (BzImage::new(&[0x90]).with(0x1f4, &0_u32.to_le_bytes()), "promises"),
        (BzImage::new(&[0x90]).with(0x258, &u64::MAX.to_le_bytes()), "does not fit"),
        (BzImage::new(&[0x90]).with(0x214, &u32::MAX.to_le_bytes()), "does not fit"),
    ] {
        let sentence = refusal(&mut image.file(), 64 * MIB);
        assert!(sentence.contains(why), "{sentence}");
    }
    // Offsets in the ELF headers: entry, place of the program headers, their size; the segment's place, address and
    // size.
    for (at, field, why) in [
        (24, 0x200_0000_u64, "its entry is in no segment"),
        (32, 1 << 40, "cut off"),
        (54, 57, "a size of their own"),
        (72, u64::MAX, "a segment is cut off"),
        (88, 0x8_0000, "below 1 MiB"),
        (88, u64::MAX, "no possible address"),
        (88, 64 * MIB, "does not fit"),
        (104, 1, "a segment is cut off"),
    ] {
        let mut bytes = elf(&[0x90; 100]);
        let width = if at == 54 { 2 } else { 8 };
        bytes[at..at + width].copy_from_slice(&field.to_le_bytes()[..width]);
        let sentence = refusal(&mut file(&bytes), 64 * MIB);
        assert!(sentence.contains(why), "{at}: {sentence}");
    }
}

#[test]
fn command_line_is_as_long_as_the_kernel_takes() {
    let load = |image: BzImage, cmdline: &str| load_kernel(&ram(64 * MIB), &mut image.file(), None, cmdline, RSDP);
    let line = |length| "x".repeat(length);
    assert!(load(BzImage::new(&[0x90]), &line(2047)).is_ok());
    assert_eq!(
        load(BzImage::new(&[0x90]), &line(2048)).unwrap_err().to_string(),
        "the kernel command line has 2048 bytes, this kernel takes at most 2047"
    );
    let old = || BzImage::new(&[0x90]).with(0x238, &[0; 4]);
    assert!(load(old(), &line(255)).is_ok());
    assert!(matches!(load(old(), &line(256)), Err(BootError::CommandLine { most: 255, .. })));
    let boundless = BzImage::new(&[0x90]).with(0x238, &u32::MAX.to_le_bytes());
    assert!(matches!(load(boundless, &line(1 << 20)), Err(BootError::CommandLine { most: 0x7_fbff, .. })));
    assert!(matches!(load(BzImage::new(&[0x90]), "a\0b"), Err(BootError::CommandLineZero)));
}

#[test]
fn memory_map_is_sane_at_every_size() {
    for memory in [64 * MIB, 3 * GIB, 3 * GIB + 2 * MIB, 6 * GIB] {
        let ram = ram(memory);
        let map: Vec<(u64, u64, u32)> =
            e820(&ram).iter().map(|entry| (entry.addr, entry.addr + entry.size, entry.r#type)).collect();
        assert!(map.windows(2).all(|pair| pair[0].1 <= pair[1].0), "ascending: {map:x?}");
        let usable = || map.iter().filter(|entry| entry.2 == 1);
        // All memory but firmware's part is usable.
        let bytes: u64 = usable().map(|(from, to, _)| to - from).sum();
        assert_eq!(bytes, memory - (FIRMWARE_END - FIRMWARE_START));
        for (from, to, _) in usable() {
            assert!(ram.check_range(GuestAddress(*from), (to - from) as usize), "{from:#x} is memory");
        }
        assert!(map.contains(&(0x9_fc00, 0x10_0000, 2)));
        assert!(map.contains(&(0xfec0_0000, 0x1_0000_0000, 2)));
        // The window of PCI is in no entry.
        assert!(map.iter().all(|(from, to, _)| *to <= 0xc000_0000 || 0xfe00_0000 <= *from), "{map:x?}");
        assert_eq!(usable().any(|(from, ..)| *from == 4 * GIB), memory > 3 * GIB);
    }
}

#[test]
fn tables_map_the_first_four_gib_one_to_one() {
    let ram = ram(64 * MIB);
    load_flat(&ram, &mut file(&[0x90]), MIB).unwrap();
    let mut sregs = kvm_sregs::default();
    Entry { rip: 0, rsp: 0, rsi: 0 }.prepare(&mut sregs);
    // A walk as the processor does it, by 2 MiB pages.
    let walk = |address: u64| {
        let mut table = sregs.cr3;
        for level in [39, 30, 21] {
            let entry = number(&ram, table + 8 * (address >> level & 0x1ff), 8);
            if entry & 1 == 0 {
                return None;
            }
            table = entry & 0x000f_ffff_ffff_f000;
            if level == 21 {
                assert_ne!(entry & 0x80, 0, "a large page");
            }
        }
        Some(table | address & 0x1f_ffff)
    };
    for address in [0, 0x1234_5678, 0xc000_0000, 0xfee0_0000, 0xffff_ffff, 0x7fff_ffff] {
        assert_eq!(walk(address), Some(address));
    }
    assert_eq!(walk(1 << 32), None);
    assert_eq!(walk(1 << 39), None);
    assert_eq!((sregs.cs.selector, sregs.cs.l, sregs.ds.selector), (0x10, 1, 0x18));
    assert_eq!(number(&ram, sregs.gdt.base + u64::from(sregs.cs.selector), 8), 0x00af_9b00_0000_ffff);
    assert_eq!(number(&ram, sregs.gdt.base + u64::from(sregs.ds.selector), 8), 0x00cf_9300_0000_ffff);
    assert_eq!(sregs.gdt.limit, 31);
}

#[test]
fn flat_code_goes_where_its_tables_are_not() {
    let load = |base, bytes: usize| load_flat(&ram(64 * MIB), &mut file(&vec![0x90; bytes]), base);
    assert_eq!(load(MIB, 3).unwrap(), Entry { rip: MIB, rsp: 0x1_0000, rsi: 0 });
    assert!(load(0x1_0000, 0x8_fc00).is_ok());
    assert!(load(64 * MIB - 3, 3).is_ok());
    for (base, bytes) in [(0, 1), (0xffff, 1), (0x1_0000, 0x8_fc01), (0xe_0000, 1), (u64::MAX, 2)] {
        assert!(matches!(load(base, bytes), Err(BootError::FlatPlace { .. })), "{base:#x}");
    }
    assert!(matches!(load(64 * MIB - 3, 4), Err(BootError::TooBig { .. })));
    assert!(matches!(load(4 * GIB, 1), Err(BootError::TooBig { .. })));
    assert!(matches!(load(MIB, 0), Err(BootError::Damaged { .. })));
}

/// What the code did: bytes to ports, until it halts.
fn run_on_kvm(ram: &GuestRam, entry: Entry) -> Option<Vec<(u16, u8)>> {
    let Ok(kvm) = kvm_ioctls::Kvm::new() else {
        eprintln!("not run: there is no /dev/kvm here");
        return None;
    };
    let vm = kvm.create_vm().unwrap();
    for (slot, region) in (0..).zip(ram.iter()) {
        let region = kvm_bindings::kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: region.as_ptr() as u64,
        };
        // SAFETY: the memory stays mapped while `ram` lives, which is longer than the machine.
        unsafe { vm.set_user_memory_region(region) }.unwrap();
    }
    let mut vcpu = vm.create_vcpu(0).unwrap();
    let mut sregs = vcpu.get_sregs().unwrap();
    entry.prepare(&mut sregs);
    vcpu.set_sregs(&sregs).unwrap();
    vcpu.set_regs(&entry.registers()).unwrap();
    let mut seen = Vec::new();
    loop {
        match vcpu.run().unwrap() {
            kvm_ioctls::VcpuExit::IoOut(port, data) => seen.push((port, data[0])),
            kvm_ioctls::VcpuExit::Hlt => return Some(seen),
            other => panic!("{other:?} after {seen:x?}"),
        }
        assert!(seen.len() < 10);
    }
}

#[test]
fn flat_code_runs_and_takes_an_exception_through_the_table_that_is_there_for_it() {
    let mut code = vec![
        0xb0, 0x41, 0xe6, 0x10, // mov al, 0x41; out 0x10, al
        0x6a, 0x43, // push 0x43
        0x0f, 0x0b, // ud2
        0x58, 0xe6, 0x11, // pop rax; out 0x11, al
        0xf4, // hlt
    ];
    code.resize(0x20, 0xf4);
    // add qword ptr [rsp], 2; mov al, 0x42; out 0x12, al; iretq
    code.extend([0x48, 0x83, 0x04, 0x24, 2, 0xb0, 0x42, 0xe6, 0x12, 0x48, 0xcf]);
    let ram = ram(64 * MIB);
    let entry = load_flat(&ram, &mut file(&code), 20 * MIB).unwrap();
    // The gate of an invalid instruction (a software interrupt is not emulated everywhere): the handler's address in
    // three parts, the code selector, a present interrupt gate.
    let handler = 20 * MIB + 0x20;
    let gate = (handler >> 16) << 48 | 0x8e00 << 32 | u64::from(CODE_SELECTOR) << 16 | handler & 0xffff;
    ram.write_obj(gate, GuestAddress(IDT_ADDRESS + 6 * 16)).unwrap();
    if let Some(seen) = run_on_kvm(&ram, entry) {
        assert_eq!(seen, [(0x10, 0x41), (0x12, 0x42), (0x11, 0x43)]);
    }
}

#[test]
fn kernel_is_entered_in_long_mode_with_its_zero_page() {
    let mut code = vec![0xf4; 0x200];
    // mov eax, [rsi + 0x202] is `HdrS`; its bytes go out from the lowest.
    code.extend([0x8b, 0x86, 2, 2, 0, 0, 0xe6, 0x10, 0xc1, 0xe8, 8, 0xe6, 0x10, 0xf4]);
    let ram = ram(64 * MIB);
    let entry = load_kernel(&ram, &mut BzImage::new(&code).file(), None, "", RSDP).unwrap();
    if let Some(seen) = run_on_kvm(&ram, entry) {
        assert_eq!(seen, [(0x10, b'H'), (0x10, b'd')]);
    }
}
