//! What this kernel has, and what only a process descriptor tells.

#![allow(unsafe_code)] // An ioctl on a process descriptor, a Landlock version query and prctl: none has a safe wrapper.

use super::{Audit, Fields, Process};
use crate::process::Lack;
use crate::recipe::{LayerName, Recipe};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `struct pidfd_info` of <linux/pidfd.h> as of Linux 6.16, the first that tells whether a process is dumpable.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    numbers: [u32; 11],
    exit_code: i32,
    coredump_mask: u32,
    spare: u32,
}

/// `PIDFD_INFO_COREDUMP`.
const INFO_COREDUMP: u64 = 1 << 4;
/// `PIDFD_COREDUMP_SKIP`: the process is not dumpable.
const COREDUMP_SKIP: u32 = 1 << 1;
/// `PIDFD_COREDUMP_USER` and `PIDFD_COREDUMP_ROOT`.
const COREDUMP_USER_OR_ROOT: u32 = 1 << 2 | 1 << 3;
/// `_IOWR(0xFF, 11, struct pidfd_info)`.
const GET_INFO: libc::c_ulong = 0b11 << 30 | (size_of::<PidfdInfo>() as libc::c_ulong) << 16 | 0xFF << 8 | 11;

/// Whether a process is dumpable; `None` where the kernel does not tell.
fn is_dumpable(process: &Process) -> Option<bool> {
    // SAFETY: no memory is passed.
    let number = unsafe { libc::syscall(libc::SYS_pidfd_open, process.pid, 0) };
    if number < 0 {
        return None;
    }
    // SAFETY: the call has just made this number, and nobody else knows it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(number as i32) };
    let mut info = PidfdInfo { mask: INFO_COREDUMP, ..Default::default() };
    // SAFETY: the request names the size of `info`, beyond which the kernel writes nothing.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO, &mut info) };
    if result < 0 || info.mask & INFO_COREDUMP == 0 {
        return None;
    }
    match info.coredump_mask {
        mask if mask & COREDUMP_SKIP != 0 => Some(false),
        mask if mask & COREDUMP_USER_OR_ROOT != 0 => Some(true),
        _ => None,
    }
}

pub(super) fn check_dumpable(differences: &mut Vec<String>, notes: &mut Vec<String>, process: &Process) {
    match is_dumpable(process) {
        Some(false) => {}
        Some(true) => differences.push("it is dumpable: other processes of its user may trace it".to_owned()),
        None => notes.push("this kernel (before 6.16) does not show whether a process is dumpable".to_owned()),
    }
}

/// Layers that are not on every machine: missing, they are a difference where they are required and a note where not.
pub(super) fn check_conditional(
    differences: &mut Vec<String>,
    audit: &mut Audit,
    process: &Process,
    status: &Fields,
    recipe: &Recipe,
) -> io::Result<()> {
    check_user_map(differences, process, status, recipe)?;
    check_group(differences, audit, process, recipe)?;
    check_label(differences, audit, process, recipe);
    for layer in &recipe.layers {
        let Some(sentence) = lack(layer.name, process, status, layer.required) else { continue };
        if layer.required {
            differences.push(format!("layer `{}` is required: {sentence}", layer.name.name()));
        } else {
            audit.notes.push(sentence);
            audit.missing.push(layer.name);
        }
    }
    let groups = status.get("Groups").unwrap_or("");
    let own = status.get("Gid").and_then(|numbers| numbers.split_whitespace().next()).unwrap_or("");
    if groups.split_whitespace().any(|group| group != own) {
        audit.notes.push(format!(
            "it keeps the supervisor's supplementary groups ({groups}), which open nothing in an empty root"
        ));
    }
    Ok(())
}

/// Why a process lacks a layer, if it does and that shows here. Layers that are always required have checks of their
/// own.
fn lack(layer: LayerName, process: &Process, status: &Fields, required: bool) -> Option<String> {
    match layer {
        LayerName::Landlock | LayerName::Mdwe | LayerName::Mseal => lacking(layer).map(|(why, _)| why.to_owned()),
        LayerName::OwnUser => {
            let user = status.get("Uid")?.split_whitespace().next()?.to_owned();
            (user == nix::unistd::geteuid().to_string())
                .then(|| format!("outside its namespace it is user {user}, as the supervisor is"))
        }
        // Namespaces, root and the rest that may be missing because somebody allowed it.
        _ if required => None,
        LayerName::User | LayerName::Mount | LayerName::Pid | LayerName::Net => {
            let name = match layer {
                LayerName::User => "user",
                LayerName::Mount => "mnt",
                LayerName::Pid => "pid",
                _ => "net",
            };
            shares_namespace(process, name)
                .then(|| format!("it shares the supervisor's {} namespace, as was allowed", layer.name()))
        }
        LayerName::Ipc | LayerName::Uts => shares_namespace(process, layer.name())
            .then(|| format!("it shares the supervisor's {} namespace, as was allowed", layer.name())),
        LayerName::CgroupNamespace => shares_namespace(process, "cgroup")
            .then(|| "it shares the supervisor's control group namespace, as was allowed".to_owned()),
        _ => None,
    }
}

/// Why this kernel has not a layer that a process takes by itself, and what would help.
fn lacking(layer: LayerName) -> Option<(&'static str, &'static str)> {
    match layer {
        LayerName::Landlock if !has_landlock() => {
            Some(("this kernel has no Landlock, or it is not switched on", "boot with `landlock` in `lsm=`"))
        }
        LayerName::Mdwe if !has_mdwe() => {
            Some(("this kernel (before 6.3) has no memory-deny-write-execute", "use a newer kernel"))
        }
        LayerName::Mseal if !crate::code::can_be_sealed() => {
            Some(("this kernel (before 6.10) cannot seal the mappings of its code", "use a newer kernel"))
        }
        _ => None,
    }
}

/// A layer that `recipe` requires and this kernel has not.
pub(crate) fn missing_from_kernel(recipe: &Recipe) -> Option<Lack> {
    recipe.layers.iter().filter(|layer| layer.required).find_map(|layer| {
        let no_label = (layer.name == LayerName::Label && recipe.label.is_none())
            .then_some(("no module of the kernel labels it", "run where SELinux or AppArmor is on"));
        let (why, remedy) = lacking(layer.name).or(no_label)?;
        Some(Lack { layer: layer.name, why: why.to_owned(), remedy: remedy.to_owned() })
    })
}

/// Its control group: a layer that is there or not, and limits that are as its recipe says.
fn check_group(differences: &mut Vec<String>, audit: &mut Audit, process: &Process, recipe: &Recipe) -> io::Result<()> {
    let (Some(layer), Some(limits)) = (recipe.layer(LayerName::Cgroup), &recipe.group) else { return Ok(()) };
    let seen = crate::group::look(process.pid, limits)?;
    differences.extend(seen.higher);
    let sentence = match seen.unlimited.as_slice() {
        [] => return Ok(()),
        [_, _, _] => "it shares the supervisor's control groups: memory is limited by rlimits alone".to_owned(),
        some => format!("its control group limits not {}", some.join(" and ")),
    };
    // Without a limit of processor time it takes no more than its one thread can.
    if layer.required && seen.unlimited != ["processor time"] {
        differences.push(format!("layer `{}` is required: {sentence}", layer.name.name()));
    } else {
        audit.notes.push(sentence);
        if seen.unlimited != ["processor time"] {
            audit.missing.push(layer.name);
        }
    }
    Ok(())
}

/// Its label, which is a layer: the one of its recipe, or none.
fn check_label(differences: &mut Vec<String>, audit: &mut Audit, process: &Process, recipe: &Recipe) {
    let Some(layer) = recipe.layer(LayerName::Label) else { return };
    let Some(label) = &recipe.label else {
        let sentence = "it has no label of SELinux or AppArmor of its own";
        if layer.required {
            differences.push(format!("layer `{}` is required: {sentence}", layer.name.name()));
        } else {
            audit.notes.push(sentence.to_owned());
            audit.missing.push(layer.name);
        }
        return;
    };
    match label.module.label_of(&process.pid.to_string()) {
        Ok(has) => {
            differences.extend(label.differs(&has));
            audit.notes.extend(label.only_reports(&has).map(str::to_owned));
            audit.label = has;
        }
        Err(error) => differences.push(format!("its label cannot be read: {error}")),
    }
}

/// It is one user inside its namespace, and that is the one that it is outside.
fn check_user_map(
    differences: &mut Vec<String>,
    process: &Process,
    status: &Fields,
    recipe: &Recipe,
) -> io::Result<()> {
    if recipe.layer(LayerName::User).is_none_or(|layer| !layer.required) {
        return Ok(());
    }
    for (file, field, what) in [("uid_map", "Uid", "user"), ("gid_map", "Gid", "group")] {
        let map = process.read(file)?;
        let numbers: Vec<&str> = map.split_whitespace().collect();
        let mut own = status.get(field).unwrap_or("").split_whitespace();
        let mut is_own = |outside: &str| own.all(|number| number == outside);
        if !matches!(numbers.as_slice(), ["0", outside, "1"] if is_own(outside)) {
            differences.push(format!("its namespace maps other {what}s than its own: {}", numbers.join(" ")));
        }
    }
    Ok(())
}

fn shares_namespace(process: &Process, name: &str) -> bool {
    let own = std::fs::read_link(format!("/proc/self/ns/{name}")).ok();
    std::fs::read_link(process.path(&format!("ns/{name}"))).ok() == own
}

fn has_landlock() -> bool {
    /// `LANDLOCK_CREATE_RULESET_VERSION`.
    const VERSION: u32 = 1;
    // SAFETY: with this flag the call takes no structure and returns a version.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, VERSION) > 0 }
}

fn has_mdwe() -> bool {
    /// `PR_GET_MDWE` of <linux/prctl.h>.
    const PR_GET_MDWE: i32 = 66;
    // SAFETY: no memory is passed.
    unsafe { libc::prctl(PR_GET_MDWE, 0, 0, 0, 0) >= 0 }
}
