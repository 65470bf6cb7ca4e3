//! The flags of `cofferdam qtest`.

use super::firmware::read_image;
use super::{CarrierSpec, HelperSpec, IsolateSpec, LayerArgs, SandboxSpec, apply_carrier, usage};
use crate::drives::Places;
use crate::firmware::Told;
use crate::machine::{self, DRIVEN, label, named, parse_size, planned};
use crate::qtest::{Actions, DriveName, Driven, Link, Names, Setup, Ways, Whose};
use crate::{drives, firmware, rtc};
use anyhow::Result;
use clap::{Args as ClapArgs, ValueEnum};
use schema::play::Clock;
use std::path::PathBuf;
use vmm::supervisor::{BootPlan, CPUS_MAX, DEADLINE, Isolate, Outlet, Plan, PlannedDevice, RESTARTS};

#[derive(ClapArgs)]
pub struct QtestArgs {
    /// Listen at this socket for the test program. [default: standard input and output]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The machine: a PC with its usual devices, or none of them.
    #[arg(long, value_enum, default_value = "pc")]
    pub machine: MachineSpec,
    /// Guest memory: a number of bytes, or with K, M or G.
    #[arg(long, value_name = "SIZE", default_value = "128M")]
    pub memory: String,
    /// A diskette's image for drive A; given again for drive B. `PATH,readonly` to only read it.
    #[arg(long, value_name = "PATH[,readonly]")]
    pub floppy: Vec<String>,
    /// A disk's image for the next place on the IDE cables. `PATH,readonly` to only read it.
    #[arg(long, value_name = "PATH[,readonly]")]
    pub ide: Vec<String>,
    /// A CD's image for a drive on the second IDE cable.
    #[arg(long, value_name = "PATH")]
    pub cdrom: Vec<String>,
    /// An item of the firmware configuration device, as for `run`. May be repeated.
    #[arg(long, value_name = "name=NAME,file=PATH|string=TEXT")]
    pub fw_cfg: Vec<String>,
    /// Processors that firmware is told of; none runs.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u8).range(1..=CPUS_MAX as i64))]
    pub cpus: u8,
    /// An image of firmware: nothing runs it, but it is where a processor would find it. [default: an empty ROM]
    #[arg(long, value_name = "PATH")]
    pub bios: Option<PathBuf>,
    /// What firmware is told beyond that.
    #[arg(skip)]
    pub told: Option<Told>,
    /// What firmware is to boot.
    #[arg(skip)]
    pub boot: BootOrder,
    /// A PC has only what was asked for of the things that it usually has: no serial and parallel ports.
    #[arg(skip)]
    pub is_bare: bool,
    /// The first serial port, and the printer's, if they were asked for.
    #[arg(skip)]
    pub serial: Option<Port>,
    /// See `serial`.
    #[arg(skip)]
    pub parallel: Option<Port>,
    /// What is at which place of the IDE cables, if that was said.
    #[arg(skip)]
    pub places: Option<Places>,
    /// Types of diskette drives that are there without a diskette, as the memory of the clock has them.
    #[arg(skip)]
    pub diskette_drives: Option<u8>,
    /// Disks over virtio.
    #[arg(skip)]
    pub disks: Vec<PlannedDevice>,
    /// Another device, with its options, as for `run`. May be repeated.
    #[arg(long, value_name = "NAME[,OPTION=VALUE]…")]
    pub device: Vec<String>,
    /// Whose time it is: `virtual` passes by command alone, and the same commands have the same answers.
    #[arg(long, value_enum, default_value = "virtual")]
    pub clock: ClockSpec,
    /// When the real-time clock begins: utc, localtime, or a date as in 2001-02-28T23:59:58.
    #[arg(long, value_name = "BASE", default_value = "utc")]
    pub rtc: String,
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
    #[command(flatten)]
    pub layers: LayerArgs,
}

/// What firmware is to boot, in letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootOrder {
    /// At any time.
    pub order: String,
    /// This time only: not after a reset.
    pub once: Option<String>,
    /// A diskette without a signature too.
    pub unchecked: bool,
}

impl Default for BootOrder {
    /// A disk, a diskette, a CD.
    fn default() -> BootOrder {
        BootOrder { order: "cad".to_owned(), once: None, unchecked: false }
    }
}

/// A port whose bytes go somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// Nowhere.
    Nowhere,
    /// To our standard output.
    Output,
    /// To this file.
    File(String),
}

impl Port {
    fn outlet(&self) -> Outlet {
        match self {
            Port::Nowhere => Outlet::File("/dev/null".into()),
            Port::Output => Outlet::Console,
            Port::File(path) => Outlet::File(path.into()),
        }
    }
}

/// Bytes of an empty ROM, and what is in it: a part that was erased reads as ones.
const EMPTY_ROM: usize = 64 << 10;
const ERASED: u8 = 0xff;

/// Which machine is driven.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MachineSpec {
    /// A PC with its usual devices.
    Pc,
    /// No devices but those that are named.
    None,
}

/// Whose time it is.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClockSpec {
    /// The outside's.
    Real,
    /// Nobody's.
    Virtual,
}

impl Default for QtestArgs {
    /// As if no flag were given.
    fn default() -> QtestArgs {
        QtestArgs {
            socket: None,
            machine: MachineSpec::Pc,
            memory: "128M".to_owned(),
            floppy: Vec::new(),
            ide: Vec::new(),
            cdrom: Vec::new(),
            fw_cfg: Vec::new(),
            cpus: 1,
            bios: None,
            told: None,
            boot: BootOrder::default(),
            is_bare: false,
            serial: None,
            parallel: None,
            places: None,
            diskette_drives: None,
            disks: Vec::new(),
            device: Vec::new(),
            clock: ClockSpec::Virtual,
            rtc: "utc".to_owned(),
            sandbox: SandboxSpec::default(),
            helper: HelperSpec::default(),
            isolate: IsolateSpec::Device,
            carrier: None,
            layers: LayerArgs { require: Vec::new(), allow_missing: Vec::new(), label: None },
        }
    }
}

impl QtestArgs {
    /// The machine that is driven.
    pub fn setup(&self) -> Result<Setup> {
        let mut devices: Vec<PlannedDevice> = Vec::new();
        if self.machine == MachineSpec::Pc {
            for (name, port) in [("uart16550", &self.serial), ("parallel", &self.parallel)] {
                let usual = if self.is_bare { None } else { Some(&Port::Nowhere) };
                let port = port.as_ref().or(usual);
                devices.extend(
                    port.map(|port| PlannedDevice { outlet: port.outlet(), ..planned(name, Vec::new(), Vec::new()) }),
                );
            }
            devices.extend(DRIVEN.iter().map(|device| planned(device, Vec::new(), Vec::new())));
            devices.push(machine::floppy(&self.floppy)?);
            devices.push(match &self.places {
                Some(places) => drives::placed(places),
                None => drives::ide(&self.ide, &self.cdrom)?,
            });
            devices.push(planned("fw-cfg", Vec::new(), Vec::new()));
        } else if !self.fw_cfg.is_empty() {
            return Err(usage!("--fw-cfg: this machine has no such device; give --machine pc"));
        }
        for spec in &self.device {
            devices.push(named(spec)?);
        }
        // What test programs call the drives of an IDE cable.
        let bays = devices.iter().filter(|device| device.device == "piix-ide").flat_map(|device| &device.bays);
        let named = |bay: &vmm::supervisor::Bay| DriveName {
            drive: bay.name.clone(),
            name: format!("ide{}-cd{}", bay.number / 2, bay.number % 2),
            whose: Whose::Place,
        };
        let names = Names { drives: bays.map(named).collect(), ..Names::default() };
        devices.extend(self.disks.iter().cloned());
        rtc::begin(&mut devices, &self.rtc)?;
        label(&mut devices);
        self.sandbox.apply(&mut devices)?;
        self.helper.apply(&mut devices)?;
        let isolate = Isolate::from(self.isolate);
        apply_carrier(self.carrier.as_ref(), isolate, &mut devices)?;
        let is_virtual = self.clock == ClockSpec::Virtual;
        let memory = &self.memory;
        let memory_bytes = parse_size(memory)
            .ok_or_else(|| usage!("--memory {memory}: give a number of bytes, or with K, M or G, as in 128M"))?;
        let extras = self.fw_cfg.iter().map(|item| firmware::parse_item(item)).collect::<Result<Vec<_>>>()?;
        let told = self.told.clone().unwrap_or_else(|| Told::new(self.cpus));
        firmware::tell(&mut devices, memory_bytes, &told, extras)?;
        self.tell_clock(&mut devices, memory_bytes, told.cpus)?;
        let rom = match (&self.bios, self.machine) {
            (Some(path), _) => Some(read_image("--bios", path)?),
            (None, MachineSpec::Pc) => Some(vec![ERASED; EMPTY_ROM]),
            (None, MachineSpec::None) => None,
        };
        let plan = Plan {
            name: format!("qtest-{}", std::process::id()),
            cpus: 1,
            memory_bytes,
            boot: BootPlan::Driven { clock: if is_virtual { Clock::Virtual } else { Clock::Real }, rom },
            devices,
            display: None,
            isolate,
            level: self.sandbox.all,
            demands: self.layers.demands()?,
            deadline: DEADLINE,
            restarts: RESTARTS,
            kvm: false,
            pins: None,
        };
        let machine = Driven {
            plan,
            is_virtual,
            is_pc: self.machine == MachineSpec::Pc,
            order_after: self.boot.once.as_ref().map(|_| self.boot.order.clone()),
            runs: true,
        };
        let ways = Ways {
            test: self.socket.clone().map_or(Link::Stdio, Link::Listen),
            monitors: Vec::new(),
            log: None,
            prints: self.serial == Some(Port::Output),
        };
        Ok(Setup { machine, ways, names, actions: Actions::default() })
    }

    /// What firmware finds in the memory of the clock.
    fn tell_clock(&self, devices: &mut [PlannedDevice], memory_bytes: u64, cpus: u8) -> Result<()> {
        /// A drive for diskettes of 1.44 MB.
        const USUAL_DRIVE: u8 = 4;
        machine::tell_clock(devices, memory_bytes, cpus, &self.floppy)?;
        if self.floppy.is_empty() {
            let usual = if self.is_bare { 0 } else { USUAL_DRIVE << 4 };
            machine::set_clock(devices, "floppies", self.diskette_drives.unwrap_or(usual).to_string());
        }
        machine::set_clock(devices, "boot", self.boot.once.as_ref().unwrap_or(&self.boot.order).clone());
        machine::set_clock(devices, "unchecked", u8::from(self.boot.unchecked).to_string());
        drives::tell_clock(devices);
        Ok(())
    }
}
