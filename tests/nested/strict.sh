# Every device in seccomp mode 1: a disk and random bytes by a helper, as a process of its own and as a thread.
. "$here/nested/lib.sh"
extra="to=/dev/vda"

# modes VM: each mode of seccomp that ps shows of its hosts, helpers left out
modes() {
    cofferdam ps --json | tr -d ' \n\t"' | tr '{' '\n' | grep "vm:$1," | grep -v 'class:helper,' |
        sed -n 's/.*seccomp_mode:\([0-9]\).*/\1/p' | sort -u | tr '\n' ' '
}

# helpers VM: how many processes help its hosts
helpers() { cofferdam ps --json | tr -d ' \n\t"' | tr '{' '\n' | grep "vm:$1," | grep -c 'class:helper,'; }

for helper in process thread; do
    truncate -s 64M "$work/$helper.img"
    start "$helper" facts+write --cpus 2 --sandbox strict --helper "$helper" --console stdio --disk "$work/$helper.img"
    check "strict-$helper-boots" "the guest's shell is ready" says "$helper" 'GUEST ready'
    check "strict-$helper-has-entropy" "two different draws" test "$(fact "$helper" draw)" = "64 64 different"
    check "strict-$helper-brings-no-trouble" "no 'nobody cared', stall or warning" \
        sh -c '! grep -q "GUEST trouble" "$1"' - "$work/$helper.log"
    check "strict-$helper-is-mode-1" "mode 1 and no other, not '$(modes "$helper")'" test "$(modes "$helper")" = "1 "
    [ "$helper" = process ] && wanted=2 || wanted=0
    check "strict-$helper-has-its-helpers" "$wanted processes, not $(helpers "$helper")" test "$(helpers "$helper")" = "$wanted"
    tell_harness "AUDIT strict-$helper-is-as-its-recipes-say $(cofferdam ps --audit --json 2>"$work/ps.err" | tr -d '\n\t')"
    check "strict-$helper-reads-back-the-same" "$(fact "$helper" wrote), not '$(fact "$helper" reads)'" \
        test -n "$(fact "$helper" wrote)" -a "$(fact "$helper" wrote)" = "$(fact "$helper" reads)"
    outside=$(sha256sum <"$work/$helper.img" | cut -d ' ' -f 1)
    check "strict-$helper-is-intact-outside" "$(fact "$helper" wrote), not $outside" test "$(fact "$helper" wrote)" = "$outside"
    enter "$helper" 'poweroff -f'
    check "strict-$helper-powers-off" "status 0" ends "$helper" 0
done
check "strict-leaves-nothing" "no process" quiet_after
