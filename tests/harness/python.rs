//! A Python environment for plugins: the SDK as its wheel has it, and pycapnp, once for all tests.

// Each test file uses its own part of this.
#![allow(dead_code)]

use crate::harness::{root, text};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The version that CI reads golden messages with, too.
const PYCAPNP: &str = "pycapnp==2.2.4";

/// Its interpreter; `None`, and one line that says so, where there is none to be had.
pub fn interpreter() -> Option<&'static Path> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match MADE.get_or_init(make) {
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

/// A plugin of this text, whose first line is replaced.
pub fn script(text: &str, name: &str, interpreter: &Path, folder: &Path) -> PathBuf {
    let (_, rest) = text.split_once('\n').expect("a first line");
    let path = folder.join(format!("{name}.py"));
    fs::write(&path, format!("#!{}\n{rest}", interpreter.display())).expect("a plugin");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a plugin that can be started");
    path
}

fn make() -> Result<PathBuf, String> {
    // A `python3` may be a script that looks for one: the program itself is wanted.
    let said = run(Command::new("python3").args(["-c", "import sys; print(sys.executable)"]))?;
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    fs::create_dir_all(&place).map_err(|error| error.to_string())?;
    // Test programs that run at the same time make one environment, one after the other.
    let lock = fs::File::create(place.join("lock")).map_err(|error| error.to_string())?;
    let _lock =
        nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).map_err(|(_, error)| error.to_string())?;
    let environment = place.join("environment");
    let interpreter = environment.join("bin/python3");
    if !interpreter.exists() {
        run(Command::new(said.trim()).args(["-m", "venv", "--without-pip"]).arg(&environment))?;
    }
    let packages =
        run(Command::new(&interpreter).args(["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]))?;
    let packages = PathBuf::from(packages.trim());
    if !packages.join("capnp").exists() {
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--target"];
        run(Command::new(said.trim()).args(pip).arg(&packages).arg(PYCAPNP))?;
    }
    // As the wheel has it: the schema is among the package's files.
    let package = packages.join("cofferdam_device");
    let _ = fs::remove_dir_all(&package);
    run(Command::new("cp").arg("-rL").arg(root().join("devices/sdk/python/cofferdam_device")).arg(&package))?;
    Ok(interpreter)
}

fn run(command: &mut Command) -> Result<String, String> {
    let done = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if done.status.success() { Ok(text(&done.stdout)) } else { Err(format!("{command:?}: {}", text(&done.stderr))) }
}
