# Measures accesses to an honest device, the keyboard controller's status, beside others that may be anything: touches each of
# those before every round, and after it prints the median and the 99th percentile, in ticks of the time-stamp counter. After
# the last round it powers off.
#
# Times are counted in classes a sixteenth of a power of two wide, so no time is off by more than 7 %.

.equ METER_ROUNDS, 32
.equ METER_ACCESSES, 256
.equ METER_CLASSES, 0x200000      # 64 powers of 16 classes, a word each
.equ METER_CLASSES_MAX, 1024

.globl cofferdam_meter_guest_start, cofferdam_meter_guest_end
cofferdam_meter_guest_start:
    cld
    mov r15d, METER_ROUNDS
1:  mov edi, METER_CLASSES
    xor eax, eax
    mov ecx, METER_CLASSES_MAX
    rep stosq

    in al, 0x71                   # the clock
    mov edx, 0x5000               # where tests put other devices
2:  in eax, dx
    add edx, 4
    cmp edx, 0x5014
    jne 2b

    mov r14d, METER_ACCESSES
    mov r13d, 0x64
3:  rdtsc
    shl rdx, 32
    or rax, rdx
    mov r12, rax
    mov edx, r13d
    in al, dx
    rdtsc
    shl rdx, 32
    or rax, rdx
    sub rax, r12
    or rax, 16                    # a class needs its four digits
    bsr rcx, rax
    mov rdx, rcx
    sub ecx, 4
    shr rax, cl
    and eax, 15
    shl edx, 4
    or eax, edx
    inc qword ptr [METER_CLASSES + rax * 8]
    dec r14d
    jnz 3b

    mov r12d, METER_ACCESSES / 2
    call meter_tell
    mov al, ' '
    call meter_put
    mov r12d, METER_ACCESSES * 99 / 100
    call meter_tell
    mov al, 10
    call meter_put
    dec r15d
    jnz 1b

    mov dx, 0x604                 # acpi-pm
    mov ax, 0x3400
    out dx, ax
4:  cli
    hlt
    jmp 4b

# Prints the class, as its least time, below or in which r12 accesses are.
meter_tell:
    xor eax, eax
    xor ecx, ecx
1:  add rax, [METER_CLASSES + rcx * 8]
    cmp rax, r12
    jae 2f
    inc ecx
    jmp 1b
2:  mov ebx, ecx
    and ebx, 15
    or ebx, 16
    shr ecx, 4
    sub ecx, 4
    shl rbx, cl
    mov r9d, 16
3:  rol rbx, 4
    mov al, bl
    and al, 15
    add al, '0'
    cmp al, '9'
    jbe 4f
    add al, 'a' - '0' - 10
4:  call meter_put
    dec r9d
    jnz 3b
    ret

meter_put:                        # al
    mov ah, al
    mov dx, 0x3fd
1:  in al, dx
    test al, 0x20
    jz 1b
    mov al, ah
    mov dx, 0x3f8
    out dx, al
    ret
cofferdam_meter_guest_end:
