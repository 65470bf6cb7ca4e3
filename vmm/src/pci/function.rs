//! The configuration space of one function, made of its manifest.

use super::{Effect, MEMORY_WINDOW, PORT_WINDOW, ROUTE_INPUT, ROUTE_OFF, ROUTES, gsi_of};
use crate::bus::{Space, Target};
use crate::chipset::pam;
use crate::irq::PIRQS;
use schema::manifest::{
    Line, Manifest, PCI_CONFIG_BYTES, PCI_HEADER_BYTES, Pci as Identity, PciRegister, Space as Where, VECTORS_MAX,
};

/// Registers of header type 0 (6.1, figure 6-1).
const VENDOR: usize = 0x00;
const DEVICE: usize = 0x02;
const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const REVISION: usize = 0x08;
const CLASS: usize = 0x09;
const CACHE_LINE: usize = 0x0c;
const LATENCY: usize = 0x0d;
const HEADER: usize = 0x0e;
/// More functions may follow in this slot (6.2.1; 82371SB, "HEDT: header type register").
const HEADER_FUNCTIONS: u8 = 1 << 7;
const BARS: usize = 0x10;
const SUBSYSTEM_VENDOR: usize = 0x2c;
const SUBSYSTEM: usize = 0x2e;
const CAPABILITIES: usize = 0x34;
const INTERRUPT_LINE: usize = 0x3c;
const INTERRUPT_PIN: usize = 0x3d;
/// Base address registers of header type 0.
const BAR_COUNT: u8 = 6;

/// Bits of the command register (6.2.2).
const COMMAND_PORTS: u16 = 1 << 0;
const COMMAND_MEMORY: u16 = 1 << 1;
const COMMAND_MASTER: u16 = 1 << 2;
const COMMAND_INVALIDATE: u16 = 1 << 4;
const COMMAND_INTERRUPT_DISABLE: u16 = 1 << 10;
/// Bits of the status register (6.2.3).
const STATUS_INTERRUPT: u16 = 1 << 3;
const STATUS_CAPABILITIES: u16 = 1 << 4;

/// Bit 0 of a base address register: it is of ports (6.2.5.1).
const BAR_PORTS: u32 = 1;
/// Memory takes whole pages, so that no page holds two functions (6.2.5.1 recommends it).
const BAR_MEMORY_MIN: u64 = 4096;
/// The least that a register of ports can say.
const BAR_PORTS_MIN: u64 = 4;
/// The most ports of one register (6.2.5.1).
const BAR_PORTS_MAX: u64 = 256;

/// The MSI-X capability (6.8.2): identifier, length, and bits of message control.
const MSIX: u8 = 0x11;
const MSIX_BYTES: usize = 12;
const MSIX_ENABLE: u16 = 1 << 15;
const MSIX_MASK: u16 = 1 << 14;
/// Table and pending bits share one page: the table is the first half, the pending bits are the second.
const VECTOR_BAR_BYTES: u64 = 4096;
const PENDING_OFFSET: u32 = 0x800;
const _: () = assert!(VECTORS_MAX as u32 * 16 <= PENDING_OFFSET, "a table fits its half of the page");

/// The host bridge that operating systems know: an 82441FX.
const BRIDGE_VENDOR: u16 = 0x8086;
const BRIDGE_DEVICE: u16 = 0x1237;
const BRIDGE_REVISION: u8 = 2;
const BRIDGE_CLASS: u32 = 0x06_0000;
/// Fast back-to-back, and medium timing of DEVSEL# (82441FX, "PCISTS").
const BRIDGE_STATUS: u16 = 0x0280;
/// What the bridge's further registers are after a reset (82441FX, 3.2): DBC, DRAMC, DRAMT, DRB0 to 7, CLT and SMRAM. Memory is
/// where it is whatever they say, so they cannot be stored.
const BRIDGE_REGISTERS: [(usize, u8); 13] = [
    (0x53, 0x80),
    (0x57, 0x01),
    (0x58, 0x10),
    (0x60, 0x01),
    (0x61, 0x01),
    (0x62, 0x01),
    (0x63, 0x01),
    (0x64, 0x01),
    (0x65, 0x01),
    (0x66, 0x01),
    (0x67, 0x01),
    (0x71, 0x10),
    (0x72, 0x02),
];
/// By these, firmware knows a machine that describes itself over its configuration ports (PCI ID list, Red Hat's vendor ID).
const VIRTUAL_VENDOR: u16 = 0x1af4;
const VIRTUAL_MACHINE: u16 = 0x1100;
/// The ISA bridge: an 82371SB, function 0.
const ISA_DEVICE: u16 = 0x7000;
const ISA_CLASS: u32 = 0x06_0100;

/// One function.
#[derive(Debug, Clone)]
pub struct Function {
    /// Number of the device in this VM; the bridge has none.
    device: Option<u8>,
    config: [u8; PCI_CONFIG_BYTES],
    /// Bits that a store changes.
    writable: [u8; PCI_CONFIG_BYTES],
    bars: Vec<Bar>,
    /// Where the MSI-X capability is, if there is one.
    msix: Option<usize>,
    /// What the machine has been told.
    told: Controls,
}

/// A base address register.
#[derive(Debug, Clone, Copy)]
struct Bar {
    /// Offset of the register.
    register: usize,
    space: Space,
    /// Bytes that it decodes: a power of two.
    size: u64,
    /// What answers there.
    target: Target,
    /// Bytes that answer.
    length: u64,
    /// Where the machine has it mapped.
    mapped: Option<u64>,
}

/// Bits whose changes the machine carries out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Controls {
    interrupt_disabled: bool,
    vectors_enabled: bool,
    vectors_masked: bool,
}

/// Addresses that a register decodes.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    space: Space,
    base: u64,
    size: u64,
}

impl Function {
    /// The bridge in slot 0. It always forwards; nothing but its attribute maps can be changed.
    pub fn host_bridge(attributes: [u8; pam::REGISTERS]) -> Function {
        let mut bridge = Function::blank(None);
        bridge.set_identity(BRIDGE_VENDOR, BRIDGE_DEVICE, BRIDGE_CLASS, BRIDGE_REVISION);
        bridge.set16(COMMAND, COMMAND_MEMORY | COMMAND_MASTER);
        bridge.set16(STATUS, BRIDGE_STATUS);
        for (register, value) in BRIDGE_REGISTERS {
            bridge.config[register] = value;
        }
        bridge.set16(SUBSYSTEM_VENDOR, VIRTUAL_VENDOR);
        bridge.set16(SUBSYSTEM, VIRTUAL_MACHINE);
        let at = usize::from(pam::REGISTER);
        bridge.config[at..at + pam::REGISTERS].copy_from_slice(&attributes);
        bridge.writable[at..at + pam::REGISTERS].copy_from_slice(&pam::WRITABLE);
        bridge
    }

    /// The bridge in slot 1. It always forwards what nobody else takes; only its interrupt routes can be changed.
    pub fn isa_bridge() -> Function {
        let mut bridge = Function::blank(None);
        bridge.set_identity(BRIDGE_VENDOR, ISA_DEVICE, ISA_CLASS, 0);
        bridge.config[HEADER] = HEADER_FUNCTIONS;
        bridge.set16(COMMAND, COMMAND_PORTS | COMMAND_MEMORY | COMMAND_MASTER);
        bridge.config[ROUTES..ROUTES + PIRQS].fill(ROUTE_OFF);
        bridge.writable[ROUTES..ROUTES + PIRQS].fill(ROUTE_OFF | ROUTE_INPUT);
        bridge
    }

    /// The function that `manifest` describes. `assign` gives an address to each of its base address registers.
    pub fn new(
        device: u8,
        manifest: &Manifest,
        identity: &Identity,
        slot: u8,
        mut assign: impl FnMut(Space, u64) -> Option<u64>,
    ) -> Result<Function, String> {
        if identity.class >= 1 << 24 {
            return Err(format!("its PCI class {:#x} has more than 24 bits", identity.class));
        }
        let mut function = Function::blank(Some(device));
        function.set_identity(identity.vendor, identity.device, identity.class, identity.revision);
        function.set16(SUBSYSTEM_VENDOR, identity.subsystem_vendor);
        function.set16(SUBSYSTEM, identity.subsystem);
        // Nothing here uses them, but a bus master keeps what it is given (6.2.4), and drivers look whether it did.
        function.writable[CACHE_LINE] = 0xff;
        function.writable[LATENCY] = 0xf8;
        let mut command = COMMAND_MASTER | COMMAND_INVALIDATE;

        for (index, range) in manifest.ranges.iter().enumerate() {
            let (bar, space) = match range.space {
                Where::Bar(bar) => (bar, Space::Memory),
                Where::PortBar(bar) => (bar, Space::Port),
                Where::Port(_) | Where::Memory(_) => continue,
            };
            let target = Target::Device { device, range: index as u8 };
            function.add_bar(bar, space, range.length, target, &mut assign)?;
        }
        if manifest.vectors > 0 {
            let target = Target::Vectors { device };
            function.add_bar(identity.vector_bar, Space::Memory, VECTOR_BAR_BYTES, target, &mut assign)?;
        }
        // Fixed ports answer in any case; drivers and firmware look whether the function says that it decodes some.
        if manifest.ranges.iter().any(|range| matches!(range.space, Where::Port(_))) {
            command |= COMMAND_PORTS;
        }
        for bar in &function.bars {
            command |= match bar.space {
                Space::Port => COMMAND_PORTS,
                Space::Memory => COMMAND_MEMORY,
            };
        }

        let pins = manifest.lines.iter().filter_map(|line| match line {
            Line::Pin(pin) => Some(*pin),
            Line::Isa(_) => None,
        });
        for pin in pins {
            if !(1..=4).contains(&pin) {
                return Err(format!("it has no PCI pin {pin}: they are 1 to 4"));
            }
            match function.config[INTERRUPT_PIN] {
                0 => function.config[INTERRUPT_PIN] = pin,
                first if first == pin => {}
                first => return Err(format!("one function has one PCI pin, not {first} and {pin}")),
            }
        }
        if function.config[INTERRUPT_PIN] != 0 {
            command |= COMMAND_INTERRUPT_DISABLE;
            function.config[INTERRUPT_LINE] = gsi_of(slot, function.config[INTERRUPT_PIN]) as u8;
            function.writable[INTERRUPT_LINE] = 0xff;
        }
        function.writable[COMMAND..COMMAND + 2].copy_from_slice(&command.to_le_bytes());

        let capabilities_at = function.add_registers(&identity.registers)?;
        function.add_capabilities(identity, manifest.vectors, capabilities_at)?;
        Ok(function)
    }

    fn blank(device: Option<u8>) -> Function {
        Function {
            device,
            config: [0; PCI_CONFIG_BYTES],
            writable: [0; PCI_CONFIG_BYTES],
            bars: Vec::new(),
            msix: None,
            told: Controls::default(),
        }
    }

    fn set_identity(&mut self, vendor: u16, device: u16, class: u32, revision: u8) {
        self.set16(VENDOR, vendor);
        self.set16(DEVICE, device);
        self.config[REVISION] = revision;
        self.config[CLASS..CLASS + 3].copy_from_slice(&class.to_le_bytes()[..3]);
    }

    fn add_bar(
        &mut self,
        number: u8,
        space: Space,
        length: u64,
        target: Target,
        assign: &mut impl FnMut(Space, u64) -> Option<u64>,
    ) -> Result<(), String> {
        if number >= BAR_COUNT {
            return Err(format!("it has no base address register {number}: they are 0 to {}", BAR_COUNT - 1));
        }
        let register = BARS + 4 * usize::from(number);
        if self.bars.iter().any(|bar| bar.register == register) {
            return Err(format!("two ranges want base address register {number}"));
        }
        let (least, most) = match space {
            Space::Memory => (BAR_MEMORY_MIN, MEMORY_WINDOW.end - MEMORY_WINDOW.start),
            Space::Port => (BAR_PORTS_MIN, BAR_PORTS_MAX),
        };
        if length == 0 || length > most {
            return Err(format!("base address register {number} cannot hold {length:#x} bytes: 1 to {most:#x}"));
        }
        let size = length.max(least).next_power_of_two();
        let base = assign(space, size).ok_or_else(|| {
            format!("no addresses are left for the {size:#x} bytes of base address register {number}")
        })?;
        let kind = if space == Space::Port { BAR_PORTS } else { 0 };
        let mask = !(size as u32 - 1);
        self.config[register..register + 4].copy_from_slice(&(base as u32 | kind).to_le_bytes());
        self.writable[register..register + 4].copy_from_slice(&mask.to_le_bytes());
        self.bars.push(Bar { register, space, size, target, length, mapped: None });
        Ok(())
    }

    /// Puts the function's own registers where it has them. Returns where they end.
    fn add_registers(&mut self, registers: &[PciRegister]) -> Result<usize, String> {
        let mut places: Vec<std::ops::Range<usize>> = Vec::new();
        for PciRegister { offset, value, writable } in registers {
            let first = usize::from(*offset);
            let place = first..first + value.len();
            if first < PCI_HEADER_BYTES || place.end > PCI_CONFIG_BYTES {
                return Err(format!(
                    "its register at {offset:#x} is not between header and end of configuration space"
                ));
            }
            if writable.len() != value.len() {
                return Err(format!("its register at {offset:#x} has a mask of another length"));
            }
            if places.iter().any(|other| place.start < other.end && other.start < place.end) {
                return Err(format!("its register at {offset:#x} would overlap another"));
            }
            self.config[place.clone()].copy_from_slice(value);
            self.writable[place.clone()].copy_from_slice(writable);
            places.push(place);
        }
        Ok(places.iter().map(|place| place.end).max().unwrap_or(PCI_HEADER_BYTES))
    }

    /// Chains the manifest's capabilities and that of MSI-X (6.7), from `first` on.
    fn add_capabilities(&mut self, identity: &Identity, vectors: u16, first: usize) -> Result<(), String> {
        if vectors > VECTORS_MAX {
            return Err(format!("it has {vectors} vectors, at most {VECTORS_MAX} are allowed"));
        }
        if identity.capabilities.iter().any(|capability| capability.first() == Some(&MSIX)) {
            return Err("its MSI-X capability is made of `vectors`, not listed".to_owned());
        }
        let mut chain = identity.capabilities.clone();
        if vectors > 0 {
            let bar = u32::from(identity.vector_bar);
            let mut msix = vec![MSIX, 0];
            msix.extend((vectors - 1).to_le_bytes());
            msix.extend(bar.to_le_bytes());
            msix.extend((PENDING_OFFSET | bar).to_le_bytes());
            assert_eq!(msix.len(), MSIX_BYTES);
            chain.push(msix);
        }
        let mut pointer = CAPABILITIES;
        let mut at = first.next_multiple_of(4);
        for capability in &chain {
            let [id, _, ..] = capability[..] else {
                return Err("a PCI capability is shorter than its identifier and link".to_owned());
            };
            let end = at + capability.len();
            if end > PCI_CONFIG_BYTES {
                return Err("its PCI capabilities do not fit configuration space".to_owned());
            }
            self.config[at..end].copy_from_slice(capability);
            self.config[at + 1] = 0;
            self.config[pointer] = at as u8;
            if id == MSIX {
                self.msix = Some(at);
                self.writable[at + 2..at + 4].copy_from_slice(&(MSIX_ENABLE | MSIX_MASK).to_le_bytes());
            }
            pointer = at + 1;
            at = end.next_multiple_of(4);
        }
        if !chain.is_empty() {
            self.set16(STATUS, STATUS_CAPABILITIES);
        }
        Ok(())
    }

    /// Its interrupt pin; 1 is INTA.
    pub fn pin(&self) -> Option<u8> {
        Some(self.config[INTERRUPT_PIN]).filter(|pin| *pin != 0)
    }

    /// Registers from `at` on, as they are stored.
    pub fn bytes<const COUNT: usize>(&self, at: usize) -> [u8; COUNT] {
        std::array::from_fn(|index| self.config[at + index])
    }

    /// Number of the device in this VM.
    pub fn device(&self) -> Option<u8> {
        self.device
    }

    /// A load that lies in one word of four bytes.
    pub fn read(&self, register: u8, width: u8, asserted: impl Fn(u8) -> bool) -> u32 {
        let at = usize::from(register);
        (at..at + usize::from(width)).rev().fold(0, |value, at| value << 8 | u32::from(self.read_byte(at, &asserted)))
    }

    fn read_byte(&self, at: usize, asserted: impl Fn(u8) -> bool) -> u8 {
        let mut byte = self.config[at];
        if at == STATUS && self.config[INTERRUPT_PIN] != 0 && self.device.is_some_and(asserted) {
            byte |= STATUS_INTERRUPT as u8;
        }
        byte
    }

    /// A store that lies in one word of four bytes. Whether it changed anything.
    pub fn write(&mut self, register: u8, width: u8, value: u32) -> bool {
        let before = self.config;
        let at = usize::from(register);
        for (byte, at) in value.to_le_bytes().into_iter().zip(at..at + usize::from(width)) {
            let mask = self.writable[at];
            self.config[at] = self.config[at] & !mask | byte & mask;
        }
        before != self.config
    }

    /// Gives up the places that are decoded no more.
    pub fn unmap(&mut self, effects: &mut Vec<Effect>) {
        for index in 0..self.bars.len() {
            let Bar { space, target, length, mapped, .. } = self.bars[index];
            let wanted = self.decoded(&self.bars[index]);
            if let Some(base) = mapped.filter(|_| wanted != mapped) {
                self.bars[index].mapped = None;
                effects.push(Effect::Unmap { target, space, base, length });
            }
        }
    }

    /// Places that are decoded and not mapped, each with the index of its register.
    pub fn wanted(&self) -> Vec<(usize, Place)> {
        let unmapped = self.bars.iter().enumerate().filter(|(_, bar)| bar.mapped.is_none());
        unmapped
            .filter_map(|(index, bar)| {
                Some((index, Place { space: bar.space, base: self.decoded(bar)?, size: bar.size }))
            })
            .collect()
    }

    /// Whether a mapped register of this function decodes any of `place`.
    pub fn occupies(&self, place: &Place) -> bool {
        self.bars
            .iter()
            .filter(|bar| bar.space == place.space)
            .any(|bar| bar.mapped.is_some_and(|base| base < place.base + place.size && place.base < base + bar.size))
    }

    /// Takes a place.
    pub fn map(&mut self, index: usize, place: &Place, effects: &mut Vec<Effect>) {
        let bar = &mut self.bars[index];
        bar.mapped = Some(place.base);
        effects.push(Effect::Map { target: bar.target, space: bar.space, base: place.base, length: bar.length });
    }

    /// Tells what became of the bits that the machine carries out.
    pub fn controls(&mut self, effects: &mut Vec<Effect>) {
        let Some(device) = self.device else { return };
        let msix = self.msix.map_or(0, |at| self.get16(at + 2));
        let now = Controls {
            interrupt_disabled: self.get16(COMMAND) & COMMAND_INTERRUPT_DISABLE != 0,
            vectors_enabled: msix & MSIX_ENABLE != 0,
            vectors_masked: msix & MSIX_MASK != 0,
        };
        let told = std::mem::replace(&mut self.told, now);
        if told.interrupt_disabled != now.interrupt_disabled {
            effects.push(Effect::InterruptDisable { device, disabled: now.interrupt_disabled });
        }
        if (told.vectors_enabled, told.vectors_masked) != (now.vectors_enabled, now.vectors_masked) {
            effects.push(Effect::Vectors { device, enabled: now.vectors_enabled, masked: now.vectors_masked });
        }
    }

    /// The address that `bar` decodes now: its kind enabled in the command register, and wholly in the bridge's window.
    fn decoded(&self, bar: &Bar) -> Option<u64> {
        let (enable, window) = match bar.space {
            Space::Port => (COMMAND_PORTS, PORT_WINDOW),
            Space::Memory => (COMMAND_MEMORY, MEMORY_WINDOW),
        };
        let mut register = [0; 4];
        register.copy_from_slice(&self.config[bar.register..bar.register + 4]);
        let base = u64::from(u32::from_le_bytes(register)) & !(bar.size - 1);
        let inside = window.start <= base && base + bar.size <= window.end;
        (inside && self.get16(COMMAND) & enable != 0).then_some(base)
    }

    fn get16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.config[at], self.config[at + 1]])
    }

    fn set16(&mut self, at: usize, value: u16) {
        self.config[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
}
