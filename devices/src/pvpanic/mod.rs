//! The paravirtual panic device: one port through which a guest says that it panicked.
//!
//! Source: the "PVPANIC DEVICE" specification (ISA variant): port 0x505, one byte; reading tells which events are known,
//! writing reports them.

use crate::declare;
use crate::latch::Latch;
use device::manifest::{Acpi, Class, Manifest, Switch};
use device::{Access, AttachError, Device, NoRegister, OptionError, Options, Outputs, Powers, Scan};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

pub(crate) const NAME: &str = "pvpanic";

const PORT: u16 = 0x505;
/// The guest's kernel has panicked.
const PANICKED: u64 = 1 << 0;
/// The guest has panicked and goes on in a crash kernel, which will see to it.
const CRASH_LOADED: u64 = 1 << 1;

/// The chip.
pub(crate) struct Pvpanic {
    panicked: Latch,
}

/// What was reported since reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct State {
    /// 0 or 1: the switch is to be turned.
    panicked: u8,
    /// 0 or 1: kept for whoever looks at the state; the machine goes on.
    crash_loaded: u8,
    unused: [u8; 6],
}

impl Device for Pvpanic {
    type State = State;

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        options.check(&[])?;
        let summary = "Paravirtual panic device: the guest says that it panicked";
        Ok(Manifest {
            ranges: vec![declare::ports("event", PORT, 1)],
            wishes: vec![declare::switch(Switch::Panicked, "panicked", "a guest that panicked must be noticed")],
            acpi: Some(Acpi { name: "PEVT".into(), hid: "QEMU0001".into(), ..Acpi::default() }),
            ..declare::nothing::<State>(NAME, summary, Class::System)
        })
    }

    fn attach(_: &Options, powers: &mut Powers) -> Result<Pvpanic, AttachError> {
        Ok(Pvpanic { panicked: Latch::new(powers.switch(0)?) })
    }

    fn power_on(&mut self) -> State {
        State::new_zeroed()
    }

    fn check(&self, state: &State) -> bool {
        state.panicked <= 1 && state.crash_loaded <= 1 && state.unused == [0; 6]
    }

    fn read(&mut self, _: &mut State, at: Access) -> Result<u64, NoRegister> {
        if at.width == 1 { Ok(PANICKED | CRASH_LOADED) } else { Err(NoRegister) }
    }

    fn write(&mut self, state: &mut State, at: Access, value: u64) -> Result<(), NoRegister> {
        if at.width != 1 {
            return Err(NoRegister);
        }
        state.panicked |= u8::from(value & PANICKED != 0);
        state.crash_loaded |= u8::from(value & CRASH_LOADED != 0);
        Ok(())
    }

    fn alarm(&mut self, _: &mut State, _: u64) {}

    fn button(&mut self, _: &mut State, _: u64) {}

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
            Outside(Bells::new(1))
        }
        fn powers(&self) -> Powers {
            self.0.powers()
        }
    }

    conforms!(Outside);

    #[test]
    fn a_read_tells_both_events() {
        assert_eq!(Bench::<Outside>::new().read(0, 0, 1), Ok(3));
    }

    #[test]
    fn a_panic_turns_the_switch() {
        let mut bench = Bench::<Outside>::new();
        bench.write(0, 0, 1, 2).unwrap();
        assert_eq!(bench.world.0.rung(0), 0, "a loaded crash kernel is no reason to stop");
        bench.write(0, 0, 1, 1).unwrap();
        bench.write(0, 0, 1, 1).unwrap();
        assert_eq!(bench.world.0.rung(0), 1);
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
