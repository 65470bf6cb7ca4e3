//! The chipset: what decodes memory, ports and interrupts for all devices alike, and is therefore the VMM's and no device's.
//!
//! It is an 82441FX host bridge with the 82371SB (PIIX3) ISA bridge that goes with it. Their configuration spaces are in
//! [`crate::pci`]; what their registers mean is here, and the routing of PCI interrupts in [`crate::irq`]. Where KVM has no interrupt
//! controllers, they are here too.

pub mod controllers;
mod i8259;
mod ioapic;
pub mod pam;
pub mod port92;
pub mod shadow;
