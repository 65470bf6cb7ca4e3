# only by name: seven alternating pairs of boots take minutes
# limit: 1800
# Sandboxed boot against --isolate none, alternating, in one run.
. "$here/nested/lib.sh"
cofferdam bench boot --kernel "$here/kernel" --initrd "$here/guest.cpio" --cmdline "$words do=leave" --json \
    >"$work/bench.json" 2>"$work/bench.err"
check bench-boot-runs "status 0" test "$?" = 0
tell_harness "BENCH $(tr -d '\n\t' <"$work/bench.json")"
