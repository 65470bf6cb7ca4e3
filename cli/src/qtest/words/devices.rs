//! `-device`: what QEMU's names of devices are here.

use super::Asked;
use super::list::{list, pairs, slot};
use crate::args::usage;
use anyhow::Result;
use std::collections::BTreeMap;

/// Ports of a PC's serial interfaces, and their interrupts.
pub const SERIAL: [(u16, u8); 4] = [(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)];
/// The same of its parallel ones.
const PARALLEL: [(u16, u8); 3] = [(0x378, 7), (0x278, 7), (0x3bc, 7)];

/// A device under a name of QEMU's.
struct Driver {
    /// Its name there, and ours.
    name: &'static str,
    device: &'static str,
    /// Properties there, and ours.
    properties: &'static [(&'static str, &'static str)],
}

const fn driver(
    name: &'static str,
    device: &'static str,
    properties: &'static [(&'static str, &'static str)],
) -> Driver {
    Driver { name, device, properties }
}

const ISA_PORT: &[(&str, &str)] = &[("iobase", "port"), ("irq", "irq")];

/// Those that are called otherwise, or have properties.
const DRIVERS: &[Driver] = &[
    driver("isa-serial", "uart16550", ISA_PORT),
    driver("isa-parallel", "parallel", ISA_PORT),
    driver("isa-debug-exit", "debug-exit", &[("iobase", "port")]),
    driver("isa-debugcon", "debug-console", &[("iobase", "port")]),
    driver("pvpanic", "pvpanic", &[("events", "events")]),
    driver("pvpanic-pci", "pvpanic-pci", &[("events", "events")]),
    driver("ib700", "ib700", &[]),
    driver("VGA", "vga", &[]),
    driver("bochs-display", "vga", &[]),
    driver("rtl8139", "rtl8139", &[("mac", "mac")]),
    driver("virtio-rng-pci", "virtio-entropy", &[]),
    driver("virtio-net-pci", "virtio-net", &[("mac", "mac")]),
];
/// Those that drives are in.
const DRIVES: [&str; 4] = ["floppy", "ide-hd", "ide-cd", "virtio-blk-pci"];
/// Those that every PC has.
const THERE: [&str; 4] = ["isa-fdc", "piix3-ide", "i8042", "mc146818rtc"];

/// Network cards that `-nic` and `-net` may ask for.
const CARDS: [(&str, &str); 3] = [("rtl8139", "rtl8139"), ("virtio-net-pci", "virtio-net"), ("virtio", "virtio-net")];

/// Drivers whose properties `-global` may set: those that have a meaning here, and those that have none where nothing runs.
const GLOBALS: [&str; 2] = ["ide-hd", "ide-cd"];
const GLOBALS_UNHEARD: [&str; 4] = ["PIIX4_PM", "mc146818rtc", "kvm-pit", "migration"];

/// Every name under which `-device` has something here.
pub fn names() -> impl Iterator<Item = &'static str> {
    DRIVERS.iter().map(|driver| driver.name).chain(DRIVES).chain(THERE)
}

impl Asked {
    pub(super) fn device(&mut self, value: &str) -> Result<()> {
        let (driver, options) = list(value);
        let driver = options.get("driver").cloned().unwrap_or(driver);
        if DRIVES.contains(&driver.as_str()) {
            return self.drives.attach(&driver, &options, value);
        }
        if THERE.contains(&driver.as_str()) {
            return Ok(());
        }
        let known = DRIVERS.iter().find(|known| known.name == driver);
        let device = known.map_or(driver.as_str(), |known| known.device);
        if !::devices::catalogue().iter().any(|entry| entry.name == device) {
            return Err(usage!("-device {value}: '{driver}' is not a valid device model name"));
        }
        let properties = known.map_or(&[][..], |known| known.properties);
        let mut words = vec![device.to_owned()];
        words.extend(properties.iter().filter_map(|(name, own)| Some(format!("{own}={}", options.get(*name)?))));
        match device {
            "uart16550" => words.extend(self.place(&options, &SERIAL, self.serial)?),
            "parallel" => words.extend(self.place(&options, &PARALLEL, usize::from(!self.asked.is_bare))?),
            "debug-exit" if !options.contains_key("iobase") => words.push("port=0x501".into()),
            "debug-console" if !options.contains_key("iobase") => words.push("port=0xe9".into()),
            _ => {}
        }
        if device == "uart16550" && !options.contains_key("iobase") {
            self.serial += 1;
        }
        if let Some(id) = options.get("chardev") {
            let path = self.outlet("-device", &format!("chardev:{id}"))?;
            words.extend(path.map(|path| format!("to={path}")));
        }
        if let Some(addr) = options.get("addr") {
            words.push(format!("slot={}", slot(addr)?));
        }
        let id = options.get("id").cloned().unwrap_or_default();
        self.devices.push((options.contains_key("addr"), id, words.join(",")));
        Ok(())
    }

    /// One of a PC's ports, unless it is somewhere else.
    fn place(&self, options: &BTreeMap<String, String>, ports: &[(u16, u8)], next: usize) -> Result<Vec<String>> {
        if options.contains_key("iobase") {
            return Ok(Vec::new());
        }
        let index = options.get("index").map_or(Some(next), |index| index.parse().ok());
        let (port, irq) = index.and_then(|index| ports.get(index)).ok_or_else(|| {
            usage!("-device: a PC has {} such ports; give an index below that, or an iobase", ports.len())
        })?;
        let irq = if options.contains_key("irq") { None } else { Some(format!("irq={irq}")) };
        Ok(std::iter::once(format!("port={port}")).chain(irq).collect())
    }

    /// A network, and a card on it. Nobody else is on a network here, so only those may be asked for where nobody needs to be.
    pub(super) fn network(&mut self, name: &str, value: &str) -> Result<()> {
        let (kind, options) = list(value);
        let is_card = name == "-nic" || kind == "nic";
        match kind.as_str() {
            "none" => return Ok(()),
            "user" | "hubport" | "nic" => {}
            _ => {
                return Err(usage!(
                    "{name} {value}: a card has no cable to the outside here; give user, hubport or none"
                ));
            }
        }
        if is_card {
            let model = options.get("model").map_or("rtl8139", String::as_str);
            let card = CARDS.iter().find(|(known, _)| *known == model);
            let (_, device) = card.ok_or_else(|| usage!("{name} {value}: there are rtl8139 and virtio-net-pci"))?;
            let mac = options.get("mac").or(options.get("macaddr")).map(|mac| format!(",mac={mac}"));
            self.devices.push((false, String::new(), format!("{device}{}", mac.unwrap_or_default())));
        }
        Ok(())
    }

    pub(super) fn global(&mut self, value: &str) -> Result<()> {
        let parts = value.split_once('=').and_then(|(name, value)| Some((name.split_once('.')?, value)));
        let options = pairs(value);
        let word = |name: &str| options.get(name).map(String::as_str);
        let (driver, property, set) = match (parts, word("driver"), word("property"), word("value")) {
            (_, Some(driver), Some(property), Some(set)) => (driver, property, set),
            (Some(((driver, property), set)), ..) => (driver, property, set),
            _ => return Err(usage!("-global {value}: give DRIVER.PROPERTY=VALUE")),
        };
        if GLOBALS.contains(&driver) {
            self.globals.insert((driver.to_owned(), property.to_owned()), set.to_owned());
        } else if !GLOBALS_UNHEARD.contains(&driver) {
            return Err(usage!("-global {value}: `{driver}` has no property here that could be set; leave it out"));
        }
        Ok(())
    }
}
