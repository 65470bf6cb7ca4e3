//! The decoder of each message, with a segment of any bytes.
//!
//! Input: the ordinal, two bytes, then the segment.

use crate::input::Input;
use capnp::Word;
use schema::{BODY_MAX, BadBody, Body, HANDLES_MAX, Scratch};
use std::fmt::Debug;

pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut segment = Segment { ordinal: input.u16(), bytes: input.take(BODY_MAX) };
    schema::for_each_message(&mut segment);
}

struct Segment<'a> {
    ordinal: u16,
    bytes: &'a [u8],
}

impl schema::ForEach for Segment<'_> {
    fn message<B: Body + PartialEq + Debug>(&mut self, _: &'static str) {
        if B::ORDINAL == self.ordinal
            && let Ok(body) = decode::<B>(self.bytes)
        {
            comes_back(&body);
        }
    }
}

/// Decodes from an address that Cap'n Proto can read from.
pub fn decode<B: Body>(bytes: &[u8]) -> Result<B, BadBody> {
    let mut words = vec![capnp::word(0, 0, 0, 0, 0, 0, 0, 0); bytes.len().div_ceil(8)];
    Word::words_to_bytes_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    schema::decode(&Word::words_to_bytes(&words)[..bytes.len()])
}

/// What was decoded can be encoded, and then decodes to the same.
pub fn comes_back<B: Body + PartialEq + Debug>(body: &B) {
    assert!(body.handles().iter().all(|handle| usize::from(handle.slot) < HANDLES_MAX));
    let mut bytes = Vec::new();
    match Scratch::default().encode(body, &mut bytes) {
        Ok(()) => assert_eq!(decode::<B>(&bytes).as_ref(), Ok(body)),
        // Pointers of a hostile segment may share what they point to; written out, it is longer than a message may be.
        Err(BadBody::TooLong { field: "body", .. }) => {}
        Err(error) => panic!("{body:?} was decoded and cannot be encoded: {error}"),
    }
}
