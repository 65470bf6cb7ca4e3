# takes: 80
# A Linux guest at its shell, with nothing to do: what each of the program's processes takes of a processor meanwhile.
. "$here/nested/lib.sh"

# Of one processor, in thousandths: half a percent.
MOST_THOUSANDTHS=5
# A tick is 10 ms: long enough for it to be a tenth of what is allowed.
WATCH_SECONDS=20
TICKS_PER_SECOND=100
# After its first prompt the kernel still has a little to do.
SETTLE_SECONDS=10

# used: `pid ticks` of each of the program's processes, user and system time of all its threads. What a vcpu takes is its
# guest's, whose every interrupt this emulated machine makes a matter of milliseconds: that is `vcpus-pid ticks`.
used() {
    for process in /proc/[0-9]*; do
        grep -q -s '^cofferdam' "$process/cmdline" || continue
        own=0 guest=0
        for task in "$process"/task/*; do
            # comm may have spaces: fields are counted behind its bracket.
            ticks=$(($(sed 's/.*) //' "$task/stat" | cut -d ' ' -f 12,13 | tr ' ' '+')))
            case $(cat "$task/comm") in
            vcpu*) guest=$((guest + ticks)) ;;
            *) own=$((own + ticks)) ;;
            esac
        done
        echo "${process#/proc/} $own"
        [ "$guest" = 0 ] || echo "vcpus-${process#/proc/} $guest"
    done
}

# idle VM: no process took more than it may
idle() {
    sleep "$SETTLE_SECONDS"
    used >"$work/before"
    sleep "$WATCH_SECONDS"
    used >"$work/after"
    most=0 count=0 guest=0
    while read -r process ticks; do
        earlier=$(sed -n "s/^$process //p" "$work/before")
        share=$(((ticks - earlier) * 1000 / (WATCH_SECONDS * TICKS_PER_SECOND)))
        case $process in vcpus-*) guest=$share; continue ;; esac
        count=$((count + 1))
        [ "$share" -le "$most" ] || most=$share
        [ "$share" -le "$MOST_THOUSANDTHS" ] ||
            echo "$share thousandths: $process $(tr '\0' ' ' <"/proc/$process/cmdline" | cut -c 1-40)"
    done <"$work/after"
    note "$1, idle: the busiest of $count processes took $most thousandths of a processor, the guest's vcpus $guest"
    [ "$count" -gt 2 ] && [ "$most" -le "$MOST_THOUSANDTHS" ]
}

for group in device class; do
    start "$group" - --cpus 2 --isolate "$group" --console stdio
    says "$group" 'GUEST ready'
    check "isolate-$group-idles" "no process above $MOST_THOUSANDTHS thousandths of a processor" idle "$group"
    enter "$group" 'poweroff -f'
    ends "$group" 0
done
