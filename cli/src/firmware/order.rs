//! What firmware boots first: each drive, disk and ROM by its place in the machine.
//!
//! Source: SeaBIOS's documentation, `Runtime_config.md`, "bootorder": one place a line, as Open Firmware names places. It falls back
//! on the memory of the clock, which has room for three kinds of media and knows no drive from another.

use super::Extra;
use crate::args::usage;
use anyhow::Result;
use schema::manifest::Manifest;
use vmm::pci::FIRST_SLOT;
use vmm::supervisor::PlannedDevice;

/// The item's name.
pub const BOOT_ORDER: &str = "bootorder";
/// Where option ROMs that belong to no display are, and their place.
const ROMS: &str = "genroms/";
const ROM_PLACE: &str = "/rom@genroms/";
/// The PCI bus, and on it the ISA bridge's floppy controller.
const PCI: &str = "/pci@i0cf8";
const FLOPPY: &str = "isa@1/fdc@03f0/floppy";
/// The ISA bridge's slot.
const BRIDGE: u8 = 1;
/// Drives of the IDE function, as its options name them: channel, and unit on it.
const IDE: [(&str, u8, u8); 4] =
    [("primary", 0, 0), ("primary-slave", 0, 1), ("secondary", 1, 0), ("secondary-slave", 1, 1)];

/// Letters of `--boot`.
const LETTERS: &str = "acdn";

/// `--boot` as a person gave it, each letter known and there once.
pub fn letters(order: &str) -> Result<&str> {
    let known = order.char_indices().all(|(at, letter)| LETTERS.contains(letter) && !order[..at].contains(letter));
    match order.is_empty() || !known {
        true => Err(usage!(
            "--boot {order}: give the letters a (floppy), c (disk), d (CD-ROM) and n (network), each once at most, the first \
             choice first"
        )),
        false => Ok(order),
    }
}

/// The item for these letters: of each kind all that there is, in the order in which it was given.
pub fn describe(letters: &str, devices: &[PlannedDevice], manifests: &[Manifest], extras: &[Extra]) -> Vec<u8> {
    let mut order = String::new();
    for letter in letters.chars() {
        let places = match letter {
            'n' => roms(extras),
            _ => media(letter, devices, manifests),
        };
        places.iter().for_each(|place| order.extend([place, "\n"]));
    }
    order.push('\0');
    order.into_bytes()
}

fn roms(extras: &[Extra]) -> Vec<String> {
    let name = |extra: &Extra| extra.name.strip_prefix(ROMS).map(|rom| format!("{ROM_PLACE}{rom}"));
    extras.iter().filter_map(name).collect()
}

/// Places of the media of this kind.
fn media(letter: char, devices: &[PlannedDevice], manifests: &[Manifest]) -> Vec<String> {
    let mut slot = FIRST_SLOT;
    let mut places = Vec::new();
    for (device, manifest) in devices.iter().zip(manifests) {
        let option = |name: &str| device.options.iter().find(|option| option.name == name);
        // Beside the ISA bridge, or in a slot of its own.
        let place = match manifest.pci.as_ref().map_or(0, |pci| pci.bridge_function) {
            0 => format!("{:x}", device.slot.unwrap_or(slot)),
            function => format!("{BRIDGE:x},{function:x}"),
        };
        match (device.device.as_str(), letter) {
            ("floppy", 'a') => {
                let drives = ["a", "b"].into_iter().enumerate().filter(|(_, drive)| option(drive).is_some());
                places.extend(drives.map(|(unit, _)| format!("{PCI}/{FLOPPY}@{unit}")));
            }
            ("piix-ide", 'c' | 'd') => {
                let wanted =
                    |what: &str| if letter == 'c' { matches!(what, "disk" | "readonly") } else { what == "cdrom" };
                let drives =
                    IDE.into_iter().filter(|(name, ..)| option(name).is_some_and(|drive| wanted(&drive.value)));
                places
                    .extend(drives.map(|(_, channel, unit)| format!("{PCI}/ide@{place}/drive@{channel}/disk@{unit}")));
            }
            ("virtio-block", 'c') => places.push(format!("{PCI}/scsi@{place}/disk@0,0")),
            _ => {}
        }
        slot += u8::from(device.slot.is_none() && manifest.pci.as_ref().is_some_and(|pci| pci.bridge_function == 0));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::RunArgs;

    fn order(asked: &RunArgs, roms: &[&str]) -> Vec<String> {
        let devices = asked.devices().unwrap();
        let manifests = crate::firmware::manifests(&devices).unwrap();
        let rom = |name: &&str| Extra { name: (*name).to_owned(), content: Vec::new() };
        let extras: Vec<Extra> = roms.iter().map(rom).collect();
        let item = describe(asked.boot.as_deref().unwrap(), &devices, &manifests, &extras);
        let (end, lines) = item.split_last().unwrap();
        assert_eq!(*end, 0, "it ends as strings of C do");
        String::from_utf8(lines.to_vec()).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn order_with_letters_that_mean_nothing_or_come_twice_is_refused() {
        for wrong in ["", "x", "cx", "cc", "acdna"] {
            let sentence = letters(wrong).unwrap_err().to_string();
            assert!(sentence.starts_with(&format!("--boot {wrong}: give the letters")), "{sentence}");
        }
        assert_eq!(letters("ndca").unwrap(), "ndca");
    }

    #[test]
    fn what_is_not_there_has_no_place() {
        let asked = RunArgs { firmware: Some("bios".into()), boot: Some("acdn".into()), ..RunArgs::default() };
        assert_eq!(order(&asked, &["vgaroms/vgabios.bin"]), [""; 0]);
    }

    #[test]
    fn each_medium_is_named_by_its_place() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let asked = RunArgs {
            firmware: Some("bios".into()),
            boot: Some("ndca".into()),
            floppy: words(&["a.img", "b.img,readonly"]),
            ide: words(&["a", "b,readonly", "c"]),
            cdrom: words(&["cd.iso"]),
            disk: words(&["d"]),
            ..RunArgs::default()
        };
        // Entropy is in slot 2, the display in 3, the virtio disk in 4.
        assert_eq!(
            order(&asked, &["genroms/pxe.rom", "opt/other"]),
            [
                "/rom@genroms/pxe.rom",
                "/pci@i0cf8/ide@1,1/drive@1/disk@0",
                "/pci@i0cf8/scsi@4/disk@0,0",
                "/pci@i0cf8/ide@1,1/drive@0/disk@0",
                "/pci@i0cf8/ide@1,1/drive@0/disk@1",
                "/pci@i0cf8/ide@1,1/drive@1/disk@1",
                "/pci@i0cf8/isa@1/fdc@03f0/floppy@0",
                "/pci@i0cf8/isa@1/fdc@03f0/floppy@1",
            ]
        );
    }
}
