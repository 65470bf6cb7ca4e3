//! Descriptors with a type and rights, derived from the kernel.

use crate::Fault;
use nix::fcntl::{self, FcntlArg, OFlag};
use nix::libc;
use nix::sys::stat::{self, FileStat, SFlag};
use schema::{Handle, Kind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A capability: a descriptor whose type says what it is and what may be done with it.
///
/// The types are a closed list: nothing that could be authority against its receiver is among them.
pub trait Capability: Sized + AsFd + FromVerified {
    /// What a message claims of it, as its descriptor number `slot`.
    fn handle(&self, slot: u8) -> Handle;

    /// Whether a claim is one of this type, whatever the descriptor is.
    ///
    /// # Errors
    /// [`Fault::HandleKind`], [`Fault::HandleRights`] when it is not.
    fn accepts(claimed: &Handle) -> Result<(), Fault>;

    /// Takes a descriptor for what it is claimed to be, if the kernel agrees.
    ///
    /// What came in a message was looked at when that was decoded; there
    /// [`Descriptors::take_as`](crate::Descriptors::take_as) does the same without asking the kernel again.
    ///
    /// # Errors
    /// Those of [`Capability::accepts`]; [`Fault::HandleObject`] when the object is not as claimed. The descriptor is
    /// closed then.
    fn receive(descriptor: OwnedFd, claimed: &Handle) -> Result<Self, Fault> {
        Self::accepts(claimed)?;
        Self::check(descriptor.as_fd(), claimed)?;
        Self::from_verified(descriptor, Verified(claimed))
    }
}

pub(crate) use verified::{FromVerified, Verified};

mod verified {
    //! Nobody outside makes a capability of an unverified descriptor, or a capability type of his own.

    use super::{BorrowedFd, Fault, Handle, OwnedFd};

    /// A claim that the kernel has agreed to and that the type accepts.
    pub struct Verified<'a>(pub(crate) &'a Handle);

    pub trait FromVerified: Sized {
        /// Asks the kernel whether a descriptor is what is claimed of it, which the type accepts.
        fn check(descriptor: BorrowedFd<'_>, claimed: &Handle) -> Result<(), Fault>;

        fn from_verified(descriptor: OwnedFd, verified: Verified<'_>) -> Result<Self, Fault>;
    }
}

/// Capabilities that are a descriptor and nothing else: their kind, their rights, what the kernel is asked.
macro_rules! descriptor_capabilities {
    ($($name:ident: $kind:ident, $rights:expr, $check:path;)*) => {$(
        impl $crate::capability::Capability for $name {
            fn handle(&self, slot: u8) -> schema::Handle {
                schema::Handle { slot, kind: schema::Kind::$kind, rights: $rights, size: 0 }
            }
            fn accepts(claimed: &schema::Handle) -> Result<(), $crate::Fault> {
                $crate::capability::claim(claimed, schema::Kind::$kind, $rights)
            }
        }
        impl $crate::capability::FromVerified for $name {
            fn check(descriptor: std::os::fd::BorrowedFd<'_>, _: &schema::Handle) -> Result<(), $crate::Fault> {
                $check(descriptor)
            }
            fn from_verified(
                descriptor: std::os::fd::OwnedFd,
                _: $crate::capability::Verified<'_>,
            ) -> Result<Self, $crate::Fault> {
                Ok($name(descriptor))
            }
        }
        impl std::os::fd::AsFd for $name {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.0.as_fd()
            }
        }
        impl From<$name> for std::os::fd::OwnedFd {
            fn from(capability: $name) -> std::os::fd::OwnedFd {
                capability.0
            }
        }
    )*};
}
pub(crate) use descriptor_capabilities;

/// Reading and writing, of what is neither mapped nor rung.
pub(crate) const READ_WRITE: schema::Rights = schema::Rights::READ.and(schema::Rights::WRITE);

/// Whether exactly this is claimed.
pub(crate) fn claim(claimed: &Handle, kind: Kind, rights: schema::Rights) -> Result<(), Fault> {
    if claimed.kind != kind {
        return Err(Fault::HandleKind);
    }
    if claimed.rights != rights {
        return Err(Fault::HandleRights);
    }
    Ok(())
}

/// Whether it is the device node of this major and minor number, open for reading and writing.
pub(crate) fn check_device(descriptor: BorrowedFd<'_>, (major, minor): (u64, u64)) -> Result<(), Fault> {
    let status = stat::fstat(descriptor)?;
    let number = (stat::major(status.st_rdev), stat::minor(status.st_rdev));
    if kind(&status) != SFlag::S_IFCHR || number != (major, minor) {
        return Err(Fault::HandleObject("it is another device"));
    }
    if access_mode(descriptor)? != OFlag::O_RDWR {
        return Err(Fault::HandleRights);
    }
    Ok(())
}

pub(crate) fn kind(status: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(status.st_mode & libc::S_IFMT)
}

pub(crate) fn flags(descriptor: BorrowedFd<'_>) -> Result<OFlag, Fault> {
    Ok(OFlag::from_bits_retain(fcntl::fcntl(descriptor, FcntlArg::F_GETFL)?))
}

pub(crate) fn access_mode(descriptor: BorrowedFd<'_>) -> Result<OFlag, Fault> {
    Ok(flags(descriptor)? & OFlag::O_ACCMODE)
}
