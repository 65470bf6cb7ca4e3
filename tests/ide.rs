//! IDE disks, with real processes: a guest that changes sectors by DMA and by PIO while the function's host is killed.

mod harness;

use harness::{Place, Vm, ide_guest, kvm, send, sweep_guest, text, wait_until};
use std::path::Path;

/// What the guest changes, and a little more that it leaves.
const CHANGED_BYTES: usize = 128 * 512;
const DISK_BYTES: usize = CHANGED_BYTES + (1 << 20);
/// How often the host is killed while the guest works.
const KILLS: u64 = 6;

/// The disk after so many passes of the guest.
fn disk(passes: u64) -> Vec<u8> {
    let word = |at: u64| {
        let changed = if at < CHANGED_BYTES as u64 / 8 { passes } else { 0 };
        (at * 0x0101_0101_0101).wrapping_add(changed)
    };
    (0..DISK_BYTES as u64 / 8).flat_map(|at| word(at).to_le_bytes()).collect()
}

/// Lets the guest finish its pass, and looks at what it left.
fn end(place: &Place, mut vm: Vm<'_>, image: &Path, what: &str) {
    wait_until("a pass is done", || vm.console().contains(&b'.'));
    place.run(&["powerdown", "disk"]);
    assert_eq!(vm.wait(), Some(0), "{what}: {}", vm.errors());
    let console = text(&vm.console());
    assert!(!console.contains('E'), "{what}: the guest found something wrong: {console}");
    let passes = console.lines().nth(1).and_then(|line| u64::from_str_radix(line.trim(), 16).ok());
    let passes = passes.unwrap_or_else(|| panic!("{what}: no number of passes in {console:?}"));
    let left = std::fs::read(image).expect("the image");
    assert!(left == disk(passes), "{what}: the disk is not what {passes} passes leave");
}

/// Runs the guest with these words, killing the host in between.
fn changed_while_killed(words: &[&str], kills: u64) {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let image = place.file("disk", &disk(0));
    let all = [&["--ide", image.to_str().unwrap(), "--restart", "1000000"], words].concat();
    let vm = place.start("disk", &ide_guest(), &all);
    vm.wait_until_running();
    for kill in 1..=kills {
        let served = vm.served("piix-ide");
        wait_until("the guest goes on", || vm.served("piix-ide") > served + 5000);
        send(vm.host("piix-ide")["pid"].as_i64().unwrap() as i32, libc::SIGKILL);
        wait_until("the host is started anew", || vm.host("piix-ide")["restarts"].as_u64().unwrap() >= kill);
    }
    let row = vm.host("piix-ide");
    if row["state"] == "running" {
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
fn a_function_at_level_strict_touches_no_heap() {
    let program = Path::new(env!("CARGO_BIN_EXE_cofferdam")).with_file_name("examples").join("frugal_host");
    let program = format!("piix-ide={}", program.display());
    changed_while_killed(&["--sandbox", "strict", "--host-program", &program], 0);
}

#[test]
fn a_linked_function_does_the_same() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let image = place.file("disk", &disk(0));
    let words = ["--ide", image.to_str().unwrap(), "--isolate", "none"];
    let vm = place.start("disk", &ide_guest(), &words);
    end(&place, vm, &image, "linked");
}

#[test]
fn a_disk_that_only_may_be_read_is_not_written() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let image = place.file("disk", &disk(0));
    let mut vm = place.start("disk", &ide_guest(), &["--ide", &format!("{},readonly", image.display())]);
    assert_eq!(vm.wait(), Some(0), "{}", vm.errors());
    assert!(text(&vm.console()).contains('E'), "the guest is told that it cannot write");
    assert!(std::fs::read(&image).unwrap() == disk(0));
}

#[test]
fn images_that_are_no_disks_are_refused_in_a_sentence() {
    let place = Place::new();
    let guest = place.file("guest", &sweep_guest());
    let odd = place.file("odd", &[0; 1000]);
    let empty = place.file("empty", &[]);
    for (flag, image, said) in
        [("--ide", &odd, "1000 bytes"), ("--cdrom", &empty, "0 bytes"), ("--cdrom", &place.path("nowhere"), "nowhere")]
    {
        let output = place.run(&["run", "--flat", guest.to_str().unwrap(), flag, image.to_str().unwrap()]);
        let errors = text(&output.stderr);
        assert!(!output.status.success() && errors.contains(said), "{errors}");
    }
}

#[test]
fn a_disk_is_in_one_machine_at_a_time_and_a_cd_in_many() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let image = place.file("disk", &disk(0));
    let cd = place.file("cd", &[0; 5000]);
    let (image, cd) = (image.to_str().unwrap(), cd.to_str().unwrap());
    let vm = place.start("first", &ide_guest(), &["--ide", image, "--cdrom", cd]);
    vm.wait_until_running();
    let guest = place.file("guest", &ide_guest());
    let output = place.run(&["run", "--flat", guest.to_str().unwrap(), "--ide", image]);
    assert!(!output.status.success() && text(&output.stderr).contains("locked"), "{}", text(&output.stderr));
    let second = place.start("second", &ide_guest(), &["--cdrom", cd]);
    wait_until("the second one has found no disk", || second.console().contains(&b'E'));
}
