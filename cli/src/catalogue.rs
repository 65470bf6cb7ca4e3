//! The catalogue of built-in devices, as the VMM's side sees it, and devices linked into the VMM.

use device::Options;
use schema::host::{Grant, Setting};
use schema::manifest::Manifest;
use std::os::fd::OwnedFd;
use vmm::supervisor::Catalogue;

/// The devices in this program.
pub struct BuiltIn;

impl Catalogue for BuiltIn {
    fn manifest(&self, name: &str, options: &[Setting]) -> Result<Manifest, String> {
        let Some(entry) = devices::catalogue().iter().find(|entry| entry.name == name) else {
            let known: Vec<&str> = devices::catalogue().iter().map(|entry| entry.name).collect();
            return Err(format!("there is no such device; there are {}", known.join(", ")));
        };
        let defaults = (entry.manifest)(&Options::default()).map_err(|error| error.to_string())?;
        let options = Options::new(options.iter().map(|option| (option.name.clone(), option.value.clone())));
        options.check(&defaults.options).map_err(|error| error.to_string())?;
        (entry.manifest)(&options).map_err(|error| error.to_string())
    }
}

/// Devices linked into the VMM process, for `--isolate none`.
pub struct Linked;

impl vmm::link::Linker for Linked {
    fn link(
        &self,
        device: &str,
        options: &[Setting],
        grants: Vec<(Grant, OwnedFd)>,
    ) -> Result<vmm::link::Linked, String> {
        let linked = device_host::link(devices::catalogue(), device, options, grants)?;
        Ok(vmm::link::Linked { carrier: linked.carrier, pump: linked.pump })
    }
}
