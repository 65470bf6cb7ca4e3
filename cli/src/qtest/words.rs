//! The second name: test programs start what they test with the arguments of QEMU's command line, so we take those of them
//! that say something of the devices we have, or nothing that matters here.

mod devices;
mod drives;
mod list;
mod machine;
mod ways;

use super::actions::{Actions, After, Watchdog};
use super::{Link, Setup};
use crate::args::{MachineSpec, QtestArgs, usage};
use crate::firmware::Told;
use anyhow::Result;
use drives::Drives;
use list::{list, pairs};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use ways::Chardev;

pub use devices::names as driver_names;

/// The name under which a program is started with such arguments. It ends as test programs want it: they read the processor's
/// architecture there.
pub const NAME: &str = "cofferdam-qtest-system-x86_64";

/// Arguments without a value that say nothing here.
const FLAGS: [&str; 7] =
    ["-no-user-config", "-no-hpet", "-no-acpi", "-enable-fips", "-usb", "-mem-prealloc", "-nographic"];
/// Arguments whose value says nothing here: no processor runs that would boot, nobody looks and nobody hears.
const VALUES: [&str; 15] = [
    "-accel",
    "-audio",
    "-audiodev",
    "-cpu",
    "-d",
    "-D",
    "-display",
    "-icount",
    "-k",
    "-msg",
    "-overcommit",
    "-sandbox",
    "-trace",
    "-vnc",
    "-pidfile",
];

/// What was asked for so far.
struct Asked {
    asked: QtestArgs,
    told: Told,
    test: Option<Link>,
    log: Option<String>,
    chardevs: BTreeMap<String, Chardev>,
    /// Serial ports so far.
    serial: usize,
    monitors: Vec<Link>,
    drives: Drives,
    /// Devices: whether it is said where they are, what they are called, and what they are.
    devices: Vec<(bool, String, String)>,
    /// Properties of drivers.
    globals: BTreeMap<(String, String), String>,
    /// Folders where firmware is looked for.
    folders: Vec<PathBuf>,
    actions: Actions,
    stays_off: bool,
    is_paused: bool,
    name: Option<String>,
}

/// The machine that these arguments ask for.
pub fn parse(words: &[String]) -> Result<Setup> {
    let mut asked = Asked::new();
    // Whether a PC has what it usually has decides on the places of what comes before this word as well as after it.
    asked.asked.is_bare = words.iter().any(|word| matches!(word.as_str(), "-nodefaults" | "--nodefaults"));
    asked.serial = usize::from(!asked.asked.is_bare);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        // A word may begin with two dashes as well as with one.
        let name = word.strip_prefix("--").map_or_else(|| word.clone(), |name| format!("-{name}"));
        if asked.take_flag(&name) {
            continue;
        }
        if !name.starts_with('-') {
            asked.drives.medium("ide", word, Some(0), false);
            continue;
        }
        let value = words.next().ok_or_else(|| usage!("{word}: there is no such option, or its value is missing"))?;
        asked.take(&name, value)?;
    }
    asked.setup()
}

impl Asked {
    fn new() -> Asked {
        Asked {
            asked: QtestArgs::default(),
            told: Told::new(1),
            test: None,
            log: None,
            chardevs: BTreeMap::new(),
            serial: 0,
            monitors: Vec::new(),
            drives: Drives::default(),
            devices: Vec::new(),
            globals: BTreeMap::new(),
            folders: Vec::new(),
            actions: Actions::default(),
            stays_off: false,
            is_paused: false,
            name: None,
        }
    }

    fn take_flag(&mut self, name: &str) -> bool {
        match name {
            "-S" => self.is_paused = true,
            "-no-reboot" => self.actions.reset_ends = true,
            "-no-shutdown" => self.stays_off = true,
            "-no-fd-bootchk" => self.asked.boot.unchecked = true,
            "-nodefaults" => {}
            "-nographic" => self.told.is_headless = true,
            _ => return FLAGS.contains(&name),
        }
        true
    }

    fn take(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "-qtest" => self.test = Some(self.link(value)?),
            "-qtest-log" => self.log = Some(value.to_owned()).filter(|path| path != "none"),
            "-qmp" | "-qmp-pretty" => self.monitors.push(self.link(value)?),
            "-chardev" => self.chardev(value)?,
            "-mon" => self.monitor(value)?,
            "-monitor" => match value {
                "none" | "null" => {}
                _ => return Err(usage!("-monitor {value}: there is no monitor for people; give -qmp or none")),
            },
            "-name" => self.name = Some(pairs(value).remove("guest").unwrap_or_else(|| list(value).0)),
            "-smp" => self.processors(value)?,
            "-boot" => self.boot(value)?,
            "-bios" => self.asked.bios = Some(PathBuf::from(value)),
            "-L" => self.folders.push(PathBuf::from(value)),
            "-fw_cfg" => self.item(value)?,
            "-uuid" => {
                let uuid = machine::uuid(value);
                self.told.uuid = uuid.ok_or_else(|| usage!("-uuid {value}: give 32 hexadecimal digits"))?;
            }
            "-vga" => match value {
                "none" => {}
                "std" => self.devices.push((false, String::new(), "vga".into())),
                _ => return Err(usage!("-vga {value}: there are std and none")),
            },
            "-nic" | "-net" | "-netdev" => self.network(name, value)?,
            "-object" => match list(value).0.as_str() {
                "rng-random" | "rng-builtin" | "iothread" => {}
                _ => {
                    return Err(usage!(
                        "-object {value}: there are rng-random, rng-builtin and iothread, and no other"
                    ));
                }
            },
            "-global" => self.global(value)?,
            "-serial" => self.serial(value)?,
            "-parallel" => {
                if value != "none" {
                    let to = self.port(name, value)?;
                    self.asked.parallel = Some(to);
                }
            }
            "-machine" | "-M" => self.machine(value)?,
            "-m" => self.memory(value)?,
            "-readconfig" => {
                return Err(usage!(
                    "{name} {value}: a machine is described by arguments here; give what is in the file"
                ));
            }
            "-rtc" => {
                if let Some(base) = pairs(value).get("base") {
                    self.asked.rtc = base.clone();
                }
            }
            "-device" | "-watchdog" => self.device(value)?,
            "-watchdog-action" => self.actions.watchdog = watchdog(name, value)?,
            "-action" => {
                for (event, action) in pairs(value) {
                    match event.as_str() {
                        "panic" => self.actions.panic = After::of(&action),
                        "watchdog" => self.actions.watchdog = watchdog(name, &action)?,
                        "shutdown" => self.stays_off = action == "pause",
                        "reboot" => self.actions.reset_ends = action == "shutdown",
                        other => return Err(usage!("-action {other}: there are panic, watchdog, shutdown and reboot")),
                    }
                }
            }
            "-drive" => self.drives.drive(value)?,
            "-blockdev" => self.drives.node(value)?,
            "-fda" | "-fdb" => self.drives.medium("floppy", value, Some(usize::from(name == "-fdb")), false),
            "-hda" | "-hdb" | "-hdc" | "-hdd" => {
                self.drives.medium("ide", value, name.bytes().last().map(|letter| usize::from(letter - b'a')), false);
            }
            "-cdrom" => self.drives.medium("ide", value, Some(2), true),
            name if VALUES.contains(&name) => {}
            other => return Err(usage!("{other}: invalid option")),
        }
        Ok(())
    }

    fn setup(mut self) -> Result<Setup> {
        if self.asked.machine == MachineSpec::Pc {
            self.drives.tell(&mut self.asked, &self.globals)?;
        }
        // What is to be in a certain slot comes before what takes the next one that is free.
        self.devices.sort_by_key(|(is_placed, ..)| !is_placed);
        self.asked.device.extend(self.devices.iter().map(|(.., spec)| spec.clone()));
        if let Some(bios) = &mut self.asked.bios {
            let is_name = bios.components().count() == 1;
            let found = self.folders.iter().map(|folder| folder.join(&*bios)).find(|path| is_name && path.exists());
            *bios = found.unwrap_or_else(|| bios.clone());
        }
        self.asked.told = Some(self.told);
        let mut setup = self.asked.setup()?;
        let Setup { machine, ways, names, actions } = &mut setup;
        machine.runs = !self.is_paused;
        ways.test = self.test.unwrap_or(Link::Stdio);
        anyhow::ensure!(
            !(ways.prints && ways.test == Link::Stdio),
            usage!("-serial stdio: the test program is there; give -qtest unix:PATH, or -serial file:PATH")
        );
        ways.monitors = self.monitors;
        let log = |path: String| OpenOptions::new().create(true).append(true).open(Path::new(&path)).ok();
        ways.log = self.log.and_then(log);
        names.title = self.name.unwrap_or_default();
        names.drives.extend(self.asked.places.iter().flat_map(|places| self.drives.names(places)));
        let ids = self.devices.into_iter().map(|(_, id, spec)| (id, spec));
        names.ids = ids.filter(|(id, _)| !id.is_empty()).collect();
        names.chardevs = self.chardevs.iter().map(|(id, chardev)| (id.clone(), chardev.shown())).collect();
        *actions = self.actions;
        if self.stays_off {
            actions.power_off = After::Pause;
        }
        Ok(setup)
    }
}

/// The word for what is done when a watchdog expires.
fn watchdog(name: &str, word: &str) -> Result<Watchdog> {
    Watchdog::of(word).ok_or_else(|| usage!("{name} {word}: there are {}", Watchdog::WORDS.join(", ")))
}

#[cfg(test)]
mod tests;
