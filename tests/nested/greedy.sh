# A Linux guest boots and works beside hosts that take all that they get. See tests/greedy_host.rs. First beside two that never
# sleep: one logs without end, the other is the clock, and raises and lowers its interrupt without end. Then beside four
# that again and again do the same of their own accord: one hangs, one dies, one takes memory, one starts processes.
. "$here/nested/lib.sh"
# The two take all of the processors that they get.
BOOT_SECONDS=480

# loses_lives VM HOST…: each of these hosts was started anew, or given up
loses_lives() {
    vm=$1
    shift
    for host; do
        for _ in 1 2 3 4 5 6 7 8 9 10; do
            cofferdam ps --json | tr -d ' \n\t"' | tr '{' '\n' | grep "vm:$vm,.*name:$host," |
                grep -q 'restarts:[1-9]\|state:retired' && continue 2
            sleep 1
        done
        return 1
    done
}

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

    start among facts --console stdio --cpus 2 --deadline 500 --restart 3 \
        --device debug-exit,port=0x5005 --device debug-exit,port=0x5009 --device debug-exit,port=0x500d \
        --device debug-exit,port=0x5011 --host-program debug-exit=/bin/greedy_host \
        --host-program debug-exit.1=/bin/greedy_host --host-program debug-exit.2=/bin/greedy_host \
        --host-program debug-exit.3=/bin/greedy_host --sandbox seccomp,debug-exit.2=process,debug-exit.3=process
    check boots-beside-a-hang-a-crash-loop-a-hog-and-a-fork-bomb "the guest's shell is ready" says among 'GUEST ready'
    check entropy-flows-among-them "two draws, not '$(fact among draw)'" test "$(fact among draw)" = "64 64 different"
    enter among 'echo sum $((40 + 2))'
    check shell-answers-among-them "the sum of 40 and 2" says among '^sum 42' 120
    note "among them: $(states among)"
    check hang-and-crash-loop-were-met "both lost lives" loses_lives among debug-exit debug-exit.1
    enter among 'poweroff -f'
    check powers-off-among-them "status 0" ends among 0 120
    check nothing-is-left-of-the-others "no process" quiet_after
else
    skip boots-beside-a-flood-and-a-storm "the greedy host was not built with the program"
fi
