//! Micro guests, assembled into this program.

// `global_asm!` defines symbols; taking the bytes between two of them is reading memory that the linker laid out.
#![allow(unsafe_code)]

use std::arch::global_asm;

/// Where micro guests are loaded and entered.
pub const BASE: u64 = 1 << 20;

global_asm!(".section .rodata.cofferdam_guests,\"a\"", ".balign 16", include_str!("guests/demo.s"), ".text");
global_asm!(".section .rodata.cofferdam_guests,\"a\"", ".balign 16", include_str!("guests/loops.s"), ".text");
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
