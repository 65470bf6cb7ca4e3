//! Programmable attribute maps: which accesses below 1 MiB memory answers, and which go on to the firmware's ROM.
//!
//! Source: Intel 290549, *82441FX PCI and Memory Controller*, "PAM: programmable attribute map registers".

use std::ops::Range;

/// The first register's offset in the host bridge's configuration space.
pub const REGISTER: u8 = 0x59;
/// Registers.
pub const REGISTERS: usize = 7;
/// Bits of a register that can be stored: read enable and write enable of two segments. The first register's lower half is
/// not used.
pub const WRITABLE: [u8; REGISTERS] = [0x30, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33];
/// Memory answers everything, as firmware leaves it for an operating system that needs no ROM.
pub const ALL_MEMORY: [u8; REGISTERS] = WRITABLE;

/// Read enable: loads are of memory.
const READ: u8 = 1 << 0;
/// Write enable: stores are to memory.
const WRITE: u8 = 1 << 1;

/// Segments: twelve of 16 KiB, and one of 64 KiB up to 1 MiB.
pub const SEGMENTS: usize = 13;
const FIRST: u64 = 0xc_0000;
const SMALL_BYTES: u64 = 16 << 10;
const LAST: Range<u64> = 0xf_0000..0x10_0000;

/// What is done with accesses to a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute {
    /// Memory answers loads.
    pub loads: bool,
    /// Memory takes stores.
    pub stores: bool,
}

/// Guest addresses of segment `index`.
pub fn segment(index: usize) -> Range<u64> {
    if index < SEGMENTS - 1 {
        let start = FIRST + SMALL_BYTES * index as u64;
        start..start + SMALL_BYTES
    } else {
        LAST
    }
}

/// The segment that `address` lies in.
pub fn segment_of(address: u64) -> Option<usize> {
    match address {
        FIRST..0xf_0000 => Some(((address - FIRST) / SMALL_BYTES) as usize),
        0xf_0000..0x10_0000 => Some(SEGMENTS - 1),
        _ => None,
    }
}

/// What the registers say, by segment.
pub fn attributes(registers: &[u8; REGISTERS]) -> [Attribute; SEGMENTS] {
    std::array::from_fn(|index| {
        // The last segment is in the first register's upper half, the others follow by halves.
        let (register, high) =
            if index == SEGMENTS - 1 { (registers[0], true) } else { (registers[1 + index / 2], index % 2 == 1) };
        let bits = if high { register >> 4 } else { register };
        Attribute { loads: bits & READ != 0, stores: bits & WRITE != 0 }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_cover_what_is_shadowed_without_a_gap() {
        let mut next = crate::memory::SHADOW.start;
        for index in 0..SEGMENTS {
            let range = segment(index);
            assert_eq!(range.start, next);
            assert_eq!((segment_of(range.start), segment_of(range.end - 1)), (Some(index), Some(index)));
            next = range.end;
        }
        assert_eq!(next, crate::memory::SHADOW.end);
        assert_eq!((segment_of(0xb_ffff), segment_of(0x10_0000)), (None, None));
    }

    #[test]
    fn each_half_of_a_register_is_of_the_segment_that_the_data_sheet_names() {
        // 59h bits 4, 5: F0000; 5Ah bits 0, 1: C0000, bits 4, 5: C4000; 5Fh bits 4, 5: EC000.
        for (register, bits, start) in [(0, 4, 0xf_0000), (1, 0, 0xc_0000), (1, 4, 0xc_4000), (6, 4, 0xe_c000)] {
            let mut registers = [0; REGISTERS];
            registers[register] = READ << bits;
            let found = attributes(&registers);
            let reads: Vec<_> =
                (0..SEGMENTS).filter(|index| found[*index].loads).map(|index| segment(index).start).collect();
            assert_eq!(reads, [start]);
            assert!(found.iter().all(|attribute| !attribute.stores));
        }
        assert!(attributes(&ALL_MEMORY).iter().all(|attribute| attribute.loads && attribute.stores));
    }
}
