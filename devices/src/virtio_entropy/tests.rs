use super::*;
use crate::conformance::{Random, World, conforms};
use device::virtio::guest::{Buffer, Deaths, Guest};
use device::{GuestMemory, KernelRandom};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use vm_memory::GuestAddress;

const BUFFER: u64 = 0x8_0000;

fn guest() -> Guest<Entropy> {
    let mut guest = Guest::new(Options::default(), |powers| powers.random = Some(Box::new(KernelRandom)));
    guest.start(0, 8, true);
    guest
}

/// Whether `bytes` look as if nobody had written all of them: of 256 random bytes, 64 zeros are not to be expected.
fn is_untouched(bytes: &[u8]) -> bool {
    bytes.iter().filter(|byte| **byte == 0).count() * 4 > bytes.len()
}

#[test]
fn a_buffer_is_filled_and_no_byte_beyond_it() {
    for deaths in Deaths::ALL {
        let mut guest = guest();
        guest.deaths = deaths;
        guest.submit(0, &[Buffer::writable(BUFFER, 256)]);
        guest.notify(0);
        assert_eq!(guest.used(), [(0, 256)]);
        let bytes = guest.bytes(BUFFER, 512);
        assert!(!is_untouched(&bytes[..256]), "{deaths:?}");
        assert_eq!(bytes[256..], [0; 256]);
        assert!(guest.rung(1) > 0);
    }
}

#[test]
fn two_requests_get_different_bytes() {
    let mut guest = guest();
    guest.submit(0, &[Buffer::writable(BUFFER, 32)]);
    guest.submit(1, &[Buffer::writable(BUFFER + 32, 32)]);
    guest.ring();
    let bytes = guest.bytes(BUFFER, 64);
    assert_ne!(bytes[..32], bytes[32..]);
}

#[test]
fn several_buffers_of_one_chain_are_filled() {
    let mut guest = guest();
    guest.submit(0, &[Buffer::readable(0, 64), Buffer::writable(BUFFER, 300), Buffer::writable(BUFFER + 0x1000, 300)]);
    guest.ring();
    assert_eq!(guest.used(), [(0, 600)]);
    assert!(!is_untouched(&guest.bytes(BUFFER, 300)));
    assert!(!is_untouched(&guest.bytes(BUFFER + 0x1000, 300)));
}

#[test]
fn a_huge_buffer_gets_no_more_than_the_bound() {
    let mut guest = guest();
    guest.submit(0, &[Buffer::writable(BUFFER, 0x10_0000)]);
    guest.ring();
    assert_eq!(guest.used(), [(0, CHAIN_MAX as u32)]);
    let bytes = guest.bytes(BUFFER, 0x10_0000);
    assert!(!is_untouched(&bytes[..CHAIN_MAX as usize]));
    assert!(bytes[CHAIN_MAX as usize..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_chain_without_room_for_a_byte_needs_a_reset() {
    for chain in [Buffer::readable(BUFFER, 64), Buffer::writable(BUFFER, 0)] {
        let mut guest = guest();
        guest.submit(0, &[chain]);
        guest.ring();
        assert_eq!(guest.device.broken(), Some(Broken::Short));
        assert_eq!(guest.status(), 0x4f);
    }
}

#[test]
fn random_chains_never_panic_and_end() {
    let mut random = Random::new(5);
    let mut guest = guest();
    for _ in 0..20_000 {
        if guest.status() != 0xf {
            guest.start(0, 8, true);
        }
        let buffers: Vec<Buffer> = (0..=random.below(6))
            .map(|_| {
                let address = if random.one_in(16) { random.value() } else { random.below(0x10_0000) };
                Buffer { address, bytes: random.below(900) as u32, writable: !random.one_in(16) }
            })
            .collect();
        guest.submit(random.below(8) as u16, &buffers);
        guest.scan();
    }
}

#[test]
fn it_wishes_for_nothing_but_memory_and_entropy() {
    let manifest = Entropy::manifest(&Options::default()).unwrap();
    assert_eq!(manifest.wishes.iter().map(|wish| wish.power).collect::<Vec<_>>(), [Power::Memory, Power::Entropy]);
    assert_eq!(manifest.pci.unwrap().device, 0x1044);
}

struct Machine(GuestMemory);

impl World for Machine {
    const NAME: &'static str = NAME;

    fn new() -> Machine {
        Machine(GuestMemory::from_ranges(&[(GuestAddress(0), 0x10_0000)]).unwrap())
    }

    fn powers(&self) -> Powers {
        let vectors = (0..2).map(|_| Box::new(Arc::new(AtomicU64::new(0))) as _).collect();
        let random = Some(Box::new(KernelRandom) as _);
        Powers { memory: Some(self.0.clone()), vectors, random, ..Powers::default() }
    }
}

conforms!(Machine);
