//! What a PC's board has: interrupt controllers, timer, and memory that firmware lies over.

use crate::driven::{Machine, Program};
use crate::harness::Place;

/// The host bridge's attribute maps, and the areas that halves of them are of (82441FX, "PAM0" to "PAM6").
const AREAS: [(u8, u32, u64, u64); 13] = [
    (0x59, 4, 0xf_0000, 0x1_0000),
    (0x5a, 0, 0xc_0000, 0x4000),
    (0x5a, 4, 0xc_4000, 0x4000),
    (0x5b, 0, 0xc_8000, 0x4000),
    (0x5b, 4, 0xc_c000, 0x4000),
    (0x5c, 0, 0xd_0000, 0x4000),
    (0x5c, 4, 0xd_4000, 0x4000),
    (0x5d, 0, 0xd_8000, 0x4000),
    (0x5d, 4, 0xd_c000, 0x4000),
    (0x5e, 0, 0xe_0000, 0x4000),
    (0x5e, 4, 0xe_4000, 0x4000),
    (0x5f, 0, 0xe_8000, 0x4000),
    (0x5f, 4, 0xe_c000, 0x4000),
];

fn say(machine: &mut Machine, lines: &[&str]) {
    for line in lines {
        assert_eq!(machine.ask(line), "", "{line}");
    }
}

fn bridge(machine: &mut Machine, register: u8) -> String {
    say(machine, &[&format!("outl 0xcf8 {:#x}", 0x8000_0000u32 | u32::from(register & !3))]);
    format!("{:#x}", 0xcfc + u16::from(register & 3))
}

#[test]
fn an_interrupt_is_told_to_who_polls_the_8259s() {
    let place = Place::new();
    let mut machine = Machine::start(&place, &[]);
    for (port, cascade) in [("0x20", "4"), ("0xa0", "2")] {
        let next = if port == "0x20" { "0x21" } else { "0xa1" };
        say(&mut machine, &[&format!("outb {port} 0x11")]);
        for word in ["8", cascade, "1", "0"] {
            say(&mut machine, &[&format!("outb {next} {word}")]);
        }
    }
    say(&mut machine, &["outb 0x3fc 8", "outb 0x3f9 2", "outb 0x20 0x0c"]);
    assert_eq!([machine.number("inb 0x20"), machine.number("inb 0x20")], [0x84, 0], "acknowledged, it is no request");
    // The mouse's, behind the cascade: a byte that the controller is told to give as if it came from there.
    say(&mut machine, &["outb 0x64 0x60", "outb 0x60 0x47", "outb 0x64 0xd3", "outb 0x60 0x55", "outb 0x20 0x64"]);
    say(&mut machine, &["outb 0x20 0x0c", "outb 0xa0 0x0c"]);
    assert_eq!([machine.number("inb 0x20"), machine.number("inb 0xa0")], [0x82, 0x84]);
    say(&mut machine, &["outb 0x4d0 0xff", "outb 0x4d1 0xff"]);
    assert_eq!(machine.number("inw 0x4d0"), 0xdef8);
}

#[test]
fn the_timer_interrupts_as_often_as_it_is_told_and_sounds_at_port_61() {
    let place = Place::new();
    let mut machine = Machine::start(&place, &[]);
    say(&mut machine, &["irq_intercept_in ioapic", "outb 0x43 0x34", "outb 0x40 0x9c", "outb 0x40 0x2e"]);
    machine.ask("clock_step 100100000");
    let raised = machine.irqs().iter().filter(|line| *line == "IRQ raise 0").count();
    assert_eq!(raised, 11, "once with its control word, and each hundredth of a second");
    say(&mut machine, &["outb 0x43 0xb0", "outb 0x42 0xa9", "outb 0x42 0x04", "outb 0x61 1"]);
    machine.ask("clock_step 900000");
    assert_eq!(machine.number("inb 0x61") & 0x20, 0);
    machine.ask("clock_step 200000");
    assert_eq!(machine.number("inb 0x61") & 0x20, 0x20, "a thousandth of a second is over");
}

#[test]
fn the_io_apic_says_what_it_is_and_keeps_its_entries() {
    let place = Place::new();
    let mut machine = Machine::start(&place, &[]);
    let mut register = |number: u8, value: Option<u32>| {
        machine.ask(&format!("writel 0xfec00000 {number}"));
        if let Some(value) = value {
            machine.ask(&format!("writel 0xfec00010 {value:#x}"));
        }
        machine.number("readl 0xfec00010")
    };
    assert_eq!([register(1, None), register(0x10, None)], [0x17_0011, 0x1_0000]);
    assert_eq!([register(0x3e, Some(0x41)), register(0x3f, Some(0x0100_0000))], [0x41, 0x0100_0000]);
}

#[test]
fn each_area_below_one_mib_is_rom_or_memory_for_loads_and_for_stores() {
    let place = Place::new();
    let mut machine = Machine::start(&place, &[]);
    let is = |machine: &mut Machine, base: u64, bytes: u64, byte: &str| {
        machine.ask(&format!("read {base:#x} {bytes:#x}")) == format!("0x{}", byte.repeat(bytes as usize))
    };
    for (register, shift, base, bytes) in AREAS {
        let attribute = |machine: &mut Machine, bits: u8| {
            let port = bridge(machine, register);
            let before = machine.number(&format!("inb {port}")) as u8;
            say(machine, &[&format!("outb {port} {}", before & !(3 << shift) | bits << shift)]);
        };
        let fill = |machine: &mut Machine, byte: u8| machine.ask(&format!("memset {base:#x} {bytes:#x} {byte}"));
        assert!(is(&mut machine, base, bytes, "ff"), "{base:#x}: an empty ROM");
        attribute(&mut machine, 0b01);
        fill(&mut machine, 0x42);
        assert!(is(&mut machine, base, bytes, "00"), "{base:#x}: memory that cannot be stored to");
        attribute(&mut machine, 0b10);
        fill(&mut machine, 0x42);
        assert!(is(&mut machine, base, bytes, "ff"), "{base:#x}: memory beneath the ROM");
        attribute(&mut machine, 0b11);
        assert!(is(&mut machine, base, bytes, "42"), "{base:#x}: memory");
    }
}

#[test]
fn firmware_is_where_a_processor_would_find_it() {
    let place = Place::new();
    let image: Vec<u8> = (0..64 << 10).map(|at: u32| (at >> 8) as u8 ^ at as u8).collect();
    let path = place.file("bios.bin", &image);
    let mut program =
        Program::start(&place, &["-L", &path.parent().unwrap().display().to_string(), "-bios", "bios.bin"]);
    for address in ["0xffff0000", "0xf0000"] {
        let read = program.test.ask(&format!("b64read {address} 65536"));
        assert_eq!(read, base64_of(&image), "{address}");
    }
    let values = [0x04, 0x06, 0x59, 0x72].map(|register| {
        let port = bridge(&mut program.test, register);
        program.test.number(&format!("inw {port}"))
    });
    assert_eq!(values, [0x0006, 0x0280, 0x0000, 0x0002], "the bridge is as after a reset");
}

fn base64_of(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(group.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}
