//! Real VMs for tests: starts the program, watches it from outside, leaves nothing behind.

// Each test file uses its own part of the harness.
#![allow(dead_code)]
// Micro guests are bytes between two labels.
#![allow(unsafe_code)]

use serde_json::Value;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Whatever is waited for happens within this, or the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

std::arch::global_asm!(
    ".section .rodata.guests,\"a\"",
    ".balign 16",
    include_str!("../guests/tick.s"),
    ".balign 16",
    include_str!("../guests/sweep.s"),
    ".balign 16",
    include_str!("../guests/idle.s"),
    ".balign 16",
    include_str!("../guests/anew.s"),
    ".balign 16",
    include_str!("../guests/venom.s"),
    ".balign 16",
    include_str!("../guests/meter.s"),
    ".balign 16",
    include_str!("../guests/echo.s"),
    ".balign 16",
    include_str!("../guests/firmware.s"),
    ".balign 16",
    include_str!("../guests/floppy.s"),
    ".balign 16",
    include_str!("../guests/display.s"),
    ".balign 16",
    include_str!("../guests/ide.s"),
    ".text"
);

macro_rules! guest {
    ($name:ident, $start:ident, $end:ident) => {
        /// The code of this micro guest.
        pub fn $name() -> Vec<u8> {
            unsafe extern "C" {
                static $start: u8;
                static $end: u8;
            }
            let (start, end) = (&raw const $start, &raw const $end);
            // SAFETY: both are labels of one read-only section, `start` first.
            unsafe { std::slice::from_raw_parts(start, end.offset_from(start) as usize) }.to_vec()
        }
    };
}
guest!(tick_guest, cofferdam_tick_guest_start, cofferdam_tick_guest_end);
guest!(sweep_guest, cofferdam_sweep_guest_start, cofferdam_sweep_guest_end);
guest!(anew_guest, cofferdam_anew_guest_start, cofferdam_anew_guest_end);
guest!(idle_guest, cofferdam_idle_guest_start, cofferdam_idle_guest_end);
guest!(meter_guest, cofferdam_meter_guest_start, cofferdam_meter_guest_end);
guest!(floppy_guest, cofferdam_floppy_guest_start, cofferdam_floppy_guest_end);
guest!(display_guest, cofferdam_display_guest_start, cofferdam_display_guest_end);
guest!(ide_guest, cofferdam_ide_guest_start, cofferdam_ide_guest_end);
guest!(echo_guest, cofferdam_echo_guest_start, cofferdam_echo_guest_end);
guest!(venom_guest, cofferdam_venom_guest_start, cofferdam_venom_guest_end);
guest!(firmware_guest, cofferdam_firmware_start, cofferdam_firmware_end);
guest!(venom_aim, cofferdam_venom_guest_aim, cofferdam_venom_guest_end);

/// A place for one test: its own runtime folder and files.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A new one.
    pub fn new() -> Place {
        Place { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file in it.
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("a file in the temporary folder");
        path
    }

    /// The program, with this place's runtime folder.
    pub fn cofferdam(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.env("COFFERDAM_RUNTIME", self.path("run")).stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, words: &[&str]) -> Output {
        self.cofferdam().args(words).output().expect("the program starts")
    }

    /// What `ps --audit --json` says.
    pub fn ps(&self) -> Vec<Value> {
        let output = self.run(&["ps", "--audit", "--json"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("ps prints JSON")
    }

    /// Starts a VM that runs a micro guest, its console in a file.
    pub fn start(&self, name: &str, guest: &[u8], words: &[&str]) -> Vm<'_> {
        let image = self.file(&format!("{name}.guest"), guest);
        self.start_with(name, &[&["--flat", image.to_str().expect("a path of ours")], words].concat())
    }

    /// Starts a VM that runs what these words say, its console in a file.
    pub fn start_with(&self, name: &str, words: &[&str]) -> Vm<'_> {
        let console = self.path(&format!("{name}.console"));
        let errors = self.path(&format!("{name}.errors"));
        let child = self
            .cofferdam()
            .arg("run")
            .args(["--memory", "64M", "--name", name, "--console"])
            .arg(format!("file={}", console.display()))
            .args(words)
            .stdout(Stdio::null())
            .stderr(fs::File::create(&errors).expect("a file for errors"))
            .process_group(0)
            .spawn()
            .expect("the program starts");
        Vm { place: self, name: name.to_owned(), child, console, errors }
    }

    /// Whether anything is left in the runtime folder.
    pub fn runtime_files(&self) -> Vec<PathBuf> {
        fs::read_dir(self.path("run"))
            .map(|files| files.flatten().map(|file| file.path()).collect())
            .unwrap_or_default()
    }
}

/// A running VM.
pub struct Vm<'a> {
    place: &'a Place,
    name: String,
    child: Child,
    console: PathBuf,
    errors: PathBuf,
}

impl Vm<'_> {
    /// The supervisor's process number.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// What the guest has printed.
    pub fn console(&self) -> Vec<u8> {
        fs::read(&self.console).unwrap_or_default()
    }

    /// What was said on standard error.
    pub fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }

    /// Waits until the guest has printed something new.
    pub fn wait_for_output(&self) {
        let before = self.console().len();
        wait_until("the guest prints", || self.console().len() > before);
    }

    /// Rows of `ps` for this VM.
    pub fn hosts(&self) -> Vec<Value> {
        self.place.ps().into_iter().filter(|row| row["vm"] == self.name.as_str()).collect()
    }

    /// The row of one host.
    pub fn host(&self, name: &str) -> Value {
        let rows = self.hosts();
        rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no host {name} in {rows:#?}")).clone()
    }

    /// How many accesses a host has served, however.
    pub fn served(&self, name: &str) -> u64 {
        let row = self.host(name);
        ["shadow", "posted", "lane", "doorbell"].iter().filter_map(|how| row["accesses"][how].as_u64()).sum()
    }

    /// Waits until the hosts are all there.
    pub fn wait_until_running(&self) {
        wait_until("the VM runs", || {
            assert!(lives(self.pid().into()), "the VM does not start; it said: {}", self.errors());
            !self.hosts().is_empty()
        });
    }

    /// Waits for the end; gives the exit status.
    pub fn wait(&mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return status.code();
            }
            assert!(Instant::now() < until, "the VM does not end; it said: {}", self.errors());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal to the supervisor.
    pub fn signal(&self, signal: i32) {
        send(self.pid(), signal);
    }
}

impl Drop for Vm<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process.
pub fn send(pid: i32, signal: i32) {
    // SAFETY: kill touches no memory of ours.
    let sent = unsafe { libc::kill(pid, signal) };
    assert_eq!(sent, 0, "signalling {pid}: {}", std::io::Error::last_os_error());
}

/// Waits for a condition.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "waited {PATIENCE:?} until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process exists and is not a zombie.
pub fn lives(pid: i64) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    !status.lines().any(|line| line.starts_with("State:") && (line.contains('Z') || line.contains('X')))
}

/// Whether native KVM can be opened. Tests that need it say so when it is not, and are counted as skipped.
pub fn kvm() -> bool {
    let opens = fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
    if !opens {
        println!("SKIPPED: /dev/kvm cannot be opened");
    }
    opens
}

/// Output as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Where the repository is.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("cli is inside the workspace")
}
