//! The same untimed accesses, made to our devices and to those of another machine, and each difference explained.
//!
//! The other machine is Debian's QEMU, whose processor is stopped and which answers the same protocol. A difference that
//! `docs/oracle.md` does not explain, by the section of the data sheet that decides it, is a failure; so is an explanation
//! without a difference. What QEMU does is seen from outside alone.

#[path = "oracle/accesses.rs"]
mod accesses;
#[path = "oracle/board.rs"]
mod board;
#[path = "oracle/context.rs"]
mod context;
#[path = "oracle/differences.rs"]
mod differences;
#[path = "oracle/display.rs"]
mod display;
#[path = "oracle/floppy.rs"]
mod floppy;
mod harness;
#[path = "oracle/ide.rs"]
mod ide;
#[path = "oracle/machine.rs"]
mod machine;
#[path = "oracle/rtl8139.rs"]
mod rtl8139;

use accesses::Random;
use context::{Context, Seen};
use differences::{DIFFERENCES, Difference};
use harness::{Place, root};
use machine::{Access, Machine, Whose};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Accesses to each device.
const COUNT: usize = 100_000;
/// Those between which time passes, the world's for the oracle.
const COUNT_IN_TIME: usize = 1000;
/// The time at which both clocks stand.
const TIME: &str = "2001-02-28T23:59:58";
/// The network card's.
const ADDRESS: &str = "52:54:00:12:34:56";
/// The instruction of a processor that has nothing to do, and bytes of firmware that has no other.
const HALT: u8 = 0xf4;
const FIRMWARE_BYTES: usize = 64 << 10;
/// Kinds of differences that are shown when they have no reason.
const KINDS_SHOWN: usize = 50;
/// Accesses that are shown before one that differs.
const SHOWN: usize = 12;

/// The media that both machines have, each its own copy.
struct Media {
    diskette: PathBuf,
    disk: PathBuf,
    cd: PathBuf,
}

impl Media {
    fn new(place: &Place, whose: &str) -> Media {
        let image = |name: &str, sectors: u64| {
            let content: Vec<u8> = (0..sectors * 64).flat_map(|word| (word * 0x0101_0307).to_le_bytes()).collect();
            place.file(&format!("{whose}-{name}"), &content)
        };
        Media { diskette: image("diskette", 2880), disk: image("disk", 8192), cd: image("cd", 256) }
    }
}

fn ours(place: &Place) -> Machine {
    let Media { diskette, disk, cd } = Media::new(place, "ours");
    let mut command = place.cofferdam();
    // The display has the first slot, and the card the second.
    command.args(["qtest", "--memory", "64M", "--rtc", TIME, "--device", "pvpanic", "--device", "ib700"]).args([
        "--device",
        "vga",
        "--device",
        &format!("rtl8139,cplus,mac={ADDRESS}"),
    ]);
    command.arg("--floppy").arg(diskette).arg("--ide").arg(disk).arg("--cdrom").arg(cd).stderr(Stdio::null());
    Machine::start(command, Whose::Ours)
}

/// What the oracle's processor does meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Processor {
    /// It is stopped, and time stands still.
    Stopped,
    /// It has begun, and halted: time goes on, which some commands take.
    Halted,
}

fn theirs(place: &Place, processor: Processor) -> Machine {
    let Media { diskette, disk, cd } = Media::new(place, "theirs");
    let mut command = Command::new("qemu-system-x86_64");
    let drive =
        |interface: &str, file: &Path, more: &str| format!("format=raw,file={},{interface}{more}", file.display());
    command
        .args(["-accel", "tcg", "-machine", "pc", "-m", "64", "-nodefaults", "-display", "none"])
        .args(["-rtc", &format!("base={TIME},clock=vm"), "-serial", "null", "-parallel", "null", "-vga", "std"])
        .args(["-device", &format!("rtl8139,addr={},mac={ADDRESS}", rtl8139::SLOT)])
        .args(["-device", "pvpanic", "-device", "ib700", "-qtest", "stdio", "-qtest-log", "/dev/null"])
        .args(["-drive", &drive("if=floppy", &diskette, "")])
        .args(["-drive", &drive("if=ide,index=0", &disk, "")])
        .args(["-drive", &drive("if=ide,index=2", &cd, ",media=cdrom")])
        .stderr(Stdio::null());
    match processor {
        Processor::Stopped => command.arg("-S"),
        Processor::Halted => command.arg("-bios").arg(place.file("halt", &[HALT; FIRMWARE_BYTES])),
    };
    Machine::start(command, Whose::Theirs)
}

/// Plays the same to both and holds each difference against the table.
fn compare(device: &'static str, input: u32, generate: fn(&mut Random, usize) -> Vec<Access>) {
    compare_beside(Processor::Stopped, device, input, COUNT, generate);
}

fn compare_beside(
    processor: Processor,
    device: &'static str,
    input: u32,
    count: usize,
    generate: fn(&mut Random, usize) -> Vec<Access>,
) {
    if Command::new("qemu-system-x86_64").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("SKIPPED: there is no qemu-system-x86_64 to compare with");
        return;
    }
    let place = Place::new();
    let accesses = generate(&mut Random(1), count);
    assert!(accesses.len() >= count);
    let (mut ours, mut theirs) = (ours(&place), theirs(&place, processor));
    let (own, other) = std::thread::scope(|scope| {
        let other = scope.spawn(|| theirs.play(&accesses));
        (ours.play(&accesses), other.join().expect("it answers"))
    });
    let mut context = Context::default();
    let mut used: BTreeSet<&str> = BTreeSet::new();
    let (mut unexplained, mut kinds) = (BTreeSet::new(), BTreeMap::new());
    for (at, access) in accesses.iter().enumerate() {
        context.note(access);
        let seen = Seen {
            ours: own[at].value,
            theirs: other[at].value,
            our_level: own[at].inputs >> input & 1 != 0,
            their_level: other[at].inputs >> input & 1 != 0,
        };
        if seen.ours == seen.theirs && seen.our_level == seen.their_level {
            continue;
        }
        match DIFFERENCES.iter().find(|one| one.device == device && (one.is_it)(&context, access, &seen)) {
            Some(Difference { name, .. }) => drop(used.insert(name)),
            None => {
                let (count, _) = kinds.entry(context.kind(access, &seen)).or_insert((0, (seen.ours, seen.theirs)));
                *count += 1;
                unexplained.insert(at);
            }
        }
    }
    if let Some(at) = unexplained.first() {
        for at in at.saturating_sub(SHOWN)..=*at {
            println!("{:<22} ours {:x?} theirs {:x?}", accesses[at].line(Whose::Ours).trim_end(), own[at], other[at]);
        }
        for (kind, (count, (ours, theirs))) in kinds.iter().take(KINDS_SHOWN) {
            println!("{count:>6} of {kind}: {ours:#x} is {theirs:#x}");
        }
        panic!("{device}: {} of {} accesses differ without a reason", unexplained.len(), accesses.len());
    }
    let table: BTreeSet<&str> = DIFFERENCES.iter().filter(|one| one.device == device).map(|one| one.name).collect();
    assert_eq!(used, table, "{device}: a difference that is explained and is none");
}

#[test]
fn the_page_explains_every_difference_of_the_table() {
    let page = std::fs::read_to_string(root().join("docs/oracle.md")).expect("the page");
    for Difference { device, name, .. } in DIFFERENCES {
        assert!(
            page.contains(&format!("| `{device}` | {name} |")),
            "docs/oracle.md does not explain: {device}: {name}"
        );
    }
}

#[test]
fn the_clock_answers_as_the_oracle_does() {
    compare("mc146818", 8, accesses::mc146818);
}

#[test]
fn the_serial_port_answers_as_the_oracle_does() {
    compare("uart16550", 4, accesses::uart16550);
}

#[test]
fn the_parallel_port_answers_as_the_oracle_does() {
    compare("parallel", 7, accesses::parallel);
}

#[test]
fn the_keyboard_controller_answers_as_the_oracle_does() {
    compare("i8042", 1, accesses::i8042);
}

#[test]
fn the_panic_device_answers_as_the_oracle_does() {
    compare("pvpanic", 31, accesses::pvpanic);
}

#[test]
fn the_watchdog_answers_as_the_oracle_does() {
    compare("ib700", 31, accesses::ib700);
}

#[test]
fn the_timer_answers_as_the_oracle_does() {
    compare("i8254", 31, board::i8254);
}

#[test]
fn the_timer_s_counts_end_as_the_oracle_s_do() {
    compare_beside(Processor::Halted, "i8254 (in time)", 0, COUNT_IN_TIME, board::i8254_in_time);
}

#[test]
fn the_interrupt_controllers_answer_as_the_oracle_does() {
    compare("i8259", 31, board::i8259);
}

#[test]
fn the_io_apic_answers_as_the_oracle_does() {
    compare("ioapic", 31, board::ioapic);
}

#[test]
fn the_floppy_controller_answers_as_the_oracle_does() {
    compare_beside(Processor::Halted, "floppy", 6, COUNT, floppy::floppy);
}

#[test]
fn the_disk_answers_as_the_oracle_does() {
    compare("piix-ide (disk)", 14, ide::disk);
}

#[test]
fn the_cd_rom_drive_answers_as_the_oracle_does() {
    compare("piix-ide (cdrom)", 15, ide::cd);
}

#[test]
fn the_display_answers_as_the_oracle_does() {
    compare("vga", 31, display::vga);
}

#[test]
fn the_firmware_configuration_answers_as_the_oracle_does() {
    compare("fw-cfg", 31, display::fw_cfg);
}

#[test]
fn the_network_card_answers_as_the_oracle_does() {
    compare("rtl8139", rtl8139::INPUT, rtl8139::accesses);
}
