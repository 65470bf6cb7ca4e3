# A heartbeat: some hundred times a second, makes an access to a few devices and prints a dot; asleep in between, so that it
# can stand beside whatever else is going on.

.equ PULSE_LAPIC, 0xfee00000
.equ PULSE_VECTOR, 0x41
.equ PULSE_IDT, 0x1f0000
.equ PULSE_PERIOD, 5000000    # of the local APIC's timer: 5 ms at KVM's gigahertz

.globl cofferdam_pulse_guest_start, cofferdam_pulse_guest_end
cofferdam_pulse_guest_start:
    mov al, 0xff              # nothing is heard from the 8259s
    out 0x21, al
    out 0xa1, al
    mov rdi, PULSE_IDT
    xor eax, eax
    mov ecx, 512
    cld
    rep stosq
    lea rax, [rip + pulse_interrupt]
    mov rdi, PULSE_IDT + PULSE_VECTOR * 16
    mov [rdi], ax
    mov cx, cs
    mov [rdi + 2], cx
    mov word ptr [rdi + 4], 0x8e00
    shr rax, 16
    mov [rdi + 6], ax
    shr rax, 16
    mov [rdi + 8], eax
    sub rsp, 16
    mov word ptr [rsp], 4095
    mov rax, PULSE_IDT
    mov [rsp + 2], rax
    lidt [rsp]
    add rsp, 16
    mov rdi, PULSE_LAPIC
    mov dword ptr [rdi + 0xf0], 0x1ff
    mov dword ptr [rdi + 0x80], 0
    mov dword ptr [rdi + 0x3e0], 0xb              # divide by 1
    mov dword ptr [rdi + 0x320], 0x20000 + PULSE_VECTOR
    mov dword ptr [rdi + 0x380], PULSE_PERIOD

1:  sti
    hlt
    cli
    in al, 0x64               # i8042: a synchronous register
    mov dx, 0x608             # acpi-pm
    in eax, dx
    mov dx, 0x505             # pvpanic: nobody else looks at it
    in al, dx
    mov edx, 0x5000           # where attempts put a host that is against us
    in eax, dx
    mov ecx, 1000             # the UART may be dead: do not wait for ever
2:  mov dx, 0x3fd
    in al, dx
    test al, 0x20
    jnz 3f
    loop 2b
3:  mov dx, 0x3f8
    mov al, '.'
    out dx, al
    jmp 1b

pulse_interrupt:
    push rdi
    mov rdi, PULSE_LAPIC
    mov dword ptr [rdi + 0xb0], 0
    pop rdi
    iretq
cofferdam_pulse_guest_end:
