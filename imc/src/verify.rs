//! Whether what came with a message is what the message claims.

use crate::Fault;
use crate::block_file::BlockFile;
use crate::capability::Capability;
use crate::connect::Connect;
use crate::ends::{Packets, PipeReader, PipeWriter};
use crate::kvm::Kvm;
use crate::network::{Listener, Tap, UnixStream};
use crate::region::{self, Memory};
use crate::wake::Wake;
use schema::{HANDLES_MAX, Handle, Kind};
use std::os::fd::BorrowedFd;

/// Whether the received descriptors are what the handles claim, each by itself and, unless `aliases`, none the memory of
/// another.
pub(crate) fn verify_all<'a>(
    all: impl Iterator<Item = (BorrowedFd<'a>, &'a Handle)>,
    aliases: bool,
) -> Result<(), Fault> {
    let mut seen: [Option<Memory>; HANDLES_MAX] = [None; HANDLES_MAX];
    for (place, (descriptor, handle)) in (0..HANDLES_MAX).zip(all) {
        let memory = verify(descriptor, handle)?;
        if !aliases && memory.is_some() && seen.contains(&memory) {
            return Err(Fault::HandleObject("it is the memory of another descriptor of the message"));
        }
        seen[place] = memory;
    }
    Ok(())
}

/// Whether a received descriptor is what its handle claims, of whatever kind; and for a region, which memory it is. Kinds
/// that no message may carry are refused: a channel comes by inheritance alone, or to an acceptor, and nothing that could
/// be authority against its receiver is taken.
fn verify(descriptor: BorrowedFd<'_>, claimed: &Handle) -> Result<Option<Memory>, Fault> {
    match claimed.kind {
        Kind::Region => return region::check(descriptor, claimed).map(Some),
        Kind::Wake => check::<Wake>(descriptor, claimed)?,
        Kind::File => check::<BlockFile>(descriptor, claimed)?,
        Kind::Kvm => check::<Kvm>(descriptor, claimed)?,
        Kind::Connect => check::<Connect>(descriptor, claimed)?,
        Kind::Tap => check::<Tap>(descriptor, claimed)?,
        Kind::Socket => check::<UnixStream>(descriptor, claimed)?,
        Kind::Listener => check::<Listener>(descriptor, claimed)?,
        Kind::Packets => check::<Packets>(descriptor, claimed)?,
        Kind::Stream if PipeReader::accepts(claimed).is_ok() => check::<PipeReader>(descriptor, claimed)?,
        Kind::Stream => check::<PipeWriter>(descriptor, claimed)?,
        Kind::Channel => return Err(Fault::HandleKind),
    }
    Ok(None)
}

fn check<C: Capability>(descriptor: BorrowedFd<'_>, claimed: &Handle) -> Result<(), Fault> {
    C::accepts(claimed)?;
    C::check(descriptor, claimed)
}
