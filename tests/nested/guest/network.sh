# An address for the one card there is; then a file from the host, and back. `host=` is the host's address, if it is another.
host=$(word host)
host=${host:-10.9.0.1}
card=$(ls /sys/class/net | grep -v '^lo$' | head -n 1)
echo "GUEST card $card"
echo "GUEST driver $(readlink "/sys/class/net/$card/device/driver" | sed 's,.*/,,')"
printf '#!/bin/sh\n[ "$1" = bound ] && ip addr add "$ip/24" dev "$interface"\nexit 0\n' >/tmp/bound
chmod 755 /tmp/bound
ip link set "$card" up
udhcpc -i "$card" -n -q -t 20 -s /tmp/bound
echo "GUEST address $(ip -4 addr show dev "$card" | sed -n 's/.*inet \([0-9.]*\).*/\1/p')"
echo "GUEST pinged $(ping -c 3 -W 10 $host | sed -n 's/.*, \([0-9]*\) packets received.*/\1/p')"
wget -q -O /tmp/file http://$host/file
echo "GUEST fetched $(sha256sum </tmp/file | cut -d ' ' -f 1)"
nc $host 9 </tmp/file
echo "GUEST sent"
