//! Reads a segment by the schema and the encoding specification alone, without the codec and without capnp's reader: what
//! each field holds, and where each enum and each union's discriminant lies.
//!
//! For our own segments: it expects them to be well formed, and the schema to have no defaults but zero.

use capnp::introspect::TypeVariant;
use capnp::schema::StructSchema;
use capnp::schema_capnp::{field, node};
use serde_json::{Map, Value, json};

/// What was seen of a message.
pub(super) struct Walk<'a> {
    segment: &'a [u8],
    /// Each enum and discriminant: `field` and the place of its two bytes.
    pub tags: Vec<(String, usize)>,
    /// Each field that held something other than its default, and each chosen member of a union: `Struct.field`.
    pub spoken: Vec<String>,
}

/// Words of a list of structs' tag and of any pointer.
const WORD: usize = 8;

impl<'a> Walk<'a> {
    /// Walks over the whole segment, whose root is of this type.
    pub fn over(segment: &'a [u8], schema: StructSchema) -> (Value, Walk<'a>) {
        let mut walk = Walk { segment, tags: Vec::new(), spoken: Vec::new() };
        let root = walk.structure(walk.pointed(0), schema);
        (root, walk)
    }

    /// The fields of the struct at `at` that have a value other than their default. Its pointers follow its `data` words.
    fn structure(&mut self, (at, data): (usize, usize), schema: StructSchema) -> Value {
        let proto = schema.get_proto();
        let node::Struct(layout) = proto.which().unwrap() else { panic!("not a struct") };
        let discriminant =
            (layout.get_discriminant_count() > 0).then(|| at + 2 * layout.get_discriminant_offset() as usize);
        let name = proto.get_display_name().unwrap().to_str().unwrap().rsplit(':').next().unwrap();
        if let Some(place) = discriminant {
            self.tags.push((name.to_owned(), place));
        }
        let mut fields = Map::new();
        for field in schema.get_fields().unwrap() {
            let proto = field.get_proto();
            let member = proto.get_discriminant_value() != field::NO_DISCRIMINANT;
            if member && discriminant.map(|place| self.number(place, 2)) != Some(proto.get_discriminant_value().into())
            {
                continue;
            }
            let key = proto.get_name().unwrap().to_str().unwrap();
            let value = match proto.which().unwrap() {
                field::Group(_) => {
                    let TypeVariant::Struct(group) = field.get_type().which() else { panic!("not a group") };
                    self.structure((at, data), group.into())
                }
                field::Slot(slot) => self.slot(at, data, slot.get_offset() as usize, field.get_type().which(), key),
            };
            if member || says_something(&value) {
                self.spoken.push(format!("{name}.{key}"));
            }
            // What is empty is there all the same; what is not there is null.
            if member || says_something(&value) || value.is_array() || value == "" {
                fields.insert(key.to_owned(), value);
            }
        }
        Value::Object(fields)
    }

    fn slot(&mut self, at: usize, data: usize, offset: usize, of: TypeVariant, key: &str) -> Value {
        let pointer = at + WORD * (data + offset);
        let present = |walk: &Self| walk.number(pointer, WORD) != 0;
        match of {
            TypeVariant::Void => Value::Null,
            TypeVariant::Bool => json!(self.segment[at + offset / 8] >> (offset % 8) & 1 == 1),
            TypeVariant::Int8 => json!((self.number(at + offset, 1) as u8).cast_signed()),
            TypeVariant::UInt8 => json!(self.number(at + offset, 1)),
            TypeVariant::UInt16 => json!(self.number(at + 2 * offset, 2)),
            TypeVariant::UInt32 => json!(self.number(at + 4 * offset, 4)),
            TypeVariant::UInt64 => exact(self.number(at + 8 * offset, 8)),
            TypeVariant::Enum(schema) => {
                let place = at + 2 * offset;
                self.tags.push((key.to_owned(), place));
                let enumerants = capnp::schema::EnumSchema::new(schema).get_enumerants().unwrap();
                let name = enumerants.get(self.number(place, 2) as u16).get_proto().get_name().unwrap();
                json!(name.to_str().unwrap())
            }
            _ if !present(self) => Value::Null,
            TypeVariant::Text => self.text(pointer),
            TypeVariant::Data => self.bytes(pointer).into(),
            TypeVariant::Struct(schema) => self.structure(self.pointed(pointer), schema.into()),
            TypeVariant::List(element) => self.list(pointer, element.which()),
            _ => panic!("the schema has no such type yet"),
        }
    }

    fn list(&mut self, pointer: usize, element: TypeVariant) -> Value {
        let (at, length) = self.listed(pointer);
        let items = match element {
            TypeVariant::Text => (0..length).map(|index| self.text(at + WORD * index)).collect(),
            TypeVariant::Data => (0..length).map(|index| self.bytes(at + WORD * index).into()).collect(),
            TypeVariant::Struct(schema) => {
                // The length counts words. A tag says how many elements there are and how large each is.
                let (data, pointers) = (self.number(at + 4, 2) as usize, self.number(at + 6, 2) as usize);
                let count = self.number(at, 4) as usize >> 2;
                let place = |index| (at + WORD + WORD * (data + pointers) * index, data);
                (0..count).map(|index| self.structure(place(index), schema.into())).collect()
            }
            _ => panic!("the schema has no such list yet"),
        };
        Value::Array(items)
    }

    fn text(&self, pointer: usize) -> Value {
        let bytes = self.bytes(pointer);
        let (end, text) = bytes.split_last().unwrap();
        assert_eq!(*end, 0, "a text ends with a zero");
        json!(std::str::from_utf8(text).unwrap())
    }

    fn bytes(&self, pointer: usize) -> &'a [u8] {
        if self.number(pointer, WORD) == 0 {
            return &[];
        }
        let (at, length) = self.listed(pointer);
        &self.segment[at..at + length]
    }

    /// Where the struct pointer at `at` points, and words of the data section.
    fn pointed(&self, at: usize) -> (usize, usize) {
        (self.target(at, 0), self.number(at + 4, 2) as usize)
    }

    /// Where the list pointer at `at` points, and its length.
    fn listed(&self, at: usize) -> (usize, usize) {
        (self.target(at, 1), self.number(at + 4, 4) as usize >> 3)
    }

    fn target(&self, at: usize, kind: u64) -> usize {
        assert_eq!(self.number(at, 1) & 3, kind, "kind of the pointer at byte {at}");
        let offset = (self.number(at, 4) as u32).cast_signed() >> 2;
        (at + WORD).strict_add_signed(WORD.cast_signed() * offset as isize)
    }

    fn number(&self, at: usize, bytes: usize) -> u64 {
        self.segment[at..at + bytes].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// A number that a reader of JSON may keep in a double, or else as text: as Cap'n Proto's own JSON does.
fn exact(number: u64) -> Value {
    if number < 1 << 53 { json!(number) } else { json!(number.to_string()) }
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(set) => *set,
        Value::Number(number) => number.as_u64() != Some(0),
        Value::String(text) => !text.is_empty() && text != "invalid",
        Value::Array(items) => !items.is_empty(),
        Value::Object(_) => true,
    }
}
