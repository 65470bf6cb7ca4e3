//! Powers, as plugins in each language have them. Files and streams: a guest reads a file, prints by a stream and writes the file,
//! while the plugin is killed. Direct ranges and scanouts: what a guest draws is seen, before and after.

#[path = "harness/cpp.rs"]
mod cpp;
mod harness;
#[path = "harness/python.rs"]
mod python;
#[path = "harness/rust.rs"]
mod rust;
#[path = "harness/screen.rs"]
mod screen;

use harness::{Place, kvm, root, send, text, wait_until};
use screen::Picture;
use std::path::{Path, PathBuf};

/// Copies the first six bytes of the file to the stream, and writes over each what is one more.
const GUEST: &[u8] = &[
    0xbb, 0x06, 0x00, 0x00, 0x00, // mov ebx, 6
    0x66, 0xba, 0x00, 0x50, // 1: mov dx, 0x5000
    0xec, // in al, dx
    0xee, // out dx, al
    0xfe, 0xc0, // inc al
    0x66, 0xff, 0xc2, // inc dx
    0xee, // out dx, al
    0xff, 0xcb, // dec ebx
    0x75, 0xf0, // jnz 1b
    0xf4, // 2: hlt
    0xeb, 0xfd, // jmp 2b
];

/// Draws two pixels into the memory of a range, and says so.
const PAINTER: &[u8] = &[
    0xbf, 0x00, 0x00, 0xd1, 0xfe, // mov edi, 0xfed10000
    0xc7, 0x07, 0x33, 0x22, 0x11, 0x00, // mov dword [edi], 0x00112233
    0xc7, 0x47, 0x0c, 0x66, 0x55, 0x44, 0x00, // mov dword [edi + 12], 0x00445566
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xb0, 0x21, // mov al, '!'
    0xee, // out dx, al
    0xf4, // 1: hlt
    0xeb, 0xfd, // jmp 1b
];

fn copies_a_file_to_a_stream(place: &Place, plugin: &Path) {
    // Whole sectors, as any file that is granted.
    let content = place.file("content", &[b"coffer".as_slice(), &[0; 506]].concat());
    let device = format!("{},grant=stream+file-write,file={}", plugin.display(), content.display());
    let vm = place.start("powers", GUEST, &["--device", &device]);
    vm.wait_until_running();
    let name = plugin.file_stem().unwrap().to_str().unwrap();
    let pid = vm.host(name)["pid"].as_i64().unwrap() as i32;
    assert!(pid > 0, "it serves: {}", vm.errors());
    send(pid, libc::SIGKILL);
    wait_until("the file is written", || std::fs::read(&content).unwrap().starts_with(b"dpggfs\0"));
    wait_until("the stream is printed", || vm.console() == b"coffer");
    let ejected = place.run(&["eject", "powers", "content"]);
    assert!(text(&ejected.stderr).contains("this machine has no drives whose media can be exchanged"), "{ejected:?}");
    // It may have died after all of that was done, and be starting anew.
    wait_until("it is as its recipe says", || vm.host(name)["differences"] == serde_json::json!([]));
}

fn shows_what_the_guest_draws(place: &Place, plugin: &Path) {
    let device = format!("{},grant=direct+scanout", plugin.display());
    let vm = place.start("easel", PAINTER, &["--device", &device]);
    vm.wait_for_output();
    let name = plugin.file_stem().unwrap().to_str().unwrap();
    let shown = || {
        let file = place.path("picture.png");
        let output = place.run(&["screenshot", "easel", file.to_str().unwrap()]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let picture = Picture::read(&file);
        assert_eq!(picture.size, (4, 1));
        [0, 1, 2, 3].map(|x| picture.at(x, 0))
    };
    let drawn = [[0x11, 0x22, 0x33], [0; 3], [0; 3], [0x44, 0x55, 0x66]];
    assert_eq!(shown(), drawn);
    send(vm.host(name)["pid"].as_i64().unwrap() as i32, libc::SIGKILL);
    wait_until("it is started anew", || vm.host(name)["restarts"].as_u64() == Some(1));
    assert_eq!(shown(), drawn, "its memory outlives it");
    wait_until("it is as its recipe says", || vm.host(name)["differences"] == serde_json::json!([]));
}

/// Tries the plugins in one language.
fn powers(made: impl Fn(&str, &Path) -> Option<PathBuf>) {
    let place = Place::new();
    let (Some(copies), Some(easel)) = (made("box", &place.path("")), made("easel", &place.path(""))) else { return };
    if kvm() {
        copies_a_file_to_a_stream(&place, &copies);
        shows_what_the_guest_draws(&place, &easel);
    }
}

fn source(name: &str, language: &str) -> PathBuf {
    root().join("tests/plugins").join(name).with_extension(language)
}

#[test]
fn a_plugin_in_python_has_what_it_was_granted() {
    let Some(interpreter) = python::interpreter() else { return };
    powers(|name, folder| {
        let text = std::fs::read_to_string(source(name, "py")).unwrap();
        Some(python::script(&text, name, interpreter, folder))
    });
}

#[test]
fn a_plugin_in_cpp_has_what_it_was_granted() {
    powers(|name, folder| cpp::compiled(&source(name, "cpp"), folder));
}

#[test]
fn a_plugin_in_rust_has_what_it_was_granted() {
    powers(|name, folder| Some(rust::compiled(&source(name, "rs"), folder)));
}
