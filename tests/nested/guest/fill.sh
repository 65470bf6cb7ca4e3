# Fills the ext4 file system of the disk named by `to=` with `mib=` MiB, and reads them back past the page cache; meanwhile asks
# for entropy. Says both hashes, and what the kernel called an error.
to=$(word to)
mkdir -p /filled
mount -t ext4 "$to" /filled
(while :; do dd if=/dev/hwrng of=/dev/null bs=64 count=1 2>/dev/null || sleep 1; done) &
asking=$!
echo "GUEST begins"
head -c 1048576 /dev/urandom >/tmp/block
# Each MiB is another one.
mib=$(word mib)
pieces() { for piece in $(seq "$mib"); do echo "$piece"; cat /tmp/block; done | head -c "$((mib << 20))"; }
echo "GUEST wrote $(pieces | tee /filled/file | sha256sum | cut -d ' ' -f 1)"
sync
echo 3 >/proc/sys/vm/drop_caches
echo "GUEST reads $(sha256sum </filled/file | cut -d ' ' -f 1)"
umount /filled
kill "$asking"
echo "GUEST errors $(dmesg -r | grep -c '^<[0-3]>')"
echo "GUEST error $(dmesg -r | grep '^<[0-3]>' | head -n 1)"
