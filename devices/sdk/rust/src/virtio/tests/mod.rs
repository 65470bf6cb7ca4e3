//! The transport, with a device that copies what it may read to where it may write.

mod broken;
mod garbage;
mod queues;
mod registers;
mod restarts;

use super::guest::{AVAIL, Buffer, DESC, Deaths, Guest, MEMORY_BYTES, SEAM, USED};
use super::*;
use schema::manifest::Class;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vm_memory::{Bytes, GuestAddress};
use zerocopy::{FromZeros, IntoBytes};

const OFFER: u64 = 1 << 3 | 1 << 7;
const EVENT_INDEX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;
const NEEDS_RESET: u8 = 0x40;
const IN: u64 = 0x8_0000;
const OUT: u64 = 0x9_0000;

struct Echo {
    served: Arc<AtomicU64>,
}

impl Backend for Echo {
    const QUEUES: &'static [u16] = &[256, 64];

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        options.check(&[])?;
        Ok(manifest(Function {
            name: "echo",
            summary: "Copies",
            class: Class::System,
            kind: 42,
            pci_class: 0xff_00_00,
            queues: 2,
            config_bytes: 8,
            memory_because: "its queue lies there",
            wishes: Vec::new(),
            options: Vec::new(),
        }))
    }
    fn attach(_: &Options, powers: &mut Powers) -> Result<Echo, AttachError> {
        Ok(Echo { served: Arc::clone(&powers.doorbells) })
    }
    fn features(&self) -> u64 {
        OFFER
    }
    fn config(&self) -> &[u8] {
        &[1, 2, 3, 4, 5, 6, 7, 8]
    }
    fn serve(&mut self, Request { chain, .. }: Request<'_>) -> Result<Served, Broken> {
        self.served.fetch_add(1 << 32, Ordering::Relaxed);
        let mut bytes = [0; 4096];
        let count = chain.readable.read(&mut bytes).map_err(|_| Broken::Failed)?;
        let written = chain.writable.write(&bytes[..count]).map_err(|_| Broken::Failed)?;
        Ok(Served::Done { written: written as u32, work: chain.readable.bytes() + chain.writable.bytes() })
    }
}

fn guest() -> Guest<Echo> {
    Guest::new(Options::default(), |_| {})
}

fn started(features: u64, vectors: bool) -> Guest<Echo> {
    let mut guest = guest();
    guest.start(features, 8, vectors);
    guest
}

fn pair(bytes: u32) -> [Buffer; 2] {
    [Buffer::readable(IN, bytes), Buffer::writable(OUT, bytes)]
}

/// A small generator (xorshift64*), so that a failure repeats.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
