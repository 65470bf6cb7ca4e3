# Reads the first 128 sectors of the first IDE disk in portions of 16, by DMA and by PIO in turn, adds one to every eight bytes
# and writes them back, pass after pass, with a flush and a dot for each; once the power button was pressed it prints the number
# of passes and powers off. Each interrupt is awaited. Anything that is not as it should be is printed as an `E`, and ends the
# machine as well.

.globl cofferdam_ide_guest_start, cofferdam_ide_guest_end
.set ide_buffer, 0x200000
.set ide_table, 0x8000
.set ide_portion_bytes, 16 * 512
cofferdam_ide_guest_start:
    cld
    mov esp, 0x90000

    # The function, its bus master's ports, and a command register with ports and bus mastering on.
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
    jmp ide_wrong
2:  lea eax, [rbx + 0x20]
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc
    in eax, dx
    and eax, 0xfffc
    mov r14d, eax
    lea eax, [rbx + 0x04]
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc
    mov eax, 5
    out dx, ax

    mov dword ptr [ide_table], ide_buffer
    mov dword ptr [ide_table + 4], 0x80000000 + ide_portion_bytes

    # A reset, after which the disk is there.
    mov dx, 0x3f6
    mov al, 4
    out dx, al
    xor eax, eax
    out dx, al
    mov dx, 0x1f7
    in al, dx
    cmp al, 0x50
    jne ide_wrong

    xor r12d, r12d            # passes
3:  xor r13d, r13d            # portion
4:  test r13b, 1
    jnz 6f
    mov bl, 0xc8              # READ DMA
    mov bh, 8
    call ide_dma
    call ide_change
    mov bl, 0x35              # WRITE DMA EXT
    mov bh, 0
    call ide_dma
    jmp 9f

6:  mov bl, 0x20              # READ SECTORS
    call ide_command
    mov edi, ide_buffer
    mov r15d, 16
7:  call ide_wait
    test al, 8
    jz ide_wrong
    call ide_arm
    mov dx, 0x1f0
    mov ecx, 256
    rep insw
    dec r15d
    jnz 7b
    call ide_change
    mov bl, 0x30              # WRITE SECTORS
    call ide_command
    mov esi, ide_buffer
    mov r15d, 16
8:  mov dx, 0x3f6
    in al, dx
    test al, 8
    jz ide_wrong
    call ide_arm
    mov dx, 0x1f0
    mov ecx, 256
    rep outsw
    call ide_wait
    dec r15d
    jnz 8b

9:  inc r13d
    cmp r13d, 8
    jne 4b
    call ide_arm
    mov dx, 0x1f7
    mov al, 0xe7              # FLUSH CACHE
    out dx, al
    call ide_wait
    inc r12d
    mov al, '.'
    call ide_print
    mov dx, 0x600
    in ax, dx
    test ah, 1                # the power button
    jz 3b

    mov al, 10
    call ide_print
    mov ecx, 8
10: rol r12d, 4
    mov al, r12b
    and al, 0x0f
    add al, '0'
    cmp al, '9'
    jbe 11f
    add al, 'a' - '0' - 10
11: call ide_print
    loop 10b
    jmp ide_end

# Gives command bl for the portion, and waits for nothing.
ide_command:
    mov dx, 0x1f6
    mov al, 0xe0
    out dx, al
    mov dx, 0x1f2             # what an extended command has above
    xor eax, eax
1:  out dx, al
    inc edx
    cmp dx, 0x1f6
    jne 1b
    mov dx, 0x1f2
    mov al, 16
    out dx, al
    mov eax, r13d
    shl eax, 4
    inc edx
    out dx, al
    shr eax, 8
    inc edx
    out dx, al
    call ide_arm
    mov dx, 0x1f7
    mov al, bl
    out dx, al
    ret

# Has the bus master move the portion of command bl; bh is 8 towards memory.
ide_dma:
    call ide_command
    mov edx, r14d
    mov al, bh
    out dx, al
    lea edx, [r14 + 2]
    mov al, 6
    out dx, al
    lea edx, [r14 + 4]
    mov eax, ide_table
    out dx, eax
    mov edx, r14d
    mov al, bh
    or al, 1
    out dx, al
    call ide_wait
    lea edx, [r14 + 2]
    in al, dx
    and al, 7
    cmp al, 4                 # the interrupt, and neither active nor an error
    jne ide_wrong
    mov edx, r14d
    mov al, bh
    out dx, al
    ret

ide_change:
    mov edi, ide_buffer
    mov ecx, ide_portion_bytes / 8
1:  inc qword ptr [rdi]
    add edi, 8
    loop 1b
    ret

# Has the second interrupt controller forget what was before.
ide_arm:
    mov al, 0x11
    out 0xa0, al
    mov al, 0x70
    out 0xa1, al
    mov al, 2
    out 0xa1, al
    mov al, 1
    out 0xa1, al
    mov al, 0xff
    out 0xa1, al
    ret

# Waits for interrupt 14, and takes the status into al, in which there must be no error.
ide_wait:
    mov al, 0x0a
    out 0xa0, al
1:  in al, 0xa0
    test al, 0x40
    jz 1b
    mov dx, 0x1f7
    in al, dx
    test al, 0xa1
    jnz ide_wrong
    ret

ide_print:
    push rcx
    mov ah, al
    mov dx, 0x3fd
1:  in al, dx
    test al, 0x20
    jz 1b
    mov al, ah
    mov dx, 0x3f8
    out dx, al
    pop rcx
    ret

ide_wrong:
    mov al, 'E'
    call ide_print
ide_end:
    mov al, 10
    call ide_print
    mov dx, 0x604
    mov ax, 0x3400
    out dx, ax
    cli
    hlt
cofferdam_ide_guest_end:
