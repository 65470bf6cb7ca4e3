//! The command line, and `--config`, which says the same as the flags of `run`.

use anyhow::{Context, Result};
use clap::{Args as ClapArgs, CommandFactory, Parser, Subcommand, ValueEnum};
use sandbox::{HelperForm, LayerName, Module};
use schema::host::{Level, Setting};
use schema::lane::Carrier;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use vmm::supervisor::{Backing, ConsolePlan, DEADLINE, Demands, Isolate, LabelChoice, PlannedDevice, RESTARTS};

/// What was asked makes no sense; the sentence says what and what to do.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}
impl std::error::Error for Usage {}

macro_rules! usage {
    ($($words:tt)*) => { anyhow::Error::new($crate::args::Usage(format!($($words)*))) };
}
pub(crate) use usage;

/// A virtual machine monitor that trusts no device: every emulated device runs in a sealed process of its own.
#[derive(Parser)]
#[command(name = "cofferdam", version, max_term_width = 100)]
pub struct Args {
    #[command(subcommand)]
    pub action: Action,
}

#[derive(Subcommand)]
pub enum Action {
    /// Run a built-in guest that drives every device, and show what each device's process may do. Needs no files.
    Demo(DemoArgs),
    /// Run a virtual machine. Exit status: 0 the guest powered off, 3 it panicked, 4 it was reset with --no-reboot.
    Run(Box<RunArgs>),
    /// List running virtual machines and the processes of their devices.
    Ps(PsArgs),
    /// Press a virtual machine's power button.
    Powerdown(VmArgs),
    /// End a virtual machine now.
    Stop(VmArgs),
    /// Start a virtual machine anew.
    Reset(VmArgs),
    /// Attach to a virtual machine's console. Ctrl-A x leaves.
    Console(VmArgs),
    /// Print what a virtual machine's processes have logged.
    Logs(VmArgs),
    /// List the devices there are, from their manifests.
    Devices(DevicesArgs),
    /// Show what the process of a device may do, each line with its reason.
    Recipe(RecipeArgs),
    /// Write out the policy for SELinux or AppArmor that gives labels their meaning.
    Policy(PolicyArgs),
    /// Attack: a device host and a guest that are against us try every way out. Exit status 0: all of them were stopped.
    Attack(AttackArgs),
    /// Measure, against the same thing done without a sandbox.
    Bench(BenchArgs),
    /// Print a completion script for a shell.
    Completions(CompletionsArgs),
}

#[derive(ClapArgs)]
pub struct DemoArgs {
    /// A list with one object for each device host, instead of the table.
    #[arg(long)]
    pub json: bool,
    /// How strictly devices are confined, as for `run`.
    #[arg(long, default_value = "seccomp", value_name = "LEVEL[,DEVICE=LEVEL]…")]
    pub sandbox: SandboxSpec,
    /// What helps a device at level `strict`, as for `run`.
    #[arg(long, default_value = "process", value_name = "FORM[,DEVICE=FORM]…")]
    pub helper: HelperSpec,
    /// How devices are grouped into processes, as for `run`.
    #[arg(long, value_enum, default_value = "device")]
    pub isolate: IsolateSpec,
    /// How accesses travel to devices, as for `run`.
    #[arg(long, value_name = "CARRIER[,DEVICE=CARRIER]…")]
    pub carrier: Option<CarrierSpec>,
    /// Drive the devices from a script, without a virtual processor.
    #[arg(long)]
    pub no_kvm: bool,
    /// Another program that serves a device, as for `run`.
    #[arg(long, value_name = "DEVICE=PATH", hide = true)]
    pub host_program: Vec<String>,
    #[command(flatten)]
    pub layers: LayerArgs,
}

/// What is said of single layers of the sandbox. `run` has the same, which a config file may say as well.
#[derive(ClapArgs)]
pub struct LayerArgs {
    /// Refuse to start without this layer of the sandbox; `cofferdam recipe` lists them. May be repeated.
    #[arg(long, value_name = "LAYER")]
    pub require: Vec<LayerSpec>,
    /// Start without this layer of the sandbox where it is not to be had. May be repeated.
    #[arg(long, value_name = "LAYER")]
    pub allow_missing: Vec<LayerSpec>,
    /// Labels of a security module: auto, none, selinux or apparmor. [default: auto, where the policy is installed]
    #[arg(long, value_name = "WHOSE")]
    pub label: Option<LabelSpec>,
}

impl LayerArgs {
    /// The same, for a plan.
    pub fn demands(&self) -> Result<Demands> {
        demands(&self.require, &self.allow_missing, self.label)
    }
}

fn demands(require: &[LayerSpec], allow_missing: &[LayerSpec], label: Option<LabelSpec>) -> Result<Demands> {
    let names = |specs: &[LayerSpec]| specs.iter().map(|spec| spec.0).collect::<Vec<_>>();
    let (required, may_be_missing) = (names(require), names(allow_missing));
    if let Some(both) = required.iter().find(|layer| may_be_missing.contains(layer)) {
        return Err(usage!("--require and --allow-missing both name `{}`; give one of the two", both.name()));
    }
    Ok(Demands { required, may_be_missing, label: label.map_or_else(LabelChoice::default, |spec| spec.0) })
}

/// A layer of the sandbox, by its name.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub struct LayerSpec(LayerName);

impl std::str::FromStr for LayerSpec {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        word.parse().map(LayerSpec)
    }
}

impl TryFrom<String> for LayerSpec {
    type Error = String;
    fn try_from(word: String) -> Result<Self, String> {
        word.parse()
    }
}

/// Whose labels processes get.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub struct LabelSpec(LabelChoice);

impl std::str::FromStr for LabelSpec {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        Ok(LabelSpec(match word {
            "auto" => LabelChoice::Auto,
            "none" => LabelChoice::None,
            "selinux" => LabelChoice::Module(Module::Selinux),
            "apparmor" => LabelChoice::Module(Module::Apparmor),
            other => return Err(format!("`{other}` gives no labels; there are auto, none, selinux and apparmor")),
        }))
    }
}

impl TryFrom<String> for LabelSpec {
    type Error = String;
    fn try_from(word: String) -> Result<Self, String> {
        word.parse()
    }
}

/// Everything is optional here so that `--config` may say it instead.
#[derive(ClapArgs, Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RunArgs {
    /// Kernel to boot: bzImage or ELF.
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Instead of a kernel, a micro guest: 64-bit code loaded and entered at 1 MiB, memory mapped one to one.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kernel", "initrd", "cmdline"])]
    pub flat: Option<PathBuf>,
    /// Initial RAM disk.
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Kernel command line.
    #[arg(long, value_name = "WORDS")]
    pub cmdline: Option<String>,
    /// Guest memory: a number of bytes, or with K, M or G. [default: 512M]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Guest processors, 1 to 16. [default: 1]
    #[arg(long, value_name = "N")]
    pub cpus: Option<u8>,
    /// A disk image, raw; `PATH,readonly` to only read it. May be repeated.
    #[arg(long, value_name = "PATH[,readonly]")]
    pub disk: Vec<String>,
    /// Where the guest's console goes: stdio, pty, or file=PATH. [default: stdio]
    #[arg(long, value_name = "WHERE")]
    pub console: Option<String>,
    /// How strictly: off, process, seccomp or strict; and for single devices, as in `seccomp,uart16550=strict`.
    /// [default: seccomp]
    #[arg(long, value_name = "LEVEL[,DEVICE=LEVEL]…")]
    pub sandbox: Option<SandboxSpec>,
    /// Refuse to start without this layer of the sandbox; `cofferdam recipe` lists them. May be repeated.
    #[arg(long, value_name = "LAYER")]
    pub require: Vec<LayerSpec>,
    /// Start without this layer of the sandbox where it is not to be had. May be repeated.
    #[arg(long, value_name = "LAYER")]
    pub allow_missing: Vec<LayerSpec>,
    /// Labels of a security module: auto, none, selinux or apparmor. [default: auto, where the policy is installed]
    #[arg(long, value_name = "WHOSE")]
    pub label: Option<LabelSpec>,
    /// What makes, at level `strict`, the calls that mode 1 has no room for: a process, or a thread of the device's own process,
    /// which is no boundary and there to compare with; and for single devices. [default: process]
    #[arg(long, value_name = "FORM[,DEVICE=FORM]…")]
    pub helper: Option<HelperSpec>,
    /// How devices are grouped into processes: device, class, or none. [default: device]
    #[arg(long, value_enum)]
    pub isolate: Option<IsolateSpec>,
    /// How accesses travel: memory, socket, pipe or virtio; and for single devices, as in `memory,uart16550=pipe`.
    /// [default: memory]
    #[arg(long, value_name = "CARRIER[,DEVICE=CARRIER]…")]
    pub carrier: Option<CarrierSpec>,
    /// Another device, with its options: `debug-exit,port=0xf4`. `cofferdam devices` lists them. May be repeated.
    #[arg(long, value_name = "NAME[,OPTION=VALUE]…")]
    pub device: Vec<String>,
    /// Names the virtual machine. [default: vm-PID]
    #[arg(long)]
    pub name: Option<String>,
    /// End with status 4 when the guest resets.
    #[arg(long)]
    pub no_reboot: bool,
    /// A device that does not answer a guest's access within this is started anew, or given up. [default: 5000]
    #[arg(long, value_name = "MILLISECONDS")]
    pub deadline: Option<u32>,
    /// How often a device's process that dies young is started anew before it is retired: a number, or off. [default: 10]
    #[arg(long, value_name = "N|off")]
    pub restart: Option<RestartSpec>,
    /// Another program that serves a device, static and speaking the schema: `DEVICE=PATH`. For work on device hosts.
    #[arg(long, value_name = "DEVICE=PATH", hide = true)]
    pub host_program: Vec<String>,
    /// A file that says the same as these flags, in TOML; flags come first.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
}

#[derive(ClapArgs)]
pub struct PsArgs {
    /// Compare what the kernel shows of each process with its recipe.
    #[arg(long)]
    pub audit: bool,
    /// A list with one object for each device host, instead of the table.
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct VmArgs {
    /// The virtual machine, as `cofferdam ps` names it.
    pub name: String,
}

#[derive(ClapArgs)]
pub struct DevicesArgs {
    /// A list of objects instead of the table.
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct RecipeArgs {
    /// The device, as `cofferdam devices` names it, with options if it needs any; or `vmm`.
    pub device: String,
    /// The level to show.
    #[arg(long, default_value = "seccomp")]
    pub sandbox: SandboxSpec,
    /// What its helper is at level `strict`.
    #[arg(long, default_value = "process")]
    pub helper: HelperSpec,
    #[command(flatten)]
    pub layers: LayerArgs,
}

#[derive(ClapArgs)]
pub struct PolicyArgs {
    #[command(subcommand)]
    pub module: PolicyKind,
}

#[derive(Subcommand)]
pub enum PolicyKind {
    /// A module for SELinux, which `semodule -i` installs.
    Selinux {
        /// Write it to a file in this folder instead.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Profiles for AppArmor, which `apparmor_parser -r` installs; with --vm and --disk, the one for a VM's disks.
    Apparmor {
        /// Write them to a file in this folder instead.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// The program that they are for. [default: this one]
        #[arg(long, value_name = "PATH")]
        program: Option<PathBuf>,
        /// The VM that the disks are of.
        #[arg(long, value_name = "NAME", requires = "disk")]
        vm: Option<String>,
        /// A disk image, as for `run`. May be repeated.
        #[arg(long, value_name = "PATH[,readonly]", requires = "vm")]
        disk: Vec<String>,
    },
}

#[derive(ClapArgs)]
pub struct AttackArgs {
    /// Attempts by their names, and groups by their letters. [default: all]
    #[arg(value_name = "ID|GROUP")]
    pub which: Vec<String>,
    /// Name the attempts, and make none.
    #[arg(long)]
    pub list: bool,
    /// A list with one object for each attempt, instead of the table.
    #[arg(long)]
    pub json: bool,
    /// The sandbox to attack: seccomp or strict.
    #[arg(long, default_value = "seccomp", value_name = "LEVEL", value_parser = crate::run::attack::level_named)]
    pub sandbox: Level,
    /// Let a script make a guest's accesses, without a virtual processor.
    #[arg(long)]
    pub no_kvm: bool,
    /// Make this attempt without its guards where it should have them: for tests of this command.
    #[arg(long, value_name = "ID", hide = true)]
    pub let_through: Option<String>,
}

#[derive(ClapArgs)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub what: BenchKind,
}

#[derive(Subcommand)]
pub enum BenchKind {
    /// A guest's access to a device, against the same device linked into the VMM.
    Exits(BenchCommon),
    /// Starting a device host up to its first answer, against starting an empty program.
    Spawn(BenchCommon),
    /// Accesses, disk reads, starts and memory at each level of the sandbox, against the level below.
    Sandbox(BenchCommon),
    /// Messages between two processes, against a bare socket, other message layers and what the machine allows.
    Calls(BenchBeside),
    /// An access to a device over each carrier, against a function call, other message layers and what the machine allows.
    Carriers(BenchBeside),
    /// Booting a kernel, against the same with --isolate none.
    Boot {
        /// Kernel to boot.
        #[arg(long, value_name = "FILE")]
        kernel: PathBuf,
        /// Initial RAM disk; its first program must power off.
        #[arg(long, value_name = "FILE")]
        initrd: Option<PathBuf>,
        /// Kernel command line.
        #[arg(long, value_name = "WORDS", default_value = "console=ttyS0 quiet panic=-1")]
        cmdline: String,
        #[command(flatten)]
        common: BenchCommon,
    },
}

#[derive(ClapArgs)]
pub struct BenchBeside {
    /// The program that measures other message layers; `cargo xtask bench-peers` builds it. [default: where it built it]
    #[arg(long, value_name = "PATH")]
    pub peers: Option<PathBuf>,
    /// Draw the run as well.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    #[command(flatten)]
    pub common: BenchCommon,
}

#[derive(ClapArgs, Clone)]
pub struct BenchCommon {
    /// Rounds; the pairs alternate.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// A list of rows as objects, instead of the table.
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct CompletionsArgs {
    pub shell: clap_complete::Shell,
}

/// Prints the completion script.
pub fn completions(asked: &CompletionsArgs) -> Result<u8> {
    clap_complete::generate(asked.shell, &mut Args::command(), "cofferdam", &mut std::io::stdout());
    Ok(0)
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

/// What is chosen for all devices, and exceptions.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String", bound = "T: Choice")]
pub struct PerDevice<T> {
    pub all: T,
    exceptions: Vec<(String, T)>,
}

/// What the helpers of their hosts are.
pub type HelperSpec = PerDevice<HelperForm>;
/// How strictly devices are confined.
pub type SandboxSpec = PerDevice<Level>;
/// What their lanes run over.
pub type CarrierSpec = PerDevice<Carrier>;

/// What can be chosen for each device.
pub trait Choice: Copy {
    /// The flag by which it is chosen.
    const FLAG: &str;
    /// What is chosen where nothing is said.
    const DEFAULT: Self;
    /// What this word says, or a sentence.
    fn of(word: &str) -> Result<Self, String>;
    /// Chooses it for a device.
    fn choose(self, device: &mut PlannedDevice);
}

impl Choice for Level {
    const FLAG: &str = "--sandbox";
    const DEFAULT: Level = Level::Seccomp;
    fn of(word: &str) -> Result<Level, String> {
        match word {
            "off" => Ok(Level::Off),
            "process" => Ok(Level::Process),
            "seccomp" => Ok(Level::Seccomp),
            "strict" => Ok(Level::Strict),
            other => Err(format!("`{other}` is not a level; there are off, process, seccomp and strict")),
        }
    }
    fn choose(self, device: &mut PlannedDevice) {
        device.level = self;
    }
}

impl Choice for HelperForm {
    const FLAG: &str = "--helper";
    const DEFAULT: HelperForm = HelperForm::Process;
    fn of(word: &str) -> Result<HelperForm, String> {
        match [HelperForm::Process, HelperForm::Thread].into_iter().find(|form| form.name() == word) {
            Some(form) => Ok(form),
            None => Err(format!("`{word}` is not a helper; there are process and thread")),
        }
    }
    fn choose(self, device: &mut PlannedDevice) {
        device.helper = self;
    }
}

impl Choice for Carrier {
    const FLAG: &str = "--carrier";
    const DEFAULT: Carrier = Carrier::Memory;
    fn of(word: &str) -> Result<Carrier, String> {
        match Carrier::ALL.into_iter().find(|carrier| carrier.name() == word) {
            Some(Carrier::InProcess) => {
                Err(format!("`{word}` is not a way to another process; --isolate none links devices into the VMM"))
            }
            Some(carrier) => Ok(carrier),
            None => Err(format!("`{word}` is not a carrier; there are memory, socket, pipe and virtio")),
        }
    }
    fn choose(self, device: &mut PlannedDevice) {
        device.carrier = self;
    }
}

impl<T: Choice> Default for PerDevice<T> {
    fn default() -> Self {
        PerDevice { all: T::DEFAULT, exceptions: Vec::new() }
    }
}

impl<T: Choice> std::str::FromStr for PerDevice<T> {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut spec = PerDevice::default();
        let mut for_all = 0;
        for part in text.split(',') {
            match part.split_once('=') {
                Some((device, word)) => spec.exceptions.push((device.to_owned(), T::of(word)?)),
                None => {
                    spec.all = T::of(part)?;
                    for_all += 1;
                }
            }
        }
        if for_all > 1 {
            return Err("two are given for all devices; give one, and DEVICE=… for exceptions".to_owned());
        }
        Ok(spec)
    }
}

impl<T: Choice> TryFrom<String> for PerDevice<T> {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl<T: Choice> PerDevice<T> {
    /// Applies the choice; refuses an exception for a device that is not there.
    pub fn apply(&self, devices: &mut [PlannedDevice]) -> Result<()> {
        for device in devices.iter_mut() {
            self.all.choose(device);
        }
        for (name, choice) in &self.exceptions {
            let mut found = false;
            for device in devices.iter_mut().filter(|device| device.label == *name || device.device == *name) {
                choice.choose(device);
                found = true;
            }
            if !found {
                let have: Vec<&str> = devices.iter().map(|device| device.label.as_str()).collect();
                let (flag, have) = (T::FLAG, have.join(", "));
                return Err(usage!("{flag}: this machine has no device `{name}`; it has {have}"));
            }
        }
        Ok(())
    }
}

/// Applies `--carrier`, where it is given. Devices that are linked into the VMM have no way to choose.
pub fn apply_carrier(spec: Option<&CarrierSpec>, isolate: Isolate, devices: &mut [PlannedDevice]) -> Result<()> {
    match spec {
        Some(_) if isolate == Isolate::None => Err(usage!(
            "--carrier: with --isolate none a device is called in the VMM's own process; give one of the two"
        )),
        Some(spec) => spec.apply(devices),
        None => Ok(()),
    }
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
            initrd: self.initrd.or(file.initrd),
            cmdline: self.cmdline.or(file.cmdline),
            memory: self.memory.or(file.memory),
            cpus: self.cpus.or(file.cpus),
            disk: list(self.disk, file.disk),
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
        parse_size(text).ok_or_else(|| usage!("--memory {text}: give a number of bytes, or with K, M or G, as in 512M"))
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

    /// The machine's devices.
    pub fn devices(&self) -> Result<Vec<PlannedDevice>> {
        let mut devices: Vec<PlannedDevice> = Vec::new();
        for device in STANDARD {
            devices.push(planned(device, Vec::new(), Vec::new()));
        }
        for disk in &self.disk {
            let (path, readonly) = parse_disk(disk)?;
            let options = vec![Setting { name: "readonly".into(), value: if readonly { "on" } else { "off" }.into() }];
            devices.push(planned("virtio-block", options, vec![Backing::Path(PathBuf::from(path))]));
        }
        for spec in &self.device {
            let (name, options) = parse_device(spec)?;
            devices.push(planned(&name, options, Vec::new()));
        }
        label(&mut devices);
        apply_host_programs(&self.host_program, &mut devices)?;
        Ok(devices)
    }
}

/// `PATH[,readonly]`
pub fn parse_disk(disk: &str) -> Result<(&str, bool)> {
    match disk.rsplit_once(',') {
        Some((path, "readonly")) => Ok((path, true)),
        Some((_, other)) if !Path::new(disk).exists() => {
            Err(usage!("--disk {disk}: `{other}` is not an option of a disk; there is `readonly`"))
        }
        _ => Ok((disk, false)),
    }
}

/// The devices of every machine.
pub const STANDARD: [&str; 6] = ["uart16550", "mc146818", "i8042", "acpi-pm", "pvpanic", "virtio-entropy"];

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
        program: None,
        hostile: None,
    }
}

/// Names devices uniquely: the first by its kind, others with a number.
pub fn label(devices: &mut [PlannedDevice]) {
    for at in 0..devices.len() {
        let earlier = devices[..at].iter().filter(|other| other.device == devices[at].device).count();
        let name = &devices[at].device;
        devices[at].label = if earlier == 0 { name.clone() } else { format!("{name}.{earlier}") };
    }
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
    Ok((name.to_owned(), options.collect()))
}

fn parse_size(text: &str) -> Option<u64> {
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
    fn sizes_have_units() {
        assert_eq!(parse_size("512M"), Some(512 << 20));
        assert_eq!(parse_size("1048576"), Some(1 << 20));
        assert_eq!(parse_size("6g"), Some(6 << 30));
        assert_eq!(parse_size("M"), None);
        assert_eq!(parse_size("12Q"), None);
        assert_eq!(parse_size("99999999999999G"), None);
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
    fn a_sandbox_exception_for_an_absent_device_is_refused() {
        let mut devices = RunArgs::default().devices().unwrap();
        let spec: SandboxSpec = "seccomp,floppy=off".parse().unwrap();
        let sentence = spec.apply(&mut devices).unwrap_err().to_string();
        assert!(sentence.contains("floppy") && sentence.contains("uart16550"), "{sentence}");
    }

    #[test]
    fn a_sandbox_exception_reaches_its_device_alone() {
        let mut devices = RunArgs::default().devices().unwrap();
        "process,uart16550=off".parse::<SandboxSpec>().unwrap().apply(&mut devices).unwrap();
        for device in devices {
            let wanted = if device.device == "uart16550" { Level::Off } else { Level::Process };
            assert_eq!(device.level, wanted, "{}", device.label);
        }
    }

    #[test]
    fn a_carrier_is_chosen_for_all_and_for_single_devices() {
        let mut devices = RunArgs::default().devices().unwrap();
        let spec: CarrierSpec = "socket,i8042=virtio".parse().unwrap();
        apply_carrier(Some(&spec), Isolate::Device, &mut devices).unwrap();
        for device in &devices {
            let wanted = if device.device == "i8042" { Carrier::Virtio } else { Carrier::Socket };
            assert_eq!(device.carrier, wanted, "{}", device.label);
        }
        let sentence = apply_carrier(Some(&spec), Isolate::None, &mut devices).unwrap_err().to_string();
        assert!(sentence.contains("--isolate none"), "{sentence}");
        assert!("in-process".parse::<CarrierSpec>().err().unwrap().contains("--isolate none"));
        assert!("pigeon".parse::<CarrierSpec>().err().unwrap().contains("memory, socket, pipe and virtio"));
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

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
