#!/usr/bin/env python3
"""A device whose author did wrong: each port in another way. The last is a good one, and prints."""

import os

from cofferdam_device import Device, Register, State, device, ports, run, u16


@device("wrong", "what authors do")
class Wrong(Device):
    ranges = [ports("wrong", 0x5000, 4)]
    registers = [
        Register("wrong", 0, on_read="raises"),
        Register("wrong", 1, on_read="answers_nothing"),
        Register("wrong", 2, on_read="forks"),
        Register("wrong", 3, on_read="prints"),
    ]

    class State(State):
        reads: u16

    def raises(self, state, at):
        state.reads += 1
        raise ValueError("it is too cold")

    def answers_nothing(self, state, at):
        state.reads += 1

    def forks(self, state, at):
        return os.fork() & 1

    def prints(self, state, at):
        state.reads += 1
        print("it is", "warm")
        return state.reads


if __name__ == "__main__":
    run(Wrong)
