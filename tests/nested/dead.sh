# takes: 180
# Each device host in turn is killed, then, in a second guest, stopped. The guest and the other devices go on, seen
# through the console; without a console, through the disk; without either, through the guest's reset.
. "$here/nested/lib.sh"
# The one way to reset that needs no device.
extra="reboot=t"
# Some ticks a second, and twenty seconds of silence before the guest resets.
TICKS_SECONDS=60
RESET_SECONDS=120

last_tick() { tr -d '\r' <"$work/$1.log" | sed -n 's/^tick \([0-9]*\)$/\1/p' | tail -n 1; }
disk_tick() { head -c 64 "$work/$1.img" | sed -n 's/^tick \([0-9]*\).*/\1/p'; }
# grows COMMAND VM: the number that COMMAND gives of VM grows by more than two
grows() {
    from=$("$1" "$2")
    for _ in $(seq "$TICKS_SECONDS"); do
        now=$("$1" "$2")
        [ "${now:-0}" -gt "$((${from:-0} + 2))" ] && return 0
        sleep 1
    done
    echo "$1 of $2: from ${from:-nothing} to ${now:-nothing}"
    return 1
}

for blow in KILL STOP; do
    vm=$(echo "$blow" | tr 'A-Z' 'a-z')
    truncate -s 1M "$work/$vm.img"
    start "$vm" ticks --cpus 2 --console stdio --disk "$work/$vm.img" --isolate device --no-reboot --restart off
    check "$vm-guest-ticks" "the guest's shell is ready" says "$vm" 'GUEST ready'
    grows disk_tick "$vm"
    hosts "$vm" >"$work/$vm.hosts"
    while read -r name pid; do
        case $name in *uart*|*block*) continue ;; esac
        kill "-$blow" "$pid"
        # Let the guest touch what has died, as far as a shell can.
        case $name in
        *rtc*|*mc146818*) enter "$vm" 'cat /sys/class/rtc/rtc0/since_epoch &' ;;
        *entropy*) enter "$vm" 'dd if=/dev/hwrng of=/dev/null bs=16 count=1 2>/dev/null &' ;;
        esac
        check "$vm-$name-leaves-the-console" "the guest ticks on" grows last_tick "$vm"
        check "$vm-$name-leaves-the-disk" "the guest writes on" grows disk_tick "$vm"
    done <"$work/$vm.hosts"
    while read -r name pid; do
        case $name in *uart*) ;; *) continue ;; esac
        kill "-$blow" "$pid"
        check "$vm-$name-leaves-the-disk" "the guest writes on" grows disk_tick "$vm"
    done <"$work/$vm.hosts"
    check "$vm-vm-still-runs" "its supervisor is there" alive "$(pid "$vm")"
    note "after $blow: $(states "$vm")"
    while read -r name pid; do
        case $name in *block*) kill "-$blow" "$pid" ;; esac
    done <"$work/$vm.hosts"
    # The guest resets when its disk is silent: the last device is gone, and its vcpus still run.
    check "$vm-guest-outlives-all-its-devices" "status 4 after the guest's own reset" ends "$vm" 4 "$RESET_SECONDS"
    check "$vm-leaves-nothing-running" "no process, stopped ones included" quiet_after
done

# Without its supervisor nothing goes on, and what comes next is not disturbed.
extra=
start orphan - --console stdio
says orphan 'GUEST ready'
kill -9 "$(pid orphan)"
check supervisor-killed-leaves-nothing-running "no process" quiet_after
check ps-is-clean-after-it "no VM" sh -c 'cofferdam ps --json | tr -d " \n" | grep -qx "\[\]"'
start orphan - --console stdio
check the-name-is-free-again "the guest's shell is ready" says orphan 'GUEST ready'
enter orphan 'poweroff -f'
check the-next-powers-off "status 0" ends orphan 0
