//! The flags of `cofferdam bench`.

use clap::{Args as ClapArgs, Subcommand};
use std::path::PathBuf;

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
    /// A guest's reads from a diskette and an IDE disk, against the same devices linked into the VMM, and these against QEMU's.
    Disks(BenchDisks),
    /// An access to one device in several languages, and a kernel's boot beside each.
    Plugins(BenchPlugins),
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
pub struct BenchDisks {
    /// The QEMU to compare with. [default: qemu-system-x86_64, where it is on the path]
    #[arg(long, value_name = "PATH")]
    pub qemu: Option<PathBuf>,
    #[command(flatten)]
    pub common: BenchCommon,
}

#[derive(ClapArgs)]
pub struct BenchPlugins {
    /// Plugins that are an IB700 watchdog, by their paths.
    #[arg(value_name = "PLUGIN")]
    pub plugins: Vec<String>,
    /// Kernel to boot beside each.
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Initial RAM disk; its first program must power off.
    #[arg(long, value_name = "FILE", requires = "kernel")]
    pub initrd: Option<PathBuf>,
    /// Kernel command line.
    #[arg(long, value_name = "WORDS", default_value = "console=ttyS0 quiet panic=-1")]
    pub cmdline: String,
    #[command(flatten)]
    pub common: BenchCommon,
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
