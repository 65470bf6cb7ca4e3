# What Linux's own drivers find of devices that are plugins: sources of random bytes, a disk, and two sensors.
. /guest/load.sh
load virtio_blk
for rng in $(cat /sys/class/misc/hw_random/rng_available); do
    echo "$rng" >/sys/class/misc/hw_random/rng_current
    head -c 256 /dev/hwrng >/tmp/draw-1
    head -c 256 /dev/hwrng >/tmp/draw-2
    echo "GUEST draw $rng $(wc -c </tmp/draw-1) $(wc -c </tmp/draw-2) $(cmp -s /tmp/draw-1 /tmp/draw-2 && echo same || echo different)"
done
echo "GUEST rngs $(wc -w </sys/class/misc/hw_random/rng_available)"
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/vda ] && break; sleep 1; done
echo "GUEST disk $(cat /sys/block/vda/ro) $(sha256sum </dev/vda | cut -d ' ' -f 1)"
echo "GUEST interrupts $(grep -c 'virtio.*-\(req\|input\)' /proc/interrupts) by MSI: $(grep -c 'MSI.*virtio' /proc/interrupts)"
echo "GUEST degrees $(inw 0x450) $(inw 0x460) $(inw 0x470)"
