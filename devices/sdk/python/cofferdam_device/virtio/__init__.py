"""Virtio over PCI, as a library inside a plugin: a modern device (virtio 1.2, section 4.1) with split queues.

A device subclasses :class:`Backend`: what it offers and how it serves one chain of buffers. ``device(BACKEND)`` makes a
``Device`` of it. To everybody else that device is a memory BAR, doorbells, a pin and MSI-X vectors.

What survives a crash, and how: a queue's position is committed state; the rings are guest memory, which is not. So the order is:

1. ``scan`` serves chains and writes entries of the used ring behind its published index, where no driver looks;
2. the state is committed, with the queue's new positions;
3. ``settle`` publishes the used ring's index from the committed state;
4. the next ``scan`` decides whether the driver wants to be notified, which may be asked only after publication. The decision is
   state: an interrupt status, or a count of notifications for each source;
5. the state is committed, and ``settle`` rings the vectors whose counts it has not rung before.

A process that dies before 2 has done nothing: its successor finds the same chains and serves them again. One that dies later has
a successor that publishes again what was published, or should have been, and rings all vectors.

The MSI-X enable bit lies in configuration space, which is the VMM's, so here a source whose vector is "none" drives the pin.

Not modelled: what the Rust library does not model either, requests of several chains, and rings to the outside.
"""

from .chain import SEGMENTS_MAX, Broken, Buffers, Chain
from .describe import Function
from .device import CHAINS_PER_SCAN, QUEUE_SIZE_MAX, WORK_PER_SCAN, Backend, Request, Served, Virtio, device
from .state import QUEUES_MAX, State

__all__ = [
    "CHAINS_PER_SCAN",
    "QUEUES_MAX",
    "QUEUE_SIZE_MAX",
    "SEGMENTS_MAX",
    "WORK_PER_SCAN",
    "Backend",
    "Broken",
    "Buffers",
    "Chain",
    "Function",
    "Request",
    "Served",
    "State",
    "Virtio",
    "device",
]
