//! The interrupt controllers of a machine whose kernel has none.
//!
//! They are the VMM's as KVM's are the kernel's: what they take are not accesses alone but every change of an interrupt input, in its
//! order, and devices' lanes have no operation for that (docs/decisions/0015-interrupt-controllers-without-kvm.md).

use super::i8259::Pair;
use super::ioapic::{self, IoApic};
use crate::bus::{Part, Space, Target};
use crate::irq::Chip;
use crate::lock;
use std::sync::{Arc, Mutex};

/// Where they are (82371SB, "Address decoding": 20h, A0h, 4D0h).
pub const PLACES: [(Space, u64, u64, Target); 4] = [
    (Space::Port, 0x20, 2, Target::Controllers(Part::First)),
    (Space::Port, 0xa0, 2, Target::Controllers(Part::Second)),
    (Space::Port, 0x4d0, 2, Target::Controllers(Part::Triggers)),
    (Space::Memory, ioapic::BASE, ioapic::LENGTH, Target::Controllers(Part::IoApic)),
];

/// Inputs of the two 8259As.
const INPUTS: u32 = 16;

/// All of them.
#[derive(Debug, Default)]
pub struct Controllers {
    pair: Mutex<Pair>,
    ioapic: Mutex<IoApic>,
}

impl Controllers {
    /// A load.
    pub fn read(&self, part: Part, offset: u64, width: u8) -> u64 {
        if part == Part::IoApic {
            return lock(&self.ioapic).read(offset).into();
        }
        // A bus of eight bits takes a wider access as so many of one byte.
        let mut pair = lock(&self.pair);
        (0..width.min(8)).fold(0, |value, byte| {
            let register = (offset + u64::from(byte)) as u8;
            let read = match part {
                Part::First => pair.read(false, register),
                Part::Second => pair.read(true, register),
                _ => pair.triggers(register != 0),
            };
            value | u64::from(read) << (8 * byte)
        })
    }

    /// A store.
    pub fn write(&self, part: Part, offset: u64, width: u8, value: u64) {
        if part == Part::IoApic {
            return lock(&self.ioapic).write(offset, value as u32);
        }
        let mut pair = lock(&self.pair);
        for (register, value) in (offset as u8..).zip(&value.to_le_bytes()[..usize::from(width.min(8))]) {
            match part {
                Part::First => pair.write(false, register, *value),
                Part::Second => pair.write(true, register, *value),
                _ => pair.set_triggers(register != 0, *value),
            }
        }
    }
}

/// What the levels of interrupt inputs drive there.
pub struct Inputs(pub Arc<Controllers>);

impl Chip for Inputs {
    fn set_line(&self, gsi: u32, level: bool) {
        if gsi < INPUTS {
            lock(&self.0.pair).set_input(gsi as u8, level);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_access_is_one_of_each_register() {
        let controllers = Controllers::default();
        controllers.write(Part::Triggers, 0, 2, 0xffff);
        assert_eq!(controllers.read(Part::Triggers, 0, 2), 0xdef8);
        assert_eq!(controllers.read(Part::Triggers, 1, 1), 0xde);
    }

    #[test]
    fn an_input_of_the_io_apic_alone_is_none_of_the_8259s() {
        let controllers = Arc::new(Controllers::default());
        let inputs = Inputs(Arc::clone(&controllers));
        inputs.set_line(16, true);
        assert_eq!(controllers.read(Part::First, 0, 1), 0);
        inputs.set_line(15, true);
        assert_eq!((controllers.read(Part::First, 0, 1), controllers.read(Part::Second, 0, 1)), (0x04, 0x80));
    }
}
