//! The files that the outer and the inner guests start from.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::kernel::Kernel;
use super::{GREEDY, Places, READ_SCREEN, plugins};
use crate::packages;

/// What the outer guest needs to be a host: KVM, its drive, taps. `ccp` is a part of the kernel in some builds.
const HOST_MODULES: &[&str] = &["ccp", "irqbypass", "kvm", "kvm-amd", "virtio_pci", "virtio_blk", "tun"];
/// The inner guest's drivers for our devices, as far as they are not a part of its kernel.
const GUEST_MODULES: &[&str] =
    &["virtio_pci", "virtio_blk", "virtio_net", "virtio-rng", "button", "evdev", "pvpanic-mmio"];
/// The same for the full kernel: what every machine has a device for.
const FULL_MODULES: &[&str] = &["virtio_pci", "virtio-rng", "button", "evdev"];
/// The full kernel's drivers that a guest loads when it wants them, with `load NAME [PARAMETER]…` (tests/nested/guest/load.sh).
/// A name added here is all that another module needs: those that it depends on are found in the kernel's own list.
const FULL_MODULES_ON_DEMAND: &[&str] = &[
    "floppy",
    "ata_piix",
    "sd_mod",
    "sr_mod",
    "isofs",
    "crc32c_generic",
    "ext4",
    "8139too",
    "8139cp",
    "virtio_blk",
    "virtio_net",
    "psmouse",
    "parport_pc",
    "lp",
    "ppdev",
    "ib700wdt",
    "pvpanic-pci",
    "bochs",
];
/// The inner guest's ext4 root: a busybox and some scripts.
const ROOT_BYTES: u64 = 32 << 20;
/// The outer guest's drive: program, kernel, initramfs and root image, with room for the program to grow.
const DRIVE_BYTES: u64 = 320 << 20;
/// What a PC starts with, in files of the distribution.
const FIRMWARE: &[&str] = &[
    "/usr/share/seabios/bios-256k.bin",
    "/usr/share/seabios/vgabios-stdvga.bin",
    "/usr/lib/grub-rescue/grub-rescue-floppy.img",
    "/usr/lib/grub-rescue/grub-rescue-cdrom.iso",
    "/boot/memtest86+x64.bin",
    "/usr/lib/ipxe/qemu/pxe-rtl8139.rom",
    "/usr/lib/ipxe/qemu/pxe-virtio.rom",
];
/// What a disk begins with to be booted by GRUB: its first sector, and, from the next one on, its core.
const GRUB_SECTOR: &str = "/usr/lib/grub/i386-pc/boot.img";
/// What the core holds: enough to read a file system of a partition, and to start Linux.
const GRUB_MODULES: &[&str] = &["biosdisk", "part_msdos", "ext2", "search", "configfile", "linux"];
/// What it does, without waiting for anybody: what the file `go` says, of whichever file system has it.
const GRUB_COMMANDS: &str = "search --no-floppy --file --set=root /go\nconfigfile /go\n";
/// The newest form of an SELinux policy that the oldest supported kernel, 6.1, reads.
const POLICY_VERSION: &str = "33";
/// The ordinary user that some scenarios become, and the one that passt becomes.
const PASSWD: &str =
    "root:x:0:0:root:/:/bin/sh\nguest:x:1000:1000:guest:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/:\n";
const GROUP: &str = "root:x:0:\nguest:x:1000:\nnogroup:x:65534:\n";

/// The kernels that guests run.
pub struct Kernels {
    /// The outer guest's, and most inner ones'.
    pub cloud: Kernel,
    /// An inner guest's that tries its own drivers on a PC's devices.
    pub full: Kernel,
}

/// What the outer machine is started with.
pub struct Images {
    /// The outer guest's kernel.
    pub kernel: PathBuf,
    /// The outer guest's initramfs.
    pub initramfs: PathBuf,
    /// The outer guest's drive, an ext4 image.
    pub drive: PathBuf,
}

impl Images {
    /// Builds them from the tree, the program and the kernels.
    pub fn build(places: &Places<'_>, kernels: &Kernels) -> Result<Self> {
        let folder = places.work.join("images");
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        let scripts = places.top.join("tests/nested");
        let busybox = packages::find("busybox").map_err(anyhow::Error::msg)?;

        let guest = folder.join("guest");
        busybox_root(&guest, &busybox)?;
        copy_scripts(&scripts.join("guest"), &guest.join("guest"))?;
        install(&scripts.join("guest/init"), &guest.join("sbin/init"))?;
        let root_image = folder.join("root.img");
        ext4(&guest, &root_image, ROOT_BYTES)?;

        let port_reader = plugins::port_reader(places)?;
        let guest_initramfs = |modules: &Modules<'_>| -> Result<Vec<u8>> {
            let mut archive = initramfs(&busybox, &scripts.join("guest/init"), modules)?;
            if let Some(program) = &port_reader {
                archive.program("bin/inw", program);
            }
            archive.folder("guest");
            for script in files(&scripts.join("guest"))? {
                archive.file(&format!("guest/{}", name_of(&script)), &std::fs::read(&script)?);
            }
            Ok(archive.finish())
        };

        let host = folder.join("host");
        busybox_root(&host, &busybox)?;
        copy_scripts(&scripts, &host.join("nested"))?;
        install(&places.program, &host.join("bin/cofferdam"))?;
        let greedy = places.program.with_file_name("examples").join(GREEDY);
        if greedy.is_file() {
            install(&greedy, &host.join("bin").join(GREEDY))?;
        }
        let read_screen = places.program.with_file_name("examples").join(READ_SCREEN);
        if read_screen.is_file() {
            install_with_libraries(&read_screen, &host)?;
        }
        firmware(&host)?;
        boot_loader(&folder, &host.join("grub"))?;
        security_modules(places, &host)?;
        plugins::install_all(places, &host)?;
        // QEMU is there to be compared with.
        for program in ["mkfs.ext4", "e2fsck", "dnsmasq", "passt", "qemu-system-x86_64"] {
            let found = packages::find(program).map_err(anyhow::Error::msg)?;
            install_with_libraries(&found, &host)?;
        }
        let Kernels { cloud, full } = kernels;
        std::fs::copy(&cloud.image, host.join("kernel"))?;
        let modules = Modules { kernel: cloud, at_boot: GUEST_MODULES, on_demand: &[] };
        std::fs::write(host.join("guest.cpio"), guest_initramfs(&modules)?)?;
        std::fs::copy(&full.image, host.join("kernel-full"))?;
        let modules = Modules { kernel: full, at_boot: FULL_MODULES, on_demand: FULL_MODULES_ON_DEMAND };
        std::fs::write(host.join("guest-full.cpio"), guest_initramfs(&modules)?)?;
        std::fs::copy(&root_image, host.join("root.img"))?;
        std::fs::create_dir_all(host.join("etc"))?;
        std::fs::write(host.join("etc/passwd"), PASSWD)?;
        std::fs::write(host.join("etc/group"), GROUP)?;
        let drive = folder.join("drive.img");
        ext4(&host, &drive, DRIVE_BYTES)?;

        let initramfs_file = folder.join("host.cpio");
        let modules = Modules { kernel: cloud, at_boot: HOST_MODULES, on_demand: &[] };
        let archive = initramfs(&busybox, &scripts.join("host-init"), &modules)?;
        std::fs::write(&initramfs_file, archive.finish())?;
        Ok(Self { kernel: cloud.image.clone(), initramfs: initramfs_file, drive })
    }
}

/// Firmware, and what it boots, at the places where the program and the scripts look for it; scripts say what is missing.
fn firmware(host: &Path) -> Result<()> {
    for image in FIRMWARE.iter().map(Path::new).filter(|image| image.is_file()) {
        let to = host.join(image.strip_prefix("/").unwrap_or(image));
        std::fs::create_dir_all(to.parent().unwrap_or(host))?;
        std::fs::copy(image, to).with_context(|| format!("cannot copy {}", image.display()))?;
    }
    Ok(())
}

/// GRUB for a disk that a script makes, as two files of the folder `to`.
fn boot_loader(folder: &Path, to: &Path) -> Result<()> {
    let (commands, core) = (folder.join("grub.cfg"), to.join("core.img"));
    std::fs::create_dir_all(to)?;
    std::fs::copy(packages::find(GRUB_SECTOR).map_err(anyhow::Error::msg)?, to.join("boot.img"))?;
    std::fs::write(&commands, GRUB_COMMANDS)?;
    let mut command = Command::new(packages::find("grub-mkimage").map_err(anyhow::Error::msg)?);
    command.args(["--format", "i386-pc", "--prefix", "/", "--config"]).arg(&commands);
    let done = command.arg("--output").arg(&core).args(GRUB_MODULES).output()?;
    if !done.status.success() {
        bail!("grub-mkimage: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(())
}

/// What the scenarios of SELinux and AppArmor need, as far as this computer can make it: they say what is missing. The
/// program of tests has the name of the real one, by which the shipped profiles go.
fn security_modules(places: &Places<'_>, host: &Path) -> Result<()> {
    std::fs::create_dir_all(host.join("probe"))?;
    install(&places.program.with_file_name("sandbox_probe"), &host.join("probe/cofferdam"))?;
    if let Ok(parser) = packages::find("apparmor_parser") {
        install_with_libraries(&parser, host)?;
        copy_folder(Path::new("/etc/apparmor.d/abi"), &host.join("etc/apparmor.d/abi"))?;
    }
    if let Ok(compiler) = packages::find("secilc") {
        let module = Command::new(&places.program).args(["policy", "selinux"]).output()?;
        let written = host.join("probe/cofferdam.cil");
        std::fs::write(&written, module.stdout)?;
        let base = places.top.join("tests/nested/selinux-base.cil");
        let done = Command::new(compiler)
            .args(["--policyvers", POLICY_VERSION, "--mls", "true", "--filecontext", "/dev/null", "--output"])
            .args([&host.join("probe/policy"), &base, &written])
            .output()?;
        if !done.status.success() {
            bail!("secilc: {}", String::from_utf8_lossy(&done.stderr));
        }
    }
    Ok(())
}

/// A program with the libraries that the loader names, at the places where it looks for them.
pub(super) fn install_with_libraries(program: &Path, root: &Path) -> Result<()> {
    install(program, &root.join("bin").join(name_of(program)))?;
    install_libraries(program, root)
}

/// The libraries that the loader names, at the places where it looks for them.
pub(super) fn install_libraries(program: &Path, root: &Path) -> Result<()> {
    let list = Command::new("ldd").arg(program).output().context("ldd")?;
    for word in String::from_utf8_lossy(&list.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
        install(Path::new(word), &root.join(word.trim_start_matches('/')))?;
    }
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for file in files(from)? {
        std::fs::copy(&file, to.join(name_of(&file)))?;
    }
    Ok(())
}

/// Modules of a kernel, by their names.
struct Modules<'a> {
    kernel: &'a Kernel,
    /// What `init` loads.
    at_boot: &'a [&'a str],
    /// What a script loads, if it wants it.
    on_demand: &'a [&'a str],
}

/// An archive with busybox, `init`, and modules with lists of their files, in the order in which they load: `modules/order` for
/// those at boot, and one for each that is loaded on demand.
fn initramfs(busybox: &Path, init: &Path, modules: &Modules<'_>) -> Result<Archive> {
    let mut archive = Archive::default();
    archive.folder("bin");
    archive.program("bin/busybox", &std::fs::read(busybox)?);
    archive.program("init", &std::fs::read(init)?);
    archive.folder("modules");
    let mut there = Vec::new();
    let mut add = |list: &str, names: &[&str]| -> Result<()> {
        let mut order = String::new();
        for module in modules.kernel.modules(names)? {
            let file = name_of(&module).trim_end_matches(".xz").to_owned();
            order.push_str(&file);
            order.push('\n');
            if !there.contains(&file) {
                archive.file(&format!("modules/{file}"), &read_module(&module)?);
                there.push(file);
            }
        }
        archive.file(&format!("modules/{list}"), order.as_bytes());
        Ok(())
    };
    add("order", modules.at_boot)?;
    for name in modules.on_demand {
        add(&format!("{name}.order"), &[name])?;
    }
    Ok(archive)
}

/// Busybox's insmod takes no compressed modules.
fn read_module(path: &Path) -> Result<Vec<u8>> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => Ok(std::fs::read(path)?),
        Some("xz") => {
            let xz = packages::find("xz").map_err(anyhow::Error::msg)?;
            let done = Command::new(xz).arg("-dc").arg(path).output()?;
            if !done.status.success() {
                bail!("xz cannot read {}", path.display());
            }
            Ok(done.stdout)
        }
        _ => bail!("{} is compressed in a way we do not know", path.display()),
    }
}

/// A root folder with busybox under each of its names and the usual places to mount things.
fn busybox_root(root: &Path, busybox: &Path) -> Result<()> {
    for folder in ["bin", "sbin", "proc", "sys", "dev", "tmp", "run", "root"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    install(busybox, &root.join("bin/busybox"))?;
    let list = Command::new(busybox).arg("--list").output().context("busybox --list")?;
    for name in String::from_utf8_lossy(&list.stdout).lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(name))?;
    }
    Ok(())
}

fn copy_scripts(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for script in files(from)? {
        install(&script, &to.join(name_of(&script)))?;
    }
    Ok(())
}

pub(super) fn install(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to.parent().unwrap_or(to))?;
    std::fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o755))?)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A sparse ext4 image of a folder, made without root.
fn ext4(folder: &Path, image: &Path, bytes: u64) -> Result<()> {
    std::fs::File::create(image)?.set_len(bytes)?;
    let mkfs = packages::find("mkfs.ext4").map_err(anyhow::Error::msg)?;
    let done = Command::new(mkfs).args(["-q", "-F", "-E", "root_owner=0:0", "-d"]).args([folder, image]).output()?;
    if !done.status.success() {
        bail!("mkfs.ext4: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(())
}

/// A cpio archive as the kernel reads it (format `newc`, kernel documentation: driver-api/early-userspace/
/// buffer-format). Owned by root, with no time, so that the same files give the same archive.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    const FOLDER: u32 = 0o040_755;
    const PROGRAM: u32 = 0o100_755;
    const FILE: u32 = 0o100_644;
    /// Names and contents begin at multiples of this.
    const ALIGNMENT: usize = 4;

    fn folder(&mut self, name: &str) {
        self.entry(name, Self::FOLDER, &[]);
    }

    fn program(&mut self, name: &str, contents: &[u8]) {
        self.entry(name, Self::PROGRAM, contents);
    }

    fn file(&mut self, name: &str, contents: &[u8]) {
        self.entry(name, Self::FILE, contents);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, contents: &[u8]) {
        self.entries += 1;
        let (inode, links, name_bytes) = (self.entries, 1, name.len() + 1);
        let bytes = contents.len();
        // magic, inode, mode, uid, gid, links, time, bytes, device (4 fields), bytes of the name, checksum
        let header = format!(
            "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{links:08x}{0:08x}{bytes:08x}{0:08x}{0:08x}{0:08x}{0:08x}\
             {name_bytes:08x}{0:08x}",
            0
        );
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(contents);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(Self::ALIGNMENT), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_entries_begin_at_multiples_of_four_and_end_with_the_trailer() {
        let mut archive = Archive::default();
        archive.folder("bin");
        archive.program("bin/a", b"odd");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % Archive::ALIGNMENT, 0);
        assert!(bytes.windows(6).enumerate().filter(|(_, word)| *word == b"070701").all(|(at, _)| at % 4 == 0));
        assert_eq!(bytes.windows(6).filter(|word| *word == b"070701").count(), 3);
        assert!(bytes.windows(11).any(|word| word == b"TRAILER!!!\0"));
    }
}
