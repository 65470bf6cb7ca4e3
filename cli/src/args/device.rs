//! The flags of `cofferdam device`.

use super::{Choice, SandboxSpec};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use schema::lane::Carrier;

#[derive(ClapArgs)]
pub struct DeviceArgs {
    #[command(subcommand)]
    pub what: DeviceKind,
}

#[derive(Subcommand)]
pub enum DeviceKind {
    /// Start a plugin in its sandbox, with nothing but its channel, and print what it declares.
    Describe(DescribeArgs),
    /// The conformance kit: try a plugin, and say what it does wrong. Exit status 0: nothing.
    Check(CheckArgs),
    /// Make accesses to a device from a script, without a machine: `read RANGE OFFSET WIDTH NOW`, `write RANGE OFFSET WIDTH VALUE
    /// NOW`, `alarm NOW`, `button NOW`, `reset NOW`, `quiesce NOW`, `restart`, a line each, and print the answers. `store ADDRESS
    /// BYTES` and `load ADDRESS COUNT` write and read guest memory, `vectors` shows how often each was signalled.
    Drive(DriveArgs),
    /// Make a folder with a device to begin with, which works, and the SDK: no network is needed.
    New(NewArgs),
}

#[derive(ClapArgs)]
pub struct DescribeArgs {
    /// The plugin, with options if it is to have any: `./sensor.py,base=0x440`.
    #[arg(value_name = "PATH[,OPTION=VALUE]…")]
    pub plugin: String,
    /// The manifest as an object, instead of the table.
    #[arg(long)]
    pub json: bool,
    /// How strictly it is confined.
    #[arg(long, default_value = "seccomp", value_name = "LEVEL")]
    pub sandbox: SandboxSpec,
}

#[derive(ClapArgs)]
pub struct CheckArgs {
    /// The plugin, with options if it is to have any.
    #[arg(value_name = "PATH[,OPTION=VALUE]…")]
    pub plugin: String,
    /// A list with one object for each check, instead of the table.
    #[arg(long)]
    pub json: bool,
    /// Only this check; may be given more than once.
    #[arg(long, value_name = "CHECK")]
    pub only: Vec<String>,
    /// How long accesses are made up, in seconds. [default: 10]
    #[arg(long, value_name = "N")]
    pub seconds: Option<u32>,
    /// How strictly it is confined.
    #[arg(long, default_value = "seccomp", value_name = "LEVEL")]
    pub sandbox: SandboxSpec,
}

#[derive(ClapArgs)]
pub struct DriveArgs {
    /// The device, as `cofferdam devices` names it, or the plugin, with options.
    #[arg(value_name = "NAME|PATH[,OPTION=VALUE]…")]
    pub device: String,
    /// What its lane runs over: memory or socket.
    #[arg(long, default_value = "memory", value_parser = Carrier::of)]
    pub carrier: Carrier,
    /// How strictly it is confined.
    #[arg(long, default_value = "seccomp", value_name = "LEVEL")]
    pub sandbox: SandboxSpec,
}

#[derive(ClapArgs)]
pub struct NewArgs {
    /// The device, and the folder that is made for it.
    pub name: String,
    /// The language.
    #[arg(long, value_enum)]
    pub lang: NewLanguage,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NewLanguage {
    /// Python 3.11 or later, with pycapnp.
    Python,
    /// C++17, with libcapnp.
    Cpp,
    /// Rust, with std alone.
    Rust,
}
