//! The DMA controllers' registers, and what channel 2 does with them.

use super::*;

#[test]
fn addresses_and_counts_are_read_back_low_byte_first() {
    let mut bench = Bench::pc();
    bench.outb(0x0c, 0);
    for (port, value) in [(0x00, 0x34), (0x00, 0x12), (0x07, 0xcd), (0x07, 0xab)] {
        bench.outb(port, value);
    }
    assert_eq!([0x00, 0x00, 0x07, 0x07].map(|port| bench.inb(port)), [0x34, 0x12, 0xcd, 0xab]);
    bench.inb(0x00);
    bench.outb(0x0c, 0);
    assert_eq!(bench.inb(0x00), 0x34, "the flip-flop was cleared");
}

#[test]
fn the_second_controller_answers_at_every_other_port() {
    let mut bench = Bench::pc();
    bench.outb(0xd8, 0);
    for (port, value) in [(0xc4, 0x78), (0xc4, 0x56)] {
        bench.outb(port, value);
    }
    assert_eq!([0xc4, 0xc5].map(|port| bench.inb(port)), [0x78, 0x56], "the lowest address line is not looked at");
}

#[test]
fn page_registers_keep_what_is_written_and_those_of_no_channel_too() {
    let mut bench = Bench::pc();
    for port in 0x80..0x90_u16 {
        bench.outb(port, port as u8 ^ 0x5a);
    }
    for port in 0x80..0x90_u16 {
        assert_eq!(bench.inb(port), port as u8 ^ 0x5a);
    }
}

#[test]
fn registers_that_are_only_written_give_nothing() {
    let mut bench = Bench::pc();
    for register in [9, 10, 11, 12, 14, 15] {
        assert_eq!(bench.read(FIRST_DMA, register, 1), Err(NoRegister));
    }
    assert_eq!(bench.inb(0x0d), 0);
}

#[test]
fn a_byte_of_an_address_leaves_the_other_byte_as_it_has_become() {
    let mut bench = Bench::pc();
    bench.dma(TO_MEMORY, 0x01ff, 512);
    assert_eq!(read(&mut bench)[0] & 0xc0, 0);
    bench.outb(0x0c, 0);
    bench.outb(0x04, 0x55);
    bench.outb(0x0c, 0);
    assert_eq!([bench.inb(0x04), bench.inb(0x04)], [0x55, 0x03], "512 bytes from 0x01ff on");
}

#[test]
fn terminal_count_takes_a_request_by_software_back() {
    let mut bench = Bench::pc();
    bench.outb(0x09, 0x06);
    assert_eq!(bench.inb(0x08) & 0xf0, 0x40);
    bench.dma(TO_MEMORY, 0, 512);
    assert_eq!(read(&mut bench)[0] & 0xc0, 0);
    assert_eq!(bench.inb(0x08), 0x04, "no request is left, and channel 2 is done");
}

/// Reads a sector and gives the result's status registers.
fn read(bench: &mut Bench<Pc>) -> [u8; 2] {
    bench.send(&[0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff]);
    let result = bench.await_result();
    [result[0], result[1]]
}

const OVERRUN: [u8; 2] = [0x40, 0x10];

#[test]
fn a_request_that_nobody_answers_is_an_overrun() {
    let mut bench = Bench::pc();
    assert_eq!(read(&mut bench), OVERRUN, "masked since power on");
    let unserved: [(&str, u16, u8); 6] = [
        ("masked", 0x0a, 6),
        ("all masked", 0x0f, 0x0f),
        ("disabled", 0x08, 0x04),
        ("the other direction", 0x0b, FROM_MEMORY),
        ("cascade", 0x0b, 0xc6),
        ("the second controller masks the cascade", 0xd4, 4),
    ];
    for (why, port, value) in unserved {
        let mut bench = Bench::pc();
        bench.dma(TO_MEMORY, 0x2000, 512);
        bench.outb(port, value);
        assert_eq!(read(&mut bench), OVERRUN, "{why}");
        assert_eq!(bench.world.memory(0x2000, 512), [0; 512]);
    }
    let mut bench = Bench::pc();
    bench.dma(TO_MEMORY, 0x2000, 512);
    bench.outb(0x0d, 0);
    assert_eq!(read(&mut bench), OVERRUN, "master clear masks all");
    bench.dma(TO_MEMORY, 0x2000, 512);
    bench.outb(0x3f2, 0x14);
    bench.send(&[0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff]);
    assert_eq!(bench.result()[..2], OVERRUN, "the gate of the request line is shut");
}

#[test]
fn the_status_tells_requests_and_terminal_counts_once() {
    let mut bench = Bench::pc();
    assert_eq!(bench.inb(0x08), 0);
    bench.dma(TO_MEMORY, 0x2000, 512);
    bench.send(&[0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff]);
    assert_eq!(bench.inb(0x08), 0x40);
    assert_eq!(bench.await_result()[0], 0);
    assert_eq!(bench.inb(0x08), 0x04);
    assert_eq!(bench.inb(0x08), 0x00);
    bench.outb(0x09, 0x05);
    assert_eq!(bench.inb(0x08), 0x20, "a request by software");
}

#[test]
fn after_its_terminal_count_a_channel_is_masked_unless_it_begins_anew() {
    let mut bench = Bench::pc();
    bench.dma(TO_MEMORY, 0x2000, 512);
    assert_eq!(read(&mut bench), [0, 0]);
    assert_eq!(bench.inb(0x05), 0xff);
    assert_eq!(bench.inb(0x05), 0xff);
    assert_eq!(read(&mut bench), OVERRUN);
    bench.dma(TO_MEMORY | 0x10, 0x2000, 512);
    for _ in 0..3 {
        assert_eq!(read(&mut bench), [0, 0]);
        assert_eq!([0x04, 0x04, 0x05, 0x05].map(|port| bench.inb(port)), [0x00, 0x20, 0xff, 0x01]);
    }
}

#[test]
fn an_address_wraps_inside_its_page() {
    let mut bench = Bench::pc();
    bench.dma(TO_MEMORY, 0x1_ff00, 512);
    assert_eq!(read(&mut bench), [0, 0]);
    let sector = bench.world.image().sector(0);
    assert_eq!(bench.world.memory(0x1_ff00, 256), sector[..256]);
    assert_eq!(bench.world.memory(0x1_0000, 256), sector[256..]);
    assert_eq!(bench.world.memory(0x2_0000, 256), [0; 256]);
}

#[test]
fn addresses_may_go_down() {
    let mut bench = Bench::pc();
    bench.dma(TO_MEMORY | 0x20, 0x31ff, 512);
    assert_eq!(read(&mut bench), [0, 0]);
    let mut sector = bench.world.image().sector(0);
    sector.reverse();
    assert_eq!(bench.world.memory(0x3000, 512), sector);
}

#[test]
fn a_transfer_of_nothing_counts_and_moves_no_byte() {
    let mut bench = Bench::pc();
    bench.dma(NOWHERE, 0x2000, 512);
    assert_eq!(read(&mut bench), [0, 0]);
    assert_eq!(bench.inb(0x08), 0x04);
    assert_eq!(bench.world.memory(0x2000, 512), [0; 512]);
}

#[test]
fn outside_memory_bytes_are_lost_and_read_as_ones() {
    let mut bench = Bench::pc();
    let outside = MEMORY_BYTES as u32;
    bench.dma(TO_MEMORY, outside, 512);
    assert_eq!(read(&mut bench), [0, 0]);
    bench.dma(FROM_MEMORY, outside, 512);
    bench.send(&[0x45, 0, 0, 0, 2, 2, 18, 0x1b, 0xff]);
    assert_eq!(bench.await_result()[..3], [0, 0, 0]);
    assert_eq!(bench.world.image().sector(1), [0xff; 512]);
}
