//! A message that was received, and the descriptors that came with it.

use crate::Fault;
use crate::capability::{Capability, Verified};
use crate::header::{HEADER_BYTES, Header, Type};
use crate::table::Key;
use crate::verify::verify_all;
use capnp::Word;
use schema::{Body, HANDLES_MAX, Handle, Handles};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A call of the peer's, to be answered once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallId(pub(crate) Key<u64>);

/// A message that was received: a call or an event, not decoded yet.
#[derive(Debug)]
pub struct Packet {
    /// Which message it claims to be.
    pub ordinal: u16,
    /// For a call: where the answer goes.
    pub call: Option<CallId>,
    schema_id: u64,
    body: Datagram,
    slots: Slots,
}

/// What came with a message, by slot.
pub(crate) type Slots = [Option<OwnedFd>; HANDLES_MAX];

impl Packet {
    pub(crate) fn new(header: &Header, call: Option<CallId>, body: Datagram, received: &mut Vec<OwnedFd>) -> Packet {
        debug_assert!(matches!(header.kind, Type::Call | Type::Event));
        Packet { ordinal: header.ordinal, call, schema_id: header.schema_id, body, slots: slots(received) }
    }

    /// Whether it claims to be this message.
    pub fn is<B: Body>(&self) -> bool {
        self.ordinal == B::ORDINAL
    }

    /// Decodes the body and checks its descriptors against the kernel. A fault closes the channel that it came by.
    pub fn decode<B: Body>(self) -> Result<(B, Descriptors), Fault> {
        let Packet { ordinal, schema_id, body, slots, .. } = self;
        open(ordinal, schema_id, body.body(), slots).inspect_err(|fault| {
            // Not an error: an earlier fault has closed the channel already.
            let _ = body.home.fault.set(fault.clone());
        })
    }
}

/// The descriptors of one message, by slot, each of them what its handle in the message claims. What is not taken is closed.
#[derive(Debug)]
pub struct Descriptors {
    slots: Slots,
    /// What the kernel agreed to when the message was decoded.
    verified: Handles,
}

impl Descriptors {
    /// Takes the descriptor of this slot, once.
    pub fn take(&mut self, slot: u8) -> Option<OwnedFd> {
        self.slots.get_mut(usize::from(slot))?.take()
    }

    /// Takes the descriptor that `handle` names in the message, as the capability that it was found to be.
    ///
    /// The kernel is not asked again: it was when the message was decoded.
    ///
    /// # Errors
    /// [`Fault::HandleCount`] when the message had no such handle, or it was taken; [`Fault::HandleKind`] and
    /// [`Fault::HandleRights`] when it is something else than a `C`.
    pub fn take_as<C: Capability>(&mut self, handle: &Handle) -> Result<C, Fault> {
        let verified = self.verified.iter().find(|verified| *verified == handle).ok_or(Fault::HandleCount)?;
        C::accepts(verified)?;
        let descriptor = self.slots[usize::from(handle.slot)].take().ok_or(Fault::HandleCount)?;
        C::from_verified(descriptor, Verified(verified))
    }

    /// How many are left.
    pub fn len(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a channel shares with its packets.
#[derive(Debug, Default)]
pub(crate) struct Home {
    /// Set once, by the first fault.
    pub(crate) fault: OnceLock<Fault>,
    /// The memory of the last packet that was done with, for the next: so a call allocates nothing.
    spare: Mutex<Option<Box<[Word]>>>,
}

impl Home {
    /// Memory for a datagram of the largest size.
    pub(crate) fn memory(&self) -> Box<[Word]> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        spare.unwrap_or_else(|| vec![capnp::word(0, 0, 0, 0, 0, 0, 0, 0); DATAGRAM_WORDS].into())
    }
}

/// One word more than the largest message, so that a longer one is seen to be.
pub(crate) const DATAGRAM_WORDS: usize = crate::DATAGRAM_MAX / size_of::<Word>() + 1;

/// A datagram that was received.
#[derive(Debug)]
pub(crate) struct Datagram {
    words: Box<[Word]>,
    body_bytes: usize,
    home: Arc<Home>,
}

impl Datagram {
    /// Keeps the memory that it was received into.
    pub(crate) fn whole(words: Box<[Word]>, header: &Header, home: &Arc<Home>) -> Datagram {
        Datagram { words, body_bytes: header.body_bytes as usize, home: Arc::clone(home) }
    }

    /// Keeps a copy that is no longer than it must be.
    pub(crate) fn copy(words: &[Word], header: &Header, home: &Arc<Home>) -> Datagram {
        let length = (HEADER_BYTES + header.body_bytes as usize).div_ceil(size_of::<Word>());
        Datagram::whole(words[..length].into(), header, home)
    }

    fn body(&self) -> &[u8] {
        body_of(&self.words, self.body_bytes)
    }
}

impl Drop for Datagram {
    fn drop(&mut self) {
        let words = std::mem::take(&mut self.words);
        if words.len() == DATAGRAM_WORDS {
            *self.home.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(words);
        }
    }
}

/// The body of a datagram, whose header was found to fit it.
pub(crate) fn body_of(datagram: &[Word], bytes: usize) -> &[u8] {
    &Word::words_to_bytes(datagram)[HEADER_BYTES..][..bytes]
}

/// Takes over what `recvmsg` delivered: of at most [`HANDLES_MAX`], as was checked.
pub(crate) fn slots(received: &mut Vec<OwnedFd>) -> Slots {
    let mut slots = Slots::default();
    for (slot, descriptor) in slots.iter_mut().zip(received.drain(..)) {
        *slot = Some(descriptor);
    }
    slots
}

/// The part of receiving that knows the message: type, body, descriptors, in this order.
pub(crate) fn open<B: Body>(
    ordinal: u16,
    schema_id: u64,
    body: &[u8],
    slots: Slots,
) -> Result<(B, Descriptors), Fault> {
    if ordinal != B::ORDINAL {
        return Err(Fault::UnknownOrdinal(ordinal));
    }
    if schema_id != B::SCHEMA_ID {
        return Err(Fault::SchemaMismatch);
    }
    let body: B = schema::decode(body)?;
    let handles = body.handles();
    if !one_to_one(&handles, filled(&slots)) {
        return Err(Fault::HandleCount);
    }
    // As was just found, each slot that is named is filled.
    let filled = |handle: &schema::Handle| slots.get(usize::from(handle.slot))?.as_ref().map(AsFd::as_fd);
    verify_all(handles.iter().filter_map(|handle| Some((filled(handle)?, handle))), B::ALIASES)?;
    Ok((body, Descriptors { slots, verified: handles }))
}

/// How many slots are filled: the first ones, as was received.
fn filled(slots: &Slots) -> usize {
    slots.iter().take_while(|slot| slot.is_some()).count()
}

/// Whether each of the first `count` slots is named by exactly one handle, and no other is.
pub(crate) fn one_to_one(handles: &Handles, count: usize) -> bool {
    let named = handles.iter().fold(0u32, |seen, handle| seen | 1u32.checked_shl(u32::from(handle.slot)).unwrap_or(0));
    count <= HANDLES_MAX && handles.len() == count && named == (1 << count) - 1
}
