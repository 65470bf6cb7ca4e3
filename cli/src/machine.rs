//! The devices of a machine, as the command line names them.

use crate::args::{Choice, RunArgs, usage};
use crate::firmware::order::letters;
use anyhow::Result;
use sandbox::HelperForm;
use schema::host::{Level, Setting};
use schema::lane::Carrier;
use std::path::{Path, PathBuf};
use vmm::pci::{FIRST_SLOT, SLOTS};
use vmm::supervisor::{Backing, Bay, Outlet, PlannedDevice};

/// The devices of every machine.
pub const STANDARD: [&str; 6] = ["uart16550", "mc146818", "i8042", "acpi-pm", "pvpanic", "virtio-entropy"];

/// The devices of a PC that a test program drives, whatever else it asks for.
pub const DRIVEN: [&str; 4] = ["mc146818", "i8042", "acpi-pm", "i8254"];

/// Kinds of media that the memory of the clock has room for in the order of boot.
const CLOCK_CHOICES: usize = 3;

/// The devices that a PC has besides, where firmware looks for them. Who adds a device to this machine adds it here.
pub fn legacy(asked: &RunArgs) -> Result<Vec<PlannedDevice>> {
    let debug_console =
        PlannedDevice { outlet: asked.debug_outlet()?, ..planned("debug-console", Vec::new(), Vec::new()) };
    let vga = planned("vga", Vec::new(), Vec::new());
    // What its file holds is known when all devices are.
    let fw_cfg = planned("fw-cfg", Vec::new(), Vec::new());
    Ok(vec![debug_console, vga, fw_cfg, floppy(&asked.floppy)?])
}

/// Tells firmware, in the memory of the clock, what this machine is.
pub fn set_up(devices: &mut [PlannedDevice], asked: &RunArgs) -> Result<()> {
    tell_clock(devices, asked.memory_bytes()?, asked.cpus.unwrap_or(1), &asked.floppy)?;
    if let Some(order) = &asked.boot {
        set_clock(devices, "boot", letters(order)?.chars().take(CLOCK_CHOICES).collect());
    }
    Ok(())
}

/// Tells it of memory, processors and diskettes.
pub fn tell_clock(devices: &mut [PlannedDevice], memory_bytes: u64, cpus: u8, diskettes: &[String]) -> Result<()> {
    let below: u64 = memory_below_4g(memory_bytes);
    let drives = diskettes.iter().map(|image| drive_of(image)).collect::<Result<Vec<u64>>>()?;
    let floppies = drives.first().map_or(0, |first| first << 4) | drives.get(1).copied().unwrap_or(0);
    set_clock(devices, "memory", below.to_string());
    set_clock(devices, "memory_above_4g", (memory_bytes - below).to_string());
    set_clock(devices, "cpus", cpus.to_string());
    set_clock(devices, "floppies", floppies.to_string());
    Ok(())
}

/// Sets an option of the clock, if there is one.
pub fn set_clock(devices: &mut [PlannedDevice], name: &str, value: String) {
    for clock in devices.iter_mut().filter(|device| device.device == "mc146818") {
        clock.options.retain(|option| option.name != name);
        clock.options.push(Setting { name: name.into(), value: value.clone() });
    }
}

fn memory_below_4g(bytes: u64) -> u64 {
    let below = vmm::memory::layout(bytes).into_iter().filter(|extent| extent.base < vmm::memory::HOLE_END);
    below.map(|extent| extent.bytes).sum()
}

/// A device with its options and what is behind its files; the level is set later.
pub fn planned(device: &str, options: Vec<Setting>, backing: Vec<Backing>) -> PlannedDevice {
    let mut options = options;
    if device == "mc146818" && !options.iter().any(|option| option.name == "epoch_ns") {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        options.push(Setting { name: "epoch_ns".into(), value: now.as_nanos().to_string() });
    }
    PlannedDevice {
        device: device.to_owned(),
        label: String::new(),
        options,
        level: Level::DEFAULT,
        helper: HelperForm::DEFAULT,
        carrier: Carrier::DEFAULT,
        backing,
        bays: Vec::new(),
        program: None,
        outlet: Outlet::Console,
        plugin: None,
        slot: None,
        hostile: None,
    }
}

/// Whether a device on the command line is a plugin: a path, where devices of the catalogue have a name.
pub fn is_plugin(device: &str) -> bool {
    device.contains('/')
}

/// How a device is called that is named like this: a plugin as its program, without what comes after the dot.
pub fn kind(device: &str) -> String {
    let name = Path::new(device).file_stem().map(|name| name.to_string_lossy().into_owned());
    name.filter(|_| is_plugin(device)).unwrap_or_else(|| device.to_owned())
}

/// Names devices uniquely: the first by its kind, others with a number.
pub fn label(devices: &mut [PlannedDevice]) {
    for at in 0..devices.len() {
        let name = kind(&devices[at].device);
        let earlier = devices[..at].iter().filter(|other| kind(&other.device) == name).count();
        devices[at].label = if earlier == 0 { name } else { format!("{name}.{earlier}") };
    }
}

/// `NAME[,OPTION=VALUE]…`, where the option `to` says in which file what the device prints goes, and `slot` which slot of the PCI bus it
/// has.
pub fn named(spec: &str) -> Result<PlannedDevice> {
    let (name, mut options) = parse_device(spec)?;
    let mut take =
        |name: &str| options.iter().position(|option| option.name == name).map(|at| options.remove(at).value);
    let (to, slot) = (take("to"), take("slot"));
    let mut device = planned(&name, options, Vec::new());
    if let Some(slot) = slot {
        let number = slot.parse().ok().filter(|slot| (FIRST_SLOT..SLOTS).contains(slot));
        let wrong = || usage!("--device {spec}: give a slot of the PCI bus from {FIRST_SLOT} to {}", SLOTS - 1);
        device.slot = Some(number.ok_or_else(wrong)?);
    }
    if let Some(path) = to {
        device.outlet = Outlet::File(PathBuf::from(path));
    }
    Ok(device)
}

/// `NAME[,OPTION=VALUE]…`
pub fn parse_device(spec: &str) -> Result<(String, Vec<Setting>)> {
    let mut parts = spec.split(',');
    let name = parts.next().unwrap_or_default();
    let options = parts.map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, "on"));
        Setting { name: name.to_owned(), value: value.to_owned() }
    });
    if name.is_empty() {
        return Err(usage!("--device {spec}: begin with a device's name; `cofferdam devices` lists them"));
    }
    if is_plugin(name) && !Path::new(name).exists() && Path::new(spec).exists() {
        return Err(usage!(
            "--device {spec}: behind a comma are options; give the plugin another name, or a link to it"
        ));
    }
    Ok((name.to_owned(), options.collect()))
}

/// `PATH[,readonly]`
pub fn parse_disk(disk: &str) -> Result<(&str, bool)> {
    parse_image("--disk", disk)
}

/// `PATH[,readonly]`, as this flag says it.
pub fn parse_image<'a>(flag: &str, image: &'a str) -> Result<(&'a str, bool)> {
    match image.rsplit_once(',') {
        Some((path, "readonly")) => Ok((path, true)),
        Some((_, other)) if !Path::new(image).exists() => {
            Err(usage!("{flag} {image}: `{other}` is not an option of an image; there is `readonly`"))
        }
        _ => Ok((image, false)),
    }
}

/// The drive that a diskette goes into, as the memory of the clock has it (*IBM Personal System/2 and Personal Computer BIOS
/// Interface Technical Reference*, diskette drive types).
fn drive_of(image: &str) -> Result<u64> {
    let (path, _) = parse_image("--floppy", image)?;
    // Who opens the image says what is wrong with it.
    let kib = std::fs::metadata(path).map_or(1440, |file| file.len().div_ceil(1 << 10));
    Ok(match kib {
        0..=360 => 1,
        361..=720 => 3,
        721..=1200 => 2,
        1201..=1680 => 4,
        _ => 5,
    })
}

/// What stands for no medium, in a drive that is there.
const EMPTY: &str = "none";

/// A floppy controller with these diskettes in its drives.
pub fn floppy(images: &[String]) -> Result<PlannedDevice> {
    const DRIVES: [&str; 2] = ["a", "b"];
    let (mut options, mut backing) = (Vec::new(), Vec::new());
    for (at, image) in images.iter().enumerate() {
        let Some(drive) = DRIVES.get(at) else {
            return Err(usage!("--floppy {image}: a PC has two drives, and both have a diskette; leave this one out"));
        };
        let (path, readonly) = parse_image("--floppy", image)?;
        if path == EMPTY {
            continue;
        }
        let value = if readonly { "readonly" } else { "writable" };
        options.push(Setting { name: (*drive).into(), value: value.into() });
        backing.push(Backing::Path(PathBuf::from(path)));
    }
    let bays = DRIVES.into_iter().zip(0..).map(|(drive, number)| Bay {
        name: format!("floppy{number}"),
        number,
        option: drive.into(),
        empty: "empty".into(),
        readonly: "readonly".into(),
        writable: Some("writable".into()),
    });
    Ok(PlannedDevice { bays: bays.collect(), ..planned("floppy", options, backing) })
}

/// Applies `--host-program`.
pub fn apply_host_programs(specs: &[String], devices: &mut [PlannedDevice]) -> Result<()> {
    for spec in specs {
        let (label, path) = spec.split_once('=').ok_or_else(|| usage!("--host-program {spec}: give DEVICE=PATH"))?;
        let device = devices.iter_mut().find(|device| device.label == label);
        let device = device.ok_or_else(|| usage!("--host-program: this machine has no device `{label}`"))?;
        device.program = Some(PathBuf::from(path));
    }
    Ok(())
}

/// A number of bytes, or with K, M or G.
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, unit) = match text.char_indices().last()? {
        (at, 'K' | 'k') => (&text[..at], 1 << 10),
        (at, 'M' | 'm') => (&text[..at], 1 << 20),
        (at, 'G' | 'g') => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_diskette_finds_no_drive() {
        let three = ["a.img", "b.img,readonly", "c.img"].map(str::to_owned);
        let sentence = floppy(&three).unwrap_err().to_string();
        assert!(sentence.starts_with("--floppy c.img: a PC has two drives"), "{sentence}");
        let two = floppy(&three[..2]).unwrap();
        let settings: Vec<(&str, &str)> =
            two.options.iter().map(|option| (option.name.as_str(), option.value.as_str())).collect();
        assert_eq!((settings, two.backing.len()), (vec![("a", "writable"), ("b", "readonly")], 2));
    }

    #[test]
    fn a_drive_is_one_for_its_diskette() {
        let folder = tempfile::tempdir().unwrap();
        for (kib, kind) in [(160, 1), (360, 1), (720, 3), (1200, 2), (1266, 4), (1440, 4), (1680, 4), (2880, 5)] {
            let path = folder.path().join("image");
            std::fs::File::create(&path).unwrap().set_len(kib << 10).unwrap();
            assert_eq!(drive_of(&format!("{},readonly", path.display())).unwrap(), kind, "{kib} KiB");
        }
    }

    #[test]
    fn an_option_that_images_do_not_have_is_refused_by_its_flag() {
        let sentence = parse_image("--floppy", "a.img,fast").unwrap_err().to_string();
        assert_eq!(sentence, "--floppy a.img,fast: `fast` is not an option of an image; there is `readonly`");
    }

    #[test]
    fn a_plugin_is_told_from_a_device_by_its_path() {
        assert!(is_plugin("./sensor.py") && is_plugin("/usr/lib/sensor") && !is_plugin("uart16550"));
        assert_eq!((kind("./a/sensor.py"), kind("uart16550")), ("sensor".into(), "uart16550".into()));
    }
}
