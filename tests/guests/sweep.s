# Reads and writes everything that a guest can reach outside its memory: the MMIO hole, every port, every offset of PCI
# configuration space, at each width; then prints one line and powers off. No device process may die of it.
#
# What is written is 0 and 0x5a…: neither asks a device of this machine to power off, reset or panic. It winds the watchdog, which is
# stopped a few ports later.

.globl cofferdam_sweep_guest_start, cofferdam_sweep_guest_end
cofferdam_sweep_guest_start:
    cld
    # Let every function decode its BARs.
    mov ebx, 0x80000004
1:  mov eax, ebx
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc
    mov ax, 7
    out dx, ax
    add ebx, 0x800
    cmp ebx, 0x80010004
    jne 1b

    # The display's window, as four of its registers have it, at each width.
    lea rsi, [rip + sweep_windows]
    mov ecx, 4
11: mov dx, 0x3c2
    mov al, 0x67
    out dx, al
    mov dx, 0x3ce
    mov al, 6
    mov ah, [rsi]
    out dx, ax
    mov edi, 0xa0000
12: mov al, [rdi]
    mov byte ptr [rdi], 0x5a
    mov ax, [rdi + 2]
    mov word ptr [rdi + 2], 0x5a5a
    mov eax, [rdi + 4]
    mov dword ptr [rdi + 4], 0
    mov rax, [rdi + 8]
    mov qword ptr [rdi + 8], 0
    add edi, 0x400
    cmp edi, 0xc0000
    jne 12b
    inc rsi
    loop 11b

    # The first BARs densely, then the whole hole, a page at a time, the width changing with the page.
    mov edi, 0xc0000000
2:  mov eax, [rdi]
    mov dword ptr [rdi], 0x5a5a5a5a
    mov al, [rdi + 1]
    mov byte ptr [rdi + 1], 0
    mov ax, [rdi + 2]
    mov word ptr [rdi + 2], 0x5a5a
    add edi, 4
    cmp edi, 0xc0020000
    jne 2b
3:  mov al, [rdi]
    mov byte ptr [rdi], 0x5a
    mov ax, [rdi + 0x1000]
    mov word ptr [rdi + 0x1000], 0
    mov eax, [rdi + 0x2000]
    mov dword ptr [rdi + 0x2000], 0x5a5a5a5a
    mov rax, [rdi + 0x3008]
    mov qword ptr [rdi + 0x3008], 0
    add edi, 0x4000
    cmp edi, 0xfec00000
    jne 3b

    # Every port at each width.
    xor edx, edx
4:  in al, dx
    in ax, dx
    in eax, dx
    xor eax, eax
    out dx, al
    out dx, ax
    out dx, eax
    mov eax, 0x5a5a5a5a
    out dx, al
    out dx, ax
    out dx, eax
    inc edx
    cmp edx, 0x450
    jne 10f
    mov edx, 0x441
    out dx, al
    mov edx, 0x450
10: cmp edx, 0xfffd
    jne 4b

    # Every offset of configuration space of every function of bus 0, and of a bus that is not there.
    mov ebx, 0x80000000
5:  mov eax, ebx
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc
    in eax, dx
    in ax, dx
    mov dx, 0xcfd
    in al, dx
    mov dx, 0xcfe
    in ax, dx
    mov dx, 0xcff
    in al, dx
    mov al, 0x5a
    out dx, al
    mov dx, 0xcfc
    in al, dx
    mov eax, 0x5a5a5a5a
    out dx, eax
    out dx, ax
    mov dx, 0xcfe
    xor eax, eax
    out dx, ax
    mov dx, 0xcfd
    out dx, al
    mov dx, 0xcfc
    out dx, eax
    not eax
    out dx, eax
    add ebx, 4
    cmp ebx, 0x80010100
    jne 5b

    # The UART as after power on, one line, power off.
    lea rsi, [rip + sweep_uart]
    mov ecx, 5
6:  movzx edx, byte ptr [rsi]
    add edx, 0x3f8
    mov al, [rsi + 1]
    out dx, al
    add rsi, 2
    loop 6b
    lea rsi, [rip + sweep_text]
7:  lodsb
    test al, al
    jz 9f
    mov ah, al
    mov dx, 0x3fd
8:  in al, dx
    test al, 0x20
    jz 8b
    mov al, ah
    mov dx, 0x3f8
    out dx, al
    jmp 7b
9:  mov dx, 0x604
    mov ax, 0x3400
    out dx, ax
    cli
    hlt
    jmp 9b

sweep_uart: .byte 3, 3, 4, 0, 1, 0, 2, 0, 3, 3
sweep_windows: .byte 0x01, 0x05, 0x0a, 0x0e
sweep_text: .asciz "swept\r\n"
cofferdam_sweep_guest_end:
