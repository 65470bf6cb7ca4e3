//! What the processes of the message layer's tutorial and tests say to each other.

use crate::{Handle, Lease};

/// Call: keep these. The reply is [`Shared`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// A region.
    pub memory: Handle,
    /// A wake.
    pub bell: Handle,
}

/// Reply to [`Share`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// The receiver's key of the memory, for leases.
    pub region: u64,
}

/// Call: add up these bytes. The reply is [`Sum`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Add {
    /// Where they are.
    pub bytes: Lease,
}

/// Reply to [`Add`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// All bytes together.
    pub sum: u64,
}

/// Event: this is how to reach the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// The connect capability.
    pub connect: Handle,
}
