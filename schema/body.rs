//! What every message body is.

use crate::handle::Handles;
use capnp::Word;
use capnp::message::{ReaderOptions, SegmentArray, SingleSegmentAllocator};

/// Largest body in bytes. A datagram must fit a socket's buffer many times over, without memory that is hard to find;
/// what is larger belongs in a region.
pub const BODY_MAX: usize = 16 << 10;
/// Most descriptors of one message.
pub const HANDLES_MAX: usize = 8;
/// How deep pointers may nest: one more than the deepest message of the schema does.
pub const NESTING_MAX: i32 = 8;

/// A message body: a plain type with its place in the schema.
///
/// `decode` copies out of the reader and checks as it goes: enum and union zero are refused, lists and texts are bounded
/// before they are walked. It is the only way from the wire to a plain type.
pub trait Body: Sized {
    /// Names the message within the protocol; never reused, zero is invalid.
    const ORDINAL: u16;
    /// The Cap'n Proto type id of the body's struct.
    const SCHEMA_ID: u64;

    /// Whether two of its descriptors may be one memory. Rarely: who is due two regions relies on their being two.
    const ALIASES: bool = false;

    /// Words that the encoded body takes, or which field is over its bound. The builder cannot fail, only panic, so a
    /// sender asks first; [`Scratch::encode`] does.
    fn measure(&self) -> Result<usize, BadBody>;
    /// Writes the body as the root of `message`.
    fn encode(&self, message: &mut Builder<'_>);
    /// Reads and checks the root of `message`.
    fn decode(message: &Reader<'_>) -> Result<Self, BadBody>;
    /// The descriptors that the body claims to travel with, in the order of the body's fields.
    fn handles(&self) -> Handles {
        Handles::default()
    }
}

/// What a body is built in: one segment of the sender's own memory.
pub type Builder<'a> = capnp::message::Builder<capnp::message::SingleSegmentAllocator<'a>>;
/// What a body is read from: one segment of the receiver's own memory.
pub type Reader<'a> = capnp::message::Reader<capnp::message::SegmentArray<'a>>;

/// Why a body was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBody {
    /// Not a well-formed Cap'n Proto message within the limits.
    #[error("the body is malformed: {0}")]
    Malformed(String),
    /// An enum or union has a value that this schema does not know, or its invalid zero.
    #[error("`{0}` has a value that the schema does not know")]
    Unknown(&'static str),
    /// A list or text is longer than its bound.
    #[error("`{field}` has {length} entries, at most {bound} are allowed")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its claimed length.
        length: usize,
        /// Its bound.
        bound: usize,
    },
    /// A text is not UTF-8.
    #[error("`{0}` is not UTF-8")]
    NotText(&'static str),
    /// A value is outside what its field may hold.
    #[error("`{0}` is out of range")]
    OutOfRange(&'static str),
    /// What a manifest declares makes no sense, as a sentence.
    #[error("its manifest makes no sense: {0}")]
    Manifest(String),
}

impl From<capnp::Error> for BadBody {
    fn from(error: capnp::Error) -> Self {
        BadBody::Malformed(error.to_string())
    }
}

/// Where bodies are built. Its memory is used again for each message.
pub struct Scratch(Box<[Word]>);

impl Default for Scratch {
    fn default() -> Self {
        Scratch(vec![ZERO; BODY_MAX / WORD_BYTES].into_boxed_slice())
    }
}

impl Scratch {
    /// Builds `body` as one segment and appends it to `into`.
    pub fn encode<B: Body>(&mut self, body: &B, into: &mut Vec<u8>) -> Result<(), BadBody> {
        self.lend(body, |segment| into.extend_from_slice(segment))
    }

    /// Builds `body` as one segment and lends it to `use_segment`.
    pub fn lend<B: Body, T>(&mut self, body: &B, use_segment: impl FnOnce(&[u8]) -> T) -> Result<T, BadBody> {
        encode_in(&mut self.0, body, use_segment)
    }
}

/// Builds `body` as one segment in `place`, which must be zero, lends it to `use_segment`, and leaves `place` zero again.
pub fn encode_in<B: Body, T>(place: &mut [Word], body: &B, use_segment: impl FnOnce(&[u8]) -> T) -> Result<T, BadBody> {
    let words = body.measure()?;
    let bound = place.len();
    let place = place.get_mut(..words).ok_or(BadBody::TooLong { field: "body", length: words, bound })?;
    let mut message = capnp::message::Builder::new(SingleSegmentAllocator::new(Word::words_to_bytes_mut(place)));
    body.encode(&mut message);
    let segments = message.get_segments_for_output();
    // The allocator has room for one.
    Ok(use_segment(segments.first().copied().unwrap_or_default()))
}

/// Reads a body from the receiver's own copy of a segment, whose address is a multiple of 8.
pub fn decode<B: Body>(segment: &[u8]) -> Result<B, BadBody> {
    let words = segment.len() / WORD_BYTES;
    // Each object is meant to be reached once; an honest message needs no more than its own size, and a message of lists
    // of nothing that claims millions of entries ends early.
    let limits = ReaderOptions { traversal_limit_in_words: Some(2 * words + 16), nesting_limit: NESTING_MAX };
    B::decode(&Reader::new(SegmentArray::new(&[segment]), limits))
}

const WORD_BYTES: usize = size_of::<Word>();
const ZERO: Word = capnp::word(0, 0, 0, 0, 0, 0, 0, 0);
