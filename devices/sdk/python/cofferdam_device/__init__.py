"""Write devices for Cofferdam virtual machines in Python.

A device is registers in, interrupts out. It opens nothing, has no thread, and no clock but the ``now`` of each access. All
that a guest could observe of it is its *state*: plain fields in memory that outlives the process. What the guest sees of a
state without asking, its *outputs*, is a function of the state; both take effect at once, when a call returns. A process that
is killed at any moment has done an operation or it has not.

Virtio devices have a module of their own: ``from cofferdam_device import virtio``.
"""

# isort: off
from typing import NoReturn

from .words import log  # First: it says what else cannot be loaded.
from .declare import (
    Line,
    Option,
    Range,
    Refusal,
    Register,
    Wish,
    device,
    doorbell,
    flag,
    isa,
    memory,
    memory_bar,
    number,
    pci,
    pin,
    port_bar,
    ports,
    text,
    wish,
)
from .bell import Bell, Latch
from .model import Access, Device, NoRegister, Outputs
from .powers import File, GuestMemory, OutsideGrant, Powers, Random
from .scanout import Drawing, Scanout
from .state import State, array, u8, u16, u32, u64
from .stream import Stream


def run(cls: type[Device]) -> NoReturn:
    """Serves the device until it is told to leave."""
    # Only a plugin needs pycapnp: a test of a device as a plain object does not.
    from .host import run as serve

    serve(cls)


__all__ = [
    "Access",
    "Bell",
    "Device",
    "Drawing",
    "File",
    "GuestMemory",
    "Latch",
    "Line",
    "NoRegister",
    "Option",
    "OutsideGrant",
    "Outputs",
    "Powers",
    "Random",
    "Range",
    "Refusal",
    "Register",
    "Scanout",
    "State",
    "Stream",
    "Wish",
    "array",
    "device",
    "doorbell",
    "flag",
    "isa",
    "log",
    "memory",
    "memory_bar",
    "number",
    "pci",
    "pin",
    "port_bar",
    "ports",
    "run",
    "text",
    "u16",
    "u32",
    "u64",
    "u8",
    "wish",
]
