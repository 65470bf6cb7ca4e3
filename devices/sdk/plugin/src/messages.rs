//! What a plugin and its supervisor say to each other: `schema/host.capnp`, `schema/manifest.capnp`, `schema/imc.capnp`. The
//! numbers are where fields lie, as `capnp compile -ocapnp` shows them; the tests hold them to the schema.

use crate::Device;
use crate::declare::{Doorbell, Line, Manifest, Pci, Range, Space, Wish};
use crate::options::{OptionSpec, Value};
use crate::wire::{Builder, Layout, Malformed, Place, Reader};

/// A message: its number in the datagram's header, and the identity of its struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name(pub u16, pub u64);

pub(crate) const REFUSAL: Name = Name(0x01, 0x8339_06b8_4dac_37af);
pub(crate) const EMPTY: Name = Name(0x02, 0xb14a_52bb_6063_95f4);
pub(crate) const HELLO: Name = Name(0x10, 0xa0bb_3a5a_b1e9_b876);
pub(crate) const ASSIGN: Name = Name(0x11, 0xc4ae_c08d_2c09_e200);
pub(crate) const MANIFESTS: Name = Name(0x12, 0x8bd7_9bf8_a672_7482);
pub(crate) const GRANTS: Name = Name(0x13, 0xc406_5b86_218c_259e);
pub(crate) const ATTACH: Name = Name(0x14, 0x9b0b_ddc3_7afa_81be);
pub(crate) const SEAL: Name = Name(0x15, 0xe301_73db_b351_d121);
pub(crate) const LOG: Name = Name(0x16, 0xa3aa_e881_bdf1_8000);

const SETTINGS: usize = 1;
const EXCHANGED: usize = 2;

/// What it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub options: Vec<(String, String)>,
    pub carrier: u16,
    pub poisoned: bool,
    pub exchanged: bool,
}

pub(crate) const MEMORY: u16 = 1;
pub(crate) const SOCKET: u16 = 2;

/// One power that comes with a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant {
    pub purpose: u16,
    pub number: u32,
    pub base: u64,
    pub slot: u8,
}

/// What a grant is for, by the schema's numbers.
pub(crate) mod purpose {
    pub const WAKE: u16 = 1;
    pub const IRQ: u16 = 2;
    pub const REQUEST: u16 = 3;
    pub const STATE: u16 = 4;
    pub const REPLY: u16 = 5;
    pub const VECTOR: u16 = 6;
    pub const MEMORY: u16 = 7;
    pub const FILE: u16 = 8;
    pub const STREAM: u16 = 9;
    pub const BELL: u16 = 10;
    pub const SWITCH: u16 = 11;
    pub const DIRECT: u16 = 12;
    pub const PACKETS: u16 = 13;
    pub const SCANOUT: u16 = 19;
}

pub(crate) fn hello(protocol: u16) -> Vec<u8> {
    let (mut builder, root) = Builder::new((1, 0));
    builder.set(root, 0, protocol.to_le_bytes());
    builder.finish()
}

pub(crate) fn empty() -> Vec<u8> {
    Builder::new((0, 0)).0.finish()
}

pub(crate) fn refusal(reason: &str) -> Vec<u8> {
    let (mut builder, root) = Builder::new((0, 1));
    builder.text(root, 0, reason);
    builder.finish()
}

pub(crate) fn log(severity: u16, text: &str) -> Vec<u8> {
    let (mut builder, root) = Builder::new((1, 1));
    builder.set(root, 0, severity.to_le_bytes());
    builder.text(root, 0, text);
    builder.finish()
}

/// All devices of an assignment.
pub(crate) fn assign(body: Vec<u8>) -> Result<Vec<Assignment>, Malformed> {
    let reader = Reader::new(body)?;
    let devices = reader.root()?.list(0)?;
    let assignment = |device: crate::wire::Struct<'_>| {
        let settings = device.list(SETTINGS)?;
        let option = |setting: &crate::wire::Struct<'_>| Ok((setting.text(0)?.to_owned(), setting.text(1)?.to_owned()));
        Ok(Assignment {
            options: settings.iter().map(option).collect::<Result<_, Malformed>>()?,
            carrier: u16::from_le_bytes(device.number(0)),
            poisoned: device.number::<1>(2)[0] & 1 != 0,
            exchanged: device.has(EXCHANGED),
        })
    };
    devices.into_iter().map(assignment).collect()
}

pub(crate) fn grants(body: Vec<u8>) -> Result<Vec<Grant>, Malformed> {
    let reader = Reader::new(body)?;
    let grant = |grant: crate::wire::Struct<'_>| {
        Ok(Grant {
            purpose: u16::from_le_bytes(grant.number(2)),
            number: u32::from_le_bytes(grant.number(4)),
            base: u64::from_le_bytes(grant.number(8)),
            slot: grant.structure(0)?.number::<1>(0)[0],
        })
    };
    reader.root()?.list(0)?.into_iter().map(grant).collect()
}

const MANIFEST: Layout = (2, 11);
const RANGE: Layout = (3, 1);
const REGISTER: Layout = (2, 1);
const SHADOW: Layout = (1, 1);
const LINE: Layout = (1, 0);
const DOORBELL: Layout = (2, 0);
const WISH: Layout = (2, 2);
const PCI: Layout = (2, 2);
const OPTION: Layout = (1, 3);

/// The reply to an assignment.
pub(crate) fn manifests<D: Device>(manifest: &Manifest, state_bytes: u32) -> Vec<u8> {
    let (mut to, root) = Builder::new((0, 1));
    let own = to.list(root, 0, 1, MANIFEST)[0];
    to.text(own, 0, &manifest.name);
    to.text(own, 1, &manifest.summary);
    to.set(own, 0, (manifest.class as u16).to_le_bytes());
    to.set(own, 2, manifest.vectors.to_le_bytes());
    to.set(own, 4, state_bytes.to_le_bytes());
    each(&mut to, own, 2, &manifest.ranges, RANGE, range);
    each(&mut to, own, 3, &kinds::<D>(), REGISTER, register);
    each(&mut to, own, 4, &manifest.lines, LINE, line);
    each(&mut to, own, 5, &manifest.doorbells, DOORBELL, doorbell);
    let backed = |wish| (wish, manifest.backed_by(wish));
    each(&mut to, own, 6, &manifest.wishes.iter().map(backed).collect::<Vec<_>>(), WISH, wish);
    if let Some(identity) = &manifest.pci {
        let place = to.structure(own, 7, PCI);
        pci(&mut to, place, identity);
    }
    each(&mut to, own, 10, D::OPTIONS, OPTION, option);
    to.finish()
}

fn each<T>(
    to: &mut Builder,
    place: Place,
    pointer: usize,
    all: &[T],
    layout: Layout,
    fill: fn(&mut Builder, Place, &T),
) {
    let places = to.list(place, pointer, all.len(), layout);
    for (place, one) in places.into_iter().zip(all) {
        fill(to, place, one);
    }
}

fn range(to: &mut Builder, at: Place, range: &Range) {
    to.text(at, 0, &range.name);
    to.set(at, 0, range.length.to_le_bytes());
    let tag = match range.space {
        Space::Port(first) => {
            to.set(at, 10, first.to_le_bytes());
            1u16
        }
        Space::Memory(first) => {
            to.set(at, 16, first.to_le_bytes());
            2
        }
        Space::Bar(bar) => {
            to.set(at, 10, [bar]);
            3
        }
        Space::PortBar(bar) => {
            to.set(at, 10, [bar]);
            4
        }
    };
    to.set(at, 8, tag.to_le_bytes());
}

/// How a register may be accessed without waiting for its host.
enum Kind {
    Posted(u8),
    Shadow(u8),
}

/// A register that is not a plain synchronous one: its range, its offset and its width, and what else it is.
type Special = (u8, u64, u8, Kind);

fn kinds<D: Device>() -> Vec<Special> {
    let kinds = D::REGISTERS.iter().flat_map(|register| {
        let posted = register.posted.map(Kind::Posted);
        let shadow = register.shadow.map(Kind::Shadow);
        let special = |kind| (register.range, register.offset, register.width, kind);
        [posted, shadow].into_iter().flatten().map(special)
    });
    kinds.collect()
}

fn register(to: &mut Builder, at: Place, (range, offset, width, kind): &Special) {
    to.set(at, 0, [*range, *width]);
    to.set(at, 8, offset.to_le_bytes());
    let tag = match kind {
        Kind::Posted(bit) => {
            to.set(at, 4, [*bit]);
            1u16
        }
        Kind::Shadow(slot) => {
            let shadow = to.structure(at, 0, SHADOW);
            to.set(shadow, 0, [*slot]);
            2
        }
    };
    to.set(at, 2, tag.to_le_bytes());
}

fn line(to: &mut Builder, at: Place, line: &Line) {
    let (tag, number) = match line {
        Line::Isa(number) => (1u16, *number),
        Line::Pin(number) => (2, *number),
    };
    to.set(at, 0, tag.to_le_bytes());
    to.set(at, 2, [number]);
}

fn doorbell(to: &mut Builder, at: Place, bell: &Doorbell) {
    to.set(at, 0, [bell.range, bell.width]);
    to.set(at, 8, bell.offset.to_le_bytes());
}

/// A wish, with the bytes of the range that it backs.
fn wish(to: &mut Builder, at: Place, (wish, bytes): &(&Wish, u64)) {
    to.set(at, 0, (wish.power as u16).to_le_bytes());
    to.set(at, 2, wish.switch.map_or(0, |switch| switch as u16).to_le_bytes());
    to.set(at, 4, [wish.range]);
    to.set(at, 8, bytes.to_le_bytes());
    to.text(at, 0, &wish.name);
    to.text(at, 1, &wish.because);
}

fn pci(to: &mut Builder, at: Place, pci: &Pci) {
    let words = [pci.vendor, pci.device, pci.subsystem_vendor, pci.subsystem];
    for (byte, word) in [0, 2, 4, 6].into_iter().zip(words) {
        to.set(at, byte, word.to_le_bytes());
    }
    to.set(at, 8, pci.class.to_le_bytes());
    to.set(at, 12, [pci.revision, pci.vector_bar]);
    to.data_list(at, 0, &pci.capabilities);
}

fn option(to: &mut Builder, at: Place, option: &OptionSpec) {
    let (kind, default) = match option.default {
        // Large numbers are addresses.
        Value::Number(number) if number > 255 => (1u16, format!("{number:#x}")),
        Value::Number(number) => (1, number.to_string()),
        Value::Text(text) => (2, text.to_owned()),
        Value::Flag(flag) => (3, if flag { "on" } else { "off" }.to_owned()),
    };
    to.text(at, 0, option.name);
    to.set(at, 0, kind.to_le_bytes());
    to.text(at, 1, &default);
    to.text(at, 2, option.summary);
}
