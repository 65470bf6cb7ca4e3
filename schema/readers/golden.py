"""Reads each golden message with pycapnp, compares it with what it means, and writes it again.

    python golden.py FOLDER_OF_THE_SCHEMA
"""

import json
import pathlib
import sys

import capnp

capnp.remove_import_hook()


def messages(folder):
    """The structs of the schema, by type id."""
    structs = {}
    for source in sorted(folder.glob("*.capnp")):
        module = capnp.load(str(source))
        for name in dir(module):
            struct = getattr(module, name)
            if hasattr(struct, "from_segments"):
                structs[struct.schema.node.id] = struct
    return structs


def golden(path):
    """Type id and bytes of a golden file."""
    heading, *words = path.read_text().splitlines()
    return int(heading.split("type ")[1].split(",")[0], 16), bytes.fromhex("".join(words))


def difference(where, wanted, found):
    """Where a message is not what it should mean; nothing if it is."""
    if isinstance(wanted, dict):
        for name, value in wanted.items():
            if name not in found:
                return f"{where}.{name} is absent"
            inner = difference(f"{where}.{name}", value, found[name])
            if inner:
                return inner
        # What the meaning leaves out is zero or empty.
        for name, value in found.items():
            if name not in wanted and value not in (0, "", b"", [], None, "invalid"):
                return f"{where}.{name} is {value!r} and should not be there"
        return None
    if isinstance(wanted, list) and not isinstance(found, bytes):
        if len(wanted) != len(found):
            return f"{where} has {len(found)} entries, not {len(wanted)}"
        pairs = enumerate(zip(wanted, found))
        return next(filter(None, (difference(f"{where}[{index}]", *pair) for index, pair in pairs)), None)
    if isinstance(found, bytes):
        found = list(found)
        wanted = wanted or []
    if isinstance(found, int) and isinstance(wanted, str):
        wanted = int(wanted)
    return None if type(wanted) is type(found) and wanted == found else f"{where} is {found!r}, not {wanted!r}"


def read(struct, segment):
    """What pycapnp sees in a segment. No message is longer than the limit, or deeper."""
    with_limits = struct.from_segments([segment], traversal_limit_in_words=1 << 12, nesting_limit=8)
    return with_limits.to_dict()


def main(folder):
    structs = messages(folder)
    paths = sorted((folder / "golden").glob("*.hex"))
    wrong = 0
    for path in paths:
        identity, segment = golden(path)
        wanted = json.loads(path.with_suffix(".json").read_text())
        struct = structs[identity]
        found = read(struct, segment)
        written = struct.new_message(**found).to_segments()
        again = read(struct, written[0]) if len(written) == 1 else {}
        for step, seen in (("read", found), ("written and read again", again)):
            trouble = difference(path.stem, wanted, seen)
            if trouble:
                print(f"{path.name}, {step}: {trouble}")
                wrong += 1
    print(f"{len(paths)} golden messages, {wrong} wrong")
    return 1 if wrong or not paths else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve()))
