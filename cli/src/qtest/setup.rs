//! What is to be driven, by whom, and how its parts are called.

use super::actions::Actions;
use super::link::Link;
use std::fs::File;
use vmm::supervisor::Plan;

/// All of it.
pub struct Setup {
    /// The machine.
    pub machine: Driven,
    /// Who drives it, and who is told of it.
    pub ways: Ways,
    /// What who started it calls it and its parts.
    pub names: Names,
    /// What is done when its guest does something.
    pub actions: Actions,
}

/// A machine without a processor.
pub struct Driven {
    /// Its devices and memory.
    pub plan: Plan,
    /// Time passes by command alone.
    pub is_virtual: bool,
    /// A PC, and not a machine without anything.
    pub is_pc: bool,
    /// What firmware boots after a reset, where that is not what it boots first.
    pub order_after: Option<String>,
    /// It runs from the start on; this only decides what a monitor is told.
    pub runs: bool,
}

/// Where what is said comes from and goes to.
pub struct Ways {
    /// The test program.
    pub test: Link,
    /// Who else wants to know of the machine.
    pub monitors: Vec<Link>,
    /// Where the conversation with the test program is written down.
    pub log: Option<File>,
    /// The first serial port prints to our standard output.
    pub prints: bool,
}

/// What who started the machine calls it and its parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The machine, if anything.
    pub title: String,
    /// Its drives.
    pub drives: Vec<DriveName>,
    /// Its devices: such a name, and what has it.
    pub ids: Vec<(String, String)>,
    /// Its character devices, and what is behind each.
    pub chardevs: Vec<(String, String)>,
}

/// A name of a drive whose medium can be exchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriveName {
    /// The drive, as the machine calls it.
    pub drive: String,
    /// The name.
    pub name: String,
    /// What has it.
    pub whose: Whose,
}

/// What of a drive has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The place where it is.
    Place,
    /// What is in it, or could be.
    Medium,
    /// The device.
    Device,
}
