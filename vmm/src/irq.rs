//! Pin interrupts: levels that devices commit, applied to the interrupt controllers' inputs.
//!
//! A pin interrupt is a level in committed state, never an event. Whoever learns that a level may have changed (a vcpu after
//! its access, the hub after a hint) calls [`Lines::apply`], which reads the committed levels under the device's lock: of
//! several callers the last to read has read the latest, so an older level never overwrites a newer one.
//!
//! An ISA input takes an interrupt from the edge (8259A data sheet, edge triggered mode): a line that went low and high again
//! between two looks is pulled low and let go, or a guest that took the first edge would wait for the second one for ever.

use crate::lock;
use crate::record::Record;
use imc::lane::Levels;
use schema::host::DEVICES_MAX;
use schema::manifest::{Line, Manifest};
use schema::play::{Change, OUTSIDE};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Inputs of the I/O APIC; the first 16 are also those of the two 8259s.
pub const PINS: u32 = 24;
/// Those that are also inputs of the 8259s.
const ISA_INPUTS: u32 = 16;

/// Interrupts of the PCI bus, PIRQA to PIRQD.
pub const PIRQS: usize = 4;
/// The I/O APIC's input of PIRQA; the others follow.
pub const PIRQ_GSI: u32 = 16;

/// What the levels drive.
pub trait Chip: Send + Sync {
    /// Sets interrupt input `gsi` to a level. Called only when it changes.
    fn set_line(&self, gsi: u32, level: bool);
}

/// Levels are kept, and nobody listens.
#[cfg(test)]
pub struct NoChip;

#[cfg(test)]
impl Chip for NoChip {
    fn set_line(&self, _: u32, _: bool) {}
}

/// All interrupt inputs of the machine. Lines that share one are ORed.
///
/// An interrupt of the PCI bus drives its input of the I/O APIC and, where the ISA bridge routes it to one, an input of the
/// 8259s: an operating system listens at one of them.
pub struct Pins {
    chip: Box<dyn Chip>,
    /// The lock is held while the chip is told, so that the chip sees changes of one input in their order.
    inputs: [Mutex<Input>; PINS as usize],
    /// Where the ISA bridge routes each interrupt of the bus. Taken before an input's lock.
    routes: Mutex<[Option<u8>; PIRQS]>,
    record: Option<Record>,
    /// Bit `n`: input `n` of the 8259s is high.
    isa: AtomicU32,
    /// How often any of them rose.
    rises: AtomicU64,
}

/// Who asserts one input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Input {
    /// Bit `n`: device `n`.
    devices: u128,
    /// Bit `n`: interrupt `n` of the PCI bus, routed here.
    pirqs: u8,
}

impl Input {
    fn level(self) -> bool {
        self.devices != 0 || self.pirqs != 0
    }
}

/// The bit of the outside in each input; each device has that of its number.
const OUTSIDE_BIT: u32 = DEVICES_MAX as u32;

const _: () = assert!(OUTSIDE_BIT < u128::BITS, "a device has a bit of its own in each input, and the outside too");

impl Pins {
    /// All low.
    pub fn new(chip: Box<dyn Chip>) -> Pins {
        Pins {
            chip,
            inputs: [const { Mutex::new(Input { devices: 0, pirqs: 0 }) }; PINS as usize],
            routes: Mutex::default(),
            record: None,
            isa: AtomicU32::new(0),
            rises: AtomicU64::new(0),
        }
    }

    /// Keeps a record of all changes, for somebody who asks for it.
    #[must_use]
    pub fn recorded(self) -> Pins {
        Pins { record: Some(Record::default()), ..self }
    }

    /// The record since this was asked last, if one is kept.
    pub fn changes(&self) -> Vec<Change> {
        self.record.as_ref().map(Record::take).unwrap_or_default()
    }

    /// Whether a record is kept and near its bound.
    pub fn record_is_full(&self) -> bool {
        self.record.as_ref().is_some_and(Record::is_full)
    }

    /// Drives `gsi` from outside, beside the devices that do.
    pub fn wire(&self, gsi: u32, level: bool) {
        self.set(gsi, OUTSIDE, level);
    }

    /// Whether anybody asserts `gsi`.
    pub fn level(&self, gsi: u32) -> bool {
        self.inputs.get(gsi as usize).is_some_and(|input| lock(input).level())
    }

    /// Whether anybody asserts an input of the 8259s.
    pub fn is_isa_high(&self) -> bool {
        self.isa.load(Ordering::Acquire) != 0
    }

    /// How often inputs of the 8259s rose.
    pub fn rises(&self) -> u64 {
        self.rises.load(Ordering::Acquire)
    }

    /// Routes interrupt `pirq` of the PCI bus to an input of the 8259s, or to none.
    pub fn route(&self, pirq: usize, input: Option<u8>) {
        let mut routes = lock(&self.routes);
        let Some(route) = routes.get_mut(pirq) else { return };
        let before = std::mem::replace(route, input);
        if before != input && self.level(PIRQ_GSI + pirq as u32) {
            before.into_iter().for_each(|input| self.drive(input, pirq, OUTSIDE, false));
            input.into_iter().for_each(|input| self.drive(input, pirq, OUTSIDE, true));
        }
    }

    fn set(&self, gsi: u32, device: u8, level: bool) {
        let bit = 1 << u32::from(device).min(OUTSIDE_BIT);
        let change = |input: &mut Input| {
            input.devices = if level { input.devices | bit } else { input.devices & !bit };
        };
        match gsi.checked_sub(PIRQ_GSI).map(|pirq| pirq as usize).filter(|pirq| *pirq < PIRQS) {
            // What the bus asserts and where it is routed change under one lock, so neither misses the other.
            Some(pirq) => {
                let routes = lock(&self.routes);
                if let (Some(level), Some(input)) = (self.change(gsi, device, change), routes[pirq]) {
                    self.drive(input, pirq, device, level);
                }
            }
            None => drop(self.change(gsi, device, change)),
        }
    }

    /// Interrupt `pirq` of the PCI bus drives an input of the 8259s, because of a device.
    fn drive(&self, input: u8, pirq: usize, device: u8, level: bool) {
        let bit = 1 << pirq;
        self.change(input.into(), device, |input| {
            input.pirqs = if level { input.pirqs | bit } else { input.pirqs & !bit }
        });
    }

    /// Once the chip knows it.
    fn note_isa(&self, gsi: u32, level: bool) {
        match level {
            _ if gsi >= ISA_INPUTS => {}
            true => {
                self.isa.fetch_or(1 << gsi, Ordering::Release);
                self.rises.fetch_add(1, Ordering::Release);
            }
            false => drop(self.isa.fetch_and(!(1 << gsi), Ordering::Release)),
        }
    }

    /// Changes who asserts `gsi`, because of a device, and tells the chip and the caller of a level that came of it.
    fn change(&self, gsi: u32, device: u8, change: impl FnOnce(&mut Input)) -> Option<bool> {
        let mut input = lock(self.inputs.get(gsi as usize)?);
        let before = *input;
        change(&mut input);
        let level = (before.level() != input.level()).then_some(input.level());
        if let Some(level) = level {
            self.chip.set_line(gsi, level);
            self.note_isa(gsi, level);
        }
        if let Some(record) = self.record.as_ref().filter(|_| *input != before) {
            let rose = input.devices & !before.devices != 0 || input.pirqs & !before.pirqs != 0;
            record.push(Change { input: gsi as u8, level: rose, device, hidden: level.is_none() });
        }
        level
    }
}

/// The pin interrupts of one device.
pub struct Lines {
    device: u8,
    wires: Vec<Wire>,
    /// Bits of the PCI pins, which a PCI function can be told not to assert; the others are wired straight.
    pins: u32,
    state: Mutex<State>,
    changes: AtomicU64,
}

/// Which committed levels drive one interrupt input.
struct Wire {
    gsi: u32,
    levels: u32,
}

#[derive(Default)]
struct State {
    /// What was last read and applied; what the lines were told to do in place of it does not count.
    read: Levels,
    /// Bit `n`: line `n` is asserted.
    asserted: u32,
    /// The interrupt-disable bit of the command register (PCI Local Bus 3.0, 6.2.2).
    disabled: bool,
    /// A function that uses MSI-X must not assert its pin (PCI Local Bus 3.0, 6.8.3.3).
    messages: bool,
    dead: bool,
}

impl Lines {
    /// The lines that `manifest` declares for device number `device`; PCI pins are wired to `pin_gsi`.
    pub fn new(device: u8, manifest: &Manifest, pin_gsi: Option<u32>) -> Lines {
        let mut wires: Vec<Wire> = Vec::new();
        let mut pins = 0;
        for (number, line) in manifest.lines.iter().enumerate().take(u32::BITS as usize) {
            let bit = 1 << number;
            let gsi = match line {
                Line::Isa(irq) => u32::from(*irq),
                Line::Pin(_) => {
                    pins |= bit;
                    match pin_gsi {
                        Some(gsi) => gsi,
                        None => continue,
                    }
                }
            };
            match wires.iter_mut().find(|wire| wire.gsi == gsi) {
                Some(wire) => wire.levels |= bit,
                None => wires.push(Wire { gsi, levels: bit }),
            }
        }
        Lines { device, wires, pins, state: Mutex::default(), changes: AtomicU64::new(0) }
    }

    /// Applies the levels that `committed` reads. It is called with the device's lock held, and not at all for a device
    /// without lines.
    pub fn apply(&self, pins: &Pins, committed: impl FnOnce() -> Levels) {
        if !self.wires.is_empty() {
            self.update(pins, &mut lock(&self.state), committed);
        }
    }

    /// The interrupt-disable bit of the device's command register changed.
    pub fn set_disabled(&self, pins: &Pins, disabled: bool, committed: impl FnOnce() -> Levels) {
        let mut state = lock(&self.state);
        state.disabled = disabled;
        self.update(pins, &mut state, committed);
    }

    /// The function's MSI-X enable bit changed.
    pub fn set_messages(&self, pins: &Pins, messages: bool, committed: impl FnOnce() -> Levels) {
        let mut state = lock(&self.state);
        state.messages = messages;
        self.update(pins, &mut state, committed);
    }

    /// The device is dead: its lines go low for good, so that a level nobody can clear does not storm the guest.
    pub fn kill(&self, pins: &Pins) {
        let mut state = lock(&self.state);
        state.dead = true;
        self.update(pins, &mut state, Levels::default);
    }

    /// The device begins anew: its lines follow what it commits again.
    pub fn revive(&self) {
        lock(&self.state).dead = false;
    }

    /// Whether these committed levels assert a PCI pin.
    pub fn has_pin(&self, levels: u32) -> bool {
        levels & self.pins != 0
    }

    /// Level changes applied so far.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    fn update(&self, pins: &Pins, state: &mut State, committed: impl FnOnce() -> Levels) {
        let levels = committed();
        let let_through = if state.dead {
            0
        } else if state.disabled || state.messages {
            !self.pins
        } else {
            u32::MAX
        };
        let rose = levels.rose_since(state.read) & let_through;
        let asserts = levels.high & let_through;
        for wire in &self.wires {
            let (before, after) = (state.asserted & wire.levels != 0, asserts & wire.levels != 0);
            // Of lines that share an input, one that stayed high keeps it high; which did is not known.
            if before && (!after || rose & wire.levels != 0) {
                self.set(pins, wire, false);
            }
            if after && (!before || rose & wire.levels != 0) {
                self.set(pins, wire, true);
            }
        }
        (state.read, state.asserted) = (levels, asserts);
    }

    fn set(&self, pins: &Pins, wire: &Wire, level: bool) {
        pins.set(wire.gsi, self.device, level);
        self.changes.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::manifest;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Recorded(Arc<Mutex<Vec<(u32, bool)>>>);

    impl Chip for Recorded {
        fn set_line(&self, gsi: u32, level: bool) {
            lock(&self.0).push((gsi, level));
        }
    }

    impl Recorded {
        fn taken(&self) -> Vec<(u32, bool)> {
            std::mem::take(&mut lock(&self.0))
        }
    }

    /// These lines are high, and none has fallen.
    fn high(high: u32) -> Levels {
        Levels { high, falls: 0 }
    }

    fn with_lines(device: u8, lines: &[Line]) -> Lines {
        let mut manifest = manifest("lines");
        manifest.lines = lines.to_vec();
        Lines::new(device, &manifest, Some(17))
    }

    #[test]
    fn lines_that_share_an_input_are_ored() {
        let chip = Recorded::default();
        let pins = Pins::new(Box::new(chip.clone()));
        let (first, second) = (with_lines(0, &[Line::Isa(4)]), with_lines(63, &[Line::Isa(4)]));
        first.apply(&pins, || high(1));
        second.apply(&pins, || high(1));
        first.apply(&pins, || high(0));
        assert_eq!(chip.taken(), [(4, true)]);
        assert!(pins.level(4));
        second.apply(&pins, || high(0));
        assert_eq!(chip.taken(), [(4, false)]);
        assert!(!pins.level(4));
    }

    #[test]
    fn two_lines_of_one_device_on_one_input_are_ored() {
        let chip = Recorded::default();
        let pins = Pins::new(Box::new(chip.clone()));
        let lines = with_lines(1, &[Line::Pin(1), Line::Pin(2), Line::Isa(12)]);
        lines.apply(&pins, || high(0b011));
        lines.apply(&pins, || high(0b010));
        assert_eq!(chip.taken(), [(17, true)]);
        lines.apply(&pins, || high(0b100));
        assert_eq!(chip.taken(), [(17, false), (12, true)]);
        assert_eq!(lines.changes(), 3);
    }

    #[test]
    fn line_that_fell_and_rose_between_two_looks_gives_an_edge() {
        let chip = Recorded::default();
        let pins = Pins::new(Box::new(chip.clone()));
        let lines = with_lines(1, &[Line::Isa(4)]);
        lines.apply(&pins, || high(1));
        lines.apply(&pins, || high(1));
        assert_eq!(chip.taken(), [(4, true)]);
        lines.apply(&pins, || Levels { high: 1, falls: 1 });
        assert_eq!(chip.taken(), [(4, false), (4, true)]);
        lines.apply(&pins, || Levels { high: 0, falls: 2 });
        lines.apply(&pins, || Levels { high: 0, falls: 3 });
        assert_eq!(chip.taken(), [(4, false)], "a line that is low again has nothing to say");
    }

    #[test]
    fn input_that_another_device_holds_high_has_no_edge() {
        let chip = Recorded::default();
        let pins = Pins::new(Box::new(chip.clone()));
        let (first, second) = (with_lines(0, &[Line::Isa(4)]), with_lines(1, &[Line::Isa(4)]));
        first.apply(&pins, || high(1));
        second.apply(&pins, || high(1));
        second.apply(&pins, || Levels { high: 1, falls: 1 });
        assert_eq!(chip.taken(), [(4, true)]);
    }

    #[test]
    fn interrupt_disable_and_msi_x_lower_the_pin_and_give_it_back() {
        let chip = Recorded::default();
        let pins = Pins::new(Box::new(chip.clone()));
        let lines = with_lines(2, &[Line::Pin(1), Line::Isa(1)]);
        lines.apply(&pins, || high(0b11));
        chip.taken();
        lines.set_disabled(&pins, true, || high(0b11));
        assert_eq!(chip.taken(), [(17, false)]);
        lines.set_messages(&pins, true, || high(0b11));
        lines.set_disabled(&pins, false, || high(0b11));
        assert_eq!(chip.taken(), []);
        lines.set_messages(&pins, false, || high(0b11));
        assert_eq!(chip.taken(), [(17, true)]);
    }

    #[test]
    fn interrupt_of_the_pci_bus_follows_its_route() {
        let chip = Recorded::default();
        let pins = Pins::new(Box::new(chip.clone()));
        let mut manifest = manifest("function");
        manifest.lines = vec![Line::Pin(1)];
        let lines = Lines::new(0, &manifest, Some(PIRQ_GSI + 2));
        pins.route(2, Some(11));
        lines.apply(&pins, || high(1));
        assert_eq!(chip.taken(), [(18, true), (11, true)]);
        pins.route(2, Some(10));
        assert_eq!(chip.taken(), [(11, false), (10, true)]);
        pins.route(2, None);
        assert_eq!(chip.taken(), [(10, false)]);
        pins.route(2, Some(5));
        lines.apply(&pins, || high(0));
        assert_eq!(chip.taken(), [(5, true), (18, false), (5, false)]);
        pins.route(7, Some(3));
        assert_eq!(chip.taken(), []);
    }

    #[test]
    fn input_that_two_interrupts_of_the_bus_share_is_high_while_one_is() {
        let chip = Recorded::default();
        let pins = Pins::new(Box::new(chip.clone()));
        let mut manifest = manifest("function");
        manifest.lines = vec![Line::Pin(1)];
        let (first, second) = (Lines::new(0, &manifest, Some(16)), Lines::new(1, &manifest, Some(17)));
        let isa = with_lines(2, &[Line::Isa(10)]);
        pins.route(0, Some(10));
        pins.route(1, Some(10));
        first.apply(&pins, || high(1));
        second.apply(&pins, || high(1));
        isa.apply(&pins, || high(1));
        first.apply(&pins, || high(0));
        isa.apply(&pins, || high(0));
        assert_eq!(chip.taken(), [(16, true), (10, true), (17, true), (16, false)]);
        second.apply(&pins, || high(0));
        assert_eq!(chip.taken(), [(17, false), (10, false)]);
    }

    #[test]
    fn dead_device_lets_go_of_its_lines_for_good() {
        let chip = Recorded::default();
        let pins = Pins::new(Box::new(chip.clone()));
        let lines = with_lines(3, &[Line::Isa(5)]);
        lines.apply(&pins, || high(1));
        lines.kill(&pins);
        lines.apply(&pins, || high(1));
        assert_eq!(chip.taken(), [(5, true), (5, false)]);
    }

    #[test]
    fn older_level_never_overwrites_a_newer_one() {
        // The committed level is read under the device's lock: many threads that race to apply it end at the last one.
        let pins = Pins::new(Box::new(NoChip));
        let lines = with_lines(4, &[Line::Isa(6)]);
        let committed = std::sync::atomic::AtomicU32::new(0);
        for last in [1, 0, 1, 0] {
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for value in 0..500_u32 {
                            committed.store(value & 1, Ordering::SeqCst);
                            lines.apply(&pins, || high(committed.load(Ordering::SeqCst)));
                        }
                        committed.store(last, Ordering::SeqCst);
                        lines.apply(&pins, || high(committed.load(Ordering::SeqCst)));
                    });
                }
            });
            assert_eq!(pins.level(6), last != 0);
        }
    }
}
