#!/usr/bin/env python3
"""A box: port 0 gives the bytes of a file, one after the other, and prints; port 1 writes the next byte of the file."""

from cofferdam_device import Device, Register, State, device, ports, run, u32, wish


@device("box", "what files and streams are for")
class Box(Device):
    ranges = [ports("box", 0x5000, 2)]
    registers = [
        Register("box", 0, width=1, on_read="next", on_write="say"),
        Register("box", 1, width=1, on_write="keep"),
    ]
    wishes = [wish("stream", "out", "it prints"), wish("fileWrite", "content", "it has bytes")]

    class State(State):
        read: u32
        written: u32
        said: u32

    def attach(self, options, powers):
        self.out, self.content = powers.stream("out"), powers.file("content")

    def next(self, state, at):
        state.read += 1
        return self.content.read(state.read - 1, 1)[0]

    def say(self, state, at, value):
        if self.out.room(state.said) > 0:
            self.out.put(state.said, value)
            state.said += 1

    def keep(self, state, at, value):
        self.content.write(state.written, bytes([value]))
        self.content.flush()
        state.written += 1

    def settle(self, state):
        self.out.publish(state.said, 0)


if __name__ == "__main__":
    run(Box)
