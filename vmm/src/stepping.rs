//! How a processor that the kernel emulates is made to take interrupts.
//!
//! Without hardware for virtual machines KVM emulates guests' code (`kvm_pvm`), and asks only now and then whether an interrupt
//! can be taken. Firmware that waits for its diskette lets interrupts in for two instructions at each turn of a loop
//! (`sti; nop; cli`): it may miss the one that it waits for until it gives up. After an exit KVM asks. So while a device asserts
//! an input of the 8259s such a processor runs an instruction at a time, for as many as make some turns.

use crate::irq::Pins;
use kvm_bindings::kvm_segment;
use std::arch::x86_64::__cpuid;

/// Instructions that are run one at a time after an input rose. A tick of the timer, which comes first, takes some four hundred, and a
/// guest may have more to do before it lets interrupts in; an input that it has masked costs half a second.
const STEPS_MAX: u32 = 1 << 16;

/// Whether one processor is to run an instruction at a time.
#[derive(Debug, Default)]
pub struct Stepping {
    needed: bool,
    /// Rises of inputs that were seen.
    seen: u64,
    left: u32,
    on: bool,
}

impl Stepping {
    /// Of a processor that takes the 8259s' interrupts, where `needed`.
    pub fn new(needed: bool) -> Stepping {
        Stepping { needed, ..Stepping::default() }
    }

    /// Whether this processor ever steps.
    pub fn is_needed(&self) -> bool {
        self.needed
    }

    /// Before it runs: whether it is to step from now on, where that changes. `in_firmware`: its code [is](is_firmware) firmware's.
    pub fn turn(&mut self, pins: &Pins, in_firmware: impl FnOnce() -> bool) -> Option<bool> {
        if !self.needed {
            return None;
        }
        let rises = pins.rises();
        if rises != self.seen {
            (self.seen, self.left) = (rises, STEPS_MAX);
        }
        let on = self.left > 0 && pins.is_isa_high() && in_firmware();
        self.left -= u32::from(on);
        let changed = on != self.on;
        self.on = on;
        changed.then_some(on)
    }
}

/// Whether a processor with this code segment runs firmware's code of 16 bits. Other code is not stepped: that of 32 and 64 bits takes
/// interrupts as it should, and that of others in 16 bits may not. KVM saves the flag of stepping with the flags of an interrupt that
/// is taken meanwhile, and its return brings it back when nobody steps any more. What called firmware gets its own flags back
/// from that; a boot loader that was interrupted itself would take it along into 32 bits, and end by a triple fault.
pub fn is_firmware(code: &kvm_segment) -> bool {
    /// Where ROMs are, below 1 MiB.
    const ROMS: u64 = 0xc_0000;
    code.db == 0 && code.l == 0 && code.base >= ROMS
}

/// Whether this computer has no hardware for virtual machines (VMX: Intel SDM volume 2, CPUID; SVM: AMD APM volume 3, E.4.1).
pub fn is_emulated() -> bool {
    const EXTENDED: u32 = 0x8000_0000;
    let has = |leaf: u32, bit: u32| __cpuid(leaf & EXTENDED).eax >= leaf && __cpuid(leaf).ecx >> bit & 1 != 0;
    !has(1, 5) && !has(EXTENDED + 1, 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irq::NoChip;

    fn pins() -> Pins {
        Pins::new(Box::new(NoChip))
    }

    #[test]
    fn processor_with_hardware_never_steps() {
        let (mut stepping, pins) = (Stepping::new(false), pins());
        pins.wire(6, true);
        assert_eq!(stepping.turn(&pins, || true), None);
    }

    #[test]
    fn processor_steps_while_an_isa_input_is_high() {
        let (mut stepping, pins) = (Stepping::new(true), pins());
        pins.wire(16, true);
        assert_eq!(stepping.turn(&pins, || true), None, "no input of the 8259s");
        pins.wire(6, true);
        assert_eq!((stepping.turn(&pins, || true), stepping.turn(&pins, || true)), (Some(true), None));
        pins.wire(6, false);
        assert_eq!((stepping.turn(&pins, || true), stepping.turn(&pins, || true)), (Some(false), None));
    }

    #[test]
    fn only_firmwares_code_of_16_bits_is_stepped() {
        let code = |base, db, l| kvm_segment { base, db, l, ..Default::default() };
        assert!(is_firmware(&code(0xf_0000, 0, 0)) && is_firmware(&code(0xc_0000, 0, 0)));
        for other in [code(0, 0, 0), code(0x9_f000, 0, 0), code(0xf_0000, 1, 0), code(0xf_0000, 0, 1)] {
            assert!(!is_firmware(&other), "{other:?}");
        }
    }

    #[test]
    fn processor_steps_in_firmware_alone() {
        let (mut stepping, pins) = (Stepping::new(true), pins());
        pins.wire(6, true);
        assert_eq!((stepping.turn(&pins, || false), stepping.turn(&pins, || true)), (None, Some(true)));
        assert_eq!(stepping.turn(&pins, || false), Some(false));
    }

    #[test]
    fn input_that_stays_high_is_given_up_until_it_rises_again() {
        let (mut stepping, pins) = (Stepping::new(true), pins());
        pins.wire(6, true);
        let changes: Vec<bool> = (0..2 * STEPS_MAX).filter_map(|_| stepping.turn(&pins, || true)).collect();
        assert_eq!(changes, [true, false]);
        pins.wire(6, false);
        pins.wire(6, true);
        assert_eq!(stepping.turn(&pins, || true), Some(true));
    }
}
