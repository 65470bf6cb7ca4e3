//! The 32 bytes at the start of each datagram.
//!
//! | offset | bytes | field (little-endian) |
//! | --- | --- | --- |
//! | 0 | 4 | magic, `IMC1` |
//! | 4 | 2 | version, 1 |
//! | 6 | 2 | ordinal of the message; 0 is invalid |
//! | 8 | 8 | number of the call, which its reply repeats; 0: nobody answers |
//! | 16 | 1 | type: 1 call, 2 reply, 3 error, 4 event, 5 close |
//! | 17 | 1 | descriptors, at most 8 |
//! | 18 | 2 | flags, 0 |
//! | 20 | 4 | bytes of body: all that follows |
//! | 24 | 8 | Cap'n Proto type id of the body's struct |

use crate::Fault;
use schema::{BODY_MAX, BadBody, HANDLES_MAX};

/// Bytes of the header.
pub(crate) const HEADER_BYTES: usize = 32;
/// Largest datagram in bytes.
pub const DATAGRAM_MAX: usize = HEADER_BYTES + BODY_MAX;

const MAGIC: [u8; 4] = *b"IMC1";
const VERSION: u16 = 1;

/// What a datagram is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Type {
    /// Wants exactly one reply or error.
    Call = 1,
    /// Answers a call.
    Reply = 2,
    /// Declines a call; the body is a `Refusal`.
    Error = 3,
    /// Wants nothing.
    Event = 4,
    /// The sender leaves.
    Close = 5,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub ordinal: u16,
    pub txid: u64,
    pub kind: Type,
    pub handles: u8,
    pub body_bytes: u32,
    pub schema_id: u64,
}

impl Header {
    pub(crate) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.ordinal.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.txid.to_le_bytes());
        bytes[16] = self.kind as u8;
        bytes[17] = self.handles;
        bytes[20..24].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.schema_id.to_le_bytes());
        bytes
    }

    /// Reads the header of a whole datagram, and checks what can be checked without knowing the channel.
    pub(crate) fn parse(datagram: &[u8]) -> Result<Header, Fault> {
        let (bytes, body) = datagram.split_first_chunk::<HEADER_BYTES>().ok_or(Fault::Truncated)?;
        if bytes[0..4] != MAGIC {
            return Err(Fault::BadMagic);
        }
        if u16::from_le_bytes(field(bytes, 4)) != VERSION || u16::from_le_bytes(field(bytes, 18)) != 0 {
            return Err(Fault::BadVersion);
        }
        let header = Header {
            ordinal: u16::from_le_bytes(field(bytes, 6)),
            txid: u64::from_le_bytes(field(bytes, 8)),
            kind: match bytes[16] {
                1 => Type::Call,
                2 => Type::Reply,
                3 => Type::Error,
                4 => Type::Event,
                5 => Type::Close,
                _ => return Err(Fault::BadState),
            },
            handles: bytes[17],
            body_bytes: u32::from_le_bytes(field(bytes, 20)),
            schema_id: u64::from_le_bytes(field(bytes, 24)),
        };
        if header.body_bytes as usize != body.len() {
            return Err(Fault::Truncated);
        }
        if !body.len().is_multiple_of(8) {
            return Err(BadBody::Malformed("not whole words".into()).into());
        }
        if header.ordinal == 0 && header.kind != Type::Close {
            return Err(Fault::UnknownOrdinal(0));
        }
        if usize::from(header.handles) > HANDLES_MAX {
            return Err(Fault::HandleCount);
        }
        Ok(header)
    }
}

fn field<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|index| bytes[at + index])
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: Header = Header {
        ordinal: 0x16,
        txid: 0x1122_3344_5566_7788,
        kind: Type::Call,
        handles: 2,
        body_bytes: 8,
        schema_id: 9,
    };

    #[test]
    fn header_has_the_documented_bytes() {
        let golden = [
            0x49, 0x4d, 0x43, 0x31, 1, 0, 0x16, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 1, 2, 0, 0, 8, 0, 0,
            0, 9, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(EXAMPLE.to_bytes(), golden);
        assert_eq!(Header::parse(&[&golden[..], &[0; 8]].concat()), Ok(EXAMPLE));
    }

    #[test]
    fn each_wrong_field_has_its_own_fault() {
        let change = |at: usize, to: u8| {
            let mut datagram = [&EXAMPLE.to_bytes()[..], &[0; 8]].concat();
            datagram[at] = to;
            Header::parse(&datagram)
        };
        assert_eq!(change(0, b'i'), Err(Fault::BadMagic));
        assert_eq!(change(4, 2), Err(Fault::BadVersion));
        assert_eq!(change(18, 1), Err(Fault::BadVersion));
        assert_eq!(change(6, 0), Err(Fault::UnknownOrdinal(0)));
        assert_eq!(change(16, 0), Err(Fault::BadState));
        assert_eq!(change(16, 6), Err(Fault::BadState));
        assert_eq!(change(17, 9), Err(Fault::HandleCount));
        assert_eq!(change(20, 16), Err(Fault::Truncated));
        assert_eq!(Header::parse(&EXAMPLE.to_bytes()[..31]), Err(Fault::Truncated));
    }

    #[test]
    fn body_of_half_a_word_is_refused() {
        let header = Header { body_bytes: 4, ..EXAMPLE };
        let datagram = [&header.to_bytes()[..], &[0; 4]].concat();
        assert!(matches!(Header::parse(&datagram), Err(Fault::BadBody(BadBody::Malformed(_)))));
    }
}
