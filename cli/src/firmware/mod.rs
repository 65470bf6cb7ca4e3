//! What firmware is told of the machine: the items of the firmware configuration device, made of the plan.

pub mod order;
mod smbios;
mod tables;

use crate::args::{read_image, usage};
use crate::catalogue::BuiltIn;
use anyhow::{Context, Result};
use devices::fw_cfg::{BOOT_MENU, CPUS, CPUS_MAX, HEADLESS, ID, Items, RAM_SIZE, SIGNATURE, UUID};
use schema::manifest::{Class, Manifest};
use vmm::acpi::Tables;
use vmm::memory::{Extent, layout};
use vmm::supervisor::{Backing, Catalogue, PlannedDevice};

/// The registers, and DMA ("Revision / feature bitmap" of the specification).
const INTERFACES: u32 = 0b11;
/// Kind of memory in the map that firmware is given (ACPI 6.5, table 15.4).
const E820_USABLE: u32 = 1;
/// The BIOS of a display, which the package of the firmware has, and where firmware looks for it.
const DISPLAY_BIOS: &str = "vgabios-stdvga.bin";
const DISPLAY_ROM: &str = "vgaroms/vgabios.bin";

/// The catalogue name of the device that tells.
const DEVICE: &str = "fw-cfg";
/// What firmware is told of a machine beside its memory and its devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Processors, and how many there may ever be.
    pub cpus: u8,
    /// See `cpus`.
    pub cpus_max: u8,
    /// What the machine is called; zero: nobody has given it a name of this kind.
    pub uuid: [u8; 16],
    /// Nobody looks at a display.
    pub is_headless: bool,
    /// A person may choose what is booted.
    pub has_menu: bool,
    /// How long it waits for that person, in milliseconds.
    pub menu_wait_ms: Option<u16>,
    /// How long it waits after nothing could be booted; -1: for ever.
    pub fail_wait_ms: Option<i32>,
}

impl Told {
    /// Of a machine with these processors, and nothing special.
    pub fn new(cpus: u8) -> Told {
        Told {
            cpus,
            cpus_max: cpus,
            uuid: [0; 16],
            is_headless: false,
            has_menu: false,
            menu_wait_ms: None,
            fail_wait_ms: None,
        }
    }
}

/// An item that a person adds, or an option ROM.
pub struct Extra {
    /// The name of its file.
    pub name: String,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// Has the firmware configuration device, if there is one, tell of these devices, and of what else a machine is.
pub fn tell(devices: &mut [PlannedDevice], memory_bytes: u64, told: &Told, extras: Vec<Extra>) -> Result<()> {
    if devices.iter().any(|device| device.device == DEVICE) {
        let items = items(memory_bytes, told, &manifests(devices)?, extras)?;
        let tellers = devices.iter_mut().filter(|device| device.device == DEVICE);
        tellers.for_each(|device| device.backing = vec![Backing::Memory(items.clone())]);
    }
    Ok(())
}

/// What devices declare.
pub fn manifests(devices: &[PlannedDevice]) -> Result<Vec<Manifest>> {
    let manifest = |device: &PlannedDevice| {
        if let Some(plugin) = &device.plugin {
            return Ok(plugin.manifest.clone());
        }
        let found = BuiltIn.manifest(&device.device, &device.options);
        found.map_err(|sentence| usage!("device {}: {sentence}", device.label))
    };
    devices.iter().map(manifest).collect()
}

/// The file of items for a machine with this memory, these processors and devices.
fn items(memory_bytes: u64, told: &Told, manifests: &[Manifest], extras: Vec<Extra>) -> Result<Vec<u8>> {
    let mut items = Items::default();
    let cpus = told.cpus;
    let word = |value: u16| value.to_le_bytes().to_vec();
    for (selector, content) in [
        (SIGNATURE, b"QEMU".to_vec()),
        (ID, INTERFACES.to_le_bytes().to_vec()),
        (UUID, told.uuid.to_vec()),
        (RAM_SIZE, memory_bytes.to_le_bytes().to_vec()),
        (HEADLESS, word(told.is_headless.into())),
        (CPUS, word(cpus.into())),
        (CPUS_MAX, word(told.cpus_max.into())),
        (BOOT_MENU, word(told.has_menu.into())),
    ] {
        items.number(selector, content)?;
    }
    items.file("etc/e820", memory_map(&layout(memory_bytes)))?;
    let acpi = Tables::describe(cpus, &manifests.iter().collect::<Vec<_>>())?;
    items.file(tables::LOADER, tables::loader(&acpi)?)?;
    items.file(tables::RSDP, acpi.rsdp)?;
    items.file(tables::TABLES, acpi.bytes)?;
    let smbios = smbios::describe(memory_bytes, cpus);
    items.file("etc/smbios/smbios-anchor", smbios.anchor)?;
    items.file("etc/smbios/smbios-tables", smbios.tables)?;
    if let Some(wait) = told.menu_wait_ms {
        items.file("etc/boot-menu-wait", word(wait))?;
    }
    if let Some(wait) = told.fail_wait_ms {
        items.file("etc/boot-fail-wait", wait.to_le_bytes().to_vec())?;
    }
    for Extra { name, content } in extras {
        items.file(&name, content).map_err(|error| usage!("--fw-cfg: {error}"))?;
    }
    Ok(items.finish())
}

/// The option ROMs of these devices: a display's.
pub fn option_roms(manifests: &[Manifest]) -> Result<Vec<Extra>> {
    let displays = manifests.iter().filter(|manifest| manifest.class == Class::Display).take(1);
    let rom = |_| {
        Ok(Extra { name: DISPLAY_ROM.to_owned(), content: read_image("the display's BIOS", DISPLAY_BIOS.as_ref())? })
    };
    displays.map(rom).collect()
}

/// Entries of 20 bytes: address, bytes, kind. What lies next to each other is one.
fn memory_map(extents: &[Extent]) -> Vec<u8> {
    let mut entries: Vec<(u64, u64)> = Vec::new();
    for extent in extents {
        match entries.last_mut() {
            Some((base, bytes)) if *base + *bytes == extent.base => *bytes += extent.bytes,
            _ => entries.push((extent.base, extent.bytes)),
        }
    }
    let entry = |(base, bytes): (u64, u64)| {
        let mut entry = base.to_le_bytes().to_vec();
        entry.extend(bytes.to_le_bytes());
        entry.extend(E820_USABLE.to_le_bytes());
        entry
    };
    entries.into_iter().flat_map(entry).collect()
}

/// `name=NAME,file=PATH` or `name=NAME,string=TEXT`, as `--fw-cfg` has it. The text may have commas.
pub fn parse_item(spec: &str) -> Result<Extra> {
    let wrong = || usage!("--fw-cfg {spec}: give name=NAME,file=PATH or name=NAME,string=TEXT");
    let (name, rest) = spec.strip_prefix("name=").unwrap_or(spec).split_once(',').ok_or_else(wrong)?;
    let content = match rest.split_once('=') {
        Some(("string", text)) => text.as_bytes().to_vec(),
        Some(("file", path)) => std::fs::read(path).with_context(|| format!("--fw-cfg {spec}: cannot be read"))?,
        _ => return Err(wrong()),
    };
    Ok(Extra { name: name.to_owned(), content })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn item_without_a_name_or_content_is_refused() {
        for wrong in ["", "name=a", "name=a,text=b", "a,b", "name=a,file=/nowhere/at/all"] {
            assert!(parse_item(wrong).is_err(), "{wrong}");
        }
        let item = parse_item("name=opt/a,string=b,c=d").unwrap();
        assert_eq!((item.name.as_str(), item.content.as_slice()), ("opt/a", b"b,c=d".as_slice()));
    }

    #[test]
    fn memory_map_has_an_entry_on_each_side_of_the_hole() {
        let word = |map: &[u8], at: usize| u64::from_le_bytes(map[at..at + 8].try_into().unwrap());
        let map = memory_map(&layout(128 << 20));
        assert_eq!((map.len(), word(&map, 0), word(&map, 8), map[16]), (20, 0, 128 << 20, 1));
        let map = memory_map(&layout(5 << 30));
        assert_eq!((map.len(), word(&map, 8), word(&map, 20), word(&map, 28)), (40, 3 << 30, 4 << 30, 2 << 30));
    }

    #[test]
    fn two_items_of_one_name_are_refused() {
        let extra = || Extra { name: "bootorder".to_owned(), content: Vec::new() };
        assert!(items(64 << 20, &Told::new(1), &[], vec![extra()]).is_ok());
        assert!(
            items(64 << 20, &Told::new(1), &[], vec![extra(), extra()]).unwrap_err().to_string().contains("bootorder")
        );
    }
}
