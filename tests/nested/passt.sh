# memory: 3072
# Guests behind passt, which needs no right to make a network: the C+ card with Linux's own driver and a passt of the VM's own, and
# a virtio card at the socket of a passt that runs already. Each gets an address and a file, and sends it back, over TCP.
. "$here/nested/lib.sh"
FILE_BYTES=1000000

if ! command -v passt >/dev/null; then
    skip passt "passt is missing (Debian package passt)"
    exit 0
fi
# What passt shows a guest is the network of its host: it needs one with a way out. It takes the gateway's address for its host.
tunctl -t way >/dev/null
ip addr add 10.9.1.2/24 dev way
ip link set way up
ip route add default via 10.9.1.1 dev way
# Who may send echo requests without a raw socket: all groups.
echo '0 2147483647' >/proc/sys/net/ipv4/ping_group_range
mkdir -p /tmp/www
head -c "$FILE_BYTES" /dev/urandom >/tmp/www/file
hash=$(sha256sum </tmp/www/file)
httpd -h /tmp/www -p 127.0.0.1:80
mkfifo "$work/never"

# goes_both_ways VM CARD: the guest's network works, and what went both ways is what it was
goes_both_ways() {
    # With an input that does not end: at its end it would take leave of the guest, who would stop sending.
    nc -l -p 9 0<>"$work/never" >"$work/$1.upload" &
    uploads=$!
    check "$2-gets-passts-address" "10.9.1.2, not '$(fact "$1" address)'" says "$1" '^GUEST address 10.9.1.2'
    check "$2-fetches-a-file" "$FILE_BYTES bytes" says "$1" '^GUEST fetched' 120
    check "$2-has-the-file-whole" "its hash" test "$(fact "$1" fetched)  -" = "$hash"
    check "$2-sends-it-back" "the same bytes" says "$1" '^GUEST sent' 120
    sleep 1
    check "$2-sent-it-whole" "its hash" test "$(sha256sum <"$work/$1.upload")" = "$hash"
    kill "$uploads" 2>/dev/null
    cofferdam stop "$1"
    check "$2-vm-ends" "status 0" ends "$1" 0
}

guest_kernel=$here/kernel-full guest_initrd=$here/guest-full.cpio extra="host=10.9.1.1 card=8139cp" \
    start own card+network --console stdio --nic rtl8139,cplus,user
check cplus-has-its-driver "8139cp, not '$(fact own driver)'" says own '^GUEST driver 8139cp'
goes_both_ways own cplus
check passt-of-the-vm-is-gone "no process" sh -c '! pidof passt'

passt --socket /tmp/passt.socket --quiet 2>"$work/passt.err"
check passt-listens "a socket" test -S /tmp/passt.socket
extra="host=10.9.1.1" start other network --console stdio --nic virtio,passt=/tmp/passt.socket
goes_both_ways other virtio
kill $(pidof passt httpd) 2>/dev/null
check nothing-is-left "no process" quiet_after
