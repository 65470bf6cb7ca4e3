//! History re-enacted: a guest breaks into its floppy controller as CVE-2015-3456 allowed, and wants out of there.
//!
//! The controller is `broken_floppy.rs`, the guest `guests/venom.s`. It makes the same calls in its device's process each time;
//! what they reach is seen from outside. Without a sandbox they reach everything, or it would prove nothing that with one they
//! reach nothing.

mod harness;

use harness::{Place, Vm, kvm, lives, root, text, tick_guest, venom_aim, venom_guest, wait_until};
use sandbox::End;
use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the guest is after, as it knows it.
#[derive(Clone, Copy)]
enum Aim {
    Leave = 0,
    Disk = 1,
    Network = 2,
    Vmm = 3,
}

/// The controller sealed, and how its host ends when it makes a call that it was not left: by its filter, and in mode 1.
const SEALED: [(&str, End); 2] =
    [("seccomp", End::Killed(libc::SIGSYS)), ("seccomp,debug-exit=strict", End::Killed(libc::SIGKILL))];
/// What the guest leaves where it gets.
const MARK: &[u8] = b"ESCAPED\0";
/// Where the guest has its canary is a call that fails: all ones.
const FAILED: u64 = u64::MAX;
/// "the carn", as a number.
const CANARY: u64 = 0x6e72_6163_2065_6874;

/// What became of an attempt.
struct Attempt {
    /// The other disk, the listener or the canary was reached.
    reached: bool,
    /// What the calls returned, in the guest's words.
    answers: Vec<u64>,
    /// What the supervisor said.
    errors: String,
}

fn floppy() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_cofferdam")).with_file_name("examples").join("broken_floppy");
    assert!(path.exists(), "{} is built with the tests", path.display());
    path
}

/// The guest, with its aim and what everybody can know of the controller's program; then one that drives all devices.
fn guest(aim: Aim, disk: &Path, port: u16) -> Vec<u8> {
    let printed = Command::new(floppy()).output().expect("the program runs").stdout;
    let distance: i64 = text(&printed).trim().parse().expect("a number");
    // `struct sockaddr_in`: family, port and address, the last two in network order.
    let mut address = Vec::from((libc::AF_INET as u16).to_ne_bytes());
    address.extend(port.to_be_bytes());
    address.extend([127, 0, 0, 1]);
    let mut code = venom_guest();
    code.truncate(code.len() - venom_aim().len());
    code.extend((aim as u64).to_le_bytes());
    code.extend(distance.to_le_bytes());
    code.extend(address);
    let path = disk.to_str().expect("a path").as_bytes();
    let room = venom_guest().len() - code.len();
    assert!(path.len() < room, "the guest has room for {room} bytes");
    code.extend(path);
    code.resize(venom_guest().len(), 0);
    code.extend(tick_guest());
    code
}

/// Numbers that the guest tells behind this letter.
fn told(vm: &Vm<'_>, letter: char) -> Vec<u64> {
    let console = text(&vm.console());
    let numbers = console.lines().filter_map(|line| line.strip_prefix(letter));
    numbers.filter_map(|number| u64::from_str_radix(number, 16).ok()).collect()
}

/// Lets the guest try, and looks at everything from outside. Afterwards guest and honest devices must go on.
fn attempt(aim: Aim, sandbox: &str) -> Attempt {
    let place = Place::new();
    let content = vec![0x5a; 1 << 20];
    let disk = place.file("disk", &content);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    listener.set_nonblocking(true).expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let program = format!("debug-exit={}", floppy().display());
    let words = ["--device", "debug-exit,port=0x3f4", "--host-program", &program, "--sandbox", sandbox, "--disk"];
    let words: Vec<&str> = words.into_iter().chain(disk.to_str()).collect();
    let vm = place.start("history", &guest(aim, &disk, port), &words);
    wait_until("the guest has tried", || {
        assert!(lives(vm.pid().into()), "the VM ended: {}", vm.errors());
        text(&vm.console()).contains("over\n")
    });
    wait_until("an honest device serves the guest", || {
        let before = vm.served("i8042");
        vm.wait_for_output();
        vm.served("i8042") > before
    });
    for row in vm.hosts().iter().filter(|row| row["name"] != "debug-exit") {
        assert_eq!(row["state"], "running", "{row:#}");
    }
    let now = fs::read(&disk).expect("the disk");
    let written = now.starts_with(MARK);
    assert!(written || now == content, "the disk is whole, or has the mark and nothing else");
    assert!(!written || now[MARK.len()..] == content[MARK.len()..], "the mark is all that was written");
    let canary = told(&vm, 'C');
    let reached = match aim {
        Aim::Leave => false,
        Aim::Disk => written,
        Aim::Network => listener.accept().is_ok(),
        Aim::Vmm => canary != [CANARY],
    };
    assert!(!reached || !matches!(aim, Aim::Vmm) || canary == [u64::from_le_bytes(MARK.try_into().expect("8"))]);
    Attempt { reached, answers: told(&vm, 'S'), errors: vm.errors() }
}

/// The sandbox off, then without its filter, then whole, in both kinds.
fn only_an_open_door_lets_it_through(aim: Aim) {
    if !kvm() {
        return;
    }
    let open = attempt(aim, "off");
    assert!(open.reached, "without a sandbox it gets through: {:x?}; {}", open.answers, open.errors);
    let unfiltered = attempt(aim, "process");
    assert!(!unfiltered.reached, "behind namespaces and an empty root there is nothing: {:x?}", unfiltered.answers);
    assert_eq!(unfiltered.answers.last(), Some(&FAILED), "its last call failed: {:x?}", unfiltered.answers);
    for (sandbox, end) in SEALED {
        let sealed = attempt(aim, sandbox);
        assert!(!sealed.reached, "{sandbox}: {:x?}", sealed.answers);
        assert!(sealed.errors.contains(&end.to_string()), "{sandbox}: its first call ends its host: {}", sealed.errors);
    }
}

#[test]
fn a_guest_runs_calls_of_its_choice_in_the_broken_controller_even_when_that_is_sealed() {
    if !kvm() {
        return;
    }
    for (sandbox, _) in SEALED {
        let sealed = attempt(Aim::Leave, sandbox);
        assert!(sealed.errors.contains(&End::Exited(42).to_string()), "{sandbox}: {}", sealed.errors);
    }
}

#[test]
fn a_guest_in_its_floppy_controller_writes_another_disk_without_a_sandbox_alone() {
    only_an_open_door_lets_it_through(Aim::Disk);
}

#[test]
fn a_guest_in_its_floppy_controller_reaches_the_network_without_a_sandbox_alone() {
    only_an_open_door_lets_it_through(Aim::Network);
}

#[test]
fn a_guest_in_its_floppy_controller_writes_the_vmms_memory_without_a_sandbox_alone() {
    only_an_open_door_lets_it_through(Aim::Vmm);
}

/// Rows of the table that `docs/containment.md` promises.
const HISTORY_MIN: usize = 30;

#[test]
fn the_table_of_history_names_references_and_attempts_that_there_are() {
    let listed = Place::new().run(&["attack", "--list", "--json"]);
    assert!(listed.status.success(), "{}", text(&listed.stderr));
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("a list of attempts");
    let attempts: BTreeSet<&str> =
        listed.as_array().expect("a list").iter().filter_map(|attempt| attempt["id"].as_str()).collect();
    let page = fs::read_to_string(root().join("docs/containment.md")).expect("the page");
    let is_attempt = |word: &&str| {
        let number = word.strip_prefix(|letter: char| letter.is_ascii_uppercase());
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    for line in page.lines().filter(|line| line.starts_with('|')) {
        for named in line.split([' ', ',', '|']).filter(is_attempt) {
            assert!(attempts.contains(named), "there is no attempt {named}: {line}");
        }
    }
    let rows: Vec<Vec<&str>> =
        page.lines().filter(|line| line.starts_with("| [CVE-")).map(|line| line.split(" | ").collect()).collect();
    let names: BTreeSet<&str> =
        rows.iter().filter_map(|row| row[0].split(['[', ']']).nth(1)).filter(|name| name.len() > 8).collect();
    assert!(names.len() >= HISTORY_MIN && names.len() == rows.len(), "{} rows, {} names", rows.len(), names.len());
    for row in &rows {
        assert!(row[0].contains("](https://") && row.len() == 6, "{row:?}");
        let shown = row[5].trim_end_matches(" |");
        let is_ours = row[4] == "*vmm*";
        assert!(is_ours || shown.split([' ', ',']).any(|word| is_attempt(&word)), "{} is shown by nothing", row[0]);
    }
    assert!(page.contains(&format!("\n{} entries.", rows.len())), "the page counts its rows");
}
