# memory: 3072
# A guest's virtio card at the socket of a passt, which needs no right to make a network: an address, and a file over TCP.
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
mkdir -p /tmp/www
head -c "$FILE_BYTES" /dev/urandom >/tmp/www/file
httpd -h /tmp/www -p 127.0.0.1:80

passt --socket /tmp/passt.socket --quiet 2>"$work/passt.err"
check passt-listens "a socket" test -S /tmp/passt.socket
extra="host=10.9.1.1" start other network --console stdio --nic virtio,passt=/tmp/passt.socket
check guest-gets-passts-address "10.9.1.2, not '$(fact other address)'" says other '^GUEST address 10.9.1.2'
check guest-fetches-a-file "$FILE_BYTES bytes" says other '^GUEST fetched' 120
check file-arrives-whole "its hash" test "$(fact other fetched)" = "$(sha256sum </tmp/www/file | cut -d ' ' -f 1)"
cofferdam stop other
check vm-ends "status 0" ends other 0
kill $(pidof passt httpd) 2>/dev/null
check nothing-is-left "no process" quiet_after
