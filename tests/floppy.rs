//! Diskettes, with real processes: a guest that changes every sector by DMA while the controller's host is killed.

mod harness;

use harness::{Place, Vm, floppy_guest, kvm, send, sweep_guest, text, wait_until};
use std::path::Path;

const DISKETTE_BYTES: usize = 1440 << 10;
/// How often the host is killed while the guest works.
const KILLS: u64 = 6;

/// A diskette whose sectors all differ.
fn diskette() -> Vec<u8> {
    (0..DISKETTE_BYTES as u64 / 8).flat_map(|word| (word * 0x0101_0101_0101).to_le_bytes()).collect()
}

/// The same after so many passes of the guest.
fn after(passes: u64) -> Vec<u8> {
    let words = (0..DISKETTE_BYTES as u64 / 8).map(|word| (word * 0x0101_0101_0101).wrapping_add(passes));
    words.flat_map(u64::to_le_bytes).collect()
}

/// Lets the guest finish its pass, and looks at what it left.
fn end(place: &Place, mut vm: Vm<'_>, image: &Path, what: &str) {
    wait_until("a pass is done", || vm.console().contains(&b'.'));
    place.run(&["powerdown", "diskette"]);
    assert_eq!(vm.wait(), Some(0), "{what}: {}", vm.errors());
    let console = text(&vm.console());
    assert!(!console.contains('E'), "{what}: the guest found something wrong: {console}");
    let passes = console.lines().nth(1).and_then(|line| u64::from_str_radix(line.trim(), 16).ok());
    let passes = passes.unwrap_or_else(|| panic!("{what}: no number of passes in {console:?}"));
    let left = std::fs::read(image).expect("the image");
    assert!(left == after(passes), "{what}: the diskette is not what {passes} passes leave");
}

/// Runs the guest with these words, killing the host in between.
fn changed_while_killed(words: &[&str], kills: u64) {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let image = place.file("diskette", &diskette());
    let all = [&["--floppy", image.to_str().unwrap(), "--restart", "1000000"], words].concat();
    let vm = place.start("diskette", &floppy_guest(), &all);
    vm.wait_until_running();
    for kill in 1..=kills {
        let served = vm.served("floppy");
        wait_until("the guest goes on", || vm.served("floppy") > served + 50);
        send(vm.host("floppy")["pid"].as_i64().unwrap() as i32, libc::SIGKILL);
        wait_until("the host is started anew", || vm.host("floppy")["restarts"].as_u64().unwrap() >= kill);
    }
    let row = vm.host("floppy");
    if row["state"] == "running" {
        assert_eq!(row["guest_memory_bytes"], 16 << 20, "{row:#}");
        assert_eq!(row["differences"], serde_json::json!([]), "{row:#}");
    }
    end(&place, vm, &image, &words.join(" "));
}

#[test]
fn every_sector_is_changed_once_at_level_seccomp_while_the_host_is_killed() {
    changed_while_killed(&[], KILLS);
}

#[test]
fn every_sector_is_changed_once_at_level_strict_while_the_host_is_killed() {
    changed_while_killed(&["--sandbox", "strict"], KILLS);
}

#[test]
fn every_sector_is_changed_once_over_every_carrier_while_the_host_is_killed() {
    for carrier in ["socket", "pipe", "virtio"] {
        changed_while_killed(&["--carrier", carrier], 2);
    }
}

#[test]
fn a_controller_at_level_strict_touches_no_heap() {
    let program = Path::new(env!("CARGO_BIN_EXE_cofferdam")).with_file_name("examples").join("frugal_host");
    let program = format!("floppy={}", program.display());
    changed_while_killed(&["--sandbox", "strict", "--host-program", &program], 0);
}

#[test]
fn a_linked_controller_does_the_same() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let image = place.file("diskette", &diskette());
    let words = ["--floppy", image.to_str().unwrap(), "--isolate", "none"];
    let vm = place.start("diskette", &floppy_guest(), &words);
    end(&place, vm, &image, "linked");
}

#[test]
fn a_diskette_that_only_may_be_read_is_not_written() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let image = place.file("diskette", &diskette());
    let mut vm = place.start("diskette", &floppy_guest(), &["--floppy", &format!("{},readonly", image.display())]);
    assert_eq!(vm.wait(), Some(0), "{}", vm.errors());
    assert!(text(&vm.console()).contains('E'), "the guest is told that it cannot write");
    assert!(std::fs::read(&image).unwrap() == diskette());
}

#[test]
fn images_that_are_no_diskettes_are_refused_in_a_sentence() {
    let place = Place::new();
    let guest = place.file("guest", &sweep_guest());
    let large = place.file("large", &vec![0; (2880 << 10) + 512]);
    let odd = place.file("odd", &[0; 1000]);
    for (image, said) in [(&large, "2949632 bytes is no diskette"), (&odd, "1000 bytes"), (&place.path("none"), "none")]
    {
        let words = ["run", "--flat", guest.to_str().unwrap(), "--floppy", image.to_str().unwrap()];
        let output = place.run(&words);
        let errors = text(&output.stderr);
        assert!(!output.status.success() && errors.contains(said), "{errors}");
    }
}

#[test]
fn a_diskette_is_in_one_machine_at_a_time() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let image = place.file("diskette", &diskette());
    let image = image.to_str().unwrap();
    let vm = place.start("first", &floppy_guest(), &["--floppy", image]);
    vm.wait_until_running();
    let guest = place.file("guest", &floppy_guest());
    let output = place.run(&["run", "--flat", guest.to_str().unwrap(), "--floppy", image]);
    assert!(!output.status.success() && text(&output.stderr).contains("locked"), "{}", text(&output.stderr));
}
