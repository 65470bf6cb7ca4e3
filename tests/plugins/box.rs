//! A box: port 0 gives the bytes of a file, one after the other, and prints; port 1 writes the next byte of the file.

use cofferdam_plugin::*;

state! { struct State { read: u32, written: u32, said: u32 } }

struct Box {
    out: Stream,
    content: File,
}

impl Device for Box {
    type State = State;

    fn manifest(_: &Options) -> Result<Manifest, Refusal> {
        Ok(Manifest::new("box", "what files and streams are for")
            .range(Range::ports("box", 0x5000, 2))
            .wish(Wish::new(Power::Stream, "out", "it prints"))
            .wish(Wish::new(Power::FileWrite, "content", "it has bytes")))
    }
    fn attach(_: &Options, powers: &mut Powers) -> Result<Box, Refusal> {
        Ok(Box { out: powers.stream("out")?, content: powers.file("content")? })
    }
    fn read(&mut self, state: &mut State, at: Access) -> Result<u64, NoRegister> {
        let mut byte = [0];
        let place = u64::from(state.read);
        state.read = state.read.wrapping_add(1);
        match (at.offset, at.width) {
            (0, 1) => self.content.read(place, &mut byte).map_err(|_| NoRegister)?,
            _ => return Err(NoRegister),
        }
        Ok(byte[0].into())
    }
    fn write(&mut self, state: &mut State, at: Access, value: u64) -> Result<(), NoRegister> {
        match (at.offset, at.width) {
            (0, 1) if self.out.room(state.said) > 0 => {
                self.out.put(state.said, value as u8);
                state.said = state.said.wrapping_add(1);
            }
            (1, 1) => {
                let done = self.content.write(state.written.into(), &[value as u8]);
                done.and_then(|()| self.content.flush()).map_err(|_| NoRegister)?;
                state.written = state.written.wrapping_add(1);
            }
            _ => return Err(NoRegister),
        }
        Ok(())
    }
    fn settle(&mut self, state: &State) {
        self.out.publish(state.said, 0);
    }
}

run!(Box);
