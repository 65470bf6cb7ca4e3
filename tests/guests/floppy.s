# Reads each cylinder of the diskette in drive A by DMA, adds one to every eight bytes of it, and writes it back, pass after
# pass, with a dot for each; once the power button was pressed it prints the number of passes and powers off. Anything that is
# not as it should be is printed as an `E`, and ends the machine as well.

.globl cofferdam_floppy_guest_start, cofferdam_floppy_guest_end
.set floppy_buffer, 0x200000
cofferdam_floppy_guest_start:
    cld
    mov esp, 0x90000

    # A reset is told once and sensed for each drive.
    mov dx, 0x3f2
    mov al, 0x18
    out dx, al
    mov al, 0x1c
    out dx, al
    mov ebx, 4
1:  lea rsi, [rip + floppy_sense]
    call floppy_command
    call floppy_take
    mov ah, al
    call floppy_take
    and ah, 0xc0
    cmp ah, 0xc0
    jne floppy_wrong
    dec ebx
    jnz 1b
    mov dx, 0x3f7             # 500 kb/s
    xor eax, eax
    out dx, al
    lea rsi, [rip + floppy_specify]
    call floppy_command
    lea rsi, [rip + floppy_recalibrate]
    call floppy_command
    lea rsi, [rip + floppy_sense]
    call floppy_command
    call floppy_take
    cmp al, 0x20
    jne floppy_wrong
    call floppy_take

    # An interrupt comes though nobody looks: it is awaited in the interrupt controller, which forgets what was before.
    lea rsi, [rip + floppy_controller]
    mov al, 0x11
    out 0x20, al
    mov ecx, 4
2:  lodsb
    out 0x21, al
    loop 2b
    lea rsi, [rip + floppy_read_id]
    call floppy_command
3:  mov al, 0x0a
    out 0x20, al
    in al, 0x20
    test al, 0x40
    jz 3b
    mov ebx, 7
4:  call floppy_take
    dec ebx
    jnz 4b

    xor r12d, r12d            # passes
5:  xor r13d, r13d            # cylinder
6:  mov byte ptr [rip + floppy_seek + 3], r13b
    lea rsi, [rip + floppy_seek]
    call floppy_command
    lea rsi, [rip + floppy_sense]
    call floppy_command
    call floppy_take
    cmp al, 0x20
    jne floppy_wrong
    call floppy_take
    cmp al, r13b
    jne floppy_wrong

    mov bl, 0x46              # to memory
    mov bh, 0xc6              # READ DATA of both sides
    call floppy_transfer
    mov edi, floppy_buffer
    mov ecx, 36 * 512 / 8
7:  inc qword ptr [rdi]
    add edi, 8
    loop 7b
    mov bl, 0x4a              # from memory
    mov bh, 0xc5              # WRITE DATA
    call floppy_transfer

    inc r13d
    cmp r13d, 80
    jne 6b
    inc r12d
    mov al, '.'
    call floppy_print
    mov dx, 0x600
    in ax, dx
    test ah, 1                # the power button
    jz 5b

    mov al, 10
    call floppy_print
    mov ecx, 8
8:  rol r12d, 4
    mov al, r12b
    and al, 0x0f
    add al, '0'
    cmp al, '9'
    jbe 9f
    add al, 'a' - '0' - 10
9:  call floppy_print
    loop 8b
    jmp floppy_end

# Programs channel 2 in mode bl, gives command bh for the cylinder, and looks at its result.
floppy_transfer:
    mov al, 6
    out 0x0a, al
    out 0x0c, al
    xor eax, eax
    out 0x04, al
    out 0x04, al
    mov al, 0xff              # 36 sectors, less one byte
    out 0x05, al
    mov al, 0x47
    out 0x05, al
    mov al, floppy_buffer >> 16
    out 0x81, al
    mov al, bl
    out 0x0b, al
    mov al, 2
    out 0x0a, al
    mov byte ptr [rip + floppy_sectors + 1], bh
    mov byte ptr [rip + floppy_sectors + 3], r13b
    lea rsi, [rip + floppy_sectors]
    call floppy_command
    call floppy_take
    cmp al, 0x04              # normal termination on head 1
    jne floppy_wrong
    mov ebx, 6
1:  call floppy_take
    dec ebx
    jnz 1b
    ret

# Gives the controller the command at rsi, behind its length.
floppy_command:
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
floppy_take:
    mov dx, 0x3f4
1:  in al, dx
    and al, 0xc0
    cmp al, 0xc0
    jne 1b
    inc edx
    in al, dx
    ret

floppy_print:
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

floppy_wrong:
    mov al, 'E'
    call floppy_print
floppy_end:
    mov al, 10
    call floppy_print
    mov dx, 0x604
    mov ax, 0x3400
    out dx, ax
    cli
    hlt

floppy_sense: .byte 1, 0x08
floppy_specify: .byte 3, 0x03, 0xdf, 0x02
floppy_recalibrate: .byte 2, 0x07, 0
floppy_read_id: .byte 2, 0x4a, 0
floppy_seek: .byte 3, 0x0f, 0, 0
floppy_sectors: .byte 9, 0, 0, 0, 0, 1, 2, 18, 0x1b, 0xff
floppy_controller: .byte 0x08, 0x04, 0x01, 0xff
cofferdam_floppy_guest_end:
