//! The CD-ROM drive.

use super::*;

/// What REQUEST SENSE says.
pub(super) fn sense(pc: &mut Pc) -> [u8; 3] {
    let answer = ask(pc, &[0x03, 0, 0, 0, 18], 0xfffe);
    assert_eq!((answer[0], answer[7], answer.len()), (0x70, 10, 18));
    [answer[2], answer[12], answer[13]]
}

pub(super) fn send(pc: &mut Pc, packet: &[u8], limit: u64, features: u64) {
    pc.put_all([(1, features), (4, limit & 0xff), (5, limit >> 8)]);
    pc.command(0xa0);
    assert_eq!((pc.alternate() & 0x89, pc.get(2) & 3, pc.line()), (0x08, 1, false), "it waits for a packet");
    let mut whole = [0; 12];
    whole[..packet.len()].copy_from_slice(packet);
    pc.store(&whole);
}

/// Sends a packet and reads what comes, in blocks.
pub(super) fn ask(pc: &mut Pc, packet: &[u8], limit: u64) -> Vec<u8> {
    send(pc, packet, limit, 0);
    let mut answer = Vec::new();
    loop {
        let status = pc.interrupt();
        let reason = pc.get(2) & 3;
        if status & 8 == 0 {
            assert_eq!((status & 0x81, reason), (0, 3), "error {:#x}", pc.get(1));
            return answer;
        }
        assert_eq!(reason, 2);
        let bytes = (pc.get(4) | pc.get(5) << 8) as usize;
        assert!(bytes as u64 <= limit && bytes > 0);
        let mut block = pc.load(bytes);
        block.truncate(bytes);
        answer.extend(block);
    }
}

/// Sends a packet that must be refused with this sense.
pub(super) fn refused(pc: &mut Pc, packet: &[u8], why: [u8; 3]) {
    send(pc, packet, 0xfffe, 0);
    assert_eq!((pc.interrupt() & 0x89, pc.get(1), pc.get(2) & 3), (0x01, u64::from(why[0]) << 4, 3), "{packet:x?}");
    assert_eq!(sense(pc), why, "{packet:x?}");
    assert_eq!(sense(pc), [0; 3], "it is told once");
}

#[test]
fn what_is_not_possible_is_refused_with_its_sense() {
    let mut pc = Pc::cd();
    let end = FRAMES as u8;
    for (packet, why) in [
        (&[0x55_u8][..], [5, 0x20, 0]),
        (&[0xff], [5, 0x20, 0]),
        (&[0x28, 0, 0, 0, 1, end, 0, 0, 1], [5, 0x21, 0]),
        (&[0x28, 0, 0, 0, 1, end - 1, 0, 0, 2], [5, 0x21, 0]),
        (&[0xa8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], [5, 0x21, 0]),
        (&[0x2b, 0, 1], [5, 0x21, 0]),
        (&[0xbe, 4, 0, 0, 0, 0, 0, 0, 1, 0x10], [5, 0x64, 0]),
        (&[0xbe, 0, 0, 0, 0, 0, 0, 0, 1, 0xf8], [5, 0x24, 0]),
        (&[0x12, 1, 0, 0, 36], [5, 0x24, 0]),
        (&[0x43, 0, 3, 0, 0, 0, 0, 0, 4], [5, 0x24, 0]),
        (&[0x43, 0, 0, 0, 0, 0, 2, 0, 4], [5, 0x24, 0]),
        (&[0x4a, 0, 0, 0, 0x10, 0, 0, 0, 8], [5, 0x24, 0]),
        (&[0x5a, 0, 0x08, 0, 0, 0, 0, 0, 8], [5, 0x24, 0]),
        (&[0x5a, 0, 0xea, 0, 0, 0, 0, 0, 8], [5, 0x39, 0]),
        (&[0x46, 3], [5, 0x24, 0]),
    ] {
        refused(&mut pc, packet, why);
    }
}

#[test]
fn commands_of_a_disk_find_the_signature() {
    let mut pc = Pc::cd();
    for code in [0xec, 0x20] {
        pc.put(4, 0);
        pc.command(code);
        assert_eq!((pc.interrupt(), pc.get(1), pc.get(4), pc.get(5)), (0x41, 4, 0x14, 0xeb));
    }
    pc.put(1, 2);
    pc.command(0xa0);
    assert_eq!((pc.interrupt(), pc.get(1)), (0x41, 4), "no overlapped packets");
}

#[test]
fn a_byte_count_limit_of_0_leaves_no_room_for_data_but_for_none() {
    let mut pc = Pc::cd();
    send(&mut pc, &[0x12, 0, 0, 0, 36], 0, 0);
    assert_eq!((pc.interrupt(), pc.get(1)), (0x41, 4));
    send(&mut pc, &[0x00], 0, 0);
    assert_eq!(pc.interrupt(), 0x40);
    send(&mut pc, &[0x12, 0, 0, 0, 0], 0, 0);
    assert_eq!(pc.interrupt(), 0x40);
}

#[test]
fn an_odd_byte_count_limit_is_whole_for_one_block_and_even_for_several() {
    let mut pc = Pc::cd();
    // More than one block of a byte there cannot be (8.23.5.2).
    send(&mut pc, &[0x12, 0, 0, 0, 36], 1, 0);
    assert_eq!((pc.interrupt(), pc.get(1)), (0x41, 4));
    for (limit, allocated, block) in [(1, 1, 1), (5, 5, 5), (7, 5, 5), (5, 6, 4), (3, 36, 2), (0xffff, 36, 36)] {
        send(&mut pc, &[0x12, 0, 0, 0, allocated], limit, 0);
        assert_eq!((pc.interrupt() & 0x89, pc.get(4) | pc.get(5) << 8), (0x08, block), "{limit} of {allocated}");
        pc.command(0x08);
    }
}

#[test]
fn a_wide_load_does_not_go_beyond_its_block() {
    let mut pc = Pc::cd();
    let contents = pc.bench.world.cd.contents();
    for limit in [2, 6] {
        send(&mut pc, &[0x28, 0, 0, 0, 0, 3, 0, 0, 1], limit, 0);
        let mut read: Vec<u8> = Vec::new();
        while pc.interrupt() & 8 != 0 {
            let mut left = pc.get(4) as usize;
            while left > 0 {
                let bytes = left.min(4);
                let load = pc.bench.read(block(0), 0, 4).unwrap() as u32;
                assert!(bytes == 4 || load >> 16 == 0, "{load:#x} of a block with {bytes} bytes left");
                read.extend(&load.to_le_bytes()[..bytes]);
                left -= bytes;
            }
        }
        assert_eq!(read, contents[3 * 2048..4 * 2048], "limit {limit}");
        pc.put_all([(1, 0)]);
    }
}

#[test]
fn an_empty_drive_is_not_ready() {
    let mut pc = Pc::new();
    pc.channel = 1;
    for packet in [&[0x00][..], &[0x25], &[0x28, 0, 0, 0, 0, 0, 0, 0, 1], &[0x43], &[0x51], &[0x1b, 0, 0, 0, 1]] {
        refused(&mut pc, packet, [2, 0x3a, 1]);
    }
    assert_eq!(ask(&mut pc, &[0x12, 0, 0, 0, 36], 64)[..2], [5, 0x80]);
    assert_eq!(ask(&mut pc, &[0x46, 0, 0, 0, 0, 0, 0, 0, 8], 64)[6..], [0, 0]);
}

#[test]
fn frames_come_in_blocks_of_the_limit() {
    let mut pc = Pc::cd();
    let contents = pc.bench.world.cd.contents();
    for limit in [2048, 5120, 0xffff, 7, 2049] {
        let read = ask(&mut pc, &[0x28, 0, 0, 0, 0, 9, 0, 0, 4], limit);
        assert_eq!(read, contents[9 * 2048..13 * 2048], "limit {limit}");
    }
    let read = ask(&mut pc, &[0xa8, 0, 0, 0, 0, 2, 0, 0, 0, 40], 0xffff);
    assert_eq!(read, contents[2 * 2048..42 * 2048]);
    let read = ask(&mut pc, &[0xbe, 0, 0, 0, 0, 5, 0, 0, 1, 0x10], 0x800);
    assert_eq!(read, contents[5 * 2048..6 * 2048]);
    assert_eq!(ask(&mut pc, &[0x28, 0, 0, 0, 0, 9, 0, 0, 0], 2048), []);
}

#[test]
fn an_answer_of_odd_length_ends_with_a_byte_of_padding() {
    let mut pc = Pc::cd();
    send(&mut pc, &[0x12, 0, 0, 0, 5], 64, 0);
    pc.interrupt();
    assert_eq!(pc.get(4), 5);
    assert_eq!(pc.load(6), [5, 0x80, 0, 0x21, 31, 0]);
    assert_eq!(pc.interrupt(), 0x40);
}

#[test]
fn an_image_that_ends_within_a_frame_ends_before_it() {
    let mut pc = Pc::cd();
    let capacity = ask(&mut pc, &[0x25], 8);
    assert_eq!(capacity, [0, 0, 1, (FRAMES - 1) as u8, 0, 0, 8, 0]);
}

#[test]
fn a_frame_that_cannot_be_read_is_a_medium_error() {
    let world = Media { cd: Medium { bad: Some(11 * 2048), ..Media::new().cd }, ..Media::new() };
    let mut pc = Pc::with(world);
    pc.select(0x10);
    refused(&mut pc, &[0x28, 0, 0, 0, 0, 11, 0, 0, 1], [3, 0x11, 0]);
    assert_eq!(ask(&mut pc, &[0x28, 0, 0, 0, 0, 12, 0, 0, 1], 2048).len(), 2048);
}

#[test]
fn the_table_of_contents_has_one_track() {
    let mut pc = Pc::cd();
    let end = (FRAMES as u32).to_be_bytes();
    let toc = ask(&mut pc, &[0x43, 0, 0, 0, 0, 0, 0, 0, 64], 64);
    assert_eq!(toc, [&[0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0][..], &end].concat());
    let toc = ask(&mut pc, &[0x43, 2, 0, 0, 0, 0, 0xaa, 0, 64], 64);
    // 300 frames and two seconds are six seconds.
    assert_eq!(toc, [0, 10, 1, 1, 0, 0x14, 0xaa, 0, 0, 0, 6, 0]);
    let sessions = ask(&mut pc, &[0x43, 0, 1, 0, 0, 0, 0, 0, 64], 64);
    assert_eq!(sessions, [0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0]);
    let raw = ask(&mut pc, &[0x43, 0, 2, 0, 0, 0, 0, 0, 64], 64);
    assert_eq!((raw.len(), raw[1], raw[4 + 22 + 3]), (48, 46, 0xa2));
    let old = ask(&mut pc, &[0x43, 0, 0, 0, 0, 0, 0, 0, 64, 0x40], 64);
    assert_eq!(old, sessions, "the format in its old place");
}

#[test]
fn the_tray_opens_closes_and_can_be_locked() {
    let mut pc = Pc::cd();
    let event = |pc: &mut Pc| ask(pc, &[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8], 8)[4..6].to_vec();
    assert_eq!(event(&mut pc), [0, 2]);
    assert_eq!(ask(&mut pc, &[0x1e, 0, 0, 0, 1], 8), []);
    refused(&mut pc, &[0x1b, 0, 0, 0, 2], [5, 0x53, 2]);
    assert_eq!(ask(&mut pc, &[0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 64], 64)[14], 0x2b);
    ask(&mut pc, &[0x1e], 8);
    ask(&mut pc, &[0x1b, 0, 0, 0, 2], 8);
    assert_eq!(event(&mut pc), [3, 1]);
    refused(&mut pc, &[0x00], [2, 0x3a, 2]);
    assert_eq!(ask(&mut pc, &[0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8], 8)[1], 0x10);
    ask(&mut pc, &[0x1b, 0, 0, 0, 3], 8);
    assert_eq!(event(&mut pc), [2, 2]);
    assert_eq!(event(&mut pc), [0, 2]);
    refused(&mut pc, &[0x00], [6, 0x28, 0]);
    assert_eq!(ask(&mut pc, &[0x00], 8), []);
}

#[test]
fn a_device_reset_ends_a_transfer_and_is_told_of() {
    let mut pc = Pc::cd();
    send(&mut pc, &[0x28, 0, 0, 0, 0, 9, 0, 0, 1], 2048, 0);
    pc.command(0x08);
    assert_eq!((pc.get(STATUS), pc.get(4), pc.line()), (0, 0x14, false));
    pc.select(0x10);
    assert_eq!(ask(&mut pc, &[0x12, 0, 0, 0, 36], 64).len(), 36, "an inquiry is always answered");
    refused(&mut pc, &[0x00], [6, 0x29, 0]);
}

#[test]
fn pages_features_and_disc_are_told() {
    let mut pc = Pc::cd();
    let short = ask(&mut pc, &[0x1a, 0, 0x01, 0, 64], 64);
    assert_eq!(short, [11, 1, 0, 0, 1, 6, 0, 5, 0, 0, 0, 0]);
    let all = ask(&mut pc, &[0x5a, 0, 0x3f, 0, 0, 0, 0, 0, 255], 255);
    assert_eq!((all.len(), all[1], all[16], all[17]), (36, 34, 0x2a, 18));
    let changeable = ask(&mut pc, &[0x5a, 0, 0x41, 0, 0, 0, 0, 0, 255], 255);
    assert_eq!(changeable[8..], [1, 6, 0, 0, 0, 0, 0, 0]);
    let features = ask(&mut pc, &[0x46, 0, 0, 0, 0, 0, 0, 0, 255], 255);
    assert_eq!((usize::from(features[3]), features[7]), (features.len() - 4, 8));
    let one = ask(&mut pc, &[0x46, 2, 0, 3, 0, 0, 0, 0, 255], 255);
    assert_eq!(one[8..], [0, 3, 3, 4, 0x29, 0, 0, 0]);
    assert_eq!(ask(&mut pc, &[0x51, 0, 0, 0, 0, 0, 0, 0, 34], 64)[..4], [0, 32, 0x0e, 1]);
    assert_eq!(ask(&mut pc, &[0x42, 0, 0, 0, 0, 0, 0, 0, 4], 64), [0, 0x15, 0, 0]);
    let identity = pc.identity(0xa1);
    assert_eq!((identity[0], identity[82]), (0x85c0, 0x4218));
}

#[test]
fn packets_have_their_data_moved_by_the_bus_master_too() {
    let mut pc = Pc::cd();
    let contents = pc.bench.world.cd.contents();
    pc.table(&[(0x1_0000, 4096, true)]);
    send(&mut pc, &[0x28, 0, 0, 0, 0, 3, 0, 0, 2], 0, 1);
    assert!(!pc.line());
    pc.start(TO_MEMORY);
    assert_eq!(pc.bench.read(MASTER, 2, 1), Ok(BM_INTERRUPT));
    assert_eq!((pc.interrupt(), pc.get(2) & 3), (0x40, 3));
    assert_eq!(pc.memory(0x1_0000, 4096), contents[3 * 2048..5 * 2048]);
    pc.table(&[(0x2_0000, 20, false), (0x2_0100, 16, true)]);
    send(&mut pc, &[0x12, 0, 0, 0, 36], 0, 1);
    pc.start(TO_MEMORY);
    pc.interrupt();
    assert_eq!(pc.memory(0x2_0000 + 8, 8), b"COFFERDM");
    assert_eq!(pc.memory(0x2_0100 + 12, 4), b"1.0 ");
}
