//! What a device declares of itself: the VMM knows it by nothing else. Names are those of `schema/manifest.capnp`.

/// What kind of work a device does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// What a device may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
#[allow(missing_docs)]
pub enum Power {
    Stream = 1,
    Memory = 2,
    LowMemory = 3,
    FileRead = 4,
    FileWrite = 5,
    Switch = 6,
}

/// What a switch does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
#[allow(missing_docs)]
pub enum Switch {
    Reset = 1,
    PowerOff = 2,
    Panicked = 3,
    Exit = 4,
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

/// Addresses that a device answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// For people: `registers`, `common`.
    pub name: String,
    /// Where.
    pub space: Space,
    /// Bytes.
    pub length: u64,
}

/// A register that need not be a synchronous round trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegisterKind {
    /// Writes may be posted; bit in the outputs' `postable` mask.
    Posted(u8),
    /// Reads are served from a shadow value; its index.
    Shadow(u8),
}

/// A pin interrupt; line `n` is bit `n` of the outputs' levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// An ISA interrupt.
    Isa(u8),
    /// A PCI pin: 1 is INTA.
    Pin(u8),
}

/// A write that means only "look at memory".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doorbell {
    /// Index of the range.
    pub range: u8,
    /// Bytes from the start of the range.
    pub offset: u64,
    /// Bytes; 0 is any width.
    pub width: u8,
}

/// A power that a device needs, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Which.
    pub power: Power,
    /// What the device calls it.
    pub name: String,
    /// For power `switch`: what it does.
    pub switch: Option<Switch>,
    /// The reason, for who is to grant it.
    pub because: String,
}

impl Wish {
    /// A wish for a power that is not a switch.
    #[must_use]
    pub fn new(power: Power, name: &str, because: &str) -> Wish {
        Wish { power, name: name.to_owned(), switch: None, because: because.to_owned() }
    }

    /// A wish for a switch.
    #[must_use]
    pub fn switch(switch: Switch, name: &str, because: &str) -> Wish {
        Wish { switch: Some(switch), ..Wish::new(Power::Switch, name, because) }
    }
}

/// An option that a person may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionSpec {
    /// Its name.
    pub name: String,
    /// What its value is.
    pub kind: OptionKind,
    /// What it is when it is not set, for people.
    pub default: String,
    /// What it is for.
    pub summary: String,
}

impl OptionSpec {
    /// An option.
    #[must_use]
    pub fn new(name: &str, kind: OptionKind, default: &str, summary: &str) -> OptionSpec {
        OptionSpec { name: name.to_owned(), kind, default: default.to_owned(), summary: summary.to_owned() }
    }
}

/// A PCI identity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pci {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Subsystem's vendor.
    pub subsystem_vendor: u16,
    /// Subsystem.
    pub subsystem: u16,
    /// 24 bits: base, sub, interface.
    pub class: u32,
    /// Revision.
    pub revision: u8,
    /// Each from its identifier byte on, without the next pointer's value.
    pub capabilities: Vec<Vec<u8>>,
    /// Where the VMM puts the MSI-X table.
    pub vector_bar: u8,
}

/// A device, as everybody but itself knows it. Its state's size is that of [`crate::Device::State`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Named by the hardware.
    pub name: String,
    /// One sentence for people.
    pub summary: String,
    /// What kind of work it does.
    pub class: Class,
    /// Addresses it answers.
    pub ranges: Vec<Range>,
    /// Registers that are not plain synchronous ones.
    pub registers: Vec<Register>,
    /// Pin interrupts.
    pub lines: Vec<Line>,
    /// MSI-X vectors.
    pub vectors: u16,
    /// Writes that mean only "look at memory".
    pub doorbells: Vec<Doorbell>,
    /// Powers it needs.
    pub wishes: Vec<Wish>,
    /// Its PCI identity; without one it is not a PCI function.
    pub pci: Option<Pci>,
    /// Options a person may set.
    pub options: Vec<OptionSpec>,
}

impl Manifest {
    /// A manifest of nothing but a name, to be filled in.
    #[must_use]
    pub fn new(name: &str, summary: &str, class: Class) -> Manifest {
        Manifest {
            name: name.to_owned(),
            summary: summary.to_owned(),
            class,
            ranges: Vec::new(),
            registers: Vec::new(),
            lines: Vec::new(),
            vectors: 0,
            doorbells: Vec::new(),
            wishes: Vec::new(),
            pci: None,
            options: Vec::new(),
        }
    }
}

impl Range {
    /// Ports from `first` on.
    #[must_use]
    pub fn ports(name: &str, first: u16, length: u64) -> Range {
        Range { name: name.to_owned(), space: Space::Port(first), length }
    }

    /// Guest addresses from `first` on.
    #[must_use]
    pub fn memory(name: &str, first: u64, length: u64) -> Range {
        Range { name: name.to_owned(), space: Space::Memory(first), length }
    }

    /// Memory wherever this BAR points.
    #[must_use]
    pub fn memory_bar(name: &str, bar: u8, length: u64) -> Range {
        Range { name: name.to_owned(), space: Space::Bar(bar), length }
    }

    /// Ports wherever this BAR points.
    #[must_use]
    pub fn port_bar(name: &str, bar: u8, length: u64) -> Range {
        Range { name: name.to_owned(), space: Space::PortBar(bar), length }
    }
}
