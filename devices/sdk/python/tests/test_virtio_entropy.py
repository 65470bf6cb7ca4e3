"""The example: a source of random bytes."""

import importlib.util
import pathlib
import unittest

from cofferdam_device import Random, virtio
from cofferdam_device.declare import Options
from cofferdam_device.manifest import manifest
from cofferdam_device.virtio.guest import Deaths, Guest

_path = pathlib.Path(__file__).parent.parent / "examples" / "virtio_entropy.py"
_spec = importlib.util.spec_from_file_location("virtio_entropy", _path)
entropy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(entropy)

BUFFER = 0x8_0000


def started():
    guest = Guest(entropy.Entropy, lambda powers: setattr(powers, "random", Random()))
    guest.start()
    return guest


class Test(unittest.TestCase):
    def test_a_chain_without_room_for_a_byte_needs_a_reset(self):
        for chain in ([(BUFFER, 64, False)], [(BUFFER, 0, True)]):
            guest = started()
            guest.submit(0, chain)
            guest.ring()
            self.assertEqual((guest.device.broken, guest.status()), (virtio.Broken.SHORT, 0x4F))

    def test_a_buffer_is_filled_and_no_byte_beyond_it(self):
        for deaths in Deaths:
            guest = started()
            guest.deaths = deaths
            guest.submit(0, [(BUFFER, 256, True)])
            guest.notify()
            self.assertEqual(guest.used(), [(0, 256)])
            data = guest.memory.read(BUFFER, 512)
            self.assertLess(data[:256].count(0), 64, "of 256 random bytes, 64 zeros are not to be expected")
            self.assertEqual(data[256:], bytes(256))
            self.assertGreater(guest.vectors[1].rung, 0)

    def test_two_requests_get_different_bytes(self):
        guest = started()
        guest.submit(0, [(BUFFER, 32, True)])
        guest.submit(1, [(BUFFER + 32, 32, True)])
        guest.ring()
        self.assertNotEqual(guest.memory.read(BUFFER, 32), guest.memory.read(BUFFER + 32, 32))

    def test_a_huge_buffer_gets_no_more_than_the_bound(self):
        guest = started()
        guest.submit(0, [(BUFFER, 0x10_0000, True)])
        guest.ring()
        self.assertEqual(guest.used(), [(0, entropy.CHAIN_MAX)])
        self.assertEqual(guest.memory.read(BUFFER + entropy.CHAIN_MAX, 256), bytes(256))

    def test_it_wishes_for_nothing_but_memory_and_entropy(self):
        declared = manifest(virtio.device(entropy.Entropy), Options())
        self.assertEqual([wish["power"] for wish in declared["wishes"]], ["memory", "entropy"])
        self.assertEqual((declared["pci"]["vendor"], declared["pci"]["device"]), (0x1AF4, 0x1044))


if __name__ == "__main__":
    unittest.main()
