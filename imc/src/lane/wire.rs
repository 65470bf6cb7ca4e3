//! Messages of a lane on carriers that send them: one Cap'n Proto segment each, without a table before it.
//!
//! Both are of fixed size and without pointers, so a message is whole or it is none, and a side needs no more memory for
//! the thousandth than for the first. Only the bytes of a string load may follow an answer, as many as it says.

use capnp::Word;
use schema::lane::{Access, Answer, STRING_MAX};
use schema::{Body, decode, encode_in};

const WORD_BYTES: usize = size_of::<Word>();
/// Bytes of an `Access`: its root pointer and the 64 bytes that are an entry of the `memory` carrier.
pub(super) const ACCESS_BYTES: usize = 9 * WORD_BYTES;
/// Bytes of an `Answer`.
pub(super) const ANSWER_BYTES: usize = 21 * WORD_BYTES;
/// Words of the longest message.
const MESSAGE_WORDS: usize = ANSWER_BYTES / WORD_BYTES;
/// Words of the longest message with what may follow it, and one more: a packet that is longer shows by filling it.
const BUFFER_WORDS: usize = MESSAGE_WORDS + STRING_MAX / WORD_BYTES + 1;

/// A message of a lane, of fixed size.
pub(super) trait Message: Body {
    const BYTES: usize;
}

impl Message for Access {
    const BYTES: usize = ACCESS_BYTES;
}

impl Message for Answer {
    const BYTES: usize = ANSWER_BYTES;
}

/// Memory for one message, at an address from which Cap'n Proto reads. What a peer may still write is copied here first.
pub(super) struct Buffer([Word; BUFFER_WORDS]);

impl Buffer {
    pub(super) const fn new() -> Buffer {
        Buffer([capnp::word(0, 0, 0, 0, 0, 0, 0, 0); BUFFER_WORDS])
    }

    /// Where to copy a message to that is read next.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        Word::words_to_bytes_mut(&mut self.0)
    }

    /// Reads the message of which `length` bytes were copied here. `Err` is a sentence about its sender.
    pub(super) fn read<M: Message>(&self, length: usize) -> Result<M, String> {
        if length != M::BYTES {
            return Err(format!("it sent a message of {length} bytes, not of {}", M::BYTES));
        }
        decode(&Word::words_to_bytes(&self.0)[..length])
            .map_err(|error| format!("it sent a message that is none: {error}"))
    }
}

/// Lends `message` as bytes.
pub(super) fn with_bytes<M: Message, T>(message: &M, lend: impl FnOnce(&[u8]) -> T) -> T {
    let mut place = [capnp::word(0, 0, 0, 0, 0, 0, 0, 0); MESSAGE_WORDS];
    encode_in(&mut place, message, |bytes| {
        debug_assert_eq!(bytes.len(), M::BYTES);
        lend(bytes)
    })
    .expect("a message of fixed size fits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::layout::{NOW, REPLY_VALUE, header_word, word};
    use crate::lane::{Header, StateWriter};
    use crate::{Mapping, PAGE_BYTES};
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    const HEADER: Header = Header {
        levels: 0x1234_5678,
        deadline: Some(0x1122_3344_5566_7788),
        postable: 0x8765_4321,
        shadow: [Some(1), Some(2), Some(3), Some(4), Some(5), Some(6), Some(7), Some(u64::MAX)],
        now: 1 << 62 | 5,
    };

    #[test]
    fn answer_begins_with_the_words_of_a_committed_header() {
        for header in [HEADER, Header { deadline: None, ..HEADER }] {
            let mapping = Arc::new(Mapping::anonymous(PAGE_BYTES).unwrap());
            let mut state = StateWriter::new(mapping.clone(), 0, 0).unwrap();
            state.commit(header, Some((9, 77)));
            let copy = state.committed().copy();
            let answer = crate::lane::host_message::answer(&state, false);
            with_bytes(&answer, |bytes| {
                for field in (REPLY_VALUE..=NOW).step_by(8) {
                    let told = u64::from_le_bytes(bytes[8 + field..][..8].try_into().unwrap());
                    assert_eq!(
                        told,
                        word(&mapping, header_word(copy, field)).load(Ordering::Relaxed),
                        "word at {field}"
                    );
                }
            });
        }
    }

    #[test]
    fn message_of_another_length_or_of_noise_is_refused() {
        let mut buffer = Buffer::new();
        with_bytes(&Answer { sequence: 3, ..Answer::default() }, |bytes| {
            buffer.bytes()[..bytes.len()].copy_from_slice(bytes);
        });
        assert_eq!(buffer.read::<Answer>(ANSWER_BYTES).unwrap().sequence, 3);
        for length in [0, 8, ACCESS_BYTES, ANSWER_BYTES - 8, ANSWER_BYTES - 1, ANSWER_BYTES + 8] {
            assert!(buffer.read::<Answer>(length).is_err(), "{length}");
        }
        buffer.bytes().fill(0xff);
        assert!(buffer.read::<Answer>(ANSWER_BYTES).is_err());
        assert!(buffer.read::<Access>(ACCESS_BYTES).is_err());
    }
}
