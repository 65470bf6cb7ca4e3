# memory: 3072
# Linux writes to an ext4 file system and reads back while the hosts of its disk, its entropy and its console are killed every
# 200 ms: 48 MiB, or as many as restart-256.sh says.
. "$here/nested/lib.sh"
mib=${mib:-48}
extra="to=/dev/vda mib=$mib"
# A guest that gets this little of the processor takes its time.
FILL_SECONDS=${FILL_SECONDS:-600}

# victims VM: those hosts, as far as they are up. They are the ones that hold a stream or guest memory.
victims() {
    for child in $(cat "/proc/$(pid "$1")/task/$(pid "$1")/children"); do
        grep -q -s '^cofferdam: host' "/proc/$child/cmdline" &&
            grep -q -s 'cofferdam:\(stream\|ram\)' "/proc/$child/maps" && echo "$child"
    done
}
# restarts VM: how often each host was started anew, the three that are killed first
restarts() {
    cofferdam ps --json | tr -d '\n\t" ' | tr '{' '\n' | grep "vm:$1," |
        sed -n 's/.*name:\([^,]*\),.*restarts:\([0-9]*\),.*/\2 \1/p' | sort -rn
}

truncate -s "$((mib + 64))M" "$work/data.img"
mkfs.ext4 -q -F "$work/data.img"
start filled fill --cpus 2 --console stdio --disk "$work/data.img" --restart 1000000
check guest-begins "the guest's first line" says filled 'GUEST begins'
(while :; do
    kill -9 $(victims filled) 2>/dev/null
    sleep 0.2
done) &
killer=$!
check guest-fills-its-disk "the guest's shell is ready" says filled 'GUEST ready' "$FILL_SECONDS"
kill "$killer"
restarts filled >"$work/restarts"
note "restarts: $(tr '\n' ';' <"$work/restarts")"
check hosts-were-killed-all-the-while "three of them at least 50 times" \
    test "$(sed -n 's/ .*//; 3p' "$work/restarts")" -ge 50
check what-was-written-reads-back-the-same "$(fact filled wrote), not '$(fact filled reads)'" \
    test -n "$(fact filled wrote)" -a "$(fact filled wrote)" = "$(fact filled reads)"
check the-kernel-has-nothing-to-say "no error: $(fact filled error)" test "$(fact filled errors)" = 0
enter filled 'poweroff -f'
check guest-powers-off "status 0" ends filled 0
check file-system-is-clean "nothing to mend" e2fsck -f -n "$work/data.img"
