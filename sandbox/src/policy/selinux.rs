//! A module for SELinux in its common intermediate language, as `semodule -i` takes it.
//!
//! A type for each device class, and one for the VMM; which VM a process or an object belongs to is a pair of categories,
//! as sVirt has it. What a process was handed it may read, write and map; there is no `open` and no `execute` but of the
//! program that it is.

use super::{PLUGIN, RELAY, VIEWERS, VMM, processes};
use std::fmt::Write;

/// The type of shared memory.
pub const MEMORY: &str = "cofferdam_memory_t";
/// The type of channels and of lanes that are sockets or pipes.
pub const CHANNEL: &str = "cofferdam_channel_t";
/// The type of a disk image that one VM writes.
pub const IMAGE: &str = "cofferdam_image_t";
/// The type of a disk image that VMs only read.
pub const CONTENT: &str = "cofferdam_content_t";
/// The type of the program.
const PROGRAM: &str = "cofferdam_exec_t";

/// The type of a process: of the hosts of a device class, or of the VMM.
#[must_use]
pub fn process_type(process: &str) -> String {
    format!("cofferdam_{process}_t")
}

/// Names of others' policies that are referred to where they exist: attributes that this module's types join.
/// Not among them `domain`, whose members may open libraries and parts of `/proc`.
const JOINED: [(&str, &str); 3] =
    [("mcs_constrained_type", "cofferdam_process"), ("file_type", "cofferdam_object"), ("file_type", PROGRAM)];
/// Domains that may be a supervisor, where they exist.
const STARTERS: [&str; 3] = ["unconfined_t", "sysadm_t", "initrc_t"];
/// Roles that a supervisor may have.
const ROLES: [&str; 4] = ["system_r", "unconfined_r", "sysadm_r", "staff_r"];
/// Types of file systems that the objects lie on.
const FILE_SYSTEMS: [&str; 2] = ["fs_t", "tmpfs_t"];
/// What a plugin may be loaded from.
const SHOWN: &str = "cofferdam_shown";
/// The type of /dev/kvm.
const KVM: &str = "kvm_device_t";

/// The type of /dev/net/tun.
const TUN: &str = "tun_tap_device_t";

/// The module.
#[must_use]
pub fn module() -> String {
    let mut text = String::from(
        "; Cofferdam: written by `cofferdam policy selinux`. Install with `semodule -i cofferdam.cil`, then label the\n\
         ; program: `chcon -t cofferdam_exec_t /path/to/cofferdam`, or `restorecon` where it is in /usr/bin.\n\n",
    );
    let mut line = |words: String| {
        text.push_str(&words);
        text.push('\n');
    };
    line("; Who starts VMs, their processes, the hosts among these, and what they share.".into());
    for attribute in ["cofferdam_starter", "cofferdam_process", "cofferdam_host", "cofferdam_object"] {
        line(format!("(typeattribute {attribute})"));
    }
    for object in [MEMORY, CHANNEL, IMAGE, CONTENT] {
        line(format!("(type {object})\n(roletype object_r {object})\n(typeattributeset cofferdam_object ({object}))"));
    }
    line(format!("(type {PROGRAM})\n(roletype object_r {PROGRAM})"));
    line(format!("(filecon \"/usr/(local/)?bin/cofferdam\" file (system_u object_r {PROGRAM} ((s0) (s0))))"));
    for process in processes() {
        let name = process_type(process);
        line(format!("(type {name})\n(roletype object_r {name})\n(typeattributeset cofferdam_process ({name}))"));
        if ![VMM, RELAY, VIEWERS].contains(&process) {
            line(format!("(typeattributeset cofferdam_host ({name}))"));
        }
    }
    line(rules());
    line("; As far as the system's policy has these names.".into());
    let mut optional = |words: String| {
        let number = text.lines().count();
        let _ = writeln!(text, "(optional cofferdam_{number} {words})");
    };
    for role in ROLES {
        optional(processes().map(|process| format!("(roletype {role} {})", process_type(process))).collect());
    }
    for (attribute, members) in JOINED {
        optional(format!("(typeattributeset {attribute} ({members}))"));
    }
    for domain in STARTERS {
        optional(format!("(typeattributeset cofferdam_starter ({domain}))"));
    }
    for file_system in FILE_SYSTEMS {
        for members in ["cofferdam_object", PROGRAM] {
            optional(format!("(allow {members} {file_system} (filesystem (associate)))"));
        }
    }
    // A plugin is loaded from files of the system, of whatever type: its root shows which. Not from what VMs share.
    optional(format!(
        "(typeattribute {SHOWN}) (typeattributeset {SHOWN} (and (file_type) (not (cofferdam_object)))) \
         (allow {plugin} {SHOWN} (file (entrypoint getattr read open map execute))) \
         (allow {plugin} {SHOWN} (dir (getattr search read open))) (allow {plugin} {SHOWN} (lnk_file (getattr read)))",
        plugin = process_type(PLUGIN)
    ));
    // The folders of that root.
    optional(format!("(allow {} tmpfs_t (dir (getattr search read open)))", process_type(PLUGIN)));
    optional(format!("(allow {} {KVM} (chr_file (read write ioctl getattr)))", process_type(VMM)));
    optional(format!("(allow {} {TUN} (chr_file (read write getattr ioctl)))", process_type(RELAY)));
    text
}

/// What may be done by whom.
fn rules() -> String {
    let (vmm, block, relay) = (process_type(VMM), process_type("block"), process_type(RELAY));
    let (viewers, plugin) = (process_type(VIEWERS), process_type(PLUGIN));
    format!(
        "
; A supervisor starts them, looks at them and ends them. Without noatsecure the kernel would forget that they die with it.
(allow cofferdam_starter self (process (setexec setsockcreate)))
(allow cofferdam_starter cofferdam_process (process (transition noatsecure siginh rlimitinh ptrace signal signull sigkill \
getattr getsched setsched)))
(allow cofferdam_starter cofferdam_process (process2 (nnp_transition nosuid_transition)))
(allow cofferdam_starter cofferdam_process (dir (getattr search read open)))
(allow cofferdam_starter cofferdam_process (file (getattr read open)))
(allow cofferdam_starter cofferdam_process (lnk_file (getattr read)))
(allow cofferdam_starter {PROGRAM} (file (getattr read open map execute execute_no_trans)))
; It makes what they share, and labels it.
(allow cofferdam_starter cofferdam_object (file (create getattr setattr read write append open map lock relabelfrom relabelto)))
(allow cofferdam_starter {IMAGE} (blk_file (getattr read write open lock relabelfrom relabelto)))
(allow cofferdam_starter {CONTENT} (blk_file (getattr read open lock relabelfrom relabelto)))
(allow cofferdam_starter {CHANNEL} (unix_stream_socket (create read write getattr getopt setopt shutdown)))
(allow cofferdam_starter {CHANNEL} (fifo_file (getattr read write relabelto)))

; Each is its program, and what it was handed.
(allow cofferdam_process {PROGRAM} (file (entrypoint getattr read map execute)))
(allow cofferdam_process cofferdam_starter (fd (use)))
(allow cofferdam_process cofferdam_starter (process (sigchld)))
(allow cofferdam_process self (process (setrlimit sigchld)))
(allow cofferdam_process {CHANNEL} (unix_stream_socket (read write getattr getopt setopt shutdown)))
(allow cofferdam_process {CHANNEL} (fifo_file (getattr read write)))
(allow cofferdam_process {MEMORY} (file (getattr read write map)))
; Hosts of disks have images besides, and so may a plugin.
(allow {block} {IMAGE} (file (getattr read write)))
(allow {block} {IMAGE} (blk_file (getattr read write ioctl)))
(allow {block} {CONTENT} (file (getattr read)))
(allow {block} {CONTENT} (blk_file (getattr read ioctl)))
(allow {plugin} {IMAGE} (file (getattr read write)))
(allow {plugin} {CONTENT} (file (getattr read)))
; A net relay has a network: a tap, or a socket that the supervisor connected before it labelled any.
(allow {relay} cofferdam_starter (unix_stream_socket (read write getattr getopt)))
; A display relay has viewers, who connect to where the supervisor listens; a connection has the label of where it was made.
(allow {viewers} cofferdam_starter (tcp_socket (accept read write getattr getopt)))
; The VMM has threads, and kicks them.
(allow {vmm} self (process (fork signal sigchld getsched setsched)))
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_process_may_open_anything_or_execute_anything_but_its_program() {
        for rule in
            module().lines().filter(|line| line.starts_with("(allow ") && !line.contains("(allow cofferdam_starter"))
        {
            let object = rule.split(' ').nth(2).unwrap_or("");
            assert_ne!(object, SHOWN, "what a plugin is loaded from is an optional part: {rule}");
            assert!(!rule.contains(" open") && !rule.contains("(open"), "{rule}");
            assert!(!rule.contains("execute") || object == PROGRAM, "{rule}");
            assert!(!rule.contains("socket (create") && !rule.contains("connect"), "{rule}");
        }
    }

    #[test]
    fn a_plugin_is_loaded_from_nothing_that_vms_share() {
        let text = module();
        let shown: Vec<&str> = text.lines().filter(|line| line.contains(SHOWN)).collect();
        let [shown] = shown.as_slice() else { panic!("{shown:?}") };
        assert!(
            shown.starts_with("(optional ") && shown.contains("(and (file_type) (not (cofferdam_object)))"),
            "{shown}"
        );
        assert!(!shown.contains("write"), "{shown}");
    }

    #[test]
    fn every_class_has_a_type_of_its_own() {
        for process in processes() {
            assert!(module().contains(&format!("(type {})", process_type(process))), "{process}");
        }
    }

    #[test]
    fn parentheses_match() {
        let text = module();
        assert_eq!(text.matches('(').count(), text.matches(')').count());
    }
}
