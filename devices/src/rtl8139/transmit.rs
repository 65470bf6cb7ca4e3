//! Frames on their way from the guest's memory to the network.

use super::Rtl8139;
use super::checksum;
use super::large::{HEADERS_MAX, Headers, LARGE_MAX, Part};
use super::receive::Fate;
use super::registers::{cpcr, cr, isr, poll, tcr, tsd};
use super::ring::{Descriptor, FIRST, LAST, RING_MAX, Return, Used};
use super::state::{HIGH, NORMAL, SENT, State, TRANSMITS};
use crate::ethernet::{ADDRESS_BYTES, FRAME_MIN, HEADER_BYTES};
use device::FRAME_MAX;
use std::ops::Range;
use vm_memory::{Bytes, GuestAddress};

/// In a transmit descriptor of the C+ mode: the first word of the first one. A frame is larger than a wire carries, and the card
/// is to send it in parts of so much data at most.
const LARGE_SEND: u32 = 1 << 27;
const PART_SHIFT: u32 = 16;
const PART_MAX: u32 = 0x7ff;
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
        count(state, read);
        tell(state, read);
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
        let gathered = self.gather(used.all(), state.large[ring] as usize);
        if let Some(Gathered { length, .. }) = gathered {
            self.put(state, length);
        }
        count(state, gathered.is_some());
        if let Some(Gathered { sent: Some(sent), .. }) = gathered {
            state.large[ring] = sent;
            return;
        }
        state.large[ring] = 0;
        state.transmit_index[ring] = used.all().last().map_or(0, Descriptor::next);
        state.returning[SENT] = Return::of(base, &used, if gathered.is_some() { 0 } else { ERROR });
        tell(state, gathered.is_some());
    }

    /// The descriptors of the ring's next frame, if it is all there.
    fn collect(&self, base: u64, first: u32) -> Option<Used> {
        let (mut used, mut next) = (Used::new(), first);
        for _ in 0..RING_MAX {
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

    /// Puts the frame together of its pieces, with what the card adds to it; of a large one the part behind the data that was
    /// `sent`. `None`: it cannot be sent.
    fn gather(&mut self, pieces: &[Descriptor], sent: usize) -> Option<Gathered> {
        let [first, ..] = pieces else { return None };
        if first.flags & FIRST == 0 || pieces.last().is_none_or(|last| last.flags & LAST == 0) {
            return None;
        }
        let asked = |flag| first.flags & flag != 0;
        let mut gathered = Gathered { length: pieces.iter().map(Descriptor::length).sum(), sent: None };
        let sums = if asked(LARGE_SEND) {
            gathered = self.gather_part(pieces, gathered.length, sent)?;
            checksum::Wanted { ip: true, udp: false, tcp: true }
        } else {
            self.copy(pieces, 0, 0..gathered.length)?;
            checksum::Wanted { ip: asked(IP_CHECKSUM), udp: asked(UDP_CHECKSUM), tcp: asked(TCP_CHECKSUM) }
        };
        let length = gathered.length;
        checksum::fill(&mut self.frame[..length], sums);
        if first.vlan & TAG != 0 && length >= HEADER_BYTES {
            const AT: usize = 2 * ADDRESS_BYTES;
            let end = length + TAG_BYTES;
            let frame = self.frame.get_mut(..end)?;
            frame.copy_within(AT..length, AT + TAG_BYTES);
            frame[AT..AT + 2].copy_from_slice(&TAG_TYPE);
            frame[AT + 2..AT + TAG_BYTES].copy_from_slice(&(first.vlan as u16).to_le_bytes());
            gathered.length = end;
        }
        Some(gathered)
    }

    /// Puts together the part behind the data that was `sent` of a large frame of `whole` bytes.
    fn gather_part(&mut self, pieces: &[Descriptor], whole: usize, sent: usize) -> Option<Gathered> {
        if whole > LARGE_MAX {
            return None;
        }
        let most = (pieces.first()?.flags >> PART_SHIFT & PART_MAX) as usize;
        let head = whole.min(HEADERS_MAX);
        self.copy(pieces, 0, 0..head)?;
        let headers = Headers::find(&self.frame[..head])?;
        let rest = (whole - headers.end).checked_sub(sent)?;
        let number = sent.checked_div(most)? as u16;
        let length = headers.end + rest.min(most);
        self.copy(pieces, headers.end + sent, headers.end..length)?;
        let part = Part { number, sent: sent as u32, is_last: rest <= most };
        headers.make(&mut self.frame[..length], part);
        Some(Gathered { length, sent: (!part.is_last).then_some((sent + most) as u32) })
    }

    /// Copies bytes of a frame in pieces, from `skip` on, to a place in the frame in hand; `None` where that is too small.
    fn copy(&mut self, pieces: &[Descriptor], mut skip: usize, into: Range<usize>) -> Option<()> {
        let mut rest = self.frame.get_mut(into)?;
        for piece in pieces {
            let from = skip.min(piece.length());
            skip -= from;
            let part = rest.split_off_mut(..rest.len().min(piece.length() - from))?;
            if !part.is_empty() {
                self.memory.read_slice(part, GuestAddress(piece.address.checked_add(from as u64)?)).ok()?;
            }
        }
        rest.is_empty().then_some(())
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

/// What was put together of a frame.
#[derive(Debug, Clone, Copy)]
struct Gathered {
    /// Its bytes in hand.
    length: usize,
    /// It is part of a large one, of which so much data is sent with it and more follows.
    sent: Option<u32>,
}

/// Counts a frame that was sent, or could not be.
fn count(state: &mut State, sent: bool) {
    let counter = if sent { &mut state.counters.sent } else { &mut state.counters.transmit_errors };
    *counter = counter.wrapping_add(1);
}

/// Tells the driver of a frame that was sent, or could not be.
fn tell(state: &mut State, sent: bool) {
    state.interrupts |= if sent { isr::TRANSMIT_OK } else { isr::TRANSMIT_ERROR };
}
