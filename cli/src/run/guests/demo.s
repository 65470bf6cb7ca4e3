# The demo's micro guest: drives every device once, says on the console what it finds, and powers off.
#
# 64-bit code, entered with flat segments, a stack, and the first 4 GiB mapped one to one. Registers and ports are those
# of the data sheets that the device models name; virtio is version 1.2 over PCI, split queues, MSI-X.
#
# Register use: rbx and rbp are callee-saved by habit; everything else is scratch.

.equ UART, 0x3f8
.equ RTC, 0x70
.equ PM_CONTROL, 0x604
.equ PM_TIMER, 0x608
.equ PVPANIC, 0x505
.equ DEBUG_EXIT, 0xf4
.equ LAPIC, 0xfee00000
.equ VECTOR, 0x40
.equ IDT, 0x1f0000            # 4 KiB
.equ RING, 0x200000           # descriptors, available ring, used ring: a page each
.equ BUFFERS, 0x210000
.equ READ_BACK, 0x211000

.globl cofferdam_demo_guest_start, cofferdam_demo_guest_end
cofferdam_demo_guest_start:
    cld
    call install_interrupts
    lea rsi, [rip + text_hello]
    call print

    lea rsi, [rip + text_clock]
    call print
    call clock

    lea rsi, [rip + text_keyboard]
    call print
    call keyboard

    lea rsi, [rip + text_timer]
    call print
    call timer

    lea rsi, [rip + text_panic]
    call print
    mov dx, PVPANIC
    in al, dx
    call print_byte
    mov dx, DEBUG_EXIT
    in eax, dx                # absent or present, it answers
    call newline

    lea rsi, [rip + text_entropy]
    call print
    mov eax, 0x10441af4
    call entropy

    lea rsi, [rip + text_disk]
    call print
    mov eax, 0x10421af4
    call disk

    lea rsi, [rip + text_bye]
    call print
    mov dx, PM_CONTROL
    mov ax, 0x3400            # SLP_EN, SLP_TYP 5
    out dx, ax
halt:
    cli
    hlt
    jmp halt

# ---- console: an 8250, polled ----------------------------------------------------------------------------------------

print:                        # rsi: text, ends with 0
    lodsb
    test al, al
    jz 2f
    call put
    jmp print
2:  ret

put:                          # al
    mov cl, al
    mov dx, UART + 5
1:  in al, dx                 # line status: a shadow register
    test al, 0x20
    jz 1b
    mov dx, UART
    mov al, cl
    out dx, al                # transmit: a posted write
    ret

newline:
    mov al, 13
    call put
    mov al, 10
    jmp put

print_byte:                   # al, in hexadecimal
    mov bl, al
    shr al, 4
    call print_digit
    mov al, bl
print_digit:
    and al, 15
    add al, '0'
    cmp al, '9'
    jbe 1f
    add al, 'a' - '9' - 1
1:  jmp put

passed:                       # zero flag: passed
    lea rsi, [rip + text_ok]
    jz 1f
    lea rsi, [rip + text_wrong]
1:  jmp print

# ---- clock: MC146818 -------------------------------------------------------------------------------------------------

clock:
    mov al, 10                # register A: wait until no update is in progress
    out RTC, al
1:  in al, RTC + 1
    test al, 0x80
    jnz 1b
    mov al, 4
    call clock_field
    mov al, ':'
    call put
    mov al, 2
    call clock_field
    mov al, ':'
    call put
    mov al, 0
    call clock_field
    jmp newline

clock_field:                  # al: register, BCD after power on
    out RTC, al
    in al, RTC + 1
    jmp print_byte

# ---- keyboard controller: i8042 --------------------------------------------------------------------------------------

keyboard:
    mov al, 0xaa              # controller self-test
    out 0x64, al
    call keyboard_answer
    cmp al, 0x55
    jne 2f
    mov al, 0xf2              # to the keyboard: identify
    out 0x60, al
    call keyboard_answer
    cmp al, 0xfa
2:  jmp passed

keyboard_answer:
    mov ecx, 100000
1:  in al, 0x64
    test al, 1
    jnz 2f
    loop 1b
2:  in al, 0x60
    ret

# ---- power management timer ------------------------------------------------------------------------------------------

timer:
    mov dx, PM_TIMER
    in eax, dx
    mov ebx, eax
    mov ecx, 16
1:  in eax, dx
    cmp eax, ebx
    jne 2f
    loop 1b
    or ecx, 1                 # never changed: clears the zero flag
    jmp passed
2:  xor eax, eax              # changed: sets the zero flag
    jmp passed

# ---- interrupts ------------------------------------------------------------------------------------------------------

install_interrupts:
    mov al, 0xff              # mask both 8259s: nothing here is heard by them
    out 0x21, al
    out 0xa1, al
    mov rdi, IDT
    xor eax, eax
    mov ecx, 512
    rep stosq
    lea rax, [rip + on_interrupt]
    mov rdi, IDT + VECTOR * 16
    mov [rdi], ax
    mov cx, cs
    mov [rdi + 2], cx
    mov word ptr [rdi + 4], 0x8e00
    shr rax, 16
    mov [rdi + 6], ax
    shr rax, 16
    mov [rdi + 8], eax
    mov dword ptr [rdi + 12], 0
    sub rsp, 16
    mov word ptr [rsp], 4095
    mov rax, IDT
    mov [rsp + 2], rax
    lidt [rsp]
    add rsp, 16
    mov rdi, LAPIC
    mov dword ptr [rdi + 0xf0], 0x1ff     # spurious vector 255, enabled
    mov dword ptr [rdi + 0x80], 0         # take every priority
    ret

on_interrupt:
    push rax
    push rdi
    lea rdi, [rip + interrupts]
    inc dword ptr [rdi]
    mov rdi, LAPIC
    mov dword ptr [rdi + 0xb0], 0         # end of interrupt
    pop rdi
    pop rax
    iretq

# ---- PCI configuration, mechanism 1 ----------------------------------------------------------------------------------

pci_read:                     # ebp: function address, al: offset; eax
    call pci_select
    in eax, dx
    ret

pci_write:                    # ebp, al, ecx: value
    call pci_select
    mov eax, ecx
    out dx, eax
    ret

pci_select:
    movzx eax, al
    or eax, ebp
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc
    ret

pci_find:                     # eax: device and vendor; ebp: function address, or 0
    mov ebx, eax
    mov ebp, 0x80000000
1:  xor eax, eax
    call pci_read
    cmp eax, ebx
    je 2f
    add ebp, 0x800
    cmp ebp, 0x80010000
    jne 1b
    xor ebp, ebp
2:  ret

# ---- virtio ----------------------------------------------------------------------------------------------------------

virtio_start:                 # eax: device and vendor; r12: BAR 0, or the carry flag if there is none
    call pci_find
    test ebp, ebp
    stc
    jz 9f
    mov al, 4                 # command: memory, bus master
    mov ecx, 6
    call pci_write
    mov al, 0x10
    call pci_read
    and eax, 0xfffffff0
    mov r12, rax
    mov al, 0x14              # BAR 1: the MSI-X table
    call pci_read
    and eax, 0xfffffff0
    mov dword ptr [rax], LAPIC
    mov dword ptr [rax + 4], 0
    mov dword ptr [rax + 8], VECTOR
    mov dword ptr [rax + 12], 0
    mov dword ptr [rax + 16], LAPIC
    mov dword ptr [rax + 20], 0
    mov dword ptr [rax + 24], VECTOR
    mov dword ptr [rax + 28], 0
    mov al, 0x34              # find the MSI-X capability and enable it
    call pci_read
1:  and eax, 0xfc
    stc
    jz 9f
    mov ebx, eax
    call pci_read
    cmp al, 0x11
    je 2f
    shr eax, 8
    jmp 1b
2:  mov ecx, eax
    or ecx, 0x80000000
    mov eax, ebx
    call pci_write

    mov byte ptr [r12 + 20], 0            # device_status: reset
3:  cmp byte ptr [r12 + 20], 0
    jne 3b
    mov byte ptr [r12 + 20], 1            # ACKNOWLEDGE
    mov byte ptr [r12 + 20], 3            # DRIVER
    mov dword ptr [r12 + 8], 0            # driver_feature: none of the low ones
    mov dword ptr [r12 + 12], 0
    mov dword ptr [r12 + 8], 1
    mov dword ptr [r12 + 12], 1           # VIRTIO_F_VERSION_1
    mov byte ptr [r12 + 20], 11           # FEATURES_OK
    test byte ptr [r12 + 20], 8
    stc
    jz 9f
    mov rdi, RING                         # three zeroed pages
    xor eax, eax
    mov ecx, 3 * 512
    rep stosq
    mov word ptr [r12 + 16], 0xffff       # no vector for configuration changes
    mov word ptr [r12 + 22], 0            # queue_select
    mov word ptr [r12 + 24], 8            # queue_size
    mov word ptr [r12 + 26], 0            # queue_msix_vector
    mov dword ptr [r12 + 32], RING
    mov dword ptr [r12 + 36], 0
    mov dword ptr [r12 + 40], RING + 0x1000
    mov dword ptr [r12 + 44], 0
    mov dword ptr [r12 + 48], RING + 0x2000
    mov dword ptr [r12 + 52], 0
    mov word ptr [r12 + 28], 1            # queue_enable
    mov byte ptr [r12 + 20], 15           # DRIVER_OK
    clc
9:  ret

virtio_kick:                  # makes the chain at descriptor 0 available, waits for its interrupt and completion
    lea rbx, [rip + interrupts]
    mov rdi, RING + 0x1000
    movzx ecx, word ptr [rdi + 2]
    mov eax, ecx
    and eax, 7
    mov word ptr [rdi + 4 + rax * 2], 0
    inc ecx
    mov dword ptr [rbx], 0
    mov [rdi + 2], cx
    mfence
    mov word ptr [r12 + 0x3000], 0        # the doorbell of queue 0
1:  cli
    cmp dword ptr [rbx], 0
    jne 2f
    sti
    hlt
    jmp 1b
2:  sti
    cmp [rdi + 0x1002], cx                # the used index has caught up
    jne 1b
    cli
    ret

describe:                     # rdi: descriptor, rax: address, ecx: bytes, edx: flags and next << 16
    mov [rdi], rax
    mov [rdi + 8], ecx
    mov [rdi + 12], edx
    ret

entropy:
    call virtio_start
    jc absent
    mov qword ptr [BUFFERS], 0
    mov qword ptr [BUFFERS + 8], 0
    mov rdi, RING
    mov eax, BUFFERS
    mov ecx, 16
    mov edx, 2                # device writes
    call describe
    call virtio_kick
    mov rsi, BUFFERS
    mov r13d, 8
1:  lodsb
    push rsi
    call print_byte
    pop rsi
    dec r13d
    jnz 1b
    jmp newline

disk:
    call virtio_start
    jc absent
    mov rdi, BUFFERS + 0x100              # what is written: sector 1 full of a pattern
    mov rax, 0x6d61647265666663
    mov ecx, 64
    rep stosq
    mov dword ptr [BUFFERS], 1            # VIRTIO_BLK_T_OUT
    xor ebx, ebx
    call disk_request
    mov dword ptr [BUFFERS], 0            # VIRTIO_BLK_T_IN
    mov ebx, 2
    call disk_request
    mov rsi, BUFFERS + 0x100
    mov rdi, READ_BACK
    mov ecx, 64
    repe cmpsq
    jne 1f
    cmp byte ptr [BUFFERS + 0x80], 0      # status
1:  jmp passed

disk_request:                 # ebx: 2 if the device writes the data
    mov dword ptr [BUFFERS + 4], 0
    mov qword ptr [BUFFERS + 8], 1        # sector
    mov byte ptr [BUFFERS + 0x80], 0xff
    mov rdi, RING
    mov eax, BUFFERS
    mov ecx, 16
    mov edx, 0x10001          # next is 1
    call describe
    mov rdi, RING + 16
    mov eax, BUFFERS + 0x100
    test ebx, ebx
    jz 1f
    mov eax, READ_BACK
1:  mov ecx, 512
    mov edx, 0x20001          # next is 2
    or edx, ebx
    call describe
    mov rdi, RING + 32
    mov eax, BUFFERS + 0x80
    mov ecx, 1
    mov edx, 2
    call describe
    jmp virtio_kick

absent:
    lea rsi, [rip + text_absent]
    jmp print

# ---- texts -----------------------------------------------------------------------------------------------------------

text_hello:    .asciz "hello from the guest, printed through the UART\r\n"
text_clock:    .asciz "clock (mc146818)       : "
text_keyboard: .asciz "keyboard (i8042)       : "
text_timer:    .asciz "timer (acpi-pm)        : "
text_panic:    .asciz "panic events (pvpanic) : "
text_entropy:  .asciz "entropy (virtio)       : "
text_disk:     .asciz "disk (virtio)          : "
text_bye:      .asciz "powering off (acpi-pm)\r\n"
text_ok:       .asciz "ok\r\n"
text_wrong:    .asciz "WRONG\r\n"
text_absent:   .asciz "absent\r\n"
.balign 8
interrupts:    .long 0
.balign 8
cofferdam_demo_guest_end:
