//! Unmodified Debian kernels and their modules, fetched once with apt-get.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::packages;

/// One of the kernels that Debian builds.
pub struct Flavour {
    /// The package that always depends on the newest.
    package: &'static str,
    /// Where it is kept.
    folder: &'static str,
}

/// The kernel for virtual machines, which starts sooner and has no drivers for a PC's own devices.
pub const CLOUD: Flavour = Flavour { package: "linux-image-cloud-amd64", folder: "kernel" };
/// The kernel for computers, with a driver for everything.
pub const FULL: Flavour = Flavour { package: "linux-image-amd64", folder: "kernel-full" };

/// An unpacked kernel package.
pub struct Kernel {
    /// The bzImage.
    pub image: PathBuf,
    /// The folder with `kernel/` and `modules.dep`.
    modules: PathBuf,
}

/// The kernel from an earlier run, or a fresh one.
pub fn obtain(work: &Path, flavour: &Flavour) -> Result<Kernel> {
    let folder = work.join(flavour.folder);
    let unpacked = folder.join("unpacked");
    if let Ok(kernel) = open(&unpacked) {
        return Ok(kernel);
    }
    std::fs::create_dir_all(&folder)?;
    let package = match downloaded(&folder)? {
        Some(package) => package,
        None => {
            // Old lists name packages that the mirror no longer has.
            if let Err(first) = download(&folder, flavour.package) {
                packages::update(&folder);
                download(&folder, flavour.package).map_err(|second| second.context(format!("{first:#}")))?;
            }
            downloaded(&folder)?.context("apt-get download left no package")?
        }
    };
    if unpacked.exists() {
        std::fs::remove_dir_all(&unpacked)?;
    }
    run(Command::new("dpkg-deb").arg("-x").args([&package, &unpacked]), &folder)?;
    let (version, root) = version(&unpacked)?;
    // Newer Debian puts /lib under /usr; depmod is told where.
    let depmod = packages::find("depmod").map_err(anyhow::Error::msg)?;
    run(Command::new(depmod).arg("-b").arg(root).arg(version), &folder)?;
    open(&unpacked)
}

impl Kernel {
    /// The files of the named modules and of everything they depend on, in an order in which they load. A name that
    /// the kernel has no module for is left out: it is built in, or the guest will say what is missing.
    pub fn modules(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let table = std::fs::read_to_string(self.modules.join("modules.dep")).context("modules.dep")?;
        Ok(load_order(&table, names).iter().map(|path| self.modules.join(path)).collect())
    }
}

/// Resolves names against the lines `path: path…` of a modules.dep, which lists all that a module needs, nearest first.
fn load_order<'a>(table: &'a str, names: &[&str]) -> Vec<&'a str> {
    let mut order: Vec<&str> = Vec::new();
    for name in names {
        let line = table.lines().filter_map(|line| line.split_once(':')).find(|(path, _)| module_name(path) == *name);
        let Some((path, needs)) = line else { continue };
        for path in needs.split_whitespace().rev().chain([path]) {
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    order
}

fn module_name(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file)
}

fn open(unpacked: &Path) -> Result<Kernel> {
    let (version, root) = version(unpacked)?;
    let image = unpacked.join("boot").join(format!("vmlinuz-{version}"));
    let modules = root.join("lib/modules").join(&version);
    if !image.is_file() || !modules.join("modules.dep").is_file() {
        bail!("the kernel is not completely unpacked");
    }
    Ok(Kernel { image, modules })
}

/// The kernel's version, and the folder that its `lib/modules` is in.
fn version(unpacked: &Path) -> Result<(String, PathBuf)> {
    for root in [unpacked.to_owned(), unpacked.join("usr")] {
        if let Ok(mut entries) = std::fs::read_dir(root.join("lib/modules"))
            && let Some(entry) = entries.next()
        {
            return Ok((entry?.file_name().to_string_lossy().into_owned(), root));
        }
    }
    bail!("the package has no modules");
}

fn downloaded(folder: &Path) -> Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn download(folder: &Path, meta_package: &str) -> Result<()> {
    let depends = Command::new("apt-cache")
        .args(["depends", "--no-recommends", "--no-suggests", meta_package])
        .output()
        .context("apt-cache: is this a Debian?")?;
    let depends = String::from_utf8_lossy(&depends.stdout).into_owned();
    let package = depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .with_context(|| format!("apt-cache knows no {meta_package}"))?;
    run(Command::new("apt-get").args(["download", package]).current_dir(folder), folder)
}

fn run(command: &mut Command, logs: &Path) -> Result<()> {
    let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let done = command::run(command, &logs.join(format!("{name}.log")))?;
    if !done.success {
        bail!("{name} failed:\n{}", done.tail());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_load_after_what_they_need_and_once() {
        let table = "kernel/virtio.ko: kernel/ring.ko\nkernel/ring.ko:\nkernel/virtio_blk.ko.xz: kernel/virtio.ko \
                     kernel/ring.ko\nkernel/virtio-rng.ko: kernel/virtio.ko kernel/ring.ko\n";
        assert_eq!(
            load_order(table, &["virtio_blk", "absent", "virtio-rng"]),
            ["kernel/ring.ko", "kernel/virtio.ko", "kernel/virtio_blk.ko.xz", "kernel/virtio-rng.ko"]
        );
    }
}
