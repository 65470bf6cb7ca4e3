//! A device in the VMM's own process: no sandbox, no lane, no promise. The baseline that isolation is compared with.

use crate::grants::{self, DeviceGrants, HostGrants};
use crate::{Chosen, Engine};
use device::Registration;
use imc::lane::{self, HostLane, InProcess};
use schema::host::{Grant, Purpose, Setting};
use schema::lane::Carrier;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

/// A device linked into the VMM.
pub struct Linked {
    /// Calls it.
    pub carrier: Box<dyn lane::Carrier>,
    /// Waits once for the wake that was granted to the device, and lets it look at its queues and rings. Meant to be run
    /// again and again by a thread of its own.
    pub pump: Box<dyn FnMut() + Send>,
}

/// Makes the device of this catalogue name, with what was granted to it, in this process. A sentence says why not.
pub fn link(
    catalogue: &[Registration],
    device: &str,
    options: &[Setting],
    grants: Vec<(Grant, OwnedFd)>,
) -> Result<Linked, String> {
    let Chosen { registration, options, manifest } = Chosen::find(catalogue, device, options)?;
    let named = |error: String| format!("{device}: {error}");
    let (mut whole, mut own) = (HostGrants::default(), DeviceGrants::default());
    for (grant, descriptor) in grants {
        // A function call needs neither entries nor a waiter's eventfd.
        if matches!(grant.purpose, Purpose::Request | Purpose::Reply) {
            continue;
        }
        if let Some((grant, descriptor)) = whole.add(grant, descriptor).map_err(named)? {
            own.add(&manifest, Carrier::InProcess, &grant, descriptor).map_err(named)?;
        }
    }
    let wake = whole.take_wake().map_err(named)?;
    let irq = Arc::new(whole.take_irq().map_err(named)?);
    let state = own.state(&manifest).map_err(named)?;
    let mut powers = own.powers(&manifest, 0, None).map_err(named)?;
    powers.bulk = grants::bulk(&state).map_err(named)?;
    let doorbells = powers.doorbells.clone();
    let model = (registration.attach)(&options, &mut powers).map_err(|error| named(error.to_string()))?;
    let mut engine = Engine::new(model, &manifest, state, HostLane::in_process(), irq, doorbells);
    engine.start().map_err(|error| named(error.to_string()))?;
    let engine = Arc::new(Mutex::new(engine));
    let carrier = Box::new(InProcess::new(engine.clone()));
    let pump = move || {
        if wake.sleep().is_ok() {
            // The lock is let go between two looks, so that a vcpu has its turn.
            while engine.lock().unwrap_or_else(PoisonError::into_inner).scan().unwrap_or(false) {}
        }
    };
    Ok(Linked { carrier, pump: Box::new(pump) })
}
