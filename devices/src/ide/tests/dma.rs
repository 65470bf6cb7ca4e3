//! The bus master.

use super::*;

/// Where tables are.
const TABLE: u64 = 0x800;

impl Pc {
    /// Writes descriptors: address, bytes, whether it is the last.
    pub(super) fn table(&mut self, descriptors: &[(u32, u32, bool)]) {
        for ((address, bytes, last), at) in descriptors.iter().zip((TABLE..).step_by(8)) {
            let second = bytes & 0xffff | u32::from(*last) << 31;
            self.bench.world.memory.write_obj(*address, GuestAddress(at)).unwrap();
            self.bench.world.memory.write_obj(second, GuestAddress(at + 4)).unwrap();
        }
    }

    /// Starts the bus master anew.
    pub(super) fn start(&mut self, way: u64) {
        let first = 8 * self.channel as u64;
        self.bench.write(MASTER, first, 1, way).unwrap();
        self.bench.write(MASTER, first + 2, 1, BM_ERROR | BM_INTERRUPT).unwrap();
        self.bench.write(MASTER, first + 4, 4, TABLE).unwrap();
        self.bench.write(MASTER, first, 1, way | START).unwrap();
    }

    fn stop(&mut self) {
        self.bench.write(MASTER, 8 * self.channel as u64, 1, 0).unwrap();
    }

    fn master_status(&mut self) -> u64 {
        self.bench.read(MASTER, 8 * self.channel as u64 + 2, 1).unwrap()
    }

    pub(super) fn memory(&self, at: u64, bytes: usize) -> Vec<u8> {
        let mut found = vec![0; bytes];
        self.bench.world.memory.read_slice(&mut found, GuestAddress(at)).unwrap();
        found
    }
}

#[test]
fn a_table_or_a_region_outside_of_memory_is_an_error_and_nothing_moves_there() {
    for descriptor in [(MEMORY_BYTES as u32, 512, true), (0xffff_fffe, 0, true), (0xfee0_0000, 512, true)] {
        let mut pc = Pc::new();
        pc.table(&[descriptor]);
        pc.address(0, 0, 1);
        pc.command(0xc8);
        pc.start(TO_MEMORY);
        assert_eq!((pc.master_status(), pc.line()), (BM_ERROR, false));
        assert_eq!(pc.alternate(), 0x58, "the drive waits");
        pc.control(4);
        pc.control(0);
        assert_eq!(pc.alternate(), 0x50);
    }
    let mut pc = Pc::new();
    pc.address(0, 0, 1);
    pc.command(0xc8);
    pc.bench.write(MASTER, 4, 4, MEMORY_BYTES as u64 - 4).unwrap();
    pc.bench.write(MASTER, 0, 1, START).unwrap();
    assert_eq!(pc.master_status(), BM_ERROR);
}

#[test]
fn what_was_moved_before_a_bad_region_stays() {
    let mut pc = Pc::new();
    let contents = pc.bench.world.disk.contents();
    pc.table(&[(0x1_0000, 700, false), (MEMORY_BYTES as u32 - 300, 1024, true)]);
    pc.address(0, 4, 3);
    pc.command(0xc8);
    pc.start(TO_MEMORY);
    assert_eq!(pc.master_status(), BM_ERROR);
    assert_eq!(pc.memory(0x1_0000, 700), contents[4 * 512..4 * 512 + 700]);
    assert_eq!(pc.memory(MEMORY_BYTES as u64 - 300, 300), contents[4 * 512 + 700..4 * 512 + 1000]);
}

#[test]
fn a_table_that_is_too_short_ends_without_an_interrupt() {
    let mut pc = Pc::new();
    pc.table(&[(0x1_0000, 512, true)]);
    pc.address(0, 4, 2);
    pc.command(0xc8);
    pc.start(TO_MEMORY);
    assert_eq!((pc.master_status(), pc.line()), (0, false));
    // The drive still wants to move the rest, and a second table may take it.
    pc.stop();
    pc.start(TO_MEMORY);
    assert_eq!((pc.master_status(), pc.interrupt()), (BM_INTERRUPT, 0x50));
    assert_eq!(pc.memory(0x1_0000, 512), pc.bench.world.disk.contents()[5 * 512..6 * 512]);
}

#[test]
fn a_sector_is_written_whole_or_not_at_all() {
    // However small the pieces are that it is made of.
    let small: Vec<(u32, u32, bool)> = (0..300).map(|at| (0x1_0000 + 2 * at, 2, at == 299)).collect();
    let tables = [
        vec![(0x1_0000, 512 + 100, true)],
        vec![(0x1_0000, 512, false), (0x1_0200, 50, false), (0x1_0232, 50, true)],
        vec![(0x1_0000, 512 + 100, false), (MEMORY_BYTES as u32, 512, true)],
        small,
    ];
    for table in tables {
        let mut pc = Pc::new();
        let contents = pc.bench.world.disk.contents();
        pc.bench.world.memory.write_slice(&[0xa5; 1024], GuestAddress(0x1_0000)).unwrap();
        pc.table(&table);
        pc.address(0, 4, 3);
        pc.command(0xca);
        pc.start(0);
        assert_eq!((pc.master_status() & ACTIVE, pc.line()), (0, false));
        let after = pc.bench.world.disk.contents();
        assert_eq!(after[4 * 512..5 * 512], [0xa5; 512]);
        assert_eq!(after[5 * 512..7 * 512], contents[5 * 512..7 * 512], "{} pieces", table.len());
    }
}

#[test]
fn a_table_that_is_too_long_is_active_until_it_is_stopped() {
    let mut pc = Pc::new();
    pc.table(&[(0x1_0000, 4096, true)]);
    pc.address(0, 4, 2);
    pc.command(0xc8);
    pc.start(TO_MEMORY);
    assert_eq!((pc.master_status(), pc.interrupt()), (ACTIVE | BM_INTERRUPT, 0x50));
    pc.stop();
    assert_eq!(pc.master_status(), BM_INTERRUPT);
}

#[test]
fn a_count_of_0_is_64_kib_and_odd_addresses_and_counts_are_even() {
    let mut pc = Pc::new();
    let contents = pc.bench.world.disk.contents();
    pc.table(&[(0x1_0001, 0, false), (0x3_0000, 0x8001, true)]);
    pc.address(0, 0, 192);
    pc.command(0xc8);
    pc.start(TO_MEMORY);
    assert_eq!((pc.master_status(), pc.interrupt()), (BM_INTERRUPT, 0x50));
    assert_eq!(pc.memory(0x1_0000, 0x1_0000), contents[..0x1_0000], "across the end of a region of memory");
    assert_eq!(pc.memory(0x3_0000, 0x8000), contents[0x1_0000..0x1_8000]);
}

#[test]
fn data_go_to_the_disk_from_pieces_of_any_size() {
    let mut pc = Pc::new();
    let data: Vec<u8> = (0..1024_u32).map(|at| ((at * 31) >> 3) as u8).collect();
    pc.bench.world.memory.write_slice(&data, GuestAddress(0x1_0000)).unwrap();
    pc.table(&[(0x1_0000, 2, false), (0x1_0002, 1000, false), (0x1_03ea, 22, true)]);
    pc.long_address(0, 77, 2);
    pc.command(0x35);
    pc.start(0);
    assert_eq!((pc.master_status(), pc.interrupt()), (BM_INTERRUPT, 0x50));
    assert_eq!(pc.bench.world.disk.contents()[77 * 512..79 * 512], data);
}

#[test]
fn the_bus_master_may_be_started_before_the_command() {
    let mut pc = Pc::new();
    pc.table(&[(0x1_0000, 512, true)]);
    pc.start(TO_MEMORY);
    assert_eq!(pc.master_status(), ACTIVE);
    pc.address(0, 6, 1);
    pc.command(0xc8);
    assert_eq!((pc.master_status(), pc.interrupt()), (BM_INTERRUPT, 0x50));
    assert_eq!(pc.memory(0x1_0000, 512), pc.bench.world.disk.contents()[6 * 512..7 * 512]);
}

#[test]
fn a_transfer_of_very_many_pieces_is_done_in_portions() {
    let mut pc = Pc::new();
    let contents = pc.bench.world.disk.contents();
    // 6144 pieces of two bytes: more than one call moves.
    let pieces: Vec<(u32, u32, bool)> = (0..6144).map(|index| (0x3_0000 + 2 * index, 2, index == 6143)).collect();
    let table = 0x1_0000;
    for ((address, bytes, last), at) in pieces.iter().zip((table..).step_by(8)) {
        pc.bench.world.memory.write_obj(*address, GuestAddress(at)).unwrap();
        pc.bench.world.memory.write_obj(bytes | u32::from(*last) << 31, GuestAddress(at + 4)).unwrap();
    }
    pc.address(0, 1, 24);
    pc.command(0xc8);
    pc.bench.write(MASTER, 4, 4, table).unwrap();
    pc.bench.write(MASTER, 0, 1, TO_MEMORY | START).unwrap();
    assert_eq!((pc.master_status(), pc.interrupt()), (BM_INTERRUPT, 0x50));
    assert_eq!(pc.memory(0x3_0000, 12_288), contents[512..25 * 512]);
}

#[test]
fn a_medium_that_fails_ends_the_transfer_with_an_interrupt() {
    let world = Media { disk: Medium { bad: Some(5 * 512), ..Media::new().disk }, ..Media::new() };
    for (code, status, error) in [(0xc8, 0x51, 0x40), (0xca, 0x71, 0x04)] {
        let mut pc = Pc::with(Media { disk: world.disk.clone(), ..Media::new() });
        pc.table(&[(0x1_0000, 1024, true)]);
        pc.address(0, 5, 2);
        pc.command(code);
        pc.start(TO_MEMORY);
        assert_eq!(pc.master_status() & BM_INTERRUPT, BM_INTERRUPT);
        assert_eq!((pc.interrupt(), pc.get(1)), (status, error));
    }
}

#[test]
fn registers_keep_what_they_can_and_status_bits_are_cleared_by_ones() {
    let mut pc = Pc::new();
    for (offset, written, read) in [(4, 0xffff_ffff_u64, 0xffff_fffc_u64), (12, 0x1234_5677, 0x1234_5674)] {
        pc.bench.write(MASTER, offset, 4, written).unwrap();
        assert_eq!(pc.bench.read(MASTER, offset, 4), Ok(read));
    }
    pc.bench.write(MASTER, 2, 1, 0xff).unwrap();
    assert_eq!(pc.master_status(), 0x60);
    pc.command(0x10);
    assert_eq!(pc.master_status(), 0x64);
    pc.bench.write(MASTER, 2, 1, 0x60).unwrap();
    assert_eq!(pc.master_status(), 0x64);
    pc.bench.write(MASTER, 2, 1, 4).unwrap();
    assert_eq!(pc.master_status(), 0);
    assert_eq!(pc.bench.read(MASTER, 8, 4), Ok(0), "the other channel heard nothing");
}

#[test]
fn a_table_that_its_own_data_overwrite_or_that_has_no_end_comes_to_an_end() {
    // Memory of zeroes is a table of regions of 64 KiB at address 0, where the table is; and one of regions of two bytes without a last.
    let small: Vec<(u32, u32, bool)> = (0..64).map(|_| (TABLE as u32, 2, false)).collect();
    for table in [&[][..], &small] {
        let mut pc = Pc::new();
        pc.table(table);
        pc.address(0, 0, 0);
        pc.command(0xc8);
        pc.start(TO_MEMORY);
        // Each look at the registers is answered, and does a bounded amount of what is left.
        let ended = (0..1000).any(|_| pc.master_status() & ACTIVE == 0 || pc.alternate() & 0x08 == 0);
        assert!(ended, "it moves data for ever");
        pc.control(4);
        pc.control(0);
        pc.address(0, 1, 1);
        pc.command(0x20);
        assert_eq!(pc.interrupt() & 0x89, 0x08, "the drive is as it was");
    }
}

/// A list of ranges, padded to a block: first sector and how many.
fn ranges(list: &[(u64, u64)]) -> Vec<u8> {
    let mut bytes: Vec<u8> = list.iter().flat_map(|(first, count)| (first | count << 48).to_le_bytes()).collect();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

#[test]
fn sectors_that_are_not_needed_are_named_by_ranges_that_the_disk_has() {
    let sectors = Pc::new().bench.world.disk.contents().len() as u64 / 512;
    for (list, is_there) in [
        (vec![(0, 2), (6, 8), (10, 1), (sectors, 0)], true),
        (vec![(0, 1), (sectors - 1, 2)], false),
        (vec![((1 << 48) - 1, 0xffff)], false),
    ] {
        let mut pc = Pc::new();
        let contents = pc.bench.world.disk.contents();
        pc.bench.world.memory.write_slice(&ranges(&list), GuestAddress(0x1_0000)).unwrap();
        pc.table(&[(0x1_0000, 100, false), (0x1_0064, 412, true)]);
        pc.address(0, 0, 1);
        pc.put(1, 1);
        pc.command(0x06);
        pc.start(0);
        assert_eq!(pc.master_status(), BM_INTERRUPT);
        let status = pc.interrupt();
        assert_eq!((status, pc.get(1)), if is_there { (0x50, 0) } else { (0x51, 0x04) }, "{list:x?}");
        assert_eq!(pc.bench.world.disk.contents(), contents);
    }
}

#[test]
fn a_list_of_ranges_that_is_too_long_or_for_something_else_is_refused() {
    for (feature, count) in [(1, 9), (1, 0), (0, 1), (2, 1)] {
        let mut pc = Pc::new();
        pc.address(0, 0, count);
        pc.put(1, feature);
        pc.command(0x06);
        assert_eq!((pc.interrupt(), pc.get(1)), (0x51, 0x04), "{feature} {count}");
    }
}
