//! The root of a plugin: an otherwise empty one that shows what the plugin is loaded from.

use super::Process;
use crate::recipe::Shown;
use std::io;
use std::path::{Path, PathBuf};

/// Every mount must be read-only and without devices, and be the root or one that is shown; what is shown may have mounts of
/// the host's inside.
pub(super) fn check(differences: &mut Vec<String>, process: &Process, shown: &[Shown]) -> io::Result<()> {
    differences.extend(compare(&process.read("mountinfo")?, shown));
    let directory = std::fs::read_link(process.path("cwd"))?;
    if directory.as_os_str() != "/" {
        differences.push(format!("its directory is {}", directory.display()));
    }
    Ok(())
}

fn compare(table: &str, shown: &[Shown]) -> Vec<String> {
    let mut differences = Vec::new();
    let mut root = false;
    for mount in table.lines() {
        // proc(5): number, parent, device, root, mount point, options, optional fields, "-", type, source, options.
        let mut fields = mount.split(' ').skip(4);
        let (point, options) = (plain(fields.next().unwrap_or("")), fields.next().unwrap_or(""));
        let kind = mount.split(" - ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or("");
        root |= point == Path::new("/") && kind == "tmpfs";
        if point != Path::new("/") && !shown.iter().any(|shown| point.starts_with(&shown.at)) {
            differences.push(format!("it sees {}, which its recipe does not show", point.display()));
        }
        if !["ro", "nosuid", "nodev"].into_iter().all(|option| options.split(',').any(|have| have == option)) {
            differences.push(format!("it sees {} with other rights than to read it: {options}", point.display()));
        }
    }
    if !root {
        differences.push("its root is not a file system of its own".to_owned());
    }
    differences
}

/// A path as it is, of one in which the kernel has written what would divide fields as `\ooo`.
fn plain(escaped: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = escaped.as_bytes();
    while let [first, after @ ..] = rest {
        let number = after.get(..3).filter(|_| *first == b'\\');
        let number = number.and_then(|digits| std::str::from_utf8(digits).ok());
        match number.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    use std::os::unix::ffi::OsStringExt;
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "1 0 0:30 / / ro,nosuid,nodev,noexec - tmpfs cofferdam rw";

    fn differences(mounts: &[&str]) -> Vec<String> {
        let shown = Shown { at: "/usr/lib/python3".into(), from: "/usr/lib/python3".into(), because: "".into() };
        compare(&mounts.join("\n"), &[shown])
    }

    #[test]
    fn a_mount_that_is_not_shown_is_seen() {
        let home = "2 1 8:1 /home /home ro,nosuid,nodev - ext4 /dev/sda rw";
        assert_eq!(differences(&[ROOT, home]), ["it sees /home, which its recipe does not show"]);
    }

    #[test]
    fn a_mount_that_may_be_written_is_seen() {
        let library = "2 1 8:1 / /usr/lib/python3 rw,nosuid,nodev - ext4 /dev/sda rw";
        assert_eq!(differences(&[ROOT, library]).len(), 1);
    }

    #[test]
    fn what_the_recipe_shows_is_no_difference() {
        let inside = "2 1 8:1 / /usr/lib/python3/my\\040own ro,nosuid,nodev - ext4 /dev/sda rw";
        assert_eq!(differences(&[ROOT, inside]), Vec::<String>::new());
        assert_eq!(plain("/my\\040own"), Path::new("/my own"));
    }

    #[test]
    fn a_root_of_the_hosts_is_seen() {
        let host = "1 0 8:1 / / ro,nosuid,nodev - ext4 /dev/sda rw";
        assert_eq!(differences(&[host]), ["its root is not a file system of its own"]);
    }
}
