//! Runs other programs: everything they print goes to a log, a sign of life to the terminal.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How often a silent step says that it is still at work, where there is no terminal to redraw.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How often a terminal's line is redrawn.
const REDRAW: Duration = Duration::from_millis(500);
/// As much of a failed program's output as fits a report.
const TAIL_LINES: usize = 40;

/// A program that ran to its end.
pub struct Finished {
    /// Whether its status was 0.
    pub success: bool,
    /// Everything it printed, standard output and error in order of arrival.
    pub output: String,
    /// Where that output is kept.
    pub log: PathBuf,
}

impl Finished {
    /// The end of the output, for a report, and where to find the rest.
    pub fn tail(&self) -> String {
        format!("{}\n(all of it: {})", tail(&self.output), self.log.display())
    }
}

/// The last lines of a text.
pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Runs `command` to its end. Both its outputs are kept in `log` and, a line at a time, shown as progress.
pub fn run(command: &mut Command, log: &Path) -> Result<Finished> {
    let program = command.get_program().to_string_lossy().into_owned();
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut kept = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let (sender, lines) = mpsc::channel();
    let readers = [
        child.stdout.take().map(|pipe| forward(pipe, sender.clone())),
        child.stderr.take().map(|pipe| forward(pipe, sender)),
    ];
    let mut progress = Progress::start(&log.file_stem().unwrap_or_default().to_string_lossy());
    let mut output = String::new();
    loop {
        match lines.recv_timeout(REDRAW) {
            Ok(line) => {
                writeln!(kept, "{line}")?;
                progress.show(&line);
                output.push_str(&line);
                output.push('\n');
            }
            Err(mpsc::RecvTimeoutError::Timeout) => progress.show(""),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    for reader in readers.into_iter().flatten() {
        // A reader ends when its pipe does; it has nothing to say.
        let _ = reader.join();
    }
    progress.clear();
    let success = child.wait()?.success();
    Ok(Finished { success, output, log: log.to_owned() })
}

/// Reads `pipe` line by line, whatever bytes the lines are made of.
pub fn forward(pipe: impl Read + Send + 'static, to: mpsc::Sender<String>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while matches!(pipe.read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
            if to.send(text).is_err() {
                return;
            }
            line.clear();
        }
    })
}

/// One line that is redrawn on a terminal; elsewhere a line now and then.
pub struct Progress {
    /// Of what: others may show theirs meanwhile.
    name: String,
    started: Instant,
    drawn: Instant,
    terminal: bool,
    last: String,
}

impl Progress {
    /// Begins to count the time of what has this name.
    pub fn start(name: &str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { name: name.to_owned(), started: Instant::now(), drawn: Instant::now(), terminal, last: String::new() }
    }

    /// Shows what goes on; an empty `doing` is a sign of life only.
    pub fn show(&mut self, doing: &str) {
        /// Columns that any terminal has.
        const WIDTH: usize = 70;
        if !doing.trim().is_empty() {
            self.last = doing.trim().chars().filter(|c| !c.is_control()).take(WIDTH).collect();
        }
        let (seconds, name) = (self.started.elapsed().as_secs(), &self.name);
        if self.terminal && self.drawn.elapsed() >= REDRAW {
            eprint!("\r\x1b[K  {seconds:>4} s  {name}: {}", self.last);
            self.drawn = Instant::now();
        } else if !self.terminal && self.drawn.elapsed() >= HEARTBEAT {
            eprintln!("  {seconds:>4} s  {name}: {}", self.last);
            self.drawn = Instant::now();
        }
    }

    /// Takes the line away, where it was drawn.
    pub fn clear(&mut self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}
