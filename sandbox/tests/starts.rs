//! How a process is started: as which user, what it dies with, and what is said when it cannot be.

#![allow(missing_docs, unsafe_code)] // The driver takes descriptors out of messages.

#[path = "../probe/driver.rs"]
mod driver;

use driver::{DeviceKind, Probe};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sandbox::{End, Program};
use schema::host::Level;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PROBE: &str = env!("CARGO_BIN_EXE_sandbox_probe");
/// A user without rights; `nobody` on most systems.
const ORDINARY: u32 = 65534;

fn program() -> Program {
    Program::open(Path::new(PROBE)).expect("the probe")
}

/// The probe as a program of an ordinary user: where the tests run as root, a copy that he can reach.
struct Ordinary {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Ordinary {
    fn new() -> Ordinary {
        let directory = tempfile::tempdir().expect("a directory");
        let readable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.path(), readable.clone()).expect("permissions");
        let path = directory.path().join("sandbox_probe");
        std::fs::copy(PROBE, &path).expect("a copy");
        std::fs::set_permissions(&path, readable).expect("permissions");
        Ordinary { _directory: directory, path }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(arguments).env("RUST_BACKTRACE", "0");
        if nix::unistd::geteuid().is_root() {
            command.uid(ORDINARY).gid(ORDINARY).current_dir("/");
        }
        command
    }

    fn output(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("the probe");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }
}

#[test]
fn an_ordinary_user_starts_and_audits_a_sealed_process() {
    let ordinary = Ordinary::new();
    for (device, act) in [("register", "ring"), ("file", "write-file")] {
        let seen = ordinary.output(&["supervise", "seccomp", device, act]);
        assert!(seen.contains("sealed: seccomp 2, no_new_privs true\n"), "{seen}");
        assert!(!seen.contains("differs"), "{seen}");
        assert!(seen.ends_with("end: Some(Exited(0))\n"), "{seen}");
    }
}

#[test]
fn an_ordinary_users_process_is_killed_for_a_forbidden_call() {
    let seen = Ordinary::new().output(&["supervise", "seccomp", "register", "open"]);
    assert!(seen.ends_with("end: Some(Killed(31))\n"), "{seen}");
}

#[test]
fn an_ordinary_users_process_cannot_fork_even_without_a_filter() {
    let seen = Ordinary::new().output(&["supervise", "process", "register", "fork"]);
    assert!(seen.ends_with(&format!("end: Some(Exited({}))\n", libc::EAGAIN)), "{seen}");
}

#[test]
fn an_ordinary_user_sees_an_altered_process() {
    let seen = Ordinary::new().output(&["supervise", "seccomp", "register", "keep-more"]);
    assert!(seen.contains("sealed differs: it holds 4 of eventfd where its recipe keeps 3"), "{seen}");
}

#[test]
fn a_child_dies_with_its_supervisor() {
    let mut supervisor = Command::new(PROBE).arg("wait").stdout(Stdio::piped()).spawn().expect("a supervisor");
    let mut line = String::new();
    BufReader::new(supervisor.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
    let pid: i32 = line.trim().parse().expect("a number");
    // SAFETY: no memory is passed; the number that comes back is new.
    let child = unsafe { OwnedFd::from_raw_fd(libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32) };
    let gone = |wait: u16| {
        let mut watched = [PollFd::new(child.as_fd(), PollFlags::POLLIN)];
        poll(&mut watched, PollTimeout::from(wait)).expect("a poll") == 1
    };
    assert!(!gone(50), "the child ended by itself");
    supervisor.kill().expect("a signal");
    supervisor.wait().expect("its end");
    assert!(gone(5000), "the child outlives its supervisor");
}

#[test]
fn a_child_dies_with_its_handle() {
    let probe = Probe::start(&program(), Level::Seccomp, DeviceKind::Register, "nothing").expect("a probe");
    let pid = probe.child.pid;
    probe.await_confined().expect("hello");
    drop(probe);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_sentence_says_when_user_namespaces_are_forbidden() {
    let seen = Ordinary::new().output(&["forbidden"]);
    let first = seen.lines().next().unwrap_or("");
    for words in ["refuses to make the namespaces", "user.max_user_namespaces is 0", "--allow-missing user", "root"] {
        assert!(first.contains(words), "{words}: {seen}");
    }
    assert_eq!(seen.lines().nth(1), Some("it started"), "{seen}");
}

#[test]
fn a_sentence_says_when_a_program_is_not_static() {
    let seen = Command::new(PROBE).args(["program", "/bin/sh"]).output().expect("the probe");
    let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert!(seen.contains("executing the program") && seen.contains("linked statically"), "{seen}");
}

#[test]
fn a_program_that_was_replaced_after_it_was_opened_is_not_what_runs() {
    let ordinary = Ordinary::new();
    let program = Program::open(&ordinary.path).expect("the probe");
    std::fs::remove_file(&ordinary.path).expect("removed");
    std::fs::write(&ordinary.path, "#!/bin/sh\n").expect("replaced");
    let end = Probe::run(&program, Level::Seccomp, DeviceKind::Register, "nothing");
    assert_eq!(end, Ok(End::Exited(0)));
}

#[test]
fn a_process_that_lacks_a_required_layer_is_not_started() {
    let seen = Ordinary::new().output(&["require", "own-user"]);
    let wanted = "the sandbox layer `own-user` is required, and only root may give out user numbers; run as root, with the \
                  program executable by others, or give `--allow-missing own-user`\n";
    assert_eq!(seen, wanted);
}

/// The supervisor's own descriptors, environment and ignored signals do not reach a child; at no level.
#[test]
fn nothing_of_the_supervisor_is_inherited() {
    // SAFETY: a descriptor that an exec would keep; and SIGUSR1 ignored, as it would be across an exec.
    unsafe {
        libc::fcntl(libc::eventfd(0, 0), libc::F_DUPFD, 700);
        libc::signal(libc::SIGUSR1, libc::SIG_IGN);
    }
    for level in [Level::Off, Level::Process] {
        let probe = Probe::start(&program(), level, DeviceKind::Register, "nothing").expect("a probe");
        probe.await_confined().expect("hello");
        let read = |name: &str| std::fs::read(format!("/proc/{}/{name}", probe.child.pid)).expect(name);
        assert_eq!(read("environ"), b"", "at {level:?}");
        let status = String::from_utf8(read("status")).expect("text");
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).expect(name).trim().to_owned();
        assert_eq!(field("SigBlk:"), "0000000000000000", "at {level:?}");
        // Rust's runtime ignores SIGPIPE (13) in every program; nothing else may be.
        assert_eq!(field("SigIgn:"), "0000000000001000", "at {level:?}");
        let numbers: Vec<i32> = std::fs::read_dir(format!("/proc/{}/fd", probe.child.pid))
            .expect("descriptors")
            .map(|entry| entry.expect("an entry").file_name().to_str().expect("a number").parse().expect("a number"))
            .collect();
        assert!(numbers.iter().all(|number| *number <= 3), "{numbers:?} at {level:?}");
    }
}
