# takes: 120
# The same guest with every access over each of the carriers, and with the carriers mixed.
. "$here/nested/lib.sh"
extra=

# carriers VM: what ps says that its hosts' lanes run over, each once
carriers() {
    cofferdam ps --json | tr -d ' \n\t"' | tr '{' '\n' | grep "vm:$1," | sed -n 's/.*carriers:\[\([^]]*\)\].*/\1/p' |
        tr ',' '\n' | sort -u | tr '\n' ' '
}

# carrier VM DEVICE: that of one device
carrier() {
    cofferdam ps --json | tr -d ' \n\t"' | tr '{' '\n' | grep "vm:$1,name:$2," | sed -n 's/.*carriers:\[\([^]]*\)\].*/\1/p'
}

for carrier in memory socket pipe virtio; do
    truncate -s 8M "$work/$carrier.img"
    start "$carrier" facts --cpus 2 --carrier "$carrier" --console stdio --disk "$work/$carrier.img"
    check "$carrier-boots" "the guest's shell is ready" says "$carrier" 'GUEST ready'
    check "$carrier-has-entropy" "two different draws" test "$(fact "$carrier" draw)" = "64 64 different"
    check "$carrier-has-a-keyboard-controller" "a port of the i8042" grep -q 'GUEST serio i8042 KBD port' "$work/$carrier.log"
    check "$carrier-brings-no-trouble" "no 'nobody cared', stall or warning" \
        sh -c '! grep -q "GUEST trouble" "$1"' - "$work/$carrier.log"
    check "$carrier-is-in-use" "$carrier and nothing else, not '$(carriers "$carrier")'" \
        test "$(carriers "$carrier")" = "$carrier "
    tell_harness "AUDIT $carrier-hosts-are-as-their-recipes-say $(cofferdam ps --audit --json 2>"$work/ps.err" | tr -d '\n\t')"
    enter "$carrier" "echo by $carrier >/dev/vda; sync; echo written"
    check "$carrier-writes-its-disk" "the guest's words in the image" says "$carrier" '^written' 30
    check "$carrier-keeps-what-was-written" "by $carrier" test "$(head -c $((3 + ${#carrier})) "$work/$carrier.img")" = "by $carrier"
    enter "$carrier" 'poweroff -f'
    check "$carrier-powers-off" "status 0" ends "$carrier" 0
done

start mixed facts --cpus 2 --carrier memory,uart16550=pipe,i8042=socket,virtio-entropy=virtio --console stdio
check "carriers-mix" "the guest's shell is ready" says mixed 'GUEST ready'
check "each-device-has-its-own" "pipe, socket, virtio and memory" \
    test "$(carrier mixed uart16550) $(carrier mixed i8042) $(carrier mixed virtio-entropy) $(carrier mixed mc146818)" = \
    "pipe socket virtio memory"
enter mixed 'poweroff -f'
check "mixed-powers-off" "status 0" ends mixed 0
check "nothing-is-left" "no process" quiet_after
