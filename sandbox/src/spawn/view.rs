//! What a plugin's root shows, prepared so that a child can mount it by system calls alone.

use crate::recipe::Shown;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope,
};
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::AtomicI32;

/// The latest Landlock whose rights are denied, as for other processes.
const LANDLOCK: ABI = ABI::V7;

/// All of it.
pub(super) struct View {
    pub(super) shown: Vec<Mount>,
    /// Landlock rules that permit to read it; `None` where the kernel has none.
    pub(super) rules: Option<OwnedFd>,
}

/// One file or folder.
pub(super) struct Mount {
    pub(super) from: CString,
    /// The child's descriptor of it, once it has one.
    pub(super) found: AtomicI32,
    /// Folders to make, outermost first, then the place itself; relative to the new root.
    pub(super) folders: Vec<CString>,
    pub(super) at: CString,
    pub(super) is_folder: bool,
}

impl View {
    pub(super) fn prepare(shown: &[Shown]) -> io::Result<View> {
        let mounts = shown.iter().map(Mount::of).collect::<io::Result<Vec<_>>>()?;
        Ok(View { shown: mounts, rules: rules(shown).ok().flatten() })
    }
}

impl Mount {
    fn of(shown: &Shown) -> io::Result<Mount> {
        let at = shown.at.strip_prefix("/").map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut folders: Vec<CString> = Vec::new();
        for folder in at.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
            folders.push(text(folder)?);
        }
        folders.reverse();
        let is_folder = std::fs::metadata(&shown.from)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", shown.from.display())))?
            .is_dir();
        Ok(Mount { from: text(&shown.from)?, found: AtomicI32::new(-1), folders, at: text(at)?, is_folder })
    }
}

fn text(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// A Landlock domain that denies every right but to read and execute what is shown.
fn rules(shown: &[Shown]) -> Result<Option<OwnedFd>, landlock::RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?;
    for shown in shown {
        let Ok(path) = PathFd::new(&shown.from) else { continue };
        let is_folder = std::fs::metadata(&shown.from).is_ok_and(|found| found.is_dir());
        let access = if is_folder { AccessFs::from_read(LANDLOCK) } else { AccessFs::ReadFile | AccessFs::Execute };
        ruleset = ruleset.add_rule(PathBeneath::new(path, access))?;
    }
    Ok(ruleset.into())
}
