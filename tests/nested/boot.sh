# A Linux guest from an initramfs: each device in a process of its own, seen by the guest's own drivers and by ps.
. "$here/nested/lib.sh"

MEMORY_KIB_LEAST=200000
# Between the guest's reading of its clock and ours, on a loaded machine.
CLOCK_SECONDS=60

start shell facts --cpus 2 --isolate device --console stdio
check boots-to-a-shell "the guest's shell is ready" says shell 'GUEST ready'
check has-the-debian-kernel "an unmodified $(uname -r)" test "$(fact shell kernel)" = "$(uname -r)"
check has-two-cpus "2 cpus, not '$(fact shell cpus)'" test "$(fact shell cpus)" = 2
check has-its-memory "at least $MEMORY_KIB_LEAST KiB, not '$(fact shell memory-kib)'" \
    test "$(amount shell memory-kib)" -ge "$MEMORY_KIB_LEAST"
check entropy-driver-is-virtio "virtio_rng, not '$(fact shell rng)'" expr "$(fact shell rng)" : virtio_rng
check entropy-flows "two different draws of 64 bytes, not '$(fact shell draw)'" test "$(fact shell draw)" = "64 64 different"
check clock-driver-is-rtc-cmos "rtc_cmos, not '$(fact shell rtc-driver)'" expr "$(fact shell rtc-driver)" : rtc_cmos
check clock-tells-the-time "our time to $CLOCK_SECONDS s, not '$(fact shell rtc-epoch)' against $(date +%s)" \
    test "$(($(date +%s) - $(amount shell rtc-epoch)))" -le "$CLOCK_SECONDS"
check keyboard-controller-is-there "a port of the i8042" grep -q 'GUEST serio i8042 KBD port' "$work/shell.log"
check keyboard-answers "the kernel's AT keyboard" grep -q 'GUEST input AT .*keyboard' "$work/shell.log"
check kernel-has-no-trouble "no 'nobody cared', stall or warning" sh -c '! grep -q "GUEST trouble" "$1"' - "$work/shell.log"

# The kernel's view, taken here; what ps says of it is judged by the harness.
hosts shell >"$work/hosts"
have_hosts() { [ -s "$work/hosts" ] || { echo "ps shows no hosts"; return 1; }; }
own_namespaces() {
    have_hosts || return 1
    while read -r name pid; do
        for kind in user mnt pid net ipc uts; do
            [ "$(readlink "/proc/$pid/ns/$kind")" != "$(readlink "/proc/1/ns/$kind")" ] ||
                { echo "$name shares our $kind namespace"; return 1; }
        done
    done <"$work/hosts"
}
sealed() {
    have_hosts || return 1
    while read -r name pid; do
        for line in 'Seccomp:	2' 'NoNewPrivs:	1' 'CapEff:	0000000000000000' 'CapPrm:	0000000000000000' \
            'CapInh:	0000000000000000' 'CapBnd:	0000000000000000' 'CapAmb:	0000000000000000'; do
            grep -q "^$line" "/proc/$pid/status" || { echo "$name: not $line"; grep -E 'Seccomp|NoNew|Cap' "/proc/$pid/status"; return 1; }
        done
    done <"$work/hosts"
}
limited() {
    have_hosts || return 1
    while read -r name pid; do
        group=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$pid/cgroup")
        [ "$(cat "$group/pids.max")" = 1 ] && [ "$(cat "$group/memory.max")" -gt 0 ] && [ "$(cat "$group/cpu.max")" = "125000 100000" ] ||
            { echo "$name in $group: $(cat "$group/pids.max" "$group/memory.max" "$group/cpu.max")"; return 1; }
        grep -q "^Uid:	$((0x70000000 + pid))	" "/proc/$pid/status" || { echo "$name: $(grep Uid "/proc/$pid/status")"; return 1; }
    done <"$work/hosts"
}
no_stray_descriptors() {
    have_hosts || return 1
    while read -r name pid; do
        for link in "/proc/$pid"/fd/*; do
            target=$(readlink "$link")
            case $target in
            'anon_inode:[eventfd]'|socket:*|/memfd:cofferdam*) ;;
            *.img) case $name in *block*) ;; *) echo "$name holds $target"; return 1 ;; esac ;;
            *) echo "$name holds $target"; return 1 ;;
            esac
        done
        if [ "$(grep -c '/memfd:cofferdam:ram' "/proc/$pid/maps")" != 0 ]; then
            case $name in *uart*|*rtc*|*mc146818*|*i8042*|*pm*|*pvpanic*|*exit*) echo "$name maps guest memory"; return 1 ;; esac
        fi
    done <"$work/hosts"
}
tell_harness "AUDIT audit-finds-every-host-as-its-recipe-says $(cofferdam ps --audit --json 2>"$work/ps.err" | tr -d '\n\t')"
check hosts-have-namespaces-of-their-own "six namespaces that are not ours" own_namespaces
check hosts-are-sealed "filter, no_new_privs, no capabilities" sealed
check hosts-have-limits-and-a-user-of-their-own "one process, some memory, a processor and a quarter; a uid by the process's number" limited
check hosts-hold-nothing-else "eventfds, sockets and our regions only; no guest memory in a register device" no_stray_descriptors

enter shell 'echo sum $((40 + 2))'
check shell-answers "the sum of 40 and 2" says shell '^sum 42' 30
enter shell 'poweroff -f'
check power-off-ends-with-0 "status 0" ends shell 0
check nothing-is-left-running "no process" quiet_after
check ps-is-clean-afterwards "status 0, no VM" sh -c 'cofferdam ps --json | tr -d " \n" | grep -qx "\[\]"'

# The built-in guest runs on this kernel too, older than most.
cofferdam demo >"$work/demo.log" 2>"$work/demo.err"
check demo-runs-here "status 0" test "$?" = 0
