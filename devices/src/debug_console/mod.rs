//! The debug console of virtual machines: firmware writes bytes to a port, somebody outside reads them.

use crate::declare;
use device::manifest::{Class, Manifest, OptionSpec, Power, Register, RegisterKind};
use device::{Access, AttachError, Device, NoRegister, OptionError, Options, Outputs, Powers, Scan, Stream};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub(crate) const NAME: &str = "debug-console";

const PORT: u16 = 0x402;
/// What a load gives, by which software knows that somebody listens.
const PRESENT: u64 = 0xe9;
/// The posted kind: every byte. None raises an interrupt.
const POSTED: u8 = 0;
/// While the ring has this much room bytes are posted. With less they are not, so that the reader can catch up.
const AMPLE: usize = 512;

/// The port.
pub(crate) struct DebugConsole {
    stream: Box<dyn Stream>,
}

/// Where the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct State {
    /// Bytes put into the ring.
    out_head: u32,
    /// Bytes of input passed over: nothing here reads them.
    in_tail: u32,
}

fn specs() -> Vec<OptionSpec> {
    vec![declare::number("port", "0x402", "I/O port")]
}

impl Device for DebugConsole {
    type State = State;

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        options.check(&specs())?;
        let port = declare::port_option(options, "port", PORT, 1)?;
        Ok(Manifest {
            ranges: vec![declare::ports("data", port, 1)],
            registers: vec![Register { range: 0, offset: 0, width: 1, kind: RegisterKind::Posted(POSTED) }],
            wishes: vec![declare::wish(Power::Stream, "output", "what firmware says goes to a log")],
            options: specs(),
            ..declare::nothing::<State>(NAME, "Debug console port that firmware writes to", Class::Char)
        })
    }

    fn attach(_: &Options, powers: &mut Powers) -> Result<DebugConsole, AttachError> {
        Ok(DebugConsole { stream: powers.stream(0)? })
    }

    fn power_on(&mut self) -> State {
        let (out_head, in_tail) = self.stream.published();
        State { out_head, in_tail }
    }

    fn check(&self, _: &State) -> bool {
        true
    }

    fn read(&mut self, _: &mut State, at: Access) -> Result<u64, NoRegister> {
        if at.width == 1 { Ok(PRESENT) } else { Err(NoRegister) }
    }

    fn write(&mut self, state: &mut State, at: Access, value: u64) -> Result<(), NoRegister> {
        let (1, Ok(byte)) = (at.width, u8::try_from(value)) else { return Err(NoRegister) };
        if self.stream.room(state.out_head) > 0 {
            self.stream.put(state.out_head, byte);
            state.out_head = state.out_head.wrapping_add(1);
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

    fn outputs(&self, state: &State) -> Outputs {
        let ample = self.stream.room(state.out_head) >= AMPLE;
        Outputs { postable: u32::from(ample) << POSTED, ..Outputs::default() }
    }

    fn settle(&mut self, state: &State) {
        self.stream.publish(state.out_head, state.in_tail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Bench, World, conforms};
    use device::TestStream;

    struct Outside(TestStream);

    impl World for Outside {
        const NAME: &'static str = NAME;
        const STEPS: usize = 20_000;
        fn new() -> Outside {
            Outside(TestStream::default())
        }
        fn powers(&self) -> Powers {
            Powers { streams: vec![(0, Box::new(self.0.clone()))], ..Powers::default() }
        }
        fn seen(&self) -> Vec<u8> {
            self.0.output()
        }
    }

    conforms!(Outside);

    #[test]
    fn wider_stores_and_loads_are_none() {
        let mut bench = Bench::<Outside>::new();
        assert_eq!(bench.write(0, 0, 2, 0x4141), Err(NoRegister));
        assert_eq!(bench.read(0, 0, 4), Err(NoRegister));
        assert!(bench.world.0.output().is_empty());
    }

    #[test]
    fn bytes_come_out_in_order_and_a_load_says_that_somebody_listens() {
        let mut bench = Bench::<Outside>::new();
        for byte in b"SeaBIOS" {
            bench.write(0, 0, 1, u64::from(*byte)).unwrap();
        }
        assert_eq!(bench.world.0.output(), b"SeaBIOS");
        assert_eq!(bench.read(0, 0, 1), Ok(0xe9));
    }

    #[test]
    fn what_nobody_reads_in_time_is_lost_and_the_guest_goes_on() {
        let mut bench = Bench::<Outside>::new();
        bench.world.0.set_full(true);
        bench.write(0, 0, 1, 0x41).unwrap();
        bench.world.0.set_full(false);
        bench.write(0, 0, 1, 0x42).unwrap();
        assert_eq!(bench.world.0.output(), b"B");
    }
}
