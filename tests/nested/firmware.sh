# limit: 1200
# takes: 250
# PCs as their firmware finds them: GRUB from a diskette and from a CD takes keys, GRUB from a disk starts Linux on two
# processors. Beside them memtest86+, from a diskette, tests a memory of 16 MiB: most of its pass is waiting for bits to fade.
. "$here/nested/lib.sh"

# Its file is a boot sector with what that loads.
cp /boot/memtest86+x64.bin "$work/memtest.img"
truncate -s 1440K "$work/memtest.img"
power_on memtest --memory 16M --floppy "$work/memtest.img" --boot a
# It begins with measuring its clock, and waits by that: nothing should be in its way.
check memtest-comes-from-a-diskette "its screen" shows memtest 'Memtest86+' 300

power_on floppy --memory 64M --floppy /usr/lib/grub-rescue/grub-rescue-floppy.img --boot a
check grub-comes-from-a-diskette "its menu or prompt" shows floppy 'GNU GRUB' 300
cofferdam sendkeys floppy c
check grub-takes-a-key "its command line" shows floppy 'grub>' 60
cofferdam sendkeys floppy 'ls\n'
check grub-lists-the-diskette "(fd0)" shows floppy '^(.*fd0' 60
screen floppy grub-diskette
cofferdam stop floppy
check floppy-machine-is-stopped "status 0" ends floppy 0

power_on cd --memory 64M --cdrom /usr/lib/grub-rescue/grub-rescue-cdrom.iso --boot d
check grub-comes-from-a-cd "its menu or prompt" shows cd 'GNU GRUB' 300
cofferdam sendkeys cd c
check grub-takes-a-key-after-a-cd "its command line" shows cd 'grub>' 60
cofferdam sendkeys cd 'ls\n'
check grub-lists-the-cd "(cd0)" shows cd '^(.*cd' 60
screen cd grub-cd
cofferdam stop cd
check cd-machine-is-stopped "status 0" ends cd 0

# A disk with one partition, which begins at 1 MiB and has what GRUB is to start. GRUB itself is before it.
mkdir "$work/boot"
cp "$here/kernel" "$here/guest.cpio" "$work/boot"
cat >"$work/boot/go" <<GRUB
linux /kernel $words do=facts+firmware
initrd /guest.cpio
boot
GRUB
truncate -s 64M "$work/boot.img"
mkfs.ext4 -q -F -b 4096 -E offset=1048576 -d "$work/boot" "$work/boot.img" 63M
{
    head -c 446 "$here/grub/boot.img"
    # Active, of Linux's type, 129024 sectors from sector 2048 on; three entries that are empty; the sector's signature.
    printf '\200\0\0\0\203\0\0\0\0\010\0\0\0\370\001\0'
    head -c 48 /dev/zero
    printf '\125\252'
    cat "$here/grub/core.img"
} | dd of="$work/boot.img" conv=notrunc 2>/dev/null
power_on linux --memory "$guest_memory" --cpus 2 --disk "$work/boot.img" --boot c
check grub-starts-linux "a shell" says linux 'GUEST ready' 400
check linux-has-two-processors "2, not '$(fact linux cpus)', '$(fact linux online)'" \
    test "$(fact linux cpus), $(fact linux online)" = "2, 2"
check linux-finds-the-tables-below-1-mib "an RSDP, not '$(fact linux rsdp)'" expr "$(fact linux rsdp)" : '0x00000000000F'
check linux-has-the-tables "APIC DSDT FACP FACS, not '$(fact linux acpi)'" expr "$(fact linux acpi)" : 'APIC DSDT FACP FACS'
check linux-has-the-map-of-firmware "six entries, not '$(fact linux map)'" test "$(amount linux map)" -ge 6
check linux-knows-the-product "Cofferdam PC, not '$(fact linux product)'" test "$(fact linux product)" = "Cofferdam PC"
check linux-shows-text "the same on its display" shows linux 'GUEST product Cofferdam PC' 10
screen linux firmware-linux
check kernel-has-no-trouble "no 'nobody cared', stall or warning" sh -c '! grep -q "GUEST trouble" "$1"' - "$work/linux.log"
enter linux 'poweroff -f'
check linux-powers-off "status 0" ends linux 0

check memtest-passes "a pass of all its tests" shows memtest 'Pass:  *[1-9]' 600
screen memtest memtest
check memtest-finds-no-errors "none" grep -q 'Errors: *0\b' "$work/memtest-screen.log"
cofferdam stop memtest
check memtest-is-stopped "status 0" ends memtest 0
check nothing-is-left "no process" quiet_after
