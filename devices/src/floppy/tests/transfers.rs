//! Commands with data.

use super::*;

const READ: u8 = 0x46;
const WRITE: u8 = 0x45;
const BOTH_SIDES: u8 = 0x80;

impl Bench<Pc> {
    /// A command about sectors, and its result by interrupt.
    fn sectors(&mut self, first: u8, drive_head: u8, [c, h, r]: [u8; 3], end: u8) -> Vec<u8> {
        self.send(&[first, drive_head, c, h, r, 2, end, 0x1b, 0xff]);
        self.await_result()
    }

    /// Takes as many bytes as it is offered without DMA, looking at the main status before each.
    fn take_bytes(&mut self) -> Vec<u8> {
        std::iter::from_fn(|| match self.msr() {
            0xf0 => Some(self.inb(0x3f5)),
            0xd0 => None,
            other => panic!("main status {other:#x}"),
        })
        .collect()
    }

    /// Gives bytes as long as they are wanted.
    fn give_bytes(&mut self, bytes: &[u8]) -> usize {
        bytes.iter().take_while(|byte| self.msr() == 0xb0 && (self.outb(0x3f5, **byte), true).1).count()
    }
}

mod reading {
    use super::*;

    #[test]
    fn sectors_arrive_in_memory() {
        let mut bench = Bench::pc();
        bench.seek(2);
        bench.dma(TO_MEMORY, 0x1_0000, 3 * 512);
        assert_eq!(bench.sectors(READ, 4, [2, 1, 7], 18), [0x04, 0, 0, 2, 1, 10, 2]);
        let first = (2 * 2 + 1) * 18 + 6;
        let expected: Vec<u8> = (first..first + 3).flat_map(|number| bench.world.image().sector(number)).collect();
        assert_eq!(bench.world.memory(0x1_0000, 3 * 512), expected);
        assert!(!bench.int());
    }

    #[test]
    fn a_cylinder_is_read_over_both_sides() {
        let mut bench = Bench::pc();
        bench.seek(79);
        bench.dma(TO_MEMORY, 0x1_0000, 36 * 512);
        assert_eq!(bench.sectors(READ | BOTH_SIDES, 0, [79, 0, 1], 18), [0x04, 0, 0, 80, 0, 1, 2]);
        assert_eq!(bench.world.memory(0x1_0000, 36 * 512), bench.world.image().contents()[79 * 36 * 512..]);
    }

    #[test]
    fn a_cylinder_of_the_densest_diskette_takes_more_than_one_step() {
        let mut bench = Bench::started(Pc::with(Some(Image::new(2880 << 10))));
        bench.outb(0x3f7, 3);
        bench.dma(TO_MEMORY, 0x1_0000, 72 * 512);
        bench.send(&[READ | BOTH_SIDES, 0, 0, 0, 1, 2, 36, 0x1b, 0xff]);
        bench.pass_until(bench.now + STEP_NS);
        assert!(!bench.int());
        assert_eq!(bench.await_result(), [0x04, 0, 0, 1, 0, 1, 2]);
        assert_eq!(bench.world.memory(0x1_0000, 72 * 512), bench.world.image().contents()[..72 * 512]);
    }

    #[test]
    fn without_a_terminal_count_the_end_of_the_cylinder_is_abnormal() {
        let mut bench = Bench::pc();
        bench.dma(TO_MEMORY, 0x1_0000, 60 * 512);
        assert_eq!(bench.sectors(READ, 0, [0, 0, 17], 18), [0x40, 0x80, 0, 1, 0, 1, 2]);
    }

    #[test]
    fn the_id_field_at_the_end_is_that_of_table_5_6() {
        // MT, head, first sector of one; C, H, R.
        let table = [
            (0, 0, 5, [0, 0, 6]),
            (0, 0, 18, [1, 0, 1]),
            (0, 1, 5, [0, 1, 6]),
            (0, 1, 18, [1, 1, 1]),
            (BOTH_SIDES, 0, 5, [0, 0, 6]),
            (BOTH_SIDES, 0, 18, [0, 1, 1]),
            (BOTH_SIDES, 1, 5, [0, 1, 6]),
            (BOTH_SIDES, 1, 18, [1, 0, 1]),
        ];
        for (both, head, sector, expected) in table {
            let mut bench = Bench::pc();
            bench.dma(TO_MEMORY, 0x1_0000, 512);
            let result = bench.sectors(READ | both, head << 2, [0, head, sector], 18);
            assert_eq!((result[0], &result[3..6]), (head << 2, &expected[..]), "{both:#x} {head} {sector}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let mut bench = Bench::pc();
        let mut at = |c, h, r, n| {
            bench.dma(TO_MEMORY, 0x1_0000, 512);
            bench.send(&[READ, 0, c, h, r, n, 18, 0x1b, 0xff]);
            bench.await_result()[..3].to_vec()
        };
        assert_eq!(at(0, 0, 19, 2), [0x40, 0x04, 0x00], "no such sector");
        assert_eq!(at(0, 0, 0, 2), [0x40, 0x04, 0x00]);
        assert_eq!(at(0, 1, 1, 2), [0x40, 0x04, 0x00], "the other side's");
        assert_eq!(at(0, 0, 1, 3), [0x40, 0x04, 0x00], "another size");
        assert_eq!(at(7, 0, 1, 2), [0x40, 0x04, 0x10], "another cylinder");
    }

    #[test]
    fn a_seek_may_be_implied() {
        let mut bench = Bench::pc();
        bench.send(&[0x13, 0, 0x60, 0]);
        bench.dma(TO_MEMORY, 0x1_0000, 512);
        assert_eq!(bench.sectors(READ, 0, [33, 0, 1], 18), [0x20, 0, 0, 33, 0, 2, 2]);
        assert_eq!(bench.world.memory(0x1_0000, 512), bench.world.image().sector(33 * 36));
    }

    #[test]
    fn sectors_of_the_other_mark_end_the_command_or_are_passed_over() {
        let mut bench = Bench::pc();
        bench.dma(TO_MEMORY, 0x1_0000, 1024);
        assert_eq!(bench.sectors(0x4c, 0, [0, 0, 3], 18), [0x00, 0, 0x40, 0, 0, 4, 2], "the first is the last");
        assert_eq!(bench.world.memory(0x1_0000, 512), bench.world.image().sector(2));
        bench.dma(TO_MEMORY, 0x2_0000, 1024);
        assert_eq!(bench.sectors(0x6c, 0, [0, 0, 3], 18), [0x40, 0x80, 0x40, 1, 0, 1, 2], "there is none to be read");
        assert_eq!(bench.world.memory(0x2_0000, 512), [0; 512]);
    }

    #[test]
    fn a_track_is_read_from_its_beginning_whatever_the_id_fields_say() {
        let mut bench = Bench::pc();
        bench.dma(TO_MEMORY, 0x1_0000, 4 * 512);
        assert_eq!(bench.sectors(0x42, 0, [0, 0, 1], 4), [0x00, 0, 0, 0, 0, 5, 2]);
        assert_eq!(bench.world.memory(0x1_0000, 4 * 512), bench.world.image().contents()[..4 * 512]);
        bench.dma(TO_MEMORY, 0x2_0000, 4 * 512);
        assert_eq!(bench.sectors(0x42, 0, [0, 0, 3], 4), [0x40, 0x04, 0, 0, 0, 7, 2]);
        assert_eq!(bench.world.memory(0x2_0000, 4 * 512), bench.world.image().contents()[..4 * 512]);
    }

    #[test]
    fn an_error_of_the_file_is_a_bad_check_sum() {
        let mut image = Image::new(1440 << 10);
        image.broken = true;
        let mut bench = Bench::started(Pc::with(Some(image)));
        bench.dma(TO_MEMORY, 0x1_0000, 512);
        assert_eq!(bench.sectors(READ, 0, [0, 0, 1], 18)[..3], [0x40, 0x20, 0x20]);
        bench.dma(FROM_MEMORY, 0x1_0000, 512);
        assert_eq!(bench.sectors(WRITE, 0, [0, 0, 1], 18)[..3], [0x40, 0x20, 0x20]);
    }

    #[test]
    fn behind_the_end_of_a_short_image_sectors_are_blank_and_cannot_be_written() {
        let mut bench = Bench::started(Pc::with(Some(Image::new(1_296_384))));
        bench.seek(79);
        bench.dma(TO_MEMORY, 0x1_0000, 512);
        assert_eq!(bench.sectors(READ, 0, [79, 0, 1], 18)[..3], [0, 0, 0]);
        assert_eq!(bench.world.memory(0x1_0000, 512), [0; 512]);
        bench.dma(FROM_MEMORY, 0x1_0000, 512);
        assert_eq!(bench.sectors(WRITE, 0, [79, 0, 1], 18)[..3], [0x40, 0x20, 0x20]);
        assert_eq!(bench.world.image().contents().len(), 1_296_384);
    }

    #[test]
    fn every_sector_of_every_diskette_is_where_its_image_has_it() {
        for format in &FORMATS {
            let mut bench = Bench::started(Pc::with(Some(Image::new(format.bytes()))));
            let rate =
                [(1200..=1680, 0), (2880..=2880, 3)].into_iter().find(|(kib, _)| kib.contains(&(format.bytes() >> 10)));
            bench.outb(0x3f7, rate.map_or(2, |(_, rate)| rate));
            let track = usize::from(format.sectors) * 512;
            for number in 0..format.cylinders * format.heads {
                let (cylinder, head) = (number / format.heads, number % format.heads);
                if head == 0 {
                    bench.seek(cylinder);
                }
                bench.dma(TO_MEMORY, 0x1_0000, track);
                assert_eq!(bench.sectors(READ, head << 2, [cylinder, head, 1], format.sectors)[..3], [head << 2, 0, 0]);
                let read = bench.world.memory(0x1_0000, track);
                assert!(
                    read == bench.world.image().contents()[usize::from(number) * track..][..track],
                    "{format:?} {number}"
                );
            }
        }
    }
}

mod writing {
    use super::*;

    #[test]
    fn sectors_come_from_memory() {
        let mut bench = Bench::pc();
        let mut expected = bench.world.image().contents();
        bench.world.memory.write_slice(&[0x5a; 1024], GuestAddress(0x3_0000)).unwrap();
        for (code, sector) in [(WRITE, 4), (0x49, 9)] {
            bench.dma(FROM_MEMORY, 0x3_0000, 1024);
            assert_eq!(bench.sectors(code, 0, [0, 0, sector], 18), [0x00, 0, 0, 0, 0, sector + 2, 2]);
            expected[usize::from(sector - 1) * 512..][..1024].fill(0x5a);
        }
        assert!(bench.world.image().contents() == expected);
    }

    #[test]
    fn the_rest_of_a_sector_that_ends_early_is_zero() {
        let mut bench = Bench::pc();
        bench.world.memory.write_slice(&[0x5a; 512], GuestAddress(0x3_0000)).unwrap();
        bench.dma(FROM_MEMORY, 0x3_0000, 100);
        assert_eq!(bench.sectors(WRITE, 0, [0, 0, 1], 18)[..3], [0, 0, 0]);
        let sector = bench.world.image().sector(0);
        assert_eq!((&sector[..100], &sector[100..]), (&[0x5a; 100][..], &[0; 412][..]));
    }

    #[test]
    fn a_protected_diskette_is_not_written() {
        let mut pc = Pc::new();
        pc.setting = "readonly";
        let before = pc.image().contents();
        let mut bench = Bench::started(pc);
        for code in [WRITE, 0x49, 0x4d] {
            bench.dma(FROM_MEMORY, 0x3_0000, 512);
            let mut command = vec![code, 0, 0, 0, 1, 2, 18, 0x1b, 0xff];
            command.truncate(if code == 0x4d { 6 } else { 9 });
            bench.send(&command);
            assert_eq!(bench.await_result()[..3], [0x40, 0x02, 0x00]);
        }
        assert!(bench.world.image().contents() == before);
    }

    #[test]
    fn formatting_fills_the_sectors_that_the_image_has() {
        let mut bench = Bench::pc();
        bench.seek(1);
        let mut expected = bench.world.image().contents();
        // Sector 20 and the one of another size are not the image's.
        let fields: Vec<u8> = [[1, 0, 3, 2], [1, 0, 20, 2], [1, 0, 4, 3], [1, 0, 5, 2]].concat();
        bench.world.memory.write_slice(&fields, GuestAddress(0x3_0000)).unwrap();
        bench.dma(FROM_MEMORY, 0x3_0000, fields.len());
        bench.send(&[0x4d, 0, 2, 4, 0x54, 0xf6]);
        assert_eq!(bench.await_result()[..3], [0, 0, 0]);
        for number in [3, 5] {
            expected[(36 + number - 1) * 512..][..512].fill(0xf6);
        }
        assert!(bench.world.image().contents() == expected);
        assert_eq!(bench.ask(&[0x0e])[6], 4, "DUMPREG gives the sectors of a track");
    }

    #[test]
    fn a_kill_before_each_commit_leaves_the_same_diskette() {
        let mut bench = Bench::pc();
        bench.world.memory.write_slice(&[0x77; 36 * 512], GuestAddress(0x1_0000)).unwrap();
        bench.dma(FROM_MEMORY, 0x1_0000, 36 * 512);
        bench.send(&[WRITE | BOTH_SIDES, 0, 0, 0, 1, 2, 18, 0x1b, 0xff]);
        bench.restart();
        assert_eq!(bench.await_result()[..3], [0x04, 0, 0]);
        bench.restart();
        assert!(bench.world.image().contents()[..36 * 512].iter().all(|byte| *byte == 0x77));
    }
}

mod checking {
    use super::*;

    #[test]
    fn verifying_passes_no_data_and_ends_with_the_cylinder() {
        let mut bench = Bench::pc();
        assert_eq!(bench.sectors(0x56, 0, [0, 0, 1], 18), [0x00, 0, 0, 1, 0, 1, 2]);
        assert_eq!(bench.sectors(0xd6, 0, [0, 0, 1], 18), [0x04, 0, 0, 1, 0, 1, 2]);
        assert_eq!(bench.sectors(0x56, 0, [0, 0, 1], 19)[..2], [0x40, 0x04], "more than the track has");
    }

    #[test]
    fn verifying_counts_sectors_if_it_is_told_to() {
        let mut bench = Bench::pc();
        let mut count = |multi: u8, count| {
            bench.send(&[0x56 | multi, 0x80, 0, 0, 1, 2, 18, 0x1b, count]);
            bench.await_result()
        };
        assert_eq!(count(0, 5), [0x00, 0, 0, 0, 0, 6, 2]);
        assert_eq!(count(0, 18)[..2], [0x00, 0x00]);
        assert_eq!(count(0, 19)[..2], [0x40, 0x80]);
        assert_eq!(count(0x80, 36)[..2], [0x04, 0x00]);
        assert_eq!(count(0x80, 37)[..2], [0x44, 0x80]);
    }

    /// Scans sectors 1 to 3 for what is in memory.
    fn scan(bench: &mut Bench<Pc>, code: u8, wanted: &[u8]) -> Vec<u8> {
        bench.world.memory.write_slice(&wanted.repeat(3), GuestAddress(0x3_0000)).unwrap();
        bench.dma(FROM_MEMORY, 0x3_0000, 3 * 512);
        bench.send(&[code, 0, 0, 0, 1, 2, 3, 0x1b, 1]);
        bench.await_result()
    }

    #[test]
    fn scanning_stops_where_the_condition_is_met() {
        let mut bench = Bench::pc();
        let second = bench.world.image().sector(1);
        assert_eq!(scan(&mut bench, 0x51, &second), [0x00, 0, 0x08, 0, 0, 2, 2], "equal");
        assert_eq!(scan(&mut bench, 0x51, &[0; 512])[..3], [0x00, 0, 0x04], "not satisfied");
        assert_eq!(scan(&mut bench, 0x59, &[0xfe; 512]), [0x00, 0, 0x00, 0, 0, 1, 2], "lower");
        assert_eq!(scan(&mut bench, 0x59, &[0; 512])[..3], [0x00, 0, 0x04]);
        assert_eq!(scan(&mut bench, 0x5d, &[0; 512]), [0x00, 0, 0x00, 0, 0, 1, 2], "higher");
        assert_eq!(scan(&mut bench, 0x5d, &[0xfe; 512])[..3], [0x00, 0, 0x04]);
        let mut masked = second;
        masked[17..400].fill(0xff);
        assert_eq!(scan(&mut bench, 0x51, &masked)[2..6], [0x08, 0, 0, 2], "ones meet every condition");
    }
}

mod through_the_fifo {
    use super::*;

    #[test]
    fn sectors_are_taken_byte_by_byte_with_and_without_the_fifo() {
        for configure in [0x20, 0x00, 0x07, 0x0f] {
            let mut bench = Bench::pc();
            bench.without_dma();
            bench.send(&[0x13, 0, configure, 0]);
            bench.send(&[READ, 0, 0, 0, 17, 2, 18, 0x1b, 0xff]);
            assert_eq!(bench.take_bytes(), bench.world.image().contents()[16 * 512..18 * 512], "{configure:#x}");
            assert!(bench.int());
            assert_eq!(bench.result(), [0x40, 0x80, 0, 1, 0, 1, 2], "the end of the cylinder is all that ends it");
            assert!(!bench.int());
        }
    }

    #[test]
    fn the_interrupt_asks_for_each_burst() {
        let mut bench = Bench::pc();
        bench.without_dma();
        bench.send(&[0x13, 0, 0x05, 0]);
        bench.send(&[READ, 0, 0, 0, 1, 2, 1, 0x1b, 0xff]);
        let mut taken = 0;
        while taken < 512 {
            assert!(!bench.int());
            bench.pass_until(bench.now + STEP_NS);
            assert!(bench.int());
            let burst = 10.min(512 - taken);
            for _ in 0..burst {
                bench.inb(0x3f5);
            }
            taken += burst;
        }
        bench.pass_until(bench.now + STEP_NS);
        assert_eq!(bench.result()[..3], [0x40, 0x80, 0]);
    }

    #[test]
    fn a_guest_that_takes_bytes_without_looking_gets_them_in_order() {
        let mut bench = Bench::pc();
        bench.without_dma();
        bench.send(&[0x13, 0, 0x00, 0]);
        bench.send(&[READ, 0, 0, 0, 1, 2, 1, 0x1b, 0xff]);
        let taken: Vec<u8> = (0..512).map(|_| bench.inb(0x3f5)).collect();
        assert_eq!(taken, bench.world.image().sector(0));
    }

    #[test]
    fn sectors_are_given_byte_by_byte_and_no_more_than_fit() {
        for configure in [0x20, 0x00, 0x07, 0x0f] {
            let mut bench = Bench::pc();
            bench.without_dma();
            bench.send(&[0x13, 0, configure, 0]);
            let mut expected = bench.world.image().contents();
            bench.send(&[WRITE, 0, 0, 0, 18, 2, 18, 0x1b, 0xff]);
            let bytes: Vec<u8> = (0..2000_u32).map(|at| (at * 3) as u8).collect();
            assert_eq!(bench.give_bytes(&bytes), 512, "{configure:#x}");
            assert_eq!(bench.result(), [0x40, 0x80, 0, 1, 0, 1, 2]);
            expected[17 * 512..18 * 512].copy_from_slice(&bytes[..512]);
            assert!(bench.world.image().contents() == expected, "{configure:#x}");
        }
    }

    #[test]
    fn a_guest_that_does_not_look_loses_what_the_fifo_has_no_room_for() {
        let mut bench = Bench::pc();
        bench.without_dma();
        bench.send(&[0x13, 0, 0x00, 0]);
        let before = bench.world.image().contents();
        bench.send(&[WRITE, 0, 0, 0, 1, 2, 1, 0x1b, 0xff]);
        for _ in 0..5000 {
            bench.outb(0x3f5, 0x99);
        }
        assert!(bench.world.image().contents()[512..] == before[512..]);
        bench.outb(0x3f4, 0x80);
        assert_eq!(bench.msr(), 0x80);
    }

    #[test]
    fn tracks_are_formatted_with_four_bytes_for_each_sector() {
        let mut bench = Bench::pc();
        bench.without_dma();
        bench.send(&[0x4d, 0, 2, 2, 0x54, 0xe5]);
        assert_eq!(bench.give_bytes(&[0, 0, 1, 2, 0, 0, 2, 2, 9, 9]), 8);
        assert_eq!(bench.result()[..3], [0, 0, 0]);
        assert_eq!(bench.world.image().contents()[..1024], [0xe5; 1024]);
    }

    #[test]
    fn a_sector_that_is_not_there_ends_the_command_before_a_byte_passes() {
        let mut bench = Bench::pc();
        bench.without_dma();
        for code in [READ, WRITE] {
            bench.send(&[code, 0, 0, 0, 30, 2, 30, 0x1b, 0xff]);
            assert_eq!(bench.result()[..3], [0x40, 0x04, 0]);
        }
    }
}
