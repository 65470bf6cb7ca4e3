//! A guest that touches everything it can reach.

mod harness;

use harness::{Place, kvm, sweep_guest, text};

#[test]
fn a_guest_that_touches_everything_kills_no_process() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let disk = place.file("disk", &[0; 1 << 20]);
    let diskette = place.file("diskette", &[0; 1440 << 10]);
    let words = ["--disk", disk.to_str().unwrap(), "--floppy", diskette.to_str().unwrap()];
    let mut vm = place.start("sweep", &sweep_guest(), &words);
    let status = vm.wait();
    assert_eq!((status, text(&vm.console()).contains("swept")), (Some(0), true), "said: {}", vm.errors());
    assert!(!vm.errors().contains("ended"), "a host died: {}", vm.errors());
}
