//! What `cofferdam run --firmware` takes: an image by name, and where the firmware's words go.

use super::usage;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use vmm::supervisor::Outlet;

/// Where distributions keep firmware of PCs and of their cards.
const FOLDERS: [&str; 3] = ["/usr/share/seabios", "/usr/share/qemu", "/usr/lib/ipxe/qemu"];

/// The content of a firmware's or an option ROM's file. A name without a slash is looked for in the working folder, then in the
/// distribution's.
pub fn read_image(flag: &str, name: &Path) -> Result<Vec<u8>> {
    let path = find_image(name).ok_or_else(|| {
        usage!(
            "{flag} {}: there is no such file here or in {}; Debian's packages `seabios` and `ipxe-qemu` have \
             bios-256k.bin and pxe-rtl8139.rom",
            name.display(),
            FOLDERS.join(" or ")
        )
    })?;
    std::fs::read(&path).with_context(|| format!("{flag} {}: cannot be read", path.display()))
}

/// Where [`read_image`] finds this, if it does.
pub fn find_image(name: &Path) -> Option<PathBuf> {
    find(name, &FOLDERS.map(Path::new)).filter(|path| path.exists())
}

/// Where the file is: a path as it is, a mere name in the first folder that has it.
fn find(name: &Path, folders: &[&Path]) -> Option<PathBuf> {
    let is_path = name.components().count() > 1 || name.is_absolute();
    if is_path || name.exists() {
        return Some(name.to_owned());
    }
    folders.iter().map(|folder| folder.join(name)).find(|path| path.exists())
}

/// Where the debug console goes.
pub fn debug_console(words: &str) -> Result<Outlet> {
    match words {
        "log" => Ok(Outlet::Log),
        "stdio" => Ok(Outlet::Console),
        other => match other.strip_prefix("file=") {
            Some(path) if !path.is_empty() => Ok(Outlet::File(PathBuf::from(path))),
            _ => Err(usage!("--debug-console {other}: give log, stdio or file=PATH")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mere_name_is_looked_for_here_and_then_in_the_distribution_s_folders() {
        let folder = std::env::temp_dir().join(format!("cofferdam-firmware-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("some-bios.bin"), [0]).unwrap();
        let missing = Path::new("missing");
        assert_eq!(find(Path::new("some-bios.bin"), &[missing, &folder]), Some(folder.join("some-bios.bin")));
        assert_eq!(find(Path::new("no-such-bios.bin"), &[missing, &folder]), None);
        assert_eq!(find(Path::new("./some-bios.bin"), &[&folder]), Some("./some-bios.bin".into()), "a path is a path");
        assert_eq!(find(Path::new("Cargo.toml"), &[missing]), Some("Cargo.toml".into()));
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(read_image("--firmware", Path::new("no-such-bios.bin")).unwrap_err().to_string().contains("seabios"));
    }

    #[test]
    fn debug_console_goes_to_one_of_three_places() {
        assert_eq!(debug_console("log").unwrap(), Outlet::Log);
        assert_eq!(debug_console("stdio").unwrap(), Outlet::Console);
        assert_eq!(debug_console("file=a").unwrap(), Outlet::File("a".into()));
        for wrong in ["", "file=", "pty"] {
            assert!(debug_console(wrong).is_err(), "{wrong}");
        }
    }
}
