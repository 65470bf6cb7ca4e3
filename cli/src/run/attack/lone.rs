//! A lone attacker, and what its supervisor sees of it.

use super::attempt::Outcome;
use super::hostile::{LOOT_BYTES, done_offset, word};
use anyhow::Result;
use sandbox::End;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use vmm::supervisor::Cell;

/// A lone attacker has done whatever it does within this; it is not many system calls.
const ACT: Duration = Duration::from_secs(5);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(1);
/// What an attacker did shows within this after it says that it is done, also on a loaded machine.
const GRACE: Duration = Duration::from_millis(200);

/// Lets a lone attacker act, and looks.
pub fn judge(cell: &mut Cell, mut proof: impl FnMut(&mut Cell, Option<End>) -> Result<bool>) -> Result<Outcome> {
    let state = cell.map_state()?;
    cell.wake().signal(1)?;
    let mut until = Instant::now() + ACT;
    let mut done = false;
    loop {
        if let Some(end) = cell.wait_for_end(LOOK) {
            let succeeded = proof(cell, Some(end))?;
            return Ok(if succeeded { Outcome::Succeeded } else { Outcome::Stopped(words(end)) });
        }
        if proof(cell, None)? {
            return Ok(Outcome::Succeeded);
        }
        if !done && word(&state, done_offset(&state)).load(Ordering::SeqCst) == 1 {
            done = true;
            until = Instant::now() + GRACE;
        }
        if Instant::now() > until {
            return Ok(Outcome::Stopped(if done { "had no effect" } else { "got nowhere" }.to_owned()));
        }
    }
}

/// What an attacker has left where it leaves what it carries off.
pub fn loot(cell: &Cell) -> Result<[u8; LOOT_BYTES]> {
    let state = cell.map_state()?;
    let mut loot = [0; LOOT_BYTES];
    state.read(state.len() - LOOT_BYTES, &mut loot);
    Ok(loot)
}

/// How an attacker ended.
pub fn words(end: End) -> String {
    match end {
        End::Exited(errno) if errno != 0 => {
            let errno = nix::errno::Errno::from_raw(errno);
            format!("{errno:?}")
        }
        End::Exited(_) => "gave up".to_owned(),
        End::Killed(signal) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_) => format!("killed by signal {signal}"),
        },
        End::Unknown => "ended".to_owned(),
    }
}
