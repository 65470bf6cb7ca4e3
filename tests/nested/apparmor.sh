# lsm: apparmor
# Profiles of AppArmor, as the program writes them, in a kernel that enforces. The probe takes the place of a device host
# whose whole sandbox is its profile: what is refused here, the profile alone refuses.
. "$here/nested/lib.sh"

probe=/probe/cofferdam
mount -t securityfs securityfs /sys/kernel/security
if ! command -v apparmor_parser >/dev/null; then
    skip apparmor "apparmor_parser is missing (Debian package apparmor)"
    exit 0
fi
load() { apparmor_parser --replace --skip-cache "$@"; }
mode_of() { sed -n "s/^$1 (\(.*\))$/\1/p" /sys/kernel/security/apparmor/profiles; }

# On a disk: a path in memory that is gone with a namespace would be another one.
disks=/root
truncate -s 1M "$disks/a.img" && cp "$disks/a.img" "$disks/b.img"
mkdir -p "$work/profiles"
cofferdam policy apparmor --out "$work/profiles" >/dev/null
cofferdam policy apparmor --out "$work/profiles" --vm one --disk "$disks/a.img" >/dev/null
check profiles-are-installed "apparmor_parser takes them" load "$work/profiles/cofferdam" "$work/profiles/cofferdam.one"
check profiles-enforce "enforce, not '$(mode_of cofferdam-block.one)'" test "$(mode_of cofferdam-block.one)" = enforce

cofferdam demo --label apparmor --json >"$work/demo.log" 2>"$work/demo.err"
check demo-passes-labelled "status 0" test "$?" = 0
check hosts-have-the-profile-of-their-class "char and block hosts" sh -c '
    for class in char block; do grep -q "\"label\": \".*cofferdam-$class (enforce)\"" "$1" || exit 1; done' - "$work/demo.log"
check audit-finds-labels-as-they-should-be "no difference" sh -c '! grep -A1 "\"differences\"" "$1" | grep -q "      \""' - "$work/demo.log"

# A VM with a disk: its host has the profile that names it. Its network card has a relay, which takes frames from a
# tap, and its display one for viewers.
printf '\364\353\375' >"$work/halt"
echo secret >"$work/password" && chmod 600 "$work/password"
cofferdam run --name one --flat "$work/halt" --memory 64M --disk "$disks/a.img" --nic rtl8139,tap=tap0 \
    --device vga --display "vnc,password-file=$work/password,port=5900" --label apparmor \
    --console "file=$work/console" 0</dev/null 2>"$work/one.err" &
pid_one=$!
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do [ -n "$(hosts one)" ] && break; sleep 1; done
check host-of-the-disk-has-its-profile "cofferdam-block.one" sh -c 'cofferdam ps --json | grep -q "cofferdam-block.one (enforce)"'
check relay-has-its-profile "cofferdam-relay" sh -c 'cofferdam ps --json | grep -q "cofferdam-relay[^ ]* (enforce)"'
check relay-takes-frames "from a tap that says so" frames_are_taken tap0
check relay-runs-on "running: $(states one)" sh -c 'echo "$1" | grep -q "rtl8139 net relay: running"' - "$(states one)"
check display-relay-has-its-profile "cofferdam-viewers" sh -c 'cofferdam ps --json | grep -q "cofferdam-viewers[^ ]* (enforce)"'
check viewer-with-a-wrong-password-is-refused "a greeting and a refusal" viewer_is_refused 5900
tell_harness "AUDIT labels-are-as-the-recipes-say $(cofferdam ps --audit --json 2>"$work/ps.err" | tr -d '\n\t')"
cofferdam stop one

# Plugins, whose programs are others, have the profile of plugins.
run_plugins apparmor
check plugins-have-the-profile-of-plugins "$plugged with cofferdam-plugin" \
    test "$(cofferdam ps --json | grep -c 'cofferdam-plugin[^ ]* (enforce)')" = "$plugged"
tell_harness "AUDIT plugins-are-as-their-recipes-say $(cofferdam ps --audit --json 2>"$work/ps.err" | tr -d '\n\t')"
cofferdam stop plugged

# One that is granted a file to write needs a profile of its VM's own, which names the file, and has it.
keeper=$here/plugins/keeper.py
sed -e 's/^    lines =/    wishes = [__import__("cofferdam_device").wish("fileWrite", "store", "it keeps something")]\n&/' \
    -e 's/^        self.tenths =.*/&\n        powers.file("store").write(0, b"kept")/' "$here/plugins/thermo.py" >"$keeper"
chmod +x "$keeper"
truncate -s 4096 "$disks/kept.img"
keep() {
    cofferdam run --name keeps --flat "$work/halt" --memory 64M --device "$keeper,grant=file-write,file=$disks/kept.img" \
        --label apparmor --console "file=$work/console" 0</dev/null 2>"$work/keeps.err"
}
keep
check file-to-write-without-a-profile-is-refused "which to write: $(cat "$work/keeps.err")" grep -q 'policy apparmor' "$work/keeps.err"
cofferdam policy apparmor --out "$work/profiles" --vm keeps --disk "$disks/kept.img" >/dev/null
load "$work/profiles/cofferdam.keeps"
keep &
pid_keeps=$!
for _ in $(seq 60); do [ -n "$(hosts keeps)" ] && break; alive "$pid_keeps" || break; sleep 1; done
check plugin-that-writes-has-its-vms-profile "cofferdam-plugin.keeps: $(cat "$work/keeps.err")" \
    sh -c 'cofferdam ps --json | grep -q "cofferdam-plugin.keeps (enforce)"'
check plugin-writes-its-file "kept" test "$(head -c 4 "$disks/kept.img")" = kept
cofferdam stop keeps

# act ACT [IMAGE]: how the probe ended, which is a host of the disks of VM `one`. Who starts it has the supervisor's
# profile: only then is what it opened checked against who receives it.
act() {
    sh -c 'echo "exec cofferdam" >/proc/self/attr/apparmor/exec; exec "$@"' - "$probe" labelled apparmor cofferdam-block.one \
        "${2:-$disks/a.img}" "$1" 2>>"$work/probe.err" | tee -a "$work/probe.log" | sed -n 's/^end: //p'
}
# ends_with NAME EXPECTED ACT [IMAGE]
ends_with() {
    name=$1 expected=$2
    shift 2
    found=$(act "$@")
    check "$name" "'$expected', not '$found'" test "$found" = "$expected"
}
done='Some(Exited(0))' denied='Some(Exited(13))'
for mode in enforcing complaining; do
    [ "$mode" = enforcing ] && wanted=$denied || wanted=$done
    [ "$mode" = enforcing ] || load --Complain "$work/profiles/cofferdam" "$work/profiles/cofferdam.one"
    ends_with "$mode-a-host-reads-its-disk" "$done" read-file
    ends_with "$mode-a-host-writes-its-disk" "$done" write-file
    for what in open socket; do ends_with "$mode-$what" "$wanted" "$what"; done
    if [ "$mode" = enforcing ]; then
        ends_with "$mode-another-vms-disk-does-not-arrive" "the probe said \`a grant did not arrive\`, not \`sealed\`" \
            read-file "$disks/b.img"
        ends_with "$mode-execute" "$denied" execute
    else
        ends_with "$mode-another-vms-disk-arrives" "$done" read-file "$disks/b.img"
        # A busybox that is called nothing says so.
        ends_with "$mode-execute" 'Some(Exited(127))' execute
    fi
done
dmesg | grep 'apparmor="' | tail -n 40
