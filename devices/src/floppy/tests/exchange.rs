//! Diskettes that are exchanged while the machine runs.

use super::*;

/// Another diskette, whose sectors differ from the first one's.
fn another() -> Image {
    let image = Image::new(1440 << 10);
    image.bytes.lock().unwrap().iter_mut().for_each(|byte| *byte = !*byte);
    image
}

fn exchange(pc: &mut Bench<Pc>, image: Option<Image>) {
    pc.world.setting = if image.is_some() { "writable" } else { "empty" };
    pc.world.a = image;
    assert!(pc.exchange(0), "nothing holds a diskette");
}

/// Reads the first sector of a cylinder by DMA: status registers, and what lies in memory then.
fn read(pc: &mut Bench<Pc>, cylinder: u8) -> (Vec<u8>, Vec<u8>) {
    pc.dma(TO_MEMORY, 0x4000, SECTOR_BYTES);
    pc.send(&[0x46, 0, cylinder, 0, 1, 2, 1, 0x1b, 0xff]);
    let result = pc.await_result();
    (result[..3].to_vec(), pc.world.memory(0x4000, SECTOR_BYTES))
}

#[test]
fn the_change_line_is_up_until_a_step_finds_a_diskette() {
    let mut pc = Bench::pc();
    pc.seek(1);
    assert_eq!(pc.inb(0x3f7), 0, "the diskette of power on has been found");
    exchange(&mut pc, None);
    assert_eq!(pc.inb(0x3f7), 0x80);
    pc.seek(2);
    assert_eq!(pc.inb(0x3f7), 0x80, "a step without a diskette leaves it up (2.1.6 \"DIR\")");
    exchange(&mut pc, Some(another()));
    pc.seek(2);
    assert_eq!(pc.inb(0x3f7), 0x80, "a seek to where the arm is makes no step");
    pc.seek(1);
    assert_eq!(pc.inb(0x3f7), 0);
    pc.outb(0x3f2, 0x1d);
    exchange(&mut pc, None);
    assert_eq!(pc.inb(0x3f7), 0x80, "drive B's line has been up all along");
}

#[test]
fn the_old_diskette_is_read_before_and_the_new_one_after() {
    let mut pc = Bench::pc();
    pc.seek(3);
    let sector = 3 * 36;
    assert_eq!(read(&mut pc, 3), (vec![0, 0, 0], Image::new(1440 << 10).sector(sector)));
    exchange(&mut pc, None);
    assert_eq!(read(&mut pc, 3).0, [0x40, 0x01, 0], "no address mark: no diskette");
    let other = another();
    exchange(&mut pc, Some(other.clone()));
    assert_eq!(read(&mut pc, 3), (vec![0, 0, 0], other.sector(sector)));
}

#[test]
fn a_diskette_of_another_format_is_what_it_is() {
    let mut pc = Bench::pc();
    exchange(&mut pc, Some(Image::new(720 << 10)));
    assert_eq!(read(&mut pc, 0).0, [0x40, 0x01, 0], "not at this rate");
    pc.outb(0x3f7, 2);
    assert_eq!(read(&mut pc, 0), (vec![0, 0, 0], pc.world.image().sector(0)));
}

#[test]
fn a_transfer_does_not_go_on_with_the_new_diskette() {
    let mut pc = Bench::pc();
    pc.without_dma();
    pc.send(&[0x45, 0, 0, 0, 1, 2, 18, 0x1b, 0xff]);
    for byte in 0..100 {
        assert_eq!(pc.msr() & 0xf0, 0xb0);
        pc.outb(0x3f5, byte);
    }
    let (old, new) = (pc.world.image().clone(), another());
    let before = (old.contents(), new.contents());
    exchange(&mut pc, Some(new.clone()));
    assert!(pc.int(), "the command has ended");
    assert_eq!(pc.result()[..3], [0x40, 0x01, 0]);
    assert_eq!((old.contents(), new.contents()), before, "nothing was written to either");
    assert_eq!(pc.msr(), 0x80);
}

#[test]
fn a_transfer_of_the_other_drive_is_not_disturbed() {
    let mut pc = Bench::pc();
    pc.without_dma();
    pc.send(&[0x46, 0, 0, 0, 1, 2, 1, 0x1b, 0xff]);
    assert_eq!(pc.msr() & 0xf0, 0xf0);
    assert!(pc.exchange(1));
    let bytes: Vec<u8> = (0..SECTOR_BYTES).map(|_| pc.inb(0x3f5)).collect();
    assert_eq!(bytes, pc.world.image().sector(0));
}
