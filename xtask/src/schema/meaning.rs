//! What a schema means on the wire, as text: one line for each thing that a peer of another version relies on.
//!
//! ```text
//! struct 0xbc1fc5…  host.capnp:Grant
//!   words 2
//!   pointers 1
//!   @0 device UInt8 at 0
//!   @1 purpose enum(0xd3ac…) at 1
//! ```
//!
//! `at` counts in units of the field's own size, as the compiled schema does; a pointer's counts pointers.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use capnp::schema_capnp::{code_generator_request, field, node, type_, value};

/// The annotation by which `imc.capnp` numbers messages.
pub(super) const MESSAGE: u64 = 0xd3c0_de01_0000_0007;

/// All types, by id. Annotations, constants and files mean nothing on the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meaning(pub BTreeMap<u64, Type>);

/// An enum or a struct; a group counts as one too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// For people: `host.capnp:Grant`.
    pub place: String,
    pub shape: Shape,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// Names of the enumerants, in order of their numbers.
    Enum(Vec<String>),
    Struct(Struct),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Struct {
    /// Its ordinal, if it is a message.
    pub message: Option<u16>,
    /// Words of its data section.
    pub words: u16,
    pub pointers: u16,
    /// Where the discriminant of its union is, in units of two bytes.
    pub discriminant: Option<u32>,
    pub fields: BTreeMap<Key, Field>,
}

/// What makes a field the same one in another version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Ordinal(u16),
    /// A group has no ordinal, but the id of its type.
    Group(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    /// Its type, without spaces; types of ours by their ids.
    pub of: String,
    pub at: u32,
    /// For members of a union: the value of the discriminant.
    pub member: Option<u16>,
    /// If it is not zero.
    pub default: Option<String>,
}

impl Meaning {
    /// Reads what `capnp compile` made.
    pub fn of_compiled(request: &[u8]) -> Result<Meaning> {
        let mut rest = request;
        let message = capnp::serialize::read_message_from_flat_slice_no_alloc(&mut rest, Default::default())?;
        let request: code_generator_request::Reader = message.get_root()?;
        let mut types = BTreeMap::new();
        for node in request.get_nodes()? {
            let shape = match node.which()? {
                node::Enum(of) => {
                    let names = of.get_enumerants()?.iter().map(|one| Ok(one.get_name()?.to_str()?.to_owned()));
                    Shape::Enum(names.collect::<Result<_>>()?)
                }
                node::Struct(of) => Shape::Struct(structure(node, of)?),
                _ => continue,
            };
            types.insert(node.get_id(), Type { place: node.get_display_name()?.to_str()?.to_owned(), shape });
        }
        Ok(Meaning(types))
    }
}

fn structure(node: node::Reader<'_>, of: node::struct_::Reader<'_>) -> Result<Struct> {
    let mut message = None;
    for annotation in node.get_annotations()?.iter().filter(|annotation| annotation.get_id() == MESSAGE) {
        if let value::Uint16(ordinal) = annotation.get_value()?.which()? {
            message = Some(ordinal);
        }
    }
    let mut fields = BTreeMap::new();
    for field in of.get_fields()? {
        let member = Some(field.get_discriminant_value()).filter(|member| *member != field::NO_DISCRIMINANT);
        let name = field.get_name()?.to_str()?.to_owned();
        let (key, field) = match field.which()? {
            field::Group(group) => {
                (Key::Group(group.get_type_id()), Field { name, of: "group".into(), at: 0, member, default: None })
            }
            field::Slot(slot) => {
                let field::ordinal::Explicit(ordinal) = field.get_ordinal().which()? else {
                    bail!("{name} has no ordinal");
                };
                let (of, at) = (name_of(slot.get_type()?)?, slot.get_offset());
                (Key::Ordinal(ordinal), Field { name, of, at, member, default: default(slot)? })
            }
        };
        fields.insert(key, field);
    }
    Ok(Struct {
        message,
        words: of.get_data_word_count(),
        pointers: of.get_pointer_count(),
        discriminant: (of.get_discriminant_count() > 0).then(|| of.get_discriminant_offset()),
        fields,
    })
}

pub(super) fn name_of(of: type_::Reader<'_>) -> Result<String> {
    Ok(match of.which()? {
        type_::Void(()) => "Void".into(),
        type_::Bool(()) => "Bool".into(),
        type_::Int8(()) => "Int8".into(),
        type_::Int16(()) => "Int16".into(),
        type_::Int32(()) => "Int32".into(),
        type_::Int64(()) => "Int64".into(),
        type_::Uint8(()) => "UInt8".into(),
        type_::Uint16(()) => "UInt16".into(),
        type_::Uint32(()) => "UInt32".into(),
        type_::Uint64(()) => "UInt64".into(),
        type_::Float32(()) => "Float32".into(),
        type_::Float64(()) => "Float64".into(),
        type_::Text(()) => "Text".into(),
        type_::Data(()) => "Data".into(),
        type_::List(list) => format!("List({})", name_of(list.get_element_type()?)?),
        type_::Enum(of) => format!("enum({:#x})", of.get_type_id()),
        type_::Struct(of) => format!("struct({:#x})", of.get_type_id()),
        type_::Interface(_) | type_::AnyPointer(_) => bail!("the schema has no capabilities and no untyped pointers"),
    })
}

/// The default, unless it is what all fields have that name none.
fn default(of: field::slot::Reader<'_>) -> Result<Option<String>> {
    Ok(match of.get_default_value()?.which()? {
        value::Bool(set) => set.then(|| "true".into()),
        value::Int8(number) => some(number),
        value::Int16(number) => some(number),
        value::Int32(number) => some(number),
        value::Int64(number) => some(number),
        value::Uint8(number) => some(number),
        value::Uint16(number) | value::Enum(number) => some(number),
        value::Uint32(number) => some(number),
        value::Uint64(number) => some(number),
        _ if of.get_had_explicit_default() => bail!("only whole numbers have defaults here: give the field none"),
        _ => None,
    })
}

fn some<N: Display + Default + PartialEq>(number: N) -> Option<String> {
    (number != N::default()).then(|| number.to_string())
}

impl Display for Meaning {
    fn fmt(&self, to: &mut Formatter<'_>) -> std::fmt::Result {
        // By place, so that neighbours in the schema are neighbours here.
        let mut types: Vec<_> = self.0.iter().collect();
        types.sort_by_key(|(id, of)| (&of.place, **id));
        for (id, Type { place, shape }) in types {
            match shape {
                Shape::Enum(names) => {
                    writeln!(to, "\nenum {id:#x} {place}")?;
                    for (number, name) in names.iter().enumerate() {
                        writeln!(to, "  @{number} {name}")?;
                    }
                }
                Shape::Struct(of) => {
                    writeln!(to, "\nstruct {id:#x} {place}")?;
                    if let Some(message) = of.message {
                        writeln!(to, "  message {message:#x}")?;
                    }
                    writeln!(to, "  words {}\n  pointers {}", of.words, of.pointers)?;
                    if let Some(at) = of.discriminant {
                        writeln!(to, "  discriminant {at}")?;
                    }
                    for (key, field) in &of.fields {
                        match key {
                            Key::Ordinal(ordinal) => write!(to, "  @{ordinal} {field}")?,
                            Key::Group(id) => write!(to, "  {id:#x} {field}")?,
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

impl Display for Field {
    fn fmt(&self, to: &mut Formatter<'_>) -> std::fmt::Result {
        write!(to, "{} {} at {}", self.name, self.of, self.at)?;
        if let Some(member) = self.member {
            write!(to, " member {member}")?;
        }
        if let Some(default) = &self.default {
            write!(to, " default {default}")?;
        }
        writeln!(to)
    }
}

impl FromStr for Meaning {
    type Err = anyhow::Error;

    /// Reads what `Display` wrote. Empty lines and lines that begin with `#` say nothing.
    fn from_str(text: &str) -> Result<Meaning> {
        let mut meaning = Meaning::default();
        let mut current: Option<u64> = None;
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let mut read = || match words[..] {
                [kind @ ("enum" | "struct"), id, place] if !line.starts_with(' ') => {
                    let shape = match kind {
                        "enum" => Shape::Enum(Vec::new()),
                        _ => Shape::Struct(Struct::default()),
                    };
                    let id = hexadecimal(id)?;
                    current = Some(id);
                    let before = meaning.0.insert(id, Type { place: place.to_owned(), shape });
                    ensure!(before.is_none(), "this type comes twice");
                    Ok(())
                }
                _ => {
                    let of = current.and_then(|id| meaning.0.get_mut(&id)).context("no type begins before it")?;
                    part(&mut of.shape, &words)
                }
            };
            read().with_context(|| format!("`{line}`"))?;
        }
        Ok(meaning)
    }
}

/// Adds one line to a type.
fn part(shape: &mut Shape, words: &[&str]) -> Result<()> {
    match (shape, words) {
        (Shape::Enum(names), [number, name]) => {
            ensure!(*number == format!("@{}", names.len()), "out of order");
            names.push((*name).to_owned());
        }
        (Shape::Struct(of), ["message", ordinal]) => of.message = Some(hexadecimal(ordinal)?.try_into()?),
        (Shape::Struct(of), ["words", words]) => of.words = words.parse()?,
        (Shape::Struct(of), ["pointers", pointers]) => of.pointers = pointers.parse()?,
        (Shape::Struct(of), ["discriminant", at]) => of.discriminant = Some(at.parse()?),
        (Shape::Struct(of), [key, name, kind, "at", at, rest @ ..]) => {
            let key = match key.strip_prefix('@') {
                Some(ordinal) => Key::Ordinal(ordinal.parse()?),
                None => Key::Group(hexadecimal(key)?),
            };
            let (member, rest) = match rest {
                ["member", member, rest @ ..] => (Some(member.parse()?), rest),
                rest => (None, rest),
            };
            let default = match rest {
                [] => None,
                ["default", default] => Some((*default).to_owned()),
                _ => bail!("no such property of a field"),
            };
            let field = Field { name: (*name).to_owned(), of: (*kind).to_owned(), at: at.parse()?, member, default };
            ensure!(of.fields.insert(key, field).is_none(), "this field comes twice");
        }
        _ => bail!("no such line"),
    }
    Ok(())
}

fn hexadecimal(text: &str) -> Result<u64> {
    let digits = text.strip_prefix("0x").context("not a hexadecimal number")?;
    Ok(u64::from_str_radix(digits, 16)?)
}
