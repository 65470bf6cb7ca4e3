//! What a machine is started from, opened by the one process that may.

use super::mac::Mac;
use super::plan::BootPlan;
use crate::chipset::shadow::{ROM_MAX, ROM_UNIT};
use anyhow::{Context, Result, anyhow};
use imc::{BlockFile, Capability, Frozen, Kvm, Region};
use schema::Handle;
use schema::play::Clock;
use schema::vmm::Boot;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

/// `/dev/kvm`, or a sentence.
pub fn open_kvm() -> Result<Kvm> {
    let opened = File::options().read(true).write(true).open("/dev/kvm");
    let file = opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            anyhow!("/dev/kvm: this machine has none; load the kvm module, or enable virtualization in its firmware")
        }
        std::io::ErrorKind::PermissionDenied => {
            anyhow!(
                "/dev/kvm: you may not open it; an administrator can add you to the group that owns it (often `kvm`)"
            )
        }
        _ => anyhow!("/dev/kvm: cannot be opened: {error}"),
    })?;
    Kvm::new(file.into()).map_err(|_| anyhow!("/dev/kvm: is not the KVM device"))
}

/// What the machine boots, opened.
pub enum OpenBoot {
    None,
    Driven { clock: Clock, rom: Option<Region<Frozen>> },
    Kernel { kernel: BlockFile, initrd: Option<BlockFile>, cmdline: String },
    Flat { image: BlockFile, base: u64 },
    Firmware { rom: Region<Frozen> },
}

impl OpenBoot {
    /// Opens what the plan names, for a VMM whose label is one of `mac`.
    pub fn open(plan: &BootPlan, mac: &Mac) -> Result<OpenBoot> {
        Ok(match plan {
            BootPlan::None => OpenBoot::None,
            BootPlan::Driven { clock, rom } => OpenBoot::Driven {
                clock: *clock,
                rom: rom.as_ref().map(|image| open_rom("-bios", image, mac)).transpose()?,
            },
            BootPlan::Kernel { kernel, initrd, cmdline } => {
                anyhow::ensure!(
                    cmdline.len() <= schema::vmm::CMDLINE_MAX && !cmdline.contains('\0'),
                    "--cmdline: has {} bytes, a kernel takes at most {}",
                    cmdline.len(),
                    schema::vmm::CMDLINE_MAX
                );
                OpenBoot::Kernel {
                    kernel: open_image("kernel", kernel, mac)?,
                    initrd: initrd.as_ref().map(|path| open_image("initrd", path, mac)).transpose()?,
                    cmdline: cmdline.clone(),
                }
            }
            BootPlan::Flat { image, base } => {
                let mut file = File::from(nix::sys::memfd::memfd_create(
                    c"cofferdam:guest",
                    nix::sys::memfd::MFdFlags::MFD_CLOEXEC,
                )?);
                file.write_all(image)?;
                let again = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
                OpenBoot::Flat { image: BlockFile::new(mac.lend(again)?)?, base: *base }
            }
            BootPlan::Firmware { image } => OpenBoot::Firmware { rom: open_rom("--firmware", image, mac)? },
        })
    }

    /// What the VMM is told of it; its descriptors are added to `descriptors`.
    pub fn body<'a>(&'a self, descriptors: &mut Vec<BorrowedFd<'a>>) -> Boot {
        match self {
            OpenBoot::None => Boot::None,
            OpenBoot::Driven { clock, rom } => Boot::Driven(*clock, rom.as_ref().map(|rom| push(descriptors, rom))),
            OpenBoot::Kernel { kernel, initrd, cmdline } => Boot::Kernel {
                kernel: push(descriptors, kernel),
                initrd: initrd.as_ref().map(|initrd| push(descriptors, initrd)),
                cmdline: cmdline.clone(),
            },
            OpenBoot::Flat { image, base } => Boot::Flat { image: push(descriptors, image), base: *base },
            OpenBoot::Firmware { rom } => Boot::Firmware { rom: push(descriptors, rom) },
        }
    }
}

/// A ROM with this image, which `flag` has given.
fn open_rom(flag: &str, image: &[u8], mac: &Mac) -> Result<Region<Frozen>> {
    let bytes = image.len() as u64;
    anyhow::ensure!(
        bytes > 0 && bytes <= ROM_MAX && bytes.is_multiple_of(ROM_UNIT),
        "{flag}: has {bytes} bytes; an image of a ROM has a multiple of {}K, at most {}M",
        ROM_UNIT >> 10,
        ROM_MAX >> 20
    );
    let rom = Region::freeze("cofferdam:rom", image).context("making the firmware's ROM")?;
    mac.claim_region(rom.as_fd())?;
    Ok(rom)
}

fn open_image(what: &str, path: &Path, mac: &Mac) -> Result<BlockFile> {
    let file = File::open(path).with_context(|| format!("{what} {}: cannot be opened", path.display()))?;
    let found = file.metadata()?;
    anyhow::ensure!(
        found.is_file(),
        "{what} {}: is {}, not a file",
        path.display(),
        if found.is_dir() { "a folder" } else { "something else" }
    );
    anyhow::ensure!(found.len() > 0, "{what} {}: is empty", path.display());
    Ok(BlockFile::new(mac.lend(file)?)?)
}

/// Adds a capability to a message's descriptors; returns its handle.
pub fn push<'a>(descriptors: &mut Vec<BorrowedFd<'a>>, capability: &'a impl Capability) -> Handle {
    let handle = capability.handle(descriptors.len() as u8);
    descriptors.push(capability.as_fd());
    handle
}
