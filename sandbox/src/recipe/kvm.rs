//! The requests of KVM that a running VMM makes: numbers computed as `<linux/kvm.h>` does.

use super::Named;

const WRITE: u64 = 1;
const READ: u64 = 2;
/// `KVMIO`.
const TYPE: u64 = 0xAE;

/// `_IOC(direction, KVMIO, number, bytes)` of `<asm-generic/ioctl.h>`.
const fn request(direction: u64, number: u64, bytes: u64, name: &'static str) -> Named {
    Named { value: direction << 30 | bytes << 16 | TYPE << 8 | number, name }
}

/// No argument.
pub const RUN: Named = request(0, 0x80, 0, "KVM_RUN");
/// `struct kvm_irq_level`.
pub const IRQ_LINE: Named = request(WRITE, 0x61, 8, "KVM_IRQ_LINE");
/// `struct kvm_irqfd`.
pub const IRQFD: Named = request(WRITE, 0x76, 32, "KVM_IRQFD");
/// `struct kvm_ioeventfd`.
pub const IOEVENTFD: Named = request(WRITE, 0x79, 64, "KVM_IOEVENTFD");
/// The head of `struct kvm_irq_routing`.
pub const SET_GSI_ROUTING: Named = request(WRITE, 0x6A, 8, "KVM_SET_GSI_ROUTING");
/// `struct kvm_msi`.
pub const SIGNAL_MSI: Named = request(WRITE, 0xA5, 32, "KVM_SIGNAL_MSI");
/// `struct kvm_userspace_memory_region`.
pub const SET_USER_MEMORY_REGION: Named = request(WRITE, 0x46, 32, "KVM_SET_USER_MEMORY_REGION");
/// `struct kvm_regs`.
pub const GET_REGS: Named = request(READ, 0x81, 144, "KVM_GET_REGS");
/// `struct kvm_sregs`.
pub const GET_SREGS: Named = request(READ, 0x83, 312, "KVM_GET_SREGS");
/// `struct kvm_guest_debug`.
pub const SET_GUEST_DEBUG: Named = request(WRITE, 0x9B, 72, "KVM_SET_GUEST_DEBUG");

#[cfg(test)]
mod tests {
    use super::*;

    // Numbers as `strace` prints them of a program that uses <linux/kvm.h>.
    #[test]
    fn requests_have_the_numbers_of_the_kernels_header() {
        assert_eq!(RUN.value, 0xAE80);
        assert_eq!(IRQ_LINE.value, 0x4008_AE61);
        assert_eq!(IRQFD.value, 0x4020_AE76);
        assert_eq!(IOEVENTFD.value, 0x4040_AE79);
        assert_eq!(SET_GSI_ROUTING.value, 0x4008_AE6A);
        assert_eq!(SIGNAL_MSI.value, 0x4020_AEA5);
        assert_eq!(SET_USER_MEMORY_REGION.value, 0x4020_AE46);
        assert_eq!(GET_REGS.value, 0x8090_AE81);
        assert_eq!(GET_SREGS.value, 0x8138_AE83);
        assert_eq!(SET_GUEST_DEBUG.value, 0x4048_AE9B);
    }
}
