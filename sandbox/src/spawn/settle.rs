//! What the supervisor does for a child that waits between clone and exec: its user, and its control group.

use super::{Lack, SpawnError};
use crate::group::Group;
use crate::recipe::{LayerName, Recipe};
use std::fs;
use std::io;

/// Users of processes with a user number of their own: this and the process's own number, which nothing else on the
/// machine has while it lives. By systemd's list of user numbers this range is nobody's, and it is larger than the
/// largest process number (1 << 22).
const FIRST_USER: u32 = 0x7000_0000;

/// What was done for a child.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// It is to become user 0 of its namespace, which is a user number of its own outside.
    pub(super) own_user: bool,
    pub(super) group: Option<Group>,
    pub(super) lacks: Vec<Lack>,
}

/// Settles process `pid`, which waits. `has_namespace`: it has a user namespace, whose maps nobody has written yet.
pub(super) fn settle(
    pid: i32,
    recipe: &Recipe,
    has_namespace: bool,
    own_user: Result<(), &'static str>,
) -> Result<Settled, SpawnError> {
    let mut settled = Settled::default();
    if has_namespace {
        let mapped = own_user.map_err(str::to_owned).and_then(|()| {
            map_own_user(pid).map_err(|error| format!("user {} cannot be mapped: {error}", FIRST_USER + pid as u32))
        });
        match mapped {
            Ok(()) => settled.own_user = true,
            Err(why) => {
                lack(
                    &mut settled,
                    recipe,
                    LayerName::OwnUser,
                    &why,
                    "run as root, with the program executable by others",
                )?;
                map_this_user(pid).map_err(|(what, error)| SpawnError::Step {
                    what,
                    hint: super::denied(&error),
                    error,
                })?;
            }
        }
    } else {
        let (why, remedy) = ("it has no user namespace, in which one could be had", "allow user namespaces");
        lack(&mut settled, recipe, LayerName::OwnUser, why, remedy)?;
    }
    if let (Some(limits), Some(_)) = (&recipe.group, recipe.layer(LayerName::Cgroup)) {
        match Group::around(pid, limits) {
            Ok(group) => settled.group = Some(group),
            Err(error) => {
                let remedy = "run as root, or under `systemd-run --user --scope -p Delegate=yes`";
                lack(&mut settled, recipe, LayerName::Cgroup, &error.to_string(), remedy)?;
            }
        }
    }
    Ok(settled)
}

/// Notes that a layer is missing, if the recipe has it; an error where it is required.
fn lack(settled: &mut Settled, recipe: &Recipe, layer: LayerName, why: &str, remedy: &str) -> Result<(), SpawnError> {
    match recipe.layer(layer) {
        None => Ok(()),
        Some(found) => {
            let lack = Lack { layer, why: why.to_owned(), remedy: remedy.to_owned() };
            if found.required {
                return Err(SpawnError::Missing(lack));
            }
            settled.lacks.push(lack);
            Ok(())
        }
    }
}

/// Why a child cannot have a user number of its own, as far as that is known before it exists.
pub(super) fn own_user(recipe: &Recipe, program_mode: u32) -> Result<(), &'static str> {
    /// Others may execute.
    const EXECUTE_OTHERS: u32 = 0o001;
    /// Others may read.
    const READ_OTHERS: u32 = 0o004;
    if recipe.layer(LayerName::OwnUser).is_none() {
        return Err("its recipe does not ask for it");
    }
    if !nix::unistd::geteuid().is_root() {
        return Err("only root may give out user numbers");
    }
    if program_mode & EXECUTE_OTHERS == 0 {
        return Err("other users may not execute the program");
    }
    let shown = recipe.loading.iter().flat_map(|loading| &loading.view);
    for shown in shown {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&shown.from).map_or(0, |found| found.permissions().mode());
        if mode & READ_OTHERS == 0 {
            return Err("other users may not read what it is loaded from");
        }
    }
    Ok(())
}

/// User and group 0 of its namespace become a number of its own outside.
fn map_own_user(pid: i32) -> io::Result<()> {
    let map = format!("0 {} 1\n", FIRST_USER + pid as u32);
    fs::write(format!("/proc/{pid}/gid_map"), &map)?;
    fs::write(format!("/proc/{pid}/uid_map"), &map)
}

/// User and group 0 of its namespace are this process's own outside. An ordinary user may map a group only when groups can
/// no longer be dropped.
fn map_this_user(pid: i32) -> Result<(), (&'static str, io::Error)> {
    let write =
        |file: &str, what, text: String| fs::write(format!("/proc/{pid}/{file}"), text).map_err(|error| (what, error));
    write("setgroups", "giving up the right to change groups (/proc/PID/setgroups)", "deny".to_owned())?;
    write("uid_map", "mapping its user (/proc/PID/uid_map)", format!("0 {} 1\n", nix::unistd::geteuid()))?;
    write("gid_map", "mapping its group (/proc/PID/gid_map)", format!("0 {} 1\n", nix::unistd::getegid()))
}
