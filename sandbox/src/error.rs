//! Why a process has no sandbox.

use crate::filter::FilterError;
use std::io;

/// Why a process could not be confined or sealed. It must end: there is no partial sandbox.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// A step failed.
    #[error("could not confine this process: {what}: {error}")]
    Step {
        /// The step, as "closing descriptors".
        what: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
    /// It was not started as the recipe says.
    #[error("this process was not started in its sandbox: {0}")]
    NotConfined(&'static str),
    /// A required layer is not to be had.
    #[error("the sandbox layer `{0}` is required, and this kernel does not have it")]
    Missing(&'static str),
    /// The system call filter could not be made or installed.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// Seccomp mode 1 has no room for it.
    #[error("at level `strict` a process has read, write, exit and sigreturn alone, and its recipe wants `{0}` too")]
    Beyond(&'static str),
}
