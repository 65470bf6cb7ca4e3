# only by name: eighteen starts in each round take minutes
# limit: 2700
# A guest's reads from a diskette and an IDE disk: sandboxed, linked into the VMM, and by QEMU's devices, in one run.
. "$here/nested/lib.sh"
cofferdam bench disks --rounds 3 --json >"$work/bench.json" 2>"$work/bench.err"
check bench-disks-runs "status 0" test "$?" = 0
tell_harness "BENCH $(tr -d '\n\t' <"$work/bench.json")"
