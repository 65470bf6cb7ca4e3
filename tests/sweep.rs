//! A guest that touches everything it can reach.

mod harness;

use harness::{Place, kvm, sweep_guest, text};

/// Every device that a PC of 1995 had, and each that firmware looks for: the standard ones and those of the flags are there anyway.
const DEVICES: [&str; 12] = [
    "uart16550,port=0x2f8,irq=3",
    "uart16550,port=0x3e8,irq=4",
    "uart16550,port=0x2e8,irq=3",
    "parallel",
    "i8254",
    "vga",
    "fw-cfg",
    "debug-console",
    "pvpanic-pci",
    "ib700",
    "rtl8139,cplus",
    "virtio-net",
];

#[test]
fn a_guest_that_touches_everything_kills_no_process() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let image =
        |name: &str, bytes: usize| place.file(name, &vec![0; bytes]).to_str().expect("a path of ours").to_owned();
    let mut words = vec!["--disk".to_owned(), image("disk", 1 << 20)];
    words.extend(["--floppy".into(), image("diskette", 1440 << 10), "--ide".into(), image("ide", 1 << 20)]);
    words.extend(["--cdrom".into(), image("cd", 1 << 20)]);
    for (number, device) in DEVICES.iter().enumerate() {
        let prints = device.starts_with("uart16550") || *device == "debug-console";
        let to =
            if prints { format!(",to={}", place.path(&format!("prints.{number}")).display()) } else { String::new() };
        words.extend(["--device".into(), format!("{device}{to}")]);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut vm = place.start("sweep", &sweep_guest(), &words);
    let status = vm.wait();
    assert_eq!((status, text(&vm.console()).contains("swept")), (Some(0), true), "said: {}", vm.errors());
    assert!(!vm.errors().contains("ended"), "a host died: {}", vm.errors());
}
