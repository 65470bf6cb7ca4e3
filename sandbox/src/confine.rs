//! What a process does to itself: after its program has started, and once everything is granted.

#![allow(unsafe_code)] // prctl and close_range, which have no safe wrapper, and signal handlers reset to their default.

use crate::code;
use crate::error::ConfineError;
use crate::filter;
use crate::held::Held;
use crate::recipe::{Call, DescriptorKind, LayerName, Mode, Recipe, Resource, Stage, Value};
use crate::strict;
use landlock::{ABI, Access, AccessFs, AccessNet, Compatible, Ruleset, RulesetAttr, RulesetStatus, Scope};
use schema::host::Level;
use std::io;
use std::os::fd::RawFd;

/// The channel's number in every child.
const CHANNEL: RawFd = 3;
/// The latest Landlock whose rights are all denied; an older kernel denies those it knows.
const LANDLOCK: ABI = ABI::V7;
/// `PR_SET_MDWE` of <linux/prctl.h>, since Linux 6.3.
const PR_SET_MDWE: i32 = 65;
/// `PR_MDWE_REFUSE_EXEC_GAIN`.
const PR_MDWE_REFUSE_EXEC_GAIN: libc::c_ulong = 1;
/// Heap that a process without memory calls keeps for work: address space only, touched as it is used. Device state
/// is not in it; it holds what a library allocates in passing.
const WORKING_HEAP_BYTES: usize = 1 << 20;

/// Proof that [`confine`] finished. The process may receive grants, map and allocate.
#[derive(Debug)]
pub struct Confined {
    /// Started with a sandbox, rather than at level `off`.
    confined: bool,
    missing: Vec<LayerName>,
}

/// Proof that the process can do only what its recipe says.
#[derive(Debug)]
pub struct Sealed(());

/// Confines this process as far as that does not depend on what it is to be: call it before the first message is
/// read, from the only thread. Checks that the supervisor confined it before; one that was started at level `off` is
/// left as it is.
pub fn confine() -> Result<Confined, ConfineError> {
    confine_without(&[])
}

/// As [`confine`], without these layers, as far as they are taken here: for showing what each of them stops.
pub fn confine_without(layers: &[LayerName]) -> Result<Confined, ConfineError> {
    let wants = |layer| !layers.contains(&layer);
    if wants(LayerName::NoNewPrivs) && prctl_get(libc::PR_GET_NO_NEW_PRIVS) != 1 {
        // Level `off`. Were it any other, the supervisor would see the difference and refuse this process.
        return Ok(Confined { confined: false, missing: Vec::new() });
    }
    die_with_supervisor()?;
    if wants(LayerName::Undumpable) {
        step("making itself not dumpable", prctl(libc::PR_SET_DUMPABLE, 0))?;
    }
    close_range(CHANNEL + 1, RawFd::MAX)?;
    default_fault_signals();
    let mut missing = Vec::new();
    if wants(LayerName::Mdwe) && prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN) < 0 {
        missing.push(LayerName::Mdwe);
    }
    if wants(LayerName::Landlock) && !deny_by_landlock() {
        missing.push(LayerName::Landlock);
    }
    if wants(LayerName::Mseal) && !code::seal() {
        missing.push(LayerName::Mseal);
    }
    Ok(Confined { confined: true, missing })
}

impl Confined {
    /// Layers that this process tried to take and that are not to be had.
    #[must_use]
    pub fn missing(&self) -> &[LayerName] {
        &self.missing
    }

    /// Whether this process was started in a sandbox at all, rather than at level `off`.
    #[must_use]
    pub fn is_confined(&self) -> bool {
        self.confined
    }

    /// Makes this process unable to do anything but what `recipe` says. `held` are all descriptors that it still
    /// needs, the channel among them: every other one is closed, then the limits are tightened, then the filter is
    /// installed, on all threads. Everything is mapped, allocated and started by now.
    pub fn seal(self, recipe: &Recipe, held: &[Held]) -> Result<Sealed, ConfineError> {
        match recipe.level {
            Level::Off => return Ok(Sealed(())),
            Level::Process | Level::Seccomp | Level::Strict => {}
        }
        if !self.confined {
            return Err(ConfineError::NotConfined("its recipe asks for one, and it has not even no_new_privs"));
        }
        let missing = |layer: &&crate::Layer| layer.required && self.missing.contains(&layer.name);
        if let Some(layer) = recipe.layers.iter().find(missing) {
            return Err(ConfineError::Missing(layer.name.name()));
        }
        close_all_but(held)?;
        lower_limits(recipe, held)?;
        if recipe.is_filtered() {
            let program = filter::compile(&recipe.calls, held)?;
            if !recipe.calls.iter().any(|permit| matches!(permit.call, Call::BRK | Call::MMAP)) {
                keep_heap()?;
            }
            match recipe.level {
                Level::Strict => strict::enter(&recipe.calls, program)?,
                _ => filter::install(program)?,
            }
        }
        Ok(Sealed(()))
    }
}

/// Seals the calling thread alone, as the helper of its process: from here on it has a descriptor table of its own, with what
/// is `held` and no more, and the system calls of `recipe`. Limits are those of the whole process.
pub fn seal_thread(recipe: &Recipe, held: &[Held]) -> Result<Sealed, ConfineError> {
    let unshared = nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES);
    unshared
        .map_err(|error| ConfineError::Step { what: "taking a descriptor table of its own", error: error.into() })?;
    close_all_but(held)?;
    lower_limits(recipe, held)?;
    filter::install_here(filter::compile(&recipe.calls, held)?)?;
    Ok(Sealed(()))
}

fn lower_limits(recipe: &Recipe, held: &[Held]) -> Result<(), ConfineError> {
    for limit in recipe.limits.iter().filter(|limit| limit.from == Stage::Sealed) {
        let value = match limit.value {
            Value::Exactly(value) => value,
            Value::LargestFile => largest_file(held),
        };
        lower(limit.resource, value)?;
    }
    Ok(())
}

fn step(what: &'static str, result: i32) -> Result<i32, ConfineError> {
    if result < 0 { Err(ConfineError::Step { what, error: io::Error::last_os_error() }) } else { Ok(result) }
}

fn prctl(option: i32, argument: libc::c_ulong) -> i32 {
    // SAFETY: none of the options used here takes a pointer.
    unsafe { libc::prctl(option, argument, 0, 0, 0) }
}

fn prctl_get(option: i32) -> i32 {
    prctl(option, 0)
}

/// Has the kernel kill this process with its supervisor. That was asked for before its program started, and SELinux takes it
/// back where the program's start gave it another label. Had the supervisor died meanwhile, nobody would answer its hello.
fn die_with_supervisor() -> Result<(), ConfineError> {
    step("asking to die with the supervisor", prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong)).map(drop)
}

fn close_range(first: RawFd, last: RawFd) -> Result<(), ConfineError> {
    if first > last {
        return Ok(());
    }
    // SAFETY: no memory is passed. What is closed is used by nobody: see the callers.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    step("closing descriptors", result as i32).map(drop)
}

/// Closes the gaps between the held numbers. Those of connections are there for what will be accepted.
fn close_all_but(held: &[Held]) -> Result<(), ConfineError> {
    let held = held.iter().filter(|held| held.kind != DescriptorKind::Connection);
    let mut numbers: Vec<RawFd> = held.map(|held| held.number).collect();
    numbers.sort_unstable();
    let mut next = 0;
    for number in numbers {
        close_range(next, number - 1)?;
        next = number + 1;
    }
    close_range(next, RawFd::MAX)
}

/// Rust's runtime handles SIGSEGV and SIGBUS to tell a stack overflow; its handler makes system calls that a sealed
/// process has not, which would show every wild access as a forbidden call.
fn default_fault_signals() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: SIG_DFL runs no code of ours. It cannot fail for these two.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// A domain that denies every right that Landlock knows, with no exception. Says whether the kernel has it.
fn deny_by_landlock() -> bool {
    let deny = || {
        Ruleset::default()
            .set_compatibility(landlock::CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(LANDLOCK))?
            .handle_access(AccessNet::from_all(LANDLOCK))?
            .scope(Scope::from_all(LANDLOCK))?
            .create()?
            .restrict_self()
    };
    deny().is_ok_and(|status: landlock::RestrictionStatus| status.ruleset != RulesetStatus::NotEnforced)
}

fn lower(resource: Resource, value: u64) -> Result<(), ConfineError> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is on this stack.
    step("reading a resource limit", unsafe { libc::getrlimit(resource.number(), &mut limit) })?;
    let value = value.min(limit.rlim_max);
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: as above.
    step("setting a resource limit", unsafe { libc::setrlimit(resource.number(), &limit) }).map(drop)
}

/// Bytes of the largest file that is held to be written.
fn largest_file(held: &[Held]) -> u64 {
    let files = held.iter().filter(|held| held.kind == DescriptorKind::File && held.mode.covers(Mode::Write));
    files
        .filter_map(|held| {
            // A block device has its size only here, not in fstat. Nobody else shares the offset: each grant is a
            // fresh open.
            // SAFETY: no memory is passed.
            let bytes = unsafe { libc::lseek(held.number, 0, libc::SEEK_END) };
            u64::try_from(bytes).ok()
        })
        .max()
        .unwrap_or(0)
}

/// Grows the heap now, and tells the allocator neither to give it back nor to map more: a small allocation made in
/// passing then needs no system call. A larger one ends the process, as does any after the heap is full.
fn keep_heap() -> Result<(), ConfineError> {
    // SAFETY: mallopt changes parameters of the allocator only; what malloc gave is given back at once, untouched.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        // Seen by nobody, the pair would be optimised away.
        let block = std::hint::black_box(libc::malloc(WORKING_HEAP_BYTES));
        if block.is_null() {
            return Err(ConfineError::Step { what: "growing the heap", error: io::Error::last_os_error() });
        }
        libc::free(block);
    }
    Ok(())
}
