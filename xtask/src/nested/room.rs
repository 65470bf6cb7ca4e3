//! Which scenarios run beside each other: no more than there are processors, nor than memory has room for.
//!
//! An outer machine has two processors of its own, yet most of its time keeps about one of ours busy, or none while something in it
//! waits. Its clock goes on whoever has the processor.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::Scenario;

/// Most machines at a time, however many processors there are: what is measured in one is not to drown in the noise of others.
const BESIDE_MAX: usize = 4;
/// QEMU's own memory and the translated code's.
const BESIDES_MIB: u64 = 512;

/// What a worker does next.
pub enum Next<'a> {
    /// Runs this scenario, and says so when it has left.
    Fits(&'a Scenario),
    /// This computer cannot give that one its memory, and why.
    TooLarge(&'a Scenario, String),
}

/// The scenarios that have not begun, and the memory that those which run leave to them.
pub struct Room<'a> {
    state: Mutex<State<'a>>,
    left: Condvar,
}

struct State<'a> {
    /// The longest first.
    waiting: Vec<&'a Scenario>,
    running: usize,
    free_mib: u64,
}

impl<'a> Room<'a> {
    /// For these scenarios, in this computer's memory.
    pub fn new(scenarios: Vec<&'a Scenario>) -> Self {
        // Where nothing is known of it, it is no bound.
        Self::with_memory(scenarios, available_mib().unwrap_or(u64::MAX))
    }

    fn with_memory(mut waiting: Vec<&'a Scenario>, free_mib: u64) -> Self {
        waiting.sort_by_key(|scenario| std::cmp::Reverse(scenario.takes));
        Self { state: Mutex::new(State { waiting, running: 0, free_mib }), left: Condvar::new() }
    }

    /// How many may run at a time.
    pub fn beside_each_other(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from).min(BESIDE_MAX)
    }

    /// The longest scenario that there is room for; waits for room while something runs. None when nothing is left to begin.
    pub fn next(&self) -> Option<Next<'a>> {
        let mut state = self.lock();
        while let Some(longest) = state.waiting.first() {
            if let Some(fits) = state.waiting.iter().position(|scenario| need(scenario) <= state.free_mib) {
                let scenario = state.waiting.remove(fits);
                state.running += 1;
                state.free_mib -= need(scenario);
                return Some(Next::Fits(scenario));
            }
            if state.running == 0 {
                let why = format!("it needs {} MiB of memory and {} MiB are free", need(longest), state.free_mib);
                return Some(Next::TooLarge(state.waiting.remove(0), why));
            }
            state = self.left.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    /// A scenario that ran gives its room back.
    pub fn leave(&self, scenario: &Scenario) {
        let mut state = self.lock();
        state.running -= 1;
        state.free_mib += need(scenario);
        self.left.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The memory that a scenario takes, in MiB.
fn need(scenario: &Scenario) -> u64 {
    scenario.memory_mib + BESIDES_MIB
}

fn available_mib() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let free = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(free.trim().trim_end_matches(" kB").parse::<u64>().ok()? / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(name: &str, memory_mib: u64, takes: u64) -> Scenario {
        Scenario::parse(name, &format!("# memory: {memory_mib}\n# takes: {takes}\n")).unwrap()
    }

    fn name(next: Option<Next<'_>>) -> String {
        match next {
            None => "nothing".to_owned(),
            Some(Next::Fits(scenario)) => scenario.name.clone(),
            Some(Next::TooLarge(scenario, why)) => format!("{}: {why}", scenario.name),
        }
    }

    #[test]
    fn a_scenario_that_no_memory_is_for_is_left_out_once_all_that_fit_have_begun_and_ended() {
        let (large, small) = (scenario("large", 7168, 9), scenario("small", 1024, 1));
        let room = Room::with_memory(vec![&large, &small], 4000);
        assert_eq!(name(room.next()), "small");
        room.leave(&small);
        assert_eq!(name(room.next()), "large: it needs 7680 MiB of memory and 4000 MiB are free");
        assert_eq!(name(room.next()), "nothing");
    }

    #[test]
    fn the_longest_that_fits_beside_what_runs_is_begun_first() {
        let (short, long, large) = (scenario("short", 512, 1), scenario("long", 1024, 5), scenario("large", 1024, 9));
        let room = Room::with_memory(vec![&short, &long, &large], 3000);
        assert_eq!(name(room.next()), "large");
        assert_eq!(name(room.next()), "short", "there is no room for the long one");
        room.leave(&large);
        assert_eq!(name(room.next()), "long");
        assert_eq!(name(room.next()), "nothing");
    }

    #[test]
    fn who_finds_no_room_waits_until_somebody_leaves() {
        let (one, other) = (scenario("one", 1024, 2), scenario("other", 1024, 1));
        let room = Room::with_memory(vec![&one, &other], 2000);
        assert_eq!(name(room.next()), "one");
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| name(room.next()));
            room.leave(&one);
            assert_eq!(waits.join().unwrap(), "other");
        });
    }
}
