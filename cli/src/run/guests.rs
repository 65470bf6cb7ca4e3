//! Micro guests, assembled into this program.

// `global_asm!` defines symbols; taking the bytes between two of them is reading memory that the linker laid out.
#![allow(unsafe_code)]

use std::arch::global_asm;

/// Where micro guests are loaded and entered.
pub const BASE: u64 = 1 << 20;

global_asm!(".section .rodata.cofferdam_guests,\"a\"", ".balign 16", include_str!("guests/demo.s"), ".text");
global_asm!(".section .rodata.cofferdam_guests,\"a\"", ".balign 16", include_str!("guests/loops.s"), ".text");
global_asm!(".section .rodata.cofferdam_guests,\"a\"", ".balign 16", include_str!("guests/disks.s"), ".text");
global_asm!(".section .rodata.cofferdam_guests,\"a\"", ".balign 16", include_str!("guests/pulse.s"), ".text");

macro_rules! guest {
    ($(#[$doc:meta])* $name:ident, $start:ident, $end:ident) => {
        $(#[$doc])*
        pub fn $name() -> Vec<u8> {
            unsafe extern "C" {
                static $start: u8;
                static $end: u8;
            }
            let (start, end) = (&raw const $start, &raw const $end);
            // SAFETY: both symbols are labels of one read-only section, `start` before `end`.
            unsafe { std::slice::from_raw_parts(start, end.offset_from(start) as usize) }.to_vec()
        }
    };
}

guest!(
    /// Drives every device once and powers off.
    demo, cofferdam_demo_guest_start, cofferdam_demo_guest_end);
guest!(
    /// Reads a synchronous register for ever.
    sync, cofferdam_sync_guest_start, cofferdam_sync_guest_end);
guest!(
    /// Reads a shadow register for ever.
    shadow, cofferdam_shadow_guest_start, cofferdam_shadow_guest_end);
guest!(
    /// Prints for ever.
    print, cofferdam_print_guest_start, cofferdam_print_guest_end);
guest!(
    /// Makes accesses and prints some hundred times a second, for ever, and sleeps in between.
    pulse, cofferdam_pulse_guest_start, cofferdam_pulse_guest_end);

/// What the guest of `bench disks` reads.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub enum Disks {
    /// A disk, by PIO.
    Pio,
    /// A disk, by its function's bus master.
    BusMaster,
    /// A diskette, by DMA.
    Diskette,
}

guest!(
    /// What it is before that is patched in.
    unpatched, cofferdam_disks_guest_start, cofferdam_disks_guest_end);
guest!(
    /// From where that is patched in.
    from_kind, cofferdam_disks_guest_kind, cofferdam_disks_guest_end);

/// A ROM that reads from a disk for ever.
pub fn disks(reads: Disks) -> Vec<u8> {
    /// The least that a PC takes for its firmware.
    const ROM_BYTES: usize = 64 << 10;
    /// Where a processor begins, counted from the ROM's end, and a jump to the ROM's start below 1 MiB.
    const RESET_VECTOR: usize = 16;
    const JUMP: [u8; 5] = [0xea, 0x00, 0x00, 0x00, 0xf0];
    let code = unpatched();
    let kind = code.len() - from_kind().len();
    let mut rom = code;
    rom[kind] = reads as u8;
    rom.resize(ROM_BYTES, 0);
    rom[ROM_BYTES - RESET_VECTOR..][..JUMP.len()].copy_from_slice(&JUMP);
    rom
}
