//! Virtio entropy device: random bytes for the guest, which a stock Linux driver asks for.
//!
//! Source: virtio 1.2, section 5.4. The registers and the queue are the library's.

use cofferdam_plugin::virtio::{Backend, Broken, Function, Request, Served, Virtio};
use cofferdam_plugin::{Class, Options, Power, Powers, Random, Refusal, Wish, run};

/// Most bytes for one chain, so that a guest cannot keep the device from its registers for long. Fewer than asked for are
/// allowed (5.4.6.2).
pub const CHAIN_MAX: u64 = 64 << 10;

/// Requests for random bytes.
pub struct Entropy {
    random: Random,
}

impl Backend for Entropy {
    const QUEUES: &'static [u16] = &[64];

    fn function(_: &Options) -> Result<Function, Refusal> {
        Ok(Function {
            name: "virtio-entropy",
            summary: "Virtio source of random bytes, in Rust",
            class: Class::Entropy,
            number: 4,
            pci_class: 0xff_00_00,
            config_bytes: 0,
            memory_because: "the guest puts its queue and its buffers wherever it likes in memory",
            wishes: vec![Wish::new(Power::Entropy, "kernel", "the kernel's random bytes are what it hands on")],
        })
    }
    fn attach(_: &Options, powers: &mut Powers) -> Result<Entropy, Refusal> {
        Ok(Entropy { random: powers.random()? })
    }
    fn serve(&mut self, request: Request<'_>) -> Result<Served, Broken> {
        // What the driver lets be read has no meaning (5.4.6.1).
        let (wanted, _) = request.chain.writable.split_at(CHAIN_MAX);
        let mut bytes = vec![0; wanted.bytes() as usize];
        if bytes.is_empty() {
            return Err(Broken::Short);
        }
        self.random.fill(&mut bytes).map_err(|_| Broken::Failed)?;
        let written = wanted.write(&bytes);
        Ok(Served { written: written as u32, work: wanted.bytes() })
    }
}

run!(Virtio<Entropy>);
