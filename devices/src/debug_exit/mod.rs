//! The debug exit port: a write ends the run with a number. For test programs that run as guests.
//!
//! The first write decides; later ones, of a guest that has not been stopped yet, change nothing.

use crate::declare;
use crate::latch::Latch;
use device::manifest::{Class, Manifest, Switch};
use device::{Access, AttachError, Device, NoRegister, OptionError, Options, Outputs, Powers, Scan};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

pub(crate) const NAME: &str = "debug-exit";

const PORT: u16 = 0xf4;
/// A number of up to 32 bits: the widest port access there is.
const LENGTH: u16 = 4;

/// The port.
pub(crate) struct DebugExit {
    exit: Latch,
}

/// What was written first since reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct State {
    /// The number.
    code: u32,
    /// 0 or 1: `code` was written.
    written: u8,
    unused: [u8; 3],
}

fn specs() -> Vec<device::manifest::OptionSpec> {
    vec![declare::number("port", "0xf4", "I/O port, four bytes wide")]
}

impl Device for DebugExit {
    type State = State;

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        options.check(&specs())?;
        let port = declare::port_option(options, "port", PORT, LENGTH)?;
        let summary = "Debug exit port: a write of N ends the run with the number N";
        Ok(Manifest {
            ranges: vec![declare::ports("code", port, LENGTH)],
            wishes: vec![declare::switch(Switch::Exit, "exit", "the guest ends the run with a number")],
            options: specs(),
            ..declare::nothing::<State>(NAME, summary, Class::System)
        })
    }

    fn attach(_: &Options, powers: &mut Powers) -> Result<DebugExit, AttachError> {
        Ok(DebugExit { exit: Latch::new(powers.switch(0)?) })
    }

    fn power_on(&mut self) -> State {
        State::new_zeroed()
    }

    fn check(&self, state: &State) -> bool {
        state.written <= 1 && state.unused == [0; 3]
    }

    fn read(&mut self, _: &mut State, _: Access) -> Result<u64, NoRegister> {
        Err(NoRegister)
    }

    fn write(&mut self, state: &mut State, at: Access, value: u64) -> Result<(), NoRegister> {
        let (0, Ok(code)) = (at.offset, u32::try_from(value)) else { return Err(NoRegister) };
        if state.written == 0 {
            *state = State { code, written: 1, unused: [0; 3] };
        }
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
        // A bell that rings zero is not heard, so the number is told one higher.
        self.exit.settle((state.written != 0).then_some(u64::from(state.code) + 1));
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
    fn a_write_of_zero_rings_one() {
        let mut bench = Bench::<Outside>::new();
        bench.write(0, 0, 1, 0).unwrap();
        assert_eq!(bench.world.0.rung(0), 1);
    }

    #[test]
    fn the_largest_number_is_told_whole() {
        let mut bench = Bench::<Outside>::new();
        bench.write(0, 0, 4, 0xffff_ffff).unwrap();
        assert_eq!(bench.world.0.rung(0), 0x1_0000_0000);
    }

    #[test]
    fn the_first_write_decides() {
        let mut bench = Bench::<Outside>::new();
        bench.write(0, 0, 2, 0x1234).unwrap();
        bench.write(0, 0, 4, 9).unwrap();
        assert_eq!(bench.world.0.rung(0), 0x1235);
    }

    #[test]
    fn a_write_beside_the_port_does_nothing() {
        let mut bench = Bench::<Outside>::new();
        assert_eq!(bench.write(0, 1, 1, 5), Err(NoRegister));
        assert_eq!(bench.world.0.rung(0), 0);
    }

    #[test]
    fn a_port_that_leaves_no_room_is_refused() {
        for port in ["0xfffd", "0x10000", "-1", ""] {
            assert!(DebugExit::manifest(&Options::new([("port", port)])).is_err(), "{port}");
        }
        assert!(DebugExit::manifest(&Options::new([("port", "0xfffc")])).is_ok());
    }
}
