"""The messages of the schema, as pycapnp makes them of its text."""

from __future__ import annotations

import importlib
import pathlib
import sys
import types
from typing import Any


class _Asyncio(types.ModuleType):
    """What pycapnp meets for ``asyncio``, of which it derives a class as it is loaded. A device has no event loop, and asyncio takes
    as long to load as pycapnp and all of this package. Who asks for more of it gets it."""

    class BufferedProtocol:
        __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("asyncio"), name)


def _pycapnp() -> Any:
    stands_in = "asyncio" not in sys.modules
    if stands_in:
        sys.modules["asyncio"] = _Asyncio("asyncio")
    try:
        return importlib.import_module("capnp")
    except ModuleNotFoundError as error:
        if error.name != "capnp":
            raise
        raise ModuleNotFoundError(
            f"{sys.executable} has no pycapnp; make an environment that has it (`python3 -m venv env`, `env/bin/pip install "
            "pycapnp`), and name its interpreter in the plugin's first line"
        ) from None
    finally:
        if stands_in:
            del sys.modules["asyncio"]


capnp = _pycapnp()
capnp.remove_import_hook()
_FOLDER = pathlib.Path(__file__).parent / "schema"
SCHEMA = capnp.load(str(_FOLDER / "host.capnp"))
IMC = capnp.load(str(_FOLDER / "imc.capnp"))
