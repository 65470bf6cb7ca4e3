//! A guest processor: its identity, its registers at power on, and the thread that runs it.
#![allow(unsafe_code)] // Signals, and one flag in the page that is shared with the kernel.

use crate::boot::Beginning;
use crate::bus::Space;
use crate::exit::{self, Exit, from_bytes, parts, to_bytes};
use crate::kvm::{KvmError, Vm};
use crate::machine::Machine;
use crate::stepping::{self, Stepping};
use kvm_bindings::{
    CpuId, KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, Msrs, kvm_fpu, kvm_guest_debug, kvm_lapic_state, kvm_msr_entry,
};
use kvm_ioctls::VcpuFd;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use schema::vmm::Reason;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;

/// Kicks a vcpu out of `KVM_RUN`; nothing else uses it.
const KICK: Signal = Signal::SIGUSR1;

/// Model-specific registers and their values at power on, as firmware leaves them (Intel SDM volume 4, table 2-2).
const MSRS: [(u32, u64); 2] = [
    // IA32_MISC_ENABLE: fast strings.
    (0x1a0, 1),
    // IA32_MTRR_DEF_TYPE: enabled, write-back.
    (0x2ff, 1 << 11 | 6),
];

/// Bytes of the local APIC's registers of its two interrupt inputs (Intel SDM volume 3, 11.5.1).
const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;
/// Delivery modes of an input, in bits 8 to 10.
const MODE_NMI: u32 = 4 << 8;
const MODE_EXTINT: u32 = 7 << 8;
/// The mask bit of an input.
const LVT_MASKED: u32 = 1 << 16;

/// A guest processor that has not run yet.
pub struct Vcpu {
    fd: VcpuFd,
    id: u8,
    stepping: Stepping,
}

impl Vcpu {
    /// Makes processor `id` of `cpus`. The first begins where it is told; the others wait until it starts them.
    pub fn create(vm: &Vm, id: u8, cpus: u8, beginning: &Beginning, notes: &mut Vec<String>) -> Result<Vcpu, KvmError> {
        let fd = vm.create_vcpu(id)?;
        fd.set_cpuid2(&identity(vm, id, cpus)?).map_err(KvmError::of("telling a processor what it is"))?;
        let mut optional = |what: &str, result: Result<(), kvm_ioctls::Error>| {
            if let Err(why) = result {
                notes.push(format!("KVM: processor {id}: {what}: {why}; going on without"));
            }
        };
        // Firmware finds a processor as it comes out of reset, and sets it up itself.
        if *beginning == Beginning::Reset {
            // The first is the one that the 8259s interrupt.
            return Ok(Vcpu { fd, id, stepping: Stepping::new(id == 0 && stepping::is_emulated()) });
        }
        for (index, data) in MSRS {
            let entry = kvm_msr_entry { index, data, ..Default::default() };
            let set = Msrs::from_entries(&[entry]).map_err(|_| kvm_ioctls::Error::new(libc::EINVAL));
            let set = set.and_then(|msrs| fd.set_msrs(&msrs)).and_then(|count| match count {
                1 => Ok(()),
                _ => Err(kvm_ioctls::Error::new(libc::EINVAL)),
            });
            optional(&format!("setting register {index:#x}"), set);
        }
        // All exceptions masked and extended precision, as FNINIT and power on leave them.
        optional("setting the FPU", fd.set_fpu(&kvm_fpu { fcw: 0x37f, mxcsr: 0x1f80, ..Default::default() }));
        if let (0, Beginning::Entry(entry)) = (id, beginning) {
            optional("wiring the local APIC", wire_apic(&fd));
            let mut sregs = fd.get_sregs().map_err(KvmError::of("reading a processor's segments"))?;
            entry.prepare(&mut sregs);
            fd.set_sregs(&sregs).map_err(KvmError::of("setting a processor's segments"))?;
            fd.set_regs(&entry.registers()).map_err(KvmError::of("setting a processor's registers"))?;
        }
        Ok(Vcpu { fd, id, stepping: Stepping::default() })
    }

    /// Number of its descriptor, for the filter.
    pub fn number(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Starts its thread, which waits until the machine runs.
    pub fn spawn(mut self, machine: Arc<Machine>) -> std::io::Result<Running> {
        let flag = self.flag();
        let steps = self.stepping.is_needed();
        let thread = std::thread::Builder::new().name(format!("vcpu{}", self.id)).spawn(move || self.run(&machine))?;
        Ok(Running { flag, steps, thread })
    }

    fn run(mut self, machine: &Machine) {
        machine.gate.wait();
        while !machine.is_stopped() {
            self.step(machine);
        }
        // The process is about to be killed. A thread that ended would take the vcpu's page with it, into which others may
        // still be about to write their kick.
        loop {
            std::thread::park();
        }
    }

    /// Runs the guest up to one exit and serves that.
    fn step(&mut self, machine: &Machine) {
        let fd = &self.fd;
        let waits_in_firmware = || fd.get_sregs().is_ok_and(|sregs| stepping::is_firmware(&sregs.cs));
        if let Some(on) = self.stepping.turn(&machine.pins, waits_in_firmware) {
            self.step_singly(on);
        }
        let exit = exit::run(&mut self.fd);
        if !matches!(exit, Exit::Interrupted) {
            machine.count_exit();
        }
        match exit {
            Exit::PortRead { port, width, data } => machine.load_string(port, width, data),
            Exit::PortWrite { port, width, data } => {
                for element in data.chunks_exact(usize::from(width)) {
                    machine.store(Space::Port, u64::from(port), width, from_bytes(element));
                }
            }
            Exit::MemoryRead { address, data } => {
                for (address, part) in parts(address, data.len()) {
                    let value = machine.load(Space::Memory, address, part.len() as u8);
                    to_bytes(value, &mut data[part]);
                }
            }
            Exit::MemoryWrite { address, data } => {
                for (address, part) in parts(address, data.len()) {
                    machine.store(Space::Memory, address, part.len() as u8, from_bytes(&data[part]));
                }
            }
            // Whatever it was about is looked at next.
            Exit::Interrupted => self.flag().clear(),
            Exit::Shutdown => self.stop(machine, Reason::Reset, "it shut down, after a triple fault"),
            Exit::Reset => self.stop(machine, Reason::Reset, "the kernel asks for a reset"),
            Exit::PowerOff => self.stop(machine, Reason::PoweredOff, "the kernel asks for power off"),
            Exit::Failed(what) => self.stop(machine, Reason::Failed, &what),
        }
    }

    /// Has the guest run one instruction at a time, or as it always does.
    fn step_singly(&mut self, on: bool) {
        let control = if on { KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP } else { 0 };
        if self.fd.set_guest_debug(&kvm_guest_debug { control, ..Default::default() }).is_err() {
            self.stepping = Stepping::default();
        }
    }

    fn flag(&mut self) -> Flag {
        Flag((&raw mut self.fd.get_kvm_run().immediate_exit).cast())
    }

    fn stop(&self, machine: &Machine, reason: Reason, what: &str) {
        machine.stop(reason, 0, format!("processor {}: {what}; {}", self.id, self.whereabouts()));
    }

    /// Where the guest was, for people who must find out why it could not go on. After a shutdown a kernel on an AMD processor
    /// may show the registers as after a reset: those of the guest are undefined then (AMD APM volume 2, 15.14.3).
    fn whereabouts(&self) -> String {
        let (regs, sregs) = match (self.fd.get_regs(), self.fd.get_sregs()) {
            (Ok(regs), Ok(sregs)) => (regs, sregs),
            _ => return "its registers cannot be read".to_owned(),
        };
        format!(
            "rip {:#x} rsp {:#x} rflags {:#x} rax {:#x} rbx {:#x} rcx {:#x} rdx {:#x} rsi {:#x} rdi {:#x} rbp {:#x} \
             cs {:#x} base {:#x} idt {:#x} limit {:#x} cr0 {:#x} cr2 {:#x} cr3 {:#x} cr4 {:#x} efer {:#x}",
            regs.rip,
            regs.rsp,
            regs.rflags,
            regs.rax,
            regs.rbx,
            regs.rcx,
            regs.rdx,
            regs.rsi,
            regs.rdi,
            regs.rbp,
            sregs.cs.selector,
            sregs.cs.base,
            sregs.idt.base,
            sregs.idt.limit,
            sregs.cr0,
            sregs.cr2,
            sregs.cr3,
            sregs.cr4,
            sregs.efer
        )
    }
}

/// A vcpu's thread.
pub struct Running {
    flag: Flag,
    steps: bool,
    thread: JoinHandle<()>,
}

/// `immediate_exit` of a vcpu's page: a store before the signal, so that a kick which comes between the thread's look at the
/// machine's flags and `KVM_RUN` is not lost. The thread takes it back before it looks at them.
struct Flag(*mut AtomicU8);

impl Flag {
    fn clear(&self) {
        // SAFETY: as below; the page is that of the vcpu that this was made from.
        unsafe { &*self.0 }.store(0, Ordering::SeqCst);
    }
}

// SAFETY: the pointer is only stored through atomically. The page stays mapped: the thread that owns it never returns.
unsafe impl Send for Flag {}
// SAFETY: as above.
unsafe impl Sync for Flag {}

impl Running {
    /// Whether it must be told of an input that rises while it runs.
    pub fn steps(&self) -> bool {
        self.steps
    }

    /// Makes `KVM_RUN` return, now or, if it is not running, as soon as it is called.
    pub fn kick(&self) {
        // SAFETY: see `Flag`; the kernel reads the byte, the thread's own uses of the page do not touch it.
        unsafe { &*self.flag.0 }.store(1, Ordering::SeqCst);
        // SAFETY: the thread never returns, so its handle is valid; the signal has a handler.
        unsafe { libc::pthread_kill(self.thread.as_pthread_t(), KICK as i32) };
    }
}

/// Installs the handler of the kick. Before any vcpu runs.
pub fn expect_kicks() -> nix::Result<()> {
    extern "C" fn nothing(_: i32) {}
    // No SA_RESTART: the signal is there to end a system call.
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing at all.
    unsafe { sigaction(KICK, &action) }.map(drop)
}

fn wire_apic(fd: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let mut apic = fd.get_lapic()?;
    set_register(&mut apic, LVT_LINT0, MODE_EXTINT);
    set_register(&mut apic, LVT_LINT1, MODE_NMI);
    fd.set_lapic(&apic)
}

fn set_register(apic: &mut kvm_lapic_state, at: usize, mode: u32) {
    let register = &mut apic.regs[at..at + 4];
    let mut bytes = [0; 4];
    for (byte, from) in bytes.iter_mut().zip(register.iter()) {
        *byte = *from as u8;
    }
    let value = u32::from_le_bytes(bytes) & !(7 << 8 | LVT_MASKED) | mode;
    for (to, byte) in register.iter_mut().zip(value.to_le_bytes()) {
        *to = byte as i8;
    }
}

/// What processor `id` of `cpus` is told of itself: what KVM offers, in one package with a core for each processor and one
/// thread in each core.
fn identity(vm: &Vm, id: u8, cpus: u8) -> Result<CpuId, KvmError> {
    let mut cpuid = vm.supported_cpuid()?;
    adapt(&mut cpuid, id, cpus, vm.has_tsc_deadline());
    Ok(cpuid)
}

/// See the description of CPUID in Intel SDM volume 2; leaves from 0x8000_0000 in AMD APM volume 3, appendix E.
fn adapt(cpuid: &mut CpuId, id: u8, cpus: u8, tsc_deadline: bool) {
    let apic_id = u32::from(id);
    let count = u32::from(cpus);
    // Bits of the APIC id that number processors within a package.
    let id_bits = u32::from(cpus).next_power_of_two().trailing_zeros();
    for entry in cpuid.as_mut_slice() {
        match (entry.function, entry.index) {
            (0x1, _) => {
                entry.ebx = entry.ebx & 0xffff | apic_id << 24 | count << 16;
                // A hypervisor is present.
                entry.ecx |= 1 << 31;
                if tsc_deadline {
                    entry.ecx |= 1 << 24;
                }
                // Bits 16 to 23 of EBX hold a count.
                entry.edx = if cpus > 1 { entry.edx | 1 << 28 } else { entry.edx & !(1 << 28) };
            }
            // Caches: the third level and beyond are shared by all, the others by nobody.
            (0x4, _) if entry.eax & 0x1f != 0 => {
                let sharing = if entry.eax >> 5 & 7 >= 3 { count - 1 } else { 0 };
                entry.eax = entry.eax & 0x3fff | sharing << 14 | (count - 1) << 26;
            }
            // Performance counters would count the machine's other guests as well.
            (0xa, _) => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
            (0xb | 0x1f, level) => {
                let (shift, processors, kind) = match level {
                    0 => (0, 1, 1),
                    1 => (id_bits, count, 2),
                    _ => (0, 0, 0),
                };
                (entry.eax, entry.ebx, entry.ecx, entry.edx) = (shift, processors, kind << 8 | level & 0xff, apic_id);
            }
            (0x8000_0008, _) => entry.ecx = id_bits << 12 | (count - 1),
            (0x8000_001e, _) => {
                (entry.eax, entry.ebx, entry.ecx) = (apic_id, apic_id, 0);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_bindings::kvm_cpuid_entry2;

    fn leaf(function: u32, index: u32, eax: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 { function, index, eax, ..Default::default() }
    }

    #[test]
    fn each_processor_is_told_its_own_number() {
        let leaves = [leaf(1, 0, 0), leaf(4, 0, 0x121), leaf(4, 3, 0x163), leaf(0xb, 0, 0), leaf(0xb, 1, 0)];
        let mut cpuid = CpuId::from_entries(&leaves).unwrap();
        adapt(&mut cpuid, 2, 3, true);
        let told = cpuid.as_slice();
        assert_eq!(told[0].ebx, 2 << 24 | 3 << 16);
        assert_eq!(told[0].ecx, 1 << 31 | 1 << 24);
        assert_eq!(told[0].edx, 1 << 28);
        assert_eq!(told[1].eax, 0x121 | 2 << 26, "a first-level cache is shared by nobody");
        assert_eq!(told[2].eax, 0x163 | 2 << 14 | 2 << 26, "a third-level cache is shared by all");
        assert_eq!((told[3].eax, told[3].ebx, told[3].ecx, told[3].edx), (0, 1, 0x100, 2));
        assert_eq!((told[4].eax, told[4].ebx, told[4].ecx, told[4].edx), (2, 3, 0x201, 2));
    }

    #[test]
    fn single_processor_has_no_threads() {
        let mut cpuid = CpuId::from_entries(&[kvm_cpuid_entry2 { edx: u32::MAX, ..leaf(1, 0, 0) }]).unwrap();
        adapt(&mut cpuid, 0, 1, false);
        assert_eq!(cpuid.as_slice()[0].edx & 1 << 28, 0);
        assert_eq!(cpuid.as_slice()[0].ecx, 1 << 31);
    }

    #[test]
    fn interrupt_input_is_unmasked_in_its_mode() {
        let mut apic = kvm_lapic_state { regs: [0; 1024] };
        apic.regs[LVT_LINT0 + 2] = 1;
        apic.regs[LVT_LINT0] = 0x12;
        set_register(&mut apic, LVT_LINT0, MODE_EXTINT);
        assert_eq!(apic.regs[LVT_LINT0..LVT_LINT0 + 4], [0x12, 7, 0, 0]);
    }
}
