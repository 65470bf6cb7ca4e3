//! What a process keeps when it is sealed.

use crate::recipe::{DescriptorKind, Mode};
use std::os::fd::RawFd;

/// A descriptor that is held when a process is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Its number. That of a connection is the one that it will get: the lowest that is not held.
    pub number: RawFd,
    /// What is behind it.
    pub kind: DescriptorKind,
    /// Which way this process uses it. The filter kills a use in the other direction.
    pub mode: Mode,
}

impl Held {
    /// A descriptor held for this use.
    #[must_use]
    pub const fn new(number: RawFd, kind: DescriptorKind, mode: Mode) -> Held {
        Held { number, kind, mode }
    }
}
