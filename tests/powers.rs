//! Files and streams, as plugins in each language have them: a guest reads a file, prints by a stream and writes the file, while
//! the plugin is killed.

#[path = "harness/cpp.rs"]
mod cpp;
mod harness;
#[path = "harness/python.rs"]
mod python;
#[path = "harness/rust.rs"]
mod rust;

use harness::{Place, kvm, root, send, wait_until};
use std::path::PathBuf;

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

fn copies_a_file_to_a_stream(plugin: Option<PathBuf>) {
    let (Some(plugin), true) = (plugin, kvm()) else { return };
    let place = Place::new();
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
    // It may have died after all of that was done, and be starting anew.
    wait_until("it is as its recipe says", || vm.host(name)["differences"] == serde_json::json!([]));
}

fn source(name: &str) -> PathBuf {
    root().join("tests/plugins").join(name)
}

#[test]
fn a_plugin_in_python_has_files_and_streams() {
    let Some(interpreter) = python::interpreter() else { return };
    let place = Place::new();
    let text = std::fs::read_to_string(source("box.py")).unwrap();
    copies_a_file_to_a_stream(Some(python::script(&text, "box", interpreter, &place.path(""))));
}

#[test]
fn a_plugin_in_cpp_has_files_and_streams() {
    let place = Place::new();
    copies_a_file_to_a_stream(cpp::compiled(&source("box.cpp"), &place.path("")));
}

#[test]
fn a_plugin_in_rust_has_files_and_streams() {
    let place = Place::new();
    copies_a_file_to_a_stream(Some(rust::compiled(&source("box.rs"), &place.path(""))));
}
