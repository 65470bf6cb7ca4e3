#!/usr/bin/env python3
"""Virtio entropy device: random bytes for the guest, which a stock Linux driver asks for.

Source: virtio 1.2, section 5.4. The registers and the queue are the library's.
"""

from cofferdam_device import run, virtio, wish

CHAIN_MAX = 64 << 10
"""Most bytes for one chain, so that a guest cannot keep the device from its registers for long. Fewer than asked for are
allowed (5.4.6.2)."""


class Entropy(virtio.Backend):
    function = virtio.Function(
        name="virtio-entropy",
        summary="Virtio source of random bytes, in Python",
        kind="entropy",
        number=4,
        pci_class=0xFF_00_00,
        memory_because="the guest puts its queue and its buffers wherever it likes in memory",
    )
    queues = (64,)
    wishes = [wish("entropy", "kernel", "the kernel's random bytes are what it hands on")]

    def attach(self, options, powers):
        self.random = powers.random

    def serve(self, request):
        # What the driver lets be read has no meaning (5.4.6.1).
        wanted, _ = request.chain.writable.split_at(CHAIN_MAX)
        if wanted.bytes == 0:
            raise virtio.Broken(virtio.Broken.SHORT)
        wanted.write(self.random.draw(wanted.bytes))
        return virtio.Served(written=wanted.bytes, work=wanted.bytes)


if __name__ == "__main__":
    run(virtio.device(Entropy))
