//! What a guest finds in memory and in the first processor's registers when it starts: a Linux kernel by the 64-bit
//! boot protocol, or flat 64-bit code. Firmware finds nothing: it begins at the processor's reset vector.
//!
//! A kernel's or flat code's processor is in long mode with flat segments and the first 4 GiB mapped one to one, and these lie in
//! low memory, free for the guest to reuse once it has its own:
//!
//! | address | what |
//! | --- | --- |
//! | 0x500 | GDT: code 0x10, data 0x18 |
//! | 0x1000 | IDT: room for 256 gates, all absent |
//! | 0x2000 | page tables: 6 pages |
//! | 0x8000 | Linux's zero page |
//! | 0x9000 to 0x10000 | stack, from its end downwards |
//! | 0x20000 | Linux's command line |
//! | 0xe0000 | ACPI tables |

mod linux;

use crate::memory::GuestRam;
use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};
pub use linux::load_kernel;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

/// The GDT: two empty entries, as Linux wants its selectors to be 0x10 and 0x18 (boot protocol, 64-bit), code and data.
const GDT_ADDRESS: u64 = 0x500;
const GDT: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];
const CODE_SELECTOR: u16 = 0x10;
const DATA_SELECTOR: u16 = 0x18;
/// The IDT: 256 gates of 16 bytes (Intel SDM volume 3, 6.14.1).
const IDT_ADDRESS: u64 = 0x1000;
const IDT_BYTES: u16 = 4096;
/// Page tables: one of level 4, one of level 3, four of level 2 with 2 MiB pages.
const LEVEL4_ADDRESS: u64 = 0x2000;
const LEVEL3_ADDRESS: u64 = 0x3000;
const LEVEL2_ADDRESS: u64 = 0x4000;
const MAPPED_GIB: u64 = 4;
/// Entries of a page table.
const TABLE_ENTRIES: u64 = 512;
const PAGE_BYTES: u64 = 4096;
const HUGE_PAGE_BYTES: u64 = 2 << 20;
/// Present and writable (Intel SDM volume 3, 4.5).
const TABLE_FLAGS: u64 = 0b11;
/// The same, accessed and dirty already, and a page of 2 MiB.
const PAGE_FLAGS: u64 = 0b1110_0011;
/// Everything above is below this, the stack's first byte.
const STACK_TOP: u64 = 0x1_0000;

/// Firmware's part of low memory: what the e820 map does not call usable.
const FIRMWARE_START: u64 = 0x9_fc00;
const FIRMWARE_END: u64 = 0x10_0000;

/// People count memory in these.
const MIB: u64 = 1 << 20;

/// Control register bits (Intel SDM volume 3, 2.5): protected mode, extension type, paging; physical address extension.
const CR0: u64 = 1 << 31 | 1 << 4 | 1;
const CR4: u64 = 1 << 5;
/// EFER: long mode enabled and active (Intel SDM volume 3, 2.2.1).
const EFER: u64 = 1 << 10 | 1 << 8;
/// The one bit of the flags that is always set; interrupts are off.
const RFLAGS: u64 = 1 << 1;

/// Where the first processor begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// Nowhere: no processor runs.
    Never,
    /// At its reset vector, where firmware is (Intel SDM volume 3, 10.1.4).
    Reset,
    /// In long mode.
    Entry(Entry),
}

/// How the first processor starts in long mode. The others wait in their reset state until it starts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The first instruction.
    pub rip: u64,
    /// The stack.
    pub rsp: u64,
    /// Linux: its zero page. Flat code: zero.
    pub rsi: u64,
}

impl Entry {
    /// The general registers.
    pub fn registers(&self) -> kvm_regs {
        kvm_regs { rip: self.rip, rsp: self.rsp, rsi: self.rsi, rflags: RFLAGS, ..Default::default() }
    }

    /// Turns the system registers of a processor after reset into those of long mode.
    pub fn prepare(&self, sregs: &mut kvm_sregs) {
        let code = kvm_segment {
            base: 0,
            limit: u32::MAX,
            selector: CODE_SELECTOR,
            type_: 0b1011,
            present: 1,
            dpl: 0,
            db: 0,
            s: 1,
            l: 1,
            g: 1,
            ..Default::default()
        };
        let data = kvm_segment { selector: DATA_SELECTOR, type_: 0b0011, db: 1, l: 0, ..code };
        sregs.cs = code;
        (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
        // Entering long mode on Intel processors needs a busy 64-bit task (SDM volume 3, 26.3.1.2); AMD's start with
        // less.
        sregs.tr = kvm_segment { limit: 0xffff, type_: 0b1011, present: 1, ..Default::default() };
        sregs.gdt = kvm_dtable { base: GDT_ADDRESS, limit: size_of_val(&GDT) as u16 - 1, ..Default::default() };
        sregs.idt = kvm_dtable { base: IDT_ADDRESS, limit: IDT_BYTES - 1, ..Default::default() };
        sregs.cr0 = CR0;
        sregs.cr3 = LEVEL4_ADDRESS;
        sregs.cr4 = CR4;
        sregs.efer = EFER;
    }
}

/// Why a guest cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// Neither of the formats.
    #[error("the kernel is neither an x86 bzImage nor an ELF file")]
    NotAKernel,
    /// It is a kernel, but cannot be entered in long mode.
    #[error("the kernel has no 64-bit entry: {0}")]
    No64BitEntry(&'static str),
    /// The file ends early, or says of itself what cannot be.
    #[error("the {what} is damaged: {why}")]
    Damaged {
        /// Which file.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// It needs more memory than there is where it must go.
    #[error(
        "the {what} does not fit: it needs guest memory from {}M to {}M, and memory there ends at {}M",
        from / MIB, to.div_ceil(MIB), end / MIB
    )]
    TooBig {
        /// Which file.
        what: &'static str,
        /// First address that it needs.
        from: u64,
        /// Past the last.
        to: u64,
        /// Past the last address of memory there.
        end: u64,
    },
    /// No place is left for the initial RAM disk.
    #[error("the initrd of {bytes} bytes does not fit between the kernel, which ends at {from:#x}, and {to:#x}")]
    NoPlaceForInitrd {
        /// Its size.
        bytes: u64,
        /// Past the kernel.
        from: u64,
        /// Past the last address that it may have.
        to: u64,
    },
    /// The command line is longer than the kernel takes.
    #[error("the kernel command line has {length} bytes, this kernel takes at most {most}")]
    CommandLine {
        /// Its bytes.
        length: usize,
        /// Most that there may be.
        most: usize,
    },
    /// The command line has a zero byte, where the kernel would stop reading.
    #[error("the kernel command line has a zero byte")]
    CommandLineZero,
    /// Flat code would lie where its own tables do, or firmware's.
    #[error(
        "flat code of {bytes} bytes cannot be at {base:#x}: {STACK_TOP:#x} to {FIRMWARE_START:#x} is free \
         for it, and memory from {FIRMWARE_END:#x} on"
    )]
    FlatPlace {
        /// Where it was to go.
        base: u64,
        /// Its size.
        bytes: u64,
    },
    /// A file cannot be read.
    #[error("the {what} cannot be read: {why}")]
    Read {
        /// Which file.
        what: &'static str,
        /// The kernel's answer.
        why: std::io::Error,
    },
    /// Not even low memory is there.
    #[error("guest memory has no room for the tables of the start: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
}

/// Loads 64-bit code at `base`, where it is entered with a stack and interrupts off.
pub fn load_flat(ram: &GuestRam, image: &mut File, base: u64) -> Result<Entry, BootError> {
    let bytes = length("flat code", image)?;
    if bytes == 0 {
        return Err(BootError::Damaged { what: "flat code", why: "it is empty".to_owned() });
    }
    let end = base.checked_add(bytes);
    let low = base >= STACK_TOP && end.is_some_and(|end| end <= FIRMWARE_START);
    let (Some(end), true) = (end, low || base >= FIRMWARE_END) else {
        return Err(BootError::FlatPlace { base, bytes });
    };
    check_memory(ram, "flat code", base, end)?;
    copy("flat code", image, 0, ram, base, bytes)?;
    write_tables(ram)?;
    Ok(Entry { rip: base, rsp: STACK_TOP, rsi: 0 })
}

/// Writes what every start needs: segments, page tables, and an empty IDT.
fn write_tables(ram: &GuestRam) -> Result<(), BootError> {
    for (index, entry) in (0..).zip(GDT) {
        ram.write_obj(entry, GuestAddress(GDT_ADDRESS + 8 * index))?;
    }
    ram.write_slice(&[0; IDT_BYTES as usize], GuestAddress(IDT_ADDRESS))?;
    ram.write_slice(&[0; 2 * PAGE_BYTES as usize], GuestAddress(LEVEL4_ADDRESS))?;
    ram.write_obj(LEVEL3_ADDRESS | TABLE_FLAGS, GuestAddress(LEVEL4_ADDRESS))?;
    for gib in 0..MAPPED_GIB {
        let table = LEVEL2_ADDRESS + PAGE_BYTES * gib;
        ram.write_obj(table | TABLE_FLAGS, GuestAddress(LEVEL3_ADDRESS + 8 * gib))?;
        for index in 0..TABLE_ENTRIES {
            let page = (TABLE_ENTRIES * gib + index) * HUGE_PAGE_BYTES;
            ram.write_obj(page | PAGE_FLAGS, GuestAddress(table + 8 * index))?;
        }
    }
    Ok(())
}

/// Past the last address of the memory that is contiguous with `address`, which is `address` itself where there is
/// none.
fn memory_end(ram: &GuestRam, address: u64) -> u64 {
    ram.iter().fold(address, |end, region| match (region.start_addr().0, region.start_addr().0 + region.len()) {
        (start, past) if start <= end && end < past => past,
        _ => end,
    })
}

/// Refuses what does not lie in contiguous memory.
fn check_memory(ram: &GuestRam, what: &'static str, from: u64, to: u64) -> Result<(), BootError> {
    match memory_end(ram, from) {
        end if to <= end => Ok(()),
        end => Err(BootError::TooBig { what, from, to, end }),
    }
}

/// Bytes of a file.
fn length(what: &'static str, file: &mut File) -> Result<u64, BootError> {
    file.seek(SeekFrom::End(0)).map_err(|why| BootError::Read { what, why })
}

/// Copies `bytes` from `offset` of a file to guest memory that was checked to be there.
fn copy(
    what: &'static str,
    file: &mut File,
    offset: u64,
    ram: &GuestRam,
    at: u64,
    bytes: u64,
) -> Result<(), BootError> {
    file.seek(SeekFrom::Start(offset)).map_err(|why| BootError::Read { what, why })?;
    ram.read_exact_volatile_from(GuestAddress(at), file, bytes as usize).map_err(|why| match why {
        vm_memory::GuestMemoryError::IOError(why) => BootError::Read { what, why },
        why => BootError::Damaged { what, why: why.to_string() },
    })
}

#[cfg(test)]
mod tests;
