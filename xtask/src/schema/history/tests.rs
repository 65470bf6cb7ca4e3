use super::*;
use crate::packages;
use std::process::Command;

/// A schema as it was released.
const RELEASED: &str = r#"@0xd3c0de01000000f0;
annotation message @0xd3c0de0100000007 (struct) :UInt16;
enum Colour { invalid @0; red @1; green @2; }
struct Wave $message(0x10) {
  colour @0 :Colour;
  length @1 :UInt32 = 7;
  phase @2 :UInt16;
  names @3 :List(Text);
  reserved0 @4 :UInt64;
  place :union {
    invalid @5 :Void;
    port @6 :UInt16;
    memory @7 :UInt64;
  }
  last @8 :Text;
}
struct Other $message(0x11) { number @0 :UInt8; }
"#;

/// Compiles a schema; without a compiler, says so and gives nothing.
fn compiled(source: &str) -> Option<Meaning> {
    let capnp = match packages::find("capnp") {
        Ok(capnp) => capnp,
        Err(missing) => {
            println!("SKIPPED: {missing}");
            return None;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("seed.capnp"), source).unwrap();
    let done = Command::new(capnp).args(["compile", "-o-", "seed.capnp"]).current_dir(folder.path()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Some(Meaning::of_compiled(&done.stdout).unwrap())
}

/// What is said about the released schema with `changes` made to its source.
fn judged(changes: &[(&str, &str)]) -> Option<Vec<String>> {
    let mut source = RELEASED.to_owned();
    for (from, to) in changes {
        assert!(source.contains(from), "{from}");
        source = source.replacen(from, to, 1);
    }
    Some(broken("1.0", &compiled(RELEASED)?, &compiled(&source)?))
}

#[track_caller]
fn refused(changes: &[(&str, &str)], sentence: &str) {
    let Some(found) = judged(changes) else { return };
    assert!(found.iter().any(|found| found.contains(sentence)), "{sentence:?} is not in {found:#?}");
}

#[track_caller]
fn allowed(changes: &[(&str, &str)]) {
    assert!(judged(changes).is_none_or(|found| found.is_empty()), "{:#?}", judged(changes));
}

#[test]
fn removed_type_is_refused() {
    refused(&[("struct Other", "struct Renamed")], "seed.capnp:Other, the type 0x");
    refused(&[("struct Other $message(0x11) { number @0 :UInt8; }", "")], "is gone: keep it");
}

#[test]
fn changed_type_id_is_refused() {
    refused(&[("struct Other", "struct Other @0xd3c0de01000000f1")], "is gone: keep it; if it has another name");
}

#[test]
fn removed_field_is_refused() {
    let sentence = "seed.capnp:Wave.last (@8 in 1.0) is gone: keep it, as `obsoleteLast` if nobody uses it.";
    refused(&[("  last @8 :Text;\n", "")], sentence);
}

#[test]
fn renumbered_field_is_refused() {
    let swap = [("length @1", "length @2"), ("phase @2", "phase @1")];
    refused(&swap, "seed.capnp:Wave.phase was @2 in 1.0 and is @1: give it back its number.");
}

#[test]
fn reused_ordinal_is_refused() {
    let sentence = "seed.capnp:Wave: @2 was `phase` in 1.0 and is `angle`: a number is never used again. Keep the name, or make \
                    it `obsoletePhase` and add `angle` at the end.";
    refused(&[("phase @2", "angle @2")], sentence);
}

#[test]
fn changed_type_of_a_field_is_refused() {
    refused(
        &[("phase @2 :UInt16", "phase @2 :Int16")],
        "seed.capnp:Wave.phase was UInt16 in 1.0 and is Int16: give it back",
    );
    refused(&[("List(Text)", "List(Data)")], "seed.capnp:Wave.names was List(Text) in 1.0 and is List(Data)");
    refused(&[("colour @0 :Colour", "colour @0 :UInt16")], "Wave.colour was enum(0x");
}

#[test]
fn moved_field_is_refused() {
    // The one before it grows, and takes its place.
    refused(
        &[("length @1 :UInt32", "length @1 :UInt64")],
        "seed.capnp:Wave.reserved0 was at 1 in 1.0 and is at 2: fields are added at the end",
    );
}

#[test]
fn changed_default_is_refused() {
    let sentence =
        "seed.capnp:Wave.length had the default 7 in 1.0 and has none: defaults are part of the bytes; put it back.";
    refused(&[("UInt32 = 7", "UInt32")], sentence);
    refused(&[("phase @2 :UInt16", "phase @2 :UInt16 = 1")], "Wave.phase had the default none in 1.0 and has 1");
}

#[test]
fn shrunk_struct_is_refused() {
    let smaller = [("reserved0 @4 :UInt64", "reserved0 @4 :UInt8"), ("memory @7 :UInt64", "memory @7 :UInt8")];
    refused(&smaller, "words of data in 1.0 and has 2: a struct never shrinks.");
    refused(&[("  last @8 :Text;\n", "")], "seed.capnp:Wave had 2 pointers in 1.0 and has 1: a struct never shrinks.");
}

#[test]
fn removed_renumbered_and_reused_enumerants_are_refused() {
    let gone = "seed.capnp:Colour.green (@2 in 1.0) is gone: keep it";
    refused(&[(" green @2;", "")], gone);
    let swap = [("red @1", "red @2"), ("green @2", "green @1")];
    refused(&swap, "seed.capnp:Colour.red was @1 in 1.0 and is @2: give it back its number.");
    refused(
        &[("green @2", "blue @2")],
        "seed.capnp:Colour: @2 was `green` in 1.0 and is `blue`: a number is never used again",
    );
}

#[test]
fn changed_union_is_refused() {
    // Members are numbered in the order of their ordinals.
    let swap = [("port @6 :UInt16", "port @7 :UInt16"), ("memory @7 :UInt64", "memory @6 :UInt64")];
    refused(&swap, "seed.capnp:Wave.place.port was @6 in 1.0 and is @7");
    let out = [
        ("    memory @7 :UInt64;\n  }\n", "  }\n  memory @7 :UInt64;\n"),
        ("    port", "    other @9 :Void;\n    port"),
    ];
    refused(&out, "seed.capnp:Wave.place.memory (@7 in 1.0) is gone");
    let into = [("  last @8 :Text;\n", ""), ("    port", "    last @8 :Text;\n    port")];
    refused(&into, "seed.capnp:Wave.last (@8 in 1.0) is gone");
}

#[test]
fn changed_message_is_refused() {
    refused(&[("(0x11)", "(0x12)")], "seed.capnp:Other was message 0x11 in 1.0 and is 0x12: give it back its ordinal");
    refused(&[("Other $message(0x11)", "Other")], "seed.capnp:Other was message 0x11 in 1.0 and is none");
    let reuse = [("struct Other $message(0x11)", "struct New $message(0x11) {}\nstruct Other")];
    refused(&reuse, "seed.capnp:New: message 0x11 was seed.capnp:Other");
}

#[test]
fn type_that_becomes_another_kind_is_refused() {
    let released: Meaning = "enum 0x1 a.capnp:A\n  @0 invalid\n".parse().unwrap();
    let changed: Meaning = "struct 0x1 a.capnp:A\n  words 0\n  pointers 0\n".parse().unwrap();
    assert_eq!(broken("1.0", &released, &changed).len(), 1);
}

#[test]
fn additions_are_allowed() {
    allowed(&[]);
    allowed(&[("  last @8 :Text;\n", "  last @8 :Text;\n  more @9 :List(Colour);\n  number @10 :UInt64;\n")]);
    allowed(&[("green @2;", "green @2; blue @3;")]);
    allowed(&[("memory @7 :UInt64;", "memory @7 :UInt64;\n    nowhere @9 :Void;")]);
    allowed(&[("struct Other", "struct New $message(0x12) {}\nstruct Other")]);
}

#[test]
fn harmless_names_are_allowed() {
    allowed(&[("phase @2", "obsoletePhase @2")]);
    allowed(&[("green @2", "obsoleteGreen @2")]);
    allowed(&[("reserved0 @4", "amplitude @4")]);
    allowed(&[("place :union", "space :union")]);
    if let Some(released) = compiled(RELEASED) {
        let id = released.0.iter().find(|(_, of)| of.place.ends_with(":Other")).map(|(id, _)| *id).unwrap();
        allowed(&[("struct Other", &format!("struct Renamed @{id:#x}"))]);
    }
}

#[test]
fn enum_or_union_whose_zero_means_something_is_refused() {
    let found = |from: &str, to: &str| compiled(&RELEASED.replacen(from, to, 1)).map(|meaning| rules(&meaning));
    let expect = |found: Option<Vec<String>>, sentence: &str| {
        if let Some(found) = found {
            assert_eq!(found.len(), 1, "{found:#?}");
            assert!(found[0].contains(sentence), "{found:#?}");
        }
    };
    expect(found("invalid @0", "black @0"), "seed.capnp:Colour: the first enumerant of an enum is `invalid @0`");
    expect(
        found("invalid @5 :Void", "nowhere @5 :Void"),
        "seed.capnp:Wave.place: the first member of a union is `invalid",
    );
    expect(
        found("invalid @5 :Void", "invalid @5 :UInt8"),
        "seed.capnp:Wave.place: the first member of a union is `invalid",
    );
    expect(found("(0x11)", "(0)"), "seed.capnp:Other: 0 is no ordinal");
    expect(found("(0x11)", "(0x10)"), "are the same message");
    assert_eq!(compiled(RELEASED).map(|meaning| rules(&meaning)).unwrap_or_default(), Vec::<String>::new());
}

#[test]
fn history_is_read_as_it_was_written_and_never_written_again() {
    let meaning = kept();
    assert_eq!(meaning.to_string().parse::<Meaning>().unwrap(), meaning);

    let top = tempfile::tempdir().unwrap();
    assert_eq!(released(top.path()).unwrap().len(), 0);
    record(top.path(), "1.2.3", &meaning).unwrap();
    assert_eq!(released(top.path()).unwrap(), BTreeMap::from([("1.2.3".to_owned(), meaning.clone())]));
    let again = record(top.path(), "1.2.3", &Meaning::default()).unwrap_err().to_string();
    assert!(again.contains("what was released does not change"), "{again}");
    assert!(record(top.path(), "../evil", &meaning).is_err());
    assert_eq!(released(top.path()).unwrap()["1.2.3"], meaning);
}

#[test]
fn history_that_was_damaged_is_refused() {
    for text in
        ["  words 3\n", "enum 0x1 a:A\n  @1 red\n", "struct 0x1 a:A\n  @0 x UInt8\n", "enum 1 a:A\n", "union 0x1 a:A\n"]
    {
        assert!(text.parse::<Meaning>().is_err(), "{text:?}");
    }
}

/// The schema of this tree.
fn kept() -> Meaning {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    Meaning::of_compiled(&std::fs::read(top.join(super::super::COMPILED)).unwrap()).unwrap()
}

#[test]
fn schema_of_this_tree_keeps_the_rules_and_its_history() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let schema = kept();
    assert_eq!(rules(&schema), Vec::<String>::new());
    for (version, then) in released(top).unwrap() {
        assert_eq!(broken(&version, &then, &schema), Vec::<String>::new());
    }
}
