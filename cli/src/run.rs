//! `cofferdam run`: a virtual machine in the foreground.

pub mod attack;
pub mod bench;
pub mod demo;
mod guests;

use crate::args::{RunArgs, apply_carrier, read_image, usage};
use crate::catalogue::BuiltIn;
use crate::display;
use crate::firmware::order::{self, BOOT_ORDER};
use crate::firmware::{self, Extra};
use crate::nic;
use anyhow::{Context, Result};
use sandbox::HelperForm;
use schema::host::Level;
use std::time::Duration;
use vmm::supervisor::operator::Operators;
use vmm::supervisor::{BootPlan, Console, Ended, Isolate, Journal, Plan, PlannedDevice, Signals, Vm, runtime};

/// The guest said it panicked.
const PANICKED: u8 = 3;
/// The guest was reset, and `--no-reboot` was given.
const RESET: u8 = 4;
/// How long the loop sleeps when nothing happens; everything that matters wakes it.
const IDLE: Duration = Duration::from_secs(60);

/// Runs the command.
pub fn run(asked: RunArgs) -> Result<u8> {
    let asked = asked.with_config()?;
    let mut plan = plan(&asked)?;
    let console_plan = asked.console_plan()?;
    // What no machine can be is a matter of usage, and said before anything is opened.
    let manifests = plan.manifests(&BuiltIn).map_err(|error| usage!("{error:#}"))?;
    plan.groups(&manifests).map_err(|error| usage!("{error:#}"))?;
    plan.check_demands().map_err(|error| usage!("{error:#}"))?;
    plan.shown(&manifests).map_err(|error| usage!("{error:#}"))?;

    // Until now there was nothing that a signal's default would leave behind, and a plugin that was waited for.
    let signals = &Signals::hold()?;
    let mut operators = Operators::new(runtime::Entry::claim(&plan.name)?);
    let mut console = Console::open(&console_plan)?;
    warn(&plan);
    plan.open_networks()?;
    if let Some(display) = &plan.display {
        eprintln!("cofferdam: viewers of {} connect to 127.0.0.1, port {}", plan.name, display.open()?.port);
    }
    plan.shed_privileges()?;
    let mut journal = Journal::default();
    loop {
        let mut vm = Vm::start(&plan, &BuiltIn, signals)?;
        vm.journal().follow(journal);
        console.raw();
        let ended = loop {
            if let Some(ended) = vm.step(&mut console, Some(&mut operators), signals, IDLE)? {
                break ended;
            }
        };
        vm.end();
        vm.keep_media(&mut plan);
        journal = std::mem::take(vm.journal());
        return match ended {
            Ended::Reset if !asked.no_reboot => continue,
            Ended::Reset => Ok(RESET),
            Ended::PoweredOff | Ended::Stopped => Ok(0),
            Ended::Panicked => Ok(PANICKED),
            // The convention of the PC debug-exit port: odd, so that it is never taken for success.
            Ended::Exit(code) => Ok((code << 1 | 1) as u8),
            Ended::Signal(name) => Err(anyhow::anyhow!("ended by {name}")),
            Ended::Failed(sentence) => Err(anyhow::anyhow!("{sentence}")),
        };
    }
}

fn plan(asked: &RunArgs) -> Result<Plan> {
    let boot = match (&asked.firmware, &asked.kernel, &asked.flat) {
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
            return Err(usage!("--firmware: boots from a medium; leave --kernel and --flat out"));
        }
        (Some(firmware), None, None) => BootPlan::Firmware { image: read_image("--firmware", firmware)? },
        (None, Some(kernel), _) => BootPlan::Kernel {
            kernel: kernel.clone(),
            initrd: asked.initrd.clone(),
            cmdline: asked.cmdline.clone().unwrap_or_else(|| "console=ttyS0".to_owned()),
        },
        (None, None, Some(flat)) => BootPlan::Flat {
            image: std::fs::read(flat).with_context(|| format!("--flat {}: cannot be read", flat.display()))?,
            base: guests::BASE,
        },
        (None, None, None) => {
            return Err(usage!("give --kernel FILE or --firmware FILE; `cofferdam demo` needs no files"));
        }
    };
    let mut devices = asked.devices()?;
    let sandbox = asked.sandbox.clone().unwrap_or_default();
    sandbox.apply(&mut devices)?;
    asked.helper.clone().unwrap_or_default().apply(&mut devices)?;
    let isolate = asked.isolate.map_or(Isolate::Device, Isolate::from);
    apply_carrier(asked.carrier.as_ref(), isolate, &mut devices)?;
    crate::device::ask(&mut devices, &asked.demands()?)?;
    let told = firmware::Told::new(asked.cpus.unwrap_or(1));
    if asked.firmware.is_some() {
        let manifests = firmware::manifests(&devices)?;
        let mut extras = firmware::option_roms(&manifests)?;
        for card in &asked.nic {
            // One is enough for all cards that it is for.
            let rom = nic::option_rom(card, asked.boots_from_network())?;
            extras.extend(rom.filter(|rom| extras.iter().all(|extra| extra.name != rom.name)));
        }
        for item in &asked.fw_cfg {
            extras.push(firmware::parse_item(item)?);
        }
        if let Some(letters) = &asked.boot {
            let content = order::describe(letters, &devices, &manifests, &extras);
            extras.push(Extra { name: BOOT_ORDER.to_owned(), content });
        }
        firmware::tell(&mut devices, asked.memory_bytes()?, &told, extras)?;
    } else if asked.boot.is_some() || !asked.fw_cfg.is_empty() || asked.debug_console.is_some() {
        return Err(usage!("--boot, --fw-cfg and --debug-console are for firmware; give --firmware FILE as well"));
    } else {
        // Firmware's device may be asked for without firmware.
        firmware::tell(&mut devices, asked.memory_bytes()?, &told, Vec::new())?;
    }
    let name = asked.vm_name();
    runtime::check_name(&name).map_err(|error| usage!("{error:#}"))?;
    Ok(Plan {
        name,
        cpus: asked.cpus.unwrap_or(1),
        memory_bytes: asked.memory_bytes()?,
        boot,
        devices,
        display: asked.display.as_deref().map_or(Ok(None), display::parse)?,
        isolate,
        level: sandbox.all,
        demands: asked.demands()?,
        deadline: asked.deadline()?,
        restarts: asked.restarts(),
        kvm: true,
        pins: None,
    })
}

/// Says what is given up, where something is.
fn warn(plan: &Plan) {
    if plan.isolate == Isolate::None {
        eprintln!(
            "cofferdam: --isolate none: the devices are linked into the VMM; one that is broken takes the whole VM, and all \
             that the VMM holds"
        );
    }
    let threaded = |device: &&PlannedDevice| device.level == Level::Strict && device.helper == HelperForm::Thread;
    for device in plan.devices.iter().filter(threaded).filter(|_| plan.isolate != Isolate::None) {
        eprintln!(
            "cofferdam: --helper thread: {} and a helper that it may need share their memory, which is no boundary",
            device.label
        );
    }
    for device in plan.devices.iter().filter(|device| device.level == Level::Off && plan.isolate != Isolate::None) {
        eprintln!("cofferdam: --sandbox off: {} runs unconfined, with all your rights", device.label);
    }
}
