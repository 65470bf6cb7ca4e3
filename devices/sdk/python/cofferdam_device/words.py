"""What a plugin says to the people who run the machine. Made by hand and loaded first, so that it can be said that something
else could not be loaded."""

from __future__ import annotations

import os
import pathlib
import struct
import sys
import traceback
from typing import Any

CHANNEL = 3
SENTENCE_MAX = 400
EVENT = 4
HEADER = struct.Struct("<4sHHQBBHIQ")
_LOG = 0x16, 0xA3AAE881BDF18000
_SEVERITIES = {"error": 1, "warning": 2, "info": 3, "debug": 4}


def log(text: str, severity: str = "info") -> None:
    """One line for the people who run the machine: ``error``, ``warning``, ``info`` or ``debug``."""
    said = text.encode(errors="replace")[:SENTENCE_MAX].decode(errors="ignore").encode() + b"\0"
    # A struct of one word and one pointer, which points at the bytes behind it.
    body = struct.pack("<IHHQII", 0, 1, 1, _SEVERITIES[severity], 1, 2 | len(said) << 3)
    body += said + bytes(-len(said) % 8)
    try:
        os.write(CHANNEL, HEADER.pack(b"IMC1", 1, _LOG[0], 0, EVENT, 0, 0, len(body), _LOG[1]) + body)
    except OSError:
        # Nobody is left to be told that nobody listens.
        pass


def last_words(error: BaseException) -> None:
    """What this process dies of, and where in the device's own code."""
    if isinstance(error, SyntaxError):
        name = pathlib.Path(error.filename or "?").name
        log(f"{type(error).__name__}: {error.msg} ({name}:{error.lineno})", "error")
        return
    frames = traceback.extract_tb(error.__traceback__)
    here = pathlib.Path(__file__).parent
    place = [frame for frame in frames if here not in pathlib.Path(frame.filename).parents][-1:] or frames[-1:]
    where = f" ({pathlib.Path(place[0].filename).name}:{place[0].lineno})" if place else ""
    # Those of pycapnp have a stack behind the sentence.
    sentence = next(iter(str(error).splitlines()), "")
    log(f"{type(error).__name__}: {sentence}{where}", "error")


def _died_while_loading(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    last_words(error)
    os._exit(1)


if os.environ.get("HOME") is None:
    # Started as a plugin, with nothing but its channel: what goes wrong while the rest is loaded is said there.
    sys.excepthook = _died_while_loading
