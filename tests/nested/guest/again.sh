# Reads the disk, and random bytes of each source, TIMES times past the page cache, and says what that gave, each thing once.
echo "again $(
    for _ in $(seq "$TIMES"); do
        echo 3 >/proc/sys/vm/drop_caches
        sha256sum </dev/vda | cut -d ' ' -f 1
        for rng in $(cat /sys/class/misc/hw_random/rng_available); do
            echo "$rng" >/sys/class/misc/hw_random/rng_current
            head -c 64 /dev/hwrng | wc -c
        done
    done | sort -u | tr '\n' ' '
)"
