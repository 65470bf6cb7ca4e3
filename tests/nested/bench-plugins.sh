# only by name: sixteen boots and as many plugins that load take minutes
# limit: 2700
# Accesses to the IB700 watchdog in three languages, and boots of Linux beside each, in one run. Four rounds: each boot has each
# place in a round once.
. "$here/nested/lib.sh"
plugins=$here/plugins
if [ -s "$plugins/missing" ]; then
    skip plugins "$(tr '\n' ' ' <"$plugins/missing")"
    exit 0
fi
cofferdam bench plugins "$plugins/ib700" "$plugins/ib700.py" --rounds 4 --kernel "$here/kernel" --initrd "$here/guest.cpio" \
    --cmdline "$words do=leave" --json >"$work/bench.json" 2>"$work/bench.err"
check bench-plugins-runs "status 0" test "$?" = 0
tell_harness "BENCH $(tr -d '\n\t' <"$work/bench.json")"
