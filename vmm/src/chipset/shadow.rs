//! Memory and firmware as processors find them: guest memory, the firmware's ROM that ends at 4 GiB, and below 1 MiB one in
//! the place of the other, as the attribute maps say.
//!
//! Where KVM can show a processor what it is to find, it does, and nothing here is asked: memory, or read-only memory. The rest
//! comes as an exit, and a machine without KVM asks for every access: [`Shadow::load`] and [`Shadow::store`] know all of it.

use super::pam::{self, Attribute, REGISTERS, SEGMENTS};
use crate::kvm::{KvmError, Owner, Slot, Slots};
use crate::lock;
use crate::memory::{BUS_WINDOW, GuestRam, Piece, SHADOW};
use imc::Mapping;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

/// The firmware's ROM ends here.
const ROM_END: u64 = 1 << 32;
/// Most bytes of a ROM: what lies below 4 GiB and above KVM's own pages.
pub const ROM_MAX: u64 = 16 << 20;
/// A ROM is a multiple of this: the last segment is never half of it.
pub const ROM_UNIT: u64 = 64 << 10;
/// Bytes of the ROM's end that are found below 1 MiB too (82371SB, "extended BIOS": E0000 to FFFFF).
const LOW_ROM_BYTES: u64 = 128 << 10;

/// What the processors see of memory and ROM.
pub struct Shadow {
    ram: GuestRam,
    rom: Option<Arc<Mapping>>,
    slots: Option<Slots>,
    state: Mutex<State>,
}

struct State {
    attributes: [Attribute; SEGMENTS],
    shown: Vec<(Run, Slot)>,
}

/// Neighbouring addresses that are shown alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    base: u64,
    bytes: u64,
    /// The ROM rather than memory.
    rom: bool,
    writable: bool,
}

impl Shadow {
    /// Guest memory with a ROM, shown in `slots` if there are some. With a ROM, loads below 1 MiB begin as its; without one, as
    /// memory's.
    pub fn new(ram: GuestRam, rom: Option<Arc<Mapping>>, slots: Option<Slots>) -> Result<Shadow, KvmError> {
        if let Some(slots) = &slots {
            slots.show_ram(&ram)?;
            if let Some(rom) = &rom {
                slots.show_mapping(ROM_END - rom.len() as u64, rom.len() as u64, rom)?;
            }
        }
        let registers = Shadow::at_reset(rom.is_some());
        let state = Mutex::new(State { attributes: pam::attributes(&registers), shown: Vec::new() });
        let shadow = Shadow { ram, rom, slots, state };
        shadow.set(&registers)?;
        Ok(shadow)
    }

    /// The attribute maps of a machine that starts from a ROM, and of one that is started as firmware would leave it.
    pub const fn at_reset(rom: bool) -> [u8; REGISTERS] {
        if rom { [0; REGISTERS] } else { pam::ALL_MEMORY }
    }

    /// Guest memory, whatever processors see of it.
    pub fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// The attribute maps are these from now on.
    pub fn set(&self, registers: &[u8; REGISTERS]) -> Result<(), KvmError> {
        let mut state = lock(&self.state);
        state.attributes = pam::attributes(registers);
        let Some(slots) = &self.slots else { return Ok(()) };
        let wanted = self.runs(&state.attributes);
        // What stays is not touched: another processor may be running there.
        let (stay, go): (Vec<_>, Vec<_>) = state.shown.drain(..).partition(|(run, _)| wanted.contains(run));
        state.shown = stay;
        for (_, slot) in go {
            slots.hide(slot)?;
        }
        for run in wanted {
            if !state.shown.iter().any(|(shown, _)| *shown == run) {
                let slot = self.show(slots, run)?;
                state.shown.push((run, slot));
            }
        }
        Ok(())
    }

    /// What KVM can show of these attributes: memory or ROM that answers loads.
    fn runs(&self, attributes: &[Attribute; SEGMENTS]) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for (index, attribute) in attributes.iter().enumerate() {
            let range = pam::segment(index);
            let rom = !attribute.loads;
            let there = if rom { self.rom_offset(range.start).is_some() } else { self.ram_at(range.end - 1).is_some() };
            if !there {
                continue;
            }
            let run = Run {
                base: range.start,
                bytes: range.end - range.start,
                rom,
                writable: attribute.loads && attribute.stores,
            };
            match runs.last_mut() {
                Some(last)
                    if last.base + last.bytes == run.base && (last.rom, last.writable) == (run.rom, run.writable) =>
                {
                    last.bytes += run.bytes;
                }
                _ => runs.push(run),
            }
        }
        runs
    }

    fn show(&self, slots: &Slots, run: Run) -> Result<Slot, KvmError> {
        let (start, owner) = match (&self.rom, self.rom_offset(run.base)) {
            (Some(rom), Some(offset)) if run.rom => {
                (rom.as_ptr().wrapping_add(offset), Owner::Mapping(Arc::clone(rom)))
            }
            _ => (self.ram_at(run.base).unwrap_or(std::ptr::null_mut()), Owner::Ram(self.ram.clone())),
        };
        slots.show(Piece { base: run.base, bytes: run.bytes, start }, run.writable, owner)
    }

    fn ram_at(&self, address: u64) -> Option<*mut u8> {
        self.ram.get_host_address(GuestAddress(address)).ok()
    }

    /// Which byte of the ROM is found at `address`, at either of its places.
    fn rom_offset(&self, address: u64) -> Option<usize> {
        let bytes = self.rom.as_ref()?.len() as u64;
        let from_end = match address {
            address if (SHADOW.end - bytes.min(LOW_ROM_BYTES)..SHADOW.end).contains(&address) => SHADOW.end - address,
            address if (ROM_END - bytes..ROM_END).contains(&address) => ROM_END - address,
            _ => return None,
        };
        Some((bytes - from_end) as usize)
    }

    /// A load of `width` bytes, at most eight. `None`: it is the bus's.
    pub fn load(&self, address: u64, width: u8) -> Option<u64> {
        let mut bytes = [0xff; 8];
        let width = usize::from(width).min(bytes.len());
        for (byte, address) in bytes[..width].iter_mut().zip(covered(address, width)?) {
            *byte = self.load_byte(address)?;
        }
        bytes[width..].fill(0);
        Some(u64::from_le_bytes(bytes))
    }

    fn load_byte(&self, address: u64) -> Option<u8> {
        let of_rom = || {
            let mut byte = [0];
            self.rom.as_ref()?.read(self.rom_offset(address)?, &mut byte);
            Some(byte[0])
        };
        match pam::segment_of(address) {
            // Where there is no ROM either, nobody drives the bus.
            Some(segment) if !lock(&self.state).attributes[segment].loads => Some(of_rom().unwrap_or(0xff)),
            None if BUS_WINDOW.contains(&address) => None,
            _ => self.ram.read_obj(GuestAddress(address)).ok().or_else(of_rom),
        }
    }

    /// A store of `width` bytes, at most eight. False: it is the bus's.
    pub fn store(&self, address: u64, width: u8, value: u64) -> bool {
        let bytes = value.to_le_bytes();
        let width = usize::from(width).min(bytes.len());
        let Some(addresses) = covered(address, width) else { return false };
        bytes[..width].iter().zip(addresses).all(|(byte, address)| self.store_byte(address, *byte))
    }

    fn store_byte(&self, address: u64, byte: u8) -> bool {
        match pam::segment_of(address) {
            Some(segment) if !lock(&self.state).attributes[segment].stores => true,
            None if BUS_WINDOW.contains(&address) => false,
            _ => self.ram.write_obj(byte, GuestAddress(address)).is_ok() || self.rom_offset(address).is_some(),
        }
    }
}

/// The addresses of an access. `None`: it reaches around the end of all addresses, where nothing is.
fn covered(address: u64, width: usize) -> Option<RangeInclusive<u64>> {
    let last = address.checked_add((width as u64).saturating_sub(1))?;
    Some(address..=last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::ram;

    /// A ROM whose every byte says which of its 64 KiB it is in.
    fn rom(bytes: u64) -> Arc<Mapping> {
        let content: Vec<u8> = (0..bytes).map(|at| (at / ROM_UNIT) as u8 + 1).collect();
        Arc::new(imc::Region::freeze("cofferdam:rom", &content).unwrap().map().unwrap())
    }

    fn shadow(rom_bytes: u64) -> Shadow {
        Shadow::new(ram(2 << 20), Some(rom(rom_bytes)), None).unwrap()
    }

    /// All segments as one says.
    fn all(bits: u8) -> [u8; REGISTERS] {
        [bits << 4 | bits; REGISTERS]
    }

    #[test]
    fn access_around_the_end_of_all_addresses_is_nobodys() {
        let shadow = shadow(64 << 10);
        for (address, width) in [(u64::MAX, 1), (u64::MAX, 2), (u64::MAX - 3, 8), (u64::MAX - 7, 8)] {
            assert_eq!(shadow.load(address, width), None);
            assert!(!shadow.store(address, width, 0));
        }
    }

    #[test]
    fn rom_is_found_at_the_end_of_four_gib_and_below_one_mib() {
        let shadow = shadow(256 << 10);
        for (address, byte) in
            [(ROM_END - 1, 4), (ROM_END - (256 << 10), 1), (0xf_0000, 4), (0xe_ffff, 3), (0xe_0000, 3)]
        {
            assert_eq!(shadow.load(address, 1), Some(byte), "{address:#x}");
        }
        assert_eq!(shadow.load(0xd_fff8, 8), Some(u64::MAX), "no ROM is there, and nobody else");
        assert_eq!(shadow.load(ROM_END - (256 << 10) - 1, 1), None);
        assert!(shadow.store(ROM_END - 4, 4, 0), "taken and forgotten");
        assert_eq!(shadow.load(ROM_END - 4, 4), Some(0x0404_0404));
    }

    #[test]
    fn small_rom_is_not_repeated() {
        let shadow = shadow(64 << 10);
        assert_eq!(shadow.load(0xf_0000, 1), Some(1));
        assert_eq!(shadow.load(0xe_ffff, 1), Some(0xff));
    }

    #[test]
    fn each_attribute_is_what_the_data_sheet_says() {
        let shadow = shadow(128 << 10);
        let at = 0xf_8000;
        shadow.ram().write_obj(0x55_u8, GuestAddress(at)).unwrap();
        let step = |bits, stored: u8| {
            shadow.set(&all(bits)).unwrap();
            let before = shadow.load(at, 1).unwrap();
            assert!(shadow.store(at, 1, stored.into()));
            (before, shadow.ram().read_obj::<u8>(GuestAddress(at)).unwrap())
        };
        assert_eq!(step(0b00, 1), (2, 0x55), "the ROM's, and stores are lost");
        assert_eq!(step(0b10, 2), (2, 2), "loads of the ROM, stores to memory");
        assert_eq!(step(0b01, 3), (2, 2), "memory, and stores are lost");
        assert_eq!(step(0b11, 4), (2, 4), "memory");
        assert_eq!(shadow.load(at, 1), Some(4));
    }

    #[test]
    fn equal_neighbours_are_shown_as_one() {
        let shadow = shadow(128 << 10);
        let runs = |registers| shadow.runs(&pam::attributes(&registers));
        let run = |base, bytes, rom, writable| Run { base, bytes, rom, writable };
        assert_eq!(runs(pam::ALL_MEMORY), [run(0xc_0000, 0x4_0000, false, true)]);
        assert_eq!(runs([0; REGISTERS]), [run(0xe_0000, 0x2_0000, true, false)]);
        assert_eq!(
            runs([0x10, 0x33, 0, 0, 0, 0, 0x11]),
            [
                run(0xc_0000, 0x8000, false, true),
                run(0xe_0000, 0x8000, true, false),
                run(0xe_8000, 0x1_8000, false, false),
            ]
        );
        // Stores to memory beneath a ROM: the kernel shows the ROM, the stores are exits.
        assert_eq!(runs([0x20, 0x20, 0, 0, 0, 0, 0]), [run(0xe_0000, 0x2_0000, true, false)]);
    }

    #[test]
    fn display_window_is_the_bus_s_and_memory_s_end_is_its_end() {
        let shadow = shadow(64 << 10);
        assert_eq!(shadow.load(0xa_0000, 1), None);
        assert_eq!(shadow.load(0x9_ffff, 2), None, "partly the bus's");
        assert!(!shadow.store(0xb_fff8, 8, 0));
        assert_eq!(shadow.load((2 << 20) - 1, 1), Some(0));
        assert_eq!(shadow.load(2 << 20, 1), None);
    }

    #[test]
    fn without_firmware_there_is_memory_everywhere() {
        let shadow = Shadow::new(ram(2 << 20), None, None).unwrap();
        assert!(shadow.store(0xf_fff0, 8, 7));
        assert_eq!(shadow.load(0xf_fff0, 8), Some(7));
        shadow.set(&[0; REGISTERS]).unwrap();
        assert_eq!(shadow.load(0xf_fff0, 1), Some(0xff));
    }
}
