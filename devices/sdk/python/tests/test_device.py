"""What a device is made of: options, state, registers, outputs, powers; and what is said of one that does wrong."""

import os
import unittest
from unittest import mock

from cofferdam_device import (
    Access,
    Device,
    GuestMemory,
    NoRegister,
    Outputs,
    Powers,
    Refusal,
    Register,
    Scanout,
    State,
    array,
    device,
    flag,
    memory_bar,
    number,
    ports,
    text,
    u8,
    u16,
    u32,
    u64,
    wish,
    words,
)
from cofferdam_device.declare import parse
from cofferdam_device.engine import Engine
from cofferdam_device.lane import ALARM, READ, WRITE, Entry, StateRegion
from cofferdam_device.manifest import manifest
from cofferdam_device.scanout import SCANOUT_BYTES


@device("thermo", "Temperature sensor")
class Thermo(Device):
    options = [number("base", 0x440, "first port"), flag("loud", False, "rings"), text("action", "reset", "what it does")]
    ranges = [ports("registers", lambda options: options["base"], 4), memory_bar("picture", 0, 0x1000)]
    registers = [
        Register("registers", 0, width=2, on_read="temperature"),
        Register("registers", 2, width=2, field="limit", writable=True),
        Register("registers", 3, width=1, field="limit"),
    ]
    wishes = [wish("direct", "pixels", "the guest draws there", range="picture")]

    class State(State):
        limit: u16 = 0xFFFF
        seen: u64

    answer = 300
    seen = Outputs()
    scanned = False

    def temperature(self, state, at):
        return self.answer

    def outputs(self, state):
        return self.seen

    def scan(self, state, now):
        return self.scanned


class Lane:
    """A lane that nothing comes by."""

    def take(self):
        return None

    def tell(self, state):
        pass


def served(thermo):
    """The device behind its engine, and what asks it."""
    memory = bytearray(8192)
    state = StateRegion(memoryview(memory), Thermo.State.BYTES)
    engine = Engine(thermo, [("registers", 4)], state, Lane(), lambda: None)
    return engine, lambda operation, offset=0, width=2, value=0: engine.serve(
        Entry(state.sequence + 1, operation, 0, width, offset, value, 0)
    )


def at(offset, width, name="registers"):
    return Access(name, offset, width, 0)


class Options(unittest.TestCase):
    def said(self, *settings):
        with self.assertRaises(Refusal) as refused:
            parse(Thermo.options, list(settings))
        return str(refused.exception)

    def test_options_that_cannot_be_are_refused_with_a_sentence(self):
        self.assertEqual(self.said(("bass", "1")), "there is no option `bass`; there are: base, loud, action")
        for bad in ("-1", "+1", "0x", "", " 1", "1_0", "0x+1", "18446744073709551616"):
            self.assertEqual(self.said(("base", bad)), f"option `base`: `{bad}` is not a number")
        self.assertEqual(self.said(("base", "1"), ("base", "1")), "option `base` is given twice")
        self.assertEqual(self.said(("loud", "very")), "option `loud`: `very` is not `on` or `off`")
        good = parse(Thermo.options, [("base", "0x450"), ("loud", "")])
        self.assertEqual(good, {"base": 0x450, "loud": True, "action": "reset"})
        with self.assertRaisesRegex(Refusal, "option `action`: `reset` is not halt or turn"):
            good.choice("action", {"halt": 1, "turn": 2})

    def test_ports_that_there_are_not_are_refused_with_a_sentence(self):
        with self.assertRaisesRegex(Refusal, "range `registers`: there is no port 0x10000"):
            manifest(Thermo, parse(Thermo.options, [("base", "0x10000")]))

    def test_a_power_that_is_none_or_that_no_plugin_has_is_refused_where_it_is_wished_for(self):
        for power in ("frames", "root"):
            with self.assertRaisesRegex(ValueError, f"`{power}` is no power"):
                wish(power, "it", "because")

    def test_memory_of_its_own_backs_a_whole_range(self):
        declared = manifest(Thermo, parse(Thermo.options, []))
        self.assertEqual((declared["wishes"][0]["range"], declared["wishes"][0]["bytes"]), (1, 0x1000))


class States(unittest.TestCase):
    def test_a_field_that_there_is_not_cannot_be_set(self):
        with self.assertRaisesRegex(AttributeError, "no field `limti`; there are limit, seen"):
            Thermo.State().limti = 5

    def test_what_is_no_number_cannot_be_kept(self):
        for value in (None, "5", 2.5):
            with self.assertRaisesRegex(TypeError, "field `limit` of the state is a number"):
                Thermo.State().limit = value

    def test_after_power_on_a_field_is_what_is_said_behind_it_or_zero(self):
        class Inner(State):
            kind: u8 = 7
            size: u32

        class Outer(Thermo.State):
            inner: array(Inner, 2)

        state = Outer()
        self.assertEqual((state.limit, state.seen, [item.kind for item in state.inner]), (0xFFFF, 0, [7, 7]))
        self.assertEqual(Outer(bytearray(Outer.BYTES)).limit, 0, "memory that is given is as it is")

    def test_what_does_not_fit_is_cut(self):
        state = Thermo.State()
        state.limit = 0x1_0012
        self.assertEqual(state.limit, 0x12)


class Registers(unittest.TestCase):
    def test_what_is_no_register_or_not_in_this_way_is_refused(self):
        thermo, state = Thermo(), Thermo.State()
        for access in (at(0, 1), at(1, 2), at(0, 2, "picture")):
            with self.assertRaises(NoRegister):
                thermo.read(state, access)
        for access in (at(0, 2), at(3, 1), at(2, 4)):
            with self.assertRaises(NoRegister):
                thermo.write(state, access, 1)
        thermo.write(state, at(2, 2), 0x1_0102)
        self.assertEqual((thermo.read(state, at(0, 2)), thermo.read(state, at(2, 2))), (300, 0x102))


class Engines(unittest.TestCase):
    def test_an_answer_that_is_no_number_ends_it_with_a_sentence(self):
        for answer in (None, "300", 2.5):
            thermo = Thermo()
            engine, ask = served(thermo)
            engine.start()
            before = bytes(engine.state.current())
            thermo.answer = answer
            with self.assertRaisesRegex(TypeError, "reading `registers` at 0x0 gave .*, which is no number"):
                ask(READ)
            self.assertEqual((engine.state.sequence, bytes(engine.state.current())), (0, before), "nothing was done")

    def test_an_answer_that_is_too_wide_is_cut_and_no_register_reads_as_ones(self):
        thermo = Thermo()
        engine, ask = served(thermo)
        engine.start()
        thermo.answer = 0x12_3456
        self.assertEqual(ask(READ), 0x3456)
        thermo.answer = -1
        self.assertEqual(ask(READ), 0xFFFF)
        self.assertEqual((ask(READ, 1, 1), ask(READ, 3, 2), ask(WRITE, 0)), (0xFF, 0xFFFF, 0xFFFF))

    def test_outputs_that_cannot_be_seen_end_it_with_a_sentence(self):
        for seen, sentence in (
            (None, "`outputs` gave None"),
            (Outputs(levels=1 << 32), "levels is 4294967296, which does not fit"),
            (Outputs(levels="high"), "levels is 'high', which is no number"),
            (Outputs(deadline=-1), "deadline is -1"),
            (Outputs(deadline=1.5), "deadline is 1.5, which is no number"),
            (Outputs(shadow=(1, 2)), "there are 8 shadow values, and not 2"),
            (Outputs(shadow=(1 << 64,) + (None,) * 7), "a shadow value is"),
        ):
            thermo = Thermo()
            engine, ask = served(thermo)
            engine.start()
            thermo.seen = seen
            with self.assertRaisesRegex((TypeError, ValueError), sentence):
                ask(WRITE, 2, 2, 5)
            self.assertEqual(engine.state.sequence, 0, "nothing was done")

    def test_a_scan_that_does_not_say_whether_something_was_done_ends_it_with_a_sentence(self):
        thermo = Thermo()
        engine, ask = served(thermo)
        engine.start()
        thermo.scanned = None
        with self.assertRaisesRegex(TypeError, "`scan` gave None"):
            ask(READ)

    def test_a_deadline_beyond_all_time_is_never(self):
        thermo = Thermo()
        thermo.seen = Outputs(deadline=1 << 70)
        engine, ask = served(thermo)
        engine.start()
        self.assertEqual(ask(ALARM), 0)


class Granted(unittest.TestCase):
    def test_what_was_not_granted_is_refused_with_a_sentence(self):
        powers = Powers()
        for take in (powers.switch, powers.file, powers.stream, powers.direct, powers.scanout):
            with self.assertRaisesRegex(Refusal, "the power `it` was not granted"):
                take("it")

    def test_what_is_taken_is_taken_once(self):
        powers = Powers()
        powers.directs["it"] = GuestMemory([(0, memoryview(bytearray(16)))])
        powers.direct("it").write(8, b"bytes")
        self.assertRaises(Refusal, powers.direct, "it")

    def test_a_picture_is_cut_to_its_room_and_shown_when_it_is_whole(self):
        region = memoryview(bytearray(SCANOUT_BYTES))
        scanout = Scanout(region)
        drawing = scanout.begin(1 << 40, 1 << 40)
        self.assertEqual((drawing.width, drawing.height, scanout.picture()), (2560, 1600, None))
        drawing.row(1 << 40, [1])
        drawing.row(-1, [1])
        drawing.row(1599, [1] * 2561)
        drawing.finish()
        drawing = scanout.begin(2, 1)
        drawing.row(0, [0x11_2233, 0x44_5566, 0x77_8899])
        drawing.finish()
        self.assertEqual(scanout.picture(), (2, 1, [0x11_2233, 0x44_5566]))
        self.assertEqual((region[0], bytes(region[4096:4104]).hex()), (4, "3322110066554400"))
        self.assertRaises(ValueError, Scanout, region[:4096])


class Words(unittest.TestCase):
    def heard(self, act):
        """The lines that reach whoever runs the machine."""
        lines = []

        def write(descriptor, packet):
            self.assertEqual((descriptor, packet[:4]), (3, b"IMC1"))
            lines.append(packet[56:].rstrip(b"\0").decode())
            return len(packet)

        with mock.patch.object(os, "write", write):
            act()
        return lines

    def test_last_words_name_the_line_of_the_device_and_not_of_its_library(self):
        thermo = Thermo()
        engine, ask = served(thermo)
        engine.start()
        thermo.answer = None
        try:
            ask(READ)
        except TypeError as error:
            (line,) = self.heard(lambda: words.last_words(error))
        self.assertRegex(line, r"^TypeError: reading .* \(test_device.py:\d+\)$")

    def test_whatever_is_said_is_one_line_that_can_be_sent(self):
        (line,) = self.heard(lambda: words.log("\ud800" + "ä" * 1000))
        self.assertEqual(line, "?" + "ä" * 199)

    def test_what_is_printed_is_told_line_by_line(self):
        try:
            from cofferdam_device.host import _Lines
        except ImportError:
            self.skipTest("pycapnp is missing")

        def prints():
            lines = _Lines("info")
            print("one\n\ntwo", file=lines)
            print("three", end="", file=lines)
            print(" of three", file=lines)

        self.assertEqual(self.heard(prints), ["one", "two", "three of three"])


if __name__ == "__main__":
    unittest.main()
