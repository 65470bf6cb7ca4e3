//! What a supervisor gives up before it starts anything: every privilege that starting and watching processes does not take.
//!
//! No system call filter is among it. A filter is inherited: it would be in the way of seccomp mode 1, and be walked at each
//! call of each host.

#![allow(unsafe_code)] // capset and prctl, which have no safe wrapper.

use landlock::{ABI, Access, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};
use std::io;

/// The latest Landlock whose rights concerning networks and other processes are denied.
const LANDLOCK: ABI = ABI::V7;
/// Capabilities of root that are kept, by their numbers in <linux/capability.h>, with what each is for.
const KEPT: [(u32, &str); 8] = [
    (1, "CAP_DAC_OVERRIDE: files of /proc and of control groups"),
    (2, "CAP_DAC_READ_SEARCH: the same"),
    (3, "CAP_FOWNER: what a disk was labelled before is written back"),
    (5, "CAP_KILL: processes with a user of their own are ended"),
    (6, "CAP_SETGID: a group of its own for each process"),
    (7, "CAP_SETUID: a user of its own for each process"),
    (19, "CAP_SYS_PTRACE: the audit looks at descriptors and memory"),
    (31, "CAP_SETFCAP: mapping user 0 where there is no user of its own"),
];
/// CAP_SYS_ADMIN, which makes namespaces where the user namespace may be missing.
const SYS_ADMIN: u32 = 21;

/// Gives up what this process, from its one thread, does not need. Its children inherit that it cannot gain privileges, reach
/// networks or signal processes that it did not start; so a VM with a host at level `off` keeps all. Call before there are
/// any: Landlock lets nobody look at a process outside its domain. `namespaces`: it makes namespaces without a user namespace.
pub fn shed(namespaces: bool) -> io::Result<()> {
    let kept = KEPT.iter().map(|(number, _)| *number).chain(namespaces.then_some(SYS_ADMIN));
    let kept = kept.fold(0u64, |set, number| set | 1 << number);
    // No rights over files are handled: a domain with those could mount nothing, and children mount their empty root.
    let confine = || {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessNet::from_all(LANDLOCK))?
            .scope(Scope::from_all(LANDLOCK))?
            .create()?
            .restrict_self()
    };
    // An older kernel knows none of these, and nothing is there to do.
    let _: Result<landlock::RestrictionStatus, landlock::RulesetError> = confine();
    // SAFETY: no memory is passed.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    narrow_capabilities(kept)
}

/// Drops every capability that is not in `kept` from this thread, and from what it could ever have.
fn narrow_capabilities(kept: u64) -> io::Result<()> {
    // _LINUX_CAPABILITY_VERSION_3 of <linux/capability.h>: two sets of 32 bits each, effective, permitted, inheritable.
    const VERSION: u32 = 0x2008_0522;
    let header = [VERSION, 0];
    let mut sets = [[0u32; 3]; 2];
    // SAFETY: header and sets have the layout of <linux/capability.h> and are on this stack.
    if unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    for number in (0..64).filter(|number| kept & 1 << number == 0) {
        // One that the kernel does not know, or that an ordinary user may not drop, could not be used either: the permitted
        // set of an ordinary user is empty.
        // SAFETY: no memory is passed.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number as libc::c_ulong, 0, 0, 0) };
    }
    for (half, set) in sets.iter_mut().enumerate() {
        let kept = (kept >> (32 * half)) as u32;
        *set = [set[0] & kept, set[1] & kept, 0];
    }
    // SAFETY: as above.
    if unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
