# A PC as its firmware finds it: GRUB from a diskette reaches its menu, takes keys, and lists what there is.
. "$here/nested/lib.sh"

power_on floppy --memory 64M --floppy /usr/lib/grub-rescue/grub-rescue-floppy.img --boot a
check grub-comes-from-a-diskette "its menu or prompt" shows floppy 'GNU GRUB'
cofferdam sendkeys floppy c
check grub-takes-a-key "its command line" shows floppy 'grub>' 60
cofferdam sendkeys floppy 'ls\n'
check grub-lists-the-diskette "(fd0)" shows floppy '^(.*fd0' 60
screen floppy grub-diskette
cofferdam stop floppy
check floppy-machine-is-stopped "status 0" ends floppy 0
check nothing-is-left "no process" quiet_after
