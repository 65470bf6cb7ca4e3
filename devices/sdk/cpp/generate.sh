#!/bin/sh
# Makes C++ of the schema, for the libcapnp of this machine: `generate.sh SCHEMA_FOLDER OUT_FOLDER`. Its types are put into a
# namespace of their own, which the schema itself, that serves all languages, does not name.
set -eu
schema=$1
out=$2
mkdir -p "$out/schema"
for name in imc lane manifest host; do
    cat "$schema/$name.capnp" > "$out/schema/$name.capnp"
    # shellcheck disable=SC2016 # The dollar is Cap'n Proto's.
    echo 'using Cxx = import "/capnp/c++.capnp"; $Cxx.namespace("cofferdam::wire");' >> "$out/schema/$name.capnp"
done
cd "$out/schema"
exec capnp compile -I/usr/include -oc++:.. imc.capnp lane.capnp manifest.capnp host.capnp
