//! The paravirtual panic device: one byte through which a guest says that it panicked.
//!
//! Source: the "PVPANIC DEVICE" specification: port 0x505, or the first byte of a PCI function's BAR 0; reading tells which
//! events are known, writing reports them.

use crate::declare;
use crate::latch::Latch;
use device::manifest::{self, Acpi, Class, Manifest, OptionSpec, Range, Space, Switch};
use device::{Access, AttachError, Device, NoRegister, OptionError, Options, Outputs, Powers, Scan};
use std::marker::PhantomData;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

pub(crate) const NAME: &str = "pvpanic";
pub(crate) const PCI_NAME: &str = "pvpanic-pci";

const PORT: u16 = 0x505;
/// The guest's kernel has panicked.
const PANICKED: u64 = 1 << 0;
/// The guest has panicked and goes on in a crash kernel, which will see to it.
const CRASH_LOADED: u64 = 1 << 1;

/// Its switches.
const PANICKED_WISH: u32 = 0;
const CRASH_LOADED_WISH: u32 = 1;

/// The PCI identity that the specification names, and "base system peripherals, other".
const VENDOR: u16 = 0x1b36;
const DEVICE: u16 = 0x0011;
const PCI_CLASS: u32 = 0x08_80_00;
/// The least that a memory BAR can be; beyond the first byte there is no register.
const BAR_BYTES: u64 = 16;

/// How a guest reaches it.
pub(crate) trait Wiring: Send + 'static {
    /// Adds name, range and place to what both have in common.
    fn manifest(common: impl Fn(&str, &str) -> Manifest) -> Manifest;
}

/// At a port of its own, described by ACPI.
pub(crate) struct Isa;
/// As a PCI function.
pub(crate) struct Pci;

impl Wiring for Isa {
    fn manifest(common: impl Fn(&str, &str) -> Manifest) -> Manifest {
        Manifest {
            ranges: vec![declare::ports("event", PORT, 1)],
            acpi: Some(Acpi { name: "PEVT".into(), hid: "QEMU0001".into(), ..Acpi::default() }),
            ..common(NAME, "Paravirtual panic device: the guest says that it panicked")
        }
    }
}

impl Wiring for Pci {
    fn manifest(common: impl Fn(&str, &str) -> Manifest) -> Manifest {
        let function = manifest::Pci {
            vendor: VENDOR,
            device: DEVICE,
            subsystem_vendor: 0,
            subsystem: 0,
            class: PCI_CLASS,
            revision: 0,
            capabilities: Vec::new(),
            vector_bar: 0,
            registers: Vec::new(),
            bridge_function: 0,
        };
        Manifest {
            ranges: vec![Range { name: "event".into(), length: BAR_BYTES, space: Space::Bar(0) }],
            pci: Some(function),
            ..common(PCI_NAME, "Paravirtual panic device as a PCI function")
        }
    }
}

/// The chip.
pub(crate) struct Pvpanic<W> {
    /// Those that it knows.
    events: u64,
    panicked: Latch,
    crash_loaded: Latch,
    wiring: PhantomData<W>,
}

fn specs() -> Vec<OptionSpec> {
    vec![declare::number("events", "3", "events that it knows: 1 a panic, 2 a crash kernel that is loaded, or both")]
}

fn events(options: &Options) -> Result<u64, OptionError> {
    match options.number("events")? {
        None => Ok(PANICKED | CRASH_LOADED),
        Some(events) if events & !(PANICKED | CRASH_LOADED) == 0 => Ok(events),
        Some(_) => Err(OptionError::Value {
            name: "events".into(),
            value: options.text("events").unwrap_or_default().into(),
            wanted: "0 to 3",
        }),
    }
}

/// What was reported since reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct State {
    /// 0 or 1: the switch is to be turned.
    panicked: u8,
    /// 0 or 1: the other switch is to be turned; the machine goes on.
    crash_loaded: u8,
    unused: [u8; 6],
}

impl<W: Wiring> Device for Pvpanic<W> {
    type State = State;

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        options.check(&specs())?;
        events(options)?;
        Ok(W::manifest(|name, summary| Manifest {
            options: specs(),
            wishes: vec![
                declare::switch(Switch::Panicked, "panicked", "a guest that panicked must be noticed"),
                declare::switch(Switch::CrashLoaded, "crash-loaded", "so must one that goes on in a crash kernel"),
            ],
            ..declare::nothing::<State>(name, summary, Class::System)
        }))
    }

    fn attach(options: &Options, powers: &mut Powers) -> Result<Pvpanic<W>, AttachError> {
        let mut latch = |wish| Ok::<_, AttachError>(Latch::new(powers.switch(wish)?));
        let (panicked, crash_loaded) = (latch(PANICKED_WISH)?, latch(CRASH_LOADED_WISH)?);
        Ok(Pvpanic { events: events(options)?, panicked, crash_loaded, wiring: PhantomData })
    }

    fn power_on(&mut self) -> State {
        State::new_zeroed()
    }

    fn check(&self, state: &State) -> bool {
        state.panicked <= 1 && state.crash_loaded <= 1 && state.unused == [0; 6]
    }

    fn read(&mut self, _: &mut State, at: Access) -> Result<u64, NoRegister> {
        if (at.offset, at.width) == (0, 1) { Ok(self.events) } else { Err(NoRegister) }
    }

    fn write(&mut self, state: &mut State, at: Access, value: u64) -> Result<(), NoRegister> {
        if (at.offset, at.width) != (0, 1) {
            return Err(NoRegister);
        }
        let value = value & self.events;
        state.panicked |= u8::from(value & PANICKED != 0);
        state.crash_loaded |= u8::from(value & CRASH_LOADED != 0);
        Ok(())
    }

    fn alarm(&mut self, _: &mut State, _: u64) {}

    fn button(&mut self, _: &mut State, _: u64) {}

    fn refresh(&mut self, _: &mut State, _: u64) {}

    fn scan(&mut self, _: &mut State, _: u64) -> Scan {
        Scan::Idle
    }

    fn pending(&self, _: &State) -> bool {
        false
    }

    fn outputs(&self, _: &State) -> Outputs {
        Outputs::default()
    }

    fn settle(&mut self, state: &State) {
        self.panicked.settle((state.panicked != 0).then_some(1));
        self.crash_loaded.settle((state.crash_loaded != 0).then_some(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Bells, Bench, World, conforms};

    struct Outside(Bells);

    impl World for Outside {
        const NAME: &'static str = NAME;
        fn new() -> Outside {
            Outside(Bells::new(2))
        }
        fn powers(&self) -> Powers {
            self.0.powers()
        }
    }

    conforms!(Outside);

    /// The same as a PCI function.
    struct Slot(Bells);

    impl World for Slot {
        const NAME: &'static str = PCI_NAME;
        fn new() -> Slot {
            Slot(Bells::new(2))
        }
        fn powers(&self) -> Powers {
            self.0.powers()
        }
    }

    mod function {
        use super::*;
        conforms!(Slot);
    }

    #[test]
    fn as_a_function_its_first_byte_is_the_register_and_the_rest_is_none() {
        let mut bench = Bench::<Slot>::new();
        assert_eq!(bench.read(0, 0, 1), Ok(3));
        assert_eq!(bench.read(0, 1, 1), Err(NoRegister));
        assert_eq!(bench.write(0, 1, 1, 1), Err(NoRegister));
        assert_eq!(bench.world.0.rung(0), 0);
        bench.write(0, 0, 1, 1).unwrap();
        assert_eq!(bench.world.0.rung(0), 1);
    }

    #[test]
    fn a_read_tells_both_events() {
        assert_eq!(Bench::<Outside>::new().read(0, 0, 1), Ok(3));
    }

    #[test]
    fn a_panic_turns_the_switch() {
        let mut bench = Bench::<Outside>::new();
        bench.write(0, 0, 1, 2).unwrap();
        assert_eq!(
            (bench.world.0.rung(0), bench.world.0.rung(1)),
            (0, 1),
            "a loaded crash kernel is no reason to stop"
        );
        bench.write(0, 0, 1, 1).unwrap();
        bench.write(0, 0, 1, 1).unwrap();
        assert_eq!((bench.world.0.rung(0), bench.world.0.rung(1)), (1, 1));
    }

    #[test]
    fn a_panic_is_told_again_after_a_restart() {
        let mut bench = Bench::<Outside>::new();
        bench.write(0, 0, 1, 1).unwrap();
        bench.restart();
        assert_eq!(bench.world.0.rung(0), 2);
    }

    #[test]
    fn wider_accesses_meet_no_register() {
        let mut bench = Bench::<Outside>::new();
        assert_eq!(bench.read(0, 0, 2), Err(NoRegister));
        assert_eq!(bench.write(0, 0, 4, 1), Err(NoRegister));
        assert_eq!(bench.world.0.rung(0), 0);
    }
}
