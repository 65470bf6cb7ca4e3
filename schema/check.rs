//! What a manifest must keep to before anybody builds on it.

use crate::BadBody;
use crate::manifest::{
    BULK_MAX, DIRECT_MAX, Line, Manifest, PCI_CONFIG_BYTES, PCI_HEADER_BYTES, POSTED_MAX, Pci, Power, Range,
    RegisterKind, SHADOW_MAX, STATE_MAX, Space, VECTORS_MAX,
};

/// I/O ports of x86.
const PORTS: u64 = 0x1_0000;
/// Base address registers of a PCI function (PCI Local Bus Specification 3.0, 6.2.5.1).
const BARS: u8 = 6;
/// A 32-bit BAR cannot ask for more than half of its address space.
const BAR_BYTES_MAX: u64 = 1 << 31;
/// ISA interrupts.
const ISA_LINES: u8 = 16;
/// INTA to INTD.
const PINS: std::ops::RangeInclusive<u8> = 1..=4;

impl Manifest {
    /// Whether the parts fit together: indices name what exists, offsets lie within their ranges, sizes are affordable.
    ///
    /// A device host writes its own manifest, so the supervisor believes none before this. Whether ranges
    /// overlap, its own or those of other devices, is found out where a machine is planned.
    pub fn check(&self) -> Result<(), BadBody> {
        let named = !self.name.is_empty() && self.name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
        require(named, "name")?;
        for range in &self.ranges {
            self.check_range(range)?;
        }
        for register in &self.registers {
            require(matches!(register.width, 1 | 2 | 4 | 8), "registers.width")?;
            self.inside(register.range, register.offset, register.width, "registers.offset")?;
            match &register.kind {
                RegisterKind::Posted(bit) => require(usize::from(*bit) < POSTED_MAX, "registers.posted")?,
                RegisterKind::PostedValue { posted, mask, value } => {
                    require(usize::from(*posted) < POSTED_MAX, "registers.posted")?;
                    require(value & !mask == 0, "registers.value")?;
                }
                RegisterKind::Area { posted, length } => {
                    require(usize::from(*posted) < POSTED_MAX, "registers.posted")?;
                    let inside = self.ranges.get(usize::from(register.range)).is_some_and(|range| {
                        register.offset.checked_add(*length).is_some_and(|end| end <= range.length)
                    });
                    require(inside && *length >= u64::from(register.width), "registers.length")?;
                }
                RegisterKind::Strings => {
                    let range = self.ranges.get(usize::from(register.range));
                    let ports = range.is_some_and(|range| matches!(range.space, Space::Port(_) | Space::PortBar(_)));
                    require(ports && register.width <= 4, "registers.strings")?;
                }
                RegisterKind::Shadow { slot, tolerates } => {
                    require(usize::from(*slot) < SHADOW_MAX, "registers.slot")?;
                    let known = tolerates.iter().all(|tolerance| usize::from(tolerance.posted) < POSTED_MAX);
                    require(known, "registers.tolerates")?;
                }
            }
        }
        for line in &self.lines {
            match line {
                Line::Isa(number) => require(*number < ISA_LINES, "lines.isa")?,
                Line::Pin(pin) => require(self.pci.is_some() && PINS.contains(pin), "lines.pin")?,
            }
        }
        for doorbell in &self.doorbells {
            require(matches!(doorbell.width, 0 | 1 | 2 | 4 | 8), "doorbells.width")?;
            self.inside(doorbell.range, doorbell.offset, doorbell.width.max(1), "doorbells.offset")?;
        }
        for wish in &self.wishes {
            require(wish.switch.is_some() == (wish.power == Power::Switch), "wishes.switch")?;
            if wish.power == Power::Direct {
                require(usize::from(wish.range) < self.ranges.len(), "wishes.range")?;
                require(wish.bytes != 0 && wish.bytes <= DIRECT_MAX, "wishes.bytes")?;
            }
        }
        check_size("stateBytes", self.state_bytes, STATE_MAX)?;
        check_size("bulkBytes", self.bulk_bytes, BULK_MAX)?;
        require(self.vectors <= VECTORS_MAX, "vectors")?;
        require(self.vectors == 0 || self.pci.is_some(), "vectors")?;
        if let Some(pci) = &self.pci {
            self.check_pci(pci)?;
        }
        if let Some(acpi) = &self.acpi {
            let name = acpi.name.as_bytes();
            let segment = name.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_');
            require(name.is_empty() || (name.len() == 4 && segment && !name[0].is_ascii_digit()), "acpi.name")?;
            require(acpi.hid.bytes().all(|byte| byte.is_ascii_alphanumeric()), "acpi.hid")?;
            require(acpi.also.iter().all(|node| usize::from(node.line) < self.lines.len()), "acpi.also")?;
        }
        Ok(())
    }

    fn check_range(&self, range: &Range) -> Result<(), BadBody> {
        require(range.length != 0, "ranges.length")?;
        let is_bar = matches!(range.space, Space::Bar(_) | Space::PortBar(_));
        require(!is_bar || self.pci.is_some(), "ranges.space")?;
        let fits = match range.space {
            Space::Port(first) => range.length <= PORTS - u64::from(first),
            Space::Memory(first) => first.checked_add(range.length - 1).is_some(),
            Space::Bar(bar) => bar < BARS && range.length <= BAR_BYTES_MAX,
            Space::PortBar(bar) => bar < BARS && range.length <= PORTS,
        };
        if fits { Ok(()) } else { Err(BadBody::Manifest(format!("there is no room for {range}"))) }
    }

    fn check_pci(&self, pci: &Pci) -> Result<(), BadBody> {
        require(pci.class < 1 << 24, "pci.class")?;
        // An identifier and a next pointer are the least that a capability is.
        require(pci.capabilities.iter().all(|capability| capability.len() >= 2), "pci.capabilities")?;
        for register in &pci.registers {
            let first = usize::from(register.offset);
            let own = first >= PCI_HEADER_BYTES && first + register.value.len() <= PCI_CONFIG_BYTES;
            require(own && !register.value.is_empty(), "pci.registers.value")?;
            require(register.writable.len() == register.value.len(), "pci.registers.writable")?;
        }
        if self.vectors != 0 {
            let taken =
                |range: &Range| matches!(range.space, Space::Bar(bar) | Space::PortBar(bar) if bar == pci.vector_bar);
            require(pci.vector_bar < BARS && !self.ranges.iter().any(taken), "pci.vectorBar")?;
        }
        Ok(())
    }

    /// Requires that `bytes` at `offset` lie within the range of this index.
    fn inside(&self, range: u8, offset: u64, bytes: u8, field: &'static str) -> Result<(), BadBody> {
        let length = self.ranges.get(usize::from(range)).map_or(0, |range| range.length);
        require(offset.checked_add(u64::from(bytes)).is_some_and(|end| end <= length), field)
    }
}

fn check_size(field: &str, bytes: u32, bound: u32) -> Result<(), BadBody> {
    let why = || BadBody::Manifest(format!("`{field}` is {bytes}, and at most {bound} are allowed"));
    if bytes <= bound { Ok(()) } else { Err(why()) }
}

fn require(holds: bool, field: &'static str) -> Result<(), BadBody> {
    if holds { Ok(()) } else { Err(BadBody::OutOfRange(field)) }
}
