# What firmware has told the kernel, one fact a line, on the display too.
{
    echo "GUEST rsdp $(dmesg | sed -n 's/.*ACPI: RSDP //p')"
    echo "GUEST acpi $(ls /sys/firmware/acpi/tables | tr '\n' ' ')"
    echo "GUEST online $(grep -c '^processor' /proc/cpuinfo)"
    echo "GUEST product $(cat /sys/class/dmi/id/product_name)"
    echo "GUEST bios $(cat /sys/class/dmi/id/bios_vendor)"
    echo "GUEST map $(dmesg | grep -c 'BIOS-e820')"
} | tee /dev/tty0
