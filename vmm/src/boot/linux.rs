//! The Linux/x86 boot protocol (Documentation/arch/x86/boot.rst), 64-bit entry.

use super::{
    BootError, Entry, FIRMWARE_END, FIRMWARE_START, PAGE_BYTES, STACK_TOP, check_memory, copy, length, memory_end,
    write_tables,
};
use crate::memory::{GuestRam, HOLE_END, HOLE_START};
use linux_loader::bootparam::{
    E820_MAX_ENTRIES_ZEROPAGE, LOADED_HIGH, XLF_KERNEL_64, boot_e820_entry, boot_params, setup_header,
};
use linux_loader::elf::{EM_X86_64, Elf64_Ehdr, Elf64_Phdr, PT_LOAD};
use linux_loader::loader::bzimage::BzImage;
use linux_loader::loader::elf::Elf;
use linux_loader::loader::{KernelLoader, KernelLoaderResult};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use vm_memory::{ByteValued, Bytes, GuestAddress};

/// Where the zero page lies.
const ZERO_PAGE: u64 = 0x8000;
const _: () = assert!(size_of::<boot_params>() as u64 == PAGE_BYTES);
/// Where the command line lies, and how long it may be with its zero: to the end of usable low memory.
const CMDLINE: u64 = 0x2_0000;
const CMDLINE_BYTES: usize = (FIRMWARE_START - CMDLINE) as usize;

/// The setup header's place in a bzImage.
const HEADER_OFFSET: u64 = 0x1f1;
/// `HdrS`, at 0x202.
const HEADER_MAGIC: u32 = 0x5372_6448;
/// `boot_flag`, at 0x1fe.
const BOOT_FLAG: u16 = 0xaa55;
/// The first protocol whose header has `xloadflags`.
const XLOADFLAGS_VERSION: u16 = 0x20c;
/// Sectors of the real-mode part if the header says zero, and bytes of a sector.
const SETUP_SECTORS: u64 = 4;
const SECTOR_BYTES: u64 = 512;
/// `syssize` counts in these.
const PARAGRAPH_BYTES: u64 = 16;
/// The 64-bit entry, from where the protected-mode part is loaded.
const ENTRY_64: u64 = 0x200;
/// Length of the command line for a header that says zero (protocols before 2.06), and for a kernel that has no header.
const OLD_CMDLINE: usize = 255;
const ELF_CMDLINE: usize = 2047;
/// The last address of an initial RAM disk for a kernel that has no header: what x86 kernels have said since 2.6.
const ELF_INITRD_MAX: u32 = 0x7fff_ffff;
/// A boot loader without a number of its own.
const LOADER_UNDEFINED: u8 = 0xff;

/// Kinds of memory in the e820 map (ACPI 6.5, table 15.4).
const E820_USABLE: u32 = 1;
const E820_RESERVED: u32 = 2;
/// Interrupt controllers, and what KVM keeps for itself.
const CONTROLLERS: u64 = 0xfec0_0000;

/// A kernel in memory.
struct Kernel {
    entry: u64,
    /// Past the last byte that it needs before it knows the memory map.
    end: u64,
    header: setup_header,
    cmdline_max: usize,
}

/// Loads a bzImage or an ELF kernel with its command line and initial RAM disk. `rsdp` is where the ACPI tables begin.
pub fn load_kernel(
    ram: &GuestRam,
    kernel: &mut File,
    initrd: Option<&mut File>,
    cmdline: &str,
    rsdp: u64,
) -> Result<Entry, BootError> {
    let mut magic = [0; 4];
    kernel.rewind().map_err(read)?;
    let loaded = match kernel.read_exact(&mut magic) {
        Ok(()) if magic == *b"\x7fELF" => load_elf(ram, kernel)?,
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => return Err(read(error)),
        _ => load_bzimage(ram, kernel)?,
    };
    let Kernel { entry, end, mut header, cmdline_max } = loaded;

    let most = cmdline_max.min(CMDLINE_BYTES - 1);
    if cmdline.len() > most {
        return Err(BootError::CommandLine { length: cmdline.len(), most });
    }
    if cmdline.contains('\0') {
        return Err(BootError::CommandLineZero);
    }
    ram.write_slice(cmdline.as_bytes(), GuestAddress(CMDLINE))?;
    ram.write_obj(0_u8, GuestAddress(CMDLINE + cmdline.len() as u64))?;
    header.cmd_line_ptr = CMDLINE as u32;

    if let Some(initrd) = initrd {
        (header.ramdisk_image, header.ramdisk_size) = load_initrd(ram, initrd, end, header.initrd_addr_max)?;
    }
    header.type_of_loader = LOADER_UNDEFINED;

    let mut params = boot_params { acpi_rsdp_addr: rsdp, hdr: header, ..Default::default() };
    let map = e820(ram);
    assert!(map.len() <= E820_MAX_ENTRIES_ZEROPAGE, "a handful of entries");
    params.e820_table[..map.len()].copy_from_slice(&map);
    params.e820_entries = map.len() as u8;
    ram.write_obj(params, GuestAddress(ZERO_PAGE))?;
    write_tables(ram)?;
    Ok(Entry { rip: entry, rsp: STACK_TOP, rsi: ZERO_PAGE })
}

fn load_bzimage(ram: &GuestRam, file: &mut File) -> Result<Kernel, BootError> {
    let mut header = setup_header::default();
    let bytes = length("kernel", file)?;
    file.seek(SeekFrom::Start(HEADER_OFFSET)).map_err(read)?;
    file.read_exact(header.as_mut_slice()).map_err(|why| match why.kind() {
        std::io::ErrorKind::UnexpectedEof => BootError::NotAKernel,
        _ => read(why),
    })?;
    if header.header != HEADER_MAGIC || header.boot_flag != BOOT_FLAG {
        return Err(BootError::NotAKernel);
    }
    if header.loadflags & LOADED_HIGH == 0 {
        return Err(BootError::No64BitEntry("it is a zImage"));
    }
    if header.version < XLOADFLAGS_VERSION {
        return Err(BootError::No64BitEntry("its boot protocol is older than 2.12"));
    }
    if header.xloadflags & XLF_KERNEL_64 == 0 {
        return Err(BootError::No64BitEntry("it is a 32-bit kernel"));
    }
    let setup = match u64::from(header.setup_sects) {
        0 => SETUP_SECTORS,
        sectors => sectors,
    };
    let setup = (setup + 1) * SECTOR_BYTES;
    let promised = setup + u64::from(header.syssize) * PARAGRAPH_BYTES;
    // Its last paragraph need not be whole.
    if bytes.next_multiple_of(PARAGRAPH_BYTES) < promised || header.syssize == 0 {
        let why = format!("it has {bytes} bytes, its header promises {promised}");
        return Err(BootError::Damaged { what: "kernel", why });
    }
    if !u64::from(header.kernel_alignment).is_power_of_two() {
        let why = format!("its alignment, {:#x}, is no power of two", { header.kernel_alignment });
        return Err(BootError::Damaged { what: "kernel", why });
    }

    let load = u64::from(header.code32_start);
    if load < FIRMWARE_END {
        let why = format!("it wants to be loaded at {load:#x}, below 1 MiB");
        return Err(BootError::Damaged { what: "kernel", why });
    }
    // Where it runs (boot protocol, `init_size`): it moves itself there, and unpacks itself there.
    let preferred = header.pref_address;
    let runs = match header.relocatable_kernel {
        0 => preferred,
        _ => load.next_multiple_of(u64::from(header.kernel_alignment)).max(preferred),
    };
    let needed = runs.saturating_add(u64::from(header.init_size));
    let end = needed.max(load + (bytes - setup));
    check_memory(ram, "kernel", load, end)?;

    let loaded = loader(BzImage::load(ram, None, file, Some(GuestAddress(FIRMWARE_END))))?;
    let header = loaded.setup_header.ok_or(BootError::NotAKernel)?;
    let cmdline_max = match header.cmdline_size as usize {
        0 => OLD_CMDLINE,
        most => most,
    };
    Ok(Kernel { entry: loaded.kernel_load.0 + ENTRY_64, end, header, cmdline_max })
}

fn load_elf(ram: &GuestRam, file: &mut File) -> Result<Kernel, BootError> {
    let bytes = length("kernel", file)?;
    let damaged = |why: &str| BootError::Damaged { what: "kernel", why: why.to_owned() };
    let short = |why: std::io::Error| match why.kind() {
        std::io::ErrorKind::UnexpectedEof => damaged("its ELF headers are cut off"),
        _ => read(why),
    };
    let mut header = Elf64_Ehdr::default();
    file.rewind().map_err(read)?;
    file.read_exact(header.as_mut_slice()).map_err(short)?;
    if header.e_machine != EM_X86_64 {
        return Err(BootError::No64BitEntry("it is an ELF file for another processor"));
    }
    if usize::from(header.e_phentsize) != size_of::<Elf64_Phdr>() {
        return Err(damaged("its program headers have a size of their own"));
    }
    file.seek(SeekFrom::Start(header.e_phoff)).map_err(read)?;
    // What the loader would only call unreadable: each segment lies in the file and in memory.
    let mut end = 0;
    let mut holds_entry = false;
    for _ in 0..header.e_phnum {
        let mut segment = Elf64_Phdr::default();
        file.read_exact(segment.as_mut_slice()).map_err(short)?;
        if segment.p_type != PT_LOAD || segment.p_memsz == 0 {
            continue;
        }
        let inside = segment.p_offset.checked_add(segment.p_filesz).is_some_and(|past| past <= bytes);
        if !inside || segment.p_filesz > segment.p_memsz {
            return Err(damaged("a segment is cut off"));
        }
        let from = segment.p_paddr;
        let to = from.checked_add(segment.p_memsz).ok_or(damaged("a segment has no possible address"))?;
        if from < FIRMWARE_END {
            return Err(damaged("a segment lies below 1 MiB"));
        }
        check_memory(ram, "kernel", from, to)?;
        end = end.max(to);
        holds_entry |= (from..to).contains(&header.e_entry);
    }
    if !holds_entry {
        return Err(damaged("its entry is in no segment"));
    }
    let loaded = loader(Elf::load(ram, None, file, Some(GuestAddress(FIRMWARE_END))))?;
    let header = setup_header {
        boot_flag: BOOT_FLAG,
        header: HEADER_MAGIC,
        initrd_addr_max: ELF_INITRD_MAX,
        ..Default::default()
    };
    Ok(Kernel { entry: loaded.kernel_load.0, end, header, cmdline_max: ELF_CMDLINE })
}

/// Copies the initial RAM disk as high as the kernel and memory below the hole allow. Its address and size.
fn load_initrd(ram: &GuestRam, initrd: &mut File, from: u64, last: u32) -> Result<(u32, u32), BootError> {
    let bytes = length("initrd", initrd)?;
    if bytes == 0 {
        return Err(BootError::Damaged { what: "initrd", why: "it is empty".to_owned() });
    }
    let to = memory_end(ram, FIRMWARE_END).min(HOLE_START).min(u64::from(last) + 1);
    let base = to.checked_sub(bytes).map(|base| base - base % PAGE_BYTES).filter(|base| *base >= from);
    let base = base.ok_or(BootError::NoPlaceForInitrd { bytes, from, to })?;
    copy("initrd", initrd, 0, ram, base, bytes)?;
    // Both lie below 3 GiB.
    Ok((base as u32, bytes as u32))
}

/// The memory map: firmware's part of low memory and the interrupt controllers are reserved; the windows of PCI are in
/// no entry, which is what tells the kernel that it may use them.
pub(super) fn e820(ram: &GuestRam) -> Vec<boot_e820_entry> {
    let mut map = Vec::new();
    let mut add = |from: u64, to: u64, kind| {
        if from < to {
            map.push(boot_e820_entry { addr: from, size: to - from, r#type: kind });
        }
    };
    add(0, memory_end(ram, 0).min(FIRMWARE_START), E820_USABLE);
    add(FIRMWARE_START, FIRMWARE_END, E820_RESERVED);
    add(FIRMWARE_END, memory_end(ram, FIRMWARE_END), E820_USABLE);
    add(CONTROLLERS, HOLE_END, E820_RESERVED);
    add(HOLE_END, memory_end(ram, HOLE_END), E820_USABLE);
    map
}

fn read(why: std::io::Error) -> BootError {
    BootError::Read { what: "kernel", why }
}

/// What was checked before makes most of the loader's refusals impossible; those left are about the file.
fn loader(result: linux_loader::loader::Result<KernelLoaderResult>) -> Result<KernelLoaderResult, BootError> {
    result.map_err(|why| BootError::Damaged { what: "kernel", why: why.to_string() })
}
