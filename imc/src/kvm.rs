//! The kernel's virtual machines.

use crate::Fault;
use crate::capability::{READ_WRITE, check_device, descriptor_capabilities};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

// Linux, `Documentation/admin-guide/devices.txt`: major and minor number.
const KVM_DEVICE: (u64, u64) = (10, 232);

/// `/dev/kvm`, from which a machine is made.
#[derive(Debug)]
pub struct Kvm(OwnedFd);

impl Kvm {
    /// Takes an open `/dev/kvm`.
    pub fn new(descriptor: OwnedFd) -> Result<Self, Fault> {
        check(descriptor.as_fd())?;
        Ok(Kvm(descriptor))
    }
}

descriptor_capabilities! {
    Kvm: Kvm, READ_WRITE, check;
}

fn check(descriptor: BorrowedFd<'_>) -> Result<(), Fault> {
    check_device(descriptor, KVM_DEVICE)
}
