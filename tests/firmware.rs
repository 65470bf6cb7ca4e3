//! Firmware starts at its reset vector and finds a PC: one of ours that tries what the chipset does, and a distribution's.

// Micro guests are bytes between two labels.
#![allow(unsafe_code)]

mod harness;

use harness::{PATIENCE, Place, firmware_guest, kvm, text};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Bytes of our own firmware's ROM.
const ROM_BYTES: usize = 64 << 10;
/// Where a processor begins, counted from the ROM's end, and a jump to the ROM's start below 1 MiB.
const RESET_VECTOR: usize = 16;
const JUMP: [u8; 5] = [0xea, 0x00, 0x00, 0x00, 0xf0];
/// What the ROM has where its code stores.
const FILL: u8 = 0xcc;
/// The distribution's firmware.
const SEABIOS: &str = "bios-256k.bin";
const SEABIOS_FOLDER: &str = "/usr/share/seabios";

/// A ROM that begins with `code` and jumps there from the reset vector.
fn rom(code: &[u8]) -> Vec<u8> {
    let mut rom = vec![FILL; ROM_BYTES];
    rom[..code.len()].copy_from_slice(code);
    rom[ROM_BYTES - RESET_VECTOR..][..JUMP.len()].copy_from_slice(&JUMP);
    rom
}

/// Runs our firmware with these flags: its exit status, and what it said.
fn run(code: &[u8], words: &[&str]) -> (Option<i32>, String) {
    let place = Place::new();
    let image = place.file("firmware", &rom(code));
    let said = place.path("said");
    let output = place
        .cofferdam()
        .args(["run", "--memory", "64M", "--console", "file=/dev/null", "--device", "debug-exit", "--firmware"])
        .arg(image)
        .arg("--debug-console")
        .arg(format!("file={}", said.display()))
        .args(words)
        .output()
        .expect("the program starts");
    let said = std::fs::read_to_string(said).unwrap_or_default();
    assert!(output.status.code().is_some_and(|status| status != 101), "{}", text(&output.stderr));
    (output.status.code(), said + &text(&output.stderr))
}

#[test]
fn image_that_is_no_rom_is_refused_by_its_size() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    for (bytes, said) in [(0, "0 bytes"), (1000, "1000 bytes"), (17 << 20, "16M")] {
        let image = place.file("image", &vec![0; bytes]);
        let output = place.run(&["run", "--firmware", image.to_str().unwrap()]);
        let sentence = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{sentence}");
        assert!(sentence.contains("--firmware") && sentence.contains(said), "{sentence}");
    }
}

#[test]
fn memory_that_is_too_small_for_what_starts_is_refused() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let image = place.file("image", &rom(&[0xf4]));
    let image = image.to_str().unwrap();
    for (words, said) in [
        (["--firmware", image, "--memory", "14M"], "at least 16M"),
        (["--flat", image, "--memory", "62M"], "at least 64M"),
    ] {
        let output = place.run(&[&["run"], &words[..]].concat());
        let sentence = text(&output.stderr);
        assert!(!output.status.success() && sentence.contains(said), "{words:?}: {sentence}");
    }
}

#[test]
fn flags_that_firmware_has_no_use_for_are_refused_and_so_are_its_own_without_it() {
    let place = Place::new();
    let image = place.file("image", &rom(&[0xf4]));
    let image = image.to_str().unwrap();
    for (words, said) in [
        (&["run", "--firmware", image, "--kernel", image][..], "--kernel"),
        (&["run", "--firmware", "no-such-bios.bin"], "seabios"),
        (&["run", "--firmware", image, "--boot", "x"], "--boot x"),
        (&["run", "--firmware", image, "--fw-cfg", "opt/a"], "--fw-cfg opt/a"),
        (&["run", "--firmware", image, "--fw-cfg", "name=etc/e820,string=a"], "etc/e820"),
        (&["run", "--firmware", image, "--boot", "cdc"], "--boot cdc"),
        (&["run", "--firmware", image, "--boot", "c", "--fw-cfg", "name=bootorder,string=a"], "bootorder"),
        (&["run", "--flat", image, "--boot", "c"], "--firmware"),
    ] {
        let output = place.run(words);
        let sentence = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {sentence}");
        assert!(sentence.contains(said), "{words:?}: {sentence}");
    }
}

#[test]
fn chipset_is_as_the_data_sheets_say_at_every_level_and_over_every_carrier() {
    if !kvm() {
        return;
    }
    let all = "ABCDEFGHIJKL";
    for words in [
        &[][..],
        &["--sandbox", "strict"],
        &["--carrier", "socket"],
        &["--carrier", "pipe"],
        &["--carrier", "virtio"],
        &["--isolate", "none"],
    ] {
        let (status, said) = run(&firmware_guest(), words);
        assert_eq!((status, said.get(..all.len())), (Some(1), Some(all)), "{words:?}: {said}");
    }
}

#[test]
fn both_reset_ports_reset_the_machine() {
    if !kvm() {
        return;
    }
    // mov al, 6; mov dx, 0xcf9; out dx, al; hlt
    let control = [0xb0, 6, 0xba, 0xf9, 0x0c, 0xee, 0xf4];
    // mov al, 1; out 0x92, al; hlt
    let fast = [0xb0, 1, 0xe6, 0x92, 0xf4];
    for code in [&control[..], &fast] {
        let (status, said) = run(code, &["--no-reboot"]);
        assert_eq!(status, Some(4), "{said}");
    }
}

/// What SeaBIOS says until it has found nothing more to boot.
fn seabios(place: &Place, words: &[&str]) -> String {
    let said = place.path("said");
    let mut child = place
        .cofferdam()
        .args(["run", "--memory", "128M", "--console", "file=/dev/null", "--name", "seabios", "--firmware", SEABIOS])
        .arg("--debug-console")
        .arg(format!("file={}", said.display()))
        .args(words)
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let until = Instant::now() + PATIENCE;
    let said = loop {
        let said = std::fs::read_to_string(&said).unwrap_or_default();
        if said.contains("No bootable device") || Instant::now() > until {
            break said;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    child.kill().expect("our child");
    child.wait().expect("our child");
    said
}

#[test]
fn seabios_finds_what_the_machine_is_and_looks_for_something_to_boot() {
    if !kvm() {
        return;
    }
    if !Path::new(SEABIOS_FOLDER).join(SEABIOS).exists() {
        println!("SKIPPED: {SEABIOS} is missing (Debian package seabios)");
        return;
    }
    let said = seabios(&Place::new(), &[]);
    for line in [
        "SeaBIOS (version",
        "Found QEMU fw_cfg",
        "QEMU fw_cfg DMA interface supported",
        "qemu/e820: addr 0x0000000000000000 len 0x0000000008000000 [RAM]",
        "PCI: init bdf=00:01.0 id=8086:7000",
        "Copying SMBIOS",
        // The FADT's signature, found from the root that the script of tables has made.
        "table(50434146)",
        "No bootable device",
    ] {
        assert!(said.contains(line), "no `{line}` in:\n{said}");
    }
}

/// A boot sector that says `word` at the debug console and leaves the rest to the next (INT 18h).
fn boot_sector(word: &str) -> Vec<u8> {
    // xor ax, ax; mov ds, ax; mov si, 0x7c15; mov dx, 0x402; cld
    let mut sector = vec![0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0x15, 0x7c, 0xba, 0x02, 0x04, 0xfc];
    sector.extend(SAY_AND_LEAVE);
    sector.extend(word.bytes());
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    sector
}

/// 1: lodsb; test al, al; jz 2f; out dx, al; jmp 1b; 2: int 0x18
const SAY_AND_LEAVE: [u8; 10] = [0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8, 0xcd, 0x18];

/// A CD that boots such a sector (*"El Torito" Bootable CD-ROM Format Specification* 1.0, sections 2 and 3).
fn bootable_cd(word: &str) -> Vec<u8> {
    const SECTOR: usize = 2048;
    const RECORD: usize = 17 * SECTOR;
    const CATALOG: usize = 18;
    const IMAGE: usize = 19;
    let mut cd = vec![0; 32 * SECTOR];
    cd[RECORD..][..7].copy_from_slice(b"\0CD001\x01");
    cd[RECORD + 7..][..23].copy_from_slice(b"EL TORITO SPECIFICATION");
    cd[RECORD + 0x47] = CATALOG as u8;
    let catalog = &mut cd[CATALOG * SECTOR..][..64];
    // The validation entry; its sixteen-bit words add up to nothing.
    (catalog[0], catalog[0x1e], catalog[0x1f]) = (1, 0x55, 0xaa);
    catalog[0x1c..0x1e].copy_from_slice(&(0_u16.wrapping_sub(1 + 0xaa55)).to_le_bytes());
    // Bootable, no emulation, at the usual segment, one of its sectors of 512 bytes.
    (catalog[0x20], catalog[0x26], catalog[0x28]) = (0x88, 1, IMAGE as u8);
    cd[IMAGE * SECTOR..][..512].copy_from_slice(&boot_sector(word));
    cd
}

/// An option ROM that can be booted from (*Plug and Play BIOS Specification* 1.0A, 3.2: expansion header, bootstrap entry vector).
fn bootable_rom(word: &str) -> Vec<u8> {
    const HEADER: u8 = 0x20;
    const ENTRY: u8 = 0x40;
    let mut rom = vec![0; 512];
    // Its length in sectors, an initialisation that returns at once, and where its header is.
    rom[..4].copy_from_slice(&[0x55, 0xaa, 1, 0xcb]);
    rom[0x1a] = HEADER;
    let header = &mut rom[usize::from(HEADER)..][..0x20];
    header[..6].copy_from_slice(&[b'$', b'P', b'n', b'P', 1, 2]);
    // An initial program load device that may be booted from, a network's class.
    (header[0x12], header[0x15], header[0x1a]) = (2, 0x64, ENTRY);
    header[9] = 0_u8.wrapping_sub(sum(header));
    // push cs; pop ds; mov si, the text; mov dx, 0x402; cld
    let code =
        [&[0x0e, 0x1f, 0xbe, ENTRY + 19, 0, 0xba, 0x02, 0x04, 0xfc][..], &SAY_AND_LEAVE, word.as_bytes()].concat();
    rom[usize::from(ENTRY)..][..code.len()].copy_from_slice(&code);
    rom[511] = 0_u8.wrapping_sub(sum(&rom));
    rom
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

#[test]
fn seabios_boots_in_the_order_that_a_person_gave() {
    if !kvm() {
        return;
    }
    if !Path::new(SEABIOS_FOLDER).join(SEABIOS).exists() {
        println!("SKIPPED: {SEABIOS} is missing (Debian package seabios)");
        return;
    }
    for (letters, expected) in [("ndc", ["<rom>", "<cd>", "<virtio>"]), ("cdn", ["<virtio>", "<cd>", "<rom>"])] {
        let place = Place::new();
        let disk = |name: &str| {
            let mut disk = boot_sector(name);
            disk.resize(1 << 20, 0);
            place.file(name, &disk)
        };
        // A PC boots from one disk, its first.
        let (ide, virtio) = (disk("<ide>"), disk("<virtio>"));
        let cd = place.file("cd", &bootable_cd("<cd>"));
        let rom = format!("name=genroms/own.rom,file={}", place.file("rom", &bootable_rom("<rom>")).display());
        let paths = [ide, virtio, cd].map(|path| path.to_str().unwrap().to_owned());
        let words =
            ["--ide", &paths[0], "--disk", &paths[1], "--cdrom", &paths[2], "--fw-cfg", &rom, "--boot", letters];
        let said = seabios(&place, &words);
        let mut at: Vec<(usize, &str)> = ["<rom>", "<cd>", "<virtio>", "<ide>"]
            .into_iter()
            .filter_map(|word| Some((said.find(word)?, word)))
            .collect();
        at.sort_unstable();
        assert_eq!(at.iter().map(|(_, word)| *word).collect::<Vec<_>>(), expected, "{letters}: {said}");
    }
}
