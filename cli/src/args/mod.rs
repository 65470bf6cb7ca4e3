//! The command line, and `--config`, which says the same as the flags of `run`.

mod bench;
mod device;
mod display;
mod firmware;
mod layers;
mod media;
mod per_device;
mod qtest;
mod run;

pub use bench::{BenchArgs, BenchBeside, BenchCommon, BenchDisks, BenchKind, BenchPlugins};
pub use device::{CheckArgs, DescribeArgs, DeviceArgs, DeviceKind, DriveArgs, NewArgs, NewLanguage};
pub use display::{ScreenshotArgs, SendkeysArgs, SendmouseArgs};
pub use firmware::{find_image, read_image};
pub use layers::LayerArgs;
pub use media::{EjectArgs, InsertArgs};
pub use per_device::{CarrierSpec, Choice, HelperSpec, SandboxSpec, apply_carrier};
pub use qtest::{BootOrder, MachineSpec, Port, QtestArgs};
pub use run::{IsolateSpec, RunArgs};

use anyhow::Result;
use clap::{Args as ClapArgs, CommandFactory, Parser, Subcommand};
use schema::host::Level;
use std::path::PathBuf;

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
    /// Drive a machine without a processor from a test program, over the qtest text protocol.
    Qtest(Box<QtestArgs>),
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
    /// Write what a virtual machine's display shows to a PNG file.
    Screenshot(ScreenshotArgs),
    /// Take the medium out of a drive.
    Eject(EjectArgs),
    /// Put a medium into a drive, in place of the one that is there.
    Insert(InsertArgs),
    /// Type at a virtual machine's keyboard.
    Sendkeys(SendkeysArgs),
    /// Move a virtual machine's mouse, press its buttons and turn its wheel.
    Sendmouse(SendmouseArgs),
    /// Print what a virtual machine's processes have logged.
    Logs(VmArgs),
    /// List the devices there are, from their manifests.
    Devices(DevicesArgs),
    /// Plugins: devices that are programs of their own, in any language.
    Device(DeviceArgs),
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
    /// The device, as `cofferdam devices` names it, with options if it needs any; or `vmm`, `net-relay`, `display-relay`.
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
    #[arg(long, default_value = "seccomp", value_name = "LEVEL", value_parser = layers::whole_sandbox)]
    pub sandbox: Level,
    /// Let a script make a guest's accesses, without a virtual processor.
    #[arg(long)]
    pub no_kvm: bool,
    /// Make this attempt without its guards where it should have them: for tests of this command.
    #[arg(long, value_name = "ID", hide = true)]
    pub let_through: Option<String>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
