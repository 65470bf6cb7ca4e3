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
fn flags_that_firmware_has_no_use_for_are_refused_and_so_are_its_own_without_it() {
    let place = Place::new();
    let image = place.file("image", &rom(&[0xf4]));
    let image = image.to_str().unwrap();
    for (words, said) in [
        (&["run", "--firmware", image, "--kernel", image][..], "--kernel"),
        (&["run", "--firmware", "no-such-bios.bin"], "seabios"),
        (&["run", "--firmware", image, "--boot", "x"], "boot"),
        (&["run", "--firmware", image, "--fw-cfg", "opt/a"], "--fw-cfg opt/a"),
        (&["run", "--firmware", image, "--fw-cfg", "name=etc/e820,string=a"], "etc/e820"),
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
    let all = "ABCDEFGHIJK";
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

#[test]
fn seabios_finds_what_the_machine_is_and_looks_for_something_to_boot() {
    if !kvm() {
        return;
    }
    if !Path::new(SEABIOS_FOLDER).join(SEABIOS).exists() {
        println!("SKIPPED: {SEABIOS} is missing (Debian package seabios)");
        return;
    }
    let place = Place::new();
    let said = place.path("said");
    let mut child = place
        .cofferdam()
        .args(["run", "--memory", "128M", "--console", "file=/dev/null", "--name", "seabios", "--firmware", SEABIOS])
        .arg("--debug-console")
        .arg(format!("file={}", said.display()))
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
