# What scenarios share. Results go to the second serial port, one line each, where the harness reads them:
#   ALIVE | TEST name ok | TEST name FAIL why | TEST name SKIP why | AUDIT name json | BENCH json | PICTURE name hex |
#   NOTE text | END
# Everything else goes to the first, which the harness keeps as a log.
: "${here=}"
work=/tmp/work
mkdir -p "$work"
chmod 1777 "$work"
guest_memory=256M
# What inner guests run: $here/kernel-full with $here/guest-full.cpio has drivers for a PC's own devices.
guest_kernel=$here/kernel
guest_initrd=$here/guest.cpio
# Words of every inner guest's command line.
words="console=ttyS0 quiet panic=-1 tsc=reliable"
# A boot takes 10 to 20 s on an idle machine, and several times that beside another scenario and whatever else runs.
BOOT_SECONDS=300

tell_harness() { echo "$*" >/dev/ttyS1; }
note() { tell_harness "NOTE $*"; }

# check NAME WHY COMMAND…: one test; WHY says what was expected
check() {
    test_name=$1 why=$2
    shift 2
    if "$@"; then
        tell_harness "TEST $test_name ok"
    else
        tell_harness "TEST $test_name FAIL $why"
        dump
    fi
}
skip() { test_name=$1; shift; tell_harness "TEST $test_name SKIP $*"; }

# dump: what the VMs said, for the log
dump() {
    for file in "$work"/*.log "$work"/*.err; do
        [ -s "$file" ] || continue
        echo "--- ${file##*/}"
        tail -n 60 "$file" | tr -d '\r'
    done
    for file in "$work"/*.in; do
        dumped=${file##*/} dumped=${dumped%.in}
        if alive "$(pid "$dumped")"; then
            echo "--- log of $dumped"
            timeout 5 cofferdam logs "$dumped"
        fi
    done
    threads
    dmesg | tail -n 5
}

# threads: what each thread of the program waits for, and how long each has run
threads() {
    for task in /proc/[0-9]*/task/[0-9]*; do
        grep -q -s '^cofferdam' "$task/cmdline" || continue
        # comm may have spaces: fields are counted behind its bracket, user and system time in ticks.
        echo "--- ${task#/proc/} $(cat "$task/comm"): $(sed 's/.*) //' "$task/stat" | cut -d ' ' -f 1,12,13)," \
            "$(sed 's/^\[<0>\] //; s/+.*//' "$task/stack" | head -n 6 | tr '\n' ' ')"
    done
}

# start VM TASK ARGUMENT…: a VM in the background, as $user when that is set. Its console is VM.log and VM.in, what
# the program says itself is VM.err. TASK is a file of guest/ or several with +, or - for a shell at once. $extra: more kernel words.
start() {
    vm=$1 task=$2
    shift 2
    line="$words ${extra:-}"
    [ "$task" = - ] || line="$line do=$task"
    rm -f "$work/$vm.in" "$work/$vm.log" "$work/$vm.err"
    mkfifo "$work/$vm.in"
    # Opened for reading and writing: it never ends, and no one waits to open it.
    if [ -n "${user:-}" ]; then
        chmod 666 "$work/$vm.in"
        quoted=
        for argument; do quoted="$quoted '$argument'"; done
        su -s /bin/sh "$user" -c "exec cofferdam run --name $vm --kernel $guest_kernel --initrd $guest_initrd \
            --cmdline '$line' --memory $guest_memory $quoted" 0<>"$work/$vm.in" >"$work/$vm.log" 2>"$work/$vm.err" &
    else
        cofferdam run --name "$vm" --kernel "$guest_kernel" --initrd "$guest_initrd" --cmdline "$line" \
            --memory "$guest_memory" "$@" 0<>"$work/$vm.in" >"$work/$vm.log" 2>"$work/$vm.err" &
    fi
    eval "pid_$vm=$!"
}

# power_on VM ARGUMENT…: a VM that begins with firmware, which says what it does in VM-firmware.log; the rest is as with start
power_on() {
    vm=$1
    shift
    mkfifo "$work/$vm.in"
    cofferdam run --name "$vm" --firmware bios-256k.bin --debug-console "file=$work/$vm-firmware.log" "$@" \
        0<>"$work/$vm.in" >"$work/$vm.log" 2>"$work/$vm.err" &
    eval "pid_$vm=$!"
}

# pid VM: the process id of its supervisor
pid() { eval "echo \$pid_$1"; }

# alive PID: it runs (a zombie does not)
alive() { [ -n "$1" ] && [ -e "/proc/$1" ] && ! grep -q '^State:.[ZX]' "/proc/$1/status" 2>/dev/null; }

# says VM PATTERN [SECONDS]: waits until the console has a line with PATTERN; fails early when the VM has ended
says() {
    left=${3:-$BOOT_SECONDS}
    while ! grep -q -- "$2" "$work/$1.log"; do
        [ "$left" -gt 0 ] || return 1
        alive "$(pid "$1")" || { sleep 1; grep -q -- "$2" "$work/$1.log"; return; }
        left=$((left - 1))
        sleep 1
    done
    # Its end may be on its way still.
    [ -z "$(tail -c 1 "$work/$1.log")" ] || sleep 1
}

# fact VM NAME: what the guest said of NAME
fact() { tr -d '\r' <"$work/$1.log" | sed -n "s/^GUEST $2 //p" | tail -n 1; }

# amount VM NAME: the same where it is a number, 0 where the guest said nothing
amount() { said=$(fact "$1" "$2" | tr -cd '0-9'); echo "${said:-0}"; }

# screen VM NAME: what its display shows now, as NAME.png, which the harness keeps under target/xtask/pictures
screen() {
    cofferdam screenshot "$1" "$work/$2.png" || return 1
    tell_harness "PICTURE $2 $(xxd -p "$work/$2.png" | tr -d '\n')"
}

# shows VM PATTERN [SECONDS]: waits until its display, in text mode, has a line with PATTERN; VM-screen.log has what it shows last
shows() {
    left=${3:-$BOOT_SECONDS}
    while :; do
        cofferdam screenshot "$1" "$work/$1.png" 2>/dev/null && read_screen "$work/$1.png" >"$work/$1-screen.log" &&
            grep -q -- "$2" "$work/$1-screen.log" && return
        [ "$left" -gt 0 ] && alive "$(pid "$1")" || return 1
        left=$((left - 1))
        sleep 1
    done
}

# enter VM TEXT: types a line on the console. Opened for both ways: that does not wait for a VM which is gone.
enter() { echo "$2" 1<>"$work/$1.in"; }

# ends VM STATUS [SECONDS]: waits for the program to end, with STATUS. A VM that does not is killed.
ends() {
    left=${3:-60}
    while alive "$(pid "$1")"; do
        if [ "$left" -le 0 ]; then
            echo "$1 did not end by itself"
            kill -9 "$(pid "$1")"
            wait "$(pid "$1")"
            return 1
        fi
        left=$((left - 1))
        sleep 1
    done
    wait "$(pid "$1")"
    status=$?
    echo "$1 ended with status $status"
    [ "$status" = "$2" ]
}

# hosts VM: `name pid` of each device host, from ps
hosts() {
    cofferdam ps --json | tr -d ' \n\t"' | tr '{' '\n' | grep "vm:$1," |
        sed -n 's/.*name:\([^,]*\),.*pid:\([0-9]*\),.*/\1 \2/p' | grep -v '^vmm '
}

# states VM: the same hosts with what ps says of them
states() {
    cofferdam ps --json | tr -d '\n\t"' | tr '{' '\n' | grep "vm: $1," |
        sed -n 's/.*name: \([^,]*\),.*state: \([^,]*\),.*/\1: \2/p' | tr '\n' ';'
}

# run_plugins MODULE: a VM `plugged` with a labelled plugin in each language that there is; $plugged is how many that are
run_plugins() {
    plugged=0 plugin_words=
    for plugin in "$here"/plugins/thermo*; do
        plugged=$((plugged + 1)) plugin_words="$plugin_words --device $plugin,base=0x4${plugged}0"
    done
    # shellcheck disable=SC2086 # each is words
    cofferdam run --name plugged --flat "$work/halt" --memory 64M $plugin_words --label "$1" --console "file=$work/console" \
        0</dev/null 2>"$work/plugged.err" &
    pid_plugged=$!
    for _ in $(seq 60); do
        [ "$(hosts plugged | grep -c thermo)" = "$plugged" ] && break
        alive "$pid_plugged" || break
        sleep 1
    done
    check "plugins-run-under-$1" "$plugged plugins, not '$(states plugged)'" test "$(hosts plugged | grep -c thermo)" = "$plugged"
}

# quiet_after: no process of the program is left
quiet_after() {
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        left_over=$(grep -l -s '^cofferdam' /proc/[0-9]*/cmdline | wc -l)
        [ "$left_over" = 0 ] && return 0
        sleep 1
    done
    ps -o pid,ppid,stat,args | grep '[c]offerdam'
    return 1
}

# viewer_is_refused PORT: who shows the screen there greets a viewer that guesses a password, and says that it is wrong. The greeting
# is a version, one way to be let in, and a challenge of 16 bytes.
viewer_is_refused() {
    heard=$({ printf 'RFB 003.008\n\0020123456789abcdef'; sleep 2; } | nc 127.0.0.1 "$1" | xxd -p | tr -d '\n')
    expr "$heard" : '524642203030332e3030380a0102[0-9a-f]\{32\}00000001' >/dev/null
}

# frames_are_taken TAP: who has the other end of a tap reads what is sent there
frames_are_taken() {
    ip link set "$1" up
    # Nobody answers; only the questions count.
    ip addr add 10.9.2.1/24 dev "$1"
    ping -c 2 -W 1 10.9.2.2 >/dev/null
    [ "$(cat "/sys/class/net/$1/statistics/tx_packets")" -gt 0 ]
}
