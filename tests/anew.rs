//! Device hosts that are killed at every moment: the guest sees each thing done exactly once.

mod harness;

use harness::{Place, Vm, anew_guest, kvm, lives};
use imc::lane::steps::{Fault, Step};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Each host of the random test is killed at least so often.
const KILLS: u64 = 1000;
/// And each of those at level strict, where a start takes longer.
const KILLS_STRICT: u64 = 50;
/// The guest ends with this code when all was right; the program then ends with twice that and one more.
const RIGHT: i32 = 2 * 32 + 1;
/// Sectors of the disk that the guest uses, and bytes of one.
const SECTORS: u32 = 64;
const SECTOR_BYTES: usize = 512;
/// A guest that goes on sees the power button within this, on the busiest machine.
const LAST_ROUND: Duration = Duration::from_secs(20);
/// A letter is printed in each round that is a multiple of this.
const ROUNDS_PER_LETTER: u32 = 32;

/// A VM with the guest that uses everything.
struct Used<'a> {
    vm: Vm<'a>,
    disk: std::path::PathBuf,
}

impl<'a> Used<'a> {
    fn start(place: &'a Place, words: &[&str]) -> Used<'a> {
        let disk = place.file("disk", &vec![0; SECTORS as usize * SECTOR_BYTES]);
        let mut all = vec!["--disk", disk.to_str().unwrap(), "--device", "debug-exit", "--restart", "1000000000"];
        all.extend(words);
        Used { vm: place.start("used", &anew_guest(), &all), disk }
    }

    /// Presses the power button, and says what was wrong, if anything was: as the guest saw it, on the console, on the disk.
    fn end(mut self, place: &Place) -> Result<u32, String> {
        let until = Instant::now() + LAST_ROUND;
        while !has_ended(&self.vm) {
            place.run(&["powerdown", "used"]);
            std::thread::sleep(Duration::from_millis(50));
            if Instant::now() > until {
                return Err("the guest does not go on".to_owned());
            }
        }
        let status = self.vm.wait();
        let console = String::from_utf8_lossy(&self.vm.console()).into_owned();
        if status != Some(RIGHT) {
            return Err(format!("the guest ended with {status:?}, having printed {console}"));
        }
        let (letters, rest) = console.split_once('\n').ok_or("no line on the console")?;
        let rounds = u32::from_str_radix(rest.trim(), 16).map_err(|error| format!("{error}: {rest:?}"))?;
        let printed = (0..rounds / ROUNDS_PER_LETTER).map(|letter| char::from(b'A' + (letter % 26) as u8));
        if !printed.eq(letters.chars()) {
            return Err(format!("{rounds} rounds printed {} letters, not in their order", letters.len()));
        }
        if fs::read(&self.disk).expect("the disk") != written_in(rounds) {
            return Err(format!("the disk is not what {rounds} rounds write"));
        }
        Ok(rounds)
    }
}

/// The disk after so many rounds.
fn written_in(rounds: u32) -> Vec<u8> {
    let mut versions = [0; SECTORS as usize];
    for round in 1..=rounds {
        versions[(round.wrapping_mul(7) % SECTORS) as usize] = round;
    }
    let words = versions.into_iter().zip(0..).flat_map(|(version, sector): (u32, u64)| {
        (0..SECTOR_BYTES as u64 / 8).map(move |word| match version {
            0 => 0,
            _ => (u64::from(version) << 32 | sector << 16) + word,
        })
    });
    words.flat_map(u64::to_le_bytes).collect()
}

/// Process numbers of the device hosts that a supervisor has just now, and of their helpers.
fn hosts_of(supervisor: i32) -> Vec<i32> {
    let hosts: Vec<i32> = children_of(supervisor, b"cofferdam: host").collect();
    let helpers = hosts.iter().flat_map(|host| children_of(*host, b"cofferdam: helper"));
    hosts.iter().copied().chain(helpers).collect()
}

/// Children of a process that are in this role.
fn children_of(parent: i32, role: &'static [u8]) -> impl Iterator<Item = i32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    let children: Vec<i32> = children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    let is_in_it = |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(role));
    children.into_iter().filter(is_in_it)
}

/// Numbers nobody needs to guess.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Kills hosts at random moments until each was started anew so often.
fn kill_each(vm: &Vm<'_>, times: u64) {
    let mut random = Random(u64::from(std::process::id()) << 20 | 1);
    // A helper has a row of its own, and no restarts but its host's.
    let is_host = |row: &Value| !row["name"].as_str().unwrap().ends_with(" helper");
    let fewest =
        || vm.hosts().iter().filter(|row| is_host(row)).map(|row| row["restarts"].as_u64().unwrap()).min().unwrap();
    while !has_ended(vm) && fewest() < times {
        for _ in 0..times / 2 {
            let pids = hosts_of(vm.pid());
            if let Some(pid) = pids.get(random.below(pids.len().max(1) as u64) as usize) {
                // SAFETY: kill touches no memory of ours. One that has just been killed may be gone.
                #[allow(unsafe_code)]
                unsafe {
                    libc::kill(*pid, libc::SIGKILL)
                };
            }
            std::thread::sleep(Duration::from_micros(random.below(2000)));
        }
    }
}

/// Whether a VM has ended by itself.
fn has_ended(vm: &Vm<'_>) -> bool {
    !lives(vm.pid().into())
}

#[test]
fn hosts_killed_at_random_moments_lose_and_double_nothing() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    // Some hosts have several devices.
    let used = Used::start(&place, &["--isolate", "class"]);
    used.vm.wait_until_running();
    kill_each(&used.vm, KILLS);
    println!("{} rounds of the guest", used.end(&place).unwrap());
}

#[test]
fn hosts_in_mode_1_and_their_helpers_killed_at_random_moments_lose_and_double_nothing() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let used = Used::start(&place, &["--sandbox", "strict"]);
    used.vm.wait_until_running();
    kill_each(&used.vm, KILLS_STRICT);
    println!("{} rounds of the guest", used.end(&place).unwrap());
}

/// Devices whose hosts end themselves. The one that ends the machine is left alone.
const DEVICES: [&str; 7] = ["uart16550", "mc146818", "i8042", "acpi-pm", "pvpanic", "virtio-entropy", "virtio-block"];
/// What the program is asked for the orders by: it stands before them. See `tests/anew_host.rs`.
const MARK: &[u8] = b"a host's orders";
/// The status with which a host ends after step 0.
const ENDED_AFTER: usize = 100;
/// Over the default carrier, hosts end after each step at least so often; over each other one, so often.
const ENDS: usize = 100;
const ENDS_OF_OTHERS: usize = 20;
/// Hosts end so often within this, on the busiest machine.
const ENOUGH: Duration = Duration::from_secs(240);
/// A broken rule shows before so many hosts have ended.
const ENDS_OF_BROKEN: usize = 1000;

/// A copy of the host program that breaks this rule, if any.
fn host_program(place: &Place, fault: Option<Fault>) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_cofferdam")).with_file_name("examples").join("anew_host");
    let mut bytes =
        fs::read(&program).unwrap_or_else(|error| panic!("{}, built with the tests: {error}", program.display()));
    if let Some(fault) = fault {
        let found: Vec<usize> = orders_in(&bytes);
        assert!(!found.is_empty(), "the orders are in the program");
        found.into_iter().for_each(|at| bytes[at + MARK.len()] = fault as u8);
    }
    let copy = place.file("host", &bytes);
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("it is ours");
    copy.to_str().expect("a plain name").to_owned()
}

/// Where the mark is, with orders behind it.
fn orders_in(bytes: &[u8]) -> Vec<usize> {
    let is_mark = |(_, window): &(usize, &[u8])| window.starts_with(MARK) && window[MARK.len()] == u8::MAX;
    bytes.windows(MARK.len() + 1).enumerate().filter(is_mark).map(|(at, _)| at).collect()
}

/// Runs the guest with hosts that end themselves, until `enough` of them have: by step, how many.
fn ending(
    fault: Option<Fault>,
    words: &[&str],
    enough: impl Fn(&[usize]) -> bool,
) -> (Vec<usize>, Result<u32, String>) {
    let place = Place::new();
    let program = host_program(&place, fault);
    let programs: Vec<String> = DEVICES.iter().map(|device| format!("{device}={program}")).collect();
    let mut all: Vec<&str> = programs.iter().flat_map(|program| ["--host-program", program.as_str()]).collect();
    all.extend(words);
    let used = Used::start(&place, &all);
    let count = || {
        let said = used.vm.errors();
        // Of one that ended while it was set up, the sentence stands in brackets.
        let after = |step: usize| {
            let ends = |mark| said.matches(&format!("with code {}{mark}", ENDED_AFTER + step)).count();
            ends(';') + ends(')')
        };
        (0..Step::ALL.len()).map(after).collect::<Vec<_>>()
    };
    let until = Instant::now() + if fault.is_some() { LAST_ROUND } else { ENOUGH };
    while !has_ended(&used.vm) && !enough(&count()) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
    }
    let counts = count();
    println!("{fault:?} {words:?}: {:?}", Step::ALL.iter().zip(&counts).collect::<Vec<_>>());
    (counts, used.end(&place))
}

/// Hosts end after each step, at least so often; the guest sees nothing of it.
fn hosts_end_after_each_step(carrier: &str, times: usize) {
    if !kvm() {
        return;
    }
    let often_enough = |counts: &[usize]| counts.iter().all(|count| *count >= times);
    let (counts, seen) = ending(None, &["--carrier", carrier], often_enough);
    println!("{} rounds of the guest", seen.unwrap());
    assert!(often_enough(&counts), "not each step was reached {times} times: {counts:?}");
}

#[test]
fn hosts_that_end_after_each_step_lose_and_double_nothing_over_memory() {
    hosts_end_after_each_step("memory", ENDS);
}

#[test]
fn hosts_that_end_after_each_step_lose_and_double_nothing_over_sockets() {
    hosts_end_after_each_step("socket", ENDS_OF_OTHERS);
}

#[test]
fn hosts_that_end_after_each_step_lose_and_double_nothing_over_pipes() {
    hosts_end_after_each_step("pipe", ENDS_OF_OTHERS);
}

#[test]
fn hosts_that_end_after_each_step_lose_and_double_nothing_over_virtqueues() {
    hosts_end_after_each_step("virtio", ENDS_OF_OTHERS);
}

/// A host that breaks one rule is found out: the tests above can fail.
fn is_found_out(fault: Fault, words: &[&str]) {
    if !kvm() {
        return;
    }
    let mut all = vec!["--deadline", "300"];
    all.extend(words);
    let (_, seen) = ending(Some(fault), &all, |counts| counts.iter().sum::<usize>() > ENDS_OF_BROKEN);
    let wrong = seen.expect_err("a broken rule goes unnoticed");
    println!("{fault:?}: {wrong}");
}

#[test]
fn reply_written_after_the_commit_is_found_out() {
    is_found_out(Fault::ReplyAfterCommit, &[]);
}

#[test]
fn state_changed_in_place_is_found_out() {
    is_found_out(Fault::OneCopy, &[]);
}

#[test]
fn effects_before_the_commit_are_found_out() {
    is_found_out(Fault::EffectsBeforeCommit, &[]);
}

#[test]
fn incarnation_that_tells_nobody_is_found_out() {
    is_found_out(Fault::SilentStart, &[]);
}

#[test]
fn incarnations_that_overlap_are_found_out() {
    // A namespace of processes would end what is left of one: there is none.
    is_found_out(Fault::Overlap, &["--sandbox", "off"]);
}
