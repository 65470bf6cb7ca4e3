# A ROM that reads from a disk for ever, and says after each pass how many ticks of the time stamp counter it took: 16
# hexadecimal digits and a line feed on the first serial port. The letter `E` says that something is not as it should be. It
# stands at the end of the first 4 GiB and of the first MiB, and asks nothing of whoever runs it but a PC's devices: interrupt
# controllers, serial port, PIIX IDE function, floppy controller.
#
# What is read is patched in at `disks_kind`: 0: a disk's sectors by PIO, 1: by bus master, 2: a diskette's by DMA. Registers are
# read and written as the specifications have a driver do it, and as the usual ones do: ATA/ATAPI-6, clause 9, with READ MULTIPLE
# of 16 sectors; Programming Interface for Bus Master IDE Controller 1.0, 3.1; 82077AA data sheet, 5. Each wait is for an interrupt.

.globl cofferdam_disks_guest_start, cofferdam_disks_guest_end, cofferdam_disks_guest_kind
.set disks_segment, 0xf0000   # where the ROM is below 1 MiB
.set disks_tables, 0x10000    # page tables
.set disks_gates, 0x8000      # interrupt descriptors
.set disks_flag, 0x7000       # an interrupt came
.set disks_list, 0x7100       # the bus master's descriptors
.set disks_bytes, 0x7200      # a command's bytes, behind their length
.set disks_buffer, 0x200000
.set disks_master, 0xc000     # the bus master's ports


cofferdam_disks_guest_start:
.code16
    jmp 1f
.balign 8
disks_gdt:                    # 8 from the start
    .quad 0, 0x00209b0000000000, 0x00cf93000000ffff
disks_gdt_register:           # 32 from the start
    .word 23
    .long disks_segment + 8
1:  cli
    cld
    mov ax, 0xf000
    mov ds, ax
    xor ax, ax
    mov ss, ax
    mov sp, 0x7000

    # Pages of 2 MiB for the first 64 MiB and the local APIC, each where it is.
    mov ax, disks_tables >> 4
    mov es, ax
    xor di, di
    xor eax, eax
    mov cx, 0x4000 / 4
    rep stosd
    mov dword ptr es:[0], disks_tables + 0x1003
    mov dword ptr es:[0x1000], disks_tables + 0x2003
    mov dword ptr es:[0x1018], disks_tables + 0x3003
    mov dword ptr es:[0x3fb8], 0xfee00093
    mov di, 0x2000
    mov eax, 0x83
1:  mov es:[di], eax
    add di, 8
    add eax, 0x200000
    cmp eax, 0x4000083
    jne 1b

    # Long mode: PAE, the tables, EFER.LME, then paging and protection at once.
    lgdt [32]
    mov eax, cr4
    or eax, 0x20
    mov cr4, eax
    mov eax, disks_tables
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x100
    wrmsr
    mov eax, cr0
    and eax, 0x9fffffff       # caches on
    or eax, 0x80000001
    mov cr0, eax
    .byte 0x66, 0xea          # a far jump to 64-bit code
    .long disks_segment + disks_long - cofferdam_disks_guest_start
    .word 8

cofferdam_disks_guest_kind:
disks_kind:
    .byte 0

.code64
disks_long:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov esp, 0x90000

    # Interrupt descriptors for both controllers, at 0x20 and 0x28.
    mov edi, disks_gates + 0x20 * 16
    lea rax, [rip + disks_first]
    lea rbx, [rip + disks_second]
    mov ecx, 8
    call disks_describe
    mov rax, rbx
    mov ecx, 8
    call disks_describe
    lidt [rip + disks_idt_register]
    lea rsi, [rip + disks_controllers]
    mov ecx, 5
1:  movzx edx, byte ptr [rsi]
    mov al, [rsi + 1]
    out dx, al
    movzx edx, byte ptr [rsi + 2]
    mov al, [rsi + 3]
    out dx, al
    add rsi, 4
    loop 1b
    mov edi, 0xfee000f0       # the local APIC lets the controllers' interrupts through
    mov dword ptr [rdi], 0x1ff
    mov edi, 0xfee00350
    mov dword ptr [rdi], 0x700
    sti

    mov dx, 0x3fb             # eight bits
    mov al, 3
    out dx, al

    cmp byte ptr [rip + disks_kind], 2
    je disks_floppy

    # The function, with ports for its bus master.
    mov ebx, 0x80000000
1:  mov eax, ebx
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc
    in eax, dx
    cmp eax, 0x70108086
    je 2f
    add ebx, 0x100
    cmp ebx, 0x80010000
    jne 1b
    jmp disks_wrong
2:  lea eax, [rbx + 0x20]
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc
    mov eax, disks_master
    out dx, eax
    lea eax, [rbx + 0x04]
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc
    mov eax, 5
    out dx, ax
    lea eax, [rbx + 0x40]     # both channels are decoded
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc
    mov eax, 0x80008000
    out dx, eax
    mov dword ptr [disks_list], disks_buffer
    mov dword ptr [disks_list + 4], 0
    mov dword ptr [disks_list + 8], disks_buffer + 0x10000
    mov dword ptr [disks_list + 12], 0x80000000

    # A reset, after which the disk gets ready; and blocks of 16 sectors.
    mov dx, 0x3f6
    mov al, 4
    out dx, al
    xor eax, eax
    out dx, al
1:  in al, dx
    test al, 0x80
    jnz 1b
    mov cl, 16
    mov al, 0xc6              # SET MULTIPLE MODE
    call disks_command
    call disks_done

    # 512 KiB a pass by PIO, 16 MiB by bus master: some tenths of a second.
    mov r15d, 4
    lea r14, [rip + disks_pio]
    cmp byte ptr [rip + disks_kind], 0
    je disks_pass
    mov r15d, 128
    lea r14, [rip + disks_dma]

# Passes of r15 calls of r14 with a number that goes up in r13, for ever.
disks_pass:
    rdtsc
    shl rdx, 32
    lea r12, [rax + rdx]
    xor r13d, r13d
1:  call r14
    inc r13d
    cmp r13d, r15d
    jne 1b
    rdtsc
    shl rdx, 32
    add rax, rdx
    sub rax, r12
    mov r12, rax
    mov ecx, 16
2:  rol r12, 4
    mov al, r12b
    and al, 0x0f
    add al, '0'
    cmp al, '9'
    jbe 3f
    add al, 'a' - '0' - 10
3:  call disks_print
    loop 2b
    mov al, 10
    call disks_print
    jmp disks_pass

# Gives command al with a sector count of cl, for sectors from number 256 times r13 on (clause 9.4).
disks_command:
    mov bl, al
    mov byte ptr [disks_flag], 0
    call disks_idle
    mov dx, 0x1f6
    mov al, 0xe0
    out dx, al
    mov dx, 0x3f6             # 400 ns
    in al, dx
    call disks_idle
    mov dx, 0x1f2
    mov al, cl
    out dx, al
    inc edx
    xor eax, eax
    out dx, al
    inc edx
    mov eax, r13d
    out dx, al
    inc edx
    mov al, ah
    out dx, al
    inc edx
    mov al, 0xe0
    out dx, al
    inc edx
    mov al, bl
    out dx, al
    mov dx, 0x3f6
    in al, dx
    ret

# Waits until the disk wants nothing and does nothing.
disks_idle:
    mov dx, 0x1f7
    in al, dx
    test al, 0x88
    jnz disks_idle
    ret

# Waits for the disk's interrupt; what it is for is in al (9.5).
disks_told:
    call disks_wait
disks_status:
    mov dx, 0x3f6
    in al, dx
    test al, 0x80
    jnz disks_wrong
    mov dx, 0x1f7
    in al, dx
    and al, 0x89
    ret

# The same, where a command is to have ended well (9.7).
disks_done:
    call disks_wait
disks_ended:
    call disks_status
    jnz disks_wrong
    ret

disks_pio:
    xor ecx, ecx              # 256 sectors
    mov al, 0xc4              # READ MULTIPLE
    call disks_command
    mov edi, disks_buffer
    mov ebx, 16
1:  call disks_told
    cmp al, 0x08
    jne disks_wrong
    mov esi, 16
2:  mov dx, 0x1f0
    mov ecx, 256
    rep insw
    dec esi
    jnz 2b
    dec ebx
    jnz 1b
    ret

disks_dma:
    mov dx, disks_master + 4
    mov eax, disks_list
    out dx, eax
    mov dx, disks_master
    in al, dx
    and al, 0xf6
    or al, 8                  # towards memory
    out dx, al
    mov dx, disks_master + 2
    in al, dx
    or al, 6
    out dx, al
    xor ecx, ecx              # 256 sectors
    mov al, 0xc8              # READ DMA
    call disks_command
    mov dx, disks_master
    in al, dx
    or al, 1
    out dx, al
    call disks_wait
    mov dx, disks_master + 2
    in al, dx
    and al, 7
    cmp al, 4
    jne disks_wrong
    mov dx, disks_master
    in al, dx
    and al, 0xfe
    out dx, al
    jmp disks_ended

# Waits for an interrupt, whether it came or will.
disks_wait:
    cli
    cmp byte ptr [disks_flag], 0
    jne 1f
    sti
    hlt
    jmp disks_wait
1:  mov byte ptr [disks_flag], 0
    sti
    ret

disks_second:
    push rax
    mov al, 0x20
    out 0xa0, al
    jmp 1f
disks_first:
    push rax
    mov al, 0x20
1:  out 0x20, al
    mov byte ptr [disks_flag], 1
    pop rax
    iretq

# Puts ecx gates for the handler at rax at rdi.
disks_describe:
    mov edx, eax
    and edx, 0xffff
    or edx, 8 << 16
    mov [rdi], edx
    mov edx, eax
    and edx, 0xffff0000
    or edx, 0x8e00
    mov [rdi + 4], edx
    mov qword ptr [rdi + 8], 0
    add edi, 16
    loop disks_describe
    ret

# The diskette in drive A: a cylinder for each call.
disks_floppy:
    mov dx, 0x3f2             # a reset, with drive A on
    mov al, 0x18
    out dx, al
    mov al, 0x1c
    out dx, al
    call disks_wait
    mov ebx, 4                # it is told for each drive
1:  lea rsi, [rip + disks_sense]
    call disks_give
    call disks_take
    call disks_take
    dec ebx
    jnz 1b
    mov dx, 0x3f7             # 500 kb/s
    xor eax, eax
    out dx, al
    lea rsi, [rip + disks_specify]
    call disks_give
    lea rsi, [rip + disks_recalibrate]
    call disks_give
    call disks_sought
    mov r15d, 80
    lea r14, [rip + disks_cylinder]
    jmp disks_pass

disks_cylinder:
    mov dword ptr [disks_bytes], 0x000f03
    mov byte ptr [disks_bytes + 3], r13b
    mov esi, disks_bytes
    call disks_give
    call disks_sought
    cmp al, r13b
    jne disks_wrong

    # Channel 2: 36 sectors to memory.
    mov al, 6
    out 0x0a, al
    out 0x0c, al
    xor eax, eax
    out 0x04, al
    out 0x04, al
    mov al, 0xff
    out 0x05, al
    mov al, 0x47
    out 0x05, al
    mov al, disks_buffer >> 16
    out 0x81, al
    mov al, 0x46
    out 0x0b, al
    mov al, 2
    out 0x0a, al

    # READ DATA of both sides.
    mov edi, disks_bytes
    lea rsi, [rip + disks_sectors]
    mov ecx, 10
    rep movsb
    mov byte ptr [disks_bytes + 3], r13b
    mov byte ptr [disks_flag], 0
    mov esi, disks_bytes
    call disks_give
    call disks_wait
    call disks_take
    and al, 0xc0              # normal termination
    jnz disks_wrong
    mov ebx, 6
1:  call disks_take
    dec ebx
    jnz 1b
    ret

# The end of a seek, with the cylinder in al.
disks_sought:
    call disks_wait
    lea rsi, [rip + disks_sense]
    call disks_give
    call disks_take
    cmp al, 0x20
    jne disks_wrong
    jmp disks_take

# Gives the controller the command at rsi, behind its length.
disks_give:
    movzx ecx, byte ptr [rsi]
    inc rsi
1:  mov dx, 0x3f4
2:  in al, dx
    and al, 0xc0
    cmp al, 0x80
    jne 2b
    lodsb
    inc edx
    out dx, al
    loop 1b
    ret

# Takes a byte of a result into al.
disks_take:
    mov dx, 0x3f4
1:  in al, dx
    and al, 0xc0
    cmp al, 0xc0
    jne 1b
    inc edx
    in al, dx
    ret

disks_print:
    mov ah, al
    mov dx, 0x3fd
1:  in al, dx
    test al, 0x20
    jz 1b
    mov al, ah
    mov dx, 0x3f8
    out dx, al
    ret

disks_wrong:
    mov al, 'E'
    call disks_print
1:  cli
    hlt
    jmp 1b

disks_idt_register:
    .word 0x30 * 16 - 1
    .quad disks_gates
# Ports and values: both controllers from the beginning, interrupts 2, 6 and 14 let through.
disks_controllers:
    .byte 0x20, 0x11, 0xa0, 0x11, 0x21, 0x20, 0xa1, 0x28, 0x21, 0x04, 0xa1, 0x02, 0x21, 0x01, 0xa1, 0x01, 0x21, 0xbb, 0xa1, 0xbf
disks_sense: .byte 1, 0x08
disks_specify: .byte 3, 0x03, 0xdf, 0x02
disks_recalibrate: .byte 2, 0x07, 0
disks_sectors: .byte 9, 0xc6, 0, 0, 0, 1, 2, 18, 0x1b, 0xff
cofferdam_disks_guest_end:
