//! PCI configuration (PCI Local Bus 3.0, chapter 6): one bus, a host bridge in slot 0, an ISA bridge in slot 1 with the functions
//! that declare to be beside it, one function in each slot after them.
//!
//! Configuration space is the VMM's, made of the manifest; a device never sees it. What a store changes outside of it
//! comes back as [`Effect`]s, which the machine carries out.
//!
//! A function's base address registers are decoded where the host bridge forwards ([`MEMORY_WINDOW`], [`PORT_WINDOW`]).
//! Of two that want the same place the one that is there stays; the other is mapped as soon as the place is free.

mod function;

use crate::bus::{Space, Target};
use crate::chipset::pam;
use crate::irq::{PIRQ_GSI, PIRQS};
use function::Function;
use schema::manifest::{Manifest, Pci as Identity};
use std::ops::Range;

/// First port of configuration mechanism 1 (3.2.2.3.2); [`Pci::read`] and [`Pci::write`] count from here.
pub const CONFIG_PORT: u16 = 0xcf8;
/// Its ports: four of address, four of data.
pub const CONFIG_PORTS: u64 = 8;
/// Guest addresses that the host bridge forwards.
pub const MEMORY_WINDOW: Range<u64> = 0xc000_0000..0xfec0_0000;
/// Ports that functions may occupy. The bridge forwards lower ones too, to devices with fixed ports.
pub const PORT_WINDOW: Range<u64> = 0xd00..0x1_0000;
/// Where preassigned ports begin: above what fixed devices and operating systems' own ideas of ISA use.
const FIRST_PORT: u64 = 0xc000;
/// Slots of a bus (3.2.2.3.4).
pub const SLOTS: u8 = 32;
/// The first slot of a device: after the bridges.
pub const FIRST_SLOT: u8 = 2;
/// Of the ISA bridge.
const ISA_SLOT: u8 = 1;
/// Functions of a slot (3.2.2.3.4).
const FUNCTIONS: u8 = 8;
const HOST_BRIDGE: Position = Position { slot: 0, function: 0 };
const ISA_BRIDGE: Position = Position { slot: ISA_SLOT, function: 0 };
/// The reset control register, among the ports of the mechanism (82371SB, "RC: reset control register", port CF9).
const RESET_OFFSET: u64 = 1;
/// Its bit that resets the processor when it rises, and the one that makes that a reset of everything, as it always is here.
const RESET_CPU: u8 = 1 << 2;
const RESET_HARD: u8 = 1 << 1;
/// PIRQ route control registers in the ISA bridge (82371SB, "PIRQRCA" to "PIRQRCD"): an input of the 8259s, unless the top bit is set.
const ROUTES: usize = 0x60;
const ROUTE_OFF: u8 = 1 << 7;
const ROUTE_INPUT: u8 = 0x0f;

/// Enables mechanism 1 in the address register.
const ENABLE: u32 = 1 << 31;
/// Bits of the address register that can be stored (3.2.2.3.2).
const ADDRESS_BITS: u32 = ENABLE | 0x00ff_fffc;

/// What a store to configuration space changes outside of it. They are in the order in which they are to be carried
/// out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// `target` answers at `base` no more. A doorbell in it is a doorbell no more.
    Unmap {
        /// A device's range, or its vectors.
        target: Target,
        /// Address space.
        space: Space,
        /// First address.
        base: u64,
        /// Bytes.
        length: u64,
    },
    /// `target` answers at `base` from now on.
    Map {
        /// A device's range, or its vectors.
        target: Target,
        /// Address space.
        space: Space,
        /// First address.
        base: u64,
        /// Bytes.
        length: u64,
    },
    /// MSI-X control changed (6.8.2.3).
    Vectors {
        /// Number of the device in this VM.
        device: u8,
        /// MSI-X Enable.
        enabled: bool,
        /// Function Mask.
        masked: bool,
    },
    /// The command register's Interrupt Disable bit changed (6.2.2).
    InterruptDisable {
        /// Number of the device in this VM.
        device: u8,
        /// The function may not assert its pin.
        disabled: bool,
    },
    /// The host bridge's attribute maps changed.
    Shadow([u8; pam::REGISTERS]),
    /// An interrupt of the bus was routed to another input of the 8259s, or to none.
    Route {
        /// 0 is PIRQA.
        pirq: usize,
        /// The input.
        input: Option<u8>,
    },
    /// The machine is to be reset.
    Reset,
}

/// Which of the ISA bridge's interrupts a pin of `slot` is wired to; 1 is INTA. The slots take turns, beginning with PIRQA for
/// INTA of the ISA bridge, as firmware for this chipset expects it.
pub const fn pirq_of(slot: u8, pin: u8) -> usize {
    (slot as usize + pin as usize + 2) % PIRQS
}

/// The I/O APIC's input that a pin of `slot` is wired to.
pub const fn gsi_of(slot: u8, pin: u8) -> u32 {
    PIRQ_GSI + pirq_of(slot, pin) as u32
}

/// The bus with its configuration ports.
#[derive(Debug, Clone)]
pub struct Pci {
    /// The address register.
    address: u32,
    reset_control: u8,
    host_bridge: Function,
    isa_bridge: Function,
    /// What the machine has been told of the bridges' registers.
    told: Bridges,
    /// Each with its place.
    functions: Vec<(Position, Function)>,
    /// Where the next base addresses are assigned.
    free: Free,
}

/// Where a function is on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    slot: u8,
    function: u8,
}

/// Registers of the bridges that the machine carries out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bridges {
    pam: [u8; pam::REGISTERS],
    routes: [Option<u8>; PIRQS],
}

/// What is left of the windows.
#[derive(Debug, Clone, Copy)]
struct Free {
    memory: u64,
    ports: u64,
}

impl Free {
    /// Takes `size` bytes, a power of two, aligned to their size.
    fn take(&mut self, space: Space, size: u64) -> Option<u64> {
        let (next, end) = match space {
            Space::Memory => (&mut self.memory, MEMORY_WINDOW.end),
            Space::Port => (&mut self.ports, PORT_WINDOW.end),
        };
        let base = next.checked_next_multiple_of(size)?;
        let after = base.checked_add(size).filter(|after| *after <= end)?;
        *next = after;
        Some(base)
    }
}

impl Pci {
    /// A bus with its bridges, the host bridge's attribute maps as given.
    pub fn new(pam: [u8; pam::REGISTERS]) -> Pci {
        let free = Free { memory: MEMORY_WINDOW.start, ports: FIRST_PORT };
        Pci {
            address: 0,
            reset_control: 0,
            host_bridge: Function::host_bridge(pam),
            isa_bridge: Function::isa_bridge(),
            told: Bridges { pam, routes: [None; PIRQS] },
            functions: Vec::new(),
            free,
        }
    }

    /// Puts a device into the next slot, or beside the ISA bridge if it is made for that, its base addresses assigned and its decoding off, as firmware leaves a device
    /// that it does not boot from. A device without a PCI identity is left alone. A manifest that makes no sense is
    /// refused in a sentence, and the bus stays as it was.
    pub fn add(&mut self, device: u8, manifest: &Manifest) -> Result<(), String> {
        self.add_at(device, manifest, None)
    }

    /// The same, into this slot if one is given.
    pub fn add_at(&mut self, device: u8, manifest: &Manifest, slot: Option<u8>) -> Result<(), String> {
        let Some(identity) = &manifest.pci else { return Ok(()) };
        let name = &manifest.name;
        let place = self.place(identity, slot).map_err(|why| format!("{name}: {why}"))?;
        let mut free = self.free;
        let function = Function::new(device, manifest, identity, place.slot, |space, size| free.take(space, size))
            .map_err(|why| format!("{name}: {why}"))?;
        if place.slot == ISA_SLOT && function.pin().is_some() {
            return Err(format!("{name}: a function beside the ISA bridge has no pin of the bus"));
        }
        self.functions.push((place, function));
        self.free = free;
        Ok(())
    }

    /// Where the next function goes.
    fn place(&self, identity: &Identity, slot: Option<u8>) -> Result<Position, String> {
        if identity.bridge_function > 0 {
            let place = Position { slot: ISA_SLOT, function: identity.bridge_function };
            return match identity.bridge_function {
                FUNCTIONS.. => Err(format!("a slot has no function {}", place.function)),
                _ if self.at(place).is_some() => {
                    Err(format!("function {} of the ISA bridge is there already", place.function))
                }
                _ => Ok(place),
            };
        }
        let is_free = |slot: &u8| self.functions.iter().all(|(place, _)| place.slot != *slot);
        let mut free = (FIRST_SLOT..SLOTS).filter(is_free);
        let place = |slot| Position { slot, function: 0 };
        match slot {
            None => free.next().map(place).ok_or_else(|| format!("all {} PCI slots are taken", SLOTS - FIRST_SLOT)),
            Some(slot) => free.find(|free| *free == slot).map(place).ok_or_else(|| {
                format!("PCI slot {slot} is taken, or none: give one from {FIRST_SLOT} to {}", SLOTS - 1)
            }),
        }
    }

    /// The slot of a device, if it is a PCI function.
    pub fn slot_of(&self, device: u8) -> Option<u8> {
        self.functions.iter().find(|(_, function)| function.device() == Some(device)).map(|(place, _)| place.slot)
    }

    /// The I/O APIC's input of a device's pin, if it is a PCI function with one.
    pub fn gsi_of(&self, device: u8) -> Option<u32> {
        let slot = self.slot_of(device)?;
        let (_, function) = self.functions.iter().find(|(_, function)| function.device() == Some(device))?;
        Some(gsi_of(slot, function.pin()?))
    }

    /// A load of `width` bytes at `offset` from [`CONFIG_PORT`]. `asserted` tells whether a device asserts its pin, for
    /// the status register's Interrupt Status bit.
    ///
    /// The address register is one only for loads of four bytes; anything smaller there, and whatever has no function,
    /// is ones (3.2.2.3.2).
    pub fn read(&self, offset: u64, width: u8, asserted: impl Fn(u8) -> bool) -> u64 {
        let ones = u64::MAX >> (64 - 8 * u32::from(width.clamp(1, 8)));
        match (offset, width) {
            (0, 4) => u64::from(self.address),
            (RESET_OFFSET, 1) => self.reset_control.into(),
            _ => self.data_register(offset, width).map_or(ones, |register| {
                let Some(function) = self.selected() else { return ones };
                u64::from(function.read(register, width, asserted))
            }),
        }
    }

    /// A store of `width` bytes at `offset` from [`CONFIG_PORT`].
    #[must_use]
    pub fn write(&mut self, offset: u64, width: u8, value: u64) -> Vec<Effect> {
        if (offset, width) == (0, 4) {
            self.address = value as u32 & ADDRESS_BITS;
            return Vec::new();
        }
        if (offset, width) == (RESET_OFFSET, 1) {
            let before = std::mem::replace(&mut self.reset_control, value as u8 & (RESET_CPU | RESET_HARD));
            let rises = self.reset_control & !before & RESET_CPU != 0;
            return if rises { vec![Effect::Reset] } else { Vec::new() };
        }
        let Some(register) = self.data_register(offset, width) else { return Vec::new() };
        let Some(function) = self.selected_mut() else { return Vec::new() };
        let changed = function.write(register, width, value as u32);
        if !changed {
            return Vec::new();
        }
        let mut effects = Vec::new();
        // Everything leaves the bus before anything takes its place.
        for (_, function) in &mut self.functions {
            function.unmap(&mut effects);
        }
        for index in 0..self.functions.len() {
            for (bar, wanted) in self.functions[index].1.wanted() {
                if !self.functions.iter().any(|(_, other)| other.occupies(&wanted)) {
                    self.functions[index].1.map(bar, &wanted, &mut effects);
                }
            }
        }
        for (_, function) in &mut self.functions {
            function.controls(&mut effects);
        }
        self.bridges(&mut effects);
        effects
    }

    /// Tells what became of the bridges' registers.
    fn bridges(&mut self, effects: &mut Vec<Effect>) {
        let routes = self.isa_bridge.bytes::<PIRQS>(ROUTES);
        let now = Bridges {
            pam: self.host_bridge.bytes(usize::from(pam::REGISTER)),
            routes: routes.map(|route| (route & ROUTE_OFF == 0).then_some(route & ROUTE_INPUT)),
        };
        let told = std::mem::replace(&mut self.told, now);
        if told.pam != now.pam {
            effects.push(Effect::Shadow(now.pam));
        }
        for pirq in (0..PIRQS).filter(|pirq| told.routes[*pirq] != now.routes[*pirq]) {
            effects.push(Effect::Route { pirq, input: now.routes[pirq] });
        }
    }

    /// The register in configuration space that an access to the data register means. An access across its end means
    /// none.
    fn data_register(&self, offset: u64, width: u8) -> Option<u8> {
        let fits = matches!(width, 1 | 2 | 4) && matches!(offset, 4..8) && offset + u64::from(width) <= CONFIG_PORTS;
        (fits && self.address & ENABLE != 0).then(|| (self.address & 0xfc) as u8 + (offset - 4) as u8)
    }

    /// What the address register means; the one bus has number 0.
    fn addressed(&self) -> Option<Position> {
        let place =
            Position { slot: (self.address >> 11) as u8 % SLOTS, function: (self.address >> 8) as u8 % FUNCTIONS };
        (self.address & 0x00ff_0000 == 0).then_some(place)
    }

    /// Index of the function that is there.
    fn at(&self, place: Position) -> Option<usize> {
        self.functions.iter().position(|(own, _)| *own == place)
    }

    fn selected(&self) -> Option<&Function> {
        match self.addressed()? {
            HOST_BRIDGE => Some(&self.host_bridge),
            ISA_BRIDGE => Some(&self.isa_bridge),
            place => self.at(place).map(|index| &self.functions[index].1),
        }
    }

    fn selected_mut(&mut self) -> Option<&mut Function> {
        match self.addressed()? {
            HOST_BRIDGE => Some(&mut self.host_bridge),
            ISA_BRIDGE => Some(&mut self.isa_bridge),
            place => self.at(place).map(|index| &mut self.functions[index].1),
        }
    }
}

#[cfg(test)]
mod tests;
