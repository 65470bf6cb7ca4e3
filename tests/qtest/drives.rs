//! Drives where the arguments of the second name put them, and what is in them.

use crate::driven::{Machine, Program};
use crate::harness::{Place, wait_until};
use serde_json::json;

/// The words of an identity.
fn identity(machine: &mut Machine, base: u16, device: u8, command: u8) -> Vec<u16> {
    machine.ask(&format!("outb {:#x} {device}", base + 6));
    machine.ask(&format!("outb {:#x} {command}", base + 7));
    (0..256).map(|_| machine.number(&format!("inw {base:#x}")) as u16).collect()
}

fn text(words: &[u16]) -> String {
    let bytes = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    String::from_utf8(bytes).unwrap().trim_end().to_owned()
}

#[test]
fn each_drive_is_at_its_place_and_says_what_it_was_told_to() {
    let place = Place::new();
    let (disk, cd) = (place.file("disk", &[0; 1 << 20]), place.file("cd", &[0; 64 << 10]));
    let words = [
        "-nodefaults",
        "-drive",
        &format!("if=none,id=d,format=raw,file={}", disk.display()),
        "-device",
        "ide-hd,drive=d,bus=ide.1,unit=1,serial=number,model=modest,cyls=40,heads=10,secs=5",
        "-global",
        "ide-hd.ver=version",
        "-blockdev",
        &format!("driver=file,node-name=f,filename={}", cd.display()),
        "-blockdev",
        r#"{"driver":"raw","node-name":"c","file":"f","read-only":true}"#,
        "-device",
        "ide-cd,drive=c,bus=ide.0,id=reader",
    ];
    let mut program = Program::start(&place, &words);
    let words = identity(&mut program.test, 0x170, 0xb0, 0xec);
    assert_eq!([words[1], words[3], words[6]], [40, 10, 5]);
    assert_eq!(
        [words[69] & 0x4020, words[105], words[169] & 1],
        [0, 8, 1],
        "TRIM, after which nothing is said of sectors"
    );
    assert_eq!([text(&words[10..20]), text(&words[23..27]), text(&words[27..47])], ["number", "version", "modest"]);
    assert_eq!(identity(&mut program.test, 0x1f0, 0xa0, 0xa1)[0] >> 8, 0x85);
    let blocks = program.execute("query-block", json!({}));
    let names: Vec<&str> =
        blocks["return"].as_array().unwrap().iter().filter_map(|one| one["device"].as_str()).collect();
    assert_eq!(names, ["floppy0", "floppy1", "c", "ide1-hd1"]);
    assert_eq!(blocks["return"][3]["inserted"]["image"]["virtual-size"], 1 << 20);
    let text = program.execute("human-monitor-command", json!({ "command-line": "info block" }));
    assert!(text["return"].as_str().unwrap().contains(&*cd.display().to_string()), "{text}");
    assert_eq!(program.execute("eject", json!({ "id": "reader" })), json!({ "return": {} }));
    let moved = program.event("DEVICE_TRAY_MOVED");
    assert_eq!(moved, json!({ "device": "c", "id": "reader", "tray-open": true }));
}

#[test]
fn a_function_is_in_the_slot_that_it_was_given() {
    let place = Place::new();
    let disk = place.file("disk", &[0; 1 << 20]);
    let words = [
        "-drive",
        &format!("if=none,id=v,format=raw,file={}", disk.display()),
        "-device",
        "rtl8139",
        "-device",
        "virtio-blk-pci,drive=v,addr=04.0",
        "-device",
        "pvpanic-pci,addr=0x2",
    ];
    let mut program = Program::start(&place, &words);
    let mut identity = |slot: u32| {
        program.test.ask(&format!("outl 0xcf8 {:#x}", 0x8000_0000 | slot << 11));
        program.test.number("inl 0xcfc")
    };
    assert_eq!([identity(2), identity(3), identity(4)], [0x0011_1b36, 0x8139_10ec, 0x1042_1af4]);
    let told = program.execute("query-pci", json!({}));
    let functions = told["return"][0]["devices"].as_array().unwrap();
    let places: Vec<_> = functions.iter().map(|one| [&one["slot"], &one["function"], &one["id"]["device"]]).collect();
    for place in [[0, 0, 0x1237], [1, 0, 0x7000], [1, 1, 0x7010], [2, 0, 0x0011], [3, 0, 0x8139], [4, 0, 0x1042]] {
        assert!(places.contains(&[&json!(place[0]), &json!(place[1]), &json!(place[2])]), "{place:?}: {places:?}");
    }
    let card = functions.iter().find(|one| one["slot"] == 3).unwrap();
    assert_eq!((&card["regions"][0]["type"], &card["regions"][0]["size"]), (&json!("io"), &json!(256)), "{card}");
}

#[test]
fn a_diskette_that_comes_while_it_runs_is_noticed_with_the_next_step() {
    const CHANGED: u64 = 0x80;
    let place = Place::new();
    let diskette = place.file("diskette", &[0; 1440 << 10]);
    let mut program = Program::start(&place, &["-device", "floppy,id=fd", "-nodefaults"]);
    program.test.ask("outb 0x3f2 0x1c");
    let seek = |program: &mut Program, cylinder: u8| {
        for byte in [0x0f, 0, cylinder] {
            program.test.ask(&format!("outb 0x3f5 {byte}"));
        }
        // It may take its time.
        wait_until("the seek is over", || {
            program.test.ask("clock_step 10000000");
            program.test.ask("outb 0x3f5 8");
            [program.test.number("inb 0x3f5"), program.test.number("inb 0x3f5")][0] & 0x20 != 0
        });
    };
    assert_eq!(program.test.number("inb 0x3f7") & CHANGED, CHANGED);
    let asked = json!({ "id": "fd", "filename": diskette, "format": "raw" });
    assert_eq!(program.execute("blockdev-change-medium", asked), json!({ "return": {} }));
    assert_eq!(program.test.number("inb 0x3f7") & CHANGED, CHANGED, "until the head steps");
    seek(&mut program, 1);
    assert_eq!(program.test.number("inb 0x3f7") & CHANGED, 0);
    assert_eq!(program.execute("eject", json!({ "id": "fd", "force": true })), json!({ "return": {} }));
    seek(&mut program, 0);
    assert_eq!(program.test.number("inb 0x3f7") & CHANGED, CHANGED, "nothing is in it");
}
