//! `--nic`: a network card, and the network behind it.

use crate::args::{find_image, read_image, usage};
use crate::firmware::Extra;
use crate::machine;
use anyhow::Result;
use schema::host::Setting;
use std::path::{Path, PathBuf};
use vmm::supervisor::{Backing, Network, NetworkPlan, PlannedDevice};

/// What a card may be.
struct Card {
    /// As a person names it.
    name: &'static str,
    /// The device that it is.
    device: &'static str,
    /// The option ROM with which a PC boots from it: iPXE, as Debian's package `ipxe-qemu` has it.
    rom: &'static str,
}

const CARDS: [Card; 2] = [
    Card { name: "virtio", device: "virtio-net", rom: "pxe-virtio.rom" },
    Card { name: "rtl8139", device: "rtl8139", rom: "pxe-rtl8139.rom" },
];
/// Where firmware looks for ROMs of any device.
const ROMS: &str = "genroms/";

/// The card that `spec` begins with, and its options.
fn card(spec: &str) -> Result<(&'static Card, impl Iterator<Item = &str>)> {
    let mut parts = spec.split(',');
    let asked = parts.next().unwrap_or_default();
    let card = CARDS.iter().find(|card| card.name == asked).ok_or_else(|| {
        let names = CARDS.iter().map(|card| card.name).collect::<Vec<_>>().join(", ");
        usage!("--nic {spec}: `{asked}` is not a card; there are {names}")
    })?;
    Ok((card, parts))
}

/// The ROM that firmware is given for a card, so that it can boot from it: what `rom=FILE` says, or the card's own where it is
/// installed. It has to be when `boots`, which means that a person wants to boot from the network.
pub fn option_rom(spec: &str, boots: bool) -> Result<Option<Extra>> {
    let (card, mut options) = card(spec)?;
    let name = match options.find_map(|option| option.strip_prefix("rom=")) {
        Some("off") => return Ok(None),
        Some(file) => Path::new(file),
        None if boots || find_image(card.rom.as_ref()).is_some() => Path::new(card.rom),
        None => return Ok(None),
    };
    let content = read_image(&format!("--nic {spec}: rom"), name)?;
    let file = name.file_name().unwrap_or_default().to_string_lossy();
    Ok(Some(Extra { name: format!("{ROMS}{file}"), content }))
}

/// The card of `CARD[,tap=NAME|passt=PATH|user][,OPTION=VALUE]…`, which is number `number` of the VM `vm`.
pub fn parse(spec: &str, vm: &str, number: usize) -> Result<PlannedDevice> {
    let (card, parts) = card(spec)?;
    let (mut network, mut options) = (None, Vec::new());
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let plan = match name {
            // Firmware's affair.
            "rom" => continue,
            "tap" => NetworkPlan::Tap(value.to_owned()),
            "passt" => NetworkPlan::Passt(PathBuf::from(value)),
            "user" if value.is_empty() => NetworkPlan::User,
            _ => {
                let value = if part.contains('=') { value } else { "on" };
                options.push(Setting { name: name.to_owned(), value: value.to_owned() });
                continue;
            }
        };
        if network.replace(plan).is_some() {
            return Err(usage!("--nic {spec}: a card has one network; give one of tap=NAME, passt=PATH and user"));
        }
    }
    let network = network.ok_or_else(|| usage!("--nic {spec}: give its network: tap=NAME, passt=PATH or user"))?;
    if options.iter().all(|option| option.name != "mac") {
        options.push(Setting { name: "mac".into(), value: address(vm, number) });
    }
    Ok(machine::planned(card.device, options, vec![Backing::Network(Network::new(network))]))
}

/// An address that is always the same for this card of this VM, and hardly another's: locally administered, then four bytes of
/// an FNV-1a hash.
fn address(vm: &str, number: usize) -> String {
    let bytes = vm.bytes().chain(b"/".iter().copied()).chain(number.to_le_bytes());
    let hash = bytes.fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [a, b, c, d] = hash.to_be_bytes();
    format!("02:cf:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(spec: &str) -> String {
        parse(spec, "vm", 0).err().unwrap_or_else(|| panic!("{spec} is taken")).to_string()
    }

    #[test]
    fn card_that_there_is_not_or_that_has_no_network_or_two_is_refused() {
        assert!(refused("ne2000,user").contains("there are virtio, rtl8139"));
        assert!(refused("virtio").contains("tap=NAME"));
        assert!(refused("virtio,user,tap=t0").contains("one network"));
    }

    #[test]
    fn rom_that_there_is_not_is_refused_and_none_is_given_where_none_is_wanted() {
        let sentence = option_rom("virtio,user,rom=no-such.rom", false).err().expect("an error").to_string();
        assert!(
            sentence.starts_with("--nic virtio,user,rom=no-such.rom: rom no-such.rom: there is no such file"),
            "{sentence}"
        );
        assert!(option_rom("virtio,user,rom=off", true).unwrap().is_none());
    }

    #[test]
    fn rom_of_a_persons_own_is_given_by_its_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, [0x55, 0xaa]).unwrap();
        let rom = option_rom(&format!("rtl8139,tap=t0,rom={}", file.path().display()), false).unwrap().unwrap();
        let name = file.path().file_name().unwrap().to_str().unwrap();
        assert_eq!((rom.name, rom.content), (format!("genroms/{name}"), vec![0x55, 0xaa]));
        assert!(parse("rtl8139,tap=t0,rom=a.rom", "vm", 0).unwrap().options.iter().all(|option| option.name != "rom"));
    }

    #[test]
    fn card_has_its_options_and_an_address_of_its_own() {
        let card = parse("rtl8139,tap=t0,cplus", "vm", 0).unwrap();
        let options: Vec<_> = card.options.iter().map(|option| (option.name.as_str(), option.value.as_str())).collect();
        assert_eq!((card.device.as_str(), options[0]), ("rtl8139", ("cplus", "on")));
        assert_eq!(options[1], ("mac", address("vm", 0).as_str()));
        assert_ne!(address("vm", 0), address("vm", 1));
        assert_ne!(address("vm", 0), address("wm", 0));
        let card = parse("virtio,mac=02:00:00:00:00:07,user", "vm", 0).unwrap();
        assert_eq!((card.options.len(), card.options[0].value.as_str()), (1, "02:00:00:00:00:07"));
    }
}
