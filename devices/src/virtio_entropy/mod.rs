//! Virtio entropy device: random bytes for the guest, from the source that it was given.
//!
//! Source: virtio 1.2, section 5.4. The registers and the queue are the transport's ([`device::virtio`]).

#[cfg(test)]
mod tests;

use crate::declare;
use device::manifest::{Class, Manifest, Power};
use device::virtio::{self, Backend, Broken, Function, Request, Served, Virtio};
use device::{AttachError, OptionError, Options, Powers, RandomSource};
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;

pub(crate) const NAME: &str = "virtio-entropy";

/// The device as a host runs it.
pub(crate) type VirtioEntropy = Virtio<Entropy>;

/// A driver reads a page or less at a time; a larger queue would let it have more work waiting, not more entropy.
const QUEUE_SIZE: u16 = 64;

/// Most bytes for one chain, so that a guest cannot keep the device in the kernel for long. Fewer than asked for are
/// allowed (5.4.6.2).
const CHAIN_MAX: u64 = 64 << 10;

/// Requests for random bytes.
pub(crate) struct Entropy {
    source: Box<dyn RandomSource>,
}

impl Backend for Entropy {
    const QUEUES: &'static [u16] = &[QUEUE_SIZE];

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        options.check(&[])?;
        Ok(virtio::manifest(Function {
            name: NAME,
            summary: "Virtio source of random bytes",
            class: Class::Entropy,
            kind: VIRTIO_ID_RNG,
            // Of no defined class.
            pci_class: 0xff_00_00,
            queues: Self::QUEUES.len(),
            config_bytes: 0,
            memory_because: "the guest puts its queue and its buffers wherever it likes in memory",
            wishes: vec![declare::wish(Power::Entropy, "kernel", "the kernel's random bytes are what it hands on")],
            options: Vec::new(),
        }))
    }

    fn attach(options: &Options, powers: &mut Powers) -> Result<Entropy, AttachError> {
        options.check(&[])?;
        Ok(Entropy { source: powers.random()? })
    }

    fn features(&self) -> u64 {
        0
    }

    fn config(&self) -> &[u8] {
        &[]
    }

    fn serve(&mut self, request: Request<'_>) -> Result<Served, Broken> {
        // What the driver lets be read has no meaning (5.4.6.1).
        let (wanted, _) = request.chain.writable.split_at(CHAIN_MAX);
        if wanted.bytes() == 0 {
            return Err(Broken::Short);
        }
        wanted.each(|slice| self.source.fill(&slice)).map_err(|_| Broken::Failed)?;
        Ok(Served::Done { written: wanted.bytes() as u32, work: wanted.bytes() })
    }
}
