//! What a device declares of itself: the VMM knows it by nothing else. Names are those of `schema/manifest.capnp`.

use crate::Refusal;

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
    Direct = 7,
    Entropy = 8,
    Scanout = 9,
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
    CrashLoaded = 5,
}

/// Where a range lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// From this I/O port on.
    Port(u64),
    /// From this guest address on.
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
    /// For power `direct`: the index of the range that it backs, all of it.
    pub range: u8,
    /// The reason, for who is to grant it.
    pub because: String,
}

impl Wish {
    /// A wish for a power of which no more is to be said.
    #[must_use]
    pub fn new(power: Power, name: &str, because: &str) -> Wish {
        Wish { power, name: name.to_owned(), switch: None, range: 0, because: because.to_owned() }
    }

    /// A wish for a switch.
    #[must_use]
    pub fn switch(switch: Switch, name: &str, because: &str) -> Wish {
        Wish { switch: Some(switch), ..Wish::new(Power::Switch, name, because) }
    }

    /// A wish for memory of its own behind this range, which the guest sees without asking the device.
    #[must_use]
    pub fn direct(range: u8, name: &str, because: &str) -> Wish {
        Wish { range, ..Wish::new(Power::Direct, name, because) }
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

/// A device, as everybody but itself knows it. Its registers and options are constants of the [`Device`](crate::Device), and
/// its state's size is that of its state.
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
}

impl Manifest {
    /// A manifest of class `system`, with nothing but a name.
    #[must_use]
    pub fn new(name: &str, summary: &str) -> Manifest {
        Manifest {
            name: name.to_owned(),
            summary: summary.to_owned(),
            class: Class::System,
            ranges: Vec::new(),
            lines: Vec::new(),
            vectors: 0,
            doorbells: Vec::new(),
            wishes: Vec::new(),
            pci: None,
        }
    }

    /// With one more range.
    #[must_use]
    pub fn range(mut self, range: Range) -> Manifest {
        self.ranges.push(range);
        self
    }

    /// With one more line.
    #[must_use]
    pub fn line(mut self, line: Line) -> Manifest {
        self.lines.push(line);
        self
    }

    /// With one more wish.
    #[must_use]
    pub fn wish(mut self, wish: Wish) -> Manifest {
        self.wishes.push(wish);
        self
    }

    /// Bytes of the range that this wish backs.
    pub(crate) fn backed_by(&self, wish: &Wish) -> u64 {
        let range = self.ranges.get(usize::from(wish.range)).filter(|_| wish.power == Power::Direct);
        range.map_or(0, |range| range.length)
    }

    /// Refuses what the schema has no room for: an option may have asked for it.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        for Range { name, space, .. } in &self.ranges {
            if let Space::Port(first) = space
                && *first > u64::from(u16::MAX)
            {
                return Err(Refusal(format!("range `{name}`: there is no port {first:#x}")));
            }
        }
        Ok(())
    }
}

impl Range {
    /// I/O ports from `first` on.
    #[must_use]
    pub fn ports(name: &str, first: u64, length: u64) -> Range {
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
