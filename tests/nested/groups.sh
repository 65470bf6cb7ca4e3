# The same guest with its devices grouped otherwise, from standard input that is at its end, and from a full terminal.
. "$here/nested/lib.sh"
extra=

for group in class none; do
    start "$group" facts --cpus 2 --isolate "$group" --console stdio
    check "isolate-$group-boots" "the guest's shell is ready" says "$group" 'GUEST ready'
    check "isolate-$group-has-entropy" "two different draws" test "$(fact "$group" draw)" = "64 64 different"
    check "isolate-$group-has-a-keyboard-controller" "a port of the i8042" grep -q 'GUEST serio i8042 KBD port' "$work/$group.log"
    note "--isolate $group: $(hosts "$group" | wc -l) hosts"
    enter "$group" 'poweroff -f'
    check "isolate-$group-powers-off" "status 0" ends "$group" 0
done
check "nothing-is-left-after-them" "no process" quiet_after

# Two at once, each with a console and a disk of its own.
truncate -s 1M "$work/left.img" "$work/right.img"
start left - --cpus 1 --console stdio --disk "$work/left.img"
start right - --cpus 1 --console stdio --disk "$work/right.img"
check "first-of-two-boots" "the guest's shell is ready" says left 'GUEST ready'
check "second-of-two-boots" "the guest's shell is ready" says right 'GUEST ready'
enter left 'echo is-left >/dev/vda; sync; echo written'
enter right 'echo is-right >/dev/vda; sync; echo written'
both_wrote() { says left '^written' 30 && says right '^written' 30; }
check "both-run-at-once" "both write to their disk" both_wrote
check "each-writes-its-own-disk" "is-left and is-right" test "$(head -c 7 "$work/left.img")$(head -c 8 "$work/right.img")" = is-leftis-right
check "ps-shows-both" "hosts of left and of right" test -n "$(hosts left)" -a -n "$(hosts right)"
enter left 'poweroff -f'
check "first-of-two-powers-off" "status 0" ends left 0
enter right 'echo still $((40 + 2))'
check "second-goes-on-without-the-first" "an answer" says right '^still 42' 30
enter right 'poweroff -f'
check "second-of-two-powers-off" "status 0" ends right 0
check "nothing-is-left-after-two" "no process" quiet_after
