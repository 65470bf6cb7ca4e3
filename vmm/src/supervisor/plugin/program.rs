//! What is executed for a plugin: itself, or the interpreter that its first line names.

use super::elf::Elf;
use super::python;
use super::view::View;
use anyhow::{Context, Result, anyhow, bail, ensure};
use sandbox::Shown;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Longest first line of a script: the kernel reads no more either.
const LINE_MAX: u64 = 256;
/// The folder of a device SDK beside a plugin, as `cofferdam device new` puts it there.
const SDK: &str = "cofferdam_device";

/// How a plugin is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginProgram {
    /// What is executed.
    pub executable: PathBuf,
    /// The name that it is started by: an interpreter finds its library by it.
    pub argv0: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What its root shows.
    pub view: Vec<Shown>,
}

impl PluginProgram {
    /// Finds out how to start the plugin at `path`; nothing of it is run.
    pub fn find(path: &Path) -> Result<PluginProgram> {
        let shown = path.display();
        let path = path.canonicalize().map_err(|error| anyhow!("plugin {shown}: cannot be found: {error}"))?;
        let found = std::fs::metadata(&path).with_context(|| format!("plugin {shown}: cannot be looked at"))?;
        ensure!(found.is_file(), "plugin {shown}: is not a file; name the program itself");
        ensure!(found.permissions().mode() & 0o111 != 0, "plugin {shown}: is not executable; say `chmod +x {shown}`");
        ensure!(found.len() > 0, "plugin {shown}: is empty");
        let mut view = View::default();
        view.show(&path, "the plugin");
        if Elf::read(&path).with_context(|| format!("plugin {shown}: cannot be read"))?.is_some() {
            view.show_needs(&path)?;
            let argv0 = path.to_string_lossy().into_owned();
            return Ok(PluginProgram { executable: path, argv0, arguments: Vec::new(), view: view.into_shown() });
        }
        let Some(line) = first_line(&path)? else {
            if Elf::is_one(&path)? {
                bail!("plugin {shown}: is a program for another kind of machine; build it for x86-64, with 64 bits");
            }
            bail!(
                "plugin {shown}: is neither a program for x86-64 nor a script; a script begins with `#!` and its \
                 interpreter, as `#!/usr/bin/env python3`"
            );
        };
        let mut words = line.split_whitespace().map(str::to_owned);
        let named = words.next().with_context(|| format!("plugin {shown}: its `#!` line names no interpreter"))?;
        let (interpreter, mut arguments) = if Path::new(&named).file_name().is_some_and(|name| name == "env") {
            let name = words.next().with_context(|| format!("plugin {shown}: its `#!` line names no interpreter"))?;
            (in_path(&name).with_context(|| format!("plugin {shown}: there is no program `{name}`"))?, words.collect())
        } else {
            (PathBuf::from(&named), words.collect::<Vec<_>>())
        };
        let executable = interpreter
            .canonicalize()
            .map_err(|error| anyhow!("plugin {shown}: its interpreter, {}: {error}", interpreter.display()))?;
        ensure!(
            Elf::read(&executable)?.is_some(),
            "plugin {shown}: its interpreter, {}, is itself a script; name the program itself",
            interpreter.display()
        );
        view.show_at(&interpreter, &executable, "the interpreter");
        view.show_needs(&executable)?;
        if python::is_one(&executable) {
            python::show(&mut view, &interpreter, &executable)?;
            arguments.extend([python::WRITES_NOTHING, "-c", python::LOADER].map(str::to_owned));
        }
        let sdk = path.with_file_name(SDK);
        if sdk.is_dir() {
            view.show_folder(&sdk, "the SDK beside the plugin")?;
        }
        arguments.push(path.to_string_lossy().into_owned());
        let argv0 = interpreter.to_string_lossy().into_owned();
        Ok(PluginProgram { executable, argv0, arguments, view: view.into_shown() })
    }
}

/// What follows `#!`, if that is how the file begins.
fn first_line(path: &Path) -> Result<Option<String>> {
    let mut head = Vec::new();
    File::open(path)?.take(LINE_MAX).read_to_end(&mut head)?;
    let Some(rest) = head.strip_prefix(b"#!") else { return Ok(None) };
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    Ok(std::str::from_utf8(&rest[..end]).ok().map(|line| line.trim().to_owned()))
}

/// The first program of this name in the folders of `PATH` that is not itself a script: a stand-in that looks for the program
/// by what it finds around it would find nothing in a plugin's root.
fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let candidates = std::env::split_paths(&path).map(|folder| folder.join(name));
    candidates
        .filter(|candidate| candidate.is_absolute() && candidate.is_file())
        .find(|candidate| Elf::read(candidate).is_ok_and(|elf| elf.is_some()))
}
