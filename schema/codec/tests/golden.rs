//! `schema/golden` keeps each example as bytes and as what the bytes mean. `cargo xtask schema` writes it anew; programs in
//! other languages read the same files, and fuzzing begins with the same bytes.

use super::examples::Example;
use super::walk::Walk;
use super::*;
use crate::codec::Record;
use crate::messages::with_messages;
use capnp::introspect::{Introspect, TypeVariant};
use capnp::schema::StructSchema;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Set by `cargo xtask schema`: write the files instead of comparing with them.
const WRITE: &str = "COFFERDAM_WRITE_GOLDEN";

/// One example of a message.
struct Golden {
    /// `Machine`; the second example of a message is `Machine-2`.
    name: String,
    ordinal: u16,
    bytes: Vec<u8>,
    schema: StructSchema,
    plain: String,
    /// Decodes a segment as this message, and encodes what it got.
    again: fn(&[u8]) -> Result<Vec<u8>, BadBody>,
}

impl Golden {
    fn all() -> Vec<Golden> {
        macro_rules! of_each {
            ($($message:ident),* $(,)?) => { [$(Golden::of::<$message>(stringify!($message))),*] };
        }
        with_messages!(of_each).into_iter().flatten().collect()
    }

    fn of<B: Body + Record + Example + Debug>(message: &str) -> Vec<Golden> {
        let golden = |(number, example): (usize, B)| Golden {
            name: if number == 1 { message.to_owned() } else { format!("{message}-{number}") },
            ordinal: B::ORDINAL,
            bytes: encode(&example).unwrap(),
            schema: schema::<B>(),
            plain: format!("{example:?}"),
            again: |bytes| encode(&decode::<B>(Segment::new(bytes).bytes())?),
        };
        (1..).zip(B::examples()).map(golden).collect()
    }
}

fn schema<B: Record>() -> StructSchema {
    let TypeVariant::Struct(schema) = B::Wire::introspect().which() else { panic!("a message is a struct") };
    schema.into()
}

/// Where the files are, from the top of the tree.
const FOLDER: &str = "schema/golden/";
/// Where the inputs are with which the fuzzing of the decoders begins, and how those begin that are made here.
const INPUTS: &str = "fuzz/corpus/messages/";
const INPUT: &str = "golden-";

/// What is kept: of each example the segment, a word a line, and its meaning; and the segment after its ordinal, as the fuzz
/// target takes it.
fn files() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for Golden { name, ordinal, bytes, schema, .. } in Golden::all() {
        let line = |word: &[u8]| word.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ") + "\n";
        let id = schema.get_proto().get_id();
        let heading = format!("# The body of message {ordinal:#x}, of type {id:#x}, a word a line.\n");
        let text = bytes.chunks(8).map(line).fold(heading, |all, line| all + &line);
        files.insert(format!("{FOLDER}{name}.hex"), text.into_bytes());
        let (meaning, _) = Walk::over(&bytes, schema);
        let text = serde_json::to_string_pretty(&meaning).unwrap() + "\n";
        files.insert(format!("{FOLDER}{name}.json"), text.into_bytes());
        files.insert(format!("{INPUTS}{INPUT}{name}"), [&ordinal.to_le_bytes()[..], &bytes].concat());
    }
    files
}

#[test]
fn golden_files_are_what_the_examples_encode_to() {
    let top = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let wanted = files();
    let mut kept = BTreeSet::new();
    for (folder, start) in [(FOLDER, ""), (INPUTS, INPUT)] {
        let names = std::fs::read_dir(top.join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| name.into_string().unwrap()).filter(|name| name.starts_with(start));
        kept.extend(names.map(|name| format!("{folder}{name}")));
    }
    if std::env::var_os(WRITE).is_some() {
        for name in kept.iter().filter(|name| !wanted.contains_key(*name)) {
            std::fs::remove_file(top.join(name)).unwrap();
        }
        for (name, content) in &wanted {
            std::fs::write(top.join(name), content).unwrap();
        }
        return;
    }
    let advice = "`cargo xtask schema` writes it anew; a released message must keep its bytes";
    assert_eq!(kept, wanted.keys().cloned().collect(), "each example has its files: {advice}");
    for (name, content) in &wanted {
        assert_eq!(&std::fs::read(top.join(name)).unwrap(), content, "{name} is stale: {advice}");
    }
}

#[test]
fn golden_messages_decode_to_the_examples() {
    for golden in Golden::all() {
        assert_eq!((golden.again)(&golden.bytes).as_ref(), Ok(&golden.bytes), "{}", golden.name);
    }
}

/// Codec and schema could both be wrong in the same way, by two fields of one type that change places. The plain types'
/// own words know better.
#[test]
fn meaning_of_a_golden_message_is_what_its_plain_type_says() {
    for golden in Golden::all() {
        let (meaning, _) = Walk::over(&golden.bytes, golden.schema);
        let mut told = Vec::new();
        tell("", &meaning, &mut told);
        let plain = words(&golden.plain);
        for (field, value) in told {
            // An array is a row of numbered fields in the schema, and one word says which of them hold something.
            let number = field.find(|letter: char| letter.is_ascii_digit()).unwrap_or(field.len());
            let (name, number) = (&field[..number], field[number..].parse().unwrap_or(0));
            // A variant is named without the field by which the schema tells it from others.
            let variant = name == "kind" && plain.contains(&value);
            let said = variant || plain.windows(2 + number).any(|row| row[0] == name && row[1 + number] == value);
            assert!(said || name == "valid", "{}: {field} = {value} is not in {plain:?}", golden.name);
        }
    }
}

/// Each number, text and enumerant with the name of its field.
fn tell(name: &str, meaning: &serde_json::Value, told: &mut Vec<(String, String)>) {
    use serde_json::Value::*;
    match meaning {
        Null => {}
        Object(fields) => fields.iter().for_each(|(name, value)| tell(name, value, told)),
        // Numbers of a list are bytes, which have no names.
        Array(items) => items.iter().filter(|item| item.is_object()).for_each(|item| tell(name, item, told)),
        String(text) => told.push((plain(name), plain(text))),
        Bool(_) | Number(_) => told.push((plain(name), plain(&meaning.to_string()))),
    }
}

/// The words of what `Debug` prints, but for those that are only syntax.
fn words(debug: &str) -> Vec<String> {
    let split = debug.split(['{', '}', '(', ')', '[', ']', ':', ',']).map(str::trim).filter(|word| !word.is_empty());
    split.filter(|word| !["Some", "Rights"].contains(word)).map(|word| plain(word.trim_matches('"'))).collect()
}

/// A name or value without what Rust, Cap'n Proto and punctuation make of it: `lowMemory`, `low_memory` and `LowMemory` are
/// one.
fn plain(word: &str) -> String {
    word.split([':', ',', '(', '[']).next().unwrap().replace('_', "").trim().to_lowercase()
}

#[test]
fn examples_give_every_field_a_value_and_choose_every_member() {
    let mut spoken = BTreeSet::new();
    let mut reachable = BTreeSet::new();
    for golden in Golden::all() {
        let (_, walk) = Walk::over(&golden.bytes, golden.schema);
        spoken.extend(walk.spoken);
        reach(golden.schema, &mut reachable);
    }
    let silent: Vec<_> = reachable.difference(&spoken).collect();
    assert!(silent.is_empty(), "no example gives these a value: {silent:?}");
}

/// Adds each field of a struct and of those that it contains, but for what must not be used.
fn reach(schema: StructSchema, fields: &mut BTreeSet<String>) {
    let name = schema.get_proto().get_display_name().unwrap().to_str().unwrap().rsplit(':').next().unwrap();
    for field in schema.get_fields().unwrap() {
        let key = field.get_proto().get_name().unwrap().to_str().unwrap();
        if key != "invalid" && !key.starts_with("reserved") {
            fields.insert(format!("{name}.{key}"));
        }
        let mut inner = field.get_type().which();
        if let TypeVariant::List(element) = inner {
            inner = element.which();
        }
        if let TypeVariant::Struct(schema) = inner {
            reach(schema.into(), fields);
        }
    }
}

#[test]
fn zero_and_unknown_values_of_each_enum_and_union_are_refused() {
    for golden in Golden::all() {
        let (_, walk) = Walk::over(&golden.bytes, golden.schema);
        for (tag, at) in walk.tags {
            if golden.bytes[at..at + 2] == [0, 0] {
                assert_eq!(tag, "switch", "a wish for another power has no switch; all else is always there");
                continue;
            }
            for value in [0, 0x7fff, u16::MAX] {
                let mut changed = golden.bytes.clone();
                changed[at..at + 2].copy_from_slice(&value.to_le_bytes());
                let refusal = (golden.again)(&changed);
                // A wish for the power `switch` must say which, so there zero is caught by the check of the manifest.
                let caught = matches!(refusal, Err(BadBody::Unknown(_) | BadBody::OutOfRange("wishes.switch")));
                assert!(caught, "{}: `{tag}` = {value} gives {refusal:?}", golden.name);
            }
        }
    }
}

#[test]
fn messages_are_those_of_the_schema() {
    let mut told = BTreeSet::new();
    macro_rules! of_each {
        ($($message:ident),* $(,)?) => {
            $({
                let message = imc_capnp::message::ID;
                let annotation = schema::<$message>().get_annotations().unwrap().find(message);
                let annotation = annotation.expect(concat!(stringify!($message), " is a message in the schema"));
                let capnp::dynamic_value::Reader::UInt16(ordinal) = annotation.get_value().unwrap() else { panic!() };
                assert_eq!(<$message>::ORDINAL, ordinal, "ordinal of {}", stringify!($message));
                assert!(told.insert((ordinal, <$message>::SCHEMA_ID)));
            })*
        };
    }
    with_messages!(of_each);

    let compiled = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/schema/compiled/schema.cgr")).unwrap();
    let compiled = capnp::serialize::read_message_from_flat_slice_no_alloc(&mut &compiled[..], Default::default());
    let compiled = compiled.unwrap();
    let request: capnp::schema_capnp::code_generator_request::Reader<'_> = compiled.get_root().unwrap();
    for node in request.get_nodes().unwrap() {
        for annotation in node.get_annotations().unwrap() {
            if annotation.get_id() == imc_capnp::message::ID {
                let name = node.get_display_name().unwrap().to_str().unwrap();
                assert!(told.iter().any(|(_, id)| *id == node.get_id()), "{name} is missing in schema/messages.rs");
            }
        }
    }
}
