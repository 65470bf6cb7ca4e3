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
    let mut vm = place.start("sweep", &sweep_guest(), &["--disk", disk.to_str().unwrap()]);
    let status = vm.wait();
    assert_eq!((status, text(&vm.console()).contains("swept")), (Some(0), true), "said: {}", vm.errors());
    assert!(!vm.errors().contains("ended"), "a host died: {}", vm.errors());
}
