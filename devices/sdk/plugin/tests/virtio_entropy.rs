//! The example: a source of random bytes.

#[path = "../examples/virtio_entropy.rs"]
#[allow(dead_code)] // Its `main` is called by nobody here.
mod example;

use cofferdam_plugin::virtio::Broken;
use cofferdam_plugin::virtio::guest::{Deaths, Guest};
use cofferdam_plugin::{Options, Power, Random};
use example::{CHAIN_MAX, Entropy};

const BUFFER: u64 = 0x8_0000;

fn started() -> Guest<Entropy> {
    let mut guest = Guest::new(|powers| powers.random = Some(Random));
    guest.start(0, 8, true);
    guest
}

#[test]
fn a_chain_without_room_for_a_byte_needs_a_reset() {
    for chain in [(BUFFER, 64, false), (BUFFER, 0, true)] {
        let mut guest = started();
        guest.submit(0, 0, &[chain]);
        guest.ring();
        assert_eq!((guest.device.broken(), guest.status()), (Some(Broken::Short), 0x4f));
    }
}

#[test]
fn a_huge_buffer_gets_no_more_than_the_bound() {
    let mut guest = started();
    guest.submit(0, 0, &[(BUFFER, 0x10_0000, true)]);
    guest.ring();
    assert_eq!(guest.used(0), [(0, CHAIN_MAX as u32)]);
    assert_eq!(guest.bytes(BUFFER + CHAIN_MAX, 256), [0; 256]);
}

#[test]
fn a_buffer_is_filled_and_no_byte_beyond_it() {
    for deaths in Deaths::ALL {
        let mut guest = started();
        guest.deaths = deaths;
        guest.submit(0, 0, &[(BUFFER, 256, true)]);
        guest.notify(0);
        assert_eq!(guest.used(0), [(0, 256)]);
        let (random, rest) = (guest.bytes(BUFFER, 256), guest.bytes(BUFFER + 256, 256));
        let zeros = random.iter().filter(|byte| **byte == 0).count();
        assert!(zeros < 64, "of 256 random bytes, 64 zeros are not to be expected");
        assert_eq!(rest, [0; 256]);
        assert!(guest.rung(1) > 0);
    }
}

#[test]
fn two_requests_get_different_bytes() {
    let mut guest = started();
    guest.submit(0, 0, &[(BUFFER, 32, true)]);
    guest.submit(0, 1, &[(BUFFER + 32, 32, true)]);
    guest.ring();
    assert_ne!(guest.bytes(BUFFER, 32), guest.bytes(BUFFER + 32, 32));
}

#[test]
fn it_wishes_for_nothing_but_memory_and_entropy() {
    use cofferdam_plugin::Device;
    use cofferdam_plugin::virtio::Virtio;
    let manifest = Virtio::<Entropy>::manifest(&Options::default()).expect("its options are good");
    let wishes: Vec<Power> = manifest.wishes.iter().map(|wish| wish.power).collect();
    assert_eq!(wishes, [Power::Memory, Power::Entropy]);
    let pci = manifest.pci.expect("it is a PCI function");
    assert_eq!((pci.vendor, pci.device), (0x1af4, 0x1044));
}
