# Uses every device, and looks whether each did each thing exactly once, until the power button is pressed; then tells how
# many rounds that were and ends with code 32. The code of any other end says what went wrong: 1 a device is missing,
# 2 to 5 UART, 6 to 8 keyboard controller, 9 clock, 10 timer, 11 panic device, 12 and 13 disk, 14 entropy.
#
# Round r loops bytes r to r + 3 back through the UART's FIFO, puts byte r through the keyboard controller's buffer, counts
# in the clock's memory, writes one sector of the disk and reads another. Each 32nd prints the next letter of the alphabet.

.equ ANEW_UART, 0x3f8
.equ ANEW_EXIT, 0xf4
.equ ANEW_LAPIC, 0xfee00000
.equ ANEW_VECTOR, 0x40
.equ ANEW_IDT, 0x1f0000            # 4 KiB
.equ ANEW_DISK_RING, 0x200000      # descriptors, available ring, used ring: a page each
.equ ANEW_ENTROPY_RING, 0x204000
.equ ANEW_REQUEST, 0x210000        # header; data from 0x100 on; status at 0x80
.equ ANEW_READ_BACK, 0x211000
.equ ANEW_EXPECTED, 0x212000
.equ ANEW_RANDOM, 0x213000
.equ ANEW_VERSIONS, 0x214000       # of each sector, the round that wrote it
.equ ANEW_DISK, 0x215000           # BAR 0 of the disk
.equ ANEW_ENTROPY, 0x215008
.equ ANEW_CLOCK, 0x215010          # what the clock's memory holds
.equ ANEW_PANIC, 0x215020
.equ ANEW_EARLIER, 0x215028        # random bytes of the last time
.equ ANEW_SECTORS, 64

.globl cofferdam_anew_guest_start, cofferdam_anew_guest_end
cofferdam_anew_guest_start:
    cld
    call anew_interrupts
    mov r15d, 1
    mov eax, 0x10421af4
    mov r13d, ANEW_DISK_RING
    call anew_virtio
    jc anew_wrong
    mov [ANEW_DISK], r12
    mov eax, 0x10441af4
    mov r13d, ANEW_ENTROPY_RING
    call anew_virtio
    jc anew_wrong
    mov [ANEW_ENTROPY], r12
    mov dx, ANEW_UART + 2
    mov al, 7                      # FIFOs on and empty
    out dx, al
    mov al, 0xad                   # keyboard off: nothing comes but what is put
    out 0x64, al
    mov al, 0x50
    out 0x70, al
    in al, 0x71
    mov [ANEW_CLOCK], al
    mov dx, 0x505
    in al, dx
    mov [ANEW_PANIC], al
    xor r14d, r14d
anew_round:
    inc r14d

    mov dx, ANEW_UART + 4
    mov al, 0x10                   # loopback
    out dx, al
    xor ebx, ebx
1:  lea eax, [r14 + rbx]
    mov dx, ANEW_UART
    out dx, al
    inc ebx
    cmp ebx, 4
    jne 1b
    xor ebx, ebx
2:  mov dx, ANEW_UART + 5
    in al, dx
    mov r15d, 2
    test al, 1                     # data ready
    jz anew_wrong
    mov r15d, 3
    test al, 2                     # overrun: a byte came twice
    jnz anew_wrong
    mov dx, ANEW_UART
    in al, dx
    lea ecx, [r14 + rbx]
    mov r15d, 4
    cmp al, cl
    jne anew_wrong
    inc ebx
    cmp ebx, 4
    jne 2b
    mov dx, ANEW_UART + 5
    in al, dx
    mov r15d, 5
    test al, 1                     # and no more
    jnz anew_wrong
    mov dx, ANEW_UART + 4
    xor eax, eax
    out dx, al
    test r14d, 31
    jnz 3f
    mov eax, r14d
    shr eax, 5
    dec eax
    xor edx, edx
    mov ecx, 26
    div ecx
    lea eax, [rdx + 'A']
    call anew_put
3:
    mov al, 0xd2                   # the next byte is as if the keyboard had sent it
    out 0x64, al
    mov eax, r14d
    out 0x60, al
    in al, 0x64
    mov r15d, 6
    test al, 1
    jz anew_wrong
    in al, 0x60
    mov r15d, 7
    cmp al, r14b
    jne anew_wrong
    in al, 0x64
    mov r15d, 8
    test al, 1
    jnz anew_wrong

    mov al, 0x50
    out 0x70, al
    in al, 0x71
    mov r15d, 9
    cmp al, [ANEW_CLOCK]
    jne anew_wrong
    inc byte ptr [ANEW_CLOCK]
    mov al, 0x50
    out 0x70, al
    mov al, [ANEW_CLOCK]
    out 0x71, al

    mov dx, 0x608
    in eax, dx
    mov r15d, 10
    test eax, 0xff000000           # it has 24 bits; what nobody answers has more
    jnz anew_wrong
    mov dx, 0x505
    in al, dx
    mov r15d, 11
    cmp al, [ANEW_PANIC]
    jne anew_wrong

    mov r12, [ANEW_DISK]
    mov r13d, ANEW_DISK_RING
    imul r8d, r14d, 7
    and r8d, ANEW_SECTORS - 1
    mov r9d, r14d
    mov [ANEW_VERSIONS + r8 * 4], r9d
    mov edi, ANEW_REQUEST + 0x100
    call anew_pattern
    mov dword ptr [ANEW_REQUEST], 1       # VIRTIO_BLK_T_OUT
    xor ebx, ebx
    call anew_disk
    imul r8d, r14d, 5
    add r8d, 3
    and r8d, ANEW_SECTORS - 1
    mov dword ptr [ANEW_REQUEST], 0       # VIRTIO_BLK_T_IN
    mov ebx, 2
    call anew_disk
    mov r9d, [ANEW_VERSIONS + r8 * 4]
    mov edi, ANEW_EXPECTED
    call anew_pattern
    mov esi, ANEW_READ_BACK
    mov edi, ANEW_EXPECTED
    mov ecx, 64
    mov r15d, 13
    repe cmpsq
    jne anew_wrong

    test r14d, 7
    jnz 4f
    mov r12, [ANEW_ENTROPY]
    mov r13d, ANEW_ENTROPY_RING
    mov edi, ANEW_ENTROPY_RING
    mov eax, ANEW_RANDOM
    mov ecx, 16
    mov edx, 2                     # the device writes
    call anew_describe
    call anew_kick
    mov rax, [ANEW_RANDOM]
    mov r15d, 14
    cmp rax, [ANEW_EARLIER]
    je anew_wrong
    mov [ANEW_EARLIER], rax
4:
    mov dx, 0x600
    in ax, dx
    test ah, 1                     # the power button
    jz anew_round
    mov r15d, 32

anew_wrong:                        # also of what went right: a line with the round, then the code
    mov dx, ANEW_UART + 4
    xor eax, eax
    out dx, al
    mov al, 10
    call anew_put
    mov ebx, 8
5:  rol r14d, 4
    mov eax, r14d
    and al, 15
    add al, '0'
    cmp al, '9'
    jbe 6f
    add al, 'a' - '9' - 1
6:  call anew_put
    dec ebx
    jnz 5b
    mov al, 10
    call anew_put
    mov eax, r15d
    mov dx, ANEW_EXIT
    out dx, eax
7:  cli
    hlt
    jmp 7b

anew_put:                          # al
    mov cl, al
    mov dx, ANEW_UART + 5
1:  in al, dx
    test al, 0x20
    jz 1b
    mov dx, ANEW_UART
    mov al, cl
    out dx, al
    ret

anew_pattern:                      # r8d: sector, r9d: the round that wrote it, or 0; to rdi
    mov eax, r9d
    test eax, eax
    jz 1f
    shl rax, 32
    mov ecx, r8d
    shl ecx, 16
    or rax, rcx
    mov ecx, 64
2:  stosq
    inc rax
    dec ecx
    jnz 2b
    ret
1:  mov ecx, 64
    rep stosq
    ret

anew_disk:                         # r8d: sector; ebx: 2 if the device writes the data
    mov dword ptr [ANEW_REQUEST + 4], 0
    mov [ANEW_REQUEST + 8], r8
    mov byte ptr [ANEW_REQUEST + 0x80], 0xff
    mov edi, ANEW_DISK_RING
    mov eax, ANEW_REQUEST
    mov ecx, 16
    mov edx, 0x10001               # next is 1
    call anew_describe
    mov edi, ANEW_DISK_RING + 16
    mov eax, ANEW_REQUEST + 0x100
    test ebx, ebx
    jz 1f
    mov eax, ANEW_READ_BACK
1:  mov ecx, 512
    mov edx, 0x20001               # next is 2
    or edx, ebx
    call anew_describe
    mov edi, ANEW_DISK_RING + 32
    mov eax, ANEW_REQUEST + 0x80
    mov ecx, 1
    mov edx, 2
    call anew_describe
    call anew_kick
    mov r15d, 12
    cmp byte ptr [ANEW_REQUEST + 0x80], 0
    jne anew_wrong
    ret

anew_describe:                     # rdi: descriptor, rax: address, ecx: bytes, edx: flags and next << 16
    mov [rdi], rax
    mov [rdi + 8], ecx
    mov [rdi + 12], edx
    ret

anew_kick:                         # r12: BAR 0, r13: ring; offers descriptor 0 and waits until it is used
    lea rdi, [r13 + 0x1000]
    movzx ecx, word ptr [rdi + 2]
    mov eax, ecx
    and eax, 7
    mov word ptr [rdi + 4 + rax * 2], 0
    inc ecx
    mov [rdi + 2], cx
    mfence
    mov word ptr [r12 + 0x3000], 0 # the doorbell of queue 0
1:  cli
    cmp [rdi + 0x1002], cx
    je 2f
    sti                            # an interrupt that waits comes after the next instruction
    hlt
    jmp 1b
2:  ret

anew_interrupts:
    mov al, 0xff                   # mask both 8259s: nothing here is heard by them
    out 0x21, al
    out 0xa1, al
    mov edi, ANEW_IDT
    xor eax, eax
    mov ecx, 512
    rep stosq
    lea rax, [rip + anew_on_interrupt]
    mov edi, ANEW_IDT + ANEW_VECTOR * 16
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
    mov eax, ANEW_IDT
    mov [rsp + 2], rax
    lidt [rsp]
    add rsp, 16
    mov edi, ANEW_LAPIC
    mov dword ptr [rdi + 0xf0], 0x1ff     # spurious vector 255, enabled
    mov dword ptr [rdi + 0x80], 0         # take every priority
    ret

anew_on_interrupt:
    push rdi
    mov edi, ANEW_LAPIC
    mov dword ptr [rdi + 0xb0], 0  # end of interrupt
    pop rdi
    iretq

anew_select:                       # ebp: function, al: offset
    movzx eax, al
    or eax, ebp
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc
    ret

anew_pci:                          # ebp, al; eax
    call anew_select
    in eax, dx
    ret

anew_virtio:                       # eax: device and vendor, r13: ring; r12: BAR 0, or the carry flag if there is none
    mov ebx, eax
    mov ebp, 0x80000000
1:  xor eax, eax
    call anew_pci
    cmp eax, ebx
    je 2f
    add ebp, 0x800
    cmp ebp, 0x80010000
    jne 1b
    stc
    ret
2:  mov al, 4                      # command: memory, bus master
    call anew_select
    mov eax, 6
    out dx, eax
    mov al, 0x10
    call anew_pci
    and eax, 0xfffffff0
    mov r12, rax
    mov al, 0x14                   # BAR 1: the MSI-X table
    call anew_pci
    and eax, 0xfffffff0
    mov dword ptr [rax], ANEW_LAPIC
    mov dword ptr [rax + 4], 0
    mov dword ptr [rax + 8], ANEW_VECTOR
    mov dword ptr [rax + 12], 0
    mov al, 0x34                   # find the MSI-X capability and enable it
    call anew_pci
3:  and eax, 0xfc
    stc
    jz 9f
    mov ebx, eax
    call anew_pci
    cmp al, 0x11
    je 4f
    shr eax, 8
    jmp 3b
4:  mov ecx, eax
    or ecx, 0x80000000
    mov eax, ebx
    call anew_select
    mov eax, ecx
    out dx, eax
    mov byte ptr [r12 + 20], 0     # device_status: reset
5:  cmp byte ptr [r12 + 20], 0
    jne 5b
    mov byte ptr [r12 + 20], 1     # ACKNOWLEDGE
    mov byte ptr [r12 + 20], 3     # DRIVER
    mov dword ptr [r12 + 8], 0
    mov dword ptr [r12 + 12], 0
    mov dword ptr [r12 + 8], 1
    mov dword ptr [r12 + 12], 1    # VIRTIO_F_VERSION_1
    mov byte ptr [r12 + 20], 11    # FEATURES_OK
    mov word ptr [r12 + 16], 0xffff       # no vector for configuration changes
    mov word ptr [r12 + 22], 0     # queue_select
    mov word ptr [r12 + 24], 8     # queue_size
    mov word ptr [r12 + 26], 0     # queue_msix_vector
    mov dword ptr [r12 + 32], r13d
    mov dword ptr [r12 + 36], 0
    lea eax, [r13 + 0x1000]
    mov dword ptr [r12 + 40], eax
    mov dword ptr [r12 + 44], 0
    lea eax, [r13 + 0x2000]
    mov dword ptr [r12 + 48], eax
    mov dword ptr [r12 + 52], 0
    mov word ptr [r12 + 28], 1     # queue_enable
    mov byte ptr [r12 + 20], 15    # DRIVER_OK
    clc
9:  ret
cofferdam_anew_guest_end:
