//! A temperature sensor with an alarm line.
//!
//! | offset | width | register |
//! | --- | --- | --- |
//! | 0 | 2 | temperature, in tenths of a degree |
//! | 2 | 2 | limit: at this temperature and above, the interrupt line is high |

use cofferdam_plugin::*;

state! { struct State { limit: u16 = 0xffff } }
struct Sensor {
    tenths: u64,
}

impl Device for Sensor {
    type State = State;
    const OPTIONS: &'static [OptionSpec] = &[
        OptionSpec::number("base", 0x440, "first port"),
        OptionSpec::number("tenths", 215, "the temperature, in tenths of a degree"),
    ];
    const REGISTERS: &'static [Register<Self>] = &[
        Register::<Self>::at(0, 2).read(|sensor, _, _| sensor.tenths),
        Register::<Self>::at(2, 2).field(|state| &mut state.limit).writable(),
    ];
    fn manifest(options: &Options) -> Result<Manifest, Refusal> {
        let range = Range::ports("registers", options.number("base"), 4);
        Ok(Manifest::new("NAME", "Temperature sensor with an alarm line").range(range).line(Line::Isa(5)))
    }
    fn attach(options: &Options, _: &mut Powers) -> Result<Sensor, Refusal> {
        Ok(Sensor { tenths: options.number("tenths") })
    }
    fn outputs(&self, state: &State) -> Outputs {
        Outputs { levels: (self.tenths >= state.limit.into()).into(), ..Outputs::default() }
    }
}

run!(Sensor);

#[cfg(test)]
mod tests;
