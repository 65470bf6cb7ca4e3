//! Devices linked into the VMM: the baseline that isolation is compared with.

use imc::lane::Carrier;
use schema::host::{Grant, Setting};
use std::os::fd::OwnedFd;

/// Who makes devices in this process. The VMM knows none; the program that knows both sides passes one in.
pub trait Linker: Send + Sync {
    /// Makes the device of this catalogue name with what was granted to it. A sentence says why not.
    fn link(&self, device: &str, options: &[Setting], grants: Vec<(Grant, OwnedFd)>) -> Result<Linked, String>;
}

/// A device linked into the VMM.
pub struct Linked {
    /// Calls it.
    pub carrier: Box<dyn Carrier>,
    /// Waits once for the wake that was granted to it, and does what there is to do. Run again and again by a thread of
    /// its own.
    pub pump: Box<dyn FnMut() + Send>,
}

/// A program without devices of its own.
pub struct NoLinker;

impl Linker for NoLinker {
    fn link(&self, device: &str, _: &[Setting], _: Vec<(Grant, OwnedFd)>) -> Result<Linked, String> {
        Err(format!("{device}: this program has no devices linked in"))
    }
}
