# on: initramfs
# An ordinary user who may open /dev/kvm, on a machine whose root cannot be pivoted away.
. "$here/nested/lib.sh"
user=guest
chmod 666 /dev/kvm
chown -R guest: "$work"

for group in device class none; do
    start "$group" facts --cpus 2 --isolate "$group" --console stdio
    check "user-isolate-$group-boots" "the guest's shell is ready" says "$group" 'GUEST ready'
    check "user-isolate-$group-has-entropy" "two different draws" test "$(fact "$group" draw)" = "64 64 different"
    if [ "$group" = device ]; then
        tell_harness "AUDIT user-audit-finds-every-host-as-its-recipe-says $(su -s /bin/sh guest -c 'cofferdam ps --audit --json' 2>"$work/ps.err" | tr -d '\n\t')"
        check user-owns-what-runs "no process of root's" sh -c '! ps -o user,args | grep "[c]offerdam: " | grep -q "^root"'
    fi
    enter "$group" 'poweroff -f'
    check "user-isolate-$group-powers-off" "status 0" ends "$group" 0
done
check "nothing-is-left-of-the-user" "no process" quiet_after

# The same from root, on this root.
user=
start root - --cpus 1 --console stdio
check "root-boots-on-an-initramfs" "the guest's shell is ready" says root 'GUEST ready'
enter root 'poweroff -f'
check "root-powers-off-on-an-initramfs" "status 0" ends root 0
