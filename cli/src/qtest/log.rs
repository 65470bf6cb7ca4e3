//! The conversation, written down: `[R +1.000000] inb 0x70`.

use std::fs::File;
use std::io::Write;
use std::time::Instant;

/// Where it is written, if anywhere.
pub struct Log {
    file: Option<File>,
    start: Instant,
}

impl Log {
    /// One that begins now.
    pub fn new(file: Option<File>) -> Log {
        Log { file, start: Instant::now() }
    }

    /// What somebody did.
    pub fn write(&mut self, direction: &str, line: &str) {
        if let Some(file) = &mut self.file {
            // Nobody fails because nobody can read it.
            let _ = writeln!(file, "[{direction} +{:.6}] {line}", self.start.elapsed().as_secs_f64());
        }
    }

    /// The same, line by line.
    pub fn write_lines(&mut self, direction: &str, lines: &str) {
        if self.file.is_some() {
            lines.lines().for_each(|line| self.write(direction, line));
        }
    }
}
