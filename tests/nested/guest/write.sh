# Writes 64 MiB nobody could guess to the disk named by `to=`, and says their hash.
to=$(word to)
head -c 67108864 /dev/urandom >/tmp/written
dd if=/tmp/written of="$to" bs=1M conv=fsync 2>/dev/null && echo "GUEST wrote $(sha256sum </tmp/written | cut -d ' ' -f 1)"
# Read back past the page cache.
echo 3 >/proc/sys/vm/drop_caches
echo "GUEST reads $(head -c 67108864 "$to" | sha256sum | cut -d ' ' -f 1)"
rm /tmp/written
