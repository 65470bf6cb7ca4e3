//! Python and pycapnp, which is installed once.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{command, packages};

/// The version that is installed; one that is known to read our schema.
const PYCAPNP: &str = "pycapnp==2.2.4";

/// An interpreter, and the folder that has pycapnp for it.
pub struct Python {
    pub program: PathBuf,
    pub library: PathBuf,
}

impl Python {
    /// Finds the interpreter, and installs pycapnp in a folder of its own under `work`. The error says what this machine lacks.
    pub fn obtain(work: &Path, logs: &Path) -> Result<Python, String> {
        let python = packages::find("python3")?;
        // A `python3` may be a script that looks for one, by the folder that it runs in: the program itself is wanted.
        let ask = "import sys; print(sys.executable); print(sys.implementation.cache_tag)";
        let said = Command::new(&python).args(["-c", ask]).output();
        let said = said.map_err(|error| format!("{}: {error}", python.display()))?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let mut lines = said.lines();
        let (Some(program), Some(version)) = (lines.next().map(PathBuf::from), lines.next()) else {
            return Err(format!("{} does not run", python.display()));
        };
        let library = work.join(format!("{}-{version}", PYCAPNP.replace("==", "-")));
        if !library.join("capnp").exists() {
            let mut pip = Command::new(&program);
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"])
                .arg(&library)
                .arg(PYCAPNP);
            match command::run(&mut pip, &logs.join("pip.log")) {
                Ok(done) if done.success => {}
                Ok(done) => return Err(format!("pip cannot install {PYCAPNP}: {}", done.tail())),
                Err(error) => return Err(format!("pip cannot install {PYCAPNP}: {error:#}")),
            }
        }
        Ok(Python { program, library })
    }

    /// The interpreter with pycapnp, leaving nothing behind.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("PYTHONPATH", &self.library).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}
