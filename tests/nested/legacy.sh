# limit: 1200
# takes: 170
# Debian's full kernel, whose own drivers are tried on the devices of a PC.
. "$here/nested/lib.sh"
guest_kernel=$here/kernel-full
guest_initrd=$here/guest-full.cpio
digest() { sha256sum | cut -d ' ' -f 1; }

# A diskette with a file system and a file that fills a part of it, known by its hash.
truncate -s 1440K "$work/floppy.img"
mkdir -p "$work/floppy"
head -c 300000 /dev/urandom >"$work/floppy/filled"
mkfs.ext4 -q -t ext2 -F -d "$work/floppy" "$work/floppy.img"
filled=$(digest <"$work/floppy/filled")
truncate -s 64M "$work/ide.img"
# Not a whole number of frames: what is behind the last one is not there.
head -c 8389000 /dev/urandom >"$work/cd.iso"
whole=$(head -c 8388608 "$work/cd.iso" | digest)

start pc pc --floppy "$work/floppy.img" --ide "$work/ide.img" --cdrom "$work/cd.iso" --device "parallel,to=$work/printed" \
    --device ib700 --device vga --nic virtio,tap=tap0 --no-reboot --restart 1000 --console stdio
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -e /sys/class/net/tap0 ] && break; sleep 1; done
ip addr add 10.9.0.1/24 dev tap0
ip link set tap0 up
check full-kernel-boots "a shell" says pc 'GUEST ready' 300
check floppy-controller-is-an-82077 "what the driver calls it, not '$(fact pc controller)'" \
    test "$(fact pc controller)" = 'FDC 0 is a post-1991 82077'
check floppy-reads-what-was-written-outside "$filled, not '$(fact pc diskette)'" test "$(fact pc diskette)" = "$filled"
check floppy-reads-back-the-same "$(fact pc diskette-wrote), not '$(fact pc diskette-reads)'" \
    test "$(fact pc diskette-wrote)" = "$(fact pc diskette-reads)"
check floppy-interrupts "many, not '$(fact pc diskette-interrupts)'" test "$(amount pc diskette-interrupts)" -ge 50
check floppy-is-sound-outside "a clean file system" e2fsck -fn "$work/floppy.img"

check disk-moves-by-dma "a mode of DMA, not '$(fact pc disk-mode)'" test "$(fact pc disk-mode)" = XFER_MW_DMA_2
check cd-drive-moves-by-dma "a mode of DMA, not '$(fact pc cd-mode)'" test "$(fact pc cd-mode)" = XFER_MW_DMA_2
check 32-mib-read-back-the-same "$(fact pc disk-wrote), not '$(fact pc disk-reads)'" \
    test "$(fact pc disk-wrote)" = "$(fact pc disk-reads)"
outside=$(head -c 33554432 "$work/ide.img" | digest)
check 32-mib-are-intact-outside "$(fact pc disk-wrote), not $outside" test "$(fact pc disk-wrote)" = "$outside"
check cd-is-read-whole "$whole of 16384 sectors, not '$(fact pc cd)'" test "$(fact pc cd)" = "$whole 16384"

check alarm-of-the-clock-interrupts "once, not '$(fact pc alarms)'" test "$(fact pc alarms)" = 1
check printer-port-is-found "where it is, not '$(fact pc port)'" \
    test "$(fact pc port)" = 'parport0: PC-style at 0x378, irq 7 [PCSPP,TRISTATE]'
seq 100 >"$work/to-print"
check print-arrives "the numbers to 100" cmp "$work/to-print" "$work/printed"
check guest-pings-the-host "3 answers, not '$(fact pc pinged)'" test "$(fact pc pinged)" = 3
check host-pings-the-guest "3 answers" ping -c 3 -W 10 10.9.0.2
check mouse-is-found "one with a wheel" grep -q 'GUEST input .*Wheel Mouse' "$work/pc.log"
check mouse-is-enabled "no word against it, not '$(fact pc mouse-trouble)'" test -z "$(fact pc mouse-trouble)"
# Reports as the kernel hands them on: to the right and up; then the left button down, and up.
enter pc 'exec 3</dev/input/mice; echo GUEST points; echo GUEST moved $(timeout 60 head -c 3 <&3 | xxd -p); echo GUEST clicked $(timeout 60 head -c 6 <&3 | xxd -p); exec 3<&-'
says pc '^GUEST points' 60
cofferdam sendmouse pc 20,-5
check mouse-moves "081405, not '$(fact pc moved)'" says pc '^GUEST moved 081405' 60
cofferdam sendmouse pc --click left
check mouse-clicks "090000080000, not '$(fact pc clicked)'" says pc '^GUEST clicked 090000080000' 60
check kernel-has-no-trouble "no 'nobody cared', stall or warning" sh -c '! grep -q "GUEST trouble" "$1"' - "$work/pc.log"

# The disk's host is killed between and during transfers: the driver waits for the next one and notices nothing.
half=$(head -c 16777216 "$work/ide.img" | digest)
enter pc 'echo 3 >/proc/sys/vm/drop_caches; echo GUEST again $(head -c 16777216 /dev/sda | sha256sum); echo GUEST errors $(dmesg | grep -c -E "ata[12].*(exception|error|timeout)")'
for _ in 1 2 3; do
    kill -9 "$(hosts pc | sed -n 's/^piix-ide //p')"
    sleep 1
done
check disk-is-read-while-its-host-is-killed "an end" says pc '^GUEST errors' 240
check disk-reads-the-same-then "$half, not '$(fact pc again)'" test "$(fact pc again)" = "$half -"
check driver-notices-nothing "no error, not '$(fact pc errors)'" test "$(fact pc errors)" = 0

# A person at the keyboard: what is typed reaches a shell on the display, which a watchdog would take away were it not fed.
enter pc '. /guest/load.sh; load bochs; load ib700wdt; watchdog -T 10 -t 1 /dev/watchdog; openvt -c 1 -f sh; echo GUEST seated'
check display-gets-a-shell "the drivers loaded" says pc '^GUEST seated' 60
# shows NAME TEXT: the display with nothing but this text, once nothing moves any more, as NAME.png
shows() {
    cofferdam sendkeys pc "clear; echo $2; echo shown $1 >/dev/ttyS0\\n"
    says pc "shown $1" 60 || return 1
    rm -f "$work/before.png"
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        sleep 1
        cofferdam screenshot pc "$work/$1.png" || return 1
        cmp -s "$work/$1.png" "$work/before.png" && return 0
        cp "$work/$1.png" "$work/before.png"
    done
    return 1
}
cofferdam sendkeys pc 'uname -a; dmesg | grep -E "FDC 0|ata_piix|ata[12]|sda|sr0|rtc0|lp0|ib700|bochs|input:"; echo typed >/tmp/typed\n'
enter pc 'for _ in 1 2 3 4 5 6 7 8 9 10; do [ -s /tmp/typed ] && break; sleep 1; done; echo GUEST typed $(cat /tmp/typed)'
check keys-reach-the-shell "the file that was typed" says pc '^GUEST typed typed' 60
screen pc legacy-bochs
cofferdam sendkeys pc 'printf "\\033[?25l"\n'
check one-text-is-shown "a picture" shows one 'one text'
check another-is-shown "a picture" shows another 'another text'
check pictures-differ "two pictures" sh -c '! cmp -s "$1/one.png" "$1/another.png"' - "$work"
check the-first-text-is-shown-again "a picture" shows again 'one text'
check display-shows-the-same-again "the first picture" cmp "$work/one.png" "$work/again.png"

check watchdog-that-is-fed-waits "a running guest" alive "$(pid pc)"
enter pc 'killall -STOP watchdog; echo hungry'
check watchdog-bites "status 4" ends pc 4 60
