# takes: 90
# An ext4 root on virtio-blk; a second disk whose bytes are compared from outside; a third that may only be read.
. "$here/nested/lib.sh"
extra="root=/dev/vda to=/dev/vdb"

cp "$here/root.img" "$work/root.img"
truncate -s 64M "$work/data.img"
head -c 1048576 /dev/urandom >"$work/fixed.img"
fixed=$(sha256sum <"$work/fixed.img" | cut -d ' ' -f 1)

start disk write --cpus 2 --console stdio --disk "$work/root.img" --disk "$work/data.img" --disk "$work/fixed.img,readonly"
check ext4-root-boots "the shell of the ext4 root" says disk 'GUEST ready'
enter disk 'echo root is $(awk "\$2 == \"/\" { k = \$3 } END { print k }" /proc/mounts)'
check root-is-ext4 "ext4 at /" says disk '^root is ext4' 30
check 64-mib-are-written "a hash from the guest" test -n "$(fact disk wrote)"
check 64-mib-read-back-the-same "$(fact disk wrote), not '$(fact disk reads)'" test "$(fact disk wrote)" = "$(fact disk reads)"
outside=$(sha256sum <"$work/data.img" | cut -d ' ' -f 1)
check 64-mib-are-intact-outside "$(fact disk wrote), not $outside" test "$(fact disk wrote)" = "$outside"

enter disk 'echo read-only disk $(sha256sum </dev/vdc | cut -d " " -f 1)'
check read-only-disk-reads "its own hash" says disk "^read-only disk $fixed" 30
enter disk 'echo flag $(cat /sys/block/vdc/ro); echo x 2>/dev/null >/dev/vdc || echo refused'
check read-only-disk-says-so "the flag, and a write refused" says disk '^refused' 30
check read-only-disk-is-unchanged "the same bytes" test "$(sha256sum <"$work/fixed.img" | cut -d ' ' -f 1)" = "$fixed"

# The image is locked against a second user; the first does not notice.
start second - --console stdio --disk "$work/root.img"
check locked-disk-is-refused "status 1" ends second 1 30
check locked-disk-is-named "the image in the sentence" grep -q root.img "$work/second.err"

enter disk 'echo lasting >/kept; sync; poweroff -f'
check disk-guest-powers-off "status 0" ends disk 0
start again - --cpus 1 --console stdio --disk "$work/root.img"
check ext4-root-boots-again "the shell of the ext4 root" says again 'GUEST ready'
enter again 'cat /kept'
check file-outlives-the-guest "what was written before" says again '^lasting' 30
enter again 'poweroff -f'
check second-boot-powers-off "status 0" ends again 0
