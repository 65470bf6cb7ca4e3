//! The manifest of a virtio device, and where its structures lie in the BAR.

use super::State;
use schema::manifest::{Class, Doorbell, Line, Manifest, OptionSpec, Pci, Power, Range, Space, Wish};

/// Bytes of the BAR: four structures, each in a page of its own so that each has its own way through the VMM.
const BAR_BYTES: u64 = 0x4000;
/// Common configuration (4.1.4.3), to and including `queue_reset`.
pub(super) const COMMON: u64 = 0x0000;
pub(super) const COMMON_BYTES: u32 = 0x3c;
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

/// A wish of the device itself has this index, the next one follows: guest memory is the transport's and comes first.
pub const FIRST_WISH: u32 = 1;

/// What the manifest of a virtio device says beyond what all of them say.
#[derive(Debug, Clone)]
pub struct Function<'a> {
    /// The device's name.
    pub name: &'a str,
    /// One sentence for people.
    pub summary: &'a str,
    /// What kind of work it does.
    pub class: Class,
    /// Virtio device ID (section 5).
    pub kind: u32,
    /// PCI class, sub-class, interface.
    pub pci_class: u32,
    /// Queues.
    pub queues: usize,
    /// Bytes of device configuration; 0: there is none.
    pub config_bytes: u32,
    /// Why it needs guest memory.
    pub memory_because: &'a str,
    /// What else it needs.
    pub wishes: Vec<Wish>,
    /// Its options.
    pub options: Vec<OptionSpec>,
}

/// MSI-X vectors: one for each queue and one for the configuration.
pub(super) fn vectors(queues: usize) -> u16 {
    queues as u16 + 1
}

/// The manifest of a virtio device.
#[must_use]
pub fn manifest(function: Function<'_>) -> Manifest {
    let memory = Wish {
        power: Power::Memory,
        name: "memory".into(),
        switch: None,
        bytes: 0,
        range: 0,
        because: function.memory_because.into(),
    };
    // Any width: KVM then need not decode the instruction, and the value names a queue that the address names already.
    let doorbell = |queue| Doorbell { range: 0, offset: NOTIFY + queue as u64 * NOTIFY_STEP, width: 0 };
    Manifest {
        name: function.name.into(),
        summary: function.summary.into(),
        class: function.class,
        ranges: vec![Range { name: "virtio".into(), length: BAR_BYTES, space: Space::Bar(BAR) }],
        registers: Vec::new(),
        lines: vec![Line::Pin(1)],
        vectors: vectors(function.queues),
        doorbells: (0..function.queues).map(doorbell).collect(),
        wishes: [memory].into_iter().chain(function.wishes).collect(),
        state_bytes: size_of::<State>() as u32,
        bulk_bytes: 0,
        pci: Some(Pci {
            vendor: 0x1af4,
            // Modern devices (4.1.2.1): 0x1040 and the virtio ID, a revision of at least 1, a subsystem of at least 0x40.
            device: 0x1040 + function.kind as u16,
            subsystem_vendor: 0x1af4,
            subsystem: 0x40,
            class: function.pci_class,
            revision: 1,
            capabilities: capabilities(function.queues, function.config_bytes),
            vector_bar: VECTOR_BAR,
            registers: Vec::new(),
            bridge_function: 0,
        }),
        acpi: None,
        with: Vec::new(),
        options: function.options,
        remembered: 0,
    }
}

/// Where the driver finds the structures (4.1.4).
fn capabilities(queues: usize, config_bytes: u32) -> Vec<Vec<u8>> {
    const COMMON_CFG: u8 = 1;
    const NOTIFY_CFG: u8 = 2;
    const ISR_CFG: u8 = 3;
    const DEVICE_CFG: u8 = 4;
    let notify_bytes = queues as u32 * NOTIFY_STEP as u32;
    let mut capabilities = vec![
        capability(COMMON_CFG, COMMON, COMMON_BYTES, &[]),
        capability(NOTIFY_CFG, NOTIFY, notify_bytes, &(NOTIFY_STEP as u32).to_le_bytes()),
        capability(ISR_CFG, ISR, 1, &[]),
    ];
    if config_bytes > 0 {
        capabilities.push(capability(DEVICE_CFG, CONFIG, config_bytes, &[]));
    }
    capabilities
}

/// A vendor capability of `kind` that points at `bytes` bytes of the BAR, with `more` behind it.
fn capability(kind: u8, offset: u64, bytes: u32, more: &[u8]) -> Vec<u8> {
    const VENDOR: u8 = 0x09;
    const LENGTH: usize = 16;
    let mut capability = vec![VENDOR, 0, (LENGTH + more.len()) as u8, kind, BAR, 0, 0, 0];
    capability.extend((offset as u32).to_le_bytes());
    capability.extend(bytes.to_le_bytes());
    capability.extend(more);
    capability
}
