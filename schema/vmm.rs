//! Between the supervisor and the VMM.

use crate::Handle;
use crate::host::{Level, Setting};
use crate::lane::Carrier;
use crate::manifest::Manifest;
use crate::play::Clock;

/// Most guest memory regions of one VM: low memory, below the hole, above it, with room to spare.
pub const REGIONS_MAX: usize = 8;
/// Most processors of one VM.
pub const CPUS_MAX: u8 = 16;
/// Longest kernel command line: x86 kernels are built with COMMAND_LINE_SIZE 2048.
pub const CMDLINE_MAX: usize = 2047;

/// VMM to supervisor, the first message.
pub use crate::host::Hello;

/// Call: what machine to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Processors, 1 to 16.
    pub cpus: u8,
    /// Bytes of guest memory.
    pub memory_bytes: u64,
    /// Deadline of a lane operation.
    pub deadline_ms: u32,
    /// Devices are linked into the VMM.
    pub in_process: bool,
    /// Hosts and vcpus may wait by polling.
    pub spin: bool,
    /// What to run.
    pub boot: Boot,
    /// `/dev/kvm`; without it the machine has no vcpus.
    pub kvm: Option<Handle>,
    /// How strictly the VMM seals itself.
    pub level: Level,
    /// A host that dies, is late or breaks the rules is started anew: who waits for it waits on.
    pub restarts: bool,
}

/// What a machine runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// No vcpu runs: accesses come by [`Drive`].
    None,
    /// A Linux kernel.
    Kernel {
        /// bzImage or ELF.
        kernel: Handle,
        /// Initial RAM disk.
        initrd: Option<Handle>,
        /// Command line.
        cmdline: String,
    },
    /// 64-bit code loaded and entered at `base`, flat segments, the first 4 GiB mapped one to one.
    Flat {
        /// The code.
        image: Handle,
        /// Guest address.
        base: u64,
    },
    /// Firmware, entered at the processor's reset vector.
    Firmware {
        /// Read-only memory that ends at 4 GiB.
        rom: Handle,
    },
    /// No vcpu runs: what happens comes by [`crate::play::Play`], and switches are told of. With whose time it
    /// is, and read-only memory that ends at 4 GiB, where firmware would be.
    Driven(Clock, Option<Handle>),
}

/// Call: guest memory, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// The regions.
    pub regions: Vec<GuestRegion>,
}

/// Guest memory backed by one region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestRegion {
    /// Guest address.
    pub base: u64,
    /// The region.
    pub handle: Handle,
}

/// Call, after the grants of this device (`Grants`, whose `device` is `id`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachDevice {
    /// Number of the device in this VM.
    pub id: u8,
    /// Number of the host that serves it.
    pub host: u8,
    /// What it declares.
    pub manifest: Manifest,
    /// Its options, where devices are linked into the VMM.
    pub options: Vec<Setting>,
    /// What its lane runs over.
    pub carrier: Carrier,
    /// Slot of the PCI bus, for a function that has one of its own; 0: the next that is free.
    pub slot: u8,
}

/// Call: build tables, seal, run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start;

/// Event: this host is gone; its devices read as ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retire {
    /// The host.
    pub host: u8,
    /// For the log.
    pub why: String,
}

/// Event: press the power button.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Button;

/// Event: somebody wants to see what displays show. Each draws it, and its scanout's generation goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refresh;

/// Why a machine stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Reason {
    /// The guest powered off.
    PoweredOff = 1,
    /// The guest asked for a reset, or triple-faulted.
    Reset = 2,
    /// The guest said it panicked.
    Panicked = 3,
    /// The guest ended the run with a number.
    Exit = 4,
    /// The VMM cannot go on.
    Failed = 5,
}

/// VMM to supervisor: the machine has stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Why.
    pub reason: Reason,
    /// For [`Reason::Exit`]: what the guest wrote.
    pub code: u32,
    /// What happened, for people.
    pub text: String,
}

/// VMM to supervisor: a host missed its deadline or broke the lane's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Late {
    /// The host.
    pub host: u8,
    /// It broke the rules, rather than being slow.
    pub violation: bool,
    /// What was seen.
    pub text: String,
    /// Of a violation: whose lane it was.
    pub device: u8,
    /// Of a violation: the last operation of that lane, which begins anew after it.
    pub issued: u32,
    /// The VMM waits for this host no more: its devices read as ones.
    pub gave_up: bool,
}

/// Call: how accesses were served. The reply is [`Counted`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters;

/// Reply to [`Counters`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// One for each device.
    pub devices: Vec<DeviceCounters>,
    /// Returns from `KVM_RUN` in all.
    pub exits: u64,
}

/// How one device's accesses were served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceCounters {
    /// Number of the device.
    pub id: u8,
    /// Reads served from the committed header.
    pub shadow: u64,
    /// Posted writes.
    pub posted: u64,
    /// Synchronous operations.
    pub lane: u64,
    /// Doorbells, as the host counts them.
    pub doorbell: u64,
    /// Accesses answered for a dead device.
    pub ones: u64,
    /// Interrupt level changes applied.
    pub interrupts: u64,
    /// What its lane runs over.
    pub carrier: Carrier,
}

/// Call: one access made by the supervisor through the bus, as a vcpu would. The reply is [`Driven`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drive {
    /// A store rather than a load.
    pub write: bool,
    /// A port rather than a guest address.
    pub port: bool,
    /// Where.
    pub address: u64,
    /// Bytes: 1, 2, 4 or 8.
    pub width: u8,
    /// What to store.
    pub value: u64,
}

/// Reply to [`Drive`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Driven {
    /// What was loaded.
    pub value: u64,
}

/// Call: of this host nothing is left running, and what its violations left in shared memory is wiped. Their lanes begin
/// anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renew {
    /// Which host.
    pub host: u8,
}
