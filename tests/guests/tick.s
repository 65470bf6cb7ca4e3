# Makes an access to each device, then prints a dot, for ever. A dead device answers all ones; the loop does not mind.

.globl cofferdam_tick_guest_start, cofferdam_tick_guest_end
cofferdam_tick_guest_start:
    # Let every function decode its BARs.
    mov ebx, 0x80000004
1:  mov eax, ebx
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc
    mov ax, 6
    out dx, ax
    add ebx, 0x800
    cmp ebx, 0x80010004
    jne 1b

2:  mov al, 0
    out 0x70, al              # mc146818
    in al, 0x71
    in al, 0x64               # i8042
    mov dx, 0x608             # acpi-pm
    in eax, dx
    mov dx, 0x505             # pvpanic
    in al, dx
    mov edx, 0x5000           # where tests put other devices
7:  in eax, dx
    add edx, 4
    cmp edx, 0x5020
    jne 7b
    mov ebx, 0x80000810       # BAR 0 of slots 1 to 4: virtio
3:  mov eax, ebx
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc
    in eax, dx
    and eax, 0xfffffff0
    jz 4f
    cmp eax, 0xfffffff0
    je 4f
    mov al, [rax + 20]        # device_status
4:  add ebx, 0x800
    cmp ebx, 0x80002810
    jne 3b
    mov ecx, 1000             # the UART may be dead: do not wait for ever
5:  mov dx, 0x3fd
    in al, dx
    test al, 0x20
    jnz 6f
    loop 5b
6:  mov dx, 0x3f8
    mov al, '.'
    out dx, al
    jmp 2b
cofferdam_tick_guest_end:
