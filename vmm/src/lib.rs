//! The machine and its supervisor.
//!
//! The *VMM* is one process (`serve::run`): it owns the virtual machine, and knows memory, ranges, lanes and irq lines, but
//! no device. The way of a guest store through it, in file order: `vcpu` (`KVM_RUN` returns) → `exit` → `machine` →
//! [`bus`] (address → target, offset) → `imc::lane`, and when the device has committed, [`irq`] applies the levels.
//!
//! The supervisor is another: it makes every kernel object, and grants them.

#![warn(missing_docs)]

pub mod acpi;
mod attach;
pub mod boot;
pub mod bus;
pub mod chipset;
pub mod clock;
mod direct;
mod exit;
mod hub;
pub mod irq;
mod kvm;
mod lane;
pub mod link;
pub mod machine;
pub mod memory;
mod outbox;
pub mod pci;
mod play;
mod quota;
mod record;
pub mod serve;
mod stepping;
pub mod supervisor;
#[cfg(test)]
mod testing;
mod vcpu;
pub mod vectors;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock. A thread that panicked with it held has left plain data, which the others go on with: the VMM does not die
/// of one access.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
