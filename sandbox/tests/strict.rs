//! Level `strict`: seccomp mode 1, and what takes its place under a filter. What happened is seen from outside.

#![allow(missing_docs, unsafe_code)] // The driver takes descriptors out of messages; a filter is installed before exec.

#[path = "../probe/driver.rs"]
mod driver;

use driver::{DeviceKind, Probe};
use sandbox::{End, Program, Recipe, Stage, audit};
use schema::host::Level;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

const PROBE: &str = env!("CARGO_BIN_EXE_sandbox_probe");
const DONE: End = End::Exited(0);
/// How a process of one thread ends in mode 1 that makes another call (seccomp(2)).
const FORBIDDEN: End = End::Killed(libc::SIGKILL);

fn program() -> Program {
    Program::open(Path::new(PROBE)).expect("the probe")
}

fn run(level: Level, act: &str) -> Result<End, String> {
    Probe::run(&program(), level, DeviceKind::Register, act)
}

/// What a supervisor sees of a host at level `strict` that does `act`, where it was itself started under a filter.
fn supervised_under_a_filter(act: &str) -> String {
    let mut command = Command::new(PROBE);
    command.args(["supervise", "strict", "register", act]);
    // SAFETY: two system calls on memory of this closure.
    unsafe { command.pre_exec(permit_everything) };
    let output = command.output().expect("the probe");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A filter that forbids nothing: it is there, which is what counts.
fn permit_everything() -> std::io::Result<()> {
    let permit = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
    let program = libc::sock_fprog { len: 1, filter: (&raw const permit).cast_mut() };
    // SAFETY: the program is on this stack, and the kernel copies it.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[test]
fn any_call_but_four_is_killed() {
    let acts = [
        "open",
        "open-root",
        "create",
        "new-descriptor",
        "socket",
        "fork",
        "execute",
        "kill-all",
        "get-pid",
        "get-pid-x32",
        "get-pid-int80",
        "read-memory",
        "new-user-namespace",
        "become-dumpable",
        "send-descriptor",
        "read-channel",
        "io-uring",
        "exit-group",
    ];
    let wrong: Vec<String> = acts
        .iter()
        .filter_map(|act| {
            let end = run(Level::Strict, act);
            (end != Ok(FORBIDDEN)).then(|| format!("{act}: {end:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_time_stamp_counter_is_gone() {
    assert_eq!(run(Level::Strict, "read-tsc"), Ok(End::Killed(libc::SIGSEGV)));
    assert_eq!(run(Level::Seccomp, "read-tsc"), Ok(DONE), "or the test proves nothing");
}

#[test]
fn standard_output_is_not_there_to_be_written() {
    // Mode 1 would permit it on any descriptor: the table is the policy.
    assert_eq!(run(Level::Strict, "write-standard-output"), Ok(End::Exited(libc::EBADF)));
}

#[test]
fn what_a_register_device_needs_is_left() {
    for act in ["nothing", "log", "ring", "allocate"] {
        assert_eq!(run(Level::Strict, act), Ok(DONE), "{act}");
    }
}

#[test]
fn a_host_in_mode_1_is_seen_to_be() {
    let recipe = Recipe::host(Level::Strict, &DeviceKind::Register.manifests());
    for (level, mode, differences) in
        [(Level::Strict, 1, vec![]), (Level::Seccomp, 2, vec!["its seccomp mode is 2, not 1".to_owned()])]
    {
        let probe = Probe::start(&program(), level, DeviceKind::Register, "nothing").expect("a probe");
        probe.await_confined().expect("hello");
        probe.grant().expect("sealed");
        let seen = audit(probe.child.pid, &recipe, Stage::Sealed).expect("an audit");
        assert_eq!((seen.seccomp_mode, seen.differences), (mode, differences));
    }
}

#[test]
fn under_a_filter_another_one_leaves_the_same_and_says_so() {
    let seen = supervised_under_a_filter("ring");
    for words in ["sealed: seccomp 2", "sealed note: this program was started under a system call filter", "Exited(0)"]
    {
        assert!(seen.contains(words), "{words}: {seen}");
    }
    assert!(!seen.contains("differs"), "{seen}");
    for act in ["open", "exit-group", "write-what-it-reads", "read-what-it-writes"] {
        let seen = supervised_under_a_filter(act);
        assert!(seen.contains(&format!("Killed({})", libc::SIGSYS)), "{act}: {seen}");
    }
    let seen = supervised_under_a_filter("read-tsc");
    assert!(seen.contains(&format!("Killed({})", libc::SIGSEGV)), "{seen}");
}
