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
/// Arguments whose value says nothing here: no processor runs that would boot, nobody looks and nobody hears.
const VALUES: [&str; 13] = [
    "-accel",
    "-audio",
    "-audiodev",
    "-bios",
    "-boot",
    "-cpu",
    "-d",
    "-D",
    "-display",
    "-L",
    "-name",
    "-overcommit",
    "-sandbox",
];
/// Ports of a PC's serial interfaces, and their interrupts.
const SERIAL: [(u16, u8); 4] = [(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)];

/// What was asked for so far.
#[derive(Default)]
struct Asked {
    asked: QtestArgs,
    test: Option<Link>,
    log: Option<String>,
    chardevs: BTreeMap<String, Chardev>,
    /// Serial ports so far.
    serial: usize,
    monitors: Vec<Link>,
    drives: Vec<Drive>,
    actions: Actions,
    stays_off: bool,
    is_paused: bool,
}

/// What is behind a character device.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Chardev {
    Socket(Link),
    File(String),
    /// Nothing, or nothing that we have: the name of the backend.
    Other(String),
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
                let path = || options.get("path").ok_or_else(|| usage!("-chardev {value}: give a path"));
                let chardev = match backend.as_str() {
                    "socket" => Chardev::Socket(socket(path()?, &options)),
                    "file" => Chardev::File(path()?.clone()),
                    _ => Chardev::Other(backend),
                };
                self.chardevs.insert(id.clone(), chardev);
            }
            "-mon" => {
                let options = pairs(value);
                let id = options.get("chardev").cloned().unwrap_or_else(|| list(value).0);
                if options.get("mode").is_none_or(|mode| mode != "control") {
                    return Err(usage!("-mon {value}: there is no monitor for people; give mode=control"));
                }
                match self.chardevs.get(&id) {
                    Some(Chardev::Socket(link)) => self.monitors.push(link.clone()),
                    Some(_) => return Err(usage!("-mon {value}: a monitor is on a socket, and `{id}` is none")),
                    None => return Err(usage!("-mon {value}: there is no chardev `{id}`")),
                }
            }
            "-monitor" => match value {
                "none" | "null" => {}
                _ => return Err(usage!("-monitor {value}: there is no monitor for people; give -qmp or none")),
            },
            "-smp" => {
                let cpus = pairs(value).remove("cpus").unwrap_or_else(|| list(value).0);
                let number = cpus.parse().ok().filter(|number| (1..=vmm::supervisor::CPUS_MAX).contains(number));
                self.asked.cpus = number.ok_or_else(|| usage!("-smp {value}: give a number of processors up to 16"))?;
            }
            "-fw_cfg" => {
                let options = pairs(value);
                let name = options.get("name").cloned().unwrap_or_else(|| list(value).0);
                let content = ["file", "string"].into_iter().find_map(|kind| Some((kind, options.get(kind)?)));
                let (kind, content) =
                    content.ok_or_else(|| usage!("-fw_cfg {value}: give file=PATH or string=TEXT"))?;
                self.asked.fw_cfg.push(format!("name={name},{kind}={content}"));
            }
            "-uuid" => {
                self.asked.uuid = uuid(value).ok_or_else(|| usage!("-uuid {value}: give 32 hexadecimal digits"))?;
            }
            "-vga" => match value {
                "none" => {}
                "std" => self.asked.device.push("vga".into()),
                _ => return Err(usage!("-vga {value}: there are std and none")),
            },
            "-nic" | "-net" | "-netdev" => match value {
                "none" => {}
                _ => return Err(usage!("{name} {value}: a card has no cable here; leave it out, or give none")),
            },
            "-object" => match list(value).0.strip_prefix("rng-") {
                Some(_) => {}
                None => {
                    return Err(usage!(
                        "-object {value}: there is no such object; there are rng-random and rng-builtin"
                    ));
                }
            },
            "-serial" => self.serial(value)?,
            "-parallel" => {
                if let Some(path) = self.outlet(name, value)? {
                    self.asked.parallel = Some(path);
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
            name if VALUES.contains(&name) => {}
            other => return Err(usage!("{other}: invalid option")),
        }
        Ok(())
    }

    /// The next serial port, whose bytes go there.
    fn serial(&mut self, value: &str) -> Result<()> {
        let Some((port, irq)) = SERIAL.get(self.serial) else {
            return Err(usage!("-serial {value}: a PC has four serial ports"));
        };
        let to = self.outlet("-serial", value)?;
        match (self.serial, to) {
            // The first is there in any case.
            (0, to) => self.asked.serial = to,
            (_, None) => self.asked.device.push(format!("uart16550,port={port},irq={irq}")),
            (_, Some(path)) => self.asked.device.push(format!("uart16550,port={port},irq={irq},to={path}")),
        }
        self.serial += 1;
        Ok(())
    }

    /// The file that a port's bytes go to; or they go nowhere.
    fn outlet(&self, name: &str, value: &str) -> Result<Option<String>> {
        let refused =
            || usage!("{name} {value}: its bytes go to a file (file:PATH, or a chardev that is one) or to null");
        match value.split_once(':') {
            None if matches!(value, "null" | "none") => Ok(None),
            Some(("file", path)) => Ok(Some(path.to_owned())),
            Some(("chardev", id)) => match self.chardevs.get(id) {
                Some(Chardev::File(path)) => Ok(Some(path.clone())),
                Some(Chardev::Other(backend)) if backend == "null" => Ok(None),
                _ => Err(refused()),
            },
            _ => Err(refused()),
        }
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
                if let (false, Some((port, irq))) = (options.contains_key("iobase"), SERIAL.get(index)) {
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
            "VGA" | "bochs-display" => "vga",
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

/// The bytes of a UUID, as it is written.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let mut bytes = [0; 16];
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
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
    use vmm::supervisor::Outlet;

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
        assert!(refused("-mon chardev=x,mode=readline").contains("mode=control"));
        assert!(refused("-chardev file,id=x,path=/a -mon chardev=x,mode=control").contains("on a socket"));
        for words in [
            "-netdev user,id=n",
            "-nic user",
            "-vga cirrus",
            "-serial pty",
            "-parallel stdio",
            "-serial chardev:x",
            "-smp 0",
            "-smp many",
            "-global isa-fdc.driveA=x",
            "-object memory-backend-ram,id=m",
            "-monitor stdio",
            "-uuid 12",
            "-fw_cfg opt/a",
        ] {
            let said = refused(words);
            let option = words.split(' ').next().unwrap_or_default();
            assert!(said.starts_with(option), "{words}: {said}");
        }
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
    fn ports_items_and_processors_are_as_they_were_asked_for() {
        let setup = setup(
            "-serial file:/t/a -serial null -parallel chardev:p -smp 4,sockets=1 -vga std -nic none -monitor none \
             -fw_cfg name=opt/a,string=b -uuid 4600cb32-38ec-4b2f-8acb-81c6ea54f2d8",
        );
        let missing = setup.err().expect("there is no chardev `p`").to_string();
        assert!(missing.starts_with("-parallel chardev:p"), "{missing}");
        let words = "-chardev file,id=p,path=/t/p -serial file:/t/a -serial null -parallel chardev:p -smp 4 -vga std";
        let plan = super::tests::setup(words).unwrap().plan;
        let outlet = |name: &str| plan.devices.iter().find(|device| device.device == name).map(|device| &device.outlet);
        assert_eq!(outlet("uart16550"), Some(&Outlet::File("/t/a".into())));
        assert_eq!(outlet("parallel"), Some(&Outlet::File("/t/p".into())));
        assert_eq!(plan.devices.iter().filter(|device| device.device == "uart16550").count(), 2);
        assert!(outlet("vga").is_some() && outlet("fw-cfg").is_some());
        let uuid = uuid("4600cb32-38ec-4b2f-8acb-81c6ea54f2d8").unwrap();
        assert_eq!((uuid[0], uuid[15]), (0x46, 0xd8));
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
