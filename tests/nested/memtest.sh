# limit: 1800
# only by name: a pass of all tests takes minutes under emulation
# memtest86+ from a diskette tests a memory of 16 MiB, once.
. "$here/nested/lib.sh"

# It is a boot sector with what that loads.
cp /boot/memtest86+x64.bin "$work/memtest.img"
truncate -s 1440K "$work/memtest.img"
power_on memtest --memory 16M --floppy "$work/memtest.img" --boot a
check memtest-comes-from-a-diskette "its screen" shows memtest 'Memtest86+'
check memtest-passes "a pass without errors" shows memtest 'Pass:  *[1-9]' 1500
screen memtest memtest
check memtest-finds-no-errors "none" grep -q 'Errors: *0\b' "$work/memtest-screen.log"
cofferdam stop memtest
check memtest-is-stopped "status 0" ends memtest 0
check nothing-is-left "no process" quiet_after
