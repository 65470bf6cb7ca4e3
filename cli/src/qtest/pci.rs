//! The PCI bus as its configuration ports tell of it (PCI Local Bus 3.0, 3.2.2.3.2 and chapter 6), for who asks a monitor.

use anyhow::Result;
use schema::vmm::Drive;
use serde_json::{Value, json};

/// The ports of configuration mechanism 1.
const ADDRESS: u64 = 0xcf8;
const DATA: u64 = 0xcfc;
const ENABLE: u32 = 1 << 31;
const SLOTS: u8 = 32;
const FUNCTIONS: u8 = 8;
/// What a place without a function reads as.
const ABSENT: u32 = u32::MAX;

/// Registers of a header (6.1), by their first byte.
const COMMAND: u8 = 0x04;
const BARS: [u8; 6] = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24];
/// Header registers of 32 bits.
const HEADER: usize = 16;
/// Which of them say what: class; header type; subsystem; interrupt.
const CLASS_AT: usize = 2;
const TYPE_AT: usize = 3;
const SUBSYSTEM_AT: usize = 11;
const INTERRUPT_AT: usize = 15;
const MULTIPLE: u32 = 1 << 23;
/// Bits of the command register that have a function answer; the status register beside it clears what is written as one.
const DECODES_PORTS: u32 = 1 << 0;
const DECODES_MEMORY: u32 = 1 << 1;
const COMMAND_BITS: u32 = 0xffff;
/// Bits of a base address register that are no address (6.2.5.1).
const IS_PORT: u32 = 1 << 0;
const PORT_BITS: u32 = 0x3;
const MEMORY_BITS: u32 = 0xf;
const IS_WIDE: u32 = 0x4;
const CAN_PREFETCH: u32 = 0x8;

/// A function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    slot: u8,
    function: u8,
    header: [u32; HEADER],
    /// What its base address registers read as after ones were stored; the registers themselves are in the header.
    sizes: [u32; BARS.len()],
}

/// All of them. `access` makes an access to a port.
pub fn functions(access: &mut dyn FnMut(Drive) -> Result<u32>) -> Result<Vec<Function>> {
    let mut port = |write, address, value| access(Drive { write, port: true, address, width: 4, value });
    let kept = port(false, ADDRESS, 0)?;
    let mut found = Vec::new();
    for slot in 0..SLOTS {
        for function in 0..FUNCTIONS {
            let mut register = |at: u8, value: Option<u32>| {
                let place = ENABLE | u32::from(slot) << 11 | u32::from(function) << 8 | u32::from(at);
                port(true, ADDRESS, place.into())?;
                port(value.is_some(), DATA, value.unwrap_or(0).into())
            };
            if register(0, None)? == ABSENT {
                if function == 0 {
                    break;
                }
                continue;
            }
            let mut header = [0; HEADER];
            for (at, content) in header.iter_mut().enumerate() {
                *content = register(4 * at as u8, None)?;
            }
            let command = header[usize::from(COMMAND / 4)] & COMMAND_BITS;
            register(COMMAND, Some(command & !(DECODES_PORTS | DECODES_MEMORY)))?;
            let mut sizes = [0; BARS.len()];
            for (at, size) in BARS.into_iter().zip(&mut sizes) {
                register(at, Some(u32::MAX))?;
                *size = register(at, None)?;
                register(at, Some(header[usize::from(at / 4)]))?;
            }
            register(COMMAND, Some(command))?;
            let is_single = header[TYPE_AT] & MULTIPLE == 0;
            found.push(Function { slot, function, header, sizes });
            if function == 0 && is_single {
                break;
            }
        }
    }
    port(true, ADDRESS, kept.into())?;
    Ok(found)
}

/// As `query-pci` has them.
pub fn shown(functions: &[Function]) -> Value {
    json!([{ "bus": 0, "devices": functions.iter().map(Function::shown).collect::<Vec<_>>() }])
}

impl Function {
    fn shown(&self) -> Value {
        let halves = |at: usize| (self.header[at] & 0xffff, self.header[at] >> 16);
        let (vendor, device) = halves(0);
        let (subsystem_vendor, subsystem) = halves(SUBSYSTEM_AT);
        let [line, pin, ..] = self.header[INTERRUPT_AT].to_le_bytes();
        let mut shown = json!({
            "bus": 0, "slot": self.slot, "function": self.function, "qdev_id": "", "irq_pin": pin,
            "class_info": { "class": self.header[CLASS_AT] >> 16 },
            "id": { "vendor": vendor, "device": device },
            "regions": self.regions(),
        });
        if pin != 0 {
            shown["irq"] = line.into();
        }
        if (subsystem_vendor, subsystem) != (0, 0) {
            shown["id"]["subsystem-vendor"] = subsystem_vendor.into();
            shown["id"]["subsystem"] = subsystem.into();
        }
        shown
    }

    /// What its base address registers decode. One whose space is off is nowhere.
    fn regions(&self) -> Vec<Value> {
        let command = self.header[usize::from(COMMAND / 4)];
        let mut regions = Vec::new();
        let mut number = 0;
        while number < BARS.len() {
            let (base, size) = (self.header[usize::from(BARS[number] / 4)], self.sizes[number]);
            let is_port = size & IS_PORT != 0;
            let is_wide = !is_port && size & IS_WIDE != 0 && number + 1 < BARS.len();
            let upper = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
            let (base, mask) = match (is_port, is_wide) {
                (true, _) => (u64::from(base & !PORT_BITS), u64::from(size & !PORT_BITS) | !u64::from(u16::MAX)),
                (false, false) => (u64::from(base & !MEMORY_BITS), upper(size & !MEMORY_BITS, u32::MAX)),
                (false, true) => (
                    upper(base & !MEMORY_BITS, self.header[usize::from(BARS[number + 1] / 4)]),
                    upper(size & !MEMORY_BITS, self.sizes[number + 1]),
                ),
            };
            if size != 0 {
                let decodes = command & if is_port { DECODES_PORTS } else { DECODES_MEMORY } != 0 && base != 0;
                let mut region = json!({
                    "bar": number, "type": if is_port { "io" } else { "memory" }, "size": (!mask).wrapping_add(1),
                    "address": if decodes { json!(base) } else { json!(-1) },
                });
                if !is_port {
                    region["prefetch"] = (size & CAN_PREFETCH != 0).into();
                    region["mem_type_64"] = is_wide.into();
                }
                regions.push(region);
            }
            number += 1 + usize::from(is_wide);
        }
        regions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bus with one function in slot 3, whose second register decodes 256 ports and whose third 4 KiB of memory.
    #[derive(Default)]
    struct Bus {
        address: u32,
        registers: std::collections::BTreeMap<u32, u32>,
    }

    impl Bus {
        fn access(&mut self, access: Drive) -> u32 {
            let value = access.value as u32;
            if access.address == ADDRESS {
                self.address = if access.write { value } else { self.address };
                return self.address;
            }
            let (place, at) = (self.address & 0x00ff_ff00, self.address & 0xfc);
            if place != 3 << 11 {
                return ABSENT;
            }
            if access.write {
                let writable = match at {
                    0x04 => 0x0007,
                    0x14 => 0xffff_ff00,
                    0x18 => 0xffff_f000,
                    _ => 0,
                };
                let kept = self.registers.get(&at).copied().unwrap_or(0);
                self.registers.insert(at, kept & !writable | value & writable);
            }
            self.registers.get(&at).copied().unwrap_or(0)
        }
    }

    #[test]
    fn a_bus_is_told_with_what_is_nowhere_and_left_as_it_was() {
        let registers = [
            (0, 0x8139_10ec),
            (0x04, 0x0001),
            (0x08, 0x0200_0020),
            (0x14, 0xc001),
            (0x18, 0xfe00_0000),
            (0x3c, 0x010b),
        ];
        let mut bus = Bus { address: 0x8000_1904, registers: registers.into_iter().collect() };
        let before = bus.registers.clone();
        let found = functions(&mut |access| Ok(bus.access(access))).unwrap();
        assert_eq!(
            (bus.address, &bus.registers),
            (0x8000_1904, &before.into_iter().chain([(0x10, 0), (0x1c, 0), (0x20, 0), (0x24, 0)]).collect())
        );
        let told = shown(&found);
        let one = &told[0]["devices"][0];
        assert_eq!(told[0]["devices"].as_array().map(Vec::len), Some(1));
        assert_eq!((&one["slot"], &one["irq"], &one["irq_pin"]), (&json!(3), &json!(11), &json!(1)));
        assert_eq!(
            (&one["id"], &one["class_info"]["class"]),
            (&json!({ "vendor": 0x10ec, "device": 0x8139 }), &json!(0x200))
        );
        let regions = json!([
            { "bar": 1, "type": "io", "address": 0xc000, "size": 256 },
            { "bar": 2, "type": "memory", "address": -1, "size": 4096, "prefetch": false, "mem_type_64": false },
        ]);
        assert_eq!(one["regions"], regions);
    }
}
