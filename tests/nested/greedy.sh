# A Linux guest boots and works beside six hosts at once that take what they can get: log lines, interrupts, a vcpu's time,
# memory, processes, and restarts. See tests/greedy_host.rs.
. "$here/nested/lib.sh"
# Two of the six take all of the processors that they get.
BOOT_SECONDS=240

if [ -x /bin/greedy_host ]; then
    # debug-exit, and then debug-exit.1 to .4: flood, hang, crash, memory, processes. The clock: interrupts.
    set -- --host-program mc146818=/bin/greedy_host --host-program debug-exit=/bin/greedy_host
    for number in 1 2 3 4; do
        set -- "$@" --host-program "debug-exit.$number=/bin/greedy_host"
    done
    for port in 0x5000 0x5004 0x5008 0x500c 0x5010; do
        set -- "$@" --device "debug-exit,port=$port"
    done
    start beside facts --console stdio --deadline 1000 "$@"
    check boots-beside-a-flood-and-a-storm "the guest's shell is ready" says beside 'GUEST ready'
    # Each access wakes one of the other four, again and again.
    enter beside 'for port in 20484 20488 20492 20496 20484 20488 20492 20496; do dd if=/dev/port of=/dev/null bs=1 skip=$port count=1 2>/dev/null; done; echo touched $((40 + 2))'
    check touches-hosts-that-hang-crash-and-take "its shell goes on" says beside '^touched 42' 120
    ended() { grep -q "$1: device host ended" "$work/beside.err"; }
    for greedy in debug-exit.1 debug-exit.2 debug-exit.3 debug-exit.4; do
        check "$greedy-was-ended" "one that hangs, ends or makes a call it was not left" ended "$greedy"
    done
    check entropy-flows-beside-them "two draws, not '$(fact beside draw)'" test "$(fact beside draw)" = "64 64 different"
    note "beside them: $(states beside)"
    enter beside 'poweroff -f'
    check powers-off-beside-them "status 0" ends beside 0 120
    check nothing-is-left-of-them "no process" quiet_after
else
    skip boots-beside-a-flood-and-a-storm "the greedy host was not built with the program"
fi
