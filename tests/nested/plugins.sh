# takes: 130
# Devices that are plugins, in Python, C++ and Rust, under Linux's own drivers: two virtio sources of random bytes, a virtio disk and
# the tutorial's sensors in one guest, whose plugins die meanwhile; and the IB700 watchdog in Python and C++, to the reset. That in
# Rust is driven by legacy.sh.
. "$here/nested/lib.sh"
plugins=$here/plugins
if [ -s "$plugins/missing" ]; then
    skip plugins "$(tr '\n' ' ' <"$plugins/missing")"
    exit 0
fi
# What a VM that does not reboot ends with when it is reset.
RESET=4
guest_kernel=$here/kernel-full guest_initrd=$here/guest-full.cpio

head -c 4194304 /dev/urandom >"$work/disk.img"
outside=$(sha256sum <"$work/disk.img" | cut -d ' ' -f 1)
start devices plugins --no-reboot --console stdio --deadline 20000 --restart 100 \
    --device "$plugins/ib700.py,grant=switch" \
    --device "$plugins/virtio_entropy.py,grant=memory+entropy" --device "$plugins/virtio_entropy-rust,grant=memory+entropy" \
    --device "$plugins/virtio_block,grant=memory+file-read,file=$work/disk.img" \
    --device "$plugins/thermo.py,base=0x450,tenths=215" --device "$plugins/thermo-cpp,base=0x460,tenths=198" \
    --device "$plugins/thermo-rust,base=0x470,tenths=173"
check devices-boot "the guest's shell is ready" says devices 'GUEST ready' 240
# Not before: plugins that load beside it would wait for a processor.
start cpp watchdog --no-reboot --console stdio --device "$plugins/ib700,grant=switch"
check random-bytes-of-all-sources "ours and two, not '$(fact devices rngs)'" test "$(fact devices rngs)" = 3
drawn() { tr -d '\r' <"$work/devices.log" | grep -c '^GUEST draw virtio_rng.* 256 256 different$'; }
check random-bytes-differ "two draws of 256 bytes from each" test "$(drawn)" = 3
check disk-reads-the-same "1 $outside is wanted, not '$(fact devices disk)'" test "$(fact devices disk)" = "1 $outside"
check degrees-are-read "215 198 173, not '$(fact devices degrees)'" test "$(fact devices degrees)" = "215 198 173"
note "interrupts of virtio queues: $(fact devices interrupts)"

# host NAME WHAT: a number that ps says of this host
host() {
    cofferdam ps --json | tr -d ' \n\t"' | sed 's/},{vm:/}\n{vm:/g' | grep "name:$1," | sed -n "s/.*$2:\([0-9]*\).*/\1/p"
}
for name in virtio_entropy virtio_entropy-rust virtio_block; do
    check "$name-answered-doorbells" "some, not '$(host "$name" doorbell)'" test "$(host "$name" doorbell)" -gt 0
done
tell_harness "AUDIT audit-finds-each-plugin-as-its-recipe-says $(cofferdam ps --audit --json 2>"$work/ps.err" | tr -d '\n\t')"

enter devices 'TIMES=12; . /guest/again.sh'
for _ in 1 2; do
    sleep 2
    kill -9 "$(host virtio_entropy pid)" "$(host virtio_entropy-rust pid)" "$(host virtio_block pid)"
done
check guest-notices-no-death "the same hash and as many random bytes each time" says devices "^again 64 $outside\|^again $outside 64" 120
for name in virtio_entropy virtio_entropy-rust virtio_block; do
    check "$name-was-started-anew" "restarts, not '$(host "$name" restarts)'" test "$(host "$name" restarts)" -ge 1
done

enter devices '. /guest/watchdog.sh'
for vm in devices cpp; do
    check "watchdog-of-$vm-waits-while-it-is-wound" "it is wound for 12 s, and the guest lives" says "$vm" 'GUEST wound' 120
    check "watchdog-of-$vm-is-driven-by-linux" "ib700wdt, not '$(fact "$vm" watchdog)'" test "$(fact "$vm" watchdog)" = ib700wdt
    check "watchdog-of-$vm-resets-the-machine" "status $RESET" ends "$vm" "$RESET" 120
done
check nothing-is-left-running "no process" quiet_after
