//! Frames on their way from the network into the guest's memory.

use super::Rtl8139;
use super::registers::{isr, rcr};
use super::ring::{Descriptor, RING_MAX, Return, Used};
use super::state::{RECEIVED, State};
use crate::ethernet::{ADDRESS_BYTES, FRAME_MIN, HEADER_BYTES};
use device::FRAME_MAX;
use vm_memory::{Bytes, GuestAddress};

/// Before each packet in the buffer: its status, and its length with the checksum.
const PACKET_HEADER: usize = 4;
/// The checksum of a frame comes with it.
const CHECKSUM: usize = 4;
/// Packets begin at multiples of this.
const ALIGNMENT: usize = 4;
/// Most bytes of the buffer that a packet takes.
const PACKET_MAX: usize = (PACKET_HEADER + FRAME_MAX + CHECKSUM).next_multiple_of(ALIGNMENT);

/// Receive status in the packet's header.
const STATUS_OK: u16 = 1 << 0;
const STATUS_BROADCAST: u16 = 1 << 13;
const STATUS_MATCH: u16 = 1 << 14;
const STATUS_MULTICAST: u16 = 1 << 15;
/// The last three in a descriptor of the C+ mode.
const RING_STATUS_SHIFT: u32 = 11;

/// Whom a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    Us,
    All,
    Many,
    /// Another card: only who listens to all sees it.
    Other,
}

/// How a frame fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is in memory, or nobody wants it.
    Taken,
    /// There is no room for it now.
    Waits,
}

impl Rtl8139 {
    /// Whether a frame that waits could now be taken, or thrown away: a cheap look.
    pub(super) fn could_receive(&self, state: &State) -> bool {
        if !state.receives() {
            return true;
        }
        if state.receives_by_ring() {
            let next = || Descriptor::read(&self.memory, state.ring, state.receive_index);
            return state.returning[RECEIVED].is_nothing()
                && (state.stalled == 0 || next().is_none_or(|next| next.is_owned()));
        }
        // Room for any frame, so that this look and the one that knows the frame agree.
        has_room(state)
    }

    /// Whether a frame waits because the receive buffer is full, and the driver is not being told. One that cleared the interrupt
    /// and left packets where they are would never hear of them again: no frame comes in that could announce itself.
    pub(super) fn must_tell(&self, state: &State) -> bool {
        let full = state.receives() && !state.receives_by_ring() && !has_room(state);
        full && state.interrupts & isr::RECEIVE_OVERFLOW == 0 && self.frames.has(state.received)
    }

    /// Takes the next frame from the network, if there is one and room for it. Says whether the state has changed.
    pub(super) fn receive(&mut self, state: &mut State) -> bool {
        if self.must_tell(state) {
            state.interrupts |= isr::RECEIVE_OVERFLOW;
            return true;
        }
        if !self.frames.has(state.received) || !self.could_receive(state) {
            return false;
        }
        let mut frame = [0; FRAME_MAX];
        let length = self.frames.receive(state.received, &mut frame).unwrap_or(0);
        if self.accept(state, &frame[..length]) == Fate::Waits {
            let told = std::mem::replace(&mut state.stalled, 1) != 0;
            state.interrupts |= if told { 0 } else { isr::RECEIVE_OVERFLOW };
            return !told;
        }
        state.received = state.received.wrapping_add(1);
        true
    }

    /// A frame comes in, from the network or from ourselves.
    pub(super) fn accept(&mut self, state: &mut State, frame: &[u8]) -> Fate {
        let Some(whom) = wanted_by(state, frame).filter(|_| state.receives()) else { return Fate::Taken };
        // The wire has filled up what is too short.
        let length = frame.len().max(FRAME_MIN);
        let mut packet = [0; PACKET_MAX];
        packet[PACKET_HEADER..PACKET_HEADER + frame.len()].copy_from_slice(frame);
        let (body, rest) = packet[PACKET_HEADER..].split_at_mut(length);
        rest[..CHECKSUM].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        let whole = length + CHECKSUM;
        let status = match whom {
            For::Us => STATUS_MATCH,
            For::All => STATUS_BROADCAST,
            For::Many => STATUS_MULTICAST,
            For::Other => 0,
        };
        let stored = if state.receives_by_ring() {
            self.store_in_ring(state, &packet[PACKET_HEADER..PACKET_HEADER + whole], status)
        } else {
            packet[..2].copy_from_slice(&(status | STATUS_OK).to_le_bytes());
            packet[2..PACKET_HEADER].copy_from_slice(&(whole as u16).to_le_bytes());
            self.store_in_buffer(state, &packet[..(PACKET_HEADER + whole).next_multiple_of(ALIGNMENT)])
        };
        match stored {
            Stored::Yes => {
                state.interrupts |= isr::RECEIVE_OK;
                state.stalled = 0;
                count(state, whom);
                Fate::Taken
            }
            Stored::Nowhere => {
                state.interrupts |= isr::SYSTEM_ERROR;
                state.counters.missed = state.counters.missed.wrapping_add(1);
                Fate::Taken
            }
            Stored::NoRoom => Fate::Waits,
        }
    }

    /// Writes a packet behind the last one.
    fn store_in_buffer(&self, state: &mut State, packet: &[u8]) -> Stored {
        if !has_room(state) {
            return Stored::NoRoom;
        }
        let (bytes, at) = (state.buffer_bytes(), state.written);
        let to_end = if state.writes_beyond() { packet.len() } else { packet.len().min((bytes - at) as usize) };
        let (first, second) = packet.split_at(to_end);
        let start = u64::from(state.receive_start);
        let write = |offset: u32, part: &[u8]| self.memory.write_slice(part, GuestAddress(start + u64::from(offset)));
        if write(at, first).and_then(|()| write(0, second)).is_err() {
            return Stored::Nowhere;
        }
        state.written = (at + packet.len() as u32) % bytes;
        Stored::Yes
    }

    /// Writes a packet into the buffers of as many descriptors as it takes.
    fn store_in_ring(&self, state: &mut State, packet: &[u8], status: u16) -> Stored {
        if !state.returning[RECEIVED].is_nothing() {
            return Stored::NoRoom;
        }
        let (mut used, mut room, mut next) = (Used::new(), 0, state.receive_index);
        while room < packet.len() {
            let Some(descriptor) = Descriptor::read(&self.memory, state.ring, next) else { return Stored::Nowhere };
            // The ring has gone round: all of it is smaller than the packet.
            if !descriptor.is_owned() || used.all().iter().any(|used| used.index == next) || !used.add(descriptor) {
                return Stored::NoRoom;
            }
            room += descriptor.room();
            next = descriptor.next();
        }
        let mut rest = packet;
        for descriptor in used.all() {
            let part = rest.split_off(..descriptor.room().min(rest.len())).unwrap_or_default();
            if self.memory.write_slice(part, GuestAddress(descriptor.address)).is_err() {
                return Stored::Nowhere;
            }
        }
        state.receive_index = next % RING_MAX;
        state.returning[RECEIVED] =
            Return::of(state.ring, &used, u32::from(status) << RING_STATUS_SHIFT | packet.len() as u32);
        Stored::Yes
    }
}

/// Where a packet came to lie.
enum Stored {
    Yes,
    NoRoom,
    /// The driver's addresses lead nowhere.
    Nowhere,
}

/// Whether the receive buffer has room for any packet. It never becomes quite full: it would look empty then.
fn has_room(state: &State) -> bool {
    state.buffered() + (PACKET_MAX as u32) < state.buffer_bytes()
}

/// Whom a frame is for, if it is one and the filters let it through (RCR).
fn wanted_by(state: &State, frame: &[u8]) -> Option<For> {
    let (to, _) = frame.split_first_chunk::<ADDRESS_BYTES>().filter(|_| frame.len() >= HEADER_BYTES)?;
    let accepts = |bit| state.receive_config & bit != 0;
    let (whom, wanted) = if *to == [0xff; ADDRESS_BYTES] {
        (For::All, accepts(rcr::BROADCAST))
    } else if to[0] & 1 != 0 {
        (For::Many, accepts(rcr::MULTICAST) && state.multicast >> multicast_bit(to) & 1 != 0)
    } else if *to == state.id[..ADDRESS_BYTES] {
        (For::Us, accepts(rcr::MATCH))
    } else {
        (For::Other, false)
    };
    // All physical addresses, whoever's.
    (wanted || accepts(rcr::ALL)).then_some(whom)
}

/// The bit of the multicast filter that is for an address: the uppermost six of its checksum, as that goes over the wire
/// (data sheet, MAR0-7).
fn multicast_bit(address: &[u8; ADDRESS_BYTES]) -> u32 {
    (!crc32fast::hash(address)).reverse_bits() >> 26
}

fn count(state: &mut State, whom: For) {
    let counters = &mut state.counters;
    counters.received = counters.received.wrapping_add(1);
    match whom {
        For::Us => counters.matched = counters.matched.wrapping_add(1),
        For::All => counters.broadcasts = counters.broadcasts.wrapping_add(1),
        For::Many => counters.multicasts = counters.multicasts.wrapping_add(1),
        For::Other => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a card without a table does it: bit by bit, the lowest of each byte first.
    fn bit_by_bit(address: &[u8; ADDRESS_BYTES]) -> u32 {
        let bits = address.iter().flat_map(|byte| (0..8).map(move |at| u32::from(byte >> at & 1)));
        let step = |sum: u32, bit| (sum << 1) ^ if sum >> 31 == bit { 0 } else { 0x04c1_1db7 };
        bits.fold(u32::MAX, step) >> 26
    }

    #[test]
    fn bits_of_the_multicast_filter_are_those_of_the_wires_checksum() {
        assert_eq!(multicast_bit(&[0x01, 0x00, 0x5e, 0x00, 0x00, 0x01]), 31);
        for last in 0..=255 {
            let address = [0x33, 0x33, 0xff, 7, last, !last];
            assert_eq!(multicast_bit(&address), bit_by_bit(&address));
        }
    }
}
