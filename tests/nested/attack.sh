# Attempts to get out of a device host, on the outer guest's kernel, which is older than most: those that have depended on the
# kernel or on its speed, or the groups and names that attack-all.sh gives.
. "$here/nested/lib.sh"

# attack WHO ATTEMPTS…: one test of each word, as root or as that user
attack() {
    who=$1
    shift
    for word; do
        log=$work/attack-$who-$word
        su -s /bin/sh "$who" -c "exec cofferdam attack $word" >"$log.log" 2>"$log.err"
        status=$?
        note "$who: $word: $(tail -n 1 "$log.log")"
        check "attack-$who-$word" "status 0, not $status: $(tr '\n' ' ' <"$log.err")" test "$status" = 0
    done
}

chmod 666 /dev/kvm
attack root ${as_root:-A21 A28 B4 C9 D1}
attack guest ${as_user:-A1 B4}
check attack-leaves-nothing "no process" quiet_after
