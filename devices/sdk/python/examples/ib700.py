#!/usr/bin/env python3
"""The watchdog of the iBASE IB700 single-board computer: a timer that ends the machine unless the guest winds it in time.

Source: iBASE, IB700 Pentium III CPU card, User's Manual, "Watchdog Timer Configuration": ports 0x441 and 0x443, and the table
of times.
"""

from cofferdam_device import Access, Device, Latch, Outputs, Register, State, device, ports, run, text, u8, u32, u64, wish

SECOND = 1_000_000_000
ACTIONS = {"reset": "reset", "poweroff": "powerOff", "panic": "panicked"}


@device("ib700", "iBASE IB700 watchdog timer", kind="system")
class Ib700(Device):
    options = [text("action", "reset", "what an expired timer does: reset, poweroff or panic")]
    ranges = [ports("stop", 0x441), ports("start", 0x443)]
    registers = [Register("stop", on_write="stop"), Register("start", on_write="start")]
    wishes = [
        wish(
            "switch",
            "expired",
            "a guest that stands still is to be ended",
            switch=lambda options: options.choice("action", ACTIONS),
        )
    ]

    class State(State):
        expires_ns: u64
        expiries: u32
        runs: u8

    def attach(self, options, powers):
        self.expired = Latch(powers.switch("expired"))

    def check(self, state):
        return state.runs <= 1 and (state.runs == 1 or state.expires_ns == 0)

    def stop(self, state, at: Access, value):
        state.runs = state.expires_ns = 0

    def start(self, state, at: Access, value):
        # Value 0 is the longest time, each further one two seconds less, and value 15 none at all.
        state.runs, state.expires_ns = 1, at.now + (30 - value % 16 * 2) * SECOND

    def alarm(self, state, now):
        if state.runs and state.expires_ns <= now:
            state.runs, state.expires_ns, state.expiries = 0, 0, state.expiries + 1

    def outputs(self, state):
        return Outputs(deadline=state.expires_ns if state.runs else None)

    def settle(self, state):
        self.expired.settle(state.expiries or None)


if __name__ == "__main__":
    run(Ib700)
