# memory: 7168
# Sixteen vcpus, and memory on both sides of the hole below 4 GiB.
. "$here/nested/lib.sh"
extra="to=/dev/vda"
truncate -s 64M "$work/data.img"

guest_memory=256M
start sixteen facts --cpus 16 --console stdio
check sixteen-vcpus-boot "the guest's shell is ready" says sixteen 'GUEST ready' 400
check sixteen-vcpus-are-seen "16, not '$(fact sixteen cpus)'" test "$(fact sixteen cpus)" = 16
enter sixteen 'poweroff -f'
check sixteen-vcpus-power-off "status 0" ends sixteen 0 120

guest_memory=5G
start large facts+write --cpus 2 --console stdio --disk "$work/data.img"
check five-gib-boot "the guest's shell is ready" says large 'GUEST ready'
check five-gib-are-seen "at least 4.7 GiB, not '$(fact large memory-kib)' KiB" test "$(amount large memory-kib)" -ge 4900000
enter large 'dmesg | grep -c "mem 0x0000000100000000-.*usable" | sed "s/^/above-4-gib /"'
check memory-lies-above-4-gib "a usable range at 4 GiB" says large '^above-4-gib [1-9]' 30
# The kernel takes its pages from the highest zone first, so these 64 MiB travel through memory above 4 GiB.
outside=$(sha256sum <"$work/data.img" | cut -d ' ' -f 1)
check disk-reaches-above-4-gib "$(fact large wrote), not $outside" test "$(fact large wrote)" = "$outside"
enter large 'poweroff -f'
check five-gib-power-off "status 0" ends large 0
