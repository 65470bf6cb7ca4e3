//! The registers of an I/O APIC, for a machine whose kernel has none.
//!
//! It sends messages to processors' local APICs, and such a machine has none: nobody accepts one, so no remote IRR is ever set and
//! no delivery waits.
//!
//! Source: Intel 290566, *82093AA I/O Advanced Programmable Interrupt Controller*.

use crate::irq::PINS;

/// Where it is (3.1: the APIC base of an ISA bridge after reset), and how much of it answers.
pub const BASE: u64 = 0xfec0_0000;
/// Addresses up to where another one would be.
pub const LENGTH: u64 = 0x400;
/// Its two registers in memory: which one is meant, and its content.
const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;

/// Registers behind them (3.2).
const ID: u8 = 0;
const VERSION: u8 = 1;
const ARBITRATION: u8 = 2;
const REDIRECTION: u8 = 0x10;
const ID_BITS: u32 = 0x0f00_0000;
/// Version 11h, and the last entry's number.
const IDENTITY: u32 = 0x11 | (PINS - 1) << 16;
/// Bits of a redirection entry that can be written (3.2.4): all that are defined but delivery status and remote IRR.
const ENTRY_BITS: u64 = 0xff00_0000_0001_afff;
/// Masked, as a reset leaves it.
const MASKED: u64 = 1 << 16;

/// Its registers.
#[derive(Debug)]
pub struct IoApic {
    selected: u8,
    id: u32,
    entries: [u64; PINS as usize],
}

impl Default for IoApic {
    fn default() -> IoApic {
        IoApic { selected: 0, id: 0, entries: [MASKED; PINS as usize] }
    }
}

impl IoApic {
    /// A load. Between its registers there is nothing.
    pub fn read(&self, offset: u64) -> u32 {
        match (offset, self.selected) {
            (SELECT, selected) => selected.into(),
            (WINDOW, ID | ARBITRATION) => self.id,
            (WINDOW, VERSION) => IDENTITY,
            (WINDOW, selected) => self.entry(selected).map_or(0, |(at, shift)| (self.entries[at] >> shift) as u32),
            _ => 0,
        }
    }

    /// A store.
    pub fn write(&mut self, offset: u64, value: u32) {
        match (offset, self.selected) {
            (SELECT, _) => self.selected = value as u8,
            // The arbitration's number is loaded with it (3.2.3).
            (WINDOW, ID) => self.id = value & ID_BITS,
            (WINDOW, selected) => {
                if let Some((at, shift)) = self.entry(selected) {
                    let half = u64::from(u32::MAX) << shift;
                    self.entries[at] = self.entries[at] & !half | u64::from(value) << shift & ENTRY_BITS;
                }
            }
            _ => {}
        }
    }

    /// The entry that a register is half of, and where the half begins.
    fn entry(&self, register: u8) -> Option<(usize, u32)> {
        let half = register.checked_sub(REDIRECTION)?;
        let at = usize::from(half / 2);
        (at < self.entries.len()).then_some((at, 32 * u32::from(half % 2)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(apic: &mut IoApic, number: u32) -> u32 {
        apic.write(SELECT, number);
        apic.read(WINDOW)
    }

    #[test]
    fn registers_that_it_does_not_have_read_as_zero_and_keep_nothing() {
        let mut apic = IoApic::default();
        for number in [3, 0x0f, 0x40, 0xff] {
            apic.write(SELECT, number);
            apic.write(WINDOW, u32::MAX);
            assert_eq!(apic.read(WINDOW), 0, "{number:#x}");
        }
        apic.write(0x20, 1);
        assert_eq!((apic.read(0x20), apic.read(SELECT)), (0, 0xff));
    }

    #[test]
    fn it_says_what_it_is_and_is_masked_after_a_reset() {
        let mut apic = IoApic::default();
        assert_eq!(register(&mut apic, 1), 0x0017_0011);
        assert!((0x10..0x40).step_by(2).all(|number| register(&mut apic, number) == 0x1_0000));
        apic.write(SELECT, 0);
        apic.write(WINDOW, u32::MAX);
        assert_eq!((register(&mut apic, 0), register(&mut apic, 2)), (0x0f00_0000, 0x0f00_0000));
        apic.write(WINDOW, 0);
        assert_eq!(register(&mut apic, 2), 0x0f00_0000, "it is loaded with the identity alone");
    }

    #[test]
    fn an_entry_keeps_what_software_may_write() {
        let mut apic = IoApic::default();
        for number in [0x3e, 0x3f] {
            apic.write(SELECT, number);
            apic.write(WINDOW, u32::MAX);
        }
        assert_eq!((register(&mut apic, 0x3e), register(&mut apic, 0x3f)), (0x0001_afff, 0xff00_0000));
        assert_eq!(register(&mut apic, 0x3c), 0x1_0000);
    }
}
