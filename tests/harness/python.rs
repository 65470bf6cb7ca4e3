//! Python environments, once for all tests: for plugins, with pycapnp; and for a VNC client. And plugins with the SDK beside them.

// Each test file uses its own part of this.
#![allow(dead_code)]

use crate::harness::{root, text};
use nix::fcntl::{Flock, FlockArg};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The version that CI reads golden messages with, too.
pub const PYCAPNP: &str = "pycapnp==2.2.4";

/// A VNC client, and what it stands on.
const ASYNCVNC: [&str; 4] = ["asyncvnc==1.3.0", "cryptography<51", "numpy<3", "keysymdef==1.2.0"];

/// The QEMU project's own client of its monitor.
const QMP: &str = "qemu.qmp==0.0.6";

/// Its interpreter; `None`, and one line that says so, where there is none to be had.
pub fn interpreter() -> Option<&'static Path> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    said(MADE.get_or_init(|| make("python", "capnp", &[PYCAPNP])))
}

/// The interpreter of an environment of its own, which has a VNC client.
pub fn viewer() -> Option<&'static Path> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    said(MADE.get_or_init(|| make("viewer", "asyncvnc.py", &ASYNCVNC)))
}

/// The interpreter of an environment of its own, which has a client of the monitor.
pub fn monitor_client() -> Option<&'static Path> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    said(MADE.get_or_init(|| make("monitor", "qemu/qmp", &[QMP])))
}

fn said(made: &'static Result<PathBuf, String>) -> Option<&'static Path> {
    match made {
        Ok(interpreter) => Some(interpreter),
        Err(why) => {
            println!("SKIPPED: {why}");
            None
        }
    }
}

/// A copy of an example plugin in `folder` that is started by this environment's interpreter.
pub fn example(name: &str, interpreter: &Path, folder: &Path) -> PathBuf {
    let from = root().join("devices/sdk/python/examples").join(format!("{name}.py"));
    script(&fs::read_to_string(from).expect("an example"), name, interpreter, folder)
}

/// A plugin of this text, whose first line is replaced, with the SDK beside it as `cofferdam device new` puts it there.
pub fn script(text: &str, name: &str, interpreter: &Path, folder: &Path) -> PathBuf {
    let path = folder.join(format!("{name}.py"));
    write(text, interpreter, &path);
    let sdk = folder.join("cofferdam_device");
    if !sdk.exists() {
        let from = root().join("devices/sdk/python/cofferdam_device");
        run(Command::new("cp").arg("-rL").arg(from).arg(&sdk)).expect("the SDK");
    }
    path
}

/// Runs the tests in a folder of Python files, with the SDK as it stands here.
pub fn passes(interpreter: &Path, folder: &Path) {
    let mut tests = Command::new(interpreter);
    tests.env("PYTHONPATH", root().join("devices/sdk/python"));
    let done = tests.args(["-B", "-m", "unittest", "discover", "-s"]).arg(folder).output().expect("Python starts");
    assert!(done.status.success(), "{}", text(&done.stderr));
}

/// An environment with `wanted`, which brings the file or folder `sign`; its interpreter.
fn make(name: &str, sign: &str, wanted: &[&str]) -> Result<PathBuf, String> {
    let own = own()?;
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&place).map_err(|error| error.to_string())?;
    // Test programs that run at the same time make one environment, one after the other.
    let lock = fs::File::create(place.join("lock")).map_err(|error| error.to_string())?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error.to_string())?;
    let environment = place.join("environment");
    let interpreter = environment.join("bin/python3");
    if !interpreter.exists() {
        run(Command::new(&own).args(["-m", "venv", "--without-pip"]).arg(&environment))?;
    }
    let packages =
        run(Command::new(&interpreter).args(["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]))?;
    let packages = PathBuf::from(packages.trim());
    if !packages.join(sign).exists() {
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--target"];
        run(Command::new(&own).args(pip).arg(&packages).args(wanted))?;
    }
    Ok(interpreter)
}

/// Writes a plugin of this text, whose first line is replaced.
pub fn write(text: &str, interpreter: &Path, path: &Path) {
    let (_, rest) = text.split_once('\n').expect("a first line");
    fs::write(path, format!("#!{}\n{rest}", interpreter.display())).expect("a plugin");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a plugin that can be started");
}

/// The interpreter of this machine. A `python3` may be a script that looks for one: the program itself is wanted.
pub fn own() -> Result<PathBuf, String> {
    run(Command::new("python3").args(["-c", "import sys; print(sys.executable)"])).map(|said| said.trim().into())
}

/// Runs it; gives what it says, or that it cannot.
pub fn run(command: &mut Command) -> Result<String, String> {
    let done = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if done.status.success() {
        Ok(text(&done.stdout))
    } else {
        Err(format!("{command:?}: {}{}", text(&done.stdout), text(&done.stderr)))
    }
}
