//! The device as a plain struct: no machine, no process.

use super::*;

fn at(offset: u64, width: u8) -> Access {
    Access { range: 0, offset, width, now: 0 }
}

fn sensor(tenths: &str) -> Sensor {
    let options = Options::parse(Sensor::OPTIONS, &[("tenths", tenths)]).expect("good options");
    Sensor::attach(&options, &mut Powers::default()).expect("all that it wishes for")
}

#[test]
fn a_register_at_another_width_is_none() {
    let mut sensor = sensor("300");
    let mut state = sensor.power_on();
    assert_eq!(sensor.read(&mut state, at(0, 1)), Err(NoRegister));
}

#[test]
fn the_temperature_is_read() {
    let mut sensor = sensor("300");
    let mut state = sensor.power_on();
    assert_eq!(sensor.read(&mut state, at(0, 2)), Ok(300));
}

#[test]
fn the_line_is_high_from_the_limit_on() {
    let mut sensor = sensor("300");
    let mut state = sensor.power_on();
    assert_eq!(sensor.outputs(&state).levels, 0);
    sensor.write(&mut state, at(2, 2), 300).expect("a register");
    assert_eq!(sensor.outputs(&state).levels, 1);
}
