#!/usr/bin/env python3
"""A temperature sensor with an alarm line.

| offset | width | register |
| --- | --- | --- |
| 0 | 2 | temperature, in tenths of a degree |
| 2 | 2 | limit: at this temperature and above, the interrupt line is high |
"""

from cofferdam_device import Device, Outputs, Register, State, device, isa, number, ports, run, u16


@device("NAME", "Temperature sensor with an alarm line", kind="system")
class Sensor(Device):
    options = [number("base", 0x440, "first port"), number("tenths", 215, "the temperature, in tenths of a degree")]
    ranges = [ports("registers", lambda options: options["base"], 4)]
    registers = [
        Register("registers", 0, width=2, on_read="temperature"),
        Register("registers", 2, width=2, field="limit", writable=True),
    ]
    lines = [isa(5)]

    class State(State):
        limit: u16 = 0xFFFF

    def attach(self, options, powers):
        self.tenths = options["tenths"]

    def temperature(self, state, at):
        return self.tenths

    def outputs(self, state):
        return Outputs(levels=int(self.tenths >= state.limit))


if __name__ == "__main__":
    run(Sensor)
