//! What made `KVM_RUN` return, in our words.
#![allow(unsafe_code)] // Reads the unions of the `kvm_run` page that kvm-ioctls does not decode.

use kvm_bindings::{KVM_EXIT_INTERNAL_ERROR, KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN, kvm_run};
use kvm_ioctls::{VcpuExit, VcpuFd};

/// A return from `KVM_RUN` that needs the VMM.
///
/// Where it has `data`, that is the page shared with the kernel: what is stored there before the next `KVM_RUN` is what the
/// guest loads.
#[derive(Debug)]
pub enum Exit<'a> {
    /// `IN` and its string forms: `data` holds a whole number of elements of `width` bytes, all from `port`.
    PortRead {
        /// The port.
        port: u16,
        /// Bytes of one element: 1, 2 or 4.
        width: u8,
        /// What the guest loads.
        data: &'a mut [u8],
    },
    /// `OUT` and its string forms.
    PortWrite {
        /// The port.
        port: u16,
        /// Bytes of one element: 1, 2 or 4.
        width: u8,
        /// What the guest stores.
        data: &'a [u8],
    },
    /// A load where no memory is.
    MemoryRead {
        /// Guest address.
        address: u64,
        /// What the guest loads, at most 8 bytes.
        data: &'a mut [u8],
    },
    /// A store where no memory is.
    MemoryWrite {
        /// Guest address.
        address: u64,
        /// What the guest stores, at most 8 bytes.
        data: &'a [u8],
    },
    /// A signal, a step, or nothing at all: look at the flags and run again.
    Interrupted,
    /// The processor shut down (AMD APM volume 2, 8.2.9; Intel SDM volume 3, 26.2): a fault while it delivered a double fault.
    Shutdown,
    /// A reset by the kernel's own devices.
    Reset,
    /// Power off by the kernel's own devices.
    PowerOff,
    /// The vcpu cannot go on. A sentence without its registers.
    Failed(String),
}

/// Runs the guest on `vcpu` until it needs the VMM.
pub fn run(vcpu: &mut VcpuFd) -> Exit<'_> {
    // The element's width and an error's details stand beside what kvm-ioctls hands out; to read them its borrow must end.
    let found = match vcpu.run() {
        Ok(VcpuExit::IoIn(port, data)) => Found::PortRead(port, data),
        Ok(VcpuExit::IoOut(port, data)) => Found::PortWrite(port, data),
        Ok(VcpuExit::MmioRead(address, data)) => Found::MemoryRead(address, data),
        Ok(VcpuExit::MmioWrite(address, data)) => Found::MemoryWrite(address, data),
        Ok(VcpuExit::InternalError) => Found::InternalError,
        Ok(VcpuExit::Intr | VcpuExit::IrqWindowOpen | VcpuExit::Debug(_)) => return Exit::Interrupted,
        Ok(VcpuExit::Shutdown) => return Exit::Shutdown,
        Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _)) => return Exit::PowerOff,
        Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _)) => return Exit::Reset,
        Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => return Exit::Interrupted,
        other => return Exit::Failed(sentence(other)),
    };
    // SAFETY: the pointers lie in the pages of `vcpu` that the kernel shares with us. They stay mapped while `vcpu` is
    // borrowed, and nobody touches them until the next KVM_RUN, which needs `vcpu`.
    unsafe {
        match found {
            Found::PortRead(port, data) => {
                Exit::PortRead { port, width: element_width(vcpu.get_kvm_run()), data: &mut *data }
            }
            Found::PortWrite(port, data) => {
                Exit::PortWrite { port, width: element_width(vcpu.get_kvm_run()), data: &*data }
            }
            Found::MemoryRead(address, data) => Exit::MemoryRead { address, data: &mut *data },
            Found::MemoryWrite(address, data) => Exit::MemoryWrite { address, data: &*data },
            Found::InternalError => Exit::Failed(internal_error(vcpu.get_kvm_run())),
        }
    }
}

/// Exits whose details are still to be read.
enum Found {
    PortRead(u16, *mut [u8]),
    PortWrite(u16, *const [u8]),
    MemoryRead(u64, *mut [u8]),
    MemoryWrite(u64, *const [u8]),
    InternalError,
}

/// Why a vcpu cannot go on.
fn sentence(exit: Result<VcpuExit<'_>, kvm_ioctls::Error>) -> String {
    match exit {
        Ok(VcpuExit::SystemEvent(event, _)) => format!("the kernel reports system event {event}"),
        // Without the kernel's interrupt controllers a halted vcpu could never be woken.
        Ok(VcpuExit::Hlt) => "the guest halted and no interrupt can wake it".to_owned(),
        Ok(VcpuExit::FailEntry(reason, cpu)) => {
            format!("the processor refused to enter the guest (reason {reason:#x} on processor {cpu})")
        }
        Ok(VcpuExit::MemoryFault { gpa, size, .. }) => {
            format!("the kernel cannot provide {size} bytes of guest memory at {gpa:#x}")
        }
        Ok(other) => format!("KVM_RUN returned with an exit that nothing here causes: {other:?}"),
        Err(error) => format!("KVM_RUN failed: {error}"),
    }
}

/// Bytes of one element of a port access. Whatever else the kernel said would make the caller's chunks meaningless.
fn element_width(run: &kvm_run) -> u8 {
    // SAFETY: called only after an exit for which the kernel filled in `io`; it is plain integers.
    match unsafe { run.__bindgen_anon_1.io.size } {
        width @ (1 | 2 | 4) => width,
        _ => 1,
    }
}

fn internal_error(run: &kvm_run) -> String {
    debug_assert_eq!(run.exit_reason, KVM_EXIT_INTERNAL_ERROR);
    // SAFETY: called only after an exit for which the kernel filled in `internal`; it is plain integers.
    let internal = unsafe { run.__bindgen_anon_1.internal };
    let what = match internal.suberror {
        1 => "the kernel cannot emulate an instruction of the guest",
        2 => "an exception struck while the kernel delivered an event",
        3 => "the kernel could not deliver an event",
        4 => "the processor left the guest for a reason that the kernel does not know",
        _ => "the kernel reports an internal error",
    };
    let data = &internal.data[..(internal.ndata as usize).min(internal.data.len())];
    format!("{what} (suberror {}, data {data:x?})", internal.suberror)
}

/// The parts of a memory access as a bus takes them: 1, 2, 4 or 8 bytes as they are, anything else byte by byte.
///
/// The kernel splits an access at page ends, which leaves parts of odd widths.
pub fn parts(address: u64, length: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let step = if matches!(length, 1 | 2 | 4 | 8) { length } else { 1 };
    (0..length).step_by(step).map(move |at| (address.wrapping_add(at as u64), at..at + step))
}

/// A value as the guest's bytes hold it: little-endian, at most eight of them.
pub fn from_bytes(data: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let length = data.len().min(8);
    bytes[..length].copy_from_slice(&data[..length]);
    u64::from_le_bytes(bytes)
}

/// Stores the low bytes of `value` into the guest's bytes, at most eight of them.
pub fn to_bytes(value: u64, data: &mut [u8]) {
    let length = data.len().min(8);
    data[..length].copy_from_slice(&value.to_le_bytes()[..length]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_of_an_even_width_is_one_part() {
        assert_eq!(parts(0x1000, 4).collect::<Vec<_>>(), [(0x1000, 0..4)]);
        assert_eq!(parts(0x1000, 8).collect::<Vec<_>>(), [(0x1000, 0..8)]);
    }

    #[test]
    fn access_split_at_a_page_end_goes_byte_by_byte() {
        assert_eq!(parts(0xfff, 3).collect::<Vec<_>>(), [(0xfff, 0..1), (0x1000, 1..2), (0x1001, 2..3)]);
        assert_eq!(parts(0, 0).count(), 0);
    }

    #[test]
    fn values_are_little_endian() {
        assert_eq!(from_bytes(&[0x34, 0x12]), 0x1234);
        let mut data = [0xff; 3];
        to_bytes(0x0102_0304, &mut data[..2]);
        assert_eq!(data, [0x04, 0x03, 0xff]);
    }
}
