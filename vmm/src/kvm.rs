//! The virtual machine of KVM: memory slots, interrupt controllers and routes, doorbells.
#![allow(unsafe_code)] // Hands our memory and descriptors to the kernel.

use crate::irq::{Chip, PINS};
use crate::lock;
use crate::memory::{self, GuestRam, Piece};
use crate::stepping;
use crate::vectors::{Delivery, Message};
use imc::{Mapping, Wake};
use kvm_bindings::{
    CpuId, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KVM_MAX_CPUID_ENTRIES, KVM_MEM_READONLY, KVM_PIT_SPEAKER_DUMMY, KvmIrqRouting,
    kvm_ioeventfd, kvm_irq_routing_entry, kvm_irqchip, kvm_pit_config, kvm_reinject_control,
    kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::{ioctl_io_nr, ioctl_iow_nr};

ioctl_iow_nr!(KVM_IOEVENTFD, kvm_bindings::KVMIO, 0x79, kvm_ioeventfd);
ioctl_io_nr!(KVM_REINJECT_CONTROL, kvm_bindings::KVMIO, 0x71);

/// The one version of KVM's interface that there has been since 2007; the kernel's manual says to refuse any other.
const API_VERSION: i32 = 12;
/// Three pages that Intel processors without unrestricted mode need: below the largest ROM and above every range that a device
/// may have.
const TSS_ADDRESS: usize = 0xfeff_d000;
/// One page, for the same processors.
const IDENTITY_MAP_ADDRESS: u64 = 0xfeff_c000;
/// Flags of `kvm_ioeventfd`.
const IOEVENTFD_PIO: u32 = 1 << 1;
const IOEVENTFD_DEASSIGN: u32 = 1 << 2;

/// A virtual machine.
pub struct Vm {
    /// Until all processors are made.
    kvm: Option<Kvm>,
    fd: Arc<VmFd>,
    slots: Slots,
}

/// What cannot be had of KVM.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// Not the interface that this program knows.
    #[error("/dev/kvm speaks version {0} of its interface, this program version {API_VERSION}")]
    Version(i32),
    /// A request failed.
    #[error("KVM: {what}: {why}")]
    Request {
        /// What was asked.
        what: &'static str,
        /// The kernel's answer.
        why: kvm_ioctls::Error,
    },
}

impl KvmError {
    /// Adds what was asked to the kernel's answer.
    pub fn of(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> KvmError {
        move |why| KvmError::Request { what, why }
    }
}

impl Vm {
    /// Makes a machine with interrupt controllers and timer, without memory and processors. What a machine can do without,
    /// and this kernel does not offer, is said in `notes`.
    pub fn create(kvm: OwnedFd, notes: &mut Vec<String>) -> Result<Vm, KvmError> {
        // SAFETY: the descriptor is owned and given away here; its kind was checked by whoever received it, and the kernel
        // refuses the requests of KVM on any other.
        let kvm = unsafe { Kvm::from_raw_fd(kvm.into_raw_fd()) };
        match kvm.get_api_version() {
            API_VERSION => {}
            other => return Err(KvmError::Version(other)),
        }
        let fd = kvm.create_vm().map_err(KvmError::of("creating a machine"))?;
        let mut optional = |what: &str, result: Result<(), kvm_ioctls::Error>| {
            if let Err(why) = result {
                notes.push(format!("KVM: {what}: {why}; going on without"));
            }
        };
        optional("placing the identity map", fd.set_identity_map_address(IDENTITY_MAP_ADDRESS));
        optional("placing the task state", fd.set_tss_address(TSS_ADDRESS));
        fd.create_irq_chip().map_err(KvmError::of("creating the interrupt controllers"))?;
        for chip in [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE] {
            optional("masking the 8259s", mask_inputs(&fd, chip));
        }
        let timer = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
        optional("creating the interval timer", fd.create_pit2(timer));
        if stepping::is_emulated() {
            optional("letting ticks that were missed be missed", drop_missed_ticks(&fd));
        }
        let fd = Arc::new(fd);
        let slots = Slots { fd: Arc::clone(&fd), shown: Arc::default() };
        Ok(Vm { kvm: Some(kvm), fd, slots })
    }

    /// What the guest sees as memory.
    pub fn slots(&self) -> Slots {
        self.slots.clone()
    }

    /// Makes processor `id`.
    pub fn create_vcpu(&self, id: u8) -> Result<VcpuFd, KvmError> {
        self.fd.create_vcpu(u64::from(id)).map_err(KvmError::of("creating a processor"))
    }

    /// What processors can be told that they are.
    pub fn supported_cpuid(&self) -> Result<CpuId, KvmError> {
        let kvm = self.kvm.as_ref().ok_or_else(|| kvm_ioctls::Error::new(libc::EBADF));
        kvm.and_then(|kvm| kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES))
            .map_err(KvmError::of("asking what processors can do"))
    }

    /// Closes `/dev/kvm`: all processors are made.
    pub fn close_kvm(&mut self) {
        self.kvm = None;
    }

    /// Number of the machine's descriptor, for the filter.
    pub fn number(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Whether the local APIC's timer has the deadline mode.
    pub fn has_tsc_deadline(&self) -> bool {
        self.fd.check_extension(Cap::TscDeadlineTimer)
    }

    /// The interrupt controllers' inputs.
    pub fn chip(&self) -> KvmChip {
        KvmChip(Arc::clone(&self.fd))
    }

    /// The interrupt routes, with those of the pins set.
    pub fn routes(&self) -> Routes {
        let limit = u32::try_from(self.fd.check_extension_int(Cap::IrqRouting)).unwrap_or(0);
        Routes { fd: Arc::clone(&self.fd), limit, messages: Mutex::default() }
    }

    /// The doorbells.
    pub fn bells(&self) -> Bells {
        Bells(Arc::clone(&self.fd))
    }
}

/// Masks all inputs of an 8259. It comes up unmasked and with vectors from 0 on, which firmware would change: an interrupt
/// that a guest does not expect would look like a processor's exception.
fn mask_inputs(fd: &VmFd, chip_id: u32) -> Result<(), kvm_ioctls::Error> {
    let mut chip = kvm_irqchip { chip_id, ..Default::default() };
    fd.get_irqchip(&mut chip)?;
    chip.chip.pic.imr = 0xff;
    fd.set_irqchip(&chip)
}

/// Has the interval timer hold one tick that the guest has not taken, as an input of an 8259 does, and not all of them: an emulated
/// processor that is behind would do nothing but take those that it missed.
fn drop_missed_ticks(fd: &VmFd) -> Result<(), kvm_ioctls::Error> {
    let control = kvm_reinject_control { pit_reinject: 0, ..Default::default() };
    // SAFETY: the kernel reads a `kvm_reinject_control`, which outlives the call.
    match unsafe { ioctl_with_ref(fd, KVM_REINJECT_CONTROL(), &control) } {
        0 => Ok(()),
        _ => Err(kvm_ioctls::Error::last()),
    }
}

/// Interrupt inputs of a machine's controllers.
pub struct KvmChip(Arc<VmFd>);

impl Chip for KvmChip {
    fn set_line(&self, gsi: u32, level: bool) {
        // The request fails only for inputs that do not exist, and `Pins` has no others.
        let set = self.0.set_irq_line(gsi, level);
        debug_assert!(set.is_ok(), "interrupt input {gsi}: {set:?}");
    }
}

/// Interrupt routes: which input, or which message, an interrupt number means.
pub struct Routes {
    fd: Arc<VmFd>,
    limit: u32,
    messages: Mutex<BTreeMap<u32, Message>>,
}

impl Routes {
    /// Sets `gsi` to `message`. The kernel takes the whole table at once.
    fn route(&self, gsi: u32, message: Message) -> Result<(), String> {
        let mut messages = lock(&self.messages);
        if messages.get(&gsi) == Some(&message) {
            return Ok(());
        }
        if gsi >= self.limit {
            return Err(format!("the kernel has {} interrupt numbers", self.limit));
        }
        let before = messages.insert(gsi, message);
        let entries: Vec<kvm_irq_routing_entry> =
            pin_routes().chain(messages.iter().map(|(gsi, message)| message_route(*gsi, *message))).collect();
        let set = KvmIrqRouting::from_entries(&entries)
            .map_err(|_| "too many interrupt routes".to_owned())
            .and_then(|table| self.fd.set_gsi_routing(&table).map_err(|error| format!("KVM_SET_GSI_ROUTING: {error}")));
        if set.is_err() {
            match before {
                Some(before) => messages.insert(gsi, before),
                None => messages.remove(&gsi),
            };
        }
        set
    }

    /// Whether a signal of `vector` is bound to `gsi` in the kernel.
    fn irqfd(&self, gsi: u32, vector: &Wake, bind: bool) -> Result<(), String> {
        let signal = lend(vector);
        let done = if bind { self.fd.register_irqfd(&signal, gsi) } else { self.fd.unregister_irqfd(&signal, gsi) };
        match done {
            // Bound already: only its message changed.
            Err(error) if bind && error.errno() == libc::EBUSY => Ok(()),
            other => other.map_err(|error| format!("KVM_IRQFD: {error}")),
        }
    }
}

impl Delivery for Routes {
    fn bind(&self, gsi: u32, vector: &Wake, message: Message) -> Result<(), String> {
        self.route(gsi, message)?;
        self.irqfd(gsi, vector, true)
    }

    fn unbind(&self, gsi: u32, vector: &Wake) {
        // It can fail only for a vector that was never bound.
        let _ = self.irqfd(gsi, vector, false);
    }
}

/// Inputs 0 to 15 go to the 8259s as well as to the I/O APIC, the rest to the I/O APIC alone.
fn pin_routes() -> impl Iterator<Item = kvm_irq_routing_entry> {
    (0..PINS).flat_map(|gsi| {
        let legacy = match gsi {
            0..8 => Some((KVM_IRQCHIP_PIC_MASTER, gsi)),
            8..16 => Some((KVM_IRQCHIP_PIC_SLAVE, gsi - 8)),
            _ => None,
        };
        legacy.into_iter().chain([(KVM_IRQCHIP_IOAPIC, gsi)]).map(move |(chip, pin)| {
            let mut entry = kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_IRQCHIP, ..Default::default() };
            entry.u.irqchip.irqchip = chip;
            entry.u.irqchip.pin = pin;
            entry
        })
    })
}

fn message_route(gsi: u32, message: Message) -> kvm_irq_routing_entry {
    let mut entry = kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_MSI, ..Default::default() };
    entry.u.msi.address_lo = message.address as u32;
    entry.u.msi.address_hi = (message.address >> 32) as u32;
    entry.u.msi.data = message.data;
    entry
}

/// What the guest sees as memory: pieces of this process's memory, each at a guest address.
#[derive(Clone)]
pub struct Slots {
    fd: Arc<VmFd>,
    /// By the kernel's number. What is shown outlives its being shown.
    shown: Arc<Mutex<Vec<Option<Shown>>>>,
}

/// One piece: where the guest sees it, and what keeps it mapped.
struct Shown {
    region: kvm_userspace_memory_region,
    _memory: Owner,
}

/// What owns memory that a guest sees.
#[derive(Clone)]
pub enum Owner {
    /// A part of guest memory.
    Ram(#[allow(dead_code)] GuestRam),
    /// Memory of its own.
    Mapping(#[allow(dead_code)] Arc<Mapping>),
}

/// A piece that is shown, to be hidden again.
#[derive(Debug, PartialEq, Eq)]
pub struct Slot(u32);

impl Slots {
    /// Shows all of guest memory that processors see at any time.
    pub fn show_ram(&self, ram: &GuestRam) -> Result<(), KvmError> {
        for piece in memory::pieces(ram) {
            self.show(piece, true, Owner::Ram(ram.clone()))?;
        }
        Ok(())
    }

    /// Shows the first `bytes` of `memory` at `base`; both are whole pages.
    pub fn show_mapping(&self, base: u64, bytes: u64, memory: &Arc<Mapping>) -> Result<Slot, KvmError> {
        assert!(bytes <= memory.len() as u64);
        let piece = Piece { base, bytes, start: memory.as_ptr() };
        self.show(piece, memory.writable(), Owner::Mapping(Arc::clone(memory)))
    }

    /// Shows `piece`, which lies in `memory`. What is not writable, or not to be: a store there is an exit.
    pub fn show(&self, piece: Piece, writable: bool, memory: Owner) -> Result<Slot, KvmError> {
        let mut shown = lock(&self.shown);
        let free = shown.iter().position(Option::is_none).unwrap_or(shown.len());
        let region = kvm_userspace_memory_region {
            slot: free as u32,
            flags: if writable { 0 } else { KVM_MEM_READONLY },
            guest_phys_addr: piece.base,
            memory_size: piece.bytes,
            userspace_addr: piece.start as u64,
        };
        self.set(region).map_err(KvmError::of("giving the guest memory"))?;
        if free == shown.len() {
            shown.push(None);
        }
        shown[free] = Some(Shown { region, _memory: memory });
        Ok(Slot(free as u32))
    }

    /// The guest sees it no more.
    pub fn hide(&self, slot: Slot) -> Result<(), KvmError> {
        let mut shown = lock(&self.shown);
        let Some(hidden) = shown.get_mut(slot.0 as usize) else { return Ok(()) };
        if let Some(shown) = &*hidden {
            let region = kvm_userspace_memory_region { memory_size: 0, ..shown.region };
            self.set(region).map_err(KvmError::of("taking memory from the guest"))?;
        }
        *hidden = None;
        Ok(())
    }

    fn set(&self, region: kvm_userspace_memory_region) -> Result<(), kvm_ioctls::Error> {
        // SAFETY: the memory is mapped, shared with other processes already, and never accessed through references; its
        // owner stays in `shown` until the kernel has let go of it, or the machine is gone.
        unsafe { self.fd.set_user_memory_region(region) }
    }
}

/// Guest stores that the kernel turns into a signal, without an exit.
#[derive(Clone)]
pub struct Bells(Arc<VmFd>);

/// Where a doorbell is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BellPlace {
    /// A port rather than a guest address.
    pub port: bool,
    /// Where.
    pub address: u64,
    /// Bytes of the store; 0 is any.
    pub width: u8,
}

impl Bells {
    /// From now on a store to `place` signals `wake`.
    pub fn hang(&self, place: BellPlace, wake: &Wake) -> Result<(), KvmError> {
        self.request(place, wake, 0).map_err(KvmError::of("hanging a doorbell"))
    }

    /// No longer.
    pub fn take_down(&self, place: BellPlace, wake: &Wake) -> Result<(), KvmError> {
        self.request(place, wake, IOEVENTFD_DEASSIGN).map_err(KvmError::of("taking a doorbell down"))
    }

    fn request(&self, place: BellPlace, wake: &Wake, flags: u32) -> Result<(), kvm_ioctls::Error> {
        let flags = flags | if place.port { IOEVENTFD_PIO } else { 0 };
        let bell = kvm_ioeventfd {
            addr: place.address,
            len: u32::from(place.width),
            fd: wake.as_fd().as_raw_fd(),
            flags,
            ..Default::default()
        };
        // SAFETY: the descriptor is a machine's, and the kernel only reads the structure, which outlives the call.
        match unsafe { ioctl_with_ref(&*self.0, KVM_IOEVENTFD(), &bell) } {
            0 => Ok(()),
            _ => Err(kvm_ioctls::Error::last()),
        }
    }
}

/// The eventfd as kvm-ioctls wants it: lent, never closed, because a sealed process cannot make a second descriptor.
fn lend(wake: &Wake) -> ManuallyDrop<EventFd> {
    // SAFETY: the descriptor is an eventfd and open while `wake` is borrowed; callers use the result within that borrow.
    ManuallyDrop::new(unsafe { EventFd::from_raw_fd(wake.as_fd().as_raw_fd()) })
}
