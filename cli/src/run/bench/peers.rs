//! Other message layers, measured by a program of their own: their dependencies never enter this one.

use super::contest::{Contest, Seats};
use super::series::Placement;
use crate::args::usage;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where `cargo xtask bench-peers` puts it, from this program's folder.
const BUILT: &str = "../peers/release/peers";

/// The program, where there is one.
pub struct Peers {
    found: Option<(PathBuf, Vec<Peer>)>,
}

/// What the program says of each of its peers.
#[derive(Debug, Clone, Deserialize)]
struct Peer {
    name: String,
    polls: bool,
}

/// What it says of a measurement.
#[derive(Deserialize)]
struct Measured {
    samples: Vec<f64>,
}

impl Peers {
    /// The program at `path`; or the one that was built with this one, or lies beside it. A sentence says that there is
    /// none.
    pub fn find(path: Option<&Path>) -> Result<Peers> {
        let path = match path {
            Some(path) if path.is_file() => Some(path.to_owned()),
            Some(path) => return Err(usage!("--peers {}: there is no such program", path.display())),
            None => {
                let program = std::env::current_exe()?;
                let folder = program.parent().context("this program lies in no folder")?;
                [folder.join("peers"), folder.join(BUILT)].into_iter().find(|path| path.is_file())
            }
        };
        let Some(path) = path else {
            eprintln!(
                "Other message layers are left out: `cargo xtask bench-peers` builds the program that measures them."
            );
            return Ok(Peers { found: None });
        };
        let lines = run(&path, &[])?;
        let peers = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>();
        let peers = peers.with_context(|| format!("{} says what its peers are", path.display()))?;
        Ok(Peers { found: Some((path, peers)) })
    }

    /// Of its peers this one alone.
    pub fn only(&self, name: &str) -> Peers {
        let only = |peers: &Vec<Peer>| peers.iter().filter(|peer| peer.name == name).cloned().collect();
        Peers { found: self.found.as_ref().map(|(path, peers)| (path.clone(), only(peers))) }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.found.as_ref().is_none_or(|(_, peers)| peers.is_empty())
    }

    /// Adds each peer with `there` bytes to the other process and `back` bytes from it, compared with `base`.
    pub fn add(
        &self,
        contest: &mut Contest<'_>,
        seats: Seats,
        size: &str,
        base: &str,
        there: usize,
        back: usize,
    ) -> Result<()> {
        let Some((path, peers)) = &self.found else { return Ok(()) };
        for Peer { name, polls } in peers {
            if *polls && seats.placement == Placement::Same {
                continue;
            }
            let path = path.clone();
            let numbers = [there, back, seats.caller, seats.answerer].map(|number| number.to_string());
            let words: Vec<String> = [name.clone()].into_iter().chain(numbers).collect();
            contest.add(&format!("{size}, {name}"), seats.placement, &[base], move || {
                let measured: Measured = serde_json::from_str(&run(&path, &words)?)?;
                ensure!(!measured.samples.is_empty(), "no samples came");
                Ok(measured.samples)
            });
        }
        Ok(())
    }
}

/// Runs it to its end; what it printed.
fn run(path: &Path, words: &[String]) -> Result<String> {
    let mut command = Command::new(path);
    let output = command.args(words).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("starting {}", path.display()))?;
    ensure!(output.status.success(), "{} {}: {}", path.display(), words.join(" "), output.status);
    Ok(String::from_utf8(output.stdout)?)
}
