//! The manifest of a virtio device, and where its structures lie in the BAR.

use crate::{Class, Doorbell, Line, Manifest, Pci, Power, Range, Wish};

/// Bytes of the BAR: four structures, each in a page of its own so that each has its own way through the VMM.
const BAR_BYTES: u64 = 0x4000;
/// Common configuration (4.1.4.3), to and including `queue_reset`.
pub(super) const COMMON: u64 = 0x0000;
pub(super) const COMMON_BYTES: u64 = 0x3c;
/// Interrupt status (4.1.4.5).
pub(super) const ISR: u64 = 0x1000;
/// Device configuration (4.1.4.6).
pub(super) const CONFIG: u64 = 0x2000;
/// Notifications (4.1.4.4): queue `n` at `n * NOTIFY_STEP`.
pub(super) const NOTIFY: u64 = 0x3000;
pub(super) const NOTIFY_STEP: u64 = 4;

/// The BAR of the structures, and the BAR left to the VMM for the MSI-X table.
const BAR: u8 = 0;
const VECTOR_BAR: u8 = 1;

/// What the manifest of a virtio device says beyond what all of them say.
#[derive(Debug, Clone)]
pub struct Function {
    /// The device's name.
    pub name: &'static str,
    /// One sentence for people.
    pub summary: &'static str,
    /// What kind of work it does.
    pub class: Class,
    /// Virtio device ID (section 5).
    pub number: u16,
    /// PCI class, sub-class, interface.
    pub pci_class: u32,
    /// Bytes of device configuration; 0: there is none.
    pub config_bytes: u32,
    /// Why it needs guest memory.
    pub memory_because: &'static str,
    /// What else it needs.
    pub wishes: Vec<Wish>,
}

/// MSI-X vectors: one for each queue and one for the configuration.
pub(super) fn vectors(queues: usize) -> u16 {
    queues as u16 + 1
}

/// The manifest of a virtio device with so many queues.
pub(super) fn manifest(function: Function, queues: usize) -> Manifest {
    // Any width: the value names a queue that the address names already.
    let doorbell = |queue| Doorbell { range: 0, offset: NOTIFY + queue as u64 * NOTIFY_STEP, width: 0 };
    // Guest memory is the transport's wish, and comes first.
    let memory = Wish::new(Power::Memory, "memory", function.memory_because);
    Manifest {
        class: function.class,
        ranges: vec![Range::memory_bar("virtio", BAR, BAR_BYTES)],
        lines: vec![Line::Pin(1)],
        vectors: vectors(queues),
        doorbells: (0..queues).map(doorbell).collect(),
        wishes: [memory].into_iter().chain(function.wishes).collect(),
        pci: Some(Pci {
            // A modern device (4.1.2.1): 0x1040 and the virtio ID, a revision of at least 1, a subsystem of at least 0x40.
            vendor: 0x1af4,
            device: 0x1040 + function.number,
            subsystem_vendor: 0x1af4,
            subsystem: 0x40,
            class: function.pci_class,
            revision: 1,
            capabilities: capabilities(queues, function.config_bytes),
            vector_bar: VECTOR_BAR,
        }),
        ..Manifest::new(function.name, function.summary)
    }
}

/// Where the driver finds the structures (4.1.4).
fn capabilities(queues: usize, config_bytes: u32) -> Vec<Vec<u8>> {
    const COMMON_CFG: u8 = 1;
    const NOTIFY_CFG: u8 = 2;
    const ISR_CFG: u8 = 3;
    const DEVICE_CFG: u8 = 4;
    let mut capabilities = vec![
        capability(COMMON_CFG, COMMON, COMMON_BYTES, &[]),
        capability(NOTIFY_CFG, NOTIFY, queues as u64 * NOTIFY_STEP, &(NOTIFY_STEP as u32).to_le_bytes()),
        capability(ISR_CFG, ISR, 1, &[]),
    ];
    if config_bytes > 0 {
        capabilities.push(capability(DEVICE_CFG, CONFIG, config_bytes.into(), &[]));
    }
    capabilities
}

/// A vendor capability of `kind` that points at a part of the BAR, with `more` behind it.
fn capability(kind: u8, offset: u64, bytes: u64, more: &[u8]) -> Vec<u8> {
    const VENDOR: u8 = 0x09;
    const LENGTH: usize = 16;
    let mut capability = vec![VENDOR, 0, (LENGTH + more.len()) as u8, kind, BAR, 0, 0, 0];
    capability.extend((offset as u32).to_le_bytes());
    capability.extend((bytes as u32).to_le_bytes());
    capability.extend(more);
    capability
}
