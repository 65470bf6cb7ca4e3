//! `cofferdam policy`: the policies that labels refer to, to be installed by an administrator.

use crate::args::{PolicyArgs, PolicyKind, usage};
use crate::machine::parse_disk;
use anyhow::{Context, Result};
use sandbox::policy::apparmor::{self, Disk};
use sandbox::policy::selinux;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use vmm::supervisor::runtime;

/// Runs the command.
pub fn policy(asked: &PolicyArgs) -> Result<u8> {
    let (out, name, text) = match &asked.module {
        PolicyKind::Selinux { out } => (out, "cofferdam.cil".to_owned(), selinux::module()),
        PolicyKind::Apparmor { out, program, vm, disk } => {
            let program = match program {
                Some(program) => program.clone(),
                None => std::fs::read_link("/proc/self/exe").context("looking up this program")?,
            };
            let (name, text) = match vm {
                Some(vm) => {
                    runtime::check_name(vm).map_err(|error| usage!("{error:#}"))?;
                    let disks: Vec<Disk> = disk.iter().map(|disk| found(disk)).collect::<Result<_>>()?;
                    (format!("cofferdam.{vm}"), apparmor::disks(&program, vm, &disks))
                }
                None => ("cofferdam".to_owned(), apparmor::profiles(&program)),
            };
            (out, name, text)
        }
    };
    match out {
        None => print!("{text}"),
        Some(folder) => {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("--out: cannot write {}", path.display()))?;
            println!("{}", path.display());
        }
    }
    Ok(0)
}

/// A disk, with where its file system begins.
fn found(disk: &str) -> Result<Disk> {
    let (path, readonly) = parse_disk(disk)?;
    let path = Path::new(path).canonicalize().with_context(|| format!("--disk {path}: cannot be found"))?;
    let device = path.metadata()?.dev();
    let same = |folder: &&Path| folder.metadata().is_ok_and(|found| found.dev() == device);
    let mounted = path.ancestors().skip(1).take_while(same).last().map_or_else(|| PathBuf::from("/"), Path::to_owned);
    Ok(Disk { path, mounted, readonly })
}
