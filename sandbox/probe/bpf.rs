//! A filter's answer without asking a kernel: a reading of its interpreter for the instructions that occur in filters.

#![allow(missing_docs, dead_code)] // Tests of two crates use it, each a part.

pub const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
pub const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
/// AUDIT_ARCH_X86_64, AUDIT_ARCH_I386 and AUDIT_ARCH_AARCH64 of <linux/audit.h>.
pub const X86_64: u32 = 0xC000_003E;
pub const I386: u32 = 0x4000_0003;
pub const AARCH64: u32 = 0xC000_00B7;
/// Marks a call of x32.
pub const X32: u32 = 1 << 30;
/// Bytes of `struct seccomp_data`: number, architecture, instruction pointer, six arguments.
const DATA_BYTES: usize = 64;

/// What `program` answers to a call of this convention.
pub fn answer(program: &[seccompiler::sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = [0u8; DATA_BYTES];
    data[0..4].copy_from_slice(&number.to_ne_bytes());
    data[4..8].copy_from_slice(&arch.to_ne_bytes());
    for (place, argument) in data[16..].chunks_exact_mut(8).zip(arguments) {
        place.copy_from_slice(&argument.to_ne_bytes());
    }
    let (mut at, mut accumulator) = (0, 0u32);
    loop {
        let instruction = &program[at];
        let k = instruction.k;
        at += 1;
        let jump = |taken| usize::from(if taken { instruction.jt } else { instruction.jf });
        match u32::from(instruction.code) {
            0x20 => accumulator = u32::from_ne_bytes(data[k as usize..k as usize + 4].try_into().expect("four bytes")),
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += jump(accumulator == k),
            0x25 => at += jump(accumulator > k),
            0x35 => at += jump(accumulator >= k),
            0x06 => return k,
            code => panic!("instruction {code:#x}"),
        }
    }
}
