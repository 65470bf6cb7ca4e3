//! Screens and keyboards, with real processes: a guest that draws and shows what is typed.

mod harness;

use harness::{Place, Vm, display_guest, idle_guest, kvm, send, text, wait_until};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::{Duration, Instant};

/// A picture as the command wrote it.
struct Picture {
    size: (u32, u32),
    pixels: Vec<u8>,
}

impl Picture {
    fn take(place: &Place, name: &str) -> Picture {
        let file = place.path("picture.png");
        let output = place.run(&["screenshot", name, file.to_str().unwrap()]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let decoder = png::Decoder::new(BufReader::new(File::open(file).expect("the picture")));
        let mut reader = decoder.read_info().expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
        let info = reader.next_frame(&mut pixels).expect("a picture");
        assert_eq!(info.color_type, png::ColorType::Rgb);
        Picture { size: (info.width, info.height), pixels }
    }

    fn at(&self, x: usize, y: usize) -> [u8; 3] {
        let at = 3 * (y * self.size.0 as usize + x);
        [self.pixels[at], self.pixels[at + 1], self.pixels[at + 2]]
    }

    /// What the guest read from its keyboard.
    fn typed(&self) -> Vec<u8> {
        (0..self.size.0 as usize).map(|x| self.at(x, 1)[2]).take_while(|byte| *byte != 0).collect()
    }
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
    let picture = Picture::take(&place, "display");
    assert_eq!(picture.size, (640, 480), "{words:?}");
    assert_eq!([0, 1, 2, 3].map(|x| picture.at(x, 0)), [[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]], "{words:?}");
    sendkeys(&place, &["aB", "--keys", "ctrl-alt-delete"]);
    let codes = [0x1e, 0x9e, 0x2a, 0x30, 0xb0, 0xaa, 0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d];
    wait_until("all keys have arrived", || Picture::take(&place, "display").typed() == codes);
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
    let before = Picture::take(&place, "display");
    send(vm.host("vga")["pid"].as_i64().unwrap() as i32, libc::SIGKILL);
    wait_until("the host is started anew", || vm.host("vga")["restarts"].as_u64() == Some(1));
    assert!(Picture::take(&place, "display").pixels == before.pixels, "the picture changed");
    assert_eq!(vm.host("vga")["differences"], serde_json::json!([]));
}

/// The font of Debian's VGA BIOS: a glyph of sixteen lines for each character.
struct Font(Vec<u8>);

impl Font {
    /// Where the distribution keeps it.
    const ROM: &str = "/usr/share/seabios/vgabios-stdvga.bin";
    /// Lines of a character.
    const LINES: usize = 16;
    /// Dots of a character on the screen; the ninth is space.
    const DOTS: usize = 9;
    /// How the letter A looks in every VGA.
    const A: [u8; 16] = [0, 0, 0x10, 0x38, 0x6c, 0xc6, 0xc6, 0xfe, 0xc6, 0xc6, 0xc6, 0xc6, 0, 0, 0, 0];

    fn read() -> Option<Font> {
        let rom = std::fs::read(Font::ROM).ok()?;
        let letter = rom.windows(Font::LINES).position(|glyph| glyph == Font::A).expect("a letter in the VGA BIOS");
        let start = letter - Font::LINES * usize::from(b'A');
        Some(Font(rom[start..start + 256 * Font::LINES].to_vec()))
    }

    /// The text that a picture shows, line by line; what is no character of ASCII is a question mark.
    fn read_lines(&self, picture: &Picture) -> Vec<String> {
        let (columns, rows) = (picture.size.0 as usize / Font::DOTS, picture.size.1 as usize / Font::LINES);
        (0..rows).map(|row| (0..columns).map(|column| self.character(picture, column, row)).collect()).collect()
    }

    fn character(&self, picture: &Picture, column: usize, row: usize) -> char {
        let glyph: Vec<u8> = (0..Font::LINES)
            .map(|line| {
                let dot = |dot| picture.at(column * Font::DOTS + dot, row * Font::LINES + line) != [0, 0, 0];
                (0..8).fold(0, |bits, at| bits << 1 | u8::from(dot(at)))
            })
            .collect();
        let found = (b' '..0x7f).find(|character| {
            let at = usize::from(*character) * Font::LINES;
            self.0[at..at + Font::LINES] == glyph[..]
        });
        found.map_or('?', char::from)
    }
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
        let picture = Picture::take(&place, "firmware");
        if picture.size == (720, 400) {
            lines = font.read_lines(&picture);
        }
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
        let picture = Picture::take(place, "display");
        if picture.size == (720, 400) {
            lines = font.read_lines(&picture);
        }
    }
}

#[test]
fn grub_boots_from_a_cd_and_takes_what_is_typed() {
    const CD: &str = "/usr/lib/grub-rescue/grub-rescue-cdrom.iso";
    /// Where KVM emulates each instruction, GRUB takes minutes.
    const LONG: &str = "COFFERDAM_LONG";
    if std::env::var_os(LONG).is_none() {
        println!("SKIPPED: takes minutes where KVM emulates a guest's code; runs with {LONG}=1");
        return;
    }
    if !kvm() {
        return;
    }
    let (Some(font), true) = (Font::read(), Path::new(CD).exists()) else {
        println!("SKIPPED: {} or {CD} is missing (Debian packages seabios and grub-rescue-pc)", Font::ROM);
        return;
    };
    let place = Place::new();
    let vm = place.start_with("display", &["--firmware", "bios-256k.bin", "--cdrom", CD]);
    vm.wait_until_running();
    read_until(&place, &font, "GNU GRUB");
    // From its menu to its command line, where it lists the one medium that there is.
    sendkeys(&place, &["c"]);
    read_until(&place, &font, "grub>");
    sendkeys(&place, &["ls\\n"]);
    read_until(&place, &font, "(cd");
    assert_eq!(vm.host("piix-ide")["state"], "running");
}
