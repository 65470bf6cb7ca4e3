//! Buffers that are lent for one call.

use crate::{CallId, Channel, Key, Mapping, Table};
use schema::{Lease, Rights};
use std::ops::Range;

/// Most buffers that a [`Lender`] has lent at a time: one for each call that may be under way.
pub const LEASES_MAX: usize = crate::CREDIT;

/// Why a leased buffer is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The call was answered: what was lent for it is its owner's again.
    #[error("the call is over, and its lease with it")]
    Ended,
    /// The lease names a region that is not held here.
    #[error("no such region is held here")]
    NoRegion,
    /// Outside of the region, or of the part that was lent.
    #[error("outside of what was lent")]
    OutOfBounds,
    /// The lease, or the mapping, does not allow it.
    #[error("the lease does not allow that")]
    Rights,
    /// The part overlaps one that is lent already.
    #[error("a part of that is lent already")]
    Lent,
    /// As many as may be are lent.
    #[error("too much is lent")]
    TooMany,
}

/// The callee's side of a lease: part of a mapping, as long as the call is not answered.
///
/// A lease is the caller's word, so it is held against what the callee knows: its own key of the region, the length of its
/// own mapping. It spares the callee's part of a program from mistakes, not the caller from a hostile callee, who holds the
/// region itself.
pub struct Borrowed<'a> {
    mapping: &'a Mapping,
    bytes: Range<usize>,
    rights: Rights,
    call: CallId,
}

impl<'a> Borrowed<'a> {
    /// Takes what was lent for `call`, out of the regions that are held here.
    pub fn new(held: &'a Table<Mapping>, call: CallId, lease: &Lease) -> Result<Borrowed<'a>, LeaseError> {
        let mapping = held.get(Key::from_bits(lease.region)).ok_or(LeaseError::NoRegion)?;
        let bytes = part(mapping.len(), lease.offset, lease.length).ok_or(LeaseError::OutOfBounds)?;
        if lease.rights.covers(Rights::WRITE) && !mapping.writable() {
            return Err(LeaseError::Rights);
        }
        Ok(Borrowed { mapping, bytes, rights: lease.rights, call })
    }

    /// Copies bytes out, from `at` on. `channel` is where the call came from, and knows whether it was answered.
    pub fn read(&self, channel: &Channel, at: usize, into: &mut [u8]) -> Result<(), LeaseError> {
        let start = self.find(channel, Rights::READ, at, into.len())?;
        self.mapping.read(start, into);
        Ok(())
    }

    /// Copies bytes in, from `at` on.
    pub fn write(&self, channel: &Channel, at: usize, from: &[u8]) -> Result<(), LeaseError> {
        let start = self.find(channel, Rights::WRITE, at, from.len())?;
        self.mapping.write(start, from);
        Ok(())
    }

    /// Bytes that were lent.
    #[allow(clippy::len_without_is_empty)] // Whether it is empty is the lender's business.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    fn find(&self, channel: &Channel, rights: Rights, at: usize, length: usize) -> Result<usize, LeaseError> {
        if !channel.owes(self.call) {
            return Err(LeaseError::Ended);
        }
        if !self.rights.covers(rights) {
            return Err(LeaseError::Rights);
        }
        let part = part(self.bytes.len(), at as u64, length as u64).ok_or(LeaseError::OutOfBounds)?;
        Ok(self.bytes.start + part.start)
    }
}

/// The caller's side: what of a region is lent, and for which call.
///
/// Nothing is lent twice at a time. What a call was given comes back when it is [settled](Lender::settle), after its
/// answer; a call that was given up keeps it until its answer comes after all or the peer is gone, for until then it may
/// still be used.
pub struct Lender {
    region: u64,
    bytes: usize,
    lent: Table<Range<usize>>,
}

impl Lender {
    /// Lends parts of a region of this many bytes, which the callee knows by this key.
    pub fn new(region: u64, bytes: usize) -> Lender {
        Lender { region, bytes, lent: Table::with_bound(LEASES_MAX) }
    }

    /// Lends a part, for one call.
    pub fn lend(
        &mut self,
        offset: usize,
        length: usize,
        rights: Rights,
    ) -> Result<(Key<Range<usize>>, Lease), LeaseError> {
        let part = part(self.bytes, offset as u64, length as u64).ok_or(LeaseError::OutOfBounds)?;
        if self.lent.iter().any(|lent| lent.start < part.end && part.start < lent.end) {
            return Err(LeaseError::Lent);
        }
        let key = self.lent.insert(part).map_err(|_| LeaseError::TooMany)?;
        Ok((key, Lease { region: self.region, offset: offset as u64, length: length as u64, rights }))
    }

    /// Takes back what was lent. False: that was done before.
    pub fn settle(&mut self, key: Key<Range<usize>>) -> bool {
        self.lent.remove(key).is_some()
    }
}

/// This many bytes from `offset` on, if they are among `bytes`.
fn part(bytes: usize, offset: u64, length: u64) -> Option<Range<usize>> {
    let (start, length) = (usize::try_from(offset).ok()?, usize::try_from(length).ok()?);
    let end = start.checked_add(length).filter(|end| *end <= bytes)?;
    Some(start..end)
}
