//! Large send of the C+: a driver gives one segment of TCP over IP version 4 that is longer than a frame, and the card sends it as
//! several, each with headers of its own.
//!
//! Sources: the RTL8169's data sheet, "Large-Send Task Offload Tx Descriptor Format": its descriptors are those of the C+;
//! RFC 791 (IP), RFC 9293 (TCP), RFC 3168 (CWR).

use super::checksum::{IP_HEADER_MIN, PROTOCOL, TCP, TCP_HEADER, TOTAL_LENGTH, TYPE, TYPE_IPV4, word};
use crate::ethernet::HEADER_BYTES;

/// Longest headers: those of IP and TCP have at most fifteen words each.
pub(super) const HEADERS_MAX: usize = HEADER_BYTES + 60 + 60;

/// Longest frame: the longest packet of IP, with the frame's own header.
pub(super) const LARGE_MAX: usize = HEADER_BYTES + u16::MAX as usize;

/// Offset in an IP header.
const IDENTIFICATION: usize = 4;
/// Offsets in a TCP header.
const SEQUENCE: usize = 4;
const DATA_OFFSET: usize = 12;
const FLAGS: usize = 13;
/// For the last segment alone: nothing follows, and the data is to be handed on.
const FIN_AND_PUSH: u8 = 0x09;
/// For the first segment alone (RFC 3168, 6.1.2).
const CWR: u8 = 0x80;

/// One of the frames that a large one becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// How many come before it.
    pub(super) number: u16,
    /// Bytes of data that those have.
    pub(super) sent: u32,
    pub(super) is_last: bool,
}

/// Where the headers of a large frame are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Headers {
    tcp: usize,
    /// Where its data begins.
    pub(super) end: usize,
}

impl Headers {
    /// Finds them at the beginning of a frame; `None` where it is no TCP over IP version 4.
    pub(super) fn find(frame: &[u8]) -> Option<Headers> {
        let packet = frame.get(HEADER_BYTES..)?;
        let header_bytes = usize::from(packet.first()? & 0xf) * 4;
        if frame[TYPE..HEADER_BYTES] != TYPE_IPV4 || packet[0] >> 4 != 4 || header_bytes < IP_HEADER_MIN {
            return None;
        }
        let segment = packet.get(header_bytes..).filter(|_| packet.get(PROTOCOL) == Some(&TCP))?;
        let tcp_bytes = usize::from(segment.get(DATA_OFFSET)? >> 4) * 4;
        if tcp_bytes < TCP_HEADER || segment.len() < tcp_bytes {
            return None;
        }
        let tcp = HEADER_BYTES + header_bytes;
        Some(Headers { tcp, end: tcp + tcp_bytes })
    }

    /// Makes the headers of the large frame those of one part of it, all of which `frame` is. Its checksums are left as they are.
    pub(super) fn make(self, frame: &mut [u8], part: Part) {
        let bytes = frame.len();
        let (head, segment) = frame.split_at_mut(self.tcp);
        let ip = &mut head[HEADER_BYTES..];
        put(ip, TOTAL_LENGTH, &((bytes - HEADER_BYTES) as u16).to_be_bytes());
        let identification = word(ip, IDENTIFICATION).unwrap_or(0).wrapping_add(part.number);
        put(ip, IDENTIFICATION, &identification.to_be_bytes());
        let sequence = segment[SEQUENCE..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        put(segment, SEQUENCE, &sequence.wrapping_add(part.sent).to_be_bytes());
        segment[FLAGS] &= !if part.is_last { 0 } else { FIN_AND_PUSH } & !if part.sent == 0 { 0 } else { CWR };
    }
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A large frame of TCP with so much data, which has all flags.
    pub(in super::super) fn large_frame(data: usize) -> Vec<u8> {
        let mut frame = vec![0x02; 12];
        frame.extend([0x08, 0x00]);
        frame.extend([0x45, 0, 0, 0, 0xff, 0xff, 0x40, 0, 64, 6, 0, 0, 192, 168, 0, 1, 192, 168, 0, 2]);
        frame.extend([0, 7, 0, 9, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0x50, 0xff, 1, 0, 0xaa, 0xaa, 0, 0]);
        frame.extend((0..data).map(|at| (at % 251) as u8));
        frame
    }

    #[test]
    fn frames_without_headers_of_tcp_are_none() {
        let right = large_frame(10);
        assert_eq!(Headers::find(&right), Some(Headers { tcp: 34, end: 54 }));
        let spoilt: [fn(&mut Vec<u8>); 9] = [
            |frame| frame.clear(),
            |frame| frame.truncate(14),
            |frame| frame.truncate(53),
            |frame| frame[13] = 6,
            |frame| frame[14] = 0x65,
            |frame| frame[14] = 0x44,
            |frame| frame[23] = 17,
            |frame| frame[46] = 0x40,
            |frame| frame[46] = 0xf0,
        ];
        for (number, spoil) in spoilt.iter().enumerate() {
            let mut frame = right.clone();
            spoil(&mut frame);
            assert_eq!(Headers::find(&frame), None, "{number}");
        }
    }
}
