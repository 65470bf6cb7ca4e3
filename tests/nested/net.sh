# memory: 3072
# A guest's virtio card on a tap: an address from dnsmasq, pings and a file each way, while the card's host and its relay are
# killed. Each process is in a control group of its own.
. "$here/nested/lib.sh"
FILE_BYTES=1000000

# of VM NAME: the process number of a row of ps
of() { cofferdam ps --json | tr -d '\n\t"' | tr '{' '\n' | grep "vm: $1," | sed -n "s/.*name: $2, .*pid: \([0-9]*\),.*/\1/p"; }
# network: an address for the tap, once it is there, and dnsmasq and a web server behind it
network() {
    for _ in 1 2 3 4 5 6 7 8 9 10; do [ -e /sys/class/net/tap0 ] && break; sleep 1; done
    ip addr add 10.9.0.1/24 dev tap0
    ip link set tap0 up
    dnsmasq --conf-file=/dev/null --user=root --interface=tap0 --bind-interfaces --port=0 --leasefile-ro \
        --dhcp-range=10.9.0.10,10.9.0.20,255.255.255.0,1h --log-dhcp --log-facility="$work/dnsmasq.err" --pid-file=/tmp/dnsmasq.pid
    mkdir -p /tmp/www
    head -c "$FILE_BYTES" /dev/urandom >/tmp/www/file
    httpd -h /tmp/www -p 10.9.0.1:80
    # With an input that does not end: at its end it would take leave of the guest, who would stop sending.
    mkfifo "$work/never"
    nc -l -p 9 0<>"$work/never" >"$work/upload" &
    uploads=$!
}
# same_file VM WORD: what the guest says of the file is so
same_file() { test "$(fact "$1" "$2")" = "$(sha256sum </tmp/www/file | cut -d ' ' -f 1)"; }

# relay_is_limited: the kernel has limits for it
relay_is_limited() {
    group=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$(of net 'virtio-net net relay')/cgroup")
    [ "$(cat "$group/pids.max")" = 1 ] && [ "$(cat "$group/memory.max")" -gt 0 ] && [ "$(cat "$group/cpu.max")" = "125000 100000" ]
}

start net network --cpus 1 --console stdio --nic virtio,tap=tap0 --restart 1000 --require cgroup
network
check guest-gets-an-address "an address of dnsmasq's range, not '$(fact net address)'" says net '^GUEST address 10.9.0.1[0-9]'
check guest-pings-the-host "3 answers" says net '^GUEST pinged 3' 60
check host-pings-the-guest "3 answers" ping -c 3 -W 10 "$(fact net address)"
check relay-is-limited "one process, some memory, a processor and a quarter" relay_is_limited
tell_harness "AUDIT limits-are-as-the-recipes-say $(cofferdam ps --audit --json 2>"$work/ps.err" | tr -d '\n\t')"
check guest-fetches-a-file "$FILE_BYTES bytes" says net '^GUEST fetched' 120
check file-arrives-whole "its hash, not '$(fact net fetched)'" same_file net fetched
check guest-sends-it-back "the same bytes" says net '^GUEST sent' 120
sleep 1
check file-comes-back-whole "its hash" test "$(sha256sum <"$work/upload")" = "$(sha256sum </tmp/www/file)"

# The card's host and its relay are killed while the guest fetches it again: TCP mends what is lost.
(for _ in 1 2 3 4 5 6 7 8; do
    kill -9 "$(of net virtio-net)"; sleep 1
    kill -9 "$(of net 'virtio-net net relay')"; sleep 1
done) &
killer=$!
enter net 'echo GUEST again $(wget -q -O - http://10.9.0.1/file | sha256sum | cut -d " " -f 1)'
wait "$killer"
check guest-fetches-it-while-processes-are-killed "a hash" says net '^GUEST again [0-9a-f]' 180
check file-arrives-whole-then "its hash, not '$(fact net again)'" same_file net again
note "$(states net)"
enter net 'poweroff -f'
check net-guest-powers-off "status 0" ends net 0
kill "$uploads" 2>/dev/null
kill "$(cat /tmp/dnsmasq.pid)"
check nothing-is-left "no process" quiet_after
