//! Devices linked into the VMM: the baseline that isolation is compared with.

use crate::lock;
use imc::Wake;
use imc::lane::Carrier;
use schema::host::{Grant, Setting};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex};

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

/// Hands the one wake of all linked devices on to each.
///
/// They share a wake as the devices of one host do, but each waits by itself, and an eventfd wakes one waiter only. So each
/// gets an eventfd of its own, and one thread sleeps on the shared one and rings them all.
#[derive(Clone, Default)]
pub struct Distributor(Arc<Mutex<Vec<Wake>>>);

impl Distributor {
    /// A wake for one more device, rung whenever the shared one is.
    pub fn add(&self) -> io::Result<Wake> {
        let wake = Wake::create()?;
        lock(&self.0).push(wake.try_clone()?);
        Ok(wake)
    }

    /// The number of the descriptor that rings the device added last.
    pub fn last(&self) -> Option<RawFd> {
        lock(&self.0).last().map(|wake| wake.as_fd().as_raw_fd())
    }

    /// Waits once for the shared wake, and rings all.
    pub fn turn(&self, shared: &Wake) -> io::Result<()> {
        shared.sleep()?;
        for wake in lock(&self.0).iter() {
            // A device that does not empty its wake has much to do already.
            if wake.has_room() {
                wake.signal(1)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ring_wakes_every_device() {
        let (distributor, shared) = (Distributor::default(), Wake::create().unwrap());
        let wakes = [distributor.add().unwrap(), distributor.add().unwrap()];
        shared.signal(1).unwrap();
        distributor.turn(&shared).unwrap();
        assert_eq!(wakes.map(|wake| wake.drain()), [Some(1), Some(1)]);
        assert_eq!(shared.drain(), None);
    }

    #[test]
    fn device_that_is_busy_does_not_stop_the_others() {
        let (distributor, shared) = (Distributor::default(), Wake::create().unwrap());
        let wakes = [distributor.add().unwrap(), distributor.add().unwrap()];
        wakes[0].signal(u64::MAX - 1).unwrap();
        shared.signal(1).unwrap();
        distributor.turn(&shared).unwrap();
        assert_eq!(wakes[1].drain(), Some(1));
    }
}
