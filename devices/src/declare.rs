//! Parts of manifests that several devices have in common.

use device::manifest::{Class, Manifest, OptionKind, OptionSpec, Power, Range, Space, Switch, Wish};
use device::{OptionError, Options, Plain};

/// A manifest that declares nothing but a name and the size of the state `S`.
pub(crate) fn nothing<S: Plain>(name: &str, summary: &str, class: Class) -> Manifest {
    Manifest {
        name: name.into(),
        summary: summary.into(),
        class,
        ranges: Vec::new(),
        registers: Vec::new(),
        lines: Vec::new(),
        vectors: 0,
        doorbells: Vec::new(),
        wishes: Vec::new(),
        state_bytes: size_of::<S>() as u32,
        bulk_bytes: 0,
        pci: None,
        acpi: None,
        with: Vec::new(),
        options: Vec::new(),
        remembered: 0,
    }
}

/// A range of `length` I/O ports.
pub(crate) fn ports(name: &str, first: u16, length: u16) -> Range {
    Range { name: name.into(), length: length.into(), space: Space::Port(first) }
}

/// A wish that has neither size nor kind of switch.
pub(crate) fn wish(power: Power, name: &str, because: &str) -> Wish {
    Wish { power, name: name.into(), switch: None, bytes: 0, range: 0, because: because.into() }
}

/// A wish for a switch.
pub(crate) fn switch(switch: Switch, name: &str, because: &str) -> Wish {
    Wish { switch: Some(switch), ..wish(Power::Switch, name, because) }
}

/// An option whose value is a number.
pub(crate) fn number(name: &str, default: &str, summary: &str) -> OptionSpec {
    OptionSpec { name: name.into(), kind: OptionKind::Number, default: default.into(), summary: summary.into() }
}

/// An option whose value is a text.
pub(crate) fn text(name: &str, default: &str, summary: &str) -> OptionSpec {
    OptionSpec { kind: OptionKind::Text, ..number(name, default, summary) }
}

/// The option `name` as the first of `length` I/O ports.
pub(crate) fn port_option(options: &Options, name: &str, default: u16, length: u16) -> Result<u16, OptionError> {
    let Some(value) = options.number(name)? else { return Ok(default) };
    match u16::try_from(value) {
        Ok(port) if port.checked_add(length - 1).is_some() => Ok(port),
        _ => Err(refused(options, name, "an I/O port with room for all registers below 0x10000")),
    }
}

/// The option `name` as an ISA interrupt number.
pub(crate) fn isa_option(options: &Options, name: &str, default: u8) -> Result<u8, OptionError> {
    /// The two 8259 interrupt controllers of a PC have 16 inputs.
    const ISA_INTERRUPTS: u64 = 16;
    match options.number(name)? {
        None => Ok(default),
        Some(value) if value < ISA_INTERRUPTS => Ok(value as u8),
        Some(_) => Err(refused(options, name, "an ISA interrupt number, 0 to 15")),
    }
}

fn refused(options: &Options, name: &str, wanted: &'static str) -> OptionError {
    OptionError::Value { name: name.into(), value: options.text(name).unwrap_or_default().into(), wanted }
}
