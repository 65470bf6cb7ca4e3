# lsm: selinux
# Labels of SELinux, by the module that the program ships, in a kernel that enforces. The probe takes the place of a device
# host whose whole sandbox is its label: what is refused here, the label alone refuses.
. "$here/nested/lib.sh"

probe=/probe/cofferdam
one=s0:c1,c2 other=s0:c3,c4
process=system_u:system_r:cofferdam_block_t:$one
object() { echo "system_u:object_r:cofferdam_$1_t:$2"; }
enforce() { echo "$1" >/sys/fs/selinux/enforce; }
label_of() { "$probe" context "$1"; }

mount -t selinuxfs selinuxfs /sys/fs/selinux
if [ ! -e /probe/policy ]; then
    skip selinux "the policy was not compiled: secilc is missing (Debian package secilc)"
    exit 0
fi
# The kernel wants all of it in one write.
dd if=/probe/policy of=/sys/fs/selinux/load bs=16M count=1 2>/dev/null
check policy-is-loaded "an MLS policy" test "$(cat /sys/fs/selinux/mls)" = 1
for program in /bin/cofferdam "$probe"; do "$probe" context "$program" "$(object exec s0)"; done
"$probe" context /dev/kvm system_u:object_r:kvm_device_t:s0
"$probe" context /dev/net/tun system_u:object_r:tun_tap_device_t:s0
enforce 1
check kernel-enforces "enforce is 1" test "$(cat /sys/fs/selinux/enforce)" = 1

cofferdam demo --label selinux --json >"$work/demo.log" 2>"$work/demo.err"
check demo-passes-labelled "status 0" test "$?" = 0
labels=$(sed -n 's/.*"label": "\(.*\)".*/\1/p' "$work/demo.log" | sort -u)
check hosts-have-the-label-of-their-class "char and block hosts, with the same two categories" sh -c '
    block=$(echo "$1" | sed -n "s/^system_u:system_r:cofferdam_block_t://p")
    expr "$block" : "s0:c[0-9]*,c[0-9]*$" && echo "$1" | grep -qx "system_u:system_r:cofferdam_char_t:$block"' - "$labels"
check audit-finds-labels-as-they-should-be "no difference" sh -c '! grep -A1 "\"differences\"" "$1" | grep -q "      \""' - "$work/demo.log"

cofferdam demo --sandbox strict --label selinux >"$work/strict.log" 2>"$work/strict.err"
check demo-passes-labelled-at-level-strict "status 0" test "$?" = 0

# A VM's disk has the VM's categories while it runs, and what it was before afterwards. Its network card has a relay, which takes
# frames from a tap, and its display one for viewers.
truncate -s 1M "$work/a.img" && cp "$work/a.img" "$work/b.img"
before=$(label_of "$work/a.img")
printf '\364\353\375' >"$work/halt"
echo secret >"$work/password" && chmod 600 "$work/password"
cofferdam run --name labelled --flat "$work/halt" --memory 64M --disk "$work/a.img" --nic rtl8139,tap=tap0 \
    --device vga --display "vnc,password-file=$work/password,port=5900" --label selinux \
    --console "file=$work/console" 0</dev/null 2>"$work/labelled.err" &
pid_labelled=$!
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do [ -n "$(hosts labelled)" ] && break; sleep 1; done
disk=$(label_of "$work/a.img")
check disk-is-the-vms "cofferdam_image_t with two categories, not '$disk'" \
    expr "$disk" : 'system_u:object_r:cofferdam_image_t:s0:c[0-9]*,c[0-9]*$'
check relay-has-its-label "cofferdam_relay_t" sh -c 'cofferdam ps --json | grep -q "system_u:system_r:cofferdam_relay_t:s0:c"'
check relay-takes-frames "from a tap that says so" frames_are_taken tap0
check relay-runs-on "running: $(states labelled)" sh -c 'echo "$1" | grep -q "rtl8139 net relay: running"' - "$(states labelled)"
check display-relay-has-its-label "cofferdam_viewers_t" sh -c 'cofferdam ps --json | grep -q "system_u:system_r:cofferdam_viewers_t:s0:c"'
check viewer-with-a-wrong-password-is-refused "a greeting and a refusal" viewer_is_refused 5900
tell_harness "AUDIT labels-are-as-the-recipes-say $(cofferdam ps --audit --json 2>"$work/ps.err" | tr -d '\n\t')"
cofferdam stop labelled
check disk-gets-its-label-back "'$before', not '$(label_of "$work/a.img")'" test "$(label_of "$work/a.img")" = "$before"

# Plugins, whose programs are others, have the type of plugins.
run_plugins selinux
check plugins-have-the-type-of-plugins "$plugged with cofferdam_plugin_t" \
    test "$(cofferdam ps --json | grep -c 'system_u:system_r:cofferdam_plugin_t:s0:c')" = "$plugged"
tell_harness "AUDIT plugins-are-as-their-recipes-say $(cofferdam ps --audit --json 2>"$work/ps.err" | tr -d '\n\t')"
cofferdam stop plugged

"$probe" context "$work/a.img" "$(object image "$one")"
"$probe" context "$work/b.img" "$(object image "$other")"
# act ACT [IMAGE]: how the probe ended, which is a host of the VM with the categories `one`
act() {
    "$probe" labelled selinux "$process" "$(object memory "$one")" "$(object channel "$one")" "${2:-$work/a.img}" "$1" \
        2>>"$work/probe.err" | tee -a "$work/probe.log" | sed -n 's/^end: //p'
}
# ends_with NAME EXPECTED ACT [IMAGE]
ends_with() {
    name=$1 expected=$2
    shift 2
    found=$(act "$@")
    check "$name" "'$expected', not '$found'" test "$found" = "$expected"
}
done='Some(Exited(0))' denied='Some(Exited(13))'
for mode in enforcing permissive; do
    [ "$mode" = enforcing ] && enforce 1 || enforce 0
    [ "$mode" = enforcing ] && wanted=$denied || wanted=$done
    ends_with "$mode-a-host-reads-its-disk" "$done" read-file
    ends_with "$mode-a-host-writes-its-disk" "$done" write-file
    for what in open open-root reopen-file map-file-executable socket; do ends_with "$mode-$what" "$wanted" "$what"; done
    if [ "$mode" = enforcing ]; then
        ends_with "$mode-another-vms-disk-does-not-arrive" "the probe said \`a grant did not arrive\`, not \`sealed\`" \
            read-file "$work/b.img"
        ends_with "$mode-execute" "$denied" execute
    else
        ends_with "$mode-another-vms-disk-arrives" "$done" read-file "$work/b.img"
        # A busybox that is called nothing says so.
        ends_with "$mode-execute" 'Some(Exited(127))' execute
    fi
done
dmesg | grep 'avc:  denied' | sed 's/.*avc:/avc:/; s/ino=[0-9]* //' | sort | uniq -c | tail -n 40
