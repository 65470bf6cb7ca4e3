//! The programs of the system that the tests need, and the Debian packages they come in.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::command;

/// A program, or the full path of another file, and the package that has it.
struct Need {
    program: &'static str,
    package: &'static str,
}

/// All of it. Rust and a C linker are there already, or this program would not run.
const NEEDS: &[Need] = &[
    Need { program: "qemu-system-x86_64", package: "qemu-system-x86" },
    Need { program: "busybox", package: "busybox-static" },
    Need { program: "depmod", package: "kmod" },
    Need { program: "mkfs.ext4", package: "e2fsprogs" },
    Need { program: "e2fsck", package: "e2fsprogs" },
    Need { program: "xz", package: "xz-utils" },
    Need { program: "capnp", package: "capnproto" },
    Need { program: "g++", package: "g++" },
    Need { program: "make", package: "make" },
    Need { program: "/usr/include/capnp/compat/json.h", package: "libcapnp-dev" },
    Need { program: "python3", package: "python3" },
    Need { program: "pip3", package: "python3-pip" },
    Need { program: "cmake", package: "cmake" },
    Need { program: "pkg-config", package: "pkg-config" },
    Need { program: "strace", package: "strace" },
    Need { program: "/usr/lib/grub-rescue/grub-rescue-cdrom.iso", package: "grub-rescue-pc" },
    Need { program: "grub-mkimage", package: "grub-common" },
    Need { program: "/usr/lib/grub/i386-pc/boot.img", package: "grub-pc-bin" },
    Need { program: "/boot/memtest86+x64.bin", package: "memtest86+" },
    Need { program: "secilc", package: "secilc" },
    Need { program: "/usr/share/seabios/vgabios-stdvga.bin", package: "seabios" },
    Need { program: "apparmor_parser", package: "apparmor" },
    Need { program: "dnsmasq", package: "dnsmasq-base" },
    Need { program: "passt", package: "passt" },
    Need { program: "/usr/lib/ipxe/qemu/pxe-rtl8139.rom", package: "ipxe-qemu" },
];

/// Where programs lie; an ordinary user's PATH often lacks the last two.
const FOLDERS: &[&str] = &["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"];

/// The full path of a program, or a sentence that says which package has it.
pub fn find(program: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file() && (program != "busybox" || is_static(candidate)));
    found.ok_or_else(|| {
        let package = NEEDS.iter().find(|need| need.program == program).map_or(program, |need| need.package);
        format!("{program} is missing (Debian package {package})")
    })
}

/// Installs what is missing when we may; says which packages are missing otherwise.
pub fn install(logs: &Path) -> Result<(), String> {
    let missing: Vec<&str> = NEEDS.iter().filter(|need| find(need.program).is_err()).map(|need| need.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let wanted = format!("apt-get install --no-install-recommends {}", missing.join(" "));
    let Ok(apt) = find("apt-get") else {
        return Err(format!("these Debian packages, or their like, are missing: {}", missing.join(" ")));
    };
    if !is_root() {
        return Err(format!("only root may install what is missing: {wanted}"));
    }
    let install = || {
        let mut command = Command::new(&apt);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command.args(["install", "--yes", "--no-install-recommends"]).args(&missing);
        command::run(&mut command, &logs.join("apt-install.log"))
    };
    // The lists may be absent or too old for what the mirror has now: only then are they fetched.
    let mut done = install();
    if !done.as_ref().is_ok_and(|done| done.success) {
        update(logs);
        done = install();
    }
    match done {
        Ok(done) if done.success => Ok(()),
        Ok(done) => Err(format!("{wanted} failed:\n{}", done.tail())),
        Err(error) => Err(format!("{wanted} failed: {error:#}")),
    }
}

/// Fetches the package lists, as far as that is possible: what needs them says so itself.
pub fn update(logs: &Path) {
    if let (Ok(apt), true) = (find("apt-get"), is_root()) {
        let _ = command::run(Command::new(apt).arg("update"), &logs.join("apt-update.log"));
    }
}

/// Whether we are root: the owner of our own entry in /proc.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}

/// A busybox that needs a loader is of no use in an initramfs.
fn is_static(program: &Path) -> bool {
    std::fs::read(program).is_ok_and(|bytes| crate::elf::is_static(&bytes).unwrap_or(false))
}
