# Sets a mode of 640 by 480 pixels, draws three into display memory, the last after that has moved, says so, and then puts
# each byte that comes from the keyboard into a pixel of the second row.

.globl cofferdam_display_guest_start, cofferdam_display_guest_end
cofferdam_display_guest_start:
    mov ebx, 0x80000000       # find the VGA
1:  add ebx, 0x800
    mov eax, ebx
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc
    in eax, dx
    cmp eax, 0x11111234
    jne 1b
    lea eax, [rbx + 4]        # let it decode its memory
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc
    mov ax, 2
    out dx, ax
    lea eax, [rbx + 0x10]     # where that is
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc
    in eax, dx
    and eax, 0xfffffff0
    mov esi, eax

    lea rdi, [rip + 9f]       # the mode, register by register
2:  mov dx, 0x1ce
    mov ax, [rdi]
    out dx, ax
    mov dx, 0x1cf
    mov ax, [rdi + 2]
    out dx, ax
    add rdi, 4
    cmp word ptr [rdi], 0
    jne 2b

    mov dword ptr [rsi], 0x00ff0000
    mov dword ptr [rsi + 4], 0x0000ff00
    lea eax, [rsi + 0x4000000]    # move it by 64 MiB
    mov dx, 0xcfc
    out dx, eax
    mov esi, eax
    mov dword ptr [rsi + 8], 0x000000ff

    mov dx, 0x3f8
    mov al, 'r'
    out dx, al
    lea rdi, [rsi + 2560]
3:  in al, 0x64
    test al, 1
    jz 3b
    in al, 0x60
    movzx eax, al
    mov [rdi], eax
    add rdi, 4
    jmp 3b

9:  .word 1, 640, 2, 480, 3, 32, 4, 0x41, 0, 0
cofferdam_display_guest_end:
