//! The loop of a device host: one wake, and everything that may be behind it.

use crate::Engine;
use imc::lane::steps::{Fault, Step, is_broken, reach};
use imc::lane::{BadEntry, Patience, Rest, Sleeper, sleep};
use sandbox::Sealed;
use schema::lane::Operation;
use std::io;
use std::sync::Arc;

/// Operations of one lane that are done before the next lane has its turn.
const TURN_MAX: u32 = 64;

/// Devices and the one wake that all that concerns them rings.
pub struct Host {
    devices: Vec<Served>,
    rest: Arc<Rest>,
    patience: Patience,
}

/// A device, until it is told to leave.
struct Served {
    engine: Engine,
    left: bool,
}

/// Why a host stopped serving.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The VMM broke the lane's rules.
    #[error("the VMM broke the lane's rules: {0}")]
    Violation(#[from] BadEntry),
    /// A medium was exchanged that the guest holds. Nothing of that was committed.
    #[error("the guest holds the medium that is in the drive")]
    Held,
    /// The kernel refused to let it sleep or ring.
    #[error("the kernel refused to let it sleep or ring: {0}")]
    Io(#[from] io::Error),
}

impl Host {
    /// A host of these devices, which were started.
    #[must_use]
    pub fn new(devices: Vec<Engine>, rest: Arc<Rest>) -> Host {
        let devices = devices.into_iter().map(|engine| Served { engine, left: false }).collect();
        Host { devices, rest, patience: Patience::default() }
    }

    /// Serves until every device was told to leave. Only a sealed process may.
    pub fn serve(&mut self, _: &Sealed) -> Result<(), Ended> {
        self.until_all_left()
    }

    pub(crate) fn until_all_left(&mut self) -> Result<(), Ended> {
        if is_broken(Fault::SilentStart) && self.devices.iter().any(|device| device.engine.is_careful()) {
            self.rest.sleep()?;
        }
        loop {
            while self.work()? {}
            if self.devices.iter().all(|device| device.left) {
                return Ok(());
            }
            if !self.look()? {
                sleep(self)?;
            }
        }
    }

    /// Starts every device.
    pub(crate) fn start(&mut self) -> Result<(), Ended> {
        for device in &mut self.devices {
            device.engine.start()?;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn device(&mut self, index: usize) -> &mut Engine {
        &mut self.devices[index].engine
    }

    /// Gives every device a turn. Says whether any had something to do.
    pub(crate) fn work(&mut self) -> Result<bool, Ended> {
        let mut any = false;
        for device in &mut self.devices {
            any |= device.drain()?;
            any |= device.engine.scan()?;
        }
        Ok(any)
    }

    /// Looks for more, at most as often as the VMM wants. Says whether there is some.
    fn look(&mut self) -> Result<bool, Ended> {
        // Lanes of one host are published the same count; of several the largest.
        let most = self.devices.iter_mut().map(|device| device.engine.lane().spin()).max().unwrap_or(0);
        let looks = self.patience.looks(most);
        for look in 0..looks {
            for device in &mut self.devices {
                // What is said to be pending counts only once it is found: a device that is wrong about it must not keep
                // its host awake.
                if device.engine.lane().has_next() || (device.engine.pending() && device.engine.scan()?) {
                    self.patience.came(look, most);
                    return Ok(true);
                }
            }
            std::hint::spin_loop();
        }
        self.patience.missed(looks);
        Ok(false)
    }
}

impl Sleeper for Host {
    type Reason = Result<(), Ended>;

    fn fall_asleep(&mut self) {
        for device in &mut self.devices {
            device.engine.fall_asleep();
        }
        reach(Step::Asleep);
    }

    fn look(&mut self) -> Option<Result<(), Ended>> {
        match self.work() {
            Ok(false) => None,
            Ok(true) => Some(Ok(())),
            Err(ended) => Some(Err(ended)),
        }
    }

    fn rest(&mut self) -> Option<Result<(), Ended>> {
        let rested = self.rest.sleep();
        reach(Step::Rung);
        Some(rested.map(drop).map_err(Ended::from))
    }

    fn wake_up(&mut self) {
        for device in &mut self.devices {
            device.engine.wake_up();
        }
    }
}

impl Served {
    /// Does what stands in the lane, up to a bound. Says whether there was anything.
    fn drain(&mut self) -> Result<bool, Ended> {
        let mut next = self.engine.take()?;
        let any = next.is_some();
        let mut turn = 0;
        while let Some(access) = next {
            next = if access.operation == Operation::Post {
                self.engine.serve_posted(access)?
            } else {
                self.engine.serve(&access)?;
                self.left |= access.operation == Operation::Shutdown;
                None
            };
            turn += 1;
            if next.is_none() && turn < TURN_MAX {
                next = self.engine.take()?;
            }
        }
        Ok(any)
    }
}
