//! Frames on their way from the guest's memory to the network.

use super::checksum;
use super::receive::Fate;
use super::registers::{cpcr, cr, isr, poll, tcr, tsd};
use super::ring::{Descriptor, FIRST, LAST, Return, Used};
use super::state::{HIGH, NORMAL, SENT, State, TRANSMITS};
use super::{RING_LOOK_MAX, Rtl8139};
use crate::ethernet::{ADDRESS_BYTES, FRAME_MIN, HEADER_BYTES};
use device::FRAME_MAX;
use vm_memory::{Bytes, GuestAddress};

/// In a transmit descriptor of the C+ mode: the first word of the first one.
const LARGE_SEND: u32 = 1 << 27;
const IP_CHECKSUM: u32 = 1 << 18;
const UDP_CHECKSUM: u32 = 1 << 17;
const TCP_CHECKSUM: u32 = 1 << 16;
/// The frame was not sent, once the descriptor is the driver's again.
const ERROR: u32 = 1 << 23;
/// In its second word: a tag is to be put in, which is the lower half, the other way round.
const TAG: u32 = 1 << 17;
/// What comes before a tag (IEEE 802.1Q).
const TAG_TYPE: [u8; 2] = [0x81, 0x00];
const TAG_BYTES: usize = 4;

impl Rtl8139 {
    /// Whether [`Rtl8139::transmit`] would find something to do: a cheap look.
    pub(super) fn could_transmit(&self, state: &State) -> bool {
        state.command & cr::TRANSMIT != 0
            && self.frames.has_room(state.sent)
            && if state.cplus & cpcr::TRANSMIT != 0 {
                state.poll != 0 && state.returning[SENT].is_nothing()
            } else {
                state.status[usize::from(state.next)] & tsd::OWN == 0
            }
    }

    /// Sends what the driver has given, as far as the network takes it, and no more than a bound. Says whether the state has
    /// changed.
    pub(super) fn transmit(&mut self, state: &mut State) -> bool {
        let mut any = false;
        for _ in 0..TRANSMITS {
            if !self.could_transmit(state) {
                break;
            }
            any = true;
            if state.cplus & cpcr::TRANSMIT != 0 {
                self.transmit_from_ring(state);
            } else {
                self.transmit_next(state);
            }
        }
        any
    }

    /// Sends the frame of the plain mode's next descriptor.
    fn transmit_next(&mut self, state: &mut State) {
        let number = usize::from(state.next);
        let length = (state.status[number] & tsd::SIZE) as usize;
        let from = GuestAddress(state.start[number].into());
        // The largest that the card sends is larger than the largest that a network takes.
        let read = length <= FRAME_MAX && self.memory.read_slice(&mut self.frame[..length], from).is_ok();
        if read {
            self.put(state, length);
        }
        state.status[number] |= tsd::OWN | if read { tsd::OK } else { tsd::ABORT };
        finish(state, read);
        state.next = (state.next + 1) % TRANSMITS as u8;
    }

    /// Sends the next frame of the C+ mode's rings, the urgent ring first.
    fn transmit_from_ring(&mut self, state: &mut State) {
        let (ring, bit) = if state.poll & poll::HIGH != 0 { (HIGH, poll::HIGH) } else { (NORMAL, poll::NORMAL) };
        let base = state.transmit_ring(ring);
        let Some(used) = self.collect(base, state.transmit_index[ring]) else {
            state.poll &= !bit;
            state.interrupts |= isr::NO_TRANSMIT_DESCRIPTOR;
            return;
        };
        let sent = self.gather(used.all());
        if let Some(length) = sent {
            self.put(state, length);
        }
        state.transmit_index[ring] = used.all().last().map_or(0, Descriptor::next);
        state.returning[SENT] = Return::of(base, &used, if sent.is_some() { 0 } else { ERROR });
        finish(state, sent.is_some());
    }

    /// The descriptors of the ring's next frame, if it is all there.
    fn collect(&self, base: u64, first: u32) -> Option<Used> {
        let (mut used, mut next) = (Used::new(), first);
        for _ in 0..RING_LOOK_MAX {
            let descriptor = Descriptor::read(&self.memory, base, next)?;
            if !descriptor.is_owned() || used.all().iter().any(|used| used.index == next) {
                return None;
            }
            used.add(descriptor);
            if descriptor.flags & LAST != 0 {
                break;
            }
            next = descriptor.next();
        }
        Some(used)
    }

    /// Puts the frame together of its pieces, with what the card adds to it. `None`: it cannot be sent.
    fn gather(&mut self, pieces: &[Descriptor]) -> Option<usize> {
        let [first, ..] = pieces else { return None };
        let whole = first.flags & FIRST != 0 && pieces.last().is_some_and(|last| last.flags & LAST != 0);
        if !whole || first.flags & LARGE_SEND != 0 {
            return None;
        }
        let mut length = 0;
        for piece in pieces {
            let room = self.frame.get_mut(length..length + piece.length())?;
            self.memory.read_slice(room, GuestAddress(piece.address)).ok()?;
            length += piece.length();
        }
        let asked = |flag| first.flags & flag != 0;
        let sums = checksum::Wanted { ip: asked(IP_CHECKSUM), udp: asked(UDP_CHECKSUM), tcp: asked(TCP_CHECKSUM) };
        checksum::fill(&mut self.frame[..length], sums);
        if first.vlan & TAG != 0 && length >= HEADER_BYTES {
            const AT: usize = 2 * ADDRESS_BYTES;
            let end = length + TAG_BYTES;
            let frame = self.frame.get_mut(..end)?;
            frame.copy_within(AT..length, AT + TAG_BYTES);
            frame[AT..AT + 2].copy_from_slice(&TAG_TYPE);
            frame[AT + 2..AT + TAG_BYTES].copy_from_slice(&(first.vlan as u16).to_le_bytes());
            length = end;
        }
        Some(length)
    }

    /// Sends the first `length` bytes of the frame in hand, filled up to the least that a wire carries; or receives them.
    fn put(&mut self, state: &mut State, length: usize) {
        // Nothing that others could take for a frame.
        if length < HEADER_BYTES {
            return;
        }
        self.frame[length..].iter_mut().take(FRAME_MIN.saturating_sub(length)).for_each(|byte| *byte = 0);
        let length = length.max(FRAME_MIN);
        if state.transmit_config & tcr::LOOPBACK == tcr::LOOPBACK {
            let frame = *self.frame;
            // Without room it is lost, as one that comes from a wire would be.
            if self.accept(state, &frame[..length]) == Fate::Waits {
                state.interrupts |= isr::RECEIVE_OVERFLOW;
            }
        } else {
            self.frames.send(state.sent, &self.frame[..length]);
            state.sent = state.sent.wrapping_add(1);
        }
    }
}

/// A frame was sent, or could not be.
fn finish(state: &mut State, sent: bool) {
    let counter = if sent { &mut state.counters.sent } else { &mut state.counters.transmit_errors };
    *counter = counter.wrapping_add(1);
    state.interrupts |= if sent { isr::TRANSMIT_OK } else { isr::TRANSMIT_ERROR };
}
