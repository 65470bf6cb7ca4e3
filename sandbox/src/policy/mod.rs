//! The policies that give labels their meaning, as text to install: the rule of this program, that a process may use what
//! it was handed and open nothing, in the words of each security module.

pub mod apparmor;
pub mod selinux;

use schema::manifest::Class;

/// The word for the VMM among those of device classes.
pub const VMM: &str = "vmm";

/// The word for net relays.
pub const RELAY: &str = "relay";

/// The word for display relays, which speak to viewers.
pub const VIEWERS: &str = "viewers";

/// The word for plugins, of whatever class: what they are loaded from is not our own program.
pub const PLUGIN: &str = "plugin";

/// What has a label of its own: a device host of each class, a plugin, a net relay, a display relay, and the VMM.
fn processes() -> impl Iterator<Item = &'static str> {
    Class::ALL.into_iter().map(Class::name).chain([PLUGIN, RELAY, VIEWERS, VMM])
}
