# Touches devices, prints a line, then has nothing to do, for ever.

.globl cofferdam_idle_guest_start, cofferdam_idle_guest_end
cofferdam_idle_guest_start:
    mov al, 0
    out 0x70, al              # mc146818
    in al, 0x71
    in al, 0x64               # i8042
    mov dx, 0x608             # acpi-pm
    in eax, dx
    mov dx, 0x3f8
    mov al, 'z'
    out dx, al
1:  cli
    hlt
    jmp 1b
cofferdam_idle_guest_end:
