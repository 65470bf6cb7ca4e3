//! The second name: test programs start what they test with the arguments of QEMU's command line, so we take those of them
//! that say something of the devices we have, or nothing that matters here.

mod devices;
mod drives;

use super::{Actions, After, Link, Setup, Watchdog};
use crate::args::{BootOrder, MachineSpec, Port, QtestArgs, usage};
use crate::firmware::Told;
use crate::machine::parse_size;
use anyhow::Result;
use devices::SERIAL;
use drives::Drives;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use vmm::pci::{FIRST_SLOT, SLOTS};

pub use devices::names as driver_names;

/// The name under which a program is started with such arguments. It ends as test programs want it: they read the processor's
/// architecture there.
pub const NAME: &str = "cofferdam-qtest-system-x86_64";

/// Arguments without a value that say nothing here.
const FLAGS: [&str; 7] =
    ["-no-user-config", "-no-hpet", "-no-acpi", "-enable-fips", "-usb", "-mem-prealloc", "-nographic"];
/// Arguments whose value says nothing here: no processor runs that would boot, nobody looks and nobody hears.
const VALUES: [&str; 14] = [
    "-accel",
    "-audio",
    "-audiodev",
    "-cpu",
    "-d",
    "-D",
    "-display",
    "-k",
    "-msg",
    "-overcommit",
    "-sandbox",
    "-trace",
    "-vnc",
    "-pidfile",
];
/// Drivers whose properties `-global` may set: those that have a meaning here, and those that have none where nothing runs.
const GLOBALS: [&str; 2] = ["ide-hd", "ide-cd"];
const GLOBALS_UNHEARD: [&str; 4] = ["PIIX4_PM", "mc146818rtc", "kvm-pit", "migration"];
/// Letters of the order of boot. There are two for diskettes and four for networks; firmware knows one of each.
const BOOT_LETTERS: [(char, char); 8] =
    [('a', 'a'), ('b', 'a'), ('c', 'c'), ('d', 'd'), ('n', 'n'), ('o', 'n'), ('p', 'n'), ('q', 'n')];
/// Choices that there is room for in the memory of the clock.
const BOOT_CHOICES: usize = 3;
/// Network cards that `-nic` and `-net` may ask for.
const CARDS: [(&str, &str); 3] = [("rtl8139", "rtl8139"), ("virtio-net-pci", "virtio-net"), ("virtio", "virtio-net")];

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

/// What is behind a character device.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Chardev {
    Socket(Link),
    File(String),
    /// Our standard input and output.
    Stdio,
    /// Nothing, or nothing that we have: the name of the backend.
    Other(String),
}

impl Chardev {
    /// As `query-chardev` has it.
    fn shown(&self) -> String {
        match self {
            Chardev::Socket(Link::Connect(path)) => format!("unix:{}", path.display()),
            Chardev::Socket(Link::Listen(path)) => format!("unix:{},server=on", path.display()),
            Chardev::Socket(_) => "unix:".to_owned(),
            Chardev::File(_) => "file".to_owned(),
            Chardev::Stdio => "stdio".to_owned(),
            Chardev::Other(backend) => backend.clone(),
        }
    }
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

/// A slot of the PCI bus, as `SLOT` or `SLOT.0` in hexadecimal.
fn slot(addr: &str) -> Result<u8> {
    let (slot, function) = addr.split_once('.').unwrap_or((addr, "0"));
    let number = u8::from_str_radix(slot.trim_start_matches("0x"), 16).ok();
    match number.filter(|number| (FIRST_SLOT..SLOTS).contains(number) && function == "0") {
        Some(number) => Ok(number),
        None => Err(usage!("addr={addr}: give a slot from {FIRST_SLOT} to {:x}; each has one function", SLOTS - 1)),
    }
}

/// `unix:PATH[,server=on][,wait=off]`, or a chardev of the backend `socket`.
fn socket(path: &str, options: &BTreeMap<String, String>) -> Link {
    let is_server = options.get("server").is_some_and(|value| value == "on" || value == "yes");
    let path = PathBuf::from(path);
    if is_server { Link::Listen(path) } else { Link::Connect(path) }
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

    /// A way to somebody: a socket by its path or by its chardev, or our standard input and output.
    fn link(&self, text: &str) -> Result<Link> {
        let (first, options) = list(text);
        let chardev = first.strip_prefix("chardev:").map(|id| self.chardevs.get(id));
        match (first.strip_prefix("unix:"), chardev) {
            (Some(path), _) => Ok(socket(path.strip_prefix("path=").unwrap_or(path), &options)),
            (None, Some(Some(Chardev::Socket(link)))) => Ok(link.clone()),
            (None, Some(Some(Chardev::Stdio))) => Ok(Link::Stdio),
            _ if first == "stdio" => Ok(Link::Stdio),
            _ => Err(usage!("{text}: give unix:PATH, stdio, or chardev:ID of a socket")),
        }
    }

    fn chardev(&mut self, value: &str) -> Result<()> {
        let (backend, options) = list(value);
        let id = options.get("id").ok_or_else(|| usage!("-chardev {value}: give it an id"))?;
        let path = || options.get("path").ok_or_else(|| usage!("-chardev {value}: give a path"));
        let chardev = match (backend.as_str(), options.get("fd")) {
            ("socket", Some(number)) => {
                let number = number.parse().ok().filter(|number| *number > 2);
                Chardev::Socket(Link::Inherited(
                    number.ok_or_else(|| usage!("-chardev {value}: give the number of a descriptor above 2"))?,
                ))
            }
            ("socket", None) => Chardev::Socket(socket(path()?, &options)),
            ("file", _) => Chardev::File(path()?.clone()),
            ("stdio", _) => Chardev::Stdio,
            _ => Chardev::Other(backend),
        };
        self.chardevs.insert(id.clone(), chardev);
        Ok(())
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
            "-fw_cfg" => {
                let options = pairs(value);
                let name = options.get("name").cloned().unwrap_or_else(|| list(value).0);
                let content = ["file", "string"].into_iter().find_map(|kind| Some((kind, options.get(kind)?)));
                let (kind, content) =
                    content.ok_or_else(|| usage!("-fw_cfg {value}: give file=PATH or string=TEXT"))?;
                self.asked.fw_cfg.push(format!("name={name},{kind}={content}"));
            }
            "-uuid" => {
                self.told.uuid = uuid(value).ok_or_else(|| usage!("-uuid {value}: give 32 hexadecimal digits"))?;
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
            "-machine" | "-M" => {
                let kind = pairs(value).remove("type").unwrap_or_else(|| list(value).0);
                self.asked.machine = match kind.as_str() {
                    "none" => MachineSpec::None,
                    pc if pc == "pc" || pc.starts_with("pc-i440fx") || pc.contains('=') => MachineSpec::Pc,
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
            "-device" | "-watchdog" => self.device(value)?,
            "-watchdog-action" => self.actions.watchdog = watchdog(value)?,
            "-action" => {
                for (event, action) in pairs(value) {
                    match event.as_str() {
                        "panic" => self.actions.panic = after(&action),
                        "watchdog" => self.actions.watchdog = watchdog(&action)?,
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

    fn monitor(&mut self, value: &str) -> Result<()> {
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
        Ok(())
    }

    fn processors(&mut self, value: &str) -> Result<()> {
        let options = pairs(value);
        let cpus = options.get("cpus").cloned().unwrap_or_else(|| list(value).0);
        let known = |text: &str| text.parse().ok().filter(|number| (1..=vmm::supervisor::CPUS_MAX).contains(number));
        let wrong = || usage!("-smp {value}: give a number of processors up to {}", vmm::supervisor::CPUS_MAX);
        self.told.cpus = known(&cpus).ok_or_else(wrong)?;
        self.told.cpus_max = match options.get("maxcpus") {
            Some(most) => known(most).filter(|most| *most >= self.told.cpus).ok_or_else(wrong)?,
            None => self.told.cpus,
        };
        Ok(())
    }

    fn boot(&mut self, value: &str) -> Result<()> {
        let wrong =
            || usage!("-boot {value}: give order=LETTERS, once=LETTERS, menu=on, splash-time=MS or reboot-timeout=MS");
        let (first, mut options) = list(value);
        match first.split_once('=') {
            Some((name, value)) => drop(options.insert(name.to_owned(), value.to_owned())),
            None => drop(options.insert("order".into(), first)),
        }
        let BootOrder { order, once, .. } = &mut self.asked.boot;
        for (name, word) in options {
            match name.as_str() {
                "order" => *order = letters(&word).ok_or_else(wrong)?,
                "once" => *once = Some(letters(&word).ok_or_else(wrong)?),
                "menu" => self.told.has_menu = word == "on",
                "splash-time" => self.told.menu_wait_ms = Some(word.parse().map_err(|_| wrong())?),
                "reboot-timeout" => self.told.fail_wait_ms = Some(word.parse().map_err(|_| wrong())?),
                "strict" => {}
                _ => return Err(wrong()),
            }
        }
        Ok(())
    }

    /// A network, and a card on it. Nobody else is on a network here, so only those may be asked for where nobody needs to be.
    fn network(&mut self, name: &str, value: &str) -> Result<()> {
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

    fn global(&mut self, value: &str) -> Result<()> {
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

    /// The next serial port, whose bytes go there.
    fn serial(&mut self, value: &str) -> Result<()> {
        // The first is there in any case, unless the machine has only what is asked for.
        let number = if self.asked.serial.is_none() { 0 } else { self.serial };
        let Some((port, irq)) = SERIAL.get(number) else {
            return Err(usage!("-serial {value}: a PC has four serial ports"));
        };
        let to = self.port("-serial", value)?;
        if number == 0 {
            self.asked.serial = Some(to);
            self.serial = self.serial.max(1);
            return Ok(());
        }
        let more = match to {
            Port::File(path) => format!(",to={path}"),
            Port::Nowhere | Port::Output => String::new(),
        };
        self.devices.push((false, String::new(), format!("uart16550,port={port},irq={irq}{more}")));
        self.serial += 1;
        Ok(())
    }

    /// Where a port's bytes go.
    fn port(&self, name: &str, value: &str) -> Result<Port> {
        let is_stdio = |id: &str| self.chardevs.get(id) == Some(&Chardev::Stdio);
        if name == "-serial" && (value == "stdio" || value.strip_prefix("chardev:").is_some_and(is_stdio)) {
            return Ok(Port::Output);
        }
        Ok(self.outlet(name, value)?.map_or(Port::Nowhere, Port::File))
    }

    /// The file that they go to; or they go nowhere.
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
        if let Some(places) = &self.asked.places {
            setup.drive_names.extend(self.drives.names(places));
        }
        setup.test = self.test.unwrap_or(Link::Stdio);
        anyhow::ensure!(
            !(setup.prints && setup.test == Link::Stdio),
            usage!("-serial stdio: the test program is there; give -qtest unix:PATH, or -serial file:PATH")
        );
        setup.monitors = self.monitors;
        setup.actions = self.actions;
        setup.ids = self.devices.into_iter().map(|(_, id, spec)| (id, spec)).filter(|(id, _)| !id.is_empty()).collect();
        if self.stays_off {
            setup.actions.power_off = After::Pause;
        }
        setup.chardevs = self.chardevs.iter().map(|(id, chardev)| (id.clone(), chardev.shown())).collect();
        setup.title = self.name.unwrap_or_default();
        setup.runs = !self.is_paused;
        setup.log = match self.log {
            Some(path) => OpenOptions::new().create(true).append(true).open(Path::new(&path)).ok(),
            None => None,
        };
        Ok(setup)
    }
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

/// An order of boot, as far as firmware has room for it.
fn letters(order: &str) -> Option<String> {
    let known = |letter| BOOT_LETTERS.iter().find(|(known, _)| *known == letter).map(|(_, own)| *own);
    let letters: Option<String> = order.chars().map(known).collect();
    letters.map(|letters| letters.chars().take(BOOT_CHOICES).collect())
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

/// The same of a watchdog.
fn watchdog(word: &str) -> Result<Watchdog> {
    Watchdog::ALL.into_iter().find(|known| known.word() == word).ok_or_else(|| {
        let known = Watchdog::ALL.map(Watchdog::word).join(", ");
        usage!("-watchdog-action {word}: there are {known}")
    })
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
            "-netdev tap,id=n",
            "-nic user,model=e1000",
            "-net socket,listen=:1",
            "-boot order=xyz",
            "-boot sideways=on",
            "-watchdog-action dance",
            "-smp 2,maxcpus=1",
            "-drive file=a,format=qcow2",
            "-drive file=a,if=scsi",
            "-drive file=a,snapshot=on",
            "-blockdev qcow2,node-name=n,filename=a",
            "-blockdev raw,node-name=n,file=m",
            "-blockdev {nonsense",
            "-device ide-hd",
            "-device ide-hd,drive=d",
            "-device isa-serial,index=4",
            "-chardev socket,id=x,fd=1",
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
        assert_eq!(setup.actions.watchdog, Watchdog::Pause);
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
    fn drives_are_where_they_were_put() {
        let setup = setup(
            "-nodefaults -drive file=/t/a,if=none,id=a,format=raw -blockdev file,node-name=f,filename=/t/b \
             -blockdev {\"driver\":\"raw\",\"node-name\":\"b\",\"file\":\"f\"} -device ide-hd,drive=a,bus=ide.1,unit=1,serial=s,cyls=9,heads=8,secs=7 \
             -device ide-cd,drive=b,bus=ide.0,id=c -drive file=/t/d,index=1 -global ide-hd.ver=v2 -device floppy,unit=1,id=fd \
             -device virtio-blk-pci,drive=e,addr=0x1a -S",
        );
        assert!(setup.err().expect("there is no drive `e`").to_string().contains("no drive `e`"));
        let setup = super::tests::setup(
            "-nodefaults -drive file=/t/a,if=none,id=a,format=raw -blockdev file,node-name=f,filename=/t/b \
             -blockdev {\"driver\":\"raw\",\"node-name\":\"b\",\"file\":\"f\"} -device ide-hd,drive=a,bus=ide.1,unit=1,serial=s,cyls=9,heads=8,secs=7 \
             -device ide-cd,drive=b,bus=ide.0,id=c -drive file=/t/d,index=1 -global ide-hd.ver=v2 -device floppy,unit=1,id=fd \
             -drive if=none,id=e,file=/t/e -device virtio-blk-pci,drive=e,addr=0x1a -device rtl8139,addr=4.0",
        )
        .unwrap();
        let device = |name: &str| setup.plan.devices.iter().find(|device| device.device == name).unwrap();
        let ide: Vec<String> =
            device("piix-ide").options.iter().map(|option| format!("{}={}", option.name, option.value)).collect();
        assert_eq!(
            ide,
            [
                "primary=cdrom",
                "primary-slave=disk",
                "primary-slave-version=v2",
                "secondary-slave=disk",
                "secondary-slave-serial=s",
                "secondary-slave-version=v2",
                "secondary-slave-geometry=9/8/7",
            ]
        );
        assert_eq!((device("virtio-block").slot, device("rtl8139").slot), (Some(0x1a), Some(4)));
        for (name, own) in [("fd", "floppy1"), ("c", "cdrom0"), ("b", "cdrom0"), ("ide0-cd0", "cdrom0")] {
            assert!(setup.drive_names.contains(&(name.into(), own.into())), "{name}: {:?}", setup.drive_names);
        }
    }

    #[test]
    fn a_pc_has_what_pcs_usually_have_unless_it_is_to_have_nothing() {
        let has = |words: &str| {
            let plan = setup(words).unwrap().plan;
            let option = |name: &str, option: &str| {
                let device = plan.devices.iter().find(|device| device.device == name)?;
                device.options.iter().find(|one| one.name == option).map(|one| one.value.clone())
            };
            let serial = plan.devices.iter().any(|device| device.device == "uart16550");
            (serial, option("piix-ide", "secondary"), option("mc146818", "floppies"))
        };
        assert_eq!(has(""), (true, Some("empty".into()), Some("64".into())));
        assert_eq!(has("-nodefaults"), (false, None, Some("0".into())));
        assert_eq!(has("-nodefaults -serial null -device floppy,drive-type=288"), (true, None, Some("80".into())));
    }

    #[test]
    fn firmware_is_told_the_order_of_boot_and_another_after_a_reset() {
        let order = |words: &str| {
            let setup = setup(words).unwrap();
            let clock = setup.plan.devices.iter().find(|device| device.device == "mc146818").unwrap();
            let boot = clock.options.iter().find(|option| option.name == "boot").unwrap().value.clone();
            (boot, setup.order_after)
        };
        assert_eq!(order(""), ("cad".into(), None));
        assert_eq!(order("-boot nda"), ("nda".into(), None));
        assert_eq!(order("-boot order= -boot menu=on"), (String::new(), None));
        assert_eq!(order("-boot once=b -boot once=d,order=c"), ("d".into(), Some("c".into())));
    }

    #[test]
    fn ports_are_those_of_a_pc() {
        let setup = setup("-device isa-serial,index=3 -device isa-parallel").unwrap();
        let options = |name: &str| {
            let found = setup.plan.devices.iter().rfind(|device| device.device == name).unwrap();
            found.options.iter().map(|option| format!("{}={}", option.name, option.value)).collect::<Vec<_>>()
        };
        assert_eq!(options("uart16550"), ["port=744", "irq=3"]);
        assert_eq!(options("parallel"), ["port=632", "irq=7"]);
    }

    #[test]
    fn a_comma_in_a_value_is_written_twice() {
        let (first, options) = list("a,,b,c=d,,e,f");
        assert_eq!(first, "a,b");
        assert_eq!((options["c"].as_str(), options["f"].as_str()), ("d,e", "on"));
    }
}
