//! What every message body is.

use crate::Handle;

/// A message body: a plain type with its place in the schema.
///
/// `decode` copies out of the reader and checks as it goes: enum and union zero are refused, lists and texts are bounded
/// before they are walked. It is the only way from the wire to a plain type.
pub trait Body: Sized {
    /// Names the message within the protocol; never reused, zero is invalid.
    const ORDINAL: u16;
    /// The Cap'n Proto type id of the body's struct.
    const SCHEMA_ID: u64;

    /// Writes the body as the root of `message`.
    fn encode(&self, message: &mut Builder<'_>);
    /// Reads and checks the root of `message`.
    fn decode(message: &Reader<'_>) -> Result<Self, BadBody>;
    /// The descriptors that the body claims to travel with, in the order of the body's fields.
    fn handles(&self) -> Vec<Handle> {
        Vec::new()
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
}

impl From<capnp::Error> for BadBody {
    fn from(error: capnp::Error) -> Self {
        BadBody::Malformed(error.to_string())
    }
}
