# A Linux guest boots and works beside two hosts that never sleep: one logs without end, the other is the clock, and raises and
# lowers its interrupt without end. See tests/greedy_host.rs.
. "$here/nested/lib.sh"
# The two take all of the processors that they get.
BOOT_SECONDS=240

if [ -x /bin/greedy_host ]; then
    start beside facts --console stdio --device debug-exit,port=0x5000 \
        --host-program debug-exit=/bin/greedy_host --host-program mc146818=/bin/greedy_host
    check boots-beside-a-flood-and-a-storm "the guest's shell is ready" says beside 'GUEST ready'
    check the-flood-is-heard "lines of it" grep -q 'debug-exit: spam' "$work/beside.err"
    check entropy-flows-beside-them "two draws, not '$(fact beside draw)'" test "$(fact beside draw)" = "64 64 different"
    enter beside 'echo sum $((40 + 2))'
    check shell-answers-beside-them "the sum of 40 and 2" says beside '^sum 42' 120
    note "beside them: $(states beside)"
    enter beside 'poweroff -f'
    check powers-off-beside-them "status 0" ends beside 0 120
    check nothing-is-left-of-them "no process" quiet_after
else
    skip boots-beside-a-flood-and-a-storm "the greedy host was not built with the program"
fi
