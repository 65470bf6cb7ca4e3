//! The map from guest addresses and I/O ports to what answers them.
//!
//! Two sorted lists of ranges that never overlap. An access has a target only when all of its bytes lie in one range;
//! what has none reads as ones and writes nowhere.

use std::fmt;

/// Which address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Space {
    /// I/O ports.
    Port,
    /// Guest memory addresses.
    Memory,
}

impl Space {
    /// Addresses of the space; past the last one there is nothing.
    const fn end(self) -> u64 {
        match self {
            Space::Port => 1 << 16,
            // The last byte of the 64-bit space is left out so that ends can be computed; no processor reaches it.
            Space::Memory => u64::MAX,
        }
    }
}

/// What answers a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// A device's range.
    Device {
        /// Number of the device in this VM.
        device: u8,
        /// Index into its manifest's ranges.
        range: u8,
    },
    /// The two registers of PCI configuration mechanism 1, which the VMM serves.
    PciConfig,
    /// Port 0x92, which the VMM serves.
    Port92,
    /// The interrupt controllers, where the VMM serves them.
    Controllers(Part),
    /// The MSI-X table and pending bits of a device, which the VMM serves.
    Vectors {
        /// Number of the device in this VM.
        device: u8,
    },
}

/// What of the interrupt controllers answers at a place of the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The first 8259A's two registers.
    First,
    /// The second's.
    Second,
    /// The two registers of what is edge triggered and what is not.
    Triggers,
    /// The I/O APIC.
    IoApic,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Device { device, range } => write!(f, "range {range} of device {device}"),
            Target::PciConfig => write!(f, "the PCI configuration ports"),
            Target::Port92 => write!(f, "port 0x92"),
            Target::Controllers(_) => write!(f, "the interrupt controllers"),
            Target::Vectors { device } => write!(f, "the MSI-X table of device {device}"),
        }
    }
}

/// Where an access goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// What answers.
    pub target: Target,
    /// Bytes from the start of the range.
    pub offset: u64,
}

/// Why a range was not put on the bus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Somebody else answers there.
    #[error("{length:#x} bytes at {base:#x} would overlap {other}")]
    Overlap {
        /// Who was to be put there.
        target: Target,
        /// First address.
        base: u64,
        /// Bytes.
        length: u64,
        /// Who is there.
        other: Target,
    },
    /// Empty, or past the end of the space.
    #[error("{length:#x} bytes at {base:#x} are not in the address space")]
    Place {
        /// Who was to be put there.
        target: Target,
        /// First address.
        base: u64,
        /// Bytes.
        length: u64,
    },
}

/// Both address spaces.
#[derive(Debug, Clone, Default)]
pub struct Bus {
    ports: Vec<Entry>,
    memory: Vec<Entry>,
}

/// A range on the bus; `base + length` does not overflow.
#[derive(Debug, Clone, Copy)]
struct Entry {
    base: u64,
    length: u64,
    target: Target,
}

impl Bus {
    /// An empty bus.
    pub fn new() -> Bus {
        Bus::default()
    }

    /// What answers an access of `width` bytes at `address`, if one range holds all of them.
    pub fn lookup(&self, space: Space, address: u64, width: u8) -> Option<Route> {
        let entries = self.entries(space);
        let index = entries.partition_point(|entry| entry.base <= address).checked_sub(1)?;
        let entry = entries[index];
        let offset = address - entry.base;
        let fits = offset < entry.length && u64::from(width) <= entry.length - offset;
        fits.then_some(Route { target: entry.target, offset })
    }

    /// Puts `length` bytes from `base` on the bus.
    pub fn insert(&mut self, space: Space, base: u64, length: u64, target: Target) -> Result<(), BusError> {
        let end = base.checked_add(length).filter(|end| length != 0 && *end <= space.end());
        let end = end.ok_or(BusError::Place { target, base, length })?;
        let entries = self.entries_mut(space);
        let index = entries.partition_point(|entry| entry.base < base);
        let before =
            index.checked_sub(1).map(|before| entries[before]).filter(|other| other.base + other.length > base);
        let after = entries.get(index).copied().filter(|other| other.base < end);
        if let Some(other) = before.or(after) {
            return Err(BusError::Overlap { target, base, length, other: other.target });
        }
        entries.insert(index, Entry { base, length, target });
        Ok(())
    }

    /// Takes `target` at `base` off the bus; `false` when it is not there, which is no harm.
    pub fn remove(&mut self, space: Space, base: u64, target: Target) -> bool {
        let entries = self.entries_mut(space);
        let found = entries.iter().position(|entry| entry.base == base && entry.target == target);
        found.map(|index| entries.remove(index)).is_some()
    }

    fn entries(&self, space: Space) -> &[Entry] {
        match space {
            Space::Port => &self.ports,
            Space::Memory => &self.memory,
        }
    }

    fn entries_mut(&mut self, space: Space) -> &mut Vec<Entry> {
        match space {
            Space::Port => &mut self.ports,
            Space::Memory => &mut self.memory,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn device(device: u8) -> Target {
        Target::Device { device, range: 0 }
    }

    fn bus() -> Bus {
        let mut bus = Bus::new();
        bus.insert(Space::Port, 0x3f8, 8, device(1)).unwrap();
        bus.insert(Space::Port, 0x70, 2, device(2)).unwrap();
        bus.insert(Space::Port, 0xcf8, 8, Target::PciConfig).unwrap();
        bus.insert(Space::Memory, 0xc000_0000, 0x1000, Target::Vectors { device: 3 }).unwrap();
        bus
    }

    #[test]
    fn access_is_routed_with_its_offset() {
        let bus = bus();
        assert_eq!(bus.lookup(Space::Port, 0x3fd, 1), Some(Route { target: device(1), offset: 5 }));
        assert_eq!(bus.lookup(Space::Port, 0xcfc, 4), Some(Route { target: Target::PciConfig, offset: 4 }));
        let route = Route { target: Target::Vectors { device: 3 }, offset: 0xff8 };
        assert_eq!(bus.lookup(Space::Memory, 0xc000_0ff8, 8), Some(route));
    }

    #[test]
    fn access_beside_or_across_the_end_of_a_range_goes_nowhere() {
        let bus = bus();
        assert_eq!(bus.lookup(Space::Port, 0x3ff, 2), None);
        assert_eq!(bus.lookup(Space::Port, 0x400, 1), None);
        assert_eq!(bus.lookup(Space::Port, 0x3f7, 2), None);
        assert_eq!(bus.lookup(Space::Port, 0, 1), None);
        assert_eq!(bus.lookup(Space::Memory, 0x3f8, 1), None);
        assert_eq!(bus.lookup(Space::Memory, u64::MAX, 8), None);
    }

    #[test]
    fn adjacent_ranges_do_not_overlap() {
        let mut bus = bus();
        bus.insert(Space::Port, 0x400, 1, device(4)).unwrap();
        bus.insert(Space::Port, 0x3f0, 8, device(5)).unwrap();
        assert_eq!(bus.lookup(Space::Port, 0x3ff, 1).unwrap().target, device(1));
        assert_eq!(bus.lookup(Space::Port, 0x400, 1).unwrap().target, device(4));
        assert_eq!(bus.lookup(Space::Port, 0x3f7, 1).unwrap().target, device(5));
        assert_eq!(bus.lookup(Space::Port, 0x3ff, 2), None, "across two devices");
    }

    #[test]
    fn overlap_is_refused_and_names_what_is_there() {
        let mut bus = bus();
        for (base, length) in [(0x3f8, 8), (0x3f0, 9), (0x3ff, 1), (0x3fa, 2), (0x3f0, 0x20)] {
            let refused = bus.insert(Space::Port, base, length, device(4)).unwrap_err();
            let sentence = refused.to_string();
            assert!(sentence.contains("range 0 of device 1"), "{sentence}");
        }
    }

    #[test]
    fn range_outside_the_space_is_refused() {
        let mut bus = bus();
        for (space, base, length) in [
            (Space::Port, 0, 0),
            (Space::Port, 0xffff, 2),
            (Space::Port, 0x1_0000, 1),
            (Space::Memory, u64::MAX, 1),
            (Space::Memory, u64::MAX - 1, 2),
        ] {
            assert!(matches!(bus.insert(space, base, length, device(4)), Err(BusError::Place { .. })));
        }
    }

    #[test]
    fn range_removed_answers_no_more_and_only_its_owner_is_removed() {
        let mut bus = bus();
        assert!(!bus.remove(Space::Port, 0x3f8, device(2)));
        assert!(!bus.remove(Space::Port, 0x3f9, device(1)));
        assert!(bus.remove(Space::Port, 0x3f8, device(1)));
        assert_eq!(bus.lookup(Space::Port, 0x3f8, 1), None);
        bus.insert(Space::Port, 0x3f8, 8, device(4)).unwrap();
    }

    #[test]
    fn lookup_agrees_with_a_plain_search_of_every_port() {
        let bus = bus();
        for address in 0..0x1_0000_u64 {
            for width in [1, 2, 4] {
                let plain = bus
                    .ports
                    .iter()
                    .find(|entry| entry.base <= address && address + u64::from(width) <= entry.base + entry.length);
                let plain = plain.map(|entry| Route { target: entry.target, offset: address - entry.base });
                assert_eq!(bus.lookup(Space::Port, address, width), plain, "{width} bytes at {address:#x}");
            }
        }
    }
}
