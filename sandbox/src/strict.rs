//! Seccomp mode 1, and what stands in for it.

#![allow(unsafe_code)] // prctl, which has no safe wrapper for these options.

use crate::error::ConfineError;
use crate::filter;
use crate::recipe::{Call, Permit};
use seccompiler::BpfProgram;
use std::io;

/// All calls of mode 1, by seccomp(2).
const MODE_1: [Call; 4] = [Call::READ, Call::WRITE, Call::EXIT, Call::RT_SIGRETURN];

/// Leaves this thread the calls of mode 1. The kernel lets them touch any descriptor, so the table is the whole policy.
///
/// Mode 1 is refused to a thread that is under a filter already: in a container, or under systemd. There `program`, the
/// recipe's filter, leaves the same calls on the held descriptors alone, and the TSC is taken away as mode 1 does.
pub(crate) fn enter(permits: &[Permit], program: BpfProgram) -> Result<(), ConfineError> {
    if let Some(permit) = permits.iter().find(|permit| !MODE_1.contains(&permit.call)) {
        return Err(ConfineError::Beyond(permit.call.name));
    }
    // SAFETY: no memory is passed.
    let entered = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT, 0, 0, 0) };
    if entered == 0 {
        // Giving its memory back could take a system call that has just been forbidden.
        std::mem::forget(program);
        return Ok(());
    }
    let failed = |what| move |error| ConfineError::Step { what, error };
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::EINVAL) => {}
        error => return Err(failed("entering seccomp mode 1")(error)),
    }
    // SAFETY: no memory is passed.
    let taken = unsafe { libc::prctl(libc::PR_SET_TSC, libc::PR_TSC_SIGSEGV, 0, 0, 0) };
    if taken != 0 {
        return Err(failed("taking the time stamp counter away")(io::Error::last_os_error()));
    }
    Ok(filter::install_here(program)?)
}
