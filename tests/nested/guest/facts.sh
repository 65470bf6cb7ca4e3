# What the guest's own drivers found, one fact a line.
echo "GUEST kernel $(uname -r)"
echo "GUEST cpus $(nproc)"
echo "GUEST memory-kib $(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)"
echo "GUEST rng $(cat /sys/class/misc/hw_random/rng_current)"
# Two draws of 64 bytes: each whole, and not the same.
dd if=/dev/hwrng of=/tmp/draw-1 bs=64 count=1 2>/dev/null
dd if=/dev/hwrng of=/tmp/draw-2 bs=64 count=1 2>/dev/null
echo "GUEST draw $(wc -c </tmp/draw-1) $(wc -c </tmp/draw-2) $(cmp -s /tmp/draw-1 /tmp/draw-2 && echo same || echo different)"
echo "GUEST rtc-driver $(cat /sys/class/rtc/rtc0/name)"
echo "GUEST rtc-epoch $(cat /sys/class/rtc/rtc0/since_epoch)"
echo "GUEST hwclock $(hwclock -r -u 2>&1)"
for port in /sys/bus/serio/devices/serio*; do
    [ -e "$port" ] && echo "GUEST serio $(cat "$port/description")"
done
for input in /sys/class/input/input*; do
    [ -e "$input" ] && echo "GUEST input $(cat "$input/name")"
done
echo "GUEST root $(awk '$2 == "/" { kind = $3 } END { print kind }' /proc/mounts)"
echo "GUEST disks $(ls /sys/block | grep '^vd' | tr '\n' ' ')"
# Interrupts the kernel gave up on ("nobody cared") and other complaints of its own.
dmesg -l emerg,alert,crit,err 2>/dev/null | sed 's/^/GUEST complaint /'
# The warning of the FPU's sizes is about the emulated processor, and the outer guest gives it too.
dmesg | grep -E 'nobody cared|soft lockup|rcu.*stall|BUG:|WARNING:' | grep -v fpu__init_system_xstate |
    sed 's/^/GUEST trouble /'
