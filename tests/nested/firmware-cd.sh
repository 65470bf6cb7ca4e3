# limit: 600
# A PC as its firmware finds it: GRUB from a CD takes keys.
. "$here/nested/lib.sh"

power_on cd --memory 64M --cdrom /usr/lib/grub-rescue/grub-rescue-cdrom.iso --boot d
check grub-comes-from-a-cd "its menu or prompt" shows cd 'GNU GRUB' 900
cofferdam sendkeys cd c
check grub-takes-a-key "its command line" shows cd 'grub>' 300
cofferdam sendkeys cd 'ls\n'
check grub-lists-the-cd "(cd0)" shows cd '^(.*cd' 300
screen cd grub-cd
cofferdam stop cd
check cd-machine-is-stopped "status 0" ends cd 0
check nothing-is-left "no process" quiet_after
