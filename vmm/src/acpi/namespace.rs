//! The namespace of the DSDT: the PCI bus, what its pins are wired to, and the devices that no bus can find.

use super::AcpiError;
use crate::pci::{CONFIG_PORT, CONFIG_PORTS, FIRST_SLOT, MEMORY_WINDOW, PORT_WINDOW, SLOTS, gsi_of};
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Memory32Fixed, Name, PackageBuilder, Path,
    ResourceTemplate, Scope,
};
use acpi_tables::{Aml, AmlSink};
use schema::manifest::{Acpi, AcpiNode, Line, Manifest, Range, Space};
use std::collections::BTreeSet;

/// The device that owns ports which nobody else in the namespace does, so that nothing is placed over them.
const MOTHERBOARD: &str = "MBRD";
const MOTHERBOARD_ID: &str = "PNP0C02";
/// The first address that a 32-bit resource cannot name.
const FOUR_GIB: u64 = 1 << 32;
/// Most ports that one descriptor can name (ACPI 6.5, 6.4.2.5).
const DESCRIPTOR_PORTS: u64 = 0xff;
/// Where an address space descriptor has its general flags, and the one that says that the device itself answers there
/// (6.4.3.5.1).
const GENERAL_FLAGS: usize = 4;
const CONSUMER: u8 = 1;
/// In an address of `_PRT`: every function of the slot (6.2.13).
const ALL_FUNCTIONS: u32 = 0xffff;
/// INTA to INTD.
const PINS: u8 = 4;

/// The bytes of the namespace. `soft_off` is the sleep type of S5.
pub(super) fn describe(manifests: &[&Manifest], soft_off: Option<u8>) -> Result<Vec<u8>, AcpiError> {
    let mut children = vec![
        bytes(&Name::new(Path::new("_HID"), &EISAName::new("PNP0A03"))),
        bytes(&Name::new(Path::new("_UID"), &0_u8)),
        bytes(&Name::new(
            Path::new("_CRS"),
            &ResourceTemplate::new(windows().iter().map(|window| &**window).collect()),
        )),
        bytes(&Name::new(Path::new("_PRT"), &wiring())),
    ];
    let mut names = BTreeSet::from([MOTHERBOARD.to_owned()]);
    let mut unnamed = Vec::new();
    for manifest in manifests {
        let refuse = |why: String| AcpiError::Manifest { device: manifest.name.clone(), why };
        let resources = resources(manifest).map_err(refuse)?;
        match manifest.acpi.as_ref().filter(|acpi| !acpi.name.is_empty()) {
            Some(acpi) => {
                if !names.insert(acpi.name.clone()) {
                    return Err(refuse(format!("another device has the ACPI name {:?} already", acpi.name)));
                }
                let theirs =
                    |resource: &Resource| acpi.also.iter().any(|also| irq_of(manifest, also) == Some(*resource));
                let own: Vec<Resource> = resources.into_iter().filter(|resource| !theirs(resource)).collect();
                children.push(node(acpi, &own).map_err(refuse)?);
                for also in &acpi.also {
                    if !names.insert(also.name.clone()) {
                        return Err(refuse(format!("another device has the ACPI name {:?} already", also.name)));
                    }
                    let named = Acpi { name: also.name.clone(), hid: also.hid.clone(), ..Acpi::default() };
                    let irq: Vec<Resource> = irq_of(manifest, also).into_iter().collect();
                    children.push(node(&named, &irq).map_err(refuse)?);
                }
            }
            // Interrupts of devices without a node are fixed ones, which their own tables name.
            None => unnamed.extend(resources.into_iter().filter(|resource| !matches!(resource, Resource::Irq(_)))),
        }
    }
    if !unnamed.is_empty() {
        let motherboard = Acpi { name: MOTHERBOARD.into(), hid: MOTHERBOARD_ID.into(), ..Acpi::default() };
        let refuse = |why| AcpiError::Manifest { device: MOTHERBOARD.into(), why };
        children.push(node(&motherboard, &unnamed).map_err(refuse)?);
    }

    let children: Vec<Raw> = children.into_iter().map(Raw).collect();
    let bus = Device::new(Path::new("PCI0"), children.iter().map(|child| child as &dyn Aml).collect());
    let mut namespace = bytes(&Scope::new(Path::new("\\_SB_"), vec![&bus]));
    if let Some(sleep_type) = soft_off {
        // Values for both control registers, and two reserved ones (7.4.2).
        let mut package = PackageBuilder::new();
        for value in [sleep_type, sleep_type, 0, 0] {
            package.add_element(&value);
        }
        namespace.extend(bytes(&Name::new(Path::new("\\_S5_"), &package)));
    }
    Ok(namespace)
}

/// What the host bridge decodes itself, and what it forwards: one bus, ports on both sides of the bridge's own, the
/// window.
fn windows() -> Vec<Box<dyn Aml>> {
    let memory = (MEMORY_WINDOW.start as u32, (MEMORY_WINDOW.end - 1) as u32);
    vec![
        Box::new(AddressSpace::<u16>::new_bus_number(0, 0)),
        Box::new(IO::new(CONFIG_PORT, CONFIG_PORT, 1, CONFIG_PORTS as u8)),
        Box::new(AddressSpace::<u16>::new_io(0, CONFIG_PORT - 1, None)),
        Box::new(AddressSpace::<u16>::new_io(PORT_WINDOW.start as u16, (PORT_WINDOW.end - 1) as u16, None)),
        Box::new(AddressSpace::<u32>::new_memory(AddressSpaceCacheable::NotCacheable, true, memory.0, memory.1, None)),
    ]
}

/// `_PRT`: the I/O APIC's input of each pin. The source is zero: the number is an interrupt, not a link's.
fn wiring() -> PackageBuilder {
    let mut routes = PackageBuilder::new();
    for slot in FIRST_SLOT..SLOTS {
        for pin in 0..PINS {
            let mut route = PackageBuilder::new();
            route.add_element(&(u32::from(slot) << 16 | ALL_FUNCTIONS));
            route.add_element(&pin);
            route.add_element(&0_u8);
            route.add_element(&gsi_of(slot, pin + 1));
            routes.add_element(&route);
        }
    }
    routes
}

/// One device below the bus.
fn node(acpi: &Acpi, resources: &[Resource]) -> Result<Vec<u8>, String> {
    let identifier: Box<dyn Aml> = match identifier_kind(&acpi.hid) {
        Some(Identifier::Eisa) => Box::new(EISAName::new(&acpi.hid)),
        Some(Identifier::Acpi) => Box::new(acpi.hid.clone()),
        None => return Err(format!("{:?} is no ACPI hardware ID", acpi.hid)),
    };
    if !is_name(&acpi.name) {
        return Err(format!(
            "{:?} is no ACPI name: four of A to Z, 0 to 9 and _, of which the first is a letter",
            acpi.name
        ));
    }
    let resources = ResourceTemplate::new(resources.iter().map(|resource| resource as &dyn Aml).collect());
    Ok(bytes(&Device::new(
        acpi.name.as_str().into(),
        vec![
            &Name::new(Path::new("_HID"), &*identifier),
            &Name::new(Path::new("_UID"), &acpi.uid),
            &Name::new(Path::new("_CRS"), &resources),
        ],
    )))
}

enum Identifier {
    /// Three capital letters and four hexadecimal digits: packed into a number (6.1.5).
    Eisa,
    /// Four capital letters or digits, and four hexadecimal digits: a text.
    Acpi,
}

fn identifier_kind(hid: &str) -> Option<Identifier> {
    let digits = |text: &[u8]| text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
    let letters = |text: &[u8]| text.iter().all(u8::is_ascii_uppercase);
    let either = |text: &[u8]| text.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    match hid.as_bytes() {
        id if id.len() == 7 && letters(&id[..3]) && digits(&id[3..]) => Some(Identifier::Eisa),
        id if id.len() == 8 && either(&id[..4]) && digits(&id[4..]) => Some(Identifier::Acpi),
        _ => None,
    }
}

/// A name of a device's own: names that begin with an underscore have meanings (5.3).
fn is_name(name: &str) -> bool {
    let name = name.as_bytes();
    name.len() == 4
        && name[0].is_ascii_uppercase()
        && name.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_')
}

/// What a device occupies whether or not anybody configures it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resource {
    Ports { first: u16, count: u8 },
    Memory { base: u32, bytes: u32 },
    FarMemory { base: u64, last: u64 },
    Irq(u8),
}

impl Aml for Resource {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        match *self {
            Resource::Ports { first, count } => IO::new(first, first, 1, count).to_aml_bytes(sink),
            Resource::Memory { base, bytes } => Memory32Fixed::new(true, base, bytes).to_aml_bytes(sink),
            Resource::FarMemory { base, last } => {
                let cache = AddressSpaceCacheable::NotCacheable;
                let mut descriptor = bytes(&AddressSpace::<u64>::new_memory(cache, true, base, last, None));
                descriptor[GENERAL_FLAGS] |= CONSUMER;
                sink.vec(&descriptor);
            }
            // A small IRQ descriptor of two bytes: edge, high, not shared, as ISA's are (6.4.2.1).
            Resource::Irq(irq) => {
                sink.byte(0x22);
                sink.word(1 << irq);
            }
        }
    }
}

/// The fixed ranges and ISA interrupts of a device, checked.
fn resources(manifest: &Manifest) -> Result<Vec<Resource>, String> {
    let mut resources = Vec::new();
    for Range { length, space, name } in &manifest.ranges {
        let (base, end) = match space {
            Space::Port(port) => (u64::from(*port), 1 << 16),
            Space::Memory(base) => (*base, u64::MAX),
            Space::Bar(_) | Space::PortBar(_) => continue,
        };
        let last = base.checked_add(*length).filter(|past| *length > 0 && *past <= end);
        let last = last.ok_or_else(|| format!("range {name:?} is not in its address space"))? - 1;
        match space {
            Space::Port(_) => resources.extend((base..=last).step_by(DESCRIPTOR_PORTS as usize).map(|first| {
                let count = (last - first + 1).min(DESCRIPTOR_PORTS);
                Resource::Ports { first: first as u16, count: count as u8 }
            })),
            _ if last < FOUR_GIB && *length < FOUR_GIB => {
                resources.push(Resource::Memory { base: base as u32, bytes: *length as u32 })
            }
            _ => resources.push(Resource::FarMemory { base, last }),
        }
    }
    for line in &manifest.lines {
        match line {
            Line::Isa(irq @ 0..=15) => resources.push(Resource::Irq(*irq)),
            Line::Isa(irq) => return Err(format!("it has no ISA interrupt {irq}: they are 0 to 15")),
            Line::Pin(_) => {}
        }
    }
    Ok(resources)
}

/// The interrupt of a device behind another's registers.
fn irq_of(manifest: &Manifest, also: &AcpiNode) -> Option<Resource> {
    match manifest.lines.get(usize::from(also.line)) {
        Some(Line::Isa(irq @ 0..=15)) => Some(Resource::Irq(*irq)),
        _ => None,
    }
}

/// Bytes that are AML already.
struct Raw(Vec<u8>);

impl Aml for Raw {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.0);
    }
}

fn bytes(aml: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    aml.to_aml_bytes(&mut bytes);
    bytes
}
