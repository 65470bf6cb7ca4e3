//! A device whose author did wrong: each port in another way. The last is a good one.

use cofferdam_plugin::*;

state! { struct State { reads: u16 } }

struct Wrong;

impl Device for Wrong {
    type State = State;

    fn manifest(_: &Options) -> Result<Manifest, Refusal> {
        Ok(Manifest::new("wrong", "what authors do").range(Range::ports("wrong", 0x5000, 4)))
    }
    fn attach(_: &Options, _: &mut Powers) -> Result<Wrong, Refusal> {
        Ok(Wrong)
    }
    fn read(&mut self, state: &mut State, at: Access) -> Result<u64, NoRegister> {
        state.reads += 1;
        match at.offset {
            0 => panic!("it is too cold"),
            1 => std::process::exit(3),
            2 => std::process::abort(),
            _ => Ok(state.reads.into()),
        }
    }
}

run!(Wrong);
