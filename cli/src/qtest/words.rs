//! The second name: test programs start what they test with the arguments of QEMU's command line, so we take those of them
//! that say something of the devices we have, or nothing that matters here.

use super::{Actions, After, Link, Setup};
use crate::args::{MachineSpec, QtestArgs, usage};
use crate::machine::parse_size;
use anyhow::Result;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::PathBuf;

/// The name under which a program is started with such arguments. It ends as test programs want it: they read the processor's
/// architecture there.
pub const NAME: &str = "cofferdam-qtest-system-x86_64";

/// Arguments without a value that say nothing here.
const FLAGS: [&str; 9] = [
    "-nographic",
    "-nodefaults",
    "-no-user-config",
    "-no-hpet",
    "-no-acpi",
    "-enable-fips",
    "-usb",
    "-mem-prealloc",
    "-no-fd-bootchk",
];
/// Arguments whose value says nothing here.
const VALUES: [&str; 21] = [
    "-accel",
    "-audio",
    "-audiodev",
    "-bios",
    "-boot",
    "-cpu",
    "-d",
    "-D",
    "-display",
    "-global",
    "-L",
    "-monitor",
    "-name",
    "-net",
    "-netdev",
    "-nic",
    "-object",
    "-overcommit",
    "-sandbox",
    "-smp",
    "-uuid",
];

/// What was asked for so far.
#[derive(Default)]
struct Asked {
    asked: QtestArgs,
    test: Option<Link>,
    log: Option<String>,
    chardevs: BTreeMap<String, Link>,
    monitors: Vec<Link>,
    drives: Vec<Drive>,
    actions: Actions,
    stays_off: bool,
    is_paused: bool,
}

/// A drive, and what is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Drive {
    interface: String,
    id: String,
    /// The `id` of the `-device` that it is in.
    device: String,
    file: String,
    is_cd: bool,
    readonly: bool,
}

/// The machine that these arguments ask for.
pub fn parse(words: &[String]) -> Result<Setup> {
    let mut asked = Asked::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        // A word may begin with two dashes as well as with one.
        let name = word.strip_prefix("--").map_or_else(|| word.clone(), |name| format!("-{name}"));
        if asked.take_flag(&name) {
            continue;
        }
        if !name.starts_with('-') {
            asked.drives.push(Drive { interface: "ide".into(), file: word.clone(), ..Drive::default() });
            continue;
        }
        let value = words.next().ok_or_else(|| usage!("{word}: there is no such option, or its value is missing"))?;
        asked.take(&name, value)?;
    }
    asked.setup()
}

/// `first,name=value,…` as the first word and the others; a comma that is part of a value is written twice.
fn list(text: &str) -> (String, BTreeMap<String, String>) {
    const COMMA: char = '\0';
    let text = text.replace(",,", &COMMA.to_string());
    let mut parts = text.split(',').map(|part| part.replace(COMMA, ","));
    let first = parts.next().unwrap_or_default();
    let pair = |part: String| match part.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (part, "on".to_owned()),
    };
    (first, parts.map(pair).collect())
}

/// The same where the first word may be `name=value` too.
fn pairs(text: &str) -> BTreeMap<String, String> {
    list(&format!(",{text}")).1
}

/// `unix:PATH[,server=on][,wait=off]`, or a chardev of the backend `socket`.
fn socket(path: &str, options: &BTreeMap<String, String>) -> Link {
    let is_server = options.get("server").is_some_and(|value| value == "on" || value == "yes");
    let path = PathBuf::from(path);
    if is_server { Link::Listen(path) } else { Link::Connect(path) }
}

fn link(text: &str) -> Result<Link> {
    let (first, options) = list(text);
    match first.strip_prefix("unix:") {
        Some(path) => Ok(socket(path, &options)),
        None if first == "stdio" => Ok(Link::Stdio),
        None => Err(usage!("{text}: give unix:PATH or stdio")),
    }
}

impl Asked {
    fn take_flag(&mut self, name: &str) -> bool {
        match name {
            "-S" => self.is_paused = true,
            "-no-reboot" => self.actions.reset_ends = true,
            "-no-shutdown" => self.stays_off = true,
            _ => return FLAGS.contains(&name),
        }
        true
    }

    fn take(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "-qtest" => self.test = Some(link(value)?),
            "-qtest-log" => self.log = Some(value.to_owned()).filter(|path| path != "none"),
            "-qmp" => self.monitors.push(link(value)?),
            "-chardev" => {
                let (backend, options) = list(value);
                let id = options.get("id").ok_or_else(|| usage!("-chardev {value}: give it an id"))?;
                // What is behind other backends is nobody's here: serial output goes nowhere.
                if backend == "socket" {
                    let path = options.get("path").ok_or_else(|| usage!("-chardev {value}: give a path"))?;
                    self.chardevs.insert(id.clone(), socket(path, &options));
                }
            }
            "-mon" => {
                let options = pairs(value);
                let id = options.get("chardev").cloned().unwrap_or_else(|| list(value).0);
                let chardev = self.chardevs.get(&id);
                let chardev = chardev.ok_or_else(|| usage!("-mon {value}: there is no chardev `{id}`"))?.clone();
                if options.get("mode").is_some_and(|mode| mode == "control") {
                    self.monitors.push(chardev);
                }
            }
            "-machine" | "-M" => {
                let kind = pairs(value).remove("type").unwrap_or_else(|| list(value).0);
                self.asked.machine = match kind.as_str() {
                    "none" => MachineSpec::None,
                    pc if pc == "pc" || pc.starts_with("pc-i440fx") || pc.starts_with("accel=") => MachineSpec::Pc,
                    other => return Err(usage!("-machine {other}: unsupported machine type; there are pc and none")),
                };
            }
            "-m" => {
                let size = pairs(value).remove("size").unwrap_or_else(|| list(value).0);
                // Without a unit it is MiB.
                let size = if size.ends_with(|last: char| last.is_ascii_digit()) { format!("{size}M") } else { size };
                let bytes = parse_size(&size).ok_or_else(|| usage!("-m {value}: give a size, as in 128M"))?;
                // Less than this machine can have is as good as the least.
                self.asked.memory = bytes.max(vmm::supervisor::MEMORY_MIN).to_string();
            }
            "-rtc" => {
                if let Some(base) = pairs(value).get("base") {
                    self.asked.rtc = base.clone();
                }
            }
            "-device" => self.device(value)?,
            "-watchdog" => self.device(value)?,
            "-watchdog-action" => self.actions.watchdog = after(value),
            "-action" => {
                for (event, action) in pairs(value) {
                    match event.as_str() {
                        "panic" => self.actions.panic = after(&action),
                        "watchdog" => self.actions.watchdog = after(&action),
                        "shutdown" => self.stays_off = action == "pause",
                        "reboot" => self.actions.reset_ends = action == "shutdown",
                        other => return Err(usage!("-action {other}: there are panic, watchdog, shutdown and reboot")),
                    }
                }
            }
            "-drive" => self.drives.push(drive(&pairs(value))),
            "-fda" | "-fdb" => self.medium("floppy", value),
            "-hda" | "-hdb" | "-hdc" | "-hdd" => self.medium("ide", value),
            "-cdrom" => {
                self.medium("ide", value);
                self.drives.iter_mut().next_back().into_iter().for_each(|drive| drive.is_cd = true);
            }
            // Where a port's bytes go; a port is there in any case, and its bytes go nowhere.
            "-serial" | "-parallel" | "-vga" => {}
            name if VALUES.contains(&name) => {}
            other => return Err(usage!("{other}: invalid option")),
        }
        Ok(())
    }

    fn medium(&mut self, interface: &str, file: &str) {
        self.drives.push(Drive { interface: interface.into(), file: file.into(), ..Drive::default() });
    }

    /// A drive that was named by itself is in this one from now on.
    fn attach(&mut self, interface: &str, is_cd: bool, options: &BTreeMap<String, String>) {
        let device = options.get("id").cloned().unwrap_or_default();
        match self.drives.iter_mut().find(|drive| options.get("drive").is_some_and(|id| *id == drive.id)) {
            Some(drive) => {
                drive.interface = interface.to_owned();
                drive.is_cd |= is_cd;
                drive.device = device;
            }
            // A drive for removable media may be empty.
            None if is_cd || interface == "floppy" => {
                self.drives.push(Drive { interface: interface.into(), is_cd, device, ..Drive::default() });
            }
            None => {}
        }
    }

    fn device(&mut self, value: &str) -> Result<()> {
        let (driver, options) = list(value);
        let driver = options.get("driver").cloned().unwrap_or(driver);
        // Drives that the machine has in any case.
        match driver.as_str() {
            "floppy" => {
                self.attach("floppy", false, &options);
                return Ok(());
            }
            "ide-hd" | "ide-cd" => {
                self.attach("ide", driver == "ide-cd", &options);
                return Ok(());
            }
            // The controllers are there in any case.
            "isa-fdc" | "piix3-ide" => return Ok(()),
            _ => {}
        }
        let mut words = Vec::new();
        let mut say = |from: &str, name: &str| {
            words.extend(options.get(from).map(|value| format!("{name}={value}")));
        };
        let device = match driver.as_str() {
            "isa-serial" => {
                say("iobase", "port");
                say("irq", "irq");
                // The four ports of a PC.
                let index = options.get("index").and_then(|index| index.parse::<usize>().ok()).unwrap_or(1);
                if let (false, Some((port, irq))) =
                    (options.contains_key("iobase"), [(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)].get(index))
                {
                    words = vec![format!("port={port}"), format!("irq={irq}")];
                }
                "uart16550"
            }
            "isa-parallel" => {
                say("iobase", "port");
                say("irq", "irq");
                if !options.contains_key("iobase") {
                    words.extend(["port=0x278".to_owned()]);
                }
                "parallel"
            }
            "isa-debug-exit" => {
                say("iobase", "port");
                "debug-exit"
            }
            "isa-debugcon" => {
                say("iobase", "port");
                "debug-console"
            }
            "virtio-rng-pci" => "virtio-entropy",
            "virtio-net-pci" | "virtio-net" => "virtio-net",
            other => other,
        };
        if !devices::catalogue().iter().any(|entry| entry.name == device) {
            return Err(usage!("-device {value}: '{driver}' is not a valid device model name"));
        }
        let spec = std::iter::once(device.to_owned()).chain(words).collect::<Vec<_>>().join(",");
        self.asked.device.push(spec);
        Ok(())
    }

    fn setup(mut self) -> Result<Setup> {
        let drives = std::mem::take(&mut self.drives);
        for drive in &drives {
            // A drive without a medium.
            let file = if drive.file.is_empty() { "none" } else { &drive.file };
            self.asked.insert(&drive.interface, file, drive.is_cd, drive.readonly)?;
        }
        let mut setup = self.asked.setup()?;
        setup.drive_names.extend(names(&drives));
        setup.test = self.test.unwrap_or(Link::Stdio);
        setup.monitors = self.monitors;
        setup.actions = self.actions;
        if self.stays_off {
            setup.actions.power_off = After::Pause;
        }
        setup.runs = !self.is_paused;
        setup.log = match self.log {
            Some(path) => OpenOptions::new().create(true).append(true).open(path).ok(),
            None => None,
        };
        Ok(setup)
    }
}

/// What the drives with exchangeable media are called here, and by the machine.
fn names(drives: &[Drive]) -> Vec<(String, String)> {
    let floppies = drives.iter().filter(|drive| drive.interface == "floppy");
    let cds = drives.iter().filter(|drive| drive.interface == "ide" && drive.is_cd);
    let numbered = |drives: Vec<&Drive>, kind: &str| {
        let named = drives.iter().enumerate().flat_map(|(number, drive)| {
            let name = format!("{kind}{number}");
            [&drive.id, &drive.device].into_iter().filter(|id| !id.is_empty()).map(move |id| (id.clone(), name.clone()))
        });
        named.collect::<Vec<_>>()
    };
    [numbered(floppies.collect(), "floppy"), numbered(cds.collect(), "cdrom")].concat()
}

/// The word for what is done when something happens. Those that this machine cannot do do nothing.
fn after(word: &str) -> After {
    match word {
        "pause" => After::Pause,
        "reset" => After::Reset,
        "shutdown" | "poweroff" | "exit-failure" => After::PowerOff,
        _ => After::Nothing,
    }
}

fn drive(options: &BTreeMap<String, String>) -> Drive {
    let word = |name: &str| options.get(name).cloned().unwrap_or_default();
    let is_on = |name: &str| options.get(name).is_some_and(|value| value == "on");
    let interface = if options.contains_key("if") { word("if") } else { "ide".to_owned() };
    let is_cd = word("media") == "cdrom";
    let readonly = is_on("readonly") || is_on("read-only");
    Drive { interface, id: word("id"), device: String::new(), file: word("file"), is_cd, readonly }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(words: &str) -> Result<Setup> {
        parse(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn refused(words: &str) -> String {
        setup(words).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_we_do_not_have_is_refused_with_a_sentence() {
        assert_eq!(refused("-frobnicate 1"), "-frobnicate: invalid option");
        assert_eq!(refused("-m"), "-m: there is no such option, or its value is missing");
        assert!(refused("-machine q35").contains("unsupported machine type"));
        assert!(refused("-device e1000").contains("'e1000' is not a valid device model name"));
        assert!(refused("-mon chardev=x,mode=control").contains("no chardev `x`"));
        assert!(refused("-qtest tcp:1").contains("unix:PATH"));
        assert!(refused("-rtc base=never").contains("never"));
    }

    #[test]
    fn the_arguments_of_a_test_program_say_what_it_needs() {
        let setup = setup(
            "-qtest unix:/t/q -qtest-log none -chardev socket,path=/t/m,id=char0 -mon chardev=char0,mode=control -display none \
             -audio none -accel qtest -machine pc -m 64 -nodefaults -S -device ib700,id=w -watchdog-action pause",
        )
        .unwrap();
        assert_eq!(setup.test, Link::Connect("/t/q".into()));
        assert_eq!(setup.monitors, [Link::Connect("/t/m".into())]);
        assert!(setup.is_virtual && !setup.runs && setup.log.is_none());
        assert_eq!(setup.plan.memory_bytes, 64 << 20);
        assert_eq!(setup.actions.watchdog, After::Pause);
        assert!(setup.plan.devices.iter().any(|device| device.device == "ib700"));
    }

    #[test]
    fn a_server_s_socket_is_listened_at() {
        let setup = setup("-qtest unix:/t/q,server=on,wait=off -machine none").unwrap();
        assert_eq!(setup.test, Link::Listen("/t/q".into()));
        assert!(setup.plan.devices.is_empty());
    }

    #[test]
    fn ports_are_those_of_a_pc() {
        let setup = setup("-device isa-serial,index=3 -device isa-parallel").unwrap();
        let options = |name: &str| {
            let found = setup.plan.devices.iter().rfind(|device| device.device == name).unwrap();
            found.options.iter().map(|option| format!("{}={}", option.name, option.value)).collect::<Vec<_>>()
        };
        assert_eq!(options("uart16550"), ["port=744", "irq=3"]);
        assert_eq!(options("parallel"), ["port=0x278"]);
    }

    #[test]
    fn a_comma_in_a_value_is_written_twice() {
        let (first, options) = list("a,,b,c=d,,e,f");
        assert_eq!(first, "a,b");
        assert_eq!((options["c"].as_str(), options["f"].as_str()), ("d,e", "on"));
        let drive = drive(&pairs("if=floppy,file=a.img,readonly=on"));
        assert_eq!((drive.interface.as_str(), drive.file.as_str(), drive.readonly), ("floppy", "a.img", true));
    }
}
