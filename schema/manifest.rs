//! What a device declares of itself.

use std::fmt;

/// Most entries in any list of a manifest: real devices have a handful, and each becomes a route or an object in the VMM.
pub const LIST_MAX: usize = 64;
/// Longest name: a table column and a file name must hold it.
pub const NAME_MAX: usize = 64;
/// Longest sentence.
pub const TEXT_MAX: usize = 256;
/// Most shadow values in a committed header.
pub const SHADOW_MAX: usize = 8;
/// Most posted register kinds: bits of the committed `postable` mask.
pub const POSTED_MAX: usize = 32;
/// Most interrupt lines: bits of the committed levels.
pub const LINES_MAX: usize = 32;
/// Bytes of a PCI function's configuration space, and of the header that they begin with (PCI 3.0, 6.1).
pub const PCI_CONFIG_BYTES: usize = 256;
/// The first byte that the header leaves to the function.
pub const PCI_HEADER_BYTES: usize = 64;
/// Longest PCI capability, and longest register.
pub const CAPABILITY_MAX: usize = PCI_CONFIG_BYTES - PCI_HEADER_BYTES;
/// Most bytes of hot state: it is copied at each commit, so more would be slow long before it is large.
pub const STATE_MAX: u32 = 64 << 10;
/// Most bytes of bulk state: it is charged to whoever runs the VM, and a device asks for it before anybody judged it.
pub const BULK_MAX: u32 = 16 << 20;
/// Most bytes of a direct range, for the same reason; a large frame buffer fits.
pub const DIRECT_MAX: u64 = 256 << 20;
/// Most devices of the guest's behind one device's registers, beside the first.
pub const NODES_MAX: usize = 4;
/// Most MSI-X vectors of one device: its table must fit half a page.
pub const VECTORS_MAX: u16 = 128;

/// What kind of work a device does; hosts may be grouped by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
#[allow(missing_docs)]
pub enum Class {
    Block = 1,
    Net = 2,
    Char = 3,
    Timer = 4,
    Display = 5,
    Entropy = 6,
    System = 7,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 7] =
        [Class::Block, Class::Net, Class::Char, Class::Timer, Class::Display, Class::Entropy, Class::System];

    /// The word a person uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Class::Block => "block",
            Class::Net => "net",
            Class::Char => "char",
            Class::Timer => "timer",
            Class::Display => "display",
            Class::Entropy => "entropy",
            Class::System => "system",
        }
    }
}

/// A device, as everybody but itself knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Named by the hardware: `uart16550`.
    pub name: String,
    /// One sentence for people.
    pub summary: String,
    /// What kind of work it does.
    pub class: Class,
    /// Addresses it answers.
    pub ranges: Vec<Range>,
    /// Registers that are not plain synchronous ones.
    pub registers: Vec<Register>,
    /// Pin interrupts; line `n` is bit `n` of the committed levels.
    pub lines: Vec<Line>,
    /// MSI-X vectors.
    pub vectors: u16,
    /// Writes that mean only "look at memory".
    pub doorbells: Vec<Doorbell>,
    /// Powers it needs, each with its reason.
    pub wishes: Vec<Wish>,
    /// Bytes of one copy of its hot state.
    pub state_bytes: u32,
    /// Bytes of bulk state beside the copies.
    pub bulk_bytes: u32,
    /// Its PCI identity; without one it is not a PCI function.
    pub pci: Option<Pci>,
    /// How the guest's ACPI tables describe it.
    pub acpi: Option<Acpi>,
    /// Names of devices that must share its host.
    pub with: Vec<String>,
    /// Options a person may set.
    pub options: Vec<OptionSpec>,
    /// Bit `n`: posted writes of kind `n` are only remembered. Nobody notices anything of them, no alarm among it, before an
    /// operation that waits; so a device host that sleeps need not be woken for them.
    pub remembered: u32,
}

/// Addresses a device answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// For people: `registers`, `common`.
    pub name: String,
    /// Bytes.
    pub length: u64,
    /// Where.
    pub space: Space,
}

impl Range {
    /// Whether some address would be both of this and of the other range, wherever base address registers point.
    #[must_use]
    pub fn overlaps(&self, other: &Range) -> bool {
        let (one, other_one) = match (self.space, other.space) {
            (Space::Port(one), Space::Port(other)) => (one.into(), other.into()),
            (Space::Memory(one), Space::Memory(other)) => (one, other),
            _ => return false,
        };
        one < other_one.saturating_add(other.length) && other_one < one.saturating_add(self.length)
    }
}

/// The addresses, for people.
impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.length;
        match self.space {
            Space::Port(first) if length == 1 => write!(f, "port {first:#x}"),
            Space::Port(first) => {
                write!(f, "ports {first:#x} to {:#x}", u64::from(first).saturating_add(length.saturating_sub(1)))
            }
            Space::Memory(first) => write!(f, "{length:#x} bytes at {first:#x}"),
            Space::Bar(bar) => write!(f, "{length:#x} bytes at BAR {bar}"),
            Space::PortBar(bar) => write!(f, "{length:#x} ports at BAR {bar}"),
        }
    }
}

/// Where a range lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// At this I/O port.
    Port(u16),
    /// At this guest address.
    Memory(u64),
    /// Wherever this 32-bit memory BAR points.
    Bar(u8),
    /// Wherever this I/O BAR points.
    PortBar(u8),
}

/// A register that need not be a synchronous round trip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// Index of the range.
    pub range: u8,
    /// Bytes from the start of the range.
    pub offset: u64,
    /// The one width, in bytes, at which this holds.
    pub width: u8,
    /// How it may be accessed.
    pub kind: RegisterKind,
}

/// How a register may be accessed without waiting for its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegisterKind {
    /// Writes may be posted while this bit of the committed `postable` mask is set.
    Posted(u8),
    /// Reads may be served from the committed shadow value `slot` while it is valid.
    Shadow {
        /// Index of the value.
        slot: u8,
        /// Posted writes that may be outstanding without making it untrue.
        tolerates: Vec<Tolerance>,
    },
    /// A port: loads that one string instruction makes of it may be asked for at once. So no such load lowers a line, and a
    /// guest need see nothing of the device between two of them.
    Strings,
    /// Memory behind registers, `length` bytes from the offset on: writes of any width up to the register's may be posted
    /// while bit `posted` of the committed `postable` mask is set.
    Area {
        /// Bit of the posted kind.
        posted: u8,
        /// Bytes.
        length: u64,
    },
    /// Writes may be posted while bit `posted` of the committed `postable` mask is set, if their value has these bits as they
    /// are here: others of the same register may raise a line or start something.
    PostedValue {
        /// Bit of the posted kind.
        posted: u8,
        /// Which bits.
        mask: u64,
        /// What they are.
        value: u64,
    },
}

/// How many posted writes of one kind leave a shadow true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tolerance {
    /// Bit of the posted kind.
    pub posted: u8,
    /// At most this many outstanding.
    pub count: u16,
}

/// A pin interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// An ISA interrupt number, 0 to 15.
    Isa(u8),
    /// A PCI pin: 1 is INTA.
    Pin(u8),
}

/// A write that means only "look at memory".
///
/// The kernel takes it to the host past the lane, so a host could answer it before a write that was posted ahead of it. A
/// device has doorbells or posted registers, not both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doorbell {
    /// Index of the range.
    pub range: u8,
    /// Bytes from the start of the range.
    pub offset: u64,
    /// Bytes of the write; 0 is any.
    pub width: u8,
}

/// What a device may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Power {
    /// A pair of byte rings to the outside.
    Stream = 1,
    /// All of guest memory.
    Memory = 2,
    /// The first 16 MiB of guest memory.
    LowMemory = 3,
    /// A file, to read.
    FileRead = 4,
    /// A file, to read and write.
    FileWrite = 5,
    /// A signal to the VMM: reset, power off, panicked, exit.
    Switch = 6,
    /// Memory of its own, mapped into the guest.
    Direct = 7,
    /// The `getrandom` system call.
    Entropy = 8,
    /// A picture for people, drawn when one is wanted.
    Scanout = 9,
    /// A pair of rings of network frames to the outside.
    Frames = 10,
}

impl Power {
    /// All of them.
    pub const ALL: [Power; 10] = [
        Power::Stream,
        Power::Memory,
        Power::LowMemory,
        Power::FileRead,
        Power::FileWrite,
        Power::Switch,
        Power::Direct,
        Power::Entropy,
        Power::Scanout,
        Power::Frames,
    ];

    /// The word a person uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Power::Stream => "stream",
            Power::Memory => "memory",
            Power::LowMemory => "low-memory",
            Power::FileRead => "file-read",
            Power::FileWrite => "file-write",
            Power::Switch => "switch",
            Power::Direct => "direct",
            Power::Entropy => "entropy",
            Power::Scanout => "scanout",
            Power::Frames => "frames",
        }
    }
}

/// What a switch does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Switch {
    /// The machine starts anew.
    Reset = 1,
    /// The machine stops.
    PowerOff = 2,
    /// The guest says it panicked.
    Panicked = 3,
    /// The guest ends the run with a number.
    Exit = 4,
    /// The guest panicked and goes on in a kernel that it keeps for that; the machine goes on too.
    CrashLoaded = 5,
}

/// A power that a device needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Which power.
    pub power: Power,
    /// Which one, where a device has several.
    pub name: String,
    /// For [`Power::Switch`].
    pub switch: Option<Switch>,
    /// For [`Power::Direct`]: bytes.
    pub bytes: u64,
    /// For [`Power::Direct`]: index of the range that it backs.
    pub range: u8,
    /// The reason, for people.
    pub because: String,
}

/// PCI identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pci {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Subsystem vendor ID.
    pub subsystem_vendor: u16,
    /// Subsystem ID.
    pub subsystem: u16,
    /// 24 bits: base class, sub-class, interface.
    pub class: u32,
    /// Revision ID.
    pub revision: u8,
    /// Capabilities, each from its identifier byte on; byte 1 (next) is filled in by the VMM.
    pub capabilities: Vec<Vec<u8>>,
    /// The BAR where the VMM puts the MSI-X table. Not used by any range.
    pub vector_bar: u8,
    /// Registers of configuration space that are the function's own, behind the header.
    pub registers: Vec<PciRegister>,
    /// Which function it is of the slot whose function 0 is the ISA bridge; 0: it has a slot of its own.
    pub bridge_function: u8,
}

/// Bytes of configuration space that are the function's own. The VMM keeps what is stored there; the device does not see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PciRegister {
    /// Bytes from the start of configuration space; the header is not among them.
    pub offset: u8,
    /// What is there after a reset.
    pub value: Vec<u8>,
    /// For each byte the bits that a store changes.
    pub writable: Vec<u8>,
}

/// How the guest's ACPI tables describe a device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Acpi {
    /// Four characters; empty: no DSDT node.
    pub name: String,
    /// Hardware ID, such as `PNP0501`.
    pub hid: String,
    /// Unique ID among devices of the same hardware ID.
    pub uid: u32,
    /// Bits for the FADT's IAPC_BOOT_ARCH.
    pub boot_arch: u16,
    /// CMOS index of the century for the FADT; 0: none.
    pub century: u8,
    /// The fixed-hardware power block, if this is it.
    pub fixed: Option<Fixed>,
    /// Other devices of the guest's at the same registers, such as the mouse behind a keyboard's controller.
    pub also: Vec<AcpiNode>,
}

/// A device of the guest's that has an interrupt of its own and no registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcpiNode {
    /// Four characters.
    pub name: String,
    /// Hardware ID.
    pub hid: String,
    /// Index of the line that is its, and not the first device's.
    pub line: u8,
}

/// ACPI fixed hardware in range 0: byte offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed {
    /// PM1a event block (4 bytes).
    pub event: u8,
    /// PM1a control block (2 bytes).
    pub control: u8,
    /// Power management timer (4 bytes).
    pub timer: u8,
    /// System control interrupt.
    pub sci: u8,
    /// The SLP_TYP value that means S5.
    pub sleep_type: u8,
}

/// What an option's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
#[allow(missing_docs)]
pub enum OptionKind {
    Number = 1,
    Text = 2,
    Flag = 3,
}

/// An option a person may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionSpec {
    /// Its name.
    pub name: String,
    /// What its value is.
    pub kind: OptionKind,
    /// Its value when not set.
    pub default: String,
    /// One sentence for people.
    pub summary: String,
}
