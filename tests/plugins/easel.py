#!/usr/bin/env python3
"""An easel: what the guest puts into its memory, four pixels, it shows as a picture."""

import struct

from cofferdam_device import Device, State, device, memory, run, wish


@device("easel", "what direct ranges and scanouts are for", kind="display")
class Easel(Device):
    ranges = [memory("canvas", 0xFED1_0000, 0x1000)]
    wishes = [
        wish("direct", "pixels", "the guest draws there", range="canvas"),
        wish("scanout", "picture", "people look at it"),
    ]

    class State(State):
        pass

    def attach(self, options, powers):
        self.pixels, self.picture = powers.direct("pixels"), powers.scanout("picture")

    def refresh(self, state, now):
        drawing = self.picture.begin(4, 1)
        drawing.row(0, struct.unpack("<4I", self.pixels.read(0, 16)))
        drawing.finish()


if __name__ == "__main__":
    run(Easel)
