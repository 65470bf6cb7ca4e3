//! Port 0x61 of a PC: the speaker's two bits, and what a program reads beside them.
//!
//! Source: public descriptions of the PC/AT's speaker, and of the PS/2's system control port B.
//!
//! It is for machines whose kernel has no interval timer: where there is one, the port is the timer's.

use crate::declare;
use device::manifest::{Class, Manifest};
use device::{Access, AttachError, Device, NoRegister, OptionError, Options, Outputs, Powers, Scan};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

pub(crate) const NAME: &str = "speaker";

const PORT: u16 = 0x61;

/// Bits that are kept: the gate of the timer's third counter, the speaker's data, and the two that mask checks of memory.
const LATCHED: u8 = 0x0f;
const GATE: u8 = 1 << 0;
const DATA: u8 = 1 << 1;
/// Changes with each refresh of the memory.
const REFRESH: u8 = 1 << 4;
/// The output of the timer's third counter.
const OUTPUT: u8 = 1 << 5;

/// Time between two refreshes of the memory: 18 cycles of the timer's 1.193182 MHz.
const REFRESH_NS: u64 = 15_085;

/// The port.
pub(crate) struct Speaker;

/// What was written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct State {
    latched: u8,
    /// 0 or 1, for whoever looks at the state: the speaker follows the counter.
    sounds: u8,
    unused: [u8; 6],
}

impl State {
    fn set(&mut self, value: u8) {
        self.latched = value & LATCHED;
        self.sounds = u8::from(value & (GATE | DATA) == GATE | DATA);
    }

    fn value(&self, now: u64) -> u8 {
        let refresh = if now / REFRESH_NS % 2 == 1 { REFRESH } else { 0 };
        // Of a counter that nobody has loaded the output is high in the modes that make sound (82C54, "Mode 3").
        self.latched | refresh | OUTPUT
    }
}

impl Device for Speaker {
    type State = State;

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        options.check(&[])?;
        Ok(Manifest {
            ranges: vec![declare::ports("control", PORT, 1)],
            ..declare::nothing::<State>(NAME, "PC speaker at port 0x61, where the kernel has none", Class::System)
        })
    }

    fn attach(_: &Options, _: &mut Powers) -> Result<Speaker, AttachError> {
        Ok(Speaker)
    }

    fn power_on(&mut self) -> State {
        State::new_zeroed()
    }

    fn check(&self, state: &State) -> bool {
        let mut same = *state;
        same.set(state.latched);
        same == *state && state.unused == [0; 6]
    }

    fn read(&mut self, state: &mut State, at: Access) -> Result<u64, NoRegister> {
        Ok(state.value(at.now).into())
    }

    fn write(&mut self, state: &mut State, _: Access, value: u64) -> Result<(), NoRegister> {
        state.set(value as u8);
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

    fn settle(&mut self, _: &State) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Bench, World, conforms};

    struct Board;

    impl World for Board {
        const NAME: &'static str = NAME;
        fn new() -> Board {
            Board
        }
        fn powers(&self) -> Powers {
            Powers::default()
        }
    }

    conforms!(Board);

    #[test]
    fn four_bits_are_kept_and_the_others_are_the_boards() {
        let mut bench = Bench::<Board>::new();
        bench.write(0, 0, 1, 0xff).unwrap();
        assert_eq!(bench.read(0, 0, 1), Ok(0x2f));
        bench.write(0, 0, 1, 0x02).unwrap();
        assert_eq!(bench.read(0, 0, 1), Ok(0x22));
    }

    #[test]
    fn refresh_goes_on_with_time_whoever_looks() {
        let mut bench = Bench::<Board>::new();
        let mut seen = Vec::new();
        for count in 0..4 {
            bench.now = count * REFRESH_NS;
            seen.push(bench.read(0, 0, 1).unwrap() as u8 & REFRESH);
        }
        assert_eq!(seen, [0, REFRESH, 0, REFRESH]);
    }

    #[test]
    fn it_sounds_while_both_bits_are_on() {
        let mut device = Speaker;
        let mut state = device.power_on();
        for (value, sounds) in [(0, 0), (1, 0), (2, 0), (3, 1), (0xfc, 0)] {
            state.set(value);
            assert_eq!(state.sounds, sounds, "{value}");
        }
        assert!(!device.check(&State { sounds: 1, ..state }), "state that no write leaves");
    }
}
