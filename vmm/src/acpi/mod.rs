//! ACPI tables (ACPI 6.5, chapter 5), made of the devices' manifests: what is where, and how interrupts are wired.
//!
//! A kernel that is started without firmware finds them in firmware's part of low memory, which the memory map reserves. Firmware
//! places them itself, and is told which of their bytes are addresses. Nothing in them executes: the namespace is of plain data.
//!
//! A manifest is another process's word. What it says becomes a name or a number here only after it was checked.

mod namespace;

use crate::memory::GuestRam;
use acpi_tables::Aml;
use acpi_tables::facs::FACS;
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use schema::manifest::{Fixed, Manifest, Space};
use vm_memory::{Bytes, GuestAddress};

/// Where the tables begin, and where firmware's part of memory ends. The RSDP is first, where firmware of a PC has it
/// (5.2.5.1), for a guest that nobody tells.
const TABLES: u64 = 0xe_0000;
const TABLES_END: u64 = 0x10_0000;
/// The FACS wants the most (5.2.10).
pub const ALIGNMENT: u64 = 64;
/// Where tables have their checksum (5.2.6), and the RSDP its two, of its first part and of all of it (5.2.5.3).
const CHECKSUM: u64 = 9;
const RSDP_CHECKSUM: u64 = 8;
const RSDP_FIRST_BYTES: u64 = 20;
const RSDP_EXTENDED_CHECKSUM: u64 = 32;
/// Where addresses of other tables are: in the RSDP (5.2.5.3) and the FADT (5.2.9). The XSDT's follow its header.
const RSDP_XSDT: u64 = 24;
const FADT_FACS: u64 = 36;
const FADT_DSDT: u64 = 40;
const FADT_X_DSDT: u64 = 140;

const OEM: [u8; 6] = *b"COFFER";
const OEM_TABLE: [u8; 8] = *b"COFFERDM";
const OEM_REVISION: u32 = 1;
/// Bytes of the header that tables have in common (5.2.6).
const HEADER_BYTES: u32 = 36;
/// The revision of a DSDT with 64-bit integers (5.2.11.1), and that of the MADT (5.2.12).
const DSDT_REVISION: u8 = 2;
const MADT_REVISION: u8 = 5;

/// Interrupt controllers of a PC.
const LOCAL_APIC: u32 = 0xfee0_0000;
const IO_APIC: u32 = 0xfec0_0000;
/// MADT: the machine also has two 8259s (5.2.12).
const PCAT_COMPAT: u32 = 1;
/// MPS INTI flags: active high, level (5.2.12.5).
const LEVEL_HIGH: u16 = 0b1101;
/// Every processor's input for NMI (5.2.12.7).
const ALL_PROCESSORS: u8 = 0xff;
const LINT_NMI: u8 = 1;

/// IAPC_BOOT_ARCH: no VGA, no CMOS clock (5.2.9.3).
const VGA_NOT_PRESENT: u16 = 1 << 2;
const RTC_NOT_PRESENT: u16 = 1 << 5;
/// The registers whose presence tells.
const VGA_PORT: u16 = 0x3c0;
const RTC_PORT: u16 = 0x70;
/// Latencies that mean "no C2" and "no C3" (5.2.9).
const NO_C2: u16 = 101;
const NO_C3: u16 = 1001;
/// Bytes of the fixed registers (4.8.3).
const EVENT_BYTES: u8 = 4;
const CONTROL_BYTES: u8 = 2;
const TIMER_BYTES: u8 = 4;
/// The system control interrupt is one of the 8259s' inputs (5.2.9), and not the timer's or the cascade.
const SCI_MAX: u8 = 15;

/// Why tables cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum AcpiError {
    /// A manifest says what cannot be.
    #[error("{device}: {why}")]
    Manifest {
        /// The device's name.
        device: String,
        /// What is wrong.
        why: String,
    },
    /// The tables are too large.
    #[error("the ACPI tables of these devices need {needed} bytes, there are {room}")]
    TooLarge {
        /// Their bytes.
        needed: u64,
        /// Room for them.
        room: u64,
    },
    /// Low memory is missing.
    #[error("guest memory has no room for ACPI tables: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
}

/// Writes the tables of a machine with `cpus` processors and these devices. The result is the address of the RSDP.
///
/// PCI functions need no word in them: the namespace says for every slot what its pins are wired to.
pub fn build(ram: &GuestRam, cpus: u8, manifests: &[&Manifest]) -> Result<u64, AcpiError> {
    let mut tables = Tables::describe(cpus, manifests)?;
    // The RSDP lies first.
    let base = TABLES + (Rsdp::len() as u64).next_multiple_of(ALIGNMENT);
    let needed = base - TABLES + tables.bytes.len() as u64;
    if needed > TABLES_END - TABLES {
        return Err(AcpiError::TooLarge { needed, room: TABLES_END - TABLES });
    }
    tables.relocate(base);
    ram.write_slice(&tables.rsdp, GuestAddress(TABLES))?;
    ram.write_slice(&tables.bytes, GuestAddress(base))?;
    Ok(TABLES)
}

/// Tables that are nowhere yet: each address in them counts from the first table's first byte.
#[derive(Debug)]
pub struct Tables {
    /// All tables but the RSDP, to be aligned to [`ALIGNMENT`].
    pub bytes: Vec<u8>,
    /// The RSDP.
    pub rsdp: Vec<u8>,
    /// Addresses in them.
    pub pointers: Vec<Pointer>,
    /// Their checksums, each to be made after the addresses in what it covers.
    pub sums: Vec<Sum>,
}

/// An address in the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pointer {
    /// It is in the RSDP.
    pub in_rsdp: bool,
    /// Where.
    pub at: u64,
    /// Its bytes: 4 or 8.
    pub width: u8,
}

/// A byte that makes the sum of others, itself among them, zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    /// It is in the RSDP.
    pub in_rsdp: bool,
    /// Where.
    pub at: u64,
    /// The first byte that it covers.
    pub start: u64,
    /// Bytes that it covers.
    pub length: u64,
}

impl Tables {
    /// The tables of a machine with `cpus` processors and these devices.
    pub fn describe(cpus: u8, manifests: &[&Manifest]) -> Result<Tables, AcpiError> {
        let power = PowerBlock::find(manifests)?;
        let mut tables = Tables { bytes: Vec::new(), rsdp: Vec::new(), pointers: Vec::new(), sums: Vec::new() };
        let facs = tables.place(bytes(&FACS::new()));
        let dsdt = tables.place(dsdt(manifests, power.as_ref())?);
        let fadt = tables.place_summed(bytes(&fadt(manifests, power.as_ref(), facs, dsdt)));
        let madt = tables.place(madt(cpus, power.as_ref()));
        let mut xsdt = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
        xsdt.add_entry(fadt);
        xsdt.add_entry(madt);
        let xsdt = tables.place_summed(bytes(&xsdt));
        tables.rsdp = bytes(&Rsdp::new(OEM, xsdt));
        let mut pointer = |in_rsdp, at, width| tables.pointers.push(Pointer { in_rsdp, at, width });
        pointer(true, RSDP_XSDT, 8);
        pointer(false, fadt + FADT_FACS, 4);
        pointer(false, fadt + FADT_DSDT, 4);
        pointer(false, fadt + FADT_X_DSDT, 8);
        pointer(false, xsdt + u64::from(HEADER_BYTES), 8);
        pointer(false, xsdt + u64::from(HEADER_BYTES) + 8, 8);
        let rsdp_bytes = tables.rsdp.len() as u64;
        for (at, length) in [(RSDP_CHECKSUM, RSDP_FIRST_BYTES), (RSDP_EXTENDED_CHECKSUM, rsdp_bytes)] {
            tables.sums.push(Sum { in_rsdp: true, at, start: 0, length });
        }
        Ok(tables)
    }

    fn place(&mut self, table: Vec<u8>) -> u64 {
        let at = self.bytes.len().next_multiple_of(ALIGNMENT as usize);
        self.bytes.resize(at, 0);
        self.bytes.extend(table);
        at as u64
    }

    /// Places a table with addresses in it.
    fn place_summed(&mut self, table: Vec<u8>) -> u64 {
        let length = table.len() as u64;
        let start = self.place(table);
        self.sums.push(Sum { in_rsdp: false, at: start + CHECKSUM, start, length });
        start
    }

    /// Makes the addresses those of tables whose first byte is at `base`.
    fn relocate(&mut self, base: u64) {
        for Pointer { in_rsdp, at, width } in self.pointers.clone() {
            let blob = if in_rsdp { &mut self.rsdp } else { &mut self.bytes };
            let field = &mut blob[at as usize..at as usize + usize::from(width)];
            let mut address = [0; 8];
            address[..field.len()].copy_from_slice(field);
            let address = u64::from_le_bytes(address) + base;
            field.copy_from_slice(&address.to_le_bytes()[..field.len()]);
        }
        for Sum { in_rsdp, at, start, length } in self.sums.clone() {
            let blob = if in_rsdp { &mut self.rsdp } else { &mut self.bytes };
            let covered = &blob[start as usize..(start + length) as usize];
            let sum = covered.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
            blob[at as usize] = blob[at as usize].wrapping_sub(sum);
        }
    }
}

/// The fixed power registers, where a device has them.
struct PowerBlock {
    port: u16,
    fixed: Fixed,
}

impl PowerBlock {
    fn find(manifests: &[&Manifest]) -> Result<Option<PowerBlock>, AcpiError> {
        let mut found = None;
        for manifest in manifests {
            let Some(fixed) = manifest.acpi.as_ref().and_then(|acpi| acpi.fixed) else { continue };
            let refuse = |why: &str| AcpiError::Manifest { device: manifest.name.clone(), why: why.to_owned() };
            let Some((Space::Port(port), length)) = manifest.ranges.first().map(|range| (range.space, range.length))
            else {
                return Err(refuse("ACPI's fixed registers are in its first range, which is not of ports"));
            };
            let blocks = [(fixed.event, EVENT_BYTES), (fixed.control, CONTROL_BYTES), (fixed.timer, TIMER_BYTES)];
            let inside = |(at, bytes): (u8, u8)| u64::from(at) + u64::from(bytes) <= length;
            if !blocks.into_iter().all(inside) || u64::from(port) + length > 1 << 16 {
                return Err(refuse("ACPI's fixed registers are not all in its first range"));
            }
            if !(3..=SCI_MAX).contains(&fixed.sci) {
                return Err(refuse("ACPI's interrupt is not one of 3 to 15"));
            }
            if fixed.sleep_type > 7 {
                return Err(refuse("a sleep type has three bits"));
            }
            if found.replace(PowerBlock { port, fixed }).is_some() {
                return Err(refuse("another device has ACPI's fixed registers already"));
            }
        }
        Ok(found)
    }

    /// The port of the register at `offset`.
    fn at(&self, offset: u8) -> u16 {
        self.port + u16::from(offset)
    }
}

fn dsdt(manifests: &[&Manifest], power: Option<&PowerBlock>) -> Result<Vec<u8>, AcpiError> {
    let mut dsdt = Sdt::new(*b"DSDT", HEADER_BYTES, DSDT_REVISION, OEM, OEM_TABLE, OEM_REVISION);
    let soft_off = power.map(|power| power.fixed.sleep_type);
    dsdt.append_slice(&namespace::describe(manifests, soft_off)?);
    Ok(dsdt.as_slice().to_vec())
}

fn fadt(manifests: &[&Manifest], power: Option<&PowerBlock>, facs: u64, dsdt: u64) -> acpi_tables::fadt::FADT {
    let acpi = || manifests.iter().filter_map(|manifest| manifest.acpi.as_ref());
    let answers = |port: u16| {
        manifests.iter().flat_map(|manifest| &manifest.ranges).any(|range| match range.space {
            Space::Port(first) => {
                (u64::from(first)..u64::from(first).saturating_add(range.length)).contains(&port.into())
            }
            _ => false,
        })
    };
    let mut boot_arch = acpi().fold(0, |bits, acpi| bits | acpi.boot_arch);
    boot_arch |= if answers(VGA_PORT) { 0 } else { VGA_NOT_PRESENT };
    boot_arch |= if answers(RTC_PORT) { 0 } else { RTC_NOT_PRESENT };

    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        // Caches work, and HLT is C1 on every processor. The power button is a fixed event where there are fixed
        // events; the sleep button and the clock's alarm are not among them, which their flags say when set (5.2.9,
        // table 5.10).
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::SlpButton)
        .flag(Flags::FixRtc);
    // Both widths name the same table; a 32-bit address is all it needs.
    fadt.dsdt = (dsdt as u32).into();
    fadt.x_dsdt = dsdt.into();
    fadt.firmware_ctrl = (facs as u32).into();
    fadt.p_lvl2_lat = NO_C2.into();
    fadt.p_lvl3_lat = NO_C3.into();
    fadt.iapc_boot_arch = boot_arch.into();
    fadt.century = acpi().map(|acpi| acpi.century).find(|century| *century != 0).unwrap_or(0);
    let Some(power) = power else {
        // Without the registers that every ACPI machine has, it must be one that says that it has none (4.1).
        return fadt.flag(Flags::HwReducedAcpi).flag(Flags::PwrButton).finalize();
    };
    let register = |port: u16, bytes: u8, access| GAS::new(AddressSpace::SystemIo, 8 * bytes, 0, access, port.into());
    let (event, control, timer) =
        (power.at(power.fixed.event), power.at(power.fixed.control), power.at(power.fixed.timer));
    // No SMI command port: ACPI mode is the only one (5.2.9).
    fadt.sci_int = u16::from(power.fixed.sci).into();
    fadt.pm1a_evt_blk = u32::from(event).into();
    fadt.pm1_evt_len = EVENT_BYTES;
    fadt.x_pm1a_evt_blk = register(event, EVENT_BYTES, AccessSize::WordAccess);
    fadt.pm1a_cnt_blk = u32::from(control).into();
    fadt.pm1_cnt_len = CONTROL_BYTES;
    fadt.x_pm1a_cnt_blk = register(control, CONTROL_BYTES, AccessSize::WordAccess);
    fadt.pm_tmr_blk = u32::from(timer).into();
    fadt.pm_tmr_len = TIMER_BYTES;
    fadt.x_pm_tmr_blk = register(timer, TIMER_BYTES, AccessSize::DwordAccess);
    fadt.finalize()
}

/// Interrupt controllers (5.2.12). Input `n` of the I/O APIC is interrupt `n`, that of the timer too, as KVM wires
/// them: only the system control interrupt differs from ISA, in being a level.
fn madt(cpus: u8, power: Option<&PowerBlock>) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(LOCAL_APIC.to_le_bytes());
    body.extend(PCAT_COMPAT.to_le_bytes());
    for cpu in 0..cpus {
        // Processor local APIC: ACPI and APIC identifiers, enabled (5.2.12.2).
        body.extend([0, 8, cpu, cpu, 1, 0, 0, 0]);
    }
    // I/O APIC: identifier, reserved, address, first interrupt (5.2.12.3).
    body.extend([1, 12, 0, 0]);
    body.extend(IO_APIC.to_le_bytes());
    body.extend(0_u32.to_le_bytes());
    if let Some(power) = power {
        // Interrupt source override: ISA, its number, its input, flags (5.2.12.5).
        let sci = power.fixed.sci;
        body.extend([2, 10, 0, sci]);
        body.extend(u32::from(sci).to_le_bytes());
        body.extend(LEVEL_HIGH.to_le_bytes());
    }
    // Local APIC NMI (5.2.12.7).
    body.extend([4, 6, ALL_PROCESSORS, 0, 0, LINT_NMI]);
    let mut madt = Sdt::new(*b"APIC", HEADER_BYTES, MADT_REVISION, OEM, OEM_TABLE, OEM_REVISION);
    madt.append_slice(&body);
    madt.as_slice().to_vec()
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests;
