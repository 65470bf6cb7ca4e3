# takes: 180
# The ways in which a guest ends, and what the program answers with.
. "$here/nested/lib.sh"

# Through each of the kernel's own ways to reset: ACPI's register, the keyboard controller, a triple fault.
for way in a k t; do
    extra="reboot=$way"
    start "reset_$way" - --console stdio --no-reboot
    says "reset_$way" 'GUEST ready'
    enter "reset_$way" 'reboot -f'
    check "reset-by-$way-ends-with-4" "status 4" ends "reset_$way" 4
    # Without a register of ACPI's the kernel takes the keyboard controller, and a triple fault where that takes its time.
    case $way in t) who='processor [0-9]*: it shut down' ;; *) who='\(i8042: the guest asks\|processor\)' ;; esac
    check "reset-by-$way-is-explained" "$who" grep -q "^cofferdam: vmm: $who" "$work/reset_$way.err"
done

extra=
start reboot - --console stdio
says reboot 'GUEST ready'
enter reboot 'reboot -f'
twice() { for _ in $(seq "$BOOT_SECONDS"); do [ "$(grep -c 'GUEST ready' "$work/reboot.log")" = 2 ] && return 0; sleep 1; done; return 1; }
check reboot-boots-again "a second shell" twice
check log-goes-on-after-a-reset "who asked for it" sh -c 'cofferdam logs reboot | grep -q "the guest asks for a reset\|it shut down"'
enter reboot 'poweroff -f'
check power-off-after-reboot-ends-with-0 "status 0" ends reboot 0

start panic - --console stdio
says panic 'GUEST ready'
enter panic 'echo c >/proc/sysrq-trigger'
check panic-ends-with-3 "status 3" ends panic 3

start button button --console stdio
says button 'GUEST waits for the button'
cofferdam powerdown button
check power-button-is-seen "the guest's driver sees it" says button 'GUEST saw the button' 30
check power-button-ends-with-0 "status 0" ends button 0

start stopped - --console file="$work/stopped.console"
for _ in $(seq "$BOOT_SECONDS"); do grep -q 'GUEST ready' "$work/stopped.console" && break; sleep 1; done
check console-goes-to-a-file "the console in the file" grep -q 'GUEST ready' "$work/stopped.console"
check stop-is-obeyed "status 0 of stop" cofferdam stop stopped
wait "$(pid stopped)"
check nothing-is-left-at-the-end "no process" quiet_after

# Standard input that is at its end, and one that does not exist.
cofferdam run --name ended --kernel "$here/kernel" --initrd "$here/guest.cpio" --memory "$guest_memory" --no-reboot \
    --cmdline "$words do=leave" --console stdio </dev/null >"$work/ended.log" 2>"$work/ended.err"
check input-at-its-end-is-no-error "status 0" test "$?" = 0
cofferdam run --name closed --kernel "$here/kernel" --initrd "$here/guest.cpio" --memory "$guest_memory" --no-reboot \
    --cmdline "$words do=leave" --console stdio <&- >"$work/closed.log" 2>"$work/closed.err"
check closed-input-is-no-error "status 0" test "$?" = 0
