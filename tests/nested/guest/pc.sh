# The full kernel's own drivers on the devices of a PC: a diskette, an IDE disk, a CD, the clock's alarm, a printer, a network card, a mouse.
. /guest/load.sh
digest() { sha256sum | cut -d ' ' -f 1; }
forget() { echo 3 >/proc/sys/vm/drop_caches; }
# of NAME: how often an interrupt of that name came
of() { awk -v name="$1" '$NF == name { sum += $2 } END { print sum + 0 }' /proc/interrupts; }

load floppy
load crc32c_generic
load ext4
echo "GUEST controller $(dmesg | sed -n 's/.*\(FDC 0 is .*\)/\1/p')"
mkdir /a
mount -t ext4 /dev/fd0 /a && echo "GUEST diskette $(digest </a/filled)"
# What is written there is compared with what is read back past the page cache, here and outside.
head -c 100000 /dev/urandom >/a/new
echo "GUEST diskette-wrote $(digest </a/new)"
umount /a
forget
mount -t ext4 /dev/fd0 /a && echo "GUEST diskette-reads $(digest </a/new)"
umount /a
echo "GUEST diskette-interrupts $(of floppy)"

load ata_piix
load sd_mod
load sr_mod
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/sda ] && [ -b /dev/sr0 ] && break; sleep 1; done
echo "GUEST disk-mode $(cat /sys/class/ata_device/dev1.0/dma_mode)"
echo "GUEST cd-mode $(cat /sys/class/ata_device/dev2.0/dma_mode)"
head -c 33554432 /dev/urandom >/tmp/data
echo "GUEST disk-wrote $(digest </tmp/data)"
dd if=/tmp/data of=/dev/sda bs=1M conv=fsync 2>/dev/null
rm /tmp/data
forget
echo "GUEST disk-reads $(head -c 33554432 /dev/sda | digest)"
echo "GUEST cd $(digest </dev/sr0) $(cat /sys/block/sr0/size)"
echo "GUEST disk-interrupts $(of ata_piix)"

before=$(of rtc0)
echo +2 >/sys/class/rtc/rtc0/wakealarm
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -n "$(cat /sys/class/rtc/rtc0/wakealarm)" ] || break; sleep 1; done
echo "GUEST alarms $(($(of rtc0) - before))"

load parport_pc
load lp
for _ in 1 2 3 4 5; do [ -c /dev/lp0 ] && break; sleep 1; done
echo "GUEST port $(dmesg | sed -n 's/.*\(parport0: PC-style.*\)/\1/p')"
seq 100 >/dev/lp0
echo "GUEST printed"

load virtio_net
card=$(ls /sys/class/net | grep -v '^lo$' | head -n 1)
ip addr add 10.9.0.2/24 dev "$card"
ip link set "$card" up
echo "GUEST pinged $(ping -c 3 -W 10 10.9.0.1 | sed -n 's/.*, \([0-9]*\) packets received.*/\1/p')"

load psmouse
for _ in 1 2 3 4 5 6 7 8 9 10; do grep -q Mouse /sys/class/input/input*/name && break; sleep 1; done
for input in /sys/class/input/input*; do
    [ -e "$input" ] && echo "GUEST input $(cat "$input/name")"
done
dmesg | sed -n 's/.*\(psmouse serio1: .*\)/GUEST mouse-trouble \1/p'
dmesg -l emerg,alert,crit,err 2>/dev/null | sed 's/^/GUEST complaint /'
dmesg | grep -E 'nobody cared|soft lockup|rcu.*stall|BUG:|WARNING:' | grep -v fpu__init_system_xstate | sed 's/^/GUEST trouble /'
