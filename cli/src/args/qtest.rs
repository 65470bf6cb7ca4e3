//! The flags of `cofferdam qtest`.

use super::{CarrierSpec, HelperSpec, IsolateSpec, LayerArgs, SandboxSpec, apply_carrier, usage};
use crate::machine::{self, DRIVEN, label, named, parse_size, planned};
use crate::qtest::{Actions, Link, Setup};
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
    /// What firmware is told that the machine is called.
    #[arg(skip)]
    pub uuid: [u8; 16],
    /// Where the first serial port's bytes go, if anywhere.
    #[arg(skip)]
    pub serial: Option<String>,
    /// Where the printer's bytes go, if anywhere.
    #[arg(skip)]
    pub parallel: Option<String>,
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
            uuid: [0; 16],
            serial: None,
            parallel: None,
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
    /// Has `file` be in a drive of this kind.
    pub fn insert(&mut self, interface: &str, file: &str, is_cd: bool, readonly: bool) -> Result<()> {
        let image = if readonly { format!("{file},readonly") } else { file.to_owned() };
        match interface {
            "floppy" => self.floppy.push(image),
            // A disk without a medium is no disk.
            "ide" if !is_cd && file == "none" => {}
            "ide" if is_cd => self.cdrom.push(file.to_owned()),
            "ide" => self.ide.push(image),
            // A drive that no device has.
            "none" => {}
            other => return Err(usage!("-drive if={other},file={file}: there is no such drive here")),
        }
        Ok(())
    }

    /// The machine that is driven.
    pub fn setup(&self) -> Result<Setup> {
        let mut devices: Vec<PlannedDevice> = Vec::new();
        if self.machine == MachineSpec::Pc {
            devices.extend(DRIVEN.iter().map(|device| planned(device, Vec::new(), Vec::new())));
            devices.push(machine::floppy(&self.floppy)?);
            devices.push(drives::ide(&self.ide, &self.cdrom)?);
            devices.push(planned("fw-cfg", Vec::new(), Vec::new()));
            for (name, to) in [("uart16550", &self.serial), ("parallel", &self.parallel)] {
                let ports = devices.iter_mut().filter(|device| device.device == name);
                ports.for_each(|port| {
                    port.outlet = to.as_ref().map_or(Outlet::Console, |path| Outlet::File(path.into()))
                });
            }
        } else if !self.fw_cfg.is_empty() {
            return Err(usage!("--fw-cfg: this machine has no such device; give --machine pc"));
        }
        for spec in &self.device {
            devices.push(named(spec)?);
        }
        // What test programs call the drives of an IDE cable.
        let bays = devices.iter().filter(|device| device.device == "piix-ide").flat_map(|device| &device.bays);
        let named = bays.map(|bay| (format!("ide{}-cd{}", bay.number / 2, bay.number % 2), bay.name.clone()));
        let drive_names = named.collect();
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
        firmware::tell(&mut devices, memory_bytes, self.cpus, self.uuid, extras)?;
        let plan = Plan {
            name: format!("qtest-{}", std::process::id()),
            cpus: 1,
            memory_bytes,
            boot: BootPlan::Driven(if is_virtual { Clock::Virtual } else { Clock::Real }),
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
        Ok(Setup {
            plan,
            is_virtual,
            test: self.socket.clone().map_or(Link::Stdio, Link::Listen),
            monitors: Vec::new(),
            log: None,
            actions: Actions::default(),
            drive_names,
            runs: true,
        })
    }
}
