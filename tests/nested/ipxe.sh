# memory: 3072
# takes: 220
# A PC boots over its RTL8139: SeaBIOS starts iPXE, which gets an address from dnsmasq and a script by TFTP; what that fetches by
# HTTP is a kernel, whose own driver then goes on with the card, with a file each way.
. "$here/nested/lib.sh"
mac=52:54:00:81:39:00
FILE_BYTES=1000000

# logs FILE PATTERN: waits until a server's log has it
logs() {
    left=$BOOT_SECONDS
    while ! grep -q -- "$2" "$work/$1.err"; do
        [ "$left" -gt 0 ] && alive "$pid_pc" || return 1
        left=$((left - 1))
        sleep 1
    done
}

mkdir -p /tmp/tftp /tmp/www
cat >/tmp/tftp/script.ipxe <<'SCRIPT'
#!ipxe
echo A script of the network: ${net0/mac} is ${net0/ip}, by ${net0/chip}
chain http://10.9.0.1/${net0/mac:hexhyp}
SCRIPT
cat >/tmp/www/52-54-00-81-39-00 <<SCRIPT
#!ipxe
kernel http://10.9.0.1/kernel-full $words do=card+network card=8139too
initrd http://10.9.0.1/guest-full.cpio
boot
SCRIPT
ln -s "$here/kernel-full" "$here/guest-full.cpio" /tmp/www
head -c "$FILE_BYTES" /dev/urandom >/tmp/www/file

mkfifo "$work/pc.in" "$work/never"
cofferdam run --name pc --firmware bios-256k.bin --boot n --memory "$guest_memory" --nic "rtl8139,tap=tap0,mac=$mac" \
    --debug-console "file=$work/firmware.log" 0<>"$work/pc.in" >"$work/pc.log" 2>"$work/pc.err" &
pid_pc=$!
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -e /sys/class/net/tap0 ] && break; sleep 1; done
ip addr add 10.9.0.1/24 dev tap0
ip link set tap0 up
dnsmasq --conf-file=/dev/null --user=root --interface=tap0 --bind-interfaces --port=0 --leasefile-ro \
    --dhcp-range=10.9.0.10,10.9.0.20,255.255.255.0,1h --log-facility="$work/dnsmasq.err" --pid-file=/tmp/dnsmasq.pid \
    --dhcp-boot=script.ipxe --enable-tftp --tftp-root=/tmp/tftp
httpd -f -vv -h /tmp/www -p 10.9.0.1:80 2>"$work/httpd.err" &
web=$!
nc -l -p 9 0<>"$work/never" >"$work/upload" &
uploads=$!

check ipxe-gets-an-address "DHCPACK for $mac" logs dnsmasq "DHCPACK(tap0) 10.9.0.1[0-9] $mac"
check ipxe-gets-a-script "sent by TFTP" logs dnsmasq "sent /tmp/tftp/script.ipxe to 10.9.0.1"
check ipxe-runs-the-script "a request by HTTP that names the card" logs httpd "/52-54-00-81-39-00"
check ipxe-fetches-a-kernel "a request for what comes after it" logs httpd "/guest-full.cpio"
# The whole kernel comes over the network first.
check fetched-kernel-runs "its driver of the card" says pc '^GUEST driver 8139too' 240
check kernel-gets-an-address "an address of dnsmasq's range" says pc '^GUEST address 10.9.0.1[0-9]'
check kernel-pings-the-host "3 answers" says pc '^GUEST pinged 3' 60
check host-pings-the-kernel "3 answers" ping -c 3 -W 10 "$(fact pc address)"
check kernel-fetches-a-file "$FILE_BYTES bytes" says pc '^GUEST fetched' 120
check file-arrives-whole "its hash" test "$(fact pc fetched)  -" = "$(sha256sum </tmp/www/file)"
check kernel-sends-it-back "the same bytes" says pc '^GUEST sent' 120
sleep 1
check file-comes-back-whole "its hash" test "$(sha256sum <"$work/upload")" = "$(sha256sum </tmp/www/file)"
cofferdam stop pc
check pc-ends "status 0" ends pc 0
kill "$uploads" "$web" "$(cat /tmp/dnsmasq.pid)" 2>/dev/null
check nothing-is-left "no process" quiet_after
