//! How firmware is told to place ACPI tables: a script of allocations, addresses and checksums.
//!
//! Source: the format of `etc/table-loader` that SeaBIOS, OVMF and coreboot read, as QEMU's documentation of its ACPI support
//! describes it ("Bios tables linker/loader"). Commands have 128 bytes; numbers are little-endian.

use anyhow::{Result, ensure};
use vmm::acpi::{ALIGNMENT, Pointer, Sum, Tables};

/// The script, and the files that it names.
pub const LOADER: &str = "etc/table-loader";
pub const RSDP: &str = "etc/acpi/rsdp";
pub const TABLES: &str = "etc/acpi/tables";

const COMMAND_BYTES: usize = 128;
/// Bytes of a file's name in a command.
const NAME_BYTES: usize = 56;
/// Commands: allocate a file's memory, add a file's address to a number, make a checksum.
const ALLOCATE: u32 = 1;
const ADD_POINTER: u32 = 2;
const ADD_CHECKSUM: u32 = 3;
/// Where an allocation goes: anywhere, or in the segment below 1 MiB where the RSDP is looked for.
const ZONE_HIGH: u8 = 1;
const ZONE_LOW: u8 = 2;
/// The RSDP is looked for at multiples of this (ACPI 6.5, 5.2.5.1).
const RSDP_ALIGNMENT: u32 = 16;

/// The script for these tables.
pub fn loader(tables: &Tables) -> Result<Vec<u8>> {
    let mut script = Vec::new();
    let file = |in_rsdp| if in_rsdp { RSDP } else { TABLES };
    script.extend(Command::new(ALLOCATE).name(RSDP)?.number(RSDP_ALIGNMENT).byte(ZONE_LOW).finish());
    script.extend(Command::new(ALLOCATE).name(TABLES)?.number(ALIGNMENT as u32).byte(ZONE_HIGH).finish());
    for Pointer { in_rsdp, at, width } in &tables.pointers {
        let command = Command::new(ADD_POINTER).name(file(*in_rsdp))?.name(TABLES)?;
        script.extend(command.number(*at as u32).byte(*width).finish());
    }
    for Sum { in_rsdp, at, start, length } in &tables.sums {
        let command = Command::new(ADD_CHECKSUM).name(file(*in_rsdp))?;
        script.extend(command.number(*at as u32).number(*start as u32).number(*length as u32).finish());
    }
    Ok(script)
}

/// One command, its fields in order.
struct Command(Vec<u8>);

impl Command {
    fn new(kind: u32) -> Command {
        Command(kind.to_le_bytes().to_vec())
    }

    fn name(mut self, name: &str) -> Result<Command> {
        ensure!(name.len() < NAME_BYTES, "the name {name} of a table's file is too long");
        let end = self.0.len() + NAME_BYTES;
        self.0.extend(name.as_bytes());
        self.0.resize(end, 0);
        Ok(self)
    }

    fn number(mut self, number: u32) -> Command {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn byte(mut self, byte: u8) -> Command {
        self.0.push(byte);
        self
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.resize(COMMAND_BYTES, 0);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
        bytes[at..at + width].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    fn name(command: &[u8], at: usize) -> String {
        String::from_utf8(command[at..at + NAME_BYTES].iter().copied().take_while(|byte| *byte != 0).collect()).unwrap()
    }

    /// Firmware in miniature: does what the script says, and gives the files with their addresses.
    fn carry_out(script: &[u8], files: &BTreeMap<&str, Vec<u8>>) -> BTreeMap<String, (u64, Vec<u8>)> {
        let mut placed: BTreeMap<String, (u64, Vec<u8>)> = BTreeMap::new();
        for command in script.chunks_exact(COMMAND_BYTES) {
            let file = name(command, 4);
            match number(command, 0, 4) {
                1 => {
                    let base = if command[64] == ZONE_LOW { 0xf_5a00 } else { 0x7fe_0040 };
                    assert_eq!(base % number(command, 60, 4), 0);
                    placed.insert(file.clone(), (base, files[file.as_str()].clone()));
                }
                2 => {
                    let base = placed[&name(command, 60)].0;
                    let (at, width) = (number(command, 116, 4) as usize, command[120] as usize);
                    let bytes = &mut placed.get_mut(&file).unwrap().1;
                    let address = number(bytes, at, width) + base;
                    bytes[at..at + width].copy_from_slice(&address.to_le_bytes()[..width]);
                }
                3 => {
                    let [at, start, length] = [60, 64, 68].map(|at| number(command, at, 4) as usize);
                    let bytes = &mut placed.get_mut(&file).unwrap().1;
                    let sum = bytes[start..start + length].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
                    bytes[at] = bytes[at].wrapping_sub(sum);
                }
                other => panic!("command {other}"),
            }
        }
        placed
    }

    #[test]
    fn every_table_is_found_from_the_root_once_the_script_is_carried_out() {
        let tables = Tables::describe(2, &[]).unwrap();
        let script = loader(&tables).unwrap();
        let files = BTreeMap::from([(RSDP, tables.rsdp.clone()), (TABLES, tables.bytes.clone())]);
        let placed = carry_out(&script, &files);
        let (_, rsdp) = &placed[RSDP];
        let (base, bytes) = &placed[TABLES];
        let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!((sum(&rsdp[..20]), sum(rsdp)), (0, 0));
        let table = |address: u64, signature: &[u8]| {
            let at = (address - base) as usize;
            let length = number(bytes, at + 4, 4) as usize;
            let table = &bytes[at..at + length];
            assert_eq!(&table[..4], signature);
            if signature != b"FACS" {
                assert_eq!(sum(table), 0, "{signature:?}");
            }
            table
        };
        let xsdt = table(number(rsdp, 24, 8), b"XSDT");
        let fadt = table(number(xsdt, 36, 8), b"FACP");
        table(number(xsdt, 44, 8), b"APIC");
        table(number(fadt, 36, 4), b"FACS");
        table(number(fadt, 40, 4), b"DSDT");
        assert_eq!(number(fadt, 140, 8), number(fadt, 40, 4));
    }
}
