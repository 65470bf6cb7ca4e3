//! A temperature sensor with an alarm line.
//!
//! | offset | width | register |
//! | --- | --- | --- |
//! | 0 | 2 | temperature, in tenths of a degree |
//! | 2 | 2 | limit: at this temperature and above, the interrupt line is high |

use cofferdam_plugin::*;

state! {
    struct State { limit: u16 }
}

struct Sensor {
    tenths: u64,
}

impl Device for Sensor {
    type State = State;

    fn manifest(options: &Options) -> Result<Manifest, Refusal> {
        let base = options.number("base", 0x440)?;
        let base = u16::try_from(base).map_err(|_| Refusal(format!("option `base`: there is no port {base:#x}")))?;
        Ok(Manifest {
            ranges: vec![Range::ports("registers", base, 4)],
            lines: vec![Line::Isa(5)],
            options: vec![
                OptionSpec::new("base", OptionKind::Number, "0x440", "first port"),
                OptionSpec::new("tenths", OptionKind::Number, "215", "the temperature, in tenths of a degree"),
            ],
            ..Manifest::new("NAME", "Temperature sensor with an alarm line", Class::System)
        })
    }
    fn attach(options: &Options, _: &mut Powers) -> Result<Sensor, Refusal> {
        Ok(Sensor { tenths: options.number("tenths", 215)? })
    }
    fn power_on(&mut self) -> State {
        State { limit: 0xffff }
    }
    fn read(&mut self, state: &mut State, at: Access) -> Result<u64, NoRegister> {
        match (at.offset, at.width) {
            (0, 2) => Ok(self.tenths),
            (2, 2) => Ok(state.limit.into()),
            _ => Err(NoRegister),
        }
    }
    fn write(&mut self, state: &mut State, at: Access, value: u64) -> Result<(), NoRegister> {
        match (at.offset, at.width) {
            (2, 2) => state.limit = value as u16,
            _ => return Err(NoRegister),
        }
        Ok(())
    }
    fn outputs(&self, state: &State) -> Outputs {
        Outputs { levels: (self.tenths >= state.limit.into()).into(), ..Outputs::default() }
    }
}

fn main() {
    run::<Sensor>()
}

#[cfg(test)]
mod tests;
