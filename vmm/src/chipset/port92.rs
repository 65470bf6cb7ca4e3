//! Port 0x92: the gate of address line 20, and a fast reset.
//!
//! Source: Intel 290550, *82371FB and 82371SB*, "port 92 register". The gate can be stored and does nothing: no software of
//! this century wants addresses to wrap at 1 MiB, and a processor under KVM never does it.

use std::sync::atomic::{AtomicU8, Ordering};

/// The port.
pub const PORT: u16 = 0x92;
/// The processor is reset when this rises.
const FAST_RESET: u8 = 1 << 0;
/// Address line 20 is let through.
const A20: u8 = 1 << 1;

/// The register.
pub struct Port92(AtomicU8);

impl Default for Port92 {
    fn default() -> Port92 {
        Port92(AtomicU8::new(A20))
    }
}

impl Port92 {
    /// What a load gives.
    pub fn read(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes a store. True: the machine is to be reset.
    #[must_use]
    pub fn write(&self, value: u8) -> bool {
        let before = self.0.swap(value & (FAST_RESET | A20), Ordering::Relaxed);
        value & !before & FAST_RESET != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reset_is_asked_for_once_by_a_rising_bit() {
        let port = Port92::default();
        assert_eq!(port.read(), A20);
        assert!(!port.write(0xfe));
        assert_eq!(port.read(), A20);
        assert!(port.write(FAST_RESET));
        assert!(!port.write(FAST_RESET));
        assert_eq!(port.read(), FAST_RESET);
    }
}
