//! Screens and keyboards, with real processes: a guest that draws and shows what is typed.

#[path = "harness/screen.rs"]
mod screen;

mod harness;

use harness::{Place, Vm, display_guest, idle_guest, kvm, send, text, wait_until};
use screen::{Font, Picture};
use std::path::Path;
use std::time::{Duration, Instant};

/// What the display shows now.
fn take(place: &Place, name: &str) -> Picture {
    let file = place.path("picture.png");
    let output = place.run(&["screenshot", name, file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    Picture::read(&file)
}

/// What the guest read from its keyboard.
fn typed(picture: &Picture) -> Vec<u8> {
    (0..picture.size.0 as usize).map(|x| picture.at(x, 1)[2]).take_while(|byte| *byte != 0).collect()
}

fn running<'a>(place: &'a Place, words: &[&str]) -> Vm<'a> {
    let vm = place.start("display", &display_guest(), &[&["--device", "vga"], words].concat());
    wait_until("the guest has drawn", || vm.console().contains(&b'r'));
    vm
}

fn sendkeys(place: &Place, words: &[&str]) {
    let output = place.run(&[&["sendkeys", "display"], words].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// What the guest draws past every process but its own, and in the place that it moves the memory to.
fn drawn_and_typed(words: &[&str]) {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let vm = running(&place, words);
    let picture = take(&place, "display");
    assert_eq!(picture.size, (640, 480), "{words:?}");
    assert_eq!([0, 1, 2, 3].map(|x| picture.at(x, 0)), [[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]], "{words:?}");
    sendkeys(&place, &["aB", "--keys", "ctrl-alt-delete"]);
    let codes = [0x1e, 0x9e, 0x2a, 0x30, 0xb0, 0xaa, 0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d];
    wait_until("all keys have arrived", || typed(&take(&place, "display")) == codes);
    drop(vm);
}

#[test]
fn a_guest_draws_and_is_typed_at() {
    drawn_and_typed(&[]);
}

#[test]
fn a_guest_draws_and_is_typed_at_at_level_strict() {
    drawn_and_typed(&["--sandbox", "strict"]);
}

#[test]
fn a_guest_draws_and_is_typed_at_over_every_carrier() {
    for carrier in ["socket", "pipe", "virtio"] {
        drawn_and_typed(&["--carrier", carrier]);
    }
}

#[test]
fn a_guest_draws_and_is_typed_at_with_devices_linked_into_the_vmm() {
    drawn_and_typed(&["--isolate", "none"]);
}

#[test]
fn a_picture_outlives_the_displays_host() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let vm = running(&place, &[]);
    let before = take(&place, "display");
    send(vm.host("vga")["pid"].as_i64().unwrap() as i32, libc::SIGKILL);
    wait_until("the host is started anew", || vm.host("vga")["restarts"].as_u64() == Some(1));
    assert!(take(&place, "display") == before, "the picture changed");
    assert_eq!(vm.host("vga")["differences"], serde_json::json!([]));
}

#[test]
fn firmwares_text_is_read_off_its_screen() {
    if !kvm() {
        return;
    }
    let Some(font) = Font::read() else {
        println!("SKIPPED: {} is missing (Debian package seabios)", Font::ROM);
        return;
    };
    let place = Place::new();
    let vm = place.start_with("firmware", &["--firmware", "bios-256k.bin"]);
    vm.wait_until_running();
    let mut lines = Vec::new();
    wait_until("the firmware has found nothing to boot", || {
        lines = font.read_lines(&take(&place, "firmware"));
        lines.iter().any(|line| line.starts_with("No bootable device."))
    });
    assert!(lines[0].starts_with("SeaBIOS (version "), "{lines:#?}");
    let unknown = lines.iter().flat_map(|line| line.chars()).filter(|character| *character == '?').count();
    assert!(unknown <= 1, "only the cursor is no character: {lines:#?}");
}

#[test]
fn a_display_that_hangs_is_said_so() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let vm = running(&place, &[]);
    send(vm.host("vga")["pid"].as_i64().unwrap() as i32, libc::SIGSTOP);
    let output = place.run(&["screenshot", "display", place.path("none.png").to_str().unwrap()]);
    let sentence = text(&output.stderr);
    assert!(!output.status.success() && sentence.contains("has drawn nothing"), "{sentence}");
    assert!(!place.path("none.png").exists());
}

#[test]
fn what_cannot_be_shown_or_typed_is_refused_in_a_sentence() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let vm = place.start("dark", &idle_guest(), &[]);
    vm.wait_until_running();
    let refused = |words: &[&str], said: &str| {
        let output = place.run(words);
        let sentence = text(&output.stderr);
        assert!(!output.status.success() && sentence.contains(said), "{words:?}: {sentence}");
    };
    refused(&["screenshot", "dark", "/tmp/none.png"], "this machine has no display; add one with `--device vga`");
    refused(&["screenshot", "nobody", "/tmp/none.png"], "nobody");
    refused(&["sendkeys", "dark", "ü"], "no key types `ü`");
    refused(&["sendkeys", "dark", "--keys", "hyper-x"], "there is no key `hyper`");
    refused(&["sendkeys", "dark"], "TEXT");
}

/// Looks at the screen until it shows `wanted`.
fn read_until(place: &Place, font: &Font, wanted: &str) {
    /// A boot loader that is emulated without hardware, on a loaded machine, takes minutes.
    const LONG: Duration = Duration::from_secs(600);
    const PAUSE: Duration = Duration::from_millis(500);
    let until = Instant::now() + LONG;
    let mut lines = Vec::new();
    while !lines.iter().any(|line: &String| line.contains(wanted)) {
        assert!(Instant::now() < until, "the screen does not show `{wanted}`: {lines:#?}");
        std::thread::sleep(PAUSE);
        lines = font.read_lines(&take(place, "display"));
    }
}

/// GRUB, from a rescue image of the distribution, reaches its menu, takes keys, and lists the medium that it came from.
fn grub_boots(image: &str, flag: &str, letter: &str, lists: &str) {
    if !kvm() {
        return;
    }
    let (Some(font), true) = (Font::read(), Path::new(image).exists()) else {
        println!("SKIPPED: {} or {image} is missing (Debian packages seabios and grub-rescue-pc)", Font::ROM);
        return;
    };
    let place = Place::new();
    let vm = place.start_with("display", &["--firmware", "bios-256k.bin", flag, image, "--boot", letter]);
    vm.wait_until_running();
    read_until(&place, &font, "GNU GRUB");
    // From its menu to its command line.
    sendkeys(&place, &["c"]);
    read_until(&place, &font, "grub>");
    sendkeys(&place, &["ls\\n"]);
    read_until(&place, &font, lists);
    let hosts: Vec<_> = ["piix-ide", "floppy"].map(|host| vm.host(host)["state"].clone()).into();
    assert_eq!(hosts, ["running", "running"]);
}

#[test]
fn grub_boots_from_a_cd_and_takes_what_is_typed() {
    grub_boots("/usr/lib/grub-rescue/grub-rescue-cdrom.iso", "--cdrom", "d", "(cd");
}

#[test]
fn grub_boots_from_a_diskette_and_takes_what_is_typed() {
    grub_boots("/usr/lib/grub-rescue/grub-rescue-floppy.img", "--floppy", "a", "(fd0");
}
