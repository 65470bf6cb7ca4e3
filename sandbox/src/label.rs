//! Labels of a Linux security module: SELinux contexts and AppArmor profiles.
//!
//! A process gets its label as its program starts, from what it wrote to its own `attr/exec` before. Objects are labelled
//! for SELinux alone: AppArmor goes by paths, and what was created without one (shared memory, channels) has none.

#![allow(unsafe_code)] // An extended attribute is set on a descriptor, for which nix has no wrapper.

use std::ffi::CStr;
use std::fmt::{Display, Formatter};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The attribute that holds an object's context.
const ATTRIBUTE: &CStr = c"security.selinux";
/// Longest context that is read back.
const CONTEXT_MAX: usize = 512;

/// A security module that labels processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Module {
    /// By context: user, role, type, and a level with categories.
    Selinux,
    /// By profile.
    Apparmor,
}

impl Module {
    /// The one that this kernel has switched on.
    #[must_use]
    pub fn active() -> Option<Module> {
        if fs::exists("/sys/fs/selinux/policyvers").unwrap_or(false) {
            return Some(Module::Selinux);
        }
        fs::read_to_string("/sys/module/apparmor/parameters/enabled")
            .is_ok_and(|enabled| enabled.trim() == "Y")
            .then_some(Module::Apparmor)
    }

    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Module::Selinux => "SELinux",
            Module::Apparmor => "AppArmor",
        }
    }

    /// The label of a process, without what says how it is enforced; `self` is this one.
    pub fn label_of(self, process: &str) -> io::Result<String> {
        let file = match self {
            Module::Selinux => "current",
            Module::Apparmor => "apparmor/current",
        };
        let text = fs::read_to_string(format!("/proc/{process}/attr/{file}"))?;
        Ok(text.trim_end_matches(['\0', '\n']).to_owned())
    }
}

/// A label for a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Whose.
    pub module: Module,
    /// A context or the name of a profile.
    pub text: String,
}

impl Label {
    /// Whether the policy that is loaded knows it; `None` where this user may not ask.
    #[must_use]
    pub fn is_known(&self) -> Option<bool> {
        match self.module {
            // selinuxfs: a write of a context that is none fails.
            Module::Selinux => match fs::write("/sys/fs/selinux/context", self.with_end()) {
                Ok(()) => Some(true),
                Err(error) => (error.raw_os_error() == Some(libc::EINVAL)).then_some(false),
            },
            Module::Apparmor => {
                let profiles = fs::read_to_string("/sys/kernel/security/apparmor/profiles").ok()?;
                let names = profiles.lines().filter_map(|line| Some(line.rsplit_once(" (")?.0));
                Some(names.into_iter().any(|name| name == self.text))
            }
        }
    }

    /// What a process writes to have this label from its next exec on, and where.
    ///
    /// A confined supervisor's children stay under its profile too: with `no_new_privs` no profile can be exchanged for
    /// another, only added.
    pub(crate) fn on_exec(&self) -> (&'static CStr, Vec<u8>) {
        match self.module {
            Module::Selinux => (c"/proc/thread-self/attr/exec", self.with_end()),
            Module::Apparmor => {
                let alone = Module::Apparmor.label_of("self").is_ok_and(|own| own.starts_with("unconfined"));
                let word = if alone { "exec" } else { "stack" };
                (c"/proc/thread-self/attr/apparmor/exec", format!("{word} {}", self.text).into_bytes())
            }
        }
    }

    /// What is wrong with the label that a process has, if anything is.
    pub(crate) fn differs(&self, has: &str) -> Option<String> {
        let it_is = match self.module {
            Module::Selinux => has == self.text,
            Module::Apparmor => {
                let names = has.rsplit_once(" (").map_or(has, |(names, _mode)| names);
                names.split("//&").any(|name| name == self.text)
            }
        };
        (!it_is).then(|| format!("its label is {has}, not {}", self.text))
    }

    /// Why it would stop nothing, if the module only reports.
    pub(crate) fn only_reports(&self, has: &str) -> Option<&'static str> {
        let (reports, sentence) = match self.module {
            Module::Selinux => (
                fs::read_to_string("/sys/fs/selinux/enforce").is_ok_and(|text| text.trim() == "0"),
                "SELinux is permissive here: its label is reported on, and stops nothing",
            ),
            Module::Apparmor => {
                (has.ends_with(" (complain)"), "its profile complains: AppArmor reports, and stops nothing")
            }
        };
        reports.then_some(sentence)
    }

    fn with_end(&self) -> Vec<u8> {
        let mut text = self.text.clone().into_bytes();
        text.push(0);
        text
    }
}

impl Display for Label {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.module.name(), self.text)
    }
}

/// Sets the context of the object behind a descriptor.
pub fn set_context(object: BorrowedFd<'_>, context: &str) -> io::Result<()> {
    let bytes = context.as_bytes();
    // SAFETY: the name is null-terminated, and the value as long as is said.
    let result =
        unsafe { libc::fsetxattr(object.as_raw_fd(), ATTRIBUTE.as_ptr(), bytes.as_ptr().cast(), bytes.len(), 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The context of the object behind a descriptor.
pub fn context(object: BorrowedFd<'_>) -> io::Result<String> {
    let mut text = vec![0u8; CONTEXT_MAX];
    // SAFETY: the name is null-terminated, and the buffer as long as is said.
    let length =
        unsafe { libc::fgetxattr(object.as_raw_fd(), ATTRIBUTE.as_ptr(), text.as_mut_ptr().cast(), text.len()) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    text.truncate(length);
    Ok(String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned())
}

/// From now on sockets that this thread makes have this context.
pub fn label_sockets(context: &str) -> io::Result<()> {
    fs::write("/proc/thread-self/attr/sockcreate", context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_among_others_is_found_and_one_that_only_begins_alike_is_not() {
        let label = Label { module: Module::Apparmor, text: "cofferdam-block.a".into() };
        assert_eq!(label.differs("cofferdam//&cofferdam-block.a (enforce)"), None);
        assert_eq!(label.differs("cofferdam-block.a (enforce)"), None);
        assert!(label.differs("cofferdam//&cofferdam-block.ab (enforce)").is_some());
        assert!(label.differs("unconfined").is_some());
        assert!(label.only_reports("cofferdam-block.a (complain)").is_some());
    }

    #[test]
    fn a_context_with_other_categories_is_another() {
        let label = Label { module: Module::Selinux, text: "u:r:t:s0:c1,c2".into() };
        assert_eq!(label.differs("u:r:t:s0:c1,c2"), None);
        assert!(label.differs("u:r:t:s0:c1,c3").is_some());
    }
}
