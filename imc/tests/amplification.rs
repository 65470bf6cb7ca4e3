//! Small messages that would cost their reader much: 80 words whose pointers share what they point to, so that whoever follows
//! all of them meets the same words again and again.

mod raw;

use capnp::message::{Reader as AnyReader, ReaderOptions, SegmentArray};
use capnp::traits::FromPointerReader;
use imc::{Channel, Fault};
use raw::{EVENT, assemble, datagram, pair};
use schema::host::{Assign, Assignment, Level, Setting};
use schema::{BadBody, Body, ForEach, Reader};
use std::time::{Duration, Instant};

const SOON: Option<Duration> = Some(Duration::from_secs(5));
const WORDS: usize = 80;
/// What a reader may be made to walk of a message of this many words.
const LIMIT: usize = 2 * WORDS + 16;
/// Structs of a graph, each of as many pointers, all of which point to the next one.
const FAN: usize = 8;

/// Cap'n Proto's pointer to a struct, `offset` words after the pointer itself.
fn struct_pointer(offset: usize, data: u64, pointers: u64) -> u64 {
    (offset as u64) << 2 | data << 32 | pointers << 48
}

/// Its pointer to a list of structs, which take `words` altogether behind a tag; or of bytes, of which there are `words`.
fn list_pointer(offset: usize, size: u64, words: usize) -> u64 {
    1 | (offset as u64) << 2 | size << 32 | (words as u64) << 35
}

const STRUCTS: u64 = 7;
const BYTES: u64 = 2;

/// A graph in which 8 pointers of each struct meet in the next one: 8⁹ ways through 80 words.
fn graph() -> Vec<u64> {
    let mut words = vec![struct_pointer(0, 0, FAN as u64)];
    while words.len() + 2 * FAN <= WORDS {
        let level = words.len();
        for at in 0..FAN {
            words.push(struct_pointer(level + FAN - (level + at) - 1, 0, FAN as u64));
        }
    }
    // The last: words of data that look like null pointers.
    words.resize(WORDS, 0);
    words
}

/// The same in the terms of a real message: devices that share one list of options, which share one text.
fn shared_options() -> Vec<u64> {
    let mut words = vec![struct_pointer(0, 1, 1), Level::Off as u64];
    let (devices, device, options, option) = (12, 3, 14, 2);
    words.push(list_pointer(0, STRUCTS, devices * device));
    words.push(struct_pointer(devices, 1, 2));
    let first_option = words.len() + devices * device + 1;
    let text = first_option + options * option;
    for _ in 0..devices {
        words.push(1);
        words.push(list_pointer(text - words.len() - 1, BYTES, 8));
        words.push(list_pointer(first_option - 1 - words.len() - 1, STRUCTS, options * option));
    }
    words.push(struct_pointer(options, 0, 2));
    for _ in 0..options * option {
        words.push(list_pointer(text - words.len() - 1, BYTES, 8));
    }
    words.push(u64::from_le_bytes(*b"option.\0"));
    words.resize(WORDS, 0);
    words
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Follows every pointer, as the worst of decoders would, and counts what it meets.
fn walk(reader: capnp::any_pointer::Reader<'_>, seen: &mut usize) -> capnp::Result<()> {
    if reader.is_null() {
        return Ok(());
    }
    let one: Any<'_> = reader.get_as()?;
    *seen += FAN;
    (0..FAN).try_for_each(|at| walk(capnp::any_pointer::Reader::new(one.0.get_pointer_field(at)), seen))
}

/// A struct of any type.
struct Any<'a>(capnp::private::layout::StructReader<'a>);

impl<'a> FromPointerReader<'a> for Any<'a> {
    fn get_from_pointer(
        reader: &capnp::private::layout::PointerReader<'a>,
        default: Option<&'a [capnp::Word]>,
    ) -> capnp::Result<Self> {
        reader.get_struct(default).map(Any)
    }
}

/// The worst of decoders, as a message.
#[derive(Debug)]
struct Everything;

impl Body for Everything {
    const ORDINAL: u16 = 0x7fff;
    const SCHEMA_ID: u64 = 1;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(1)
    }
    fn encode(&self, _: &mut schema::Builder<'_>) {}
    fn decode(message: &Reader<'_>) -> Result<Self, BadBody> {
        let mut seen = 0;
        let walked = walk(message.get_root()?, &mut seen);
        assert!(seen <= LIMIT, "{seen} words were walked of a message of {WORDS}");
        walked?;
        Ok(Everything)
    }
}

/// Median time to take what another process has sent, in nanoseconds.
fn cost<B: Body>(channel: &mut Channel, send: &dyn Fn(), expect: &dyn Fn(Result<B, Fault>)) -> u128 {
    let mut times: Vec<u128> = (0..201)
        .map(|_| {
            send();
            let begun = Instant::now();
            let packet = channel.receive(SOON).unwrap().unwrap();
            let opened = packet.decode::<B>().map(|(body, _)| body);
            let took = begun.elapsed().as_nanos();
            expect(opened);
            took
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn graph_is_what_it_is_said_to_be() {
    let graph = bytes(&graph());
    let mut aligned = vec![capnp::word(0, 0, 0, 0, 0, 0, 0, 0); WORDS];
    capnp::Word::words_to_bytes_mut(&mut aligned).copy_from_slice(&graph);
    let segments = [capnp::Word::words_to_bytes(&aligned)];
    let message = AnyReader::new(SegmentArray::new(&segments), ReaderOptions::new());
    let (begun, mut seen) = (Instant::now(), 0);
    let end = walk(message.get_root().unwrap(), &mut seen);
    println!("at default limits: {seen} words, {:?}", begun.elapsed());
    assert!(end.is_err() && seen > 8_000_000, "without limits of our own it goes on and on");
}

#[test]
fn shared_words_cost_no_more_than_an_honest_message() {
    // Honest: as long, and decoded to the end.
    let setting = |at| Setting { name: format!("option {at}"), value: "value".into() };
    let device = Assignment {
        device: "device".into(),
        options: (0..8).map(setting).collect(),
        carrier: Default::default(),
        poisoned: false,
        exchanged: None,
    };
    let honest = Assign { level: Level::Off, devices: vec![device; 2], threaded: false };
    assert!((WORDS..2 * WORDS).contains(&honest.measure().unwrap()));
    let (mut channel, peer) = pair();
    let message = datagram(EVENT, 0, 0, &honest);
    let honest = cost::<Assign>(&mut channel, &|| peer.send(&message, &[]), &|opened| assert!(opened.is_ok()));

    // A channel is closed by the first of them, so each goes over a channel of its own.
    let hostile = |message: &[u8]| {
        let mut times: Vec<u128> = (0..101)
            .map(|_| {
                let (mut channel, peer) = pair();
                peer.send(message, &[]);
                let packet = channel.receive(SOON).unwrap().unwrap();
                let begun = Instant::now();
                let fault = match packet.ordinal {
                    Everything::ORDINAL => packet.decode::<Everything>().map(drop),
                    _ => packet.decode::<Assign>().map(drop),
                };
                let took = begun.elapsed().as_nanos();
                assert!(matches!(fault, Err(Fault::BadBody(BadBody::Malformed(_)))), "{fault:?}");
                took
            })
            .collect();
        times.sort_unstable();
        times[times.len() / 2]
    };
    let message = |ordinal, id, words: &[u64]| assemble(EVENT, ordinal, 0, 0, id, &bytes(words));
    let worst = hostile(&message(Everything::ORDINAL, Everything::SCHEMA_ID, &graph()));
    let shared = hostile(&message(Assign::ORDINAL, Assign::SCHEMA_ID, &shared_options()));
    println!("median: honest {honest} ns, graph {worst} ns, shared options {shared} ns");
    for hostile in [worst, shared] {
        assert!(hostile < 8 * honest.max(1_000), "{hostile} ns, an honest one {honest} ns");
    }
}

#[test]
fn every_message_takes_the_graph_for_what_it_is() {
    struct Decode(Vec<u64>);
    impl ForEach for Decode {
        fn message<B: Body + PartialEq + std::fmt::Debug + 'static>(&mut self, name: &'static str) {
            let (mut channel, peer) = pair();
            peer.send(&assemble(EVENT, B::ORDINAL, 0, 0, B::SCHEMA_ID, &bytes(&self.0)), &[]);
            let begun = Instant::now();
            let opened = channel.receive(SOON).unwrap().unwrap().decode::<B>();
            // Either its fields are none of the graph's, or it is refused; far from what following it all would take.
            assert!(begun.elapsed() < Duration::from_millis(50), "{name}: {:?}", opened.err());
        }
    }
    schema::for_each_message(&mut Decode(graph()));
    schema::for_each_message(&mut Decode(shared_options()));
}
