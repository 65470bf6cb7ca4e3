//! The device models, and the catalogue that names them.
//!
//! Adding a device touches its own folder and `CATALOGUE`.

mod acpi_pm;
mod debug_console;
mod debug_exit;
mod floppy;
pub mod fw_cfg;
mod i8042;
mod i8254;
mod ib700;
mod ide;
mod mc146818;
mod parallel;
mod pvpanic;
mod rtl8139;
mod uart16550;
mod vga;
mod virtio_block;
mod virtio_entropy;
mod virtio_net;

mod declare;
mod ethernet;
mod latch;

#[cfg(test)]
mod conformance;

use device::Registration;

/// Every device that can be named in `--device`.
#[must_use]
pub fn catalogue() -> &'static [Registration] {
    CATALOGUE
}

static CATALOGUE: &[Registration] = &[
    Registration::of::<uart16550::Uart16550>(uart16550::NAME),
    Registration::of::<mc146818::Mc146818>(mc146818::NAME),
    Registration::of::<i8042::I8042>(i8042::NAME),
    Registration::of::<acpi_pm::AcpiPm>(acpi_pm::NAME),
    Registration::of::<pvpanic::Pvpanic<pvpanic::Isa>>(pvpanic::NAME),
    Registration::of::<pvpanic::Pvpanic<pvpanic::Pci>>(pvpanic::PCI_NAME),
    Registration::of::<ib700::Ib700>(ib700::NAME),
    Registration::of::<parallel::Parallel>(parallel::NAME),
    Registration::of::<i8254::I8254>(i8254::NAME),
    Registration::of::<debug_console::DebugConsole>(debug_console::NAME),
    Registration::of::<debug_exit::DebugExit>(debug_exit::NAME),
    Registration::of::<floppy::Floppy>(floppy::NAME),
    Registration::of::<ide::Ide>(ide::NAME),
    Registration::of::<vga::Vga>(vga::NAME),
    Registration::of::<fw_cfg::FwCfg>(fw_cfg::NAME),
    Registration::of::<virtio_block::VirtioBlock>(virtio_block::NAME),
    Registration::of::<virtio_entropy::VirtioEntropy>(virtio_entropy::NAME),
    Registration::of::<virtio_net::VirtioNet>(virtio_net::NAME),
    Registration::of::<rtl8139::Rtl8139>(rtl8139::NAME),
];

#[cfg(test)]
mod tests {
    use super::*;
    use device::Options;
    use device::manifest::Space;

    #[test]
    fn each_name_is_in_the_catalogue_once() {
        for (index, entry) in catalogue().iter().enumerate() {
            assert!(catalogue()[..index].iter().all(|earlier| earlier.name != entry.name), "{}", entry.name);
        }
    }

    #[test]
    fn a_manifest_carries_the_name_of_its_entry() {
        for entry in catalogue() {
            assert_eq!((entry.manifest)(&Options::default()).map(|manifest| manifest.name).as_deref(), Ok(entry.name));
        }
    }

    #[test]
    fn with_their_default_options_no_two_devices_answer_the_same_port() {
        let mut taken: Vec<(u64, u64, &str)> = Vec::new();
        for entry in catalogue() {
            for range in (entry.manifest)(&Options::default()).unwrap().ranges {
                let Space::Port(first) = range.space else { continue };
                let (start, end) = (u64::from(first), u64::from(first) + range.length);
                for (other_start, other_end, other) in &taken {
                    assert!(end <= *other_start || *other_end <= start, "{} and {other}", entry.name);
                }
                taken.push((start, end, entry.name));
            }
        }
    }
}
