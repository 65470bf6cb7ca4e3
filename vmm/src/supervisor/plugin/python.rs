//! What a Python interpreter is loaded from: its standard library, and packages. Found by the names of files, as `getpath.py` of
//! CPython does, without running it: the interpreter is one that the plugin names.

use super::view::View;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// The argument with which it does not try to keep what it has compiled.
pub(super) const WRITES_NOTHING: &str = "-B";

/// What it runs: the script that its argument names, as itself would, but with the SDK loaded first, which says of what is wrong
/// with the script what it is. Without it the script is run all the same.
pub(super) const LOADER: &str = "\
import sys
del sys.argv[0]
__file__ = sys.argv[0]
sys.path[0] = __file__.rpartition('/')[0]
try:
    import cofferdam_device
except ImportError:
    pass
exec(compile(open(__file__, 'rb').read(), __file__, 'exec'))
";

/// Where packages are. An interpreter that was not installed by a distribution has a folder of that name in its standard library;
/// in a virtual environment that is not used.
const PACKAGES: &str = "site-packages";

/// Whether a program is one.
pub(super) fn is_one(executable: &Path) -> bool {
    executable.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3"))
}

/// Shows what it loads. `named` is the name by which it is started: in a virtual environment that decides where packages are.
pub(super) fn show(view: &mut View, named: &Path, executable: &Path) -> Result<()> {
    let prefix = above(executable);
    let Some(version) = version(executable, &prefix) else {
        bail!("{}: its standard library is not found under {}", executable.display(), prefix.join("lib").display());
    };
    let environment = above(named);
    let settings = environment.join("pyvenv.cfg");
    let others = settings.is_file().then_some(PACKAGES);
    view.show_folder_without(&prefix.join("lib").join(&version), others, "Python's standard library")?;
    if settings.is_file() {
        view.show(&settings, "says where Python's standard library is");
        // It is looked for from this folder, which the settings name.
        view.show(executable, "the interpreter");
        return packages(view, &environment.join("lib").join(&version).join(PACKAGES));
    }
    // A Debian system has its own packages apart from those of others.
    for folder in
        [prefix.join("lib/python3/dist-packages"), PathBuf::from("/usr/local/lib").join(&version).join("dist-packages")]
    {
        packages(view, &folder)?;
    }
    Ok(())
}

fn packages(view: &mut View, folder: &Path) -> Result<()> {
    if folder.is_dir() { view.show_folder(folder, "Python packages") } else { Ok(()) }
}

/// The folder that has the program's `bin`.
fn above(program: &Path) -> PathBuf {
    program.parent().and_then(Path::parent).unwrap_or(Path::new("/")).to_owned()
}

/// `python3.11`, by the program's name or by what library there is.
fn version(executable: &Path, prefix: &Path) -> Option<String> {
    let has = |name: &str| prefix.join("lib").join(name).join("os.py").is_file();
    let own = executable.file_name()?.to_string_lossy().into_owned();
    if has(&own) {
        return Some(own);
    }
    let entries = std::fs::read_dir(prefix.join("lib")).context("lib").ok()?;
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("python3.") && has(name))
        .collect();
    names.sort();
    names.pop()
}
