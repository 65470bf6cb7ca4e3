//! What firmware is told by the arguments of the second name.

use crate::driven::Program;
use crate::harness::Place;
use serde_json::json;

#[test]
fn the_order_of_boot_is_in_the_clock_s_memory_and_another_after_a_reset() {
    let cases: [(&[&str], [u64; 2], [u64; 2]); 6] = [
        (&[], [0x30, 0x12], [0x30, 0x12]),
        (&["-no-fd-bootchk"], [0x31, 0x12], [0x31, 0x12]),
        (&["-boot", "nda"], [0x10, 0x34], [0x10, 0x34]),
        (&["-boot", "order=", "-boot", "order=c"], [0, 0x02], [0, 0x02]),
        (&["-boot", "once=a"], [0, 0x01], [0x30, 0x12]),
        (&["-boot", "once=d,order=nda"], [0, 0x03], [0x10, 0x34]),
    ];
    for (words, first, then) in cases {
        let place = Place::new();
        let mut program = Program::start(&place, words);
        let order = |program: &mut Program| [program.test.cmos(0x38), program.test.cmos(0x3d)];
        assert_eq!(order(&mut program), first, "{words:?}");
        program.execute("system_reset", json!({}));
        assert_eq!(program.event("RESET")["reason"], "host-qmp-system-reset");
        assert_eq!(order(&mut program), then, "{words:?}");
    }
}

#[test]
fn memory_drives_and_processors_are_in_the_clock_s_memory() {
    let place = Place::new();
    let disk = place.file("disk", &[0; 10 << 20]);
    let words = ["-m", "64", "-smp", "3", "-drive", &format!("file={},format=raw,index=0", disk.display())];
    let mut program = Program::start(&place, &words);
    let mut bytes = |from: u8, count: u8| (from..from + count).map(|at| program.test.cmos(at)).collect::<Vec<u64>>();
    assert_eq!(bytes(0x34, 2), [0x00, 0x03]);
    assert_eq!(bytes(0x5f, 1), [2]);
    assert_eq!(bytes(0x10, 1), [0x40], "a diskette drive, as PCs have one");
    assert_eq!(bytes(0x12, 1), [0xf0]);
    assert_eq!(bytes(0x19, 11), [47, 0, 20, 0, 16, 0xff, 0xff, 0xc8, 20, 0, 63]);
}

#[test]
fn the_configuration_device_tells_how_to_boot() {
    let place = Place::new();
    let words = [
        "-boot",
        "menu=on,splash-time=12,reboot-timeout=15",
        "-smp",
        "2,maxcpus=4",
        "-nographic",
        "-uuid",
        "4600cb32-38ec-4b2f-8acb-81c6ea54f2d8",
    ];
    let mut program = Program::start(&place, &words);
    let mut select = |selector: u64, bytes: usize| {
        program.test.ask(&format!("outw 0x510 {selector}"));
        (0..bytes).map(|_| program.test.number("inb 0x511") as u8).collect::<Vec<u8>>()
    };
    let words = [4, 5, 14, 15].map(|selector| select(selector, 2));
    assert_eq!(words, [[1, 0], [2, 0], [1, 0], [4, 0]], "no display, processors, a menu, most processors");
    assert_eq!(select(2, 4), [0x46, 0x00, 0xcb, 0x32]);
    let count = u32::from_be_bytes(select(0x19, 4).try_into().unwrap()) as usize;
    let directory = select(0x19, 4 + 64 * count);
    for (name, content) in [("etc/boot-menu-wait", &[12, 0][..]), ("etc/boot-fail-wait", &[15, 0, 0, 0])] {
        let entry = directory[4..].chunks(64).find(|entry| entry[8..].starts_with(name.as_bytes())).unwrap();
        let selector = u16::from_be_bytes([entry[4], entry[5]]);
        assert_eq!(select(selector.into(), content.len()), content, "{name}");
    }
}
