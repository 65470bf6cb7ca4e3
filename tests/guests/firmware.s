# Firmware in miniature: 16-bit code at the start of the last 64 KiB below 4 GiB, and of those below 1 MiB. It says at the debug
# console how far it has come, a letter for each thing that is as it should be, and ends the run with 0; or with 1 at the first
# thing that is not.

.globl cofferdam_firmware_start, cofferdam_firmware_end
.set SCRATCH, 0x800           # in the ROM's segment, behind all code
.set ROM_BYTE, 0xcc           # what the ROM has there
cofferdam_firmware_start:
.code16
    # The reset vector jumped here: now in the copy below 1 MiB.
    mov ax, 0xf000
    mov ds, ax
    mov es, ax
    xor ax, ax
    mov ss, ax
    mov sp, 0x7000
    mov al, 'A'
    call say

    # A store to the ROM is lost.
    mov byte ptr [SCRATCH], 0x11
    cmp byte ptr [SCRATCH], ROM_BYTE
    jne fail
    mov al, 'B'
    call say

    # Stores to memory, loads of the ROM: it copies itself, and still reads the ROM.
    mov al, 0x20
    call attribute
    cld
    xor si, si
    xor di, di
    mov cx, 0x400
    rep movsd
    mov byte ptr [SCRATCH], 0x22
    cmp byte ptr [SCRATCH], ROM_BYTE
    jne fail
    mov al, 'C'
    call say

    # Memory for both: what was stored is there, and the code goes on in its copy.
    mov al, 0x30
    call attribute
    cmp byte ptr [SCRATCH], 0x22
    jne fail
    mov byte ptr [SCRATCH], 0x33
    cmp byte ptr [SCRATCH], 0x33
    jne fail
    mov al, 'D'
    call say

    # Memory that stores do not change.
    mov al, 0x10
    call attribute
    mov byte ptr [SCRATCH], 0x44
    cmp byte ptr [SCRATCH], 0x33
    jne fail
    mov al, 'E'
    call say

    # The ROM again.
    mov al, 0
    call attribute
    cmp byte ptr [SCRATCH], ROM_BYTE
    jne fail
    mov al, 'F'
    call say

    # The next segment is on its own: memory at C0000 while F0000 is ROM.
    mov ax, 0xc000
    mov es, ax
    mov byte ptr es:[0], 0x55
    cmp byte ptr es:[0], 0xff
    jne fail
    mov eax, 0x80000058
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfe
    mov al, 0x03
    out dx, al
    mov byte ptr es:[0], 0x55
    cmp byte ptr es:[0], 0x55
    jne fail
    mov al, 'G'
    call say

    # The ISA bridge has interrupt routes that keep what is stored.
    mov eax, 0x80000860
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc
    mov eax, 0x0b0a8005
    out dx, eax
    in eax, dx
    cmp eax, 0x0b0a8005
    jne fail
    mov al, 'H'
    call say

    # fw_cfg, a byte at a time: the signature.
    mov dx, 0x510
    xor ax, ax
    out dx, ax
    inc dx
    mov cx, 4
1:  in al, dx
    ror eax, 8
    loop 1b
    cmp eax, 0x554d4551
    jne fail
    mov al, 'I'
    call say

    # And by DMA: a request at 0x1000 to read it to 0x2000.
    xor ax, ax
    mov es, ax
    mov dword ptr es:[0x1000], 0x0a000000
    mov dword ptr es:[0x1004], 0x04000000
    mov dword ptr es:[0x1008], 0
    mov dword ptr es:[0x100c], 0x00200000
    mov dx, 0x514
    xor eax, eax
    out dx, eax
    mov dx, 0x518
    mov eax, 0x00100000
    out dx, eax
2:  cmp dword ptr es:[0x1000], 0
    jne 2b
    cmp dword ptr es:[0x2000], 0x554d4551
    jne fail
    mov al, 'J'
    call say

    # The clock's memory: 640 KiB, and of 64 MiB those above 16 in pieces of 64 KiB, the upper byte.
    mov al, 0x15
    out 0x70, al
    in al, 0x71
    cmp al, 0x80
    jne fail
    mov al, 0x35
    out 0x70, al
    in al, 0x71
    cmp al, 3
    jne fail
    mov al, 'K'
    call say

    # An interrupt is taken that is let in for two instructions at each turn of a loop, within sixteen turns: the floppy
    # controller's after its reset, ten times.
    xor ax, ax
    mov es, ax
    call 3f
    push ax
    mov byte ptr ss:[0x3000], 1
    mov al, 0x20
    out 0x20, al
    pop ax
    iret
3:  pop ax                    # where that handler is
    mov es:[4 * 0x0e], ax
    mov ax, 0xf000
    mov es:[4 * 0x0e + 2], ax
    mov al, 0x11
    out 0x20, al
    mov al, 0x08
    out 0x21, al
    mov al, 0x04
    out 0x21, al
    mov al, 0x01
    out 0x21, al
    mov al, 0xbf
    out 0x21, al
    mov bp, 10
4:  mov byte ptr es:[0x3000], 0
    mov dx, 0x3f2
    mov al, 0x08
    out dx, al
    mov al, 0x0c
    out dx, al
    mov cx, 16
5:  sti
    nop
    cli
    cmp byte ptr es:[0x3000], 0
    jne 7f
    mov si, 200
6:  dec si
    jnz 6b
    loop 5b
    jmp fail
7:  dec bp
    jnz 4b
    mov al, 'L'
    call say
    xor al, al
end_run:
    mov dx, 0xf4
    out dx, al
3:  hlt
    jmp 3b
fail:
    mov al, 1
    jmp end_run

# Stores AL to the attribute map of F0000.
attribute:
    push ax
    mov eax, 0x80000058
    mov dx, 0xcf8
    out dx, eax
    pop ax
    mov dx, 0xcfd
    out dx, al
    ret

say:
    mov dx, 0x402
    out dx, al
    ret
.code64
cofferdam_firmware_end:
