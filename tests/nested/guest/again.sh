# Reads the disk and random bytes TIMES times past the page cache, and says what that gave, each thing once.
echo "again $(
    for _ in $(seq "$TIMES"); do
        echo 3 >/proc/sys/vm/drop_caches
        sha256sum </dev/vda | cut -d ' ' -f 1
        head -c 64 /dev/hwrng | wc -c
    done | sort -u | tr '\n' ' '
)"
