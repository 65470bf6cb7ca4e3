//! SMBIOS tables: who made the machine, its processors and memory, for those who ask firmware.
//!
//! Source: DMTF DSP0134, *System Management BIOS (SMBIOS) Reference Specification* 2.8. Section numbers are its.

/// The entry point and the structures.
pub struct Smbios {
    /// Without the structures' address, which firmware fills in.
    pub anchor: Vec<u8>,
    /// The structures.
    pub tables: Vec<u8>,
}

const VENDOR: &str = "Cofferdam";
const PRODUCT: &str = "Cofferdam PC";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Version 2.8 of the specification.
const MAJOR: u8 = 2;
const MINOR: u8 = 8;
/// Bytes of the entry point, and of its second half, which has a checksum of its own (5.2.1).
const ANCHOR_BYTES: usize = 31;
const INTERMEDIATE: usize = 16;

/// Structure types (clause 7).
const SYSTEM: u8 = 1;
const ENCLOSURE: u8 = 3;
const PROCESSOR: u8 = 4;
const MEMORY_ARRAY: u8 = 16;
const MEMORY_DEVICE: u8 = 17;
const MEMORY_MAP: u8 = 19;
const BOOT: u8 = 32;
const END: u8 = 127;
/// Handles are the type in the upper byte and a number in the lower; none is this.
const NO_HANDLE: u16 = 0xfffe;
/// "Unknown" of many lists, and "other".
const UNKNOWN: u8 = 2;
const OTHER: u8 = 1;
/// A memory device of this many MiB or more says its size elsewhere (7.18.2).
const LARGE_MIB: u64 = 0x7fff;

/// The tables of a machine with this memory and these processors.
pub fn describe(memory_bytes: u64, cpus: u8) -> Smbios {
    let memory_kib = memory_bytes >> 10;
    let memory_mib = memory_bytes >> 20;
    let mut tables = Structures::default();
    // 7.2: strings 1 to 3, none, a UUID of zeros (not set), power switch, no strings.
    let mut system = vec![1, 2, 3, 0];
    system.extend([0; 16]);
    system.extend([6, 0, 0]);
    tables.add(SYSTEM, 0, &system, &[VENDOR, PRODUCT, VERSION]);
    // 7.4: other kind, states unknown but safe (3), no oem data, height and cords not told, no elements.
    let enclosure = [1, OTHER, 2, 0, 0, 3, 3, 3, UNKNOWN, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    tables.add(ENCLOSURE, 0, &enclosure, &[VENDOR, VERSION]);
    for cpu in 0..cpus {
        // 7.5: socket, central processor (3), family "other", manufacturer, ID, version.
        let mut processor = vec![1, 3, OTHER, 2];
        processor.extend([0; 8]);
        // Version, voltage, clocks (not told), populated and enabled (0x41), upgrade "other".
        processor.extend([3, 0, 0, 0, 0, 0, 0, 0, 0x41, OTHER]);
        // Three caches without handles, no serial number, asset tag, part number.
        processor.extend([0xff; 6]);
        processor.extend([0; 3]);
        // One core, enabled, one thread; characteristics unknown; family again.
        processor.extend([1, 1, 1]);
        processor.extend(u16::from(UNKNOWN).to_le_bytes());
        processor.extend(u16::from(OTHER).to_le_bytes());
        tables.add(PROCESSOR, cpu, &processor, &[&format!("CPU {cpu}"), VENDOR, VERSION]);
    }
    // 7.17: location other, use system memory (3), no error correction (3), the most there can be, one device.
    let mut array = vec![OTHER, 3, 3];
    let most = u32::try_from(memory_kib).unwrap_or(0x8000_0000);
    array.extend(most.to_le_bytes());
    array.extend(NO_HANDLE.to_le_bytes());
    array.extend(1_u16.to_le_bytes());
    array.extend(if most == 0x8000_0000 { memory_bytes } else { 0 }.to_le_bytes());
    tables.add(MEMORY_ARRAY, 0, &array, &[]);
    // 7.18: its array, no error handle, widths unknown, size in MiB, form factor DIMM (9), in no set.
    let mut device = handle(MEMORY_ARRAY, 0).to_le_bytes().to_vec();
    device.extend(NO_HANDLE.to_le_bytes());
    device.extend([0xff; 4]);
    device.extend((memory_mib.min(LARGE_MIB) as u16).to_le_bytes());
    // Form factor, set, locator, bank, type RAM (7), detail other (bit 1), speed unknown, manufacturer.
    device.extend([9, 0, 1, 0, 7, 2, 0, 0, 0, 2, 0, 0, 0, 0]);
    device.extend(if memory_mib >= LARGE_MIB { memory_mib as u32 } else { 0 }.to_le_bytes());
    // Configured speed and voltages: not told.
    device.extend([0; 8]);
    tables.add(MEMORY_DEVICE, 0, &device, &["RAM 0", VENDOR]);
    for (number, extent) in (0..).zip(vmm::memory::layout(memory_bytes)) {
        // 7.20: first and last KiB, the array, one device in a row.
        let mut map = ((extent.base >> 10) as u32).to_le_bytes().to_vec();
        map.extend((((extent.base + extent.bytes - 1) >> 10) as u32).to_le_bytes());
        map.extend(handle(MEMORY_ARRAY, 0).to_le_bytes());
        map.push(1);
        map.extend([0; 16]);
        tables.add(MEMORY_MAP, number, &map, &[]);
    }
    // 7.33: no errors detected.
    tables.add(BOOT, 0, &[0; 7], &[]);
    tables.add(END, 0, &[], &[]);
    Smbios { anchor: tables.anchor(), tables: tables.bytes }
}

const fn handle(kind: u8, number: u8) -> u16 {
    (kind as u16) << 8 | number as u16
}

#[derive(Default)]
struct Structures {
    bytes: Vec<u8>,
    count: u16,
    largest: u16,
}

impl Structures {
    /// A structure: its header, the formatted part, its strings, each ended by a zero byte, and another (6.1).
    fn add(&mut self, kind: u8, number: u8, formatted: &[u8], strings: &[&str]) {
        let start = self.bytes.len();
        self.bytes.extend([kind, formatted.len() as u8 + 4]);
        self.bytes.extend(handle(kind, number).to_le_bytes());
        self.bytes.extend(formatted);
        for string in strings {
            self.bytes.extend(string.bytes());
            self.bytes.push(0);
        }
        if strings.is_empty() {
            self.bytes.push(0);
        }
        self.bytes.push(0);
        self.count += 1;
        self.largest = self.largest.max((self.bytes.len() - start) as u16);
    }

    /// The entry point (5.2.1), its address field zero.
    fn anchor(&self) -> Vec<u8> {
        let mut anchor = b"_SM_".to_vec();
        anchor.extend([0, ANCHOR_BYTES as u8, MAJOR, MINOR]);
        anchor.extend(self.largest.to_le_bytes());
        anchor.extend([0; 6]);
        anchor.extend(b"_DMI_");
        anchor.push(0);
        anchor.extend((self.bytes.len() as u16).to_le_bytes());
        anchor.extend([0; 4]);
        anchor.extend(self.count.to_le_bytes());
        anchor.push(MAJOR << 4 | MINOR);
        let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        anchor[INTERMEDIATE + 5] = 0_u8.wrapping_sub(sum(&anchor[INTERMEDIATE..]));
        anchor[4] = 0_u8.wrapping_sub(sum(&anchor));
        anchor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types and lengths of the structures, walked as readers do.
    fn walk(tables: &[u8]) -> Vec<(u8, u8, usize)> {
        let (mut found, mut at) = (Vec::new(), 0);
        while at < tables.len() {
            let (kind, length) = (tables[at], tables[at + 1]);
            let strings = &tables[at + usize::from(length)..];
            let end = strings.windows(2).position(|pair| pair == [0, 0]).unwrap();
            let count = strings[..end].split(|byte| *byte == 0).filter(|string| !string.is_empty()).count();
            found.push((kind, length, count));
            at += usize::from(length) + end + 2;
        }
        found
    }

    #[test]
    fn structures_have_the_lengths_and_strings_of_the_specification() {
        let smbios = describe(6 << 30, 2);
        let found = walk(&smbios.tables);
        assert_eq!(
            found,
            [
                (1, 0x1b, 3),
                (3, 0x16, 2),
                (4, 0x2a, 3),
                (4, 0x2a, 3),
                (16, 0x17, 0),
                (17, 0x28, 2),
                (19, 0x1f, 0),
                (19, 0x1f, 0),
                (19, 0x1f, 0),
                (32, 0x0b, 0),
                (127, 4, 0)
            ]
        );
        assert_eq!(u16::from_le_bytes([smbios.anchor[28], smbios.anchor[29]]), found.len() as u16);
    }

    #[test]
    fn entry_point_has_both_checksums() {
        let anchor = describe(64 << 20, 1).anchor;
        let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!((anchor.len(), sum(&anchor), sum(&anchor[16..])), (31, 0, 0));
        assert_eq!((&anchor[..4], &anchor[16..21]), (&b"_SM_"[..], &b"_DMI_"[..]));
    }
}
