//! The demo's accesses without a virtual processor: the same devices, driven through the same bus.

use anyhow::{Result, ensure};
use schema::vmm::Drive;
use std::fmt::Write;
use std::time::{Duration, Instant};
use vmm::supervisor::{Console, GuestWindow, Signals, Vm};

const UART: u64 = 0x3f8;
/// The queue: descriptors, available ring, used ring, a page each.
pub const RING: u64 = 0x20_0000;
/// What its chains describe.
pub const BUFFERS: u64 = 0x21_0000;
const READ_BACK: u64 = 0x21_1000;
/// A device has done a request within this.
const PATIENCE: Duration = Duration::from_secs(10);

/// A guest without a processor.
pub struct Script<'a> {
    vm: &'a mut Vm,
    console: &'a mut Console,
    signals: &'a Signals,
    /// Its memory.
    pub memory: GuestWindow,
}

/// Makes the accesses that the demo's micro guest makes, and powers off.
pub fn drive_every_device(vm: &mut Vm, console: &mut Console, signals: &Signals) -> Result<()> {
    let mut script = Script::new(vm, console, signals)?;
    script.print("hello from the script, printed through the UART\r\n")?;

    let mut clock = String::from("clock (mc146818)       : ");
    for (register, after) in [(4, ":"), (2, ":"), (0, "\r\n")] {
        script.outb(0x70, register)?;
        write!(clock, "{:02x}{after}", script.inb(0x71)?)?;
    }
    script.print(&clock)?;

    script.outb(0x64, 0xaa)?;
    let passed = script.inb(0x60)? == 0x55;
    script.print(&format!("keyboard (i8042)       : {}\r\n", verdict(passed)))?;

    let (first, second) = (script.port(0x608, 4)?, script.port(0x608, 4)?);
    script.print(&format!("timer (acpi-pm)        : {}\r\n", verdict(first != second)))?;

    let events = script.inb(0x505)?;
    script.port(0xf4, 4)?;
    script.print(&format!("panic events (pvpanic) : {events:02x}\r\n"))?;

    let bar = script.start_virtio(0x1044_1af4)?;
    script.memory.write(BUFFERS, &[0; 16]);
    script.describe(0, BUFFERS, 16, 2, 0);
    script.kick(bar)?;
    let random = script.memory.read::<8>(BUFFERS);
    script.print(&format!("entropy (virtio)       : {:016x}\r\n", u64::from_be_bytes(random)))?;

    let bar = script.start_virtio(0x1042_1af4)?;
    let pattern = [0x63; 512];
    script.memory.write(BUFFERS + 0x100, &pattern);
    script.disk_request(bar, 1, BUFFERS + 0x100, 0)?;
    script.disk_request(bar, 0, READ_BACK, 2)?;
    let passed = script.memory.read::<512>(READ_BACK) == pattern && script.memory.read::<1>(BUFFERS + 0x80) == [0];
    script.print(&format!("disk (virtio)          : {}\r\n", verdict(passed)))?;

    script.print("powering off (acpi-pm)\r\n")?;
    script.set_port(0x604, 2, 0x3400)
}

fn verdict(passed: bool) -> &'static str {
    if passed { "ok" } else { "WRONG" }
}

impl<'a> Script<'a> {
    /// One for this machine.
    pub fn new(vm: &'a mut Vm, console: &'a mut Console, signals: &'a Signals) -> Result<Script<'a>> {
        let memory = vm.low_memory()?;
        Ok(Script { vm, console, signals, memory })
    }

    fn drive(&mut self, write: bool, port: bool, address: u64, width: u8, value: u64) -> Result<u64> {
        self.vm.drive(Drive { write, port, address, width, value })
    }
    /// Reads a port.
    pub fn port(&mut self, address: u64, width: u8) -> Result<u64> {
        self.drive(false, true, address, width, 0)
    }
    /// Writes a port.
    pub fn set_port(&mut self, address: u64, width: u8, value: u64) -> Result<()> {
        self.drive(true, true, address, width, value).map(drop)
    }
    fn inb(&mut self, address: u64) -> Result<u64> {
        self.port(address, 1)
    }
    fn outb(&mut self, address: u64, value: u64) -> Result<()> {
        self.set_port(address, 1, value)
    }
    /// Loads from memory addresses.
    pub fn load(&mut self, address: u64, width: u8) -> Result<u64> {
        self.drive(false, false, address, width, 0)
    }
    /// Stores to memory addresses.
    pub fn store(&mut self, address: u64, width: u8, value: u64) -> Result<()> {
        self.drive(true, false, address, width, value).map(drop)
    }

    fn print(&mut self, text: &str) -> Result<()> {
        for byte in text.bytes() {
            while self.inb(UART + 5)? & 0x20 == 0 {
                self.vm.run_until(self.console, self.signals, Instant::now() + Duration::from_millis(1))?;
            }
            self.outb(UART, byte.into())?;
        }
        Ok(())
    }

    fn pci(&mut self, function: u64, offset: u64) -> Result<u64> {
        self.set_port(0xcf8, 4, function | offset)?;
        self.port(0xcfc, 4)
    }
    fn set_pci(&mut self, function: u64, offset: u64, value: u64) -> Result<()> {
        self.set_port(0xcf8, 4, function | offset)?;
        self.set_port(0xcfc, 4, value)
    }

    /// Finds the function, negotiates, sets up queue 0 without interrupts; gives BAR 0.
    pub fn start_virtio(&mut self, identity: u64) -> Result<u64> {
        let mut functions = (0..32).map(|slot| 0x8000_0000 | slot << 11);
        let mut found = None;
        while let (None, Some(function)) = (found, functions.next()) {
            found = (self.pci(function, 0)? == identity).then_some(function);
        }
        let Some(function) = found else { anyhow::bail!("there is no PCI function {identity:08x}") };
        self.set_pci(function, 4, 6)?;
        let bar = self.pci(function, 0x10)? & !0xf;
        for (offset, width, value) in [(20, 1, 0), (20, 1, 1), (20, 1, 3), (8, 4, 1), (12, 4, 1), (20, 1, 11)] {
            self.store(bar + offset, width, value)?;
        }
        ensure!(self.load(bar + 20, 1)? & 8 != 0, "the device {identity:08x} refuses its features");
        self.memory.write(RING, &[0; 3 * 4096]);
        let queue = [
            (22, 2, 0),
            (24, 2, 8),
            (32, 4, RING),
            (36, 4, 0),
            (40, 4, RING + 0x1000),
            (44, 4, 0),
            (48, 4, RING + 0x2000),
            (52, 4, 0),
            (28, 2, 1),
            (20, 1, 15),
        ];
        for (offset, width, value) in queue {
            self.store(bar + offset, width, value)?;
        }
        Ok(bar)
    }

    /// Writes a descriptor of the ring.
    pub fn describe(&mut self, index: u64, address: u64, bytes: u32, flags: u16, next: u16) {
        let mut descriptor = [0; 16];
        descriptor[..8].copy_from_slice(&address.to_le_bytes());
        descriptor[8..12].copy_from_slice(&bytes.to_le_bytes());
        descriptor[12..14].copy_from_slice(&flags.to_le_bytes());
        descriptor[14..].copy_from_slice(&next.to_le_bytes());
        self.memory.write(RING + index * 16, &descriptor);
    }

    /// Makes the chain at descriptor 0 available and waits until it is used.
    pub fn kick(&mut self, bar: u64) -> Result<()> {
        let available = u16::from_le_bytes(self.memory.read(RING + 0x1002));
        self.memory.write(RING + 0x1004 + u64::from(available & 7) * 2, &[0, 0]);
        let wanted = available.wrapping_add(1);
        self.memory.write(RING + 0x1002, &wanted.to_le_bytes());
        self.store(bar + 0x3000, 2, 0)?;
        let until = Instant::now() + PATIENCE;
        while u16::from_le_bytes(self.memory.read(RING + 0x2002)) != wanted {
            ensure!(Instant::now() < until, "a virtio device has not answered within {PATIENCE:?}");
            self.vm.run_until(self.console, self.signals, Instant::now() + Duration::from_millis(1))?;
        }
        Ok(())
    }

    fn disk_request(&mut self, bar: u64, kind: u32, data: u64, device_writes: u16) -> Result<()> {
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&1u64.to_le_bytes());
        self.memory.write(BUFFERS, &header);
        self.memory.write(BUFFERS + 0x80, &[0xff]);
        self.describe(0, BUFFERS, 16, 1, 1);
        self.describe(1, data, 512, 1 | device_writes, 2);
        self.describe(2, BUFFERS + 0x80, 1, 2, 0);
        self.kick(bar)
    }
}
