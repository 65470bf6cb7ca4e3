//! Diskettes and CDs that are exchanged while the machine runs, with real processes.

#[path = "harness/driven.rs"]
mod driven;
mod harness;

use driven::{Machine, Program};
use harness::{Place, idle_guest, kvm, text, wait_until};
use serde_json::json;
use std::path::{Path, PathBuf};

const DISKETTE: usize = 1440 << 10;
const CD: usize = 64 << 11;

/// What a sector is read with: without DMA nothing says that it was the last, and the end of the track does.
const WHOLE: [u8; 3] = [0x40, 0x80, 0];

/// An image all of whose bytes are the same.
fn image(place: &Place, name: &str, bytes: usize, byte: u8) -> PathBuf {
    place.file(name, &vec![byte; bytes])
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A guest that knows the floppy controller, without DMA.
trait Diskettes {
    fn get(&mut self, port: u16) -> u64;
    fn put(&mut self, port: u16, value: u8);

    fn begin(&mut self) {
        self.put(0x3f2, 0x1c);
        self.floppy(&[0x03, 0xdf, 0x03]);
    }

    fn floppy(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.put(0x3f5, *byte));
    }

    /// Whether the line says that the diskette was changed.
    fn changed(&mut self) -> bool {
        self.get(0x3f7) & 0x80 != 0
    }

    fn seek(&mut self, cylinder: u8) {
        self.floppy(&[0x0f, 0, cylinder]);
        self.floppy(&[0x08]);
        assert_eq!((self.get(0x3f5), self.get(0x3f5)), (0x20, cylinder.into()));
    }

    /// Of the first sector of a cylinder, how many bytes come and which byte they all are; then the status registers.
    fn read(&mut self, cylinder: u8) -> (usize, u8, Vec<u8>) {
        self.floppy(&[0x46, 0, cylinder, 0, 1, 2, 1, 0x1b, 0xff]);
        let mut bytes = Vec::new();
        while self.get(0x3f4) & 0xf0 == 0xf0 {
            bytes.push(self.get(0x3f5) as u8);
        }
        let first = bytes.first().copied().unwrap_or(0);
        assert!(bytes.iter().all(|byte| *byte == first));
        (bytes.len(), first, self.result())
    }

    fn result(&mut self) -> Vec<u8> {
        let mut result = Vec::new();
        while self.get(0x3f4) & 0xf0 == 0xd0 {
            result.push(self.get(0x3f5) as u8);
        }
        result.truncate(3);
        result
    }
}

impl Diskettes for Machine {
    fn get(&mut self, port: u16) -> u64 {
        self.number(&format!("inb {port:#x}"))
    }
    fn put(&mut self, port: u16, value: u8) {
        assert_eq!(self.ask(&format!("outb {port:#x} {value:#x}")), "");
    }
}

/// One that knows the CD-ROM drive of the second cable.
trait Cds: Diskettes {
    fn word(&mut self) -> u64;
    fn put_word(&mut self, value: u16);

    /// Sends a packet; what comes, and the error register.
    fn packet(&mut self, packet: &[u8]) -> (Vec<u8>, u64) {
        for (port, value) in [(0x176, 0xa0), (0x171, 0), (0x174, 0), (0x175, 8), (0x177, 0xa0)] {
            self.put(port, value);
        }
        let mut whole = [0; 12];
        whole[..packet.len()].copy_from_slice(packet);
        whole.chunks(2).for_each(|pair| self.put_word(u16::from_le_bytes([pair[0], pair[1]])));
        let mut bytes = Vec::new();
        while self.get(0x177) & 0x08 != 0 {
            let count = self.get(0x174) | self.get(0x175) << 8;
            for _ in 0..count.div_ceil(2) {
                bytes.extend((self.word() as u16).to_le_bytes());
            }
        }
        let error = if self.get(0x177) & 1 != 0 { self.get(0x171) } else { 0 };
        (bytes, error)
    }

    /// Sense key, additional code and qualifier.
    fn sense(&mut self) -> [u8; 3] {
        let (answer, _) = self.packet(&[0x03, 0, 0, 0, 18]);
        [answer[2], answer[12], answer[13]]
    }

    fn frame(&mut self) -> Vec<u8> {
        self.packet(&[0x28, 0, 0, 0, 0, 3, 0, 0, 1]).0
    }
}

impl Cds for Machine {
    fn word(&mut self) -> u64 {
        self.number("inw 0x170")
    }
    fn put_word(&mut self, value: u16) {
        self.ask(&format!("outw 0x170 {value:#x}"));
    }
}

/// What the monitor refuses with.
fn refusal(program: &mut Program, command: &str, arguments: serde_json::Value) -> String {
    let answer = program.execute(command, arguments);
    answer["error"]["desc"].as_str().unwrap_or_else(|| panic!("not refused: {answer}")).to_owned()
}

#[test]
fn what_is_no_diskette_is_refused_in_a_sentence_and_the_old_one_stays() {
    let place = Place::new();
    let first = image(&place, "first", DISKETTE, 0x11);
    let odd = image(&place, "odd", 1000, 0x22);
    let large = image(&place, "large", (2880 << 10) + 512, 0x33);
    let drive = format!("if=floppy,id=mine,file={}", shown(&first));
    let mut program = Program::start(&place, &["-drive", &drive]);
    program.test.begin();
    program.test.seek(1);
    for (path, said) in [
        (&odd, "1000 bytes"),
        (&large, "2949632 bytes is no diskette"),
        (&place.path("none"), "cannot be opened"),
        (&first, "is in a drive of this machine already; eject it first"),
    ] {
        let arguments = json!({ "id": "mine", "filename": shown(path) });
        let why = refusal(&mut program, "blockdev-change-medium", arguments);
        assert!(why.contains(said), "{why}");
    }
    let unknown = refusal(&mut program, "eject", json!({ "device": "floppy7" }));
    assert_eq!(unknown, "Device 'floppy7' not found");
    assert!(!program.test.changed());
    assert_eq!(program.test.read(1), (512, 0x11, WHOLE.to_vec()));
    assert_eq!(program.terminate(), Some(0));
}

#[test]
fn a_guest_reads_the_old_diskette_sees_the_change_line_and_reads_the_new_one() {
    for words in [&["-S"][..], &["-sandbox", "on"]] {
        let place = Place::new();
        let (first, second) = (image(&place, "first", DISKETTE, 0x11), image(&place, "second", 720 << 10, 0x22));
        let mut program = Program::start(&place, &[&["-fda", first.to_str().unwrap()], words].concat());
        program.test.begin();
        program.test.seek(1);
        assert_eq!(program.test.read(1), (512, 0x11, WHOLE.to_vec()));
        let block = program.execute("query-block", json!({}));
        assert_eq!(block["return"][0]["inserted"]["file"], shown(&first));
        assert_eq!(program.execute("eject", json!({ "device": "floppy0" })), json!({ "return": {} }));
        assert!(program.test.changed());
        assert_eq!(program.test.read(1), (0, 0, vec![0x40, 0x01, 0]), "no diskette");
        program.test.seek(2);
        assert!(program.test.changed(), "there is none to be found");
        let arguments = json!({ "device": "floppy0", "filename": shown(&second), "read-only-mode": "read-only" });
        assert_eq!(program.execute("blockdev-change-medium", arguments), json!({ "return": {} }));
        program.test.seek(1);
        assert!(!program.test.changed());
        // Another density.
        program.test.put(0x3f7, 2);
        assert_eq!(program.test.read(1), (512, 0x22, WHOLE.to_vec()));
        program.test.floppy(&[0x45, 0, 1, 0, 1, 2, 1, 0x1b, 0xff]);
        assert_eq!(program.test.result(), [0x40, 0x02, 0], "it may only be read");
        // A reset is a new machine, with the diskette that is there now.
        program.execute("system_reset", json!({}));
        program.event("RESET");
        program.test.begin();
        program.test.put(0x3f7, 2);
        program.test.seek(1);
        assert_eq!(program.test.read(1), (512, 0x22, WHOLE.to_vec()));
        assert_eq!(program.terminate(), Some(0));
        assert_eq!(std::fs::read(&first).unwrap(), vec![0x11; DISKETTE]);
    }
}

#[test]
fn a_transfer_ends_with_the_diskette_and_nothing_of_it_reaches_the_next() {
    let place = Place::new();
    let (first, second) = (image(&place, "first", DISKETTE, 0x11), image(&place, "second", DISKETTE, 0x22));
    let mut program = Program::start(&place, &["-fda", first.to_str().unwrap()]);
    program.test.begin();
    program.test.ask("irq_intercept_in ioapic");
    program.test.floppy(&[0x45, 0, 0, 0, 1, 2, 18, 0x1b, 0xff]);
    for _ in 0..600 {
        program.test.put(0x3f5, 0xee);
    }
    let arguments = json!({ "device": "floppy0", "filename": shown(&second) });
    assert_eq!(program.execute("blockdev-change-medium", arguments), json!({ "return": {} }));
    assert_eq!(program.test.result(), [0x40, 0x01, 0]);
    program.test.floppy(&[0x46, 0, 0, 0, 1, 2, 1, 0x1b, 0xff]);
    assert_eq!(program.test.get(0x3f5), 0x22);
    assert_eq!(program.terminate(), Some(0));
    let first = std::fs::read(&first).unwrap();
    assert!(first[..512].iter().all(|byte| *byte == 0xee) && first[512..].iter().all(|byte| *byte == 0x11));
    assert_eq!(std::fs::read(&second).unwrap(), vec![0x22; DISKETTE]);
}

#[test]
fn a_cd_that_the_guest_holds_stays_unless_it_is_forced_out() {
    let place = Place::new();
    let (first, second) = (image(&place, "first", CD, 0x11), image(&place, "second", CD / 2, 0x22));
    let mut program = Program::start(&place, &["-cdrom", first.to_str().unwrap()]);
    assert_eq!(program.test.frame(), vec![0x11; 2048]);
    program.test.packet(&[0x1e, 0, 0, 0, 1]);
    let held = refusal(&mut program, "eject", json!({ "device": "ide1-cd0" }));
    assert!(held.contains("holds the medium"), "{held}");
    assert_eq!(program.test.frame(), vec![0x11; 2048], "nothing has happened");
    let arguments = json!({ "device": "ide1-cd0", "filename": shown(&second), "force": true });
    assert_eq!(program.execute("blockdev-change-medium", arguments), json!({ "return": {} }));
    assert_eq!(program.test.packet(&[0]).1, 0x60);
    assert_eq!(program.test.sense(), [6, 0x28, 0], "a medium may have changed");
    assert_eq!(program.test.frame(), vec![0x22; 2048]);
    assert_eq!(program.execute("eject", json!({ "id": "cdrom0" })), json!({ "return": {} }));
    assert_eq!(program.event("DEVICE_TRAY_MOVED")["tray-open"], true);
    assert_eq!(program.test.packet(&[0]).1, 0x20);
    assert_eq!(program.test.sense(), [2, 0x3a, 2], "no medium, and the tray is open");
    assert_eq!(program.terminate(), Some(0));
}

#[test]
fn an_iso_that_is_cut_short_has_the_frames_that_are_whole() {
    let place = Place::new();
    let short = image(&place, "short", 3 * 2048 + 777, 0x11);
    let mut program = Program::start(&place, &["-cdrom", short.to_str().unwrap()]);
    let (capacity, _) = program.test.packet(&[0x25]);
    assert_eq!(capacity[..4], 2u32.to_be_bytes());
    assert_eq!(program.test.packet(&[0x28, 0, 0, 0, 0, 2, 0, 0, 1]).0, vec![0x11; 2048]);
    assert_eq!(program.test.packet(&[0x28, 0, 0, 0, 0, 3, 0, 0, 1]), (vec![], 0x50));
    assert_eq!(program.test.sense(), [5, 0x21, 0]);
    // Cut shorter while it is read: the frame is an error, and the drive goes on.
    std::fs::File::options().write(true).open(&short).unwrap().set_len(2048).unwrap();
    assert_eq!(program.test.packet(&[0x28, 0, 0, 0, 0, 2, 0, 0, 1]), (vec![], 0x30));
    assert_eq!(program.test.sense(), [3, 0x11, 0], "unrecovered read error");
    assert_eq!(program.test.packet(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1]).0, vec![0x11; 2048]);
    assert_eq!(program.terminate(), Some(0));
}

/// Whether a process has this file open.
fn holds(pid: i64, path: &Path) -> bool {
    let Ok(fds) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    fds.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|target| target == path))
}

#[test]
fn an_operator_exchanges_media_of_a_sealed_host_that_holds_the_new_one_alone() {
    if !kvm() {
        return;
    }
    for words in [&["--sandbox", "seccomp"][..], &["--isolate", "class"], &["--carrier", "socket"]] {
        let place = Place::new();
        let (first, second) = (image(&place, "first", DISKETTE, 0x11), image(&place, "second", DISKETTE, 0x22));
        let drives = ["--floppy", first.to_str().unwrap(), "--floppy", "none", "--cdrom", "none"];
        let vm = place.start("idle", &idle_guest(), &[&drives, words].concat());
        vm.wait_until_running();
        let row = || vm.host(if words[0] == "--isolate" { "block" } else { "floppy" });
        let before = row();
        assert!(holds(before["pid"].as_i64().unwrap(), &first));
        let output = place.run(&["insert", "idle", "floppy0", second.to_str().unwrap()]);
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
        let after = row();
        let pid = after["pid"].as_i64().unwrap();
        assert_ne!(before["pid"], after["pid"]);
        assert!(holds(pid, &second) && !holds(pid, &first), "{words:?}");
        assert_eq!((&after["state"], &after["restarts"]), (&json!("running"), &json!(0)), "it is no restart");
        assert_eq!(after["differences"], json!([]), "{words:?}: {after:#}");
        // The old one is free again.
        assert!(place.run(&["insert", "idle", "floppy1", &format!("{},readonly", shown(&first))]).status.success());
        assert!(place.run(&["eject", "idle", "floppy0"]).status.success());
        let pid = row()["pid"].as_i64().unwrap();
        assert!(holds(pid, &first) && !holds(pid, &second), "{words:?}");
        for (asked, said) in [
            (&["eject", "idle", "drawer"][..], "there is no such drive; there are floppy0, floppy1, cdrom0"),
            (&["insert", "idle", "cdrom0", "/nowhere"], "cannot be opened"),
        ] {
            let output = place.run(asked);
            let fails = !output.status.success() && text(&output.stderr).contains(said);
            assert!(fails, "{asked:?}: {}", text(&output.stderr));
        }
        // A reset is a new machine with what is in the drives now.
        assert!(place.run(&["reset", "idle"]).status.success());
        wait_until("the new machine has the diskette", || {
            row()["pid"].as_i64().is_some_and(|now| now != pid && holds(now, &first))
        });
    }
}

#[test]
fn at_level_strict_the_helper_has_the_medium() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let first = image(&place, "first", DISKETTE, 0x11);
    let words = ["--floppy", "none", "--sandbox", "strict"];
    let vm = place.start("idle", &idle_guest(), &words);
    vm.wait_until_running();
    let output = place.run(&["insert", "idle", "floppy0", first.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows = vm.hosts();
    let holders: Vec<&str> = rows
        .iter()
        .filter(|row| row["pid"].as_i64().is_some_and(|pid| holds(pid, &first)))
        .filter_map(|row| row["name"].as_str())
        .collect();
    assert_eq!(holders, ["floppy helper"], "{rows:#?}");
    assert!(place.run(&["eject", "idle", "floppy0"]).status.success());
    assert!(vm.hosts().iter().all(|row| row["differences"] == json!([])));
}

#[test]
fn devices_that_are_linked_into_the_vmm_keep_their_media() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let vm = place.start("idle", &idle_guest(), &["--floppy", "none", "--isolate", "none"]);
    vm.wait_until_running();
    let output = place.run(&["eject", "idle", "floppy0"]);
    assert!(text(&output.stderr).contains("--isolate none"), "{}", text(&output.stderr));
}
