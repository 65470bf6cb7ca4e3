//! The process that runs devices, and the loop it runs them in.
//!
//! [`run()`] is the body of a device host: confined, granted, sealed, then nothing but its lanes; [`relay()`] that of the process
//! that has a network in place of a net device's host, [`show()`] that of the one that shows viewers what a display has drawn.
//! [`link()`] makes the same
//! device in the VMM's own process, for comparison. Both drive it through an [`Engine`], which knows states and commits; a
//! device knows neither processes nor lanes.

mod display;
mod engine;
mod grants;
mod helper;
mod link;
mod net;
mod run;
mod serve;

#[cfg(test)]
mod tests;

pub use display::show;
pub use engine::Engine;
pub use helper::help;
pub use link::{Linked, link};
pub use net::relay;
pub use run::run;
pub use serve::{Ended, Host};

use device::{Options, Registration};
use schema::host::Setting;
use schema::manifest::Manifest;

/// A device of the catalogue with its options, checked.
struct Chosen {
    registration: Registration,
    options: Options,
    manifest: Manifest,
}

impl Chosen {
    /// The device of this name. `Err` says why it cannot be.
    fn find(catalogue: &[Registration], name: &str, options: &[Setting]) -> Result<Chosen, String> {
        let registration = catalogue.iter().find(|entry| entry.name == name);
        let registration = *registration.ok_or_else(|| format!("there is no device `{name}`"))?;
        let declared = (registration.manifest)(&Options::default()).map_err(|error| format!("{name}: {error}"))?;
        let options = Options::new(options.iter().map(|option| (option.name.as_str(), option.value.as_str())));
        options.check(&declared.options).map_err(|error| format!("{name}: {error}"))?;
        let manifest = (registration.manifest)(&options).map_err(|error| format!("{name}: {error}"))?;
        Ok(Chosen { registration, options, manifest })
    }
}
