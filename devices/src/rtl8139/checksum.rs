//! Checksums that the C+ puts into packets of IP version 4 before it sends them.
//!
//! Sources: RFC 791 (IP), RFC 768 (UDP), RFC 9293 (TCP), RFC 1071 (the sum).

use crate::ethernet::HEADER_BYTES;

pub(super) const TYPE: usize = 12;
pub(super) const TYPE_IPV4: [u8; 2] = [0x08, 0x00];
/// Offsets in an IP header.
pub(super) const TOTAL_LENGTH: usize = 2;
const FRAGMENT: usize = 6;
pub(super) const PROTOCOL: usize = 9;
const IP_SUM: usize = 10;
const ADDRESSES: std::ops::Range<usize> = 12..20;
pub(super) const IP_HEADER_MIN: usize = 20;
/// Protocols, and where their headers have the sum.
pub(super) const TCP: u8 = 6;
const TCP_SUM: usize = 16;
pub(super) const TCP_HEADER: usize = 20;
const UDP: u8 = 17;
const UDP_SUM: usize = 6;
const UDP_HEADER: usize = 8;

/// Which checksums a driver wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) ip: bool,
    pub(super) udp: bool,
    pub(super) tcp: bool,
}

/// Puts them in, as far as the frame is what the driver says that it is; what is something else stays as it is.
pub(super) fn fill(frame: &mut [u8], wanted: Wanted) {
    let _ = try_fill(frame, wanted);
}

fn try_fill(frame: &mut [u8], wanted: Wanted) -> Option<()> {
    if frame.get(TYPE..HEADER_BYTES)? != TYPE_IPV4 {
        return None;
    }
    let packet = frame.get_mut(HEADER_BYTES..)?;
    let header_bytes = usize::from(packet.first()? & 0xf) * 4;
    if packet[0] >> 4 != 4 || header_bytes < IP_HEADER_MIN {
        return None;
    }
    let total = usize::from(word(packet, TOTAL_LENGTH)?);
    let (header, rest) = packet.split_at_mut_checked(header_bytes)?;
    if wanted.ip {
        header[IP_SUM..IP_SUM + 2].fill(0);
        let sum = !fold(add(0, header));
        header[IP_SUM..IP_SUM + 2].copy_from_slice(&sum.to_be_bytes());
    }
    let segment = rest.get_mut(..total.checked_sub(header_bytes)?)?;
    let (at, least) = match header[PROTOCOL] {
        TCP if wanted.tcp => (TCP_SUM, TCP_HEADER),
        UDP if wanted.udp => (UDP_SUM, UDP_HEADER),
        _ => return None,
    };
    // A fragment has no sum of its own.
    if segment.len() < least || word(header, FRAGMENT)? & 0x3fff != 0 {
        return None;
    }
    segment[at..at + 2].fill(0);
    let pseudo = add(u32::from(header[PROTOCOL]) + segment.len() as u32, &header[ADDRESSES]);
    let sum = !fold(add(pseudo, segment));
    // In UDP a sum of zero means that there is none.
    let sum = if sum == 0 && header[PROTOCOL] == UDP { u16::MAX } else { sum };
    segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// The big-endian word at an offset.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|word| u16::from_be_bytes(*word))
}

/// Adds 16-bit words; a frame has too few for 32 bits to overflow.
fn add(sum: u32, bytes: &[u8]) -> u32 {
    let (words, last) = bytes.as_chunks::<2>();
    let last = last.first().map_or(0, |byte| u32::from(*byte) << 8);
    words.iter().fold(sum + last, |sum, word| sum + u32::from(u16::from_be_bytes(*word)))
}

fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Wanted = Wanted { ip: true, udp: true, tcp: true };

    /// A datagram of four bytes from 192.168.0.1:7 to 192.168.0.2:7, without sums.
    fn datagram() -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00]);
        frame.extend([0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0xaa, 0xaa, 192, 168, 0, 1, 192, 168, 0, 2]);
        frame.extend([0, 7, 0, 7, 0, 12, 0xaa, 0xaa, 1, 2, 3, 4]);
        frame
    }

    /// With its sum in it, a header adds up to all ones.
    fn adds_up(header: &[u8], first: u32) -> bool {
        fold(add(first, header)) == 0xffff
    }

    #[test]
    fn what_is_no_such_packet_stays_as_it_is() {
        let spoilt: [fn(&mut Vec<u8>); 6] = [
            |frame| frame[13] = 1,
            |frame| frame[14] = 0x65,
            |frame| frame[14] = 0x44,
            |frame| frame[14] = 0x4f,
            |frame| frame.truncate(20),
            |frame| frame.clear(),
        ];
        for spoil in spoilt {
            let mut frame = datagram();
            spoil(&mut frame);
            let before = frame.clone();
            fill(&mut frame, ALL);
            assert_eq!(frame, before);
        }
    }

    #[test]
    fn fragments_and_lengths_that_lie_get_no_sum_beyond_that_of_ip() {
        let spoilt: [fn(&mut Vec<u8>); 4] =
            [|frame| frame[20] = 0x20, |frame| frame[17] = 33, |frame| frame[17] = 27, |frame| frame[17] = 19];
        for spoil in spoilt {
            let mut frame = datagram();
            spoil(&mut frame);
            fill(&mut frame, ALL);
            assert!(adds_up(&frame[14..34], 0));
            assert_eq!(frame[40..42], [0xaa, 0xaa]);
        }
    }

    #[test]
    fn sums_of_ip_and_udp_are_right_and_only_those_that_are_wanted_are_touched() {
        let mut frame = datagram();
        fill(&mut frame, Wanted { ip: true, udp: false, tcp: true });
        assert!(adds_up(&frame[14..34], 0));
        assert_eq!(frame[40..42], [0xaa, 0xaa]);
        fill(&mut frame, ALL);
        let pseudo = add(17 + 12, &frame[26..34]);
        assert!(adds_up(&frame[34..], pseudo));
    }

    #[test]
    fn sum_of_tcp_covers_bytes_up_to_an_odd_end() {
        let mut frame = datagram();
        frame[23] = TCP;
        frame.extend([9; 13]);
        frame[17] = 45;
        fill(&mut frame, ALL);
        let pseudo = add(6 + 25, &frame[26..34]);
        assert!(adds_up(&frame[34..], pseudo));
    }

    #[test]
    fn sum_of_udp_that_would_be_zero_is_all_ones() {
        let mut frame = datagram();
        fill(&mut frame, ALL);
        // What is lacking to all ones goes into the data.
        let sum = u16::from_be_bytes([frame[40], frame[41]]);
        let data = u16::from_be_bytes([frame[42], frame[43]]);
        let more = fold(u32::from(data) + u32::from(sum));
        frame[42..44].copy_from_slice(&more.to_be_bytes());
        fill(&mut frame, ALL);
        assert_eq!(frame[40..42], [0xff, 0xff]);
    }
}
