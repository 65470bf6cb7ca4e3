"""The virtio library, with a device that copies what it may read to where it may write."""

import random
import unittest

from cofferdam_device import Access, NoRegister, virtio
from cofferdam_device.virtio import Broken
from cofferdam_device.virtio.guest import AVAIL, DESC, MEMORY_BYTES, SEAM, USED, Deaths, Guest
from cofferdam_device.virtio.state import EVENT_INDEX, State

OFFER = 1 << 3 | 1 << 7
NEEDS_RESET = 0x40
IN, OUT, TABLE = 0x8_0000, 0x9_0000, 0x7_0000
NEXT, WRITE, INDIRECT = 1, 2, 4


class Echo(virtio.Backend):
    function = virtio.Function("echo", "Copies", "system", 42, 0xFF_00_00, "its queue lies there")
    queues = (256, 64)
    config_bytes = 8
    served = 0

    def features(self):
        return OFFER

    def config(self):
        return bytes(range(1, 9))

    def serve(self, request):
        Echo.served += 1
        data = request.chain.readable.split_at(4096)[0].read()
        written = request.chain.writable.write(data)
        return virtio.Served(written, request.chain.readable.bytes + request.chain.writable.bytes)


def started(features=0, size=8, vectors=True):
    guest = Guest(Echo)
    guest.start(features, size, vectors)
    return guest


def pair(count):
    return [(IN, count, False), (OUT, count, True)]


class BadDrivers(unittest.TestCase):
    def expect(self, why, mischief):
        """Lets ``mischief`` happen on a running device, and expects that it asks for a reset because of ``why``."""
        for deaths in Deaths:
            for vectors in (True, False):
                guest = started(EVENT_INDEX, vectors=vectors)
                guest.memory.write(IN, b"good")
                guest.submit(5, pair(4))
                guest.deaths = deaths
                mischief(guest)
                guest.ring()
                if deaths is Deaths.NEVER:
                    self.assertEqual(guest.device.broken, why)
                    self.assertEqual(guest.vectors[0].rung, int(vectors))
                self.assertEqual(guest.status(), 0xF | NEEDS_RESET)
                self.assertEqual(guest.level(), not vectors)
                self.assertEqual(guest.load(0x1000, 1) & 2, 2, "the interrupt status tells of the configuration")
                # Nothing more is done until the reset, and after it all is well.
                state = bytes(guest.state.memory)
                guest.offer(5)
                guest.ring()
                self.assertEqual(bytes(guest.state.memory), state)
                guest.deaths = Deaths.NEVER
                guest.start()
                guest.submit(5, pair(4))
                guest.ring()
                self.assertEqual(guest.used(), [(5, 4)])

    def test_an_index_too_far_ahead(self):
        for index in (9, 0xFFFF):
            self.expect(Broken.INDEX, lambda guest, index=index: guest.memory.store(AVAIL + 2, index))

    def test_a_head_that_does_not_exist(self):
        for head in (8, 0xFFFF):
            self.expect(Broken.ENDLESS, lambda guest, head=head: guest.offer(head))

    def test_a_next_that_does_not_exist(self):
        def mischief(guest):
            guest.describe(DESC, IN, 1, NEXT, 8)
            guest.offer(0)

        self.expect(Broken.ENDLESS, mischief)

    def test_a_chain_that_goes_round_in_circles(self):
        def mischief(guest):
            guest.describe(DESC, IN, 1, NEXT, 1)
            guest.describe(DESC + 16, IN, 1, NEXT, 0)
            guest.offer(0)

        self.expect(Broken.ENDLESS, mischief)

    def test_an_indirect_table_that_goes_round_in_circles(self):
        def mischief(guest):
            guest.describe(TABLE, IN, 1, NEXT, 0)
            guest.describe(DESC, TABLE, 16 * 60_000, INDIRECT, 0)
            guest.offer(0)

        self.expect(Broken.LONG, mischief)

    def test_an_indirect_table_of_no_or_half_descriptors_or_too_many_or_outside_memory(self):
        tables = [(TABLE, count) for count in (0, 8, 24, 16 << 16, 0xFFFF_FFF0)]
        tables += [(address, 16) for address in (MEMORY_BYTES, MEMORY_BYTES - 8, (1 << 64) - 4, 1 << 63)]
        for address, count in tables:

            def mischief(guest, address=address, count=count):
                guest.describe(DESC, address, count, INDIRECT, 0)
                guest.offer(0)

            self.expect(Broken.ENDLESS, mischief)

    def test_an_indirect_table_in_an_indirect_table(self):
        def mischief(guest):
            guest.describe(TABLE, TABLE, 16, INDIRECT, 0)
            guest.describe(DESC, TABLE, 16, INDIRECT, 0)
            guest.offer(0)

        self.expect(Broken.ENDLESS, mischief)

    def test_a_chain_with_too_many_buffers(self):
        chain = [(IN, 1, False)] * (virtio.SEGMENTS_MAX + 1)
        self.expect(Broken.LONG, lambda guest: guest.submit_indirect(0, TABLE, chain))

    def test_a_readable_buffer_after_a_writable_one(self):
        chain = [(IN, 1, False), (OUT, 1, True), (IN, 1, False)]
        self.expect(Broken.ORDER, lambda guest: guest.submit(0, chain))

    def test_a_buffer_outside_memory(self):
        far = (1 << 64) - 1
        for address, count in ((MEMORY_BYTES, 1), (MEMORY_BYTES - 1, 2), (far, 1), (far, 1 << 31), (0, 0xFFFF_FFFF)):
            for flags in (0, WRITE):

                def mischief(guest, address=address, count=count, flags=flags):
                    guest.describe(DESC, address, count, flags, 0)
                    guest.offer(0)

                self.expect(Broken.OUTSIDE, mischief)

    def test_random_rings_never_raise_and_end(self):
        chance = random.Random(42)
        guest = Guest(Echo)
        before = Echo.served
        for turn in range(6_000):
            if turn % 8 == 0 or guest.status() != 0xF:
                guest.start(chance.choice((0, EVENT_INDEX)), 8, chance.random() < 0.5)
            for _ in range(chance.randrange(8)):
                at = chance.choice((DESC + 16 * chance.randrange(8), TABLE + 16 * chance.randrange(16)))
                address = chance.choice(
                    (chance.getrandbits(64), chance.randrange(MEMORY_BYTES + 64), DESC + chance.randrange(0x1_0000))
                    + (USED + chance.randrange(64), TABLE + chance.randrange(256))
                )
                length = chance.choice((chance.getrandbits(32), 16 * chance.randrange(8), chance.randrange(2000)))
                guest.describe(at, address, length, chance.randrange(8), chance.randrange(10))
            for _ in range(chance.randrange(4)):
                guest.offer(chance.randrange(9))
            if chance.random() < 0.06:
                guest.memory.write(AVAIL + chance.randrange(24), chance.randbytes(1))
            served = Echo.served
            guest.scan()
            self.assertLessEqual(Echo.served - served, virtio.CHAINS_PER_SCAN)
        self.assertGreater(Echo.served - before, 500, "the test gets somewhere")


class Registers(unittest.TestCase):
    def test_an_access_where_there_is_nothing_is_refused(self):
        guest = Guest(Echo)
        before = bytes(guest.state.memory)
        for offset in (0x3C, 0xFFF, 0x1001, 0x1FFF, 0x2008, 0x3001, 0x3008, 0x3FFF):
            at = Access("virtio", offset, 1, 0)
            with self.assertRaises(NoRegister):
                guest.device.read(guest.state, at)
            with self.assertRaises(NoRegister):
                guest.device.write(guest.state, at, 0)
        self.assertEqual(bytes(guest.state.memory), before)

    def test_a_queue_that_does_not_lie_in_memory_is_not_enabled_and_needs_a_reset(self):
        far = (MEMORY_BYTES, (1 << 64) - 16, 1 << 63)
        bad = [(0, DESC + 8), (1, AVAIL + 1), (2, USED + 2), (1, 0), (0, MEMORY_BYTES - 16)]
        for part, address in bad + [(part, address) for address in far for part in range(3)]:
            guest = Guest(Echo)
            parts = [DESC, AVAIL, USED]
            parts[part] = address
            for register, value in zip((0x20, 0x28, 0x30), parts, strict=True):
                guest.store(register, 8, value)
            guest.store(0x1C, 2, 1)
            self.assertEqual(guest.load(0x1C, 2), 0, parts)
            self.assertEqual(guest.status(), NEEDS_RESET)
            self.assertEqual(guest.device.broken, Broken.QUEUE)
            self.assertFalse(guest.level(), "no driver is there to be told")

    def test_a_driver_must_want_version_1_and_nothing_that_is_not_offered(self):
        for features, accepted in ((1 << 32 | OFFER, True), (OFFER, False), (1 << 32 | 1 << 4, False), (1 << 40, False)):
            guest = Guest(Echo)
            guest.store(0x14, 1, 3)
            for half in (0, 1):
                guest.store(0x08, 4, half)
                guest.store(0x0C, 4, features >> 32 * half & 0xFFFF_FFFF)
            guest.store(0x14, 1, 0xB)
            self.assertEqual(guest.status() & 8 != 0, accepted, hex(features))

    def test_an_access_of_any_width_and_place_sees_the_same_bytes(self):
        guest = started(OFFER)
        whole = bytes(guest.load(offset, 1) for offset in range(0x3C))
        for width in (2, 4, 8):
            for offset in range(0x3C - width + 1):
                self.assertEqual(guest.load(offset, width).to_bytes(width, "little"), whole[offset : offset + width])
        self.assertEqual(guest.load(0x39, 4), 0xFFFF_FFFF, "an access across the end is no register")

    def test_the_configuration_of_an_enabled_queue_is_fixed_until_a_reset(self):
        guest = started()
        guest.store(0x16, 2, 0)
        for register, width in ((0x18, 2), (0x20, 8), (0x28, 8), (0x30, 8), (0x1C, 2)):
            before = guest.load(register, width)
            guest.store(register, width, 0x40)
            guest.store(register, width, 0)
            self.assertEqual(guest.load(register, width), before, hex(register))
        guest.store(0x14, 1, 0)
        self.assertEqual([guest.load(0x20, 8), guest.load(0x1C, 2), guest.load(0x18, 2)], [0, 0, 256])


class Queues(unittest.TestCase):
    def test_chains_are_served_in_order_and_told_of(self):
        for deaths in Deaths:
            guest = started(EVENT_INDEX)
            guest.deaths = deaths
            guest.memory.write(IN, b"hello")
            guest.submit(2, pair(5))
            guest.submit(6, [(IN, 2, False), (OUT + 0x100, 1, True)])
            guest.notify()
            self.assertEqual(guest.used(), [(2, 5), (6, 1)], deaths)
            self.assertEqual(guest.memory.read(OUT, 6), b"hello\0")
            self.assertEqual(guest.memory.read(OUT + 0x100, 2), b"h\0")
            self.assertEqual(guest.vectors[1].rung == 1, deaths is Deaths.NEVER)
            self.assertFalse(guest.level())

    def test_nothing_is_served_before_the_driver_is_ready(self):
        guest = started()
        guest.state.status = 0xB
        guest.submit(0, pair(4))
        guest.ring()
        self.assertEqual(guest.used(), [])
        guest.store(0x14, 1, 0xF)
        self.assertEqual(guest.used(), [(0, 4)])

    def test_a_used_entry_is_not_shown_before_it_is_committed(self):
        guest = started()
        guest.submit(0, pair(4))
        working = State(bytearray(guest.state.memory))
        self.assertTrue(guest.device.scan(working, 0))
        self.assertEqual((guest.used(), guest.vectors[1].rung), ([], 0))
        guest.device.settle(working)
        self.assertEqual(guest.used(), [(0, 4)])
        self.assertEqual(guest.vectors[1].rung, 0, "whether to notify is asked only now")
        guest.state = working
        guest.ring()
        self.assertEqual(guest.vectors[1].rung, 1)

    def test_positions_wrap_around(self):
        guest = started(EVENT_INDEX)
        almost = 0xFFF0
        ring = guest.state.queues[0]
        ring.next_avail = ring.next_used = ring.decided = almost
        guest.memory.store(AVAIL + 2, almost)
        guest.memory.store(USED + 2, almost)
        guest.kill()
        guest.vectors[1].rung = 0
        for turn in range(almost, almost + 40):
            guest.memory.store(AVAIL + 4 + 8 * 2, turn)
            guest.submit(turn % 3 * 2, pair(5))
            guest.ring()
            self.assertEqual(guest.memory.load(USED + 2), turn + 1 & 0xFFFF)
        self.assertEqual((guest.status(), guest.vectors[1].rung), (0xF, 40))

    def test_with_the_event_index_the_driver_is_notified_when_it_asked_for_it(self):
        guest = started(EVENT_INDEX)
        guest.memory.store(AVAIL + 4 + 8 * 2, 2)
        rung = []
        for _ in range(5):
            guest.submit(0, pair(1))
            before = guest.vectors[1].rung
            guest.ring()
            rung.append(guest.vectors[1].rung - before)
        self.assertEqual(rung, [0, 0, 1, 0, 0])
        self.assertEqual(guest.memory.load(USED + 4 + 8 * 8), 5)

    def test_without_the_event_index_a_flag_keeps_the_device_silent(self):
        guest = started()
        for flag, rung in ((1, 0), (0, 1)):
            guest.memory.store(AVAIL, flag)
            guest.submit(0, pair(1))
            guest.ring()
            self.assertEqual(guest.vectors[1].rung, rung)

    def test_a_queue_without_a_vector_drives_the_pin_until_its_status_is_read(self):
        for deaths in Deaths:
            guest = started(EVENT_INDEX, vectors=False)
            guest.deaths = deaths
            guest.submit(0, pair(1))
            guest.ring()
            self.assertTrue(guest.level(), deaths)
            self.assertEqual(guest.load(0x1000, 1), 1)
            self.assertFalse(guest.level())

    def test_a_scan_does_a_bounded_amount_of_work(self):
        guest = started(size=256)
        for head in range(0, 256, 2):
            guest.submit(head, pair(1))
        before = Echo.served
        guest.scan()
        self.assertEqual(Echo.served - before, virtio.CHAINS_PER_SCAN)
        guest.ring()
        self.assertEqual(len(guest.used()), 128)
        guest = started()
        for head in range(4):
            guest.submit(head, [(0, MEMORY_BYTES // 2, True)])
        self.assertTrue(guest.scan())
        self.assertEqual(len(guest.used()), 1)

    def test_an_indirect_table_is_followed_and_a_buffer_may_span_two_windows(self):
        for deaths in Deaths:
            guest = started()
            guest.deaths = deaths
            guest.memory.write(SEAM - 3, b"across")
            chain = [(0, 0, False), (SEAM - 3, 6, False), (OUT, 2, True), (1 << 63, 0, True), (OUT + 8, 4, True)]
            guest.submit_indirect(7, TABLE + 3, chain)
            guest.ring()
            self.assertEqual(guest.used(), [(7, 6)])
            self.assertEqual(guest.memory.read(OUT, 12), b"ac\0\0\0\0\0\0ross")


class Restarts(unittest.TestCase):
    def life(self, seed, deaths):
        """A driver that does the same random things each time; gives all that is left."""
        chance = random.Random(seed)
        guest = Guest(Echo)
        guest.start(chance.choice((0, EVENT_INDEX)), 16, chance.random() < 0.75)
        guest.deaths = deaths
        for _ in range(100):
            head, address, length = chance.randrange(4) * 4, 0x8_0000 + chance.randrange(0x10_0000), chance.randrange(3000)
            chain = [(address, length, False), (address // 2 + 0x7_0000, length // 3, False)]
            chain.append((0x18_0000 + chance.randrange(0x4_0000), length, True))
            if chance.random() < 0.25:
                guest.submit_indirect(head, 0x1E_0000, chain)
            else:
                guest.submit(head, chain)
            guest.memory.store(AVAIL + 4 + 16 * 2, chance.getrandbits(16))
            chance.choice((guest.notify, guest.ring, lambda guest=guest: guest.load(0x1000, 1)))()
        self.assertEqual(guest.status(), 0xF)
        return bytes(guest.state.memory), guest.memory.read(0, MEMORY_BYTES)

    def test_a_life_with_deaths_leaves_the_same_state_and_memory_as_one_without(self):
        for seed in range(4):
            whole = self.life(seed, Deaths.NEVER)
            for deaths in Deaths:
                self.assertTrue(self.life(seed, deaths) == whole, f"seed {seed}, {deaths}")

    def test_a_successor_publishes_what_was_committed_and_rings_all_vectors(self):
        guest = started()
        guest.submit(0, pair(1))
        committed = State(bytearray(guest.state.memory))
        guest.device.scan(committed, 0)
        guest.state = committed
        self.assertEqual(guest.used(), [])
        guest.kill()
        self.assertEqual(guest.used(), [(0, 1)])
        self.assertEqual([vector.rung for vector in guest.vectors], [1, 1, 1])

    def test_state_that_this_device_could_not_have_left_is_refused(self):
        def in_ring(queue, field, value):
            return lambda state: setattr(state.queues[queue], field, value)

        mutations = [
            lambda state: setattr(state, "driver_features", state.driver_features | 1),
            lambda state: setattr(state, "driver_features", EVENT_INDEX),
            lambda state: setattr(state, "status", state.status | 0x10),
            lambda state: setattr(state, "status", state.status & ~8),
            lambda state: setattr(state, "config_vector", 3),
            in_ring(0, "vector", 3),
            in_ring(0, "size", 7),
            in_ring(0, "size", 512),
            in_ring(1, "size", 128),
            in_ring(0, "desc", MEMORY_BYTES),
            in_ring(0, "driver", (1 << 64) - 1),
            in_ring(0, "device", (1 << 64) - 2),
            in_ring(0, "next_used", 1),
            in_ring(2, "size_max", 8),
            in_ring(3, "next_avail", 1),
        ]
        guest = started(EVENT_INDEX)
        self.assertTrue(guest.device.check(guest.state))
        for number, mutation in enumerate(mutations):
            state = State(bytearray(guest.state.memory))
            mutation(state)
            self.assertFalse(guest.device.check(state), f"mutation {number}")

    def test_random_state_is_refused_or_harmless(self):
        chance = random.Random(7)
        guest = started(EVENT_INDEX)
        good, accepted = bytes(guest.state.memory), 0
        for _ in range(3_000):
            memory = bytearray(good)
            for _ in range(1 + chance.randrange(3)):
                memory[chance.randrange(len(memory))] = chance.randrange(256)
            if guest.device.check(State(memory)):
                accepted += 1
                guest.state = State(memory)
                guest.device.settle(guest.state)
                guest.ring()
        self.assertGreater(accepted, 30, "the test tries something")


if __name__ == "__main__":
    unittest.main()
