# Has ib700wdt wind its watchdog for longer than that waits, and then winds it no more.
. /guest/load.sh
load ib700wdt timeout=8
echo "GUEST watchdog $(basename "$(readlink /sys/bus/platform/devices/ib700wdt/driver)")"
exec 3>/dev/watchdog
for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do
    echo . >&3
    sleep 1
done
echo "GUEST wound"
