# Micro guests of the benches: each does one thing for ever.

# A synchronous register: the keyboard controller's status.
.globl cofferdam_sync_guest_start, cofferdam_sync_guest_end
cofferdam_sync_guest_start:
    mov dx, 0x64
1:  in al, dx
    jmp 1b
cofferdam_sync_guest_end:

# A shadow register: the UART's line status.
.globl cofferdam_shadow_guest_start, cofferdam_shadow_guest_end
cofferdam_shadow_guest_start:
    mov dx, 0x3fd
1:  in al, dx
    jmp 1b
cofferdam_shadow_guest_end:

# Printing: look at the line status, then transmit.
.globl cofferdam_print_guest_start, cofferdam_print_guest_end
cofferdam_print_guest_start:
    mov dx, 0x3fd
    in al, dx
    test al, 0x20
    jz cofferdam_print_guest_start
    mov dx, 0x3f8
    mov al, '.'
    out dx, al
    jmp cofferdam_print_guest_start
cofferdam_print_guest_end:
