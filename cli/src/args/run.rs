//! The flags of `cofferdam run`.

use super::layers::{LabelSpec, LayerSpec, demands};
use super::{CarrierSpec, HelperSpec, SandboxSpec, firmware, usage};
use crate::{drives, machine, nic, rtc};
use anyhow::{Context, Result};
use clap::{Args as ClapArgs, ValueEnum};
use schema::host::Setting;
use serde::Deserialize;
use std::path::PathBuf;
use vmm::supervisor::{Backing, ConsolePlan, DEADLINE, Demands, Isolate, Outlet, PlannedDevice, RESTARTS};

/// What the guest is.
const GUEST: &str = "Guest";
/// What it has.
const DEVICES: &str = "Devices";
/// What is between them and us.
const ISOLATION: &str = "Isolation";

/// Everything is optional here so that `--config` may say it instead.
#[derive(ClapArgs, Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RunArgs {
    /// Kernel to boot: bzImage or ELF.
    #[arg(help_heading = GUEST, long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Instead of a kernel, the firmware of a PC, such as bios-256k.bin of Debian's package `seabios`. A name without a slash is
    /// looked for here, then in the distribution's folder.
    #[arg(help_heading = GUEST, long, value_name = "FILE", conflicts_with_all = ["kernel", "initrd", "cmdline", "flat"])]
    pub firmware: Option<PathBuf>,
    /// What firmware boots first: a floppy, c disk, d CD-ROM, n network, as in `dc`.
    #[arg(help_heading = GUEST, long, value_name = "ORDER")]
    pub boot: Option<String>,
    /// An item for firmware or its guest: `name=opt/NAME,file=PATH` or `name=opt/NAME,string=TEXT`. May be repeated.
    #[arg(help_heading = GUEST, long, value_name = "name=NAME,file=PATH|string=TEXT")]
    pub fw_cfg: Vec<String>,
    /// Where the firmware's debug output goes: log, stdio or file=PATH. [default: log]
    #[arg(help_heading = GUEST, long, value_name = "WHERE")]
    pub debug_console: Option<String>,
    /// Instead of a kernel, a micro guest: 64-bit code loaded and entered at 1 MiB, memory mapped one to one.
    #[arg(help_heading = GUEST, long, value_name = "FILE", conflicts_with_all = ["kernel", "initrd", "cmdline"])]
    pub flat: Option<PathBuf>,
    /// Initial RAM disk.
    #[arg(help_heading = GUEST, long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Kernel command line.
    #[arg(help_heading = GUEST, long, value_name = "WORDS")]
    pub cmdline: Option<String>,
    /// Guest memory: a number of bytes, or with K, M or G. [default: 512M]
    #[arg(help_heading = GUEST, long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Guest processors, 1 to 16. [default: 1]
    #[arg(help_heading = GUEST, long, value_name = "N")]
    pub cpus: Option<u8>,
    /// A disk image, raw; `PATH,readonly` to only read it. May be repeated.
    #[arg(help_heading = DEVICES, long, value_name = "PATH[,readonly]")]
    pub disk: Vec<String>,
    /// A diskette's image, raw, 160K to 2880K, for drive A; given again for drive B. `PATH,readonly` to only read it.
    #[arg(help_heading = DEVICES, long, value_name = "PATH[,readonly]")]
    pub floppy: Vec<String>,
    /// An image of an IDE disk, raw; `PATH,readonly` to only read it. There is room for four, CDs included.
    #[arg(help_heading = DEVICES, long, value_name = "PATH[,readonly]")]
    pub ide: Vec<String>,
    /// An image of a CD for an IDE drive, only to be read; `none` for a drive without a disc. May be repeated.
    #[arg(help_heading = DEVICES, long, value_name = "ISO|none")]
    pub cdrom: Vec<String>,
    /// A network card, virtio or rtl8139, and its network: a tap interface, the socket of a passt, or a passt of the VM's own.
    /// May be repeated.
    #[arg(help_heading = DEVICES, long, value_name = "CARD,tap=NAME|passt=PATH|user[,mac=…][,rom=FILE|off]")]
    pub nic: Vec<String>,
    /// Who sees the machine's display besides `cofferdam screenshot`: none, or viewers on this machine, by VNC, that know what is
    /// in a file of yours. Without a port, it is the first free one from 5900 on. [default: none]
    #[arg(help_heading = DEVICES, long, value_name = "none|vnc,password-file=PATH[,port=N]")]
    pub display: Option<String>,
    /// Where the guest's console goes: stdio, pty, or file=PATH. [default: stdio]
    #[arg(help_heading = DEVICES, long, value_name = "WHERE")]
    pub console: Option<String>,
    /// How strictly: off, process, seccomp or strict; and for single devices, as in `seccomp,uart16550=strict`.
    /// [default: seccomp]
    #[arg(help_heading = ISOLATION, long, value_name = "LEVEL[,DEVICE=LEVEL]…")]
    pub sandbox: Option<SandboxSpec>,
    /// Refuse to start without this layer of the sandbox; `cofferdam recipe` lists them. May be repeated.
    #[arg(help_heading = ISOLATION, long, value_name = "LAYER")]
    pub require: Vec<LayerSpec>,
    /// Start without this layer of the sandbox where it is not to be had. May be repeated.
    #[arg(help_heading = ISOLATION, long, value_name = "LAYER")]
    pub allow_missing: Vec<LayerSpec>,
    /// Labels of a security module: auto, none, selinux or apparmor. [default: auto, where the policy is installed]
    #[arg(help_heading = ISOLATION, long, value_name = "WHOSE")]
    pub label: Option<LabelSpec>,
    /// What makes, at level `strict`, the calls that mode 1 has no room for: a process, or a thread of the device's own process,
    /// which is no boundary and there to compare with; and for single devices. [default: process]
    #[arg(help_heading = ISOLATION, long, value_name = "FORM[,DEVICE=FORM]…")]
    pub helper: Option<HelperSpec>,
    /// How devices are grouped into processes: device, class, or none. [default: device]
    #[arg(help_heading = ISOLATION, long, value_enum)]
    pub isolate: Option<IsolateSpec>,
    /// How accesses travel: memory, socket, pipe or virtio; and for single devices, as in `memory,uart16550=pipe`.
    /// [default: memory]
    #[arg(help_heading = ISOLATION, long, value_name = "CARRIER[,DEVICE=CARRIER]…")]
    pub carrier: Option<CarrierSpec>,
    /// Another device, with its options: `debug-exit,port=0xf4`. `cofferdam devices` lists them. A path is a plugin, a program
    /// of its own: `./sensor.py,base=0x440`; `grant=POWER+POWER` says what it may have, `file=PATH` what it works on.
    /// May be repeated.
    #[arg(help_heading = DEVICES, long, value_name = "NAME|PATH[,OPTION=VALUE]…")]
    pub device: Vec<String>,
    /// When the real-time clock begins: utc, localtime, or a date as in 2001-02-28T23:59:58. [default: utc]
    #[arg(help_heading = GUEST, long, value_name = "BASE")]
    pub rtc: Option<String>,
    /// Names the virtual machine. [default: vm-PID]
    #[arg(long)]
    pub name: Option<String>,
    /// End with status 4 when the guest resets.
    #[arg(long)]
    pub no_reboot: bool,
    /// A device that does not answer a guest's access within this is started anew, or given up. [default: 5000]
    #[arg(help_heading = ISOLATION, long, value_name = "MILLISECONDS")]
    pub deadline: Option<u32>,
    /// How often a device's process that dies young is started anew before it is retired: a number, or off. [default: 10]
    #[arg(help_heading = ISOLATION, long, value_name = "N|off")]
    pub restart: Option<RestartSpec>,
    /// Another program that serves a device, static and speaking the schema: `DEVICE=PATH`. For work on device hosts.
    #[arg(help_heading = ISOLATION, long, value_name = "DEVICE=PATH", hide = true)]
    pub host_program: Vec<String>,
    /// A file that says the same as these flags, in TOML; flags come first.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IsolateSpec {
    /// A process for each device.
    Device,
    /// A process for each class of devices.
    Class,
    /// Devices linked into the VMM: no isolation, to compare with.
    None,
}

impl From<IsolateSpec> for Isolate {
    fn from(spec: IsolateSpec) -> Isolate {
        match spec {
            IsolateSpec::Device => Isolate::Device,
            IsolateSpec::Class => Isolate::Class,
            IsolateSpec::None => Isolate::None,
        }
    }
}

/// How often a device host is started anew; 0 for `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Said")]
pub struct RestartSpec(u32);

/// As TOML may say it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Number(u32),
    Word(String),
}

impl std::str::FromStr for RestartSpec {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(RestartSpec(0)),
            number => number
                .parse()
                .map(RestartSpec)
                .map_err(|_| format!("`{number}` is not a number of restarts; give one, or off")),
        }
    }
}

impl TryFrom<Said> for RestartSpec {
    type Error = String;
    fn try_from(said: Said) -> Result<Self, String> {
        match said {
            Said::Number(number) => Ok(RestartSpec(number)),
            Said::Word(word) => word.parse(),
        }
    }
}

impl RunArgs {
    /// These flags, and where one is not given, what `--config` says.
    pub fn with_config(self) -> Result<RunArgs> {
        let Some(path) = &self.config else { return Ok(self) };
        let text =
            std::fs::read_to_string(path).with_context(|| format!("--config {}: cannot be read", path.display()))?;
        let file: RunArgs = toml::from_str(&text)
            .map_err(|error| usage!("--config {}: {}", path.display(), error.to_string().trim_end()))?;
        let list = |flags: Vec<String>, file: Vec<String>| if flags.is_empty() { file } else { flags };
        Ok(RunArgs {
            kernel: self.kernel.or(file.kernel),
            flat: self.flat.or(file.flat),
            firmware: self.firmware.or(file.firmware),
            debug_console: self.debug_console.or(file.debug_console),
            boot: self.boot.or(file.boot),
            fw_cfg: list(self.fw_cfg, file.fw_cfg),
            initrd: self.initrd.or(file.initrd),
            cmdline: self.cmdline.or(file.cmdline),
            memory: self.memory.or(file.memory),
            cpus: self.cpus.or(file.cpus),
            disk: list(self.disk, file.disk),
            floppy: list(self.floppy, file.floppy),
            ide: list(self.ide, file.ide),
            cdrom: list(self.cdrom, file.cdrom),
            nic: list(self.nic, file.nic),
            display: self.display.or(file.display),
            console: self.console.or(file.console),
            sandbox: self.sandbox.or(file.sandbox),
            require: if self.require.is_empty() { file.require } else { self.require },
            allow_missing: if self.allow_missing.is_empty() { file.allow_missing } else { self.allow_missing },
            label: self.label.or(file.label),
            helper: self.helper.or(file.helper),
            isolate: self.isolate.or(file.isolate),
            carrier: self.carrier.or(file.carrier),
            device: list(self.device, file.device),
            host_program: list(self.host_program, file.host_program),
            rtc: self.rtc.or(file.rtc),
            name: self.name.or(file.name),
            no_reboot: self.no_reboot || file.no_reboot,
            deadline: self.deadline.or(file.deadline),
            restart: self.restart.or(file.restart),
            config: self.config,
        })
    }

    /// What is said of single layers.
    pub fn demands(&self) -> Result<Demands> {
        demands(&self.require, &self.allow_missing, self.label)
    }

    /// Bytes of guest memory.
    pub fn memory_bytes(&self) -> Result<u64> {
        let text = self.memory.as_deref().unwrap_or("512M");
        machine::parse_size(text)
            .ok_or_else(|| usage!("--memory {text}: give a number of bytes, or with K, M or G, as in 512M"))
    }

    /// Whether firmware is to look for a network to boot from.
    pub fn boots_from_network(&self) -> bool {
        self.boot.as_deref().is_some_and(|order| order.contains('n'))
    }

    /// Where the debug console goes.
    pub fn debug_outlet(&self) -> Result<Outlet> {
        self.debug_console.as_deref().map_or(Ok(Outlet::Log), firmware::debug_console)
    }

    /// Where the console goes.
    pub fn console_plan(&self) -> Result<ConsolePlan> {
        match self.console.as_deref().unwrap_or("stdio") {
            "stdio" => Ok(ConsolePlan::Stdio),
            "pty" => Ok(ConsolePlan::Pty),
            other => match other.strip_prefix("file=") {
                Some(path) if !path.is_empty() => Ok(ConsolePlan::File(PathBuf::from(path))),
                _ => Err(usage!("--console {other}: give stdio, pty or file=PATH")),
            },
        }
    }

    /// Deadline of a lane operation.
    pub fn deadline(&self) -> Result<std::time::Duration> {
        match self.deadline {
            None => Ok(DEADLINE),
            Some(0) => Err(usage!("--deadline 0: no device answers in no time; give milliseconds")),
            Some(ms) => Ok(std::time::Duration::from_millis(ms.into())),
        }
    }

    /// How often a host is started anew.
    pub fn restarts(&self) -> u32 {
        self.restart.map_or(RESTARTS, |spec| spec.0)
    }

    /// What the machine is called.
    pub fn vm_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("vm-{}", std::process::id()))
    }

    /// The machine's devices.
    pub fn devices(&self) -> Result<Vec<PlannedDevice>> {
        let mut devices: Vec<PlannedDevice> = Vec::new();
        for device in machine::STANDARD {
            devices.push(machine::planned(device, Vec::new(), Vec::new()));
        }
        if self.firmware.is_some() {
            devices.extend(machine::legacy(self)?);
        }
        for disk in &self.disk {
            let (path, readonly) = machine::parse_disk(disk)?;
            let options = vec![Setting { name: "readonly".into(), value: if readonly { "on" } else { "off" }.into() }];
            devices.push(machine::planned("virtio-block", options, vec![Backing::Path(PathBuf::from(path))]));
        }
        // Firmware looks for the controller, whether or not there is a diskette.
        if self.firmware.is_none() && !self.floppy.is_empty() {
            devices.push(machine::floppy(&self.floppy)?);
        }
        if self.firmware.is_some() || !self.ide.is_empty() || !self.cdrom.is_empty() {
            devices.push(drives::ide(&self.ide, &self.cdrom)?);
        }
        for (number, card) in self.nic.iter().enumerate() {
            devices.push(nic::parse(card, &self.vm_name(), number)?);
        }
        for spec in &self.device {
            devices.push(machine::named(spec)?);
        }
        // Without firmware, a kernel looks there for its diskettes all the same.
        if self.firmware.is_some() || !self.floppy.is_empty() {
            machine::set_up(&mut devices, self)?;
        }
        rtc::begin(&mut devices, self.rtc.as_deref().unwrap_or("utc"))?;
        machine::label(&mut devices);
        machine::apply_host_programs(&self.host_program, &mut devices)?;
        Ok(devices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandbox::LayerName;
    use vmm::supervisor::LabelChoice;

    #[test]
    fn sizes_have_units() {
        assert_eq!(machine::parse_size("512M"), Some(512 << 20));
        assert_eq!(machine::parse_size("1048576"), Some(1 << 20));
        assert_eq!(machine::parse_size("6g"), Some(6 << 30));
        assert_eq!(machine::parse_size("M"), None);
        assert_eq!(machine::parse_size("12Q"), None);
        assert_eq!(machine::parse_size("99999999999999G"), None);
    }

    #[test]
    fn restarts_are_a_number_or_off() {
        let flag = |text: &str| text.parse::<RestartSpec>();
        assert_eq!((flag("off"), flag("0"), flag("7")), (Ok(RestartSpec(0)), Ok(RestartSpec(0)), Ok(RestartSpec(7))));
        assert!(flag("often").unwrap_err().contains("often") && flag("-1").is_err());
        let file = |text: &str| toml::from_str::<RunArgs>(text).map(|file| file.restarts());
        assert_eq!((file("restart = 'off'"), file("restart = 3"), file("")), (Ok(0), Ok(3), Ok(RESTARTS)));
        assert!(file("restart = 'often'").is_err() && file("restart = -1").is_err());
    }

    #[test]
    fn a_config_file_says_the_same_as_the_flags() {
        let file: RunArgs = toml::from_str(
            "kernel = 'k'\nmemory = '1G'\ncpus = 2\ndisk = ['a.img,readonly']\nisolate = 'class'\nrequire = ['landlock']\nlabel = 'none'\nno-reboot = true\nsandbox = 'process'",
        )
        .unwrap();
        assert_eq!(file.memory_bytes().unwrap(), 1 << 30);
        assert!(file.no_reboot && file.isolate == Some(IsolateSpec::Class) && file.cpus == Some(2));
        let demands = file.demands().unwrap();
        assert_eq!((demands.required, demands.label), (vec![LayerName::Landlock], LabelChoice::None));
        assert!(toml::from_str::<RunArgs>("kernal = 'k'").is_err());
        let moat = toml::from_str::<RunArgs>("require = ['moat']").err().expect("no layer").to_string();
        assert!(moat.contains("landlock"), "{moat}");
    }
}
