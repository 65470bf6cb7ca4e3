//! What a confined process tries and may not do. Each attack runs with the layer that stops it and without: without,
//! it must succeed or meet the next layer, or else the test proves nothing. What happened is the wait status, seen
//! from outside.

#![allow(missing_docs, unsafe_code)] // The driver takes descriptors out of messages.

#[path = "../probe/driver.rs"]
mod driver;

use driver::{DeviceKind, Probe};
use sandbox::{End, LayerName, Program, Recipe};
use schema::host::Level;
use std::path::Path;

const FORBIDDEN: End = End::Killed(libc::SIGSYS);
const DONE: End = End::Exited(0);

fn refused(errno: i32) -> End {
    End::Exited(errno)
}

fn program() -> Program {
    Program::open(Path::new(env!("CARGO_BIN_EXE_sandbox_probe"))).expect("the probe")
}

/// Each act at level `process`, with the given ends, and at level `seccomp`, where the filter kills it.
fn filter_kills(device: DeviceKind, acts: &[(&str, End)]) {
    let program = program();
    let mut wrong = Vec::new();
    for (act, unfiltered) in acts {
        for (level, expected) in [(Level::Process, *unfiltered), (Level::Seccomp, FORBIDDEN)] {
            let end = Probe::run(&program, level, device, act);
            if end != Ok(expected) {
                wrong.push(format!("{act} at {level:?}: {end:?}, not {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_permitted_act_is_done_at_every_level() {
    let program = program();
    for level in [Level::Off, Level::Process, Level::Seccomp] {
        for act in ["nothing", "log", "ring", "allocate"] {
            assert_eq!(Probe::run(&program, level, DeviceKind::Register, act), Ok(DONE), "{act} at {level:?}");
        }
        for act in ["read-file", "write-file", "write-vectors", "flush-file"] {
            assert_eq!(Probe::run(&program, level, DeviceKind::File, act), Ok(DONE), "{act} at {level:?}");
        }
    }
}

#[test]
fn calls_that_reach_for_files_are_killed() {
    // With no descriptor to be had once sealed, the limit is what they meet without a filter.
    let none = refused(libc::EMFILE);
    filter_kills(
        DeviceKind::Register,
        &[("open", none), ("open-root", none), ("create", none), ("new-descriptor", none)],
    );
}

#[test]
fn calls_that_reach_for_other_processes_are_killed() {
    filter_kills(
        DeviceKind::Register,
        &[
            ("kill-all", refused(libc::ESRCH)),
            ("signal-parent", refused(libc::ESRCH)),
            ("trace", refused(libc::ESRCH)),
            ("get-pid", DONE),
            ("read-memory", DONE),
            ("execute", refused(libc::ENOENT)),
        ],
    );
}

#[test]
fn calls_that_reach_for_the_kernel_are_killed() {
    filter_kills(
        DeviceKind::Register,
        &[
            ("mount", refused(libc::EPERM)),
            ("remount", refused(libc::EPERM)),
            ("chroot", refused(libc::EPERM)),
            ("new-network", refused(libc::EPERM)),
            ("new-user-namespace", refused(libc::ENOSPC)),
            ("host-name", refused(libc::EPERM)),
            ("set-time", refused(libc::EPERM)),
            ("raise-limit", refused(libc::EPERM)),
            ("become-dumpable", DONE),
            ("raw-socket", refused(libc::EPERM)),
            ("keyring", DONE),
            ("exit-group", DONE),
        ],
    );
}

#[test]
fn kernel_interfaces_with_a_long_record_of_holes_are_killed() {
    // Without a filter these depend on how the machine is set up; with one they do not.
    for act in ["bpf", "io-uring", "perf", "userfaultfd"] {
        let end = Probe::run(&program(), Level::Seccomp, DeviceKind::Register, act);
        assert_eq!(end, Ok(FORBIDDEN), "{act}");
    }
}

#[test]
fn calls_by_another_convention_are_killed() {
    for act in ["get-pid-x32", "get-pid-int80"] {
        let end = Probe::run(&program(), Level::Seccomp, DeviceKind::Register, act);
        assert_eq!(end, Ok(FORBIDDEN), "{act}");
    }
}

#[test]
fn descriptors_work_one_way_only() {
    filter_kills(
        DeviceKind::Register,
        &[
            ("write-what-it-reads", DONE),
            ("read-channel", refused(libc::EAGAIN)),
            ("write-standard-output", refused(libc::EBADF)),
            ("send-descriptor", DONE),
        ],
    );
    // Without a filter this one waits for ever.
    let end = Probe::run(&program(), Level::Seccomp, DeviceKind::Register, "read-what-it-writes");
    assert_eq!(end, Ok(FORBIDDEN));
}

#[test]
fn a_granted_file_is_read_and_written_and_nothing_else() {
    // The file is another user's where the process has a user of its own, as root can give it.
    let chmod = if nix::unistd::geteuid().is_root() { refused(libc::EPERM) } else { DONE };
    filter_kills(
        DeviceKind::File,
        &[("read-file-offset", DONE), ("truncate-file", DONE), ("chmod-file", chmod), ("append-to-file", DONE)],
    );
}

#[test]
fn a_granted_file_cannot_be_made_larger() {
    for level in [Level::Process, Level::Seccomp] {
        let end = Probe::run(&program(), level, DeviceKind::File, "write-beyond-file");
        assert_eq!(end, Ok(refused(libc::EFBIG)), "at {level:?}");
    }
    assert_eq!(Probe::run(&program(), Level::Off, DeviceKind::File, "write-beyond-file"), Ok(DONE));
}

#[test]
fn a_fault_of_its_own_is_told_from_a_forbidden_call() {
    for act in ["wild-write", "overflow-stack"] {
        let end = Probe::run(&program(), Level::Seccomp, DeviceKind::Register, act);
        assert_eq!(end, Ok(End::Killed(libc::SIGSEGV)), "{act}");
    }
}

#[test]
fn memory_is_never_writable_and_executable() {
    let run = |level| Probe::run_early(&program(), Recipe::host(level, &[]), "map-writable-executable");
    assert_eq!(run(Level::Off), Ok(DONE));
    let expected = if has_mdwe() { refused(libc::EACCES) } else { DONE };
    assert_eq!(run(Level::Process), Ok(expected));
}

/// The limit of processes binds no process of root, but one with a user number of its own; a control group binds any.
#[test]
fn a_process_that_root_started_cannot_fork() {
    use LayerName::{Cgroup, OwnUser};
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: only root may give out user numbers and, on most machines, make control groups");
        return;
    }
    let program = program();
    for (without, expected) in [
        (&[][..], refused(libc::EAGAIN)),
        (&[Cgroup], refused(libc::EAGAIN)),
        (&[OwnUser], refused(libc::EAGAIN)),
        (&[Cgroup, OwnUser], DONE),
    ] {
        let recipe = without.iter().fold(Recipe::host(Level::Process, &[]), |recipe, layer| recipe.without(*layer));
        assert_eq!(Probe::run_early(&program, recipe, "fork"), Ok(expected), "without {without:?}");
    }
}

fn has_mdwe() -> bool {
    // SAFETY: PR_GET_MDWE of <linux/prctl.h> takes no memory.
    unsafe { libc::prctl(66, 0, 0, 0, 0) >= 0 }
}

/// What the start alone stops: no filter, nothing sealed, and one layer taken out each time. Where Landlock is the next
/// layer, the second end is that of a kernel without it.
#[test]
fn each_layer_of_the_start_stops_what_it_is_for() {
    use LayerName::{Capabilities, Mount, Nesting, Pid, Root};
    let program = program();
    let rows: &[(&str, End, &[LayerName], &[End])] = &[
        ("open", refused(libc::ENOENT), &[Root, Mount], &[refused(libc::EACCES), DONE]),
        ("create", refused(libc::EROFS), &[Root, Mount], &[refused(libc::EACCES), DONE]),
        ("new-user-namespace", refused(libc::ENOSPC), &[Nesting], &[DONE]),
        ("new-network", refused(libc::EPERM), &[Capabilities], &[DONE]),
        ("host-name", refused(libc::EPERM), &[Capabilities], &[DONE]),
        ("raw-socket", refused(libc::EPERM), &[Capabilities], &[DONE]),
        ("signal-parent", refused(libc::ESRCH), &[Pid], &[refused(libc::EPERM), DONE]),
    ];
    let mut wrong = Vec::new();
    for (act, with, layers, without) in rows {
        let recipe = Recipe::host(Level::Process, &DeviceKind::Register.manifests());
        let end = Probe::run_early(&program, recipe.clone(), act);
        if end != Ok(*with) {
            wrong.push(format!("{act}: {end:?}, not {with:?}"));
        }
        let fewer = layers.iter().fold(recipe, |recipe, layer| recipe.without(*layer));
        let end = Probe::run_early(&program, fewer, act);
        if !end.as_ref().is_ok_and(|end| without.contains(end)) {
            wrong.push(format!("{act} without {layers:?}: {end:?}, not one of {without:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
