//! The commands of a disk.

use super::*;

const ABORTED: u64 = 0x04;
const NO_ADDRESS: u64 = 0x10;

/// The command must have failed so.
fn failed(pc: &mut Pc, error: u64) {
    assert_eq!((pc.interrupt(), pc.get(1)), (0x51, error));
}

#[test]
fn sectors_beyond_the_end_are_refused_with_the_first_address_that_there_is_not() {
    for code in [0x20, 0x30, 0x40, 0xc8, 0xca, 0x70] {
        let mut pc = Pc::new();
        let count = if code == 0x70 { 1 } else { 4 };
        pc.address(0, SECTORS as u64 - count + 1, count);
        pc.command(code);
        failed(&mut pc, NO_ADDRESS);
        assert_eq!([3, 4, 5, 6].map(|register| pc.get(register)), [0, 8, 0, 0xe0]);
    }
    let mut pc = Pc::new();
    for (sector, count) in [(SECTORS as u64, 1), (0, 0), (0xffff_ffff_ffff, 0xffff)] {
        pc.long_address(0, sector, count);
        pc.command(0x24);
        failed(&mut pc, NO_ADDRESS);
    }
}

#[test]
fn loads_of_one_instruction_give_a_block_at_most() {
    // Width, how much is asked for at once, and what each of these gives of two sectors.
    let cases: [(u8, usize, &[usize]); 5] = [
        (2, 512, &[512, 512]),
        (4, 512, &[512, 512]),
        (2, 300, &[300, 212, 300, 212]),
        (4, 300, &[300, 212, 300, 212]),
        (2, 2, &[2, 2, 2]),
    ];
    for (width, bytes, given) in cases {
        let mut pc = Pc::new();
        let contents = pc.bench.world.disk.contents();
        pc.address(0, 3, 2);
        pc.command(0x20);
        assert_eq!(pc.interrupt(), 0x58);
        let mut at = 3 * 512;
        for given in given {
            let loaded = pc.bench.load_string(0, DATA, width, bytes).unwrap();
            assert_eq!(loaded, contents[at..at + given]);
            at += given;
            let is_next_ready = at == 4 * 512;
            assert_eq!(pc.line(), is_next_ready, "the next block interrupts");
            if is_next_ready {
                pc.interrupt();
            }
        }
    }
}

#[test]
fn a_place_that_the_geometry_has_not_is_refused() {
    let mut pc = Pc::new();
    for (cylinder, head, sector) in [(0, 0, 0), (0, 0, 64), (2, 0, 1), (0xffff, 15, 63)] {
        pc.select(0xa0 | head);
        pc.put_all([(2, 1), (3, sector), (4, cylinder & 0xff), (5, cylinder >> 8)]);
        pc.command(0x20);
        failed(&mut pc, NO_ADDRESS);
    }
    pc.put(2, 0);
    pc.command(0x91);
    failed(&mut pc, ABORTED);
}

#[test]
fn what_there_is_not_aborts() {
    let mut pc = Pc::new();
    for code in [0x00, 0x08, 0xa0, 0xa1, 0xb0, 0xf1, 0xff, 0xc4, 0xc5] {
        pc.address(0, 0, 1);
        pc.command(code);
        failed(&mut pc, ABORTED);
    }
    pc.select(0);
    pc.command(0x24);
    failed(&mut pc, ABORTED);
    for count in [3, 32, 255] {
        pc.put(2, count);
        pc.command(0xc6);
        failed(&mut pc, ABORTED);
    }
    for (feature, count) in [(0x03, 0x0d), (0x03, 0x23), (0x03, 0x46), (0x99, 0), (0x05, 0)] {
        pc.put(1, feature);
        pc.put(2, count);
        pc.command(0xef);
        failed(&mut pc, ABORTED);
    }
}

#[test]
fn a_disk_that_may_only_be_read_takes_no_write() {
    let mut pc = Pc::new();
    pc.channel = 1;
    for code in [0x30, 0xc5, 0xca] {
        pc.address(0x10, 0, 1);
        pc.put(2, 4);
        pc.command(0xc6);
        pc.interrupt();
        pc.command(code);
        failed(&mut pc, ABORTED);
    }
    pc.address(0x10, 1, 1);
    pc.command(0x20);
    pc.interrupt();
    assert_eq!(pc.load(512), pc.bench.world.fixed.contents()[512..1024]);
}

#[test]
fn a_sector_that_cannot_be_read_or_written_is_told() {
    let world = Media { disk: Medium { bad: Some(5 * 512 + 9), ..Media::new().disk }, ..Media::new() };
    let mut pc = Pc::with(world);
    pc.address(0, 4, 3);
    pc.command(0x20);
    assert_eq!(pc.interrupt(), 0x58);
    pc.load(512);
    failed(&mut pc, 0x40);
    pc.address(0, 5, 1);
    pc.command(0x30);
    pc.store(&[0; 512]);
    assert_eq!((pc.interrupt(), pc.get(1)), (0x71, ABORTED));
}

#[test]
fn sectors_are_read_one_by_one_each_with_its_interrupt() {
    let mut pc = Pc::new();
    let contents = pc.bench.world.disk.contents();
    pc.address(0, 7, 3);
    pc.command(0x20);
    for sector in 7..10 {
        assert_eq!(pc.interrupt(), 0x58);
        assert_eq!(pc.load(512), contents[sector * 512..(sector + 1) * 512]);
    }
    assert_eq!((pc.get(STATUS), pc.line(), pc.load(4)), (0x50, false, vec![0; 4]));
}

#[test]
fn sectors_are_written_and_the_first_block_has_no_interrupt() {
    let mut pc = Pc::new();
    pc.address(0, 9, 2);
    pc.command(0x30);
    assert_eq!((pc.alternate(), pc.line()), (0x58, false));
    pc.store(&[0x5a; 512]);
    assert_eq!(pc.interrupt(), 0x58);
    pc.store(&[0xa5; 512]);
    assert_eq!(pc.interrupt(), 0x50);
    let contents = pc.bench.world.disk.contents();
    assert_eq!((&contents[9 * 512..10 * 512], &contents[10 * 512..11 * 512]), (&[0x5a; 512][..], &[0xa5; 512][..]));
}

#[test]
fn blocks_of_several_sectors_have_one_interrupt_and_the_last_may_be_short() {
    let mut pc = Pc::new();
    let contents = pc.bench.world.disk.contents();
    pc.put(2, 4);
    pc.command(0xc6);
    pc.interrupt();
    pc.address(0, 1, 6);
    pc.command(0xc4);
    assert_eq!(pc.interrupt(), 0x58);
    assert_eq!(pc.load(2048), contents[512..5 * 512]);
    assert_eq!(pc.interrupt(), 0x58);
    assert_eq!(pc.load(1024), contents[5 * 512..7 * 512]);
    assert_eq!(pc.get(STATUS), 0x50);
    pc.long_address(0, 100, 5);
    pc.command(0x39);
    pc.store(&[1; 2048]);
    assert_eq!(pc.interrupt(), 0x58);
    pc.store(&[2; 512]);
    assert_eq!(pc.interrupt(), 0x50);
    assert_eq!(pc.bench.world.disk.contents()[104 * 512..105 * 512], [2; 512]);
    let identity = pc.identity(0xec);
    assert_eq!(identity[59], 0x0104);
}

#[test]
fn longer_accesses_to_the_data_register_are_words_one_after_the_other() {
    let mut pc = Pc::new();
    let contents = pc.bench.world.disk.contents();
    pc.address(0, 7, 2);
    pc.command(0x20);
    let mut read: Vec<u8> = Vec::new();
    for width in [4_u8, 8, 4].into_iter().cycle().take(144) {
        let value = pc.bench.read(0, 0, width).unwrap();
        read.extend(&value.to_le_bytes()[..usize::from(width)]);
    }
    assert_eq!(read[..768], contents[7 * 512..7 * 512 + 768]);
    pc.load(256);
    pc.address(0, 20, 1);
    pc.command(0x30);
    for word in 0..64 {
        pc.bench.write(0, 0, 8, word * 0x0101_0101_0101_0101).unwrap();
    }
    assert_eq!(pc.interrupt(), 0x50);
    assert_eq!(pc.bench.world.disk.contents()[20 * 512 + 8..20 * 512 + 24], [[1; 8], [2; 8]].concat());
}

#[test]
fn count_0_is_the_most_and_cylinders_heads_and_sectors_name_the_same_sectors() {
    let mut pc = Pc::new();
    let contents = pc.bench.world.disk.contents();
    pc.address(0, 0, 0);
    pc.command(0x20);
    let read: Vec<u8> = (0..256)
        .flat_map(|_| {
            pc.interrupt();
            pc.load(512)
        })
        .collect();
    assert_eq!(read, contents[..256 * 512]);
    assert_eq!(pc.get(STATUS), 0x50);
    // 9 sectors, 4 heads: cylinder 2, head 1, sector 5 is (2 * 4 + 1) * 9 + 4.
    pc.select(0xa3);
    pc.put(2, 9);
    pc.command(0x91);
    assert_eq!(pc.interrupt(), 0x50);
    pc.select(0xa1);
    pc.put_all([(2, 1), (3, 5), (4, 2), (5, 0)]);
    pc.command(0x20);
    pc.interrupt();
    assert_eq!(pc.load(512), contents[85 * 512..86 * 512]);
    let identity = pc.identity(0xec);
    assert_eq!(identity[54..57], [56, 4, 9]);
}

#[test]
fn an_identity_says_what_the_disk_has() {
    let mut pc = Pc::new();
    pc.put(1, 3);
    pc.put(2, 0x45);
    pc.command(0xef);
    assert_eq!(pc.interrupt(), 0x50);
    let identity = pc.identity(0xec);
    assert_eq!((identity[0], identity[1], identity[3], identity[6]), (0x0040, 2, 16, 63));
    assert_eq!((identity[60], identity[61], identity[100], identity[103]), (SECTORS as u16, 0, SECTORS as u16, 0));
    assert_eq!((identity[83] & 0xfc00, identity[88]), (0x7400, 0x203f));
    assert_eq!(identity[27], u16::from_be_bytes(*b"CO"));
}

#[test]
fn what_is_written_is_made_safe_when_asked_and_always_with_the_write_cache_off() {
    let mut pc = Pc::new();
    let flushed = pc.bench.world.disk.flushed.clone();
    pc.command(0xe7);
    assert_eq!((pc.interrupt(), *flushed.lock().unwrap()), (0x50, 1));
    pc.command(0xea);
    assert_eq!((pc.interrupt(), *flushed.lock().unwrap()), (0x50, 2));
    pc.put(1, 0x82);
    pc.command(0xef);
    pc.interrupt();
    pc.address(0, 1, 1);
    pc.command(0x30);
    pc.store(&[9; 512]);
    assert_eq!((pc.interrupt(), *flushed.lock().unwrap()), (0x50, 3));
}

#[test]
fn power_and_size_are_told() {
    let mut pc = Pc::new();
    for (code, says) in [(0xe0, 0), (0xe1, 0xff), (0xe2, 0), (0xe3, 0xff), (0xe6, 0)] {
        pc.command(code);
        assert_eq!(pc.interrupt(), 0x50);
        pc.command(0xe5);
        assert_eq!((pc.interrupt(), pc.get(2)), (0x50, says), "{code:#x}");
    }
    pc.select(0xe0);
    pc.command(0xf8);
    pc.interrupt();
    assert_eq!([3, 4, 5, 6].map(|register| pc.get(register)), [0xff, 7, 0, 0xe0]);
    pc.command(0x27);
    pc.interrupt();
    assert_eq!(pc.get(4), 7);
    pc.control(0x80);
    assert_eq!([3, 4, 5].map(|register| pc.get(register)), [0, 0, 0]);
}
