//! Device hosts that are killed at every moment: the guest sees each thing done exactly once.

mod harness;

use harness::{Place, Vm, anew_guest, kvm};
use std::fs;
use std::time::Duration;

/// Each host of the random test is killed at least so often.
const KILLS: u64 = 1000;
/// The guest ends with this code when all was right; the program then ends with twice that and one more.
const RIGHT: i32 = 2 * 32 + 1;
/// Sectors of the disk that the guest uses, and bytes of one.
const SECTORS: u32 = 64;
const SECTOR_BYTES: usize = 512;
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
        let vm = place.start("used", &anew_guest(), &all);
        vm.wait_until_running();
        vm.wait_for_output();
        Used { vm, disk }
    }

    /// Presses the power button, and says what was wrong, if anything was: as the guest saw it, on the console, on the disk.
    fn end(mut self, place: &Place) -> Result<u32, String> {
        place.run(&["powerdown", "used"]);
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

/// Process numbers of the device hosts that a supervisor has just now.
fn hosts_of(supervisor: i32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap_or_default();
    let is_host =
        |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"cofferdam: host"));
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(is_host).collect()
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
    let fewest = || vm.hosts().iter().map(|row| row["restarts"].as_u64().unwrap()).min().unwrap();
    while fewest() < times {
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

#[test]
fn hosts_killed_at_random_moments_lose_and_double_nothing() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    // Some hosts have several devices.
    let used = Used::start(&place, &["--isolate", "class"]);
    kill_each(&used.vm, KILLS);
    println!("{} rounds of the guest", used.end(&place).unwrap());
}
