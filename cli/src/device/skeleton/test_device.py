"""The device as a plain object: no machine, no process."""

import unittest

from cofferdam_device import Access, NoRegister
from NAME import Sensor


class Test(unittest.TestCase):
    def setUp(self):
        self.sensor = Sensor()
        self.sensor.attach({"base": 0x440, "tenths": 300}, None)
        self.state = Sensor.State()

    def test_a_register_at_another_width_is_none(self):
        with self.assertRaises(NoRegister):
            self.sensor.read(self.state, Access("registers", 0, 1, 0))

    def test_the_temperature_is_read(self):
        self.assertEqual(self.sensor.read(self.state, Access("registers", 0, 2, 0)), 300)

    def test_the_line_is_high_from_the_limit_on(self):
        self.assertEqual(self.sensor.outputs(self.state).levels, 0)
        self.sensor.write(self.state, Access("registers", 2, 2, 0), 300)
        self.assertEqual(self.sensor.outputs(self.state).levels, 1)


if __name__ == "__main__":
    unittest.main()
