//! What a plugin is loaded from, and so what its root shows: found by reading files, without running any.

use super::elf::Elf;
use anyhow::{Context, Result, ensure};
use sandbox::Shown;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Files of a run time that are searched for libraries. A standard library has some thousand files, of which about a hundred are
/// programs; packages beside it may have many more.
const FILES_MAX: usize = 50_000;
/// Where the loader looks when its list is silent: Debian's folders and those of others (ld.so(8)).
const FOLDERS: [&str; 6] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];

/// A view that is being made.
#[derive(Default)]
pub(super) struct View {
    shown: Vec<Shown>,
    libraries: BTreeSet<PathBuf>,
}

impl View {
    /// Shows a file or folder where it is.
    pub(super) fn show(&mut self, path: &Path, because: &str) {
        self.show_at(path, path, because);
    }

    /// Shows a file or folder at another place.
    pub(super) fn show_at(&mut self, at: &Path, from: &Path, because: &str) {
        if !self.shown.iter().any(|shown| at.starts_with(&shown.at)) {
            let (at, from) = (at.to_owned(), from.to_owned());
            self.shown.retain(|shown| !shown.at.starts_with(&at));
            self.shown.push(Shown { at, from, because: because.to_owned().into() });
        }
    }

    /// Shows what a program or library needs, and what that needs.
    pub(super) fn show_needs(&mut self, program: &Path) -> Result<()> {
        let reading = || format!("{}: cannot be read", program.display());
        let Some(elf) = Elf::read(program).with_context(reading)? else { return Ok(()) };
        if let Some(loader) = &elf.loader {
            ensure!(loader.is_file(), "{}: its loader, {}, is not there", program.display(), loader.display());
            self.show(loader, "the loader of programs");
            let list = Path::new("/etc/ld.so.cache");
            if list.is_file() {
                self.show(list, "the loader's list of libraries");
            }
        }
        self.show_libraries(&elf)
    }

    fn show_libraries(&mut self, elf: &Elf) -> Result<()> {
        for name in &elf.needed {
            let Some(path) = find(name, &elf.search) else {
                // A library that its own program may find otherwise, or may do without.
                continue;
            };
            if self.libraries.insert(path.clone()) {
                self.show(&path, "a library");
                let Some(library) = Elf::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?
                else {
                    continue;
                };
                self.show_libraries(&library)?;
            }
        }
        Ok(())
    }

    /// Shows a folder, and what the programs in it need.
    pub(super) fn show_folder(&mut self, folder: &Path, because: &str) -> Result<()> {
        self.show_folder_without(folder, None, because)
    }

    /// The same, but not what the programs in the folder of this name need: they will not be loaded.
    pub(super) fn show_folder_without(&mut self, folder: &Path, without: Option<&str>, because: &str) -> Result<()> {
        self.show(folder, because);
        let mut left = FILES_MAX;
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).with_context(|| format!("{}: cannot be read", folder.display()))? {
                let entry = entry?;
                left = left.checked_sub(1).with_context(|| {
                    format!(
                        "{}: has more than {FILES_MAX} files; give the plugin an environment of its own",
                        folder.display()
                    )
                })?;
                let kind = entry.file_type()?;
                if without.is_some_and(|name| entry.file_name() == name) {
                    continue;
                }
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if entry.file_name().to_string_lossy().contains(".so") && kind.is_file() {
                    self.show_needs(&entry.path())?;
                }
            }
        }
        Ok(())
    }

    /// All of it, outer places first.
    pub(super) fn into_shown(mut self) -> Vec<Shown> {
        self.shown.sort_by(|one, other| one.at.cmp(&other.at));
        self.shown
    }
}

/// The library of this name, where the loader would find it.
fn find(name: &str, search: &[PathBuf]) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_absolute() && path.is_file());
    }
    let folders = search.iter().cloned().chain(FOLDERS.iter().map(PathBuf::from)).chain(listed());
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Folders of the loader's configuration, from which its list is made.
fn listed() -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir("/etc/ld.so.conf.d").into_iter().flatten().flatten();
    let texts = entries.filter_map(|entry| std::fs::read_to_string(entry.path()).ok()).collect::<Vec<_>>();
    let lines: Vec<PathBuf> = texts
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| line.starts_with('/'))
        .map(|line| PathBuf::from(line.trim()))
        .collect();
    lines.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_shown_folder_is_not_shown_twice() {
        let mut view = View::default();
        view.show(Path::new("/usr/lib/python3/a"), "inside");
        view.show(Path::new("/usr/lib/python3"), "outside");
        view.show(Path::new("/usr/lib/python3/b"), "inside");
        let shown: Vec<_> = view.into_shown().into_iter().map(|shown| shown.at).collect();
        assert_eq!(shown, [Path::new("/usr/lib/python3")]);
    }

    #[test]
    fn a_programs_libraries_and_loader_are_shown() {
        let mut view = View::default();
        view.show_needs(Path::new("/bin/sh")).unwrap();
        let shown = view.into_shown();
        let has = |word: &str| shown.iter().any(|shown| shown.at.to_string_lossy().contains(word));
        assert!(has("libc.so") && has("ld-linux"), "{shown:?}");
    }
}
