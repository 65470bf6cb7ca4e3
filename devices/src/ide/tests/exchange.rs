//! CDs that are exchanged while the machine runs.

use super::packets::{ask, refused, send};
use super::*;

/// The drive of [`Pc::cd`] among all four.
const BAY: u8 = 1;

/// Another CD, shorter than the first.
fn another() -> Medium {
    Medium::new((FRAMES - 100) * 2048, 11, true)
}

fn exchange(pc: &mut Pc, cd: Option<Medium>) -> bool {
    pc.bench.world.has_cd = cd.is_some();
    pc.bench.world.cd = cd.unwrap_or_else(another);
    pc.bench.exchange(BAY)
}

fn frame(pc: &mut Pc, number: u8) -> Vec<u8> {
    ask(pc, &[0x28, 0, 0, 0, 0, number, 0, 0, 1], 2048)
}

#[test]
fn a_cd_that_the_guest_holds_is_not_exchanged_and_all_is_as_it_was() {
    let mut pc = Pc::cd();
    ask(&mut pc, &[0x1e, 0, 0, 0, 1], 0xfffe);
    assert!(!exchange(&mut pc, None));
    let cd = Medium::new(FRAMES * 2048 + 100, 3, true);
    pc.bench.world.has_cd = true;
    pc.bench.world.cd = cd.clone();
    pc.bench.restart();
    assert_eq!(frame(&mut pc, 7), cd.contents()[7 * 2048..8 * 2048]);
    ask(&mut pc, &[0x1e, 0, 0, 0, 0], 0xfffe);
    assert!(exchange(&mut pc, None));
}

#[test]
fn without_a_cd_the_tray_is_open_and_with_a_new_one_there_is_a_unit_attention() {
    let mut pc = Pc::cd();
    ask(&mut pc, &[0], 0xfffe);
    assert!(exchange(&mut pc, None));
    refused(&mut pc, &[0], [2, 0x3a, 2]);
    refused(&mut pc, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1], [2, 0x3a, 2]);
    let event = ask(&mut pc, &[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8], 0xfffe);
    assert_eq!((event[4], event[5]), (3, 1), "removed; the tray is open");
    let cd = another();
    assert!(exchange(&mut pc, Some(cd.clone())));
    refused(&mut pc, &[0], [6, 0x28, 0]);
    ask(&mut pc, &[0], 0xfffe);
    let event = ask(&mut pc, &[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8], 0xfffe);
    assert_eq!((event[4], event[5]), (2, 2), "a new one; present");
    assert_eq!(frame(&mut pc, 7), cd.contents()[7 * 2048..8 * 2048]);
    assert_eq!(ask(&mut pc, &[0x25], 0xfffe)[..4], (FRAMES as u32 - 101).to_be_bytes());
}

#[test]
fn a_transfer_does_not_go_on_with_the_new_cd() {
    for (cd, why) in [(Some(another()), [6, 0x28, 0]), (None, [2, 0x3a, 2])] {
        let mut pc = Pc::cd();
        // The last frames of the old CD, which the new one does not have.
        let first = (FRAMES as u32 - 8).to_be_bytes();
        send(&mut pc, &[0x28, 0, first[0], first[1], first[2], first[3], 0, 0, 8], 2048, 0);
        assert_eq!(pc.interrupt() & 8, 8);
        pc.load(100);
        assert!(exchange(&mut pc, cd));
        assert_eq!((pc.interrupt() & 0x89, pc.get(2) & 3), (0x01, 3), "it has failed");
        assert_eq!(super::packets::sense(&mut pc), why);
    }
}

#[test]
fn an_answer_that_is_being_read_is_read_to_its_end() {
    let mut pc = Pc::cd();
    send(&mut pc, &[0x12, 0, 0, 0, 36], 0xfffe, 0);
    assert_eq!(pc.interrupt() & 8, 8);
    let mut answer = pc.load(10);
    assert!(exchange(&mut pc, Some(another())));
    answer.extend(pc.load(26));
    assert_eq!((answer[0], &answer[8..16]), (5, &b"COFFERDM"[..]));
}

#[test]
fn a_disk_has_no_bay() {
    let mut pc = Pc::cd();
    pc.bench.exchange(0);
    ask(&mut pc, &[0], 0xfffe);
    pc.bench.exchange(200);
    ask(&mut pc, &[0], 0xfffe);
}
