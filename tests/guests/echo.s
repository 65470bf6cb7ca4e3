# Drives an RTL8139 in plain mode: sends each frame of type 0x88b5 (IEEE: for local experiments) back to who sent it, until one
# begins its content with a Q. Then ends with code 32; any other code says what went wrong: 1 there is no card, 2 its receive
# buffer holds what is no packet, 3 a frame was not sent.

.equ ECHO_EXIT, 0xf4
.equ ECHO_BUFFER, 0x300000         # 8 KiB, and room for the packet that goes on behind them
.equ ECHO_FRAMES, 0x310000         # four of 2 KiB, one for each transmit descriptor

.globl cofferdam_echo_guest_start, cofferdam_echo_guest_end
cofferdam_echo_guest_start:
    cld
    mov r15d, 1
    mov ebp, 0x80000000
1:  xor eax, eax
    call echo_pci
    cmp eax, 0x813910ec
    je 2f
    add ebp, 0x800
    cmp ebp, 0x80010000
    jne 1b
    jmp echo_end
2:  mov al, 4                      # command: memory, bus master
    call echo_select
    mov eax, 6
    out dx, eax
    mov al, 0x14
    call echo_pci
    and eax, 0xfffffff0
    mov r12, rax                   # BAR 1
    mov byte ptr [r12 + 0x37], 0x10
3:  test byte ptr [r12 + 0x37], 0x10
    jnz 3b
    mov dword ptr [r12 + 0x30], ECHO_BUFFER
    mov byte ptr [r12 + 0x37], 0x0c
    mov dword ptr [r12 + 0x44], 0x8f      # everything; packets go on behind the buffer
    xor r13d, r13d                 # offset of the next packet
    xor r14d, r14d                 # the next transmit descriptor

echo_next:
    mov ecx, 20000                 # each look is an access: not too many of them
4:  pause
    dec ecx
    jnz 4b
echo_look:
    test byte ptr [r12 + 0x37], 1  # the buffer is empty
    jnz echo_next
    lea rsi, [r13 + ECHO_BUFFER]
    movzx eax, word ptr [rsi]
    mov r15d, 2
    test al, 1
    jz echo_end
    movzx ebx, word ptr [rsi + 2]  # with the checksum
    cmp ebx, 64
    jb echo_end
    cmp ebx, 1522
    ja echo_end
    cmp word ptr [rsi + 16], 0xb588
    jne 6f

    mov edi, r14d
    shl edi, 11
    add edi, ECHO_FRAMES
    lea ecx, [rbx - 4]
    add rsi, 4
    mov r8, rdi
    rep movsb
    mov eax, [r8]                  # to whom it came from, from whom it was for
    mov dx, [r8 + 4]
    mov r9d, [r8 + 6]
    mov r10w, [r8 + 10]
    mov [r8], r9d
    mov [r8 + 4], r10w
    mov [r8 + 6], eax
    mov [r8 + 10], dx
    mov [r12 + r14 * 4 + 0x20], r8d
    lea eax, [rbx - 4]
    mov [r12 + r14 * 4 + 0x10], eax
    mov r15d, 3
    mov ecx, 1000000
5:  mov eax, [r12 + r14 * 4 + 0x10]
    test eax, 0x2000               # the card is done with it
    jnz 7f
    dec ecx
    jnz 5b
    jmp echo_end
7:  test eax, 0x8000               # and has sent it
    jz echo_end
    inc r14d
    and r14d, 3
    mov r15d, 32
    cmp byte ptr [r8 + 14], 'Q'
    je echo_end

6:  lea r13d, [r13 + rbx + 4 + 3]  # the next packet begins at a multiple of 4
    and r13d, 0x1ffc
    lea eax, [r13 - 16]
    mov [r12 + 0x38], ax
    jmp echo_look

echo_end:
    mov eax, r15d
    mov dx, ECHO_EXIT
    out dx, eax
8:  cli
    hlt
    jmp 8b

echo_select:                       # ebp: function, al: offset
    movzx eax, al
    or eax, ebp
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc
    ret

echo_pci:                          # ebp, al; eax
    call echo_select
    in eax, dx
    ret
cofferdam_echo_guest_end:
