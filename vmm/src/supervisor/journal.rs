//! What a VM has logged: the newest lines, each with its number.

use std::collections::VecDeque;

/// Lines that are kept.
const LINES_MAX: usize = 1000;

/// The log of a VM. It goes on when the guest resets, which begins a new machine.
#[derive(Default)]
pub struct Journal {
    lines: VecDeque<String>,
    written: u64,
}

impl Journal {
    /// Adds a line. The oldest makes room.
    pub fn add(&mut self, line: String) {
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
        self.written += 1;
    }

    /// Kept lines from number `from` on, at most `bound`, and the number to ask for next.
    #[must_use]
    pub fn since(&self, from: u64, bound: usize) -> (Vec<String>, u64) {
        let oldest = self.written - self.lines.len() as u64;
        let from = from.clamp(oldest, self.written);
        let lines: Vec<String> = self.lines.iter().skip((from - oldest) as usize).take(bound).cloned().collect();
        let next = from + lines.len() as u64;
        (lines, next)
    }

    /// Puts what was logged before in front of this.
    pub fn follow(&mut self, before: Journal) {
        let own = std::mem::replace(self, before);
        own.lines.into_iter().for_each(|line| self.add(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(lines: &[&str]) -> Journal {
        let mut journal = Journal::default();
        lines.iter().for_each(|line| journal.add((*line).to_owned()));
        journal
    }

    #[test]
    fn oldest_lines_make_room_and_keep_their_numbers() {
        let mut journal = journal(&["first", "second"]);
        (2..LINES_MAX + 1).for_each(|number| journal.add(number.to_string()));
        assert_eq!(journal.since(0, 1), (vec!["second".to_owned()], 2));
        assert_eq!(journal.since(LINES_MAX as u64, 9), (vec![LINES_MAX.to_string()], LINES_MAX as u64 + 1));
        assert_eq!(journal.since(u64::MAX, 9), (Vec::new(), LINES_MAX as u64 + 1));
    }

    #[test]
    fn log_goes_on_after_a_reset() {
        let mut after = journal(&["third"]);
        after.follow(journal(&["first", "second"]));
        assert_eq!(after.since(1, 9), (vec!["second".to_owned(), "third".to_owned()], 3));
    }
}
