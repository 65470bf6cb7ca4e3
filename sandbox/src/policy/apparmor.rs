//! Profiles for AppArmor, as `apparmor_parser -r` takes them.
//!
//! AppArmor goes by paths. Shared memory and eventfds have none and are beside its reach; disk images have, so the hosts of
//! a VM's disks have a profile of their own that names them. What a process is handed is checked against its profile only
//! where who opened it was confined as well: hence a profile for the supervisor, which the program gets by its path.

use super::{PLUGIN, RELAY, VIEWERS, VMM, processes};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The supervisor's.
const SUPERVISOR: &str = "cofferdam";
/// A plugin's root shows what it is loaded from, and no more. Nothing of it is written or executed.
const SHOWN: &str = "  / r,\n  /** rm,\n";
/// Whose work is on files, which a VM's own profile of theirs names.
pub const WORK_ON_DISKS: [&str; 2] = ["block", PLUGIN];

/// The profile of a process: of the hosts of a device class, or of the VMM.
#[must_use]
pub fn profile(process: &str) -> String {
    format!("{SUPERVISOR}-{process}")
}

/// The profile of those of a process's kind that work on the disks of the VM `vm`.
#[must_use]
pub fn disk_profile(process: &str, vm: &str) -> String {
    format!("{}.{vm}", profile(process))
}

/// A disk image of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its full path.
    pub path: PathBuf,
    /// Where the file system that it lies on is mounted: in an empty root its path is shown from there.
    pub mounted: PathBuf,
    /// It is only read.
    pub readonly: bool,
}

/// Profiles for `program`: the supervisor's, one for each device class, and the VMM's.
#[must_use]
pub fn profiles(program: &Path) -> String {
    let mut text = String::from(
        "# Cofferdam: written by `cofferdam policy apparmor`. Install with `apparmor_parser -r FILE`.\n\
         # Hosts of disks need a profile that names these: `cofferdam policy apparmor --vm NAME --disk PATH`.\n\n\
         abi <abi/3.0>,\n",
    );
    let shown = quoted(program);
    let _ = write!(
        text,
        "
# What a person may do, within their rights; what it hands on is checked against who receives it.
profile {SUPERVISOR} {shown} flags=(attach_disconnected) {{
  capability,
  network unix,
  network inet stream,
  network inet6 stream,
  mount,
  umount,
  pivot_root,
  signal,
  ptrace,
  file,
  # On top of this profile, which a child with no_new_privs cannot leave. `unsafe` keeps what it has asked for: to die with
  # its supervisor.
  change_profile unsafe /** -> &{SUPERVISOR}-*,
}}
"
    );
    for process in processes() {
        text.push_str(&one(
            &profile(process),
            program,
            match process {
                VMM => "  /dev/kvm rw,\n  /kvm rw,\n  signal,\n",
                RELAY => "  /dev/net/tun rw,\n  /net/tun rw,\n",
                // Rules of this version tell no listener from a connection: what it makes of them is for its filter to say.
                VIEWERS => "  network inet stream,\n  network inet6 stream,\n",
                PLUGIN => SHOWN,
                _ => "",
            },
        ));
    }
    text
}

/// The profiles of the hosts of a VM's disks, and of its plugins that work on files.
#[must_use]
pub fn disks(program: &Path, vm: &str, disks: &[Disk]) -> String {
    let mut rules = String::new();
    for disk in disks {
        let mode = if disk.readonly { "r" } else { "rw" };
        let below = disk.path.strip_prefix(&disk.mounted).unwrap_or(&disk.path);
        let mut paths = vec![disk.path.clone(), Path::new("/").join(below)];
        paths.dedup();
        for path in paths {
            let _ = writeln!(rules, "  {} {mode},", quoted(&path));
        }
    }
    let mut text =
        format!("# Cofferdam: the disks of the VM `{vm}`. Install with `apparmor_parser -r FILE`.\n\nabi <abi/3.0>,\n");
    for process in WORK_ON_DISKS {
        let shown = if process == PLUGIN { SHOWN } else { "" };
        text.push_str(&one(&disk_profile(process, vm), program, &format!("{rules}{shown}")));
    }
    text
}

/// A profile of nothing but the program, its channel and what `rules` add.
fn one(name: &str, program: &Path, rules: &str) -> String {
    // Seen from an empty root, its path begins where its file system is mounted: the name is what stays.
    let file = program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    format!(
        "
profile {name} flags=(attach_disconnected) {{
  {} mr,
  \"/{{,**/}}{}\" mr,
  network unix,
  signal receive,
  ptrace readby peer={SUPERVISOR},
{rules}}}
",
        quoted(program),
        escaped(&file)
    )
}

/// A path as a profile has it.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", escaped(&path.to_string_lossy()))
}

/// Without the characters that mean something in a pattern.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '{' | '}' | '^' | '"' | '\\' | '@') {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_named_by_its_path_and_by_where_its_file_system_begins() {
        let disk = Disk { path: "/data/a[1].img".into(), mounted: "/data".into(), readonly: false };
        let text = disks(Path::new("/usr/bin/cofferdam"), "one", &[disk]);
        assert!(
            text.contains("profile cofferdam-block.one ") && text.contains("profile cofferdam-plugin.one "),
            "{text}"
        );
        assert!(text.contains("  \"/data/a\\[1\\].img\" rw,\n  \"/a\\[1\\].img\" rw,\n"), "{text}");
    }

    #[test]
    fn no_host_has_a_network_but_its_channel_or_a_file_but_its_program() {
        let text = profiles(Path::new("/usr/bin/cofferdam"));
        for process in processes().filter(|process| ![VMM, PLUGIN].contains(process)) {
            let begin = text.find(&format!("profile {} ", profile(process))).expect(process);
            let body = text[begin..].split('}').next().expect("a body").replace("{,**/", "");
            assert!(!body.contains("capability") && !body.contains("network,") && !body.contains(" file,"), "{body}");
            assert!(!body.contains("/** "), "{body}");
        }
    }

    #[test]
    fn a_plugin_reads_what_its_root_shows_and_writes_and_executes_nothing() {
        let text = profiles(Path::new("/usr/bin/cofferdam"));
        let begin = text.find("profile cofferdam-plugin ").expect("a profile");
        let rules: Vec<&str> = text[begin..].lines().skip(1).take_while(|line| *line != "}").map(str::trim).collect();
        assert!(rules.contains(&"/** rm,"), "{rules:?}");
        let files = rules.iter().filter(|rule| rule.contains('/'));
        let modes = files.filter_map(|rule| rule.rsplit(' ').next());
        assert!(
            modes.clone().count() > 2 && modes.clone().all(|mode| ["r,", "rm,", "mr,"].contains(&mode)),
            "{rules:?}"
        );
    }
}
